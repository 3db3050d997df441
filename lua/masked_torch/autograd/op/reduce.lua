--- reduce: sum, mean, var, std, prod, max, min, amax, amin, argmax, argmin, any, all, norm, logsumexp, cumsum, cumprod.
--
-- How to say what is reduced, for all of them but the running ones:
--     x:sum()                          everything, to a tensor without dimensions
--     x:sum(dim)                       one dimension, 1-based; -1 is the last
--     x:sum({1, 3})                    several
--     x:sum(dim, {keepdim = true})     reduced dimensions stay, with size 1 (also x:sum(dim, true), as in PyTorch)
--     x:sum{dim = 2, keepdim = true}   all named
-- Reducing nothing: sum 0, prod 1, mean NaN, any false, all true; max, min and their kin are errors.
-- float32 sums add in double and are rounded once; the order depends on the shape alone (core/reduce.h).

local bit = require 'bit'
local autograd = require 'masked_torch.autograd'
local widened = require('masked_torch.autograd.bfloat16').widened
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail
local floating = Tensor.floating

-- ---- arguments -----------------------------------------------------------------------------------------------

-- The dims to reduce as bits. nil or {} means all.
local function bits_of(op, x, dims)
  local ndim = x._c.ndim
  if dims == nil or (type(dims) == 'table' and #dims == 0) then return 2 ^ ndim - 1 end
  if type(dims) == 'number' and ndim > 0 then return bit.lshift(1, native.dim(op, dims, ndim)) end
  if type(dims) == 'number' then dims = { dims } end
  if type(dims) ~= 'table' then
    fail('%s: dim: expected a number or a table of numbers, got %s', op, type(dims))
  end
  local bits = 0
  for _, dim in ipairs(dims) do
    -- A tensor without dimensions has one element: dim 1 and -1 name it, as in PyTorch.
    if not (ndim == 0 and (dim == 1 or dim == -1)) then
      local b = bit.lshift(1, native.dim(op, dim, ndim))
      if bit.band(bits, b) ~= 0 then fail('%s: dim: dimension %d is named twice', op, dim) end
      bits = bits + b
    end
  end
  return bits
end

-- dims as the user gave them (or nil), and the options.
local PLAIN = { keepdim = false }
local REDUCE = { dim = options.none, keepdim = false }
local MOMENT = { dim = options.none, keepdim = false, correction = options.none, unbiased = options.none }
local NORM = { dim = options.none, keepdim = false, p = 2 }

local function arguments(op, x, dims, opts, defaults)
  Tensor.check(op, 'input', x)
  if opts == nil and defaults == nil and (dims == nil or type(dims) == 'number') then return dims, PLAIN end
  if Tensor.is_tensor(dims) then fail('%s: dim: expected a number or a table of numbers, got a tensor', op) end
  if type(dims) == 'table' and type((next(dims, #dims > 0 and #dims or nil))) == 'string' then
    if opts ~= nil then fail('%s: options: given twice', op) end
    local listed = #dims > 0 and {} or nil
    opts = {}
    for key, value in pairs(dims) do
      if type(key) == 'number' then listed[key] = value else opts[key] = value end
    end
    dims = listed
  end
  if type(opts) == 'boolean' then opts = { keepdim = opts } end
  opts = options.parse(op, defaults or REDUCE, opts)
  if opts.dim ~= nil then
    if dims ~= nil then fail('%s: dim: given twice', op) end
    dims = opts.dim
  end
  return dims, opts
end

local function real(op, x)
  if not floating[x.dtype] then
    fail('%s: input: expected float32 or float64, got %s %s; convert it first', op, Tensor.shape_text(x), x.dtype)
  end
end

-- ---- shapes --------------------------------------------------------------------------------------------------

-- A new tensor with size 1 at the reduced dims: what the kernels write.
local function output(op, x, bits, dtype)
  local shape = Tensor.shape_of(x)
  if bits == 2 ^ #shape - 1 then
    for d = 1, #shape do shape[d] = 1 end
  else
    for d = 1, #shape do
      if bit.band(bits, bit.lshift(1, d - 1)) ~= 0 then shape[d] = 1 end
    end
  end
  return Tensor.empty(op, shape, dtype or x.dtype, x.device)
end

-- The user's view of such a tensor: without the reduced dims unless keepdim.
local function outside(y, bits, keepdim)
  if keepdim or bits == 0 then return y end
  return Tensor.squeeze_view(y, bits)
end

-- The way back, for any strides: size 1 put in at the reduced dims.
local function inside(y, bits, keepdim)
  if keepdim or bits == 0 then return y end
  return Tensor.unsqueeze_view(y, bits)
end

-- y (size 1 at the reduced dims) repeated to a shape, without memory of its own.
local function expanded(y, shape) return Tensor.expand_view('reduce', y, shape) end

local function accumulator(x) return floating[x.dtype] and x.dtype or 'int64' end

local op, method = {}, {}

-- ---- sum, mean -----------------------------------------------------------------------------------------------

op.sum = autograd.op{
  name = 'sum',
  bfloat16 = 'float32',
  forward = function(ctx, x, bits, keepdim)
    local y = output('sum', x, bits, accumulator(x))
    check(x.K.mt_reduce_sum(y._c, x._c, bits))
    ctx.shape, ctx.bits, ctx.keepdim = Tensor.shape_of(x), bits, keepdim
    return outside(y, bits, keepdim)
  end,
  backward = function(ctx, dy)
    return expanded(inside(dy, ctx.bits, ctx.keepdim), ctx.shape)
  end,
}

--- x:sum([dim], {keepdim = false}): the sum. Integers and bool add up to int64.
function method.sum(x, dim, opts)
  dim, opts = arguments('sum', x, dim, opts)
  local y = op.sum(x, bits_of('sum', x, dim), opts.keepdim)
  return y
end

op.mean = autograd.op{
  name = 'mean',
  bfloat16 = 'float32',
  forward = function(ctx, x, bits, keepdim)
    local y = output('mean', x, bits)
    check(x.K.mt_reduce_mean(y._c, x._c, bits))
    ctx.shape, ctx.bits, ctx.keepdim = Tensor.shape_of(x), bits, keepdim
    ctx.scale = y:numel() / x:numel()
    return outside(y, bits, keepdim)
  end,
  backward = function(ctx, dy)
    dy = inside(dy, ctx.bits, ctx.keepdim)
    local scaled = Tensor.empty('mean', Tensor.shape_of(dy), dy.dtype, dy.device)
    check(dy.K.mt_reduce_sum_backward(scaled._c, dy._c, ctx.scale))
    return expanded(scaled, ctx.shape)
  end,
}

--- x:mean([dim], {keepdim = false}): sum / count. Floating types only, as in PyTorch: convert integers first.
function method.mean(x, dim, opts)
  dim, opts = arguments('mean', x, dim, opts)
  real('mean', x)
  local y = op.mean(x, bits_of('mean', x, dim), opts.keepdim)
  return y
end

-- ---- var, std ------------------------------------------------------------------------------------------------

local function variance(name, root)
  return autograd.op{
    name = name,
    bfloat16 = 'float32',
    forward = function(ctx, x, bits, keepdim, correction)
      local y, mean = output(name, x, bits), output(name, x, bits, 'float64')
      check(x.K.mt_reduce_var(y._c, mean._c, x._c, bits, correction, root))
      ctx.bits, ctx.keepdim, ctx.correction = bits, keepdim, correction
      ctx:save(x, y, mean)
      return outside(y, bits, keepdim)
    end,
    backward = function(ctx, dy)
      local x, y, mean = ctx:saved()
      local dx = Tensor.empty_like(x)
      dy = inside(dy, ctx.bits, ctx.keepdim)
      check(x.K.mt_reduce_var_backward(dx._c, dy._c, x._c, y._c, mean._c, ctx.correction, root))
      return dx
    end,
  }
end
op.var, op.std = variance('var', 0), variance('std', 1)

local function spread(name)
  return function(x, dim, opts)
    dim, opts = arguments(name, x, dim, opts, MOMENT)
    real(name, x)
    local correction = 1
    if opts.correction ~= nil then
      if opts.unbiased ~= nil then fail('%s: give correction or unbiased, not both', name) end
      correction = native.number(name, 'correction', opts.correction)
    elseif opts.unbiased ~= nil then
      correction = opts.unbiased and 1 or 0
    end
    local y = op[name](x, bits_of(name, x, dim), opts.keepdim, correction)
    return y
  end
end

--- x:var([dim], {correction = 1, unbiased = nil, keepdim = false}): sum of (x - mean)^2 / (count - correction).
-- unbiased = true | false says correction 1 | 0. count <= correction gives NaN or Inf.
method.var = spread('var')
--- x:std(...): the square root of var. Its gradient is 0 where the deviation is 0.
method.std = spread('std')

-- ---- norm, logsumexp -----------------------------------------------------------------------------------------

op.norm = autograd.op{
  name = 'norm',
  bfloat16 = 'float32',
  forward = function(ctx, x, p, bits, keepdim)
    local y = output('norm', x, bits)
    check(x.K.mt_reduce_norm(y._c, x._c, bits, p))
    ctx.bits, ctx.keepdim, ctx.p = bits, keepdim, p
    ctx:save(x, y)
    return outside(y, bits, keepdim)
  end,
  backward = function(ctx, dy)
    local x, y = ctx:saved()
    local dx = Tensor.empty_like(x)
    dy = inside(dy, ctx.bits, ctx.keepdim)
    check(x.K.mt_reduce_norm_backward(dx._c, dy._c, x._c, y._c, ctx.bits, ctx.p))
    return dx
  end,
}

--- x:norm([p = 2], [dim], {keepdim = false}): (sum of |x|^p)^(1/p); p may be math.huge, -math.huge or 0 (how many differ from
-- 0). Gradient 0 where the norm is 0.
function method.norm(x, p, dim, opts)
  if type(p) == 'table' then
    if dim ~= nil or opts ~= nil then fail('norm: p: expected a number, got a table') end
    p, dim = nil, p
  end
  dim, opts = arguments('norm', x, dim, opts, NORM)
  real('norm', x)
  p = native.number('norm', 'p', p == nil and opts.p or p)
  local y = op.norm(x, p, bits_of('norm', x, dim), opts.keepdim)
  return y
end

op.logsumexp = autograd.op{
  name = 'logsumexp',
  bfloat16 = 'float32',
  forward = function(ctx, x, bits, keepdim)
    local y = output('logsumexp', x, bits)
    check(x.K.mt_reduce_logsumexp(y._c, x._c, bits))
    ctx.bits, ctx.keepdim = bits, keepdim
    ctx:save(x, y)
    return outside(y, bits, keepdim)
  end,
  backward = function(ctx, dy)
    local x, y = ctx:saved()
    local dx = Tensor.empty_like(x)
    dy = inside(dy, ctx.bits, ctx.keepdim)
    check(x.K.mt_reduce_logsumexp_backward(dx._c, dy._c, x._c, y._c))
    return dx
  end,
}

--- x:logsumexp([dim], {keepdim = false}) = log(sum of exp(x)), without overflow; integers as float32. Gradient: softmax, 0 where all is
-- -Inf.
function method.logsumexp(x, dim, opts)
  dim, opts = arguments('logsumexp', x, dim, opts)
  if not floating[x.dtype] then x = x:to('float32') end
  local y = op.logsumexp(x, bits_of('logsumexp', x, dim), opts.keepdim)
  return y
end

-- ---- prod ----------------------------------------------------------------------------------------------------

op.prod = autograd.op{
  name = 'prod',
  bfloat16 = 'float32',
  forward = function(ctx, x, bits, keepdim)
    local y = output('prod', x, bits, accumulator(x))
    check(x.K.mt_reduce_prod(y._c, x._c, bits))
    ctx.bits, ctx.keepdim = bits, keepdim
    ctx:save(x)
    return outside(y, bits, keepdim)
  end,
  backward = function(ctx, dy)
    local x = ctx:saved()
    local dx = Tensor.empty_like(x)
    dy = inside(dy, ctx.bits, ctx.keepdim)
    check(x.K.mt_reduce_prod_backward(dx._c, dy._c, x._c, ctx.bits))
    return dx
  end,
}

--- x:prod([dim], {keepdim = false}): the product. Integers and bool multiply to int64. Zeros in x have their true gradient.
function method.prod(x, dim, opts)
  dim, opts = arguments('prod', x, dim, opts)
  local y = op.prod(x, bits_of('prod', x, dim), opts.keepdim)
  return y
end

-- ---- max, min ------------------------------------------------------------------------------------------------

local function choose(name, largest)
  return autograd.op{
    name = name,
    forward = function(ctx, x, bits, keepdim)
      local values, index = output(name, x, bits), output(name, x, bits, 'int64')
      check(x.K.mt_reduce_extreme(values._c, index._c, x._c, bits, largest))
      ctx.like, ctx.bits, ctx.keepdim = x, bits, keepdim
      ctx:save(index)
      local user_index = outside(index, bits, keepdim)
      ctx:mark_non_differentiable(user_index)
      return outside(values, bits, keepdim), user_index
    end,
    backward = function(ctx, dy)
      local index = ctx:saved()
      if not dy then return nil end
      local dx = Tensor.empty_like(ctx.like)
      dy = inside(dy, ctx.bits, ctx.keepdim)
      check(dx.K.mt_reduce_extreme_backward(dx._c, dy._c, index._c, ctx.bits))
      return dx
    end,
  }
end
op.max, op.min = choose('max', 1), choose('min', 0)

local function choose_even(name, largest)
  return autograd.op{
    name = name,
    forward = function(ctx, x, bits, keepdim)
      local values = output(name, x, bits)
      check(x.K.mt_reduce_extreme(values._c, nil, x._c, bits, largest))
      ctx.bits, ctx.keepdim = bits, keepdim
      ctx:save(x, values)
      return outside(values, bits, keepdim)
    end,
    backward = function(ctx, dy)
      local x, values = ctx:saved()
      local dx = Tensor.empty_like(x)
      dy = inside(dy, ctx.bits, ctx.keepdim)
      check(x.K.mt_reduce_extreme_backward_even(dx._c, dy._c, x._c, values._c, ctx.bits))
      return dx
    end,
  }
end
op.amax, op.amin = choose_even('amax', 1), choose_even('amin', 0)

local function extreme(name)
  return function(x, dim, opts)
    if Tensor.is_tensor(dim) then
      fail('%s: dim: expected a number, got a tensor; %simum(a, b) compares two tensors', name, name)
    end
    dim, opts = arguments(name, x, dim, opts)
    if dim == nil then
      local y = op['a' .. name](x, bits_of(name, x), opts.keepdim)
      return y
    end
    if type(dim) ~= 'number' then
      fail('%s: dim: expected one dimension, got a %s; a%s takes several', name, type(dim), name)
    end
    local values, index = op[name](x, bits_of(name, x, dim), opts.keepdim)
    return values, index
  end
end

--- x:max(): the largest element; its gradient is shared evenly among equal ones, as in PyTorch.
-- x:max(dim, {keepdim = false}) -> values, index: along one dim; index (int64, 1-based) is the first place of the value, and
-- the gradient goes there. NaN counts as the largest (and as the smallest): the first one is the result.
method.max = extreme('max')
--- x:min(...): likewise the smallest.
method.min = extreme('min')

local function extremes(name)
  return function(x, dim, opts)
    dim, opts = arguments(name, x, dim, opts)
    local y = op[name](x, bits_of(name, x, dim), opts.keepdim)
    return y
  end
end

--- x:amax([dim or dims], {keepdim = false}): the largest; the gradient is shared evenly among equal elements.
method.amax = extremes('amax')
--- x:amin([dim or dims], {keepdim = false}): the smallest, likewise.
method.amin = extremes('amin')

local function arg_extreme(name, largest)
  return function(x, dim, opts)
    dim, opts = arguments(name, x, dim, opts)
    if dim ~= nil and type(dim) ~= 'number' then
      fail('%s: dim: expected one dimension, got a %s', name, type(dim))
    end
    x = widened(x)
    local bits = bits_of(name, x, dim)
    local index = output(name, x, bits, 'int64')
    check(x.K.mt_reduce_extreme(nil, index._c, x._c, bits, largest), name)
    return outside(index, bits, opts.keepdim)
  end
end

--- x:argmax([dim], {keepdim = false}) -> int64: the 1-based place of the first largest element along dim; without dim its
-- place in row-major order. NaN counts as the largest.
method.argmax = arg_extreme('argmax', 1)
--- x:argmin([dim], {keepdim = false}): likewise of the first smallest; NaN counts as the smallest.
method.argmin = arg_extreme('argmin', 0)

-- ---- any, all ------------------------------------------------------------------------------------------------

local function truth(name, every)
  return function(x, dim, opts)
    dim, opts = arguments(name, x, dim, opts)
    x = widened(x)
    local bits = bits_of(name, x, dim)
    local y = output(name, x, bits, 'bool')
    check(x.K.mt_reduce_truth(y._c, x._c, bits, every))
    return outside(y, bits, opts.keepdim)
  end
end

--- x:any([dim], {keepdim = false}) -> bool: is some element not 0?
method.any = truth('any', 0)
--- x:all([dim], {keepdim = false}) -> bool: is every element not 0?
method.all = truth('all', 1)

-- ---- cumsum, cumprod -----------------------------------------------------------------------------------------

op.cumsum = autograd.op{
  name = 'cumsum',
  bfloat16 = 'float32',
  forward = function(ctx, x, dim)
    local y = Tensor.empty_like(x, accumulator(x))
    check(x.K.mt_reduce_cumsum(y._c, x._c, dim, 0))
    ctx.dim = dim
    return y
  end,
  backward = function(ctx, dy)
    local dx = Tensor.empty_like(dy)
    check(dy.K.mt_reduce_cumsum(dx._c, dy._c, ctx.dim, 1))
    return dx
  end,
}

op.cumprod = autograd.op{
  name = 'cumprod',
  bfloat16 = 'float32',
  forward = function(ctx, x, dim)
    local y = Tensor.empty_like(x, accumulator(x))
    check(x.K.mt_reduce_cumprod(y._c, x._c, dim))
    ctx.dim = dim
    ctx:save(x)
    return y
  end,
  backward = function(ctx, dy)
    local x = ctx:saved()
    local dx = Tensor.empty_like(x)
    check(x.K.mt_reduce_cumprod_backward(dx._c, dy._c, x._c, ctx.dim))
    return dx
  end,
}

local function running(name)
  return function(x, dim)
    Tensor.check(name, 'input', x)
    local ndim = x:dim()
    local y = op[name](x, ndim == 0 and (dim == 1 or dim == -1) and 0 or native.dim(name, dim, ndim))
    return y
  end
end

--- x:cumsum(dim): running sums along a dimension, added in double. Integers and bool become int64.
method.cumsum = running('cumsum')
--- x:cumprod(dim): running products. Zeros in x have their true gradient.
method.cumprod = running('cumprod')

return { method = method }
