-- Vocabulary files: what is written is read back, hostile ones are errors that name the place.
local torch = require 'masked_torch'
local json = require 'masked_torch.io.json'
local scratch = require 'support.scratch'
local tokenizer = torch.data.tokenizer

local here = debug.getinfo(1, 'S').source:match('^@(.*)files_spec%.lua$')
local TEXT = 'the cat sat on the mat; the cat is flat. it\'s 1859 again: Ça va? Это лучшее время.'
local tok = tokenizer.train_bpe(TEXT:rep(3), 300, { special = { '<|endoftext|>', '<|Ende é|>' } })

local function refused(path, ...)
  local arguments = { ... }
  assert.fails(function() tokenizer.load(path) end, path, unpack(arguments))
end

local function folder(encoder, merges)
  local path = scratch.folder() .. '/gpt2'
  os.execute("mkdir -p '" .. path .. "'")
  for name, content in pairs{ ['encoder.json'] = encoder, ['vocab.bpe'] = merges } do
    local f = assert(io.open(path .. '/' .. name, 'wb'))
    f:write(content)
    f:close()
  end
  return path
end

-- encoder.json of the 256 bytes and what is given, and its parts as a table.
local function encoder(extra, change)
  local map = setmetatable({}, json.object)
  local plain = json.decode(tok:serialize(), error).model.vocab
  for key, id in pairs(plain) do
    if id < 256 then map[key] = id end
  end
  for key, id in pairs(extra or {}) do map[key] = id end
  if change then change(map) end
  return json.encode(map)
end

describe('tokenizer files', function()
  after_each(function()
    os.execute("rm -rf '" .. scratch.folder() .. "/gpt2'")
    scratch.clean()
  end)

  it('are read back as they were written', function()
    local path = scratch.path('.json')
    tok:save(path)
    local again = tokenizer.load(path)
    assert.equal(tok:serialize(), again:serialize())
    local text = TEXT .. '<|endoftext|><|Ende é|>'
    assert.same(tok:encode_to_table(text, { special = 'all' }), again:encode_to_table(text, { special = 'all' }))
    local pair_path = scratch.folder() .. '/gpt2'
    tok:save(pair_path, { format = 'gpt2' })
    again = tokenizer.load(pair_path)
    assert.equal(tok:serialize(), again:serialize())
    assert.same(tok:encode_to_table(text, { special = 'all' }), again:encode_to_table(text, { special = 'all' }))
    assert.equal(tok:serialize(), tokenizer.from(path):serialize())
    assert.fails(function() tok:save(path, { format = 'csv' }) end, 'save: format')
  end)

  it('keep their meaning: a small vocabulary that was written once', function()
    local small = tokenizer.load(here .. 'small.json')
    assert.equal(tok:serialize(), small:serialize())
    assert.same({ 259, 265, 266, 285, 268, 299 }, small:encode_to_table("the cat's 1859<|endoftext|>", { special = 'all' }))
  end)

  it('number tokens from 0, users from 1', function()
    local vocab = json.decode(tok:serialize(), error).model.vocab
    assert.equal(0, vocab['!'])
    assert.equal(1, tok:id('!'))
    assert.equal(tok:id(' ') - 1, vocab['Ġ'])
  end)

  it('may hold merges as pairs, and line ends of another system', function()
    local value = json.decode(tok:serialize(), error)
    for k, merge in ipairs(value.model.merges) do
      value.model.merges[k] = setmetatable({ merge:match('^(.*) (.*)$') }, json.array)
    end
    assert.equal(tok:serialize(), tokenizer.deserialize(json.encode(value)):serialize())
    local path = folder(encoder{ th = 256 }, '#version: 0.2\r\nt h\r\n')
    assert.equal('th', tokenizer.load(path):token(257))
  end)

  describe('encoder.json and vocab.bpe', function()
    for name, case in pairs{
      ['a negative id'] = { { th = -1 }, 't h\n', 'key "th"', 'got -1' },
      ['an id that is no whole number'] = { { th = 256.5 }, 't h\n', 'key "th"', '256.5' },
      ['an id that is a text'] = { { th = '256' }, 't h\n', 'key "th"' },
      ['a huge id'] = { { th = 1e15 }, 't h\n', 'key "th"', 'id 1000000000000000 with 257 tokens' },
      ['a sparse vocabulary'] = { { th = 257 }, 't h\n', 'key "th"', 'id 257 with 257 tokens: expected each of 0 to 256 once' },
      ['a duplicate id'] = { { th = 0 }, 't h\n', 'keys "!" and "th" have the same id 0' },
      ['an unknown token in a merge'] = { { th = 256 }, '#version: 0.2\nt h\nth e\n', 'vocab.bpe', 'line 3', '"th" and "e" make "the"' },
      ['an unknown part'] = { { th = 256 }, 't xyz\n', 'line 1', '"xyz" is not in the vocabulary' },
      ['a merge twice'] = { { th = 256 }, 't h\nt h\n', 'line 2', 'the same merge as line 1' },
      ['a cycle'] = { { th = 256 }, 't h\nth t\n', 'line 2' },
      ['one token a line'] = { { th = 256 }, 't h\nth\n', 'line 2: expected two tokens' },
      ['three tokens a line'] = { { th = 256 }, 't h e\n', 'line 1: expected two tokens' },
      ['an empty line'] = { { th = 256 }, 't h\n\nh e\n', 'line 2: expected two tokens' },
      ['a byte-fallback token'] = { { ['<0x-1>'] = 256 }, '', 'key "<0x-1>": byte-fallback' },
      ['a token without bytes'] = { { [''] = 256 }, '', 'token 257' },
    } do
      it('refuses ' .. name, function()
        refused(folder(encoder(case[1]), case[2]), unpack(case, 3))
      end)
    end

    it('refuses a byte without a token, what is no JSON, and lists', function()
      refused(folder(encoder({ zz = 0 }, function(map) map['!'] = nil end), ''), 'byte 0x21 has no token')
      refused(folder('{"a": 0,\n"b" 1}', ''), 'encoder.json', 'line 2', "':' was expected")
      refused(folder('{"a": 0, "a": 1}', ''), 'the name "a" appears twice')
      refused(folder('[]', ''), 'expected a JSON object')
      refused(folder('os.exit(1)', ''), 'a value was expected')
      assert.fails(function() tokenizer.gpt2(scratch.folder()) end, 'gpt2: ', 'encoder.json is missing: place it there')
    end)
  end)

  describe('tokenizer.json', function()
    local function with(change)
      local value = json.decode(tok:serialize(), error)
      change(value)
      return scratch.file(json.encode(value), '.json')
    end
    local object = function(t) return setmetatable(t, json.object) end
    for name, case in pairs{
      ['another model'] = { function(v) v.model.type = 'WordPiece' end, 'model: type "WordPiece" is not supported' },
      ['no model'] = { function(v) v.model = nil end, "'model' is missing" },
      ['dropout'] = { function(v) v.model.dropout = 0.1 end, 'model.dropout: 0.1 is not supported' },
      ['a word-end suffix'] = { function(v) v.model.end_of_word_suffix = '</w>' end, 'model.end_of_word_suffix: "</w>"' },
      ['byte fallback'] = { function(v) v.model.byte_fallback = true end, 'model.byte_fallback: true is not supported' },
      ['ignore_merges'] = { function(v) v.model.ignore_merges = true end, 'model.ignore_merges' },
      ['a normalizer'] = { function(v) v.normalizer = object{ type = 'NFC' } end, 'normalizer: type "NFC" is not supported' },
      ['another pre-tokenizer'] = { function(v) v.pre_tokenizer = object{ type = 'Metaspace' } end, 'pre_tokenizer: type "Metaspace"' },
      ['no pre-tokenizer'] = { function(v) v.pre_tokenizer = json.null end, 'pre_tokenizer: none is not supported' },
      ['a prefix space'] = { function(v) v.pre_tokenizer.add_prefix_space = true end, 'pre_tokenizer.add_prefix_space' },
      ['no pattern'] = { function(v) v.pre_tokenizer.use_regex = false end, 'pre_tokenizer.use_regex: false' },
      ['a template'] = { function(v) v.post_processor = object{ type = 'TemplateProcessing' } end,
        'post_processor: type "TemplateProcessing"' },
      ['truncation'] = { function(v) v.truncation = object{ max_length = 5 } end, 'truncation' },
      ['added tokens that are not special'] = { function(v) v.added_tokens[1].special = false end,
        'added_tokens: entry 1', 'only special' },
      ['added tokens that strip'] = { function(v) v.added_tokens[1].lstrip = true end, 'entry 1: lstrip: true is not supported' },
      ['added tokens twice'] = { function(v) v.added_tokens[2].content = v.added_tokens[1].content end, 'entry 2', 'appears twice' },
      ['added tokens with another id'] = { function(v) v.added_tokens[1].id = 5 end, 'key "<|endoftext|>" has id' },
      ['a list for the vocabulary'] = { function(v) v.model.vocab = setmetatable({}, json.array) end, 'model.vocab: expected an object' },
      ['a merge of one'] = { function(v) v.model.merges[2] = 'th' end, 'model.merges: entry 2: expected two tokens' },
      ['an unknown merge'] = { function(v) v.model.merges[3] = 'q q' end, 'model.merges: entry 3: "q" and "q" make "qq"' },
      ['a merge of a special token'] = { function(v) v.model.merges[1] = '<|endoftext|> a' end, 'entry 1', 'is a special token' },
      ['characters that are no bytes'] = { function(v)
        v.model.vocab['中'], v.model.vocab['ĠÐ'] = v.model.vocab['ĠÐ'] or tok.vocab_size, v.model.vocab['ĠÐ'] and tok.vocab_size
      end, 'key "中" is no byte-level token' },
    } do
      it('refuses ' .. name, function() refused(with(case[1]), unpack(case, 2)) end)
    end

    it('is an error when it is no such file', function()
      refused(scratch.file('', '.json'), 'a value was expected')
      refused(scratch.file('{"model": {"type": "BPE",\n', '.json'), 'line 2')
      refused(scratch.file(('['):rep(1e5), '.json'), 'nested more than 32 deep')
      refused(scratch.file('\127ELF\1\2', '.json'), 'a value was expected')
      assert.fails(function() tokenizer.load('/no/such/file') end, 'load: /no/such/file')
      assert.fails(function() tokenizer.load('/dev/zero') end, 'expected a regular file')
    end)

    it('survives every truncation and many changed bytes', function()
      local text = tokenizer.train_bpe('ab ab', 258):serialize()
      for k = 1, #text, 7 do
        assert.is_false((pcall(tokenizer.deserialize, text:sub(1, k - 1))))
        pcall(tokenizer.deserialize, text:sub(1, k - 1) .. string.char(k % 256) .. text:sub(k + 1))
      end
    end)
  end)

  describe('short descriptions', function()
    it('name every tokenizer', function()
      assert.equal(256, tokenizer.from('bytes').vocab_size)
      assert.equal(260, tokenizer.from('bpe:260', { corpus = TEXT }).vocab_size)
      assert.fails(function() tokenizer.from('bpe:260') end, "'bpe:260' needs a corpus")
      assert.fails(function() tokenizer.from('bpe:x', { corpus = TEXT }) end, 'expected bpe:N')
      assert.fails(function() tokenizer.from('bpe:12', { corpus = TEXT }) end, 'at least 256')
      assert.fails(function() tokenizer.from('/no/file') end, "'/no/file' is neither")
      assert.fails(function() tokenizer.from(7) end, 'got number')
    end)
  end)

  it('are fetched only when asked, checked, and kept whole or not at all', function()
    local gpt2_files = require 'masked_torch.data.tokenizer.gpt2_files'
    local place = scratch.folder() .. '/gpt2'
    local source = scratch.file('{}', '-encoder.json'):gsub('encoder%.json$', '')
    assert.fails(function() gpt2_files.folder('gpt2', place, {}) end, place .. '/encoder.json is missing', '{fetch = true}')
    if os.execute('command -v curl >/dev/null') == 0 then
      assert.fails(function() gpt2_files.folder('gpt2', place, { fetch = true, source = 'file://' .. source }) end,
        'is not the expected file (2 bytes')
      assert.fails(function() gpt2_files.folder('gpt2', place, { fetch = true, source = 'file:///no/' }) end, 'cannot be fetched',
        'place that file as ' .. place .. '/encoder.json')
    end
    assert.is_nil(io.open(place .. '/encoder.json'))
  end)
end)
