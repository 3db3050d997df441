-- The op table of conv and conv_transpose: an independent definition, over odd geometries in 1 to 3 dimensions.
local torch = require 'masked_torch'
local F = torch.nn.functional

-- ---- the definition --------------------------------------------------------------------------------------------

local function shape_of(t)
  local shape = {}
  while type(t) == 'table' do
    shape[#shape + 1] = #t
    t = t[1]
  end
  return shape
end

local function zeros(shape, d)
  d = d or 1
  if d > #shape then return 0 end
  local t = {}
  for i = 1, shape[d] do t[i] = zeros(shape, d + 1) end
  return t
end

-- fn(position) for every 1-based position of a shape
local function each(shape, fn)
  local at = {}
  local function walk(d)
    if d > #shape then return fn(at) end
    for i = 1, shape[d] do
      at[d] = i
      walk(d + 1)
    end
  end
  walk(1)
end

local function get(t, at)
  for d = 1, #at do t = t[at[d]] end
  return t
end

local function add(t, at, value)
  for d = 1, #at - 1 do t = t[at[d]] end
  t[at[#at]] = t[at[#at]] + value
end

local function per_axis(value, dims, default)
  if value == nil then value = default end
  if type(value) == 'table' then return value end
  local t = {}
  for d = 1, dims do t[d] = value end
  return t
end

-- Options written out: stride, dilation, before, after per axis.
local function expand(opts, kernel)
  local dims = #kernel
  local g = { stride = per_axis(opts.stride, dims, 1), dilation = per_axis(opts.dilation, dims, 1), before = {}, after = {},
    groups = opts.groups or 1, extra = per_axis(opts.output_padding, dims, 0) }
  local padding = opts.padding or 0
  for d = 1, dims do
    local total = g.dilation[d] * (kernel[d] - 1)
    if padding == 'same' then
      g.before[d] = math.floor(total / 2)
      g.after[d] = total - g.before[d]
    elseif padding == 'causal' then
      g.before[d], g.after[d] = total, 0
    elseif padding == 'valid' then
      g.before[d], g.after[d] = 0, 0
    else
      local p = type(padding) == 'table' and padding[d] or padding
      g.before[d] = type(p) == 'table' and p[1] or p
      g.after[d] = type(p) == 'table' and p[2] or p
    end
  end
  return g
end

-- visit(output channel o, position p, input channel c, tap t, position q of the unpadded input) for every product
local function products(outputs, channels, out, input, kernel, g, visit)
  for o = 1, outputs do
    local group = math.floor((o - 1) / (outputs / g.groups))
    each(out, function(p)
      each(kernel, function(t)
        local q = {}
        for d = 1, #kernel do
          q[d] = (p[d] - 1) * g.stride[d] + (t[d] - 1) * g.dilation[d] - g.before[d] + 1
          if q[d] < 1 or q[d] > input[d] then return end
        end
        for c = 1, channels do visit(o, p, group * channels + c, c, t, q) end
      end)
    end)
  end
end

local function tail(t, from)
  return { unpack(t, from) }
end

local function conv(opts)
  return function(x, w, b)
    local xs, ws = shape_of(x), shape_of(w)
    local kernel, input, out = tail(ws, 3), tail(xs, 3), {}
    local g = expand(opts, kernel)
    for d = 1, #kernel do
      out[d] = math.floor((input[d] + g.before[d] + g.after[d] - g.dilation[d] * (kernel[d] - 1) - 1) / g.stride[d]) + 1
    end
    local y = zeros({ xs[1], ws[1], unpack(out) })
    for n = 1, xs[1] do
      products(ws[1], ws[2], out, input, kernel, g, function(o, p, from, c, t, q)
        add(y, { n, o, unpack(p) }, get(x, { n, from, unpack(q) }) * get(w, { o, c, unpack(t) }))
      end)
      for o = 1, b and ws[1] or 0 do
        each(out, function(p) add(y, { n, o, unpack(p) }, b[o]) end)
      end
      for o = 1, opts.activation and ws[1] or 0 do
        each(out, function(p)
          local v = get(y, { n, o, unpack(p) })
          local slope = opts.activation == 'relu' and 0 or opts.negative_slope or 0.01
          if v < 0 then add(y, { n, o, unpack(p) }, v * slope - v) end
        end)
      end
    end
    return y
  end
end

-- The adjoint: every product goes the other way.
local function transpose(opts)
  return function(x, w, b)
    local xs, ws = shape_of(x), shape_of(w)
    local kernel, small, large = tail(ws, 3), tail(xs, 3), {}
    local g = expand(opts, kernel)
    for d = 1, #kernel do
      large[d] = (small[d] - 1) * g.stride[d] - g.before[d] - g.after[d] + g.dilation[d] * (kernel[d] - 1) + g.extra[d] + 1
    end
    local outputs = ws[2] * g.groups
    local y = zeros({ xs[1], outputs, unpack(large) })
    for n = 1, xs[1] do
      products(xs[2], ws[2], small, large, kernel, g, function(o, p, from, c, t, q)
        add(y, { n, from, unpack(q) }, get(x, { n, o, unpack(p) }) * get(w, { o, c, unpack(t) }))
      end)
      for o = 1, b and outputs or 0 do
        each(large, function(p) add(y, { n, o, unpack(p) }, b[o]) end)
      end
    end
    return y
  end
end

-- ---- the cases ---------------------------------------------------------------------------------------------------

local cases = {}

local function case(op, name, x, w, bias, opts, extra)
  local dims = #x - 2
  local fn = F[op .. dims .. 'd']
  local outputs = op == 'conv' and w[1] or w[2] * (opts.groups or 1)
  local c = {
    op = op, name = dims .. '-D, ' .. name,
    inputs = function(random)
      local list = { random:normal(x), random:normal(w) }
      if bias then list[3] = random:normal({ outputs }) end
      return list
    end,
    fn = function(input, weight, b) return fn(input, weight, b, opts) end,
    reference = (op == 'conv' and conv or transpose)(opts),
  }
  for key, value in pairs(extra or {}) do c[key] = value end
  cases[#cases + 1] = c
end

case('conv', 'plain', { 2, 3, 11 }, { 4, 3, 3 }, true, {})
case('conv', 'kernel 1', { 3, 2, 5 }, { 3, 2, 1 }, true, {})
case('conv', 'even kernel, same', { 1, 2, 6 }, { 2, 2, 4 }, false, { padding = 'same' })
case('conv', 'causal, dilated', { 2, 2, 9 }, { 3, 2, 3 }, true, { padding = 'causal', dilation = 2 })
case('conv', 'stride 3, more padding after', { 2, 3, 10 }, { 2, 3, 4 }, true, { stride = 3, padding = { { 0, 5 } } })
case('conv', 'stride larger than the kernel', { 2, 2, 13 }, { 3, 2, 2 }, true, { stride = 5, padding = 1 })
case('conv', 'depthwise with 20 channels', { 2, 20, 7 }, { 20, 1, 3 }, true, { groups = 20, padding = 1 })
case('conv', 'kernel larger than the input', { 2, 2, 2 }, { 3, 2, 7 }, true, { padding = 3 })
case('conv', 'one position', { 5, 3, 1 }, { 4, 3, 3 }, true, { padding = 1 })
case('conv', 'many channels', { 1, 300, 2 }, { 3, 300, 2 }, true, { padding = 1 })

case('conv', 'plain', { 2, 3, 5, 6 }, { 4, 3, 3, 3 }, true, {})
case('conv', 'no bias, batch 1, one channel', { 1, 1, 4, 4 }, { 1, 1, 2, 2 }, false, {})
case('conv', 'asymmetric everything', { 2, 4, 7, 5 }, { 6, 2, 3, 2 }, true,
  { stride = { 2, 1 }, padding = { { 2, 0 }, { 0, 1 } }, dilation = { 1, 2 }, groups = 2 })
case('conv', 'same with dilation', { 1, 2, 5, 6 }, { 3, 2, 3, 2 }, true, { padding = 'same', dilation = { 2, 3 } })
case('conv', 'causal, stride 2', { 1, 2, 5, 4 }, { 2, 2, 3, 3 }, true, { padding = 'causal', stride = 2 })
case('conv', 'negative padding crops', { 2, 2, 7, 6 }, { 2, 2, 3, 2 }, true, { padding = { { -1, 2 }, { 1, -2 } } })
case('conv', 'crops behind the stride', { 1, 2, 9, 8 }, { 2, 2, 2, 3 }, true,
  { padding = { { -2, -1 }, { -1, 1 } }, stride = { 2, 3 } })
case('conv', 'kernel larger than the image', { 2, 2, 2, 3 }, { 2, 2, 5, 4 }, true, { padding = 2 })
case('conv', '1 x 1 image, 3 x 3 kernel', { 3, 4, 1, 1 }, { 5, 4, 3, 3 }, true, { padding = 1 })
case('conv', 'depthwise, stride 2', { 2, 5, 5, 6 }, { 5, 1, 3, 3 }, true, { groups = 5, stride = 2, padding = 1 })
case('conv', 'depthwise with a multiplier', { 1, 3, 4, 5 }, { 6, 1, 2, 3 }, true, { groups = 3, padding = 'same' })
case('conv', 'one output per group of two channels', { 2, 6, 4, 4 }, { 3, 2, 3, 3 }, true, { groups = 3, padding = 1 })
case('conv', 'more than one panel of outputs', { 1, 2, 3, 3 }, { 37, 2, 2, 2 }, true, { padding = { { 1, 0 }, { 0, 1 } } })
case('conv', 'more than one tile of channels', { 1, 31, 2, 3 }, { 3, 31, 2, 2 }, true, { padding = 1 })
case('conv', '130 outputs', { 1, 1, 2, 2 }, { 130, 1, 2, 2 }, true, { padding = 1 })
case('conv', 'more pixels than one block', { 2, 1, 9, 14 }, { 2, 1, 3, 3 }, true, { padding = 1 })
case('conv', 'stride of the kernel size', { 2, 3, 8, 6 }, { 4, 3, 4, 3 }, true, { stride = { 4, 3 } })

case('conv', 'plain', { 1, 2, 3, 4, 3 }, { 3, 2, 2, 2, 2 }, true, {})
case('conv', 'asymmetric everything', { 2, 4, 4, 3, 5 }, { 4, 2, 2, 1, 3 }, true,
  { stride = { 1, 2, 2 }, padding = { { 1, 0 }, { 0, 0 }, { 2, 1 } }, dilation = { 2, 1, 1 }, groups = 2 })
case('conv', 'same', { 1, 1, 3, 2, 4 }, { 2, 1, 3, 2, 3 }, true, { padding = 'same' })
case('conv', 'depthwise', { 1, 3, 3, 3, 2 }, { 3, 1, 2, 3, 1 }, false, { groups = 3, padding = 1 })

-- An activation behind it, in each of the kernels.
case('conv', 'relu', { 2, 3, 11 }, { 4, 3, 3 }, true, { activation = 'relu' })
case('conv', 'leaky_relu of slope 0, no bias', { 2, 3, 7 }, { 2, 3, 3 }, false, { activation = 'leaky_relu', negative_slope = 0 })
case('conv', 'relu, kernel 1', { 3, 2, 5 }, { 17, 2, 1 }, true, { activation = 'relu' })
case('conv', 'leaky_relu, more than one panel', { 1, 2, 3, 3 }, { 37, 2, 2, 2 }, true, { padding = 1, activation = 'leaky_relu',
  negative_slope = 0.3 })
case('conv', 'relu, few outputs', { 2, 3, 5, 6 }, { 3, 3, 3, 3 }, true, { padding = 1, stride = { 1, 2 }, activation = 'relu' })
case('conv', 'relu, depthwise', { 1, 3, 3, 4 }, { 3, 1, 3, 3 }, true, { groups = 3, padding = 1, activation = 'relu' })
case('conv', 'leaky_relu of slope 1, three axes', { 1, 4, 3, 3, 2 }, { 4, 2, 2, 3, 1 }, true, { groups = 2, padding = 1,
  activation = 'leaky_relu', negative_slope = 1 })

case('conv_transpose', 'plain', { 2, 3, 4 }, { 3, 2, 3 }, true, {})
case('conv_transpose', 'stride 3, output padding 2', { 2, 2, 4 }, { 2, 3, 3 }, true,
  { stride = 3, padding = 1, output_padding = 2 })
case('conv_transpose', 'stride larger than the kernel', { 1, 2, 3 }, { 2, 2, 2 }, true, { stride = 4 })
case('conv_transpose', 'stride 2', { 2, 3, 3, 4 }, { 3, 2, 4, 4 }, true, { stride = 2, padding = 1 })
case('conv_transpose', 'groups, dilation', { 1, 4, 3, 3 }, { 4, 3, 2, 3 }, true,
  { groups = 2, dilation = { 2, 1 }, stride = { 1, 2 } })
case('conv_transpose', 'output padding below the dilation', { 1, 2, 3, 3 }, { 2, 2, 2, 2 }, true,
  { dilation = 3, output_padding = 2 })
case('conv_transpose', 'per-side and negative padding', { 1, 2, 3, 4 }, { 2, 2, 3, 2 }, false,
  { padding = { { 1, 0 }, { -1, 1 } }, stride = 2 })
case('conv_transpose', 'depthwise', { 2, 3, 3, 3 }, { 3, 1, 3, 3 }, true, { groups = 3, stride = 2 })
case('conv_transpose', 'plain', { 1, 2, 2, 3, 2 }, { 2, 2, 2, 2, 3 }, true, { stride = { 2, 1, 2 } })

return cases
