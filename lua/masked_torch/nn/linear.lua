--- nn.linear: Linear and LazyLinear.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local init = require 'masked_torch.nn.initialise'
local lazy = require 'masked_torch.nn.lazy'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local Module = require('masked_torch.nn.module').Module

--- nn.Linear(in_features, out_features, {bias = true, dtype = 'float32'}): y = x weight^T + bias over the last dim of x.
-- weight (out, in) and bias (out) start uniform in +-1 / sqrt(in). A mask has no meaning for features: it is returned as
-- it came.
local Linear = class('Linear', Module)

function Linear:__init(in_features, out_features, opts)
  Module.__init(self)
  local name = getmetatable(self).__name
  opts = options.parse(name, { bias = true, dtype = 'float32' }, opts)
  self.in_features = lazy.size(name, 'in_features', in_features, 0)
  self.out_features = native.integer(name, 'out_features', out_features, 0)
  self.dtype = Tensor.check_dtype(name, opts.dtype)
  self.has_bias = opts.bias
  self:register_parameter('weight')
  self:register_parameter('bias')
  if self.in_features then self:materialise() end
end

--- Allocates and draws the parameters; in_features is known.
function Linear:materialise()
  self.weight = Tensor.empty('Linear', { self.out_features, self.in_features }, self.dtype, self.device)
  if self.has_bias then self.bias = Tensor.empty('Linear', { self.out_features }, self.dtype, self.device) end
  self:reset_parameters()
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
  Tensor.check('Linear', 'input', x)
  if x:dim() > 0 and x:size(-1) ~= self.in_features then      -- F.linear would blame the weight
    native.fail('Linear: input: expected in_features = %d in the last dim, got %s %s', self.in_features, Tensor.shape_text(x), x.dtype)
  end
  Tensor.check_dtype_of('Linear', x, self.weight)
  local y = F.linear(x, self.weight, self.bias)
  return y, mask
end

function Linear:extra_repr()
  return ('in_features=%d, out_features=%d, bias=%s'):format(self.in_features or 0, self.out_features,
    self.has_bias and 'True' or 'False')
end

Linear.lazy_size = { position = 1, field = 'in_features', input = function(self, x)
  if x:dim() < 1 then native.fail('%s: input: expected at least one dimension, got a single number', getmetatable(self).__name) end
  return x:size(-1)
end, state = { weight = function(_, weight) return weight:dim() == 2 and weight:size(2) or nil end } }

function Linear:lazy_names() return { 'weight', self.has_bias and 'bias' or nil } end

--- nn.LazyLinear(out_features, {bias = true, dtype}): see nn/lazy.lua.
return { Linear = Linear, LazyLinear = lazy.derive(Linear) }
