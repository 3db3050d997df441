--- norm: layers around autograd/op/norm.lua, which has the formulas. With a mask, statistics count valid elements only and
-- the result is masked again; without one, everything is PyTorch's.
--
-- All of them are called as layer(x, mask); a container adds the activation that stands behind a norm, activation and negative_slope
-- of F.batch_norm, and the two are one operation (nn/fusion.lua).

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local own = options.own
local Tensor = require 'masked_torch.tensor'
local F = require 'masked_torch.nn.functional'
local fusion = require 'masked_torch.nn.fusion'
local Mask = require 'masked_torch.mask'
local lazy = require 'masked_torch.nn.lazy'
local Module = require('masked_torch.nn.module').Module
local repr = require 'masked_torch.nn.repr'

local fail = native.fail

-- A tensor in the type of the layer, or in another one, and on its device.
local function filled(self, shape, value, dtype)
  local t = Tensor.empty('norm', shape, dtype or self.dtype, self.device)
  native.check(t.K.mt_tensor_fill(t._c, value))
  return t
end

local function fill(t, value)
  native.check(t.K.mt_tensor_fill(t._c, value))
  Tensor.bump(t)
end

local function name_of(self) return getmetatable(self).__name end

local function real_options(self, opts)
  opts = options.parse(name_of(self), self.defaults, opts)
  Tensor.check_dtype(name_of(self), opts.dtype)
  if not Tensor.real[opts.dtype] then
    fail("%s: dtype: expected 'float32' or 'float64', got '%s'", name_of(self), opts.dtype)
  end
  self.dtype, self.device = opts.dtype, Tensor.check_device(name_of(self), opts.device)
  return opts
end

local function check_channels(self, x, channels)
  if x:size(2) ~= channels then
    fail('%s: input: expected %d channels, got %s', name_of(self), channels, Tensor.shape_text(x))
  end
end

-- ---- running statistics: batch and instance norm -----------------------------------------------------------------

-- dims: the numbers of dimensions an input may have.
local Running = class('Running', Module)

function Running:__init(num_features, opts)
  Module.__init(self)
  self.num_features = lazy.size(name_of(self), 'num_features', num_features, 1)
  opts = real_options(self, opts)
  if type(opts.momentum) ~= 'number' then
    options.choice(name_of(self), 'momentum', opts.momentum, { 'cumulative' })
  end
  self.eps, self.momentum, self.affine = opts.eps, opts.momentum, opts.affine
  self.track_running_stats = opts.track_running_stats
  for _, name in ipairs{ 'weight', 'bias' } do self:register_parameter(name) end
  for _, name in ipairs{ 'running_mean', 'running_var', 'num_batches_tracked' } do self:register_buffer(name) end
  if self.num_features then self:materialise() end
end

--- Allocates parameters and statistics; num_features is known.
function Running:materialise()
  local shape = { self.num_features }
  if self.affine then self.weight, self.bias = filled(self, shape, 1), filled(self, shape, 0) end
  if self.track_running_stats then
    self.running_mean, self.running_var = filled(self, shape, 0), filled(self, shape, 1)
    self.num_batches_tracked = filled(self, {}, 0, 'int64')
  end
end

function Running:lazy_names()
  local names = {}
  for _, name in ipairs{ self.affine and 'weight bias' or '',
    self.track_running_stats and 'running_mean running_var num_batches_tracked' or '' } do
    for word in name:gmatch('%S+') do names[#names + 1] = word end
  end
  return names
end

--- Forgets what was tracked: mean 0, variance 1, no batches.
function Running:reset_running_stats()
  if self.track_running_stats then
    fill(self.running_mean, 0)
    fill(self.running_var, 1)
    fill(self.num_batches_tracked, 0)
  end
end

--- Back to weight 1, bias 0 and no running statistics.
function Running:reset_parameters()
  self:reset_running_stats()
  if self.affine then
    fill(self.weight, 1)
    fill(self.bias, 0)
  end
end

local function check_dims(self, what, ndim)
  local list = {}
  for i, dims in ipairs(self.dims) do
    if ndim == dims then return end
    list[i] = dims .. 'D'
  end
  fail('%s: %s: expected %s input (got %dD input)', name_of(self), what, table.concat(list, ' or '), ndim)
end
Running.check_dims = check_dims

-- Lazy layers (nn/lazy.lua): one value per channel in every tensor of the state.
local function length_of(_, t) return t:dim() == 1 and t:size(1) > 0 and t:size(1) or nil end

Running.lazy_size = { position = 1, field = 'num_features', input = function(self, x)
  check_dims(self, 'input', x:dim())
  return native.integer(name_of(self), 'num_features', x:size(2), 1)
end, state = { weight = length_of, running_mean = length_of } }

-- Batch statistics: the weight of this batch in the running ones. Reading the count waits for a device; only the cumulative mean
-- needs it.
local function momentum_of(self)
  if self.momentum ~= 'cumulative' then return self.momentum end
  local count = self.num_batches_tracked and self.num_batches_tracked:item() + 1 or 0
  return count > 0 and 1 / count or 0
end

function Running:forward(x, mask, activation, negative_slope)
  Tensor.check(name_of(self), 'input', x)
  check_dims(self, 'input', x:dim())
  check_channels(self, x, self.num_features)
  mask = Mask.of(name_of(self), mask, x)
  local track = self.track_running_stats
  local use_batch = self.training or not track
  local momentum = self.training and track and momentum_of(self) or 0
  local y = self:normalise(x, use_batch, not use_batch or self.training and track, momentum, own{ mask = mask,
    activation = activation, negative_slope = negative_slope })
  if self.training and track and self.num_batches_tracked then self.num_batches_tracked:add_(1) end
  return y, mask
end

function Running:extra_repr()
  return ('%d, eps=%s, momentum=%s, affine=%s, track_running_stats=%s'):format(self.num_features or 0, repr.number(self.eps),
    self.momentum == 'cumulative' and 'None' or repr.number(self.momentum), repr.value(self.affine),
    repr.value(self.track_running_stats))
end

-- ---- batch norm ------------------------------------------------------------------------------------------------

--- BatchNorm1d/2d/3d(num_features, {eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true, dtype, device})
-- forward(x, mask) -> y, mask, with x (N, C) or (N, C, L) / (N, C, H, W) / (N, C, D, H, W): F.batch_norm over the batch in
-- training (and always without running statistics), over the running statistics in evaluation.
-- momentum = 'cumulative' (PyTorch's None): the running statistics are the plain average over all batches.
-- Parameters weight, bias; buffers running_mean, running_var, num_batches_tracked (int64).
local BatchNorm = class('BatchNorm', Running)
BatchNorm.defaults = { eps = 1e-5, momentum = options.any(0.1), affine = true, track_running_stats = true,
  dtype = 'float32', device = 'cpu' }

function BatchNorm:normalise(x, use_batch, use_running, momentum, opts)
  return F.batch_norm(x, use_running and self.running_mean or nil, use_running and self.running_var or nil, self.weight,
    self.bias, use_batch, momentum, self.eps, opts)
end

--- Evaluation as three numbers for every channel: the table (3, C) of mt_norm_batch_frozen (nn/fusion.lua).
function BatchNorm:frozen()
  local mean, weight, bias = self.running_mean, self.weight, self.bias
  local t = Tensor.empty('batch_norm', { 3, self.num_features }, 'float64', mean.device)
  native.check(t.K.mt_norm_batch_frozen(t._c, mean._c, self.running_var._c, weight and weight._c, bias and bias._c, self.eps))
  return t
end

-- ---- instance norm -----------------------------------------------------------------------------------------------

--- InstanceNorm1d/2d/3d(num_features, {eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false, dtype,
-- device})
-- forward(x, mask) -> y, mask, with x (N, C, L) / (N, C, H, W) / (N, C, D, H, W): F.instance_norm; with track_running_stats,
-- evaluation uses the running statistics, and num_batches_tracked counts (PyTorch's stays 0).
local InstanceNorm = class('InstanceNorm', Running)
InstanceNorm.defaults = { eps = 1e-5, momentum = options.any(0.1), affine = false, track_running_stats = false,
  dtype = 'float32', device = 'cpu' }

function InstanceNorm:normalise(x, use_batch, use_running, momentum, opts)
  return F.instance_norm(x, use_running and self.running_mean or nil, use_running and self.running_var or nil, self.weight,
    self.bias, use_batch, momentum, self.eps, opts)
end

-- ---- group norm ------------------------------------------------------------------------------------------------

--- GroupNorm(num_groups, num_channels, {eps = 1e-5, affine = true, dtype, device}): F.group_norm. Parameters weight, bias.
local GroupNorm = class('GroupNorm', Module)
GroupNorm.defaults = { eps = 1e-5, affine = true, dtype = 'float32', device = 'cpu' }

function GroupNorm:__init(num_groups, num_channels, opts)
  Module.__init(self)
  local name = name_of(self)
  self.num_groups = native.integer(name, 'num_groups', num_groups, 1)
  self.num_channels = lazy.size(name, 'num_channels', num_channels, 1)
  opts = real_options(self, opts)
  self.eps, self.affine = opts.eps, opts.affine
  self:register_parameter('weight')
  self:register_parameter('bias')
  if self.num_channels then self:materialise() end
end

--- Allocates the parameters; num_channels is known.
function GroupNorm:materialise()
  if self.num_channels % self.num_groups ~= 0 then
    fail('%s: num_groups: expected a divisor of the %d channels, got %d', name_of(self), self.num_channels, self.num_groups)
  end
  local shape = { self.num_channels }
  if self.affine then self.weight, self.bias = filled(self, shape, 1), filled(self, shape, 0) end
end

GroupNorm.lazy_size = { position = 2, field = 'num_channels', input = function(self, x)
  if x:dim() < 2 then fail('%s: input: expected (N, C, ...), got %s', name_of(self), Tensor.shape_text(x)) end
  return native.integer(name_of(self), 'num_channels', x:size(2), 1)
end, state = { weight = length_of } }

function GroupNorm:lazy_names() return self.affine and { 'weight', 'bias' } or {} end

function GroupNorm:forward(x, mask, activation, negative_slope)
  Tensor.check(name_of(self), 'input', x)
  if x:dim() < 2 then fail('%s: input: expected (N, C, ...), got %s', name_of(self), Tensor.shape_text(x)) end
  check_channels(self, x, self.num_channels)
  mask = Mask.of(name_of(self), mask, x)
  return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, own{ mask = mask, activation = activation,
    negative_slope = negative_slope }), mask
end

function GroupNorm:extra_repr()
  return ('%d, %d, eps=%s, affine=%s'):format(self.num_groups, self.num_channels or 0, repr.number(self.eps),
    repr.value(self.affine))
end

-- ---- layer and RMS norm ------------------------------------------------------------------------------------------

local function normalized_shape_of(self, shape)
  if lazy.is_unknown(shape) then return nil end
  if type(shape) == 'number' then shape = { shape } end
  if type(shape) ~= 'table' or Tensor.is_tensor(shape) or #shape == 0 then
    fail('%s: normalized_shape: expected a size or a table of sizes, got %s', name_of(self), type(shape))
  end
  local sizes = {}
  for i = 1, #shape do sizes[i] = native.integer(name_of(self), 'normalized_shape', shape[i], 1) end
  return sizes
end

-- The lazy forms: the size of the last dim (with `channels`, of the channels) of the first input; from a state, the weight's sizes.
local function trailing_size(self, x)
  if x:dim() < (self.channels and 2 or 1) then
    fail('%s: input: expected at least %d dimensions, got %s', name_of(self), self.channels and 2 or 1, Tensor.shape_text(x))
  end
  return { native.integer(name_of(self), 'normalized_shape', x:size(self.channels and 2 or -1), 1) }
end

local by_shape = { position = 1, field = 'normalized_shape', input = trailing_size, state = { weight = function(_, t)
  for _, size in ipairs(t:size()) do
    if size == 0 then return nil end
  end
  return t:dim() > 0 and t:size() or nil
end } }

-- A mask (N or 1, C or 1, *S) becomes a Mask, as in every layer. One with size 1 elsewhere, as of tokens (N, L, 1), cannot be one: it
-- passes as it is.
local function mask_of(self, mask, x)
  if Tensor.is_tensor(mask) and mask:dim() == x:dim() and not Mask.fits(mask, x) then return mask end
  return Mask.of(name_of(self), mask, x)
end

--- LayerNorm(normalized_shape, {eps = 1e-5, elementwise_affine = true, bias = true, channels = false, dtype, device})
-- F.layer_norm over the trailing sizes. channels = true: over the channels of (N, C, *S), position by position;
-- normalized_shape is then C. Parameters weight, bias.
local LayerNorm = class('LayerNorm', Module)
LayerNorm.defaults = { eps = 1e-5, elementwise_affine = true, bias = true, channels = false, dtype = 'float32',
  device = 'cpu' }

function LayerNorm:__init(normalized_shape, opts)
  Module.__init(self)
  self.normalized_shape = normalized_shape_of(self, normalized_shape)
  opts = real_options(self, opts)
  self.eps, self.elementwise_affine, self.channels = opts.eps, opts.elementwise_affine, opts.channels
  self.has_bias = opts.elementwise_affine and opts.bias
  self:register_parameter('weight')
  self:register_parameter('bias')
  if self.normalized_shape then self:materialise() end
end

--- Allocates the parameters; normalized_shape is known.
function LayerNorm:materialise()
  if self.elementwise_affine then self.weight = filled(self, self.normalized_shape, 1) end
  if self.has_bias then self.bias = filled(self, self.normalized_shape, 0) end
end

LayerNorm.lazy_size = by_shape
function LayerNorm:lazy_names() return { self.elementwise_affine and 'weight' or nil, self.has_bias and 'bias' or nil } end

function LayerNorm:forward(x, mask, activation, negative_slope)
  Tensor.check(name_of(self), 'input', x)
  mask = mask_of(self, mask, x)
  return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps, own{ mask = mask, channels = self.channels,
    activation = activation, negative_slope = negative_slope }), mask
end

function LayerNorm:extra_repr()
  return ('%s, eps=%s, elementwise_affine=%s'):format(repr.tuple(self.normalized_shape or { 0 }), repr.number(self.eps),
    repr.value(self.elementwise_affine)) .. (self.channels and ', channels=True' or '')
end

--- RMSNorm(normalized_shape, {eps = nil, elementwise_affine = true, dtype, device})
-- F.rms_norm over the trailing sizes. eps = nil is the machine epsilon of the input's type. Parameter weight.
local RMSNorm = class('RMSNorm', Module)
RMSNorm.defaults = { eps = options.none, elementwise_affine = true, dtype = 'float32', device = 'cpu' }

function RMSNorm:__init(normalized_shape, opts)
  Module.__init(self)
  self.normalized_shape = normalized_shape_of(self, normalized_shape)
  opts = real_options(self, opts)
  if opts.eps ~= nil then native.number(name_of(self), 'eps', opts.eps) end
  self.eps, self.elementwise_affine = opts.eps, opts.elementwise_affine
  self:register_parameter('weight')
  if self.normalized_shape then self:materialise() end
end

--- Allocates the parameter; normalized_shape is known.
function RMSNorm:materialise()
  if self.elementwise_affine then self.weight = filled(self, self.normalized_shape, 1) end
end

RMSNorm.lazy_size = by_shape
function RMSNorm:lazy_names() return { self.elementwise_affine and 'weight' or nil } end

function RMSNorm:forward(x, mask, activation, negative_slope)
  Tensor.check(name_of(self), 'input', x)
  mask = mask_of(self, mask, x)
  return F.rms_norm(x, self.normalized_shape, self.weight, self.eps, own{ mask = mask, activation = activation,
    negative_slope = negative_slope }), mask
end

function RMSNorm:extra_repr()
  return ('%s, eps=%s, elementwise_affine=%s'):format(repr.tuple(self.normalized_shape or { 0 }), repr.value(self.eps),
    repr.value(self.elementwise_affine))
end

local layers = { GroupNorm = GroupNorm, LayerNorm = LayerNorm, RMSNorm = RMSNorm }
for dims = 1, 3 do
  local name = dims .. 'd'
  local Batch, Instance = class('BatchNorm' .. name, BatchNorm), class('InstanceNorm' .. name, InstanceNorm)
  Batch.dims, Instance.dims = dims == 1 and { 2, 3 } or { dims + 2 }, { dims + 2 }
  fusion.frozen_norm(Batch)
  layers['BatchNorm' .. name], layers['InstanceNorm' .. name] = Batch, Instance
end

--- LazyBatchNorm1d/2d/3d(options), LazyInstanceNorm1d/2d/3d(options), LazyGroupNorm(num_groups, options), LazyLayerNorm(options),
-- LazyRMSNorm(options): see nn/lazy.lua. The last two normalise over the last dim, or over the sizes of the weight of a state.
for _, Layer in pairs(layers) do fusion.takes_activation(Layer) end
return lazy.with_forms(layers)
