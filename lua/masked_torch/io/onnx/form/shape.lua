--- shape: other shapes, parts and joins of Values. Arguments are those of the tensor functions; dims and positions from 1.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local size = require 'masked_torch.io.onnx.size'

local fail = native.fail
local form = {}

-- A dim of x, 1-based.
local function dim_of(op, dim, n) return native.dim(op, dim, n) + 1 end

local function list_of(first, ...)
  if type(first) == 'table' then return first end
  return { first, ... }
end

function form.view(g, x, ...)
  x = g:tensor(x)
  local shape, unknown, known, total = { unpack(list_of(...)) }, nil, 1, 1
  for _, s in ipairs(x.shape) do total = total * s end
  for i, s in ipairs(shape) do
    if not size.is(s) and s == -1 then unknown = i else known = known * s end
  end
  if unknown then
    if size.is(known) then
      -- The same factors cancel; what is left must be a number.
      local rest = {}
      for _, s in ipairs(x.shape) do rest[#rest + 1] = s end
      local divisor = 1
      for i, s in ipairs(shape) do
        local found
        for k, r in ipairs(rest) do
          if i ~= unknown and size.is(s) and size.same(r, s) then found = k end
        end
        if found then
          table.remove(rest, found)
        elseif i ~= unknown then
          if size.is(s) then fail('%s: the size for -1 cannot be told apart: %s', 'view', size.text(s)) end
          divisor = divisor * s
        end
      end
      total = 1
      for _, r in ipairs(rest) do total = total * r end
      known = divisor
    end
    shape[unknown] = total / known
  end
  return g:reshape(x, shape)
end
form.reshape = form.view

function form.reshape_as(g, x, other) return form.view(g, x, { unpack(g:tensor(other).shape) }) end

function form.unflatten(g, x, dim, sizes)
  local d, shape, known, unknown = dim_of('unflatten', dim, #x.shape), { unpack(x.shape) }, 1, nil
  local parts = { unpack(sizes) }
  for i, s in ipairs(parts) do
    if not size.is(s) and s == -1 then unknown = i else known = known * s end
  end
  if unknown then parts[unknown] = shape[d] / known end
  table.remove(shape, d)
  for i = #parts, 1, -1 do table.insert(shape, d, parts[i]) end
  return g:reshape(x, shape)
end

function form.flatten(g, x, first, last)
  x = g:tensor(x)
  first, last = dim_of('flatten', first or 1, #x.shape), dim_of('flatten', last or -1, #x.shape)
  local shape, joined = {}, 1
  for d = first, last do joined = joined * x.shape[d] end
  for d = 1, first - 1 do shape[d] = x.shape[d] end
  shape[#shape + 1] = joined
  for d = last + 1, #x.shape do shape[#shape + 1] = x.shape[d] end
  return g:reshape(x, shape)
end

function form.permute(g, x, ...)
  local order = {}
  for i, d in ipairs(list_of(...)) do order[i] = dim_of('permute', d, #x.shape) end
  return g:transpose(x, order)
end

function form.transpose(g, x, a, b)
  local order = {}
  for d = 1, #x.shape do order[d] = d end
  a, b = dim_of('transpose', a, #order), dim_of('transpose', b, #order)
  order[a], order[b] = b, a
  return g:transpose(x, order)
end

function form.movedim(g, x, from, to)
  local n, order, taken, rest = #x.shape, {}, {}, {}
  from, to = list_of(from), list_of(to)
  for i, d in ipairs(from) do
    local source = dim_of('movedim', d, n)
    order[dim_of('movedim', to[i], n)], taken[source] = source, true
  end
  for d = 1, n do
    if not taken[d] then rest[#rest + 1] = d end
  end
  for d = 1, n do order[d] = order[d] or table.remove(rest, 1) end
  return g:transpose(x, order)
end

function form.t(g, x) return form.transpose(g, x, 1, 2) end

function form.unsqueeze(g, x, dim) return g:unsqueeze(x, { dim_of('unsqueeze', dim, #x.shape + 1) }) end

function form.squeeze(g, x, dims)
  local axes, wanted = {}, {}
  for _, dim in ipairs(dims ~= nil and list_of(dims) or {}) do wanted[dim_of('squeeze', dim, #x.shape)] = true end
  for d, s in ipairs(x.shape) do
    if (dims == nil or wanted[d]) and not size.is(s) and s == 1 then axes[#axes + 1] = d end
  end
  return #axes > 0 and g:squeeze(x, axes) or x
end

function form.expand(g, x, ...)
  local shape = { unpack(list_of(...)) }
  local missing = #shape - #x.shape
  for i, s in ipairs(shape) do
    if not size.is(s) and s == -1 then shape[i] = x.shape[i - missing] end
  end
  return g:expand(x, shape)
end

function form.expand_as(g, x, other) return g:expand(x, { unpack(other.shape) }) end

-- Memory is not ONNX's concern, and history is not either.
for _, name in ipairs{ 'contiguous', 'channels_last', 'clone', 'detach', 'cpu', 'cuda' } do
  form[name] = function(_, x) return x end
end

form['to'] = function(g, x, target)
  local dtype = type(target) == 'table' and target.dtype or target
  if dtype == nil or type(dtype) == 'string' and dtype:find('^c[pu]') then return x end
  return g:cast(x, dtype)
end

for name, dtype in pairs{ float = 'float32', double = 'float64', long = 'int64', int = 'int32', bool = 'bool', byte = 'uint8' } do
  form[name] = function(g, x) return g:cast(x, dtype) end
end

-- ---- parts -----------------------------------------------------------------------------------------------------------

function form.narrow(g, x, dim, first, length)
  x = g:tensor(x)
  local d = dim_of('narrow', dim, #x.shape)
  if not size.is(first) and first < 0 then first = x.shape[d] + first + 1 end
  return g:slice(x, { [d] = { first - 1, first - 1 + length } })
end

form['select'] = function(g, x, dim, i)
  x = g:tensor(x)
  local d = dim_of('select', dim, #x.shape)
  if not size.is(i) and i < 0 then i = x.shape[d] + i + 1 end
  return g:squeeze(g:slice(x, { [d] = { i - 1, i } }), { d })
end

function form.unbind(g, x, dim)
  local parts, n = form.split(g, x, 1, dim), dim_of('unbind', dim or 1, #x.shape)
  for i, part in ipairs(parts) do parts[i] = g:squeeze(part, { n }) end
  return parts
end

function form.roll(g, x, shift, dim)
  if type(shift) ~= 'number' or type(dim) ~= 'number' then fail('roll: expected one shift and one dim for an ONNX form') end
  local d = dim_of('roll', dim, #x.shape)
  local n = x.shape[d]
  local cut = shift >= 0 and n - shift or -shift           -- what stands there comes first
  return form.cat(g, { g:slice(x, { [d] = { cut, n } }), g:slice(x, { [d] = { 0, cut } }) }, d)
end

--- x[key]: a position, { positions and {first, last, step} ranges by dim }, or an index tensor for dim 1.
function form.index(g, x, key)
  if type(key) == 'number' then return form['select'](g, x, 1, key) end
  if g.is_value(key) or key._c then
    if key.dtype ~= 'int64' and key.dtype ~= 'int32' then fail('onnx.export: indexing by a mask has no ONNX form; use torch.where') end
    return form.index_select(g, x, 1, key)
  end
  local parts, dropped = {}, {}
  for d, entry in ipairs(key) do
    local n = x.shape[d] or fail('index: %d entries for %d dims', #key, #x.shape)
    local function position(v) return not size.is(v) and v < 0 and n + v + 1 or v end
    if type(entry) == 'number' or size.is(entry) then
      local at = position(entry)
      parts[d], dropped[#dropped + 1] = { at - 1, at }, d
    elseif type(entry) == 'table' and not g.is_value(entry) and not entry._c then
      if entry[1] ~= nil then parts[d] = { position(entry[1]) - 1, position(entry[2] == nil and entry[1] or entry[2]), entry[3] } end
    else
      fail('onnx.export: a tensor among several entries of an index has no ONNX form; use index_select')
    end
  end
  x = g:slice(x, parts)
  return #dropped > 0 and g:squeeze(x, dropped) or x
end

function form.chunk(g, x, count, dim)
  local d = dim_of('chunk', dim or 1, #x.shape)
  return form.split(g, x, size.floordiv(x.shape[d] + (count - 1), count), d)
end

function form.split(g, x, piece, dim)
  local d = dim_of('split', dim or 1, #x.shape)
  local n = x.shape[d]
  if size.is(n) or size.is(piece) then fail('split: dim %d has the size %s, which is not known at export', d, size.text(n)) end
  local parts, at = {}, 0
  local sizes = type(piece) == 'table' and piece or nil
  while at < n do
    local length = sizes and sizes[#parts + 1] or math.min(piece, n - at)
    parts[#parts + 1] = g:slice(x, { [d] = { at, at + length } })
    at = at + length
  end
  return parts
end

function form.flip(g, x, ...)
  for _, dim in ipairs(list_of(...)) do
    local d = dim_of('flip', dim, #x.shape)
    local n = x.shape[d]
    local index = g:binary('Sub', g:size(n - 1), g:positions(n))
    index.shape = { n }
    x = g:gather(x, d, index)
  end
  return x
end

function form.index_select(g, x, dim, index)
  x = g:tensor(x)
  local d = dim_of('index_select', dim, #x.shape)
  if type(index) == 'table' and not g.is_value(index) and not index._c then
    local list = {}
    for i, v in ipairs(index) do list[i] = v - 1 end
    return g:gather(x, d, g:integers(list))
  end
  return g:gather(x, d, g:binary('Sub', g:tensor(index), g:number(1, 'int64')))
end

function form.gather(g, x, dim, index)
  x, index = g:tensor(x), g:tensor(index)
  local zero_based = g:binary('Sub', index, g:number(1, 'int64'))
  return g:node('GatherElements', { x, zero_based }, { axis = { int = dim_of('gather', dim, #x.shape) - 1 } }, index.shape)
end

-- ---- joins -----------------------------------------------------------------------------------------------------------

function form.cat(g, list, dim)
  local values, shape = {}, nil
  for i, t in ipairs(list) do values[i] = g:tensor(t) end
  local d = dim_of('cat', type(dim) == 'table' and dim.dim or dim or 1, #values[1].shape)
  for i, v in ipairs(values) do
    if not shape then
      shape = { unpack(v.shape) }
    else
      shape[d] = shape[d] + v.shape[d]
      for k, s in ipairs(v.shape) do
        if k ~= d and not size.is(s) then shape[k] = s end
      end
    end
    if v.dtype ~= values[1].dtype then values[i] = g:cast(v, values[1].dtype) end
  end
  return g:node('Concat', values, { axis = { int = d - 1 } }, shape)
end
form.concat = form.cat

function form.stack(g, list, dim)
  local values = {}
  for i, t in ipairs(list) do
    local v = g:tensor(t)
    values[i] = g:unsqueeze(v, { dim_of('stack', dim or 1, #v.shape + 1) })
  end
  return form.cat(g, values, dim_of('stack', dim or 1, #values[1].shape))
end

-- ---- new ones --------------------------------------------------------------------------------------------------------

-- torch.zeros(2, 3, opts), torch.zeros({2, 3}, opts)
local function sizes_and_options(...)
  local list, n = {}, select('#', ...)
  local first = ...
  if type(first) == 'table' and first[1] ~= nil then return { unpack(first) }, (select(2, ...)) or {} end
  local opts = {}
  for i = 1, n do
    local value = select(i, ...)
    if type(value) == 'table' then opts = value else list[#list + 1] = value end
  end
  return list, opts
end

local function filled(g, shape, value, dtype)
  return g:expand(g:number(value, dtype, #shape), shape)
end

function form.zeros(g, ...)
  local shape, opts = sizes_and_options(...)
  return filled(g, shape, 0, opts.dtype or 'float32')
end

function form.ones(g, ...)
  local shape, opts = sizes_and_options(...)
  return filled(g, shape, 1, opts.dtype or 'float32')
end

function form.full(g, shape, value, opts)
  shape, opts = type(shape) == 'table' and shape or { shape }, opts or {}
  if g.is_value(value) then return g:expand(value, shape) end
  if size.is(value) then
    local v = g:cast(g:scalar(value), opts.dtype or 'float32')
    return g:expand(g:reshape(v, { 1 }), shape)
  end
  return filled(g, shape, value, opts.dtype or 'float32')
end

function form.zeros_like(g, x) return filled(g, x.shape, 0, x.dtype) end
function form.ones_like(g, x) return filled(g, x.shape, 1, x.dtype) end

--- torch.range(first, last, [step]): inclusive.
form['range'] = function(g, first, last, step, opts)
  if type(step) == 'table' then step, opts = nil, step end
  step = step or 1
  opts = options.parse('range', { dtype = options.none, device = options.none }, opts)
  local count = size.floordiv(last - first, step) + 1
  local values = g:positions(count)
  if step ~= 1 then values = g:binary('Mul', values, g:number(step, 'int64')) end
  if size.is(first) or first ~= 0 then values = g:binary('Add', values, g:scalar(first)) end
  return g:cast(values, opts.dtype or 'float32')
end

return form
