--- index: operations that move elements by position or by mask.
--
-- Index tensors are int64 or int32 and count from 1; index lists may also be Lua tables. Masks are bool (or uint8) and broadcast.
-- Gradients are summed in the order of the index: the same bits whatever the number of threads.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local widened = require('masked_torch.autograd.bfloat16').widened
local slice = require('masked_torch.autograd.op.slice').internal
local view = require('masked_torch.autograd.op.view').internal

local check, fail, shape_of, shape_text = native.check, native.fail, Tensor.shape_of, Tensor.shape_text
local copy_list = view.copy_list

-- ---- helpers -------------------------------------------------------------------------------------------------

local function copy_of(x)
  local y = Tensor.empty_like(x)
  check(x.K.mt_tensor_copy(y._c, x._c))
  return y
end

local function zeros(op, shape, like, strides)
  local t = Tensor.empty(op, shape, like.dtype, like.device, strides)
  check(t.K.mt_tensor_fill(t._c, 0))
  return t
end

-- A single value that broadcasts to everything.
local function constant(op, value, like)
  local t = Tensor.empty(op, {}, like.dtype, like.device)
  check(t.K.mt_tensor_fill(t._c, value))
  return t
end

-- A number or a boolean that is written to x.
local function number_of(op, argument, value, x)
  if type(value) == 'boolean' then return value and 1 or 0 end
  return Tensor.check_value(op, argument, native.number(op, argument, value), x.dtype)
end

-- The result of an operation that changes x: x itself in place, else a copy.
local function target(x, in_place)
  if not in_place then return copy_of(x) end
  return x
end

local function done(y, in_place)
  if in_place then Tensor.bump(y) end
  return y
end

local function index_of(op, x, index)
  if type(index) == 'table' and not Tensor.is_tensor(index) then
    index = Tensor.from_table(op, index, 'int64', x.device)
  end
  Tensor.check(op, 'index', index)
  Tensor.check_device_of(op, x, 'index', index)
  if index.dtype ~= 'int64' and index.dtype ~= 'int32' then
    fail('%s: index: expected int64 or int32, got %s %s', op, shape_text(index), index.dtype)
  end
  return index
end

-- A tensor, or an object with a method `tensor` (torch.mask).
local function mask_of(op, x, mask)
  if type(mask) == 'table' and not Tensor.is_tensor(mask) and type(mask.tensor) == 'function' then mask = mask:tensor 'bool' end
  Tensor.check(op, 'mask', mask)
  Tensor.check_device_of(op, x, 'mask', mask)
  if mask.dtype ~= 'bool' and mask.dtype ~= 'uint8' then
    fail('%s: mask: expected bool, got %s %s', op, shape_text(mask), mask.dtype)
  end
  return mask
end

-- The broadcast shape of two tensors, and whether it is a's own.
local function broadcast(op, a, b)
  local sa, sb, shape = shape_of(a), shape_of(b), {}
  local n, same = math.max(#sa, #sb), #sa >= #sb
  for d = 1, n do
    local x, y = sa[d - (n - #sa)] or 1, sb[d - (n - #sb)] or 1
    if x ~= y and x ~= 1 and y ~= 1 then
      fail('%s: %s and %s do not broadcast: dim %d has sizes %d and %d', op, shape_text(a), shape_text(b), d, x, y)
    end
    shape[d] = x == 1 and y or x
    same = same and shape[d] == x
  end
  return shape, same
end

-- A list of positions (K) as an index for gather and scatter: stands along dim (0-based), repeats along x's other dims.
local function spread(op, index, dim, shape)
  local n, sizes, strides, full = index:numel(), {}, {}, copy_list(shape)
  if index:dim() > 1 then fail('%s: index: expected one dimension, got %s', op, shape_text(index)) end
  for d = 1, #shape do sizes[d], strides[d] = 1, 0 end
  sizes[dim + 1], full[dim + 1] = n, n
  strides[dim + 1] = index:dim() == 1 and index:stride(1) or 1
  return Tensor.expanded(op, Tensor.as_view(op, index, sizes, strides, 0), full), full
end

-- ---- gather and scatter -------------------------------------------------------------------------------------------

local gather_op = autograd.op{
  name = 'gather',
  forward = function(ctx, x, dim, index, op)
    ctx.shape, ctx.layout, ctx.dim, ctx.op_name = shape_of(x), Tensor.layout_of(x), dim, op
    local y = Tensor.empty_format(op, x, shape_of(index))
    check(x.K.mt_index_gather(y._c, x._c, dim, index._c, op))
    ctx:save(index)
    return y
  end,
  backward = function(ctx, dy)
    local dx = zeros('gather', ctx.shape, dy, ctx.layout)
    check(dy.K.mt_index_scatter_add(dx._c, ctx.dim, ctx:saved()._c, dy._c, 1, ctx.op_name))
    return dx
  end,
}

local scatter_op = autograd.op{
  name = 'scatter',
  forward = function(ctx, x, dim, index, src, op, in_place)
    ctx.dim, ctx.op_name = dim, op
    local y = target(x, in_place)
    check(x.K.mt_index_scatter(y._c, dim, index._c, src._c, op))
    ctx:save(index)
    return done(y, in_place)
  end,
  backward = function(ctx, dy)
    local index, dx, dsrc = ctx:saved(), nil, nil
    if ctx.needs[1] then
      dx = copy_of(dy)
      local zero = Tensor.expanded('scatter', constant('scatter', 0, dy), shape_of(index))
      check(dy.K.mt_index_scatter(dx._c, ctx.dim, index._c, zero._c, ctx.op_name))
    end
    if ctx.needs[4] then
      dsrc = Tensor.empty('scatter', shape_of(index), dy.dtype, dy.device)
      check(dy.K.mt_index_scatter_backward(dsrc._c, dy._c, ctx.dim, index._c, ctx.op_name))
    end
    return dx, nil, nil, dsrc
  end,
}

local scatter_add_op = autograd.op{
  name = 'scatter_add',
  forward = function(ctx, x, dim, index, src, alpha, op, in_place)
    ctx.dim, ctx.alpha, ctx.op_name = dim, alpha, op
    local y = target(x, in_place)
    check(x.K.mt_index_scatter_add(y._c, dim, index._c, src._c, alpha, op))
    ctx:save(index)
    return done(y, in_place)
  end,
  backward = function(ctx, dy)
    local index, dsrc = ctx:saved(), nil
    if ctx.needs[4] then
      dsrc = Tensor.empty('scatter_add', shape_of(index), dy.dtype, dy.device)
      check(dy.K.mt_index_gather(dsrc._c, dy._c, ctx.dim, index._c, ctx.op_name))
      if ctx.alpha ~= 1 then
        local scaled = zeros('scatter_add', shape_of(index), dy)
        check(dy.K.mt_elementwise_add(scaled._c, scaled._c, dsrc._c, ctx.alpha))
        dsrc = scaled
      end
    end
    return dy, nil, nil, dsrc
  end,
}

-- Integers are added in double: exact up to 2^53.
local function add_at(x, dim, index, src, alpha, op, in_place)
  if Tensor.floating[x.dtype] then return (scatter_add_op(x, dim, index, src, alpha, op, in_place)) end
  if src.dtype ~= x.dtype then fail('%s: source: expected %s like the input, got %s %s', op, x.dtype, shape_text(src), src.dtype) end
  if alpha % 1 ~= 0 then fail('%s: alpha: expected a whole number for %s, got %s', op, x.dtype, native.show(alpha)) end
  local sums = scatter_add_op(x:to('float64'), dim, index, src:to('float64'), alpha, op, false)
  return in_place and x:copy_(sums) or sums:to(x.dtype)
end

local method, torch, functional = {}, {}, {}

--- x:gather(dim, index): y[i][j] = x[index[i][j]][j] for dim 1, and so on: index has x's number of dims, the result its shape.
function method.gather(x, dim, index)
  Tensor.check('gather', 'input', x)
  index = index_of('gather', x, index)
  local y = gather_op(x, native.dim('gather', dim, x:dim()), index, 'gather')
  return y
end

--- x:take_along_dim(index, dim): gather whose index broadcasts against x outside dim.
function method.take_along_dim(x, index, dim)
  Tensor.check('take_along_dim', 'input', x)
  index = index_of('take_along_dim', x, index)
  local n = x:dim()
  dim = native.dim('take_along_dim', dim, n)
  if index:dim() ~= n then
    fail('take_along_dim: index: expected %d dimensions, got %s', n, shape_text(index))
  end
  local xs, is = shape_of(x), shape_of(index)
  for d = 1, n do
    if d ~= dim + 1 then
      if xs[d] ~= is[d] and xs[d] ~= 1 and is[d] ~= 1 then
        fail('take_along_dim: index: %s does not broadcast to %s in dim %d', shape_text(index), shape_text(x), d)
      end
      local size = xs[d] == 1 and is[d] or xs[d]
      xs[d], is[d] = size, size
    end
  end
  local y = gather_op(x:expand(xs), dim, Tensor.expanded('take_along_dim', index, is), 'take_along_dim')
  return y
end

-- Arguments (dim, list of positions) as gather and scatter take them: dim (0-based), index, and the index's shape.
local function listed(op, x, dim, index)
  dim = native.dim(op, dim, x:dim())
  return dim, spread(op, index_of(op, x, index), dim, shape_of(x))
end

--- x:index_select(dim, index): the positions listed in index (a tensor or a table) of a dim.
function method.index_select(x, dim, index)
  Tensor.check('index_select', 'input', x)
  local axis, full = listed('index_select', x, dim, index)
  local y = gather_op(x, axis, full, 'index_select')
  return y
end

--- x:repeat_interleave(counts, [dim]): every position of a dim `counts` times (a number, or a list with one count for each);
-- without dim x is flattened.
function method.repeat_interleave(x, counts, dim)
  Tensor.check('repeat_interleave', 'input', x)
  if dim == nil then x, dim = x:flatten(), 1 end
  dim = native.dim('repeat_interleave', dim, x:dim()) + 1
  local n, list = x:size(dim), {}
  if Tensor.is_tensor(counts) then counts = counts:totable() end
  if type(counts) == 'table' and #counts ~= n then
    fail('repeat_interleave: %d counts for dim %d of %s', #counts, dim, shape_text(x))
  end
  for i = 1, n do
    local count = native.integer('repeat_interleave', 'count', type(counts) == 'table' and counts[i] or counts, 0)
    for _ = 1, count do list[#list + 1] = i end
  end
  local y = method.index_select(x, dim, list)
  return y
end

local function source_of(op, x, src, shape)
  if not Tensor.is_tensor(src) then
    return Tensor.expanded(op, constant(op, number_of(op, 'source', src, x), x), shape)
  end
  Tensor.check(op, 'source', src)
  Tensor.check_device_of(op, x, 'source', src)
  return src
end

-- name and name_ of an operation that changes x at positions; build(op, in_place) -> function(x, ...).
local function both(name, build)
  method[name] = build(name, false)
  method[name .. '_'] = build(name .. '_', true)
end

local function begin(op, x, in_place)
  Tensor.check(op, 'input', x)
  if in_place then autograd.check_in_place(op, x) end
end

--- x:scatter(dim, index, src): a copy of x with y[index[i][j]][j] = src[i][j] (dim 1); src is a number or a tensor of index's
-- shape. Where positions repeat the last one stays, and only it gets a gradient. scatter_ writes to x.
both('scatter', function(op, in_place)
  return function(x, dim, index, src)
    begin(op, x, in_place)
    dim, index = native.dim(op, dim, x:dim()), index_of(op, x, index)
    local y = scatter_op(x, dim, index, source_of(op, x, src, shape_of(index)), op, in_place)
    return y
  end
end)

--- x:scatter_add(dim, index, src): like scatter, adding. Sums of integers are exact up to 2^53.
both('scatter_add', function(op, in_place)
  return function(x, dim, index, src)
    begin(op, x, in_place)
    dim, index = native.dim(op, dim, x:dim()), index_of(op, x, index)
    local y = add_at(x, dim, index, source_of(op, x, src, shape_of(index)), 1, op, in_place)
    return y
  end
end)

local index_add_options = { alpha = 1 }

--- x:index_add(dim, index, src, {alpha = 1}): x with alpha * src added to the positions of dim listed in index. alpha may also be a
-- number in that place.
both('index_add', function(op, in_place)
  return function(x, dim, index, src, opts)
    begin(op, x, in_place)
    local axis, full, shape = listed(op, x, dim, index)
    if type(opts) == 'number' then opts = { alpha = opts } end
    local alpha = options.parse(op, index_add_options, opts).alpha
    local y = add_at(x, axis, full, source_of(op, x, src, shape), alpha, op, in_place)
    return y
  end
end)

--- x:index_copy(dim, index, src): x with the positions of dim listed in index replaced by those of src.
both('index_copy', function(op, in_place)
  return function(x, dim, index, src)
    begin(op, x, in_place)
    local axis, full, shape = listed(op, x, dim, index)
    local y = scatter_op(x, axis, full, source_of(op, x, src, shape), op, in_place)
    return y
  end
end)

--- x:index_fill(dim, index, value): x with the positions of dim listed in index set to a number.
both('index_fill', function(op, in_place)
  return function(x, dim, index, value)
    begin(op, x, in_place)
    local axis, full, shape = listed(op, x, dim, index)
    local y = scatter_op(x, axis, full, source_of(op, x, number_of(op, 'value', value, x), shape), op, in_place)
    return y
  end
end)

-- ---- masks -------------------------------------------------------------------------------------------------------

local function filled(x, mask, value, y)
  y = y or Tensor.empty_like(x)
  check(x.K.mt_index_masked_fill(y._c, x._c, mask._c, value))
  return y
end

local masked_fill_op = autograd.op{
  name = 'masked_fill',
  forward = function(ctx, x, mask, value, in_place)
    ctx:save(mask)
    return done(filled(x, mask, value, in_place and x or nil), in_place)
  end,
  backward = function(ctx, dy) return filled(dy, ctx:saved(), 0) end,
}

--- x:masked_fill(mask, value): value where mask is true, x elsewhere.
both('masked_fill', function(op, in_place)
  return function(x, mask, value)
    begin(op, x, in_place)
    mask = mask_of(op, x, mask)
    local shape, same = broadcast(op, x, mask)
    if not same then
      if in_place then fail('%s: mask: %s does not broadcast to %s', op, shape_text(mask), shape_text(x)) end
      x = x:expand(shape)
    end
    local y = masked_fill_op(x, mask, number_of(op, 'value', value, x), in_place)
    return y
  end
end)

local function selected(x, mask)
  local count = ffi.new('int64_t[1]')
  check(x.K.mt_index_count(count, mask._c), native.capture and 'masked_select (x[mask])')
  local y = Tensor.empty('masked_select', { tonumber(count[0]) }, x.dtype, x.device)
  check(x.K.mt_index_masked_select(y._c, x._c, mask._c))
  return y
end

local masked_select_op = autograd.op{
  name = 'masked_select',
  forward = function(ctx, x, mask)
    ctx.shape, ctx.layout = shape_of(x), Tensor.layout_of(x)
    ctx:save(mask)
    return selected(x, mask)
  end,
  backward = function(ctx, dy)
    local dx = zeros('masked_select', ctx.shape, dy, ctx.layout)
    check(dy.K.mt_index_masked_scatter(dx._c, ctx:saved()._c, dy._c))
    return dx
  end,
}

--- x:masked_select(mask): the elements where mask is true, in row-major order, as one dimension. x[mask] is the same.
function method.masked_select(x, mask)
  Tensor.check('masked_select', 'input', x)
  mask = mask_of('masked_select', x, mask)
  local shape, same = broadcast('masked_select', x, mask)
  if not same then x = x:expand(shape) end
  local y = masked_select_op(x, Tensor.expanded('masked_select', mask, shape))
  return y
end

local masked_scatter_op = autograd.op{
  name = 'masked_scatter',
  forward = function(ctx, x, mask, src, in_place)
    ctx.count = src:numel()
    local y = target(x, in_place)
    check(x.K.mt_index_masked_scatter(y._c, mask._c, src._c))
    ctx:save(mask)
    return done(y, in_place)
  end,
  backward = function(ctx, dy)
    local mask, dx, dsrc = ctx:saved(), nil, nil
    if ctx.needs[1] then dx = filled(dy, mask, 0) end
    if ctx.needs[3] then
      dsrc = zeros('masked_scatter', { ctx.count }, dy)
      local used = selected(dy, mask)
      local head = Tensor.as_view('masked_scatter', dsrc, shape_of(used), { 1 }, 0)
      check(dy.K.mt_tensor_copy(head._c, used._c))
    end
    return dx, nil, dsrc
  end,
}

--- x:masked_scatter(mask, src): x with the places where mask is true taken by the elements of src, both in row-major order.
both('masked_scatter', function(op, in_place)
  return function(x, mask, src)
    begin(op, x, in_place)
    mask = mask_of(op, x, mask)
    Tensor.check(op, 'source', src)
    Tensor.check_device_of(op, x, 'source', src)
    local y = masked_scatter_op(x, Tensor.expanded(op, mask, shape_of(x)), src:flatten(), in_place)
    return y
  end
end)

--- x:nonzero(): the positions of the elements that are not 0 as rows of an int64 tensor (count, dims), in row-major order.
function method.nonzero(x)
  x = widened(Tensor.check('nonzero', 'input', x))
  local count = ffi.new('int64_t[1]')
  check(x.K.mt_index_count(count, x._c))
  local y = Tensor.empty('nonzero', { tonumber(count[0]), x:dim() }, 'int64', x.device)
  check(x.K.mt_index_nonzero(y._c, x._c))
  return y
end

local function triangle(op, x, diagonal, upper)
  Tensor.check(op, 'input', x)
  local n = x:dim()
  if n < 2 then fail('%s: expected at least 2 dimensions, got %s', op, shape_text(x)) end
  local mask = Tensor.empty(op, { x:size(n - 1), x:size(n) }, 'bool', x.device)
  check(x.K.mt_index_triangle(mask._c, native.integer(op, 'diagonal', diagonal or 0), upper))
  return masked_fill_op(x, mask, 0, false)
end

--- x:tril([diagonal = 0]): 0 above that diagonal of the last two dims.
function method.tril(x, diagonal)
  local y = triangle('tril', x, diagonal, 1)
  return y
end

--- x:triu([diagonal = 0]): 0 below that diagonal of the last two dims.
function method.triu(x, diagonal)
  local y = triangle('triu', x, diagonal, 0)
  return y
end

--- F.one_hot(index, [classes = largest value]): int64 (*, classes) with a 1 at each label (1-based).
function functional.one_hot(index, classes)
  Tensor.check('one_hot', 'index', index)
  index_of('one_hot', index, index)
  if classes == nil then
    classes = 0
    local values = ffi.new('double[?]', math.max(1, index:numel()))
    check(index.K.mt_tensor_read(values, index._c))
    for i = 0, index:numel() - 1 do classes = math.max(classes, values[i]) end
  end
  local shape = shape_of(index)
  shape[#shape + 1] = native.integer('one_hot', 'classes', classes, 0)
  local y = Tensor.empty('one_hot', shape, 'int64', index.device)
  check(y.K.mt_tensor_fill(y._c, 0))
  local last = index:detach():unsqueeze(-1)
  local one = Tensor.expanded('one_hot', constant('one_hot', 1, y), shape_of(last))
  check(y.K.mt_index_scatter(y._c, #shape - 1, last._c, one._c, 'one_hot'))
  return y
end

-- ---- assignment by index ------------------------------------------------------------------------------------------

-- What t[key] = value means, worked out by tensor/index.lua: entries names a region of t (slice.lua); index, when there is one,
-- lists positions along dim (0-based) of that region; mask, alone, has t's shape.
local function place(plan, t)
  local shape, strides, offset = slice.region(shape_of(t), t:stride(), plan.entries)
  return Tensor.as_view('index', t, shape, strides, view.product(shape) > 0 and offset or 0)
end

-- Shape of the values the plan takes.
local function place_shape(plan, t)
  if plan.mask then
    local count = ffi.new('int64_t[1]')
    check(t.K.mt_index_count(count, plan.mask._c))
    return { tonumber(count[0]) }
  end
  local shape = slice.region(shape_of(t), t:stride(), plan.entries)
  if plan.index then shape[plan.dim + 1] = plan.index:numel() end
  return shape
end

local function write(plan, t, value)
  if plan.mask then
    check(t.K.mt_index_masked_scatter(t._c, plan.mask._c, value._c))
  elseif plan.index then
    local window = place(plan, t)
    local full = spread('index', plan.index, plan.dim, shape_of(window))
    check(t.K.mt_index_scatter(window._c, plan.dim, full._c, value._c, 'index'))
  else
    check(t.K.mt_tensor_copy(place(plan, t)._c, value._c))
  end
end

local function read_gradient(plan, dy)
  if plan.mask then return selected(dy, plan.mask) end
  local window = place(plan, dy)
  if not plan.index then return window end
  local full, shape = spread('index', plan.index, plan.dim, shape_of(window))
  local g = Tensor.empty('index', shape, dy.dtype, dy.device)
  check(dy.K.mt_index_scatter_backward(g._c, window._c, plan.dim, full._c, 'index'))
  return g
end

-- value: a tensor of any dtype that broadcasts to the place.
local assign_op = autograd.op{
  name = 'assign',
  forward = function(ctx, x, value, plan)
    ctx.plan, ctx.shape, ctx.dtype = plan, shape_of(value), value.dtype
    ctx:save(plan.mask or plan.index)
    if value._c.storage == x._c.storage or value.dtype ~= x.dtype then
      local converted = Tensor.empty('index', ctx.shape, x.dtype, x.device)
      check(x.K.mt_tensor_copy(converted._c, value._c))
      value = converted
    end
    write(plan, x, Tensor.expanded('index', value, place_shape(plan, x)))
    Tensor.bump(x)
    return x
  end,
  backward = function(ctx, dy)
    local dx, dvalue
    ctx:saved()
    if ctx.needs[2] then dvalue = Tensor.sum_to(read_gradient(ctx.plan, dy), ctx.shape, ctx.dtype) end
    if ctx.needs[1] then
      dx = copy_of(dy)
      write(ctx.plan, dx, Tensor.expanded('index', constant('index', 0, dy), place_shape(ctx.plan, dy)))
    end
    return dx, dvalue
  end,
}

--- Writes value (number, boolean, table or tensor) to the place the plan names. For tensor/index.lua.
local function assign(x, plan, value)
  autograd.check_in_place('index', x)
  if native.cpu.mt_tensor_is_dense(x._c) == 0 then
    fail('index: several elements of %s share memory (an expanded view); write to a :clone()', shape_text(x))
  end
  if Tensor.is_tensor(value) then
    Tensor.check('index', 'value', value)
    Tensor.check_device_of('index', x, 'value', value)
  elseif type(value) == 'table' then
    value = Tensor.from_table('index', value, x.dtype, x.device)
  elseif type(value) == 'number' or type(value) == 'boolean' then
    value = constant('index', number_of('index', 'value', value, x), x)
  else
    fail('index: value: expected a number, a boolean, a table or a tensor, got %s', type(value))
  end
  assign_op(x, value, plan)
end

return {
  method = method, torch = torch, functional = functional,
  -- for the stem pad and for tensor/index.lua
  internal = { zeros = zeros, assign = assign },
}
