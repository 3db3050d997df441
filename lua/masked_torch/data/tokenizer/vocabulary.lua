--- vocabulary: from the texts of vocabulary files to tokens, checked entry by entry.
--
-- Files of GPT-2's kind write a token's bytes as characters: a printable byte (33-126, 161-172, 174-255) as the character of
-- that number, the others in order as U+0100 and on, so that a space is "Ġ".

local ffi = require 'ffi'
local BPE = require 'masked_torch.data.tokenizer.bpe'
local file_ids = require 'masked_torch.data.tokenizer.file_ids'
local utf8 = require 'masked_torch.data.tokenizer.utf8'

local vocabulary = {}

local LIMIT = 2 ^ 24     -- tokens

local byte_of, text_of = {}, {}    -- "Ġ" -> " ", " " -> "Ġ"
do
  local beyond = 256
  for k, byte in ipairs(BPE.alphabet()) do
    local code = byte:byte()
    if k > 188 then code, beyond = beyond, beyond + 1 end
    local text = utf8.char(code)
    byte_of[text], text_of[byte] = byte, text
  end
end

--- The bytes that a key stands for; nil when it holds another character.
function vocabulary.bytes_of(key)
  local known = true
  local bytes = key:gsub('[%z\1-\127\194-\244][\128-\191]*', function(character)
    if not byte_of[character] then known = false end
    return byte_of[character]
  end)
  return known and bytes or nil
end

--- The key of a token's bytes.
function vocabulary.key_of(bytes)
  return (bytes:gsub('.', text_of))
end

--- Checks a map from key to file id, complete with the ids of `added` (an array of {content =, id =}); returns the keys in order
-- of the user's ids, and user's ids by key. refuse(format, ...) raises the error.
function vocabulary.read_ids(map, added, refuse)
  local ids, count = {}, 0
  for key, id in pairs(map) do
    ids[key] = id
    count = count + 1
  end
  for _, token in ipairs(added) do
    if ids[token.content] == nil then
      ids[token.content] = token.id
      count = count + 1
    elseif ids[token.content] ~= token.id then
      refuse('key %q has id %s, the added token %s', token.content, tostring(ids[token.content]), tostring(token.id))
    end
  end
  if count > LIMIT then refuse('%d tokens, the limit is %d', count, LIMIT) end
  local low, high = file_ids.index_base, file_ids.index_base + count - 1
  local keys, order = {}, {}
  for key in pairs(ids) do order[#order + 1] = key end
  table.sort(order)                   -- so that the same file gives the same error
  local sparse
  for _, key in ipairs(order) do
    local id = ids[key]
    if type(id) ~= 'number' or id % 1 ~= 0 or id < low then
      refuse('key %q: expected an id from %d on, got %s', key, low, type(id) == 'table' and 'no number' or tostring(id))
    elseif id > high then
      sparse = sparse or ('key %q: id %d with %d tokens: expected each of %d to %d once'):format(key, id, count, low, high)
    else
      local place = file_ids.from_file(id)
      if keys[place] then refuse('keys %q and %q have the same id %d', keys[place], key, id) end
      keys[place] = key
      ids[key] = place
    end
  end
  if sparse then refuse('%s', sparse) end
  return keys, ids
end

--- The merges (an array of {left key, right key, where}) as pairs of ids, and the set of keys that they make. special: keys
-- that no merge may use.
function vocabulary.read_merges(list, ids, special, refuse)
  local pairs_, seen, made = ffi.new('int32_t[?]', math.max(1, 2 * #list)), {}, {}
  for k, merge in ipairs(list) do
    local left, right, where = merge[1], merge[2], merge[3]
    for _, key in ipairs{ left, right } do
      if not ids[key] then refuse('%s: %q is not in the vocabulary', where, key) end
      if special[key] then refuse('%s: %q is a special token', where, key) end
    end
    if not ids[left .. right] then refuse('%s: %q and %q make %q, which is not in the vocabulary', where, left, right, left .. right) end
    if seen[left .. ' ' .. right] then
      refuse('%s: the same merge as %s', where, seen[left .. ' ' .. right])
    end
    seen[left .. ' ' .. right] = where
    made[left .. right] = true
    pairs_[2 * k - 2], pairs_[2 * k - 1] = ids[left], ids[right]
  end
  return pairs_, made
end

--- The tokenizer. special: set of keys that are special tokens, whose text is the key itself.
function vocabulary.build(keys, pairs_, merges, special, refuse)
  local tokens, special_ids = {}, {}
  for id, key in ipairs(keys) do
    if special[key] then
      tokens[id] = key
      special_ids[#special_ids + 1] = id
    else
      tokens[id] = vocabulary.bytes_of(key)
      if not tokens[id] or key == '' then refuse('key %q is no byte-level token', key) end
    end
  end
  return BPE(tokens, pairs_, merges, special_ids, refuse)
end

--- Whether a key is one byte.
function vocabulary.is_byte(key) return byte_of[key] ~= nil end

--- A key like "<0x0A>" that other tokenizers use for a byte: not ours, and never a special token.
function vocabulary.refuse_byte_fallback(key, refuse)
  if key:find('^<0x.*>$') then refuse('key %q: byte-fallback tokens are not supported', key) end
end

return vocabulary
