-- Norms where channels are neighbours in memory: sums and results go pixel by pixel (core/norm_pixels.c, norm_pixel_sums.c,
-- norm_channels.c). The bits are those of any other memory format, on every instruction set.

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local formats = require 'support.norm_formats'
local both = require 'support.norm_both'
local isas = require 'support.isas'
local starve = require 'support.starve'

describe('norms over channels that are neighbours in memory', function()
  for _, name in ipairs { 'no activation', 'relu', 'leaky_relu' } do
    it('have the bits of the other memory format: ' .. name, function()
      local activation = both.activations[name] and both.activations[name][1]
      for _, dtype in ipairs { 'float32', 'float64' } do assert.same({}, (formats.all(activation, dtype, 0))) end
    end)
  end

  it('also where the result goes past the caches, whole and under a mask', function()
    for _, name in ipairs { 'batch_norm', 'group_norm' } do
      for _, kind in ipairs { 'none', 'binary' } do
        for _, shape in ipairs { { 17, 32, 72, 56 }, { 3, 24, 340, 90 } } do
          assert.same({}, (formats.compare(name, kind, both.activations.relu[1], shape, 'float32', 0)))
        end
      end
    end
  end)

  -- What is summed cancels, which leaves what roundings make of the order.
  it('add up in the same order', function()
    local F, Tensor = torch.nn.functional, torch.Tensor
    local function last(t)
      local y = Tensor.empty('spec', t:size(), t.dtype, 'cpu', Tensor.channels_last(t:size()))
      native.check(y.K.mt_tensor_copy(y._c, t._c))
      return y
    end
    torch.manual_seed(5)
    for _, shape in ipairs { { 1, 24, 5, 4, 7 }, { 9, 24, 6, 7 } } do
      local half, dhalf = torch.randn(shape), torch.randn(shape)
      local dims = {}
      for d = 3, #shape do dims[#dims + 1] = d end
      local x, dy = torch.cat({ half, half:flip(dims) }, 3), torch.cat({ dhalf, -dhalf:flip(dims) }, 3)
      local grads = {}
      for i, place in ipairs { function(t) return t end, last } do
        for _, norm in ipairs { 'batch_norm', 'group_norm' } do
          local w, b = torch.ones(24):requires_grad_(), torch.zeros(24):requires_grad_()
          local y = norm == 'batch_norm' and F.batch_norm(place(x), nil, nil, w, b, true, 0.1, 1e-5) or F.group_norm(place(x), 24, w, b)
          y:backward(place(dy))
          assert.is_true(w.grad:abs():max():item() < 1e-10 and w.grad:abs():max():item() > 0)
          if i == 1 then
            grads[norm] = { w.grad, b.grad }
          else
            assert(Tensor.same_bits(grads[norm][1], w.grad) and Tensor.same_bits(grads[norm][2], b.grad), norm)
          end
        end
      end
    end
  end)

  it('have the same bits on every instruction set', function()
    local seen
    for _, build in ipairs(isas 'norm_formats') do
      local text = build[2]
      local sum = text:match('^isa %S+ wrong 0 sum (%d+)\n$')
      assert.is_truthy(sum, text)
      seen = seen or sum
      assert.equal(seen, sum)
    end
  end)

  it('give their scratch memory back, also when there is none', function()
    local K = native.cpu
    local shape, Tensor = { 2, 8, 3, 4 }, torch.Tensor
    local function empty() return Tensor.empty('spec', shape, 'float32', 'cpu', Tensor.channels_last(shape)) end
    local x, y, dx = empty(), empty(), empty()
    x:fill_(1)
    y:fill_(1)
    local stats = torch.zeros(8, 3, { dtype = 'float64' })
    for _, call in ipairs {
      function() return K.mt_norm_batch_forward(y._c, stats._c, nil, nil, x._c, nil, nil, nil, 1, 0.1, 1e-5, 0, 0) end,
      function() return K.mt_norm_batch_backward(dx._c, nil, nil, y._c, x._c, nil, nil, nil, stats._c, 1, 0, 0) end,
    } do
      assert.is_true(starve(call) >= 5)
    end
  end)
end)
