--- Nested tables of numbers: what references in plain Lua are written with.
-- {2, 3} of {{1, 2, 3}, {4, 5, 6}}.
local function size(x)
  local shape = {}
  while type(x) == 'table' do
    shape[#shape + 1] = #x
    x = x[1]
  end
  return shape
end

-- make({2, 3}, function(i, j) ... end): nested tables of that shape.
local function make(shape, f, ...)
  local d = select('#', ...) + 1
  if d > #shape then return f(...) end
  local row, prefix = {}, { ... }
  for i = 1, shape[d] do
    prefix[d] = i
    row[i] = make(shape, f, unpack(prefix, 1, d))
  end
  return row
end

-- The numbers in row-major order.
local function flat(x, out)
  out = out or {}
  for _, v in ipairs(x) do
    if type(v) == 'table' then flat(v, out) else out[#out + 1] = v end
  end
  return out
end

local function reshape(x, shape)
  local values, n = flat(x), 0
  return make(shape, function()
    n = n + 1
    return values[n]
  end)
end

-- For an op table: one input of normal values of that shape.
local function normal(...)
  local shape = { ... }
  return function(random) return { random:normal(shape) } end
end

return { size = size, make = make, flat = flat, reshape = reshape, normal = normal }
