--- Networks and inputs for the checks of exported ONNX files, with our interpreter (tests/io/onnx_spec.lua) and with onnxruntime
-- (tests/peers/onnx_check.py): { name, net = function() -> module, shapes of x; mask = kind, garbage, large,
-- inputs = function(shape), ... }.
-- The first shape is the example of the export; the file must work for the others.
local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local nn, F = torch.nn, torch.nn.functional

local root = require 'support.root'

local cases = {}
local function add(name, net, shapes, opts)
  local case = { name = name, net = net, shapes = shapes }
  for key, value in pairs(opts or {}) do case[key] = value end
  cases[#cases + 1] = case
end

-- Masks by kind for a shape (N, C, *S).
local kinds = {}
local function binary(shape) return torch.rand(shape):gt(0.35) end
function kinds.one(shape) return binary{ shape[1], 1, unpack(shape, 3) } end
function kinds.all(shape) return binary(shape) end
function kinds.same(shape) return binary{ 1, 1, unpack(shape, 3) } end
function kinds.soft(shape)
  local m = torch.rand{ shape[1], 1, unpack(shape, 3) }
  return torch.where(m:gt(0.3), m, torch.zeros_like(m))
end
function kinds.soft_all(shape)
  local m = torch.rand(shape)
  return torch.where(m:gt(0.3), m, torch.zeros_like(m))
end
function kinds.full(shape) return torch.ones{ shape[1], 1, unpack(shape, 3) } end
function kinds.empty(shape) return torch.zeros{ shape[1], 1, unpack(shape, 3) } end
local every_mask = { 'one', 'all', 'same', 'soft', 'soft_all', 'full', 'empty' }

-- Two or three shapes by the number of spatial axes.
local shapes = {
  { { 2, 4, 9 }, { 1, 4, 14 }, { 3, 4, 6 } },
  { { 2, 4, 7, 6 }, { 1, 4, 6, 9 } },
  { { 2, 4, 4, 5, 6 }, { 1, 4, 5, 4, 4 } },
}
local even = { { { 2, 4, 8 }, { 1, 4, 12 } }, { { 2, 4, 8, 4 }, { 3, 4, 4, 12 } }, { { 1, 4, 4, 8, 4 }, { 2, 4, 4, 4, 8 } } }

local function text(value)
  if type(value) ~= 'table' then return tostring(value) end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = (type(key) == 'number' and '' or key .. ' ') .. text(value[key]) end
  return '{' .. table.concat(parts, ', ') .. '}'
end

local function merge(a, b)
  local t = {}
  for key, value in pairs(a) do t[key] = value end
  for key, value in pairs(b or {}) do t[key] = value end
  return t
end

-- A layer of some class for dims axes; masks: list of kinds, false for none.
local function layer(name, dims, arguments, masks, opts)
  local full = name .. (dims and dims .. 'd' or '')
  for _, mask in ipairs(masks) do
    add(('%s %s, mask %s'):format(full, text(arguments), tostring(mask)), function() return nn[full](unpack(arguments)) end,
      opts and opts.shapes or shapes[dims or 2], merge({ mask = mask or nil }, opts))
  end
end

-- ---- convolutions ------------------------------------------------------------------------------------------------------------

for dims = 1, 3 do
  layer('Conv', dims, { 4, 6, 3, { padding = 1 } }, { false, 'one', 'all', 'soft' }, { garbage = true })
  layer('Conv', dims, { 4, 6, 3, { padding = 2, stride = 2, dilation = 2, groups = 2, bias = false } }, { false, 'all' })
  layer('Conv', dims, { 4, 6, 2, { padding = 'same' } }, { false, 'one', 'full' })
  layer('MaskedConv', dims, { 4, 6, 2, { padding = 1 } }, { 'full', 'all', 'one' })
  layer('Conv', dims, { 4, 6, 3, { padding = 'causal' } }, { false, 'one' })
  layer('MaskedConv', dims, { 4, 6, 3, { padding = 'causal', dilation = 2 } }, { 'one', 'all' })
  layer('HalfConv', dims, { 4, 6, 2, { padding = 'causal' } }, { 'one', 'all' })
  layer('ConvTranspose', dims, { 4, 6, 3, { stride = 2, padding = 1, output_padding = 1, groups = 2 } }, { false, 'one', 'soft_all' },
    { garbage = true })
  layer('ConvTranspose', dims, { 4, 6, 2, { stride = 3, mask_rule = 'grow' } }, { 'one', 'soft_all', 'full' })
  for _, family in ipairs{ 'MaskedConv', 'PartialConv', 'HalfConv', 'SparseConv', 'NormalizedConv', 'GatedConv' } do
    layer(family, dims, { 4, 6, 3, { padding = 1 } }, dims == 2 and { false, unpack(every_mask) } or { false, 'one', 'all', 'soft' },
      { garbage = family ~= 'NormalizedConv' })
  end
  layer('SubmanifoldConv', dims, { 4, 6, 3 }, { false, 'one', 'all' }, { garbage = true })
end
for _, mode in ipairs{ 'reflect', 'replicate', 'circular' } do
  layer('Conv', 2, { 4, 6, 3, { padding = { { 2, 1 }, { 0, 2 } }, padding_mode = mode } }, { false, 'one' })
  layer('PartialConv', 2, { 4, 6, 3, { padding = 1, padding_mode = mode } }, { 'one', 'all' })
end
layer('Conv', 2, { 4, 6, 3, { padding = { { -1, 1 }, { 2, -1 } } } }, { false, 'one' })

for _, rule in ipairs{ 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' } do
  for _, reweight in ipairs{ 'none', 'count', 'l1', 'l2' } do
    for _, border in ipairs{ true, false } do
      layer('MaskConv', 2, { 4, 6, 3, { padding = 1, rule = rule, reweight = reweight, border = border } },
        border and reweight ~= 'none' and { false, 'one', 'soft_all' } or { 'all', 'soft' })
    end
  end
  layer('MaskConv', 2, { 4, 6, { 3, 2 }, { padding = { 2, 1 }, stride = { 1, 2 }, dilation = { 2, 1 }, groups = 2, rule = rule,
    reweight = 'count', alpha = 0.5 } }, { 'one', 'soft_all' })
  layer('MaskConv', 1, { 4, 6, 3, { padding = 3, rule = rule, reweight = 'l2', border = true, alpha = 0.3 } }, { 'one', 'all' })
  layer('MaskConv', 3, { 4, 6, 3, { padding = 1, rule = rule, reweight = 'l1', groups = 2 } }, { 'one', 'soft_all' })
end
layer('MaskConv', 2, { 4, 6, 3, { padding = 1, reweight = 'count', multichannel = true, gate = 'none' } }, { 'soft', 'soft_all' })
layer('MaskConv', 2, { 4, 6, 3, { padding = 1, reweight = 'count', learn_alpha = true, alpha = 0.7 } }, { 'one', 'all' })
layer('MaskConv', 2, { 4, 6, 3, { premask = 'multiply' } }, { 'soft', 'soft_all' })
layer('MaskConv', 2, { 4, 6, 3, { premask = 'none' } }, { 'one' })
for _, rule in ipairs{ 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' } do      -- windows outside the image
  layer('MaskConv', 2, { 4, 6, { 3, 1 }, { padding = { 1, 2 }, stride = { 1, 2 }, rule = rule } }, { false, 'full', 'all', 'soft' })
end
layer('PartialConv', 2, { 4, 6, 3, { padding = 1, multichannel = true } }, { false, 'one', 'all', 'soft' })
layer('PartialConv', 2, { 4, 6, 3, { padding = 1, multichannel = true, compat = true } }, { 'all' })
layer('MaskedConv', 2, { 4, 6, 3, { padding = 1, compat = true } }, { 'all', 'soft_all' })
layer('MaskedConv', 2, { 4, 6, 3, { padding = 1, eps = 1e-3 } }, { 'one', 'all' })
layer('GatedConv', 2, { 4, 6, 3, { rule = 'keep', bias = false } }, { 'one' })

-- ---- norms -------------------------------------------------------------------------------------------------------------------

for _, training in ipairs{ false, true } do
  local mode = { training = training, garbage = true }
  for dims = 1, 3 do
    layer('BatchNorm', dims, { 4 }, { false, 'one', 'all', 'soft', 'soft_all' }, mode)
    layer('InstanceNorm', dims, { 4, { affine = true, track_running_stats = true } }, { false, 'one', 'soft_all' }, mode)
  end
  layer('MaskedBatchNorm', 2, { 4 }, every_mask, mode)
  layer('MaskedBatchNorm', 2, { 4, { compat = true } }, { false, 'all', 'soft_all' }, { training = training })
  layer('MaskedBatchNorm', 1, { 4, { affine = false, track_running_stats = false } }, { 'one' }, mode)
  add('BatchNorm1d (N, C)', function() return nn.BatchNorm1d(4) end, { { 5, 4 }, { 3, 4 } }, { training = training })
end
layer('InstanceNorm', 2, { 4 }, { false, 'all' }, { garbage = true })
layer('GroupNorm', nil, { 2, 4 }, { false, unpack(every_mask) }, { garbage = true })
layer('GroupNorm', nil, { 4, 4, { affine = false } }, { false, 'one' }, { shapes = shapes[3] })
layer('LayerNorm', nil, { { 4, 6 } }, { false, 'one', 'all', 'soft' }, { garbage = true, shapes = { { 2, 3, 4, 6 }, { 1, 3, 4, 6 } },
  fixed = { 3, 4 } })
layer('LayerNorm', nil, { 4, { channels = true } }, { false, 'one', 'soft_all' }, { garbage = true })
layer('LayerNorm', nil, { 6, { elementwise_affine = false } }, { false }, { shapes = { { 2, 3, 6 }, { 4, 2, 6 } }, fixed = { 3 },
  free = true })
layer('RMSNorm', nil, { 6 }, { false, 'one' }, { shapes = { { 2, 3, 6 }, { 4, 2, 6 } }, fixed = { 3 }, free = true,
  garbage = true })
for dims = 1, 3 do layer('MaskedInstanceNorm', dims, { 4 }, { 'one' }) end
layer('MaskedBatchNorm', 3, { 4 }, { 'one' })
layer('MaskedGroupNorm', nil, { 2, 4 }, { 'soft_all' })
layer('MaskedRMSNorm', nil, { 6 }, { 'one' }, { shapes = { { 2, 3, 6 }, { 4, 2, 6 } }, fixed = { 3 }, free = true })
layer('MaskedLayerNorm', nil, { 4, { channels = true, bias = false } }, { 'all' })

-- ---- pooling and resampling ----------------------------------------------------------------------------------------------------

for _, rule in ipairs{ 'grow', 'keep', 'coverage' } do
  for dims = 1, 3 do
    local masks = dims == 2 and { false, 'one', 'all', 'soft', 'soft_all', 'empty' } or { false, 'one', 'soft_all' }
    layer('MaxPool', dims, { 3, { stride = 2, padding = 1, mask_rule = rule } }, masks, { garbage = true })
    layer('AvgPool', dims, { 2, { mask_rule = rule } }, masks, { garbage = true })
    layer('AvgPool', dims, { 3, { stride = 2, padding = 1, mask_rule = rule } }, masks)
    layer('AdaptiveAvgPool', dims, { 3, { mask_rule = rule } }, masks, { garbage = true })
    layer('AdaptiveMaxPool', dims, { 2, { mask_rule = rule } }, masks, { garbage = true })
  end
  layer('MaxPool', 2, { { 3, 2 }, { stride = { 2, 3 }, padding = { 2, 0 }, dilation = { 2, 1 }, ceil_mode = true,
    mask_rule = rule } }, { false, 'one', 'soft_all' })
  layer('AvgPool', 2, { { 3, 2 }, { stride = { 2, 3 }, padding = { 1, 0 }, ceil_mode = true, mask_rule = rule } },
    { false, 'one', 'all' })
  layer('AvgPool', 1, { 4, { stride = 3, padding = 2, ceil_mode = true, count_include_pad = false, mask_rule = rule } }, { false, 'soft' })
  layer('AdaptiveAvgPool', 2, { 1, { mask_rule = rule } }, { false, 'one', 'soft_all' })
  for _, mode in ipairs{ 'nearest', 'linear' } do
    for dims = 1, 3 do
      local masks = dims == 2 and { false, 'one', 'all', 'soft', 'soft_all', 'empty' } or { false, 'one' }
      layer('Upsample', nil, { { scale_factor = 2, mode = mode, mask_rule = rule } }, masks, { shapes = shapes[dims], garbage = true })
    end
    layer('Upsample', nil, { { size = { 5, 11 }, mode = mode, mask_rule = rule } }, { false, 'one', 'soft_all' })
  end
  layer('Upsample', nil, { { size = { 5, 11 }, mode = 'linear', align_corners = true, mask_rule = rule } }, { false, 'one' })
  layer('Upsample', nil, { { scale_factor = 3, mode = 'linear', align_corners = true, mask_rule = rule } }, { false, 'one' })
end
layer('Upsample', nil, { { scale_factor = 0.5, mode = 'nearest' } }, { false, 'one' })
layer('Upsample', nil, { { scale_factor = 1.7, mode = 'linear' } }, { false, 'one' }, { shapes = { { 2, 4, 7, 6 }, { 3, 4, 7, 6 } },
  fixed = { 3, 4 } })
layer('AvgPool', 2, { 3, { count = 'window' } }, { false, 'one' })

for dims = 1, 3 do
  for _, prefix in ipairs{ '', 'Masked' } do
    layer(prefix .. 'Unshuffle', dims, { 2 }, { false, 'one', 'all', 'soft' }, { shapes = even[dims] })
  end
  local many = {}
  for i, s in ipairs(even[dims]) do many[i] = { s[1], 16, unpack(s, 3) } end
  layer('Shuffle', dims, { 2 }, { false, 'one', 'all' }, { shapes = many })
  layer('MaskedShuffle', dims, { 2 }, { 'one' }, { shapes = many })
end
layer('PixelUnshuffle', nil, { 2 }, { false, 'all' }, { shapes = even[2] })
layer('PixelShuffle', nil, { 2 }, { false }, { shapes = { { 1, 8, 3, 2 }, { 2, 8, 4, 5 } } })

-- ---- elementwise -----------------------------------------------------------------------------------------------------------------

for _, a in ipairs{ { 'ReLU' }, { 'LeakyReLU', 0.2 }, { 'GELU' }, { 'GELU', 'tanh' }, { 'SiLU' }, { 'ELU', 0.7 }, { 'Softplus' },
  { 'Softplus', 2, 1.5 }, { 'Sigmoid' }, { 'Tanh' }, { 'Softmax', 2 }, { 'LogSoftmax', -1 } } do
  layer(a[1], nil, { unpack(a, 2) }, { false, 'one', 'all' })
end
layer('Dropout', nil, { 0.4 }, { false, 'one' })
for dims = 1, 3 do layer('Dropout', dims, { 0.4 }, { false, 'one' }) end
layer('Linear', nil, { 6, 5 }, { false }, { shapes = { { 3, 6 }, { 1, 6 } }, fixed = { 2 } })
layer('Linear', nil, { 6, 5, { bias = false } }, { false }, { shapes = { { 2, 3, 6 }, { 1, 7, 6 } }, fixed = { 3 }, free = true })
layer('ApplyMask', nil, {}, every_mask, { garbage = true })
layer('UnMask', nil, {}, { false, 'soft' })
layer('SpatialMean', nil, {}, { false, 'one' })
layer('MaskedSpatialMean', nil, {}, { false, unpack(every_mask) }, { garbage = true })
layer('MaskedSpatialMean', nil, { { compat = true } }, { 'all' })
layer('Identity', nil, {}, { false, 'one' })
add('Masked(Sigmoid)', function() return nn.Masked(nn.Sigmoid()) end, shapes[2], { mask = 'one' })
add('Masked(ReLU)', function() return nn.Masked(nn.ReLU()) end, shapes[2], { mask = 'all' })

local function tokens(vocabulary)
  return function(shape)
    local list = {}
    for i = 1, shape[1] * shape[2] do list[i] = (7 * i * i + 3 * i) % vocabulary + 1 end
    return { torch.tensor(list, { dtype = 'int64' }):reshape(shape) }
  end
end
add('Embedding', function() return nn.Embedding(11, 5, { padding_idx = 3 }) end, { { 2, 7 }, { 3, 2 } }, { inputs = tokens(11) })

-- ---- whole networks ---------------------------------------------------------------------------------------------------------------

local function figure(name, depth, activation)
  local list, inputs = {}, 3
  for i = 0, depth - 1 do
    local opts = { padding = 1, bias = activation }
    if name == 'SubmanifoldConv2d' then opts.padding = nil end
    if name == 'PartialConv2d' or name == 'HalfConv2d' or name == 'MaskConv2d' then opts.multichannel = true end
    if name == 'HalfConv2d' then opts.rule = 'grow' end
    list[#list + 1] = nn.MaskedUnshuffle2d(2)
    list[#list + 1] = nn[name](4 * inputs, 4 * 2 ^ i, 3, opts)
    if activation then list[#list + 1] = nn.Masked(nn.ReLU()) end
    inputs = 4 * 2 ^ i
  end
  return nn.MaskedSequential(list)
end

local images = { { 1, 3, 32, 32 }, { 2, 3, 16, 48 } }
for _, name in ipairs{ 'Conv2d', 'MaskedConv2d', 'PartialConv2d', 'HalfConv2d', 'MaskConv2d', 'SparseConv2d', 'SubmanifoldConv2d',
  'NormalizedConv2d', 'GatedConv2d' } do
  for _, activation in ipairs{ false, true } do
    add(('figure: %s%s'):format(name, activation and ' with ReLU' or ''), function() return figure(name, 4, activation) end, images,
      { mask = name ~= 'Conv2d' and 'all' or nil, gain = 2 })
  end
end
-- As the script draws it by default. Large: for onnxruntime only.
for _, name in ipairs{ 'Conv2d', 'MaskedConv2d', 'PartialConv2d', 'HalfConv2d' } do
  add(('figure, 8 layers: %s'):format(name), function() return figure(name, 8, false) end, { { 1, 3, 256, 256 }, { 2, 3, 512, 256 } },
    { mask = name ~= 'Conv2d' and 'all' or nil, large = true })
end

local function experiment(name)
  local path = package.path
  package.path = root .. 'experiments/?.lua;' .. path
  local Model = require('language_model.' .. name)
  package.path = path
  return Model
end

for _, tied in ipairs{ false, true } do
  add('language model: causal' .. (tied and ', tied' or ''), function()
    return experiment 'causal'{ vocabulary = 13, width = 12, depth = 3, tied = tied, dropout = 0.1 }
  end, { { 2, 9 }, { 1, 17 }, { 4, 3 } }, { inputs = tokens(13), gain = 1 })
end
add('language model: causal, masked', function() return experiment 'causal'{ vocabulary = 13, width = 12, depth = 3 } end,
  { { 2, 9 }, { 1, 17 }, { 4, 3 } }, { inputs = function(shape)
    local list = tokens(13)(shape)
    list[2] = kinds.one{ shape[1], 1, shape[2] }
    return list
  end })
for _, compat in ipairs{ false, true } do
  add('language model: window' .. (compat and ', compat' or ''), function()
    return experiment 'window'{ vocabulary = 13, width = 12, depth = 3, scale = 8, context = 64, compat = compat }
  end, { { 2, 16 }, { 3, 40 }, { 1, 8 } }, { input_names = { 'tokens', 'lengths' }, axes = { tokens = { 'batch', 'length' },
    lengths = { 'batch' } }, gain = 1, inputs = function(shape)
    local list, lengths = tokens(13)(shape), {}
    for i = 1, shape[1] do lengths[i] = shape[2] - 2 * i + 1 end
    list[2] = torch.tensor(lengths, { dtype = 'int64' })
    return list
  end })
end
add('language model: window, any length', function()
  return experiment 'window'{ vocabulary = 13, width = 12, depth = 3, scale = 8, context = 64 }
end, { { 2, 13 }, { 3, 21 }, { 1, 7 } }, { input_names = { 'tokens', 'lengths' }, axes = { tokens = { 'batch', 'length' },
  lengths = { 'batch' } }, inputs = function(shape)
  local list, lengths = tokens(13)(shape), {}
  for i = 1, shape[1] do lengths[i] = shape[2] - i end
  list[2] = torch.tensor(lengths, { dtype = 'int64' })
  return list
end })

-- What users write: functions, sizes and constants of their own.
local Attention = class('Attention', nn.Module)
function Attention:__init(width, heads)
  nn.Module.__init(self)
  self.heads, self.width = heads, width
  self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
  self:register_parameter('scale', torch.ones(1))
  self:register_buffer('pe', torch.randn(64, width))
end
function Attention:forward(x)
  local N, L = x:size(1), x:size(2)
  x = x + self.pe:narrow(1, 1, L):unsqueeze(1)
  local parts = (self.qkv(x)):chunk(3, -1)
  for i, p in ipairs(parts) do parts[i] = p:reshape(N, L, self.heads, self.width / self.heads):transpose(2, 3) end
  local scores = parts[1]:matmul(parts[2]:transpose(-1, -2)) * (self.width / self.heads) ^ -0.5
  local y = F.softmax(scores, -1):matmul(parts[3]):transpose(2, 3):reshape(N, L, self.width)
  return self.scale * self.out(y) - torch.cat({ x, torch.zeros(N, 2, self.width) }, 2):narrow(2, 3, L)
end
add('a module of functions', function() return Attention(8, 2) end, { { 2, 5, 8 }, { 3, 9, 8 } }, { fixed = { 3 }, free = true })

local Sizes = class('Sizes', nn.Module)
function Sizes:__init()
  nn.Module.__init(self)
end
function Sizes.forward(_, x, mask)
  local N, C, L = x:sizes()
  local half = (L - L % 2) / 2
  local y = x:narrow(3, half + 1, L - half):mean(3, { keepdim = true }) + torch.range(1, L) / L
  y = torch.where(y:gt(0), y:clamp(-1, 1), y:abs():sqrt()) / torch.full({ 1, C, 1 }, 2) + x:select(2, 1):unsqueeze(2) ^ 2
  if L > 3 then y = y:flip(3) end
  local z = torch.stack({ y, x:masked_fill(x:lt(0), 0) }, 2):flatten(2, 3)
  return z:reshape(N, 2, C, L):sum{ 2, 3 }, mask and mask:float() * 2
end
add('sizes in the forward', Sizes, shapes[1], { mask = 'one' })

local Functions = class('Functions', nn.Module)
function Functions:__init()
  nn.Module.__init(self)
end
local Cube = torch.Function{ name = 'cube', forward = function(ctx, x)
  ctx:save(x)
  return x * x * x
end, backward = function(ctx, dy)
  local x = ctx:saved()
  return dy * 3 * x * x
end }
function Functions.forward(_, x)
  local N, C, L = x:sizes()
  local largest, where = x:max(3, { keepdim = true })
  local a = largest + where / 4 + x:argmin(2, { keepdim = true }):float() + x:cumsum(3)
  local b = x:var(3, { keepdim = true }) + x:std({ 2, 3 }, { unbiased = false, keepdim = true }) + x:logsumexp(2, { keepdim = true })
  local c = x[{ {}, { 2, 3 }, { 1, -1, 2 } }]:mean({ 2, 3 }, { keepdim = true }) + x[{ {}, -1, L - 1 }]:reshape(N, 1, 1)
  local d = x:roll(2, 3):unflatten(2, { 2, -1 }):movedim(3, 2):reshape(N, C, L) - x:unbind(2)[1]:unsqueeze(2)
  local e = torch.where(x:gt(0):any(3, { keepdim = true }), Cube(x), x:isnan():float()) + x % 0.7 + x:trunc()
  return a + b, c + d, e, x:argmax(), x:max()
end
add('reductions and indexes', Functions, shapes[1])

add('boxes', function()
  local Boxes = class('Boxes', nn.Module)
  function Boxes:__init()
    nn.Module.__init(self)
    self.conv = nn.MaskedConv2d(4, 3, 3, { padding = 1 })
  end
  function Boxes:forward(x, sizes) return self.conv(x, torch.mask.boxes(sizes, { x:size(3), x:size(4) })) end
  return Boxes()
end, shapes[2], { input_names = { 'x', 'sizes' }, axes = { x = { 'batch', [3] = 'height', [4] = 'width' }, sizes = { 'batch' } },
  inputs = function(shape)
    local sizes = {}
    for i = 1, shape[1] do sizes[i] = { shape[3] - i, i } end
    return { torch.randn(shape), torch.tensor(sizes, { dtype = 'int64' }) }
  end })

-- ---- stacks of layers by chance ------------------------------------------------------------------------------------------------

local function stack(seed)
  local function draw(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end
  draw(2)
  local function pick(list) return list[draw(#list)] end
  local rule3 = { 'grow', 'keep', 'coverage' }
  local layers, C = {}, 4
  for _ = 1, 2 + draw(4) do
    local kind = draw(8)
    if kind <= 4 then
      local family = pick{ 'Conv', 'MaskedConv', 'PartialConv', 'HalfConv', 'SparseConv', 'GatedConv', 'MaskConv', 'MaskConv' }
      local opts = { padding = pick{ 0, 1, 1, 2, 'same' }, groups = pick{ 1, 1, 2 }, bias = pick{ true, false },
        dilation = pick{ 1, 1, 2 } }
      if opts.padding ~= 'same' then opts.stride = pick{ 1, 1, { 1, 2 } } end
      if family == 'PartialConv' or family == 'HalfConv' or family == 'MaskConv' then opts.multichannel = pick{ true, false } end
      if family == 'HalfConv' then opts.rule = pick{ 'keep', 'grow' } end
      if family == 'MaskConv' then
        opts.rule, opts.border = pick{ 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' }, pick{ true, false }
        opts.reweight, opts.alpha, opts.gate = pick{ 'none', 'count', 'l1', 'l2' }, pick{ 1, 0.5, 0.3 }, pick{ 'mask', 'mask', 'none' }
      end
      local out = pick{ 2, 4, 6 }
      layers[#layers + 1] = nn[family .. '2d'](C, out, pick{ 1, 2, 3, 3, { 3, 1 } }, opts)
      C = out
    elseif kind == 5 then
      layers[#layers + 1] = nn.MaskedBatchNorm2d(C)
    elseif kind == 6 then
      layers[#layers + 1] = nn[pick{ 'MaxPool2d', 'AvgPool2d' }](pick{ 2, 3 }, { stride = pick{ 1, 2 }, padding = pick{ 0, 1 },
        ceil_mode = pick{ true, false }, mask_rule = pick(rule3) })
    elseif kind == 7 then
      local mode = pick{ 'nearest', 'linear' }
      layers[#layers + 1] = pick{ nn.Upsample{ scale_factor = 2, mode = mode, mask_rule = pick(rule3) },
        nn.Masked(nn.Sigmoid()), nn.ReLU(), nn.ApplyMask() }
    else
      layers[#layers + 1] = nn.ConvTranspose2d(C, 4, pick{ 2, 3 }, { stride = pick{ 2, 3 }, padding = pick{ 0, 1 },
        mask_rule = pick{ 'keep', 'grow' } })
      C = 4
    end
  end
  return nn.Sequential(layers)
end
for i = 1, 60 do
  add('stack: ' .. i, function() return stack(7919 * i) end, { { 2, 4, 22, 19 }, { 1, 4, 17, 24 }, { 3, 4, 20, 20 } },
    { mask = ({ nil, 'one', 'all', 'soft', 'soft_all', 'same', 'full' })[i % 7 + 1] })
end

-- ---- for both kinds of check ---------------------------------------------------------------------------------------------------------

--- cases.make(case, seed): the network with parameters and statistics that are not those of the beginning.
function cases.make(case, seed)
  torch.manual_seed(seed or 1)
  local net = case.net()
  for name, p in net:named_parameters() do
    if name:find('bias$') or p:dim() == 1 then p:detach():normal_(0.2, 0.5) end
  end
  for name, b in net:named_buffers() do
    if name:find('running_mean$') then b:normal_(0, 0.5) end
    if name:find('running_var$') then b:uniform_(0.5, 2) end
  end
  if case.gain then
    for _, p in net:named_parameters() do
      if p:dim() > 2 then p:detach():mul_(case.gain) end
    end
  end
  return net:train(case.training or false)
end

--- cases.inputs(case, shape) -> { x, mask }: the same values at every call.
function cases.inputs(case, shape)
  torch.manual_seed(17)
  if case.inputs then return case.inputs(shape) end
  local x = torch.randn(shape)
  if not case.mask then return { x } end
  local m = kinds[case.mask](shape)
  x = x:apply_mask(m)            -- values travel multiplied by soft masks
  if case.garbage then x = torch.where(m:ne(0):expand(shape), x, torch.full(shape, 0 / 0)) end
  return { x, m }
end

--- cases.axes(case, inputs): dynamic_axes: the batch and every spatial size but those that are fixed (and 1 in a mask).
function cases.axes(case, inputs)
  if case.axes then return case.axes end
  local names = { 'batch', false, 'size_1', 'size_2', 'size_3' }
  if inputs[1].dtype == 'int64' then names[2] = 'size_1' end
  local fixed, x, m = {}, {}, {}
  for _, d in ipairs(case.fixed or {}) do fixed[d] = true end
  if case.free then names[2] = 'length' end
  for d = 1, inputs[1]:dim() do
    if names[d] and not fixed[d] then x[d] = names[d] end
  end
  if not inputs[2] then return { x } end
  local mask = inputs[2]
  local shift = mask:dim() - inputs[1]:dim()      -- a mask (N, 1, L) for tokens (N, L)
  for d = 1, mask:dim() do
    local name = d == 1 and x[1] or x[d - shift]
    if name and d ~= 2 and not (d == 1 and case.mask == 'same') then m[d] = name end
  end
  return { x, m }
end

return cases
