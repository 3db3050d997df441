--- Reads ONNX files and runs them with our own tensors: what the specs check exported files with where onnxruntime is not there.
-- Only what the exporter writes is known; anything else is an error.
local ffi = require 'ffi'
local torch = require 'masked_torch'
local file = require 'masked_torch.io.file'
local wire = require 'masked_torch.io.wire'
local F = torch.nn.functional
local Tensor = torch.Tensor

local onnx = {}

-- ---- reading ---------------------------------------------------------------------------------------------------------------

local dtype_of = { [1] = 'float32', [2] = 'uint8', [6] = 'int32', [7] = 'int64', [9] = 'bool', [11] = 'float64' }

-- A message as { [field] = list of values }.
local function fields(text)
  local result = setmetatable({}, { __index = function() return {} end })
  for field, kind, v in wire.fields(text) do
    local list = rawget(result, field) or {}
    if kind == 0 then v = tonumber(v) elseif kind == 5 then v = wire.to_float(v) end
    list[#list + 1] = v
    rawset(result, field, list)
  end
  return result
end

local function tensor_of(text)
  local f = fields(text)
  local t = Tensor.empty('onnx', f[1], assert(dtype_of[f[2][1]]))
  local bytes = f[9][1] or ''
  assert(#bytes == t:numel() * t:element_size(), 'raw_data does not fit the shape')
  ffi.copy(t._c.data, bytes, #bytes)
  return f[8][1], t, f[12][1]
end

local function attribute_of(text)
  local f = fields(text)
  local kind = f[20][1]
  if kind == 1 then return f[1][1], f[2][1] end
  if kind == 2 then return f[1][1], f[3][1] end
  if kind == 3 then return f[1][1], f[4][1] end
  assert(kind == 7, 'attribute of kind ' .. tostring(kind))
  return f[1][1], f[8]
end

local function value_info(text)
  local f = fields(text)
  local t = fields(fields(f[2][1])[1][1])
  local dims = {}
  for i, d in ipairs(fields(t[2][1])[1]) do
    local dim = fields(d)
    dims[i] = dim[1][1] or dim[2][1]
  end
  return { name = f[1][1], dtype = dtype_of[t[1][1]], shape = dims }
end

--- onnx.read(path) -> { ir_version, producer, version, opset, metadata, name, doc, nodes, initializers = { [name] = tensor }, names,
-- inputs, outputs }
function onnx.read(path)
  local m = fields(file.read('onnx', path))
  local g = fields(m[7][1])
  local model = { ir_version = m[1][1], producer = m[2][1], version = m[3][1], doc = m[6][1], metadata = {}, name = g[2][1],
    graph_doc = g[10][1], nodes = {}, initializers = {}, names = {}, inputs = {}, outputs = {} }
  model.opset = fields(m[8][1])[2][1]
  for _, text in ipairs(m[14]) do
    local f = fields(text)
    model.metadata[f[1][1]] = f[2][1]
  end
  for i, text in ipairs(g[1]) do
    local f = fields(text)
    local node = { inputs = f[1], outputs = f[2], name = f[3][1], op = f[4][1], attributes = {} }
    for _, a in ipairs(f[5]) do
      local name, value = attribute_of(a)
      node.attributes[name] = value
    end
    model.nodes[i] = node
  end
  for i, text in ipairs(g[5]) do
    local name, t = tensor_of(text)
    assert(not model.initializers[name], 'two initializers ' .. name)
    model.initializers[name], model.names[i] = t, name
  end
  for i, text in ipairs(g[11]) do model.inputs[i] = value_info(text) end
  for i, text in ipairs(g[12]) do model.outputs[i] = value_info(text) end
  return model
end

-- ---- running ---------------------------------------------------------------------------------------------------------------

local run = {}

local function list_of(t)
  local list = {}
  for i, v in ipairs(t:reshape(-1):totable()) do list[i] = tonumber(v) end
  return list
end

local function vector(list) return #list == 0 and torch.zeros(0, { dtype = 'int64' }) or torch.tensor(list, { dtype = 'int64' }) end

for op, name in pairs{ Add = 'add', Sub = 'sub', Mul = 'mul', Pow = 'pow', Min = 'minimum', Max = 'maximum', Equal = 'eq', Less = 'lt',
  Greater = 'gt', LessOrEqual = 'le', GreaterOrEqual = 'ge', And = 'logical_and', Or = 'logical_or', Mod = 'remainder' } do
  run[op] = function(_, a, b)
    assert(a.dtype == b.dtype, op .. ': operands ' .. a.dtype .. ' and ' .. b.dtype)
    return torch[name](a, b)
  end
end

for op, name in pairs{ Neg = 'neg', Abs = 'abs', Sqrt = 'sqrt', Exp = 'exp', Log = 'log', Sigmoid = 'sigmoid', Tanh = 'tanh',
  Relu = 'relu', Floor = 'floor', Ceil = 'ceil', Reciprocal = 'reciprocal', Not = 'logical_not', Sign = 'sign', Sin = 'sin',
  Cos = 'cos', Round = 'round', IsNaN = 'isnan' } do
  run[op] = function(_, x) return torch[name](x) end
end

function run.Div(_, a, b)
  assert(a.dtype == b.dtype)
  if Tensor.floating[a.dtype] then return a / b end
  return a:div(b, { rounding_mode = 'trunc' })
end

-- erf by the exact gelu, x / 2 (1 + erf(x / sqrt 2)), in double precision.
function run.Erf(_, x)
  local z = x:double() * math.sqrt(2)
  local y = F.gelu(z) * 2 / z - 1
  return torch.where(z:eq(0), torch.zeros_like(z), y):to(x.dtype)
end

function run.LeakyRelu(a, x) return F.leaky_relu(x, a.alpha) end
function run.Elu(a, x) return F.elu(x, a.alpha) end
function run.Softplus(_, x) return F.softplus(x) end
function run.Clip(_, x, low, high) return x:clamp(low and low:item(), high and high:item()) end
function run.Identity(_, x) return x end
function run.Cast(a, x) return x:to(assert(dtype_of[a.to])) end
function run.Where(_, condition, a, b)
  assert(condition.dtype == 'bool' and a.dtype == b.dtype)
  return torch.where(condition, a, b)
end
function run.Softmax(a, x) return F.softmax(x, a.axis + 1) end
function run.LogSoftmax(a, x) return F.log_softmax(x, a.axis + 1) end

-- ---- shapes

function run.Shape(_, x) return vector(x:size()) end

function run.Reshape(a, x, shape)
  local list = list_of(shape)
  for i, s in ipairs(list) do
    if s == 0 and a.allowzero ~= 1 then list[i] = x:size(i) end
  end
  return x:reshape(list)
end

function run.Transpose(a, x)
  local order = {}
  for i, d in ipairs(a.perm) do order[i] = d + 1 end
  return x:permute(order)
end

function run.Squeeze(_, x, axes)
  local shape, dropped = {}, {}
  for _, d in ipairs(axes and list_of(axes) or {}) do dropped[d + 1] = true end
  for d, s in ipairs(x:size()) do
    if dropped[d] or not axes and s == 1 then assert(s == 1) else shape[#shape + 1] = s end
  end
  return x:reshape(shape)
end

function run.Unsqueeze(_, x, axes)
  local shape = x:size()
  for _, d in ipairs(list_of(axes)) do table.insert(shape, d + 1, 1) end
  return x:reshape(shape)
end

function run.Expand(_, x, shape)
  local target, own = list_of(shape), x:size()
  for _ = #own + 1, #target do table.insert(own, 1, 1) end
  for i, s in ipairs(own) do
    if s ~= 1 then
      assert(target[i] == s or target[i] == 1, 'Expand')
      target[i] = s
    end
  end
  return x:reshape(own):expand(target)
end

function run.Concat(a, ...) return torch.cat({ ... }, a.axis + 1) end

function run.Gather(a, x, index)
  local d, shape = a.axis + 1, x:size()
  table.remove(shape, d)
  for i = index:dim(), 1, -1 do table.insert(shape, d, index:size(i)) end
  local rows = index:reshape(-1)
  rows = torch.where(rows:lt(0), rows + x:size(d), rows) + 1
  return x:index_select(d, rows):reshape(shape)
end

function run.GatherElements(a, x, index) return x:gather(a.axis + 1, index + 1) end

function run.Slice(_, x, starts, ends, axes, steps)
  starts, ends, axes = list_of(starts), list_of(ends), list_of(axes)
  steps = steps and list_of(steps) or {}
  for i, axis in ipairs(axes) do
    local d, n, step = axis + 1, x:size(axis + 1), steps[i] or 1
    local from, to = starts[i], ends[i]
    if from < 0 then from = from + n end
    if to < 0 then to = to + n end
    from, to = math.max(0, math.min(n, from)), math.max(0, math.min(n, to))
    local rows = {}
    for p = from, to - 1, step do rows[#rows + 1] = p + 1 end
    x = step == 1 and x:narrow(d, math.min(from + 1, math.max(n, 1)), math.max(0, to - from)) or x:index_select(d, rows)
  end
  return x
end

function run.Range(_, first, limit, step)
  local list = {}
  for v = tonumber(first:item()), tonumber(limit:item()) - 1, tonumber(step:item()) do list[#list + 1] = v end
  return vector(list)
end

local pad_mode = { constant = 'constant', reflect = 'reflect', edge = 'replicate' }

function run.Pad(a, x, pads, value)
  local list, n, amounts = list_of(pads), x:dim(), {}
  for d = n, 1, -1 do amounts[#amounts + 1], amounts[#amounts + 2] = list[d], list[n + d] end
  local mode = pad_mode[a.mode or 'constant']
  return F.pad(x, amounts, { mode = mode, value = mode == 'constant' and value and tonumber(value:item()) or 0 })
end

-- ---- along dims

local function reduction(name)
  return function(a, x, axes)
    local list = {}
    for i, d in ipairs(axes and list_of(axes) or a.axes) do list[i] = d + 1 end
    return x[name](x, list, { keepdim = a.keepdims ~= 0 })
  end
end
run.ReduceSum, run.ReduceMean, run.ReduceMax, run.ReduceMin = reduction 'sum', reduction 'mean', reduction 'amax', reduction 'amin'

for op, name in pairs{ ArgMax = 'argmax', ArgMin = 'argmin' } do
  run[op] = function(a, x) return x[name](x, a.axis + 1, { keepdim = a.keepdims ~= 0 }) - 1 end
end

function run.CumSum(_, x, axis) return x:cumsum(tonumber(axis:item()) + 1) end

function run.MatMul(_, a, b) return a:matmul(b) end

function run.Gemm(a, x, w, b)
  assert(a.transB == 1)
  local y = x:matmul(w:transpose(1, 2))
  return b and y + b or y
end

local function by_axis(list)
  local n, pairs_of = #list / 2, {}
  for d = 1, n do pairs_of[d] = { list[d], list[n + d] } end
  return pairs_of
end

function run.Conv(a, x, w, b)
  return F[('conv%dd'):format(x:dim() - 2)](x, w, b, { stride = a.strides, padding = by_axis(a.pads), dilation = a.dilations,
    groups = a.group })
end

function run.ConvTranspose(a, x, w, b)
  return F[('conv_transpose%dd'):format(x:dim() - 2)](x, w, b, { stride = a.strides, padding = by_axis(a.pads), dilation = a.dilations,
    groups = a.group, output_padding = a.output_padding })
end

function run.MaxPool(a, x)
  local dims = x:dim() - 2
  if a.pads then
    local amounts = {}
    for d = dims, 1, -1 do amounts[#amounts + 1], amounts[#amounts + 2] = a.pads[d], a.pads[dims + d] end
    x = F.pad(x, amounts, { value = -math.huge })
  end
  return (F[('max_pool%dd'):format(dims)](x, a.kernel_shape, { stride = a.strides, dilation = a.dilations }))
end

local function channels(t, x)
  local shape = {}
  for d = 1, x:dim() do shape[d] = 1 end
  shape[2] = t:size(1)
  return t:reshape(shape)
end

function run.BatchNormalization(a, x, scale, shift, mean, var)
  local rstd = (var + a.epsilon):rsqrt()
  return (x - channels(mean, x)) * channels(rstd * scale, x) + channels(shift, x)
end

function run.LayerNormalization(a, x, scale, shift)
  local dims = {}
  for d = a.axis + 1, x:dim() do dims[#dims + 1] = d end
  local d = x - x:mean(dims, { keepdim = true })
  local y = d * ((d * d):mean(dims, { keepdim = true }) + a.epsilon):rsqrt() * scale
  return shift and y + shift or y
end

-- Sizes of a result against what the file says; names of sizes must be the same number everywhere.
local function check_shape(info, t, known)
  assert(t.dtype == info.dtype, ('%s: %s, the file says %s'):format(info.name, t.dtype, info.dtype))
  assert(t:dim() == #info.shape, ('%s: %d dims, the file says %d'):format(info.name, t:dim(), #info.shape))
  for d, s in ipairs(info.shape) do
    local n = t:size(d)
    if type(s) == 'string' then
      known[s] = known[s] or n
      s = known[s]
    end
    assert(s == n, ('%s: size %d of dim %d, the file says %s'):format(info.name, n, d, tostring(info.shape[d])))
  end
end

--- onnx.run(model, { x, mask }) -> list of outputs.
function onnx.run(model, inputs)
  local values, known = {}, {}
  for name, t in pairs(model.initializers) do values[name] = t end
  for i, info in ipairs(model.inputs) do
    check_shape(info, inputs[i], known)
    values[info.name] = inputs[i]
  end
  torch.no_grad(function()
    for _, node in ipairs(model.nodes) do
      local list = {}
      for i, name in ipairs(node.inputs) do
        list[i] = values[name]
        assert(name == '' or list[i], ('%s: no value %s'):format(node.name, name))
      end
      local fn = run[node.op] or error('no ' .. node.op)
      local ok, result = pcall(fn, node.attributes, unpack(list, 1, #node.inputs))
      if not ok then error(('%s (%s): %s'):format(node.name, node.op, tostring(result)), 0) end
      assert(#node.outputs == 1 and values[node.outputs[1]] == nil, 'the name of a result is taken: ' .. node.outputs[1])
      values[node.outputs[1]] = result
    end
  end)
  local outputs = {}
  for i, info in ipairs(model.outputs) do
    outputs[i] = values[info.name]
    check_shape(info, outputs[i], known)
  end
  return outputs
end

return onnx
