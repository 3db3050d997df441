--- utf8: where characters end in bytes that may not be valid UTF-8.

local utf8 = {}

-- Bytes that a first byte announces, nil for bytes that begin nothing.
local function announced(first)
  if first >= 0xc2 and first <= 0xdf then return 2 end
  if first >= 0xe0 and first <= 0xef then return 3 end
  if first >= 0xf0 and first <= 0xf4 then return 4 end
end

-- The second byte's range depends on the first (no overlong forms, no surrogates, nothing above U+10FFFF).
local function second_fits(first, second)
  local low = first == 0xe0 and 0xa0 or first == 0xf0 and 0x90 or 0x80
  local high = first == 0xed and 0x9f or first == 0xf4 and 0x8f or 0xbf
  return second >= low and second <= high
end

--- How many bytes at the end of `text` are the beginning of a character that more bytes could complete: 0 to 3.
function utf8.incomplete(text)
  for back = 1, math.min(3, #text) do
    local first, second = text:byte(-back, back > 1 and 1 - back or -1)
    local length = announced(first)
    if length then
      local fits = back == 1 or second_fits(first, back == 2 and text:byte(-1) or second)
      return fits and back < length and back or 0
    elseif first < 0x80 or first > 0xbf then
      return 0
    end
  end
  return 0
end

--- The code point at 0-based position i of `length` bytes at pointer p, and its length; a byte that is not part of valid UTF-8
-- gives 0x110000 + its value, and 1.
function utf8.at(p, i, length)
  local a = p[i]
  if a < 0x80 then return a, 1 end
  local n = announced(a)
  if n and i + n <= length and second_fits(a, p[i + 1]) then
    local code = n == 2 and a % 32 or n == 3 and a % 16 or a % 8
    local valid = true
    for k = 1, n - 1 do
      local c = p[i + k]
      if c < 0x80 or c > 0xbf then valid = false end
      code = code * 64 + c % 64
    end
    if valid then return code, n end
  end
  return 0x110000 + a, 1
end

--- The bytes of what utf8.at gives.
function utf8.char(code)
  local c, f = string.char, math.floor
  if code >= 0x110000 then return c(code - 0x110000) end
  if code < 0x80 then return c(code) end
  if code < 0x800 then return c(0xc0 + f(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then return c(0xe0 + f(code / 4096), 0x80 + f(code / 64) % 64, 0x80 + code % 64) end
  return c(0xf0 + f(code / 262144), 0x80 + f(code / 4096) % 64, 0x80 + f(code / 64) % 64, 0x80 + code % 64)
end

return utf8
