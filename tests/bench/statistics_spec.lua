-- What the benchmark computes from times: nothing here measures anything.
local here = require 'support.root'
package.path = here .. 'bench/?.lua;' .. package.path
local rows = require 'rows'
local statistics = require 'statistics'

local nan = 0 / 0

describe('bench statistics', function()
  it('interpolates quantiles and leaves its argument alone', function()
    local values = { 5, 1, 4, 2, 3 }
    assert.equal(3, statistics.quantile(values, 0.5))
    assert.equal(1, statistics.quantile(values, 0))
    assert.equal(5, statistics.quantile(values, 1))
    assert.near(1.8, statistics.quantile(values, 0.2), 1e-12)
    assert.near(4.2, statistics.quantile(values, 0.8), 1e-12)
    assert.same({ 5, 1, 4, 2, 3 }, values)
    assert.equal(2.5, statistics.quantile({ 2, 3 }, 0.5))
    assert.equal(7, statistics.quantile({ 7 }, 0.8))
  end)

  it('takes ratios within a round', function()
    -- The machine was three times slower in the second round, for both: the ratio is 2 throughout.
    local ratio = statistics.ratio({ 1, 3, 1 }, { 2, 6, 2 })
    assert.same({ median = 2, low = 2, high = 2 }, ratio)
    ratio = statistics.ratio({ 1, 1, 1, 1, 1, 1 }, { 1, 2, 3, 4, 5, 6 })
    assert.near(3.5, ratio.median, 1e-12)
    assert.near(2, ratio.low, 1e-12)
    assert.near(5, ratio.high, 1e-12)
    assert.has_error(function() statistics.ratio({ 1 }, { 1, 2 }) end)
    assert.has_error(function() statistics.ratio({}, {}) end)
  end)

  it('repeats short calls and not long ones', function()
    assert.equal(1, statistics.repeats(2, 0.04))
    assert.equal(40, statistics.repeats(0.001, 0.04))
    assert.equal(1000, statistics.repeats(1e-7, 0.04))
    assert.equal(1000, statistics.repeats(0, 0.04))
  end)

  it('rejects a measurement when the peak moved or was low', function()
    assert.is_false(statistics.rejected(100, 100, 100))
    assert.is_false(statistics.rejected(100, 86, 100))
    assert.is_true(statistics.rejected(100, 84, 100))
    assert.is_true(statistics.rejected(84, 100, 100))
    assert.is_true(statistics.rejected(80, 80, 100))
    assert.is_false(statistics.rejected(80, 80, 100, 0.25))
    assert.is_true(statistics.rejected(nan, 100, 100))
    assert.equal(115, statistics.reference({ 115, 150 }, 1))
    assert.near(207, statistics.reference({ 115, 150 }, 2), 1e-9)
    assert.equal(220, statistics.reference({ 115, 220 }, 2))
    assert.equal(400, statistics.reference({ 115, 220, 300, 400 }, 4))
    assert.equal(150, statistics.reference({ [2] = 150 }, 2))
  end)

  it('summarises a row', function()
    local times = { ours = { 0.002, 0.001, 0.004 }, torch = { 0.004, 0.003, 0.004 } }
    local entries = statistics.summarise({ 'ours', 'torch', 'absent' }, times, { flops = 2e8 }, { flops = 400 }, { ours = 1e-7 })
    assert.equal(2, #entries)
    assert.equal('ours', entries[1].name)
    assert.equal(0.001, entries[1].best)
    assert.equal(0.002, entries[1].median)
    assert.near(200, entries[1].rate, 1e-9)
    assert.near(0.5, entries[1].share, 1e-12)
    assert.is_nil(entries[1].ratio)
    assert.equal(1e-7, entries[1].error)
    assert.equal(2, entries[2].ratio.median)
    assert.is_nil(entries[2].error)
    assert.is_nil(statistics.summarise({ 'ours' }, { ours = { 1 } }, { flops = 0 }, { flops = 100 })[1].rate)
    local memory = statistics.summarise({ 'ours' }, { ours = { 0.5 } }, { flops = 0, bytes = 1e10 }, { bytes = 40 })[1]
    assert.near(20, memory.rate, 1e-9)
    assert.near(0.5, memory.share, 1e-12)
    assert.is_nil(statistics.summarise({ 'ours' }, { ours = { 1 } }, { flops = 0, bytes = 1e9 }, {})[1].share)
  end)

  it('finds the strongest of a kind', function()
    local function entry(name, median) return { name = name, ratio = median and { median = median } } end
    local entries = { entry 'ours', entry('ours plain', 0.9), entry('torch', 2), entry('torch channels_last', 1.5),
      entry('masked_torch', 3), entry('masked_torch compile', 2.5) }
    local function strongest(kind)
      local found = statistics.strongest(entries, function(name) return statistics.matches(kind, name) end)
      return found and found.name
    end
    assert.equal('torch channels_last', strongest 'torch')
    assert.equal('masked_torch compile', strongest 'masked_torch')
    assert.equal('ours plain', strongest 'ours plain')
    assert.equal('masked_torch', strongest 'masked_torch eager')
    assert.equal('masked_torch compile', strongest 'masked_torch compile')
    assert.is_nil(strongest 'onednn')
  end)

  it('prints lines of one width and a table with goals', function()
    local width = #statistics.head()
    local entries = statistics.summarise({ 'ours', 'torch' }, { ours = { 0.001 }, torch = { 0.0015 } }, { flops = 1e8 }, { flops = 115 },
      { torch = 2.5e-7 })
    for _, entry in ipairs(entries) do assert.equal(width, #statistics.line(entry)) end
    assert.truthy(statistics.line(entries[1]):find('ours%s+1%.000%s+100%.0%s+87%s+%-'))
    assert.truthy(statistics.line(entries[2]):find('1%.50%s+1%.50 %.%. 1%.50%s+2%.5e%-07'))
    local lines = statistics.table{
      { name = 'a', goals = { { against = 'torch', ratio = 1.3 }, { against = 'torch', ratio = 1.6 } }, setting = '1 thread',
        entries = entries },
      { name = 'b', goals = { { against = 'torch', ratio = 2 } }, setting = 'TF32', entries = entries, rejected = true },
      { name = 'c', goals = { { against = 'masked_torch', ratio = 2 } }, setting = 'TF32', entries = entries },
      { name = 'd', goals = {}, setting = 'TF32', entries = entries } }
    assert.equal(5, #lines)
    assert.truthy(lines[2]:find('torch 1.3: met, torch 1.6: missed$'))
    assert.truthy(lines[3]:find('torch 2: missed %*$'))
    assert.falsy(lines[4]:find('met'))
    assert.near(1 / 0.57, statistics.area_goal(0.5), 1e-12)
    assert.near(1 / 1.02, statistics.area_goal(1), 1e-12)
  end)
end)

describe('bench rows', function()
  local kinds = { gemm = true, linear = true, conv = true, layer = true, norm = true, loss = true, adam = true, layout = true,
    figure = true, classifier = true, language_model = true, training = true, activation = true }

  it('have names of their own, a known kind, and goals that name a contender', function()
    local seen = {}
    for _, row in ipairs(rows) do
      assert.is_nil(seen[row.name], row.name)
      seen[row.name] = true
      assert.is_true(kinds[row.kind], row.name)
      assert.equal('number', type(row.flops), row.name)
      for _, goal in ipairs(row.goals or {}) do
        local peer = goal.against:gsub(' eager$', ''):gsub(' compile$', '')
        assert.truthy(({ torch = true, masked_torch = true, ['ours plain'] = true })[peer], row.name)
        assert.is_true(goal.ratio ~= nil or row.mask ~= nil, row.name)
      end
      if row.kind == 'conv' or row.kind == 'linear' then
        assert.truthy(({ forward = true, input = true, weight = true })[row.pass], row.name)
      end
    end
  end)

  it('count multiplications and additions', function()
    local by_name = {}
    for _, row in ipairs(rows) do by_name[row.name] = row end
    assert.equal(2 * 32 * 56 * 56 * 64 * 64 * 9, by_name['conv forward r56 32x64>64 56x56 k3'].flops)
    assert.equal(2 * 32 * 28 * 28 * 128 * 64 * 9, by_name['conv weight stride2 32x64>128 56x56 k3'].flops)
    assert.equal(2 * 32 * 28 * 28 * 128 * 9, by_name['conv input depthwise 32x128>128 28x28 k3'].flops)
    assert.equal(3 * 2 * 1024 * 64 * 64 * 256 * 3, by_name['layer Conv lm0 1024x256>64 64 k3'].flops)
  end)

  it('are selected by pattern, or all, or the quick ones', function()
    local cpu, cuda = rows.select{}, rows.select{ device = 'cuda' }
    assert.is_true(#cpu < #rows and #cuda < #rows)
    for _, row in ipairs(cpu) do assert.is_true(row.device ~= 'cuda') end
    local quick = rows.select{ quick = true }
    assert.is_true(#quick > 5 and #quick < 20)
    for _, row in ipairs(quick) do assert.is_true(row.quick) end
    for _, row in ipairs(rows.select{ pattern = '^layer .*lm1', quick = true }) do assert.truthy(row.name:find('lm1', 1, true)) end
    assert.equal(0, #rows.select{ pattern = 'no such row' })
    local both = rows.select{ pattern = '^gemm|1024$|nothing' }
    assert.equal(#rows.select{ pattern = '^gemm' }, #both)
  end)
end)
