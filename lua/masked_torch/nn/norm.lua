--- norm: layers around autograd/op/norm.lua, which has the formulas. With a mask, statistics count valid elements only and
-- the result is masked again; without one, everything is PyTorch's.

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local F = require 'masked_torch.nn.functional'
local Mask = require 'masked_torch.mask'
local Module = require('masked_torch.nn.module').Module
local repr = require 'masked_torch.nn.repr'

local fail = native.fail

local function filled(shape, value, opts, dtype)
  local t = Tensor.empty('norm', shape, dtype or opts.dtype, opts.device)
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
  if not Tensor.floating[opts.dtype] then
    fail("%s: dtype: expected 'float32' or 'float64', got '%s'", name_of(self), opts.dtype)
  end
  opts.device = Tensor.check_device(name_of(self), opts.device)
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
  self.num_features = native.integer(name_of(self), 'num_features', num_features, 1)
  opts = real_options(self, opts)
  if type(opts.momentum) ~= 'number' then
    options.choice(name_of(self), 'momentum', opts.momentum, { 'cumulative' })
  end
  self.eps, self.momentum, self.affine = opts.eps, opts.momentum, opts.affine
  self.track_running_stats = opts.track_running_stats
  local shape, affine, track = { num_features }, opts.affine, opts.track_running_stats
  self:register_parameter('weight', affine and filled(shape, 1, opts) or nil)
  self:register_parameter('bias', affine and filled(shape, 0, opts) or nil)
  self:register_buffer('running_mean', track and filled(shape, 0, opts) or nil)
  self:register_buffer('running_var', track and filled(shape, 1, opts) or nil)
  self:register_buffer('num_batches_tracked', track and filled({}, 0, opts, 'int64') or nil)
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

-- Batch statistics: the weight of this batch in the running ones, and how many batches that makes.
local function momentum_of(self)
  local count = self.num_batches_tracked and self.num_batches_tracked:item() + 1 or 0
  if self.momentum == 'cumulative' then return count > 0 and 1 / count or 0, count end
  return self.momentum, count
end

function Running:forward(x, mask)
  Tensor.check(name_of(self), 'input', x)
  check_dims(self, 'input', x:dim())
  check_channels(self, x, self.num_features)
  mask = Mask.of(name_of(self), mask, x)
  local track = self.track_running_stats
  local use_batch = self.training or not track
  local momentum, count = 0, 0
  if self.training and track then momentum, count = momentum_of(self) end
  local y = self:normalise(x, mask, use_batch, not use_batch or self.training and track, momentum)
  if self.training and track then fill(self.num_batches_tracked, count) end
  return y, mask
end

function Running:extra_repr()
  return ('%d, eps=%s, momentum=%s, affine=%s, track_running_stats=%s'):format(self.num_features, repr.number(self.eps),
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

function BatchNorm:normalise(x, mask, use_batch, use_running, momentum)
  return F.batch_norm(x, use_running and self.running_mean or nil, use_running and self.running_var or nil, self.weight,
    self.bias, use_batch, momentum, self.eps, { mask = mask })
end

-- ---- instance norm -----------------------------------------------------------------------------------------------

--- InstanceNorm1d/2d/3d(num_features, {eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false, dtype,
-- device})
-- forward(x, mask) -> y, mask, with x (N, C, L) / (N, C, H, W) / (N, C, D, H, W): F.instance_norm; with track_running_stats,
-- evaluation uses the running statistics.
local InstanceNorm = class('InstanceNorm', Running)
InstanceNorm.defaults = { eps = 1e-5, momentum = options.any(0.1), affine = false, track_running_stats = false,
  dtype = 'float32', device = 'cpu' }

function InstanceNorm:normalise(x, mask, use_batch, use_running, momentum)
  return F.instance_norm(x, use_running and self.running_mean or nil, use_running and self.running_var or nil, self.weight,
    self.bias, use_batch, momentum, self.eps, { mask = mask })
end

-- ---- group norm ------------------------------------------------------------------------------------------------

--- GroupNorm(num_groups, num_channels, {eps = 1e-5, affine = true, dtype, device}): F.group_norm. Parameters weight, bias.
local GroupNorm = class('GroupNorm', Module)
GroupNorm.defaults = { eps = 1e-5, affine = true, dtype = 'float32', device = 'cpu' }

function GroupNorm:__init(num_groups, num_channels, opts)
  Module.__init(self)
  local name = name_of(self)
  self.num_groups = native.integer(name, 'num_groups', num_groups, 1)
  self.num_channels = native.integer(name, 'num_channels', num_channels, 1)
  if num_channels % num_groups ~= 0 then
    fail('%s: num_groups: expected a divisor of the %d channels, got %d', name, num_channels, num_groups)
  end
  opts = real_options(self, opts)
  self.eps, self.affine = opts.eps, opts.affine
  self:register_parameter('weight', opts.affine and filled({ num_channels }, 1, opts) or nil)
  self:register_parameter('bias', opts.affine and filled({ num_channels }, 0, opts) or nil)
end

function GroupNorm:forward(x, mask)
  Tensor.check(name_of(self), 'input', x)
  if x:dim() < 2 then fail('%s: input: expected (N, C, ...), got %s', name_of(self), Tensor.shape_text(x)) end
  check_channels(self, x, self.num_channels)
  mask = Mask.of(name_of(self), mask, x)
  return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps, { mask = mask }), mask
end

function GroupNorm:extra_repr()
  return ('%d, %d, eps=%s, affine=%s'):format(self.num_groups, self.num_channels, repr.number(self.eps),
    repr.value(self.affine))
end

-- ---- layer and RMS norm ------------------------------------------------------------------------------------------

local function normalized_shape_of(self, shape)
  if type(shape) == 'number' then shape = { shape } end
  if type(shape) ~= 'table' or Tensor.is_tensor(shape) or #shape == 0 then
    fail('%s: normalized_shape: expected a size or a table of sizes, got %s', name_of(self), type(shape))
  end
  local sizes = {}
  for i = 1, #shape do sizes[i] = native.integer(name_of(self), 'normalized_shape', shape[i], 1) end
  return sizes
end

-- A mask (N, C, *S) becomes a Mask; one with size 1 elsewhere, as for tokens (N, L, 1), passes as it is.
local function mask_of(self, mask, x)
  if Tensor.is_tensor(mask) and mask:dim() == x:dim() then return mask end
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
  local affine = opts.elementwise_affine
  self:register_parameter('weight', affine and filled(self.normalized_shape, 1, opts) or nil)
  self:register_parameter('bias', affine and opts.bias and filled(self.normalized_shape, 0, opts) or nil)
end

function LayerNorm:forward(x, mask)
  Tensor.check(name_of(self), 'input', x)
  mask = mask_of(self, mask, x)
  return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps, { mask = mask, channels = self.channels }),
    mask
end

function LayerNorm:extra_repr()
  return ('%s, eps=%s, elementwise_affine=%s'):format(repr.tuple(self.normalized_shape), repr.number(self.eps),
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
  self:register_parameter('weight', opts.elementwise_affine and filled(self.normalized_shape, 1, opts) or nil)
end

function RMSNorm:forward(x, mask)
  Tensor.check(name_of(self), 'input', x)
  mask = mask_of(self, mask, x)
  return F.rms_norm(x, self.normalized_shape, self.weight, self.eps, { mask = mask }), mask
end

function RMSNorm:extra_repr()
  return ('%s, eps=%s, elementwise_affine=%s'):format(repr.tuple(self.normalized_shape), repr.value(self.eps),
    repr.value(self.elementwise_affine))
end

local layers = { GroupNorm = GroupNorm, LayerNorm = LayerNorm, RMSNorm = RMSNorm }
for dims = 1, 3 do
  local name = dims .. 'd'
  local Batch, Instance = class('BatchNorm' .. name, BatchNorm), class('InstanceNorm' .. name, InstanceNorm)
  Batch.dims, Instance.dims = dims == 1 and { 2, 3 } or { dims + 2 }, { dims + 2 }
  layers['BatchNorm' .. name], layers['InstanceNorm' .. name] = Batch, Instance
end
return layers
