--- npy: one array in NumPy's format (numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions 1.0 to 3.0.
--
-- The header is a Python dictionary of three known entries; it is matched, never evaluated. Arrays of objects, structures and
-- strings are refused.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local widen = require 'masked_torch.io.widen'

local npy = {}

local HEADER_LIMIT = 65536
local MAGIC = '\147NUMPY'
-- kind and size -> our type, the form widen reads
local types = { f4 = { 'float32', 'F32' }, f8 = { 'float64', 'F64' }, f2 = { 'float32', 'F16' }, i8 = { 'int64', 'I64' },
  i4 = { 'int32', 'I32' }, i2 = { 'int32', 'I16' }, i1 = { 'int32', 'I8' }, u1 = { 'uint8', 'U8' }, u2 = { 'int32', 'U16' },
  u4 = { 'int64', 'U32' }, b1 = { 'bool', 'BOOL' } }
local written = { float32 = '<f4', float64 = '<f8', int64 = '<i8', int32 = '<i4', uint8 = '|u1', bool = '|b1' }

-- {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } -> descr, fortran, shape
local function parse(f, text, at)
  local function bad(message) f:fail(at, 'header: %s', message) end
  local body = text:match('^%s*{(.*)}%s*$')
  if not body then bad('a dictionary was expected') end
  local seen, i = {}, 1
  while true do
    i = body:match('^%s*()', i)
    if i > #body then break end
    local _, name, after = body:match('^([\'"])([%w_]+)%1%s*:%s*()', i)
    if not name then bad('a quoted name was expected') end
    if seen[name] ~= nil then bad(("'%s' appears twice"):format(name)) end
    local _, word, next_i = body:match('^([\'"])([^\'"]*)%1()', after)
    if not word then
      word, next_i = body:match('^(%b())()', after)
      if not word then word, next_i = body:match('^(%a+)()', after) end
    end
    if not word then
      bad(name == 'descr' and 'arrays of structures are not supported' or ("'%s' has an unknown value"):format(name))
    end
    seen[name] = word
    i = body:match('^%s*()', next_i)
    if i > #body then break end
    if body:sub(i, i) ~= ',' then bad("',' was expected") end
    i = i + 1
  end
  for name in pairs(seen) do
    if name ~= 'descr' and name ~= 'fortran_order' and name ~= 'shape' then bad(("unknown entry '%s'"):format(name)) end
  end
  if not seen.descr or not seen.shape or (seen.fortran_order ~= 'True' and seen.fortran_order ~= 'False') then
    bad("'descr', 'fortran_order' and 'shape' were expected")
  end
  local inner = seen.shape:match('^%((.*)%)$')
  if not inner or inner:find('[^%d%s,L]') then bad('the shape is not a tuple of whole numbers') end
  local shape = {}
  for number in inner:gmatch('%d+') do shape[#shape + 1] = tonumber(number) end
  local _, commas = inner:gsub(',', '')
  if commas ~= #shape and commas ~= #shape - 1 or (#shape == 1 and commas == 0) then bad('the shape is not a tuple') end
  return seen.descr, seen.fortran_order == 'True', shape
end

--- npy.load(path): the array as a tensor, row-major. bool, uint8, int32, int64, float32 and float64 keep their type; int8, int16,
-- uint16 become int32, uint32 int64, float16 float32. Both byte orders and both index orders. Errors name the path and byte.
function npy.load(path)
  return file.with('npy.load', path, function(f)
    if f.size < 10 or f:read(0, 6) ~= MAGIC then f:fail(0, 'not an npy file (it does not begin with \\x93NUMPY)') end
    local major, minor = f:read(6, 2):byte(1, 2)
    if major < 1 or major > 3 or minor ~= 0 then f:fail(6, 'version %d.%d is not supported (1.0 to 3.0 are)', major, minor) end
    local width = major == 1 and 2 or 4
    local length = 0
    for k, byte in ipairs{ f:read(8, width):byte(1, width) } do length = length + byte * 256 ^ (k - 1) end
    local start = 8 + width
    if length > HEADER_LIMIT or start + length > f.size then
      f:fail(8, 'the header has %.0f bytes; the file has %d, the limit is %d', length, f.size, HEADER_LIMIT)
    end
    local descr, fortran, shape = parse(f, f:read(start, length), start)
    local order, code = descr:match('^([<>|=]?)(%a%d+)$')
    local known = code and types[code]
    if not known then
      f:fail(start, "dtype '%s' is not supported%s", descr:sub(1, 40):gsub('%c', '?'),
        descr:find('O') and ': arrays of objects hold Python pickles, which could run code' or '')
    end
    local size = tonumber(code:sub(2))
    if #shape > 8 then f:fail(start, '%d dimensions, a tensor has 0 to 8', #shape) end
    local count, largest = 1, 1
    for _, n in ipairs(shape) do
      count = count * n
      largest = largest * math.max(1, n)
    end
    if largest > 2 ^ 53 then f:fail(start, 'shape: the number of elements overflows') end
    local data = start + length
    if count * size ~= f.size - data then
      f:fail(data, '%d bytes of data, the shape (%s) of %s needs %.0f', f.size - data, table.concat(shape, ', '), descr,
        count * size)
    end
    local stored = shape
    if fortran then
      stored = {}
      for d = 1, #shape do stored[d] = shape[#shape + 1 - d] end
    end
    local t = Tensor.empty('npy.load', stored, known[1])
    widen.read(f, t, data, count, known[2], size, function(at, message) f:fail(data + at, '%s', message) end,
      order == '>' and size > 1)
    if not fortran or #shape < 2 then return t end
    -- The file holds the transposed array row-major.
    local strides, from = {}, t:stride()
    for d = 1, #shape do strides[d] = from[#shape + 1 - d] end
    local view = Tensor.as_view('npy.load', t, shape, strides, 0)
    local result = Tensor.empty('npy.load', shape, known[1])
    native.check(result.K.mt_tensor_copy(result._c, view._c))
    return result
  end)
end

--- npy.save(path, tensor): version 1.0, row-major, little-endian. The file is whole or absent.
function npy.save(path, t)
  file.check_path('npy.save', path)
  Tensor.check('npy.save', 'tensor', t)
  if not written[t.dtype] then native.fail('npy.save: tensor: the format has no %s; use :float(), which changes no value', t.dtype) end
  local shape = t:size()
  local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }"):format(written[t.dtype],
    table.concat(shape, ', '), #shape == 1 and ',' or '')
  header = header .. (' '):rep(-(10 + #header + 1) % 64) .. '\n'
  t = widen.contiguous(t)
  file.write('npy.save', path, function(write)
    write(MAGIC .. '\1\0' .. string.char(#header % 256, math.floor(#header / 256)) .. header)
    write(ffi.cast('const uint8_t *', t._c.data), t:numel() * t:element_size())
  end)
end

return npy
