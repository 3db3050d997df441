-- A norm with an activation behind it in one kernel: the bits of the two operations one after the other, both ways.

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local both = require 'support.norm_both'
local isas = require 'support.isas'
local starve = require 'support.starve'
local F, Tensor = torch.nn.functional, torch.Tensor
local norms, masks, activations, results, with = both.norms, both.masks, both.activations, both.results, both.with

local nan = 0 / 0

for name, norm in pairs(norms) do
  describe(name .. ' with an activation', function()
    for kind, mask in pairs(masks) do
      for function_name, activation in pairs(activations) do
        it(('is the norm and then %s, bit for bit: mask %s'):format(function_name, kind), function()
          local wrong, open, closed = both.compare(norm, mask, activation)
          assert.same({}, wrong)
          assert.is_true(open > 10000 and closed > 10000)
        end)
      end
    end
  end)
end

describe('the activation of a norm', function()
  local x = torch.randn(2, 4, 3)

  -- Also: samples one by one (core/norm.c) and all together, which more threads than samples decide.
  it('does not depend on the number of threads', function()
    local before = torch.get_num_threads()
    for name, norm in pairs(norms) do
      for kind, mask in pairs(masks) do
        for _, format in ipairs { 'row by row', 'channels last' } do
          for _, activation in ipairs { false, activations.relu[1] } do
            local seen
            for _, threads in ipairs { 1, 2, 9 } do
              torch.set_num_threads(threads)
              local now = results(norm, { 8, 24, 15, 13 }, mask, 'float32', format, activation or nil)
              seen = seen or now
              for key, t in pairs(seen) do
                assert(Tensor.same_bits(now[key], t), ('%s: %s, mask %s, %s, %d threads'):format(name, key, kind, format, threads))
              end
            end
          end
        end
      end
    end
    torch.set_num_threads(before)
  end)

  it('has the same bits on every instruction set', function()
    for _, build in ipairs(isas 'norm_both') do assert.is_truthy(build[2]:match('^isa %S+ wrong 0\n$'), build[2]) end
  end)

  it('does not read what lies in holes', function()
    local mask = torch.rand(2, 1, 3):lt(0.5):float()
    mask[{ 1, 1, 1 }], mask[{ 2, 1, 3 }] = 0, 1
    local list = {}
    for i, under in ipairs { 0, nan } do
      local z = torch.where(mask:expand(2, 4, 3):gt(0), x, torch.full({ 2, 4, 3 }, under)):requires_grad_()
      local y = F.batch_norm(z, nil, nil, { training = true, mask = mask, activation = 'relu' })
      y:backward(torch.ones(2, 4, 3))
      list[i] = { y, z.grad }
    end
    for k = 1, 2 do assert(Tensor.same_bits(list[1][k], list[2][k])) end
  end)

  it('refuses what it does not know', function()
    assert.fails(function() F.batch_norm(x, nil, nil, { training = true, activation = 'rely' }) end, 'relu')
    assert.fails(function() F.group_norm(x, 2, { activation = 'leaky_relu', negative_slope = 1.5 }) end, 'slope from 0 to 1')
    assert.fails(function() F.layer_norm(x, 3, { activation = 'leaky_relu', negative_slope = -0.1 }) end, 'slope from 0 to 1')
    assert.fails(function() F.rms_norm(x, 3, { activation = 'leaky_relu', negative_slope = nan }) end, 'slope from 0 to 1')
    local K, stats = native.cpu, torch.zeros(4, 3, { dtype = 'float64' })
    assert.equal(K.MT_ERROR_ARGUMENT, K.mt_norm_batch_forward(torch.zeros(2, 4, 3)._c, stats._c, nil, nil, x._c, nil, nil, nil, 1, 0.1,
      1e-5, K.MT_ACTIVATION_GELU, 0))
  end)

  it('notices a bias that was changed before the backward pass, where it needs it', function()
    local b = torch.zeros(4, { requires_grad = true })
    local function step(options)
      local y = F.batch_norm(x, nil, nil, with({ bias = b, training = true }, options))
      torch.no_grad(function() b:add_(1) end)
      y:backward(torch.ones(2, 4, 3))
    end
    step()
    assert.fails(function() step{ activation = 'relu' } end, 'changed in place')
  end)

  it('gives its scratch memory back, also when there is none', function()
    local K = native.cpu
    local y, dx, dw = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3), torch.zeros(4)
    local stats, mask = torch.zeros(4, 3, { dtype = 'float64' }), torch.ones(2, 1, 3)
    local flags = K.MT_NORM_BATCH_STATISTICS + K.MT_NORM_COMPAT
    assert.equal(K.MT_OK, K.mt_norm_batch_forward(y._c, stats._c, nil, nil, x._c, mask._c, nil, nil, flags, 0.1, 1e-5, 0, 0))
    assert.is_true(starve(function()
      return K.mt_norm_batch_backward(dx._c, dw._c, nil, y._c, x._c, mask._c, nil, nil, stats._c, flags, 0, 0)
    end) >= 4)
  end)
end)
