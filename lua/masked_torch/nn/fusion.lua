--- fusion: which neighbours in a container run as one operation, and what they hand on can be freed. Here, and only here, it is
-- decided.
--
-- A convolution or a norm, and the activation behind it (ReLU, or LeakyReLU with a slope from 0 to 1), are one kernel, with the bits of
-- the two: the activation costs nothing. Nothing is kept for it but the result of a convolution, whose sign says what passes (as for
-- F.relu: changing that result in place is an error of backward). Not behind layers that leave values under the mask, which an
-- activation clears: masked_torch's own formulas (compat), results that no mask gates. What somebody may look at runs by itself: a
-- module with hooks (and so whatever is described, inspected, counted), everything while a network is exported, and classes and
-- forwards of one's own.
--
-- A convolution and the batch norm behind it are one kernel too where the norm is frozen (evaluation, with running statistics) and
-- nothing is recorded: mean, scale and shift of every channel are applied to the sums, with the bits of the two, and then the activation
-- behind the norm.
--
-- An unshuffle in one axis and the convolution behind it are one operation too: the convolution reads the image where it lies
-- (nn/unshuffled.lua). Its sums are the same, but added up in another order, so they may differ in the last bits from those of the
-- two modules one by one.

local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'
local is_watched = require('masked_torch.nn.module').is_watched

local fusion = {}
local takers, activations, before_norms, frozen_norms = {}, {}, {}, {}

--- fusion.takes_activation(Class): a layer with forward(x, mask, activation, negative_slope) -> y, mask.
function fusion.takes_activation(Class) takers[Class] = Class.forward end

--- fusion.activation(Class, name): a layer that is F[name], with its negative_slope where it has one.
function fusion.activation(Class, name) activations[Class] = { name = name, forward = Class.forward } end

-- Is what the layer leaves under the mask 0, and does nobody look at it?
local function is_gated(layer)
  local preset = layer.preset
  return not (layer.compat or layer.gate == 'none' or preset and preset.call and preset.call.gate or is_watched(layer))
end

--- fusion.behind(layer, module) -> activation, negative_slope for layer's forward if both are to run as one; nil if not.
function fusion.behind(layer, module)
  local forward = takers[getmetatable(layer)]
  if forward == nil or module == nil then return nil end
  local activation = activations[getmetatable(module)]
  if activation == nil or layer.forward ~= forward or module.forward ~= activation.forward then return nil end
  local slope = module.negative_slope
  if slope and not (slope >= 0 and slope <= 1) or is_watched(module) or not is_gated(layer) then return nil end
  return activation.name, slope
end

-- ---- convolution and frozen norm ---------------------------------------------------------------------------------------

--- fusion.takes_norm(Class): a convolution with forward(x, mask, activation, negative_slope, unshuffle, norm).
function fusion.takes_norm(Class) before_norms[Class] = Class.forward end

--- fusion.frozen_norm(Class): a layer that is F.batch_norm, with frozen() -> the table of mt_norm_batch_frozen.
function fusion.frozen_norm(Class) frozen_norms[Class] = { forward = Class.forward, normalise = Class.normalise } end

--- fusion.norm(layer, module) -> module for layer's forward if both are to run as one without a graph; nil if not, also where the norm
-- is to refuse what it gets.
function fusion.norm(layer, module)
  local forward = before_norms[getmetatable(layer)]
  if forward == nil or module == nil then return nil end
  local norm = frozen_norms[getmetatable(module)]
  if norm == nil or layer.forward ~= forward or module.forward ~= norm.forward or module.normalise ~= norm.normalise then return nil end
  local weight, mean = layer.weight, module.running_mean
  if module.training or not module.track_running_stats or module.compat or not (weight and mean and module.running_var) or
    mean.dtype ~= weight.dtype or mean.device ~= weight.device or module.num_features ~= layer.out_channels or
    module.dims[#module.dims] ~= layer.dims + 2 or is_watched(module) or not is_gated(layer) then
    return nil
  end
  return module
end

-- ---- unshuffle and convolution -----------------------------------------------------------------------------------------

local unshuffles, readers = {}, {}

--- fusion.unshuffle(Class): a layer that is F.pixel_unshuffle, with its downscale_factor.
function fusion.unshuffle(Class) unshuffles[Class] = Class.forward end

--- fusion.reader(Class): a convolution with forward(x, mask, activation, negative_slope, unshuffle), which unshuffles x and mask by that
-- factor first. Its lazy form is one too: the first call must give the bits of the others.
function fusion.reader(Class) readers[Class] = Class.forward end

--- fusion.factor(module, behind, x, mask) -> the factor for behind's forward if both are to run as one; nil if not, also where one of
-- them is to refuse x or mask.
function fusion.factor(module, behind, x, mask)
  local forward = unshuffles[getmetatable(module)]
  if forward == nil or behind == nil or module.forward ~= forward then return nil end
  local reads, r = readers[getmetatable(behind)], module.downscale_factor
  if reads == nil or behind.forward ~= reads or behind.dims ~= 1 or behind.groups ~= 1 or behind.padding_mode ~= 'zeros' or
    is_watched(module) or is_watched(behind) then
    return nil
  end
  local fits = Tensor.is_tensor(x) and x:dim() == 3 and Tensor.floating[x.dtype] and x:size(3) % r == 0 and
    (behind.in_channels == nil or x:size(2) * r == behind.in_channels) and x:numel() > 0 and
    (mask == nil or pcall(Mask.of, 'mask', mask, x))
  return fits and r or nil
end

-- ---- what lies between two layers --------------------------------------------------------------------------------------

local makers = {}

--- fusion.maker(Class): a layer whose forward gives a new tensor, and keeps neither that nor its input.
function fusion.maker(Class) makers[Class] = Class.forward end

--- fusion.is_maker(module): true for such a layer that nobody watches. Without a graph, what one gives and the next has read is held
-- by nobody: a container frees it at once, and its memory is used again while it is in the cache.
function fusion.is_maker(module)
  local forward = makers[getmetatable(module)]
  return forward ~= nil and module.forward == forward and not is_watched(module)
end

return fusion
