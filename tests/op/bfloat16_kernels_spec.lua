--- Kernels that take bfloat16 tensors give the bits of their wide form: float32's result, rounded. On the CPU, or on the device that
-- MASKED_TORCH_TEST_DEVICE names.
local torch = require 'masked_torch'
local Random = require 'support.random'
local forms = require 'support.bfloat16_forms'

local F = torch.nn.functional
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE'
local simulated = device ~= nil
-- Rows of more elements than are staged at once, short ones, none; one element.
local shapes = simulated and { { 37 }, { 2, 3, 5 }, { 0, 3 }, {} }
  or { { 1301 }, { 2, 3, 5, 7 }, { 40, 70, 3 }, { 3, 33 }, { 0, 3 }, { 2, 0, 3 }, {} }

local function upstream(random) return function(y)
  local dy = forms.bits(random, y:size(), -2, 2)
  return y.dtype == 'bfloat16' and dy or dy:to(y.dtype)
end end

local unary = { 'neg', 'abs', 'sign', 'square', 'reciprocal', 'sqrt', 'rsqrt', 'exp', 'expm1', 'log', 'log1p', 'log2', 'sin', 'cos', 'tan',
  'atan', 'tanh', 'sigmoid', 'floor', 'ceil', 'round', 'trunc' }
local activations = { relu = {}, leaky_relu = { 0.2 }, elu = { 0.7 }, softplus = { 2, 3 }, silu = {}, gelu = {} }
local binary = { 'add', 'sub', 'mul', 'div', 'pow', 'fmod', 'remainder', 'minimum', 'maximum', 'atan2' }

local function each_layout(name, fn)
  for layout, laid in pairs(forms.layouts) do
    it(('%s, %s'):format(name, layout), function()
      for number, shape in ipairs(shapes) do fn(Random.new(number), shape, laid) end
    end)
  end
end

describe('bfloat16 in kernels:', function()
  for _, name in ipairs(unary) do
    each_layout(name, function(random, shape, laid)
      local x = laid(forms.bits(random, shape))
      forms.compare({ name }, nil, function(t) return t[name](t) end, { x }, upstream(random))
      forms.compare({ name }, nil, function(t) return t[name .. '_'](t:detach():clone()) end, { x }, upstream(random))
    end)
  end

  for name, parameters in pairs(activations) do
    each_layout(name, function(random, shape, laid)
      local x = laid(forms.bits(random, shape))
      forms.compare({ name }, nil, function(t) return F[name](t, unpack(parameters)) end, { x }, upstream(random))
      if name ~= 'gelu' and name ~= 'softplus' then
        forms.compare({ name }, nil, function(t) return t[name .. '_'](t:detach():clone(), unpack(parameters)) end, { x }, upstream(random))
      end
    end)
  end

  for _, name in ipairs { 'relu', 'leaky_relu', 'elu', 'softplus', 'silu', 'gelu', 'sigmoid', 'tanh' } do
    each_layout(name .. ' under a mask', function(random, _, laid)
      for _, share in ipairs { 0, 0.1, 0.5, 0.95, 1 } do
        for _, sizes in ipairs { { { 2, 3, 5, 40 }, { 2, 1, 5, 40 } }, { { 1, 70, 9 }, { 1, 1, 9 } }, { { 3, 130 }, { 3, 130 } } } do
          local x = laid(forms.bits(random, sizes[1]))
          local mask = random:binary(sizes[2], share)
          mask = torch.tensor(mask.values):view(unpack(sizes[2])):to('bool')
          if device then mask = mask:to { device = device } end
          forms.compare({ name }, nil, function(t) return F[name](t, { mask = mask }) end, { x }, upstream(random))
        end
      end
    end)
  end

  -- Shapes that broadcast, numbers, float32 without dims.
  for _, name in ipairs(binary) do
    each_layout(name, function(random, shape, laid)
      local a, b = laid(forms.bits(random, shape)), forms.bits(random, shape)
      local function both(first, second)
        forms.compare({ name }, 'operands', function(s, t) return s[name](s, t) end, { first, second }, upstream(random))
      end
      both(a, b)
      both(b, a)
      both(a, 2.3)
      both(a, 0.1)
      both(a, laid(forms.bits(random, {})))
      both(a, torch.tensor(-1.7, { device = device }))
      forms.compare({ name }, 'operands', function(s, t) return s[name](t, s) end, { a, torch.tensor(0.3, { device = device }) },
        upstream(random))
      forms.compare({ name }, 'operands', function(s, t) return s[name .. '_'](s:detach():clone(), t:detach()) end, { a, b },
        upstream(random))
      forms.compare({ name }, 'operands', function(s) return s[name .. '_'](s:detach():clone(), 0.7) end, { a }, upstream(random))
      if #shape > 1 then
        local last, column = { shape[#shape] }, {}
        for d = 1, #shape do column[d] = d == 2 and shape[d] or 1 end
        both(a, forms.bits(random, last, -2, 2))
        both(forms.bits(random, last, -2, 2), a)
        both(a, forms.bits(random, column, -2, 2))
        both(forms.bits(random, column, -2, 2), a)
        both(a:narrow(1, 1, 1 - (shape[1] == 0 and 1 or 0)), b)
      end
    end)
  end

  for _, name in ipairs { 'eq', 'ne', 'lt', 'le', 'gt', 'ge' } do
    each_layout(name, function(random, shape, laid)
      local a, b = laid(forms.bits(random, shape)), forms.bits(random, shape)
      assert.same_bits(a:float()[name](a:float(), b:float()), a[name](a, b))
      assert.same_bits(a:float()[name](a:float(), 0.3), a[name](a, 0.3))
    end)
  end

  each_layout('clamp and where', function(random, shape, laid)
    local a, b = laid(forms.bits(random, shape)), forms.bits(random, shape)
    forms.compare({ 'clamp' }, nil, function(t) return t:clamp(-0.51, 3.3) end, { a }, upstream(random))
    forms.compare({ 'clamp' }, nil, function(t) return t:detach():clone():clamp_(-0.51, 3.3) end, { a }, upstream(random))
    local condition = b:gt(0)
    local function choose(first, second)
      forms.compare({ 'where' }, 'operands', function(s, t) return torch.where(condition, s, t) end, { first, second }, upstream(random))
    end
    choose(a, b)
    choose(a, 0.3)
    choose(torch.tensor(0.3, { device = device }), a)
    choose(forms.bits(random, {}), a)
    if #shape > 1 then choose(a, forms.bits(random, { shape[#shape] })) end
  end)

  for _, name in ipairs { 'dropout', 'dropout2d' } do
    for layout, laid in pairs(forms.layouts) do
      it(name .. ', ' .. layout, function()
        local random = Random.new(5)
        for _, shape in ipairs { { 3, 5, 4, 7 }, { 1, 1, 1, 1301 }, { 2, 0, 3, 1 } } do
          local x, values = laid(forms.bits(random, shape)), random:binary({ shape[1], 1, shape[3], shape[4] }, 0.6).values
          local mask = torch.tensor(values):view(shape[1], 1, shape[3], shape[4]):to('bool')
          mask = device and mask:to { device = device } or mask
          for _, m in ipairs { false, mask } do
            forms.compare({ 'dropout' }, nil, function(t)
              torch.manual_seed(11)
              return F[name](t, { p = 0.3, mask = m or nil })
            end, { x }, upstream(random))
          end
        end
      end)
    end
  end

  it('adds bfloat16 to float32', function()
    local random = Random.new(1)
    local a, b = forms.bits(random, { 3, 700 }, -2, 2), forms.bits(random, { 3, 700 }, -2, 2)
    local y = torch.empty(3, 700, { dtype = 'bfloat16', device = device })
    local native = require 'masked_torch.native'
    native.check(y.K.mt_elementwise_add(y._c, a._c, b:float()._c, 0.3))
    assert.same_bits((a:float() + b:float() * 0.3):bfloat16(), y)
  end)
end)
