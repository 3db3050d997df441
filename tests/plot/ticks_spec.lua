local ticks = require 'masked_torch.plot.ticks'

local function labels(kind, low, high, n)
  local _, list = ticks[kind](low, high, n)
  return table.concat(list, ' ')
end

describe('ticks', function()
  it('are round numbers inside the range', function()
    assert.are.equal('0 2 4 6 8 10', labels('linear', 0, 10, 5))
    assert.are.equal('−0.5 0.0 0.5', labels('linear', -0.7, 0.7, 3))
    assert.are.equal('0.1 0.2 0.3', labels('linear', 0.1, 0.3, 2))
    assert.are.equal('0 1·10⁶ 2·10⁶', labels('linear', 0, 2e6, 2))
    assert.are.equal('1·10⁻⁵ 2·10⁻⁵', labels('linear', 0.9e-5, 2.1e-5, 1))
    assert.are.equal('1000.0 1000.5 1001.0', labels('linear', 1000, 1001, 2))
  end)
  it('are powers of ten on a log scale', function()
    assert.are.equal('0.01 0.1 1 10', labels('log', 0.01, 10, 5))
    assert.are.equal('10⁻⁶ 0.001 1', labels('log', 1e-6, 10, 3))
    assert.are.equal('2 5 10', labels('log', 1.5, 12, 4))
    assert.are.equal('20 50', labels('log', 15, 60, 4))
  end)
end)
