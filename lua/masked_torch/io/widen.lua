--- widen: elements as files store them -> elements of our tensors, without loss.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

assert(ffi.abi('le'), 'masked_torch.io expects a little-endian machine')

local widen = {}

-- IEEE half to the bits of a float.
local function half(u)
  local sign = bit.lshift(bit.band(u, 0x8000), 16)
  local exponent, fraction = bit.band(bit.rshift(u, 10), 31), bit.band(u, 0x3ff)
  if exponent == 31 then return bit.bor(sign, 0x7f800000, bit.lshift(fraction, 13)) end
  if exponent == 0 then
    if fraction == 0 then return sign end
    exponent = 113
    while fraction < 0x400 do fraction, exponent = fraction * 2, exponent - 1 end
    return bit.bor(sign, bit.lshift(exponent, 23), bit.lshift(bit.band(fraction, 0x3ff), 13))
  end
  return bit.bor(sign, bit.lshift(exponent + 112, 23), bit.lshift(fraction, 13))
end

-- element type in the file, element type in memory, conversion (nil: C's)
local function bits(u) return u end
local forms = {
  F16 = { 'uint16_t', 'int32_t', half },
  I8 = { 'int8_t', 'int32_t', bits }, I16 = { 'int16_t', 'int32_t', bits }, U16 = { 'uint16_t', 'int32_t', bits },
  U32 = { 'uint32_t', 'int64_t', bits },
}

local function swap(bytes, count, size)
  for i = 0, count - 1 do
    for k = 0, size / 2 - 1 do
      local a, b = i * size + k, i * size + size - 1 - k
      bytes[a], bytes[b] = bytes[b], bytes[a]
    end
  end
end

--- Fills the row-major CPU tensor t with `count` elements of the file's type `code` (size bytes each) at `offset` of the open
-- file f. bad(position in the data, message) raises for a value that is none. big: the file is big-endian.
function widen.read(f, t, offset, count, code, size, bad, big)
  local form = forms[code]
  local target = ffi.cast('uint8_t *', t._c.data)
  if not form then
    f:read_into(target, offset, count * size)
    if big then swap(target, count, size) end
    if code == 'BOOL' then
      for i = 0, count - 1 do
        if target[i] > 1 then bad(i, ('%d is neither true nor false'):format(target[i])) end
      end
    end
    return
  end
  -- In pieces, so that the extra memory does not grow with the file.
  local piece = 65536
  local buffer = ffi.new('uint8_t[?]', piece * size)
  local source, out, convert = ffi.cast(form[1] .. ' *', buffer), ffi.cast(form[2] .. ' *', t._c.data), form[3]
  for first = 0, count - 1, piece do
    local n = math.min(piece, count - first)
    f:read_into(buffer, offset + first * size, n * size)
    if big then swap(buffer, n, size) end
    for i = 0, n - 1 do out[first + i] = convert(source[i]) end
  end
end

--- t itself when it is row-major on the CPU, otherwise such a copy.
function widen.contiguous(t)
  if t.device ~= 'cpu' then t = t:detach():to{ device = 'cpu' } end
  if t:is_contiguous() then return t end
  local copy = Tensor.empty('contiguous', t:size(), t.dtype)
  native.check(copy.K.mt_tensor_copy(copy._c, t._c))
  return copy
end

return widen
