-- The op table of reduce: each against a definition in plain Lua.

-- Flattens nested tables of a (2, 3, 4)-like shape into {index = {i, j, k}, value}.
local function elements(x)
  local list = {}
  local function walk(t, index)
    if type(t) ~= 'table' then
      list[#list + 1] = { index = index, value = t }
      return
    end
    for i, v in ipairs(t) do
      local at = { unpack(index) }
      at[#at + 1] = i
      walk(v, at)
    end
  end
  walk(x, {})
  return list
end

-- Reduces over the dims in `dims` (all when nil) with f(array of values) -> number; the result is flat in row-major order of
-- the kept dims, which is what the comparison flattens anyway.
local function over(dims, f)
  return function(x)
    local groups, order = {}, {}
    for _, e in ipairs(elements(x)) do
      local key = {}
      for d, i in ipairs(e.index) do
        local gone = dims == nil
        for _, r in ipairs(dims or {}) do gone = gone or r == d end
        if not gone then key[#key + 1] = i end
      end
      key = table.concat(key, ',')
      if not groups[key] then
        groups[key] = {}
        order[#order + 1] = key
      end
      table.insert(groups[key], e.value)
    end
    local result = {}
    for i, key in ipairs(order) do result[i] = f(groups[key]) end
    return result
  end
end

local function sum(v)
  local s = 0
  for _, a in ipairs(v) do s = s + a end
  return s
end
local function mean(v) return sum(v) / #v end
local function variance(correction)
  return function(v)
    local m, s = mean(v), 0
    for _, a in ipairs(v) do s = s + (a - m) ^ 2 end
    return s / (#v - correction)
  end
end
local function root(f) return function(v) return math.sqrt(f(v)) end end
local function product(v)
  local p = 1
  for _, a in ipairs(v) do p = p * a end
  return p
end
local function largest(v) return math.max(unpack(v)) end
local function smallest(v) return math.min(unpack(v)) end
local function norm(p)
  return function(v)
    local s = p == -math.huge and math.huge or 0
    for _, a in ipairs(v) do
      a = math.abs(a)
      if p == math.huge then s = math.max(s, a)
      elseif p == -math.huge then s = math.min(s, a)
      elseif p == 0 then s = s + (a ~= 0 and 1 or 0)
      else s = s + a ^ p end
    end
    if p == 0 or p == math.huge or p == -math.huge then return s end
    return s ^ (1 / p)
  end
end
local function logsumexp(v)
  local s = 0
  for _, a in ipairs(v) do s = s + math.exp(a) end
  return math.log(s)
end

local cases = {}
local function case(op, name, shape, dims, fn, f, extra)
  local c = { op = op, name = name, fn = fn, reference = over(dims, f),
    inputs = function(random) return { random:normal(shape) } end }
  for k, v in pairs(extra or {}) do c[k] = v end
  cases[#cases + 1] = c
end

local function distinct(shape) return { inputs = function(random) return { random:distinct(shape) } end } end
local function away(shape) return { inputs = function(random) return { random:away(shape, 0.3) } end } end

case('sum', 'everything', { 3, 4, 5 }, nil, function(x) return x:sum() end, sum)
case('sum', 'the last dim', { 3, 4, 5 }, { 3 }, function(x) return x:sum(-1) end, sum)
case('sum', 'the first dim, kept', { 3, 4, 5 }, { 1 }, function(x) return x:sum(1, { keepdim = true }) end, sum)
case('sum', 'two dims', { 3, 4, 5 }, { 1, 3 }, function(x) return x:sum({ 1, 3 }) end, sum)
case('sum', 'many outputs side by side', { 7, 37 }, { 1 }, function(x) return x:sum{ dim = 1 } end, sum)
case('sum', 'all but the channels', { 2, 19, 3, 5 }, { 1, 3, 4 }, function(x) return x:sum({ 1, 3, 4 }) end, sum)
case('sum', 'a tensor without dims', {}, nil, function(x) return x:sum() end, sum)
case('sum', 'rows longer than a piece', { 2, 4100, 3 }, { 2 }, function(x) return x:sum(2) end, sum, { grad = false })
case('sum', 'long lines in one sum', { 3, 4100 }, nil, function(x) return x:sum() end, sum, { grad = false })
case('sum', 'long lines in few sums', { 2, 17, 4100 }, { 2, 3 }, function(x) return x:sum({ 2, 3 }) end, sum,
  { grad = false })
case('sum', 'few outputs, many rows', { 2, 300, 257 }, { 2, 3 }, function(x) return x:sum({ 2, 3 }) end, sum, { grad = false })
case('mean', 'everything', { 3, 4, 5 }, nil, function(x) return x:mean() end, mean)
case('mean', 'one dim', { 2, 3, 4 }, { 2 }, function(x) return x:mean(2, true) end, mean)
case('var', 'everything', { 3, 4, 2 }, nil, function(x) return x:var() end, variance(1))
case('var', 'biased, one dim', { 3, 5, 2 }, { 2 }, function(x) return x:var(2, { unbiased = false }) end, variance(0))
case('var', 'correction 2', { 3, 5, 4 }, { 1, 3 }, function(x) return x:var({ 1, 3 }, { correction = 2, keepdim = true }) end,
  variance(2))
case('std', 'everything', { 3, 4, 2 }, nil, function(x) return x:std() end, root(variance(1)))
case('std', 'one dim', { 3, 5, 2 }, { 2 }, function(x) return x:std{ dim = 2, correction = 0 } end, root(variance(0)))
for _, p in ipairs { 2, 1, 3, 1.5, 0.5, -1, math.huge, -math.huge } do
  case('norm', 'p = ' .. p, { 3, 5, 2 }, { 2 }, function(x) return x:norm(p, 2) end, norm(p),
    math.abs(p) == math.huge and distinct({ 3, 5, 2 }) or away({ 3, 5, 2 }))
end
case('norm', 'everything', { 3, 5 }, nil, function(x) return x:norm() end, norm(2))
case('norm', 'p = 0', { 3, 5 }, { 1 }, function(x) return x:norm{ p = 0, dim = 1 } end, norm(0), { grad = false })
case('logsumexp', 'one dim', { 3, 5, 2 }, { 2 }, function(x) return x:logsumexp(2) end, logsumexp)
case('logsumexp', 'everything', { 3, 5 }, nil, function(x) return x:logsumexp() end, logsumexp)
case('prod', 'everything', { 2, 3, 2 }, nil, function(x) return x:prod() end, product)
case('prod', 'one dim', { 3, 5, 2 }, { 2 }, function(x) return x:prod(2, { keepdim = true }) end, product)
case('prod', 'with zeros', { 4, 3 }, { 2 }, function(x) return x:prod(2) end, product,
  { inputs = function() return { { shape = { 4, 3 }, values = { 1, 2, 3, 0, 2, -3, 0, 0, 2, 0.5, -1, 0 } } } end })
case('max', 'one dim', { 3, 5, 2 }, { 2 }, function(x) return (x:max(2)) end, largest, distinct({ 3, 5, 2 }))
case('max', 'the first dim, kept', { 3, 21 }, { 1 }, function(x) return (x:max(1, true)) end, largest, distinct({ 3, 21 }))
case('min', 'one dim', { 3, 5, 2 }, { 3 }, function(x) return (x:min(-1)) end, smallest, distinct({ 3, 5, 2 }))
case('amax', 'everything', { 3, 5 }, nil, function(x) return x:max() end, largest, distinct({ 3, 5 }))
case('amax', 'two dims', { 3, 5, 2 }, { 1, 3 }, function(x) return x:amax({ 1, 3 }) end, largest, distinct({ 3, 5, 2 }))
case('amin', 'two dims, kept', { 3, 5, 2 }, { 2, 3 }, function(x) return x:amin{ 2, 3, keepdim = true } end, smallest,
  distinct({ 3, 5, 2 }))
case('amin', 'everything', { 4 }, nil, function(x) return x:min() end, smallest, distinct({ 4 }))
case('amax', 'long, shared out', { 3, 70000 }, { 2 }, function(x) return x:amax(2) end,
  function(v) table.sort(v) return v[#v] end, { grad = false })

local function lines(step, start)
  return function(x)  -- along dim 2 of (A, B, C)
    local y = {}
    for a = 1, #x do
      y[a] = {}
      local state = {}
      for b = 1, #x[1] do
        y[a][b] = {}
        for c = 1, #x[1][1] do
          state[c] = step(state[c] or start, x[a][b][c])
          y[a][b][c] = state[c]
        end
      end
    end
    return y
  end
end
cases[#cases + 1] = { op = 'cumsum', name = 'the middle dim', inputs = function(random) return { random:normal({ 2, 5, 3 }) } end,
  fn = function(x) return x:cumsum(2) end, reference = lines(function(s, v) return s + v end, 0) }
cases[#cases + 1] = { op = 'cumprod', name = 'the middle dim',
  inputs = function(random) return { random:normal({ 2, 5, 3 }) } end,
  fn = function(x) return x:cumprod(2) end, reference = lines(function(s, v) return s * v end, 1) }
cases[#cases + 1] = { op = 'cumprod', name = 'with zeros',
  inputs = function() return { { shape = { 3, 4 }, values = { 1, 0, 3, 2, 0, 2, 0, 3, 2, -1, 3, 0 } } } end,
  fn = function(x) return x:cumprod(2) end }

return cases
