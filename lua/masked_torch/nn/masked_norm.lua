--- masked_norm: masked_torch's batch norm layers, and the other norms under the same kind of name.
--
-- The plain norms take masks too; MaskedBatchNorm adds masked_torch's check of the mask and its compat mode.

local class = require 'masked_torch.class'
local Tensor = require 'masked_torch.tensor'
local F = require 'masked_torch.nn.functional'
local fusion = require 'masked_torch.nn.fusion'
local lazy = require 'masked_torch.nn.lazy'
local norm = require 'masked_torch.nn.norm'

local layers = {}

--- MaskedBatchNorm1d/2d/3d(num_features, {eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true,
-- compat = false, dtype, device})
-- forward(x, mask) -> y, mask: BatchNorm with statistics over valid elements. A mask tensor must have as many dimensions as
-- an input may have.
-- compat = true gives masked_torch's numbers where a mask is given. The default differs from them in this:
--   * the result is masked again, in training and evaluation (there masked positions become bias - mean / std * weight);
--   * the running variance is unbiased, as without a mask (there biased with a mask);
--   * with soft masks mean and variance are weighted by m, of values x / m (there sum ((x - mean) m)^2 / sum m);
--   * what lies under mask 0 is not read (there it enters the mean);
--   * a mask of batch 1 counts for every sample (there once);
--   * a channel without a valid element gives 0 and leaves the running statistics alone (there NaN, for ever).
local function masked_batch_norm(name, parent)
  local Layer = class(name, parent)
  Layer.defaults = { compat = false }
  for key, value in pairs(parent.defaults) do Layer.defaults[key] = value end

  function Layer:__init(num_features, opts)
    parent.__init(self, num_features, opts)
    self.compat = opts ~= nil and opts.compat or false
  end

  function Layer:forward(x, mask, activation, negative_slope)
    if Tensor.is_tensor(mask) then self:check_dims('mask', mask:dim()) end
    return parent.forward(self, x, mask, activation, negative_slope)
  end

  function Layer:normalise(x, use_batch, use_running, momentum, opts)
    opts.compat = self.compat
    return F.masked_batch_norm(x, opts.mask, use_running and self.running_mean or nil, use_running and self.running_var or nil,
      self.weight, self.bias, use_batch, momentum, self.eps, opts)
  end
  return Layer
end

for dims = 1, 3 do
  local name = ('MaskedBatchNorm%dd'):format(dims)
  layers[name] = masked_batch_norm(name, norm[('BatchNorm%dd'):format(dims)])
  fusion.frozen_norm(layers[name])
end

--- MaskedLayerNorm, MaskedGroupNorm, MaskedInstanceNorm1d/2d/3d, MaskedRMSNorm: the plain layers, which take masks too.
for _, name in ipairs { 'LayerNorm', 'GroupNorm', 'InstanceNorm1d', 'InstanceNorm2d', 'InstanceNorm3d', 'RMSNorm' } do
  layers['Masked' .. name] = class('Masked' .. name, norm[name])
end

--- LazyMaskedBatchNorm1d/2d/3d(options) and the lazy forms of the others: see nn/lazy.lua.
for _, Layer in pairs(layers) do fusion.takes_activation(Layer) end
return lazy.with_forms(layers)
