--- rows: what is measured. A row is data; ours.lua and peer.py know how to run its `kind`.
--
--   name      'conv forward r56'; make bench ROWS='pattern|pattern' selects by it (Lua patterns)
--   kind      gemm, linear, conv, layer, norm, activation, loss, adam, layout, figure, classifier, language_model, training
--   pass      of conv and linear: forward, input, weight
--   mask      of layer, norm and activation: {kind, share of valid positions}
--   valid     of loss: the share of positions that count
--   flops     of one call, as if nothing was masked; 0: not counted
--   bytes     that an ideal kernel reads and writes, where memory is what limits it
--   goals     array of {against =, ratio =, device = 'cpu', precision =}: what we want. against: 'torch' (the strongest row of PyTorch),
--             'masked_torch', 'ours plain'; with ' eager', only that one. No ratio: time in proportion to the valid area. precision: the
--             goal holds for that one only
--   device    the row is for 'cpu' or 'cuda' only
--   precision of the products of our linear layers on the CPU: 'medium' is bfloat16; the peers stay at float32
--   quick     part of QUICK=1
--   compile   torch.compile is tried too (it takes its time, so few rows have it)

local rows = {}

local function add(row) rows[#rows + 1] = row end

-- ---- products ----------------------------------------------------------------------------------------------------

for _, s in ipairs{ { 1024, 1024, 1024, quick = true }, { 2048, 2048, 2048 }, { 64, 3136, 576 }, { 128, 784, 1152 }, { 512, 3136, 576 },
  { 64, 65536, 768 }, { 128, 32768, 384 }, { 512, 8192, 1536 } } do
  add{ name = ('gemm %dx%dx%d'):format(s[1], s[2], s[3]), kind = 'gemm', M = s[1], N = s[2], K = s[3], flops = 2 * s[1] * s[2] * s[3],
    quick = s.quick }
end
for _, pass in ipairs{ 'forward', 'input', 'weight' } do
  add{ name = 'linear ' .. pass .. ' head 1024x512>50257', kind = 'linear', pass = pass, N = 1024, I = 512, O = 50257,
    flops = 2 * 1024 * 512 * 50257 }
end

-- ---- convolution shapes ----------------------------------------------------------------------------------------------

local function shape(name, N, C, O, size, kernel, more)
  local s = { shape = name, N = N, C = C, O = O, size = size, kernel = kernel, stride = 1, padding = math.floor(kernel / 2), groups = 1 }
  for key, value in pairs(more or {}) do s[key] = value end
  local positions = N
  for _, n in ipairs(size) do positions = positions * (math.floor((n + 2 * s.padding - kernel) / s.stride) + 1) end
  s.conv_flops = 2 * positions * O * C / s.groups * kernel ^ #size
  return s
end

local shapes = {
  shape('r56', 32, 64, 64, { 56, 56 }, 3, { quick = true }), shape('r28', 32, 128, 128, { 28, 28 }, 3),
  shape('r14', 32, 256, 256, { 14, 14 }, 3),
  shape('lm0', 1024, 256, 64, { 64 }, 3), shape('lm1', 1024, 128, 128, { 32 }, 3), shape('lm2', 1024, 256, 256, { 16 }, 3),
  shape('lm3', 1024, 512, 512, { 8 }, 3),
  shape('v0', 1, 12, 4, { 128, 128 }, 3), shape('v1', 1, 16, 8, { 64, 64 }, 3), shape('v2', 1, 32, 16, { 32, 32 }, 3),
  shape('v3', 1, 64, 32, { 16, 16 }, 3), shape('v4', 1, 128, 64, { 8, 8 }, 3), shape('v5', 1, 256, 128, { 4, 4 }, 3),
  shape('v6', 1, 512, 256, { 2, 2 }, 3), shape('v7', 1, 1024, 512, { 1, 1 }, 3),
  shape('stride2', 32, 64, 128, { 56, 56 }, 3, { stride = 2 }), shape('k5', 32, 64, 64, { 28, 28 }, 5),
  shape('k1', 32, 256, 64, { 56, 56 }, 1), shape('cube16', 8, 32, 32, { 16, 16, 16 }, 3),
  shape('groups4', 32, 128, 128, { 28, 28 }, 3, { groups = 4 }), shape('depthwise', 32, 128, 128, { 28, 28 }, 3, { groups = 128 }),
  shape('dw56', 32, 64, 64, { 56, 56 }, 3, { groups = 64 }), shape('dwstride2', 32, 64, 64, { 56, 56 }, 3, { groups = 64, stride = 2 }),
  shape('dw14', 32, 512, 512, { 14, 14 }, 3, { groups = 512 }), shape('dwk5', 32, 128, 128, { 28, 28 }, 5, { groups = 128 }),
  shape('dwk7', 16, 96, 96, { 56, 56 }, 7, { groups = 96 }), shape('dwk7at14', 32, 384, 384, { 14, 14 }, 7, { groups = 384 }),
  shape('dwline', 64, 256, 256, { 256 }, 7, { groups = 256 }), shape('groups8', 32, 128, 128, { 28, 28 }, 3, { groups = 8 }),
  shape('groups16', 32, 128, 128, { 28, 28 }, 3, { groups = 16 }), shape('groups32', 32, 128, 128, { 28, 28 }, 3, { groups = 32 }),
  shape('groups64', 32, 128, 128, { 28, 28 }, 3, { groups = 64 }),
  shape('stem', 16, 3, 64, { 112, 112 }, 7, { stride = 2 }), shape('stem3', 32, 3, 64, { 56, 56 }, 3),
  shape('batch1', 1, 64, 64, { 56, 56 }, 3),
  -- What fills a GPU.
  shape('large56', 256, 64, 64, { 56, 56 }, 3, { device = 'cuda' }), shape('large28', 256, 256, 256, { 28, 28 }, 3, { device = 'cuda' }),
}
local by_name = {}
for _, s in ipairs(shapes) do by_name[s.shape] = s end

local function title(s)
  return ('%s %dx%d>%d %s k%d'):format(s.shape, s.N, s.C, s.O, table.concat(s.size, 'x'), s.kernel)
end

local function with(s, more)
  local row = {}
  for key, value in pairs(s) do row[key] = value end
  for key, value in pairs(more) do row[key] = value end
  return row
end

for _, s in ipairs(shapes) do
  for _, pass in ipairs{ 'forward', 'input', 'weight' } do
    add(with(s, { name = 'conv ' .. pass .. ' ' .. title(s), kind = 'conv', pass = pass, flops = s.conv_flops }))
  end
end

add{ name = 'layout 32x128x28x28 to channels-last', kind = 'layout', N = 32, C = 128, size = { 28, 28 }, flops = 0,
  bytes = 8 * 32 * 128 * 28 * 28 }

-- ---- layers, forward and backward ------------------------------------------------------------------------------------

local function layer(module, name, mask, more)
  local s = by_name[name]
  local text = mask and (' ' .. mask[1] .. (mask[2] and (' %g'):format(mask[2]) or '')) or ''
  add(with(s, with({ name = ('layer %s%s %s'):format(module, text, title(s)), kind = 'layer', module = module, mask = mask,
    flops = 3 * s.conv_flops, quick = false }, more or {})))
end

for _, name in ipairs{ 'r56', 'r28', 'r14', 'lm0', 'lm1', 'lm2', 'lm3', 'k5', 'stride2', 'cube16', 'groups4', 'groups8', 'groups16',
  'groups32', 'groups64', 'depthwise', 'dw56', 'dwstride2', 'dw14', 'dwk5', 'dwk7', 'dwk7at14', 'dwline' } do
  local wide = by_name[name].C >= 64 and by_name[name].groups == 1
  layer('Conv', name, nil, { goals = wide and { { against = 'torch', ratio = 1.3 } } or nil, quick = name == 'r28',
    compile = name == 'r28' })
end
local full = { against = 'ours plain', ratio = 1 / 1.02 }
for _, name in ipairs{ 'r56', 'r28', 'r14', 'lm1', 'lm2' } do
  layer('MaskedConv', name, { 'full' }, { goals = { { against = 'masked_torch', ratio = 2 }, full }, quick = name == 'lm1',
    compile = name == 'r28' })
  layer('PartialConv', name, { 'full' }, { goals = { { against = 'masked_torch', ratio = 2.8 }, full }, compile = name == 'r28' })
end
for _, area in ipairs{ { 0.9 }, { 0.5, 3 }, { 0.25, 5, quick = true }, { 0.1, 10 }, { 0.05, 18 } } do
  layer('MaskedConv', 'r28', { 'rect', area[1] }, { quick = area.quick,
    goals = { { against = 'ours plain' }, area[2] and { against = 'masked_torch', ratio = area[2] } } })
end
for _, area in ipairs{ 0.5, 0.1 } do layer('PartialConv', 'r28', { 'rect', area }) end
layer('MaskedConv', 'r56', { 'rect', 0.5 }, { goals = { { against = 'ours plain' }, { against = 'masked_torch', ratio = 3 } } })
layer('MaskedConv', 'lm1', { 'left', 0.5 }, { goals = { { against = 'ours plain' }, { against = 'masked_torch', ratio = 3 } } })
layer('MaskedConv', 'lm1', { 'zipf' }, { goals = { { against = 'ours plain' } } })
layer('MaskConv', 'r28', { 'rect', 0.5 }, { goals = { { against = 'ours plain' } } })
for _, mask in ipairs{ { 'checker' }, { 'random', 0.5 }, { 'channels' } } do
  layer('MaskedConv', 'r28', mask, { goals = { { against = 'ours plain', ratio = 0.9 } } })
end
for _, name in ipairs{ 'large56', 'large28' } do
  layer('Conv', name, nil, { compile = true })
  for _, mask in ipairs{ { 'full', 1, 0.95 }, { 'rect', 0.5, 1.6 }, { 'rect', 0.25, 3 } } do
    layer('MaskedConv', name, mask, { goals = { { against = 'torch', ratio = mask[3], device = 'cuda' } }, quick = name == 'large28' })
  end
end

local function elements(...)
  local n = 1
  for _, size in ipairs{ ... } do n = n * size end
  return n
end

-- Forward reads x for the sums and for the result; backward reads x and dy twice.
local function norm(module, name, mask, more)
  local s = by_name[name]
  add(with({ name = ('norm %s + ReLU%s %dx%dx%s'):format(module, mask and ' ' .. mask[1] .. (mask[2] and ' ' .. mask[2] or '') or '',
    s.N, s.C, table.concat(s.size, 'x')), kind = 'norm', module = module, N = s.N, C = s.C, size = s.size, mask = mask, flops = 0,
    bytes = 28 * elements(s.N, s.C, unpack(s.size)) }, more or {}))
end
norm('BatchNorm', 'r28', nil, { quick = true, compile = true })
norm('MaskedBatchNorm', 'r28', { 'full' })
norm('MaskedBatchNorm', 'r28', { 'rect', 0.5 })
norm('MaskedBatchNorm', 'lm1', { 'left', 0.5 })
norm('GroupNorm', 'r28')
norm('LayerNorm', 'lm1')
norm('BatchNorm', 'large28', nil, { device = 'cuda', compile = true, quick = true })
norm('MaskedBatchNorm', 'large28', { 'rect', 0.5 }, { device = 'cuda' })

-- ---- steps -----------------------------------------------------------------------------------------------------------

-- Loss, metric and gradient: the logits are read once and written once. Adam: four arrays read, three written.
local function loss(N, V, more)
  add(with({ name = ('loss cross-entropy and metric %dx%d'):format(N, V), kind = 'loss', N = N, V = V, flops = 0, bytes = 8 * N * V },
    more))
end
loss(1024, 50257, { goals = { { against = 'torch', ratio = 12 } } })
loss(256, 8192, { quick = true })

-- A padded batch: a quarter of the positions count.
loss(1024, 50257, { name = 'loss cross-entropy and metric 1024x50257 valid 0.25', valid = 0.25 })
loss(256, 8192, { name = 'loss cross-entropy and metric 256x8192 valid 0.25', valid = 0.25 })

-- One element at a time, channels last, forward and backward.
for _, module in ipairs{ 'ReLU', 'GELU', 'Sigmoid', 'Dropout', 'MSELoss' } do
  for _, area in ipairs{ false, { 'full' }, { 'rect', 0.5 }, { 'rect', 0.25 }, { 'rect', 0.1 } } do
    local s, mask = by_name.r28, area or nil
    add{ name = ('activation %s%s 32x128x28x28'):format(module, mask and ' ' .. mask[1] .. (mask[2] and ' ' .. mask[2] or '') or ''),
      kind = 'activation', module = module, N = s.N, C = s.C, size = s.size, mask = mask, flops = 0,
      bytes = 20 * elements(s.N, s.C, unpack(s.size)), goals = mask and { { against = 'ours plain' } } or nil }
  end
end

local function adam(name, parameters, more)
  local count = 0
  for _, sizes in ipairs(parameters) do count = count + elements(unpack(sizes)) * (more.repeated or 1) end
  add(with({ name = 'adam ' .. name, kind = 'adam', shapes = parameters, flops = 0, bytes = 28 * count }, more))
end
adam('published head', { { 50257, 512 }, { 50257 }, { 512, 512, 3 }, { 256, 256, 3 }, { 128, 128, 3 }, { 64, 256, 3 }, { 512 }, { 256 },
  { 128 }, { 64 } }, { goals = { { against = 'torch eager', ratio = 8 } } })
adam('64 layers of 64x64x3x3', { { 64, 64, 3, 3 } }, { repeated = 64, quick = true })

for _, module in ipairs{ 'Conv', 'MaskedConv', 'PartialConv' } do
  add{ name = 'figure forward ' .. module .. ' 1x3x256x256, 8 levels', kind = 'figure', module = module, size = 256, levels = 8,
    flops = 80e6, quick = module == 'MaskedConv', compile = true,
    goals = module ~= 'Conv' and { { against = 'masked_torch', ratio = 8 } } or nil }
end
add{ name = 'classifier step 128 pictures on a canvas of 28', kind = 'classifier', N = 128, canvas = 28, flops = 0, quick = true }

local published = { kind = 'language_model', N = 1024, L = 128, vocabulary = 50257, depth = 4, scale = 64, width = 128, flops = 238.6e9 }
add(with(published, { name = 'language model step, published', compile = true,
  goals = { { against = 'masked_torch', ratio = 1.9 }, { against = 'masked_torch eager', ratio = 2.5, device = 'cuda' },
    { against = 'masked_torch compile', ratio = 1.3, device = 'cuda' } } }))
add(with(published, { name = 'language model step, published, bfloat16 products', device = 'cpu', precision = 'medium',
  goals = { { against = 'masked_torch', ratio = 2.8 } } }))
add{ name = 'language model step, 64 windows, bytes', kind = 'language_model', N = 64, L = 128, vocabulary = 256, depth = 4, scale = 64,
  width = 128, flops = 5.1e9 }
-- 64 of the 294 steps of an epoch over tiny_shakespeare: loader, transfer, step, loss as a number.
add(with(published, { name = 'language model training, published, 64 steps with their batches', kind = 'training', device = 'cuda',
  text = 301966, steps = 64, flops = 64 * 238.6e9, quick = true,
  goals = { { against = 'masked_torch eager', ratio = 6, device = 'cuda', precision = 'high' },
    { against = 'masked_torch eager', ratio = 15, device = 'cuda', precision = 'medium' } } }))

local SMALL = { M = 5, N = 3, K = 7, I = 5, O = 8, C = 8, V = 11, L = 16, vocabulary = 13, scale = 4, width = 8, depth = 2, levels = 3,
  canvas = 14, repeated = 2, shapes = { { 3, 2 }, { 4 } }, text = 40, steps = 2 }

--- rows.small(row) -> the same work with the smallest sizes that still make sense: to see that a row runs, not how long.
function rows.small(row)
  local out = {}
  for key, value in pairs(row) do out[key] = SMALL[key] or value end
  if row.kind == 'figure' then out.size = 8 elseif row.size then
    out.size = {}
    for d = 1, #row.size do out.size[d] = 6 end
  end
  if row.groups and row.groups > 1 then out.groups = row.groups == row.C and 8 or 2 end
  if row.module == 'GroupNorm' then out.C = 32 end
  return out
end

local function wanted(row, o)
  if row.device and row.device ~= (o.device or 'cpu') then return false end
  if not o.pattern then return row.quick or not o.quick end
  for pattern in o.pattern:gmatch('[^|]+') do
    if row.name:find(pattern) then return true end
  end
  return false
end

--- rows.select{pattern =, quick =, device = 'cpu'} -> the rows that are asked for, in order: those whose names match one of the Lua
-- patterns between `|`. Without a pattern, quick takes those marked so.
function rows.select(o)
  local chosen = {}
  for _, row in ipairs(rows) do
    if wanted(row, o) then chosen[#chosen + 1] = row end
  end
  return chosen
end

return rows
