--- idx: the format of MNIST and its relatives, plain or gzip-compressed (http://yann.lecun.com/exdb/mnist).
--
-- 0, 0, element type, number of dims n, n sizes of 4 bytes, elements; all big-endian. Sizes are believed only as far as the data
-- goes: the file must hold exactly as many bytes as they say.

local ffi = require 'ffi'
local file = require 'masked_torch.io.file'
local gzip = require 'masked_torch.io.gzip'
local Tensor = require 'masked_torch.tensor'
local widen = require 'masked_torch.io.widen'

local idx = {}

-- dtype, code of io/widen.lua, bytes
local types = { [8] = { 'uint8', 'U8', 1 }, [9] = { 'int32', 'I8', 1 }, [0x0b] = { 'int32', 'I16', 2 },
  [0x0c] = { 'int32', 'I32', 4 }, [0x0d] = { 'float32', 'F32', 4 }, [0x0e] = { 'float64', 'F64', 8 } }

-- deflate makes 1 byte of at most 1032.
local RATIO = 1032

-- f: the open file; source: anything with read_into(pointer, offset, count) called in order; largest: the bytes it can hold.
local function parse(f, source, largest)
  local bytes = ffi.new('uint8_t[32]')
  local function header(count, what)
    if source.at + count > largest then f:fail(source.at, 'the file is too short for %s', what) end
    source:read_into(bytes, source.at, count)
  end
  header(4, 'an IDX header')
  local known = types[bytes[2]]
  if bytes[0] ~= 0 or bytes[1] ~= 0 or not known then
    f:fail(0, 'not an IDX file: it begins with %02x %02x %02x %02x', bytes[0], bytes[1], bytes[2], bytes[3])
  end
  local ndim = bytes[3]
  if ndim < 1 or ndim > 8 then f:fail(3, '%d dims; a tensor from a file has 1 to 8', ndim) end
  header(4 * ndim, 'its sizes')
  local shape, count = {}, 1
  for d = 1, ndim do
    local n = 0
    for k = 0, 3 do n = n * 256 + bytes[4 * (d - 1) + k] end
    shape[d] = n
    count = count * n
  end
  local data = 4 + 4 * ndim
  if data + count * known[3] > largest then
    f:fail(4, 'the sizes (%s) need %.0f bytes; the file of %d bytes cannot hold them', table.concat(shape, ', '),
      count * known[3], f.size)
  end
  local t = Tensor.empty('idx.load', shape, known[1])
  widen.read(source, t, data, count, known[2], known[3], function(at, message) f:fail(data + at, '%s', message) end,
    known[3] > 1)
  return t, data + count * known[3]
end

--- torch.io.idx.load(path): the array as a tensor: uint8, int32 (from 8, 16 or 32 bits with sign), float32 or float64.
-- Errors name the path; nothing is allocated that the file could not fill.
function idx.load(path)
  return file.with('idx.load', path, function(f)
    if not gzip.is_gzip(f) then
      local source = { at = 0, read_into = function(self, pointer, offset, count)
        f:read_into(pointer, offset, count)
        self.at = offset + count
      end }
      local t, size = parse(f, source, f.size)
      if size ~= f.size then f:fail(size, '%d bytes follow the data', f.size - size) end
      return t
    end
    return gzip.with(f, function(reader)
      local source = { at = 0, read_into = function(self, pointer, offset, count)
        reader(pointer, count)
        self.at = offset + count
      end }
      local t = parse(f, source, RATIO * f.size)
      if reader:some(ffi.new('uint8_t[1]'), 1) ~= 0 then f:fail(nil, 'more data follows than the sizes say') end
      return t
    end)
  end)
end

return idx
