-- The op table of elementwise: every function against its definition in plain Lua, with broadcasting.
local cases = {}

local function map(f)
  local function walk(x)
    if type(x) ~= 'table' then return f(x) end
    local y = {}
    for i, v in ipairs(x) do y[i] = walk(v) end
    return y
  end
  return walk
end

local function unary(name, low, high, f, extra)
  local case = { op = name,
    inputs = function(random) return { random:uniform({ 3, 1, 5, 2 }, low, high) } end,
    fn = function(x) return x[name](x) end, reference = map(f) }
  for key, value in pairs(extra or {}) do case[key] = value end
  cases[#cases + 1] = case
end

local function away(random) return { random:away({ 3, 4, 5 }, 0.05) } end

unary('neg', -3, 3, function(x) return -x end)
unary('abs', -3, 3, math.abs, { inputs = away })
unary('square', -3, 3, function(x) return x * x end)
unary('sign', -3, 3, function(x) return x > 0 and 1 or -1 end, { inputs = away })
unary('reciprocal', 0.5, 3, function(x) return 1 / x end)
unary('sqrt', 0.2, 3, math.sqrt)
unary('rsqrt', 0.2, 3, function(x) return 1 / math.sqrt(x) end)
unary('exp', -3, 3, math.exp)
unary('expm1', -3, 3, function(x) return math.exp(x) - 1 end)
unary('log', 0.2, 3, math.log)
unary('log1p', -0.5, 3, function(x) return math.log(1 + x) end)
unary('log2', 0.2, 3, function(x) return math.log(x) / math.log(2) end)
unary('sin', -3, 3, math.sin)
unary('cos', -3, 3, math.cos)
unary('tan', -1.2, 1.2, math.tan)
unary('atan', -3, 3, math.atan)
unary('tanh', -3, 3, math.tanh)
unary('sigmoid', -4, 4, function(x) return 1 / (1 + math.exp(-x)) end)

local function between(random)   -- at least 0.1 from a whole number or a half
  local x = random:uniform({ 4, 5 }, 0, 1)
  for i, v in ipairs(x.values) do x.values[i] = i % 7 - 3 + 0.1 + 0.3 * v end
  return { x }
end
unary('floor', 0, 0, math.floor, { inputs = between })
unary('ceil', 0, 0, math.ceil, { inputs = between })
unary('round', 0, 0, function(x) return math.floor(x + 0.5) end, { inputs = between })
unary('trunc', 0, 0, function(x) return x < 0 and math.ceil(x) or math.floor(x) end, { inputs = between })

-- Broadcast of (2, 3, 4) with (3, 1), and both ways of (3, 1) with (4).
local function binary(name, f, low, high, extra)
  local shapes = { { { 2, 3, 4 }, { 3, 1 } }, { { 3, 1 }, { 4 } }, { { 1, 5 }, { 2, 1, 5 } } }
  local function value(x, i, j, k)   -- broadcast access, right-aligned
    local depth, y = 0, x
    while type(y) == 'table' do depth, y = depth + 1, y[1] end
    local at = { i, j, k }
    y = x
    for d = 4 - depth, 3 do y = y[#y == 1 and 1 or at[d]] end
    return y
  end
  for number, shape in ipairs(shapes) do
    local case = { op = name, name = 'broadcast ' .. number,
      inputs = function(random)
        return { random:uniform(shape[1], low or -2, high or 2), random:uniform(shape[2], low or -2, high or 2) }
      end,
      fn = function(a, b) return a[name](a, b) end,
      reference = function(a, b)
        local sizes = ({ { 2, 3, 4 }, { 1, 3, 4 }, { 2, 1, 5 } })[number]
        local y = {}
        for i = 1, sizes[1] do
          for j = 1, sizes[2] do
            for k = 1, sizes[3] do y[#y + 1] = f(value(a, i, j, k), value(b, i, j, k)) end
          end
        end
        return y
      end }
    for key, v in pairs(extra or {}) do case[key] = v end
    cases[#cases + 1] = case
  end
end

binary('add', function(a, b) return a + b end)
binary('sub', function(a, b) return a - b end)
binary('mul', function(a, b) return a * b end)
binary('div', function(a, b) return a / b end, 0.5, 2)
binary('pow', function(a, b) return a ^ b end, 0.5, 2)
binary('atan2', math.atan2, 0.5, 2)
-- Random numbers are nowhere within 10 steps of the finite difference of a tie or a jump with this seed.
binary('minimum', math.min, nil, nil, { eps = 1e-5, tolerance = { gradient = 1e-7 } })
binary('maximum', math.max, nil, nil, { eps = 1e-5, tolerance = { gradient = 1e-7 } })
binary('fmod', math.fmod, 0.5, 3, { eps = 1e-5, tolerance = { gradient = 1e-7 } })
binary('remainder', function(a, b) return a % b end, 0.5, 3, { eps = 1e-5, tolerance = { gradient = 1e-7 } })

cases[#cases + 1] = { op = 'where', name = 'broadcast',
  inputs = function(random)
    return { random:binary({ 2, 1, 4 }, 0.5, { dtype = 'bool' }), random:normal({ 3, 4 }), random:normal({ 2, 1, 1 }) }
  end,
  fn = function(c, a, b) return require('masked_torch').where(c, a, b) end,
  reference = function(c, a, b)
    local y = {}
    for i = 1, 2 do
      for j = 1, 3 do
        for k = 1, 4 do y[#y + 1] = c[i][1][k] and a[j][k] or b[i][1][1] end
      end
    end
    return y
  end }
cases[#cases + 1] = { op = 'clamp',
  inputs = function(random) return { random:distinct({ 3, 4, 5 }, 0.05) } end,
  fn = function(x) return x:clamp(-0.512, 0.713) end,
  reference = map(function(x) return math.min(math.max(x, -0.512), 0.713) end) }
cases[#cases + 1] = { op = 'clamp', name = 'one bound',
  inputs = function(random) return { random:distinct({ 3, 4, 5 }, 0.05) } end,
  fn = function(x) return x:clamp(nil, 0.213) end,
  reference = map(function(x) return math.min(x, 0.213) end) }
cases[#cases + 1] = { op = 'mul', name = 'numbers and operators',
  inputs = function(random) return { random:uniform({ 2, 3 }, 0.5, 2), random:uniform({ 3 }, 0.5, 2) } end,
  fn = function(a, b) return 2 / a + (3 - b) * 0.5 - a ^ 2 + 1.5 ^ b - -a end,
  reference = function(a, b)
    local y = {}
    for i = 1, 2 do
      for j = 1, 3 do
        local u, v = a[i][j], b[j]
        y[#y + 1] = 2 / u + (3 - v) * 0.5 - u ^ 2 + 1.5 ^ v + u
      end
    end
    return y
  end }
for name, f in pairs{ tanh = math.tanh, sigmoid = function(x) return 1 / (1 + math.exp(-x)) end } do
  cases[#cases + 1] = { op = name, name = 'under a mask', inputs = function(random)
    return { random:normal{ 2, 3, 6 }, random:binary{ 2, 1, 6 } }
  end, fn = function(x, m) return x[name](x, { mask = m }) end, reference = function(x, m)
    for n, sample in ipairs(x) do
      for c, row in ipairs(sample) do
        for i, v in ipairs(row) do x[n][c][i] = m[n][1][i] ~= 0 and f(v) or 0 end
      end
    end
    return x
  end }
end
cases[#cases + 1] = { op = { 'mul', 'log', 'sigmoid' }, name = 'in place within a graph',
  inputs = function(random) return { random:uniform({ 2, 3 }, 0.5, 2), random:uniform({ 3 }, 0.5, 2) } end,
  fn = function(a, b) return (a * 1):mul_(b):add_(a):log_():sigmoid_():clamp_(0.1, 0.9) end,
  reference = function(a, b)
    local y = {}
    for i = 1, 2 do
      for j = 1, 3 do y[#y + 1] = 1 / (1 + math.exp(-math.log(a[i][j] * b[j] + a[i][j]))) end
    end
    return y
  end }

return cases
