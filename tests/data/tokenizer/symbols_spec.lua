local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local tokenizer = torch.data.tokenizer

describe('bytes', function()
  local tok = tokenizer.bytes()
  it('are tokens', function()
    assert.same({ 98, 1, 256 }, tok:encode_to_table('a\0\255'))
    assert.equal('a\0\255', tok:decode{ 98, 1, 256 })
    assert.equal('a', tok:token(98))
    assert.equal(98, tok:id('a'))
    assert.is_nil(tok:id('ab'))
    assert.equal('int32', tok:encode('x', { dtype = 'int32' }).dtype)
    assert.equal(0, tok:encode(''):size(1))
    assert.equal('', tok:decode(tok:encode('')))
    assert.fails(function() tok:decode{ 257 } end, 'from 1 to 256, got 257 at position 1')
    assert.fails(function() tok:decode(torch.tensor({ 1, 0 }, { dtype = 'int64' })) end, 'got 0 at position 2')
    local every = {}
    for b = 0, 255 do every[b + 1] = string.char(b) end
    every = table.concat(every):rep(100)
    assert.is_true(tok:decode(tok:encode(every)) == every)
  end)

  it('of a file are read at once', function()
    local path = scratch.file('some\0text')
    assert.same(tok:encode_to_table('some\0text'), tok:encode_file(path):totable())
    assert.equal(0, tok:encode_file(scratch.file('')):size(1))
    assert.fails(function() tok:encode_file('/no/such') end, 'encode_file: /no/such')
    scratch.clean()
  end)
end)

describe('characters', function()
  local tok = tokenizer.characters('été 中😀a\255')
  it('are the code points of a corpus in order', function()
    assert.equal(7, tok.vocab_size)
    local texts = {}
    for id = 1, 7 do texts[id] = tok:token(id) end
    assert.same({ ' ', 'a', 't', 'é', '中', '😀', '\255' }, texts)
    assert.same({ 4, 3, 4 }, tok:encode_to_table('été'))
    assert.equal(5, tok:id('中'))
    assert.is_nil(tok:id('b'))
    assert.is_nil(tok:id(''))
    for _, text in ipairs{ '', '中\255 é', '\255\255', ('😀a'):rep(1000) } do
      assert.equal(text, tok:decode(tok:encode(text)))
    end
  end)

  it('that are unknown are errors, or the unknown symbol', function()
    assert.fails(function() tok:encode('éb') end, 'encode: text: character "b" (U+0062) at byte 3 is not in the vocabulary')
    assert.fails(function() tok:encode('a\254') end, 'byte 0xfe (no valid UTF-8) at byte 2')
    local with = tokenizer.characters('ab', { unknown = '<unk>' })
    assert.same({ 1, 3, 2, 3 }, with:encode_to_table('axbé'))
    assert.equal('a<unk>b', with:decode{ 1, 3, 2 })
    assert.equal(3, with:id('<unk>'))
    assert.fails(function() tokenizer.characters('') end, 'characters: text: expected a corpus')
    assert.fails(function() tokenizer.characters('a', { unknown = 5 }) end, 'characters: unknown')
    assert.fails(function() tok:decode{ 8 } end, 'from 1 to 7, got 8')
  end)

  it('and bytes are saved and loaded', function()
    for _, t in ipairs{ tok, tokenizer.characters('ab', { unknown = '<unk>' }), tokenizer.bytes() } do
      local path = scratch.path('.json')
      t:save(path)
      local again = tokenizer.load(path)
      assert.equal(t:serialize(), again:serialize())
      assert.equal(t.vocab_size, again.vocab_size)
    end
    for text, message in pairs{
      ['"type": "words"'] = "type: expected 'bytes' or 'characters'",
      ['"type": "characters"'] = 'symbols: expected a list',
      ['"type": "characters", "symbols": [5, 5]'] = 'symbols: entry 2: 5 does not follow 5',
      ['"type": "characters", "symbols": [-1]'] = 'symbols: entry 1: expected a code point, got -1',
      ['"type": "characters", "symbols": [1e9]'] = 'symbols: entry 1',
      ['"type": "characters", "symbols": [55296]'] = 'symbols: entry 1',
      ['"type": "characters", "symbols": [65], "unknown": 3'] = 'unknown: expected a text',
    } do
      assert.fails(function() tokenizer.deserialize('{"format": "masked_torch.tokenizer", ' .. text .. '}') end, message)
    end
    scratch.clean()
  end)
end)
