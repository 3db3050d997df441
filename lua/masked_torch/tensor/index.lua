--- index: t[key] and t[key] = value, as in Torch7.
--
--     t[i]                 position i of dim 1 (negative from the end): a view with one dim less; of a 1-D tensor, a Lua number
--     t[{2, 3}]            one position for each dim; with all dims given, a Lua number (boolean for bool)
--     t[{ {1, 3}, 2 }]     {first, last} is an inclusive range, {first, last, step} takes every step-th, {} is all; missing dims
--                          are all. A view.
--     t[mask]              bool mask over the leading dims: the elements (or sub-tensors) where it is true, copied
--     t[index]             int64 or int32 tensor: those positions of dim 1, copied; the result has the shape of index in front
--     t[{ {}, index }]     the same (or a 1-D mask) for another dim; at most one such entry
--     t[key] = value       for all of these: a number, a boolean, a table or a tensor, broadcast to the place
--
-- Views and copies are differentiable, Lua numbers are out of the graph. x.shape is x:size().

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local slice = require('masked_torch.autograd.op.slice').internal
local assign = require('masked_torch.autograd.op.index').internal.assign

local check, fail, shape_text = native.check, native.fail, Tensor.shape_text
local methods, is_tensor, shape_of = Tensor.methods, Tensor.is_tensor, Tensor.shape_of

local element = ffi.new('double[1]')
local place = ffi.new('int64_t[8]')

local function read(t)
  check(t.K.mt_tensor_get(element, t._c, place))
  if t.dtype == 'bool' then return element[0] ~= 0 end
  return element[0]
end

local function is_index(x) return x.dtype == 'int64' or x.dtype == 'int32' end
local function is_mask(x) return x.dtype == 'bool' or x.dtype == 'uint8' end

local function refuse(t, key)
  fail('index: expected a position, a range table, a bool mask or an int64 index for %s, got %s', shape_text(t),
    is_tensor(key) and ('a tensor %s %s'):format(shape_text(key), key.dtype) or type(key))
end

-- {first, last, step} of dim d, inclusive, as {first, length, step} from 0.
local function range(t, d, entry)
  local size, first, last, step = tonumber(t._c.shape[d - 1]), entry[1], entry[2], entry[3]
  if first == nil then
    if next(entry) ~= nil then fail('index: dim %d: a range is {first, last, step}, got named keys', d) end
    return nil
  end
  if #entry > 3 then fail('index: dim %d: a range is {first, last, step}, got %d numbers', d, #entry) end
  native.integer('index', 'first', first)
  if last == nil then last = first end
  native.integer('index', 'last', last)
  step = native.integer('index', 'step', step or 1, 1)
  local a, b = first < 0 and size + first + 1 or first, last < 0 and size + last + 1 or last
  if a < 1 or b > size or b < a - 1 or b < 0 then
    fail('index: range {%d, %d} is outside 1..%d (dim %d of %s)', first, last, size, d, shape_text(t))
  end
  return { a - 1, math.floor((b - a) / step) + 1, step }
end

-- Positions (1-D int64) of the true elements of a mask.
local function positions_of(mask)
  local rows = mask:detach():flatten():nonzero()
  return rows:select(2, 1)
end

-- A table key: entries for slice.region, all positions given?, and the tensor entry with the dim it has in the region.
local function parse(t, key)
  local n, dims = #key, t._c.ndim
  if n > dims then fail('index: %d entries for %s', n, shape_text(t)) end
  local entries, full, index, index_dim, dim = {}, n == dims, nil, nil, 0
  for d = 1, n do
    local entry = key[d]
    if type(entry) == 'number' then
      entries[d] = slice.position('index', t, d, entry)
    else
      full, dim = false, dim + 1
      if is_tensor(entry) then
        Tensor.check('index', 'entry ' .. d, entry)
        if index then fail('index: only one entry may be a tensor') end
        if is_mask(entry) then
          if entry:dim() ~= 1 or entry:size(1) ~= t:size(d) then
            fail('index: mask %s does not fit dim %d of %s', shape_text(entry), d, shape_text(t))
          end
          entry = positions_of(entry)
        elseif not is_index(entry) or entry:dim() > 1 then
          refuse(t, entry)
        end
        index, index_dim = entry, dim
      elseif type(entry) == 'table' then
        entries[d] = range(t, d, entry)
      else
        fail('index: entry %d: expected a position, a range or a tensor, got %s', d, type(entry))
      end
    end
  end
  return entries, full, index, index_dim
end

local function mark(y, t)
  local base = t.is_view_of or t
  y.is_view_of, y.view_fn = base, base.grad_fn or false
  return y
end

-- The leading dims that a mask covers, checked.
local function check_mask(t, mask)
  local n = mask:dim()
  local fits = n >= 1 and n <= t:dim()
  for d = 1, fits and n or 0 do fits = fits and mask:size(d) == t:size(d) end
  if not fits then fail('index: mask %s does not fit %s', shape_text(mask), shape_text(t)) end
  return n
end

-- t with its first n dims joined, for a mask over them.
local function joined(t, n)
  if n == 1 then return t end
  local shape = { 1 }
  for d = 1, t:dim() do
    if d <= n then shape[1] = shape[1] * t:size(d) else shape[#shape + 1] = t:size(d) end
  end
  return t:reshape(shape)
end

local function get_tensor(t, key)
  Tensor.check('index', 'key', key)
  Tensor.check_device_of('index', t, 'key', key)
  if t._c.ndim == 0 then fail('index: a tensor without dims has no positions; use :item()') end
  if is_mask(key) then
    local n = check_mask(t, key)
    if n == t:dim() then return t:masked_select(key) end
    return joined(t, n):index_select(1, positions_of(key))
  elseif is_index(key) then
    local rows = t:index_select(1, key:detach():flatten())
    if key:dim() == 1 then return rows end
    local shape = shape_of(key)
    for d = 2, t:dim() do shape[#shape + 1] = t:size(d) end
    return rows:reshape(shape)
  end
  refuse(t, key)
end

local function get(t, key)
  Tensor.check('index', 'input', t)
  if type(key) == 'number' then
    if t._c.ndim == 1 then
      place[0] = slice.position('index', t, 1, key)
      return read(t)
    elseif t._c.ndim == 0 then
      fail('index: a tensor without dims has no position %s; use :item()', native.show(key))
    end
    local y = methods.select(t, 1, key)
    return y
  elseif is_tensor(key) then
    local y = get_tensor(t, key)
    return y
  elseif type(key) == 'table' then
    local entries, full, index, dim = parse(t, key)
    if full then
      for d = 1, t._c.ndim do place[d - 1] = entries[d] end
      return read(t)
    end
    local y = mark(slice.region_op(t, entries), t)
    if index then y = y:index_select(dim, index) end
    return y
  end
  refuse(t, key)
end

local function set(t, key, value)
  Tensor.check('index', 'input', t)
  if type(key) == 'number' then
    if t._c.ndim == 0 then fail('index: a tensor without dims has no position %s; use :fill_()', native.show(key)) end
    local position = slice.position('index', t, 1, key)
    if t._c.ndim == 1 and type(value) == 'number' and not t.requires_grad then
      autograd.check_in_place('index', t)
      place[0] = position
      check(t.K.mt_tensor_set(t._c, place, value))
      Tensor.bump(t)
      return
    end
    assign(t, { entries = { position } }, value)
  elseif is_tensor(key) then
    Tensor.check('index', 'key', key)
    Tensor.check_device_of('index', t, 'key', key)
    if is_mask(key) then
      local n = check_mask(t, key)
      if n == t:dim() then
        assign(t, { mask = key:detach() }, value)
      elseif n == 1 then
        assign(t, { entries = {}, index = positions_of(key), dim = 0 }, value)
      else
        local mask = key:detach()
        for d = n + 1, t:dim() do mask = mask:unsqueeze(d) end
        if is_tensor(value) and value:numel() ~= 1 then
          fail('index: a mask %s over some dims of %s takes one value, got %s', shape_text(key), shape_text(t), shape_text(value))
        end
        assign(t, { mask = mask:expand(shape_of(t)) }, value)
      end
    elseif is_index(key) then
      if key:dim() > 1 then fail('index: assignment needs a 1-D index, got %s', shape_text(key)) end
      if t._c.ndim == 0 then refuse(t, key) end
      assign(t, { entries = {}, index = key:detach(), dim = 0 }, value)
    else
      refuse(t, key)
    end
  elseif type(key) == 'table' then
    local entries, _, index, dim = parse(t, key)
    assign(t, { entries = entries, index = index, dim = dim and dim - 1 }, value)
  else
    refuse(t, key)
  end
end

-- Methods first: that is what nearly every look-up is. Fields that may be absent (grad, grad_fn, hooks, ...) read as nil.
function Tensor.__index(t, key)
  local method = methods[key]
  if method ~= nil then return method end
  if type(key) == 'string' then
    if key == 'shape' then return methods.size(t) end
    return nil
  end
  return get(t, key)
end

function Tensor.__newindex(t, key, value)
  if type(key) ~= 'string' then
    set(t, key, value)
  elseif key == 'shape' or methods[key] then
    fail("tensor: '%s' cannot be assigned to", key)
  else
    rawset(t, key, value)
  end
end

return Tensor
