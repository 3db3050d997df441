--- nn.dropout: dropout as layers. All take (x, mask) and return (y, mask); in eval mode they return x.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local Mask = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local Module = require('masked_torch.nn.module').Module

local classes = {}

local function define(name, function_name)
  local Dropout = class(name, Module)

  function Dropout:__init(p, opts)
    Module.__init(self)
    if type(p) == 'table' then p, opts = nil, p end
    opts = options.parse(name, { p = 0.5, generator = options.any(nil) }, opts)
    p = native.number(name, 'p', p == nil and opts.p or p)
    if p < 0 or p > 1 or p ~= p then native.fail('%s: p: expected a probability from 0 to 1, got %g', name, p) end
    self.p, self.generator = p, opts.generator
  end

  function Dropout:forward(x, mask)
    mask = Mask.of(name, mask, x)
    return F[function_name](x, options.own{ p = self.p, training = self.training, generator = self.generator, mask = mask }), mask
  end

  function Dropout:extra_repr()
    return ('p=%s, inplace=False'):format(repr.number(self.p))
  end

  classes[name] = Dropout
end

--- nn.Dropout([p = 0.5], [{generator =}]): single elements of an input of any shape.
define('Dropout', 'dropout')
--- nn.Dropout1d, Dropout2d, Dropout3d([p = 0.5], [{generator =}]): whole channels of (N, C, *S).
define('Dropout1d', 'dropout1d')
define('Dropout2d', 'dropout2d')
define('Dropout3d', 'dropout3d')

return classes
