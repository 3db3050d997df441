-- The op table of norm. One reference for all: statistics per cell from the definition, z = x / m.
local torch = require 'masked_torch'
local nested = require 'support.nested'
local F = torch.nn.functional

local function at(t, index)
  local size = nested.size(t)
  for d, n in ipairs(size) do t = t[n == 1 and 1 or index[d]] end
  return t
end

-- o: cell(index) names the cell; weight(index), bias(index); eps; rms; mean and var: given statistics by cell.
local function reference(x, mask, o)
  local shape, cells = nested.size(x), {}
  local function walk(f) return nested.make(shape, function(...) return f({ ... }) end) end
  local function valid(i)
    local m = mask and at(mask, i) or 1
    local key = o.cell(i)
    cells[key] = cells[key] or { n = 0, sum = 0, square = 0 }
    return m, m ~= 0 and at(x, i) / m, cells[key]
  end
  walk(function(i)
    local m, z, c = valid(i)
    if m ~= 0 then c.n, c.sum = c.n + m, c.sum + m * z end
    return 0
  end)
  for _, c in pairs(cells) do c.mean = o.rms and 0 or c.sum / c.n end
  walk(function(i)
    local m, z, c = valid(i)
    if m ~= 0 then c.square = c.square + m * (z - c.mean) ^ 2 end
    return 0
  end)
  for key, c in pairs(cells) do
    c.var = c.square / c.n
    if o.mean then c.mean, c.var = o.mean[key], o.var[key] end
  end
  return walk(function(i)
    local m, z, c = valid(i)
    if m == 0 then return 0 end
    local w, b = o.weight and o.weight(i) or 1, o.bias and o.bias(i) or 0
    return m * ((z - c.mean) / math.sqrt(c.var + (o.eps or 1e-5)) * w + b)
  end)
end

local function by_channel(t) return t and function(i) return t[i[2]] end end
local function channel(i) return i[2] end

-- ---- batch norm ------------------------------------------------------------------------------------------------

-- masked_torch's formulas, batch statistics.
local function compat_reference(x, w, b, mask)
  local shape = nested.size(x)
  local function sums(f, of)
    local result = {}
    nested.make(of or shape, function(...)
      local i = { ... }
      result[i[2]] = (result[i[2]] or 0) + f(i)
      return 0
    end)
    return result
  end
  local m_shape = nested.size(mask)
  m_shape[2] = shape[2]
  local n = sums(function(i) return at(mask, i) end, m_shape)
  local sum = sums(function(i) return at(x, i) end)
  local square = sums(function(i) return ((at(x, i) - sum[i[2]] / n[i[2]]) * at(mask, i)) ^ 2 end)
  return nested.make(shape, function(...)
    local i = { ... }
    local c = i[2]
    return (at(x, i) - sum[c] / n[c]) / math.sqrt(square[c] / n[c] + 1e-5) * w[c] + b[c]
  end)
end

local function soft(random, shape)
  local mask = random:uniform(shape, -0.3, 1, { fixed = true })
  for i, v in ipairs(mask.values) do mask.values[i] = math.max(0, v < 0.05 and 0 or v) end
  return mask
end

-- A mask is one input more: {shape of x, shape of mask or nil, kind}.
local geometries = {
  { name = 'no mask, odd sizes', x = { 3, 5, 7, 3 } },
  { name = 'no mask, no spatial axis', x = { 6, 3 } },
  { name = 'no mask, batch 1', x = { 1, 2, 9 } },
  { name = 'no mask, 3-D', x = { 2, 3, 2, 3, 4 } },
  { name = 'binary one-channel mask', x = { 3, 4, 5, 6 }, mask = { 3, 1, 5, 6 }, kind = 'binary' },
  { name = 'binary mask per channel', x = { 2, 4, 7 }, mask = { 2, 4, 7 }, kind = 'binary' },
  { name = 'mask of batch 1', x = { 3, 4, 5, 3 }, mask = { 1, 4, 5, 3 }, kind = 'binary' },
  { name = 'soft mask per channel', x = { 3, 4, 9 }, mask = { 3, 4, 9 }, kind = 'soft' },
  { name = 'soft one-channel mask', x = { 2, 4, 4, 5 }, mask = { 2, 1, 4, 5 }, kind = 'soft' },
  { name = 'no spatial axis, channels in vectors', x = { 6, 5 } },
  { name = 'no spatial axis, binary one-channel mask', x = { 7, 5 }, mask = { 7, 1 }, kind = 'binary' },
  { name = 'no spatial axis, soft mask per channel', x = { 7, 5 }, mask = { 7, 5 }, kind = 'soft' },
}

local function inputs_for(g, extra)
  return function(random)
    local inputs = { random:normal(g.x) }
    for _, shape in ipairs(extra) do inputs[#inputs + 1] = random:uniform(shape, 0.5, 1.5) end
    if g.mask then
      inputs[#inputs + 1] = g.kind == 'soft' and soft(random, g.mask) or random:binary(g.mask, 0.7)
    end
    return inputs
  end
end

local cases = {}
local function case(t)
  t.tolerance = t.tolerance or { gradient = 1e-8, reference = 1e-12, float32 = 1e-6 }
  cases[#cases + 1] = t
end

for _, g in ipairs(geometries) do
  local C = g.x[2]
  case{ op = 'batch_norm', name = g.name,
    inputs = inputs_for(g, { { C }, { C } }),
    fn = function(x, w, b, mask) return F.batch_norm(x, nil, nil, w, b, true, 0.1, 1e-5, { mask = mask }) end,
    reference = function(x, w, b, mask)
      return reference(x, mask, { cell = channel, weight = by_channel(w), bias = by_channel(b) })
    end }
end

local with_mask = { x = { 2, 3, 4, 3 }, mask = { 2, 1, 4, 3 }, kind = 'soft' }
case{ op = 'batch_norm', name = 'no weight, only bias',
  inputs = inputs_for(with_mask, { { 3 } }),
  fn = function(x, b, mask) return F.batch_norm(x, nil, nil, { bias = b, training = true, mask = mask }) end,
  reference = function(x, b, mask) return reference(x, mask, { cell = channel, bias = by_channel(b) }) end }

local running = { mean = { 0.5, -1, 2 }, var = { 0.3, 1, 4 } }
for _, mask_shape in ipairs { { 2, 1, 4, 3 }, false } do
  case{ op = 'batch_norm', name = mask_shape and 'running statistics, soft mask' or 'running statistics',
    inputs = inputs_for({ x = { 2, 3, 4, 3 }, mask = mask_shape or nil, kind = 'soft' }, { { 3 }, { 3 } }),
    fn = function(x, w, b, mask)
      local function row(values) return torch.tensor(values, { dtype = x.dtype, device = x.device }) end
      return F.batch_norm(x, row(running.mean), row(running.var), w, b, { mask = mask })
    end,
    reference = function(x, w, b, mask)
      return reference(x, mask, { cell = channel, weight = by_channel(w), bias = by_channel(b), mean = running.mean,
        var = running.var })
    end }
end

for _, g in ipairs {
  { name = 'compat, binary mask per channel', x = { 2, 3, 7 }, mask = { 2, 3, 7 }, kind = 'binary' },
  { name = 'compat, soft one-channel mask of batch 1', x = { 3, 2, 5, 3 }, mask = { 1, 1, 5, 3 }, kind = 'soft' },
  { name = 'compat, soft mask per channel', x = { 3, 2, 5, 3 }, mask = { 3, 2, 5, 3 }, kind = 'soft' },
} do
  local C = g.x[2]
  case{ op = 'batch_norm', name = g.name,
    inputs = inputs_for(g, { { C }, { C } }),
    fn = function(x, w, b, mask) return F.masked_batch_norm(x, mask, nil, nil, w, b, true, 0.1, 1e-5, { compat = true }) end,
    reference = compat_reference }
end

case{ op = 'batch_norm', name = 'many rows, few channels',
  inputs = inputs_for({ x = { 2, 3, 61, 67 }, mask = { 2, 1, 61, 67 }, kind = 'binary' }, { { 3 }, { 3 } }),
  grad = false,
  fn = function(x, w, b, mask) return F.batch_norm(x, nil, nil, w, b, true, 0.1, 1e-5, { mask = mask }) end,
  reference = function(x, w, b, mask)
    return reference(x, mask, { cell = channel, weight = by_channel(w), bias = by_channel(b) })
  end }

-- ---- group and instance norm -----------------------------------------------------------------------------------

for _, g in ipairs(geometries) do
  for _, groups in ipairs { 1, 2, g.x[2] } do
    -- A cell of one or two elements amplifies every rounding error.
    if g.x[2] % groups == 0 and #g.x > 2 and not (groups == 2 and g.x[2] == 2) then
      case{ op = 'group_norm', name = ('%d groups, %s'):format(groups, g.name),
        inputs = inputs_for(g, { { g.x[2] }, { g.x[2] } }),
        fn = function(x, w, b, mask) return F.group_norm(x, groups, w, b, 1e-5, { mask = mask }) end,
        reference = function(x, w, b, mask)
          local members = g.x[2] / groups
          return reference(x, mask, { weight = by_channel(w), bias = by_channel(b),
            cell = function(i) return i[1] * 100 + math.ceil(i[2] / members) end })
        end }
    end
  end
end

case{ op = 'group_norm', name = 'instance norm, no weights',
  inputs = inputs_for(geometries[5], {}),
  fn = function(x, mask) return F.instance_norm(x, { mask = mask }) end,
  reference = function(x, mask)
    return reference(x, mask, { cell = function(i) return i[1] * 100 + i[2] end })
  end }

-- ---- layer and RMS norm ------------------------------------------------------------------------------------------

local layers = {
  { name = 'last axis', x = { 3, 4, 7 }, kept = 2 },
  { name = 'two axes', x = { 3, 4, 5 }, kept = 1 },
  { name = 'everything', x = { 4, 5 }, kept = 0 },
  { name = 'vector', x = { 9 }, kept = 0 },
  { name = 'batch 1', x = { 1, 6 }, kept = 1 },
  { name = 'token mask', x = { 3, 4, 6 }, kept = 2, mask = { 3, 4, 1 }, kind = 'binary' },
  { name = 'binary mask', x = { 2, 3, 4, 5 }, kept = 1, mask = { 2, 1, 4, 5 }, kind = 'binary' },
  { name = 'soft mask', x = { 3, 4, 7 }, kept = 1, mask = { 1, 4, 7 }, kind = 'soft' },
  { name = 'soft mask, last axis', x = { 3, 2, 12 }, kept = 2, mask = { 3, 1, 12 }, kind = 'soft' },
}
for _, g in ipairs(layers) do
  local shape = { unpack(g.x, g.kept + 1) }
  local function leading(i)
    local key = 0
    for d = 1, g.kept do key = key * 100 + i[d] end
    return key
  end
  local function trailing(t) return function(i) return at(t, { unpack(i, g.kept + 1) }) end end
  case{ op = 'layer_norm', name = g.name, inputs = inputs_for(g, { shape, shape }),
    fn = function(x, w, b, mask) return F.layer_norm(x, shape, w, b, 1e-5, { mask = mask }) end,
    reference = function(x, w, b, mask)
      return reference(x, mask, { cell = leading, weight = trailing(w), bias = trailing(b) })
    end }
  case{ op = 'rms_norm', name = g.name, inputs = inputs_for(g, { shape }),
    fn = function(x, w, mask) return F.rms_norm(x, shape, w, 1e-6, { mask = mask }) end,
    reference = function(x, w, mask)
      return reference(x, mask, { cell = leading, weight = trailing(w), rms = true, eps = 1e-6 })
    end }
end
case{ op = 'layer_norm', name = 'no weights', inputs = inputs_for(layers[1], {}),
  fn = function(x) return F.layer_norm(x, 7) end,
  reference = function(x) return reference(x, nil, { cell = function(i) return i[1] * 100 + i[2] end }) end }

for _, g in ipairs { { x = { 2, 5, 3, 4 } }, { x = { 2, 5, 7 }, mask = { 2, 5, 7 }, kind = 'soft' } } do
  case{ op = 'layer_norm', name = 'channels' .. (g.mask and ', soft mask' or ''), inputs = inputs_for(g, { { 5 }, { 5 } }),
    fn = function(x, w, b, mask) return F.layer_norm(x, 5, w, b, 1e-5, { mask = mask, channels = true }) end,
    reference = function(x, w, b, mask)
      return reference(x, mask, { weight = by_channel(w), bias = by_channel(b),
        cell = function(i) return table.concat({ i[1], i[3], i[4] }, ' ') end })
    end }
end

-- ---- an activation behind the norm ---------------------------------------------------------------------------------

local function rectified(y, slope)
  return nested.make(nested.size(y), function(...)
    local v = at(y, { ... })
    return v > 0 and v or slope * v
  end)
end

-- Inputs that stay away from 0, and so do the results: no step of a numeric gradient crosses the kink.
local function away(make)
  return function(random)
    local inputs = make(random)
    for i, v in ipairs(inputs[1].values) do inputs[1].values[i] = (v < 0 and -1 or 1) * (1.5 + 0.2 * math.min(2, math.abs(v))) end
    return inputs
  end
end

for _, a in ipairs { { 'relu', 0 }, { 'leaky_relu', 0.2 } } do
  local options = { activation = a[1], negative_slope = a[2] }
  local function with(mask) return { mask = mask, activation = options.activation, negative_slope = options.negative_slope } end
  for _, g in ipairs { geometries[1], geometries[5], geometries[8] } do
    local C = g.x[2]
    case{ op = 'batch_norm', name = a[1] .. ', ' .. g.name,
      inputs = away(inputs_for(g, { { C }, { C } })),
      fn = function(x, w, b, mask) return F.batch_norm(x, nil, nil, w, (b - 1) * 0.1, true, 0.1, 1e-5, with(mask)) end,
      reference = function(x, w, b, mask)
        local shift = function(i) return (b[i[2]] - 1) * 0.1 end
        return rectified(reference(x, mask, { cell = channel, weight = by_channel(w), bias = shift }), a[2])
      end }
    if C % 2 == 0 then
      case{ op = 'group_norm', name = a[1] .. ', ' .. g.name,
        inputs = away(inputs_for(g, { { C }, { C } })),
        fn = function(x, w, b, mask) return F.group_norm(x, 2, w, (b - 1) * 0.1, 1e-5, with(mask)) end,
        reference = function(x, w, b, mask)
          local shift = function(i) return (b[i[2]] - 1) * 0.1 end
          return rectified(reference(x, mask, { weight = by_channel(w), bias = shift,
            cell = function(i) return i[1] * 100 + math.ceil(i[2] / (C / 2)) end }), a[2])
        end }
    end
  end
  for _, g in ipairs { layers[1], layers[9] } do
    local shape = { unpack(g.x, 3) }
    local function leading(i) return i[1] * 100 + i[2] end
    local function trailing(t) return function(i) return t[i[3]] end end
    local function shift(t) return function(i) return (t[i[3]] - 1) * 0.1 end end
    case{ op = 'layer_norm', name = a[1] .. ', ' .. g.name, inputs = away(inputs_for(g, { shape, shape })),
      fn = function(x, w, b, mask) return F.layer_norm(x, shape, w, (b - 1) * 0.1, 1e-5, with(mask)) end,
      reference = function(x, w, b, mask)
        return rectified(reference(x, mask, { cell = leading, weight = trailing(w), bias = shift(b) }), a[2])
      end }
    case{ op = 'rms_norm', name = a[1] .. ', ' .. g.name, inputs = away(inputs_for(g, { shape })),
      fn = function(x, w, mask) return F.rms_norm(x, shape, w, 1e-6, with(mask)) end,
      reference = function(x, w, mask)
        return rectified(reference(x, mask, { cell = leading, weight = trailing(w), rms = true, eps = 1e-6 }), a[2])
      end }
  end
end

return cases
