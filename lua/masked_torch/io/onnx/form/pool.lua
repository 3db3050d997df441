--- pool: windows over the spatial axes, adaptive ones too, and resampling. core/pool.h and core/upsample.h have the formulas.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local size = require 'masked_torch.io.onnx.size'
local spatial = require 'masked_torch.autograd.spatial'

local fail = native.fail
local form = {}

-- ---- regular windows ---------------------------------------------------------------------------------------------------------

-- { kernel, stride, dilation, before, after, out }: after is larger than the padding where ceil_mode adds a window.
local function windows(op, x, dims, kernel, opts)
  local win = { dims = dims, groups = 1, kernel = spatial.each(op, 'kernel_size', kernel, dims, 1) }
  win.stride = spatial.each(op, 'stride', opts.stride or win.kernel, dims, 1)
  win.dilation = spatial.each(op, 'dilation', opts.dilation or 1, dims, 1)
  win.padding = spatial.each(op, 'padding', opts.padding or 0, dims, 0)
  win.before, win.after, win.out = {}, {}, {}
  for d = 1, dims do
    local s, p, stride = x.shape[d + 2], win.padding[d], win.stride[d]
    local reach = win.dilation[d] * (win.kernel[d] - 1) + 1
    local out = size.floordiv(s + (2 * p - reach + (opts.ceil_mode and stride - 1 or 0)), stride) + 1
    win.before[d], win.after[d] = p, p
    if opts.ceil_mode then
      out = size.min(out, size.floordiv(s + (p - 1), stride) + 1)     -- no window begins behind the image and its left padding
      win.after[d] = size.max((out - 1) * stride + reach - s - p, 0)
    end
    win.out[d] = out
  end
  return win
end

local function padded(g, x, win, value)
  local before, after = {}, {}
  for d = 1, win.dims do before[d + 2], after[d + 2] = win.before[d], win.after[d] end
  return g:pad(x, before, after, value)
end

local function shape_of(x, win)
  local shape = { x.shape[1], x.shape[2] }
  for d = 1, win.dims do shape[d + 2] = win.out[d] end
  return shape
end

-- The largest of each window; `least` where there is nothing.
local function largest(g, x, win, least)
  local simple, pads = true, {}
  for d = 1, win.dims do
    simple = simple and not size.is(win.after[d]) and math.max(win.before[d], win.after[d]) < win.kernel[d]
    pads[d], pads[win.dims + d] = win.before[d], win.after[d]
  end
  if not simple or least ~= -math.huge then
    x, pads = padded(g, x, win, least), nil
  end
  return g:node('MaxPool', { x }, { kernel_shape = win.kernel, strides = win.stride, dilations = win.dilation, pads = pads },
    shape_of(x, win))
end

-- The sum of each window, channel by channel; outside counts as `outside`.
local function sums(g, x, win, outside)
  x = padded(g, x, win, outside)
  local C = x.shape[2]
  if size.is(C) then fail('pool: the number of channels must be known at export') end
  local own = { dims = win.dims, kernel = win.kernel, stride = win.stride, dilation = win.dilation, before = {}, after = {}, groups = C }
  for d = 1, win.dims do own.before[d], own.after[d] = 0, 0 end
  local y = g:conv(x, g:filled({ C, 1, unpack(win.kernel) }, 1, x.dtype), nil, own)
  y.shape = shape_of(x, win)
  return y
end

local function ones_image(g, x) return g:expand(g:number(1, x.dtype, #x.shape), { 1, 1, unpack(x.shape, 3) }) end

-- Positions of each window inside the image, (1, 1, *S').
local function taps(g, x, win) return sums(g, ones_image(g, x), win, 0) end

-- Positions of each window with the padding, but not what ceil_mode reaches beyond it.
local function extent(g, x, win, ceil_mode)
  if not ceil_mode then
    local n = 1
    for d = 1, win.dims do n = n * win.kernel[d] end
    return g:number(n, x.dtype)
  end
  local before, beyond = {}, { dims = win.dims, kernel = win.kernel, stride = win.stride, dilation = win.dilation, out = win.out,
    before = {}, after = {} }
  for d = 1, win.dims do
    before[d + 2], beyond.before[d], beyond.after[d] = win.padding[d], 0, size.max(win.after[d] - win.padding[d], 0)
  end
  return sums(g, g:pad(ones_image(g, x), before, before, 1), beyond, 0)
end

-- The value at each window's centre.
local function at_centres(g, m, win)
  for d = 1, win.dims do
    local shift = math.floor(win.kernel[d] / 2) * win.dilation[d] - win.padding[d]
    local index = g:positions(win.out[d])
    if win.stride[d] ~= 1 then index = g:binary('Mul', index, g:number(win.stride[d], 'int64')) end
    if shift ~= 0 then index = g:binary('Add', index, g:number(shift, 'int64')) end
    index = g:binary('Min', g:binary('Max', index, g:number(0, 'int64')), g:scalar(m.shape[d + 2] - 1))
    m = g:gather(m, d + 2, index)
  end
  return m
end

local function pooled_mask(g, m, win, rule)
  if rule == 'keep' then return at_centres(g, m, win) end
  if rule == 'coverage' then return g:divide(sums(g, m, win, 0), taps(g, m, win)) end
  return largest(g, m, win, 0)
end

-- { mask = option, mask_rule = } -> the mask as a Value, and the rule.
local function mask_and_rule(g, op, x, opts)
  return g:mask(opts.mask, x), options.choice(op, 'mask_rule', opts.mask_rule, { 'grow', 'keep', 'coverage' })
end

local operation = require('masked_torch.autograd.op.pool').internal

local function arguments(op, defaults, stride, opts)
  stride, opts = spatial.optional(stride, opts)
  opts = options.parse(op, defaults, opts)
  if stride ~= nil then opts.stride = stride end
  if opts.return_indices then fail('%s: return_indices = true has no ONNX form here', op) end
  return opts
end

-- Behind the rule keep an output of mask 0 is 0.
local function gated(g, y, result, rule) return rule == 'keep' and g:select(y, result) or y end

local function max_pool(op, dims)
  return function(g, x, kernel, stride, opts)
    opts = arguments(op, operation.MAX, stride, opts)
    local win = windows(op, x, dims, kernel, opts)
    local m, rule = mask_and_rule(g, op, x, opts)
    if not m then return largest(g, x, win, -math.huge), nil end
    local y = largest(g, g:where(g:is_valid(m), x, g:number(-math.huge, x.dtype)), win, -math.huge)
    y = g:select(y, largest(g, m, win, 0))
    local result = pooled_mask(g, m, win, rule)
    return gated(g, y, result, rule), result
  end
end

local function avg_pool(op, dims)
  return function(g, x, kernel, stride, opts)
    opts = arguments(op, operation.AVG, stride, opts)
    local win = windows(op, x, dims, kernel, opts)
    local is_padded = false
    for d = 1, dims do is_padded = is_padded or win.padding[d] > 0 end
    local by_window = (opts.count or (opts.count_include_pad and is_padded and 'window' or 'valid')) == 'window'
    local m, rule = mask_and_rule(g, op, x, opts)
    if not m then
      return g:divide(sums(g, x, win, 0), by_window and extent(g, x, win, opts.ceil_mode) or taps(g, x, win)), nil
    end
    local valid = sums(g, m, win, 0)
    local total = sums(g, g:select(g:binary('Mul', x, m), m), win, 0)
    local y = g:divide(total, valid)
    if by_window then
      y = g:select(g:binary('Div', total, extent(g, x, win, opts.ceil_mode)), valid)
    end
    local result = pooled_mask(g, m, win, rule)
    return gated(g, y, result, rule), result
  end
end

-- ---- adaptive windows ----------------------------------------------------------------------------------------------------------

-- 0-based bounds of the windows of an axis: floor(o S / O), ceil((o + 1) S / O), as vectors (O); S a number or a Size.
local function bounds(g, S, O)
  local o, n, out = g:positions(O), g:scalar(S), g:number(O, 'int64')
  local function scaled(index, add)
    local v = g:binary('Mul', index, n)
    if add then v = g:binary('Add', v, g:number(O - 1, 'int64')) end
    return g:binary('Div', v, out)
  end
  return scaled(o), scaled(g:binary('Add', o, g:number(1, 'int64')), true)
end

-- (O, S): true where position s belongs to window o.
local function membership(g, S, O)
  local first, last = bounds(g, S, O)
  local s = g:positions(S)
  local from = g:binary('GreaterOrEqual', s, g:unsqueeze(first, { 2 }), 'bool')
  return g:binary('And', from, g:binary('Less', s, g:unsqueeze(last, { 2 }), 'bool'))
end

-- x with axis d last.
local function swapped(g, x, d)
  local order = {}
  for i = 1, #x.shape do order[i] = i end
  order[d], order[#order] = order[#order], order[d]
  return g:transpose(x, order)
end

local function adaptive_sums(g, x, out)
  for d = 1, #out do
    local axis = d + 2
    if out[d] == 1 then
      x = g:reduce('ReduceSum', x, { axis }, true)
    else
      local member = g:transpose(g:cast(membership(g, x.shape[axis], out[d]), x.dtype), { 2, 1 })
      local turned = swapped(g, x, axis)
      local shape = { unpack(turned.shape) }
      shape[#shape] = out[d]
      x = swapped(g, g:node('MatMul', { turned, member }, nil, shape), axis)
    end
  end
  return x
end

local function adaptive_largest(g, x, out, least)
  for d = 1, #out do
    local axis = d + 2
    if out[d] == 1 then
      x = g:reduce('ReduceMax', x, { axis }, true)
    else
      local turned = swapped(g, x, axis)
      local candidates = g:where(membership(g, x.shape[axis], out[d]), g:unsqueeze(turned, { #turned.shape }), g:number(least, x.dtype))
      x = swapped(g, g:reduce('ReduceMax', candidates, { #candidates.shape }), axis)
    end
  end
  return x
end

local function adaptive_centres(g, m, out)
  for d = 1, #out do
    local first, last = bounds(g, m.shape[d + 2], out[d])
    local middle = g:binary('Div', g:binary('Sub', last, first), g:number(2, 'int64'))
    m = g:gather(m, d + 2, g:binary('Add', first, middle))
  end
  return m
end

local function adaptive_mask(g, m, out, rule)
  if rule == 'keep' then return adaptive_centres(g, m, out) end
  if rule == 'grow' then return adaptive_largest(g, m, out, 0) end
  return g:divide(adaptive_sums(g, m, out), adaptive_sums(g, ones_image(g, m), out))
end

local function adaptive(op, dims, is_max)
  local defaults = is_max and operation.ADAPTIVE_MAX or operation.ADAPTIVE
  return function(g, x, output_size, opts)
    opts = options.parse(op, defaults, opts)
    if opts.return_indices then fail('%s: return_indices = true has no ONNX form here', op) end
    local out = spatial.each(op, 'output_size', output_size, dims or #x.shape - 2, 1)
    local m, rule = mask_and_rule(g, op, x, opts)
    local y
    if is_max then
      local hidden = m and g:where(g:is_valid(m), x, g:number(-math.huge, x.dtype)) or x
      y = adaptive_largest(g, hidden, out, -math.huge)
      if m then y = g:select(y, adaptive_largest(g, m, out, 0)) end
    else
      local total = adaptive_sums(g, m and g:select(g:binary('Mul', x, m), m) or x, out)
      y = g:divide(total, adaptive_sums(g, m or ones_image(g, x), out))
    end
    if not m then return y, nil end
    local result = adaptive_mask(g, m, out, rule)
    return gated(g, y, result, rule), result
  end
end

for dims = 1, 3 do
  for name, make in pairs{ max_pool = max_pool, avg_pool = avg_pool } do
    form[name .. dims .. 'd'] = make(name .. dims .. 'd', dims)
  end
  form['adaptive_max_pool' .. dims .. 'd'] = adaptive('adaptive_max_pool' .. dims .. 'd', dims, true)
  form['adaptive_avg_pool' .. dims .. 'd'] = adaptive('adaptive_avg_pool' .. dims .. 'd', dims, false)
end
function form.global_max_pool(g, x, opts) return adaptive('global_max_pool', nil, true)(g, x, 1, opts) end
function form.global_avg_pool(g, x, opts) return adaptive('global_avg_pool', nil, false)(g, x, 1, opts) end

-- ---- resampling -------------------------------------------------------------------------------------------------------------------

-- Of one axis: output size, and vectors of source positions { first, second, nearest } and the second's weight (float64).
local function taps_of(g, s, opts, d)
  local factor = opts.scale_factor
  if type(factor) == 'table' then factor = factor[d] end
  local out = factor and nil or type(opts.size) == 'table' and opts.size[d] or opts.size
  if factor then
    if factor % 1 == 0 then
      out = s * factor
    elseif (1 / factor) % 1 == 0 then
      out = size.floordiv(s, 1 / factor)
    elseif size.is(s) then
      fail('interpolate: scale_factor: %g of the size %s; a whole factor or its inverse can be exported', factor, size.text(s))
    else
      out = math.floor(s * factor)
    end
  end
  local function number(v) return g:number(v, 'float64') end
  local o = g:cast(g:positions(out), 'float64')
  local last = g:cast(g:scalar(s - 1), 'float64')
  local function clamped(p) return g:cast(g:binary('Min', g:binary('Max', p, number(0)), last), 'int64') end
  local scale = factor and number(1 / factor)
  local function ratio(a, b) return g:binary('Div', g:cast(g:scalar(a), 'float64'), g:cast(g:scalar(b), 'float64')) end
  if opts.mode == 'nearest' then
    return out, { nearest = clamped(g:node('Floor', { g:binary('Mul', o, scale or ratio(s, out)) })) }
  end
  local p
  if opts.align_corners then
    p = size.is(out) and g:binary('Mul', o, ratio(s - 1, size.max(out - 1, 1))) or
      out > 1 and g:binary('Mul', o, ratio(s - 1, out - 1)) or g:binary('Mul', o, number(0))
  else
    p = g:binary('Sub', g:binary('Mul', g:binary('Add', o, number(0.5)), scale or ratio(s, out)), number(0.5))
  end
  p = g:binary('Max', p, number(0))
  local floor = g:node('Floor', { p })
  local first = clamped(floor)
  return out, { first = first, second = clamped(g:binary('Add', floor, number(1))),
    nearest = clamped(g:node('Floor', { g:binary('Add', p, number(0.5)) })),
    weight = g:where(g:binary('Less', floor, last, 'bool'), g:binary('Sub', p, floor), number(0)) }
end

-- u along dim d of x.
local function along(g, u, x, d)
  local shape = {}
  for i = 1, #x.shape do shape[i] = 1 end
  shape[d] = u.shape[1]
  return g:reshape(g:cast(u, x.dtype), shape)
end

-- x and its validity t, one axis: (u ta a + v tb b) / (u ta + v tb).
local function blend(g, x, t, d, tap)
  local a, b = g:gather(x, d, tap.first), g:gather(x, d, tap.second)
  local v = along(g, tap.weight, x, d)
  local u = g:binary('Sub', g:number(1, x.dtype), v)
  if not t then return g:binary('Add', g:binary('Mul', a, u), g:binary('Mul', b, v)), nil end
  local ta, tb = g:binary('Mul', g:gather(t, d, tap.first), u), g:binary('Mul', g:gather(t, d, tap.second), v)
  local total = g:binary('Add', ta, tb)
  return g:divide(g:binary('Add', g:binary('Mul', a, ta), g:binary('Mul', b, tb)), total), total
end

-- The mask: grow the largest neighbour of weight, keep the nearest, coverage the weighted mean.
local function resampled_mask(g, m, taps_by_axis, rule)
  for d = 1, #taps_by_axis do
    local tap, axis = taps_by_axis[d], d + 2
    if rule == 'keep' or not tap.first then
      m = g:gather(m, axis, tap.nearest)
    elseif rule == 'coverage' then
      m = blend(g, m, nil, axis, tap)
    else
      local b = g:gather(m, axis, tap.second)
      local has_weight = g:cast(along(g, tap.weight, m, axis), 'bool')
      m = g:binary('Max', g:gather(m, axis, tap.first), g:where(has_weight, b, g:number(0, m.dtype)))
    end
  end
  return m
end

--- F.interpolate(x, opts) -> y, mask
function form.interpolate(g, x, opts)
  opts = options.parse('interpolate', require('masked_torch.autograd.op.upsample').internal.defaults, opts)
  local dims, list = #x.shape - 2, {}
  local m, rule = mask_and_rule(g, 'interpolate', x, opts)
  for d = 1, dims do
    local _
    _, list[d] = taps_of(g, x.shape[d + 2], opts, d)
  end
  local y, t = m and g:select(x, m) or x, m
  for d = dims, 1, -1 do
    if list[d].first then
      y, t = blend(g, y, t, d + 2, list[d])
    else
      y = g:gather(y, d + 2, list[d].nearest)
    end
  end
  if not m then return y, nil end
  local result = resampled_mask(g, m, list, rule)
  return gated(g, y, result, rule), result
end

-- ---- shuffle ------------------------------------------------------------------------------------------------------------------------

-- (N, C, *S) -> (N, C r^d, *S / r)
local function unshuffle(g, x, r)
  local dims, C = #x.shape - 2, x.shape[2]
  local split, order, shape = { x.shape[1], C }, { 1, 2 }, { x.shape[1], C * r ^ dims }
  for d = 1, dims do
    local part = x.shape[d + 2] / r
    split[2 * d + 1], split[2 * d + 2], shape[d + 2] = part, r, part
    order[d + 2], order[dims + d + 2] = 2 * d + 2, 2 * d + 1
  end
  return g:reshape(g:transpose(g:reshape(x, split), order), shape)
end

local function shuffle(g, x, r)
  local dims, C = #x.shape - 2, x.shape[2] / r ^ (#x.shape - 2)
  local split, order, shape = { x.shape[1], C }, { 1, 2 }, { x.shape[1], C }
  for d = 1, dims do
    split[d + 2], split[dims + d + 2] = r, x.shape[d + 2]
    order[2 * d + 1], order[2 * d + 2] = dims + d + 2, d + 2
    shape[d + 2] = x.shape[d + 2] * r
  end
  return g:reshape(g:transpose(g:reshape(x, split), order), shape)
end

local layers = {}
for _, dims in ipairs{ '1d', '2d', '3d' } do
  form['unshuffle' .. dims], form['shuffle' .. dims] = unshuffle, shuffle
end
form.pixel_unshuffle, form.pixel_shuffle = unshuffle, shuffle

-- A one-channel mask is one for every channel of x before it is unshuffled, and stays one of one channel when shuffled.
local function unshuffle_layer(g, self, x, m)
  local y, r = unshuffle(g, x, self.downscale_factor), self.downscale_factor
  if m == nil then return y, nil end
  m = unshuffle(g, g:mask(m, x), r)
  if m.shape[2] == y.shape[2] then return y, m end
  -- (N, r^d, *S) -> channel c r^d + k for every c of x.
  local C, k = x.shape[2], m.shape[2]
  local split = { m.shape[1], C, k, unpack(m.shape, 3) }
  return y, g:reshape(g:expand(g:unsqueeze(m, { 2 }), split), { m.shape[1], C * k, unpack(m.shape, 3) })
end

local function shuffle_layer(g, self, x, m)
  local r = self.upscale_factor
  local y = shuffle(g, x, r)
  if m == nil then return y, nil end
  m = g:mask(m, x)
  if m.shape[2] == 1 then
    local shape = { unpack(m.shape) }
    shape[2] = r ^ (#x.shape - 2)
    m = g:expand(m, shape)
  end
  return y, shuffle(g, m, r)
end

for _, prefix in ipairs{ '', 'Masked' } do
  for dims = 1, 3 do
    layers[('%sUnshuffle%dd'):format(prefix, dims)] = unshuffle_layer
    layers[('%sShuffle%dd'):format(prefix, dims)] = shuffle_layer
  end
end
layers.PixelUnshuffle, layers.PixelShuffle = unshuffle_layer, shuffle_layer

return { form = form, layers = layers }
