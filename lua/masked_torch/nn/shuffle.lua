--- nn.shuffle: Unshuffle1d/2d/3d (space to channels) and Shuffle1d/2d/3d (back). MaskedUnshuffle and MaskedShuffle are the
-- same layers under the names of masked_torch: every layer here takes (x, mask) and treats the mask like x.
--
-- Unshuffling a one-channel mask: the channels of y come from different positions, so they need masks of their own; the mask is
-- first seen with the channels of x and becomes (N, C * r^d, *S / r). Shuffling one: it stays one-channel, each value is
-- repeated over its block.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local fusion = require 'masked_torch.nn.fusion'
local native = require 'masked_torch.native'
local Mask = require 'masked_torch.mask'
local unshuffled = require 'masked_torch.nn.unshuffled'
local Module = require('masked_torch.nn.module').Module

local function unshuffle_mask(mask, x, r) return unshuffled.mask(mask, x, r, 'unshuffle', F.pixel_unshuffle) end

local function shuffle_mask(mask, x, r)
  return mask:derived(('shuffle %d'):format(r), function()
    local channels = mask:size(2) == 1 and r ^ (x:dim() - 2) or mask:size(2)
    return Mask.wrap(F.pixel_shuffle(unshuffled.with_channels(mask, channels), r))
  end)
end

local classes = {}

local function define(name, factor_name, fn, mask_fn)
  local Layer = class(name, Module)
  function Layer:__init(factor)
    Module.__init(self)
    self[factor_name] = native.integer(name, factor_name, factor, 1, 2 ^ 20)
  end
  function Layer:forward(x, mask)
    local r = self[factor_name]
    local y = fn(x, r)
    mask = Mask.of(name, mask, x)
    return y, mask and mask_fn(mask, x, r)
  end
  function Layer:extra_repr() return ('%s=%d'):format(factor_name, self[factor_name]) end
  fusion.maker(Layer)
  if mask_fn == unshuffle_mask then fusion.unshuffle(Layer) end
  classes[name] = Layer
end

for dims = 1, 3 do
  for _, prefix in ipairs{ '', 'Masked' } do
    --- nn.Unshuffle1d/2d/3d(downscale_factor), nn.MaskedUnshuffle1d/2d/3d(downscale_factor): x (N, C, *S) -> (N, C * r^d, *S / r)
    define(('%sUnshuffle%dd'):format(prefix, dims), 'downscale_factor', F[('unshuffle%dd'):format(dims)], unshuffle_mask)
    --- nn.Shuffle1d/2d/3d(upscale_factor), nn.MaskedShuffle1d/2d/3d(upscale_factor): x (N, C * r^d, *S) -> (N, C, *S * r)
    define(('%sShuffle%dd'):format(prefix, dims), 'upscale_factor', F[('shuffle%dd'):format(dims)], shuffle_mask)
  end
end

--- nn.PixelUnshuffle(downscale_factor), nn.PixelShuffle(upscale_factor): the same under PyTorch's names, for any number of axes.
define('PixelUnshuffle', 'downscale_factor', F.pixel_unshuffle, unshuffle_mask)
define('PixelShuffle', 'upscale_factor', F.pixel_shuffle, shuffle_mask)

return classes
