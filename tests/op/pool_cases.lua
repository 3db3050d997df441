-- The op table of pool. The references are written on images seen with three spatial axes, straight from the formulas.
local torch = require 'masked_torch'
local nested = require 'support.nested'
local F = torch.nn.functional

-- Nested (N, C, *S) as (N, C, D, H, W), missing leading axes of size 1.
local function deep(x)
  local s = nested.size(x)
  while #s < 5 do table.insert(s, 3, 1) end
  return nested.reshape(x, s), s
end

-- The mask's value, broadcast over batch and channels; 1 without a mask.
local function weight(m, n, c, z, y, x)
  if not m then return 1 end
  local image = m[n] or m[1]
  return (image[c] or image[1])[z][y][x]
end

local function axis_windows(S, o, d)
  if d > 3 - o.dims then
    local i = d - (3 - o.dims)
    local function of(name, default) local v = o[name] or default return type(v) == 'table' and v[i] or v end
    if o.size then
      local O, list = of 'size', {}
      for p = 0, O - 1 do
        local window = {}
        for q = math.floor(p * S / O), math.ceil((p + 1) * S / O) - 1 do window[#window + 1] = q end
        window.extent, window.centre = #window, math.min(S - 1, window[1] + math.floor(#window / 2))
        list[#list + 1] = window
      end
      return list
    end
    local k, pad, dil = of 'kernel', of('padding', 0), of('dilation', 1)
    local stride = of('stride', k)
    local list, first = {}, -pad
    while true do
      local before = first - stride + dil * (k - 1)     -- where the previous window ends
      if not o.ceil_mode and first + dil * (k - 1) > S + pad - 1 then break end
      if o.ceil_mode and #list > 0 and (before >= S + pad - 1 or first >= S) then break end
      local window = {}
      for t = 0, k - 1 do
        local q = first + t * dil
        if q >= 0 and q < S then window[#window + 1] = q end
      end
      window.extent = math.min(first + k, S + pad) - first
      window.centre = math.max(0, math.min(S - 1, first + math.floor(k / 2) * dil))
      list[#list + 1] = window
      first = first + stride
    end
    return list
  end
  return { { 0, extent = 1, centre = 0 } }
end

-- visit(elements, n, c, info) -> value, for every output; elements = list of {value, weight, position}.
local function windows(x, m, o, visit)
  local rank = #nested.size(x)
  local image, s = deep(x)
  m = m and deep(m)
  local axes = {}
  for d = 1, 3 do axes[d] = axis_windows(s[2 + d], o, d) end
  local shape = { s[1], s[2], #axes[1], #axes[2], #axes[3] }
  local result = nested.make(shape, function(n, c, a, b, d)
    local wz, wy, wx = axes[1][a], axes[2][b], axes[3][d]
    local list = {}
    for _, z in ipairs(wz) do
      for _, y in ipairs(wy) do
        for _, w in ipairs(wx) do
          list[#list + 1] = { image[n][c][z + 1][y + 1][w + 1], weight(m, n, c, z + 1, y + 1, w + 1),
            (z * s[4] + y) * s[5] + w + 1 }
        end
      end
    end
    local keep = o.rule ~= 'keep' or weight(m, n, c, wz.centre + 1, wy.centre + 1, wx.centre + 1) ~= 0
    return keep and visit(list, wz.extent * wy.extent * wx.extent) or 0
  end)
  while #shape > rank do table.remove(shape, 3) end
  return nested.reshape(result, shape)
end

local function max_reference(o)
  return function(x, m)
    local function best(list, field)
      local value, position = nil, 0
      for _, e in ipairs(list) do
        if e[2] ~= 0 and (value == nil or e[1] > value) then value, position = e[1], e[3] end
      end
      return field == 1 and (value or 0) or position
    end
    return windows(x, m, o, function(list) return best(list, 1) end), windows(x, m, o, function(list) return best(list, 2) end)
  end
end

local function avg_reference(o)
  return function(x, m)
    return windows(x, m, o, function(list, extent)
      local sum, total = 0, 0
      for _, e in ipairs(list) do sum, total = sum + (e[2] == 0 and 0 or e[1] * e[2]), total + e[2] end
      if total == 0 then return 0 end
      return sum / (o.window and extent or total)
    end)
  end
end

local cases = {}

-- o describes the reference; opts are the options of the call.
local function add(kind, name, shape, o, opts, mask)
  o.dims = #shape - 2
  local fn = F[('%s%s_pool%dd'):format(o.size and 'adaptive_' or '', kind, o.dims)]
  cases[#cases + 1] = { op = kind .. '_pool', name = name,
    inputs = function(random)
      return { kind == 'max' and random:distinct(shape) or random:normal(shape), mask and mask(random) }
    end,
    fn = function(x, m)
      local given = { mask = m, mask_rule = o.rule }
      for k, v in pairs(opts or {}) do given[k] = v end
      if kind == 'max' then given.return_indices = true end
      local y, _, indices = fn(x, o.size or o.kernel, given)
      return y, indices
    end,
    reference = (kind == 'max' and max_reference or avg_reference)(o) }
end

local function binary(shape) return function(random) return random:binary(shape, 0.5) end end
local function soft(shape)
  return function(random)
    local m = random:uniform(shape, 0, 1)
    for i = 1, #m.values, 3 do m.values[i] = 0 end
    m.fixed = true
    return m
  end
end

for _, kind in ipairs { 'max', 'avg' } do
  add(kind, '1-D by 2', { 2, 3, 7 }, { kernel = 2 })
  add(kind, '1-D, batch 1, ceil mode', { 1, 5, 8 }, { kernel = 3, stride = 2, ceil_mode = true },
    { stride = 2, ceil_mode = true })
  add(kind, '2-D, overlapping, padded', { 2, 3, 7, 6 }, { kernel = 3, stride = 2, padding = 1, window = true },
    { stride = 2, padding = 1 })
  add(kind, '2-D, padded, ceil mode', { 1, 2, 6, 5 },
    { kernel = { 3, 2 }, stride = 2, padding = 1, ceil_mode = true, window = true },
    { stride = 2, padding = 1, ceil_mode = true })
  add(kind, '3-D, other window per axis', { 2, 2, 4, 5, 6 }, { kernel = { 2, 3, 2 }, stride = { 2, 1, 3 } },
    { stride = { 2, 1, 3 } })
  add(kind, 'adaptive 1-D', { 2, 3, 7 }, { size = 3 })
  add(kind, 'adaptive 2-D, enlarging', { 1, 2, 3, 5 }, { size = { 4, 2 } })
  add(kind, 'adaptive 3-D to one', { 2, 3, 2, 3, 4 }, { size = 1 })
  add(kind, 'holes of one channel', { 2, 3, 6, 6 }, { kernel = 2 }, nil, binary { 2, 1, 6, 6 })
  add(kind, 'holes of every channel, soft', { 2, 5, 7 }, { kernel = 3, stride = 1 }, { stride = 1 }, soft { 2, 5, 7 })
  add(kind, 'a mask shared by the batch, keep', { 3, 2, 5, 6 },
    { kernel = 3, stride = 2, padding = 1, rule = 'keep', window = true },
    { stride = 2, padding = 1 }, binary { 1, 2, 5, 6 })
  add(kind, 'adaptive with a mask', { 2, 3, 5, 6 }, { size = { 2, 3 } }, nil, binary { 2, 1, 5, 6 })
end
add('max', 'dilated', { 2, 2, 9, 8 }, { kernel = 3, stride = 1, padding = 2, dilation = 2 },
  { stride = 1, padding = 2, dilation = 2 })
add('avg', 'padding does not count', { 2, 3, 5, 6 }, { kernel = 3, stride = 2, padding = 1 },
  { stride = 2, padding = 1, count_include_pad = false })
add('avg', 'masked elements count as zeros', { 2, 3, 6 }, { kernel = 2, window = true }, { count = 'window' }, binary { 2, 3, 6 })
add('avg', '33 channels', { 1, 33, 2, 4 }, { kernel = 2 })

local function mean_reference(compat)
  return function(x, m)
    local image, s = deep(x)
    m = m and deep(m)
    return nested.make({ s[1], s[2] }, function(n, c)
      local sum, total = 0, 0
      for z = 1, s[3] do
        for y = 1, s[4] do
          for w = 1, s[5] do
            local v = weight(m, n, c, z, y, w)
            sum, total = sum + (v == 0 and not compat and 0 or image[n][c][z][y][w]), total + v
          end
        end
      end
      if compat then return sum / (total + 1e-8) end
      return total == 0 and 0 or sum / total
    end)
  end
end

local function mean(name, shape, mask, compat)
  cases[#cases + 1] = { op = 'masked_mean', name = name,
    inputs = function(random) return { random:normal(shape), mask and mask(random) } end,
    fn = function(x, m) return (F.masked_mean(x, m, { compat = compat or false })) end,
    reference = mean_reference(compat) }
end
mean('1-D without a mask', { 2, 3, 7 })
mean('3-D, soft mask of one channel', { 2, 3, 2, 3, 4 }, soft { 2, 1, 2, 3, 4 })
mean('2-D, mask of every channel', { 1, 5, 4, 3 }, binary { 1, 5, 4, 3 })
mean('as masked_torch', { 2, 3, 5 }, soft { 2, 3, 5 }, true)

return cases
