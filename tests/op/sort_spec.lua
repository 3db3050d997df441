local check_op = require 'support.check_op'
local torch = require 'masked_torch'
check_op(require 'op.sort_cases')

local Tensor = torch.Tensor
local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local nan, inf = 0 / 0, math.huge

describe('sort', function()
  it('puts NaN at the end, in descending order at the front', function()
    local x = tensor { 2, nan, -inf, inf, nan, 0 }
    local values, index = x:sort()
    assert.near_tensor({ -inf, 0, 2, inf, nan, nan }, values)
    assert.are.same({ 3, 6, 1, 4, 2, 5 }, index:totable())
    values, index = x:sort(1, true)
    assert.near_tensor({ nan, nan, inf, 2, 0, -inf }, values)
    assert.are.same({ 2, 5, 4, 1, 6, 3 }, index:totable())
    assert.are.same({ 2, 5, 4 }, (select(2, x:topk(3))):totable())
    assert.are.same({ 3, 6, 1, 4, 2 }, (select(2, x:topk(5, 1, { largest = false }))):totable())
  end)

  it('is stable, -0 equals 0', function()
    local x = tensor { 0, -0.0, 1, 0, -1, -0.0 }
    assert.are.same({ 5, 1, 2, 4, 6, 3 }, x:argsort():totable())
    assert.are.same({ 3, 1, 2, 4, 6, 5 }, x:argsort(1, { descending = true }):totable())
  end)

  it('sorts every dtype', function()
    for _, dtype in ipairs { 'float32', 'float64', 'int64', 'int32', 'uint8' } do
      local values, index = tensor({ { 3, 1, 2 }, { 200, 7, 100 } }, dtype):sort(2)
      assert.are.same({ { 1, 2, 3 }, { 7, 100, 200 } }, values:totable())
      assert.are.same({ { 2, 3, 1 }, { 2, 3, 1 } }, index:totable())
      assert.are.equal(dtype, values.dtype)
    end
    assert.are.same({ -5, 0, 4 }, (tensor({ 4, -5, 0 }, 'int64'):sort()):totable())
    assert.are.same({ false, true, true }, (tensor({ true, false, true }):sort()):totable())
  end)

  it('takes empty lines and single elements', function()
    assert.are.same({ 0, 3 }, (Tensor.empty('test', { 0, 3 }, 'float32'):sort(1)):size())
    assert.are.same({ 3, 0 }, (Tensor.empty('test', { 3, 0 }, 'float32'):sort()):size())
    assert.are.equal(5, (tensor(5):sort()):item())
    assert.are.same({ 0 }, (tensor({ 1, 2 }):topk(0)):size())
    assert.are.same({ 2, 0 }, (torch.randn(2, 40):topk(0)):size())
    assert.fails(function() Tensor.empty('test', { 0 }, 'float32'):median() end, 'median', 'no element')
  end)

  it('finds medians', function()
    assert.are.equal(2, tensor({ 3, 1, 2, 4 }):median():item())
    local m, index = tensor({ { 1, nan, 0 }, { 9, 7, 8 } }):median(2)
    assert.near_tensor({ nan, 8 }, m)
    assert.are.same({ 2, 3 }, index:totable())
    assert.are.same({ 2, 1 }, (tensor({ { 1 }, { 2 } }):median(2, true)):size())
  end)

  it('finds what is different', function()
    local x = tensor({ { 3, 1 }, { 3, 2 } }, 'int64')
    local values, inverse, counts = x:unique{ return_inverse = true, return_counts = true }
    assert.are.same({ 1, 2, 3 }, values:totable())
    assert.are.same({ { 3, 1 }, { 3, 2 } }, inverse:totable())
    assert.are.same({ 1, 1, 2 }, counts:totable())
    assert.are.same({ 0 }, Tensor.empty('test', { 0 }, 'float32'):unique():size())
  end)

  it('takes upstream gradients that repeat one element', function()
    local x = tensor({ 3, 1, 2 }):requires_grad_()
    x:sort():sum():backward()
    x:topk(2):sum():backward()
    x:median():sum():backward()
    assert.are.same({ 2, 1, 3 }, x.grad:totable())
  end)

  it('refuses what it cannot do, by name', function()
    local x = tensor { { 1, 2, 3 } }
    assert.fails(function() x:sort(3) end, 'sort: dim', 'got 3')
    assert.fails(function() x:sort(0) end, 'sort: dim', 'got 0')
    assert.fails(function() x:sort(1, { decending = true }) end, "'descending'")
    assert.fails(function() x:topk(4) end, 'topk: k', '(1, 3)', 'got 4')
    assert.fails(function() x:topk(-1) end, 'topk: k')
    assert.fails(function() x:topk(1.5) end, 'topk: k')
    assert.fails(function() x:topk() end, 'topk: k')
    assert.fails(function() x:kthvalue(4) end, 'kthvalue: k', 'got 4')
    assert.fails(function() torch.argsort({}) end, 'argsort: input', 'table')
  end)
end)
