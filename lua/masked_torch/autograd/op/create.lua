--- create: tensors from sizes, numbers and tables; copies and conversions; single elements.
--
-- Sizes are numbers or one table, followed by options {dtype = 'float32', device = 'cpu', requires_grad = false}. Data comes in
-- through torch.tensor only. Positions are 1-based, ranges inclusive.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local widened = require('masked_torch.autograd.bfloat16').widened
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local sizes = require 'masked_torch.tensor.sizes'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local torch, method = {}, {}

-- ---- constants -----------------------------------------------------------------------------------------------

local function filled(op, shape, opts, value)
  local t = Tensor.empty(op, shape, opts.dtype, opts.device)
  check(t.K.mt_tensor_fill(t._c, value))
  return sizes.finish(t, opts)
end

--- torch.empty(sizes..., [options]): uninitialised elements.
function torch.empty(...)
  local shape, opts = sizes.parse('empty', nil, ...)
  return sizes.finish(Tensor.empty('empty', shape, opts.dtype, opts.device), opts)
end

--- torch.zeros(sizes..., [options])
function torch.zeros(...)
  local shape, opts = sizes.parse('zeros', nil, ...)
  return (filled('zeros', shape, opts, 0))
end

--- torch.ones(sizes..., [options])
function torch.ones(...)
  local shape, opts = sizes.parse('ones', nil, ...)
  return (filled('ones', shape, opts, 1))
end

-- A number or a boolean as a number, and the dtype it suggests.
local function scalar(op, value)
  if type(value) == 'boolean' then return value and 1 or 0, 'bool' end
  return native.number(op, 'value', value), 'float32'
end

--- torch.full({sizes}, value, [options]): the default dtype is float32, bool for a boolean.
function torch.full(shape, value, opts)
  local number, dtype = scalar('full', value)
  shape = sizes.shape('full', shape)
  opts = sizes.options('full', opts, { dtype = dtype })
  return (filled('full', shape, opts, Tensor.check_value('full', 'value', number, opts.dtype)))
end

--- torch.eye(n, [m], [options]): ones on the diagonal of an (n, m) matrix; m = n by default.
function torch.eye(n, m, opts)
  if type(m) == 'table' then m, opts = nil, m end
  n = native.integer('eye', 'n', n, 0)
  m = m == nil and n or native.integer('eye', 'm', m, 0)
  opts = sizes.options('eye', opts)
  local t = Tensor.empty('eye', { n, m }, opts.dtype, opts.device)
  check(t.K.mt_tensor_fill(t._c, 0))
  local diagonal = Tensor.as_view('eye', t, { math.min(n, m) }, { m + 1 }, 0)
  check(t.K.mt_tensor_fill(diagonal._c, 1))
  return sizes.finish(t, opts)
end

-- ---- data ----------------------------------------------------------------------------------------------------

--- torch.tensor(data, [options]): nested tables of numbers or booleans, a number or a boolean. Rows must have equal lengths.
-- The default dtype is float32, bool for booleans.
function torch.tensor(data, opts)
  opts = sizes.options('tensor', opts, { dtype = options.any(nil) })
  return sizes.finish(Tensor.from_table('tensor', data, opts.dtype, opts.device), opts)
end

-- A 1-D tensor of f(0), ..., f(n - 1).
local function sequence(op, n, opts, f)
  local t, piece = Tensor.empty(op, { n }, opts.dtype, opts.device), 65536
  local values = ffi.new('double[?]', piece)
  for from = 0, n - 1, piece do
    local count = math.min(piece, n - from)
    for i = 0, count - 1 do values[i] = f(from + i) end
    check(t.K.mt_tensor_write(Tensor.as_view(op, t, { count }, { 1 }, from)._c, values))
  end
  return sizes.finish(t, opts)
end

--- torch.range(first, last, [step = 1], [options]): first, first + step, ..., up to and including last. float32 by default.
function torch.range(first, last, step, opts)
  if type(step) == 'table' then step, opts = nil, step end
  native.number('range', 'first', first)
  native.number('range', 'last', last)
  step = native.number('range', 'step', step == nil and 1 or step)
  local count = (last - first) / step
  if step == 0 or count ~= count or math.abs(count) >= 2 ^ 53 then
    fail('range: expected finite bounds and a step other than 0, got %g, %g, %g', first, last, step)
  end
  -- 0.3 / 0.1 is a little below 3: a whole count is reached up to rounding.
  local n = math.floor(count + 1e-9 * math.max(1, math.abs(count))) + 1
  return (sequence('range', math.max(0, n), sizes.options('range', opts), function(i) return first + i * step end))
end

--- torch.linspace(first, last, steps, [options]): `steps` evenly spaced numbers that begin with first and end with last.
function torch.linspace(first, last, steps, opts)
  native.number('linspace', 'first', first)
  native.number('linspace', 'last', last)
  steps = native.integer('linspace', 'steps', steps, 0, 2 ^ 40)
  local step = steps > 1 and (last - first) / (steps - 1) or 0
  return (sequence('linspace', steps, sizes.options('linspace', opts), function(i)
    if 2 * i < steps then return first + i * step end   -- symmetric: each half counts from its own end
    return last - (steps - 1 - i) * step
  end))
end

-- ---- like another tensor -----------------------------------------------------------------------------------

local function like(op, x, opts)
  Tensor.check(op, 'input', x)
  opts = sizes.options(op, opts, { dtype = x.dtype, device = x.device })
  if opts.device ~= x.device then return Tensor.empty(op, x:size(), opts.dtype, opts.device), opts end
  return Tensor.empty_like(x, opts.dtype), opts
end

local function filled_like(op, x, value, opts)
  local t
  t, opts = like(op, x, opts)
  check(t.K.mt_tensor_fill(t._c, Tensor.check_value(op, 'value', value, t.dtype)))
  return sizes.finish(t, opts)
end

--- torch.empty_like(x, [options]): x's shape, dtype, device and memory format.
function torch.empty_like(x, opts)
  local t
  t, opts = like('empty_like', x, opts)
  return sizes.finish(t, opts)
end

--- torch.zeros_like(x, [options])
function torch.zeros_like(x, opts) return (filled_like('zeros_like', x, 0, opts)) end
--- torch.ones_like(x, [options])
function torch.ones_like(x, opts) return (filled_like('ones_like', x, 1, opts)) end
--- torch.full_like(x, value, [options])
function torch.full_like(x, value, opts) return (filled_like('full_like', x, (scalar('full_like', value)), opts)) end

-- ---- copies and conversions ----------------------------------------------------------------------------------

local clone = autograd.op{
  name = 'clone',
  bfloat16 = 'itself',
  forward = function(_, x)
    local y = Tensor.empty_like(x)
    check(x.K.mt_tensor_copy(y._c, x._c))
    return y
  end,
  backward = function(_, dy) return dy end,
}

--- x:clone(): a copy with memory of its own in x's memory format.
function method.clone(x)
  Tensor.check('clone', 'input', x)
  local y = clone(x)
  return y
end

-- x converted to another dtype or device, in its memory format. Either library copies within its memory, CUDA's between the two.
local function moved(x, dtype, device)
  local y, K
  if device == x.device then
    y, K = Tensor.empty_like(x, dtype), x.K
  else
    y = Tensor.empty('to', x:size(), dtype, device, Tensor.layout_of(x))
    K = device == 'cpu' and x.K or y.K
  end
  check(K.mt_tensor_copy(y._c, x._c))
  return y
end

local cast = autograd.op{
  name = 'to',
  bfloat16 = 'itself',
  forward = function(ctx, x, dtype, device)
    ctx.dtype, ctx.device = x.dtype, x.device
    return moved(x, dtype, device)
  end,
  backward = function(ctx, dy) return moved(dy, ctx.dtype, ctx.device) end,
}

--- x:to(dtype), x:to(device), x:to{dtype =, device =}: x itself when nothing changes, else a converted copy. Float to integer
-- truncates towards zero; to bool: x ~= 0. The gradient is converted back.
function method.to(x, target)
  Tensor.check('to', 'input', x)
  if target == x.dtype then return x end
  local opts = options.parse('to', { dtype = x.dtype, device = x.device }, Tensor.conversion(target))
  Tensor.check_dtype('to', opts.dtype)
  local device = Tensor.check_device('to', opts.device)
  if opts.dtype == x.dtype and device == x.device then return x end
  local y = cast(x, opts.dtype, device)
  return y
end

local CASTS = { float = 'float32', double = 'float64', long = 'int64', int = 'int32', byte = 'uint8', bool = 'bool',
  bfloat16 = 'bfloat16' }
for name, dtype in pairs(CASTS) do
  --- x:float(), :double(), :long(), :int(), :byte(), :bool(), :bfloat16()
  method[name] = function(x)
    local y = method.to(x, dtype)
    return y
  end
end

--- x:cpu()
function method.cpu(x)
  local y = method.to(x, 'cpu')
  return y
end

--- x:cuda([number])
function method.cuda(x, number)
  if number ~= nil then native.integer('cuda', 'device', number, 0) end
  local y = method.to(x, number and 'cuda:' .. number or 'cuda')
  return y
end

-- ---- in place ------------------------------------------------------------------------------------------------

--- Tensor.expanded(op, x, shape): x broadcast to a shape as a view that repeats memory; no autograd.
function Tensor.expanded(op, x, shape)
  local own, stride = x:size(), x:stride()
  local missing = #shape - #own
  local strides = {}
  for d = 1, #shape do
    local size = own[d - missing] or 1
    if missing < 0 or (size ~= shape[d] and size ~= 1) then
      fail('%s: %s does not broadcast to (%s)', op, Tensor.shape_text(x), table.concat(shape, ', '))
    end
    strides[d] = size == 1 and 0 or stride[d - missing]
  end
  return Tensor.as_view(op, x, shape, strides, 0)
end

--- Tensor.sum_to(g, shape, dtype): the gradient g of a broadcast operand, summed to its shape and converted to its dtype.
function Tensor.sum_to(g, shape, dtype)
  if not Tensor.has_shape(g, shape) then
    local computed = Tensor.kernel_type(g.dtype)
    local sum = Tensor.empty('sum_to', shape, Tensor.kernel_type(dtype) == computed and dtype or computed, g.device)
    check(g.K.mt_elementwise_sum_to(sum._c, g._c))
    g = sum
  end
  if g.dtype ~= dtype then
    local converted = Tensor.empty_like(g, dtype)
    check(g.K.mt_tensor_copy(converted._c, g._c))
    g = converted
  end
  return g
end

local copy_ = autograd.op{
  name = 'copy_',
  bfloat16 = 'itself',
  forward = function(ctx, x, source)
    ctx.shape, ctx.dtype, ctx.device = source:size(), source.dtype, source.device
    local K = x.device == 'cpu' and source.K or x.K
    check(K.mt_tensor_copy(x._c, Tensor.expanded('copy_', source, x:size())._c))
    Tensor.bump(x)
    return x
  end,
  backward = function(ctx, dy)
    if not ctx.needs[2] then return nil end
    local d = Tensor.sum_to(dy, ctx.shape, ctx.dtype)
    return nil, d.device == ctx.device and d or moved(d, d.dtype, ctx.device)
  end,
}

--- x:copy_(source): x = source, from any device, broadcast to x's shape and converted to its dtype. Returns x.
function method.copy_(x, source)
  Tensor.check('copy_', 'input', x)
  Tensor.check('copy_', 'source', source)
  autograd.check_in_place('copy_', x)
  local y = copy_(x, source)
  return y
end

local fill_ = autograd.op{
  name = 'fill_',
  bfloat16 = 'itself',
  forward = function(_, x, value)
    check(x.K.mt_tensor_fill(x._c, value))
    Tensor.bump(x)
    return x
  end,
  backward = function() return nil end,   -- the old values are gone
}

--- x:fill_(value): a number or a boolean. Returns x.
function method.fill_(x, value)
  Tensor.check('fill_', 'input', x)
  local number = Tensor.check_value('fill_', 'value', scalar('fill_', value), x.dtype)
  autograd.check_in_place('fill_', x)
  local y = fill_(x, number)
  return y
end

--- x:zero_()
function method.zero_(x)
  Tensor.check('zero_', 'input', x)
  autograd.check_in_place('zero_', x)
  local y = fill_(x, 0)
  return y
end

-- ---- single elements -----------------------------------------------------------------------------------------

local element = ffi.new('double[1]')
local position = ffi.new('int64_t[8]')

local function locate(op, x, n, ...)
  Tensor.check(op, 'input', x)
  if n ~= x._c.ndim then fail('%s: expected %d positions for %s, got %d', op, x._c.ndim, Tensor.shape_text(x), n) end
  for d = 1, n do
    local i = native.integer(op, 'position ' .. d, (select(d, ...)))
    position[d - 1] = i < 0 and tonumber(x._c.shape[d - 1]) + i or i - 1
  end
end

--- x:get(i, j, ...): one element as a Lua number (boolean for bool). Positions count from 1, negative ones from the end.
function method.get(x, ...)
  locate('get', x, select('#', ...), ...)
  check(x.K.mt_tensor_get(element, x._c, position))
  if x.dtype == 'bool' then return element[0] ~= 0 end
  return element[0]
end

local set = autograd.op{
  name = 'set',
  bfloat16 = 'itself',
  forward = function(ctx, x, at, value)
    ctx.at = at
    check(x.K.mt_tensor_set(x._c, at, value))
    Tensor.bump(x)
    return x
  end,
  backward = function(ctx, dy)
    local dx = Tensor.empty_like(dy)
    check(dy.K.mt_tensor_copy(dx._c, dy._c))
    check(dy.K.mt_tensor_set(dx._c, ctx.at, 0))   -- the old value is gone
    return dx
  end,
}

--- x:set(i, j, ..., value): writes one element. Returns x.
function method.set(x, ...)
  local n = select('#', ...)
  if n == 0 then fail('set: value: expected a number, got nothing') end
  local value = scalar('set', (select(n, ...)))
  locate('set', x, n - 1, ...)
  Tensor.check_value('set', 'value', value, x.dtype)
  autograd.check_in_place('set', x)
  local y = set(x, ffi.new('int64_t[8]', position), value)
  return y
end

-- ---- comparisons of whole tensors ------------------------------------------------------------------------------

local different = ffi.new('double[1]')

local function differences(op, a, b, opts)
  Tensor.check(op, 'input', a)
  Tensor.check(op, 'other', b)
  Tensor.check_device_of(op, a, 'other', b)
  if not Tensor.same_shape(a, b) then return nil end
  if a.dtype ~= b.dtype then a, b = a:detach():to('float64'), b:detach():to('float64') end
  a, b = widened(a), widened(b)
  check(a.K.mt_elementwise_differences(different, a._c, b._c, opts.rtol, opts.atol, opts.equal_nan and 1 or 0))
  return different[0]
end

--- torch.equal(a, b): the same shape and the same values (NaN equals nothing).
function method.equal(a, b)
  return differences('equal', a, b, { rtol = 0, atol = 0 }) == 0
end

--- torch.allclose(a, b, {rtol = 1e-5, atol = 1e-8, equal_nan = false}): the same shape and |a - b| <= atol + rtol |b| everywhere.
function method.allclose(a, b, opts)
  return differences('allclose', a, b, options.parse('allclose', { rtol = 1e-5, atol = 1e-8, equal_nan = false }, opts)) == 0
end

return { torch = torch, method = method }
