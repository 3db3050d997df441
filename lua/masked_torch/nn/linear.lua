--- nn.linear: Linear and LazyLinear.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local init = require 'masked_torch.nn.initialise'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local Module = require('masked_torch.nn.module').Module

--- nn.Linear(in_features, out_features, {bias = true, dtype = 'float32'}): y = x weight^T + bias over the last dim of x.
-- weight (out, in) and bias (out) start uniform in +-1 / sqrt(in). A mask has no meaning for features: it is returned as
-- it came.
local Linear = class('Linear', Module)

local function begin(self, name, in_features, out_features, opts)
  Module.__init(self)
  opts = options.parse(name, { bias = true, dtype = 'float32' }, opts)
  self.in_features = in_features
  self.out_features = native.integer(name, 'out_features', out_features, 0)
  self.dtype = Tensor.check_dtype(name, opts.dtype)
  self.has_bias = opts.bias
  self:register_parameter('weight')
  self:register_parameter('bias')
end

-- Allocates the parameters for a known number of features.
local function materialise(self)
  self.weight = Tensor.empty('Linear', { self.out_features, self.in_features }, self.dtype)
  if self.has_bias then self.bias = Tensor.empty('Linear', { self.out_features }, self.dtype) end
  self:reset_parameters()
end

function Linear:__init(in_features, out_features, opts)
  begin(self, 'Linear', native.integer('Linear', 'in_features', in_features, 0), out_features, opts)
  materialise(self)
end

--- Draws the parameters anew.
function Linear:reset_parameters()
  init.kaiming_uniform_(self.weight, { a = math.sqrt(5) })
  if self.bias then
    local bound = self.in_features > 0 and 1 / math.sqrt(self.in_features) or 0
    init.uniform_(self.bias, -bound, bound)
  end
end

function Linear:forward(x, mask)
  local y = F.linear(x, self.weight, self.bias)
  return y, mask
end

function Linear:extra_repr()
  return ('in_features=%d, out_features=%d, bias=%s'):format(self.in_features or 0, self.out_features,
    self.has_bias and 'True' or 'False')
end

--- nn.LazyLinear(out_features, {bias = true, dtype = 'float32'}): a Linear that takes in_features from its first input, or
-- from the state it loads, and is a Linear from then on. Until then it has no parameters: make the optimiser afterwards.
local LazyLinear = class('LazyLinear', Linear)

function LazyLinear:__init(out_features, opts)
  begin(self, 'LazyLinear', nil, out_features, opts)
end

function LazyLinear:forward(x, mask)
  if not self.weight then
    Tensor.check('LazyLinear', 'input', x)
    if x:dim() < 1 then native.fail('LazyLinear: input: expected at least one dimension, got a single number') end
    self.in_features = x:size(-1)
    materialise(self)
    setmetatable(self, Linear)
  end
  return Linear.forward(self, x, mask)
end

function LazyLinear:before_load(state, prefix)
  local weight = state[prefix .. 'weight']
  if not self.weight and Tensor.is_tensor(weight) and weight:dim() == 2 then
    self.in_features = weight:size(2)
    materialise(self)
    setmetatable(self, Linear)
  end
end

return { Linear = Linear, LazyLinear = LazyLinear }
