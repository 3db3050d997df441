-- The op table of masked_conv: every rule, re-weighting and gate, against the definition written out with loops.
-- Masks and ratios are constants of the gradient, also where they follow from the weights: the cases hold the plan still by
-- computing it from a copy of the weights that does not move.
local masked_conv = require 'masked_torch.autograd.op.masked_conv'
local F = require 'masked_torch.nn.functional'

local behind = require('masked_torch.autograd.activations').behind
local op, plan_of = masked_conv.masked_conv, masked_conv.plan

-- ---- the definition ------------------------------------------------------------------------------------------------

-- t[n][c][...] at up to three spatial positions; nil outside.
local function at(t, n, c, s)
  local v = t[n][#t[n] == 1 and 1 or c]
  for d = 1, #s do
    v = v[s[d]]
    if v == nil then return nil end
  end
  return v
end

-- Calls visit(position) for all positions 1..size in raster order.
local function each(size, visit, position)
  position = position or {}
  local d = #position + 1
  if d > #size then
    visit(position)
    return
  end
  for i = 1, size[d] do
    position[d] = i
    each(size, visit, position)
    position[d] = nil
  end
end

local function spatial_size(t)
  local size, v = {}, t[1][1]
  while type(v) == 'table' do
    size[#size + 1] = #v
    v = v[1]
  end
  return size
end

local function put(t, position, value)
  for d = 1, #position - 1 do
    t[position[d]] = t[position[d]] or {}
    t = t[position[d]]
  end
  t[position[#position]] = value
end

local function axis(value, d) return type(value) == 'table' and value[d] or value end

-- Everything one window of filter o at position p sees.
local function window(x, w, m, o, n, p, k, size, opts)
  local C, groups = #w[1], opts.groups or 1
  local group = math.floor((o - 1) / (#w / groups))
  local one = #m[1] == 1
  local r = { raw = 0, K = 0, S = 0, L1 = 0, L1m = 0, L2 = 0, L2m = 0, lowest = nil, inside = false, centre = {} }
  each(k, function(tap)
    local s, centre, outside = {}, true, false
    for d = 1, #k do
      local dilation = axis(opts.dilation or 1, d)
      local causal = opts.padding == 'causal'
      local before = causal and dilation * (k[d] - 1) or axis(opts.padding or 0, d)
      s[d] = (p[d] - 1) * axis(opts.stride or 1, d) + (tap[d] - 1) * dilation - before + 1
      outside = outside or s[d] < 1 or s[d] > size[d]
      centre = centre and tap[d] - 1 == (causal and k[d] - 1 or math.floor(k[d] / 2))
    end
    for c = 1, C do
      local wv, mask = w[o][c], 0
      for d = 1, #k do wv = wv[tap[d]] end
      if not outside then
        mask = at(m, #m == 1 and 1 or n, group * C + c, s)
        local v = at(x, n, group * C + c, s)
        if opts.premask == 'multiply' then v = v * mask
        elseif opts.premask ~= 'none' and mask == 0 then v = 0 end
        r.raw = r.raw + wv * v
      end
      if not outside or opts.border then
        local first = not one or c == 1     -- one mask channel counts once
        if first then r.K, r.S = r.K + 1, r.S + mask end
        r.L1, r.L1m = r.L1 + math.abs(wv), r.L1m + math.abs(wv) * mask
        r.L2, r.L2m = r.L2 + wv ^ 2, r.L2m + wv ^ 2 * mask
        r.lowest = math.min(r.lowest or 1, mask)
      end
      r.inside = r.inside or not outside
      if centre then r.centre[c] = mask end
    end
  end)
  return r
end

local function norm_of_channel(w, o, c)
  local sum = 0
  local function walk(v)
    if type(v) == 'number' then sum = sum + math.abs(v) return end
    for _, u in ipairs(v) do walk(u) end
  end
  walk(w[o][c])
  return sum
end

local function new_mask(rule, r, w, o, C, opts)
  local many, eps = opts.multichannel and C or 1, opts.eps or 0
  if rule == 'keep' or rule == 'centre' then
    local top, bottom, mean, largest = 0, 0, 0, 0
    for c = 1, C do
      local a = norm_of_channel(w, o, c)
      top, bottom, mean = top + a * r.centre[c], bottom + a, mean + r.centre[c] / C
      largest = math.max(largest, r.centre[c])
    end
    if rule == 'keep' then return largest end
    return bottom == 0 and mean or top / (bottom + eps)
  elseif rule == 'grow' then return math.min(1, r.S * many)
  elseif rule == 'erode' then return r.inside and r.lowest or 0
  elseif rule == 'coverage' then return r.K == 0 and 0 or r.S / r.K
  end
  if r.L1 == 0 then return r.K == 0 and 0 or r.S / r.K end
  return r.L1m / (r.L1 + eps)
end

local function ratio(reweight, r, C, opts)
  local many, eps = opts.multichannel and C or 1, opts.eps or 0
  local all, valid
  if reweight == 'none' then return 1
  elseif reweight == 'count' then all, valid = r.K * many, r.S * many + eps
  elseif reweight == 'l1' then all, valid = r.L1, r.L1m + eps
  else all, valid = r.L2, r.L2m + eps end
  if valid <= 0 then return 0 end
  return reweight == 'l2' and math.sqrt(all / valid) or all / valid
end

local function definition(x, w, b, m, alpha, opts)
  local size, k, out = spatial_size(x), spatial_size(w), {}
  for d = 1, #size do
    local extent = axis(opts.dilation or 1, d) * (k[d] - 1)
    local padding = opts.padding == 'causal' and extent or 2 * axis(opts.padding or 0, d)
    out[d] = math.floor((size[d] + padding - extent - 1) / axis(opts.stride or 1, d)) + 1
  end
  local y, mask, C = {}, {}, #w[1]
  for n = 1, #x do
    y[n], mask[n] = {}, {}
    for o = 1, #w do
      y[n][o], mask[n][o] = {}, {}
      each(out, function(p)
        local r = window(x, w, m, o, n, p, k, size, opts)
        local new = new_mask(opts.rule or 'keep', r, w, o, C, opts)
        local q = ratio(opts.reweight or 'none', r, C, opts)
        local v = (q == 0 and 0 or r.raw * q ^ alpha) + (b and b[o] or 0)
        if opts.gate ~= 'none' then v = v * new end
        if opts.activation and v < 0 then v = opts.activation == 'relu' and 0 or v * (opts.negative_slope or 0.01) end
        put(y[n][o], p, v)
        put(mask[n][o], p, new)
      end)
    end
  end
  return y, mask
end

-- ---- cases ---------------------------------------------------------------------------------------------------------

local cases = {}

local function copy_of(input)
  return { shape = input.shape, values = input.values, fixed = true }
end

local function soft(random, shape)
  local m = random:uniform(shape, 0.1, 1, { fixed = true })
  for i = 1, #m.values do
    if random:next() < 0.3 then m.values[i] = 0 elseif random:next() < 0.3 then m.values[i] = 1 end
  end
  return m
end

-- shape: { N, C, O, size, kernel }; mask: 'binary' | 'soft'; m_shape: 'n1' | 'nc' | '1c' | '11'
local function case(name, shape, mask, m_shape, opts, special)
  special = special or {}
  local N, C, O, size, kernel = shape[1], shape[2], shape[3], shape[4], shape[5]
  local groups = opts.groups or 1
  local function call_options(alpha)
    local o = { alpha = alpha }
    for key, value in pairs(opts) do o[key] = value end
    return o
  end
  cases[#cases + 1] = { op = 'masked_conv', name = name,
    inputs = function(random)
      local w = random:normal({ O, C / groups, unpack(kernel) })
      local mask_shape = { m_shape:sub(1, 1) == 'n' and N or 1, m_shape:sub(2, 2) == 'c' and C or 1, unpack(size) }
      local m = mask == 'binary' and random:binary(mask_shape, 0.6) or soft(random, mask_shape)
      return { random:normal({ N, C, unpack(size) }), w, random:normal({ O }), m,
        special.learnt and { shape = { 1 }, values = { special.alpha or 0.7 } } or { value = special.alpha or 1 }, copy_of(w) }
    end,
    fn = function(x, w, b, m, alpha, w_fixed)
      local plan, new = plan_of(x, w_fixed, m, call_options(alpha))
      local y = op(x, w, not special.no_bias and b or nil, alpha, plan, behind('masked_conv', opts))
      local N1, O1 = y:size(1), y:size(2)
      return y, new:expand(N1, O1):tensor(x.dtype)
    end,
    reference = function(x, w, b, m, alpha)
      return definition(x, w, not special.no_bias and b or nil, m, special.learnt and alpha[1] or alpha, opts)
    end,
    grad = special.grad }
end

local rules = { 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' }
local shapes = {
  { { 2, 2, 3, { 4, 5 }, { 3, 3 } }, { padding = 1 } },
  { { 1, 4, 4, { 5, 4 }, { 3, 2 } }, { padding = { 1, 0 }, groups = 2, stride = { 2, 1 } } },
  { { 2, 3, 2, { 7 }, { 3 } }, { padding = 2, dilation = 2 } },
  { { 2, 2, 2, { 6 }, { 4 } }, { padding = 1 } },
  { { 1, 2, 2, { 3, 3, 4 }, { 2, 3, 3 } }, { padding = { 0, 1, 1 }, stride = { 1, 2, 1 } } },
}
local m_shapes = { 'nc', 'n1', '1c', '11' }
local number = 0
for _, rule in ipairs(rules) do
  for _, reweight in ipairs { 'none', 'count', 'l1', 'l2' } do
    for _, gate in ipairs { 'mask', 'none' } do
      number = number + 1
      local shape = shapes[number % #shapes + 1]
      local mask, m_shape = number % 3 == 0 and 'soft' or 'binary', m_shapes[number % #m_shapes + 1]
      local opts = { rule = rule, reweight = reweight, gate = gate, border = number % 7 < 4 }
      for key, value in pairs(shape[2]) do opts[key] = value end
      case(('%s, %s, gate %s, %s %s mask%s'):format(rule, reweight, gate, mask, m_shape, opts.border and ', border' or ''),
        shape[1], mask, m_shape, opts, { alpha = reweight ~= 'none' and ({ 1, 0.5, 0.7 })[number % 3 + 1] or 1 })
    end
  end
end

-- The exponent as a parameter.
for i, reweight in ipairs { 'count', 'l1', 'l2' } do
  case('learnt exponent, ' .. reweight, shapes[i][1], 'binary', 'n1',
    { reweight = reweight, rule = 'grow', border = true, padding = shapes[i][2].padding, dilation = shapes[i][2].dilation,
      groups = shapes[i][2].groups, stride = shapes[i][2].stride }, { learnt = true })
end
case('learnt exponent, no gate, channels', shapes[1][1], 'soft', 'nc', { reweight = 'count', gate = 'none', padding = 1 },
  { learnt = true, alpha = 0.5 })

case('learnt exponent, gate by coverage', shapes[1][1], 'soft', 'nc', { rule = 'coverage', reweight = 'l2', padding = 1,
  border = true }, { learnt = true })

-- What the combinations leave out.
case('no bias', shapes[1][1], 'binary', 'n1', { reweight = 'count', padding = 1 }, { no_bias = true })
case('soft, weighted by the mask', shapes[1][1], 'soft', 'nc', { rule = 'confidence', reweight = 'l1', gate = 'none',
  premask = 'multiply', padding = 1 })
case('trusted input', shapes[1][1], 'binary', 'nc', { premask = 'none', padding = 1 })
case('one channel counted as many', shapes[1][1], 'soft', 'n1', { rule = 'grow', reweight = 'count', multichannel = true,
  padding = 1, border = true })
case('eps', shapes[1][1], 'soft', 'nc', { rule = 'centre', reweight = 'count', eps = 0.125, padding = 1, border = true })
case('causal, keep', { 2, 2, 3, { 9 }, { 3 } }, 'binary', 'n1', { padding = 'causal', dilation = 2, reweight = 'count' })
case('causal, keep, channels', { 2, 2, 3, { 9 }, { 4 } }, 'binary', 'nc', { padding = 'causal', stride = 2 })
case('causal, centre', { 2, 2, 3, { 4, 5 }, { 2, 3 } }, 'soft', 'nc', { padding = 'causal', rule = 'centre', border = true })
case('padding wider than the kernel', { 1, 2, 2, { 3, 3 }, { 3, 3 } }, 'binary', 'n1', { padding = 4, rule = 'grow',
  reweight = 'count' })
case('kernel 1, stride 2', { 2, 3, 2, { 5 }, { 1 } }, 'soft', 'nc', { stride = 2, rule = 'coverage' })

-- An activation behind it.
case('relu', shapes[1][1], 'binary', 'n1', { padding = 1, activation = 'relu' })
case('relu, no bias, re-weighted', shapes[1][1], 'binary', 'n1', { reweight = 'count', border = true, rule = 'grow', padding = 1,
  activation = 'relu' }, { no_bias = true })
case('leaky_relu, re-weighted, groups', shapes[2][1], 'soft', 'n1', { reweight = 'count', rule = 'coverage', padding = { 1, 0 },
  groups = 2, stride = { 2, 1 }, activation = 'leaky_relu', negative_slope = 0.2 })
case('relu, channels', shapes[3][1], 'soft', 'nc', { reweight = 'l1', rule = 'confidence', padding = 2, dilation = 2, activation = 'relu' })
case('leaky_relu, channels, no gate', shapes[5][1], 'soft', '1c', { reweight = 'l2', gate = 'none', padding = { 0, 1, 1 },
  stride = { 1, 2, 1 }, activation = 'leaky_relu', negative_slope = 1 })
case('learnt exponent, relu', shapes[1][1], 'binary', 'n1', { reweight = 'count', padding = 1, activation = 'relu' }, { learnt = true })
case('learnt exponent, leaky_relu, channels', shapes[1][1], 'soft', 'nc', { reweight = 'count', padding = 1, activation = 'leaky_relu' },
  { learnt = true, alpha = 0.5 })

-- The public function: clearing passes the gradient into holes in mode 'values', so x is cleared before; the sigmoid gate.
cases[#cases + 1] = { op = { 'masked_conv' }, name = 'values, after apply_mask',
  inputs = function(random) return { random:normal{ 2, 2, 6 }, random:normal{ 3, 2, 3 }, random:normal{ 3 },
    random:binary{ 2, 1, 6 } } end,
  fn = function(x, w, b, m)
    return (F.masked_conv(x:apply_mask(m), w, b, m, { padding = 1, premask = 'values' }))
  end,
  reference = function(x, w, b, m) return (definition(x, w, b, m, 1, { padding = 1 })) end }
cases[#cases + 1] = { op = { 'masked_conv' }, name = 'sigmoid gate',
  inputs = function(random) return { random:normal{ 2, 2, 6 }, random:normal{ 3, 2, 3 }, random:normal{ 3 },
    random:binary{ 2, 1, 6 }, random:normal{ 3, 2, 3 }, random:normal{ 3 } } end,
  fn = function(x, w, b, m, gw, gb)
    return (F.masked_conv1d(x, w, b, m, { padding = 1, gate = 'sigmoid', gate_weight = gw, gate_bias = gb, rule = 'grow' }))
  end,
  reference = function(x, w, b, m, gw, gb)
    local y = definition(x, w, b, m, 1, { padding = 1, gate = 'none' })
    local g = definition(x, gw, gb, m, 1, { padding = 1, gate = 'none' })
    each({ #y, #y[1], #y[1][1] }, function(p)
      y[p[1]][p[2]][p[3]] = y[p[1]][p[2]][p[3]] / (1 + math.exp(-g[p[1]][p[2]][p[3]]))
    end)
    return y
  end }

return cases
