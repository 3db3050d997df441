--- norm: batch, group, instance, layer and RMS norm with statistics over valid elements.
--
-- With a mask m (N or 1, C or 1, *S), values travel multiplied by it: the input is x = m z (a soft confidence mask on raw
-- data: multiply first, nn.ApplyMask). Over the elements that share statistics,
--   n = sum m,   mean = sum m z / n,   var = sum m (z - mean)^2 / n,
--   y = m ((z - mean) / sqrt(var + eps) * weight + bias),   0 where m is 0.
-- For a binary mask: normalise the valid elements by their own mean and variance, and leave zeros elsewhere. So neither
-- padding nor what lies under it changes the result, and MaskedConv's output can be normalised and convolved again.
-- No valid element: y = 0, gradients 0. Masks are constants. Without a mask every formula is PyTorch's.
--
-- Arguments after the leading ones may be given by position or by name in a last table:
--   F.batch_norm(x, running_mean, running_var, { weight = w, bias = b, training = true, mask = m })
-- Each of the functions takes activation = 'relu', or 'leaky_relu' with negative_slope = 0.01 (0 to 1): the result goes through it
-- before it is stored. That is F.relu of the result to the bit, forward and backward, without another pass over memory either way.

local autograd = require 'masked_torch.autograd'
local activation_of = require('masked_torch.autograd.activations').behind
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail, is_tensor = native.check, native.fail, Tensor.is_tensor
local none = options.none
local BATCH_STATISTICS, COMPAT = native.cpu.MT_NORM_BATCH_STATISTICS, native.cpu.MT_NORM_COMPAT
local IDENTITY = native.cpu.MT_ACTIVATION_IDENTITY

local function c(t) return t and t._c or nil end

-- ---- operations ------------------------------------------------------------------------------------------------

-- The gradients of x, weight and bias that are wanted.
local function gradients_for(ctx, x, weight)
  local channels_like = weight or ctx.bias
  local dx = ctx.needs[1] and Tensor.empty_like(x) or nil
  local dweight = ctx.needs[2] and Tensor.empty_like(weight) or nil
  local dbias = ctx.needs[3] and Tensor.empty_like(channels_like) or nil
  return dx, dweight, dbias
end

-- What backward needs. The bias only tells where the activation was closed.
local function keep(ctx, x, weight, bias, mask, stats, activation, a)
  ctx.bias, ctx.activation, ctx.a = bias, activation, a
  ctx:save(x, weight, mask, stats, activation ~= IDENTITY and bias or nil)
end

local function bump(...)
  for i = 1, select('#', ...) do
    local t = select(i, ...)
    if t then Tensor.bump(t) end
  end
end

local batch_norm = autograd.op{
  name = 'batch_norm',
  bfloat16 = 'first',
  forward = function(ctx, x, weight, bias, mask, running_mean, running_var, flags, momentum, eps, activation, a)
    local y = Tensor.empty_like(x)
    local stats = Tensor.empty('batch_norm', { x:dim() > 1 and x:size(2) or 0, 3 }, 'float64', x.device)
    check(x.K.mt_norm_batch_forward(y._c, stats._c, c(running_mean), c(running_var), x._c, c(mask), c(weight), c(bias),
      flags, momentum, eps, activation, a))
    if flags % 2 == BATCH_STATISTICS then bump(running_mean, running_var) end
    ctx.flags = flags
    keep(ctx, x, weight, bias, mask, stats, activation, a)
    return y
  end,
  backward = function(ctx, dy)
    local x, weight, mask, stats, bias = ctx:saved()
    local dx, dweight, dbias = gradients_for(ctx, x, weight)
    check(x.K.mt_norm_batch_backward(c(dx), c(dweight), c(dbias), dy._c, x._c, c(mask), c(weight), c(bias), stats._c, ctx.flags,
      ctx.activation, ctx.a))
    return dx, dweight, dbias
  end,
}

local group_norm = autograd.op{
  name = 'group_norm',
  bfloat16 = 'first',
  forward = function(ctx, x, weight, bias, mask, groups, running_mean, running_var, momentum, eps, activation, a)
    local y = Tensor.empty_like(x)
    local stats = Tensor.empty('group_norm', { x:size(1), groups, 3 }, 'float64', x.device)
    check(x.K.mt_norm_group_forward(y._c, stats._c, c(running_mean), c(running_var), x._c, c(mask), c(weight), c(bias),
      momentum, eps, activation, a))
    bump(running_mean, running_var)
    keep(ctx, x, weight, bias, mask, stats, activation, a)
    return y
  end,
  backward = function(ctx, dy)
    local x, weight, mask, stats, bias = ctx:saved()
    local dx, dweight, dbias = gradients_for(ctx, x, weight)
    check(x.K.mt_norm_group_backward(c(dx), c(dweight), c(dbias), dy._c, x._c, c(mask), c(weight), c(bias), stats._c,
      ctx.activation, ctx.a))
    return dx, dweight, dbias
  end,
}

-- The shape of stats: the leading sizes, then mean, rstd and n.
local function leading(op, x, ndim)
  local shape = x:size()
  for d = #shape, #shape - ndim + 1, -1 do shape[d] = nil end
  shape[#shape + 1] = 3
  return Tensor.empty(op, shape, 'float64', x.device)
end

local layer_norm = autograd.op{
  name = 'layer_norm',
  bfloat16 = 'first',
  forward = function(ctx, x, weight, bias, mask, ndim, eps, activation, a)
    local y, stats = Tensor.empty_like(x), leading('layer_norm', x, ndim)
    check(x.K.mt_norm_layer_forward(y._c, stats._c, x._c, c(mask), c(weight), c(bias), eps, activation, a))
    keep(ctx, x, weight, bias, mask, stats, activation, a)
    return y
  end,
  backward = function(ctx, dy)
    local x, weight, mask, stats, bias = ctx:saved()
    local dx, dweight, dbias = gradients_for(ctx, x, weight)
    check(x.K.mt_norm_layer_backward(c(dx), c(dweight), c(dbias), dy._c, x._c, c(mask), c(weight), c(bias), stats._c,
      ctx.activation, ctx.a))
    return dx, dweight, dbias
  end,
}

local rms_norm = autograd.op{
  name = 'rms_norm',
  bfloat16 = 'first',
  forward = function(ctx, x, weight, mask, ndim, eps, activation, a)
    local y, stats = Tensor.empty_like(x), leading('rms_norm', x, ndim)
    check(x.K.mt_norm_rms_forward(y._c, stats._c, x._c, c(mask), c(weight), eps, activation, a))
    keep(ctx, x, weight, nil, mask, stats, activation, a)
    return y
  end,
  backward = function(ctx, dy)
    local x, weight, mask, stats = ctx:saved()
    local dx, dweight = gradients_for(ctx, x, weight)
    check(x.K.mt_norm_rms_backward(c(dx), c(dweight), dy._c, x._c, c(mask), c(weight), stats._c, ctx.activation, ctx.a))
    return dx, dweight
  end,
}

-- ---- arguments -------------------------------------------------------------------------------------------------

-- Values by position, the last of them perhaps a table of named ones, as one table.
local function named(op, names, defaults, ...)
  local n = select('#', ...)
  local last = n > 0 and select(n, ...)
  local given = options.is_own(last) and last or {}     -- a layer makes its table for this call
  for i = 1, options.is_plain(last) and n - 1 or n do
    local value = select(i, ...)
    if options.is_plain(value) then fail('%s: the table of options must be the last argument', op) end
    if value ~= nil then
      if names[i] == nil then fail('%s: too many arguments: %s', op, native.show(value)) end
      given[names[i]] = value
    end
  end
  if options.is_plain(last) and last ~= given then
    for key, value in pairs(last) do given[key] = value end
  end
  return options.parse(op, defaults, given)
end

local function check_tensors(op, x, o, ...)
  for i = 1, select('#', ...) do
    local name = select(i, ...)
    local t = o[name]
    if t ~= nil then
      Tensor.check(op, name, t)
      Tensor.check_device_of(op, x, name, t)
    end
  end
end

local function check_input(op, x)
  Tensor.check(op, 'input', x)
  if not Tensor.floating[x.dtype] then
    fail('%s: input: expected float32 or float64, got %s %s', op, Tensor.shape_text(x), x.dtype)
  end
  if x:dim() < 2 then fail('%s: input: expected (N, C, ...), got %s', op, Tensor.shape_text(x)) end
end

-- The dense mask for a kernel; a mask known to be full is none.
local function mask_for(op, mask, x, as_given)
  if mask == nil then return nil end
  local m = require('masked_torch.mask').of(op, mask, x)
  if as_given then return m:tensor(x.dtype) end
  if m.kind == 'full' then return nil end
  return m:compact(x.dtype)
end

-- Layer and RMS norm also take a mask with size 1 in any dim: (N, L, 1) for tokens of D features.
local function broadcast_mask_for(op, mask, x)
  if is_tensor(mask) and mask:dim() == x:dim() and x:dim() >= 2 then
    Tensor.check_device_of(op, x, 'mask', mask)
    return require('masked_torch.mask').wrap(mask):compact(x.dtype)
  end
  return mask_for(op, mask, x)
end

local function trailing_dims(op, x, normalized_shape)
  if type(normalized_shape) == 'number' then normalized_shape = { normalized_shape } end
  if type(normalized_shape) ~= 'table' or is_tensor(normalized_shape) then
    fail('%s: normalized_shape: expected a size or a table of sizes, got %s', op, type(normalized_shape))
  end
  local ndim, shape = #normalized_shape, x:size()
  local fits = ndim >= 1 and ndim <= #shape
  for i = 1, ndim do
    native.integer(op, 'normalized_shape', normalized_shape[i], 0)
    fits = fits and shape[#shape - ndim + i] == normalized_shape[i]
  end
  if not fits then
    fail('%s: normalized_shape: expected the trailing sizes of the input %s, got (%s)', op, Tensor.shape_text(x),
      table.concat(normalized_shape, ', '))
  end
  return ndim
end

-- ---- public functions --------------------------------------------------------------------------------------------

local functional = {}

local batch_names = { 'running_mean', 'running_var', 'weight', 'bias', 'training', 'momentum', 'eps' }
local batch_defaults = { running_mean = none, running_var = none, weight = none, bias = none, training = false,
  momentum = 0.1, eps = 1e-5, mask = none, compat = false, activation = none, negative_slope = 0.01 }

local function run_batch_norm(op, x, o)
  check_input(op, x)
  check_tensors(op, x, o, 'running_mean', 'running_var', 'weight', 'bias')
  if not o.training and not (o.running_mean and o.running_var) then
    fail('%s: expected running_mean and running_var to be not nil when training = false', op)
  end
  local compat = o.compat and o.mask ~= nil
  local mask = mask_for(op, o.mask, x, compat)
  if compat and not (o.weight and o.bias) then o.weight, o.bias = nil, nil end
  local flags = (o.training and BATCH_STATISTICS or 0) + (compat and COMPAT or 0)
  local y = batch_norm(x, o.weight, o.bias, mask, o.running_mean, o.running_var, flags, o.momentum, o.eps,
    activation_of(op, o))
  return y
end

--- batch_norm(x, running_mean, running_var, weight, bias, training = false, momentum = 0.1, eps = 1e-5,
-- {mask = nil, compat = false, activation = nil, negative_slope = 0.01})
-- x (N, C, *S); one mean and variance per channel over samples and positions. running_mean, running_var, weight, bias (C),
-- each may be nil. training: the batch's statistics normalise, and the running ones, if given, take them up in place:
--   r = (1 - momentum) r + momentum s,
-- with the unbiased variance var n^2 / (n^2 - sum m^2); for a binary mask var n / (n - 1). A mask of batch 1 counts for every
-- sample. A channel with no valid element leaves its running statistics as they are; one with a single valid element gives
-- y = bias and leaves the running variance.
-- Errors: training on one value per channel; not training without running statistics.
-- compat = true, with a mask: masked_torch's numbers. They differ in this:
--   * the result is not masked again;
--   * the running variance is the biased one;
--   * var = sum ((x - mean) m)^2 / n, which is wrong for soft masks, and holes of x enter the sums;
--   * a mask of batch 1 is counted once;
--   * no valid element gives NaN, in the running statistics too; a single one sets the running variance to 0;
--   * weight and bias act only together.
function functional.batch_norm(x, ...)
  local o = named('batch_norm', batch_names, batch_defaults, ...)
  local y = run_batch_norm('batch_norm', x, o)
  return y
end

--- masked_batch_norm(x, mask, running_mean, running_var, weight, bias, training, momentum, eps = 1e-5, {compat = false}):
-- masked_torch's function; mask may be nil. See batch_norm.
function functional.masked_batch_norm(x, mask, ...)
  local o = named('masked_batch_norm', batch_names, batch_defaults, ...)
  if mask ~= nil then o.mask = mask end
  local y = run_batch_norm('masked_batch_norm', x, o)
  return y
end

local group_names = { 'weight', 'bias', 'eps' }
local group_defaults = { weight = none, bias = none, eps = 1e-5, mask = none, activation = none, negative_slope = 0.01 }
local layer_defaults = { weight = none, bias = none, eps = 1e-5, mask = none, channels = false, activation = none,
  negative_slope = 0.01 }

--- group_norm(x, num_groups, weight, bias, eps = 1e-5, {mask = nil, activation = nil, negative_slope = 0.01})
-- x (N, C, *S): one mean and variance per sample and group of C / num_groups neighbouring channels; weight, bias (C).
function functional.group_norm(x, num_groups, ...)
  check_input('group_norm', x)
  native.integer('group_norm', 'num_groups', num_groups, 1)
  local o = named('group_norm', group_names, group_defaults, ...)
  check_tensors('group_norm', x, o, 'weight', 'bias')
  if x:size(2) % num_groups ~= 0 then
    fail('group_norm: num_groups: expected a divisor of the %d channels of %s, got %d', x:size(2), Tensor.shape_text(x),
      num_groups)
  end
  local y = group_norm(x, o.weight, o.bias, mask_for('group_norm', o.mask, x), num_groups, nil, nil, 0, o.eps,
    activation_of('group_norm', o))
  return y
end

local instance_names = { 'running_mean', 'running_var', 'weight', 'bias', 'use_input_stats', 'momentum', 'eps' }
local instance_defaults = { running_mean = none, running_var = none, weight = none, bias = none, use_input_stats = true,
  momentum = 0.1, eps = 1e-5, mask = none, activation = none, negative_slope = 0.01 }

--- instance_norm(x, running_mean, running_var, weight, bias, use_input_stats = true, momentum = 0.1, eps = 1e-5,
-- {mask = nil, activation = nil, negative_slope = 0.01})
-- x (N, C, *S): one mean and variance per sample and channel. Running statistics, if given, take up the average over the
-- samples that have any; use_input_stats = false normalises with them. Errors: a single position.
function functional.instance_norm(x, ...)
  check_input('instance_norm', x)
  local o = named('instance_norm', instance_names, instance_defaults, ...)
  if not o.use_input_stats then
    local y = run_batch_norm('instance_norm', x, { running_mean = o.running_mean, running_var = o.running_var,
      weight = o.weight, bias = o.bias, training = false, momentum = o.momentum, eps = o.eps, mask = o.mask, activation = o.activation,
      negative_slope = o.negative_slope })
    return y
  end
  check_tensors('instance_norm', x, o, 'running_mean', 'running_var', 'weight', 'bias')
  if x:numel() > 0 and x:numel() == x:size(1) * x:size(2) then
    fail('instance_norm: input: expected more than 1 spatial element when training, got input size %s', Tensor.shape_text(x))
  end
  local y = group_norm(x, o.weight, o.bias, mask_for('instance_norm', o.mask, x), math.max(1, x:size(2)), o.running_mean,
    o.running_var, o.momentum, o.eps, activation_of('instance_norm', o))
  return y
end

-- (N, C, *S) as (N, *S, C), and the way back.
local function channels_to_end(t)
  local order, n = { 1 }, t:dim()
  for d = 3, n do order[d - 1] = d end
  order[n] = 2
  return t:permute(order)
end

local function channels_from_end(t)
  local order, n = { 1, t:dim() }, t:dim()
  for d = 3, n do order[d] = d - 1 end
  return t:permute(order)
end

--- layer_norm(x, normalized_shape, weight, bias, eps = 1e-5, {mask = nil, channels = false, activation = nil, negative_slope = 0.01})
-- One mean and variance over the trailing sizes normalized_shape (a size or a table); weight, bias of that shape. The mask
-- may have size 1 in any dim.
-- channels = true: over the channels of x (N, C, *S), position by position; normalized_shape is C.
function functional.layer_norm(x, normalized_shape, ...)
  Tensor.check('layer_norm', 'input', x)
  local o = named('layer_norm', group_names, layer_defaults, ...)
  check_tensors('layer_norm', x, o, 'weight', 'bias')
  if o.channels then
    check_input('layer_norm', x)
    local mask = mask_for('layer_norm', o.mask, x)
    local last = channels_to_end(x)
    local ndim = trailing_dims('layer_norm', last, normalized_shape)
    if ndim ~= 1 then fail('layer_norm: normalized_shape: expected one size with channels = true, got %d', ndim) end
    local y = layer_norm(last, o.weight, o.bias, mask and channels_to_end(mask), 1, o.eps, activation_of('layer_norm', o))
    y = channels_from_end(y)
    return y
  end
  local ndim = trailing_dims('layer_norm', x, normalized_shape)
  local y = layer_norm(x, o.weight, o.bias, broadcast_mask_for('layer_norm', o.mask, x), ndim, o.eps,
    activation_of('layer_norm', o))
  return y
end

local rms_names = { 'weight', 'eps' }
local rms_defaults = {}
for dtype, epsilon in pairs{ float32 = 2 ^ -23, float64 = 2 ^ -52 } do
  rms_defaults[dtype] = { weight = none, eps = epsilon, mask = none, activation = none, negative_slope = 0.01 }
end

--- rms_norm(x, normalized_shape, weight, eps = machine epsilon of x's type, {mask = nil, activation = nil, negative_slope = 0.01})
-- y = m z / sqrt(sum m z^2 / n + eps) * weight over the trailing sizes (Zhang and Sennrich, 2019).
function functional.rms_norm(x, normalized_shape, ...)
  Tensor.check('rms_norm', 'input', x)
  local ndim = trailing_dims('rms_norm', x, normalized_shape)
  local o = named('rms_norm', rms_names, rms_defaults[x.dtype] or rms_defaults.float32, ...)
  check_tensors('rms_norm', x, o, 'weight')
  local y = rms_norm(x, o.weight, broadcast_mask_for('rms_norm', o.mask, x), ndim, o.eps,
    activation_of('rms_norm', o))
  return y
end

-- internal: how the exporter reads the arguments (io/onnx/form/norm.lua): named(op, names, defaults, ...).
return { functional = functional, internal = { named = named,
  batch_names = batch_names, group_names = group_names, instance_names = instance_names, rms_names = rms_names,
  batch_defaults = batch_defaults, group_defaults = group_defaults, instance_defaults = instance_defaults,
  layer_defaults = layer_defaults, rms_defaults = rms_defaults } }
