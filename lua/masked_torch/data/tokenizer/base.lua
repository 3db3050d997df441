--- base: what every tokenizer can do.
--
--     tok.vocab_size
--     tok:encode(text, {special =, dtype =})        ids from 1, an int64 vector
--     tok:encode_to_table(text, {special =})        the same as a table
--     tok:encode_file(path, {special =, dtype =})   a whole file
--     tok:decode(ids, {skip_special =})             tensor or table -> bytes
--     tok:decoder()                                 decodes token by token, see below
--     tok:token(id), tok:id(bytes)                  one entry of the vocabulary; nil where there is none of these bytes
--     tok:save(path), tok:serialize()               a file; the same as a string
--
-- special: 'none' (default: the text of a special token is ordinary text), 'all', or a list of those to recognise.
-- dtype: 'int64' (default) or 'int32'.
-- decode(encode(x)) == x for any bytes x (characters: where no character is unknown).

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local utf8 = require 'masked_torch.data.tokenizer.utf8'

local fail = native.fail
local Tokenizer = class('Tokenizer')

local encode_options = { special = options.any('none'), dtype = 'int64' }

-- What subclasses define: _encode(pointer, length, options, op) -> tensor; _decode(ids, skip_special) -> string;
-- serialize; token; id; special (text -> id).

local function parse(op, opts)
  local o = options.parse(op, encode_options, opts)
  options.choice(op, 'dtype', o.dtype, { 'int64', 'int32' })
  return o
end

local function check_text(op, argument, text)
  if type(text) ~= 'string' then fail('%s: %s: expected a string, got %s', op, argument, type(text)) end
  return text
end
Tokenizer.check_text = check_text

--- The ids of a text.
function Tokenizer:encode(text, opts)
  check_text('encode', 'text', text)
  local ids = self:_encode(ffi.cast('const uint8_t *', text), #text, parse('encode', opts), 'encode')
  return ids
end

--- The ids of a text as a table.
function Tokenizer:encode_to_table(text, opts)
  return self:encode(text, opts):totable()
end

--- The ids of a file: read once, encoded outside Lua.
function Tokenizer:encode_file(path, opts)
  local o = parse('encode_file', opts)
  return file.with('encode_file', path, function(f)
    local memory = Tensor.empty('encode_file', { math.max(1, f.size) }, 'uint8')
    f:read_into(memory._c.data, 0, f.size)
    local ids = self:_encode(ffi.cast('const uint8_t *', memory._c.data), f.size, o, 'encode_file')
    memory:release()
    return ids
  end)
end

-- A vector of int64 or int32 from what users give.
local function ids_of(op, ids, vocab_size)
  if type(ids) == 'number' then ids = { ids } end
  if Tensor.is_tensor(ids) then
    Tensor.check(op, 'ids', ids)
    if ids:dim() == 0 then ids = Tensor.as_view(op, ids, { 1 }, { 1 }, 0) end
    if ids.dtype ~= 'int64' and ids.dtype ~= 'int32' or ids:dim() ~= 1 then
      fail('%s: ids: expected a vector of int64 or int32, got %s %s', op, Tensor.shape_text(ids), ids.dtype)
    end
    return ids
  elseif type(ids) ~= 'table' then
    fail('%s: ids: expected a tensor or a table of ids, got %s', op, type(ids))
  end
  local vector = Tensor.empty(op, { #ids }, 'int64')
  local p = ffi.cast('int64_t *', vector._c.data)
  for i = 1, #ids do
    local id = ids[i]
    if type(id) ~= 'number' or id % 1 ~= 0 or id < 1 or id > vocab_size then
      fail('%s: ids: expected ids from 1 to %d, got %s at position %d', op, vocab_size, tostring(id), i)
    end
    p[i - 1] = id
  end
  return vector
end

--- The bytes of ids (a vector of int64 or int32, a table, or one id). skip_special leaves special tokens out.
-- An id outside 1..vocab_size is an error that says where it stands.
function Tokenizer:decode(ids, opts)
  local o = options.parse('decode', { skip_special = false }, opts)
  local text = self:_decode(ids_of('decode', ids, self.vocab_size), o.skip_special)
  return text
end

local Decoder = class('Decoder')

function Decoder:__init(tokenizer, skip_special)
  self.tokenizer, self.skip_special, self.rest = tokenizer, skip_special, ''
end

--- More ids; the text that is complete by now. Bytes that could still become a character are held back, so that what is
-- printed never ends inside one; bytes that cannot are passed on as they are. All results together are decode of all ids.
function Decoder:push(ids)
  local text = self.rest .. self.tokenizer:decode(ids, { skip_special = self.skip_special })
  local keep = utf8.incomplete(text)
  self.rest = text:sub(#text - keep + 1)
  return text:sub(1, #text - keep)
end

--- What is still held back.
function Decoder:finish()
  local rest = self.rest
  self.rest = ''
  return rest
end

--- A decoder for a stream: d:push(ids) as they come, d:finish() at the end.
function Tokenizer:decoder(opts)
  local o = options.parse('decoder', { skip_special = false }, opts)
  return Decoder(self, o.skip_special)
end

--- An id from 1 to vocab_size.
function Tokenizer:check_id(op, id)
  return native.integer(op, 'id', id, 1, self.vocab_size)
end

--- The flags of a `special` option over self.special_list (an array of texts): nil for 'none'.
function Tokenizer:special_flags(op, special)
  if special == 'none' then return nil end
  local flags = ffi.new('uint8_t[?]', math.max(1, #self.special_list))
  if special == 'all' then
    ffi.fill(flags, #self.special_list, 1)
    return flags
  elseif type(special) ~= 'table' then
    fail("%s: special: expected 'none', 'all' or a list of special tokens, got %s", op,
      type(special) == 'string' and "'" .. special .. "'" or type(special))
  end
  for key, text in pairs(special) do
    if type(key) ~= 'number' then text = key end   -- {'<a>', '<b>'} or {['<a>'] = true}
    local place
    for k, known in ipairs(self.special_list) do
      if known == text then place = k end
    end
    if not place then
      fail('%s: special: %q is no special token of this vocabulary (%s)', op, tostring(text),
        #self.special_list == 0 and 'it has none' or table.concat(self.special_list, ' '))
    end
    flags[place - 1] = 1
  end
  return flags
end

--- Writes the tokenizer to one file, whole or not at all; tokenizer.load reads it.
function Tokenizer:save(path)
  local text = self:serialize()
  file.write('save', path, function(write) write(text) end)
end

return Tokenizer
