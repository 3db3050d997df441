--- gpt2: the two files of GPT-2, encoder.json (key -> id) and vocab.bpe (one merge a line).
--
-- A token that is neither a byte nor made by a merge can only be written by name: it is a special token whose text is its key.

local native = require 'masked_torch.native'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local file_ids = require 'masked_torch.data.tokenizer.file_ids'
local vocabulary = require 'masked_torch.data.tokenizer.vocabulary'

local fail = native.fail
local gpt2 = {}

gpt2.MAX_BYTES = 256 * 2 ^ 20

--- JSON of a file whose value is an object.
function gpt2.read_object(op, path)
  local text = file.read(op, path, gpt2.MAX_BYTES)
  local value = json.decode(text, function(position, message)
    local _, lines = text:sub(1, position - 1):gsub('\n', '')
    fail('%s: %s: line %d, byte %d: %s', op, path, lines + 1, position, message)
  end)
  if getmetatable(value) ~= json.object then fail('%s: %s: expected a JSON object', op, path) end
  return value
end

local function read_merges(op, path)
  local text = file.read(op, path, gpt2.MAX_BYTES)
  local merges, number = {}, 0
  if text ~= '' and text:sub(-1) ~= '\n' then text = text .. '\n' end
  for line in text:gmatch('([^\n]*)\n') do
    number = number + 1
    line = line:gsub('\r$', '')
    if not (number == 1 and line:find('^#version')) then
      local left, right = line:match('^([^ ]+) ([^ ]+)$')
      if not left then
        fail('%s: %s: line %d: expected two tokens with a space between them, got %q', op, path, number, line:sub(1, 60))
      end
      merges[#merges + 1] = { left, right, ('line %d'):format(number) }
    end
  end
  return merges
end

--- The tokenizer of a folder.
function gpt2.load(op, folder)
  local encoder, merge_file = folder .. '/encoder.json', folder .. '/vocab.bpe'
  local function refuse(format, ...) fail('%s: %s: %s', op, encoder, format:format(...)) end
  local keys, ids = vocabulary.read_ids(gpt2.read_object(op, encoder), {}, refuse)
  local merges = read_merges(op, merge_file)
  local pairs_, made = vocabulary.read_merges(merges, ids, {}, function(format, ...)
    fail('%s: %s: %s', op, merge_file, format:format(...))
  end)
  local special = {}
  for _, key in ipairs(keys) do
    if not made[key] and not vocabulary.is_byte(key) then
      vocabulary.refuse_byte_fallback(key, refuse)
      special[key] = true
    end
  end
  return vocabulary.build(keys, pairs_, #merges, special, refuse)
end

--- Writes encoder.json and vocab.bpe into a folder, which is made when it is missing.
function gpt2.save(tokenizer, folder)
  file.make_folders('save', folder .. '/')
  local map, lines = setmetatable({}, json.object), { '#version: 0.2' }
  local key = {}
  for id = 1, tokenizer.vocab_size do
    local bytes = tokenizer:token(id)
    key[id] = tokenizer.special[bytes] and bytes or vocabulary.key_of(bytes)
    if map[key[id]] then fail('save: %q: a token and a special token have this key; use tokenizer.json', key[id]) end
    map[key[id]] = file_ids.to_file(id)
  end
  for k = 1, tokenizer.merges do
    local left, right = tokenizer:merge(k)
    lines[k + 1] = key[left] .. ' ' .. key[right]
  end
  local text, merges = json.encode(map), table.concat(lines, '\n') .. '\n'
  file.write('save', folder .. '/encoder.json', function(write) write(text) end)
  file.write('save', folder .. '/vocab.bpe', function(write) write(merges) end)
end

return gpt2
