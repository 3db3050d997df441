local check_op = require 'support.check_op'
local Random = require 'support.random'
local ffi = require 'ffi'
local native = require 'masked_torch.native'
local torch = require 'masked_torch'
check_op(require 'op.elementwise_cases')

local NAN = 0 / 0

local function int(values, dtype) return torch.tensor(values, { dtype = dtype or 'int64' }) end

describe('type promotion', function()
  local order = { 'uint8', 'int32', 'int64', 'float32', 'float64' }

  it('takes the higher dtype of two tensors', function()
    for i, a in ipairs(order) do
      for j, b in ipairs(order) do
        local y = torch.ones(2, { dtype = a }) + torch.ones(2, { dtype = b })
        assert.equal(order[math.max(i, j)], y.dtype)
        assert.same({ 2, 2 }, y:totable())
      end
    end
  end)

  it('lets numbers follow the tensor', function()
    for _, dtype in ipairs(order) do
      assert.equal(dtype, (torch.ones(2, { dtype = dtype }) * 3).dtype)
      assert.equal(dtype, (3 - torch.ones(2, { dtype = dtype })).dtype)
      local fraction = dtype:find('float') and dtype or 'float32'
      assert.equal(fraction, (torch.ones(2, { dtype = dtype }) + 0.5).dtype)
      assert.equal(fraction, (torch.ones(2, { dtype = dtype }) / 2).dtype)
      assert.equal(fraction, torch.ones(2, { dtype = dtype }):exp().dtype)
    end
  end)

  it('counts bool in int64', function()
    local flags = torch.tensor({ true, false, true })
    assert.same({ 2, 0, 2 }, (flags + flags):totable())
    assert.same({ 0, 1, 0 }, (1 - flags):totable())
    assert.equal('int64', (flags * 2).dtype)
    assert.equal('float32', (flags * torch.ones(3)).dtype)
    assert.equal('bool', flags:maximum(flags).dtype)
  end)

  it('converts gradients back', function()
    local x = torch.ones(2, { requires_grad = true })
    local y = x * torch.full({ 2 }, 3, { dtype = 'float64' })
    assert.equal('float64', y.dtype)
    y:backward(torch.ones_like(y))
    assert.equal('float32', x.grad.dtype)
    assert.same({ 3, 3 }, x.grad:totable())
  end)
end)

describe('arithmetic of whole numbers', function()
  it('is exact and wraps around', function()
    assert.same({ 7, -1 }, (int { 5, 2 } + int { 2, -3 }):totable())
    assert.same({ 44 }, (int({ 200 }, 'uint8') + int({ 100 }, 'uint8')):totable())
    assert.same({ -2 ^ 31 }, (int({ 2 ^ 31 - 1 }, 'int32') + 1):totable())
    assert.same({ -2 ^ 31 }, int({ -2 ^ 31 }, 'int32'):abs():totable())
    assert.same({ 1, 0, -1 }, int({ 7, 0, -3 }):sign():totable())
    local big = int { 2 ^ 62 }
    assert.same({ 0 }, (big * 4):totable())
    assert.same({ 9, 4 }, (int { -3, 2 } ^ 2):totable())
  end)

  it('powers', function()
    assert.same({ 1024, -27, 1, 1 }, (int { 2, -3, 5, -1 } ^ int { 10, 3, 0, 100 }):totable())
    assert.same({ 0, 1, -1 }, (int { 2, 1, -1 } ^ int { -1, -5, -3 }):totable())
    assert.same({ 0.5, -0.25 }, (int { 2, -4 } ^ -1):totable())
    assert.same({ 8 }, (2 ^ int { 3 }):totable())
  end)

  it('remainders: % has the sign of the divisor, fmod that of the dividend', function()
    local a, b = int { 7, -7, 7, -7 }, int { 3, 3, -3, -3 }
    assert.same({ 1, 2, -2, -1 }, (a % b):totable())
    assert.same({ 1, -1, 1, -1 }, a:fmod(b):totable())
    assert.same({ 1, 2, -2, -1 }, (a:float() % b:float()):totable())
    assert.same({ 1, -1, 1, -1 }, a:float():fmod(b:float()):totable())
    assert.same({ 0 }, (int({ -2 ^ 31 }, 'int32') % -1):totable())
    assert.fails(function() return a % int { 1, 0, 1, 1 } end, 'remainder', 'by zero')
    assert.fails(function() return a:fmod(0) end, 'fmod', 'by zero')
  end)

  it('rounds nothing', function()
    local x = int { -3, 4 }
    for _, name in ipairs { 'floor', 'ceil', 'round', 'trunc' } do assert.same_bits(x, x[name](x)) end
  end)
end)

describe('comparison and logic', function()
  it('compares', function()
    local a, b = torch.tensor({ 1, 2, 3, NAN }), torch.tensor({ 2, 2, 2, NAN })
    local expected = { eq = { false, true, false, false }, ne = { true, false, true, true }, lt = { true, false, false, false },
      le = { true, true, false, false }, gt = { false, false, true, false }, ge = { false, true, true, false } }
    for name, values in pairs(expected) do
      local y = a[name](a, b)
      assert.equal('bool', y.dtype)
      assert.same(values, y:totable())
    end
    assert.same({ { true, false }, { false, true } }, int({ { 1 }, { 2 } }):eq(int { 1, 2 }):totable())
    assert.same({ true, false }, int({ 1, 2 }):lt(1.5):totable())
    assert.same({ false, true }, torch.tensor({ true, false }):eq(false):totable())
  end)

  it('logic', function()
    local a, b = torch.tensor({ 0, 0, 2, NAN }), torch.tensor({ false, true, false, true })
    assert.same({ false, false, false, true }, a:logical_and(b):totable())
    assert.same({ false, true, true, true }, a:logical_or(b):totable())
    assert.same({ false, true, true, false }, a:logical_xor(b):totable())
    assert.same({ true, true, false, false }, a:logical_not():totable())
  end)

  it('tells NaN and infinities', function()
    local x = torch.tensor({ 1, NAN, math.huge, -math.huge })
    assert.same({ false, true, false, false }, x:isnan():totable())
    assert.same({ false, false, true, true }, x:isinf():totable())
    assert.same({ true, false, false, false }, x:isfinite():totable())
    for _, dtype in ipairs { 'int64', 'bool' } do
      local whole = torch.ones(2, { dtype = dtype })
      assert.same({ false, false }, whole:isnan():totable())
      assert.same({ false, false }, whole:isinf():totable())
      assert.same({ true, true }, whole:isfinite():totable())
    end
  end)

  it('chooses', function()
    local flags = torch.tensor({ true, false })
    assert.same({ 1, 6 }, torch.where(flags, 1, torch.tensor({ 5, 6 })):totable())
    assert.same({ 1, 0 }, torch.where(flags, 1, 0):totable())
    assert.equal('int64', torch.where(flags, int { 1, 2 }, 0).dtype)
    assert.equal('bool', torch.where(flags, true, false).dtype)
    assert.same({ 1, 0 }, torch.where(torch.tensor({ 1, 0 }), 1, torch.tensor({ NAN, 0 })):totable())
    local x = torch.tensor({ 1, NAN }, { requires_grad = true })
    local y = torch.where(flags, x, 0)
    y:backward(torch.tensor({ 2, 3 }))
    assert.same({ 2, 0 }, x.grad:totable())
  end)
end)

describe('NaN and limits', function()
  it('spreads NaN', function()
    local x, one = torch.tensor({ NAN }), torch.tensor({ 1 })
    for _, y in ipairs { x:minimum(one), one:minimum(x), x:maximum(one), one:maximum(x), x:clamp(0, 1), x:sign(), x:abs(),
      x:neg(), x + 1, x:sigmoid(), x % 2, x ^ 2 } do
      assert.is_true(y:isnan():item())
    end
  end)

  it('saturates where it should', function()
    local far = torch.tensor({ -1000, 1000 })
    assert.same({ 0, 1 }, far:sigmoid():totable())
    assert.same({ -1, 1 }, far:tanh():totable())
    assert.same({ 0, math.huge }, far:exp():totable())
    assert.same({ -1, math.huge }, far:expm1():totable())
    assert.same({ 2, 4, -2, 0 }, torch.tensor({ 2.5, 3.5, -2.5, 0.5 }):round():totable())
  end)

  it('clamps', function()
    local x = torch.tensor({ -2, 0, 3 })
    assert.same({ -1, 0, 1 }, x:clamp(-1, 1):totable())
    assert.same({ 1, 1, 1 }, x:clamp(2, 1):totable())
    assert.same({ 0, 0, 3 }, x:clamp(0):totable())
    assert.same({ 0, 0, 2 }, x:clamp(torch.tensor({ 0, 0, 0 }), torch.tensor({ 2 })):totable())
    assert.same({ 0, 200 }, int({ 0, 200 }, 'uint8'):clamp(-5, 300):totable())
    assert.same({ 5, 100 }, int({ 0, 200 }, 'uint8'):clamp(5, 100):totable())
    assert.equal('int64', int({ 1 }):clamp(0, 5).dtype)
    assert.same({ 0.5 }, int({ 0 }):clamp(0.5, 5):totable())
  end)

  it('lerps', function()
    assert.same({ 1.5, 3 }, torch.tensor({ 1, 2 }):lerp(torch.tensor({ 3, 6 }), 0.25):totable())
    assert.same({ 2.5, 5 }, torch.tensor({ 1, 2 }):lerp(torch.tensor({ 3, 6 }), 0.75):totable())
    local a, b = torch.tensor({ 1e8, -3 }), torch.tensor({ 0.1, 1e-9 })
    assert.is_true(torch.equal(b, a:lerp(b, 1)))
    assert.is_true(torch.equal(a, a:lerp(b, 0)))
  end)

  it('float32 functions stay within 4 ulp of float64', function()
    local domain = { log = { 1e-3, 50 }, log1p = { -0.9, 50 }, log2 = { 1e-3, 50 }, sqrt = { 0, 50 }, rsqrt = { 1e-3, 50 },
      reciprocal = { 1e-3, 50 } }
    for _, name in ipairs { 'exp', 'expm1', 'log', 'log1p', 'log2', 'sqrt', 'rsqrt', 'reciprocal', 'sin', 'cos', 'tan', 'atan',
      'tanh', 'sigmoid', 'square' } do
      local range = domain[name] or { -30, 30 }
      local x = torch.linspace(range[1], range[2], 9973)
      local got, exact = x[name](x):totable(), x:double()[name](x:double()):totable()
      for i = 1, #got do
        local _, exponent = math.frexp(math.max(math.abs(exact[i]), 2 ^ -126))
        local ulps = math.abs(got[i] - exact[i]) / 2 ^ (exponent - 24)
        assert(ulps <= 4, ('%s(%.9g): %g ulp'):format(name, x:get(i), ulps))
      end
    end
  end)
end)

describe('in place', function()
  it('writes to its tensor', function()
    local x = torch.tensor({ 1, 2, 3 })
    assert.equal(x, x:add_(1):mul_(torch.tensor({ 2 })):sub_(1):div_(2):neg_():abs_():pow_(2))
    assert.same({ 2.25, 6.25, 12.25 }, x:totable())
    assert.same({ 2.25, 5, 5 }, x:clamp_(nil, 5):totable())
    assert.same({ 4, 6 }, int({ 2, 3 }):mul_(2):totable())
    assert.same({ 1, 2 }, int({ 1, 2 }):floor_():totable())
  end)

  it('bumps the version, so that stale saved values are found', function()
    local x = torch.ones(2, { requires_grad = true })
    local y = x * 2
    local z = y * y
    y:add_(1)
    assert.fails(function() z:backward(torch.ones(2)) end, 'mul', 'changed in place')
  end)

  it('refuses what it cannot do', function()
    local x = torch.ones(2)
    assert.fails(function() x:add_(torch.ones(2, 2)) end, 'add', '(2)', '(2, 2)')
    assert.fails(function() int({ 1 }):add_(0.5) end, 'add_', 'float32', 'int64')
    assert.fails(function() int({ 1 }):exp_() end, 'exp', 'int64')
    assert.fails(function() torch.ones(2, { requires_grad = true }):exp_() end, 'exp_', 'leaf')
    local expanded = torch.Tensor.as_view('test', torch.ones(1), { 3 }, { 0 }, 0)
    assert.fails(function() expanded:add_(1) end, 'add', 'share memory')
    local whole = torch.ones(6)
    local a = torch.Tensor.as_view('test', whole, { 4 }, { 1 }, 0)
    local b = torch.Tensor.as_view('test', whole, { 4 }, { 1 }, 2)
    assert.fails(function() a:add_(b) end, 'add', 'shares memory')
    assert.fails(function() x:clamp_() end, 'clamp_')
    assert.fails(function() int({ 1 }):clamp_(nil, -0.5) end, 'clamp_', 'float32', 'int64', ':clamp')
    assert.fails(function() int({ 2 }):pow_(-1) end, 'pow_', 'float32', 'int64', ':pow')
    assert.fails(function() int({ 2 }):div_(0.5, { rounding_mode = 'floor' }) end, 'div_', 'float32', 'int64', ':div')
  end)
end)

describe('the gradient of broadcasting', function()
  local function summed(g, shape)
    local out = torch.empty(shape, { dtype = g.dtype })
    native.check(native.cpu.mt_elementwise_sum_to(out._c, g._c))
    return out
  end

  local function random(shape, dtype)
    local values = Random.new(3):normal(shape).values
    local x = torch.empty(shape, { dtype = dtype })
    local buffer = ffi.new('double[?]', #values)
    for i, v in ipairs(values) do buffer[i - 1] = v end
    native.check(native.cpu.mt_tensor_write(x._c, buffer))
    return x
  end

  it('sums over every pattern of dims', function()
    local g = random({ 3, 4, 2, 5 }, 'float64')
    local values = g:totable()
    for pattern = 0, 15 do
      local shape, sums = {}, {}
      for d = 1, 4 do shape[d] = math.floor(pattern / 2 ^ (d - 1)) % 2 == 1 and g:size(d) or 1 end
      for i = 1, 3 do
        for j = 1, 4 do
          for k = 1, 2 do
            for l = 1, 5 do
              local at = (((math.min(i, shape[1]) - 1) * shape[2] + math.min(j, shape[2]) - 1) * shape[3] +
                math.min(k, shape[3]) - 1) * shape[4] + math.min(l, shape[4])
              sums[at] = (sums[at] or 0) + values[i][j][k][l]
            end
          end
        end
      end
      local out = summed(g, shape)
      local flat = torch.Tensor.as_view('test', out, { out:numel() }, { 1 }, 0)
      assert.near_tensor(sums, flat, 1e-13)
    end
    assert.near_tensor(summed(g, { 1, 1, 2, 5 }):totable()[1][1], summed(g, { 2, 5 }), 0)
  end)

  it('does not change a bit when zeros are appended to rows, rows or samples', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      local g = random({ 2, 20, 7, 9 }, dtype)
      local padded = torch.zeros({ 3, 20, 12, 16 }, { dtype = dtype })
      local corner = torch.Tensor.as_view('test', padded, { 2, 20, 7, 9 }, padded:stride(), 0)
      native.check(native.cpu.mt_tensor_copy(corner._c, g._c))
      for _, shape in ipairs { { 1, 20, 1, 1 }, { 1, 1, 1, 1 }, {} } do
        assert.same_bits(summed(g, shape), summed(padded, shape))
      end
      local row = random({ 1, 5, 6, 1 }, dtype)   -- a width of 1 is a row too
      local wide = torch.zeros({ 1, 5, 6, 4 }, { dtype = dtype })
      local first = torch.Tensor.as_view('test', wide, { 1, 5, 6, 1 }, wide:stride(), 0)
      native.check(native.cpu.mt_tensor_copy(first._c, row._c))
      assert.same_bits(summed(row, { 5, 1, 1 }), summed(wide, { 5, 1, 1 }))
    end
  end)

  it('sums nothing to 0', function()
    assert.same({ { 0, 0, 0 } }, summed(torch.zeros(0, 3), { 1, 3 }):totable())
    assert.same({ 0, 3 }, summed(torch.zeros(2, 0, 3), { 0, 3 }):size())
  end)
end)

describe('elementwise', function()
  it('takes empty tensors and single numbers', function()
    assert.same({ 0, 3 }, (torch.zeros(0, 3) + torch.zeros(3)):size())
    assert.same({ 0 }, torch.zeros(0):exp():size())
    assert.equal(3, (torch.tensor(1) + 2):item())
    assert.equal(3, (torch.tensor(1) + torch.tensor({ 2 })):item())
    local x = torch.zeros({ 0, 3 }, { requires_grad = true })
    local y = x * torch.ones(3)
    y:backward(torch.zeros(0, 3))
    assert.same({ 0, 3 }, x.grad:size())
  end)

  it('keeps the memory format', function()
    local strides = torch.Tensor.channels_last({ 2, 3, 4, 5 })
    local x = torch.Tensor.empty('test', { 2, 3, 4, 5 }, 'float32', 'cpu', strides)
    x:fill_(2)
    for _, y in ipairs { x:exp(), x + x, x * 2, 1 - x, x * torch.ones(3, 1, 1), x:gt(0), x:clamp(0, 1), x:long() } do
      assert.same(strides, y:stride())
    end
  end)

  it('takes masks as operands', function()
    local mask = torch.mask.lengths({ 2, 1 }, 3)
    local x = torch.ones(2, 1, 3)
    assert.same({ { { 1, 1, 0 } }, { { 1, 0, 0 } } }, (x * mask):totable())
  end)

  it('takes the options of add, sub, div and clamp', function()
    local x = torch.tensor({ 7, -7, 1 })
    assert.near_tensor({ 21, -21, 3 }, x:add(x, { alpha = 2 }))
    assert.near_tensor({ 4, -10, -2 }, x:sub(1, { alpha = 3 }))
    assert.near_tensor({ 0, 0, 0 }, x:clone():add_(x, { alpha = -1 }))
    assert.near_tensor({ 3, -4, 0 }, x:div(2, { rounding_mode = 'floor' }))
    assert.near_tensor({ 3, -3, 0 }, x:clone():div_(2, { rounding_mode = 'trunc' }))
    assert.near_tensor({ 9 }, torch.tensor({ 1 }, { dtype = 'float64' }):div(0.1, { rounding_mode = 'floor' }))
    assert.near_tensor({ math.huge }, torch.ones(1):div(0, { rounding_mode = 'floor' }))
    local huge = torch.tensor({ math.huge, -math.huge, 5 })
    assert.near_tensor({ math.huge, -math.huge, 2 }, huge:div(2, { rounding_mode = 'trunc' }))
    assert.is_false(torch.ones(1, { requires_grad = true }):div(2, { rounding_mode = 'trunc' }).requires_grad)
    local whole = torch.div(int { 7, -7 }, 2, { rounding_mode = 'floor' })
    assert.equal('int64', whole.dtype)
    assert.same({ 3, -4 }, whole:totable())
    assert.near_tensor({ 7, 0, 1 }, x:clamp { min = 0 })
    assert.near_tensor({ 2, -1, 1 }, x:clone():clamp_ { max = 2, min = -1 })
  end)

  it('refuses arguments that it does not have', function()
    local x = torch.ones(2, 3)
    assert.fails(function() x:add(x, 2) end, 'add: options', 'number')
    assert.fails(function() x:sub_(x, { beta = 2 }) end, 'sub_', "'beta'", 'alpha')
    assert.fails(function() x:div(2, { rounding_mode = 'up' }) end, 'div: rounding_mode', "'up'")
    assert.fails(function() x:clamp({ low = 1 }) end, 'clamp', "'low'")
    assert.fails(function() x:clamp({ min = 1 }, 2) end, 'clamp', 'too many')
    assert.fails(function() x:mul(2, 3) end, 'mul', 'too many', '3')
    assert.fails(function() x:exp({ out = x }) end, 'exp', 'too many')
    assert.fails(function() x:eq(x, 1e-3) end, 'eq', 'too many')
    assert.fails(function() x:pow(2, x) end, 'pow', 'too many', 'a tensor')
    assert.fails(function() torch.nn.functional.relu(x, { inplace = true }) end, 'relu', "'inplace'", 'mask')
    assert.fails(function() torch.nn.functional.relu(x, x) end, 'relu', 'too many', 'a tensor')
    assert.fails(function() x:leaky_relu(0.1, 2) end, 'leaky_relu', 'too many', '2')
    assert.fails(function() x:leaky_relu({ negative_slope = 0.1 }, {}) end, 'leaky_relu', 'too many')
    assert.fails(function() x:softplus(1, 2, 3) end, 'softplus', 'too many', '3')
    assert.fails(function() x:tanh(x) end, 'tanh', 'too many')
  end)

  it('refuses misuse', function()
    local x = torch.ones(2, 3)
    assert.fails(function() return x + torch.ones(2) end, 'add', '(2, 3)', '(2)', 'do not broadcast')
    assert.fails(function() return x + 'a' end, 'add: second operand', 'string')
    assert.fails(function() return nil + x end, 'add: first operand', 'nil')
    assert.fails(function() return x + {} end, 'add: second operand', 'table')
    assert.fails(function() torch.exp(5) end, 'exp: input', 'number')
    assert.fails(function() torch.add(1, 2) end, 'add', 'at least one tensor')
    assert.fails(function() torch.where(x, x) end, 'where', 'nil')
    assert.fails(function() x:clamp() end, 'clamp')
    assert.fails(function() x:clamp(0 / 0) end, 'clamp', 'NaN')
    assert.fails(function() x:clamp('a') end, 'clamp: min')
    assert.fails(function() torch.allclose(x, x, { tol = 1 }) end, 'allclose', 'tol')
    local released = torch.ones(2)
    released:release()
    assert.fails(function() return released + 1 end, 'add', 'released')
    assert.fails(function() return torch.ones(2) == 3 or released:exp() end, 'exp', 'released')
  end)
end)

describe('short rows', function()
  -- Rows of a few elements with operands that repeat are joined to long ones: any sizes, on both sides of the buffer's length.
  it('give what element-by-element arithmetic gives', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, channels in ipairs { 2, 3, 5, 16, 17, 64, 65 } do
        for _, length in ipairs { 7, 341, 1024, 1500 } do
          local x = torch.randn(2, channels, length, { dtype = dtype }):channels_last()
          local bias = torch.randn(1, channels, 1, { dtype = dtype })
          local gate = torch.randn(2, 1, length, { dtype = dtype })
          local plain = x:contiguous()
          assert.same_bits(plain + bias:expand(2, channels, length):contiguous(), x + bias)
          assert.same_bits(plain * gate:expand(2, channels, length):contiguous(), x * gate)
          assert.same_bits(gate:expand(2, channels, length):contiguous() - plain, gate - x)
          local y = torch.where(gate:gt(0), x, bias)
          assert.same_bits(torch.where(gate:gt(0):expand(2, channels, length):contiguous(), plain,
            bias:expand(2, channels, length):contiguous()), y)
        end
      end
    end
  end)

  it('do not depend on threads', function()
    local threads = torch.get_num_threads()
    finally(function() torch.set_num_threads(threads) end)
    local x, bias = torch.randn(4, 3, 150, 150):channels_last(), torch.randn(1, 3, 1, 1)
    torch.set_num_threads(1)
    local one = x * bias
    torch.set_num_threads(3)
    assert.same_bits(one, x * bias)
  end)
end)
