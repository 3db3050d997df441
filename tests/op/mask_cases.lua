-- The op table of mask.
local function walk(x, m, f)
  if type(x) ~= 'table' then return f(x, m) end
  local y = {}
  for i, v in ipairs(x) do
    -- sizes 1 of the mask's batch and channels repeat
    y[i] = walk(v, #m == 1 and m[1] or m[i], f)
  end
  return y
end

local shapes = {
  { 'the same shape', { 2, 3, 5 }, { 2, 3, 5 } },
  { 'one channel', { 2, 3, 4, 5 }, { 2, 1, 4, 5 } },
  { 'one mask for the batch', { 3, 2, 3, 2, 5 }, { 1, 2, 3, 2, 5 } },
}

local cases = {}
for _, s in ipairs(shapes) do
  local name, x_shape, m_shape = s[1], s[2], s[3]
  local function binary(random) return { random:normal(x_shape), random:binary(m_shape, 0.6) } end
  local function soft(random)
    local m = random:uniform(m_shape, 0.1, 1, { fixed = true })
    for i = 1, #m.values, 3 do m.values[i] = 0 end
    return { random:normal(x_shape), m }
  end
  cases[#cases + 1] = { op = 'apply_mask', name = name .. ', binary', inputs = binary,
    fn = function(x, m) return x:apply_mask(m) end,
    reference = function(x, m) return walk(x, m, function(a, b) return a * b end) end }
  cases[#cases + 1] = { op = 'apply_mask', name = name .. ', soft', inputs = soft,
    fn = function(x, m) return x:apply_mask(m) end,
    reference = function(x, m) return walk(x, m, function(a, b) return a * b end) end }
  cases[#cases + 1] = { op = 'select_valid', name = name .. ', soft', inputs = soft,
    fn = function(x, m) return x:select_valid(m) end,
    reference = function(x, m) return walk(x, m, function(a, b) return b == 0 and 0 or a end) end }
  cases[#cases + 1] = { op = 'unmask', name = name .. ', soft', inputs = soft,
    fn = function(x, m) return x:unmask(m, 0.125) end,
    reference = function(x, m) return walk(x, m, function(a, b) return a / (b + 0.125) end) end }
end
return cases
