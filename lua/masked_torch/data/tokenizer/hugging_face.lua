--- hugging_face: tokenizer.json, as far as it is GPT-2's scheme: a BPE model, a ByteLevel pre-tokenizer with its regular
-- expression and without a prefix space, special added tokens. Everything else is refused by name, because ignoring it would
-- give other ids.

local native = require 'masked_torch.native'
local json = require 'masked_torch.io.json'
local file_ids = require 'masked_torch.data.tokenizer.file_ids'
local vocabulary = require 'masked_torch.data.tokenizer.vocabulary'

local fail = native.fail
local hugging_face = {}

local function is(value, kind) return getmetatable(value) == json[kind] end

-- nil and null are one.
local function field(object, name)
  local value = object[name]
  if value == json.null then return nil end
  return value
end

local function show(value)
  if is(value, 'object') then return value.type and ('type %q'):format(tostring(value.type)) or 'an object' end
  return is(value, 'array') and 'a list' or type(value) == 'string' and ('%q'):format(value) or tostring(value)
end

-- The value must be one of the allowed ones (nil is always allowed).
local function only(refuse, where, object, name, allowed)
  local value = field(object, name)
  if value == nil then return end
  for _, a in ipairs(allowed or {}) do
    if value == a then return end
  end
  refuse('%s%s: %s is not supported', where, name, show(value))
end

local function check_model(model, refuse)
  if not is(model, 'object') then refuse('model: expected an object') end
  if field(model, 'type') ~= nil and model.type ~= 'BPE' then refuse('model: type %s is not supported, only BPE', show(model.type)) end
  only(refuse, 'model.', model, 'dropout', { 0 })
  only(refuse, 'model.', model, 'continuing_subword_prefix', { '' })
  only(refuse, 'model.', model, 'end_of_word_suffix', { '' })
  only(refuse, 'model.', model, 'byte_fallback', { false })
  only(refuse, 'model.', model, 'ignore_merges', { false })
  if not is(model.vocab, 'object') then refuse('model.vocab: expected an object') end
  if not is(model.merges, 'array') then refuse('model.merges: expected a list') end
end

local function check_pipeline(value, refuse)
  only(refuse, '', value, 'normalizer')
  only(refuse, '', value, 'truncation')
  only(refuse, '', value, 'padding')
  local pre = field(value, 'pre_tokenizer')
  if not is(pre, 'object') or pre.type ~= 'ByteLevel' then
    refuse('pre_tokenizer: %s is not supported, only ByteLevel', pre == nil and 'none' or show(pre))
  end
  if pre.add_prefix_space ~= false then refuse('pre_tokenizer.add_prefix_space: only false is supported') end
  only(refuse, 'pre_tokenizer.', pre, 'use_regex', { true })
  for _, name in ipairs{ 'post_processor', 'decoder' } do
    local part = field(value, name)
    if part ~= nil and (not is(part, 'object') or part.type ~= 'ByteLevel') then
      refuse('%s: %s is not supported, only ByteLevel', name, show(part))
    end
  end
end

local function read_added(list, refuse)
  if list == nil then return {}, {} end
  if not is(list, 'array') then refuse('added_tokens: expected a list') end
  local special = {}
  for k, token in ipairs(list) do
    local where = ('added_tokens: entry %d: '):format(k)
    if not is(token, 'object') or type(token.content) ~= 'string' or token.content == '' then
      refuse('%sexpected an object with a content', where)
    end
    if token.special ~= true then refuse('%s%q: only special tokens are supported', where, token.content) end
    if special[token.content] then refuse('%s%q appears twice', where, token.content) end
    only(refuse, where, token, 'single_word', { false })
    only(refuse, where, token, 'lstrip', { false })
    only(refuse, where, token, 'rstrip', { false })
    special[token.content] = true
  end
  return list, special
end

local function read_merges(list, refuse)
  local merges = {}
  for k, entry in ipairs(list) do
    local where = ('model.merges: entry %d'):format(k)
    local left, right
    if type(entry) == 'string' then
      left, right = entry:match('^([^ ]+) ([^ ]+)$')
    elseif is(entry, 'array') and #entry == 2 then
      left, right = entry[1], entry[2]
    end
    if type(left) ~= 'string' or type(right) ~= 'string' then refuse('%s: expected two tokens', where) end
    merges[k] = { left, right, where }
  end
  return merges
end

--- The tokenizer of a decoded tokenizer.json; refuse(format, ...) raises the error.
function hugging_face.from_value(value, refuse)
  check_model(value.model, refuse)
  check_pipeline(value, refuse)
  local added, special = read_added(field(value, 'added_tokens'), refuse)
  local keys, ids = vocabulary.read_ids(value.model.vocab, added, refuse)
  local merges = read_merges(value.model.merges, refuse)
  local pairs_, made = vocabulary.read_merges(merges, ids, special, refuse)
  for _, key in ipairs(keys) do
    if not special[key] and not made[key] then vocabulary.refuse_byte_fallback(key, refuse) end
  end
  return vocabulary.build(keys, pairs_, #merges, special, refuse)
end

--- The text of a tokenizer.json for a byte-pair encoding.
function hugging_face.text(tokenizer)
  local vocab, key, merges, added = setmetatable({}, json.object), {}, {}, {}
  for id = 1, tokenizer.vocab_size do
    local bytes = tokenizer:token(id)
    local special = tokenizer.special[bytes] ~= nil
    key[id] = special and bytes or vocabulary.key_of(bytes)
    if vocab[key[id]] then fail('save: %q: a token and a special token have this key', key[id]) end
    vocab[key[id]] = file_ids.to_file(id)
    if special then
      added[#added + 1] = { id = file_ids.to_file(id), content = bytes, single_word = false, lstrip = false, rstrip = false,
        normalized = false, special = true }
    end
  end
  for k = 1, tokenizer.merges do
    local left, right = tokenizer:merge(k)
    merges[k] = key[left] .. ' ' .. key[right]
  end
  local byte_level = { type = 'ByteLevel', add_prefix_space = false, trim_offsets = true, use_regex = true }
  return json.encode{
    version = '1.0', truncation = json.null, padding = json.null, normalizer = json.null, post_processor = json.null,
    added_tokens = setmetatable(added, json.array), pre_tokenizer = byte_level, decoder = byte_level,
    model = { type = 'BPE', dropout = json.null, unk_token = json.null, continuing_subword_prefix = json.null,
      end_of_word_suffix = json.null, fuse_unk = false, byte_fallback = false, ignore_merges = false, vocab = vocab,
      merges = setmetatable(merges, json.array) },
  }
end

return hugging_face
