--- masked_conv: convolution layers over incomplete data, all of them rows of one table (F.masked_conv is the operator).
--
--   class            rule     re-weighting       gate      border    remarks
--   MaskedConv       centre   none               mask      -         masked_torch's layer; nil mask: the plain convolution
--   PartialConv      grow     K / S              mask      counted   masked_torch's layer; nil mask: padding is re-weighted
--   MaskConv         keep     none               mask      -         "convolve, then mask"; every option can be set
--   HalfConv         keep     (K / S)^(1/2)      mask      counted   preserves the second moment at initialisation
--   SparseConv       grow     K / S              none      counted   sparsity invariant (Uhrig et al. 2017)
--   SubmanifoldConv  keep     none               mask      -         stride 1, 'same' (Graham and van der Maaten 2017)
--   NormalizedConv   confid.  L1 of the weights  none      counted   x weighted by its confidence (Knutsson and Westin 1993)
--   GatedConv        grow     none               sigmoid   -         a second convolution decides (Yu et al. 2019)
--
-- All: Class1d/2d/3d(in_channels, out_channels, kernel_size, {stride = 1, padding = 0, dilation = 1, groups = 1, bias = true,
-- padding_mode = 'zeros', dtype = 'float32', ...}); layer(x, mask) -> y, mask. Parameters weight (out, in / groups, *kernel) and
-- bias (out) are those of the plain convolution, whose weights load as they are. LazyClass1d/2d/3d(out_channels, ...) takes
-- in_channels from its first input (nn/lazy.lua).
-- Keep the mask for padding, grow it for holes: rule = 'keep' | 'grow' where a row has the option `rule`.

local choices = require('masked_torch.autograd.op.masked_conv').internal.choices
local class = require 'masked_torch.class'
local ConvNd = require('masked_torch.nn.conv').ConvNd
local fusion = require 'masked_torch.nn.fusion'
local geometry = require 'masked_torch.autograd.geometry'
local lazy = require 'masked_torch.nn.lazy'
local masks = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local Tensor = require 'masked_torch.tensor'
local unshuffled = require 'masked_torch.nn.unshuffled'

local fail = native.fail

-- What the operator is told, and the options a user may set, with their defaults.
local presets = {
  MaskedConv = { call = { rule = 'centre', premask = 'values' }, open = { eps = options.none, compat = false } },
  PartialConv = { call = { rule = 'grow', reweight = 'count', border = true, premask = 'values' },
    open = { multichannel = false, eps = options.none, compat = false } },
  MaskConv = { call = {}, open = { rule = 'keep', reweight = 'none', alpha = 1, border = false, gate = 'mask',
    premask = 'select', multichannel = false, learn_alpha = false } },
  HalfConv = { call = { reweight = 'count' },
    open = { rule = 'keep', alpha = 0.5, border = true, multichannel = false, learn_alpha = false } },
  SparseConv = { call = { rule = 'grow', reweight = 'count', gate = 'none' }, open = { alpha = 1, border = true } },
  SubmanifoldConv = { call = {}, open = {}, padding = 'same' },
  NormalizedConv = { call = { rule = 'confidence', reweight = 'l1', gate = 'none', premask = 'multiply' },
    open = { border = true } },
  GatedConv = { call = { gate = 'sigmoid' }, open = { rule = 'grow' } },
}

for _, preset in pairs(presets) do
  preset.defaults = {}
  for key, value in pairs(ConvNd.defaults) do preset.defaults[key] = value end
  for key, value in pairs(preset.open) do preset.defaults[key] = value end
  preset.defaults.padding = options.any(preset.padding or 0)
  -- For every forward pass, in arrays.
  preset.fixed, preset.chosen = {}, {}
  for key, value in pairs(preset.call) do preset.fixed[#preset.fixed + 1] = { key, value } end
  for key in pairs(preset.open) do
    if key ~= 'learn_alpha' then preset.chosen[#preset.chosen + 1] = key end
  end
end

local Base = class('MaskAwareConv', ConvNd)

local function name_of(self) return getmetatable(self).__name end

-- masked_torch's own refusals, in its words.
local function check_compat(self)
  local name = name_of(self)
  if self.padding_mode ~= 'zeros' then fail("%s: padding_mode: Only padding_mode='zeros' is supported", name) end
  if self.family ~= 'MaskedConv' then return end
  if type(self.padding) == 'string' then fail("%s: padding: Untested padding='%s'", name, self.padding) end
  for _, k in ipairs(self.kernel_size) do
    if k % 2 == 0 then
      fail('%s: kernel_size: Only odd kernel sizes are supported, got (%s)', name, table.concat(self.kernel_size, ', '))
    end
  end
end

function Base:__init(in_channels, out_channels, kernel_size, opts)
  local name, preset = name_of(self), self.preset
  opts = self:setup(name, self.dims, in_channels, out_channels, kernel_size, opts, preset.defaults)
  for key in pairs(preset.open) do
    if choices[key] then options.choice(name, key, opts[key], choices[key]) end
    if key ~= 'alpha' or not opts.learn_alpha then self[key] = opts[key] end
  end
  if self.eps ~= nil then native.number(name, 'eps', self.eps) end
  if self.family == 'SubmanifoldConv' then
    for d = 1, self.dims do
      if self.stride[d] ~= 1 then fail('%s: stride: a submanifold convolution has stride 1, got %d', name, self.stride[d]) end
    end
  end
  if self.compat then check_compat(self) end
  if preset.call.gate == 'sigmoid' then
    self:register_parameter('gate_weight')
    self:register_parameter('gate_bias')
  end
  if opts.learn_alpha then
    self:register_parameter('alpha', Tensor.from_table(name, { native.number(name, 'alpha', opts.alpha) }, self.dtype))
  end
  if self.in_channels then self:materialise() end
end

function Base:lazy_names()
  local names = ConvNd.lazy_names(self)
  if self.preset.call.gate == 'sigmoid' then
    for i = 1, #names do names[#names + 1] = 'gate_' .. names[i] end
  end
  return names
end

--- Draws the parameters anew: uniform in +-1 / sqrt(fan_in), the gate's like the convolution's.
function Base:reset_parameters()
  if self.preset.call.gate == 'sigmoid' then
    self.gate_weight = Tensor.empty_like(self.weight)
    if self.has_bias then self.gate_bias = Tensor.empty_like(self.bias) end
    ConvNd.reset_parameters{ weight = self.gate_weight, bias = self.gate_bias }
  end
  ConvNd.reset_parameters(self)
end

-- What the original does with a mask it cannot handle.
local function check_compat_mask(self, mask, x)
  local name, dense = name_of(self), mask:compact(x.dtype)
  if self.family == 'PartialConv' then
    if not self.multichannel and (mask:size(1) ~= 1 or mask:size(2) ~= 1) then
      fail('%s: mask: compat, multichannel = false: expected a mask of one sample and one channel, got (%s); input %s', name,
        table.concat(mask:size(), ', '), Tensor.shape_text(x))
    end
    return
  end
  if mask:size(2) ~= self.in_channels then
    fail('%s: mask: compat: expected mask %s to have %d channels, but got %d channels instead', name, Tensor.shape_text(dense),
      self.in_channels, mask:size(2))
  end
  local before = geometry.padding(name, self.padding, self.kernel_size, self.stride, self.dilation)
  for d = 1, self.dims do
    if before[d] < math.floor(self.kernel_size[d] / 2) then
      fail('%s: mask: compat: padding %d below %d: negative padding is not supported', name, before[d],
        math.floor(self.kernel_size[d] / 2))
    end
    if self.kernel_size[d] > 1 and self.dilation[d] ~= 1 then
      fail('%s: mask: compat: the size of the mask must match the size of the output: dilation %d is not supported with a mask',
        name, self.dilation[d])
    end
  end
end

-- What the operator is told, one table per layer, brought up to date at every call: geometry.frame keeps there what follows.
local calls = setmetatable({}, { __mode = 'k' })

local function call_of(self)
  local call, preset = calls[self], self.preset
  if not call then
    call = options.own{ whole = true, rule = 'keep', reweight = 'none', alpha = 1, border = false, gate = 'mask', premask = 'select',
      multichannel = false, compat = false }
    for i = 1, #preset.fixed do call[preset.fixed[i][1]] = preset.fixed[i][2] end
    calls[self] = call
  end
  call.premask = preset.call.premask or 'select'
  for i = 1, #preset.chosen do call[preset.chosen[i]] = self[preset.chosen[i]] end
  call.eps = call.eps or 0
  call.stride, call.padding, call.dilation, call.groups = self.stride, self.padding, self.dilation, self.groups
  call.gate_weight, call.gate_bias = self.gate_weight, self.gate_bias
  return call
end

-- activation, negative_slope, norm: what a container found behind the layer, the norm first (nn/fusion.lua).
function Base:forward(x, mask, activation, negative_slope, unshuffle, norm)
  local name, call, weight = name_of(self), call_of(self), self.weight
  call.activation, call.negative_slope, call.norm = activation, negative_slope, norm
  if unshuffle then
    x, mask, weight = self:unshuffled(x, mask, unshuffle)
    call.gate_weight = call.gate_weight and unshuffled.weight(call.gate_weight, unshuffle)
  end
  self:check_input(x)
  mask = masks.of(name, mask, x)
  if self.compat then
    if mask then check_compat_mask(self, mask, x) end
    call.premask, call.eps = 'none', self.eps or 1e-8
  end
  if self.padding_mode ~= 'zeros' then
    x, mask = self:pad_by_mode(x, mask)
    call.padding = 0
  end
  local N = x:size(1)
  local F = require 'masked_torch.nn.functional'
  local y, result = F.masked_conv(x, weight, self.bias, mask, call)
  if self.multichannel and result then result = result:expand(N, self.out_channels) end
  return y, result
end

-- ---- printing --------------------------------------------------------------------------------------------------

local function python(value) return type(value) == 'boolean' and repr.value(value) or tostring(value) end

--- "in, out, kernel_size=(3, 3), stride=(1, 1), ..." as PyTorch prints a convolution, then what this class adds.
function Base:extra_repr()
  local parts = { ConvNd.extra_repr(self) }
  local function add(format, ...) parts[#parts + 1] = format:format(...) end
  if self.family == 'PartialConv' then add('multichannel=%s', python(self.multichannel)) end
  if self.family == 'PartialConv' or self.family == 'MaskedConv' then
    add('eps=%g', self.eps or 1e-8)
    if self.compat then add('compat=True') end
    return table.concat(parts, ', ')
  end
  -- Presets: what differs from the row's defaults.
  local keys = {}
  for key in pairs(self.preset.open) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value, default = self[key], self.preset.open[key]
    if Tensor.is_tensor(value) then
      add('%s=%g', key, value:item())
    elseif value ~= default then
      add('%s=%s', key, python(value))
    end
  end
  return table.concat(parts, ', ')
end

-- ---- classes -----------------------------------------------------------------------------------------------------

local classes = {}
for family, preset in pairs(presets) do
  for dims = 1, 3 do
    local name = family .. dims .. 'd'
    local Class = class(name, Base)
    Class.family, Class.dims, Class.preset = family, dims, preset
    fusion.maker(Class)
    fusion.takes_activation(Class)
    fusion.takes_norm(Class)
    fusion.reader(Class)
    classes[name] = Class
    classes['Lazy' .. name] = lazy.derive(Class)
    fusion.reader(classes['Lazy' .. name])
  end
end

--- MaskedConv1d/2d/3d(in, out, kernel, {..., eps, compat = false}): y = (conv(x) + b) * m', m' = sum_c a_c m_c / sum_c a_c at
-- the kernel's centre, a_c = sum of |w| over the taps of channel c, per output channel. A one-channel mask stays as it is.
-- nil mask: the plain convolution. masked_torch's layer (2024), corrected; what differs from it:
--   masks: bool, integer, one channel, spatial only, lengths and boxes are accepted; one batch entry per sample
--   dilation, even kernels (centre: tap floor(k / 2)), padding below k / 2, 'same', 'valid', 'causal', other padding modes work
--   what lies under the mask is cleared first. As there, x counts as masked by the caller: the gradient passes into the holes
--   a filter of zeros gets the unweighted mean of the mask, so that it can be trained
--   a full mask gives the plain convolution to the bit: eps is added only when it is given (printed as 1e-8 otherwise); padding
--   beyond half a kernel is masked there too
-- compat = true restores all of it: x is trusted, eps = 1e-8, zero filters get mask 0, and what masked_torch refuses is refused.
-- m' depends on the weights but is constant for the gradient, as there.

--- PartialConv1d/2d/3d(in, out, kernel, {..., multichannel = false, eps, compat = false}): y = (conv(x) * K / S + b) * m',
-- m' = min(1, S), S = valid taps (soft masks: their sum), padding counting as invalid; with multichannel, S counts taps of
-- all channels and the mask that is returned has the shape of y. nil mask: partial convolution based padding. (Liu et al.
-- 2018.) What differs from masked_torch's layer:
--   masks: as for MaskedConv; without multichannel a mask may differ by sample, and one with all channels is counted fully
--   S = 0 is recognised instead of eps being added: a full window has ratio 1 exactly; eps is added only when given
--   what lies under the mask is cleared first, as for MaskedConv. Soft masks do not scale x; m' = min(1, S) as there
-- compat = true: x is trusted, eps = 1e-8, and only the masks that masked_torch takes.

--- MaskConv1d/2d/3d(in, out, kernel, {..., rule = 'keep', reweight = 'none', alpha = 1, border = false, gate = 'mask',
-- premask = 'select', multichannel = false, learn_alpha = false}): the operator F.masked_conv as a layer, with every option; by
-- default "convolve, then mask". learn_alpha makes the exponent a parameter.

--- HalfConv1d/2d/3d(in, out, kernel, {..., rule = 'keep', alpha = 0.5, border = true, multichannel = false, learn_alpha = false}):
-- y = (conv(x) (K / S)^(1/2) + b) * m'. With independent weights of mean 0 the second moment of the output is that of a full
-- window, whatever the mask.

--- SparseConv1d/2d/3d(in, out, kernel, {..., alpha = 1, border = true}): y = conv(x) K / S + b, the mask grows, nothing is gated
-- (Uhrig et al. 2017).

--- SubmanifoldConv1d/2d/3d(in, out, kernel, {...}): computed at valid centres only; the mask stays; stride 1, padding 'same'
-- (Graham and van der Maaten 2017).

--- NormalizedConv1d/2d/3d(in, out, kernel, {..., border = true}): x weighted by its confidence m, the sum divided by that of |w| m;
-- the new confidence is that share (Knutsson and Westin 1993, Eldesokey et al. 2018).

--- GatedConv1d/2d/3d(in, out, kernel, {..., rule = 'grow'}): conv(x) * sigmoid(gate(x)), the gate a second convolution with the
-- parameters gate_weight and gate_bias (Yu et al. 2019).

return classes
