--- gradcheck: analytic gradients against finite differences, in float64.
--
-- fn(unpack(inputs)) returns one or more tensors. A random upstream gradient weights every output element, so a factor that a
-- plain sum would hide is seen. Each input element is moved by +-eps and +-2 eps (4-point stencil, error O(eps^4)).
-- Measured at eps = 1e-3 on smooth functions: 2e-13 to 2e-12 relative. Keep inputs 10 eps away from kinks.
-- Inputs that require a gradient are checked, one at least must; their .grad stays what it was.
-- Returns true and the largest error, or false and a message; {raise = true} raises the message instead.
--
-- @usage
-- local x = torch.randn(2, 3, { dtype = 'float64', requires_grad = true })
-- local w = torch.randn(3, 2, { dtype = 'float64', requires_grad = true })
-- local ok, largest = torch.gradcheck(torch.matmul, { x, w }, { tolerance = 1e-8 })
-- print(ok)      --> true

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local gradcheck = {}

local function read(t)
  local n = t:numel()
  local values = ffi.new('double[?]', math.max(1, n))
  native.check(t.K.mt_tensor_read(values, t._c))
  return values, n
end

local function write(t, values)
  native.check(t.K.mt_tensor_write(t._c, values))
end

-- A small congruential generator: the upstream gradient must not disturb the user's random stream.
local function noise(seed)
  local state = seed
  return function()
    state = (state * 16807) % 2147483647
    return state / 1073741823.5 - 1
  end
end

local function outputs_of(fn, inputs)
  local ys = { fn(unpack(inputs, 1, inputs.n or #inputs)) }
  local tensors = {}
  for _, y in ipairs(ys) do
    if Tensor.is_tensor(y) and Tensor.floating[y.dtype] then tensors[#tensors + 1] = y end
  end
  return tensors
end

local function weighted_sum(ys, weights)
  local sum = 0
  for k, y in ipairs(ys) do
    local values, n = read(y)
    local w = weights[k]
    for i = 0, n - 1 do
      if w[i] ~= 0 then sum = sum + w[i] * values[i] end
    end
  end
  return sum
end

local function analytic(fn, inputs, weights)
  local before = {}
  for i = 1, inputs.n do
    if Tensor.is_tensor(inputs[i]) then before[i], inputs[i].grad = inputs[i].grad, nil end
  end
  local ys = outputs_of(fn, inputs)
  for k, y in ipairs(ys) do
    if y.requires_grad then
      local g = Tensor.empty('gradcheck', y:size(), y.dtype, y.device)
      write(g, weights[k])
      y:backward(g, { retain_graph = true })
    end
  end
  local gradients = {}
  for i = 1, inputs.n do
    local x = inputs[i]
    if Tensor.is_tensor(x) and x.requires_grad then
      local g = x.grad
      if g then gradients[i] = read(g) else gradients[i] = ffi.new('double[?]', math.max(1, x:numel())) end
    end
  end
  for i = 1, inputs.n do
    if Tensor.is_tensor(inputs[i]) then inputs[i].grad = before[i] end
  end
  return gradients
end

local function numeric(fn, inputs, weights, x, eps)
  local values, n = read(x)
  local gradient = ffi.new('double[?]', math.max(1, n))
  local function at(i, delta)
    local saved = values[i]
    values[i] = saved + delta
    write(x, values)
    values[i] = saved
    return weighted_sum(outputs_of(fn, inputs), weights)
  end
  for i = 0, n - 1 do
    gradient[i] = (8 * (at(i, eps) - at(i, -eps)) - (at(i, 2 * eps) - at(i, -2 * eps))) / (12 * eps)
  end
  write(x, values)
  return gradient, n
end

function gradcheck.gradcheck(fn, inputs, opts)
  opts = options.parse('gradcheck', { eps = 1e-3, tolerance = 1e-8, seed = 1, raise = false }, opts)
  local autograd = require 'masked_torch.autograd'
  native.callable('gradcheck', 'fn', fn)
  if type(inputs) ~= 'table' or Tensor.is_tensor(inputs) then
    native.fail('gradcheck: inputs: expected a table of arguments, got %s', native.show(inputs))
  end
  inputs = { n = inputs.n or #inputs, unpack(inputs, 1, inputs.n or #inputs) }
  local function failed(format, ...)
    local message = 'gradcheck: ' .. format:format(...)
    if opts.raise then native.fail('%s', message) end
    return false, message
  end
  local any = false
  for i = 1, inputs.n do
    local x = inputs[i]
    if Tensor.is_tensor(x) and x.requires_grad then
      any = true
      if x.dtype ~= 'float64' then native.fail('gradcheck: input %d is %s; finite differences need float64', i, x.dtype) end
    end
  end
  if not any then native.fail('gradcheck: no input requires a gradient: there is nothing to check; use {requires_grad = true}') end
  local random, weights = noise(opts.seed), {}
  for k, y in ipairs(outputs_of(fn, inputs)) do
    local n = y:numel()
    weights[k] = ffi.new('double[?]', math.max(1, n))
    for i = 0, n - 1 do weights[k][i] = y.requires_grad and random() or 0 end
  end
  local first, second = analytic(fn, inputs, weights), analytic(fn, inputs, weights)
  local worst = 0
  for i = 1, inputs.n do
    local x = inputs[i]
    if Tensor.is_tensor(x) and x.requires_grad then
      local expected, n = autograd.no_grad(numeric, fn, inputs, weights, x, opts.eps)
      local squares, scale = 0, 0
      for j = 0, n - 1 do
        local a, e = first[i][j], expected[j]
        if not (a == second[i][j]) then
          return failed('input %d, element %d: the gradient is not deterministic: %.17g, then %.17g', i, j + 1, a, second[i][j])
        end
        squares, scale = squares + (a - e) ^ 2, scale + e ^ 2
      end
      local err = math.sqrt(squares) / math.max(1e-3, math.sqrt(scale))
      if not (err <= opts.tolerance) then
        local j_worst, d_worst = 0, -1
        for j = 0, n - 1 do
          local d = math.abs(first[i][j] - expected[j])
          if not (d <= d_worst) then j_worst, d_worst = j, d end
        end
        return failed('input %d: relative error %.3g > %.3g; worst element %d: analytic %.12g, numeric %.12g', i, err,
          opts.tolerance, j_worst + 1, first[i][j_worst], expected[j_worst])
      end
      worst = math.max(worst, err)
    end
  end
  return true, worst
end

return gradcheck
