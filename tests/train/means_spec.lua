local torch = require 'masked_torch'

local train = torch.train

describe('running means', function()
  it('are weighted, in the order of their first use', function()
    local means = train.means()
    means:add({ loss = 2, error = torch.tensor(0.5) }, 3):add({ loss = 6 }, 1):add({ accuracy = 1 })
    assert.are.same({ 'error', 'loss', 'accuracy' }, means:names())
    assert.are.same({ loss = 3, error = 0.5, accuracy = 1 }, means:get())
    local state = means:state_dict()
    means:reset()
    assert.are.same({}, means:names())
    assert.is_true(means:get('loss') ~= means:get('loss'))
    means:load_state_dict(state)
    means:add({ loss = 11 }, 4)
    assert.are.equal(7, means:get('loss'))
    assert.fails(function() means:add{ loss = 'x' } end, 'means', 'loss')
    assert.fails(function() means:add(3) end, 'means', 'values')
    assert.fails(function() means:add({ loss = 1 }, -1) end, 'means', 'weight')
  end)

  it('survive the text of NaN', function()
    local means = train.means():add{ loss = 0 / 0 }
    local v = means:get('loss')
    assert.is_true(v ~= v)
  end)
end)

describe('epoch lines', function()
  it('are aligned, epoch and learning rate first', function()
    local header, values = train.epoch_lines{ ['valid/loss'] = 2.5, ['train/lr'] = 1e-3, epoch = 12, ['train/a_long_name'] = 0.5,
      ['train/ce'] = -1 / 3 }
    assert.are.equal('     epoch,   train/lr, train/a_long_name,   train/ce, valid/loss', header)
    assert.are.equal('        12,   1.00e-03,          5.00e-01,  -3.33e-01,   2.50e+00', values)
    assert.fails(function() train.epoch_lines{ epoch = 'one' } end, 'epoch_lines', 'epoch')
  end)
end)
