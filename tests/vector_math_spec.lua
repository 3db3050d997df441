-- The float32 functions of core/vector_math.h against float64, over all magnitudes, in units of the last place: what its header says.
local ffi = require 'ffi'
local isas = require 'support.isas'
local torch = require 'masked_torch'
local vector_functions = require 'support.vector_functions'
local F = torch.nn.functional

local sweep, functions = vector_functions.sweep, vector_functions.functions
local gelu_tanh = functions['gelu, tanh'][2]

local function ulp(y)
  local _, exponent = math.frexp(math.abs(y))
  return math.max(2 ^ (exponent - 24), 2 ^ -149)
end

-- The largest error of float32, in units of the last place of the exact result or of what `unit` says.
local function worst(x, got, exact, unit)
  local most, where = 0, nil
  for i = 1, #got do
    local g, e = got[i], exact[i]
    local rounded = tonumber(ffi.new('float', e))
    if not (g == rounded or g ~= g and e ~= e) then
      local err = math.abs(g - e) / unit(e, x, i)
      if not (err <= most) then most, where = err, i end
    end
  end
  return most, where and ('%.3f at x = %.9g'):format(most, x[where])
end

describe('float32 functions', function()
  for name, entry in pairs(functions) do
    local bound, f = entry[1], entry[2]
    it(('%s is within %g units of the last place'):format(name, bound), function()
      local x = sweep()
      local most, where = worst(x:totable(), f(x):totable(), f(x:double()):totable(), ulp)
      assert.is_true(most <= bound, where)
    end)
  end

  -- Slopes cross 0: the error is of the slope's own size, 1.
  for name, f in pairs { elu = F.elu, silu = F.silu, softplus = F.softplus, gelu = F.gelu, gelu_tanh = gelu_tanh } do
    it('the slope of ' .. name .. ' is within 2.5e-7', function()
      local x = sweep():clamp(-1e30, 1e30)
      local function slope(leaf)
        leaf = leaf:detach():requires_grad_()
        local y = f(leaf)
        y:backward(torch.ones_like(y))
        return leaf.grad:totable()
      end
      local most, where = worst(x:totable(), slope(x:clone()), slope(x:double()), function() return 1 end)
      assert.is_true(most <= 2.5e-7, where)
    end)
  end

  it('x Phi(x) is within 9e-8 of the larger of |x| and 1', function()
    local x = sweep()
    local most, where = worst(x:totable(), F.gelu(x):totable(), F.gelu(x:double()):totable(),
      function(_, at, i) return math.max(math.abs(at[i]), 1) end)
    assert.is_true(most <= 9e-8, where)
  end)

  it('have their limits at infinity and the sign of 0', function()
    local inf = 1 / 0
    local limits = {
      { 'exp', function(x) return x:exp() end, inf, 0 }, { 'expm1', function(x) return x:expm1() end, inf, -1 },
      { 'sigmoid', function(x) return x:sigmoid() end, 1, 0 }, { 'tanh', function(x) return x:tanh() end, 1, -1 },
      { 'silu', F.silu, inf, 0 }, { 'gelu', F.gelu, inf, 0 }, { 'gelu tanh', gelu_tanh, inf, 0 }, { 'softplus', F.softplus, inf, 0 },
      { 'softplus without a threshold', function(x) return F.softplus(x, 2, inf) end, inf, 0 }, { 'elu', F.elu, inf, -1 },
    }
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, limit in ipairs(limits) do
        local y = limit[2](torch.tensor({ inf, -inf, -0.0 }, { dtype = dtype })):totable()
        assert.same({ limit[1], limit[3], limit[4] }, { limit[1], y[1], y[2] == 0 and 0 or y[2] })
        if limit[2](torch.tensor({ 0 }, { dtype = dtype })):item() == 0 then assert.are.equal(-inf, 1 / y[3], limit[1] .. ' of -0') end
      end
    end
  end)

  it('have the same bits on every instruction set', function()
    local printed = isas 'vector_isa'
    for _, build in ipairs(printed) do
      assert.is_truthy(build[2]:match('^%a+%d* elu:%x+ '), build[2])
      assert.are.equal(printed[1][2]:match(' .*'), build[2]:match(' .*'), build[1])
    end
  end)

  it('softmax and cross-entropy use them: lines of any length and stride', function()
    for _, n in ipairs { 1, 2, 255, 256, 257, 700 } do
      torch.manual_seed(n)
      local x = torch.randn(3, n) * 5
      local y, exact = F.softmax(x, 2), F.softmax(x:double(), 2)
      assert.is_true(((y:double() - exact):abs() / exact):max():item() <= 3e-6)   -- x - max is rounded near 20
      -- One class beside n - 1 others whose exponentials fall to nothing: the quick exponential of cross-entropy.
      local t = torch.full({ 3 }, 1, { dtype = 'int64' })
      local wide = torch.randn(3, n) * 30
      local loss, exact_loss = F.cross_entropy(wide, t, { reduction = 'none' }), F.cross_entropy(wide:double(), t, { reduction = 'none' })
      assert.is_true((loss:double() - exact_loss):abs():max():item() <= 1e-5)
      assert.same_bits(y, F.softmax(x:t():contiguous():t(), 2):contiguous())
    end
  end)
end)
