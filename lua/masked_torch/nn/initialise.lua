--- initialise: torch.nn.init, PyTorch's initialisers. All work in place, outside the graph, and return the tensor. Random ones
-- draw from the library's generator (torch.manual_seed).

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local init = {}

local function floating(op, x)
  Tensor.check(op, 'tensor', x)
  if not Tensor.floating[x.dtype] then fail('%s: tensor: expected float32 or float64, got %s', op, x.dtype) end
  return x
end

local function fill(op, x, value)
  Tensor.check(op, 'tensor', x)
  native.check(x.K.mt_tensor_fill(x._c, native.number(op, 'value', value)))
  Tensor.bump(x)
  return x
end

--- x = value
function init.constant_(x, value)
  return fill('constant_', x, value)
end

--- zeros_(x), ones_(x): 0, 1 everywhere. Return x.
function init.zeros_(x)
  return fill('zeros_', x, 0)
end

function init.ones_(x)
  return fill('ones_', x, 1)
end

--- Uniform on [low, high); default [0, 1).
function init.uniform_(x, low, high)
  autograd.no_grad(floating('uniform_', x).uniform_, x, low or 0, high or 1)
  return x
end

--- Normal; default mean 0, std 1.
function init.normal_(x, mean, std)
  autograd.no_grad(floating('normal_', x).normal_, x, mean or 0, std or 1)
  return x
end

--- fan_in, fan_out = calculate_fan(weight): weight (out, in, *kernel); inputs and outputs that one value is connected with.
function init.calculate_fan(x)
  Tensor.check('calculate_fan', 'tensor', x)
  local shape = x:size()
  if #shape < 2 then fail('calculate_fan: tensor: expected at least 2 dimensions, got %s', Tensor.shape_text(x)) end
  local window = 1
  for d = 3, #shape do window = window * shape[d] end
  return shape[2] * window, shape[1] * window
end

local gains = { linear = 1, sigmoid = 1, conv1d = 1, conv2d = 1, conv3d = 1, tanh = 5 / 3, relu = math.sqrt(2), selu = 3 / 4 }

--- The factor that keeps the variance through a nonlinearity: 'linear', 'sigmoid', 'tanh' (5/3), 'relu' (sqrt 2),
-- 'leaky_relu' (slope 0.01 by default: sqrt(2 / (1 + slope^2))), 'selu' (3/4).
function init.calculate_gain(nonlinearity, slope)
  if nonlinearity == 'leaky_relu' then return math.sqrt(2 / (1 + (slope or 0.01) ^ 2)) end
  options.choice('calculate_gain', 'nonlinearity', nonlinearity,
    { 'linear', 'sigmoid', 'conv1d', 'conv2d', 'conv3d', 'tanh', 'relu', 'leaky_relu', 'selu' })
  return gains[nonlinearity]
end

local function kaiming_std(op, x, opts)
  opts = options.parse(op, { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' }, opts)
  options.choice(op, 'mode', opts.mode, { 'fan_in', 'fan_out' })
  local fan_in, fan_out = init.calculate_fan(floating(op, x))
  local fan = opts.mode == 'fan_in' and fan_in or fan_out
  if fan == 0 then return 0 end
  return init.calculate_gain(opts.nonlinearity, opts.a) / math.sqrt(fan)
end

--- U(-b, b), b = gain * sqrt(3 / fan). Options: a (slope of leaky_relu, 0), mode 'fan_in' | 'fan_out', nonlinearity.
-- PyTorch's layers use a = sqrt 5, so b = 1 / sqrt(fan_in). (He et al. 2015)
function init.kaiming_uniform_(x, opts)
  local bound = math.sqrt(3) * kaiming_std('kaiming_uniform_', x, opts)
  return init.uniform_(x, -bound, bound)
end

--- N(0, gain^2 / fan). Options as kaiming_uniform_.
function init.kaiming_normal_(x, opts)
  return init.normal_(x, 0, kaiming_std('kaiming_normal_', x, opts))
end

local function xavier_std(op, x, gain)
  local fan_in, fan_out = init.calculate_fan(floating(op, x))
  return native.number(op, 'gain', gain or 1) * math.sqrt(2 / math.max(1, fan_in + fan_out))
end

--- U(-b, b), b = gain * sqrt(6 / (fan_in + fan_out)). (Glorot and Bengio 2010)
function init.xavier_uniform_(x, gain)
  local bound = math.sqrt(3) * xavier_std('xavier_uniform_', x, gain)
  return init.uniform_(x, -bound, bound)
end

--- N(0, gain^2 * 2 / (fan_in + fan_out))
function init.xavier_normal_(x, gain)
  return init.normal_(x, 0, xavier_std('xavier_normal_', x, gain))
end

--- A (semi-)orthogonal matrix times gain; dims after the first are flattened. (Saxe et al. 2013)
-- Gram-Schmidt, twice, in double precision on a normal matrix: for the small matrices of a layer.
function init.orthogonal_(x, gain)
  gain = native.number('orthogonal_', 'gain', gain or 1)
  local shape = floating('orthogonal_', x):size()
  if #shape < 2 then fail('orthogonal_: tensor: expected at least 2 dimensions, got %s', Tensor.shape_text(x)) end
  local rows, columns = shape[1], 1
  for d = 2, #shape do columns = columns * shape[d] end
  local count, length = math.min(rows, columns), math.max(rows, columns)
  local draw = Tensor.empty('orthogonal_', { count, length }, 'float64')
  local vectors = init.normal_(draw):totable()
  for i = 1, count do
    local v = vectors[i]
    for _ = 1, 2 do
      for j = 1, i - 1 do
        local u, dot = vectors[j], 0
        for k = 1, length do dot = dot + u[k] * v[k] end
        for k = 1, length do v[k] = v[k] - dot * u[k] end
      end
    end
    local norm = 0
    for k = 1, length do norm = norm + v[k] ^ 2 end
    norm = math.sqrt(norm)
    for k = 1, length do v[k] = v[k] / norm end
  end
  local flat = {}
  for r = 1, rows do
    for c = 1, columns do
      flat[#flat + 1] = gain * (rows <= columns and vectors[r][c] or vectors[c][r])
    end
  end
  local values = Tensor.as_view('orthogonal_', Tensor.from_table('orthogonal_', flat, x.dtype), shape, Tensor.row_major(shape), 0)
  native.check(x.K.mt_tensor_copy(x._c, values._c))
  Tensor.bump(x)
  return x
end

return init
