-- A convolution with an activation behind it in one kernel: the bits of the two operations one after the other, both ways.

local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local both = require 'support.conv_both'
local isas = require 'support.isas'
local starve = require 'support.starve'
local F, Tensor = torch.nn.functional, torch.Tensor

local nan = 0 / 0

for kind_name, kind in pairs(both.kinds) do
  describe(('a convolution (%s) with an activation'):format(kind_name), function()
    for function_name, activation in pairs(both.activations) do
      it(('is the convolution and then %s, bit for bit, in every kernel'):format(function_name), function()
        for _, form in ipairs(both.forms) do
          local wrong, open, closed = both.compare(form, kind, activation)
          assert.same({}, wrong)
          assert.is_true(form[2][1] == 0 or open > 10 and closed > 10, form[1])
        end
      end)
    end
  end)
end

describe('the activation of a convolution', function()
  it('does not depend on the number of threads', function()
    local before = torch.get_num_threads()
    local activation = both.activations.relu[1]
    for _, form in ipairs(both.forms) do
      for _, kind in pairs(both.kinds) do
        local seen
        for _, threads in ipairs { 1, 2, 5 } do
          torch.set_num_threads(threads)
          local now = both.results(form, kind, 'float32', activation)
          seen = seen or now
          for key, t in pairs(seen) do assert(Tensor.same_bits(now[key], t), form[1] .. ' ' .. key) end
        end
      end
    end
    torch.set_num_threads(before)
  end)

  it('has the same bits on every instruction set', function()
    for _, build in ipairs(isas 'conv_both') do assert.is_truthy(build[2]:match('^isa %S+ wrong 0\n$'), build[2]) end
  end)

  it('takes a gradient of any layout, large enough for several tasks', function()
    torch.manual_seed(2)
    local x, w = torch.randn(3, 6, 40, 50), torch.randn(70, 6, 3, 3)
    for _, mask in ipairs { false, torch.rand(3, 1, 40, 50):lt(0.6) } do
      for _, turned in ipairs { false, true } do
        local seen
        for _, fused in ipairs { false, true } do
          local b = torch.randn(70)
          torch.manual_seed(4)
          local z, v, c = x:clone():requires_grad_(), w:clone():requires_grad_(), (b * 0 + 0.1):requires_grad_()
          local opts = { padding = 1, rule = 'grow', reweight = 'count', border = true, activation = fused and 'relu' or nil }
          local y = F.masked_conv(z, v, c, mask or nil, opts)
          if not fused then y = F.relu(y) end
          local dy = torch.randn(3, 70, 40, 50)
          y:backward(turned and dy:transpose(3, 4):contiguous():transpose(3, 4) or dy)
          local now = { y:detach(), z.grad, v.grad, c.grad }
          seen = seen or now
          for k = 1, 4 do assert.same_bits(seen[k], now[k]) end
        end
      end
    end
  end)

  it('keeps what is not a number, and the sign of zero', function()
    local x, w = torch.tensor { { { nan, -1, 0, 2 } } }, torch.tensor { { { 1 } } }
    local y = F.conv1d(x, w, nil, { activation = 'leaky_relu', negative_slope = 0 })
    assert.is_true(y[{ 1, 1, 1 }] ~= y[{ 1, 1, 1 }])
    assert.equal(-math.huge, 1 / y[{ 1, 1, 2 }])
    assert.equal(2, y[{ 1, 1, 4 }])
    y = F.conv1d(x, w, nil, { activation = 'relu' })
    assert.is_true(y[{ 1, 1, 1 }] ~= y[{ 1, 1, 1 }])
    assert.equal(math.huge, 1 / y[{ 1, 1, 2 }])
  end)

  it('refuses what it does not know', function()
    local x, w = torch.randn(1, 2, 5), torch.randn(2, 2, 3)
    assert.fails(function() F.conv1d(x, w, nil, { activation = 'rely' }) end, 'relu')
    assert.fails(function() F.conv1d(x, w, nil, { activation = 'leaky_relu', negative_slope = 1.5 }) end, 'slope from 0 to 1')
    assert.fails(function() F.masked_conv(x, w, nil, nil, { activation = 'leaky_relu', negative_slope = -0.1 }) end, 'slope from 0 to 1')
    assert.fails(function() F.masked_conv(x, w, nil, nil, { activation = 'leaky_relu', negative_slope = nan }) end, 'slope from 0 to 1')
    assert.fails(function() F.masked_conv(x, w, nil, nil, { activation = 'gelu' }) end, 'relu')
    local K, g = native.cpu, geometry.conv('conv1d', 1, { 3 }, {})
    local y, other, db = torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), torch.zeros(2)
    local function refuses(text, status) assert.fails(function() native.check(status) end, text) end
    refuses('activation', K.mt_conv_forward(y._c, x._c, w._c, nil, g, nil, nil, nil, nil, nil, K.MT_ACTIVATION_GELU, 0))
    local backward = K.mt_conv_backward_epilogue
    refuses('activation', backward(y._c, nil, y._c, nil, nil, nil, nil, K.MT_ACTIVATION_ELU, 0))
    refuses('result', backward(y._c, nil, y._c, nil, nil, nil, nil, K.MT_ACTIVATION_RELU, 0))
    refuses('result', backward(y._c, nil, y._c, other._c, nil, nil, nil, K.MT_ACTIVATION_RELU, 0))
    refuses('output', backward(other._c, nil, y._c, nil, nil, nil, nil, -1, 0))
    refuses('bias', backward(nil, torch.zeros(3)._c, y._c, nil, nil, nil, nil, -1, 0))
    refuses('memory', backward(y._c, nil, torch.zeros(1, 2, 3)._c, y._c, nil, nil, nil, K.MT_ACTIVATION_RELU, 0))
    refuses('active', backward(y._c, db._c, y._c, nil, torch.zeros(1, 1, 3)._c, nil, nil, -1, 0))
    refuses('r: ', backward(y._c, db._c, y._c, nil, nil, torch.zeros(1, 2, 3)._c, nil, -1, 0))
    refuses('m: ', backward(y._c, db._c, y._c, nil, nil, nil, torch.zeros(1, 1, 4)._c, -1, 0))
  end)

  it('gives its scratch memory back, also when there is none', function()
    local K = native.cpu
    local y, draw, dy, db = torch.ones(4, 4, 5, 9), torch.zeros(4, 4, 5, 9), torch.ones(4, 4, 5, 9), torch.zeros(4)
    assert.equal(1, starve(function()
      return K.mt_conv_backward_epilogue(draw._c, db._c, dy._c, y._c, nil, nil, nil, 0, 0)
    end))
  end)
end)
