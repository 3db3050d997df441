local ffi = require 'ffi'
local dkjson = require 'dkjson'
local native = require 'masked_torch.native'
local torch = require 'masked_torch'

local here = debug.getinfo(1, 'S').source:match('^@(.*)op/random_spec%.lua$')

-- mean, variance, skewness, kurtosis of the elements
local function moments(x)
  local values = x:double():totable()
  local n, mean = #values, 0
  for i = 1, n do mean = mean + values[i] / n end
  local m2, m3, m4 = 0, 0, 0
  for i = 1, n do
    local d = values[i] - mean
    m2, m3, m4 = m2 + d * d / n, m3 + d ^ 3 / n, m4 + d ^ 4 / n
  end
  return mean, m2, m3 / m2 ^ 1.5, m4 / m2 ^ 2
end

local function near(expected, got, tolerance)
  assert(math.abs(expected - got) <= tolerance, ('%.6g, expected %.6g +- %.3g'):format(got, expected, tolerance))
end

-- Sum of (observed - expected)^2 / expected over cells 1..k of whole numbers.
local function chi_square(cells, k, n)
  local sum = 0
  for i = 1, k do sum = sum + ((cells[i] or 0) - n / k) ^ 2 / (n / k) end
  return sum
end

describe('Philox4x32-10', function()
  it('gives the known answers', function()
    local file = assert(io.open(here .. 'golden/philox.json'))
    local vectors = dkjson.decode(file:read('*a')).vectors
    file:close()
    assert.is_true(#vectors >= 8)
    local function words(hex, n)
      local w = ffi.new('uint32_t[4]')
      for i = 1, n do w[i - 1] = tonumber(hex[i], 16) end
      return w
    end
    for _, v in ipairs(vectors) do
      assert.equal(10, v.rounds)
      local out = ffi.new('uint32_t[4]')
      native.check(native.cpu.mt_random_philox(out, words(v.counter, 4), words(v.key, 2)))
      for i = 1, 4 do assert.equal(tonumber(v.result[i], 16), out[i - 1]) end
    end
  end)

  it('numbers elements so that any slice can be made anywhere', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, name in ipairs { 'mt_random_uniform', 'mt_random_normal' } do
        local whole = torch.empty(23, { dtype = dtype })
        native.check(native.cpu[name](whole._c, torch.Generator(5):next_call(), 0, 1))
        for _, first in ipairs { 0, 1, 2, 3, 4, 7, 20 } do
          local part = torch.empty(23 - first, { dtype = dtype })
          native.check(native.cpu[name](part._c, torch.Generator(5):next_call(first), 0, 1))
          for i = 1, 23 - first do assert.equal(whole:get(first + i), part:get(i)) end
        end
      end
    end
  end)

  it('does not depend on threads or memory format', function()
    local before = torch.get_num_threads()
    local results = {}
    for threads = 1, 4 do
      torch.set_num_threads(threads)
      torch.manual_seed(3)
      results[threads] = { torch.rand(33333), torch.randn(33333), torch.randint(-5, 5, 33333), torch.randperm(3333),
        torch.zeros(33333):bernoulli_(0.3) }
    end
    torch.set_num_threads(before)
    for threads = 2, 4 do
      for k = 1, #results[1] do assert.same_bits(results[1][k], results[threads][k]) end
    end
    local strides = torch.Tensor.channels_last({ 2, 3, 5 })
    local x = torch.Tensor.empty('test', { 2, 3, 5 }, 'float32', 'cpu', strides)
    torch.manual_seed(9)
    x:normal_()
    torch.manual_seed(9)
    assert.same_bits(torch.randn(2, 3, 5), x)
  end)

  -- The first version's numbers: any other code, vector code and CUDA among it, must repeat them to the bit.
  it('repeats known numbers', function()
    local known = {
      float32 = { -369.73491115579509, 99892.026862511193, 50076.669273436069, 0.51872432231903076, -0.21431206166744232,
        0.35384675860404968, 0.86968553066253662, 0.11793682724237442 },
      float64 = { -104.89063733519966, 99562.986438934822, 50097.22964380576, 0.22799871913719216, -0.27710273494489124,
        -0.055769155108154708, -1.0574462021825068, -1.1398884767051007 },
    }
    for dtype, answer in pairs(known) do
      torch.manual_seed(1337)
      local x = torch.randn(100003, { dtype = dtype })
      local wide = x:double()
      assert.equal(answer[1], wide:sum():item())
      assert.equal(answer[2], (wide * wide):sum():item())
      for k, i in ipairs { 1, 2, 3, 50000, 100003 } do assert.equal(answer[3 + k], x[i]) end
      torch.manual_seed(1337)
      assert.equal(answer[3], torch.rand(100003, { dtype = dtype }):double():sum():item())
    end
    torch.manual_seed(1337)
    assert.equal(50147311, torch.randint(1, 1000, 100003):sum():item())
    assert.equal(6753, torch.randperm(10007)[5000])
    assert.equal(29965, torch.zeros(100003):bernoulli_(0.3):sum():item())
  end)

  it('takes word i mod 4 of block i / 4', function()
    local out = ffi.new('uint32_t[4]')
    local x = torch.rand(8, { generator = torch.Generator(77) })
    for block = 0, 1 do
      native.cpu.mt_random_philox(out, ffi.new('uint32_t[4]', block, 0, 0, 0), ffi.new('uint32_t[2]', 77, 0))
      for i = 0, 3 do assert.equal(math.floor(out[i] / 256) * 2 ^ -24, x:get(4 * block + i + 1)) end
    end
  end)
end)

describe('generators', function()
  it('repeat what a seed began', function()
    torch.manual_seed(11)
    local a, b = torch.randn(5), torch.rand(5)
    torch.manual_seed(11)
    assert.same_bits(a, torch.randn(5))
    assert.same_bits(b, torch.rand(5))
    torch.manual_seed(12)
    assert.is_false(torch.equal(a, torch.randn(5)))
  end)

  it('save and restore their state as plain numbers', function()
    local g = torch.Generator(4, 2)
    torch.rand(3, { generator = g })
    local state = g:get_state()
    assert.same({ seed = 4, stream = 2, offset = 1 }, state)
    local a = torch.randn(6, { generator = g })
    assert.same_bits(a, torch.randn(6, { generator = torch.Generator():set_state(state) }))
    local saved = torch.get_rng_state()
    local b = torch.rand(3)
    torch.set_rng_state(saved)
    assert.same_bits(b, torch.rand(3))
  end)

  it('differ between seeds, streams and offsets', function()
    local seen = {}
    for seed = 0, 3 do
      for stream = 0, 3 do
        local g = torch.Generator(seed, stream)
        for _ = 1, 4 do
          local x = torch.rand(1, { dtype = 'float64', generator = g }):item()
          assert.is_nil(seen[x])
          seen[x] = true
        end
      end
    end
  end)
end)

describe('distributions', function()
  local n = 200000

  it('uniform', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      local x = torch.rand(n, { dtype = dtype, generator = torch.Generator(1) })
      local mean, variance, skewness, kurtosis = moments(x)
      near(0.5, mean, 4 * 0.2887 / math.sqrt(n))
      near(1 / 12, variance, 4 * 0.0745 / math.sqrt(n))
      near(0, skewness, 0.02)
      near(1.8, kurtosis, 0.02)
      local cells = {}
      for _, v in ipairs(x:totable()) do
        assert(v >= 0 and v < 1)
        local cell = 1 + math.floor(v * 100)
        cells[cell] = (cells[cell] or 0) + 1
      end
      near(99, chi_square(cells, 100, n), 57)   -- 4 standard deviations of sqrt(2 * 99)
    end
  end)

  it('uniform between bounds, never the upper one', function()
    local x = torch.empty(100000):uniform_(1, 1 + 2 ^ -22, { generator = torch.Generator(1) })
    for _, v in ipairs(x:totable()) do assert(v >= 1 and v < 1 + 2 ^ -22) end
    assert.same({ 3, 3 }, torch.empty(2):uniform_(3, 3):totable())
  end)

  it('normal', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      local x = torch.randn(n, { dtype = dtype, generator = torch.Generator(2) })
      local mean, variance, skewness, kurtosis = moments(x)
      near(0, mean, 4 / math.sqrt(n))
      near(1, variance, 4 * math.sqrt(2 / n))
      near(0, skewness, 4 * math.sqrt(6 / n))
      near(3, kurtosis, 4 * math.sqrt(24 / n))
      local tails, within, values = 0, 0, x:totable()
      for i, v in ipairs(values) do
        if math.abs(v) > 3 then tails = tails + 1 end
        if math.abs(v) < 1 then within = within + 1 end
        if i % 2 == 0 then assert(v ~= values[i - 1]) end
      end
      near(0.0027 * n, tails, 4 * math.sqrt(0.0027 * n))
      near(0.682689 * n, within, 4 * math.sqrt(0.217 * n))
    end
    local y = torch.empty(n):normal_(5, 0.5)
    local mean, variance = moments(y)
    near(5, mean, 4 * 0.5 / math.sqrt(n))
    near(0.25, variance, 4 * 0.25 * math.sqrt(2 / n))
  end)

  it('normal numbers are the Box-Muller transform of their words', function()
    local x = torch.randn(4000, { dtype = 'float64', generator = torch.Generator(8) }):totable()
    local out = ffi.new('uint32_t[4]')
    local worst = 0
    for block = 0, 1999 do
      native.cpu.mt_random_philox(out, ffi.new('uint32_t[4]', block, 0, 0, 0), ffi.new('uint32_t[2]', 8, 0))
      local function top53(low, high) return (high * 2 ^ 21 + math.floor(low / 2 ^ 11)) * 2 ^ -53 end
      local u, v = top53(out[0], out[1]) + 2 ^ -53, top53(out[2], out[3])
      local r = math.sqrt(-2 * math.log(u))
      local z = { r * math.cos(2 * math.pi * v), r * math.sin(2 * math.pi * v) }
      for i = 1, 2 do worst = math.max(worst, math.abs(x[2 * block + i] - z[i]) / (1 + math.abs(z[i]))) end
    end
    assert(worst <= 5e-15, worst)   -- libm's share included: 2 pi v is rounded there
  end)

  it('whole numbers, both ends included', function()
    local x = torch.randint(-3, 3, n)
    assert.equal('int64', x.dtype)
    local cells = {}
    for _, v in ipairs(x:totable()) do
      assert(v >= -3 and v <= 3 and v % 1 == 0)
      cells[v + 4] = (cells[v + 4] or 0) + 1
    end
    assert(chi_square(cells, 7, n) <= 6 + 4 * math.sqrt(12))
    assert.same({ 5, 5 }, torch.randint(5, 5, 2):totable())
    assert.equal('uint8', torch.randint(0, 255, { 2, 2 }, { dtype = 'uint8' }).dtype)
    local wide = moments(torch.randint(-2 ^ 52, 2 ^ 52, n))
    near(0, wide, 4 * 2 ^ 53 / math.sqrt(12 * n))
  end)

  it('whole numbers without the bias of a product', function()
    -- 3 * 2^62 numbers from 64 bits: without rejection every third would come twice as often.
    local x = torch.empty(30000, { dtype = 'int64' })
    local half = 3LL * 2LL ^ 61LL
    native.check(native.cpu.mt_random_integers(x._c, torch.Generator(6):next_call(), -half, half - 1))
    local values, cells = ffi.cast('int64_t *', x._c.data), {}
    for i = 0, 29999 do
      local cell = 1 + tonumber((values[i] % 3LL + 3LL) % 3LL)
      cells[cell] = (cells[cell] or 0) + 1
    end
    assert(chi_square(cells, 3, 30000) <= 2 + 4 * 2)
  end)

  it('coins', function()
    local mean = moments(torch.zeros(n):bernoulli_(0.3))
    near(0.3, mean, 4 * math.sqrt(0.21 / n))
    assert.same({ 1, 1, 1 }, torch.zeros(3):bernoulli_(1):totable())
    assert.same({ false, false }, torch.zeros(2, { dtype = 'bool' }):bernoulli_(0):totable())
    local p = torch.tensor({ 0, 1, 0, 1 })
    assert.same({ 0, 1, 0, 1 }, torch.bernoulli(p):totable())
  end)

  it('permutations', function()
    for _, size in ipairs { 0, 1, 2, 1000 } do
      local seen, x = {}, torch.randperm(size)
      assert.equal('int64', x.dtype)
      for _, v in ipairs(x:totable()) do
        assert(v >= 1 and v <= size and not seen[v])
        seen[v] = true
      end
      assert.equal(size, x:numel())
    end
    local cells, trials = {}, 12000
    for _ = 1, trials do
      local p = torch.randperm(3):totable()
      local code = ({ [123] = 1, [132] = 2, [213] = 3, [231] = 4, [312] = 5, [321] = 6 })[p[1] * 100 + p[2] * 10 + p[3]]
      cells[code] = (cells[code] or 0) + 1
    end
    assert(chi_square(cells, 6, trials) <= 5 + 4 * math.sqrt(10))
  end)
end)

describe('random in place', function()
  it('cuts the history', function()
    local x = torch.ones(3, { requires_grad = true })
    local y = (x * 2):uniform_()
    y:backward(torch.ones(3))
    assert.is_nil(x.grad)
  end)

  it('refuses misuse', function()
    assert.fails(function() torch.rand(2, { dtype = 'int64' }) end, 'uniform', 'float')
    assert.fails(function() torch.randint(3, 2, 4) end, 'randint', 'low <= high')
    assert.fails(function() torch.randint(1.5, 2, 4) end, 'randint', '1.5')
    assert.fails(function() torch.empty(2):normal_(0, -1) end, 'normal', '-1')
    assert.fails(function() torch.empty(2):bernoulli_(1.5) end, 'bernoulli', '1.5')
    assert.fails(function() torch.empty(2):uniform_(0, 0 / 0) end, 'uniform')
    assert.fails(function() torch.manual_seed(-1) end, 'manual_seed', '-1')
    assert.fails(function() torch.manual_seed('x') end, 'manual_seed')
    assert.fails(function() torch.rand(2, { generator = 5 }) end, 'rand', 'Generator')
    assert.fails(function() torch.rand(2, { generater = 5 }) end, 'generater', "'generator'")
    assert.fails(function() torch.Generator():set_state({ sed = 1 }) end, 'set_state', 'sed')
    assert.fails(function() torch.ones(2, { requires_grad = true }):normal_() end, 'normal_', 'leaf')
    assert.fails(function() torch.randperm(-1) end, 'randperm')
  end)
end)
