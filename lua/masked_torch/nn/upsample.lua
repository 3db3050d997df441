--- nn.upsample: resampling layer.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local spatial = require 'masked_torch.autograd.spatial'
local Module = require('masked_torch.nn.module').Module

local DEFAULTS = { size = options.none, scale_factor = options.none, mode = 'nearest', align_corners = false, mask_rule = 'grow' }

--- nn.Upsample{size = nil | scale_factor = nil, mode = 'nearest' | 'linear' | 'bilinear' | 'trilinear', align_corners = false,
-- mask_rule = 'grow' | 'keep' | 'coverage'}: F.interpolate as a layer.
local Upsample = class('Upsample', Module)

function Upsample:__init(opts)
  Module.__init(self)
  opts = options.parse('Upsample', DEFAULTS, opts)
  if (opts.size == nil) == (opts.scale_factor == nil) then
    native.fail('Upsample: expected either size or scale_factor, got %s', opts.size == nil and 'neither' or 'both')
  end
  options.choice('Upsample', 'mode', opts.mode, { 'nearest', 'linear', 'bilinear', 'trilinear' })
  spatial.mask_rule('Upsample', opts.mask_rule)
  for key in pairs(DEFAULTS) do self[key] = opts[key] end
end

function Upsample:forward(x, mask)
  local y, out = F.interpolate(x, options.own{ size = self.size, scale_factor = self.scale_factor, mode = self.mode,
    align_corners = self.align_corners, mask = mask, mask_rule = self.mask_rule })
  return y, out
end

function Upsample:extra_repr()
  local text = self.scale_factor ~= nil and 'scale_factor=' .. repr.size(self.scale_factor, true) or 'size=' .. repr.size(self.size)
  return ("%s, mode='%s'%s"):format(text, self.mode, self.mask_rule ~= 'grow' and ', mask_rule=' .. self.mask_rule or '')
end

return { Upsample = Upsample }
