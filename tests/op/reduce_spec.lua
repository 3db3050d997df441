local check_op = require 'support.check_op'
local torch = require 'masked_torch'
check_op(require 'op.reduce_cases')

local Tensor = torch.Tensor
local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local function empty(shape, dtype) return Tensor.empty('test', shape, dtype or 'float32') end
local nan, inf = 0 / 0, math.huge

describe('reduce', function()
  it('reduces nothing to the neutral element', function()
    local x = empty { 0, 3 }
    assert.are.equal(0, x:sum():item())
    assert.are.same({ 0, 0, 0 }, x:sum(1):totable())
    assert.are.same({}, x:sum(2):totable())
    assert.are.equal(1, x:prod():item())
    assert.is_true(x:mean():item() ~= x:mean():item())
    assert.is_true(x:var():item() ~= x:var():item())
    assert.are.equal(-inf, x:logsumexp():item())
    assert.are.equal(0, x:norm():item())
    assert.are.equal(false, x:any():item())
    assert.are.equal(true, x:all():item())
    assert.are.same({ 0, 3 }, x:cumsum(1):size())
    assert.fails(function() x:max() end, 'max', '(0, 3)')
    assert.fails(function() x:max(1) end, 'max', '(0, 3)')
    assert.fails(function() x:argmin() end, 'min', '(0, 3)')
    assert.are.same({ 0 }, (x:max(2)):size())
    assert.are.equal(0, empty({ 3, 0, 2 }, 'int64'):sum():item())
  end)

  it('gives gradients of empty inputs', function()
    for _, name in ipairs { 'sum', 'mean', 'var', 'std', 'norm', 'logsumexp', 'prod' } do
      local x = empty { 2, 0 }
      x:requires_grad_()
      x[name](x):backward()
      assert.are.same({ 2, 0 }, x.grad:size())
    end
  end)

  it('adds integers to int64', function()
    local x = tensor({ { 1, 2 }, { 3, 250 } }, 'uint8')
    assert.are.equal('int64', x:sum().dtype)
    assert.are.same({ 4, 252 }, x:sum(1):totable())
    assert.are.equal(2, tensor({ true, false, true }):sum():item())
    assert.are.equal(-6, tensor({ 1, 2, -3 }, 'int32'):prod():item())
    assert.are.same({ 1, 3, 6 }, tensor({ 1, 2, 3 }, 'int32'):cumsum(1):totable())
    assert.fails(function() x:mean() end, 'mean', 'uint8')
  end)

  it('adds float32 in double', function()
    local x = empty { 1000, 1000 }
    torch.Tensor.namespace.cpu.mt_tensor_fill(x._c, 0.1)
    assert.near(100000.00149011612, x:sum():item(), 0.01)
    assert.near(0.1, x:mean():item(), 1e-8)
    assert.are.equal(1, tensor({ 1e8, 1, -1e8 }):sum():item())
    assert.are.equal(2, tensor({ { 1 }, { 1e100 }, { 1 }, { -1e100 } }, 'float64'):sum():item())
  end)

  it('does not see zeros behind rows and further rows', function()
    local values = {}
    for n = 1, 2 do
      values[n] = {}
      for h = 1, 7 do
        values[n][h] = {}
        for w = 1, 11 do values[n][h][w] = math.sin(n * 100 + h * 12 + w) * 10 ^ (w - 5) end
      end
    end
    local padded = {}
    for n = 1, 3 do
      padded[n] = {}
      for h = 1, 9 do
        padded[n][h] = {}
        for w = 1, 29 do padded[n][h][w] = values[n] and values[n][h] and values[n][h][w] or 0 end
      end
    end
    for _, dtype in ipairs { 'float32', 'float64' } do
      assert.same_bits(tensor(values, dtype):sum(), tensor(padded, dtype):sum())
      local rows = tensor(padded, dtype):sum({ 1, 3 })
      assert.same_bits(tensor(values, dtype):sum({ 1, 3 }), Tensor.as_view('test', rows, { 7 }, { 1 }, 0))
    end
  end)

  it('keeps NaN and infinities', function()
    local x = tensor { { 1, nan, 5 }, { inf, 2, 3 } }
    assert.near_tensor({ nan, inf }, x:sum(2))
    local values, index = x:max(2)
    assert.near_tensor({ nan, inf }, values)
    assert.are.same({ 2, 1 }, index:totable())
    values, index = x:min(2)
    assert.near_tensor({ nan, 2 }, values)
    assert.are.same({ 2, 2 }, index:totable())
    assert.are.equal(2, x:argmax():item())
    assert.is_true(x:amax():item() ~= x:amax():item())
    assert.near_tensor({ nan, inf }, x:norm(inf, 2))
    assert.are.equal(-inf, tensor({ -inf, -inf }):logsumexp():item())
    assert.are.equal(inf, tensor({ -inf, inf }):logsumexp():item())
    assert.near(1000 + math.log(2), tensor({ 1000, 1000 }, 'float64'):logsumexp():item(), 1e-12)
    assert.are.equal(-inf, tensor({ -inf, -inf }):max():item())
    assert.are.equal(1, tensor({ -inf, -inf }):argmax():item())
  end)

  it('finds 1-based places, the first of equals', function()
    local x = tensor({ { 3, 7, 7 }, { 7, 1, 1 } }, 'int64')
    assert.are.equal(2, x:argmax():item())
    assert.are.equal(5, x:argmin():item())
    assert.are.same({ 2, 1 }, x:argmax(2):totable())
    assert.are.same({ { 2 }, { 1 } }, x:argmax(2, { keepdim = true }):totable())
    local values, index = x:max(1)
    assert.are.same({ 7, 7, 7 }, values:totable())
    assert.are.same({ 2, 1, 1 }, index:totable())
    local big = empty { 100000 }
    torch.Tensor.namespace.cpu.mt_tensor_fill(big._c, 1)
    assert.are.equal(1, big:argmax():item())
  end)

  it('sends the gradient of max to the first along a dim, evenly over all', function()
    local x = tensor({ 1, 4, 4, 0 }):requires_grad_()
    x:max(1):backward()
    assert.are.same({ 0, 1, 0, 0 }, x.grad:totable())
    x.grad = nil
    x:max():backward()
    assert.are.same({ 0, 0.5, 0.5, 0 }, x.grad:totable())
    x.grad = nil
    tensor({ 1 }):requires_grad_():max():backward()
    x:norm(inf):backward()
    assert.are.same({ 0, 0.5, 0.5, 0 }, x.grad:totable())
  end)

  it('takes upstream gradients that repeat one element', function()
    for _, name in ipairs { 'sum', 'mean', 'var', 'std', 'norm', 'logsumexp', 'prod', 'max', 'min', 'amax', 'amin' } do
      for _, keepdim in ipairs { false, true } do
        local x = tensor({ { 1, 5, 2 }, { 4, 0.5, 3 } }, 'float64'):requires_grad_()
        local y = x[name](x, { dim = 2, keepdim = keepdim })
        y:sum():backward()
        local expected = x.grad
        x.grad = nil
        y = x[name](x, { dim = 2, keepdim = keepdim })
        y:backward(tensor(keepdim and { { 1 }, { 1 } } or { 1, 1 }, 'float64'))
        assert.same_bits(expected, x.grad)
      end
    end
    local x = tensor({ 1, 2, 3 }):requires_grad_()
    x:cumsum(1):sum():backward()
    x:cumprod(1):sum():backward()
    assert.near_tensor({ 3 + 9, 2 + 4, 1 + 2 }, x.grad)
  end)

  it('has no gradient but 0 at a norm or deviation of 0', function()
    local x = tensor({ 0, 0 }):requires_grad_()
    x:norm():backward()
    x:std():backward()
    assert.are.same({ 0, 0 }, x.grad:totable())
  end)

  it('does not leave the range in a norm', function()
    assert.near(5e200, tensor({ 3e200, 4e200 }, 'float64'):norm():item(), 1e186)
    assert.near(5e-200, tensor({ 3e-200, 4e-200 }, 'float64'):norm():item(), 1e-214)
  end)

  it('tests truth', function()
    local x = tensor { { 0, 1 }, { 0, 0 } }
    assert.are.same({ true, false }, x:any(2):totable())
    assert.are.same({ false, false }, x:all(2):totable())
    assert.are.equal(true, tensor({ nan }):all():item())
    assert.are.same({ true, false }, x:bfloat16():any(2):totable())
    assert.are.same({ false, false }, x:bfloat16():all(2):totable())
  end)

  it('takes whole numbers in logsumexp', function()
    assert.near_tensor({ math.log(3) }, torch.zeros(1, 3, { dtype = 'int64' }):logsumexp(2), 1e-7)
  end)

  it('refuses what it cannot do, by name', function()
    local x = empty { 2, 3 }
    assert.fails(function() x:sum(0) end, 'sum: dim', 'got 0')
    assert.fails(function() x:sum(3) end, 'sum: dim', 'got 3')
    assert.fails(function() x:sum(1.5) end, 'sum: dim')
    assert.fails(function() x:sum('a') end, 'sum: dim')
    assert.fails(function() x:sum({ 1, 1 }) end, 'sum: dim', 'twice')
    assert.fails(function() x:sum({ 1, -2 }) end, 'sum: dim', 'twice')
    assert.fails(function() x:sum(1, { keepdims = true }) end, "'keepdims'", "'keepdim'")
    assert.fails(function() x:sum{ dim = 1, keepdim = 1 } end, 'keepdim')
    assert.fails(function() x:max({ 1, 2 }) end, 'amax')
    assert.fails(function() torch.max(x, x) end, 'max: dim', 'maximum')
    assert.fails(function() x:sum(x) end, 'sum: dim', 'tensor')
    assert.fails(function() x:cumsum() end, 'cumsum: dim')
    assert.fails(function() x:var(1, { correction = 1, unbiased = true }) end, 'var')
    assert.fails(function() x:norm('2') end, 'norm: p')
    assert.fails(function() x:norm(nan) end, 'norm: p')
    assert.fails(function() torch.sum(nil) end, 'sum: input')
  end)
end)
