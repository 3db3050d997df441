local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local F = torch.nn.functional
check_op(require 'op.dropout_cases')

describe('dropout', function()
  it('keeps the mean and drops the share it should', function()
    local x = torch.ones(200000)
    local y = F.dropout(x, 0.3, { generator = torch.Generator(1) })
    local zeros, sum = 0, 0
    for _, v in ipairs(y:totable()) do
      if v == 0 then zeros = zeros + 1 end
      sum = sum + v
    end
    assert(math.abs(zeros / 200000 - 0.3) <= 4 * math.sqrt(0.21 / 200000))
    assert(math.abs(sum / 200000 - 1) <= 4 * math.sqrt(0.3 / 0.7 / 200000))
  end)

  it('drops the same in backward, and something else in the next call', function()
    torch.manual_seed(5)
    local x = torch.ones(1000, { requires_grad = true })
    local y = F.dropout(x)
    local z = F.dropout(x)
    y:backward(torch.ones(1000))
    assert.same_bits(y:detach(), x.grad)
    assert.is_false(torch.equal(y, z))
    torch.manual_seed(5)
    assert.same_bits(y:detach(), F.dropout(x:detach()))
  end)

  it('drops NaN and Inf', function()
    local x = torch.full({ 100 }, 0 / 0)
    assert.same_bits(torch.zeros(100), F.dropout(x, 1))
  end)

  it('is the identity outside training', function()
    local x = torch.randn(3)
    assert.equal(x, F.dropout(x, 0.5, false))
    assert.equal(x, F.dropout(x, 0))
  end)

  it('takes an empty tensor', function()
    assert.same({ 0, 3 }, F.dropout(torch.zeros(0, 3)):size())
  end)

  it('refuses misuse', function()
    local x = torch.zeros(2, 3)
    assert.fails(function() F.dropout(x, 1.5) end, 'dropout: p', '1.5')
    assert.fails(function() F.dropout(x, 0 / 0) end, 'dropout: p')
    assert.fails(function() F.dropout(5) end, 'dropout: input')
    assert.fails(function() F.dropout(x:long()) end, 'dropout: input', 'int64')
    assert.fails(function() F.dropout2d(x) end, 'dropout2d', '4 dimensions', '(2, 3)')
    assert.fails(function() F.dropout(x, { probability = 1 }) end, 'dropout', 'probability')
  end)
end)
