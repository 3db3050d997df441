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

  -- Small, one chunk of lanes, one block of rows, operands too long to be shared, several slabs of terms.
  local sizes = { float32 = { { 17, 5, 3 }, { 130, 300, 513 }, { 3200, 9, 70 }, { 9, 3200, 70 }, { 4200, 5, 1100 }, { 5, 4200, 1100 },
    { 3, 7, 9000 } }, float64 = { { 17, 5, 3 }, { 130, 300, 513 }, { 3200, 9, 7 }, { 9, 3200, 7 }, { 3, 7, 9000 } } }

  it('gives an output the same bits whatever the other rows and outputs, the layout and the threads', function()
    local before = torch.get_num_threads()
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, size in ipairs(sizes[dtype]) do
        local rows, out, k = unpack(size)
        local x, w, b = torch.randn(rows, k, { dtype = dtype }), torch.randn(out, k, { dtype = dtype }), torch.randn(out, { dtype = dtype })
        local y = F.linear(x, w, b)
        local some, few = math.max(1, rows - 15), math.max(1, out - 18)
        assert.same_bits(y:narrow(1, some, rows - some + 1):contiguous(), F.linear(x:narrow(1, some, rows - some + 1), w, b))
        assert.same_bits(y:narrow(2, few, out - few + 1):contiguous(),
          F.linear(x, w:narrow(1, few, out - few + 1), b:narrow(1, few, out - few + 1)))
        assert.same_bits(y, F.linear(x:t():contiguous():t(), w:t():contiguous():t(), b))
        local dy = torch.randn(rows, out, { dtype = dtype })
        local function gradients()
          local xg, wg = x:clone():requires_grad_(), w:clone():requires_grad_()
          F.linear(xg, wg, b):backward(dy)
          return xg.grad, wg.grad
        end
        torch.set_num_threads(1)
        local dx, dw = gradients()
        torch.set_num_threads(3)
        assert.same_bits(y, F.linear(x, w, b))
        local dx3, dw3 = gradients()
        assert.same_bits(dx, dx3)
        assert.same_bits(dw, dw3)
        torch.set_num_threads(before)
        if dtype == 'float32' then
          local wide = F.linear(x:double(), w:double(), b:double())
          local err = (y:double() - wide):norm():item() / wide:norm():item()
          assert.is_true(err <= 1e-6, tostring(err))
          local wide_dw = dy:double():t():mm(x:double())
          err = (dw:double() - wide_dw):norm():item() / wide_dw:norm():item()
          assert.is_true(err <= 1e-6, tostring(err))
        end
      end
    end
  end)

  it('long sequences: rows of zeros at their ends change no gradient', function()
    local w = torch.randn(9, 21)
    local x, dy = torch.randn(5, 300, 21), torch.randn(5, 300, 9)
    local function gradient(length)
      local long, dlong = torch.zeros(5, length, 21), torch.zeros(5, length, 9)
      long:narrow(2, 1, 300):copy_(x)
      dlong:narrow(2, 1, 300):copy_(dy)
      local weight = w:clone():requires_grad_()
      F.linear(long, weight):backward(dlong)
      return weight.grad
    end
    local dw = gradient(300)
    for _, length in ipairs { 301, 512, 2600 } do assert.same_bits(dw, gradient(length)) end
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
