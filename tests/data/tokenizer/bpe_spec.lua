local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local json = require 'masked_torch.io.json'
local tokenizer = torch.data.tokenizer

local here = debug.getinfo(1, 'S').source:match('^@(.*)data/tokenizer/bpe_spec%.lua$')

local CORPUS = ([[
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness;
we're sure they've said: "I'll go, he'd stay; it's 1859." Ça va? Это лучшее время. 2048 + 512 = 2560.
]]):rep(4)

-- Own random bytes and texts: the same in every run.
local state = 12345
local function random(n)
  state = (state * 1103515245 + 12345) % 2 ^ 31
  return math.floor(state / 2 ^ 31 * n)
end

local pieces = { ' ', '  ', '\n', '\t', '\r\n', "'s", "'ll", "'LL", 'a', 'the', ' the', '7', '1859', '!', '...', 'é', 'Ж', '中', '😀', '²',
  '\194\160', '\226\128\131', '\204\129', '\255', '\192\128', '\237\160\128', '\244\144\128\128', '\226\130', '\240\159\152', '\0',
  '\127', '<|endoftext|>', '<|end' }

-- any: all byte values; otherwise none that could make a character whose class `split` does not know.
local function random_text(any)
  local parts = {}
  for i = 1, random(40) do
    local byte = random(any and 256 or 128)
    parts[i] = random(4) == 0 and string.char(byte) or pieces[random(#pieces) + 1]
  end
  return table.concat(parts)
end

-- The pattern once more, in plain Lua over classes per character: L letter, N number, S space, O other.
local letters = { ['é'] = 'L', ['Ж'] = 'L', ['中'] = 'L', ['²'] = 'N', ['\194\160'] = 'S', ['\226\128\131'] = 'S' }
local function characters(text)
  local list, i = {}, 1
  while i <= #text do
    local c
    for _, length in ipairs{ 4, 3, 2 } do
      local s = text:sub(i, i + length - 1)
      if #s == length and not json.invalid_utf8(s) and s:find('^[\194-\244][\128-\191]+$') then c = s end
    end
    c = c or text:sub(i, i)
    local kind = letters[c] or c:find('^%a$') and 'L' or c:find('^%d$') and 'N' or c:find('^%s$') and 'S' or 'O'
    list[#list + 1] = { c, kind }
    i = i + #c
  end
  return list
end

local function split(text)
  local list, out, i = characters(text), {}, 1
  local function kind(k) return list[k] and list[k][2] end
  local function take(to)
    local s = {}
    for k = i, to do s[#s + 1] = list[k][1] end
    out[#out + 1] = table.concat(s)
    i = to + 1
  end
  while i <= #list do
    local two = list[i + 1] and list[i + 1][1] or ''
    local three = two .. (list[i + 2] and list[i + 2][1] or '')
    if list[i][1] == "'" and two:find('^[stmd]$') then
      take(i + 1)
    elseif list[i][1] == "'" and (three == 're' or three == 've' or three == 'll') then
      take(i + 2)
    else
      local from = list[i][1] == ' ' and list[i + 1] and i + 1 or i
      if kind(from) ~= 'S' then
        local to = from
        while kind(to + 1) == kind(from) do to = to + 1 end
        take(to)
      else
        local to = i
        while kind(to + 1) == 'S' do to = to + 1 end
        take((to == #list or to == i) and to or to - 1)
      end
    end
  end
  return out
end

-- Joins pairs by the list of merges, the plain way.
local function reference(tok, text)
  local rank = {}
  for k = 1, tok.merges do
    local l, r = tok:merge(k)
    rank[l .. ' ' .. r] = k
  end
  local ids = {}
  for _, piece in ipairs(split(text)) do
    local word = {}
    for i = 1, #piece do word[i] = tok:id(piece:sub(i, i)) end
    while true do
      local best, at = math.huge, nil
      for i = 1, #word - 1 do
        local r = rank[word[i] .. ' ' .. word[i + 1]] or math.huge
        if r < best then best, at = r, i end
      end
      if not at then break end
      word[at] = tok:id(tok:token(word[at]) .. tok:token(word[at + 1]))
      table.remove(word, at + 1)
    end
    for _, id in ipairs(word) do ids[#ids + 1] = id end
  end
  return ids
end

describe('byte-pair encoding', function()
  local tok = tokenizer.train_bpe(CORPUS, 400, { special = { '<|endoftext|>', '<|end' } })

  it('cuts texts into pieces as the pattern says', function()
    local stop = ffi.new('int64_t[1]')
    local function cut(text)
      local out, at = {}, 0
      while at < #text do
        native.check(native.cpu.mt_bpe_piece(stop, text, #text, at))
        out[#out + 1] = text:sub(at + 1, tonumber(stop[0]))
        at = tonumber(stop[0])
      end
      return out
    end
    assert.same({ "it", "'s", "  ", " a", " ", "\n", "b" }, cut("it's   a \nb"))
    assert.same({ "we", "'re", " I", "'", "LL", "'ll", "'ve", "'d", "'" }, cut("we're I'LL'll've'd'"))
    assert.same({ " é", "²", "\194\160\226\128\131", "\n", "x", " \255\254", " " }, cut(" é²\194\160\226\128\131\nx \255\254 "))
    for _ = 1, 3000 do
      local text = random_text()
      assert.same(split(text), cut(text))
    end
  end)

  it('joins pairs as a plain implementation does', function()
    for _ = 1, 600 do
      local text = random_text()
      assert.same(reference(tok, text), tok:encode_to_table(text))
    end
    for _, text in ipairs{ ('the'):rep(200), ('age of wisdom'):gsub(' ', ''):rep(50), ('a'):rep(1000) } do
      assert.same(reference(tok, text), tok:encode_to_table(text))
    end
  end)

  it('gives back any bytes', function()
    for i = 1, 10000 do
      local text = random_text(true)
      local ids = tok:encode(text, i % 2 == 0 and { special = 'all' } or nil)
      if tok:decode(ids) ~= text then error(('round trip of %q'):format(text)) end
    end
    local all = {}
    for b = 0, 255 do all[b + 1] = string.char(b) end
    all = table.concat(all):rep(1000)
    assert.is_true(tok:decode(tok:encode(all)) == all)
    assert.equal('', tok:decode(tok:encode('')))
  end)

  it('streams: pieces are whole characters and add up', function()
    for _ = 1, 300 do
      local text = random_text(true)
      local d, out = tok:decoder(), {}
      for k, id in ipairs(tok:encode_to_table(text)) do
        out[k] = d:push(id)
        if not json.invalid_utf8(text) then assert.is_nil(json.invalid_utf8(out[k])) end
      end
      out[#out + 1] = d:finish()
      assert.equal(text, table.concat(out))
    end
    local d = tokenizer.bytes():decoder()
    assert.equal('', d:push(0xf0 + 1))
    assert.equal('', d:push({ 0x9f + 1, 0x98 + 1 }))
    assert.equal('😀', d:push(0x80 + 1))
    assert.equal('\240(', d:push{ 0xf1, 0x29 })
    assert.equal('', d:push(0xe3))
    assert.equal('\226', d:finish())
    assert.equal('', d:finish())
  end)

  it('knows special tokens when asked', function()
    local text = ' of<|endoftext|> of<|end'
    local function texts(opts)
      local out = {}
      for k, id in ipairs(tok:encode_to_table(text, opts)) do out[k] = tok:token(id) end
      return out
    end
    assert.same({ ' of', '<|endoftext|>', ' of', '<|end' }, texts{ special = 'all' })
    assert.equal(text, table.concat(texts()))
    assert.is_true(#texts() > 4)
    local only = texts{ special = { '<|end' } }
    assert.equal('<|end', only[2])
    assert.equal(only[#only], '<|end')
    assert.equal(' of of', tok:decode(tok:encode(text, { special = 'all' }), { skip_special = true }))
    assert.same({ ['<|endoftext|>'] = tok.vocab_size - 1, ['<|end'] = tok.vocab_size }, tok.special)
    assert.fails(function() tok:encode('a', { special = 'some' }) end, "encode: special: expected 'none', 'all' or a list", "'some'")
    assert.fails(function() tok:encode('a', { special = { '<x>' } }) end, '"<x>" is no special token', '<|endoftext|>')
  end)

  it('trains the same way every time, most frequent pair first', function()
    local again = tokenizer.train_bpe(CORPUS, 400, { special = { '<|endoftext|>', '<|end' } })
    assert.equal(tok:serialize(), again:serialize())
    -- "ab" x 3 and "cd" x 3: equal counts, the smaller ids first; then the whole words.
    local t = tokenizer.train_bpe('ab cd ab cd ab cd', 262, { min_frequency = 3 })
    local made = {}
    for id = 257, t.vocab_size do made[#made + 1] = t:token(id) end
    assert.same({ 'ab', 'cd', ' cd' }, made)
    assert.same({ t:id('a'), t:id('b') }, { t:merge(1) })
    -- Overlapping pairs: aaaa is two of aa; nothing is left that appears twice.
    t = tokenizer.train_bpe('aaaa', 300, { min_frequency = 1 })
    assert.equal('aaaa', t:token(258))
    assert.equal(258, t.vocab_size)
    assert.equal('!', t:token(1))
    assert.equal('\0', t:token(189))
  end)

  it('trains on files and reports', function()
    local scratch = require 'support.scratch'
    local half = math.floor(#CORPUS / 4)
    local paths = { scratch.file(CORPUS:sub(1, half)), scratch.file(CORPUS:sub(half + 1)) }
    local seen = {}
    local t = tokenizer.train_bpe(paths, 400, { special = { '<|endoftext|>', '<|end' }, progress = function(phase, done, total)
      seen[phase] = done / total
    end })
    assert.equal(tok:serialize(), t:serialize())
    assert.equal(1, seen.count)
    assert.equal((t.vocab_size - 2) / 398, seen.merge)
    assert.fails(function()
      tokenizer.train_bpe(CORPUS, 400, { progress = function() return false end })
    end, 'train_bpe: stopped by progress')
    scratch.clean()
  end)

  it('stops when it is interrupted', function()
    native.cpu.mt_cancel_set(1)
    assert.fails(function() tok:encode(CORPUS) end, 'encode: interrupted')
    native.cpu.mt_cancel_set(1)
    assert.fails(function() tokenizer.train_bpe(CORPUS, 400) end, 'interrupted')
    assert.equal(0, native.cpu.mt_cancel_pending())
    assert.equal(CORPUS, tok:decode(tok:encode(CORPUS)))
  end)

  it('survives an allocation that fails, and leaks nothing', function()
    collectgarbage()
    collectgarbage()
    local before = native.cpu.mt_memory_blocks()
    for n = 1, 60 do
      native.cpu.mt_memory_fail_at(n, 1)
      local ok, message = pcall(function()
        local t = tokenizer.train_bpe('the cat the cat', 300)
        return t:decode(t:encode(('x'):rep(100) .. ' the cat'))
      end)
      native.cpu.mt_memory_fail_at(0, 0)
      if ok then break end
      assert.truthy(message:find('out of memory', 1, true), message)
      assert.is_true(n < 60)
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, native.cpu.mt_memory_blocks())
  end)

  it('says what is wrong with its arguments', function()
    local size = tok.vocab_size
    for _, case in ipairs{
      { function() tok:encode(12) end, 'encode: text: expected a string, got number' },
      { function() tok:encode('a', { specials = 'all' }) end, "unknown option 'specials' (did you mean 'special'?)" },
      { function() tok:encode('a', { dtype = 'float32' }) end, 'encode: dtype' },
      { function() tok:decode('a') end, 'decode: ids: expected a tensor or a table' },
      { function() tok:decode{ 1, 0 } end, 'decode: ids: expected ids from 1 to ' .. size .. ', got 0 at position 2' },
      { function() tok:decode{ size + 1 } end, 'at position 1' },
      { function() tok:decode{ 1.5 } end, 'got 1.5' },
      { function() tok:decode(torch.tensor({ 1, size + 1 }, { dtype = 'int64' })) end, 'got ' .. size + 1 .. ' at position 2' },
      { function() tok:decode(torch.tensor({ 1, -1 }, { dtype = 'int32' })) end, 'got -1 at position 2' },
      { function() tok:decode(torch.zeros(2)) end, 'expected a vector of int64 or int32', 'float32' },
      { function() tok:token(0) end, 'token: id: expected a whole number from 1 to' },
      { function() tok:id(3) end, 'id: bytes: expected a string' },
      { function() tokenizer.train_bpe('', 300) end, 'train_bpe: corpus: it is empty' },
      { function() tokenizer.train_bpe({}, 300) end, 'train_bpe: corpus: expected a text or a table' },
      { function() tokenizer.train_bpe({ '/no/such/file' }, 300) end, 'train_bpe: /no/such/file: ' },
      { function() tokenizer.train_bpe('a', 255) end, 'train_bpe: vocab_size: expected a whole number from 256' },
      { function() tokenizer.train_bpe('a', 256, { special = { 'xx' } }) end, 'from 257' },
      { function() tokenizer.train_bpe('a', 300, { special = { 'xx', 'xx' } }) end, '"xx" appears twice' },
      { function() tokenizer.train_bpe('a', 300, { special = { '\255\255' } }) end, 'special: entry 1' },
      { function() tokenizer.train_bpe('<a><a>', 300, { special = { '<a>' } }) end, 'train_bpe: corpus: it is empty' },
      { function() tokenizer.train_bpe('a', 300, { min_frequency = 0 }) end, 'min_frequency' },
    } do
      assert.fails(case[1], case[2], case[3] or '')
    end
  end)

  it('reads any strides and both integer types', function()
    local ids = tok:encode(CORPUS)
    assert.equal('int64', ids.dtype)
    local small = tok:encode(CORPUS, { dtype = 'int32' })
    assert.equal('int32', small.dtype)
    assert.equal(CORPUS, tok:decode(small))
    local n = ids:size(1)
    local wide = torch.zeros(n, 2, { dtype = 'int64' })
    for i = 1, n do wide[{ i, 2 }] = ids[i] end
    assert.equal(CORPUS, tok:decode(wide:select(2, 2)))
    assert.equal(tok:token(5), tok:decode(5))
  end)
end)

describe("GPT-2's encoding", function()
  local folder = os.getenv('MASKED_TORCH_GPT2')
  if not folder then
    pending('needs encoder.json and vocab.bpe: set MASKED_TORCH_GPT2 to their folder')
    return
  end

  it('equals the reference vectors', function()
    local tok = tokenizer.gpt2(folder)
    local file = assert(io.open(here .. 'golden/bpe.json', 'rb'))
    local golden = json.decode(file:read('*a'), error)
    file:close()
    assert.equal(golden.vocab_size, tok.vocab_size)
    assert.equal(golden.special['<|endoftext|>'] + 1, tok.special['<|endoftext|>'])
    assert.is_true(#golden.encode > 40)
    for _, case in ipairs(golden.encode) do
      local ids = tok:encode_to_table(case.text)
      for i = 1, #ids do ids[i] = ids[i] - 1 end
      assert.same({ unpack(case.ids) }, ids)
      assert.equal(case.text, tok:decode(tok:encode(case.text)))
    end
    for _, case in ipairs(golden.decode) do
      local ids = {}
      for i, id in ipairs(case.ids) do ids[i] = id + 1 end
      assert.equal(case.bytes_hex, (tok:decode(ids):gsub('.', function(c) return ('%02x'):format(c:byte()) end)))
    end
  end)
end)
