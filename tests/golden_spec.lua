-- The reader of the reference vectors.
local golden = require 'support.golden'

describe('the golden vectors', function()
  it('are read by name, in their type', function()
    local case = golden.cases('conv')[1]
    assert.are.equal('mconv1d_nil', case.name)
    assert.are.same({ 2, 4, 12 }, golden.tensor(case, 'in.x'):size())
    assert.are.equal('float32', golden.tensor(case, 'in.x').dtype)
    assert.is_nil(golden.tensor(case, 'in.mask'))
    assert.are.equal(81, #golden.cases('conv'))
  end)
  it('refuse a result outside the tolerance', function()
    local case = golden.cases('conv')[1]
    local y = golden.tensor(case, 'out.y')
    assert.are.equal(0, golden.check(case, 'out.y', y))
    require('masked_torch.native').check(y.K.mt_tensor_fill(y._c, 0))
    assert.fails(function() golden.check(case, 'out.y', y) end, 'mconv1d_nil: out.y: element 1')
  end)
end)
