-- linear: the op table, independence of rows, padding, misuse.
local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local F = torch.nn.functional

check_op(require 'op.linear_cases')

describe('linear', function()
  it('a row does not depend on how many there are', function()
    local x, w, b = torch.randn(130, 70), torch.randn(37, 70), torch.randn(37)
    local y = F.linear(x, w, b)
    for _, first in ipairs { 1, 14, 113, 130 } do
      for last = first, math.min(130, first + 3) do
        assert.same_bits(y:narrow(1, first, last - first + 1):contiguous(),
          (F.linear(x:narrow(1, first, last - first + 1), w, b)))
      end
    end
    assert.same_bits(y:narrow(1, 5, 1):contiguous():view(37), (F.linear(x:narrow(1, 5, 1):contiguous():view(70), w, b)))
  end)

  it('rows of zeros after a sequence leave the gradients of weight and bias unchanged', function()
    local w, b = torch.randn(9, 21), torch.randn(9)
    local x, dy = torch.randn(3, 17, 21), torch.randn(3, 17, 9)
    local function gradients(length)
      local long, dlong = torch.zeros(3, length, 21), torch.zeros(3, length, 9)
      long:narrow(2, 1, 17):copy_(x)
      dlong:narrow(2, 1, 17):copy_(dy)
      local weight, bias = w:clone():requires_grad_(), b:clone():requires_grad_()
      F.linear(long, weight, bias):backward(dlong)
      return weight.grad, bias.grad
    end
    local dw, db = gradients(17)
    for _, length in ipairs { 18, 40 } do
      local dw2, db2 = gradients(length)
      assert.same_bits(dw, dw2)
      assert.same_bits(db, db2)
    end
  end)

  it('no rows', function()
    local x, w = torch.zeros(0, 4):requires_grad_(), torch.randn(3, 4):requires_grad_()
    local y = F.linear(x, w)
    assert.same({ 0, 3 }, y:size())
    y:backward(torch.zeros(0, 3))
    assert.same({ 0, 4 }, x.grad:size())
    assert.same_bits(torch.zeros(3, 4), w.grad)
  end)

  it('refuses what does not fit', function()
    local x, w = torch.zeros(2, 3), torch.zeros(4, 3)
    assert.fails(function() F.linear(x, torch.zeros(3, 4)) end, 'linear: weight:', '(out, 3) float32', '(3, 4)', '(2, 3)')
    assert.fails(function() F.linear(x, w, torch.zeros(3)) end, 'linear: bias:', '(4) float32', '(3) float32')
    assert.fails(function() F.linear(x, torch.zeros(4, 3, { dtype = 'float64' })) end, 'linear: weight:', 'float64')
    assert.fails(function() F.linear(torch.zeros(2, 3, { dtype = 'int32' }), w) end, 'linear: input:', 'int32')
    assert.fails(function() F.linear(nil, w) end, 'linear: input:', 'nil')
    assert.fails(function() F.linear(x, 3) end, 'linear: weight:', 'number')
    assert.fails(function() F.linear(torch.tensor(1), w) end, 'linear: input:', 'at least one dimension')
  end)
end)
