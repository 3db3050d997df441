--- sha256: the checksum of a string (FIPS 180-4), for files that were fetched.

local ffi = require 'ffi'
local bit = require 'bit'
local band, bnot, bxor, ror, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.ror, bit.rshift, bit.tobit

-- The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
local K = ffi.new('int32_t[64]', {
  0x428a2f98, 0x71374491, 0xb5c0fbcf - 2 ^ 32, 0xe9b5dba5 - 2 ^ 32, 0x3956c25b, 0x59f111f1, 0x923f82a4 - 2 ^ 32, 0xab1c5ed5 - 2 ^ 32,
  0xd807aa98 - 2 ^ 32, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe - 2 ^ 32, 0x9bdc06a7 - 2 ^ 32, 0xc19bf174 - 2 ^ 32,
  0xe49b69c1 - 2 ^ 32, 0xefbe4786 - 2 ^ 32, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152 - 2 ^ 32, 0xa831c66d - 2 ^ 32, 0xb00327c8 - 2 ^ 32, 0xbf597fc7 - 2 ^ 32, 0xc6e00bf3 - 2 ^ 32, 0xd5a79147 - 2 ^ 32,
  0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e - 2 ^ 32,
  0x92722c85 - 2 ^ 32, 0xa2bfe8a1 - 2 ^ 32, 0xa81a664b - 2 ^ 32, 0xc24b8b70 - 2 ^ 32, 0xc76c51a3 - 2 ^ 32, 0xd192e819 - 2 ^ 32,
  0xd6990624 - 2 ^ 32, 0xf40e3585 - 2 ^ 32, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814 - 2 ^ 32, 0x8cc70208 - 2 ^ 32, 0x90befffa - 2 ^ 32,
  0xa4506ceb - 2 ^ 32, 0xbef9a3f7 - 2 ^ 32, 0xc67178f2 - 2 ^ 32 })

local function block(state, w, bytes, at)
  for t = 0, 15 do
    local p = at + 4 * t
    w[t] = tobit(bytes[p] * 0x1000000 + bytes[p + 1] * 0x10000 + bytes[p + 2] * 0x100 + bytes[p + 3])
  end
  for t = 16, 63 do
    local x, y = w[t - 15], w[t - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
    w[t] = tobit(w[t - 16] + s0 + w[t - 7] + s1)
  end
  local a, b, c, d = state[0], state[1], state[2], state[3]
  local e, f, g, h = state[4], state[5], state[6], state[7]
  for t = 0, 63 do
    local t1 = tobit(h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + K[t] + w[t])
    local t2 = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c)))
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
  end
  state[0], state[1], state[2], state[3] = tobit(state[0] + a), tobit(state[1] + b), tobit(state[2] + c), tobit(state[3] + d)
  state[4], state[5], state[6], state[7] = tobit(state[4] + e), tobit(state[5] + f), tobit(state[6] + g), tobit(state[7] + h)
end

--- sha256(text): 64 hexadecimal digits.
return function(text)
  local state = ffi.new('int32_t[8]', { 0x6a09e667, 0xbb67ae85 - 2 ^ 32, 0x3c6ef372, 0xa54ff53a - 2 ^ 32, 0x510e527f,
    0x9b05688c - 2 ^ 32, 0x1f83d9ab, 0x5be0cd19 })
  local w = ffi.new('int32_t[64]')
  local whole = #text - #text % 64
  local bytes = ffi.cast('const uint8_t *', text)
  for at = 0, whole - 64, 64 do block(state, w, bytes, at) end
  local tail = text:sub(whole + 1) .. '\128'
  tail = tail .. ('\0'):rep((56 - #tail) % 64)
  local length, digits = #text * 8, {}
  for k = 8, 1, -1 do
    digits[k] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  tail = tail .. table.concat(digits)
  bytes = ffi.cast('const uint8_t *', tail)
  for at = 0, #tail - 64, 64 do block(state, w, bytes, at) end
  local out = {}
  for i = 0, 7 do out[i + 1] = bit.tohex(state[i]) end
  return table.concat(out)
end
