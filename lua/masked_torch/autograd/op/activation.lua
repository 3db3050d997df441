--- activation: relu, leaky_relu, elu, softplus, silu, gelu. Each op is one kernel forward and its neighbour backward.
-- sigmoid and tanh are among the elementwise functions, softmax has a file of its own.

local autograd = require 'masked_torch.autograd'
local in_place = require 'masked_torch.autograd.in_place'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check = native.cpu, native.check

-- name -> op(x, code, a, b)
local function define(name, keeps_output)
  return autograd.op{
    name = name,
    forward = function(ctx, x, code, a, b)
      local y = Tensor.empty_like(x)
      check(x.K.mt_activation_forward(y._c, x._c, code, a, b))
      ctx.code, ctx.a, ctx.b = code, a, b
      ctx:save(keeps_output and y or x)
      return y
    end,
    backward = function(ctx, dy)
      local x = ctx:saved()
      local dx = ctx:gradient_like(dy, x)
      check(x.K.mt_activation_backward(dx._c, dy._c, x._c, ctx.code, ctx.a, ctx.b))
      return dx
    end,
  }
end

local ops = {}
for _, name in ipairs { 'leaky_relu', 'elu', 'softplus', 'silu', 'gelu' } do ops[name] = define(name, false) end
ops.relu = define('relu', true)   -- lets a network free the inputs

local function apply(name, x, code, a, b)
  Tensor.check(name, 'input', x)
  local y = ops[name](x, code, a or 0, b or 0)
  return y
end

local function apply_(name, x, code, a, b)
  Tensor.check(name .. '_', 'input', x)
  local y = in_place(name .. '_', x, ops[name], function()
    check(x.K.mt_activation_forward(x._c, x._c, code, a or 0, b or 0))
  end, code, a or 0, b or 0)
  return y
end

-- A parameter given in place or by name: leaky_relu(x, 0.2) or leaky_relu(x, {negative_slope = 0.2}).
local function parameters(op, defaults, first, second, ...)
  local names = { ... }
  if type(first) == 'table' or not names[2] then options.none_left(op, second) end
  local given = type(first) == 'table' and first or { [names[1]] = first, [names[2] or 0] = second }
  local opts = options.parse(op, defaults, given)
  return opts[names[1]], names[2] and opts[names[2]]
end

local method, functional = {}, {}

--- relu(x) = max(x, 0)
function method.relu(x, extra)
  options.none_left('relu', extra)
  return (apply('relu', x, C.MT_ACTIVATION_RELU))
end
function method.relu_(x, extra)
  options.none_left('relu_', extra)
  return (apply_('relu', x, C.MT_ACTIVATION_RELU))
end

local function slope(op, negative_slope, extra)
  return (parameters(op, { negative_slope = 0.01 }, negative_slope, extra, 'negative_slope'))
end

--- leaky_relu(x, [negative_slope = 0.01]): x where x > 0, else negative_slope * x
function method.leaky_relu(x, negative_slope, extra)
  return (apply('leaky_relu', x, C.MT_ACTIVATION_LEAKY_RELU, slope('leaky_relu', negative_slope, extra)))
end
function method.leaky_relu_(x, negative_slope, extra)
  return (apply_('leaky_relu', x, C.MT_ACTIVATION_LEAKY_RELU, slope('leaky_relu_', negative_slope, extra)))
end

local function alpha_of(op, alpha, extra) return (parameters(op, { alpha = 1 }, alpha, extra, 'alpha')) end

--- elu(x, [alpha = 1]): x where x > 0, else alpha * (exp(x) - 1) (Clevert, Unterthiner, Hochreiter, 2015)
function method.elu(x, alpha, extra)
  return (apply('elu', x, C.MT_ACTIVATION_ELU, alpha_of('elu', alpha, extra)))
end
function method.elu_(x, alpha, extra)
  return (apply_('elu', x, C.MT_ACTIVATION_ELU, alpha_of('elu_', alpha, extra)))
end

--- silu(x) = x * sigmoid(x) (also called swish)
function method.silu(x, extra)
  options.none_left('silu', extra)
  return (apply('silu', x, C.MT_ACTIVATION_SILU))
end
function method.silu_(x, extra)
  options.none_left('silu_', extra)
  return (apply_('silu', x, C.MT_ACTIVATION_SILU))
end

--- gelu(x, [approximate = 'none']) = x * Phi(x), Phi the normal distribution function (Hendrycks, Gimpel, 2016);
-- 'tanh': x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
function method.gelu(x, approximate, extra)
  approximate = parameters('gelu', { approximate = 'none' }, approximate, extra, 'approximate')
  options.choice('gelu', 'approximate', approximate, { 'none', 'tanh' })
  return (apply('gelu', x, approximate == 'tanh' and C.MT_ACTIVATION_GELU_TANH or C.MT_ACTIVATION_GELU))
end

--- softplus(x, [beta = 1], [threshold = 20]) = log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold
function method.softplus(x, beta, threshold)
  beta, threshold = parameters('softplus', { beta = 1, threshold = 20 }, beta, threshold, 'beta', 'threshold')
  return (apply('softplus', x, C.MT_ACTIVATION_SOFTPLUS, beta, threshold))
end

for name, fn in pairs(method) do functional[name] = fn end
--- functional.sigmoid(x), functional.tanh(x): those of the tensor.
functional.sigmoid, functional.tanh = function(x, extra) return (Tensor.methods.sigmoid(x, extra)) end,
  function(x, extra) return (Tensor.methods.tanh(x, extra)) end

return { method = method, functional = functional }
