--- nn.conv: Conv1d/2d/3d, ConvTranspose1d/2d/3d and their lazy forms, with PyTorch's defaults, initialisation and printing.
--
-- ConvNd is what they and the masked convolutions (nn/masked_conv.lua) have in common: options, parameters, printing.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local fusion = require 'masked_torch.nn.fusion'
local geometry = require 'masked_torch.autograd.geometry'
local init = require 'masked_torch.nn.initialise'
local lazy = require 'masked_torch.nn.lazy'
local masks = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local Tensor = require 'masked_torch.tensor'
local unshuffled = require 'masked_torch.nn.unshuffled'
local each = require('masked_torch.autograd.spatial').each
local Module = require('masked_torch.nn.module').Module

local fail = native.fail

local ConvNd = class('ConvNd', Module)

local axes = { 'L', 'H, W', 'D, H, W' }
local modes = { 'zeros', 'reflect', 'replicate', 'circular' }

--- ConvNd.defaults: options of every convolution; a subclass adds its own.
ConvNd.defaults = { stride = options.any(1), padding = options.any(0), dilation = options.any(1), groups = 1, bias = true,
  padding_mode = 'zeros', dtype = 'float32' }

-- Amounts of padding as they are printed and given to F: a word, one number per axis, or pairs.
local function check_padding(op, padding, kernel, stride, dilation)
  geometry.padding(op, padding, kernel, stride, dilation)
  return type(padding) == 'number' and each(op, 'padding', padding, #kernel) or padding
end

--- ConvNd.setup(self, name, dims, in_channels, out_channels, kernel_size, opts, defaults): everything but the parameters, which
-- follow with self:materialise() where in_channels is known.
-- Returns the parsed options.
function ConvNd:setup(name, dims, in_channels, out_channels, kernel_size, opts, defaults)
  Module.__init(self)
  opts = options.parse(name, defaults or ConvNd.defaults, opts)
  self.dims = dims
  self.in_channels = lazy.size(name, 'in_channels', in_channels, 1)
  self.out_channels = native.integer(name, 'out_channels', out_channels, 1)
  self.kernel_size = each(name, 'kernel_size', kernel_size, dims, 1)
  self.stride = each(name, 'stride', opts.stride, dims, 1)
  self.dilation = each(name, 'dilation', opts.dilation, dims, 1)
  self.padding = check_padding(name, opts.padding, self.kernel_size, self.stride, self.dilation)
  self.groups = native.integer(name, 'groups', opts.groups, 1, 2 ^ 31 - 1)
  self.padding_mode = options.choice(name, 'padding_mode', opts.padding_mode or 'zeros', modes)
  self.dtype = Tensor.check_dtype(name, opts.dtype)
  if not Tensor.real[opts.dtype] then fail('%s: dtype: expected float32 or float64, got %s', name, opts.dtype) end
  self.has_bias = opts.bias
  if self.out_channels % self.groups ~= 0 then
    fail('%s: out_channels: %d channels cannot be split into %d groups', name, self.out_channels, self.groups)
  end
  self:register_parameter('weight')
  self:register_parameter('bias')
  return opts
end

--- Sizes of the weight; a transposed convolution has them the other way round.
function ConvNd:weight_shape()
  return { self.out_channels, self.in_channels / self.groups, unpack(self.kernel_size) }
end

--- Allocates and draws the parameters; in_channels is known.
function ConvNd:materialise()
  local name = getmetatable(self).__name
  if self.in_channels % self.groups ~= 0 then
    fail('%s: in_channels: %d channels cannot be split into %d groups', name, self.in_channels, self.groups)
  end
  self.weight = Tensor.empty(name, self:weight_shape(), self.dtype, self.device)
  if self.has_bias then self.bias = Tensor.empty(name, { self.out_channels }, self.dtype, self.device) end
  self:reset_parameters()
end

-- Lazy layers (nn/lazy.lua): the channels of an input (N, C, *S), or of a weight.
local function channels_of_input(self, x, unshuffle)
  if x:dim() ~= self.dims + 2 then
    fail('%s: input: expected %d dimensions, got %s', getmetatable(self).__name, self.dims + 2, Tensor.shape_text(x))
  end
  local r = unshuffle and native.integer(getmetatable(self).__name, 'unshuffle', unshuffle, 1) or 1
  return native.integer(getmetatable(self).__name, 'in_channels', x:size(2) * r, 1)
end

local function channels_of_weight(self, weight)
  local shape = weight:size()
  local out = table.remove(shape, 1)
  local groups = table.remove(shape, 1)
  if self.transposed then out, groups = groups, out / self.groups end
  return #shape == self.dims and groups > 0 and out > 0 and groups * self.groups or nil
end

ConvNd.lazy_size = { position = 1, field = 'in_channels', input = channels_of_input, state = { weight = channels_of_weight } }

function ConvNd:lazy_names() return { 'weight', self.has_bias and 'bias' or nil } end

--- Draws the parameters anew: uniform in +-1 / sqrt(fan_in).
function ConvNd:reset_parameters()
  init.kaiming_uniform_(self.weight, { a = math.sqrt(5) })
  if self.bias then
    local bound = 1 / math.sqrt((init.calculate_fan(self.weight)))
    init.uniform_(self.bias, -bound, bound)
  end
end

--- Fails unless x is (N, in_channels, *S). The functions below see only that x and weight differ, and would blame the weight.
function ConvNd:check_input(x)
  local name = getmetatable(self).__name
  Tensor.check(name, 'input', x)
  if x:dim() ~= self.dims + 2 or x:size(2) ~= self.in_channels then
    fail('%s: input: expected (N, in_channels = %d, %s), got %s %s', name, self.in_channels, axes[self.dims], Tensor.shape_text(x),
      x.dtype)
  end
  Tensor.check_dtype_of(name, x, self.weight)
end

--- The options that F.conv takes.
function ConvNd:functional_options()
  return { stride = self.stride, padding = self.padding, dilation = self.dilation, groups = self.groups }
end

local function all_equal(values, value)
  if type(values) ~= 'table' then return false end
  for _, v in ipairs(values) do
    if v ~= value then return false end
  end
  return true
end

function ConvNd:extra_repr()
  local parts = { ('%s, %d, kernel_size=%s, stride=%s'):format(self.in_channels or 0, self.out_channels,
    repr.tuple(self.kernel_size), repr.tuple(self.stride)) }
  local function part(name, value) parts[#parts + 1] = name .. '=' .. value end
  if not all_equal(self.padding, 0) then
    part('padding', type(self.padding) == 'string' and self.padding or repr.tuple(self.padding))
  end
  if not all_equal(self.dilation, 1) then part('dilation', repr.tuple(self.dilation)) end
  if self.output_padding and not all_equal(self.output_padding, 0) then part('output_padding', repr.tuple(self.output_padding)) end
  if self.groups ~= 1 then part('groups', self.groups) end
  if not self.has_bias then part('bias', 'False') end
  if self.padding_mode ~= 'zeros' then part('padding_mode', self.padding_mode) end
  if self.mask_rule and self.mask_rule ~= 'keep' then part('mask_rule', self.mask_rule) end
  return table.concat(parts, ', ')
end

local classes = { ConvNd = ConvNd }

-- ---- Conv --------------------------------------------------------------------------------------------------------

--- Padding modes other than zeros repeat x and its mask alike, so nothing is left outside. Returns both, padded.
function ConvNd:pad_by_mode(x, mask)
  local name = getmetatable(self).__name
  local before, after = geometry.padding(name, self.padding, self.kernel_size, self.stride, self.dilation)
  local amounts = {}
  for d = self.dims, 1, -1 do      -- last axis first
    amounts[#amounts + 1], amounts[#amounts + 2] = before[d], after[d]
  end
  local opts = { mode = self.padding_mode }
  if mask then
    mask = mask:derived('pad ' .. self.padding_mode .. ' ' .. x.dtype .. ' ' .. table.concat(amounts, ','), function()
      return masks.wrap(F.pad(mask:compact(x.dtype), amounts, opts))
    end)
  end
  return F.pad(x, amounts, opts), mask
end

--- What forward reads under its argument unshuffle = r: x and mask unshuffled by that factor, and the weight, all with their channels in
-- the order of memory (nn/unshuffled.lua). One axis and one group.
function ConvNd:unshuffled(x, mask, r)
  local name = getmetatable(self).__name
  Tensor.check(name, 'input', x)
  native.integer(name, 'unshuffle', r, 1)
  if self.dims ~= 1 or self.groups ~= 1 or x:dim() ~= 3 or x:size(3) % r ~= 0 then
    fail('%s: unshuffle: expected one spatial axis of a multiple of %d and one group, got %s and %d', name, r, Tensor.shape_text(x),
      self.groups)
  end
  mask = masks.of(name, mask, x)
  return unshuffled.input(x, r), mask and unshuffled.mask(mask, x, r, 'unshuffled view', unshuffled.input),
    unshuffled.weight(self.weight, r)
end

-- Without a mask the plain convolution. With one: holes are cleared, the mask keeps its value at the kernel's centre, and
-- the output is masked by it; that is the masked operator without re-weighting.
local calls = setmetatable({}, { __mode = 'k' })     -- of each layer the options it calls with: geometry.frame remembers there
local functions, masked_functions = { 'conv1d', 'conv2d', 'conv3d' }, { 'masked_conv1d', 'masked_conv2d', 'masked_conv3d' }

local function call_of(self)
  local call = calls[self]
  if not call then
    call = options.own{ whole = true, rule = 'keep', reweight = 'none', alpha = 0, border = false, gate = 'mask', premask = 'select',
      multichannel = false, eps = 0, compat = false }
    calls[self] = call
  end
  call.stride, call.padding, call.dilation, call.groups = self.stride, self.padding, self.dilation, self.groups
  call.padding_mode = self.padding_mode
  return call
end

-- activation, negative_slope, norm: what a container found behind the layer, the norm first (nn/fusion.lua).
local function forward(self, x, mask, activation, negative_slope, unshuffle, norm)
  local weight, call = self.weight, call_of(self)
  call.activation, call.negative_slope, call.norm = activation, negative_slope, norm
  if unshuffle then x, mask, weight = self:unshuffled(x, mask, unshuffle) end
  self:check_input(x)
  if mask == nil then
    local y = F[functions[self.dims]](x, weight, self.bias, call)
    return y, nil
  end
  if self.padding_mode ~= 'zeros' then
    x, mask = self:pad_by_mode(x, masks.of(getmetatable(self).__name, mask, x))
    call.padding = 0
  end
  local y, new_mask = F[masked_functions[self.dims]](x, weight, self.bias, mask, call)
  return y, new_mask
end

--- nn.Conv1d/2d/3d(in_channels, out_channels, kernel_size, {stride = 1, padding = 0, dilation = 1, groups = 1, bias = true,
-- padding_mode = 'zeros', dtype = 'float32'}): x (N, C, *S) -> (N, O, *S'). Sizes are numbers or one per axis; padding as
-- in F.conv2d.
-- weight (O, C / groups, *K) and bias (O) start uniform in +-1 / sqrt(C / groups * kernel positions).
-- With a mask: the input's holes count as 0 whatever they hold, the mask goes on with its value at the kernel's centre, and the
-- output is 0 where that is 0.
for dims = 1, 3 do
  local name = 'Conv' .. dims .. 'd'
  local Conv = class(name, ConvNd)
  Conv.dims = dims
  function Conv:__init(in_channels, out_channels, kernel_size, opts)
    self:setup(getmetatable(self).__name, dims, in_channels, out_channels, kernel_size, opts)
    if self.in_channels then self:materialise() end
  end
  Conv.forward = forward
  fusion.maker(Conv)
  fusion.takes_activation(Conv)
  fusion.takes_norm(Conv)
  fusion.reader(Conv)
  classes[name] = Conv
end

-- ---- ConvTranspose -----------------------------------------------------------------------------------------------

-- The mask of a transposed convolution's output; m is dense (N | 1, C | 1, *S).
-- grow: min(1, the sum of the mask over the inputs that reach a position).
local function grown(self, m, opts)
  local ones = Tensor.empty('ConvTranspose', { 1, 1, unpack(self.kernel_size) }, m.dtype, m.device):fill_(1)
  return F['conv_transpose' .. self.dims .. 'd'](m, ones, nil, opts):clamp(0, 1)
end

-- keep: the mask of the input that stands where the output does. Input i has its kernel's middle at i * stride + shift.
local function kept(self, m, sizes)
  for d = 1, self.dims do
    local span = self.dilation[d] * (self.kernel_size[d] - 1) + 1
    local shift = math.ceil((span - self.stride[d]) / 2) - self.padding_before[d]
    local from, last = {}, m:size(d + 2)
    for o = 1, sizes[d] do
      from[o] = math.min(math.max(math.floor((o - 1 - shift) / self.stride[d]) + 1, 1), last)
    end
    m = m:index_select(d + 2, Tensor.from_table('ConvTranspose', from, 'int64', m.device))
  end
  return m
end

local function transposed_mask(self, mask, y, opts)
  local key, sizes = { 'transposed', self.mask_rule, y.dtype }, geometry.spatial(y)
  for _, list in ipairs { self.kernel_size, self.stride, self.dilation, self.padding_before, self.padding_after, sizes } do
    key[#key + 1] = table.concat(list, ',')
  end
  return mask:derived(table.concat(key, ' '), function()
    if mask:known_full() then return masks.full({ mask:size(1), 1, unpack(sizes) }, { device = y.device }) end
    local m = mask:compact(y.dtype)
    if m:size(2) > 1 then m = m:amax(2, { keepdim = true }) end
    if self.mask_rule == 'grow' then
      m = grown(self, m, { stride = opts.stride, padding = opts.padding, dilation = opts.dilation,
        output_padding = opts.output_padding })
    else
      m = kept(self, m, sizes)
    end
    return masks.wrap(m)
  end)
end

local transpose_defaults = { stride = options.any(1), padding = options.any(0), output_padding = options.any(0),
  dilation = options.any(1), groups = 1, bias = true, dtype = 'float32', mask_rule = 'keep' }

--- nn.ConvTranspose1d/2d/3d(in_channels, out_channels, kernel_size, {stride = 1, padding = 0, output_padding = 0, groups = 1,
-- bias = true, dilation = 1, dtype = 'float32', mask_rule = 'keep'}): the adjoint of a convolution. x (N, C, *S) -> (N, O, *S'),
--   S' = (S - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
-- weight (C, O / groups, *K).
-- With a mask: the input's holes count as 0 whatever they hold, and the output is multiplied by the mask that goes on, of one
-- channel (of several the largest counts). mask_rule = 'keep': each input's mask spreads over the stride x stride positions in
-- the middle of its kernel (for kernel = stride: all it reaches); 'grow': min(1, the sum of the mask over the inputs that reach
-- a position). A full mask stays full and changes nothing.
for dims = 1, 3 do
  local name = 'ConvTranspose' .. dims .. 'd'
  local Conv = class(name, ConvNd)
  Conv.dims, Conv.transposed = dims, true
  function Conv:__init(in_channels, out_channels, kernel_size, opts)
    opts = self:setup(getmetatable(self).__name, dims, in_channels, out_channels, kernel_size, opts, transpose_defaults)
    if type(self.padding) == 'string' and self.padding ~= 'valid' then
      fail("%s: padding: '%s' is not defined for a transposed convolution; expected a number or a table", name, self.padding)
    end
    self.output_padding = each(name, 'output_padding', opts.output_padding, dims, 0)
    self.mask_rule = options.choice(name, 'mask_rule', opts.mask_rule, { 'keep', 'grow' })
    self.padding_before, self.padding_after = geometry.padding(name, self.padding, self.kernel_size, self.stride, self.dilation)
    if self.in_channels then self:materialise() end
  end
  function Conv:weight_shape()
    return { self.in_channels, self.out_channels / self.groups, unpack(self.kernel_size) }
  end
  function Conv:forward(x, mask)
    self:check_input(x)
    local opts = self:functional_options()
    opts.output_padding = self.output_padding
    if mask ~= nil then
      mask = masks.of(name, mask, x)
      if not mask:known_full() then x = x:select_valid(mask) end
    end
    local y = F['conv_transpose' .. dims .. 'd'](x, self.weight, self.bias, opts)
    if mask == nil then return y, nil end
    local full = mask:known_full()
    mask = transposed_mask(self, mask, y, opts)
    if not full then y = y:apply_mask(mask) end
    return y, mask
  end
  classes[name] = Conv
end

--- nn.LazyConv1d/2d/3d(out_channels, kernel_size, options), LazyConvTranspose1d/2d/3d: see nn/lazy.lua.
for dims = 1, 3 do
  for _, family in ipairs{ 'Conv', 'ConvTranspose' } do
    local name = family .. dims .. 'd'
    classes['Lazy' .. name] = lazy.derive(classes[name])
    if family == 'Conv' then fusion.reader(classes['Lazy' .. name]) end
  end
end

return classes
