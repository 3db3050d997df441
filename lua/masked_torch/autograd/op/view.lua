--- view: other shapes and other orders of the same memory: every element of the input is there, in a view where that is
-- possible. slice.lua holds the views of a part.
--
-- A view shares memory and version counter with the tensor it was taken from. It remembers that tensor (`is_view_of`) and the
-- history it had then (`view_fn`), so that autograd refuses what it could not differentiate: recording an in-place change of
-- a view, or using a view after its base got a new history.
--
-- Dimensions are 1-based, negative ones count from the end.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check, fail, shape_of, shape_text = native.check, native.fail, Tensor.shape_of, Tensor.shape_text

-- ---- geometry ------------------------------------------------------------------------------------------------

local function product(shape)
  local n = 1
  for d = 1, #shape do n = n * shape[d] end
  return n
end

local function copy_list(list)
  local result = {}
  for i = 1, #list do result[i] = list[i] end
  return result
end

local function text(list)
  local words = {}
  for i = 1, #list do words[i] = native.show(list[i]) end
  return '(' .. table.concat(words, ', ') .. ')'
end

-- Sizes as arguments or as one table.
local function sizes_of(op, first, ...)
  local list = type(first) == 'table' and not Tensor.is_tensor(first) and first or { first, ... }
  if list ~= first and #list ~= select('#', ...) + (first == nil and 0 or 1) then
    fail('%s: size: expected whole numbers, got nil among them', op)
  end
  return copy_list(list)
end

-- Strides that give elements of (shape, strides) the sizes `new` without moving one, or nil. Neighbouring dims whose strides
-- chain form one block; each block must be cut by whole dims of the new shape.
local function view_strides(shape, strides, new)
  if product(shape) == 0 then return Tensor.row_major(new) end
  local result, n = {}, #new
  if #shape == 0 then
    for d = 1, n do result[d] = 1 end
    return result
  end
  local base, have, made = strides[#shape], 1, 1
  for d = #shape, 1, -1 do
    have = have * shape[d]
    if d == 1 or (shape[d - 1] ~= 1 and strides[d - 1] ~= have * base) then
      while n >= 1 and (made < have or new[n] == 1) do
        result[n] = made * base
        made = made * new[n]
        n = n - 1
      end
      if made ~= have then return nil end
      if d > 1 then base, have, made = strides[d - 1], 1, 1 end
    end
  end
  return n == 0 and result or nil
end

-- The new sizes with -1 filled in and everything checked.
local function infer(op, x, new)
  local total, known, unknown = x:numel(), 1, nil
  for d = 1, #new do
    local size = native.integer(op, 'size', new[d], -1)
    if size == -1 then
      if unknown then fail('%s: size: only one -1 is allowed, got %s', op, text(new)) end
      unknown = d
    else
      known = known * size
    end
  end
  if unknown then
    if known == 0 or total % known ~= 0 then
      fail('%s: %s with %d elements does not fit %s', op, shape_text(x), total, text(new))
    end
    new[unknown] = total / known
  elseif known ~= total then
    fail('%s: %s with %d elements does not fit %s with %d', op, shape_text(x), total, text(new), known)
  end
  return new
end

-- ---- operations ------------------------------------------------------------------------------

local function mark(y, x)
  if y ~= x then
    local base = x.is_view_of or x
    y.is_view_of, y.view_fn = base, base.grad_fn or false
  end
  return y
end

-- dy under another shape: a view where that is possible, else a copy.
local function reshaped(op, dy, shape)
  local strides = view_strides(shape_of(dy), dy:stride(), shape)
  if strides then return Tensor.as_view(op, dy, shape, strides, 0) end
  local copy = Tensor.empty(op, shape_of(dy), dy.dtype, dy.device)
  check(dy.K.mt_tensor_copy(copy._c, dy._c))
  return Tensor.as_view(op, copy, shape, Tensor.row_major(shape), 0)
end

local view_op = autograd.op{
  name = 'view',
  bfloat16 = 'itself',
  forward = function(ctx, x, shape, strides)
    ctx.shape = shape_of(x)
    return Tensor.as_view('view', x, shape, strides, 0)
  end,
  backward = function(ctx, dy) return reshaped('view', dy, ctx.shape) end,
}

local permute_op = autograd.op{
  name = 'permute',
  bfloat16 = 'itself',
  forward = function(ctx, x, order)
    ctx.order = order
    return Tensor.permute_view('permute', x, order)
  end,
  backward = function(ctx, dy)
    local inverse = {}
    for d, from in ipairs(ctx.order) do inverse[from] = d end
    return Tensor.permute_view('permute', dy, inverse)
  end,
}

local contiguous_op = autograd.op{
  name = 'contiguous',
  bfloat16 = 'itself',
  forward = function(_, x, strides)
    local y = Tensor.empty('contiguous', shape_of(x), x.dtype, x.device, strides)
    check(x.K.mt_tensor_copy(y._c, x._c))
    return y
  end,
  backward = function(_, dy) return dy end,
}

-- The repeated dims have stride 0; their gradients are summed.
local expand_op = autograd.op{
  name = 'expand',
  bfloat16 = 'itself',
  forward = function(ctx, x, shape)
    ctx.shape = shape_of(x)
    return Tensor.expand_view('expand', x, shape)
  end,
  backward = function(ctx, dy)
    return Tensor.sum_to(dy, ctx.shape, dy.dtype)
  end,
}

-- ---- public functions --------------------------------------------------------------------------------------------

local method = {}

local function viewed(x, shape, strides)
  local y = view_op(x, shape, strides)
  return mark(y, x)
end

--- x:view(sizes): the same elements in row-major order under another shape, sharing memory; one size may be -1. An error when
-- x's strides do not allow it: use x:reshape(sizes), or x:contiguous():view(sizes).
function method.view(x, ...)
  Tensor.check('view', 'input', x)
  local new = infer('view', x, sizes_of('view', ...))
  local strides = view_strides(shape_of(x), x:stride(), new)
  if not strides then
    fail('view: %s with strides %s is not contiguous; use :reshape or :contiguous():view', shape_text(x), text(x:stride()))
  end
  return viewed(x, new, strides)
end

--- x:contiguous(): x itself when its elements lie in row-major order, else a copy that does.
function method.contiguous(x)
  Tensor.check('contiguous', 'input', x)
  if x:is_contiguous() then return x end
  local y = contiguous_op(x)
  return y
end

--- x:channels_last(): x itself when the channels (dim 2 of (N, C, *S)) are neighbours in memory, else a copy with that layout.
-- Shape and values are the same; convolutions work fastest on it. x:contiguous() goes back.
function method.channels_last(x)
  Tensor.check('channels_last', 'input', x)
  if x:dim() < 3 then fail('channels_last: expected (N, C, *S), got %s', shape_text(x)) end
  local wanted, have, shape = Tensor.channels_last(shape_of(x)), x:stride(), shape_of(x)
  local same = true
  for d = 1, #wanted do same = same and (shape[d] == 1 or wanted[d] == have[d]) end
  if same then return x end
  local y = contiguous_op(x, wanted)
  return y
end

local function reshape(x, new)
  local strides = view_strides(shape_of(x), x:stride(), new)
  if strides then return viewed(x, new, strides) end
  x = contiguous_op(x)
  local y = view_op(x, new, Tensor.row_major(new))
  return y
end

--- x:reshape(sizes): like view, with a copy where a view is impossible.
function method.reshape(x, ...)
  Tensor.check('reshape', 'input', x)
  local y = reshape(x, infer('reshape', x, sizes_of('reshape', ...)))
  return y
end

--- x:view_as(other) = x:view(other:size())
function method.view_as(x, other)
  Tensor.check('view_as', 'input', x)
  Tensor.check('view_as', 'other', other)
  local y = method.view(x, shape_of(other))
  return y
end

--- x:reshape_as(other) = x:reshape(other:size())
function method.reshape_as(x, other)
  Tensor.check('reshape_as', 'input', x)
  Tensor.check('reshape_as', 'other', other)
  local y = method.reshape(x, shape_of(other))
  return y
end

--- x:flatten([first_dim = 1], [last_dim = -1]): joins these dims into one. A 0-dim tensor becomes (1).
function method.flatten(x, first, last)
  Tensor.check('flatten', 'input', x)
  local shape = shape_of(x)
  if #shape == 0 then
    local y = reshape(x, { 1 })
    return y
  end
  first, last = native.dim('flatten', first or 1, #shape) + 1, native.dim('flatten', last or -1, #shape) + 1
  if first > last then fail('flatten: first dim %d comes after last dim %d', first, last) end
  local new = {}
  for d = 1, #shape do
    if d > first and d <= last then new[#new] = new[#new] * shape[d] else new[#new + 1] = shape[d] end
  end
  local y = reshape(x, new)
  return y
end

--- x:unflatten(dim, sizes): splits a dim into several; one size may be -1.
function method.unflatten(x, dim, sizes)
  Tensor.check('unflatten', 'input', x)
  local shape = shape_of(x)
  dim = native.dim('unflatten', dim, #shape) + 1
  if type(sizes) ~= 'table' or #sizes == 0 then
    fail('unflatten: sizes: expected a table of sizes, got %s', native.show(sizes))
  end
  local piece, known, unknown = copy_list(sizes), 1, nil
  for i = 1, #sizes do
    if native.integer('unflatten', 'sizes', sizes[i], -1) == -1 and not unknown then unknown = i else known = known * sizes[i] end
  end
  if unknown then piece[unknown] = math.floor(shape[dim] / math.max(1, known)) end
  if product(piece) ~= shape[dim] or known < 0 then
    fail('unflatten: dim %d of %s does not split into %s', dim, shape_text(x), text(sizes))
  end
  local new = {}
  for d = 1, #shape do
    if d ~= dim then new[#new + 1] = shape[d] end
    for i = 1, d == dim and #piece or 0 do new[#new + 1] = piece[i] end
  end
  local y = reshape(x, new)
  return y
end

local function permuted(x, order)
  local y = permute_op(x, order)
  return mark(y, x)
end

--- x:permute(dims): dim d of the result is dim dims[d] of x. Shares memory.
function method.permute(x, ...)
  Tensor.check('permute', 'input', x)
  local n, dims, order, seen = x:dim(), sizes_of('permute', ...), {}, {}
  if #dims ~= n then fail('permute: expected %d dims for %s, got %s', n, shape_text(x), text(dims)) end
  for d = 1, n do
    order[d] = native.dim('permute', dims[d], n) + 1
    if seen[order[d]] then fail('permute: dim %d appears twice in %s', order[d], text(dims)) end
    seen[order[d]] = true
  end
  return permuted(x, order)
end

--- x:transpose(dim1, dim2): exchanges two dims. Shares memory.
function method.transpose(x, dim1, dim2)
  Tensor.check('transpose', 'input', x)
  local n, order = x:dim(), {}
  local a, b = native.dim('transpose', dim1, n) + 1, native.dim('transpose', dim2, n) + 1
  for d = 1, n do order[d] = d end
  order[a], order[b] = b, a
  return permuted(x, order)
end

--- x:t(): the transposed matrix; a tensor of fewer than 2 dims is returned as it is.
function method.t(x)
  Tensor.check('t', 'input', x)
  local n = x:dim()
  if n > 2 then fail('t: expected at most 2 dimensions, got %s; use :transpose(dim1, dim2)', shape_text(x)) end
  if n < 2 then return x end
  return permuted(x, { 2, 1 })
end

--- x:movedim(from, to): moves dims to other positions, the others keep their order. Numbers or tables of the same length.
function method.movedim(x, from, to)
  Tensor.check('movedim', 'input', x)
  local n, order, taken = x:dim(), {}, {}
  from, to = type(from) == 'table' and from or { from }, type(to) == 'table' and to or { to }
  if #from ~= #to then fail('movedim: %d dims to %d positions', #from, #to) end
  for i = 1, #from do
    local source, target = native.dim('movedim', from[i], n) + 1, native.dim('movedim', to[i], n) + 1
    if order[target] or taken[source] then fail('movedim: a dim appears twice in %s to %s', text(from), text(to)) end
    order[target], taken[source] = source, true
  end
  local next_source = 1
  for target = 1, n do
    if not order[target] then
      while taken[next_source] do next_source = next_source + 1 end
      order[target], taken[next_source] = next_source, true
    end
  end
  return permuted(x, order)
end

--- x:squeeze([dim or table of dims]): without the dims of size 1 (all of them, or those named that have size 1).
function method.squeeze(x, dims)
  Tensor.check('squeeze', 'input', x)
  local shape, strides, drop, new, new_strides = shape_of(x), x:stride(), {}, {}, {}
  if dims ~= nil then
    for _, dim in ipairs(type(dims) == 'table' and dims or { dims }) do drop[native.dim('squeeze', dim, #shape) + 1] = true end
  end
  for d = 1, #shape do
    if not (shape[d] == 1 and (dims == nil or drop[d])) then
      new[#new + 1], new_strides[#new_strides + 1] = shape[d], strides[d]
    end
  end
  return viewed(x, new, new_strides)
end

--- x:unsqueeze(dim): with a new dim of size 1 at position dim (1 .. dims + 1, or negative from the end).
function method.unsqueeze(x, dim)
  Tensor.check('unsqueeze', 'input', x)
  local shape, strides = shape_of(x), x:stride()
  dim = native.dim('unsqueeze', dim, #shape + 1) + 1
  local stride = 1
  if shape[dim] then stride = strides[dim] * math.max(1, shape[dim]) end
  table.insert(shape, dim, 1)
  table.insert(strides, dim, stride)
  return viewed(x, shape, strides)
end

local function expanded(op, x, new)
  local shape = shape_of(x)
  if #new < #shape then fail('%s: %s does not expand to %s: fewer dimensions', op, shape_text(x), text(new)) end
  for d = 1, #new do
    local have = shape[d - (#new - #shape)]
    native.integer(op, 'size', new[d], -1)
    if new[d] == -1 then
      if not have then fail('%s: size -1 of the new dim %d is unknown', op, d) end
      new[d] = have
    elseif have and have ~= 1 and have ~= new[d] then
      fail('%s: %s does not expand to %s: dim %d has size %d', op, shape_text(x), text(new), d, have)
    end
  end
  local y = expand_op(x, new)
  return mark(y, x)
end

--- x:expand(sizes): dims of size 1 repeated without a copy, new dims in front; -1 keeps a size. Such a view cannot be written
-- to. Its gradient is the sum over the repetitions.
function method.expand(x, ...)
  Tensor.check('expand', 'input', x)
  local y = expanded('expand', x, sizes_of('expand', ...))
  return y
end

--- x:expand_as(other) = x:expand(other:size())
function method.expand_as(x, other)
  Tensor.check('expand_as', 'input', x)
  Tensor.check('expand_as', 'other', other)
  local y = expanded('expand_as', x, shape_of(other))
  return y
end
method.broadcast_to = method.expand

--- x:tile(counts): a copy with every dim repeated counts[d] times; missing leading counts are 1, missing dims of x are added in
-- front. It is PyTorch's repeat and tile at once (`repeat` is a keyword of Lua).
function method.tile(x, ...)
  Tensor.check('tile', 'input', x)
  local counts, shape = sizes_of('tile', ...), shape_of(x)
  while #counts < #shape do table.insert(counts, 1, 1) end
  local y = x
  if #counts > #shape then
    while #shape < #counts do table.insert(shape, 1, 1) end
    y = reshape(y, shape)
  end
  for d = #counts, 1, -1 do
    local count = native.integer('tile', 'count', counts[d], 0)
    if count ~= 1 then
      local wide, joined = shape_of(y), shape_of(y)
      table.insert(wide, d, count)
      joined[d] = joined[d] * count
      y = reshape(expanded('tile', method.unsqueeze(y, d), wide), joined)
    end
  end
  if y._c.storage == x._c.storage then y = contiguous_op(y) end
  return y
end

return {
  method = method,
  -- for autograd/op/slice.lua
  internal = { product = product, copy_list = copy_list, text = text, sizes_of = sizes_of, mark = mark, reshape = reshape },
}
