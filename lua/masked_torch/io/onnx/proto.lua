--- proto: the messages of ONNX (github.com/onnx/onnx, onnx.proto) in the wire format of protocol buffers.
--
-- A message is a list of strings, tensors and such lists, with its length in bytes: weights are copied to the file directly.

local wire = require 'masked_torch.io.wire'
local widen = require 'masked_torch.io.widen'
local Tensor = require 'masked_torch.tensor'

local proto = {}

--- proto.type_code[dtype]: TensorProto.DataType
proto.type_code = { float32 = 1, uint8 = 2, int32 = 6, int64 = 7, bool = 9, float64 = 11 }

local function length_of(part)
  if type(part) == 'string' then return #part end
  if Tensor.is_tensor(part) then return part:numel() * part:element_size() end
  return part.length
end

-- A list of parts as one part.
local function join(parts)
  local length = 0
  for _, part in ipairs(parts) do length = length + length_of(part) end
  parts.length = length
  return parts
end

local function message(field, ...)
  local parts = join{ ... }
  return join{ wire.varint(field * 8 + 2), wire.varint(parts.length), parts }
end

-- A repeated field of messages.
local function each(field, list, encode)
  local parts = {}
  for i, value in ipairs(list) do parts[i] = message(field, encode(value)) end
  return join(parts)
end

local function text(field, s) return s ~= nil and s ~= '' and wire.bytes(field, s) or '' end

-- ---- attributes ----------------------------------------------------------------------------------------------------

-- One by its value: { float = 0.5 }, { int = 2 }, a string, or a list of whole numbers.
local function attribute(name, value)
  if type(value) == 'string' then return join{ wire.bytes(1, name), wire.bytes(4, value), wire.int(20, 3) } end
  if value.float then return join{ wire.bytes(1, name), wire.float(2, value.float), wire.int(20, 1) } end
  if value.int then return join{ wire.bytes(1, name), wire.int(3, value.int), wire.int(20, 2) } end
  if value.tensor then return join{ wire.bytes(1, name), message(5, proto.tensor(value.tensor)), wire.int(20, 4) } end
  local parts = { wire.bytes(1, name) }
  for _, v in ipairs(value) do parts[#parts + 1] = wire.int(8, v) end
  parts[#parts + 1] = wire.int(20, 7)
  return join(parts)
end

local function node(n)
  local parts = {}
  for _, name in ipairs(n.inputs) do parts[#parts + 1] = wire.bytes(1, name) end
  for _, name in ipairs(n.outputs) do parts[#parts + 1] = wire.bytes(2, name) end
  parts[#parts + 1] = text(3, n.name)
  parts[#parts + 1] = wire.bytes(4, n.op)
  local names = {}
  for name in pairs(n.attributes) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = message(5, attribute(name, n.attributes[name])) end
  parts[#parts + 1] = text(6, n.doc)
  return join(parts)
end

--- proto.tensor{name =, tensor =, doc =}: a TensorProto with the tensor's bytes, row-major, little-endian.
function proto.tensor(t)
  local parts = {}
  for _, n in ipairs(t.tensor:size()) do parts[#parts + 1] = wire.int(1, n) end
  parts[#parts + 1] = wire.int(2, proto.type_code[t.tensor.dtype])
  parts[#parts + 1] = text(8, t.name)
  parts[#parts + 1] = wire.varint(9 * 8 + 2) .. wire.varint(length_of(t.tensor))
  parts[#parts + 1] = t.tensor
  parts[#parts + 1] = text(12, t.doc)
  return join(parts)
end

-- { name =, dtype =, dims = list of numbers and names, doc = }
local function value_info(v)
  local dims = {}
  for i, d in ipairs(v.dims) do dims[i] = message(1, type(d) == 'number' and wire.int(1, d) or wire.bytes(2, d)) end
  local tensor_type = join{ wire.int(1, proto.type_code[v.dtype]), message(2, join(dims)) }
  return join{ wire.bytes(1, v.name), message(2, message(1, tensor_type)), text(3, v.doc) }
end

--- proto.model{ir_version =, opset =, producer =, version =, doc =, metadata = {{key, value}}, graph = {name =, doc =, nodes =,
-- initializers =, inputs =, outputs =, values =}}
function proto.model(m)
  local g = m.graph
  local graph = join{
    each(1, g.nodes, node), wire.bytes(2, g.name), each(5, g.initializers, proto.tensor), text(10, g.doc),
    each(11, g.inputs, value_info), each(12, g.outputs, value_info), each(13, g.values, value_info),
  }
  return join{
    wire.int(1, m.ir_version), wire.bytes(2, m.producer), wire.bytes(3, m.version), text(6, m.doc), message(7, graph),
    message(8, wire.int(2, m.opset)),
    each(14, m.metadata, function(entry) return join{ wire.bytes(1, entry[1]), wire.bytes(2, entry[2]) } end),
  }
end

--- proto.write(write, part): hands everything to a writer of io.file, in order.
function proto.write(write, part)
  if type(part) == 'string' then
    write(part)
  elseif Tensor.is_tensor(part) then
    -- In a table: compiled code must not forget a copy while its memory is being written.
    local kept = { widen.contiguous(part) }
    write(kept[1]._c.data, length_of(part))
  else
    for _, piece in ipairs(part) do proto.write(write, piece) end
  end
end

return proto
