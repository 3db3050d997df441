local torch = require 'masked_torch'
local data = torch.data

local function letters(n)
  return data.TensorDataset{ x = torch.range(1, 2 * n):reshape(n, 2), y = torch.range(1, n, { dtype = 'int64' }) }
end

local function all(dataset)
  local out = {}
  for i = 1, dataset:length() do out[i] = dataset[i].y end
  return out
end

describe('datasets', function()
  it('of tensors give rows', function()
    local dataset = letters(3)
    assert.equal(3, dataset:length())
    assert.same({ 3, 4 }, dataset[2].x:totable())
    assert.equal(2, dataset[2].y)
    local positional = data.TensorDataset{ torch.ones(2, 3), torch.zeros(2) }
    assert.same({ 1, 1, 1 }, positional[1][1]:totable())
    assert.equal(0, positional[1][2])
    assert.equal('TensorDataset(3)', tostring(dataset))
  end)

  it('of tensors load in C what they give one by one', function()
    local view = torch.range(1, 24):reshape(2, 12):transpose(1, 2)
    for _, tensors in ipairs{ { torch.randn(12, 3, 2), torch.range(1, 12, { dtype = 'int64' }) }, { view, torch.ones(12):gt(0) },
      { torch.range(1, 12, { dtype = 'uint8' }), torch.randn(12, 0), torch.randn(12, 1, { dtype = 'float64' }) } } do
      local dataset = data.TensorDataset(tensors)
      local position = 0
      for batch in data.Loader(dataset, { batch_size = 5, shuffle = true, seed = 3 }) do
        local order = data.RandomSampler(12, { seed = 3 }):table(1)
        for r = 1, batch[1]:size(1) do
          for k, t in ipairs(tensors) do
            local expected, got = t[order[position + r]], batch[k][r]
            if torch.is_tensor(expected) then assert.same_bits(expected:contiguous(), got:contiguous()) else
              assert.equal(expected, got)
            end
            assert.equal(t.dtype, batch[k].dtype)
          end
        end
        position = position + batch[1]:size(1)
      end
      assert.equal(12, position)
    end
  end)

  it('are parts of others', function()
    local dataset = letters(6)
    local part = data.Subset(dataset, { 5, 1, 5 })
    assert.same({ 5, 1, 5 }, all(part))
    assert.same({ 5, 5 }, all(data.Subset(part, { 3, 1 })))
    for batch in data.Loader(part, { batch_size = 3 }) do
      assert.same({ 5, 1, 5 }, batch.y:totable())
      assert.same({ { 9, 10 }, { 1, 2 }, { 9, 10 } }, batch.x:totable())
    end
    assert.equal(0, data.Subset(dataset, {}):length())
    local indexes = torch.tensor({ 2, 3 }, { dtype = 'int64' })
    local own = data.Subset(dataset, indexes)
    indexes:fill_(100)
    assert.same({ 2, 3 }, all(own))
  end)

  it('are mapped', function()
    local dataset = letters(4):map(function(sample, i) return { y = sample.y * 10 + i } end)
    assert.same({ 11, 22, 33, 44 }, all(dataset))
    for batch in data.Loader(dataset, { batch_size = 4 }) do assert.same({ 11, 22, 33, 44 }, batch.y:totable()) end
  end)

  it('are concatenated', function()
    local dataset = data.ConcatDataset{ letters(2), data.Subset(letters(1), {}), letters(3), letters(1) }
    assert.equal(6, dataset:length())
    assert.same({ 1, 2, 1, 2, 3, 1 }, all(dataset))
    for batch in data.Loader(dataset, { batch_size = 6 }) do assert.same({ 1, 2, 1, 2, 3, 1 }, batch.y:totable()) end
  end)

  it('find the right one of 10,000 by bisection', function()
    local one = { length = function() return 1 end, get = function(_, i) return { y = i } end }
    local many, looked = {}, 0
    for k = 1, 10000 do many[k] = one end
    local ends = data.ConcatDataset(many).ends
    local proxy = newproxy(true)
    getmetatable(proxy).__len = function() return #ends end
    getmetatable(proxy).__index = function(_, k) looked = looked + 1 return ends[k] end
    assert.equal(7777, require('masked_torch.data.dataset').find(proxy, 7777))
    assert.is_true(looked <= 14, looked .. ' look-ups')
  end)

  it('may be lists of samples', function()
    local list = {}
    for i = 1, 5 do list[i] = { y = i } end
    local seen = {}
    for batch in data.Loader(list, { batch_size = 2, shuffle = true }) do
      for _, y in ipairs(batch.y:totable()) do seen[#seen + 1] = y end
    end
    table.sort(seen)
    assert.same({ 1, 2, 3, 4, 5 }, seen)
    assert.same({ 4, 2 }, all(data.Subset(list, { 4, 2 })))
    assert.same({ 1, 2, 3, 4, 5, 1, 2, 3 }, all(data.ConcatDataset{ list, letters(3) }))
    assert.same({ 10, 20, 30, 40, 50 }, all(data.MapDataset(list, function(sample) return { y = sample.y * 10 } end)))
    local a, b = data.random_split(list, { 3, 2 })
    assert.equal(5, #all(a) + #all(b))
  end)

  it('are split at random', function()
    local dataset = letters(10)
    local a, b = data.random_split(dataset, { 7, 3 }, { seed = 4 })
    local together = all(a)
    for _, y in ipairs(all(b)) do together[#together + 1] = y end
    assert.not_same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, together)
    table.sort(together)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, together)
    local again = data.random_split(dataset, { 7, 3 }, { seed = 4 })
    assert.same(all(a), all(again))
    local c, d = data.random_split(dataset, { 0.75, 0.25 })
    assert.equal(8, c:length())
    assert.equal(2, d:length())
    assert.equal(1, data.random_split(letters(1), { 1 }):length())
  end)

  local dataset = letters(3)
  for what, case in pairs{
    ['a tensor for a table of them'] = { function() data.TensorDataset(torch.ones(3)) end, 'table of tensors', 'got a tensor' },
    ['an empty table'] = { function() data.TensorDataset{} end, 'table of tensors' },
    ['a number for a tensor'] = { function() data.TensorDataset{ 5 } end, 'TensorDataset: 1: expected a tensor' },
    ['a scalar'] = { function() data.TensorDataset{ torch.tensor(1) } end, 'scalar' },
    ['different numbers of samples'] = { function() data.TensorDataset{ torch.ones(3), torch.ones(2) } end,
      '2 has 2 samples, 1 has 3' },
    ['sample 4 of 3'] = { function() return dataset[4] end, 'TensorDataset: index', 'from 1 to 3, got 4' },
    ['the base class with samples'] = { function() data.Dataset{ { y = 1 } } end, 'Dataset: one argument too many' },
    ['a subclass without length'] = { function() return data.Loader(data.Dataset()) end, 'length() is not defined' },
    ['a loader of numbers'] = { function() data.Loader({ 1, 2 }) end, 'a list of samples, got a table' },
    ['a subset of no dataset'] = { function() data.Subset({}, { 1 }) end, 'length() and get(i)', 'got a table' },
    ['a subset past the end'] = { function() data.Subset(dataset, { 1, 4 }) end, '4 at position 2 is outside 1..3' },
    ['a subset of number 0'] = { function() data.Subset(dataset, { 0 }) end, 'outside 1..3' },
    ['a subset of float indexes'] = { function() data.Subset(dataset, torch.ones(2)) end, '1-D int64' },
    ['a map that is no function'] = { function() dataset:map(5) end, 'fn: expected a function' },
    ['a map that returns nothing'] = { function() return dataset:map(function() end)[2] end, 'nil for sample 2' },
    ['a concatenation of nothing'] = { function() data.ConcatDataset{} end, 'table of datasets' },
    ['a split of other sum'] = { function() data.random_split(dataset, { 1, 1 }) end, '2 in sum, the dataset has 3' },
    ['a negative split'] = { function() data.random_split(dataset, { 4, -1 }) end, 'at least 0' },
    ['a NaN split'] = { function() data.random_split(dataset, { 0 / 0 }) end, 'at least 0' },
    ['an unknown name'] = { function() return data.TensorDatset{} end, 'TensorDatset' },
  } do
    it('refuse ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end
end)
