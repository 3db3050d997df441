--- elementwise: arithmetic, functions and comparisons with broadcasting, and the operators of tensors.
--
-- Operands are tensors, numbers, booleans, or objects with a method `tensor` (masks); at least one is a tensor.
-- They are brought to one dtype: the higher of bool < uint8 < int32 < int64 < bfloat16 < float32 < float64. A number takes the tensor's
-- dtype; one with a fraction lifts an integer tensor to float32. Arithmetic on bool counts in int64; div and the functions of
-- integers give float32. Comparisons and logical functions give bool.
-- There is no == between tensors (Lua would compare different things): use torch.eq or torch.equal.
-- Options come last: add and sub take {alpha = 1} (a + alpha b), div takes {rounding_mode = 'floor' | 'trunc'}. An argument
-- that an operation does not have is an error, not silence.

local autograd = require 'masked_torch.autograd'
local in_place = require 'masked_torch.autograd.in_place'
local mask_argument = require 'masked_torch.autograd.mask_argument'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check, fail = native.cpu, native.check, native.fail
local none_left = options.none_left
local is_tensor, empty_broadcast = Tensor.is_tensor, Tensor.empty_broadcast

local method, torch = {}, {}

-- ---- operands ------------------------------------------------------------------------------------------------

local RANK = { bool = 1, uint8 = 2, int32 = 3, int64 = 4, bfloat16 = 5, float32 = 6, float64 = 7 }

local function as_tensor(op, argument, value)
  if not is_tensor(value) and type(value) == 'table' and type(value.tensor) == 'function' then
    value = value:tensor()
  end
  return Tensor.check(op, argument, value)
end

-- The dtype a number or boolean asks for beside a tensor of `dtype`.
local function with_number(dtype, value)
  if type(value) == 'boolean' then return dtype end
  if value % 1 ~= 0 then return RANK[dtype] < RANK.bfloat16 and 'float32' or dtype end   -- fractions, infinities, NaN
  return dtype == 'bool' and 'int64' or dtype
end

local NO_DIMS = {}

local function constant(value, dtype, device)
  if type(value) == 'boolean' then value = value and 1 or 0 end
  local t = Tensor.empty('constant', NO_DIMS, dtype, device)
  check(t.K.mt_tensor_fill(t._c, value))
  return t
end

local function is_scalar(value) return type(value) == 'number' or type(value) == 'boolean' end

-- a and b as tensors of one dtype on one device; `lift` may raise the dtype.
local function operands(op, a, b, lift)
  if is_scalar(a) and is_scalar(b) then fail('%s: expected at least one tensor, got two numbers', op) end
  if not is_scalar(a) then a = as_tensor(op, 'first operand', a) end
  if not is_scalar(b) then b = as_tensor(op, 'second operand', b) end
  local dtype
  if is_scalar(a) then
    dtype = with_number(b.dtype, a)
  elseif is_scalar(b) then
    dtype = with_number(a.dtype, b)
  else
    Tensor.check_device_of(op, a, 'second operand', b)
    dtype = RANK[a.dtype] >= RANK[b.dtype] and a.dtype or b.dtype
  end
  if lift then dtype = lift(dtype) end
  local device = is_tensor(a) and a.device or b.device
  local of_number = Tensor.kernel_type(dtype)      -- arithmetic on bfloat16 rounds its result only
  a = is_tensor(a) and a:to(dtype) or constant(a, of_number, device)
  b = is_tensor(b) and b:to(dtype) or constant(b, of_number, device)
  return a, b
end

-- The type of the result where it is not a's: bfloat16 beside a number (a float32 of no dims) stays what it is.
local function result_type(a, b)
  if a.dtype == b.dtype then return nil end
  if a.dtype == 'bfloat16' then return b._c.ndim > 0 and b.dtype or 'bfloat16' end
  return a._c.ndim > 0 and a.dtype or b.dtype
end

local function numbers(dtype) return dtype == 'bool' and 'int64' or dtype end
local function real(dtype) return RANK[dtype] < RANK.bfloat16 and 'float32' or dtype end

-- ---- one operand ---------------------------------------------------------------------------------------------

-- Each has a form in place, with an underscore: x:exp_(). Integers give float32, but for abs, neg, square, sign and rounding.
--- x:abs(): |x|; gradient 0 at 0.
--- x:neg(), x:negative(): -x.
--- x:sign(): -1, 0 or 1.
--- x:square(): x^2.
--- x:sqrt(): the square root; NaN below 0.
--- x:rsqrt(): 1 / sqrt(x).
--- x:reciprocal(): 1 / x.
--- x:exp(): e^x.
--- x:expm1(): e^x - 1, exact near 0.
--- x:log(): the natural logarithm.
--- x:log1p(): log(1 + x), exact near 0.
--- x:log2(): the logarithm to base 2.
--- x:sin(), x:cos(), x:tan(): of radians.
--- x:atan(): between -pi/2 and pi/2.
--- x:tanh({mask = nil}): the hyperbolic tangent; 0 where the mask is 0, whatever x holds there.
--- x:sigmoid({mask = nil}): 1 / (1 + e^-x); 0 where the mask is 0.
--- x:floor(), x:ceil(), x:trunc(): down, up, towards zero; gradient 0.
--- x:round(): to the nearest whole number, halves to the even one; gradient 0.

-- name -> what backward needs: 'x', 'y', or nothing where the derivative is 0. integer: defined on integers too.
-- masked: has the option mask.
local unary = {
  neg = { keeps = 'x', integer = true }, abs = { keeps = 'x', integer = true }, square = { keeps = 'x', integer = true },
  sign = { integer = true }, floor = { step = true }, ceil = { step = true }, round = { step = true }, trunc = { step = true },
  reciprocal = { keeps = 'y' }, sqrt = { keeps = 'y' }, rsqrt = { keeps = 'y' }, exp = { keeps = 'y' }, expm1 = { keeps = 'y' },
  tan = { keeps = 'y' }, tanh = { keeps = 'y', masked = true }, sigmoid = { keeps = 'y', masked = true },
  log = { keeps = 'x' }, log1p = { keeps = 'x' }, log2 = { keeps = 'x' }, sin = { keeps = 'x' }, cos = { keeps = 'x' },
  atan = { keeps = 'x' },
}

local mask_option = { mask = options.none }

for name, about in pairs(unary) do
  local code = C['MT_UNARY_' .. name:upper()]
  local op = autograd.op{
    name = name,
    bfloat16 = 'itself',
    forward = function(ctx, x, valid)
      local y = Tensor.empty_like(x)
      check(x.K.mt_elementwise_unary(y._c, x._c, valid and valid._c, code))
      ctx.valid = valid
      if about.keeps then ctx:save(about.keeps == 'x' and x or y) end
      return y
    end,
    backward = function(ctx, dy)
      local dx = ctx:gradient_like(dy, dy)
      if about.keeps then
        local valid = ctx.valid
        check(dy.K.mt_elementwise_unary_backward(dx._c, dy._c, ctx:saved()._c, valid and valid._c, code))
      else
        check(dy.K.mt_tensor_fill(dx._c, 0))
      end
      return dx
    end,
  }
  local function prepare(x)
    x = as_tensor(name, 'input', x)
    if Tensor.floating[x.dtype] then return x end
    return x:to(about.integer and numbers(x.dtype) or real(x.dtype))
  end
  method[name] = function(x, opts)
    local mask
    if opts ~= nil then
      if not (about.masked and options.is_plain(opts)) then none_left(name, opts) end
      mask = options.parse(name, mask_option, opts).mask
    end
    x = as_tensor(name, 'input', x)
    if about.step and not Tensor.floating[x.dtype] then return x:clone() end   -- whole numbers already
    x = prepare(x)
    local y = op(x, mask_argument(name, mask, x, 'bool'))
    return y
  end
  local function kernel(x)
    check(x.K.mt_elementwise_unary(x._c, x._c, nil, code))
  end
  method[name .. '_'] = function(x, extra)
    none_left(name .. '_', extra)
    Tensor.check(name .. '_', 'input', x)
    if not Tensor.floating[x.dtype] and about.step then return x end
    local y = in_place(name .. '_', x, op, kernel)
    return y
  end
end
method.negative, method.negative_ = method.neg, method.neg_

-- ---- two operands --------------------------------------------------------------------------------------------

local function binary_kernel(y, a, b, code)
  check(y.K.mt_elementwise_binary(y._c, a._c, b._c, code))
end

local alpha_options, div_options = { alpha = 1 }, { rounding_mode = options.none }

-- The second operand of add and sub: alpha b.
local function scaled(op, a, b, opts)
  local alpha = options.parse(op, alpha_options, opts).alpha
  if alpha == 1 then return b end
  if is_tensor(a) and is_tensor(b) and RANK[a.dtype] > RANK[b.dtype] then b = b:to(a.dtype) end
  if is_scalar(b) then return alpha * (b == true and 1 or b or 0) end
  return (method.mul(b, alpha))
end

-- Each has a form in place, with an underscore: x:add_(y). Operands broadcast.
--- x:add(y, {alpha = 1}), torch.add(x, y): x + alpha y. Also x + y.
--- x:sub(y, {alpha = 1}), torch.sub(x, y): x - alpha y. Also x - y.
--- x:mul(y), torch.mul(x, y): x y, element by element. Also x * y.
--- x:div(y, {rounding_mode = nil}), torch.div(x, y): x / y in floating point; rounding_mode 'floor' or 'trunc' rounds the quotient
-- and keeps integers; the result has no gradient.
--- x:pow(y), torch.pow(x, y): x^y. Also x ^ y; either may be a number.
--- x:remainder(y), torch.remainder(x, y): x - y floor(x / y), with the sign of y. Also x % y.
--- x:fmod(y), torch.fmod(x, y): x - y trunc(x / y), with the sign of x.
--- x:minimum(y), x:maximum(y): the smaller, the larger of two; NaN wins. Of equal ones each gets half the gradient.
--- x:atan2(y), torch.atan2(x, y): the angle of the point (y, x), from -pi to pi.

-- lift: which dtypes the operation has.
local binary = { add = numbers, sub = numbers, mul = numbers, div = real, pow = numbers, fmod = numbers, remainder = numbers,
  minimum = false, maximum = false, atan2 = real }

for name, lift in pairs(binary) do
  local code = C['MT_BINARY_' .. name:upper()]
  local linear = name == 'add' or name == 'sub'
  local op = autograd.op{
    name = name,
    bfloat16 = 'itself',
    forward = function(ctx, a, b)
      local y = empty_broadcast(name, a, b, result_type(a, b))
      binary_kernel(y, a, b, code)
      if ctx.wanted then
        if a.dtype ~= b.dtype then ctx.a_type, ctx.b_type = a.dtype, b.dtype end
        -- The shapes that gradients are summed to, where broadcasting made another one.
        if not Tensor.same_shape(y, a) then ctx.a = Tensor.shape_of(a) end
        if not Tensor.same_shape(y, b) then ctx.b = Tensor.shape_of(b) end
        if not linear then ctx:save(a, b) end
      end
      return y
    end,
    backward = function(ctx, dy)
      local needs, a, b, da, db = ctx.needs, dy, dy, nil, nil
      local a_type, b_type = ctx.a_type or dy.dtype, ctx.b_type or dy.dtype
      if not linear then a, b = ctx:saved() end   -- add and sub do not look at them
      if needs[2] then
        db = dy
        if name ~= 'add' then
          -- What is summed is not rounded before.
          local dtype = ctx.b and Tensor.kernel_type(dy.dtype) or b_type
          db = (needs[1] or dtype ~= dy.dtype) and Tensor.empty_like(dy, dtype) or ctx:gradient_like(dy, dy)
          check(dy.K.mt_elementwise_binary_backward(db._c, dy._c, a._c, b._c, code, 1))
        end
        if ctx.b or db.dtype ~= b_type then db = Tensor.sum_to(db, ctx.b or Tensor.shape_of(db), b_type) end
      end
      if needs[1] then
        da = dy
        if not linear then
          local dtype = ctx.a and Tensor.kernel_type(dy.dtype) or a_type
          da = dtype ~= dy.dtype and Tensor.empty_like(dy, dtype) or ctx:gradient_like(dy, dy)
          check(dy.K.mt_elementwise_binary_backward(da._c, dy._c, a._c, b._c, code, 0))
        end
        if ctx.a or da.dtype ~= a_type then da = Tensor.sum_to(da, ctx.a or Tensor.shape_of(da), a_type) end
      end
      return da, db
    end,
  }
  method[name] = function(a, b, extra)
    if extra ~= nil then
      if linear then b = scaled(name, a, b, extra) else none_left(name, extra) end
    end
    a, b = operands(name, a, b, lift)
    local y = op(a, b)
    return y
  end
  local function kernel(x, b)
    binary_kernel(x, x, b, code)
  end
  method[name .. '_'] = function(x, b, extra)
    local op_name = name .. '_'
    Tensor.check(op_name, 'input', x)
    if extra ~= nil then
      if linear then b = scaled(op_name, x, b, extra) else none_left(op_name, extra) end
    end
    local _, other = operands(op_name, x, b, lift)
    if other.dtype ~= x.dtype and not (x.dtype == 'bfloat16' and other.dtype == 'float32' and other._c.ndim == 0) then
      fail('%s: a result of type %s cannot be written to %s %s; use :%s', op_name, other.dtype, Tensor.shape_text(x), x.dtype,
        name)
    end
    local y = in_place(op_name, x, op, kernel, other)
    return y
  end
end

-- x^2 is exact rounding of a product; every other power goes to the kernel. A negative whole number lifts integers to float32:
-- 2^-1 is 0.5.
do
  local power = method.pow
  method.pow = function(a, b, extra)
    none_left('pow', extra)
    if is_tensor(a) and b == 2 and a.dtype ~= 'bool' then return (a:square()) end
    if type(b) == 'number' and b < 0 and is_tensor(a) and not Tensor.floating[a.dtype] then a = a:to('float32') end
    return (power(a, b))
  end
  local power_ = method.pow_
  method.pow_ = function(x, b, extra)
    none_left('pow_', extra)
    if type(b) == 'number' and b < 0 and is_tensor(x) and not Tensor.floating[x.dtype] then
      fail('pow_: a result of type float32 cannot be written to %s %s; use :pow', Tensor.shape_text(x), x.dtype)
    end
    return (power_(x, b))
  end
end

-- div with rounding: the quotient's floor or its whole part, from the remainder, so that 1 / 0.1 rounds to 9 as in Python.
-- Integers stay integers.
do
  local function rounded(op, divide, a, b, opts)
    local mode = options.parse(op, div_options, opts).rounding_mode
    if mode == nil then return (divide(a, b)) end
    options.choice(op, 'rounding_mode', mode, { 'floor', 'trunc' })
    local x, y = operands(op, a, b, numbers)
    x, y = x:detach(), y:detach()      -- a step has no slope
    local rest = mode == 'floor' and method.remainder(x, y) or method.fmod(x, y)
    if not Tensor.floating[x.dtype] then return (divide((x - rest):to('float64'), y:to('float64')):round():to(x.dtype)) end
    -- Without a remainder there is nothing to round; floor(Inf / y) is NaN, as in Python.
    return (torch.where(mode == 'floor' and y:eq(0) or rest:isnan(), divide(x, y), divide(x - rest, y):round()))
  end
  local divide, divide_ = method.div, method.div_
  method.div = function(a, b, opts)
    if opts == nil then return (divide(a, b)) end
    return (rounded('div', divide, a, b, opts))
  end
  method.div_ = function(x, b, opts)
    if opts == nil then return (divide_(x, b)) end
    Tensor.check('div_', 'input', x)
    local mode = options.parse('div_', div_options, opts).rounding_mode
    if mode == nil then return (divide_(x, b)) end
    local quotient = rounded('div_', divide, x, b, opts)
    if quotient.dtype ~= x.dtype then
      fail('div_: a result of type %s cannot be written to %s %s; use :div', quotient.dtype, Tensor.shape_text(x), x.dtype)
    end
    return (x:copy_(quotient))
  end
end

for _, name in ipairs { 'eq', 'ne', 'lt', 'le', 'gt', 'ge' } do
  local code = C['MT_BINARY_' .. name:upper()]
  --- torch.eq(a, b), ne, lt, le, gt, ge: bool tensors; NaN equals nothing.
  method[name] = function(a, b, extra)
    none_left(name, extra)
    a, b = operands(name, a, b)
    local y = empty_broadcast(name, a, b, 'bool')
    binary_kernel(y, a, b, code)
    return y
  end
end

-- ---- logic ---------------------------------------------------------------------------------------------------

--- x:logical_and(y), x:logical_or(y), x:logical_xor(y): bool tensors of x ~= 0 and y ~= 0.

-- On bool, "and" is the minimum, "or" the maximum, "xor" is "differs".
for name, code in pairs { logical_and = C.MT_BINARY_MINIMUM, logical_or = C.MT_BINARY_MAXIMUM, logical_xor = C.MT_BINARY_NE } do
  method[name] = function(a, b)
    a, b = operands(name, a, b, function() return 'bool' end)
    local y = empty_broadcast(name, a, b, 'bool')
    binary_kernel(y, a, b, code)
    return y
  end
end

--- logical_not(x): x == 0
function method.logical_not(x)
  local y = method.eq(as_tensor('logical_not', 'input', x), false)
  return y
end

local function plain(op, x)
  return as_tensor(op, 'input', x):detach()
end

--- isnan(x)
function method.isnan(x)
  x = plain('isnan', x)
  local y = method.ne(x, x)
  return y
end

--- isinf(x): plus or minus infinity
function method.isinf(x)
  x = plain('isinf', x)
  if not Tensor.floating[x.dtype] then return (method.ne(x, x)) end
  local y = method.eq(x:abs(), math.huge)
  return y
end

--- isfinite(x): neither NaN nor infinite
function method.isfinite(x)
  x = plain('isfinite', x)
  if not Tensor.floating[x.dtype] then return (method.eq(x, x)) end
  local y = method.lt(x:abs(), math.huge)
  return y
end

-- ---- choices -------------------------------------------------------------------------------------------------

local function chosen(like, condition, first, second, shape, dtype)
  local d = Tensor.empty_like(like)
  check(d.K.mt_elementwise_where(d._c, condition._c, first._c, second._c))
  return Tensor.sum_to(d, shape, dtype)
end

local where = autograd.op{
  name = 'where',
  bfloat16 = 'itself',
  forward = function(ctx, condition, a, b)
    local y = empty_broadcast('where', empty_broadcast('where', condition, a), b, result_type(a, b) or a.dtype)
    check(y.K.mt_elementwise_where(y._c, condition._c, a._c, b._c))
    ctx:save(condition)
    ctx.a, ctx.b, ctx.a_type, ctx.b_type = a:size(), b:size(), a.dtype, b.dtype
    return y
  end,
  backward = function(ctx, dy)
    local condition = ctx:saved()
    local zero = constant(0, dy.dtype, dy.device)
    return nil, ctx.needs[2] and chosen(dy, condition, dy, zero, ctx.a, ctx.a_type) or nil,
      ctx.needs[3] and chosen(dy, condition, zero, dy, ctx.b, ctx.b_type) or nil
  end,
}

--- torch.where(condition, a, b): a where the condition is not 0, b elsewhere, with broadcasting. a and b: tensors or numbers.
function torch.where(condition, a, b)
  condition = as_tensor('where', 'condition', condition):to('bool')
  if is_scalar(a) and is_scalar(b) then
    a = constant(a, type(a) == 'boolean' and type(b) == 'boolean' and 'bool' or 'float32', condition.device)
  end
  a, b = operands('where', a, b)
  local y = where(condition, a, b)
  return y
end

local clamp = autograd.op{
  name = 'clamp',
  bfloat16 = 'itself',
  forward = function(ctx, x, low, high)
    local y = Tensor.empty_like(x)
    check(x.K.mt_elementwise_clamp(y._c, x._c, low, high))
    ctx:save(x)
    ctx.low, ctx.high = low, high
    return y
  end,
  backward = function(ctx, dy)
    local x = ctx:saved()
    local dx = Tensor.empty_like(x)
    check(x.K.mt_elementwise_clamp_backward(dx._c, dy._c, x._c, ctx.low, ctx.high))
    return dx
  end,
}

local clamp_options = { min = options.none, max = options.none }

local function named_bounds(op, low, high)
  if type(low) ~= 'table' or is_tensor(low) then return low, high end
  none_left(op, high)
  local given = options.parse(op, clamp_options, low)
  return given.min, given.max
end

local function bounds(op, low, high)
  if low == nil and high == nil then fail('%s: expected a lower or an upper bound, got neither', op) end
  return native.number(op, 'min', low == nil and -math.huge or low), native.number(op, 'max', high == nil and math.huge or high)
end

-- The type of x between two bounds.
local function lifted_by(dtype, low, high)
  dtype = numbers(dtype)
  if math.abs(low) < math.huge then dtype = with_number(dtype, low) end
  if math.abs(high) < math.huge then dtype = with_number(dtype, high) end
  return dtype
end

--- x:clamp(min, max), x:clamp({min =, max =}): min(max(x, min), max); either bound may be nil. Bounds are numbers,
-- or tensors (broadcast). NaN stays NaN.
function method.clamp(x, low, high)
  x = as_tensor('clamp', 'input', x)
  low, high = named_bounds('clamp', low, high)
  if is_tensor(low) or is_tensor(high) then
    if low ~= nil then x = method.maximum(x, low) end
    if high ~= nil then x = method.minimum(x, high) end
    return x
  end
  low, high = bounds('clamp', low, high)
  local y = clamp(x:to(lifted_by(x.dtype, low, high)), low, high)
  return y
end

--- x:clamp_(min, max): numbers only
function method.clamp_(x, low, high)
  Tensor.check('clamp_', 'input', x)
  low, high = named_bounds('clamp_', low, high)
  low, high = bounds('clamp_', low, high)
  if lifted_by(x.dtype, low, high) ~= x.dtype then
    fail('clamp_: a result of type %s cannot be written to %s %s; use :clamp', lifted_by(x.dtype, low, high), Tensor.shape_text(x), x.dtype)
  end
  local y = in_place('clamp_', x, clamp, function() check(x.K.mt_elementwise_clamp(x._c, x._c, low, high)) end, low, high)
  return y
end

--- torch.lerp(a, b, weight) = a + weight * (b - a); weight is a number or a tensor. The number 1 gives b to the bit.
function method.lerp(a, b, weight)
  local step = method.sub(b, a)
  if type(weight) == 'number' and weight >= 0.5 then return (method.sub(b, method.mul(step, 1 - weight))) end
  return (method.add(a, method.mul(step, weight)))
end

-- ---- operators -----------------------------------------------------------------------------------------------

Tensor.__add = function(a, b) return (method.add(a, b)) end
Tensor.__sub = function(a, b) return (method.sub(a, b)) end
Tensor.__mul = function(a, b) return (method.mul(a, b)) end
Tensor.__div = function(a, b) return (method.div(a, b)) end
Tensor.__mod = function(a, b) return (method.remainder(a, b)) end
Tensor.__pow = function(a, b) return (method.pow(a, b)) end
Tensor.__unm = function(a) return (method.neg(a)) end

return { method = method, torch = torch }
