--- masked_conv: F.masked_conv, mask rule x re-weighting x gate. core/masked_conv.h has the formulas; here the sums over windows
-- are convolutions of the mask, and what follows from weights stands in the graph too.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local size = require 'masked_torch.io.onnx.size'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local form = {}

local defaults = require('masked_torch.autograd.op.masked_conv').internal.defaults

-- The windows with one tap, at the kernel's centre; a causal output stands where its last tap does.
local function centre(win)
  local c = { dims = win.dims, kernel = {}, stride = win.stride, dilation = {}, before = {}, after = {}, groups = win.groups }
  for d = 1, win.dims do
    local tap = win.causal and win.kernel[d] - 1 or math.floor(win.kernel[d] / 2)
    local shift = tap * win.dilation[d]
    c.kernel[d], c.dilation[d] = 1, 1
    c.before[d] = win.before[d] - shift
    c.after[d] = win.after[d] - (win.dilation[d] * (win.kernel[d] - 1) - shift)
  end
  return c
end

-- One output is one input, each at its own place.
local function is_identity(win)
  for d = 1, win.dims do
    if win.stride[d] ~= 1 or win.before[d] ~= 0 or win.after[d] ~= 0 then return false end
  end
  return true
end

-- An even kernel has two middle taps, of which the second counts; a full mask stays full where the first is in the image. May
-- that make a difference?
local function full_may_stay(win)
  local differs = false
  if win.causal then return false end
  for d = 1, win.dims do
    local half = math.floor(win.kernel[d] / 2) * win.dilation[d]
    if win.before[d] > half or win.after[d] > half then return false end
    differs = differs or win.kernel[d] % 2 == 0 and centre(win).after[d] > 0
  end
  return differs
end

local function ones_shape(out, channels, kernel) return { out, channels, unpack(kernel) } end

-- The channels of a mask merged by ReduceMax or ReduceMin, within each group: (N, groups, *S).
local function merged(g, m, groups, op)
  if m.shape[2] == 1 then return m end
  if groups == 1 then return g:reduce(op, m, { 2 }, true) end
  local split, back = { m.shape[1], groups, m.shape[2] / groups, unpack(m.shape, 3) }, { m.shape[1], groups, unpack(m.shape, 3) }
  return g:reshape(g:reduce(op, g:reshape(m, split), { 3 }), back)
end

-- (N, groups, *S) for O filters: each group's value for its filters.
local function for_filters(g, t, O)
  if t.shape[2] == 1 or t.shape[2] == O then return t end
  local groups = t.shape[2]
  local shape = { t.shape[1], groups, O / groups, unpack(t.shape, 3) }
  return g:reshape(g:expand(g:unsqueeze(t, { 3 }), shape), { t.shape[1], O, unpack(t.shape, 3) })
end

-- Everything about one call: c = { g, m = mask, w, win, opts, O, per_group = input channels per group }.
-- S and K of the counted taps: { S, K }, (N or 1, 1 or groups, *S').
local function counted(c)
  local g, m, win = c.g, c.m, c.win
  local groups, channels = 1, m.shape[2]
  if channels > 1 then groups, channels = win.groups, channels / win.groups end
  local ones = g:filled(ones_shape(groups, channels, win.kernel), 1, m.dtype)
  local own = setmetatable({ groups = groups }, { __index = win })
  local S, taps = g:conv(m, ones, nil, own), channels
  for d = 1, win.dims do taps = taps * win.kernel[d] end
  if c.opts.border then return S, g:number(taps, m.dtype) end
  local image = g:expand(g:number(1, m.dtype, win.dims + 2), { 1, 1, unpack(m.shape, 3) })
  local K = g:conv(image, g:filled(ones_shape(1, 1, win.kernel), 1, m.dtype), nil, setmetatable({ groups = 1 }, { __index = win }))
  if channels > 1 then K = g:binary('Mul', K, g:number(channels, m.dtype)) end
  return S, K
end

-- |w| or w^2; filters of zeros count as ones where `fallback`.
local function magnitudes(c, square, fallback)
  local g, w = c.g, c.w
  return g:once(('magnitudes %s %s %s'):format(w.name, tostring(square), tostring(fallback)), function()
    local a = square and g:binary('Mul', w, w) or g:node('Abs', { w })
    if fallback then
      local axes = {}
      for d = 2, #w.shape do axes[#axes + 1] = d end
      local total = g:reduce('ReduceSum', a, axes, true)
      a = g:where(g:binary('Equal', total, g:number(0, w.dtype), 'bool'), g:number(1, w.dtype), a)
    end
    return a
  end)
end

-- S and K weighted by a (O, C / groups, *K): (N or 1, O, *S').
local function weighted(c, a, win, border)
  local g, m = c.g, c.m
  local axes = { 2 }
  for d = 3, #a.shape do axes[#axes + 1] = d end
  local over_channels = g:reduce('ReduceSum', a, { 2 }, true)
  local one = setmetatable({ groups = 1 }, { __index = win })
  local S
  if m.shape[2] == 1 then
    S = g:conv(m, over_channels, nil, one)
  else
    S = g:conv(m, a, nil, win)
  end
  local K
  if border then
    local shape = { 1, c.O }
    for d = 1, win.dims do shape[d + 2] = 1 end
    K = g:reshape(g:reduce('ReduceSum', a, axes, false), shape)
  else
    local image = g:expand(g:number(1, m.dtype, win.dims + 2), { 1, 1, unpack(m.shape, 3) })
    K = g:conv(image, over_channels, nil, one)
  end
  return S, K
end

local function plus(g, t, v) return v == 0 and t or g:binary('Add', t, g:number(v, t.dtype)) end

-- ---- the rules -------------------------------------------------------------------------------------------------------------------

local rules = {}

function rules.keep(c)
  local g, win = c.g, centre(c.win)
  local m = merged(g, c.m, c.win.groups, 'ReduceMax')
  if is_identity(win) then return for_filters(g, m, c.O) end
  -- Samples of the mask, 0 outside the image.
  local channels = m.shape[2]
  local own = setmetatable({ groups = channels }, { __index = win })
  return for_filters(g, g:conv(m, g:filled(ones_shape(channels, 1, win.kernel), 1, m.dtype), nil, own), c.O)
end

function rules.grow(c)
  local g, S = c.g, (counted(c))
  if c.multiplicity > 1 then S = g:binary('Mul', S, g:number(c.multiplicity, S.dtype)) end
  return for_filters(g, g:binary('Min', S, g:number(1, S.dtype)), c.O)
end

function rules.erode(c)
  local g, win = c.g, c.win
  local m = merged(g, c.m, win.groups, 'ReduceMin')
  -- The smallest value is the largest of the negative ones; outside is 0 with border, and does not count without.
  local before, after, shape, reached = {}, {}, { m.shape[1], m.shape[2] }, true
  for d = 1, win.dims do
    before[d + 2], after[d + 2] = win.before[d], win.after[d]
    shape[d + 2] = g.output(m.shape[d + 2], win, d)
    reached = reached and win.dilation[d] == 1 and math.max(win.before[d], win.after[d]) < win.kernel[d]
  end
  local x = g:pad(g:node('Neg', { m }), before, after, c.opts.border and 0 or -1)
  local y = g:node('MaxPool', { x }, { kernel_shape = win.kernel, strides = win.stride, dilations = win.dilation }, shape)
  y = g:node('Neg', { y })
  if not reached and not c.opts.border then      -- windows without a tap in the image
    local _, K = counted(c)
    y = g:where(g:binary('Greater', K, g:number(0, K.dtype), 'bool'), y, g:number(0, y.dtype))
  end
  return for_filters(g, y, c.O)
end

function rules.coverage(c)
  local S, K = counted(c)
  return for_filters(c.g, c.g:divide(S, K), c.O)
end

local function confidence(c, win, a, border)
  local S, K = weighted(c, a, win, border)
  return c.g:divide(S, plus(c.g, K, c.opts.eps))
end

function rules.confidence(c) return confidence(c, c.win, magnitudes(c, false, not c.opts.compat), c.opts.border) end

function rules.centre(c)
  local g = c.g
  local axes = {}
  for d = 3, #c.w.shape do axes[#axes + 1] = d end
  local a = magnitudes(c, false, not c.opts.compat)
  return confidence(c, centre(c.win), g:reduce('ReduceSum', a, axes, true), true)
end

-- ---- the operator ----------------------------------------------------------------------------------------------------------------

-- (K / S)^alpha, 0 where S is 0; nil where nothing is re-weighted.
local function ratios(c, alpha)
  local g, opts = c.g, c.opts
  if opts.reweight == 'none' or alpha == 0 then return nil end
  local S, K
  if opts.reweight == 'count' then
    S, K = counted(c)
    if c.multiplicity > 1 then
      local times = g:number(c.multiplicity, S.dtype)
      S, K = g:binary('Mul', S, times), g:binary('Mul', K, times)
    end
  else
    S, K = weighted(c, magnitudes(c, opts.reweight == 'l2', false), c.win, opts.border)
  end
  local q = for_filters(g, g:divide(K, plus(g, S, opts.eps)), c.O)
  if opts.reweight == 'l2' then q = g:node('Sqrt', { q }) end
  if alpha == 1 then return q end
  if alpha == 0.5 then return g:node('Sqrt', { q }) end
  local power = Tensor.is_tensor(alpha) and g:tensor(alpha) or g:number(alpha, q.dtype)
  local zero = g:number(0, q.dtype)
  local empty = g:binary('Equal', q, zero, 'bool')
  return g:where(empty, zero, g:binary('Pow', g:where(empty, g:number(1, q.dtype), q), power))
end

local function plain(g, x, w, b, win) return g:conv(x, w, b and g:tensor(b), win) end

-- Times the sigmoid of a second convolution.
local function sigmoid_gate(g, y, x, win, opts)
  return g:binary('Mul', y, g:node('Sigmoid', { plain(g, x, g:tensor(opts.gate_weight), opts.gate_bias, win) }))
end

local function channel_shape(O, dims)
  local shape = { 1, O }
  for d = 1, dims do shape[d + 2] = 1 end
  return shape
end

local function run(g, op, x, w, b, mask, opts)
  x, w = g:tensor(x), g:tensor(w)
  local win, O = g.windows(op, w.shape, opts), w.shape[1]
  local m = g:mask(mask, x)
  local looks_outside = opts.reweight ~= 'none' or (opts.rule ~= 'keep' and opts.rule ~= 'centre' and opts.rule ~= 'grow')
  if m == nil and not (opts.border and looks_outside) then
    local y = plain(g, x, w, b, win)
    return opts.gate == 'sigmoid' and sigmoid_gate(g, y, x, win, opts) or y, nil
  end

  local given = m
  if m == nil then m = g:expand(g:number(1, x.dtype, win.dims + 2), { 1, 1, unpack(x.shape, 3) }) end
  local per_channel = m.shape[2] ~= 1
  local c = { g = g, m = m, w = w, win = win, opts = opts, O = O,
    multiplicity = not per_channel and opts.multichannel and w.shape[2] or 1 }

  if given and opts.premask ~= 'none' then
    x = g:select(opts.premask == 'multiply' and g:binary('Mul', x, m) or x, m)
  end
  local r = ratios(c, opts.alpha)
  local result
  if given or (opts.rule ~= 'keep' and opts.rule ~= 'centre') then
    local exact = opts.compat or opts.eps > 0 and x.shape[2] == 1
    local rule = opts.rule == 'centre' and not per_channel and not exact and 'keep' or opts.rule
    result = rules[rule](c)
    local at_centre = opts.rule == 'keep' or opts.rule == 'centre' and opts.eps == 0
    if given and at_centre and not opts.compat and full_may_stay(win) then result = g:where(g:is_full(m), g:number(1, x.dtype), result) end
  end

  local y
  if r == nil then
    y = plain(g, x, w, b, win)
  else
    y = g:binary('Mul', plain(g, x, w, nil, win), r)
    if b then y = g:binary('Add', y, g:reshape(g:tensor(b), channel_shape(O, win.dims))) end
  end
  if opts.gate == 'mask' and result then
    y = g:select(g:binary('Mul', y, result), result)
  elseif opts.gate == 'sigmoid' then
    y = sigmoid_gate(g, y, x, win, opts)
  end
  local weighs = opts.rule == 'confidence' or opts.rule == 'centre'
  if result and per_channel and result.shape[2] == 1 and (weighs or win.groups > 1) then
    local shape = { unpack(result.shape) }
    shape[2] = O
    result = g:expand(result, shape)
  end
  return y, result
end

for _, dims in ipairs{ '', '1d', '2d', '3d' } do
  local op = 'masked_conv' .. dims
  form[op] = function(g, x, w, b, mask, opts)
    opts = options.parse(op, defaults, opts)
    if size.is(x.shape[2]) then fail('%s: input: the number of channels must be known at export', op) end
    local y, result = run(g, op, x, w, b, mask, opts)
    return g:activated(y, opts), result
  end
end

return { form = form }
