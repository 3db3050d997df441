--- loss: cross_entropy, nll_loss, mse_loss, l1_loss, smooth_l1_loss, huber_loss, binary_cross_entropy_with_logits, kl_div.
--
-- Options of all: reduction = 'mean' | 'sum' | 'none', mask = nil. The mask says which positions (or elements) count: where it
-- is 0 nothing is read and nothing is added; the mean divides by what counts. So padding changes neither the loss nor a
-- gradient, to the bit. Sums add in double in raster order. Nothing to add: sum 0, mean NaN.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local mask_argument = require 'masked_torch.autograd.mask_argument'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check, fail = native.cpu, native.check, native.fail
local REDUCTIONS = { 'mean', 'sum', 'none' }
local CODE = { none = C.MT_LOSS_NONE, sum = C.MT_LOSS_SUM, mean = C.MT_LOSS_MEAN }

local function check_operand(op, x, argument, t)
  Tensor.check(op, argument, t)
  Tensor.check_device_of(op, x, argument, t)
  return t
end

local function real(op, x)
  Tensor.check(op, 'input', x)
  if not Tensor.floating[x.dtype] then
    fail('%s: input: expected float32 or float64, got %s %s', op, Tensor.shape_text(x), x.dtype)
  end
end

-- The weight of a class or element: a constant of x's dtype.
local function constant(op, x, argument, t)
  if t == nil then return nil end
  check_operand(op, x, argument, t)
  if not Tensor.compatible(t, x) then
    fail('%s: %s: expected %s, got %s %s', op, argument, x.dtype, Tensor.shape_text(t), t.dtype)
  end
  if t.requires_grad then fail('%s: %s: is a constant: no gradient flows into it; use :detach()', op, argument) end
  return t
end

-- ---- classes -------------------------------------------------------------------------------------------------

local function settings_of(given, logits)
  return ffi.new('mt_loss_classes', { ignore_index = given.ignore_index or 0, ignore = given.ignore_index and 1 or 0,
    label_smoothing = given.label_smoothing, reduction = CODE[given.reduction], logits = logits })
end

local function pointer(t) return t and t._c end

local function classes_op(name, logits)
  return autograd.op{
    name = name,
    bfloat16 = 'float32',
    forward = function(ctx, x, target, weight, mask, given)
      local settings, shape, positions = settings_of(given, logits), Tensor.shape_of(x), 1
      table.remove(shape, math.min(2, #shape))
      for _, n in ipairs(shape) do positions = positions * n end
      local y = Tensor.empty(name, given.reduction == 'none' and shape or {}, x.dtype, x.device)
      local total = Tensor.empty(name, {}, 'float64', x.device)
      local hits = given.metric and Tensor.empty(name, {}, 'int64', x.device) or nil
      local in_place, ahead = ctx.wanted and given.inplace, ctx.wanted and logits == 1
      local state = ahead and not in_place and Tensor.empty(name, { positions, 2 }, 'float64', x.device) or nil
      -- The gradient for dy = 1 comes out of the same pass: later, logits and exponentials would have to be read or computed again.
      local gradient = in_place and x or ahead and Tensor.empty_like(x) or nil
      check(x.K.mt_loss_classes_forward(y._c, pointer(hits), pointer(state), pointer(gradient), total._c, x._c, target._c,
        pointer(weight), pointer(mask), settings))
      if in_place then
        Tensor.bump(x)
        ctx:save(x)
      elseif ctx.wanted then
        ctx.settings = settings
        ctx:save(x, total, target, state, weight, mask, gradient)
      end
      return y, hits
    end,
    backward = function(ctx, dy)
      if ctx.settings == nil then    -- the gradient lies where the logits were
        if ctx.given_away then
          fail('%s: backward: with inplace = true the gradient is gone after the first backward', name)
        end
        ctx.given_away = true
        local x = ctx:saved()
        check(dy.K.mt_loss_classes_scale(x._c, dy._c))    -- it looks for a 1 itself: reading one here would wait for a device
        Tensor.bump(x)
        return x:detach()
      end
      local x, total, target, state, weight, mask, gradient = ctx:saved()
      if gradient and not ctx.retained then
        check(dy.K.mt_loss_classes_scale(gradient._c, dy._c))
        local dx = gradient:detach()    -- made in this run, and soon the only one to hold the memory: it is freed after its use
        gradient:release()
        return dx
      end
      local dx = Tensor.empty_like(x)
      check(dy.K.mt_loss_classes_backward(dx._c, dy._c, pointer(state), total._c, x._c, target._c, pointer(weight), pointer(mask),
        ctx.settings))
      return dx
    end,
  }
end

-- The mask of positions as (N or 1, 1, *S), or (1) for a vector of classes. Tensors may come as (N, *S) too.
local function positions_mask(op, mask, x)
  if mask == nil then return nil end
  local shape = Tensor.shape_of(x)
  if Tensor.is_tensor(mask) and Tensor.check(op, 'mask', mask):dim() == #shape - 1 then
    local size, strides, at = Tensor.shape_of(mask), mask:stride(), math.min(2, #shape)
    table.insert(size, at, 1)
    table.insert(strides, at, 1)
    mask = Tensor.as_view(op, mask, size, strides, 0)
  end
  local m = mask_argument(op, mask, x)
  if m and #shape > 1 and m:size(2) ~= 1 then
    fail('%s: mask: expected one channel, (N, 1, ...) or (N, ...), for input %s; got %s', op, Tensor.shape_text(x),
      Tensor.shape_text(m))
  end
  if m and not Tensor.is_tensor(mask) and mask:known_full() then return nil end
  return m
end

local function over_classes(name, op, defaults)
  return function(x, target, opts)
    real(name, x)
    check_operand(name, x, 'target', target)
    opts = options.parse(name, defaults, opts)
    options.choice(name, 'reduction', opts.reduction, REDUCTIONS)
    if opts.ignore_index ~= nil then native.integer(name, 'ignore_index', opts.ignore_index) end
    opts.label_smoothing = opts.label_smoothing or 0
    if target.requires_grad then fail('%s: target: no gradient flows into it; use :detach()', name) end
    if x:dim() < 1 then fail('%s: input: expected (C) or (N, C, ...), got %s', name, Tensor.shape_text(x)) end
    if opts.inplace and x.requires_grad and autograd.is_grad_enabled() then autograd.check_in_place(name, x) end
    local y, hits = op(x, target, constant(name, x, 'weight', opts.weight), positions_mask(name, opts.mask, x), opts)
    return y, hits
  end
end

local functional = {}

--- cross_entropy(input, target, {weight = nil, ignore_index = nil, reduction = 'mean', label_smoothing = 0, mask = nil, metric = false,
-- inplace = false})
-- input: logits (N, C, *S) or (C). target: int64 labels 1..C of shape (N, *S), or probabilities of the input's shape.
--   loss = -sum_c w[c] q[c] log softmax(input)[c],  q = (1 - e) target + e / C,  e = label_smoothing
-- The mean divides by the sum of the weights of the labels that count (for probabilities: by their number), as PyTorch does.
-- mask: (N or 1, 1, *S), (N, *S), or a Mask: only valid positions count; a soft mask weights them.
-- Labels equal to ignore_index are left out; by default there is none (PyTorch's is -100: give it). A label outside 1..C
-- is an error. PyTorch's labels begin at 0.
-- metric = true: returns loss, hits; hits is an int64 tensor (), how many of the positions that count (mask not 0, not ignored) are
-- classified right: their label is what argmax gives. It comes out of the same pass over the logits.
-- inplace = true: where a gradient is wanted, it is written over the logits at once. That saves memory of their size and two passes
-- over it; the logits cannot be read afterwards: their version counts up, so an operation that kept them for its own gradient is
-- an error, not a wrong number.
functional.cross_entropy = over_classes('cross_entropy', classes_op('cross_entropy', 1), { weight = options.none,
  ignore_index = options.none, reduction = 'mean', label_smoothing = 0, mask = options.none, metric = false, inplace = false })

--- nll_loss(input, target, {weight = nil, ignore_index = nil, reduction = 'mean', mask = nil}): the same from log-probabilities,
-- -w[t] input[t]; labels only.
functional.nll_loss = over_classes('nll_loss', classes_op('nll_loss', 0), { weight = options.none,
  ignore_index = options.none, reduction = 'mean', mask = options.none })

-- ---- elements ------------------------------------------------------------------------------------------------

local function elements_op(name, kind)
  local function differentiate(ctx, dy, x, target, mask, pos_weight, of_target)
    local d = Tensor.empty_like(of_target == 1 and target or x)
    check(dy.K.mt_loss_elements_backward(d._c, dy._c, ctx.total._c, x._c, target._c, mask and mask._c,
      pos_weight and pos_weight._c, ctx.settings, of_target))
    return d
  end
  return autograd.op{
    name = name,
    bfloat16 = 'float32',
    forward = function(ctx, x, target, mask, pos_weight, reduction, parameter)
      ctx.settings = ffi.new('mt_loss_elements', { kind = kind, reduction = CODE[reduction], parameter = parameter })
      ctx.total = Tensor.empty(name, {}, 'float64', x.device)
      local y = reduction == 'none' and Tensor.empty_like(x) or Tensor.empty(name, {}, x.dtype, x.device)
      check(x.K.mt_loss_elements_forward(y._c, ctx.total._c, x._c, target._c, mask and mask._c,
        pos_weight and pos_weight._c, ctx.settings))
      ctx:save(x, target, mask, pos_weight)
      return y
    end,
    backward = function(ctx, dy)
      local x, target, mask, pos_weight = ctx:saved()
      return ctx.needs[1] and differentiate(ctx, dy, x, target, mask, pos_weight, 0) or nil,
        ctx.needs[2] and differentiate(ctx, dy, x, target, mask, pos_weight, 1) or nil
    end,
  }
end

-- The mask as the kernels take it; nil where it is known to change nothing.
local function elements_mask(name, mask, x)
  local m = mask_argument(name, mask, x)
  if m and not Tensor.is_tensor(mask) and mask:known_full() then return nil end
  return m
end

-- parameter(opts, x) -> the kind's number.
local function over_elements(name, kind, extra, parameter)
  local op = elements_op(name, kind)
  local defaults = { reduction = 'mean', mask = options.none }
  for key, value in pairs(extra) do defaults[key] = value end
  return function(x, target, opts)
    real(name, x)
    check_operand(name, x, 'target', target)
    opts = options.parse(name, defaults, opts)
    local reduction = options.choice(name, 'reduction', opts.reduction,
      name == 'kl_div' and { 'mean', 'sum', 'none', 'batchmean' } or REDUCTIONS)
    if not Tensor.compatible(target, x) or Tensor.shape_text(target) ~= Tensor.shape_text(x) then
      fail('%s: target: expected %s %s, like the input, got %s %s', name, Tensor.shape_text(x), x.dtype,
        Tensor.shape_text(target), target.dtype)
    end
    local pos_weight
    if opts.pos_weight then
      pos_weight = mask_argument(name, constant(name, x, 'pos_weight', opts.pos_weight), x)
    end
    local y = op(x, target, elements_mask(name, opts.mask, x), pos_weight, reduction == 'batchmean' and 'sum' or reduction,
      parameter and parameter(opts) or 0)
    if reduction == 'batchmean' then y = y / (x:dim() > 0 and x:size(1) or 1) end
    return y
  end
end

--- mse_loss(input, target, {reduction = 'mean', mask = nil}): (input - target)^2. Both have one shape: nothing is broadcast,
-- since a forgotten dimension would change the result silently. The mask broadcasts to it.
functional.mse_loss = over_elements('mse_loss', C.MT_LOSS_MSE, {})

--- l1_loss(input, target, {reduction = 'mean', mask = nil}): |input - target|. Gradient 0 where they are equal.
functional.l1_loss = over_elements('l1_loss', C.MT_LOSS_L1, {})

--- smooth_l1_loss(input, target, {beta = 1, reduction = 'mean', mask = nil}): d^2 / (2 beta) below beta, |d| - beta / 2 from
-- there.
functional.smooth_l1_loss = over_elements('smooth_l1_loss', C.MT_LOSS_SMOOTH_L1, { beta = 1 }, function(opts)
  if not (opts.beta >= 0) then fail('smooth_l1_loss: beta: expected at least 0, got %g', opts.beta) end
  return opts.beta
end)

--- huber_loss(input, target, {delta = 1, reduction = 'mean', mask = nil}): d^2 / 2 up to delta, delta (|d| - delta / 2) beyond.
functional.huber_loss = over_elements('huber_loss', C.MT_LOSS_HUBER, { delta = 1 }, function(opts)
  if not (opts.delta > 0) then fail('huber_loss: delta: expected more than 0, got %g', opts.delta) end
  return opts.delta
end)

--- binary_cross_entropy_with_logits(input, target, {pos_weight = nil, reduction = 'mean', mask = nil}):
-- -(q target log s(input) + (1 - target) log(1 - s(input))) with the logistic function s and q = pos_weight, which broadcasts.
functional.binary_cross_entropy_with_logits = over_elements('binary_cross_entropy_with_logits', C.MT_LOSS_BCE,
  { pos_weight = options.none })

--- kl_div(input, target, {log_target = false, reduction = 'mean', mask = nil}): target (log target - input), the input being
-- log-probabilities; log_target: the target too. reduction = 'batchmean' divides the sum by the batch size: that is the
-- divergence itself.
functional.kl_div = over_elements('kl_div', C.MT_LOSS_KL, { log_target = false }, function(opts)
  return opts.log_target and 1 or 0
end)

return { functional = functional }
