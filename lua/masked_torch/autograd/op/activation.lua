--- activation: relu, leaky_relu, elu, softplus, silu, gelu. Each op is one kernel forward and its neighbour backward.
-- sigmoid and tanh are among the elementwise functions, softmax has a file of its own.
--
-- Those that make a new tensor have the option mask = nil: a mask, or a tensor that broadcasts to x. Where it is 0 the result and the
-- gradient are 0, whatever stands there, and nothing is computed.

local autograd = require 'masked_torch.autograd'
local in_place = require 'masked_torch.autograd.in_place'
local mask_argument = require 'masked_torch.autograd.mask_argument'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check = native.cpu, native.check

-- name -> op(x, code, a, b, valid): a bool tensor or nil.
local function define(name, keeps_output)
  return autograd.op{
    name = name,
    bfloat16 = 'itself',
    forward = function(ctx, x, code, a, b, valid)
      local y = Tensor.empty_like(x)
      check(x.K.mt_activation_forward(y._c, x._c, valid and valid._c, code, a, b))
      ctx.code, ctx.a, ctx.b, ctx.valid = code, a, b, valid
      ctx:save(keeps_output and y or x)
      return y
    end,
    backward = function(ctx, dy)
      local x, valid = ctx:saved(), ctx.valid
      local dx = ctx:gradient_like(dy, x)
      check(x.K.mt_activation_backward(dx._c, dy._c, x._c, valid and valid._c, ctx.code, ctx.a, ctx.b))
      return dx
    end,
  }
end

local ops = {}
for _, name in ipairs { 'leaky_relu', 'elu', 'softplus', 'silu', 'gelu' } do ops[name] = define(name, false) end
ops.relu = define('relu', true)   -- lets a network free the inputs

local function apply(name, x, mask, code, a, b)
  Tensor.check(name, 'input', x)
  local y = ops[name](x, code, a or 0, b or 0, mask_argument(name, mask, x, 'bool'))
  return y
end

local function apply_(name, x, code, a, b)
  Tensor.check(name .. '_', 'input', x)
  local y = in_place(name .. '_', x, ops[name], function()
    check(x.K.mt_activation_forward(x._c, x._c, nil, code, a or 0, b or 0))
  end, code, a or 0, b or 0)
  return y
end

-- Options given by name, or the first of them in place: leaky_relu(x, 0.2), leaky_relu(x, {negative_slope = 0.2}).
-- names: those that may be given in place, in order.
local function parameters(op, defaults, names, first, second, third)
  local given, rest = { [names[1]] = first }, second
  if type(first) == 'table' then
    given = first
  elseif names[2] and type(second) ~= 'table' then
    given[names[2]], rest = second, third
    third = nil
  end
  if type(first) ~= 'table' and options.is_plain(rest) then
    for key, value in pairs(rest) do given[key] = value end
    rest = nil
  end
  options.none_left(op, rest)
  options.none_left(op, third)
  return options.parse(op, defaults, given)
end

local method, functional = {}, {}

local JUST_A_MASK, SLOPE, ALPHA = { mask = options.none }, { 'negative_slope' }, { 'alpha' }

-- The mask of a function without parameters.
local function mask_of(op, opts)
  if opts == nil then return nil end
  if not options.is_plain(opts) then options.none_left(op, opts) end
  return options.parse(op, JUST_A_MASK, opts).mask
end

--- relu(x, {mask = nil}) = max(x, 0)
function method.relu(x, opts)
  return (apply('relu', x, mask_of('relu', opts), C.MT_ACTIVATION_RELU))
end
function method.relu_(x, extra)
  options.none_left('relu_', extra)
  return (apply_('relu', x, C.MT_ACTIVATION_RELU))
end

local slope_in_place, slope_defaults = { negative_slope = 0.01 }, { negative_slope = 0.01, mask = options.none }

--- leaky_relu(x, [negative_slope = 0.01], {mask = nil}): x where x > 0, else negative_slope * x
function method.leaky_relu(x, negative_slope, opts)
  opts = parameters('leaky_relu', slope_defaults, SLOPE, negative_slope, opts)
  return (apply('leaky_relu', x, opts.mask, C.MT_ACTIVATION_LEAKY_RELU, opts.negative_slope))
end
function method.leaky_relu_(x, negative_slope, extra)
  local opts = parameters('leaky_relu_', slope_in_place, SLOPE, negative_slope, extra)
  return (apply_('leaky_relu', x, C.MT_ACTIVATION_LEAKY_RELU, opts.negative_slope))
end

local alpha_in_place, alpha_defaults = { alpha = 1 }, { alpha = 1, mask = options.none }

--- elu(x, [alpha = 1], {mask = nil}): x where x > 0, else alpha * (exp(x) - 1) (Clevert, Unterthiner, Hochreiter, 2015)
function method.elu(x, alpha, opts)
  opts = parameters('elu', alpha_defaults, ALPHA, alpha, opts)
  return (apply('elu', x, opts.mask, C.MT_ACTIVATION_ELU, opts.alpha))
end
function method.elu_(x, alpha, extra)
  return (apply_('elu', x, C.MT_ACTIVATION_ELU, parameters('elu_', alpha_in_place, ALPHA, alpha, extra).alpha))
end

--- silu(x, {mask = nil}) = x * sigmoid(x) (also called swish)
function method.silu(x, opts)
  return (apply('silu', x, mask_of('silu', opts), C.MT_ACTIVATION_SILU))
end
function method.silu_(x, extra)
  options.none_left('silu_', extra)
  return (apply_('silu', x, C.MT_ACTIVATION_SILU))
end

local gelu_defaults, APPROXIMATE, FORMULAS = { approximate = 'none', mask = options.none }, { 'approximate' }, { 'none', 'tanh' }

--- gelu(x, [approximate = 'none'], {mask = nil}) = x * Phi(x), Phi the normal distribution function (Hendrycks, Gimpel, 2016);
-- 'tanh': x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
function method.gelu(x, approximate, opts)
  opts = parameters('gelu', gelu_defaults, APPROXIMATE, approximate, opts)
  options.choice('gelu', 'approximate', opts.approximate, FORMULAS)
  return (apply('gelu', x, opts.mask, opts.approximate == 'tanh' and C.MT_ACTIVATION_GELU_TANH or C.MT_ACTIVATION_GELU))
end

local softplus_defaults, BETA_AND_THRESHOLD = { beta = 1, threshold = 20, mask = options.none }, { 'beta', 'threshold' }

--- softplus(x, [beta = 1], [threshold = 20], {mask = nil}) = log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold
function method.softplus(x, beta, threshold, opts)
  opts = parameters('softplus', softplus_defaults, BETA_AND_THRESHOLD, beta, threshold, opts)
  return (apply('softplus', x, opts.mask, C.MT_ACTIVATION_SOFTPLUS, opts.beta, opts.threshold))
end

for name, fn in pairs(method) do functional[name] = fn end
--- functional.sigmoid(x, {mask = nil}), functional.tanh(x, {mask = nil}): those of the tensor.
functional.sigmoid, functional.tanh = function(x, opts) return (Tensor.methods.sigmoid(x, opts)) end,
  function(x, opts) return (Tensor.methods.tanh(x, opts)) end

return { method = method, functional = functional }
