-- The float32 functions of core/vector_math.h against float64: at most 0.6 units in the last place, over all magnitudes.
local ffi = require 'ffi'
local torch = require 'masked_torch'
local F = torch.nn.functional

-- Every 65537-th bit pattern below NaN, both signs, and the special values.
local function sweep()
  local n = 2 * 65300
  local x = torch.zeros(n + 8)
  local words = ffi.cast('uint32_t *', x._c.data)
  for i = 0, n / 2 - 1 do
    words[2 * i] = i * 32719
    words[2 * i + 1] = 0x80000000 + i * 32719
  end
  for i, v in ipairs { 0, -0.0, 1, -1, 1 / 0, -1 / 0, 0 / 0, 88.7 } do x[n + i] = v end
  return x
end

local function ulp(y)
  local _, exponent = math.frexp(math.abs(y))
  return math.max(2 ^ (exponent - 24), 2 ^ -149)
end

local functions = {
  exp = function(x) return x:exp() end, expm1 = function(x) return x:expm1() end, log = function(x) return x:log() end,
  log1p = function(x) return x:log1p() end, log2 = function(x) return x:log2() end, tanh = function(x) return x:tanh() end,
  sigmoid = function(x) return x:sigmoid() end, silu = F.silu, elu = F.elu, softplus = F.softplus, gelu = F.gelu,
}

describe('float32 functions', function()
  for name, f in pairs(functions) do
    it(name .. ' is rounded from an all but exact value', function()
      local x = sweep()
      local got, exact = f(x):totable(), f(x:double()):totable()
      local worst, where = 0, nil
      for i = 1, #got do
        local g, e = got[i], exact[i]
        local rounded = tonumber(ffi.new('float', e))
        if not (g == rounded or g ~= g and e ~= e) then
          local err = math.abs(g - e) / ulp(e)
          if not (err <= worst) then worst, where = err, i end
        end
      end
      assert.is_true(worst <= 0.6, ('%.3f units at x = %s'):format(worst, where and x[where]))
    end)
  end

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
