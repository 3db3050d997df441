--- nn.activation: activation functions as layers.
--
-- All take (x, mask) and return (y, mask). Where the mask is 0 results and gradients are 0, whatever stands there; nothing is computed
-- for it.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local fusion = require 'masked_torch.nn.fusion'
local Mask = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local Module = require('masked_torch.nn.module').Module

local classes = {}

local function show(value) return type(value) == 'string' and "'" .. value .. "'" or repr.number(value) end

-- parameters: {{name, default}, ...}: given in place or by name, printed when `printed`.
local function define(name, function_name, parameters, opts)
  local Activation = class(name, Module)
  local defaults = {}
  for _, p in ipairs(parameters) do defaults[p[1]] = p[2] end

  function Activation:__init(first, second)
    Module.__init(self)
    local given = first
    if type(first) ~= 'table' then
      given = {}
      for i, value in pairs { first, second } do
        if not parameters[i] then native.fail('%s: expected %d arguments, got %s', name, #parameters, native.show(value)) end
        given[parameters[i][1]] = value
      end
    end
    for key, value in pairs(options.parse(name, defaults, given)) do self[key] = value end
    if opts.check then opts.check(self) end
  end

  function Activation:forward(x, mask)
    mask = Mask.of(name, mask, x)
    local given
    if mask or parameters[1] then
      given = options.own{ mask = mask }
      for i = 1, #parameters do given[parameters[i][1]] = self[parameters[i][1]] end
    end
    local y = F[function_name](x, given)
    return y, mask
  end

  function Activation:extra_repr()
    local parts = {}
    for i, p in ipairs(parameters) do parts[i] = p[1] .. '=' .. show(self[p[1]]) end
    return table.concat(parts, ', ')
  end

  classes[name] = Activation
end

--- nn.ReLU()
define('ReLU', 'relu', {}, {})
fusion.activation(classes.ReLU, 'relu')
--- nn.LeakyReLU([negative_slope = 0.01])
define('LeakyReLU', 'leaky_relu', { { 'negative_slope', 0.01 } }, {})
fusion.activation(classes.LeakyReLU, 'leaky_relu')
--- nn.ELU([alpha = 1])
define('ELU', 'elu', { { 'alpha', 1 } }, {})
--- nn.SiLU()
define('SiLU', 'silu', {}, {})
--- nn.GELU([approximate = 'none']): or 'tanh'
define('GELU', 'gelu', { { 'approximate', 'none' } }, { check = function(self)
  options.choice('GELU', 'approximate', self.approximate, { 'none', 'tanh' })
end })
--- nn.Tanh()
define('Tanh', 'tanh', {}, {})
--- nn.Sigmoid()
define('Sigmoid', 'sigmoid', {}, {})
--- nn.Softplus([beta = 1], [threshold = 20])
define('Softplus', 'softplus', { { 'beta', 1 }, { 'threshold', 20 } }, { check = function(self)
  if self.beta <= 0 or self.beta ~= self.beta then native.fail('Softplus: beta: expected a number above 0, got %g', self.beta) end
end })

local function along_dim(name, function_name)
  local Softmax = class(name, Module)

  function Softmax:__init(dim)
    Module.__init(self)
    if type(dim) == 'table' then dim = options.parse(name, { dim = options.none }, dim).dim end
    if type(dim) ~= 'number' or dim % 1 ~= 0 or dim == 0 then
      native.fail('%s: dim: expected a whole number other than 0, got %s', name, native.show(dim))
    end
    self.axis = dim
  end

  function Softmax:forward(x, mask)
    mask = Mask.of(name, mask, x)
    local y = F[function_name](x, self.axis, { mask = mask })
    if mask and function_name == 'log_softmax' then y = y:select_valid(mask) end      -- -Inf there
    return y, mask
  end

  function Softmax:extra_repr() return 'dim=' .. self.axis end

  classes[name] = Softmax
end

--- nn.Softmax(dim): over valid elements; 0 where the mask is 0.
along_dim('Softmax', 'softmax')
--- nn.LogSoftmax(dim): over valid elements; 0 where the mask is 0.
along_dim('LogSoftmax', 'log_softmax')

return classes
