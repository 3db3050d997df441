local torch = require 'masked_torch'
local nn = torch.nn

describe('activation layers', function()
  it('print as PyTorch prints them', function()
    assert.equal('ReLU()', tostring(nn.ReLU()))
    assert.equal('LeakyReLU(negative_slope=0.01)', tostring(nn.LeakyReLU()))
    assert.equal('LeakyReLU(negative_slope=0.2)', tostring(nn.LeakyReLU(0.2)))
    assert.equal("GELU(approximate='none')", tostring(nn.GELU()))
    assert.equal("GELU(approximate='tanh')", tostring(nn.GELU { approximate = 'tanh' }))
    assert.equal('SiLU()', tostring(nn.SiLU()))
    assert.equal('ELU(alpha=1.0)', tostring(nn.ELU()))
    assert.equal('Softplus(beta=1.0, threshold=20.0)', tostring(nn.Softplus()))
    assert.equal('Sigmoid()', tostring(nn.Sigmoid()))
    assert.equal('Tanh()', tostring(nn.Tanh()))
    assert.equal('Softmax(dim=2)', tostring(nn.Softmax(2)))
    assert.equal('LogSoftmax(dim=-1)', tostring(nn.LogSoftmax { dim = -1 }))
  end)

  it('compute their function and pass the mask on', function()
    local x = torch.randn(2, 3, 5)
    local mask = torch.mask.lengths({ 5, 2 }, 5)
    local F = nn.functional
    local layers = {
      { nn.ReLU(), F.relu(x) }, { nn.LeakyReLU(0.3), F.leaky_relu(x, 0.3) }, { nn.ELU(2), F.elu(x, 2) }, { nn.SiLU(), F.silu(x) },
      { nn.GELU('tanh'), F.gelu(x, 'tanh') }, { nn.Tanh(), F.tanh(x) }, { nn.Sigmoid(), F.sigmoid(x) },
      { nn.Softplus(3, 4), F.softplus(x, 3, 4) }, { nn.Softmax(2), F.softmax(x, 2) }, { nn.LogSoftmax(2), F.log_softmax(x, 2) },
    }
    for _, pair in ipairs(layers) do
      local y, none = pair[1](x)
      assert.same_bits(pair[2], y)
      assert.is_nil(none)
      local masked, out = pair[1](x, mask)
      assert.equal(mask, out)
      for n, length in ipairs { 5, 2 } do
        for c = 1, 3 do
          for i = 1, length do assert.equal(y:get(n, c, i), masked:get(n, c, i)) end
        end
      end
    end
  end)

  it('leave holes 0', function()
    local x = torch.randn(2, 3, 5)
    local mask = torch.mask.lengths({ 5, 2 }, 5)
    x = x:select_valid(mask)
    for _, layer in ipairs { nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(),
      nn.Softmax(2), nn.Softmax(3), nn.LogSoftmax(2), nn.LogSoftmax(3) } do
      local y = layer(x, mask)
      for c = 1, 3 do
        for i = 3, 5 do assert.equal(0, y:get(2, c, i)) end
      end
    end
  end)

  it('let nothing under the mask through', function()
    local mask = torch.mask.lengths({ 2 }, 5)
    for _, layer in ipairs { nn.Sigmoid(), nn.Softplus(), nn.Softmax(3), nn.LogSoftmax(3), nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(),
      nn.GELU(), nn.Tanh() } do
      local x = torch.tensor({ { { 1, 2, 0 / 0, math.huge, 7 } } }, { requires_grad = true })
      local clean = torch.tensor({ { { 1, 2, 0, 0, 0 } } }, { requires_grad = true })
      local y, z = layer(x, mask), layer(clean, mask)
      assert.same_bits(z, y)
      local dy = torch.tensor({ { { 3, 4, 5, 6, 7 } } })
      y:backward(dy)
      z:backward(dy)
      assert.same_bits(clean.grad, x.grad)
      assert.same({ 0, 0, 0 }, x.grad[{ 1, 1, { 3, 5 } }]:totable())
    end
  end)

  it('refuse misuse', function()
    assert.fails(function() nn.ReLU(5) end, 'ReLU', '5')
    assert.fails(function() nn.ELU { alfa = 1 } end, 'ELU', "'alpha'")
    assert.fails(function() nn.GELU('tan') end, 'GELU', 'tan')
    assert.fails(function() nn.Softmax() end, 'Softmax', 'dim')
    assert.fails(function() nn.Softplus(-1) end, 'Softplus', 'beta')
  end)
end)
