--- conv: convolution and transposed convolution over 1 to 3 spatial axes. core/conv.h has the formula and the order of sums.

local activations = require 'masked_torch.autograd.activations'
local autograd = require 'masked_torch.autograd'
local autocast = require 'masked_torch.autograd.autocast'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local spatial_each = require('masked_torch.autograd.spatial').each

local check, fail = native.check, native.fail
local IDENTITY = native.cpu.MT_ACTIVATION_IDENTITY

-- A new tensor (N, C, *S) with neighbouring channels.
local function channels_last(op, x, channels, spatial)
  local shape = { x:size(1), channels, unpack(spatial) }
  return Tensor.empty(op, shape, x.dtype, x.device, Tensor.channels_last(shape))
end

local function bias_gradient(dy, dtype)
  local db = Tensor.empty('conv', { dy:size(2) }, dtype, dy.device)
  check(dy.K.mt_conv_backward_epilogue(nil, db._c, dy._c, nil, nil, nil, nil, IDENTITY, 0))
  return db
end

local function weight_gradient(w, dy, x, g)
  local dw = Tensor.empty('conv', w:size(), w.dtype, w.device)
  check(x.K.mt_conv_backward_weight(dw._c, dy._c, x._c, g, nil, nil))
  return dw
end

local function input_gradient(x, dy, w, g)
  local dx = channels_last('conv', x, x:size(2), geometry.spatial(x))
  check(x.K.mt_conv_backward_input(dx._c, dy._c, w._c, nil, g, nil, nil))
  return dx
end

local names = { 'conv1d', 'conv2d', 'conv3d' }

-- y = f(conv(x, w) + b); frame: of geometry.frame; f: activation, a and norm of core/conv.h, the norm without a graph only
local conv = autograd.op{
  name = 'conv',
  bfloat16 = 'itself',
  forward = function(ctx, x, w, b, frame, activation, a, norm)
    local y = Tensor.empty(names[frame.dims], frame.shape, x.dtype, x.device, frame.strides)
    check(x.K.mt_conv_forward(y._c, x._c, w._c, b and b._c, frame.geometry, nil, nil, nil, nil, norm and norm._c, activation, a))
    ctx:save(x, w, activation ~= IDENTITY and y or nil)
    ctx.geometry, ctx.activation, ctx.a, ctx.bias = frame.geometry, activation, a, b and b.dtype
    return y
  end,
  backward = function(ctx, dy)
    local x, w, y = ctx:saved()
    local g, needs = ctx.geometry, ctx.needs
    local draw, db = dy, nil
    if y then
      draw = (needs[1] or needs[2]) and ctx:gradient_like(dy, y) or nil
      db = needs[3] and Tensor.empty('conv', { w:size(1) }, ctx.bias, w.device) or nil
      check(x.K.mt_conv_backward_epilogue(draw and draw._c, db and db._c, dy._c, y._c, nil, nil, nil, ctx.activation, ctx.a))
    elseif needs[3] then
      db = bias_gradient(dy, ctx.bias)
    end
    local dx, dw = needs[1] and input_gradient(x, draw, w, g) or nil, needs[2] and weight_gradient(w, draw, x, g) or nil
    if draw and draw ~= dy then draw:release() end
    return dx, dw, db
  end,
}

-- y = the adjoint of the convolution g applied to x, + b; spatial: sizes of y
local conv_transpose = autograd.op{
  name = 'conv_transpose',
  bfloat16 = 'itself',
  forward = function(ctx, x, w, b, g, spatial)
    local y = channels_last('conv_transpose' .. g.dims .. 'd', x, w:size(2) * g.groups, spatial)
    check(x.K.mt_conv_backward_input(y._c, x._c, w._c, b and b._c, g, nil, nil))
    ctx:save(x, w)
    ctx.geometry, ctx.bias = g, b and b.dtype
    return y
  end,
  backward = function(ctx, dy)
    local x, w = ctx:saved()
    local g, dx = ctx.geometry, nil
    if ctx.needs[1] then
      dx = channels_last('conv_transpose', x, x:size(2), geometry.spatial(x))
      check(x.K.mt_conv_forward(dx._c, dy._c, w._c, nil, g, nil, nil, nil, nil, nil, IDENTITY, 0))
    end
    return dx, ctx.needs[2] and weight_gradient(w, x, dy, g) or nil, ctx.needs[3] and bias_gradient(dy, ctx.bias) or nil
  end,
}

-- ---- arguments -----------------------------------------------------------------------------------------------

local axes = { { 'k' }, { 'kh', 'kw' }, { 'kd', 'kh', 'kw' } }

-- Types, devices, ranks and channels, with both shapes in every message. accepts: w has the rank and channels that `expected`
-- says in words (a function, for the message); outputs: how many channels y has.
local function check_arguments(op, dims, x, w, b, accepts, expected, groups, outputs)
  Tensor.check(op, 'input', x)
  Tensor.check(op, 'weight', w)
  if x:dim() ~= dims + 2 then
    fail('%s: input: expected %d dimensions (batch, channels, %s), got %s %s; weight %s', op, dims + 2,
      table.concat({ 'depth', 'height', 'width' }, ', ', 4 - dims), Tensor.shape_text(x), x.dtype, Tensor.shape_text(w))
  end
  if not Tensor.floating[x.dtype] then
    fail('%s: input: expected float32 or float64, got %s %s', op, Tensor.shape_text(x), x.dtype)
  end
  if not (w:dim() == dims + 2 and accepts) then
    fail('%s: weight: expected (%s, %s), got %s %s; input %s', op, expected(x, groups), table.concat(axes[dims], ', '),
      Tensor.shape_text(w), w.dtype, Tensor.shape_text(x))
  end
  if w.dtype ~= x.dtype then
    fail('%s: weight: expected %s like the input, got %s %s; input %s', op, x.dtype, Tensor.shape_text(w), w.dtype,
      Tensor.shape_text(x))
  end
  Tensor.check_device_of(op, x, 'weight', w)
  if b ~= nil then
    Tensor.check(op, 'bias', b)
    if b:dim() ~= 1 or b:size(1) ~= outputs or not Tensor.compatible(b, x) then
      fail('%s: bias: expected (%d) %s, got %s %s; weight %s', op, outputs, x.dtype, Tensor.shape_text(b), b.dtype,
        Tensor.shape_text(w))
    end
    Tensor.check_device_of(op, x, 'bias', b)
  end
end

-- F.conv2d(x, w, {stride = 2}): options where the bias would stand.
local function without_bias(b, opts)
  if opts == nil and options.is_plain(b) and #b == 0 then return nil, b end
  return b, opts
end

local modes = { 'zeros', 'reflect', 'replicate', 'circular' }

-- Pads x by another mode than zeros, and returns it with the geometry that is left: no padding.
local function pad_by_mode(x, g, mode)
  local amounts = {}
  for d = g.dims - 1, 0, -1 do      -- last axis first
    amounts[#amounts + 1] = tonumber(g.pad_before[d])
    amounts[#amounts + 1] = tonumber(g.pad_after[d])
    g.pad_before[d], g.pad_after[d] = 0, 0
  end
  local pad = require('masked_torch.nn.functional').pad
  return pad(x, amounts, { mode = mode })
end

local conv_defaults = { stride = options.any(1), padding = options.any(0), dilation = options.any(1), groups = 1,
  padding_mode = 'zeros', activation = options.none, negative_slope = 0.01 }

local function expected_plain(x, groups)
  return ('out, %d'):format(x:size(2) / groups) .. (groups > 1 and (' (groups %d)'):format(groups) or '')
end

local function convolution(dims)
  local op = 'conv' .. dims .. 'd'
  return function(x, w, b, opts)
    b, opts = without_bias(b, opts)
    -- A layer keeps a table with all of them.
    if not (options.is_own(opts) and opts.whole) then opts = options.parse(op, conv_defaults, opts) end
    options.choice(op, 'padding_mode', opts.padding_mode, modes)
    native.integer(op, 'groups', opts.groups, 1, 2 ^ 31 - 1)
    local activation, a = activations.behind(op, opts)
    local norm = opts.norm      -- a layer's alone: nn/fusion.lua
    Tensor.check(op, 'input', x)
    Tensor.check(op, 'weight', w)
    x, w = autocast.operands(x, w)
    local channels = x:dim() > 1 and x:size(2) or 0
    if channels % opts.groups ~= 0 then
      fail('%s: input: %d channels cannot be split into %d groups; input %s, weight %s', op, channels, opts.groups,
        Tensor.shape_text(x), Tensor.shape_text(w))
    end
    local outputs = w:dim() > 0 and w:size(1) or 0
    check_arguments(op, dims, x, w, b, w:dim() > 1 and w:size(2) == channels / opts.groups, expected_plain, opts.groups,
      outputs)
    if opts.padding_mode ~= 'zeros' then
      local g = geometry.conv(op, dims, geometry.spatial(w), opts)
      x = pad_by_mode(x, g, opts.padding_mode)
      opts = { stride = opts.stride, padding = 0, dilation = opts.dilation, groups = opts.groups }
    end
    local fused = not norm or x.dtype ~= 'bfloat16'     -- which is rounded before the norm
    local table_of = fused and norm and norm:frozen() or nil
    local y = conv(x, w, b, geometry.frame(op, x, w, opts), fused and activation or IDENTITY, a, table_of)
    if table_of then table_of:release() end
    if not fused then y = activations.apply(norm:forward(y), activation, a) end
    return y
  end
end

local transpose_defaults = { stride = options.any(1), padding = options.any(0), output_padding = options.any(0),
  dilation = options.any(1), groups = 1 }

local function expected_transposed(x) return ('%d, out / groups'):format(x:size(2)) end

local function transposed(dims)
  local op = 'conv_transpose' .. dims .. 'd'
  return function(x, w, b, opts)
    b, opts = without_bias(b, opts)
    opts = options.parse(op, transpose_defaults, opts)
    native.integer(op, 'groups', opts.groups, 1, 2 ^ 31 - 1)
    Tensor.check(op, 'input', x)
    Tensor.check(op, 'weight', w)
    x, w = autocast.operands(x, w)
    local channels = x:dim() > 1 and x:size(2) or 0
    check_arguments(op, dims, x, w, b, w:dim() > 1 and w:size(1) == channels, expected_transposed, opts.groups,
      w:dim() > 1 and w:size(2) * opts.groups or 0)
    if channels % opts.groups ~= 0 then
      fail('%s: input: %d channels cannot be split into %d groups; input %s, weight %s', op, channels, opts.groups,
        Tensor.shape_text(x), Tensor.shape_text(w))
    end
    if opts.padding == 'same' or opts.padding == 'causal' then
      fail("%s: padding: '%s' is not defined for a transposed convolution; expected a number or a table", op, opts.padding)
    end
    local g = geometry.conv(op, dims, geometry.spatial(w), opts)
    local extra = spatial_each(op, 'output_padding', opts.output_padding, dims, 0)
    local spatial = {}
    for d = 1, dims do
      local stride, extent = tonumber(g.stride[d - 1]), tonumber(g.dilation[d - 1] * (g.kernel[d - 1] - 1)) + 1
      if extra[d] >= math.max(stride, tonumber(g.dilation[d - 1])) and extra[d] > 0 then
        fail('%s: output_padding: expected less than the stride %d or the dilation %d, got %d', op, stride,
          tonumber(g.dilation[d - 1]), extra[d])
      end
      -- In the convolution this is the adjoint of, the extra positions at the end are cropped away.
      g.pad_after[d - 1] = g.pad_after[d - 1] - extra[d]
      spatial[d] = (x:size(d + 2) - 1) * stride + extent - tonumber(g.pad_before[d - 1] + g.pad_after[d - 1])
      if spatial[d] < 1 then
        fail('%s: input: the output would have size %d on spatial axis %d; input %s, weight %s', op, spatial[d], d,
          Tensor.shape_text(x), Tensor.shape_text(w))
      end
    end
    local y = conv_transpose(x, w, b, g, spatial)
    return y
  end
end

local algorithms = { [0] = 'auto', 'direct', 'winograd' }

return {
  internal = { conv_defaults = conv_defaults, transpose_defaults = transpose_defaults },
  torch = {
    --- torch.conv_algorithm([name]) -> the algorithm of convolutions in effect before the call; a name chooses another:
    --   'auto'      (default) Winograd's transform for float32 kernels of 3 or 5, 3 x 3 or 5 x 5, and 3 x 3 x 3 over a multiple
    --               of 16 channels, with stride and dilation 1, at least 32 channels and outputs (for 5 in one axis, 128), for
    --               samples whose valid part is 5 pixels wide (and high) or more; else direct sums
    --   'direct'    always direct sums: within 2e-6 of the exact result, relative to the largest output
    --   'winograd'  the transform wherever it is possible, however small; within 2e-5, typically 3e-6
    -- The choice of 'auto' depends on weights and valid parts alone: never on batch, padding or threads. float64 is always direct.
    conv_algorithm = function(name)
      local before = algorithms[native.cpu.mt_conv_algorithm_get()]
      if name ~= nil then
        options.choice('conv_algorithm', 'name', name, { 'auto', 'direct', 'winograd' })
        for code, known in pairs(algorithms) do
          if known == name then check(native.cpu.mt_conv_algorithm_set(code)) end
        end
      end
      return before
    end,
  },
  functional = {
    --- F.conv1d(x, w, [b], {stride = 1, padding = 0, dilation = 1, groups = 1, padding_mode = 'zeros', activation = nil,
    -- negative_slope = 0.01})
    --   y[n, o, p] = b[o] + sum over c, t of x[n, c, p * stride + t * dilation - before] * w[o, c, t]
    -- x (N, C, L), w (O, C / groups, K), b (O) or nil -> (N, O, L'), channels-last in memory.
    -- stride, dilation: a number or one per axis. padding: a number; one per axis; {before, after} per axis; 'same' (an odd
    -- total puts the extra position at the end), 'valid', 'causal' (all before). padding_mode: what lies outside: 'zeros',
    -- 'reflect', 'replicate', 'circular'. activation: 'relu', or 'leaky_relu' with negative_slope (0 to 1): y goes through it before
    -- it is stored; that is F.relu of the result to the bit, forward and backward, without a pass over memory.
    conv1d = convolution(1),
    --- F.conv2d: x (N, C, H, W), w (O, C / groups, KH, KW); else like conv1d.
    conv2d = convolution(2),
    --- F.conv3d: x (N, C, D, H, W), w (O, C / groups, KD, KH, KW); else like conv1d.
    conv3d = convolution(3),
    --- F.conv_transpose1d(x, w, [b], {stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1}): the adjoint of
    -- conv1d with the same weight. x (N, C, L), w (C, O / groups, K), b (O) or nil -> (N, O, L'),
    --   L' = (L - 1) * stride - before - after + dilation * (K - 1) + output_padding + 1
    conv_transpose1d = transposed(1),
    --- F.conv_transpose2d: x (N, C, H, W), w (C, O / groups, KH, KW); else like conv_transpose1d.
    conv_transpose2d = transposed(2),
    --- F.conv_transpose3d: x (N, C, D, H, W), w (C, O / groups, KD, KH, KW); else like conv_transpose1d.
    conv_transpose3d = transposed(3),
  },
}
