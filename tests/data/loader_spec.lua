local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local data = torch.data
local C = torch.Tensor.namespace.cpu

local function sequence(n)
  local t = {}
  for i = 1, n do t[i] = (i * 7919) % 251 + 1 end
  return t
end

local function make(opts, dataset)
  local all = { batch_size = 16, shuffle = true, seed = 9, collate = data.collate.sequences{ pad = 'left', multiple = 4 } }
  for key, value in pairs(opts or {}) do all[key] = value end
  return data.Loader(dataset or data.SlidingWindowDataset(sequence(300), 1, 13, { lengths = 'random' }), all)
end

local function text(batch)
  return table.concat{ table.concat(batch.target:totable(), ' '), '|', table.concat(batch.lengths:totable(), ' '), '|',
    table.concat(batch.sequence:reshape(-1):totable(), ' ') }
end

-- n batches over the ends of epochs.
local function take(loader, n)
  local out = {}
  while #out < n do
    local batch = loader()
    if batch then out[#out + 1] = text(batch) end
  end
  return out
end

describe('loader', function()
  teardown(scratch.clean)

  it('gives every sample once per epoch', function()
    local seen, batches = {}, 0
    local dataset = data.TensorDataset{ i = torch.range(1, 103, { dtype = 'int64' }) }
    local loader = data.Loader(dataset, { batch_size = 10, shuffle = true })
    assert.equal(11, loader:length())
    for batch in loader do
      batches = batches + 1
      for _, i in ipairs(batch.i:totable()) do
        assert.is_nil(seen[i])
        seen[i] = true
      end
    end
    assert.equal(11, batches)
    assert.equal(103, #seen)
    assert.equal(2, loader.epoch)
    local dropped = 0
    for batch in data.Loader(dataset, { batch_size = 10, drop_last = true }) do
      dropped = dropped + batch.i:size(1)
    end
    assert.equal(100, dropped)
  end)

  it('gives the same bits whatever the prefetch, the threads, and one by one', function()
    local expected = take(make{ prefetch = 0 }, 50)
    assert.not_same({ unpack(expected, 1, 19) }, { unpack(expected, 20, 38) })
    for _, prefetch in ipairs{ 1, 2, 32 } do assert.same(expected, take(make{ prefetch = prefetch }, 50)) end
    local threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert.same(expected, take(make(), 50))
    torch.set_num_threads(threads)
    local full = data.SlidingWindowDataset(sequence(300), 1, 13)
    local pad = data.collate.sequences{ pad = 'left', multiple = 4 }
    assert.same(take(make({}, full), 40), take(make({ collate = function(samples) return pad(samples) end }, full), 40))
  end)

  it('continues exactly from any saved position', function()
    local expected = take(make(), 45)
    for _, stop in ipairs{ 0, 1, 7, 18, 19, 20, 38, 44 } do
      local first = make()
      take(first, stop)
      local path = scratch.path()
      torch.save(path, first:state_dict())
      local second = make{ seed = 1, prefetch = stop % 3 }
      take(second, 3)
      second:load_state_dict(torch.load(path))
      assert.same({ unpack(expected, stop + 1) }, take(second, 45 - stop))
    end
  end)

  it('tells the end of an epoch apart after resuming', function()
    local loader = make()
    take(loader, 19)
    local state = loader:state_dict()
    assert.equal(1, state.epoch)
    assert.equal(20, state.next)
    local other = make():load_state_dict(state)
    assert.is_nil(other())
    assert.equal(2, other:state_dict().epoch)
    assert.is_table(other())
  end)

  it('goes on after a loop that was left, or rewinds', function()
    local expected = take(make(), 19)
    local loader, got = make(), {}
    for batch in loader do
      got[#got + 1] = text(batch)
      if #got == 3 then break end
    end
    for batch in loader do got[#got + 1] = text(batch) end
    assert.same(expected, got)
    loader = make()
    take(loader, 5)
    assert.same(expected, take(loader:rewind(), 19))
  end)

  it('takes samplers of others', function()
    local dataset = data.TensorDataset{ i = torch.range(1, 6, { dtype = 'int64' }) }
    local back = { length = function() return 3 end, indexes = function(_, _, first, count)
      local t = {}
      for k = 1, count do t[k] = 8 - 2 * (first + k - 1) end
      return torch.tensor(t, { dtype = 'int64' })
    end }
    local got = {}
    for batch in data.Loader(dataset, { batch_size = 2, sampler = back }) do got[#got + 1] = batch.i:totable() end
    assert.same({ { 6, 4 }, { 2 } }, got)
    local buckets = data.BucketSampler({ 1, 9, 1, 9, 1, 9 }, 3)
    for batch in data.Loader(dataset, { batch_sampler = buckets }) do
      local i = batch.i:totable()
      assert.is_true(i[1] % 2 == i[2] % 2 and i[2] % 2 == i[3] % 2)
    end
  end)

  it('transforms batches and takes collate functions', function()
    local dataset = data.TensorDataset{ torch.range(1, 4) }
    local loader = data.Loader(dataset, { batch_size = 4, transform = function(batch) return { double = batch[1] * 2 } end })
    assert.same({ 2, 4, 6, 8 }, loader().double:totable())
    loader = data.Loader(dataset, { batch_size = 3, collate = function(samples) return { n = #samples } end })
    assert.equal(3, loader().n)
    assert.equal(1, loader().n)
  end)

  it('loads images of different sizes', function()
    local sizes = { { 3, 4 }, { 5, 2 }, { 1, 1 } }
    local dataset = { length = function() return 3 end, get = function(_, i)
      return { image = torch.full({ 1, sizes[i][1], sizes[i][2] }, i), label = i }
    end }
    local batch = data.Loader(dataset, { batch_size = 3, collate = data.collate.images{ multiple = 2 } })()
    assert.same({ 3, 1, 6, 4 }, batch.image:size())
    assert.same({ 12, 10, 1 }, batch.mask:count())
  end)

  it('keeps the memory of batches that are used, frees the others #memory', function()
    local function use()
      local loader = make()
      local kept = loader()
      local before = text(kept)
      for _ = 1, 3 do
        for _ in loader do end
      end
      assert.equal(before, text(kept))
    end
    use()
    collectgarbage() collectgarbage()
    local live = C.mt_memory_live()
    for _ = 1, 20 do
      local one = make{ prefetch = 8 }
      one()
    end
    collectgarbage() collectgarbage() collectgarbage()
    assert.equal(live, C.mt_memory_live())
  end)

  it('survives loaders that end while their thread works #memory', function()
    local tokens = data.Tokens.of_string(('abc'):rep(100000))
    local function one(seed)
      local loader = data.Loader(data.SlidingWindowDataset(tokens, 1, 200), { batch_size = 500, prefetch = 16, seed = seed,
        shuffle = true })
      loader()
    end
    for k = 1, 50 do
      one(k)
      if k % 2 == 0 then collectgarbage() end
    end
  end)

  local dataset = data.TensorDataset{ torch.range(1, 4) }
  local full = make()
  local function state(change)
    local s = full:state_dict()
    for key, value in pairs(change) do s[key] = value end
    return s
  end
  for what, case in pairs{
    ['a dataset that is none'] = { function() data.Loader(5) end, 'Loader: dataset' },
    ['an empty dataset'] = { function() data.Loader(data.SlidingWindowDataset({ 1 }, 1, 2)) end, 'the dataset is empty' },
    ['dropping everything'] = { function() data.Loader(dataset, { batch_size = 5, drop_last = true }) end, 'no batch of 4 samples' },
    ['a batch of 0'] = { function() data.Loader(dataset, { batch_size = 0 }) end, 'batch_size' },
    ['an unknown option'] = { function() data.Loader(dataset, { batchsize = 5 }) end, "did you mean 'batch_size'" },
    ['a sampler beside shuffle'] = { function()
      data.Loader(dataset, { shuffle = true, sampler = data.SequentialSampler(4) })
    end, 'excludes shuffle' },
    ['both samplers'] = { function()
      data.Loader(dataset, { sampler = data.SequentialSampler(4), batch_sampler = data.BucketSampler({ 1, 1 }, 1) })
    end, 'excludes sampler' },
    ['a collate that is no function'] = { function() data.Loader(dataset, { collate = 'left' }) end, 'collate: expected a function' },
    ['a prefetch of -1'] = { function() data.Loader(dataset, { prefetch = -1 }) end, 'prefetch' },
    ['a collate that returns nothing'] = { function() data.Loader(dataset, { collate = function() end })() end, 'collate returned nil' },
    ['a sampler that points past the end'] = { function()
      data.Loader(dataset, { batch_size = 2, sampler = data.SequentialSampler(9) }):load_state_dict({ seed = 0, epoch = 1, next = 5,
        samples = 4, batches = 5, batch_size = 2, shuffle = false, drop_last = false })()
    end, 'Loader' },
    ['the state of another batch size'] = { function() full:load_state_dict(state{ batch_size = 8 }) end, 'batch_size: the state says 8',
      'this loader has 16' },
    ['the state of another dataset'] = { function() full:load_state_dict(state{ samples = 8 }) end, 'samples' },
    ['a state without its parts'] = { function() full:load_state_dict{} end, 'load_state_dict' },
    ['a state with an unknown part'] = { function() full:load_state_dict(state{ position = 8 }) end, 'position' },
    ['a batch past the end'] = { function() full:load_state_dict(state{ next = 21 }) end, 'from 1 to 20' },
    ['a state that is a number'] = { function() full:load_state_dict(3) end, 'expected a table' },
  } do
    it('refuses ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end

  it('refuses rows outside the source, at the C boundary', function()
    local function int(values) return torch.tensor(values, { dtype = 'int64' }) end
    local source, out, floats = int{ 1, 2, 3, 4 }, torch.zeros(2, 3, { dtype = 'int64' }), torch.ones(9)
    local g = ffi.new('mt_gather')
    local function run(first, length, change)
      g.out, g.source, g.first, g.length, g.type, g.add = out._c, source._c, first._c, length and length._c or nil, 2, 0
      if change then change() end
      require('masked_torch.native').check(C.mt_loader_gather(g))
    end
    run(int{ 1, 2 }, int{ 3, 3 })
    assert.same({ { 1, 2, 3 }, { 2, 3, 4 } }, out:totable())
    for _, bad in ipairs{ { { 1, 3 }, { 3, 3 } }, { { 0, 1 }, { 1, 1 } }, { { 1, 1 }, { 4, 1 } }, { { 1, 1 }, { -1, 1 } },
      { { 1, 2 ^ 53 }, { 1, 1 } }, { { 6, 1 }, { 0, 0 } } } do
      assert.fails(function() run(int(bad[1]), int(bad[2])) end, 'loader: row')
    end
    assert.fails(function() run(int{ 1, 3 }) end, 'loader: row 2')
    assert.fails(function() run(int{ 1 }) end, 'first')
    assert.fails(function() run(int{ 1, 1 }, nil, function() g.type = 16 end) end, 'type 16')
    assert.fails(function() run(int{ 1, 1 }, nil, function() g.type = 99 end) end, 'type 99')
    assert.fails(function() run(int{ 1, 1 }, nil, function() g.source = floats._c g.type = 0 end) end, 'cannot hold')
    assert.fails(function() run(int{ 1, 1 }, nil, function() g.source = nil end) end, 'source')
    assert.fails(function() run(int{ 1, 1 }, nil, function() g.source = out._c end) end, 'shares memory')
  end)
end)
