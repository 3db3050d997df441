local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local F = torch.nn.functional
check_op(require 'op.activation_cases')

-- The largest distance between float32 and rounded float64 results, in units of the last place of float32.
local function worst_ulps(f, low, high)
  local x = torch.linspace(low, high, 20001)
  local got, exact = f(x):totable(), f(x:double()):totable()
  local worst = 0
  for i = 1, #got do
    local _, exponent = math.frexp(math.max(math.abs(exact[i]), 2 ^ -126))
    worst = math.max(worst, math.abs(got[i] - exact[i]) / 2 ^ (exponent - 24))
  end
  return worst
end

describe('activation', function()
  local functions = {
    relu = F.relu, leaky_relu = F.leaky_relu, elu = F.elu, silu = F.silu, gelu = F.gelu, softplus = F.softplus,
    gelu_tanh = function(x) return F.gelu(x, 'tanh') end, softplus_5 = function(x) return F.softplus(x, 5, 30) end,
    sigmoid = F.sigmoid, tanh = F.tanh,
  }

  for name, f in pairs(functions) do
    it(name .. ' in float32 is within 4 ulp of float64', function()
      for _, range in ipairs { { -1e-3, 1e-3 }, { -4, 4 }, { -30, 30 } } do
        local worst = worst_ulps(f, range[1], range[2])
        assert(worst <= 4, ('%g ulp in %g..%g'):format(worst, range[1], range[2]))
      end
    end)

    it(name .. ' has finite gradients far out and keeps NaN', function()
      for _, dtype in ipairs { 'float32', 'float64' } do
        local x = torch.tensor({ -1000, -100, 0, 100, 1000 }, { dtype = dtype, requires_grad = true })
        local y = f(x)
        y:backward(torch.ones_like(y))
        for _, t in ipairs { y, x.grad } do
          for _, v in ipairs(t:totable()) do assert(v == v and math.abs(v) <= 1000) end
        end
        local nan = f(torch.tensor({ 0 / 0 }, { dtype = dtype })):item()
        assert(nan ~= nan)
      end
    end)
  end

  it('writes in place', function()
    local x = torch.tensor({ -1, 2 })
    assert.equal(x, x:relu_())
    assert.same({ 0, 2 }, x:totable())
    local leaf = torch.ones(2, { requires_grad = true })
    assert.fails(function() leaf:relu_() end, 'relu_', 'leaf')
  end)

  it('refuses misuse', function()
    local x = torch.zeros(2)
    assert.fails(function() F.relu(5) end, 'relu: input', 'number')
    assert.fails(function() F.gelu(x, 'tan') end, 'gelu: approximate', "'tanh'")
    assert.fails(function() F.leaky_relu(x, 'a') end, 'leaky_relu', 'negative_slope')
    assert.fails(function() F.leaky_relu(x, { slope = 1 }) end, 'leaky_relu', 'slope')
    assert.fails(function() F.softplus(x, 0) end, 'softplus', 'beta')
    assert.fails(function() F.relu(x:long()) end, 'relu', 'int64')
  end)
end)
