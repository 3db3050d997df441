--- graph: the graph that an export builds, and the stand-ins for tensors that a network's forward meets on the way.
--
-- A Value is a result inside the graph: { name, dtype, shape = list of numbers and Sizes }. A form (form/*.lua) takes Values and
-- emits nodes: g:node('Conv', { x, w }, { strides = {1, 1} }, shape) -> Value. Constants, parameters and sizes become Values by
-- g:number, g:integers, g:tensor and g:shape; equal ones are stored once.

local native = require 'masked_torch.native'
local size = require 'masked_torch.io.onnx.size'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail

local Graph = {}
Graph.__index = Graph

local Value = {}       -- its metatable; what it answers to is added in trace.lua
Graph.Value = Value

--- Graph.is_value(v)
function Graph.is_value(v) return type(v) == 'table' and getmetatable(v) == Value end
local is_value = Graph.is_value

--- Graph.new{ opset =, names = { [tensor] = name } }
function Graph.new(fields)
  local g = { nodes = {}, initializers = {}, values = {}, constants = {}, by_tensor = {}, used = {}, path = {}, sizes = {},
    opset = fields.opset, names = fields.names, forms = fields.forms, memo = {} }
  return setmetatable(g, Graph)
end

-- ---- names ---------------------------------------------------------------------------------------------------------

--- g:unique(name): the name, or with a number behind it when it is taken.
function Graph:unique(name)
  local result, n = name, 1
  while self.used[result] do
    n = n + 1
    result = name .. '_' .. n
  end
  self.used[result] = true
  return result
end

function Graph:value(name, dtype, shape)
  return setmetatable({ graph = self, name = name, dtype = dtype, shape = shape }, Value)
end

-- ---- nodes -----------------------------------------------------------------------------------------------------------

--- g:node(op, inputs, attributes, shape, dtype): one node with one output. inputs: Values, false for one left out. The dtype is
-- that of the first input unless given.
function Graph:node(op, inputs, attributes, shape, dtype)
  local path = self.path[#self.path] or ''
  local name = self:unique((path ~= '' and path .. '/' or '') .. op)
  local list = {}
  for i, input in ipairs(inputs) do list[i] = input and input.name or '' end
  self.nodes[#self.nodes + 1] = { op = op, name = name, inputs = list, outputs = { name }, attributes = attributes or {} }
  local result = self:value(name, dtype or inputs[1].dtype, shape or inputs[1].shape)
  self.values[#self.values + 1] = result
  return result
end

-- A node that was made before with the same key gives its result again.
function Graph:once(key, make)
  local known = self.memo[key]
  if not known then
    known = make()
    self.memo[key] = known
  end
  return known
end

-- ---- constants ---------------------------------------------------------------------------------------------------------

function Graph:store(name, tensor, doc)
  self.initializers[#self.initializers + 1] = { name = name, tensor = tensor, doc = doc }
  return self:value(name, tensor.dtype, tensor:size())
end

--- g:tensor(t): a tensor as an initializer, under its name in the state of the network where it has one.
function Graph:tensor(t)
  if is_value(t) then return t end
  local known = self.by_tensor[t]
  if not known then
    known = self:store(self:unique(self.names[t] or 'constant'), t)
    self.by_tensor[t] = known
  end
  return known
end

--- g:number(v, dtype, [ndim]): one number, with ndim (0) dims of size 1.
function Graph:number(v, dtype, ndim)
  local shape = {}
  for d = 1, ndim or 0 do shape[d] = 1 end
  return self:once(('number %s %.17g %d'):format(dtype, v, #shape), function()
    local t = Tensor.empty('onnx.export', shape, dtype)
    native.check(t.K.mt_tensor_fill(t._c, v))
    return self:store(self:unique('constant'), t)
  end)
end

--- g:integers(list): an int64 vector.
function Graph:integers(list)
  return self:once('integers ' .. table.concat(list, ','), function()
    local t = #list == 0 and Tensor.empty('onnx.export', { 0 }, 'int64') or Tensor.from_table('onnx.export', list, 'int64')
    return self:store(self:unique('constant'), t)
  end)
end

--- g:filled(shape, v, dtype): a tensor of one value, stored whole; for small static shapes.
function Graph:filled(shape, v, dtype)
  return self:once(('filled %s %.17g %s'):format(table.concat(shape, ','), v, dtype), function()
    local t = Tensor.empty('onnx.export', shape, dtype)
    native.check(t.K.mt_tensor_fill(t._c, v))
    return self:store(self:unique('constant'), t)
  end)
end

-- ---- sizes in the graph ----------------------------------------------------------------------------------------------------

local binary = { mul = 'Mul', min = 'Min', max = 'Max' }

function Graph:atom(atom)
  return self:once('atom ' .. atom.name, function()
    local path = self.path
    self.path = { 'sizes' }
    local result
    if atom.kind == 'input' then
      local shape = self:once('shape of ' .. atom.place.value.name, function()
        return self:node('Shape', { atom.place.value }, nil, { #atom.place.value.shape }, 'int64')
      end)
      result = self:node('Gather', { shape, self:integers{ atom.place.axis - 1 } }, { axis = { int = 0 } }, { 1 })
    elseif atom.kind == 'div' then
      result = self:node('Div', { self:size(atom.a), self:integers{ atom.by } }, nil, { 1 })
    else
      result = self:node(binary[atom.kind], { self:size(atom.a), self:size(atom.b) }, nil, { 1 })
    end
    self.path = path
    return result
  end)
end

--- g:size(s): a number or a Size as an int64 vector of one element.
function Graph:size(s)
  if not size.is(s) then return self:integers{ s } end
  return self:once('size ' .. size.text(s), function()
    local path = self.path
    self.path = { 'sizes' }
    local e, result = size.entry_of(s), nil
    for _, t in ipairs(e.terms) do
      local term = self:atom(t.atom)
      if t.factor ~= 1 then term = self:node('Mul', { term, self:integers{ t.factor } }, nil, { 1 }) end
      result = result and self:node('Add', { result, term }, nil, { 1 }) or term
    end
    if e.constant ~= 0 then result = self:node('Add', { result, self:integers{ e.constant } }, nil, { 1 }) end
    self.path = path
    return result
  end)
end

--- g:scalar(s): the same without dims.
function Graph:scalar(s)
  if not size.is(s) then return self:number(s, 'int64') end
  return self:once('scalar ' .. size.text(s), function()
    return self:node('Squeeze', { self:size(s) }, nil, {}, 'int64')
  end)
end

--- g:shape(list): sizes as an int64 vector.
function Graph:shape(list)
  local parts, static, texts, dynamic = {}, {}, {}, false
  local function flush()
    if #static > 0 then
      parts[#parts + 1] = self:integers(static)
      static = {}
    end
  end
  for i, s in ipairs(list) do
    texts[i] = size.text(s)
    if size.is(s) then
      dynamic = true
      flush()
      parts[#parts + 1] = self:size(s)
    else
      static[#static + 1] = s
    end
  end
  if not dynamic then return self:integers(list) end
  flush()
  if #parts == 1 then return parts[1] end
  return self:once('vector ' .. table.concat(texts, '; '), function()
    return self:node('Concat', parts, { axis = { int = 0 } }, { #list }, 'int64')
  end)
end

-- ---- nodes that everybody needs -----------------------------------------------------------------------------------------

--- g:reshape(x, shape): sizes that follow from the others are left to ONNX (0: as before, -1: what remains).
function Graph:reshape(x, shape)
  local list, unknown, zero = {}, 0, false
  for i, s in ipairs(shape) do
    list[i] = s
    if size.is(s) then
      if x.shape[i] and size.same(x.shape[i], s) then
        list[i] = 0
      else
        list[i], unknown = -1, unknown + 1
      end
    end
    zero = zero or not size.is(s) and s == 0
  end
  local target = unknown <= 1 and not zero and self:integers(list) or self:shape(shape)
  return self:node('Reshape', { x, target }, zero and self.opset >= 14 and { allowzero = { int = 1 } } or nil, shape)
end

local codes = require('masked_torch.io.onnx.proto').type_code

--- g:cast(x, dtype)
function Graph:cast(x, dtype)
  if x.dtype == dtype then return x end
  return self:once(('cast %s %s'):format(x.name, dtype), function()
    return self:node('Cast', { x }, { to = { int = codes[dtype] } }, x.shape, dtype)
  end)
end

--- g:transpose(x, order): order 1-based.
function Graph:transpose(x, order)
  local perm, shape, same = {}, {}, true
  for i, d in ipairs(order) do
    perm[i], shape[i] = d - 1, x.shape[d]
    same = same and d == i
  end
  if same then return x end
  return self:node('Transpose', { x }, { perm = perm }, shape)
end

--- g:unsqueeze(x, axes), g:squeeze(x, axes): 1-based dims, of the result and of x.
function Graph:unsqueeze(x, axes)
  local shape, list = { unpack(x.shape) }, {}
  table.sort(axes)
  for i, d in ipairs(axes) do
    table.insert(shape, d, 1)
    list[i] = d - 1
  end
  return self:node('Unsqueeze', { x, self:integers(list) }, nil, shape)
end

function Graph:squeeze(x, axes)
  local shape, list = { unpack(x.shape) }, {}
  table.sort(axes)
  for i, d in ipairs(axes) do list[i] = d - 1 end
  for i = #axes, 1, -1 do table.remove(shape, axes[i]) end
  return self:node('Squeeze', { x, self:integers(list) }, nil, shape)
end

--- g:expand(x, shape)
function Graph:expand(x, shape)
  local same = #x.shape == #shape
  for i, s in ipairs(shape) do same = same and size.same(s, x.shape[i]) end
  if same then return x end
  return self:node('Expand', { x, self:shape(shape) }, nil, shape)
end

--- g:broadcast(op, a, b): the shape of an elementwise result.
function Graph.broadcast(_, op, ...)
  local shape = {}
  for i = 1, select('#', ...) do
    local other = select(i, ...)
    local n = math.max(#shape, #other)
    local merged = {}
    for d = n, 1, -1 do
      local s, t = shape[#shape - (n - d)], other[#other - (n - d)]
      if s == nil or (not size.is(s) and s == 1) then
        merged[d] = t == nil and s or t
      elseif t == nil or (not size.is(t) and t == 1) or size.same(s, t) then
        merged[d] = s
      elseif size.example(s) == size.example(t) then
        merged[d] = size.is(s) and t or s
      else
        fail('%s: sizes %s and %s of dim %d do not fit', op, size.text(s), size.text(t), d)
      end
    end
    shape = merged
  end
  return shape
end

--- g:binary(op, a, b, [dtype]): Add, Mul, Where's relatives: two Values with broadcasting.
function Graph:binary(op, a, b, dtype)
  return self:node(op, { a, b }, nil, self:broadcast(op, a.shape, b.shape), dtype)
end

--- g:where(condition, a, b)
function Graph:where(condition, a, b)
  return self:node('Where', { condition, a, b }, nil, self:broadcast('where', condition.shape, a.shape, b.shape), a.dtype)
end

--- g:select(x, m): x where the mask m is not 0, else 0. g:is_valid(m): the bool of it.
function Graph:is_valid(m) return self:cast(m, 'bool') end

function Graph:select(x, m) return self:where(self:is_valid(m), x, self:number(0, x.dtype)) end

--- g:divide(a, b): a / b, 0 where b is 0.
function Graph:divide(a, b)
  local zero = self:number(0, b.dtype)
  local empty = self:node('Equal', { b, zero }, nil, b.shape, 'bool')
  local safe = self:where(empty, self:number(1, b.dtype), b)
  return self:where(empty, zero, self:binary('Div', a, safe))
end

--- g:reduce(op, x, dims, keepdim): ReduceSum, ReduceMean, ReduceMax, ReduceMin over 1-based dims.
function Graph:reduce(op, x, dims, keepdim)
  local axes, shape, is_reduced = {}, {}, {}
  for i, d in ipairs(dims) do axes[i], is_reduced[d] = d - 1, true end
  for d, s in ipairs(x.shape) do
    if not is_reduced[d] then
      shape[#shape + 1] = s
    elseif keepdim then
      shape[#shape + 1] = 1
    end
  end
  local attributes = { keepdims = { int = keepdim and 1 or 0 } }
  if op ~= 'ReduceSum' and self.opset < 18 then
    attributes.axes = axes
    return self:node(op, { x }, attributes, shape)
  end
  return self:node(op, { x, self:integers(axes) }, attributes, shape)
end

--- g:activated(y, opts): the activation that an operation took along (autograd/activations.lua), as an operation of its own.
function Graph:activated(y, opts)
  if opts.activation == 'relu' then return self.forms.relu(self, y) end
  if opts.activation == 'leaky_relu' then return self.forms.leaky_relu(self, y, opts.negative_slope) end
  return y
end

--- g:is_full(m): is every element of a mask 1? One bool with m's number of dims.
function Graph:is_full(m)
  local dims = {}
  for d = 1, #m.shape do dims[d] = d end
  return self:binary('Equal', self:reduce('ReduceMin', m, dims, true), self:number(1, m.dtype), 'bool')
end

--- g:slice(x, parts): parts = { [dim] = { first, last, step } }: 0-based positions from first up to, not including, last.
function Graph:slice(x, parts)
  local starts, ends, axes, steps, shape = {}, {}, {}, {}, { unpack(x.shape) }
  for d = 1, #x.shape do
    local p = parts[d]
    if p then
      starts[#starts + 1], ends[#ends + 1], axes[#axes + 1], steps[#steps + 1] = p[1], p[2], d - 1, p[3] or 1
      shape[d] = size.floordiv(p[2] - p[1] + (p[3] or 1) - 1, p[3] or 1)
    end
  end
  if #axes == 0 then return x end
  return self:node('Slice', { x, self:shape(starts), self:shape(ends), self:integers(axes), self:integers(steps) }, nil, shape)
end

--- g:positions(count): 0, 1, ... count - 1, int64.
function Graph:positions(count)
  return self:once('positions ' .. size.text(count), function()
    return self:node('Range', { self:number(0, 'int64'), self:scalar(count), self:number(1, 'int64') }, nil, { count }, 'int64')
  end)
end

--- g:gather(x, dim, index): index a vector of 0-based positions (Value) along dim.
function Graph:gather(x, dim, index)
  local shape = { unpack(x.shape) }
  table.remove(shape, dim)
  for i = #index.shape, 1, -1 do table.insert(shape, dim, index.shape[i]) end
  return self:node('Gather', { x, index }, { axis = { int = dim - 1 } }, shape)
end

--- g:pad(x, before, after, value): constant padding per dim (numbers or Sizes; lists by dim, nil: none); negative numbers crop.
function Graph:pad(x, before, after, value, mode)
  local crop, any, list, shape = {}, false, {}, { unpack(x.shape) }
  local pads_before, pads_after = {}, {}
  for d = 1, #x.shape do
    local b, a = before[d] or 0, after[d] or 0
    local cut_b, cut_a = 0, 0
    if not size.is(b) and b < 0 then b, cut_b = 0, -b end
    if not size.is(a) and a < 0 then a, cut_a = 0, -a end
    if cut_b > 0 or cut_a > 0 then crop[d] = { cut_b, x.shape[d] - cut_a } end
    pads_before[d], pads_after[d] = b, a
    any = any or size.is(b) or size.is(a) or b > 0 or a > 0
    shape[d] = x.shape[d] - cut_b - cut_a + b + a
  end
  x = self:slice(x, crop)
  if not any then return x end
  for d = 1, #shape do list[d], list[#shape + d] = pads_before[d], pads_after[d] end
  local inputs = { x, self:shape(list) }
  if not mode or mode == 'constant' then inputs[3] = self:number(value or 0, x.dtype) end
  return self:node('Pad', inputs, { mode = mode or 'constant' }, shape)
end

return Graph
