--- wire: the wire format of protocol buffers (protobuf.dev/programming-guides/encoding): fields as strings that are joined.

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local wire = {}
local char = string.char

-- Little-endian bytes of a C value.
local function bytes_of(ctype, size)
  local box = ffi.new(ctype .. '[1]')
  return function(v)
    box[0] = v
    return ffi.string(box, size)
  end
end

wire.f32, wire.f64 = bytes_of('float', 4), bytes_of('double', 8)

--- wire.varint(v): a whole number (negative ones as 64 bits in two's complement).
function wire.varint(v)
  local u = ffi.cast('uint64_t', ffi.cast('int64_t', v))
  local out = {}
  while u >= 128ULL do
    out[#out + 1] = char(tonumber(bit.band(u, 127ULL)) + 128)
    u = bit.rshift(u, 7)
  end
  out[#out + 1] = char(tonumber(u))
  return table.concat(out)
end

local varint = wire.varint
local function key(field, kind) return varint(field * 8 + kind) end

--- One field each: a whole number, a float, a double, bytes (or text, or a message), doubles in one packed field.
function wire.int(field, v) return key(field, 0) .. varint(v) end
function wire.float(field, v) return key(field, 5) .. wire.f32(v) end
function wire.double(field, v) return key(field, 1) .. wire.f64(v) end
function wire.bytes(field, s) return key(field, 2) .. varint(#s) .. s end
function wire.doubles(field, list)
  local parts = {}
  for i = 1, #list do parts[i] = wire.f64(list[i]) end
  return wire.bytes(field, table.concat(parts))
end

-- ---- reading -------------------------------------------------------------------------------------------------------------

local function read_varint(text, i, fail)
  local u, shift = 0ULL, 0
  while true do
    local b = text:byte(i)
    if not b then fail(i, 'the message ends inside a number') end
    if shift > 63 then fail(i, 'a number of more than 64 bits') end
    u = u + bit.lshift(ffi.cast('uint64_t', bit.band(b, 127)), shift)
    i, shift = i + 1, shift + 7
    if b < 128 then return u, i end
  end
end

local fixed = { [1] = 8, [5] = 4 }

--- for field, kind, v in wire.fields(text, [fail]): the fields of a message. v: an int64 for kind 0; the raw bytes for kinds 1 (8),
-- 5 (4) and 2 (any). fail(position, message) is called for a malformed message and must not return.
function wire.fields(text, fail)
  fail = fail or function(i, message) native.fail('wire: byte %d: %s', i, message) end
  local i = 1
  return function()
    if i > #text then return nil end
    local tag
    tag, i = read_varint(text, i, fail)
    tag = tonumber(tag)
    local field, kind = math.floor(tag / 8), tag % 8
    if kind == 0 then
      local v
      v, i = read_varint(text, i, fail)
      return field, kind, ffi.cast('int64_t', v)
    end
    local size = fixed[kind]
    if kind == 2 then
      local n
      n, i = read_varint(text, i, fail)
      size = tonumber(n)
    elseif not size then
      fail(i, ('unknown kind %d of field'):format(kind))
    end
    if size > #text - i + 1 then fail(i, 'the message ends inside a field') end
    i = i + size
    return field, kind, text:sub(i - size, i - 1)
  end
end

--- wire.to_float(bytes), wire.to_double(bytes): numbers, whatever the bits (NaN payloads never reach Lua's own).
local function reader(ctype, size)
  local box = ffi.new(ctype .. '[1]')
  return function(s)
    ffi.copy(box, s, size)
    local v = tonumber(box[0])
    if v ~= v then return 0 / 0 end
    return v
  end
end
wire.to_float, wire.to_double = reader('float', 4), reader('double', 8)

return wire
