--- safetensors: tensors by name in one file, as Hugging Face defined it (github.com/huggingface/safetensors).
--
--     8 bytes    n, the length of the header, little-endian
--     n bytes    JSON: { "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end] }, ..., "__metadata__": {...} }
--     the rest   the tensors' bytes, row-major, little-endian; offsets count from the end of the header
--
-- The reader trusts nothing: the header has at most 16 MiB, starts with '{', names are unique, the data is tiled by the
-- tensors without holes or overlap and ends with the file, and every size is checked against the file before memory is taken.
-- Nothing in a file is ever executed.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local options = require 'masked_torch.options'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local widen = require 'masked_torch.io.widen'

local fail = native.fail
local safetensors = {}

local HEADER_LIMIT = 16 * 2 ^ 20
local code_of = { float64 = 'F64', float32 = 'F32', int64 = 'I64', int32 = 'I32', uint8 = 'U8', bool = 'BOOL',
  bfloat16 = 'BF16' }
-- file type -> our type, bytes per element in the file
local types = { F64 = { 'float64', 8 }, F32 = { 'float32', 4 }, I64 = { 'int64', 8 }, I32 = { 'int32', 4 },
  U8 = { 'uint8', 1 }, BOOL = { 'bool', 1 }, F16 = { 'float32', 2 }, BF16 = { 'bfloat16', 2 }, I16 = { 'int32', 2 },
  U16 = { 'int32', 2 }, I8 = { 'int32', 1 }, U32 = { 'int64', 4 } }

-- A name from a file, fit for a message.
local function show(name)
  if #name > 80 then name = name:sub(1, 77) .. '...' end
  return "'" .. name:gsub('%c', '?') .. "'"
end

-- ---- reading ---------------------------------------------------------------------------------------------------

local function whole(value, limit)
  return type(value) == 'number' and value >= 0 and value % 1 == 0 and value <= (limit or 2 ^ 53)
end

-- One entry of the header, checked: { name, dtype, code, shape, first, last (offsets in the data), stored (bytes per element) }
local function entry_of(f, name, raw, data_size)
  local function bad(...) f:fail(8, 'tensor %s: %s', show(name), select('#', ...) > 1 and string.format(...) or (...)) end
  if getmetatable(raw) ~= json.object then bad('expected an object') end
  for key in pairs(raw) do
    if key ~= 'dtype' and key ~= 'shape' and key ~= 'data_offsets' then bad('unknown entry %s', show(key)) end
  end
  local known = type(raw.dtype) == 'string' and types[raw.dtype]
  if not known then bad('dtype %s is not supported', type(raw.dtype) == 'string' and show(raw.dtype) or 'of that kind') end
  if getmetatable(raw.shape) ~= json.array then bad('shape: expected an array') end
  if #raw.shape > 8 then bad('%d dimensions, a tensor has 0 to 8', #raw.shape) end
  local numel, largest = 1, 1
  for i = 1, #raw.shape do
    if not whole(raw.shape[i]) then bad('shape: size %d is not a whole number from 0 to 2^53', i) end
    numel = numel * raw.shape[i]
    largest = largest * math.max(1, raw.shape[i])
  end
  if largest > 2 ^ 53 then bad('shape: the number of elements overflows') end
  local offsets = raw.data_offsets
  if getmetatable(offsets) ~= json.array or #offsets ~= 2 or not whole(offsets[1]) or not whole(offsets[2]) then
    bad('data_offsets: expected two whole numbers')
  end
  if offsets[1] > offsets[2] or offsets[2] > data_size then
    bad('data_offsets: %d to %d, the file has %d bytes of data', offsets[1], offsets[2], data_size)
  end
  if offsets[2] - offsets[1] ~= numel * known[2] then
    bad('%d bytes of data, its shape needs %.0f', offsets[2] - offsets[1], numel * known[2])
  end
  return { name = name, dtype = known[1], code = raw.dtype, stored = known[2], shape = raw.shape, numel = numel,
    first = offsets[1], last = offsets[2] }
end

local function metadata_of(f, raw)
  if raw == nil then return {} end
  if getmetatable(raw) ~= json.object then f:fail(8, '__metadata__: expected an object') end
  local metadata = {}
  for key, value in pairs(raw) do
    if type(value) ~= 'string' then f:fail(8, '__metadata__: %s: expected a string', show(key)) end
    metadata[key] = value
  end
  return metadata
end

local function read_header(f)
  if f.size < 8 then f:fail(f.size, 'the file has %d bytes, a safetensors file has at least 10', f.size) end
  local length = ffi.new('uint64_t[1]')
  f:read_into(length, 0, 8)
  if f:read(0, 4) == 'PK\3\4' then
    f:fail(0, 'a ZIP archive, as torch.save of PyTorch writes it; write safetensors there: safetensors.torch.save_file(state_dict, path)')
  end
  if length[0] < 2 or length[0] > HEADER_LIMIT then
    f:fail(0, 'the header has %s bytes; 2 to %d are allowed (is this a safetensors file?)',
      tostring(length[0]):gsub('ULL$', ''), HEADER_LIMIT)
  end
  local n = tonumber(length[0])
  if 8 + n > f.size then f:fail(0, 'the header has %d bytes, the file only %d', n, f.size) end
  local text = f:read(8, n)
  if text:sub(1, 1) ~= '{' then f:fail(8, "the header does not begin with '{' (is this a safetensors file?)") end
  local header = json.decode(text, function(position, message) f:fail(7 + position, 'header: %s', message) end, 4)
  local data_size = f.size - 8 - n
  local entries = {}
  for name, raw in pairs(header) do
    if name ~= '__metadata__' then entries[#entries + 1] = entry_of(f, name, raw, data_size) end
  end
  table.sort(entries, function(a, b)
    if a.first ~= b.first then return a.first < b.first end
    if a.last ~= b.last then return a.last < b.last end
    return a.name < b.name
  end)
  local reached = 0
  for _, entry in ipairs(entries) do
    if entry.first ~= reached then
      f:fail(8 + n + math.min(reached, entry.first), 'tensor %s %s', show(entry.name),
        entry.first > reached and 'leaves a hole before it' or 'overlaps another')
    end
    reached = entry.last
  end
  if reached ~= data_size then
    f:fail(8 + n + reached, '%d bytes after the last tensor', data_size - reached)
  end
  return entries, metadata_of(f, header.__metadata__), 8 + n
end

--- tensors, metadata = safetensors.load(path, {device = 'cpu'}): tensors by name, and the file's strings by name.
-- Types this library lacks are widened without loss: F16 to float32, I8, I16, U16 to int32, U32 to int64.
-- Errors name the path, the byte and the tensor.
function safetensors.load(path, opts)
  opts = options.parse('safetensors.load', { device = 'cpu' }, opts)
  opts.device = Tensor.check_device('safetensors.load', opts.device)
  return file.with('safetensors.load', path, function(f)
    local entries, metadata, start = read_header(f)
    local tensors = {}
    for _, entry in ipairs(entries) do
      local function bad(position, message)
        f:fail(start + entry.first + position, 'tensor %s: %s', show(entry.name), message)
      end
      local t = Tensor.empty('safetensors.load', entry.shape, entry.dtype)
      widen.read(f, t, start + entry.first, entry.numel, entry.code, entry.stored, bad)
      if opts.device ~= 'cpu' then t = t:to{ device = opts.device } end
      tensors[entry.name] = t
    end
    return tensors, metadata
  end)
end

-- ---- writing ---------------------------------------------------------------------------------------------------

local function check_text(op, what, text)
  if type(text) ~= 'string' then fail('%s: %s: expected a string, got %s', op, what, type(text)) end
  local at = json.invalid_utf8(text)
  if at then fail('%s: %s: %s is not valid UTF-8', op, what, show(text)) end
end

--- safetensors.save(path, tensors, [metadata]): tensors is a table by name (net:state_dict()), metadata a table of strings.
-- Tensors of any layout and device; they are written row-major, largest elements first, then by name. The file is whole or
-- absent: written beside its place, flushed, renamed.
function safetensors.save(path, tensors, metadata)
  local op = 'safetensors.save'
  file.check_path(op, path)
  if type(tensors) ~= 'table' or Tensor.is_tensor(tensors) then
    fail('%s: tensors: expected a table of tensors by name, got %s', op,
      Tensor.is_tensor(tensors) and 'a tensor' or type(tensors))
  end
  local names = {}
  for name, t in pairs(tensors) do
    check_text(op, 'a tensor name', name)
    if name == '__metadata__' then fail("%s: a tensor cannot be named '__metadata__'", op) end
    Tensor.check(op, name, t)
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    local x, y = tensors[a]:element_size(), tensors[b]:element_size()
    if x ~= y then return x > y end
    return a < b
  end)
  local header, offset = {}, 0
  if metadata ~= nil then
    if type(metadata) ~= 'table' then fail('%s: metadata: expected a table of strings, got %s', op, type(metadata)) end
    for key, value in pairs(metadata) do
      check_text(op, 'metadata: a key', key)
      check_text(op, 'metadata: ' .. key, value)
    end
    if next(metadata) then header[1] = '"__metadata__":' .. json.encode(metadata) end
  end
  for _, name in ipairs(names) do
    local t = tensors[name]
    local bytes = t:numel() * t:element_size()
    header[#header + 1] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(json.quote(name), code_of[t.dtype],
      table.concat(t:size(), ','), offset, offset + bytes)
    offset = offset + bytes
  end
  local text = '{' .. table.concat(header, ',') .. '}'
  text = text .. (' '):rep(-#text % 8)
  if #text > HEADER_LIMIT then
    fail('%s: %s: the header would have %d bytes, %d are allowed', op, path, #text, HEADER_LIMIT)
  end
  file.write(op, path, function(write)
    local length = ffi.new('uint64_t[1]', #text)
    write(length, 8)
    write(text)
    -- In a table: compiled code must not forget the copy while its memory is being written.
    local kept = {}
    for _, name in ipairs(names) do
      kept[1] = widen.contiguous(tensors[name])
      local t = kept[1]
      write(t._c.data, t:numel() * t:element_size())
    end
  end)
end

return safetensors
