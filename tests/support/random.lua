--- Inputs for the op table: a small generator of its own, independent of the library's.
--
-- An input is described, not built: { shape =, values = flat array } becomes a tensor of the precision under test;
-- with dtype = it keeps that type and gets no gradient; fixed = true: no gradient. { value = v } is passed as it is.

local Random = {}
Random.__index = Random

function Random.new(seed)
  return setmetatable({ state = seed * 7919 % 2147483647 + 1 }, Random)
end

function Random:next()
  self.state = (self.state * 16807) % 2147483647
  return self.state / 2147483647
end

local function numel(shape)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return n
end

local function fill(shape, f, extra)
  local values = {}
  for i = 1, numel(shape) do values[i] = f(i) end
  local input = { shape = shape, values = values }
  for k, v in pairs(extra or {}) do input[k] = v end
  return input
end

function Random:uniform(shape, low, high, extra)
  low, high = low or 0, high or 1
  return fill(shape, function() return low + (high - low) * self:next() end, extra)
end

function Random:normal(shape, extra)
  return fill(shape, function()
    return math.sqrt(-2 * math.log(self:next())) * math.cos(2 * math.pi * self:next())
  end, extra)
end

--- Normal values at least `gap` away from 0 (kinks of relu, abs ...).
function Random:away(shape, gap, extra)
  local x = self:normal(shape, extra)
  for i, v in ipairs(x.values) do x.values[i] = v + (v < 0 and -1 or 1) * (gap or 0.05) end
  return x
end

--- Distinct values, at least `gap` apart, in random order (ties and order statistics).
function Random:distinct(shape, gap, extra)
  local n = numel(shape)
  local order = {}
  for i = 1, n do order[i] = i end
  for i = n, 2, -1 do
    local j = 1 + math.floor(self:next() * i)
    order[i], order[j] = order[j], order[i]
  end
  return fill(shape, function(i) return (order[i] - n / 2) * (gap or 0.05) end, extra)
end

--- Whole numbers low..high as int64.
function Random:integers(shape, low, high, extra)
  local x = fill(shape, function() return low + math.floor(self:next() * (high - low + 1)) end, extra)
  x.dtype = x.dtype or 'int64'
  return x
end

--- 0/1 values with the given share of ones; a mask has no gradient.
function Random:binary(shape, share, extra)
  local x = fill(shape, function() return self:next() < (share or 0.5) and 1 or 0 end, extra)
  x.fixed = true
  return x
end

return Random
