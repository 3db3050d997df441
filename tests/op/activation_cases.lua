-- The op table of activation: definitions in plain Lua.
local function map(f)
  local function walk(x)
    if type(x) ~= 'table' then return f(x) end
    local y = {}
    for i, v in ipairs(x) do y[i] = walk(v) end
    return y
  end
  return walk
end

-- The normal distribution function: erf by a series whose terms have one sign.
local function phi(x)
  local t = x / math.sqrt(2)
  local term, sum, n = t, t, 0
  while math.abs(term) > 1e-18 * math.abs(sum) do
    n = n + 1
    term = term * 2 * t * t / (2 * n + 1)
    sum = sum + term
  end
  return 0.5 + sum * math.exp(-t * t) / math.sqrt(math.pi)
end

local function case(op, name, fn, f, shape)
  return { op = op, name = name, inputs = function(random) return { random:away(shape or { 3, 4, 5 }) } end, fn = fn,
    reference = map(f) }
end

-- Under a mask the definition goes on with 0. m: nested tables of x's shape or with sizes 1.
local function under(f)
  local function walk(x, m)
    if type(x) ~= 'table' then return m ~= 0 and m ~= false and f(x) or 0 end
    local y = {}
    for i, v in ipairs(x) do y[i] = walk(v, type(m) == 'table' and (m[i] == nil and m[1] or m[i]) or m) end
    return y
  end
  return walk
end

local function masked(op, name, fn, f, shape, mask_shape, density)
  return { op = op, name = name, inputs = function(random)
    return { random:away(shape), random:binary(mask_shape, density or 0.5) }
  end, fn = fn, reference = under(f) }
end

return {
  masked('relu', 'under a mask of one channel', function(x, m) return x:relu{ mask = m } end, function(x) return math.max(x, 0) end,
    { 2, 3, 5, 9 }, { 2, 1, 5, 9 }),
  masked('gelu', 'under a mask of its own for every element', function(x, m) return x:gelu{ mask = m } end,
    function(x) return x * phi(x) end, { 2, 3, 5, 4 }, { 2, 3, 5, 4 }),
  masked('leaky_relu', 'under a mask of one sample', function(x, m) return x:leaky_relu(0.3, { mask = m }) end,
    function(x) return x > 0 and x or 0.3 * x end, { 3, 2, 40 }, { 1, 1, 40 }),
  masked('elu', 'nothing is valid', function(x, m) return x:elu(1.7, { mask = m }) end,
    function(x) return x > 0 and x or 1.7 * (math.exp(x) - 1) end, { 2, 3, 4 }, { 2, 1, 4 }, 0),
  masked('softplus', 'under a mask of whole rows', function(x, m) return x:softplus(1, 20, { mask = m }) end,
    function(x) return math.log(1 + math.exp(x)) end, { 3, 2, 7 }, { 3, 2, 1 }),
  case('relu', 'away from the kink', function(x) return x:relu() end, function(x) return math.max(x, 0) end),
  case('relu', 'in place within a graph', function(x) return (x * 1):relu_() end, function(x) return math.max(x, 0) end),
  case('leaky_relu', 'default', function(x) return x:leaky_relu() end, function(x) return x > 0 and x or 0.01 * x end),
  case('leaky_relu', 'slope 0.3, in place', function(x) return (x * 1):leaky_relu_(0.3) end,
    function(x) return x > 0 and x or 0.3 * x end, { 1, 7 }),
  case('elu', 'default', function(x) return x:elu() end, function(x) return x > 0 and x or math.exp(x) - 1 end),
  case('elu', 'alpha 1.7', function(x) return x:elu(1.7) end, function(x) return x > 0 and x or 1.7 * (math.exp(x) - 1) end),
  case('elu', 'alpha 0.4, in place', function(x) return (x * 1):elu_{ alpha = 0.4 } end,
    function(x) return x > 0 and x or 0.4 * (math.exp(x) - 1) end, { 1, 7 }),
  case('silu', nil, function(x) return x:silu() end, function(x) return x / (1 + math.exp(-x)) end),
  case('silu', 'in place', function(x) return (x * 1):silu_() end, function(x) return x / (1 + math.exp(-x)) end, { 2, 1, 3, 2 }),
  case('softplus', 'default', function(x) return x:softplus() end, function(x) return math.log(1 + math.exp(x)) end),
  case('softplus', 'beta 2, threshold 1', function(x) return x:softplus(2, 1) end,
    function(x) return 2 * x > 1 and x or math.log(1 + math.exp(2 * x)) / 2 end),
  case('gelu', 'exact', function(x) return x:gelu() end, function(x) return x * phi(x) end),
  case('gelu', 'tanh', function(x) return x:gelu('tanh') end,
    function(x)
      local u = math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)
      return x / 2 * (1 + (math.exp(2 * u) - 1) / (math.exp(2 * u) + 1))
    end),
}
