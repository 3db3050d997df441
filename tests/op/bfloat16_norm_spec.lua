--- Norms of bfloat16 give the bits of their wide form: float32's result, rounded. On the CPU, or on the device that
-- MASKED_TORCH_TEST_DEVICE names.
local torch = require 'masked_torch'
local Random = require 'support.random'
local forms = require 'support.bfloat16_forms'

local F = torch.nn.functional
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE'

local function upstream(random) return function(y) return forms.bits(random, y:size(), -2, 2) end end

local function vector(random, shape)
  return forms.bits(random, shape, -1.5, 1.5):float()
end

local function mask_of(random, shape, soft)
  local values = random:binary(shape, 0.7).values
  for i, v in ipairs(values) do values[i] = soft and v > 0 and random:next() < 0.3 and 0.625 or v end
  local mask = torch.tensor(values):view(unpack(shape))
  return device and mask:to { device = device } or mask
end

-- Few channels and many, rows longer than the buffers, one axis and two, one sample.
local images = device and { { 2, 8, 3, 5 }, { 1, 5, 7 } }
  or { { 2, 8, 5, 7 }, { 3, 5, 4, 6 }, { 1, 64, 9, 70 }, { 2, 3, 2500 }, { 17, 16, 3, 3 }, { 4, 33 }, { 1, 4100, 2 }, { 2, 1, 3, 3 } }

local masks = { none = function() end, binary = function(random, shape) return mask_of(random, shape) end,
  soft = function(random, shape) return mask_of(random, shape, true) end }

describe('bfloat16 norms:', function()
  for layout, laid in pairs(forms.layouts) do
    for kind, make in pairs(masks) do
      for _, activation in ipairs { false, layout == 'plain' and 'relu' or 'leaky_relu' } do
        it(('over images, %s, mask %s, %s'):format(layout, kind, activation or 'no activation'), function()
          for number, shape in ipairs(images) do
            local random = Random.new(number)
            local x = laid(forms.bits(random, shape, -3, 3))
            local C, sizes = shape[2], { shape[1], 1, unpack(shape, 3) }
            local mask = make(random, sizes)
            local options = { mask = mask, activation = activation or nil, negative_slope = activation == 'leaky_relu' and 0.2 or nil }
            local function with(extra)
              local o = {}
              for k, v in pairs(options) do o[k] = v end
              for k, v in pairs(extra) do o[k] = v end
              return o
            end
            local w, b = vector(random, { C }), vector(random, { C })
            local mean, var = vector(random, { C }), vector(random, { C }):abs() + 0.1
            forms.compare({ 'batch_norm' }, nil, function(t, weight, bias)
              return F.batch_norm(t, mean:clone(), var:clone(), with { weight = weight, bias = bias, training = true })
            end, { x, w, b }, upstream(random))
            forms.compare({ 'batch_norm' }, nil, function(t) return F.batch_norm(t, mean, var, with {}) end, { x }, upstream(random))
            if mask and kind == 'binary' then
              forms.compare({ 'batch_norm' }, nil, function(t, weight, bias)
                return F.batch_norm(t, nil, nil, with { weight = weight, bias = bias, training = true, compat = true })
              end, { x, w, b }, upstream(random))
            end
            if #shape > 2 then
              local groups = C % 4 == 0 and 4 or 1
              forms.compare({ 'group_norm' }, nil, function(t, weight, bias)
                return F.group_norm(t, groups, with { weight = weight, bias = bias })
              end, { x, w, b }, upstream(random))
              forms.compare({ 'group_norm' }, nil, function(t) return F.instance_norm(t, with {}) end, { x }, upstream(random))
              forms.compare({ 'layer_norm' }, nil, function(t, weight, bias)
                return F.layer_norm(t, C, with { weight = weight, bias = bias, channels = true })
              end, { x, w, b }, upstream(random))
            end
          end
        end)
      end
    end
  end

  -- Tokens: rows that are worked on side by side, and others.
  local tokens = device and { { 2, 9, 16 }, { 3, 5 } } or { { 2, 19, 64 }, { 3, 5 }, { 2, 3, 9, 24 }, { 5, 2100 }, { 1, 4, 3000 } }
  for _, shape in ipairs(tokens) do
    for layout, laid in pairs(forms.layouts) do
      for _, activation in ipairs { false, layout == 'plain' and 'relu' or 'leaky_relu' } do
        it(('over rows of (%s), %s, %s'):format(table.concat(shape, ', '), layout, activation or 'no activation'), function()
          local random = Random.new(7)
          local x, D = laid(forms.bits(random, shape, -3, 3)), shape[#shape]
          local w, b = vector(random, { D }), vector(random, { D })
          local rows = { unpack(shape) }
          rows[#rows] = 1
          for _, mask in ipairs { false, mask_of(random, rows), mask_of(random, rows, true) } do
            local function with(extra)
              extra.mask, extra.activation = mask or nil, activation or nil
              return extra
            end
            forms.compare({ 'layer_norm' }, nil, function(t, weight, bias)
              return F.layer_norm(t, D, with { weight = weight, bias = bias })
            end, { x, w, b }, upstream(random))
            forms.compare({ 'rms_norm' }, nil, function(t, weight) return F.rms_norm(t, D, with { weight = weight }) end, { x, w },
              upstream(random))
            forms.compare({ 'rms_norm' }, nil, function(t) return F.rms_norm(t, D, with {}) end, { x }, upstream(random))
          end
        end)
      end
    end
  end

  it('beside parameters of bfloat16 take the wide form', function()
    local random = Random.new(3)
    local x, w = forms.bits(random, { 2, 4, 3 }, -1, 1), forms.bits(random, { 4 }, -1, 1):requires_grad_()
    local y = F.batch_norm(x, nil, nil, { weight = w, training = true })
    y:backward(forms.bits(random, { 2, 4, 3 }, -1, 1))
    assert.equal('bfloat16', y.dtype)
    assert.equal('bfloat16', w.grad.dtype)
    local expected = F.batch_norm(x:float(), nil, nil, { weight = w:float(), training = true })
    assert.same_bits(expected:detach():bfloat16(), y:detach())
  end)
end)
