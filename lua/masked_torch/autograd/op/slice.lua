--- slice: views of a part of a tensor, and the copies that reorder one (flip, roll). Positions are 1-based, negative ones count
-- from the end; ranges are (first, length).

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local view = require('masked_torch.autograd.op.view').internal

local check, fail, shape_of, shape_text = native.check, native.fail, Tensor.shape_of, Tensor.shape_text
local product, copy_list, text, sizes_of, mark, reshape =
  view.product, view.copy_list, view.text, view.sizes_of, view.mark, view.reshape

-- ---- operations ----------------------------------------------------------------

-- geometry(shape, strides, ...) -> shape, strides, offset of the view. The gradient is zero outside the view.
local function part(name, geometry)
  local function window(t, shape, ...)
    local new, strides, offset = geometry(shape, t:stride(), ...)
    return Tensor.as_view(name, t, new, strides, product(new) > 0 and offset or 0)
  end
  return autograd.op{
    name = name,
    bfloat16 = 'itself',
    forward = function(ctx, x, ...)
      ctx.shape, ctx.strides, ctx.geometry = shape_of(x), Tensor.layout_of(x), { ... }
      return window(x, ctx.shape, ...)
    end,
    backward = function(ctx, dy)
      local dx = Tensor.empty(name, ctx.shape, dy.dtype, dy.device, ctx.strides)
      check(dx.K.mt_tensor_fill(dx._c, 0))
      check(dx.K.mt_tensor_copy(window(dx, ctx.shape, unpack(ctx.geometry))._c, dy._c))
      return dx
    end,
  }
end

-- Every `step`-th of the positions from `first` (0-based).
local narrow_op = part('narrow', function(shape, strides, dim, first, length, step)
  shape, strides = copy_list(shape), copy_list(strides)
  local offset = first * strides[dim]
  shape[dim], strides[dim] = length, strides[dim] * step
  return shape, strides, offset
end)

local select_op = autograd.op{
  name = 'select',
  bfloat16 = 'itself',
  forward = function(ctx, x, dim, position)
    if ctx.wanted then
      ctx.shape, ctx.strides = shape_of(x), Tensor.layout_of(x)
      ctx.dim, ctx.position = dim, position
    end
    return Tensor.select_view(x, dim - 1, position)
  end,
  backward = function(ctx, dy)
    local dx = Tensor.empty('select', ctx.shape, dy.dtype, dy.device, ctx.strides)
    check(dx.K.mt_tensor_fill(dx._c, 0))
    check(dx.K.mt_tensor_copy(Tensor.select_view(dx, ctx.dim - 1, ctx.position)._c, dy._c))
    return dx
  end,
}

-- What t[{...}] names: entries[d] is {first, length, step} (0-based), a 0-based position (the dim disappears) or nil (all).
local function region(shape, strides, entries)
  local new_shape, new_strides, offset = {}, {}, 0
  for d = 1, #shape do
    local entry = entries[d]
    if type(entry) == 'number' then
      offset = offset + entry * strides[d]
    else
      local n = #new_shape + 1
      if entry then offset = offset + entry[1] * strides[d] end
      new_shape[n] = entry and entry[2] or shape[d]
      new_strides[n] = entry and entry[3] * strides[d] or strides[d]
    end
  end
  return new_shape, new_strides, offset
end
local region_op = part('index', region)

-- The diagonal becomes the last dim.
local diagonal_op = part('diagonal', function(shape, strides, offset, dim1, dim2)
  local rows, columns, row, column = shape[dim1], shape[dim2], strides[dim1], strides[dim2]
  local new_shape, new_strides = {}, {}
  for d = 1, #shape do
    if d ~= dim1 and d ~= dim2 then
      new_shape[#new_shape + 1], new_strides[#new_strides + 1] = shape[d], strides[d]
    end
  end
  local length = math.max(0, offset >= 0 and math.min(rows, columns - offset) or math.min(rows + offset, columns))
  new_shape[#new_shape + 1], new_strides[#new_strides + 1] = length, row + column
  return new_shape, new_strides, offset >= 0 and offset * column or -offset * row
end)

-- Windows overlap where size > step: their gradients are added position by position, in an order given by the shape.
local unfold_op = autograd.op{
  name = 'unfold',
  bfloat16 = 'itself',
  forward = function(ctx, x, dim, size, step)
    ctx.shape, ctx.dim, ctx.window, ctx.step = shape_of(x), dim, size, step
    local shape, strides = copy_list(ctx.shape), x:stride()
    shape[#shape + 1], strides[#strides + 1] = size, strides[dim]
    shape[dim], strides[dim] = math.floor((shape[dim] - size) / step) + 1, strides[dim] * step
    return Tensor.as_view('unfold', x, shape, strides, 0)
  end,
  backward = function(ctx, dy)
    local dim, dx = ctx.dim, Tensor.empty('unfold', ctx.shape, dy.dtype, dy.device)
    check(dx.K.mt_tensor_fill(dx._c, 0))
    if dy:numel() == 0 then return dx end
    local shape, strides, from = shape_of(dy), dx:stride(), dy:stride()
    local last = #shape
    shape[last] = nil
    local from_step = from[last]
    from[last] = nil
    local one = strides[dim]
    strides[dim] = one * ctx.step
    for position = 0, ctx.window - 1 do
      local target = Tensor.as_view('unfold', dx, shape, strides, position * one)
      local source = Tensor.as_view('unfold', dy, shape, from, position * from_step)
      check(dx.K.mt_elementwise_add(target._c, target._c, source._c, 1))
    end
    return dx
  end,
}

-- ---- copies ------------------------------------------------------------------------------------------------------

local function flipped(x, flags)
  local y = Tensor.empty_like(x)
  check(x.K.mt_index_flip(y._c, x._c, flags))
  return y
end

local flip_op = autograd.op{
  name = 'flip',
  forward = function(ctx, x, flags)
    ctx.flags = flags
    return flipped(x, flags)
  end,
  backward = function(ctx, dy) return flipped(dy, ctx.flags) end,
}

-- y[(i + shift) mod n] = x[i] along dim, 0 <= shift < n.
local function rolled(x, dim, shift)
  local shape, y = shape_of(x), Tensor.empty_like(x)
  if x:numel() == 0 then return y end
  local n = shape[dim]
  local to, from = y:stride(), x:stride()
  local function move(length, target, source)
    shape[dim] = length
    local a = Tensor.as_view('roll', y, shape, to, target * to[dim])
    local b = Tensor.as_view('roll', x, shape, from, source * from[dim])
    check(x.K.mt_tensor_copy(a._c, b._c))
  end
  if shift > 0 then move(shift, 0, n - shift) end
  if n > shift then move(n - shift, shift, 0) end
  return y
end

local roll_op = autograd.op{
  name = 'roll',
  bfloat16 = 'itself',
  forward = function(ctx, x, dim, shift)
    ctx.dim, ctx.shift = dim, shift
    return rolled(x, dim, shift)
  end,
  backward = function(ctx, dy)
    local n = dy:size(ctx.dim)
    return rolled(dy, ctx.dim, ctx.shift > 0 and n - ctx.shift or 0)
  end,
}

-- ---- public functions --------------------------------------------------------------------------------------------

local method = {}

-- first is 1-based here and may count from the end.
local function narrowed(op, x, dim, first, length, step)
  local size = tonumber(x._c.shape[dim - 1])
  native.integer(op, 'first', first)
  native.integer(op, 'length', length, 0)
  local start = first < 0 and size + first or first - 1
  local last = length > 0 and start + (length - 1) * step or start - 1
  if first == 0 or start < 0 or last >= size then
    fail('%s: %d elements from %d are outside 1..%d (dim %d of %s)', op, length, first, size, dim, shape_text(x))
  end
  local y = narrow_op(x, dim, start, length, step)
  return mark(y, x)
end

--- x:narrow(dim, first, length): the positions first .. first + length - 1 of a dim. Shares memory.
function method.narrow(x, dim, first, length)
  Tensor.check('narrow', 'input', x)
  dim = native.dim('narrow', dim, x:dim()) + 1
  local y = narrowed('narrow', x, dim, first, length, 1)
  return y
end

-- 1-based position, negative from the end, as the 0-based one.
local function position(op, x, dim, i)
  local size = tonumber(x._c.shape[dim - 1])
  if type(i) ~= 'number' or i % 1 ~= 0 then fail('%s: index: expected a whole number, got %s', op, native.show(i)) end
  if i == 0 or i > size or i < -size then
    fail('%s: index %d is outside 1..%d (dim %d of %s)%s', op, i, size, dim, shape_text(x), i == 0 and '; positions count from 1' or '')
  end
  return i > 0 and i - 1 or size + i
end

--- x:select(dim, i): position i of a dim, which disappears. Shares memory.
function method.select(x, dim, i)
  Tensor.check('select', 'input', x)
  dim = native.dim('select', dim, x:dim()) + 1
  local y = select_op(x, dim, position('select', x, dim, i))
  return mark(y, x)
end

--- x:split(size or {sizes}, [dim = 1]): a table of views of that length along dim (the last may be shorter), or of those sizes.
function method.split(x, size, dim)
  Tensor.check('split', 'input', x)
  dim = native.dim('split', dim or 1, x:dim()) + 1
  local total, parts, first = x:size(dim), {}, 1
  if type(size) == 'table' then
    local sum = 0
    for _, n in ipairs(size) do sum = sum + native.integer('split', 'size', n, 0) end
    if sum ~= total then
      fail('split: sizes %s add up to %d, dim %d of %s has %d', text(size), sum, dim, shape_text(x), total)
    end
    for i, n in ipairs(size) do
      parts[i] = narrowed('split', x, dim, first, n, 1)
      first = first + n
    end
    return parts
  end
  native.integer('split', 'size', size, 1)
  repeat
    parts[#parts + 1] = narrowed('split', x, dim, first, math.min(size, total - first + 1), 1)
    first = first + size
  until first > total
  return parts
end

--- x:chunk(count, [dim = 1]): a table of at most `count` views of equal length (the last may be shorter).
function method.chunk(x, count, dim)
  Tensor.check('chunk', 'input', x)
  native.integer('chunk', 'count', count, 1)
  dim = native.dim('chunk', dim or 1, x:dim()) + 1
  return method.split(x, math.max(1, math.ceil(x:size(dim) / count)), dim)
end

--- x:unbind([dim = 1]): a table of the sub-tensors along dim.
function method.unbind(x, dim)
  Tensor.check('unbind', 'input', x)
  dim = native.dim('unbind', dim or 1, x:dim()) + 1
  local parts = {}
  for i = 1, x:size(dim) do parts[i] = method.select(x, dim, i) end
  return parts
end

--- x:flip(dims): a copy with the order along these dims reversed.
function method.flip(x, ...)
  Tensor.check('flip', 'input', x)
  local flags, n = 0, x:dim()
  for _, dim in ipairs(sizes_of('flip', ...)) do
    local d = native.dim('flip', dim, n)
    local bit = 2 ^ d
    if math.floor(flags / bit) % 2 == 1 then fail('flip: dim %d appears twice', d + 1) end
    flags = flags + bit
  end
  local y = flip_op(x, flags)
  return y
end

--- x:roll(shift, [dim]): a copy moved by `shift` positions along dim, what leaves at one end enters at the other. Tables for
-- several dims; without dim, the flattened tensor is rolled.
function method.roll(x, shift, dim)
  Tensor.check('roll', 'input', x)
  if dim == nil then
    local flat = reshape(x, { x:numel() })
    local y = reshape(method.roll(flat, shift, 1), shape_of(x))
    return y
  end
  local shifts, dims = type(shift) == 'table' and shift or { shift }, type(dim) == 'table' and dim or { dim }
  if #shifts ~= #dims then fail('roll: %d shifts for %d dims', #shifts, #dims) end
  local y = x
  for i = 1, #dims do
    local d = native.dim('roll', dims[i], x:dim()) + 1
    local n = math.max(1, x:size(d))
    y = roll_op(y, d, native.integer('roll', 'shift', shifts[i]) % n)
  end
  return y
end

--- x:unfold(dim, size, step): every window of `size` positions, `step` apart; the windows' contents become a new last dim.
-- Shares memory.
function method.unfold(x, dim, size, step)
  Tensor.check('unfold', 'input', x)
  dim = native.dim('unfold', dim, x:dim()) + 1
  native.integer('unfold', 'size', size, 1)
  native.integer('unfold', 'step', step or 1, 1)
  if size > x:size(dim) then fail('unfold: a window of %d does not fit dim %d of %s', size, dim, shape_text(x)) end
  local y = unfold_op(x, dim, size, step or 1)
  return mark(y, x)
end

--- x:diagonal([offset = 0], [dim1 = 1], [dim2 = 2]): the elements (i, i + offset) of two dims as a new last dim. Shares memory.
function method.diagonal(x, offset, dim1, dim2)
  Tensor.check('diagonal', 'input', x)
  local n = x:dim()
  local a, b = native.dim('diagonal', dim1 or 1, n) + 1, native.dim('diagonal', dim2 or 2, n) + 1
  if a == b then fail('diagonal: the dims must differ, got %d twice', a) end
  local y = diagonal_op(x, native.integer('diagonal', 'offset', offset or 0), a, b)
  return mark(y, x)
end

return {
  method = method,
  -- for autograd/op/index.lua and tensor/index.lua
  internal = { position = position, region = region, region_op = region_op },
}
