--- bfloat16: operations on tensors that are stored in half the memory.
--
-- An operation on bfloat16 is that on float32 with the same values, and one rounding of its result; gradients have the types of what
-- they belong to. Kernels that know the type load and store it as it is. Where one does not, the operation runs as its wide form: the
-- arguments are widened to float32, which is exact, its own forward computes in float32, and the result is rounded; for backward the
-- bfloat16 tensors are kept, not their wide copies. So every operation has a meaning on bfloat16, with the same rules on both devices.
--
-- In the definition of an operation (autograd.op), `bfloat16` says what is different:
--   'itself'    it takes the tensors as they are: its kernels know the type (linear, matmul and convolution, say), or it moves elements
--               only (and may give views). It makes its results in the types that belong to them
--   'first'     the same for the first argument, where no other one is bfloat16 (norms)
--   'float32'   sums, losses and the like: results stay float32
--   'operands'  results are bfloat16 only if no argument with dims is of a higher type; otherwise it is the first tensor of floating point
--               that decides (weights and statistics of a norm may be float32)
--   'products'  the first two arguments are multiplied: where both are bfloat16, with the instructions for that (MT_PRECISION_MEDIUM),
--               which changes no product: they are exact, the sums float32; masked convolution whose plan goes through
--               other kernels than convolution's

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check, is_tensor = native.check, Tensor.is_tensor
local floating, version, release = Tensor.floating, Tensor.version, Tensor.methods.release
local MEDIUM = native.cpu.MT_PRECISION_MEDIUM

local bfloat16 = {}

--- bfloat16.converted(x, dtype): a copy of x in another type, without history.
local function converted(x, dtype)
  local y = Tensor.empty_like(x, dtype)
  check(x.K.mt_tensor_copy(y._c, x._c))
  return y
end
bfloat16.converted = converted

local function is_narrow(x) return is_tensor(x) and x.dtype == 'bfloat16' end
bfloat16.is_narrow = is_narrow

--- bfloat16.widened(x): x, or a float32 copy of it without history. For functions that are no operations.
function bfloat16.widened(x)
  if is_narrow(x) then return (converted(x, 'float32')) end
  return x
end

-- fn(...) with the products of bfloat16 instructions on the device of K.
local function restored(K, before, ok, ...)
  check(K.mt_matmul_precision_set(before))
  if not ok then error((...), 0) end
  return ...
end

local function with_products(K, fn, ...)
  local before = K.mt_matmul_precision_get()
  check(K.mt_matmul_precision_set(MEDIUM))
  return restored(K, before, pcall(fn, ...))
end

-- Lets go of copies that nobody holds: results and the fields of ctx may.
local function let_go(ctx, copies, results, count)
  for i = 1, count do
    if results[i] ~= nil then copies[results[i]] = nil end
  end
  for _, value in pairs(ctx) do
    if copies[value] then copies[value] = nil end
  end
  for t in pairs(copies) do release(t) end
end

-- What forward gave: its results rounded; what it kept for backward as the tensors it stands for.
local function finish(ctx, origin, narrow, ...)
  local results, count, stands_for, copies = { ... }, select('#', ...), {}, {}
  for wide, x in pairs(origin) do
    copies[wide], stands_for[wide] = true, x
    if version(wide) > 0 then     -- changed in place
      check(x.K.mt_tensor_copy(x._c, wide._c))
      Tensor.bump(x)
    end
  end
  for i = 1, count do
    local y = results[i]
    if narrow and is_tensor(y) and y.dtype == 'float32' then
      results[i] = stands_for[y] or converted(y, 'bfloat16')
      stands_for[y], copies[y] = results[i], true
      local none = ctx.non_differentiable
      if none and none[y] then none[results[i]] = true end
    end
  end
  local kept = ctx.kept
  if kept then
    ctx.wide = {}
    for i = 1, 15, 2 do
      local x = kept[i] and stands_for[kept[i]]
      if x then kept[i], kept[i + 1], ctx.wide[i] = x, version(x), true end
    end
  end
  let_go(ctx, copies, results, count)
  return unpack(results, 1, count)
end

local function forward_of(op)
  local about = op.bfloat16
  return function(ctx, ...)
    local n, arguments, origin, wide_of = select('#', ...), { ... }, {}, {}
    local first, higher
    for i = 1, n do
      local x = arguments[i]
      if is_narrow(x) then
        first = first or 'bfloat16'
        wide_of[x] = wide_of[x] or converted(x, 'float32')
        origin[wide_of[x]], arguments[i] = x, wide_of[x]
        ctx.narrow = ctx.narrow or {}
        ctx.narrow[i] = true
      elseif is_tensor(x) and floating[x.dtype] then
        first, higher = first or x.dtype, higher or x._c.ndim > 0
      end
    end
    local narrow = about ~= 'float32' and (about == 'operands' and not higher or about ~= 'operands' and first == 'bfloat16')
    if about == 'products' and ctx.narrow[1] and ctx.narrow[2] then
      ctx.products = true
      return finish(ctx, origin, narrow, with_products(arguments[1].K, op.forward, ctx, unpack(arguments, 1, n)))
    end
    return finish(ctx, origin, narrow, op.forward(ctx, unpack(arguments, 1, n)))
  end
end

-- The gradients, each in the type of its argument.
local function narrowed_gradients(ctx, copies, ...)
  local gradients, count = { ... }, select('#', ...)
  for i = 1, count do
    local g = gradients[i]
    if g ~= nil and ctx.narrow[i] and is_tensor(g) and g.dtype == 'float32' then
      gradients[i] = converted(g, 'bfloat16')
      copies[g] = true
    end
  end
  let_go(ctx, copies, gradients, count)
  return unpack(gradients, 1, count)
end

local function backward_of(op)
  return function(ctx, ...)
    local kept, copies, count = ctx.kept, {}, select('#', ...)
    local gradients = { ... }
    for i = 1, count do
      if is_narrow(gradients[i]) then
        gradients[i] = converted(gradients[i], 'float32')
        copies[gradients[i]] = true
        ctx.may_overwrite = true       -- it is nobody else's
      end
    end
    if kept then
      ctx:check_saved()
      local wide = {}
      for i = 1, 15, 2 do
        local x = kept[i]
        if x and ctx.wide[i] then
          x = converted(x, 'float32')
          copies[x] = true
        end
        if x then wide[i], wide[i + 1] = x, version(x) end
      end
      ctx.kept = wide
    end
    local function finished(ok, ...)
      ctx.kept = kept        -- also after an error: a graph that is kept can be walked again
      if not ok then error((...), 0) end
      return narrowed_gradients(ctx, copies, ...)
    end
    if ctx.products then return finished(pcall(with_products, gradients[1].K, op.backward, ctx, unpack(gradients, 1, count))) end
    return finished(pcall(op.backward, ctx, unpack(gradients, 1, count)))
  end
end

--- bfloat16.wide(op): its wide form.
function bfloat16.wide(op)
  local wide = rawget(op, 'wide_form')
  if not wide then
    wide = setmetatable({ name = op.name, parameters = op.parameters, registered = op.registered, bfloat16 = 'itself',
      forward = forward_of(op), backward = backward_of(op) }, getmetatable(op))
    op.wide_form = wide
  end
  return wide
end

return bfloat16
