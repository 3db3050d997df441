local torch = require 'masked_torch'

local train = torch.train

local function collect(opts)
  local out = {}
  for step, batch, epoch in train.steps(opts) do out[#out + 1] = ('%d%s%d'):format(step, batch, epoch) end
  return table.concat(out, ' ')
end

describe('steps', function()
  it('goes through a loader again and again, until the last step or epoch', function()
    local batches = { 'a', 'b', 'c' }
    assert.are.equal('1a1 2b1 3c1 4a2 5b2', collect{ loader = batches, last = 5 })
    assert.are.equal('1a1 2b1 3c1 4a2 5b2 6c2', collect{ loader = batches, epochs = 2 })
    assert.are.equal('', collect{ loader = batches, first = 6, last = 5 })
    assert.are.equal('7a3 8b3', collect{ loader = batches, first = 7, last = 8, epoch = 3 })
    local function fresh()
      local i = 0
      return function() i = i + 1 return batches[i] end
    end
    assert.are.equal('1a1 2b1 3c1 4a2', collect{ loader = fresh, last = 4 })
    assert.are.equal('1a1 2b1 3c1 4a2', collect{ loader = { iterate = fresh }, last = 4 })
    local current = fresh()
    local callable = setmetatable({}, { __call = function()
      local batch = current()
      if batch == nil then current = fresh() end
      return batch
    end })
    assert.are.equal('1a1 2b1 3c1 4a2', collect{ loader = callable, last = 4 })
  end)

  it('goes on in the middle, and at the very end, of an epoch', function()
    local left = { { 'c' }, { 'a', 'b', 'c' } }
    local function loader()
      local list, i = table.remove(left, 1), 0
      return function() i = i + 1 return list[i] end
    end
    assert.are.equal('3c1 4a2 5b2', collect{ loader = loader, first = 3, last = 5 })
    local at = setmetatable({ epoch = 7 }, { __call = function() return 'x' end })
    assert.are.equal('4x7', collect{ loader = at, first = 4, last = 4 })
    left = { {}, { 'a' } }
    assert.are.equal('4a3', collect{ loader = loader, first = 4, last = 4, epoch = 2 })
  end)

  it('counts on the bar and asks the guard after each step', function()
    local seen = {}
    local bar = { update = function(_, n) seen[#seen + 1] = 'bar' .. n end }
    local guard = { poll = function(_, step) seen[#seen + 1] = 'guard' .. step end }
    for step in train.steps{ loader = { 1, 2 }, last = 2, bar = bar, guard = guard } do seen[#seen + 1] = 'step' .. step end
    assert.are.same({ 'step1', 'bar1', 'guard1', 'step2', 'bar1', 'guard2' }, seen)
  end)

  it('refuses an empty loader and other mistakes', function()
    assert.fails(function() collect{ loader = {} } end, 'steps: loader', 'no batch')
    assert.fails(function() collect{ loader = 3 } end, 'steps: loader')
    assert.fails(function() collect{} end, 'steps: loader')
    assert.fails(function() collect{ loader = { 1 }, lst = 3 } end, "'last'")
  end)
end)

describe('check_loss', function()
  it('stops at a loss that is no number, says the step and what to go on from', function()
    assert.are.equal(1.5, train.check_loss(torch.tensor(1.5), 3))
    assert.fails(function() train.check_loss(torch.tensor(0 / 0), 17) end, 'the loss is nan at step 17')
    assert.fails(function() train.check_loss(-1 / 0, 2, 'runs/last.safetensors') end, 'the loss is -inf at step 2',
      'the last good checkpoint is runs/last.safetensors')
    local keeper = { path = function(_, name) return 'f/' .. name end, exists = function() return true end }
    assert.fails(function() train.check_loss(1 / 0, 2, keeper) end, 'inf at step 2', 'f/last')
    assert.fails(function() train.check_loss('x', 2) end, 'check_loss')
  end)
end)
