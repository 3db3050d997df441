--- pool: maxima and averages of windows, adaptive windows, and the mean over all spatial axes; all of them mask-aware.
--
-- Every function takes x (N, C, *S) and returns y, mask: the mask is nil without one. Options of all windowed functions:
--   mask          nil, a Mask or a tensor: what counts (masked_torch.mask)
--   mask_rule     how the mask goes on: 'grow' (valid where any element of the window is; for holes), 'keep' (as the
--                 window's centre, tap floor(k / 2); for padding: outputs beyond a sample's own size stay masked) or
--                 'coverage' (valid share of the window). An output of mask 0 is 0.
-- What lies under mask 0 changes nothing, and a mask of ones equals no mask, both bit for bit.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local spatial = require 'masked_torch.autograd.spatial'
local Mask = require 'masked_torch.mask'

local check, fail = native.check, native.fail

-- ---- operations ----------------------------------------------------------------------------------------------

-- The output's shape, by the kernel's own rule or as the adaptive options say.
local function output_shape(op, x, g, size)
  local shape = x:size()
  if size then
    for d, s in ipairs(size) do shape[2 + d] = s end
    return shape
  end
  local out = ffi.new('int64_t[3]')
  check(x.K.mt_pool_output_size(out, x._c.shape + 2, g), op)
  for d = 0, g.dims - 1 do shape[3 + d] = tonumber(out[d]) end
  return shape
end

local max_pool = autograd.op{
  name = 'max_pool',
  forward = function(ctx, x, mask, g, shape)
    local y = Tensor.empty_format('max_pool', x, shape)
    local index = Tensor.empty_format('max_pool', x, shape, 'int32')
    check(x.K.mt_pool_max_forward(y._c, index._c, x._c, mask and mask._c, g))
    ctx:save(index)
    ctx.g, ctx.shape, ctx.strides = g, x:size(), Tensor.layout_of(x)
    ctx:mark_non_differentiable(index)
    return y, index
  end,
  backward = function(ctx, dy)
    if not dy then return nil end
    local index = ctx:saved()
    local dx = Tensor.empty('max_pool', ctx.shape, dy.dtype, dy.device, ctx.strides)
    check(dy.K.mt_pool_max_backward(dx._c, dy._c, index._c, ctx.g))
    return dx
  end,
}

local avg_pool = spatial.linear_op('avg_pool', 'mt_pool_avg')

local masked_mean = autograd.op{
  name = 'masked_mean',
  bfloat16 = 'float32',
  forward = function(ctx, x, mask, eps, holes)
    local shape = x:size()
    local y = Tensor.empty('masked_mean', { shape[1], shape[2] }, x.dtype, x.device)
    local coverage = mask and Tensor.empty('masked_mean', { mask:size(1), mask:size(2) }, x.dtype, x.device)
    check(x.K.mt_pool_mean_forward(y._c, coverage and coverage._c, x._c, mask and mask._c, eps, holes))
    ctx:save(mask)
    ctx.shape, ctx.strides, ctx.eps, ctx.holes = shape, Tensor.layout_of(x), eps, holes
    if coverage then ctx:mark_non_differentiable(coverage) end
    return y, coverage
  end,
  backward = function(ctx, dy)
    if not dy then return nil end
    local mask = ctx:saved()
    local dx = Tensor.empty('masked_mean', ctx.shape, dy.dtype, dy.device, ctx.strides)
    check(dy.K.mt_pool_mean_backward(dx._c, dy._c, mask and mask._c, ctx.eps, ctx.holes))
    return dx
  end,
}

-- ---- arguments -----------------------------------------------------------------------------------------------

local pool_type = ffi.typeof('mt_pool')

local function regular(op, dims, kernel, opts)
  local g = pool_type()
  g.dims = dims
  local k = spatial.each(op, 'kernel_size', kernel, dims, 1)
  local stride = spatial.each(op, 'stride', opts.stride or k, dims, 1)
  local padding = spatial.each(op, 'padding', opts.padding, dims, 0)
  local dilation = spatial.each(op, 'dilation', opts.dilation or 1, dims, 1)
  local padded = false
  for d = 1, dims do
    g.kernel[d - 1], g.stride[d - 1], g.padding[d - 1], g.dilation[d - 1] = k[d], stride[d], padding[d], dilation[d]
    padded = padded or padding[d] > 0
  end
  g.ceil_mode = opts.ceil_mode and 1 or 0
  local count = opts.count
  if count then
    options.choice(op, 'count', count, { 'valid', 'window' })
  else
    count = opts.count_include_pad and padded and 'window' or 'valid'
  end
  g.count_window = count == 'window' and 1 or 0
  return g, ('%s %s %s %s %s'):format(table.concat(k, ','), table.concat(stride, ','), table.concat(padding, ','),
    table.concat(dilation, ','), g.ceil_mode)
end

local function adaptive(op, dims, size)
  local g = pool_type()
  g.dims, g.adaptive = dims, 1
  size = spatial.each(op, 'output_size', size, dims, 1)
  return g, 'adaptive ' .. table.concat(size, ','), size
end

-- The mask of the output, made once per mask, geometry and rule.
local function pooled_mask(mask, g, key, size)
  return mask:derived(('pool %s %d'):format(key, g.rule), function()
    local soft64 = mask.kind == 'tensor' and mask.origin.dtype == 'float64'
    local m = mask:compact(soft64 and 'float64' or 'float32')
    local out = Tensor.empty_format('pool', m, output_shape('pool', m, g, size))
    check(m.K.mt_pool_mask(out._c, m._c, g))
    return Mask.wrap(out)
  end)
end

-- Prepares mask and rule; returns the Mask or nil, and its tensor.
local function prepare(op, x, g, opts)
  local mask = Mask.of(op, opts.mask, x)
  g.rule = spatial.mask_rule(op, opts.mask_rule)
  return mask, mask and mask:compact(x.dtype)
end

local none = options.none
local MAX = { stride = none, padding = options.any(0), dilation = options.any(1), ceil_mode = false, return_indices = false,
  mask = none, mask_rule = 'grow' }
local AVG = { stride = none, padding = options.any(0), ceil_mode = false, count_include_pad = true, count = none, mask = none,
  mask_rule = 'grow' }
local ADAPTIVE = { mask = none, mask_rule = 'grow' }
local ADAPTIVE_MAX = { mask = none, mask_rule = 'grow', return_indices = false }

local function finish_max(y, index, mask, g, key, size, opts)
  local out_mask = mask and pooled_mask(mask, g, key, size)
  if not opts.return_indices then return y, out_mask end
  local indices = Tensor.empty_format('max_pool', index, index:size(), 'int64')
  check(index.K.mt_tensor_copy(indices._c, index._c))
  return y, out_mask, indices
end

local function with_stride(op, defaults, stride, opts)
  stride, opts = spatial.optional(stride, opts)
  opts = options.parse(op, defaults, opts)
  if stride ~= nil then opts.stride = stride end
  return opts
end

-- ---- functions -----------------------------------------------------------------------------------------------

local functional = {}

--- max_pool1d/2d/3d(x, kernel_size, [stride,] {stride = kernel_size, padding = 0, dilation = 1, ceil_mode = false,
-- return_indices = false, mask = nil, mask_rule = 'grow'}) -> y, mask, indices
-- The largest valid element of every window; NaN wins; 0 where a window has none. indices (int64): its position in the
-- image, counted from 1 in raster order, the first of equal ones, 0 for none; only on request.
-- Its gradient goes to that element.
local function max_pool_nd(dims, op)
  return function(x, kernel_size, stride, opts)
    spatial.check(op, x, dims)
    opts = with_stride(op, MAX, stride, opts)
    local g, key = regular(op, dims, kernel_size, opts)
    local mask, m = prepare(op, x, g, opts)
    local y, index = max_pool(x, m, g, output_shape(op, x, g))
    return finish_max(y, index, mask, g, key, nil, opts)
  end
end

--- avg_pool1d/2d/3d(x, kernel_size, [stride,] {stride = kernel_size, padding = 0, ceil_mode = false,
-- count_include_pad = true, count = nil, mask = nil, mask_rule = 'grow'}) -> y, mask
-- y = sum(m x) / sum(m) over the window; 0 where no element is valid. With padding and count_include_pad (PyTorch's default)
-- the padding counts as zeros, and so do masked elements: y = sum(m x) / window size, so that padding by this option and
-- padding by a mask are the same. count = 'valid' or 'window' chooses directly.
local function avg_pool_nd(dims, op)
  return function(x, kernel_size, stride, opts)
    spatial.check(op, x, dims)
    opts = with_stride(op, AVG, stride, opts)
    local g, key = regular(op, dims, kernel_size, opts)
    local mask, m = prepare(op, x, g, opts)
    local y = avg_pool(x, m, g, output_shape(op, x, g))
    return y, mask and pooled_mask(mask, g, key)
  end
end

--- adaptive_max_pool1d/2d/3d(x, output_size, {mask = nil, mask_rule = 'grow', return_indices = false}) -> y, mask, indices
-- Output o of O covers positions floor(o S / O) .. ceil((o + 1) S / O) - 1, as in PyTorch.
local function adaptive_max_nd(dims, op)
  return function(x, output_size, opts)
    spatial.check(op, x, dims)
    opts = options.parse(op, ADAPTIVE_MAX, opts)
    local g, key, size = adaptive(op, dims, output_size)
    local mask, m = prepare(op, x, g, opts)
    local y, index = max_pool(x, m, g, output_shape(op, x, g, size))
    return finish_max(y, index, mask, g, key, size, opts)
  end
end

--- adaptive_avg_pool1d/2d/3d(x, output_size, {mask = nil, mask_rule = 'grow'}) -> y, mask
local function adaptive_avg_nd(dims, op)
  return function(x, output_size, opts)
    spatial.check(op, x, dims)
    opts = options.parse(op, ADAPTIVE, opts)
    local g, key, size = adaptive(op, dims, output_size)
    local mask, m = prepare(op, x, g, opts)
    local y = avg_pool(x, m, g, output_shape(op, x, g, size))
    return y, mask and pooled_mask(mask, g, key, size)
  end
end

for dims = 1, 3 do
  for prefix, make in pairs{ max_pool = max_pool_nd, avg_pool = avg_pool_nd, adaptive_max_pool = adaptive_max_nd,
    adaptive_avg_pool = adaptive_avg_nd } do
    local name = ('%s%dd'):format(prefix, dims)
    functional[name] = make(dims, name)
  end
end

--- global_max_pool(x, {mask =}), global_avg_pool(x, {mask =}) -> y (N, C, 1 ...), mask: one window over all spatial axes.
function functional.global_max_pool(x, opts)
  local dims = spatial.check('global_max_pool', x)
  local y, mask, indices = functional[('adaptive_max_pool%dd'):format(dims)](x, 1, opts)
  return y, mask, indices
end

function functional.global_avg_pool(x, opts)
  local dims = spatial.check('global_avg_pool', x)
  local y, mask = functional[('adaptive_avg_pool%dd'):format(dims)](x, 1, opts)
  return y, mask
end

local MEAN = { eps = none, premask = 'select', compat = false }
local HOLES = { select = 0, values = 1, none = 2 }

--- masked_mean(x, mask, {eps = 0, premask = 'select', compat = false}) -> y (N, C), coverage (a tensor (N|1, C|1), nil without a
-- mask). y = sum of x where the mask is not 0 / (sum(mask) + eps), over all spatial axes: x counts as already multiplied by a
-- soft mask, as masked convolutions leave it. A channel without valid elements gives 0. coverage = mean(mask).
-- Sums run in raster order in double precision: padding changes no bit.
-- premask, as in masked_conv: 'select' gives holes no gradient; 'values' gives them the one that they would have if they counted
-- (x was already masked by the caller, who masks the gradient too); 'none' counts them.
-- compat = true is masked_torch's MaskedSpatialMean: eps 1e-8 and premask 'none'.
function functional.masked_mean(x, mask, opts)
  spatial.check('masked_mean', x)
  opts = options.parse('masked_mean', MEAN, opts)
  local eps = native.number('masked_mean', 'eps', opts.eps or (opts.compat and 1e-8 or 0))
  if eps ~= eps or eps < 0 then fail('masked_mean: eps: expected a number of at least 0, got %s', tostring(eps)) end
  local holes = HOLES[options.choice('masked_mean', 'premask', opts.premask, { 'select', 'values', 'none' })]
  mask = Mask.of('masked_mean', mask, x)
  local y, coverage = masked_mean(x, mask and mask:compact(x.dtype), eps, opts.compat and HOLES.none or holes)
  return y, coverage
end

return { functional = functional, internal = { MAX = MAX, AVG = AVG, ADAPTIVE = ADAPTIVE, ADAPTIVE_MAX = ADAPTIVE_MAX, MEAN = MEAN } }
