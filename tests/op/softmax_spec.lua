local check_op = require 'support.check_op'
local torch = require 'masked_torch'
check_op(require 'op.softmax_cases')

local Tensor = torch.Tensor
local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local nan, inf = 0 / 0, math.huge

describe('softmax', function()
  it('handles infinities, NaN and empty lines', function()
    assert.near_tensor({ { 0.5, 0.5, 0 }, { 0, 0, 0 } }, tensor({ { 1, 1, -inf }, { -inf, -inf, -inf } }):softmax(2))
    assert.near_tensor({ -inf, -inf }, tensor({ -inf, -inf }):log_softmax(1))
    assert.near_tensor({ nan, nan }, tensor({ 1, nan }):softmax(1))
    assert.near_tensor({ 0, 1 }, tensor({ -1000, 1000 }):softmax(1))
    assert.near_tensor({ -2000, 0 }, tensor({ -1000, 1000 }):log_softmax(1))
    assert.are.same({ 0, 3 }, Tensor.empty('test', { 0, 3 }, 'float32'):softmax(2):size())
    assert.are.same({ 3, 0 }, Tensor.empty('test', { 3, 0 }, 'float32'):softmax(2):size())
    assert.are.equal(1, tensor(5):softmax(1):item())
  end)

  it('does not look under the mask, forward or backward', function()
    local mask = tensor { { true, false, true, true }, { false, false, false, false } }
    local results = {}
    for k, junk in ipairs { 0, nan, inf } do
      for _, log in ipairs { false, true } do
        local x = tensor({ { 1, junk, -2, 0.5 }, { junk, junk, 3, junk } }):requires_grad_()
        local y = log and x:log_softmax(2, { mask = mask }) or x:softmax(2, { mask = mask })
        y:backward(tensor { { 0.3, junk, 0.7, -1 }, { junk, 1, junk, 2 } })
        results[k] = results[k] or {}
        table.insert(results[k], y)
        table.insert(results[k], x.grad)
      end
    end
    for k = 2, 3 do
      for i = 1, 4 do assert.same_bits(results[1][i], results[k][i]) end
    end
    assert.are.same({ 0, 0, 0, 0 }, results[1][1]:totable()[2])
    assert.are.equal(0, results[1][1]:totable()[1][2])
    assert.are.equal(0, results[1][2]:totable()[1][2])
  end)

  it('is the plain one under a full mask, and the short one on a padded line, to the bit', function()
    local values, padded, mask = {}, { 9 }, { 0 }
    for i = 1, 37 do
      values[i] = math.sin(i * i) * 5
      padded[i + 1], mask[i + 1] = values[i], 1
    end
    padded[39], mask[39] = 1e30, 0
    local x = tensor(values)
    assert.same_bits(x:softmax(1), x:softmax(1, { mask = tensor { 1 } }))
    for _, name in ipairs { 'softmax', 'log_softmax' } do
      local long = torch[name](tensor(padded), 1, { mask = tensor(mask) })
      assert.same_bits(torch[name](x, 1), Tensor.as_view('test', long, { 37 }, { 1 }, 1))
    end
  end)

  it('refuses what it cannot do, by name', function()
    local x = tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.fails(function() x:softmax() end, 'softmax: dim')
    assert.fails(function() x:softmax(3) end, 'softmax: dim', 'got 3')
    assert.fails(function() x:softmax(1, { masks = x }) end, "'masks'", "'mask'")
    assert.fails(function() x:softmax(1, { mask = tensor { 1, 2 } }) end, 'softmax: mask', '(2, 3)', '(2)')
    assert.fails(function() torch.log_softmax(tensor({ 1, 2 }, 'int64'), 1) end, 'log_softmax: input', 'int64')
    assert.fails(function() torch.nn.functional.softmax(nil, 1) end, 'softmax: input', 'nil')
  end)
end)
