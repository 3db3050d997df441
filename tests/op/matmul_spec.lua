local check_op = require 'support.check_op'
local torch = require 'masked_torch'
check_op(require 'op.matmul_cases')

local Tensor = torch.Tensor
local function empty(shape, dtype) return Tensor.empty('test', shape, dtype or 'float32') end

local function wave(shape, dtype)
  local t = empty(shape, dtype)
  local values = require('ffi').new('double[?]', math.max(1, t:numel()))
  for i = 0, t:numel() - 1 do values[i] = math.sin(i * i * 0.7) end
  t.K.mt_tensor_write(t._c, values)
  return t
end

describe('matmul', function()
  it('gives a row of a small product the same bits, whatever the other rows and columns', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, k in ipairs { 1, 7, 256, 300, 700 } do
        local a, b = wave({ 65, k }, dtype), wave({ k, 83 }, dtype)
        local whole = a:mm(b)
        for _, m in ipairs { 1, 2, 3, 5, 8, 13, 64 } do
          assert.same_bits(whole:narrow(1, 1, m), a:narrow(1, 1, m):mm(b))
        end
        for _, n in ipairs { 1, 2, 4, 7, 16, 33, 64 } do
          assert.same_bits(whole:narrow(2, 1, n), a:mm(b:narrow(2, 1, n)))
        end
        assert.same_bits(whole:select(1, 4), b:transpose(1, 2):mv(a:select(1, 4)))
        assert.same_bits(whole, b:transpose(1, 2):mm(a:transpose(1, 2)):transpose(1, 2))
      end
    end
  end)

  it('gives zeros where there is nothing to add', function()
    local y = wave({ 3, 0 }):mm(wave { 0, 2 })
    assert.are.same({ { 0, 0 }, { 0, 0 }, { 0, 0 } }, y:totable())
    assert.are.equal(0, wave({ 0 }):dot(wave { 0 }):item())
    assert.are.same({ 0, 2 }, wave({ 0, 3 }):mm(wave { 3, 2 }):size())
    assert.are.same({ 2, 0, 3 }, wave({ 2, 0, 4 }):matmul(wave { 4, 3 }):size())
    assert.are.same({ 0, 2, 3 }, wave({ 0, 2, 4 }):bmm(wave { 0, 4, 3 }):size())
    local a, b = wave({ 3, 0 }):requires_grad_(), wave({ 0, 2 }):requires_grad_()
    a:mm(b):sum():backward()
    assert.are.same({ 3, 0 }, a.grad:size())
  end)

  it('is right, and blind to layout and threads, where OpenBLAS does the work', function()
    local before = torch.get_num_threads()
    for _, size in ipairs { { 33, 500, 321 }, { 300, 40, 3000 }, { 260, 513, 130 }, { 256, 512, 2049 } } do
      local m, n, k = unpack(size)
      torch.manual_seed(m)
      for _, dtype in ipairs { 'float32', 'float64' } do
        local a, b = torch.randn(m, k, { dtype = dtype }), torch.randn(k, n, { dtype = dtype })
        torch.set_num_threads(1)
        local y = a:mm(b)
        -- Some rows again, each as a product so small that the micro-kernel does it.
        for _, row in ipairs { 1, m } do
          local alone = a:narrow(1, row, 1):mm(b)
          local err = (alone - y:narrow(1, row, 1)):norm():item() / alone:norm():item()
          assert.is_true(err <= (dtype == 'float32' and 1e-6 or 1e-14), tostring(err))
        end
        torch.set_num_threads(3)
        assert.same_bits(y, a:mm(b))
        local at, bt = a:t():contiguous():t(), b:t():contiguous():t()
        assert.same_bits(y, at:mm(b))
        assert.same_bits(y, a:mm(bt))
        assert.same_bits(y, at:mm(bt))
        local wide = torch.zeros(k, 2 * n, { dtype = dtype })
        local spread = wide[{ {}, { 1, 2 * n, 2 } }]
        spread:copy_(b)
        assert.same_bits(y, a:mm(spread))
      end
    end
    torch.set_num_threads(before)
    assert.are.equal(0, torch.ones(64, 3000):mm(torch.zeros(3000, 64)):abs():sum():item())
  end)

  it('keeps NaN and infinities', function()
    local a = Tensor.from_table('test', { { 1, math.huge }, { 0, 1 } })
    assert.near_tensor({ { math.huge, 0 / 0 }, { 1, 0 } }, a:mm(Tensor.from_table('test', { { 1, 1 }, { 1, 0 } })))
  end)

  it('refuses what does not fit, by name', function()
    local a, b = wave { 2, 3 }, wave { 4, 5 }
    assert.fails(function() a:mm(b) end, 'mm:', '(2, 3)', '(4, 5)', '3 = 4')
    assert.fails(function() a:matmul(b) end, 'matmul:', '(2, 3)')
    assert.fails(function() a:mm(wave { 3 }) end, 'mm:', '2 and 2 dimensions', '(3)')
    assert.fails(function() wave({ 2, 3, 4 }):bmm(wave { 1, 4, 5 }) end, 'bmm:', 'batch')
    assert.fails(function() wave({ 2, 3, 4 }):matmul(wave { 3, 4, 5 }) end, 'matmul:', 'batch')
    assert.fails(function() a:mm(wave({ 3, 2 }, 'float64')) end, 'mm:', 'float32', 'float64')
    assert.fails(function() empty({ 2, 2 }, 'int64'):mm(empty({ 2, 2 }, 'int64')) end, 'mm:', 'int64')
    assert.fails(function() a:matmul(wave {}) end, 'matmul:', '()')
    assert.fails(function() a:mv(nil) end, 'mv: other', 'nil')
    assert.fails(function() a:dot(a) end, 'dot:', '1 and 1')
    assert.fails(function() a:outer(a) end, 'outer:')
    assert.fails(function() torch.addmm(a, a, wave { 3, 2 }, { gamma = 1 }) end, "'gamma'")
  end)
end)
