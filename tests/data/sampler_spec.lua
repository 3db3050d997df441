local torch = require 'masked_torch'
local data = torch.data

local function sorted(t)
  local copy = { unpack(t) }
  table.sort(copy)
  return copy
end

local function range(n)
  local t = {}
  for i = 1, n do t[i] = i end
  return t
end

describe('samplers', function()
  it('visit in order', function()
    assert.same(range(7), data.SequentialSampler(7):table(3))
    assert.same({ 3, 4 }, data.SequentialSampler(7):indexes(1, 3, 2):totable())
  end)

  it('permute: every sample once, another order each epoch, any slice of it', function()
    for _, n in ipairs{ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 99, 100, 101, 1000, 1023, 1024, 1025, 3000 } do
      local sampler = data.RandomSampler(n, { seed = 3 })
      local order = sampler:table(1)
      assert.same(range(n), sorted(order))
      if n >= 99 then
        assert.not_same(order, sampler:table(2))
        assert.not_same(order, data.RandomSampler(n, { seed = 4 }):table(1))
      end
      assert.same(order, data.RandomSampler(n, { seed = 3 }):table(1))
      local pieces = {}
      for first = 1, n, 7 do
        for _, i in ipairs(sampler:indexes(1, first, math.min(7, n - first + 1)):totable()) do pieces[#pieces + 1] = i end
      end
      assert.same(order, pieces)
    end
  end)

  -- The statistic of chi-square with d degrees of freedom stays below d + 5 sqrt(2 d) but for one seed in a million.
  local function check_uniform(counts, cells, draws)
    local expected, sum, seen = draws / cells, 0, 0
    for _, c in pairs(counts) do
      sum = sum + (c - expected) ^ 2 / expected
      seen = seen + 1
    end
    sum = sum + (cells - seen) * expected
    assert.is_true(sum < cells - 1 + 5 * math.sqrt(2 * (cells - 1)), ('chi-square %g of %d cells'):format(sum, cells))
  end

  it('permute uniformly: all orders of few samples are equally frequent', function()
    local factorial = 1
    for n = 2, 5 do
      factorial = factorial * n
      local sampler, counts = data.RandomSampler(n, { seed = 11 }), {}
      local draws = 100 * factorial
      for epoch = 1, draws do
        local key = table.concat(sampler:table(epoch), ' ')
        counts[key] = (counts[key] or 0) + 1
      end
      check_uniform(counts, factorial, draws)
    end
  end)

  it('permute uniformly: every sample comes everywhere, neighbours are independent', function()
    local n = 30
    local sampler, place, pairs_of = data.RandomSampler(n, { seed = 2 }), {}, {}
    for epoch = 1, 2000 do
      local order = sampler:table(epoch)
      for k, i in ipairs(order) do
        place[k * n + i] = (place[k * n + i] or 0) + 1
        if k > 1 then
          local key = order[k - 1] * n + i
          pairs_of[key] = (pairs_of[key] or 0) + 1
        end
      end
    end
    check_uniform(place, n * n, 2000 * n)
    check_uniform(pairs_of, n * (n - 1), 2000 * (n - 1))
  end)

  it('permute 2^40 samples in no memory', function()
    local order = data.RandomSampler(2 ^ 40):indexes(1, 2 ^ 39, 1000):totable()
    local seen, sum = {}, 0
    for _, i in ipairs(order) do
      assert.is_true(i >= 1 and i <= 2 ^ 40 and not seen[i])
      seen[i] = true
      sum = sum + i / 2 ^ 40
    end
    assert.is_true(math.abs(sum / 1000 - 0.5) < 0.05)
  end)

  it('draw with replacement', function()
    local sampler = data.RandomSampler(10, { replacement = true, samples = 20000, seed = 1 })
    assert.equal(20000, sampler:length())
    local counts = {}
    for _, i in ipairs(sampler:table(1)) do counts[i] = (counts[i] or 0) + 1 end
    check_uniform(counts, 10, 20000)
    assert.not_same(sampler:table(1), sampler:table(2))
    assert.same(sampler:indexes(2, 101, 5):totable(), { unpack(sampler:table(2), 101, 105) })
  end)

  it('take part of an epoch', function()
    local sampler = data.RandomSampler(100, { samples = 10 })
    assert.equal(10, #sampler:table(1))
    assert.equal(0, data.RandomSampler(0):length())
  end)

  it('cut batches', function()
    local batches = data.BatchSampler(data.SequentialSampler(7), 3)
    assert.equal(3, batches:length())
    assert.same({ 7 }, batches:batch(1, 3):totable())
    batches = data.BatchSampler(data.SequentialSampler(7), 3, { drop_last = true })
    assert.equal(2, batches:length())
    assert.same({ 4, 5, 6 }, batches:batch(1, 2):totable())
    assert.equal(0, data.BatchSampler(data.SequentialSampler(2), 3, { drop_last = true }):length())
  end)

  it('bucket by length: every sample once, little padding, any batch of it', function()
    local lengths = torch.randint(1, 200, 1003, { generator = torch.Generator(5) })
    local l = lengths:totable()
    local function padding(batches, epoch)
      local waste, all = 0, {}
      for k = 1, batches:length() do
        local longest, sum, members = 0, 0, batches:batch(epoch, k):totable()
        for _, i in ipairs(members) do
          longest, sum = math.max(longest, l[i]), sum + l[i]
          all[#all + 1] = i
        end
        assert.equal(k < batches:length() and 16 or 11, #members)
        waste = waste + longest * #members - sum
      end
      assert.same(range(1003), sorted(all))
      return waste
    end
    local plain = padding(data.BatchSampler(data.RandomSampler(1003), 16), 1)
    local batches = data.BucketSampler(lengths, 16, { bucket = 20 })
    assert.is_true(padding(batches, 1) < 0.15 * plain)
    assert.is_true(padding(batches, 2) < 0.15 * plain)
    assert.not_same(batches:batch(1, 1):totable(), batches:batch(2, 1):totable())
    local other = data.BucketSampler(l, 16, { bucket = 20 })
    for _, k in ipairs{ 40, 3, 63, 21 } do assert.same(batches:batch(2, k):totable(), other:batch(2, k):totable()) end
    assert.equal(62, data.BucketSampler(l, 16, { drop_last = true }):length())
    local ordered = data.BucketSampler({ 3, 1, 2, 5, 4 }, 2, { shuffle = false })
    assert.equal(3, ordered:length())
    assert.equal(1, ordered:batch(1, 3):numel())
  end)

  for what, case in pairs{
    ['a negative number of samples'] = { function() data.SequentialSampler(-1) end, 'at least 0' },
    ['a seed that is not whole'] = { function() data.RandomSampler(5, { seed = 0.5 }) end, 'seed' },
    ['more samples than there are'] = { function() data.RandomSampler(5, { samples = 6 }) end, 'from 0 to 5' },
    ['an unknown option'] = { function() data.RandomSampler(5, { sead = 1 }) end, "'seed'" },
    ['an epoch of 0'] = { function() data.RandomSampler(5):table(0) end, 'epoch' },
    ['entries past the end'] = { function() data.RandomSampler(5):indexes(1, 3, 4) end, 'count' },
    ['a batch of 0'] = { function() data.BatchSampler(data.SequentialSampler(2), 0) end, 'batch_size' },
    ['a batch past the end'] = { function() data.BatchSampler(data.SequentialSampler(2), 2):batch(1, 2) end, 'from 1 to 1' },
    ['a sampler that is none'] = { function() data.BatchSampler({}, 2) end, 'indexes(epoch, first, count)' },
    ['lengths that are no numbers'] = { function() data.BucketSampler({ 1, 'x' }, 2) end, 'lengths[2]' },
    ['lengths that are NaN'] = { function() data.BucketSampler({ 1, 0 / 0 }, 2) end, 'lengths[2] is NaN' },
    ['lengths of two dims'] = { function() data.BucketSampler(torch.ones(2, 2), 2) end, 'one dim' },
  } do
    it('refuse ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end
end)
