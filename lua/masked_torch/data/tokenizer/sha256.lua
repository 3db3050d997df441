--- sha256: the digest of a string, in hexadecimal (FIPS 180-4). For checking fetched files.

local bit = require 'bit'
local band, bxor, bnot, ror, rshift, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift, bit.tobit

-- The first 32 bits of the fractions of the square (8) and cube (64) roots of the primes.
local initial, K = {}, {}
do
  local prime, found = 2, 0
  while found < 64 do
    local is_prime = true
    for d = 2, math.floor(math.sqrt(prime)) do
      if prime % d == 0 then is_prime = false end
    end
    if is_prime then
      found = found + 1
      if found <= 8 then initial[found] = tobit(math.floor(prime ^ 0.5 % 1 * 2 ^ 32)) end
      K[found] = tobit(math.floor(prime ^ (1 / 3) % 1 * 2 ^ 32))
    end
    prime = prime + 1
  end
end

local function block(h, text, at, w)
  for t = 1, 16 do
    local a, b, c, d = text:byte(at + 4 * t - 4, at + 4 * t - 1)
    w[t] = tobit(a * 0x1000000 + b * 0x10000 + c * 0x100 + d)
  end
  for t = 17, 64 do
    local x, y = w[t - 15], w[t - 2]
    w[t] = tobit(bxor(ror(y, 17), ror(y, 19), rshift(y, 10)) + w[t - 7] + bxor(ror(x, 7), ror(x, 18), rshift(x, 3)) + w[t - 16])
  end
  local a, b, c, d, e, f, g, i = unpack(h)
  for t = 1, 64 do
    local t1 = tobit(i + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + K[t] + w[t])
    local t2 = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c)))
    i, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
  end
  for k, v in ipairs{ a, b, c, d, e, f, g, i } do h[k] = tobit(h[k] + v) end
end

return function(text)
  local h, w, n = { unpack(initial) }, {}, #text
  local rest = text:sub(n - n % 64 + 1) .. '\128'
  rest = rest .. ('\0'):rep((56 - #rest) % 64)
  local bits = n * 8
  local length = {}
  for k = 8, 1, -1 do
    length[k] = string.char(bits % 256)
    bits = math.floor(bits / 256)
  end
  rest = rest .. table.concat(length)
  for at = 1, n - 63, 64 do block(h, text, at, w) end
  for at = 1, #rest, 64 do block(h, rest, at, w) end
  local hex = {}
  for k = 1, 8 do hex[k] = bit.tohex(h[k]) end
  return table.concat(hex)
end
