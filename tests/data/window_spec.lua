local torch = require 'masked_torch'
local data = torch.data
local json = torch.io.json
local file = torch.io.file
local scratch = require 'support.scratch'

local golden = json.decode(file.read('test', 'tests/golden/data.json'))

-- A sample or batch as plain tables.
local function plain(value)
  return torch.is_tensor(value) and value:totable() or value
end

local function samples(dataset)
  local out = {}
  for i = 1, dataset:length() do
    local sample = dataset[i]
    out[i] = { sequence = plain(sample.sequence), target = plain(sample.target) }
  end
  return out
end

-- The same samples through the gathers of a loader.
local function loaded(dataset, opts)
  opts.batch_size = opts.batch_size or 3
  local out = {}
  for batch in data.Loader(dataset, opts) do
    local lengths = batch.lengths:totable()
    for r, row in ipairs(batch.sequence:totable()) do
      local sequence = {}
      for k = 1, lengths[r] do sequence[k] = row[k] end
      out[#out + 1] = { sequence = sequence, target = batch.target[r] }
    end
  end
  return out
end

describe('window datasets', function()
  teardown(scratch.clean)

  it('give the windows of masked_torch', function()
    for _, case in ipairs(golden.windows) do
      local dataset = data.SlidingWindowDataset(case.sequence, case.window_size_min, case.window_size_max)
      assert.equal(case.length, dataset:length())
      assert.same(case.items, samples(dataset))
      if case.length > 0 then
        assert.same(case.items, loaded(dataset, {}))
        assert.same(case.items, loaded(dataset, { prefetch = 0 }))
      end
    end
  end)

  it('give the windows of a collection, which cross no border', function()
    for _, case in ipairs(golden.collection) do
      local dataset = data.CollectionSlidingWindowDataset(case.sequences, case.window_size_min, case.window_size_max)
      assert.equal(case.length, dataset:length())
      assert.same(case.items, samples(dataset))
      assert.same(case.items, loaded(dataset, {}))
      local parts = {}
      for k, s in ipairs(case.sequences) do
        parts[k] = data.SlidingWindowDataset(s, case.window_size_min, case.window_size_max)
      end
      local concatenated = data.ConcatDataset(parts)
      assert.same(case.items, samples(concatenated))
      assert.same(case.items, loaded(concatenated, {}))
    end
  end)

  it('skip sequences of a collection that are too short', function()
    local dataset = data.CollectionSlidingWindowDataset({ { 1 }, {}, { 2, 3 }, { 4 }, { 5, 6, 7 } }, 1, 2)
    assert.same({ { sequence = { 2 }, target = 3 }, { sequence = { 5 }, target = 6 }, { sequence = { 5, 6 }, target = 7 } },
      samples(dataset))
    assert.equal(0, data.CollectionSlidingWindowDataset({}, 1, 2):length())
  end)

  it('map files of every element type; files count tokens from 0', function()
    local contents = {
      uint8 = '\0\1\2\255', uint16 = '\0\0\1\0\2\0\255\255', int32 = '\0\0\0\0\1\0\0\0\2\0\0\0\255\255\0\0',
      int64 = ('\0'):rep(8) .. '\1' .. ('\0'):rep(7) .. '\2' .. ('\0'):rep(7) .. '\0\0\0\0\1\0\0\0',
    }
    local last = { uint8 = 256, uint16 = 65536, int32 = 65536, int64 = 2 ^ 32 + 1 }
    for dtype, content in pairs(contents) do
      local path = scratch.file(content)
      local tokens = data.Tokens.open(path, { dtype = dtype })
      assert.same({ 1, 2, 3, last[dtype] }, tokens:tensor():totable())
      assert.same({ 2, 3 }, tokens:narrow(2, 4):slice(1, 2):totable())
      local dataset = data.MemoryMapSlidingWindowDataset(path, 2, 2, { dtype = dtype })
      assert.equal(2, dataset:length())
      assert.same({ 3, last[dtype] }, dataset[2].sequence:totable())
      local raw = data.MemoryMapSlidingWindowDataset(path, 3, { dtype = dtype, add = 0 })
      assert.equal(2, raw:length())
      assert.same({ 1, 2, last[dtype] - 1 }, raw[2].sequence:totable())
      for batch in data.Loader(raw, { batch_size = 2 }) do
        assert.same({ { 0, 1, 2 }, { 1, 2, last[dtype] - 1 } }, batch.sequence:totable())
        assert.is_true(batch.mask:all_valid())
      end
    end
  end)

  it('count memory-mapped windows as (size - window) / stride + 1', function()
    local path = scratch.file(('x'):rep(10))
    for _, case in ipairs{ { 1, 1, 10 }, { 10, 1, 1 }, { 11, 1, 0 }, { 3, 2, 4 }, { 4, 3, 3 }, { 1, 20, 1 } } do
      assert.equal(case[3], data.MemoryMapSlidingWindowDataset(path, case[1], case[2]):length())
    end
    assert.equal(10, data.MemoryMapSlidingWindowDataset(path):length())
  end)

  it('see a file, not what is written to its tensor #memory', function()
    local path = scratch.file('abcd')
    local function part()
      local tokens = data.Tokens.open(path)
      tokens.source:fill_(9)
      assert.equal(10, tokens:slice(1, 1)[1])
      assert.equal('abcd', scratch.content(path))
      return tokens.source:narrow(1, 3, 2)
    end
    local view = part()
    collectgarbage() collectgarbage()
    assert.same({ 9, 9 }, view:totable())
  end)

  it('read a sparse file of 5 GB without loading it', function()
    local path = scratch.path()
    local f = assert(io.open(path, 'wb'))
    if not f:seek('set', 5e9) or not f:write('Z') or not f:close() then
      os.remove(path)
      pending('the file system has no sparse files')
      return
    end
    local before, live = collectgarbage('count'), torch.Tensor.namespace.cpu.mt_memory_live()
    local dataset = data.SlidingWindowDataset(data.Tokens.open(path), 1, 128)
    assert.equal(5e9, dataset:length())
    assert.equal(91, dataset[5e9].target)
    assert.equal(1, dataset[3e9].target)
    local loader = data.Loader(dataset, { batch_size = 64, shuffle = true })
    assert.same({ 64, 128 }, loader().sequence:size())
    os.remove(path)
    assert.is_true(collectgarbage('count') - before < 1e4)
    assert.is_true(torch.Tensor.namespace.cpu.mt_memory_live() - live < 1e7)
  end)

  it('predict the next token at every position', function()
    local dataset = data.NextTokenDataset({ 1, 2, 3, 4, 5, 6, 7 }, 3, { stride = 2 })
    assert.equal(2, dataset:length())
    assert.same({ { sequence = { 1, 2, 3 }, target = { 2, 3, 4 } }, { sequence = { 3, 4, 5 }, target = { 4, 5, 6 } } },
      samples(dataset))
    for batch in data.Loader(dataset, { batch_size = 2 }) do
      assert.same({ { 1, 2, 3 }, { 3, 4, 5 } }, batch.sequence:totable())
      assert.same({ { 2, 3, 4 }, { 4, 5, 6 } }, batch.target:totable())
    end
    assert.equal(1, data.NextTokenDataset({ 1, 2, 3, 4 }, 3):length())
  end)

  it('draw context lengths anew in every epoch, uniformly, and end them at the target', function()
    local sequence = {}
    for i = 1, 5000 do sequence[i] = i end
    local dataset = data.SlidingWindowDataset(sequence, 1, 8, { lengths = 'random' })
    local loader = data.Loader(dataset, { batch_size = 1000, seed = 5, collate = data.collate.sequences{ pad = 'left' } })
    local counts, epochs = {}, {}
    for epoch = 1, 2 do
      epochs[epoch] = {}
      for batch in loader do
        local lengths, rows = batch.lengths:totable(), batch.sequence:totable()
        for r, n in ipairs(lengths) do
          counts[n] = (counts[n] or 0) + 1
          table.insert(epochs[epoch], n)
          local L = #rows[r]
          for k = 1, L do assert.equal(k <= L - n and 1 or batch.target[r] - (L - k) - 1, rows[r][k]) end
        end
      end
    end
    for n = 1, 8 do assert.is_true(math.abs(counts[n] - 1250) < 150, n .. ': ' .. counts[n]) end
    assert.is_true(#counts == 8)
    assert.not_same(epochs[1], epochs[2])
  end)

  it('shorten samples with a target at every position at their ends', function()
    local sequence = {}
    for i = 1, 900 do sequence[i] = i end
    local dataset = data.NextTokenDataset(sequence, 16, { lengths = 'random', shortest = 4, stride = 3 })
    local seen, first = {}, 0
    for batch in data.Loader(dataset, { batch_size = 50, collate = data.collate.sequences{ multiple = 4, pad_value = 7 } }) do
      for r, n in ipairs(batch.lengths:totable()) do
        seen[n] = true
        for k = 1, batch.sequence:size(2) do
          assert.equal(k <= n and first + (r - 1) * 3 + k or 7, batch.sequence[{ r, k }])
          assert.equal(k <= n and first + (r - 1) * 3 + k + 1 or 7, batch.target[{ r, k }])
        end
      end
      assert.same(batch.lengths:totable(), batch.mask:count())
      first = first + batch.lengths:numel() * 3
    end
    assert.is_nil(seen[3])
    assert.is_true(seen[4] and seen[16])
  end)

  it('split tokens by fractions', function()
    local tokens = data.Tokens.of_string('abcdefghij')
    local train, valid = tokens:split{ 0.7, 0.2 }
    assert.equal(7, train:length())
    assert.same({ 105, 106 }, valid:tensor():totable())
    local all, none = tokens:split{ 1, 0 }
    assert.equal(10, all:length())
    assert.equal(0, none:length())
  end)

  for what, case in pairs{
    ['a window of 0'] = { function() data.SlidingWindowDataset({ 1, 2 }, 0, 3) end, 'SlidingWindowDataset: shortest', 'at least 1' },
    ['longest below shortest'] = { function() data.SlidingWindowDataset({ 1, 2 }, 3, 2) end, 'longest', 'at least 3' },
    ['an unknown option'] = { function() data.SlidingWindowDataset({ 1, 2 }, 1, 2, { length = 'full' }) end, "'lengths'" },
    ['an unknown kind of lengths'] = { function() data.SlidingWindowDataset({ 1, 2 }, 1, 2, { lengths = 'short' }) end,
      "'full', 'random'" },
    ['a number as the sequence'] = { function() data.SlidingWindowDataset(5, 1, 2) end, 'expected Tokens' },
    ['tokens that are not whole'] = { function() data.SlidingWindowDataset({ 1, 2.5 }, 1, 2) end, 'source[2]', 'whole number' },
    ['tokens that are no numbers'] = { function() data.SlidingWindowDataset({ 1, 'x' }, 1, 2) end, 'source[2]' },
    ['a float tensor'] = { function() data.SlidingWindowDataset(torch.zeros(5), 1, 2) end, 'uint8, int32 or int64', 'float32' },
    ['a matrix'] = { function() data.SlidingWindowDataset(torch.zeros(5, 2, { dtype = 'int64' }), 1, 2) end, '1-D tensor' },
    ['a sample of number 0'] = { function() return data.SlidingWindowDataset({ 1, 2, 3 }, 1, 2)[0] end, 'from 1 to 2', 'got 0' },
    ['a sample past the end'] = { function() return data.SlidingWindowDataset({ 1, 2, 3 }, 1, 2)[3] end, 'from 1 to 2' },
    ['half a sample'] = { function() return data.SlidingWindowDataset({ 1, 2, 3 }, 1, 2)[1.5] end, 'got 1.5' },
    ['too few tokens'] = { function() data.NextTokenDataset(('x'):rep(90), 128) end, 'dataset has 90 tokens, context needs 129' },
    ['a missing file'] = { function() data.Tokens.open('/nowhere/x') end, 'Tokens.open: /nowhere/x: No such file' },
    ['a folder'] = { function() data.Tokens.open('/tmp') end, 'regular file' },
    ['an empty file'] = { function() data.Tokens.open(scratch.file('')) end, 'the file is empty' },
    ['an odd number of bytes of uint16'] = { function() data.Tokens.open(scratch.file('abc'), { dtype = 'uint16' }) end,
      '3 bytes are not a whole number of uint16' },
    ['5 bytes of int32'] = { function() data.Tokens.open(scratch.file('abcde'), { dtype = 'int32' }) end,
      '5 bytes are not a whole number of int32' },
    ['an unknown element type'] = { function() data.Tokens.open(scratch.file('abcde'), { dtype = 'int16' }) end, "'uint16'" },
    ['a stride of 0'] = { function() data.MemoryMapSlidingWindowDataset(scratch.file('ab'), 1, 0) end, 'stride' },
    ['a slice past the end'] = { function() data.Tokens{ 1, 2 }:slice(1, 3) end, 'slice: last', 'from 0 to 2' },
    ['fractions above 1'] = { function() data.Tokens{ 1, 2 }:split{ 0.9, 0.2 } end, 'sum of at most 1' },
    ['a collection that is a tensor'] = { function()
      data.CollectionSlidingWindowDataset(torch.zeros(3, { dtype = 'int64' }), 1, 2)
    end, 'table of sequences' },
  } do
    it('refuse ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end
end)
