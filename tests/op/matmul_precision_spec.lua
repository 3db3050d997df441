-- torch.set_float32_matmul_precision: products of operands rounded to bfloat16.
local torch = require 'masked_torch'
local isas = require 'support.isas'
local F = torch.nn.functional

-- The nearest number with 8 bits.
local function rounded(t)
  local values, shape = t:contiguous():view(t:numel()):totable(), t:size()
  for i, v in ipairs(values) do
    local m, e = math.frexp(v)
    local scaled = m * 256
    local low = math.floor(scaled)
    local up = scaled - low > 0.5 or (scaled - low == 0.5 and low % 2 == 1)
    values[i] = math.ldexp(low + (up and 1 or 0), e - 8)
  end
  return torch.tensor(values):view(unpack(shape))
end

local function relative(got, exact) return (got:double() - exact:double()):norm():item() / exact:double():norm():item() end

describe('set_float32_matmul_precision', function()
  after_each(function() torch.set_float32_matmul_precision 'highest' end)

  it('medium: operands are rounded to bfloat16, sums are float32', function()
    torch.manual_seed(2)
    for _, size in ipairs { { 1, 1, 1 }, { 5, 3, 2 }, { 70, 130, 600 }, { 15, 33, 1025 } } do
      local rows, out, k = unpack(size)
      local x, w, b = torch.randn(rows, k), torch.randn(out, k), torch.randn(out)
      local exact = F.linear(x, w, b)
      local of_rounded = F.linear(rounded(x):double(), rounded(w):double(), b:double())
      torch.set_float32_matmul_precision 'medium'
      local y = F.linear(x, w, b)
      assert.is_true(relative(y, of_rounded) <= 1e-6, 'sums')
      assert.is_true(relative(y, exact) <= 1e-2)
      assert.is_true(rows == 1 or relative(y, exact) >= 1e-4, 'nothing was rounded')
      assert.is_true(relative(x:mm(w:t()), rounded(x):double():mm(rounded(w):double():t())) <= 1e-6)
      torch.set_float32_matmul_precision 'high'
      assert.same_bits(exact, F.linear(x, w, b))
      torch.set_float32_matmul_precision 'highest'
    end
  end)

  it('medium: gradients too, close to those of float32; float64 and convolutions are not affected', function()
    torch.manual_seed(5)
    local x, w, dy = torch.randn(40, 90), torch.randn(60, 90), torch.randn(40, 60)
    local function gradients(dtype)
      local xg, wg = x:clone():to { dtype = dtype }:requires_grad_(), w:clone():to { dtype = dtype }:requires_grad_()
      F.linear(xg, wg):backward(dy:to { dtype = dtype })
      return xg.grad, wg.grad
    end
    local image, kernel = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
    local convolved = F.conv2d(image, kernel)
    local dx, dw = gradients 'float64'
    torch.set_float32_matmul_precision 'medium'
    local dx16, dw16 = gradients 'float32'
    assert.is_true(relative(dx16, dx) <= 1e-2 and relative(dx16, dx) >= 1e-4)
    assert.is_true(relative(dw16, dw) <= 1e-2 and relative(dw16, dw) >= 1e-4)
    local dx64, dw64 = gradients 'float64'
    assert.same_bits(dx, dx64)
    assert.same_bits(dw, dw64)
    assert.same_bits(convolved, F.conv2d(image, kernel))
  end)

  it('medium: the same bits for any number of threads, whatever the other rows', function()
    torch.set_float32_matmul_precision 'medium'
    local before = torch.get_num_threads()
    local x, w = torch.randn(300, 700), torch.randn(200, 700)
    torch.set_num_threads(1)
    local y = F.linear(x, w)
    torch.set_num_threads(3)
    assert.same_bits(y, F.linear(x, w))
    torch.set_num_threads(before)
    assert.same_bits(y:narrow(1, 30, 5):contiguous(), F.linear(x:narrow(1, 30, 5), w))
    assert.same_bits(y:narrow(2, 30, 5):contiguous(), F.linear(x, w:narrow(1, 30, 5)))
  end)

  it('medium: the same bits on every instruction set', function()
    local outputs = {}
    for _, build in ipairs(isas 'precision_isa') do
      local text = build[2]
      local used, digest = text:match('isa (%S+) digest (%S+)')
      assert(used, text)
      outputs[used] = digest
    end
    for _, digest in pairs(outputs) do assert.are.equal(outputs.portable, digest) end
  end)

  it('names what it expects', function()
    assert.are.equal('highest', torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision 'medium'
    assert.are.equal('medium', torch.get_float32_matmul_precision())
    assert.fails(function() torch.set_float32_matmul_precision 'low' end, 'set_float32_matmul_precision: precision', "'medium'")
    assert.fails(function() torch.set_float32_matmul_precision() end, 'set_float32_matmul_precision: precision')
  end)
end)
