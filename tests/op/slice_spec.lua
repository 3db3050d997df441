local check_op = require 'support.check_op'
check_op(require 'op.slice_cases')
local torch = require 'masked_torch'

describe('unfold', function()
  it('of nothing has a gradient of nothing', function()
    local x = torch.zeros(0, 4, { requires_grad = true })
    local y = x:unfold(2, 2, 2)
    assert.same({ 0, 2, 2 }, y:size())
    y:backward(y:detach())
    assert.same({ 0, 4 }, x.grad:size())
  end)
end)

describe('roll', function()
  it('of nothing is nothing', function()
    for _, shape in ipairs{ { 0, 3 }, { 3, 0, 2 } } do
      local x = torch.zeros(shape, { requires_grad = true })
      for dim = 1, #shape do
        local y = x:roll(1, dim)
        assert.same(shape, y:size())
        y:backward(y:detach())
      end
      assert.same(shape, x:roll(-2):size())
    end
  end)
end)
