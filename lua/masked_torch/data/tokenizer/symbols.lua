--- symbols: the two simple tokenizers.
--
-- Bytes: 256 tokens, id = byte + 1.
-- Characters: the code points of a corpus in their order, id = place. A byte of the corpus that is not part of valid UTF-8 is
-- a symbol of its own, after the code points. A character that the corpus did not have is an error, or with
-- {unknown = '<unk>'} (any text) the last token, whose text that is.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local json = require 'masked_torch.io.json'
local Tokenizer = require 'masked_torch.data.tokenizer.base'
local utf8 = require 'masked_torch.data.tokenizer.utf8'

local fail = native.fail
local symbols = {}

local pointer_type = { int64 = ffi.typeof('int64_t *'), int32 = ffi.typeof('int32_t *') }

-- Pointer and step of a vector of ids.
local function elements(ids)
  return ffi.cast(pointer_type[ids.dtype], ids._c.data), tonumber(ids._c.stride[0]), tonumber(ids._c.numel)
end

local function out_of_range(tok, id, position)
  fail('decode: ids: expected ids from 1 to %d, got %s at position %d', tok.vocab_size, tostring(tonumber(id)), position)
end

-- ---- bytes -------------------------------------------------------------------------------------------------------

local Bytes = class('ByteTokenizer', Tokenizer)
symbols.Bytes = Bytes

function Bytes:__init()
  self.vocab_size, self.special_list = 256, {}
end

function Bytes:_encode(bytes, length, o, op)
  self:special_flags(op, o.special)
  local ids = Tensor.empty(op, { length }, o.dtype)
  local p = ffi.cast(pointer_type[o.dtype], ids._c.data)
  for i = 0, length - 1 do p[i] = bytes[i] + 1 end
  return ids
end

function Bytes:_decode(ids)
  local p, step, n = elements(ids)
  local bytes = ffi.new('uint8_t[?]', math.max(1, n))
  for i = 0, n - 1 do
    local id = p[i * step]
    if id < 1 or id > 256 then out_of_range(self, id, i + 1) end
    bytes[i] = id - 1
  end
  return ffi.string(bytes, n)
end

--- The byte of an id, as a string.
function Bytes:token(id) return string.char(self:check_id('token', id) - 1) end

--- The id of one byte; nil for anything else.
function Bytes.id(_, bytes)
  Tokenizer.check_text('id', 'bytes', bytes)
  return #bytes == 1 and bytes:byte() + 1 or nil
end

function Bytes.serialize(_)
  return json.encode{ format = 'masked_torch.tokenizer', type = 'bytes' }
end

-- ---- characters ----------------------------------------------------------------------------------------------------

local Characters = class('CharacterTokenizer', Tokenizer)
symbols.Characters = Characters

local CODES = 0x110000 + 256    -- code points, then the bytes that are none

-- codes: what utf8.at gives, in order of the ids.
function Characters:__init(codes, unknown)
  self.special_list = {}
  self.codes, self.unknown = codes, unknown
  self.vocab_size = #codes + (unknown and 1 or 0)
  self.id_of = ffi.new('int32_t[?]', CODES)
  for id, code in ipairs(codes) do self.id_of[code] = id end
end

--- The tokenizer of a corpus' characters.
function symbols.characters(text, opts)
  local o = options.parse('characters', { unknown = options.none }, opts)
  Tokenizer.check_text('characters', 'text', text)
  if o.unknown ~= nil and (type(o.unknown) ~= 'string' or o.unknown == '') then
    fail('characters: unknown: expected the text of the unknown symbol, got %s', type(o.unknown))
  elseif text == '' then
    fail('characters: text: expected a corpus, it is empty')
  end
  local seen, bytes, i, n = ffi.new('uint8_t[?]', CODES), ffi.cast('const uint8_t *', text), 0, #text
  while i < n do
    local code, length = utf8.at(bytes, i, n)
    seen[code] = 1
    i = i + length
  end
  local codes = {}
  for code = 0, CODES - 1 do
    if seen[code] == 1 then codes[#codes + 1] = code end
  end
  return Characters(codes, o.unknown)
end

local function shown(code)
  return code >= 0x110000 and ('byte 0x%02x (no valid UTF-8)'):format(code - 0x110000) or
    ('character %q (U+%04X)'):format(utf8.char(code), code)
end

function Characters:_encode(bytes, length, o, op)
  self:special_flags(op, o.special)
  local list = ffi.new('int32_t[?]', math.max(1, length))
  local n, i, id_of, unknown = 0, 0, self.id_of, self.unknown and self.vocab_size or 0
  while i < length do
    local code, size = utf8.at(bytes, i, length)
    local id = id_of[code]
    if id == 0 then
      if unknown == 0 then fail('%s: text: %s at byte %d is not in the vocabulary', op, shown(code), i + 1) end
      id = unknown
    end
    list[n] = id
    n = n + 1
    i = i + size
  end
  local ids = Tensor.empty(op, { n }, o.dtype)
  local p = ffi.cast(pointer_type[o.dtype], ids._c.data)
  for k = 0, n - 1 do p[k] = list[k] end
  return ids
end

function Characters:_decode(ids)
  local p, step, n = elements(ids)
  local parts = {}
  for i = 0, n - 1 do
    local id = tonumber(p[i * step])
    if id < 1 or id > self.vocab_size then out_of_range(self, id, i + 1) end
    parts[i + 1] = self.codes[id] and utf8.char(self.codes[id]) or self.unknown
  end
  return table.concat(parts)
end

--- The text of an id.
function Characters:token(id)
  local code = self.codes[self:check_id('token', id)]
  return code and utf8.char(code) or self.unknown
end

--- The id of one character; nil where the corpus did not have it.
function Characters:id(bytes)
  Tokenizer.check_text('id', 'bytes', bytes)
  if bytes == '' then return nil end
  local code, size = utf8.at(ffi.cast('const uint8_t *', bytes), 0, #bytes)
  if size == #bytes and self.id_of[code] > 0 then return self.id_of[code] end
  if bytes == self.unknown then return self.vocab_size end
end

--- Symbols are written as numbers: a code point, or 1114112 + a byte that is not part of valid UTF-8.
function Characters:serialize()
  return json.encode{ format = 'masked_torch.tokenizer', type = 'characters', unknown = self.unknown or json.null,
    symbols = setmetatable(self.codes, json.array) }
end

--- The tokenizer of a value that serialize wrote; refuse(format, ...) raises the error.
function symbols.from_value(value, refuse)
  if value.type == 'bytes' then return Bytes() end
  if value.type ~= 'characters' then refuse("type: expected 'bytes' or 'characters', got %s", tostring(value.type)) end
  local codes, unknown = value.symbols, value.unknown
  if getmetatable(codes) ~= json.array or #codes == 0 then refuse('symbols: expected a list of numbers') end
  for i, code in ipairs(codes) do
    if type(code) ~= 'number' or code % 1 ~= 0 or code < 0 or code >= CODES or (code >= 0xd800 and code < 0xe000) then
      refuse('symbols: entry %d: expected a code point, got %s', i, tostring(code))
    elseif i > 1 and code <= codes[i - 1] then
      refuse('symbols: entry %d: %d does not follow %d: expected increasing numbers', i, code, codes[i - 1])
    end
  end
  if unknown == json.null then unknown = nil end
  if unknown ~= nil and (type(unknown) ~= 'string' or unknown == '') then refuse('unknown: expected a text or null') end
  return Characters(codes, unknown)
end

return symbols
