-- The op table of loss: against definitions in plain Lua.
local torch = require 'masked_torch'
local F = torch.nn.functional

local cases = {}

-- Positions of nested tables: x (N, C, L), target (N, L) or (N, C, L), mask (N, L) or nil.
local function cross_entropy(opts)
  opts = opts or {}
  local e = opts.label_smoothing or 0
  return function(x, target, weight, mask)
    local sum, total, terms = 0, 0, {}
    for n = 1, #x do
      local C = #x[n]
      for l = 1, #x[n][1] do
        local z = 0
        for c = 1, C do z = z + math.exp(x[n][c][l]) end
        local m = mask and mask[n][l] or 1
        local labels = type(target[n][1]) ~= 'table'
        local label = labels and target[n][l] or nil
        if labels and label == opts.ignore_index then m = 0 end
        local term = 0
        for c = 1, C do
          local w = weight and weight[c] or 1
          local t = labels and (c == label and 1 or 0) or not labels and target[n][c][l]
          term = term - w * ((1 - e) * t + e / C) * (opts.nll and x[n][c][l] or x[n][c][l] - math.log(z))
        end
        if m == 0 then term = 0 end
        terms[#terms + 1] = m * term
        sum = sum + m * term
        if m ~= 0 then total = total + m * (labels and weight and weight[label] or 1) end
      end
    end
    if opts.reduction == 'none' then return terms end
    return opts.reduction == 'sum' and sum or sum / total
  end
end

local function labels_case(name, opts, inputs, fn)
  local op = opts.nll and 'nll_loss' or 'cross_entropy'
  cases[#cases + 1] = { op = op, name = name, inputs = inputs, reference = cross_entropy(opts), fn = fn or function(x, t, w, m)
    return F[op](x, t, { weight = w, mask = m, ignore_index = opts.ignore_index, reduction = opts.reduction,
      label_smoothing = opts.label_smoothing })
  end }
end

local none = { value = nil }
local function weights(random, C) return random:uniform({ C }, 0.5, 2, { fixed = true }) end

labels_case('labels, mean', {}, function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5) } end)
labels_case('labels, sum', { reduction = 'sum' }, function(r) return { r:normal { 1, 5, 3 }, r:integers({ 1, 3 }, 1, 5) } end)
labels_case('labels, none', { reduction = 'none' }, function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5) } end)
labels_case('weights', {}, function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5), weights(r, 5) } end)
labels_case('weights and smoothing', { label_smoothing = 0.2 },
  function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5), weights(r, 5) } end)
labels_case('ignored labels', { ignore_index = -100, label_smoothing = 0.1 },
  function(r)
    local t = r:integers({ 3, 4 }, 1, 5)
    t.values[2], t.values[7] = -100, -100
    return { r:normal { 3, 5, 4 }, t }
  end)
labels_case('soft mask', {}, function(r)
  local m = r:uniform({ 3, 4 }, 0.1, 1, { fixed = true })
  m.values[3], m.values[4], m.values[9] = 0, 0, 0
  local t = r:integers({ 3, 4 }, 1, 5)
  t.values[3] = 99
  return { r:normal { 3, 5, 4 }, t, none, m }
end)
labels_case('mask, weights, none', { reduction = 'none' }, function(r)
  return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5, { dtype = 'int32' }), weights(r, 5), r:binary({ 3, 4 }, 0.6) }
end)
labels_case('probabilities', {}, function(r) return { r:normal { 3, 5, 4 }, r:uniform({ 3, 5, 4 }, 0, 1, { fixed = true }) } end)
labels_case('probabilities, weights, smoothing, sum', { label_smoothing = 0.3, reduction = 'sum' }, function(r)
  return { r:normal { 3, 5, 4 }, r:uniform({ 3, 5, 4 }, 0, 1, { fixed = true }), weights(r, 5) }
end)
labels_case('one sample without positions', {}, function(r) return { r:normal { 5 }, r:integers({}, 1, 5) } end)
cases[#cases].reference = nil
labels_case('images', {}, function(r)
  return { r:normal { 2, 4, 3, 5 }, r:integers({ 2, 3, 5 }, 1, 4), none, r:binary({ 2, 3, 5 }, 0.7) }
end)
cases[#cases].reference = nil
labels_case('mean', { nll = true }, function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5), weights(r, 5) } end,
  function(x, t, w) return F.nll_loss(x, t, { weight = w }) end)
labels_case('soft mask', { nll = true }, function(r)
  return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5), weights(r, 5), r:uniform({ 3, 4 }, 0.1, 1, { fixed = true }) }
end)
labels_case('none, masked', { nll = true, reduction = 'none' },
  function(r) return { r:normal { 3, 5, 4 }, r:integers({ 3, 4 }, 1, 5), none, r:binary({ 3, 4 }, 0.6) } end,
  function(x, t, _, m) return F.nll_loss(x, t, { mask = m, reduction = 'none' }) end)

-- ---- elements ------------------------------------------------------------------------------------------------

local function flat(x, out)
  out = out or {}
  if type(x) ~= 'table' then
    out[#out + 1] = x
  else
    for _, v in ipairs(x) do flat(v, out) end
  end
  return out
end

local function elements(op, name, inputs, opts, f)
  local reduction = opts.reduction or 'mean'
  cases[#cases + 1] = { op = op, name = name .. ', ' .. reduction, inputs = inputs,
    fn = function(x, t, m)
      local given = { mask = m }
      for k, v in pairs(opts) do given[k] = v end
      return F[op](x, t, given)
    end,
    reference = function(x, t, m)
      x, t, m = flat(x), flat(t), m and flat(m)
      local terms, sum, total = {}, 0, 0
      for i = 1, #x do
        local w = m and m[i] or 1
        terms[i] = w == 0 and 0 or w * f(x[i], t[i])
        sum, total = sum + terms[i], total + w
      end
      if reduction == 'none' then return terms end
      return reduction == 'sum' and sum or reduction == 'batchmean' and sum / 3 or sum / total
    end }
end

local function softplus(x) return math.log(1 + math.exp(x)) end
local kinds = {
  { 'mse_loss', {}, function(x, t) return (x - t) ^ 2 end },
  { 'l1_loss', {}, function(x, t) return math.abs(x - t) end },
  { 'smooth_l1_loss', { beta = 0.7 },
    function(x, t) local d = math.abs(x - t) return d < 0.7 and d * d / 1.4 or d - 0.35 end },
  { 'huber_loss', { delta = 0.7 },
    function(x, t) local d = math.abs(x - t) return d <= 0.7 and d * d / 2 or 0.7 * (d - 0.35) end },
  { 'binary_cross_entropy_with_logits', {}, function(x, t) return t * softplus(-x) + (1 - t) * softplus(x) end },
  { 'kl_div', {}, function(x, t) return t * (math.log(t) - x) end },
  { 'kl_div', { log_target = true }, function(x, t) return math.exp(t) * (t - x) end },
}
local shape = { 3, 5, 2 }
for _, kind in ipairs(kinds) do
  local op, opts, f = unpack(kind)
  -- x and t stay away from the kinks at |x - t| = 0 and 0.7; targets of the last two lie in 0..1.
  local function inputs(with_mask)
    return function(r)
      local x, t = r:distinct(shape, 0.21), r:uniform(shape, 0.02, 0.06)
      if op == 'kl_div' and not opts.log_target then t = r:uniform(shape, 0.1, 1) end
      return { x, t, with_mask and r:binary(shape, 0.6) or none }
    end
  end
  for _, reduction in ipairs { 'mean', 'sum', 'none' } do
    local given = { reduction = reduction }
    for k, v in pairs(opts) do given[k] = v end
    elements(op, 'plain', inputs(false), given, f)
    elements(op, 'masked', inputs(true), given, f)
  end
end
elements('kl_div', 'divergence', function(r) return { r:normal(shape), r:uniform(shape, 0.1, 1) } end,
  { reduction = 'batchmean' }, function(x, t) return t * (math.log(t) - x) end)
cases[#cases + 1] = { op = 'binary_cross_entropy_with_logits', name = 'pos_weight',
  inputs = function(r) return { r:normal { 4, 3 }, r:uniform({ 4, 3 }), r:uniform({ 3 }, 0.5, 2, { fixed = true }) } end,
  fn = function(x, t, w) return F.binary_cross_entropy_with_logits(x, t, { pos_weight = w }) end,
  reference = function(x, t, w)
    local sum = 0
    for i = 1, 4 do
      for j = 1, 3 do sum = sum + w[j] * t[i][j] * softplus(-x[i][j]) + (1 - t[i][j]) * softplus(x[i][j]) end
    end
    return sum / 12
  end }

return cases
