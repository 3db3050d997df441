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
    it(name .. ' in float32 is within a few ulp of float64', function()
      for _, range in ipairs { { -1e-3, 1e-3 }, { -4, 4 }, { -30, 30 } } do
        local worst = worst_ulps(f, range[1], range[2])
        assert(worst <= (name == 'gelu' and 6 or 4), ('%g ulp in %g..%g'):format(worst, range[1], range[2]))
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

  -- The same with a mask and by hand, where what the mask hides holds NaN; forward and backward, bit for bit.
  local function check(x, mask, what)
    local hidden = mask:logical_not():expand(unpack(x:size()))
    local dy = torch.randn_like(x)
    local function run(f, spoilt, with)
      torch.manual_seed(3)
      local leaf = (spoilt and x:masked_fill(hidden, 0 / 0) or x:clone()):detach():requires_grad_()
      local y = f(leaf, with and { mask = mask } or nil)
      y:backward(spoilt and dy:masked_fill(hidden, -1 / 0) or dy)
      if with then return y, leaf.grad end
      return y:masked_fill(hidden, 0), leaf.grad:masked_fill(hidden, 0)
    end
    local all = { dropout = F.dropout, dropout1d = x:dim() == 3 and F.dropout1d or nil }
    for name, f in pairs(functions) do
      if name ~= 'gelu_tanh' and name ~= 'softplus_5' then all[name] = f end
    end
    for name, f in pairs(all) do
      local y, dx = run(f, false, false)
      local z, dz = run(f, true, true)
      assert(torch.equal(y, z) and torch.equal(dx, dz), name .. ' ' .. what)
    end
  end

  it('skips what a mask hides, and nothing else: runs of any length, any layout', function()
    torch.manual_seed(7)
    for _, dtype in ipairs{ 'float32', 'float64' } do
      for _, shape in ipairs{ { 3, 5, 9, 11 }, { 2, 1, 1500 }, { 2, 40, 33 }, { 1, 3, 70, 31 }, { 1, 1, 1 } } do
        local x, one = torch.randn(shape, { dtype = dtype }), { unpack(shape) }
        one[2] = 1
        for _, share in ipairs{ 0, 0.1, 0.5, 0.97, 1 } do
          local what = ('%s %s %g'):format(dtype, table.concat(shape, 'x'), share)
          check(x, torch.rand(one):lt(share), what)
          check(x:channels_last(), torch.rand(one):lt(share), what .. ' channels last')
          check(x, torch.rand(shape):lt(share), what .. ' each')
          check(x:channels_last(), torch.rand(shape):lt(share), what .. ' each, channels last')
          check(x:transpose(1, -1), torch.rand(one):lt(share):transpose(1, -1), what .. ' transposed')
        end
      end
    end
    -- Long runs and holes of many lengths: what lies between two runs is computed and cleared, or left out.
    local long = torch.randn(2, 2, 6000)
    local mask = torch.zeros(2, 1, 6000):bool()
    local at, length = 1, 1
    while at + length <= 6000 do
      mask[{ 1, 1, { at, at + length - 1 } }] = true
      mask[{ 2, 1, { at, at + length - 1 } }] = length % 2 == 0
      at, length = at + length + (length * 7) % 90 + 1, length + 1
    end
    check(long, mask, 'long')
    check(long:channels_last(), mask, 'long, channels last')
  end)

  it('skips in rows that lie apart', function()
    local x = torch.randn(4, 6, 10)
    for _, view in ipairs{ x:narrow(3, 3, 5), x:narrow(2, 2, 3), x:channels_last():narrow(2, 2, 3) } do
      check(view, torch.rand(4, 1, view:size(3)):lt(0.5), 'part')
    end
  end)

  it('refuses masks that do not fit', function()
    local x = torch.zeros(2, 3, 4)
    assert.fails(function() F.relu(x, { mask = torch.ones(2, 1, 5) }) end, 'relu: mask', '(2, 1, 5)', '(2, 3, 4)')
    assert.fails(function() F.gelu(x, 'none', { mask = 5 }) end, 'gelu', 'mask')
    assert.fails(function() F.dropout(x, { mask = torch.ones(7) }) end, 'dropout: mask', '(7)')
  end)

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
