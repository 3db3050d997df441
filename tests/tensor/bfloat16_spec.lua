-- bfloat16: a type for storage. Conversions, printing, files; what does not compute with it says so.
local torch = require 'masked_torch'
local scratch = require 'support.scratch'

-- The nearest number of 8 significant bits, ties to even, by arithmetic alone.
local nearest
function nearest(x)
  if x ~= x or x == 0 or math.abs(x) == math.huge then return x end
  local _, exponent = math.frexp(x)
  local unit = 2 ^ (math.max(exponent, -125) - 8)
  if x < 0 then return -nearest(-x) end
  local steps = x / unit
  local low = math.floor(steps)
  local rest = steps - low
  if rest > 0.5 or (rest == 0.5 and low % 2 == 1) then low = low + 1 end
  local y = low * unit
  return y >= 2 ^ 128 and math.huge or y
end

local function same(expected, got)
  if expected ~= expected then return got ~= got end
  return expected == got and (expected ~= 0 or 1 / expected == 1 / got)
end

local values = { 0, -0.0, 1, -1, 1 + 2 ^ -8, 1 + 3 * 2 ^ -8, 1 + 2 ^ -8 + 2 ^ -20, -1 - 2 ^ -8 - 2 ^ -20, 1 + 2 ^ -7, 3.14159, -1e-3, 65504,
  1e30, 2 ^ -126, 2 ^ -130, 2 ^ -133, 2 ^ -134, 3 * 2 ^ -135, -(2 ^ -135),
  (2 - 2 ^ -7) * 2 ^ 127, (2 - 2 ^ -8) * 2 ^ 127, 1 / 0, -1 / 0, 0 / 0 }
for i = 1, 500 do values[#values + 1] = math.sin(i) * 2 ^ (i % 60 - 30) end

describe('bfloat16', function()
  for _, from in ipairs { 'float32', 'float64' } do
    it('is the nearest value, ties to even: from ' .. from, function()
      local x = torch.tensor(values, { dtype = from })
      local y, exact = x:to('bfloat16'), x:totable()
      assert.equal('bfloat16', y.dtype)
      assert.equal(2, y:element_size())
      local got, back = y:totable(), y:float():totable()
      local spread = torch.empty(#values, 2, { dtype = 'bfloat16' })
      spread:select(2, 1):copy_(x)
      local apart = spread:select(2, 1):totable()
      for i, v in ipairs(exact) do
        assert.is_true(same(nearest(v), got[i]), ('%.17g -> %.17g, expected %.17g'):format(v, got[i], nearest(v)))
        assert.is_true(same(got[i], back[i]))
        assert.is_true(same(got[i], apart[i]))
      end
    end)
  end

  it('rounds doubles once', function()
    -- A float32 on the way would be halfway between two bfloat16, and go to the even one.
    local x = torch.tensor({ 1 + 2 ^ -8 + 2 ^ -40, 1 + 3 * 2 ^ -8 - 2 ^ -40, -1 - 2 ^ -8 - 2 ^ -40 }, { dtype = 'float64' })
    assert.same({ 1 + 2 ^ -7, 1 + 2 ^ -7, -1 - 2 ^ -7 }, x:bfloat16():totable())
    assert.same({ 1 + 2 ^ -7 }, torch.tensor({ 1 + 2 ^ -8 + 2 ^ -40 }, { dtype = 'bfloat16' }):totable())
    assert.equal(1 + 2 ^ -7, torch.full({ 1 }, 1 + 2 ^ -8 + 2 ^ -40, { dtype = 'bfloat16' }):item())
  end)

  it('converts to and from whole numbers and truth', function()
    local x = torch.tensor({ -2.75, 0, 1e10, 0 / 0, 258 }, { dtype = 'bfloat16' })
    assert.same({ -2, 0, 2147483647, 0, 258 }, x:int():totable())
    assert.same({ -2, 0, nearest(1e10), 0, 258 }, x:long():totable())
    assert.same({ true, false, true, true, true }, x:to('bool'):totable())
    for _, dtype in ipairs { 'int64', 'int32' } do
      assert.same({ 3, -256, 256, 260, 16777216 }, torch.tensor({ 3, -256, 257, 259, 16777217 }, { dtype = dtype }):bfloat16():totable())
    end
    assert.same({ 1, 0 }, torch.tensor({ true, false }):bfloat16():totable())
    assert.same({ 7 }, torch.tensor({ 7 }, { dtype = 'uint8' }):bfloat16():totable())
  end)

  it('moves between layouts', function()
    local x = torch.range(1, 2 * 70 * 33):view(2, 70, 33):bfloat16()
    local turned = x:transpose(2, 3):contiguous()
    assert.same_bits(x:float():transpose(2, 3):contiguous(), turned:float())
    assert.same_bits(x, turned:transpose(2, 3):clone())
    x[{ 2, 70, 33 }] = 0.3
    assert.equal(nearest(0.3), x[{ 2, 70, 33 }])
    local part = x:narrow(2, 3, 4):narrow(3, 2, 5)
    torch.no_grad(function() part:copy_(torch.full({ 2, 4, 5 }, -1)) end)
    assert.equal(-40, part:float():sum():item())
    assert.equal(-1, x[{ 1, 3, 2 }])
    assert.is_false(torch.Tensor.same_bits(x, turned:transpose(2, 3):clone()))
    assert.same({ 0, 4 }, torch.zeros(0, 4, { dtype = 'bfloat16' }):float():size())
  end)

  it('is printed', function()
    assert.equal('tensor([ 1.0000, -0.3008], dtype=bfloat16)', tostring(torch.tensor({ 1, -0.3 }, { dtype = 'bfloat16' })))
  end)

  it('carries gradients through conversions, each in the type of its tensor', function()
    local x = torch.tensor({ 1, 2, 3 }, { requires_grad = true })
    local y = x:bfloat16()
    assert.is_true(y.requires_grad)
    local z = y:float()
    z:backward(torch.tensor({ 1, 1 + 2 ^ -8 + 2 ^ -20, 5 }))
    assert.equal('float32', x.grad.dtype)
    assert.same({ 1, 1 + 2 ^ -7, 5 }, x.grad:totable())   -- rounded where it passed y
  end)

  it('is saved and loaded as it is', function()
    local path = scratch.path()
    local x = torch.randn(3, 5):bfloat16()
    torch.io.safetensors.save(path, { x = x, y = torch.ones(2) })
    local got = torch.io.safetensors.load(path)
    assert.equal('bfloat16', got.x.dtype)
    assert.same_bits(x, got.x)
    assert.truthy(scratch.content(path):find('"dtype":"BF16"', 1, true))
    torch.save(path, { x, { deep = x:transpose(1, 2) } })
    assert.same_bits(x, torch.load(path)[1])
    assert.same_bits(x:transpose(1, 2):clone(), torch.load(path)[2].deep)
    local linear = torch.nn.Linear(5, 3)
    linear:load_state_dict({ weight = x, bias = torch.ones(3) })
    assert.equal('float32', linear.weight.dtype)
    assert.same_bits(x:float(), linear.weight:detach())
    assert.fails(function() torch.io.npy.save(path, x) end, 'npy.save: tensor: the format has no bfloat16; use :float()')
  end)

  it('is refused by name where kernels cannot read it', function()
    local x = torch.ones(2, 3, { dtype = 'bfloat16' })
    local kernel = torch.Tensor.empty('test', { 2, 3 }, 'bfloat16')
    local status = x.K.mt_softmax_forward(kernel._c, x._c, nil, 1, 0)
    assert.not_equal(0, status)
    assert.equal('softmax: input: expected float32 or float64, got (2, 3) bfloat16; use :float()',
      require('ffi').string(x.K.mt_last_error()))
    assert.fails(function() torch.nn.Linear(2, 3, { dtype = 'bfloat16' }) end, 'float32')
    assert.fails(function() torch.nn.Linear(2, 3):to('bfloat16') end, "to: dtype: a module has 'float32' or 'float64' parameters")
    assert.fails(function() torch.randn(2, { dtype = 'bfloat16' }) end, 'float32 or float64', 'bfloat16; use :float()')
    assert.fails(function() torch.optim.SGD({ torch.ones(2, { dtype = 'bfloat16', requires_grad = true }) }, { lr = 1 }) end,
      'expected float32 or float64')
  end)
end)
