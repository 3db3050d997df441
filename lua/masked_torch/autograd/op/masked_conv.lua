--- masked_conv: convolution over incomplete data: mask rule x re-weighting x output gate. core/masked_conv.h has the formulas.
--
-- What follows from mask and geometry alone (the new mask, the ratios) is computed once and kept on the Mask; the output Mask
-- too, so that the next layer finds its own results there. Masks and whatever is computed from them, weights included, are
-- constants of the differentiation: gradients are exact for the given mask and ratios.

local ffi = require 'ffi'
local activations = require 'masked_torch.autograd.activations'
local autograd = require 'masked_torch.autograd'
local autocast = require 'masked_torch.autograd.autocast'
local widened = require('masked_torch.autograd.bfloat16').widened
local geometry = require 'masked_torch.autograd.geometry'
local masks = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail
local IDENTITY = native.cpu.MT_ACTIVATION_IDENTITY

local function handle(t) return t and t._c or nil end

local function same_layout(x)
  return Tensor.empty_like(x)
end

-- y = f(gate((conv(cleared x, w)) * q^alpha + b)); see masked_conv.h; f: activation, a and norm of core/conv.h, the norm without a
-- graph and where in_one(plan). plan, all but the first two optional:
--   geometry                mt_conv
--   shape, strides          of y
--   valid, active           the pixels of x that count and those of y that are computed (conv.h)
--   clear, clear_kernel     the mask of x and what applies it, where `valid` does not say everything
--   pass                    the gradient of cleared holes passes
--   q, r                    ratios; q^alpha where alpha is a number
--   m, soft                 the gate; it has other values than 0 and 1
-- Maps of one channel go into the convolution; r and m of many channels finish its result afterwards.
local function one_channel(t) return not t or t:size(2) == 1 end
local function in_one(plan) return one_channel(plan.r) and one_channel(plan.soft and plan.m) end

local masked_conv = autograd.op{
  name = 'masked_conv',
  bfloat16 = 'products',      -- but see `alone`
  forward = function(ctx, x, w, b, alpha, plan, activation, a, norm)
    local K, g, r, m = x.K, plan.geometry, plan.r, plan.soft and plan.m
    if plan.clear then
      local cleared = same_layout(x)
      check(K[plan.clear_kernel](cleared._c, x._c, plan.clear._c))
      x = cleared
    end
    local learnt = plan.q and Tensor.is_tensor(alpha)
    if learnt then
      r = same_layout(plan.q)
      check(K.mt_masked_conv_power(r._c, plan.q._c, alpha:item()))
    end
    local y = Tensor.empty('masked_conv', plan.shape, x.dtype, x.device, plan.strides)
    local raw     -- only the gradient of alpha needs the unfinished result
    if one_channel(r) and one_channel(m) and not (learnt and ctx.needs[4]) then
      check(K.mt_conv_forward(y._c, x._c, w._c, handle(b), g, handle(plan.valid), handle(plan.active), handle(r), handle(m),
        handle(norm), activation, a))
    else
      raw = learnt and ctx.needs[4] and same_layout(y) or y
      check(K.mt_conv_forward(raw._c, x._c, w._c, nil, g, handle(plan.valid), handle(plan.active), nil, nil, nil,
        IDENTITY, 0))
      check(K.mt_masked_conv_finish(y._c, raw._c, handle(r), handle(b), handle(plan.m), activation, a))
    end
    ctx.plan, ctx.r, ctx.activation, ctx.a, ctx.bias = plan, r, activation, a, b and b.dtype
    if plan.clear and not ctx.wanted then x:release() end     -- the cleared copy: its memory is still in the cache
    ctx:save(x, w, activation ~= IDENTITY and y or nil, Tensor.is_tensor(alpha) and alpha or nil, raw ~= y and raw or nil)
    return y
  end,
  backward = function(ctx, dy)
    local x, w, y, alpha, raw = ctx:saved()
    local plan, r, needs = ctx.plan, ctx.r, ctx.needs
    local K, g, m, valid, active = x.K, plan.geometry, plan.soft and plan.m, handle(plan.valid), handle(plan.active)
    local f, a, learnt = ctx.activation, ctx.a, needs[4] and plan.q
    local draw, dx, dw, db, dalpha = dy, nil, nil, nil, nil
    if needs[3] then db = Tensor.empty('masked_conv', { w:size(1) }, ctx.bias, w.device) end
    if one_channel(r) and one_channel(m) then
      -- One pass: the activation, the gate and the ratios, and the sums of the bias, which is not re-weighted.
      if learnt and y then
        dy = same_layout(y)
        check(K.mt_conv_backward_epilogue(dy._c, nil, draw._c, y._c, nil, nil, nil, f, a))
        draw, y, f = dy, nil, IDENTITY
      end
      if y or r or m or db then
        local changed = (y or r or m) and (needs[1] or needs[2])
        if changed then draw = learnt and same_layout(dy) or ctx:gradient_like(dy, y or dy) end
        check(K.mt_conv_backward_epilogue(changed and draw._c or nil, handle(db), dy._c, handle(y), active, handle(r), handle(m), f, a))
      end
    else
      if y then
        dy = same_layout(y)
        check(K.mt_conv_backward_epilogue(dy._c, nil, draw._c, y._c, nil, nil, nil, f, a))
      end
      local function gated(scale)
        local result = same_layout(dy)
        check(K.mt_masked_conv_finish_backward(result._c, dy._c, handle(scale), handle(m)))
        return result
      end
      draw = (needs[1] or needs[2] or needs[3] and not r) and gated(r)
      if db then
        local d = r and gated() or draw
        check(K.mt_conv_backward_epilogue(nil, db._c, d._c, nil, active, nil, nil, IDENTITY, 0))
      end
    end
    if needs[1] then
      dx = same_layout(x)
      check(K.mt_conv_backward_input(dx._c, draw._c, w._c, nil, g, not plan.pass and valid or nil, active))
      if plan.clear and not plan.pass then check(K[plan.clear_kernel](dx._c, dx._c, plan.clear._c)) end
    end
    if needs[2] then
      dw = same_layout(w)
      check(K.mt_conv_backward_weight(dw._c, draw._c, x._c, g, valid, active))
    end
    if draw and draw ~= dy then draw:release() end     -- its memory is in the cache
    if needs[4] and not plan.q then     -- nothing is re-weighted
      dalpha = same_layout(alpha)
      check(K.mt_tensor_fill(dalpha._c, 0))
    elseif needs[4] then
      dalpha = same_layout(alpha)
      check(K.mt_masked_conv_alpha_backward(dalpha._c, dy._c, raw._c, r._c, plan.q._c, handle(plan.m)))
    end
    return dx, dw, db, dalpha
  end,
}

-- The same where the kernels of conv.h do all of it: they take bfloat16 as it is. The profile and torch.inspect exchange the
-- functions of the registered operation: they are looked up at every call.
local alone = autograd.operation{ name = 'masked_conv', registered = true, bfloat16 = 'itself',
  forward = function(ctx, x, w, b, alpha, plan, activation, a, norm)
    return masked_conv.forward(ctx, x, w, b, alpha, plan, activation, a, norm)
  end,
  backward = function(ctx, dy) return masked_conv.backward(ctx, dy) end }
local function is_alone(plan, alpha)
  return not plan.clear and not Tensor.is_tensor(alpha) and in_one(plan)
end

-- ---- the plan ----------------------------------------------------------------------------------------------------

local rules = { keep = 0, grow = 1, erode = 2, coverage = 3, confidence = 4, centre = 5 }
local rule_weighs = { confidence = true, centre = true }
local norms = { count = 0, l1 = 1, l2 = 2 }
local clear_kernels = { select = 'mt_mask_select', values = 'mt_mask_select', multiply = 'mt_mask_apply' }

-- ---- what follows from sizes and options: kept in their frame (autograd/geometry.lua) --------------------------------------

local function geometry_key(g)
  local list = { g.groups }
  for d = 0, g.dims - 1 do
    list[#list + 1] = ('%d,%d,%d,%d,%d'):format(tonumber(g.kernel[d]), tonumber(g.stride[d]), tonumber(g.dilation[d]),
      tonumber(g.pad_before[d]), tonumber(g.pad_after[d]))
  end
  return table.concat(list, ';')
end

-- Masks of ones by shape: layers without a mask that look at the border share their windows from call to call.
local full_masks, full_count = {}, 0
local function full_mask(shape, device)
  local key = device .. ' ' .. table.concat(shape, ',')
  local m = full_masks[key]
  if not m then
    if full_count >= 64 then full_masks, full_count = {}, 0 end
    m = masks.full(shape, { device = device })
    full_masks[key], full_count = m, full_count + 1
  end
  return m
end

-- The tap whose position keep and centre look at. A causal output stands where its last tap does.
local function centre_tap(g, d, opts)
  local kernel = tonumber(g.kernel[d])
  return opts.padding == 'causal' and kernel - 1 or math.floor(kernel / 2)
end

-- A rule-keep output whose window centres are the input's own positions.
local function is_identity(g, opts, size, out)
  for d = 0, g.dims - 1 do
    if g.stride[d] ~= 1 or size[d + 1] ~= out[d + 1] or
      tonumber(g.pad_before[d]) ~= centre_tap(g, d, opts) * tonumber(g.dilation[d]) then
      return false
    end
  end
  return true
end

-- Has every window its centre in the image? Padding beyond half a kernel puts windows outside, where nothing is valid. (An even
-- kernel has two middle taps; one of them suffices.)
local function centres_inside(g, opts, size, out)
  if opts.padding == 'causal' then return true end
  for d = 0, g.dims - 1 do
    local kernel, dilation = tonumber(g.kernel[d]), tonumber(g.dilation[d])
    local before, stride = tonumber(g.pad_before[d]), tonumber(g.stride[d])
    if math.floor(kernel / 2) * dilation < before or
      math.floor((kernel - 1) / 2) * dilation - before + (out[d + 1] - 1) * stride >= size[d + 1] then
      return false
    end
  end
  return true
end

-- Has every window a tap in the image? (Where an axis is shorter than the dilation the answer may be no although it is yes.)
local function taps_inside(g, size, out)
  for d = 0, g.dims - 1 do
    local before, dilation = tonumber(g.pad_before[d]), tonumber(g.dilation[d])
    if dilation * (tonumber(g.kernel[d]) - 1) < before or (out[d + 1] - 1) * tonumber(g.stride[d]) - before >= size[d + 1] or
      size[d + 1] < dilation then
      return false
    end
  end
  return true
end

local function complete(frame, opts)
  local g = frame.geometry
  frame.inside, frame.touching = centres_inside(g, opts, frame.spatial, frame.out), taps_inside(g, frame.spatial, frame.out)
  frame.identity = is_identity(g, opts, frame.spatial, frame.out)
  frame.window, frame.maps = ffi.new('mt_window'), {}
  for d = 0, g.dims - 1 do frame.window.centre[d] = centre_tap(g, d, opts) end
end

local function window_of(frame, opts, multiplicity)
  local v = frame.window
  v.border, v.strict, v.multiplicity, v.eps = opts.border and 1 or 0, opts.compat and 1 or 0, multiplicity, opts.eps
  return v
end

-- Shape and strides of a map over the outputs.
local function map_shape(frame, N, channels)
  if N == frame.shape[1] and channels == frame.shape[2] then return frame.shape, frame.strides end
  local map = frame.maps[channels]
  if not map or map.shape[1] ~= N then
    local shape = { N, channels, unpack(frame.out) }
    map = { shape = shape, strides = Tensor.channels_last(shape) }
    frame.maps[channels] = map
  end
  return map.shape, map.strides
end

-- Under which names a mask keeps what rules and ratios make of it: they say everything that it depends on.
local function names_of(c)
  local frame, opts, multi = c.frame, c.opts, c.opts.multichannel or c.per_channel
  local names = frame[multi]
  if not names or names.border ~= opts.border or names.eps ~= opts.eps then
    local key = ('%s %s%s border %s multi %s eps %.17g in %d out %d'):format(c.x.dtype, geometry_key(frame.geometry),
      opts.padding == 'causal' and ' causal' or '', tostring(opts.border), tostring(multi), opts.eps, c.w:size(2), c.w:size(1))
    names = { border = opts.border, eps = opts.eps, ratio = 'conv ratio ' .. key, key = key, mask = {} }
    for rule in pairs(rules) do names.mask[rule] = 'conv mask ' .. rule .. ' ' .. key end
    frame[multi] = names
  end
  return names
end

-- ---- masks and ratios --------------------------------------------------------------------------------------------------

-- Everything about one call: c = { x, w, mask (a Mask), dense (its compact tensor), frame, opts, per_channel }.
local function map_tensor(c, channels)
  local shape, strides = map_shape(c.frame, tonumber(c.dense._c.shape[0]), channels)
  return (Tensor.empty('masked_conv', shape, Tensor.kernel_type(c.x.dtype), c.x.device, strides))
end

local function plan_tensor(c, kernel, code, weighted, opts)
  local dense, frame = c.dense, c.frame
  local t = map_tensor(c, (weighted or (c.per_channel and opts.groups > 1)) and c.w:size(1) or 1)
  local multiplicity = dense:size(2) == 1 and (opts.multichannel or c.per_channel) and c.w:size(2) or 1
  check(c.x.K[kernel](t._c, dense._c, c.mask:kinds()._c, weighted and c.w._c or nil, frame.geometry,
    window_of(frame, opts, multiplicity), code))
  return t
end

-- Confidences and ratios by the same norm are made of the same sums: one pass gives both, new mask and ratios.
local function confidences(c)
  local m = map_tensor(c, c.w:size(1))
  local q = same_layout(m)
  check(c.x.K.mt_masked_conv_confidence(m._c, q._c, c.dense._c, c.mask:kinds()._c, c.w._c, c.frame.geometry,
    window_of(c.frame, c.opts, 1)))
  return m, q
end

local function output_mask(c)
  local opts, rule = c.opts, c.opts.rule
  -- A one-channel mask for many channels stays one channel; elsewhere it is weighted when eps shows.
  local exact = opts.compat or opts.eps > 0 and (c.per_channel or c.x:size(2) == 1)
  if rule == 'centre' and c.dense:size(2) == 1 and not exact then rule = 'keep' end
  if rule == 'keep' and c.dense:size(2) == 1 and c.frame.identity then return c.mask end
  local weighted = rule_weighs[rule] or false
  if rule == 'confidence' and c.confidence then return masks.wrap(c.confidence) end
  if weighted then return masks.wrap(plan_tensor(c, 'mt_masked_conv_mask', rules[rule], true, opts)) end
  local name = names_of(c).mask[rule]
  return c.mask:known(name) or
    c.mask:keep(name, masks.wrap(plan_tensor(c, 'mt_masked_conv_mask', rules[rule], false, opts)))
end

local function ratios(c, alpha)
  local opts = c.opts
  local weighted = opts.reweight ~= 'count'
  local names, q = not weighted and names_of(c)
  if opts.reweight == 'l1' and opts.rule == 'confidence' then
    c.confidence, q = confidences(c)
  elseif weighted then
    q = plan_tensor(c, 'mt_masked_conv_ratio', norms[opts.reweight], true, opts)
  else
    q = c.mask:known(names.ratio) or
      c.mask:keep(names.ratio, plan_tensor(c, 'mt_masked_conv_ratio', norms.count, false, opts))
  end
  if Tensor.is_tensor(alpha) or alpha == 1 then return q, q end
  if names and names.alpha ~= alpha then
    names.alpha, names.power = alpha, ('conv power %.17g %s'):format(alpha, names.key)
  end
  local r = names and c.mask:known(names.power)
  if not r then
    r = same_layout(q)
    check(c.x.K.mt_masked_conv_power(r._c, q._c, alpha))
    if names then c.mask:keep(names.power, r) end
  end
  return q, r
end

-- Is the result of a mask of ones full as well? inside: every window has its centre in the image.
local function stays_full(opts, inside)
  if opts.rule == 'keep' then return inside end
  return opts.rule == 'centre' and inside and opts.eps == 0
end

-- Without a hole and without a border to correct, the operator is the plain convolution.
local function is_plain(mask, opts, inside, touching)
  if opts.compat and mask then return false end
  if mask and not mask:known_full() then return false end
  local at_centre = opts.rule == 'keep' or opts.rule == 'centre'
  if mask and not (at_centre and stays_full(opts, inside) or not at_centre and touching) then return false end
  local looks_outside = opts.reweight ~= 'none' or (opts.rule ~= 'keep' and opts.rule ~= 'centre' and opts.rule ~= 'grow')
  return not (opts.border and looks_outside)
end

-- The result of a full mask where it stays full: nil for nil.
local function still_full(mask, frame, x)
  if not mask then return nil end
  if mask.shape[2] == 1 and frame.identity then return mask end
  return full_mask((map_shape(frame, mask.shape[1], 1)), x.device)
end

-- The dense mask, a pixel's channels side by side where x's are: kernels walk both together.
local function dense_mask(mask, x)
  local t = mask:compact(x.dtype)
  local c = t._c
  if c.shape[1] == 1 or c.stride[1] == 1 or x._c.stride[1] ~= 1 then return t end
  local name = 'channels last ' .. x.dtype
  local turned = mask:known(name)
  if turned then return turned end
  local shape = t:size()
  turned = Tensor.empty('masked_conv', shape, t.dtype, t.device, Tensor.channels_last(shape))
  check(t.K.mt_tensor_copy(turned._c, t._c))
  return mask:keep(name, turned)
end

local function new_plan(frame)
  return { geometry = frame.geometry, shape = frame.shape, strides = frame.strides, valid = nil, active = nil, pass = nil,
    clear = nil, clear_kernel = nil, q = nil, r = nil, m = nil, soft = nil }
end

local function make_plan(x, w, mask, frame, opts, alpha)
  if frame.inside == nil then complete(frame, opts) end
  local inside = frame.inside
  if is_plain(mask, opts, inside, frame.touching) then
    frame.plain = frame.plain or new_plan(frame)
    return frame.plain, still_full(mask, frame, x)
  end
  local plan = new_plan(frame)
  local given, full = mask, not mask or mask:known_full()
  if not mask or full and not opts.compat and not (opts.rule == 'centre' and opts.eps > 0) then
    frame.full = frame.full or { 1, 1, unpack(frame.spatial) }
    mask = full_mask(frame.full, x.device)
  end
  -- A mask that says the same in every channel is one of one channel, which counts once per channel.
  local per_channel = mask.shape[2] > 1
  local base = mask:one_channel()
  local c = { x = x, w = w, mask = base, frame = frame, opts = opts, dense = dense_mask(base, x), per_channel = per_channel,
    confidence = nil }
  if opts.premask ~= 'none' and not full then
    plan.valid, plan.pass = base:valid(), opts.premask == 'values'
    if c.dense:size(2) > 1 or opts.premask == 'multiply' and not base:known_binary() then
      plan.clear, plan.clear_kernel = c.dense, clear_kernels[opts.premask]
    end
  end
  if opts.reweight ~= 'none' and alpha ~= 0 then plan.q, plan.r = ratios(c, alpha) end
  if not given and (opts.rule == 'keep' or opts.rule == 'centre') or
    full and not opts.compat and stays_full(opts, inside) then
    return plan, still_full(given, frame, x)
  end
  local result = output_mask(c)
  if opts.gate == 'mask' then
    plan.m, plan.active = result:compact(x.dtype), result:valid()
    plan.soft = plan.m:size(2) > 1 or not result:known_binary()
  end
  if per_channel and result.shape[2] == 1 and (rule_weighs[opts.rule] or opts.groups > 1) then
    result = result:expand(result:size(1), w:size(1))
  end
  return plan, result
end

-- ---- arguments -----------------------------------------------------------------------------------------------

local defaults = { stride = options.any(1), padding = options.any(0), dilation = options.any(1), groups = 1, rule = 'keep',
  reweight = 'none', alpha = options.any(1), border = false, gate = 'mask', premask = 'select', multichannel = false, eps = 0,
  compat = false, gate_weight = options.none, gate_bias = options.none, activation = options.none, negative_slope = 0.01 }

local function check_parameter(op, name, t, like, shape_text, fits)
  Tensor.check(op, name, t)
  if not Tensor.multiplies(t, like) or not fits then
    fail('%s: %s: expected %s %s, got %s %s; input %s', op, name, shape_text, like.dtype, Tensor.shape_text(t), t.dtype,
      Tensor.shape_text(like))
  end
  Tensor.check_device_of(op, like, name, t)
end

local function check_arguments(op, x, w, b, opts)
  Tensor.check(op, 'input', x)
  Tensor.check(op, 'weight', w)
  local dims = x:dim() - 2
  if not Tensor.floating[x.dtype] or dims < 1 or dims > 3 then
    fail('%s: input: expected float32 or float64 (N, C, *S) with 1 to 3 spatial axes, got %s %s; weight %s', op,
      Tensor.shape_text(x), x.dtype, Tensor.shape_text(w))
  end
  native.integer(op, 'groups', opts.groups, 1, 2 ^ 31 - 1)
  local C, groups = x:size(2), opts.groups
  if C % groups ~= 0 then fail('%s: input: %d channels cannot be split into %d groups', op, C, groups) end
  local fitting = w:dim() == dims + 2 and w:size(2) == C / groups and w:size(1) % groups == 0
  if not fitting or not Tensor.multiplies(w, x) or w.device ~= x.device then
    check_parameter(op, 'weight', w, x, ('(out, %d, one size for each of %d axes)'):format(C / groups, dims), fitting)
  end
  if b ~= nil then
    Tensor.check(op, 'bias', b)
    fitting = b:dim() == 1 and b:size(1) == w:size(1)
    if not fitting or not Tensor.compatible(b, x) or b.device ~= x.device then
      check_parameter(op, 'bias', b, x, ('(%d)'):format(w:size(1)), fitting)
    end
  end
  return dims
end

local choices = { rule = { 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' },
  reweight = { 'none', 'count', 'l1', 'l2' }, gate = { 'mask', 'none', 'sigmoid' },
  premask = { 'select', 'values', 'multiply', 'none' } }

local function check_choices(op, x, opts)
  options.choice(op, 'rule', opts.rule, choices.rule)
  options.choice(op, 'reweight', opts.reweight, choices.reweight)
  options.choice(op, 'gate', opts.gate, choices.gate)
  options.choice(op, 'premask', opts.premask, choices.premask)
  native.number(op, 'eps', opts.eps)
  if not (opts.eps >= 0 and opts.eps < math.huge) then fail('%s: eps: expected at least 0, got %g', op, opts.eps) end
  if Tensor.is_tensor(opts.alpha) then
    check_parameter(op, 'alpha', opts.alpha, x, '(1)', opts.alpha:numel() == 1)
  else
    native.number(op, 'alpha', opts.alpha)
    if opts.alpha ~= opts.alpha or math.abs(opts.alpha) == math.huge then
      fail('%s: alpha: expected a finite number, got %g', op, opts.alpha)
    end
  end
end

--- F.masked_conv(x, w, b, mask, options), F.masked_conv1d(...), F.masked_conv2d(...), F.masked_conv3d(...) -> y, mask
--
--     y = gate(conv(x with its holes cleared, w) * (K / S)^alpha + b)
--
-- x (N, C, *S), 1 to 3 spatial axes; w (O, C / groups, *K); b (O) or nil; mask: nil, a Mask or a tensor (N or 1, C or 1, *S)
-- or (*S).
-- Options (stride, padding, dilation, groups as in F.conv2d):
--   rule      'keep' (default: the mask at the kernel's centre, tap floor(k / 2) of each axis, counted before dilation; with
--             padding = 'causal' at the last tap, the output's own position; of several channels the largest), 'grow'
--             (min(1, sum of the mask over the window)), 'erode' (its minimum), 'coverage' (its mean), 'confidence' (its
--             mean weighted by |w|), 'centre' (the mean over channels at the centre, weighted by sum |w|: masked_torch's
--             MaskedConv)
--   reweight  'none' (default), 'count' (K taps in the window, S valid ones), 'l1', 'l2' (norms of all and of the valid weights)
--   alpha     the exponent, 1; a number or a tensor of one element, which may require a gradient. 1 preserves the mean of a
--             constant input, 1/2 the second moment under random weights, 0 is zero padding
--   border    true: taps outside the image are invalid ones; false (default): they do not exist
--   gate      'mask' (default: y * m'), 'none', 'sigmoid' (times sigmoid of a second convolution: gate_weight, gate_bias)
--   premask   'select' (default: holes count as 0, whatever they hold), 'values' (likewise, but the gradient passes into the
--             holes, as if the caller had cleared them), 'multiply' (soft masks weigh x), 'none' (x is trusted)
--   multichannel  a one-channel mask counts once per input channel in K and S (matters for soft masks)
--   eps       added to S and to the denominator of confidences; 0: empty windows are recognised instead
--   activation  'relu', or 'leaky_relu' with negative_slope (0 to 1; 0.01): y goes through it before it is stored, as for F.conv2d
--   compat    masked_torch's arithmetic to the letter: no shortcut for full masks, filters of zeros have mask 0
-- An empty window gives 0, ungated the bias. A full mask equals nil and, unless border is set with re-weighting, the plain
-- convolution, to the bit; but where padding beyond half a kernel puts a window's centre outside the image, a mask of ones is
-- 0 there under 'keep' and 'centre', as any other mask is, and where the whole window is outside, under the other rules; nil
-- says nothing. An eps that is given counts under 'centre'.
-- The mask keeps one channel where the rule allows it; nil stays nil unless border is corrected.
-- Sources: Liu et al. 2018 (PartialConv), Uhrig et al. 2017 (sparsity invariant), Knutsson and Westin 1993 and Eldesokey et al.
-- 2018 (normalised), Graham and van der Maaten 2017 (submanifold), Yu et al. 2019 (gated).
local function public(op, expected_dims)
  return function(x, w, b, mask, opts)
    -- A layer keeps a table with all of them.
    if not (options.is_own(opts) and opts.whole) then opts = options.parse(op, defaults, opts) end
    local dims = check_arguments(op, x, w, b, opts)
    if expected_dims and dims ~= expected_dims then
      fail('%s: input: expected %d dimensions, got %s %s', op, expected_dims + 2, Tensor.shape_text(x), x.dtype)
    end
    check_choices(op, x, opts)
    mask = masks.of(op, mask, x)
    local plan, result = make_plan(x, widened(w), mask, geometry.frame(op, x, w, opts), opts, opts.alpha)
    x, w = autocast.operands(x, w)     -- what follows from the weights' values does from those in float32
    local activation, a = activations.behind(op, opts)
    -- In its wide form bfloat16 is rounded after the activation, which is to find it rounded; so is a norm in every form.
    local gated, itself = opts.gate == 'sigmoid', is_alone(plan, opts.alpha)
    local norm = opts.norm      -- a layer's alone: nn/fusion.lua
    local table_of = norm and not gated and in_one(plan) and x.dtype ~= 'bfloat16' and norm:frozen() or nil
    local fused = not gated and (table_of or not norm and (itself or x.dtype ~= 'bfloat16'))
    local y = (itself and alone or masked_conv)(x, w, b, opts.alpha, plan, fused and activation or IDENTITY, a, table_of)
    if table_of then table_of:release() end
    if gated then
      local gw, gb = opts.gate_weight, opts.gate_bias
      check_parameter(op, 'gate_weight', gw, x, Tensor.shape_text(w),
        Tensor.is_tensor(gw) and Tensor.shape_text(gw) == Tensor.shape_text(w))
      if gb then
        check_parameter(op, 'gate_bias', gb, x, ('(%d)'):format(w:size(1)),
          Tensor.is_tensor(gb) and gb:dim() == 1 and gb:size(1) == w:size(1))
      end
      local gate_plan = { geometry = plan.geometry, shape = plan.shape, strides = plan.strides, valid = plan.valid, clear = plan.clear,
        clear_kernel = plan.clear_kernel, pass = plan.pass }
      gw = select(2, autocast.operands(x, gw))
      local gate = (is_alone(gate_plan) and alone or masked_conv)(x, gw, gb, 1, gate_plan, IDENTITY, 0)
      y = y * gate:sigmoid()
    elseif opts.gate_weight or opts.gate_bias then
      fail("%s: gate_weight, gate_bias: only gate = 'sigmoid' has them", op)
    end
    if norm and not table_of then y = norm:forward(y, result) end
    if not fused then y = activations.apply(y, activation, a) end
    return y, result
  end
end

return {
  -- For the gradient tests, which hold the plan still while the weights move: plan(x, w, mask, options), masked_conv(x, w, b,
  -- alpha, plan).
  plan = function(x, w, mask, opts)
    opts = options.parse('masked_conv', defaults, opts)
    return make_plan(x, widened(w), masks.of('masked_conv', mask, x), geometry.frame('masked_conv', x, w, opts), opts, opts.alpha)
  end,
  masked_conv = masked_conv,
  internal = { defaults = defaults, choices = choices },
  functional = {
    masked_conv = public('masked_conv'),
    masked_conv1d = public('masked_conv1d', 1),
    masked_conv2d = public('masked_conv2d', 2),
    masked_conv3d = public('masked_conv3d', 3),
  },
}
