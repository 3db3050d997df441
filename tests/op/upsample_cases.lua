-- The op table of upsample. The reference renormalises axis by axis, written as a recursion over the axes.
local torch = require 'masked_torch'
local nested = require 'support.nested'
local F = torch.nn.functional

-- Position p of output o (from 0): first neighbour, second, weight of the second, nearest.
local function position(o, S, O, scale, mode)
  if mode == 'nearest' then
    local at = math.min(S - 1, math.floor(o * scale))
    return at, at, 0, at
  end
  local p = mode == 'aligned' and (O > 1 and o * (S - 1) / (O - 1) or 0) or math.max(0, (o + 0.5) * scale - 0.5)
  p = math.min(p, S - 1)
  local first = math.floor(p)
  return first, math.min(S - 1, first + 1), p - first, math.min(S - 1, math.floor(p + 0.5))
end

-- Value and validity of the output at positions list[d]: the mean along the first axis of the means along the others.
local function mean(x, m, list, d)
  if d > #list then return x, m end
  local first, second, w = unpack(list[d])
  local a, ta = mean(x[first + 1], type(m) == 'table' and m[first + 1] or m, list, d + 1)
  if w == 0 then return a, ta end
  local b, tb = mean(x[second + 1], type(m) == 'table' and m[second + 1] or m, list, d + 1)
  local t = (1 - w) * ta + w * tb
  if ta == 0 and tb == 0 then return 0, 0 end
  if ta == 0 then return b, t end
  if tb == 0 then return a, t end
  return ((1 - w) * ta * a + w * tb * b) / t, t
end

local function reference(o)
  return function(x, m)
    local s = nested.size(x)
    local shape = { s[1], s[2] }
    for d = 3, #s do
      local size, factor = o.size, o.factor
      shape[d] = size and (type(size) == 'table' and size[d - 2] or size) or
        math.floor(s[d] * (type(factor) == 'table' and factor[d - 2] or factor))
    end
    return nested.make(shape, function(n, c, ...)
      local out, list = { ... }, {}
      local at = m and (m[n] or m[1])
      at = at and (at[c] or at[1]) or 1
      local nearest = at
      for d = 1, #out do
        local factor = o.factor and (type(o.factor) == 'table' and o.factor[d] or o.factor)
        local first, second, w, near = position(out[d] - 1, s[2 + d], shape[2 + d],
          factor and 1 / factor or s[2 + d] / shape[2 + d], o.mode)
        list[d] = { first, second, w }
        nearest = type(nearest) == 'table' and nearest[near + 1] or nearest
      end
      if o.rule == 'keep' and nearest == 0 then return 0 end
      local value, valid = mean(x[n][c], at, list, 1)
      return valid == 0 and 0 or value
    end)
  end
end

local cases = {}
local function add(name, shape, o, mask)
  cases[#cases + 1] = { op = 'upsample', name = name,
    inputs = function(random) return { random:normal(shape), mask and mask(random) } end,
    fn = function(x, m)
      return (F.interpolate(x, { size = o.size, scale_factor = o.factor, mode = o.mode == 'nearest' and 'nearest' or 'linear',
        align_corners = o.mode == 'aligned', mask = m, mask_rule = o.rule }))
    end,
    reference = reference(o) }
end

local function binary(...)
  local shape = { ... }
  return function(random) return random:binary(shape, 0.6) end
end
local function soft(...)
  local shape = { ... }
  return function(random)
    local m = random:uniform(shape, 0.1, 1)
    for i = 2, #m.values, 4 do m.values[i] = 0 end
    m.fixed = true
    return m
  end
end

for _, mode in ipairs { 'nearest', 'linear', 'aligned' } do
  add(mode .. ', 1-D by 2', { 2, 3, 5 }, { mode = mode, factor = 2 })
  add(mode .. ', 2-D to a size, larger and smaller', { 1, 5, 4, 7 }, { mode = mode, size = { 7, 3 } })
  add(mode .. ', 3-D, other factor per axis', { 2, 2, 2, 3, 4 }, { mode = mode, factor = { 2, 1.5, 0.5 } })
  add(mode .. ', to one', { 2, 3, 4 }, { mode = mode, size = 1 })
  add(mode .. ', holes of one channel', { 2, 3, 4, 5 }, { mode = mode, factor = 2 }, binary(2, 1, 4, 5))
  add(mode .. ', soft holes of every channel', { 2, 5, 6 }, { mode = mode, size = 11 }, soft(2, 5, 6))
  add(mode .. ', 3-D, a mask shared by the batch, keep', { 2, 2, 3, 2, 3 }, { mode = mode, factor = 2, rule = 'keep' },
    soft(1, 1, 3, 2, 3))
end

return cases
