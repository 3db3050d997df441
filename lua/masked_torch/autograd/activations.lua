--- activations: the activation that an operation takes along, applied to its result before that is stored (core/activation.h).

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'

local C = native.cpu
local names = { 'relu', 'leaky_relu' }

local activations = {}

--- activations.behind(op, opts) -> its number and parameter for a kernel, of opts.activation (nil, 'relu', 'leaky_relu') and
-- opts.negative_slope.
function activations.behind(op, opts)
  local name = opts.activation
  if name == nil then return C.MT_ACTIVATION_IDENTITY, 0 end
  options.choice(op, 'activation', name, names)
  if name == 'relu' then return C.MT_ACTIVATION_RELU, 0 end
  return C.MT_ACTIVATION_LEAKY_RELU, native.number(op, 'negative_slope', opts.negative_slope or 0.01)
end

--- activations.apply(y, activation, a): the same as an operation of its own.
function activations.apply(y, activation, a)
  if activation == C.MT_ACTIVATION_RELU then return y:relu() end
  if activation == C.MT_ACTIVATION_LEAKY_RELU then return y:leaky_relu(a) end
  return y
end

return activations
