--- tokenizer: texts to token ids and back. Ids begin at 1, whatever the file they come from says (file_ids.lua).
--
--     local tokenizer = torch.data.tokenizer
--     tokenizer.bytes()                                    256 tokens
--     tokenizer.characters(text, {unknown = '<unk>'})      the code points of a corpus
--     tokenizer.gpt2([folder], {fetch = true})             GPT-2's 50,257 tokens
--     tokenizer.train_bpe(text or {paths}, vocab_size, {min_frequency =, special =, progress =})
--     tokenizer.load(path)                                 what save wrote, a tokenizer.json, or a folder of GPT-2's two files
--     tokenizer.from('bytes' | 'gpt2' | 'bpe:N' | FILE, {corpus =, fetch =})
--
-- What a tokenizer can do: base.lua; training: bpe.lua. Reading a vocabulary executes nothing; a bad one is an error that names
-- the line or the key.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local BPE = require 'masked_torch.data.tokenizer.bpe'
local gpt2 = require 'masked_torch.data.tokenizer.gpt2'
local gpt2_files = require 'masked_torch.data.tokenizer.gpt2_files'
local hugging_face = require 'masked_torch.data.tokenizer.hugging_face'
local symbols = require 'masked_torch.data.tokenizer.symbols'

local fail = native.fail
local tokenizer = {}

tokenizer.train_bpe = BPE.train
tokenizer.characters = symbols.characters

--- One token per byte: id = byte + 1.
function tokenizer.bytes() return symbols.Bytes() end

--- GPT-2's encoding from encoder.json and vocab.bpe in `folder` (default: gpt2 in the folder of fetched files,
-- MASKED_TORCH_DATA or ~/.cache/masked_torch). {fetch = true} gets missing files with curl and checks them against their published digests.
function tokenizer.gpt2(folder, opts)
  if type(folder) == 'table' and opts == nil then folder, opts = nil, folder end
  local o = options.parse('gpt2', { fetch = false, source = options.none }, opts)
  if folder ~= nil then file.check_path('gpt2', folder) end
  return gpt2.load('gpt2', gpt2_files.folder('gpt2', folder, o))
end

local function is_folder(path)
  local f = io.open(path .. '/encoder.json', 'rb')
  if f then f:close() end
  return f ~= nil
end

--- The tokenizer of a JSON text, as serialize gives it. `name` stands in messages.
function tokenizer.deserialize(text, name)
  name = name or 'text'
  if type(text) ~= 'string' then fail('deserialize: text: expected a string, got %s', type(text)) end
  local function refuse(format, ...) fail('tokenizer: %s: %s', name, format:format(...)) end
  local value = json.decode(text, function(position, message)
    local _, lines = text:sub(1, position - 1):gsub('\n', '')
    refuse('line %d, byte %d: %s', lines + 1, position, message)
  end)
  if getmetatable(value) ~= json.object then refuse('expected a JSON object') end
  if value.format == 'masked_torch.tokenizer' then return symbols.from_value(value, refuse) end
  if value.model == nil then refuse("expected a tokenizer.json ('model' is missing) or a file that save wrote") end
  return hugging_face.from_value(value, refuse)
end

--- The tokenizer of a file that save wrote, of a tokenizer.json, or of a folder with encoder.json and vocab.bpe.
function tokenizer.load(path)
  file.check_path('load', path)
  if is_folder(path) then return gpt2.load('load', path) end
  return tokenizer.deserialize(file.read('load', path, gpt2.MAX_BYTES), path)
end

--- The tokenizer of a short description: 'bytes', 'gpt2', 'bpe:N' (trained on opts.corpus, a text or a table of paths), or the
-- path of a file or folder that load reads. opts.fetch: see gpt2. opts.train: options of train_bpe.
function tokenizer.from(spec, opts)
  local o = options.parse('tokenizer', { corpus = options.none, fetch = false, train = options.none }, opts)
  if type(spec) ~= 'string' or spec == '' then
    fail("tokenizer: expected 'bytes', 'gpt2', 'bpe:N' or a file, got %s", spec == '' and "''" or type(spec))
  elseif spec == 'bytes' then
    return tokenizer.bytes()
  elseif spec == 'gpt2' then
    return tokenizer.gpt2(nil, { fetch = o.fetch })
  elseif spec:find('^bpe:') then
    local size = tonumber(spec:match('^bpe:(%d+)$'))
    if not size or size < 256 then fail("tokenizer: '%s': expected bpe:N with at least 256 tokens, such as bpe:1024", spec) end
    if o.corpus == nil then fail("tokenizer: '%s' needs a corpus to train on: {corpus = text or {paths}}", spec) end
    return BPE.train(o.corpus, size, o.train)
  end
  local f = io.open(spec, 'rb')
  if not f then fail("tokenizer: '%s' is neither 'bytes', 'gpt2', 'bpe:N' nor a file that can be read", spec) end
  f:close()
  return tokenizer.load(spec)
end

return tokenizer
