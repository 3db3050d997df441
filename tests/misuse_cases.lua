-- Mistakes that users make: { what, function, texts that the message must hold ... }. The first text is the operation.
local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional

local function x2(...) return torch.randn(...) end
local image = function() return torch.randn(2, 3, 8, 8) end
local int = { dtype = 'int64' }
local expanded = function() return torch.zeros(1, 3):expand(4, 3) end
local function released()
  local t = torch.ones(2, 3)
  t:release()
  return t
end
local nan, huge = 0 / 0, 2 ^ 53 + 2

return {
  -- creation
  { 'a size that is not whole', function() return torch.zeros(2.5) end, 'zeros', '2.5' },
  { 'a negative size', function() return torch.zeros(2, -1) end, 'zeros', '-1' },
  { 'NaN as size', function() return torch.ones(nan) end, 'ones', 'nan' },
  { 'infinity as size', function() return torch.ones(1 / 0) end, 'ones', 'inf' },
  { 'a size beyond 2^53', function() return torch.zeros(huge) end, 'zeros' },
  { '2^40 elements', function() return torch.zeros(2 ^ 40) end, 'out of memory' },
  { '2^40 elements in two dims', function() return torch.zeros(2 ^ 20, 2 ^ 20) end, 'out of memory' },
  { 'a product that wraps', function() return torch.zeros(2 ^ 32, 2 ^ 32) end, 'zeros', '64 bits' },
  { 'nine dims', function() return torch.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end, 'zeros', '9' },
  { 'a string as size', function() return torch.zeros('3') end, 'zeros' },
  { 'nil as size', function() return torch.zeros(nil) end, 'zeros' },
  { 'an unknown dtype', function() return torch.zeros(2, { dtype = 'float' }) end, 'zeros', 'float32', 'bfloat16' },
  { 'an unknown device', function() return torch.zeros(2, { device = 'gpu' }) end, 'zeros', 'gpu' },
  { 'an argument too many for a layer', function() return torch.nn.Conv2d(1, 1, 3, {}, { padding = 1 }) end, 'Conv2d',
    'too many' },
  { 'an argument too many for a loss', function() return torch.nn.MSELoss({}, 'sum') end, 'MSELoss', 'too many', 'sum' },
  { 'a tensor as options', function() return torch.zeros(2):softmax(1, torch.zeros(2)) end, 'softmax', 'a tensor' },
  { 'a module as options', function() return torch.zeros(2):softmax(1, torch.nn.ReLU()) end, 'softmax', 'a ReLU' },
  { 'a collate function that was not called',
    function() return torch.data.Loader({ { x = 1 } }, { collate = torch.data.collate.images }) end, 'Loader: collate', 'images()' },
  { 'CUDA without CUDA', function() return torch.zeros(2, { device = 'cuda' }) end, 'zeros', 'cuda' },
  { 'an unknown option', function() return torch.zeros(2, { dtpye = 'float64' }) end, 'zeros', 'dtpye', "did you mean 'dtype'" },
  { 'an option of the wrong type', function() return torch.zeros(2, { requires_grad = 1 }) end, 'zeros', 'requires_grad' },
  { 'ragged data', function() return torch.tensor { { 1, 2 }, { 3 } } end, 'tensor', '[2]' },
  { 'a hole in the data', function() return torch.tensor { { 1, 2 }, { 3, nil } } end, 'tensor', '[2]' },
  { 'text in the data', function() return torch.tensor { 1, 'two' } end, 'tensor', '[2]', 'two' },
  { 'booleans among numbers', function() return torch.tensor { true, 2 } end, 'tensor', '[2]' },
  { 'a tensor as data', function() return torch.tensor(torch.ones(2)) end, 'tensor' },
  { 'nothing as data', function() return torch.tensor() end, 'tensor' },
  { 'a function as data', function() return torch.tensor(print) end, 'tensor', 'function' },
  { 'a table that contains itself', function() local t = {} t[1] = t return torch.tensor(t) end, 'tensor' },
  { 'linspace of a negative count', function() return torch.linspace(0, 1, -3) end, 'linspace', '-3' },
  { 'a range that never ends', function() return torch.range(1, 10, 0) end, 'range', 'step' },
  { 'randint of an empty interval', function() return torch.randint(5, 1, { 3 }) end, 'randint' },
  { 'randperm of a negative number', function() return torch.randperm(-2) end, 'randperm', '-2' },
  { 'a seed that is no number', function() torch.manual_seed('abc') end, 'manual_seed' },
  { 'a seed with a fraction', function() torch.manual_seed(1.5) end, 'manual_seed', '1.5' },
  { 'a probability above 1', function() return torch.zeros(3):bernoulli_(1.5) end, 'bernoulli', '1.5' },
  -- arithmetic
  { 'shapes that do not broadcast', function() return x2(2, 3) + x2(4) end, 'add', '(2, 3)', '(4)' },
  { 'shapes that do not broadcast (mul)', function() return x2(2, 3) * x2(2, 4) end, 'mul', '(2, 3)', '(2, 4)' },
  { 'shapes that do not broadcast (where)', function() return torch.where(x2(2):gt(0), x2(3), x2(2)) end, 'where' },
  { 'a tensor plus a string', function() return x2(2) + 'a' end, 'add', 'string' },
  { 'a tensor plus nil', function() return x2(2) + nil end, 'add', 'nil' },
  { 'a tensor plus a table', function() return x2(2) + {} end, 'add', 'table' },
  { 'a released tensor', function() return released() + 1 end, 'add', 'released' },
  { 'a released tensor on the right', function() return x2(2, 3) * released() end, 'mul', 'released' },
  { 'exp of a number', function() return torch.exp(1) end, 'exp', 'number' },
  { 'exp of nil', function() return torch.exp() end, 'exp', 'nil' },
  { 'pow of a string', function() return x2(2):pow('2') end, 'pow' },
  { 'clamp without bounds', function() return x2(2):clamp() end, 'clamp' },
  { 'clamp with a string', function() return x2(2):clamp('a', 1) end, 'clamp' },
  { 'in place into an expanded view', function() return expanded():add_(1) end, 'add', 'memory' },
  { 'in place with a larger operand', function() return x2(3):add_(x2(2, 3)) end, 'add', '(3)', '(2, 3)' },
  { 'overlapping in place', function() local x = x2(4, 4) return x:add_(x:t()) end, 'add', 'shares memory' },
  { 'overlapping copy', function() local x = x2(6) return x:narrow(1, 1, 5):copy_(x:narrow(1, 2, 5)) end, 'copy', 'shares memory' },
  { 'copy of another shape', function() return x2(2, 3):copy_(x2(3, 3)) end, 'copy', '(2, 3)', '(3, 3)' },
  { 'fill with a string', function() return x2(2):fill_('x') end, 'fill' },
  { 'a float result into integers', function() return torch.ones(2, int):add_(0.5) end, 'add' },
  { 'exp of integers in place', function() return torch.ones(2, int):exp_() end, 'exp' },
  { 'item of many elements', function() return x2(2):item() end, 'item', '(2)' },
  -- shape
  { 'reshape to another count', function() return x2(2, 3):reshape(4, 2) end, 'reshape', '(2, 3)', '(4, 2)' },
  { 'two unknown sizes', function() return x2(4):reshape(-1, -1) end, 'reshape', '-1' },
  { 'an unknown size that does not divide', function() return x2(4):reshape(3, -1) end, 'reshape' },
  { 'a view of a transposed tensor', function() return x2(2, 3):t():view(6) end, 'view', 'contiguous' },
  { 'dim 0', function() return x2(2, 3):transpose(0, 1) end, 'transpose', 'dim' },
  { 'dim 3 of 2', function() return x2(2, 3):transpose(1, 3) end, 'transpose', '2' },
  { 'dim -3 of 2', function() return x2(2, 3):unsqueeze(-4) end, 'unsqueeze' },
  { 'a fractional dim', function() return x2(2, 3):sum(1.5) end, 'sum', '1.5' },
  { 'a string as dim', function() return x2(2, 3):sum('1') end, 'sum' },
  { 't of three dims', function() return x2(2, 3, 4):t() end, 't', '(2, 3, 4)' },
  { 'permute with too few dims', function() return x2(2, 3, 4):permute(1, 2) end, 'permute' },
  { 'permute with a dim twice', function() return x2(2, 3):permute(1, 1) end, 'permute' },
  { 'narrow past the end', function() return x2(5):narrow(1, 4, 3) end, 'narrow', '5' },
  { 'narrow from 0', function() return x2(5):narrow(1, 0, 2) end, 'narrow', '0' },
  { 'narrow of negative length', function() return x2(5):narrow(1, 2, -1) end, 'narrow', '-1' },
  { 'select past the end', function() return x2(5, 2):select(1, 6) end, 'select', '6', '5' },
  { 'select 0', function() return x2(5, 2):select(1, 0) end, 'select', '0' },
  { 'expand of a real size', function() return x2(2, 3):expand(4, 3) end, 'expand', '(2, 3)' },
  { 'expand to fewer dims', function() return x2(2, 3):expand(3) end, 'expand' },
  { 'unfold larger than the dim', function() return x2(3):unfold(1, 5, 1) end, 'unfold' },
  { 'split by 0', function() return x2(4):split(0, 1) end, 'split', '0' },
  { 'chunk into none', function() return x2(4):chunk(0, 1) end, 'chunk', '0' },
  -- indexing
  { 'index 0', function() return x2(3)[0] end, 'index', '0', '1..3' },
  { 'index past the end', function() return x2(3)[4] end, 'index', '4', '1..3' },
  { 'index past the end of dim 2', function() return x2(4, 6)[{ 1, 7 }] end, 'index', '7', '1..6' },
  { 'a fractional index', function() return x2(3)[1.5] end, 'index', '1.5' },
  { 'too many indexes', function() return x2(3)[{ 1, 1 }] end, 'index' },
  { 'a range from 0', function() return x2(3)[{ { 0, 2 } }] end, 'index', '0' },
  { 'a mask of another shape', function() return x2(3)[torch.ones(4, { dtype = 'bool' })] end, 'index', '(4)' },
  { 'assigning a string', function() local x = x2(3) x[1] = 'a' end, 'index', 'string' },
  { 'assigning a larger tensor', function() local x = x2(3) x[{ { 1, 2 } }] = x2(3) end, 'index', '(3)' },
  { 'gather past the end', function() return x2(3):gather(1, torch.tensor({ 4 }, int)) end, 'gather', '4', '3' },
  { 'gather at 0', function() return x2(3):gather(1, torch.tensor({ 0 }, int)) end, 'gather', '0' },
  { 'gather with floats', function() return x2(3):gather(1, torch.tensor { 1 }) end, 'gather', 'int64' },
  { 'index_select past the end', function() return x2(3, 2):index_select(1, torch.tensor({ 1, 5 }, int)) end, 'index_select', '5' },
  { 'scatter_add of another shape', function()
    return x2(3):scatter_add(1, torch.tensor({ 1, 2 }, int), x2(3)) end, 'scatter_add' },
  { 'masked_fill with a float mask', function() return x2(3):masked_fill(x2(3), 0) end, 'masked_fill', 'bool' },
  { 'masked_select of another shape', function() return x2(3):masked_select(torch.ones(2, { dtype = 'bool' })) end, 'masked_select' },
  { 'cat of nothing', function() return torch.cat({}, 1) end, 'cat' },
  { 'cat of different shapes', function() return torch.cat({ x2(2, 3), x2(2, 4) }, 1) end, 'cat', '(2, 3)', '(2, 4)' },
  { 'cat of a number', function() return torch.cat({ x2(2), 3 }, 1) end, 'cat' },
  { 'stack of different shapes', function() return torch.stack({ x2(2), x2(3) }, 1) end, 'stack' },
  { 'padding by reflection beyond the size', function() return F.pad(x2(1, 1, 3), { 3, 0 }, { mode = 'reflect' }) end, 'pad', '3' },
  { 'an odd number of paddings', function() return F.pad(x2(3), { 1, 2, 3 }) end, 'pad' },
  { 'one_hot out of range', function() return F.one_hot(torch.tensor({ 3 }, int), 2) end, 'one_hot', '3' },
  -- reductions, sorting, products
  { 'max of nothing', function() return torch.zeros(0):max() end, 'max' },
  { 'argmax of nothing', function() return torch.zeros(0):argmax() end, 'argmax' },
  { 'sum over a dim twice', function() return x2(2, 3):sum { 1, 1 } end, 'sum' },
  { 'sum over dim 0', function() return x2(2, 3):sum(0) end, 'sum', 'dim' },
  { 'cumsum without a dim', function() return x2(2):cumsum() end, 'cumsum' },
  { 'topk of too many', function() return x2(3):topk(4) end, 'topk', '4' },
  { 'sort along dim 3', function() return x2(2, 2):sort(3) end, 'sort' },
  { 'mm of vectors', function() return x2(3):mm(x2(3)) end, 'mm', '(3)' },
  { 'mm of unfit shapes', function() return x2(2, 3):mm(x2(2, 3)) end, 'mm', '(2, 3)' },
  { 'mm of two dtypes', function() return x2(2, 2):mm(x2(2, 2):double()) end, 'mm', 'float64' },
  { 'mm of integers', function() return torch.ones(2, 2, int):mm(torch.ones(2, 2, int)) end, 'mm', 'int64' },
  { 'bmm of different batches', function() return x2(2, 3, 4):bmm(x2(3, 4, 5)) end, 'bmm' },
  { 'dot of different lengths', function() return x2(2):dot(x2(3)) end, 'dot' },
  { 'matmul with a number', function() return x2(2, 2):matmul(2) end, 'matmul', 'number' },
  { 'softmax without a dim', function() return F.softmax(x2(2, 3)) end, 'softmax', 'dim' },
  { 'softmax of integers', function() return F.softmax(torch.ones(2, int), 1) end, 'softmax' },
  -- losses
  { 'label 0', function() return F.cross_entropy(x2(2, 3), torch.tensor({ 0, 1 }, int)) end, 'cross_entropy', '0', '1..3' },
  { 'label past the classes', function() return F.cross_entropy(x2(2, 3), torch.tensor({ 1, 4 }, int)) end, 'cross_entropy', '4', '1..3' },
  { 'labels as floats of another shape', function() return F.cross_entropy(x2(2, 3), torch.tensor { 1, 2 }) end, 'cross_entropy' },
  { 'too few labels', function() return F.cross_entropy(x2(2, 3), torch.tensor({ 1 }, int)) end, 'cross_entropy', '(1)' },
  { 'weights for other classes', function()
    return F.cross_entropy(x2(2, 3), torch.tensor({ 1, 2 }, int), { weight = torch.ones(4) }) end, 'cross_entropy', 'weight' },
  { 'an unknown reduction', function()
    return F.cross_entropy(x2(2, 3), torch.tensor({ 1, 2 }, int), { reduction = 'avg' }) end, 'cross_entropy', 'reduction', 'mean' },
  { 'label smoothing of 2', function()
    return F.cross_entropy(x2(2, 3), torch.tensor({ 1, 2 }, int), { label_smoothing = 2 }) end, 'cross_entropy', 'label_smoothing' },
  { 'mse of other shapes', function() return F.mse_loss(x2(2, 3), x2(3, 2)) end, 'mse_loss', '(2, 3)', '(3, 2)' },
  { 'an embedding index of 0', function() return F.embedding(torch.tensor({ 0 }, int), x2(5, 2)) end, 'embedding', '0', '5' },
  { 'an embedding index past the end', function() return F.embedding(torch.tensor({ 6 }, int), x2(5, 2)) end, 'embedding', '6', '5' },
  { 'dropout of 2', function() return F.dropout(x2(3), 2, true) end, 'dropout', '2' },
  -- convolutions
  { 'a weight for other channels',
    function() return F.conv2d(image(), x2(4, 2, 3, 3)) end, 'conv2d', 'weight', '(2, 3, 8, 8)', '(4, 2, 3, 3)' },
  { 'a weight of other rank', function() return F.conv2d(image(), x2(4, 3, 3)) end, 'conv2d', 'weight' },
  { 'an input of other rank', function() return F.conv1d(image(), x2(4, 3, 3)) end, 'conv1d', '(2, 3, 8, 8)' },
  { 'a kernel larger than the image', function() return F.conv2d(image(), x2(4, 3, 9, 9)) end, 'conv2d' },
  { 'a bias of other length', function() return F.conv2d(image(), x2(4, 3, 3, 3), x2(3)) end, 'conv2d', 'bias', '(4)' },
  { 'stride 0', function() return F.conv2d(image(), x2(4, 3, 3, 3), nil, { stride = 0 }) end, 'conv2d', 'stride', '0' },
  { 'dilation of a half', function() return F.conv2d(image(), x2(4, 3, 3, 3), nil, { dilation = 0.5 }) end, 'conv2d', 'dilation' },
  { 'groups that do not divide', function() return F.conv2d(image(), x2(4, 1, 3, 3), nil, { groups = 2 }) end, 'conv2d', 'groups' },
  { 'three paddings for two axes',
    function() return F.conv2d(image(), x2(4, 3, 3, 3), nil, { padding = { 1, 1, 1 } }) end, 'conv2d', 'padding' },
  { 'an unknown padding', function() return F.conv2d(image(), x2(4, 3, 3, 3), nil, { padding = 'some' }) end, 'conv2d', 'padding', 'same' },
  { 'same padding with a stride', function()
    return F.conv2d(image(), x2(4, 3, 3, 3), nil, { padding = 'same', stride = 2 }) end, 'conv2d', 'same' },
  { 'a weight of another dtype', function() return F.conv2d(image(), x2(4, 3, 3, 3):double()) end, 'conv2d', 'float64' },
  { 'an integer image', function() return F.conv2d(torch.ones(1, 3, 8, 8, int), x2(4, 3, 3, 3)) end, 'conv2d', 'int64' },
  { 'an unknown option of conv',
    function() return F.conv2d(image(), x2(4, 3, 3, 3), nil, { pading = 1 }) end, 'conv2d', 'pading', "'padding'" },
  { 'a layer without channels', function() return nn.Conv2d() end, 'Conv2d' },
  { 'a layer with negative channels', function() return nn.Conv2d(-3, 4, 3) end, 'Conv2d', '-3' },
  { 'a layer with kernel 0', function() return nn.Conv2d(3, 4, 0) end, 'Conv2d', '0' },
  { 'an unknown padding mode', function() return nn.Conv2d(3, 4, 3, { padding_mode = 'mirror' }) end, 'Conv2d', 'padding_mode' },
  { 'a layer with an unknown option', function() return nn.Conv2d(3, 4, 3, { stirde = 2 }) end, 'Conv2d', 'stirde', "'stride'" },
  { 'a linear input of other width', function() return nn.Linear(3, 4)(x2(2, 5)) end, 'Linear: input', 'in_features = 3', '(2, 5)' },
  { 'a transposed weight for other channels',
    function() return F.conv_transpose2d(image(), x2(4, 3, 3, 3)) end, 'conv_transpose2d', 'weight' },
  { 'output padding as large as the stride', function()
    return F.conv_transpose2d(image(), x2(3, 4, 3, 3), nil, { stride = 2, output_padding = 2 }) end, 'conv_transpose2d', 'output_padding' },
  -- masks
  { 'a mask of another size',
    function() return nn.MaskedConv2d(3, 4, 3)(image(), torch.ones(2, 1, 7, 8)) end, 'mask', '(2, 1, 7, 8)', '(2, 3, 8, 8)' },
  { 'a mask without channels', function() return nn.MaskedConv2d(3, 4, 3)(image(), torch.ones(2, 8, 8)) end, '(2, 8, 8)',
    'expected (2 or 1, 3 or 1, 8, 8) or (8, 8)' },
  { 'a mask of other channels', function() return nn.MaskedConv2d(3, 4, 3)(image(), torch.ones(2, 2, 8, 8)) end, 'mask', '(2, 2, 8, 8)' },
  { 'a mask of another batch', function() return nn.MaskedConv2d(3, 4, 3)(image(), torch.ones(3, 1, 8, 8)) end, 'mask', '(3, 1, 8, 8)' },
  { 'a number as mask', function() return nn.MaskedConv2d(3, 4, 3)(image(), 1) end, 'mask', 'number' },
  { 'a table as mask', function() return nn.MaskedBatchNorm2d(3)(image(), {}) end, 'mask', 'table' },
  { 'a length beyond the canvas', function() return torch.mask.lengths({ 3, 9 }, 8) end, 'lengths', '9', '8' },
  { 'a negative length', function() return torch.mask.lengths({ -1 }, 8) end, 'lengths', '-1' },
  { 'an unknown alignment', function() return torch.mask.lengths({ 3 }, 8, { align = 'centre' }) end, 'lengths', 'align' },
  { 'a box beyond the canvas', function() return torch.mask.boxes({ { 3, 9 } }, { 8, 8 }) end, 'boxes', '9', '8' },
  { 'a box of other rank', function() return torch.mask.boxes({ { 3 } }, { 8, 8 }) end, 'boxes' },
  { 'an unknown mask rule',
    function() return F.masked_conv(image(), x2(4, 3, 3, 3), nil, nil, { rule = 'shrink' }) end, 'masked_conv', 'rule', 'grow' },
  { 'an unknown mask rule of a layer', function() return nn.MaskConv2d(3, 4, 3, { rule = 'kepp' }) end, 'MaskConv2d: rule', 'kepp' },
  { 'an unknown re-weighting of a layer', function() return nn.LazyMaskConv2d(4, 3, { reweight = 'mean' }) end, 'reweight', 'mean' },
  { 'an alpha that is no number', function()
    return F.masked_conv(image(), x2(4, 3, 3, 3), nil, nil, { reweight = 'count', alpha = 'half' }) end, 'masked_conv', 'alpha' },
  { 'even kernels under compat',
    function() return nn.MaskedConv2d(2, 2, 4, { compat = true }) end, 'MaskedConv2d', 'Only odd kernel sizes are supported' },
  { 'double masking', function() return nn.Masked(nn.MaskedConv1d(2, 2, 3)) end, 'double masking' },
  { 'unshuffling an odd length', function() return nn.Unshuffle1d(2)(x2(1, 2, 5)) end, 'Length must be divisible by the downscale factor' },
  { 'unshuffling by 0', function() return nn.Unshuffle2d(0) end, 'Unshuffle2d', '0' },
  -- norms, pooling, resizing
  { 'another number of features', function() return nn.BatchNorm2d(4)(image()) end, 'BatchNorm2d', '(2, 3, 8, 8)' },
  { 'batch norm of three dims', function() return nn.MaskedBatchNorm2d(2)(x2(2, 2, 4)) end, 'expected 4D input (got 3D input)' },
  { 'evaluation without running statistics', function()
    return F.masked_batch_norm(image(), nil, nil, nil, nil, nil, false, 0.1) end, 'running_mean' },
  { 'layer norm of another shape', function() return nn.LayerNorm({ 4 })(x2(2, 3)) end, 'layer_norm', '(2, 3)' },
  { 'groups that do not divide the channels', function() return nn.GroupNorm(2, 3)(image()) end, 'GroupNorm' },
  { 'pooling by 0', function() return F.max_pool2d(image(), 0) end, 'max_pool2d', '0' },
  { 'pooling a larger window', function() return F.avg_pool2d(image(), 9) end, 'avg_pool2d' },
  { 'padding more than half the window', function() return F.max_pool2d(image(), 2, { padding = 2 }) end, 'max_pool2d', 'padding' },
  { 'upsampling to nothing', function() return F.interpolate(image(), { size = { 0, 4 } }) end, 'interpolate' },
  { 'an unknown interpolation',
    function() return F.interpolate(image(), { scale_factor = 2, mode = 'cubic' }) end, 'interpolate', 'cubic' },
  -- autograd
  { 'backward of many elements', function() return x2(3):requires_grad_():mul(2):backward() end, 'backward', '(3)' },
  { 'backward without a graph', function() return x2(1):backward() end, 'backward', 'require' },
  { 'backward twice', function()
    local y = x2(1):requires_grad_():exp()
    y:backward()
    y:backward()
  end, 'backward', 'retain_graph' },
  { 'a gradient of another shape', function() return x2(3):requires_grad_():mul(2):backward(x2(4)) end, 'backward', '(3)', '(4)' },
  { 'gradients of integers', function() return torch.ones(2, int):requires_grad_() end, 'requires_grad_', 'int64' },
  { 'changing a leaf in place', function() return x2(2):requires_grad_():add_(1) end, 'add', 'leaf' },
  { 'changing what backward needs', function()
    local x = x2(2):requires_grad_()
    local y = x:exp()
    y:mul_(2)
    y:sum():backward()
  end, 'exp', 'changed in place' },
  { 'a function that returns too many gradients', function()
    local f = torch.Function{ name = 'twice', forward = function(_, x) return x:detach() * 2 end,
      backward = function(_, g) return g, g end }
    f(x2(1):requires_grad_()):backward()
  end, 'twice' },
  -- modules
  { 'a missing key', function() nn.Linear(2, 3):load_state_dict { weight = x2(3, 2) } end, 'load_state_dict', 'bias' },
  { 'an unexpected key', function()
    nn.Linear(2, 3):load_state_dict { weight = x2(3, 2), bias = x2(3), extra = x2(1) } end, 'load_state_dict', 'extra' },
  { 'a parameter of another shape', function()
    nn.Linear(2, 3):load_state_dict { weight = x2(2, 3), bias = x2(3) } end, 'load_state_dict', 'weight', '(3, 2)', '(2, 3)' },
  { 'a child that is no module', function() return nn.Sequential{ nn.ReLU(), 'relu' } end, 'Sequential', 'string' },
  { 'a layer that does not exist', function() return nn.Conv4d(1, 1, 3) end, 'nn', 'Conv4d', "did you mean 'Conv1d'" },
  { 'a misspelt class at the end of a container', function() return nn.Sequential{ nn.Linear(2, 2), nn.Relu } end, "did you mean 'ReLU'" },
  { 'a function that does not exist', function() return torch.arange(3) end, 'torch', "did you mean 'range'" },
  { 'a functional that does not exist', function() return F.crossentropy(1) end, 'nn.functional', "did you mean 'cross_entropy'" },
  { 'an optimiser that does not exist', function() return torch.optim.Adagrd() end, 'optim', 'Adagrd' },
  { 'a PyTorch archive', function()
    local path = os.tmpname()
    local file = io.open(path, 'wb')
    file:write('PK\3\4', ('\0'):rep(200))
    file:close()
    local ok, message = pcall(torch.load, path)
    os.remove(path)
    if not ok then error(message, 0) end
  end, 'ZIP archive', 'safetensors' },
  -- habits of Python
  { 'a module\'s method called with a dot', function() return nn.Linear(2, 2).parameters() end, 'parameters', 'colon' },
  { 'train called with a dot', function() return nn.Linear(2, 2).train() end, 'train', 'colon' },
  { 'an optimiser\'s step called with a dot', function()
    return torch.optim.SGD(nn.Linear(2, 2):parameters(), { lr = 1 }).step() end, 'step', 'colon' },
  { 'a tensor\'s method called with a dot', function() return x2(2).sum() end, 'sum', 'nil', 'colon' },
  { 'backward called with a dot', function() return x2(1).backward() end, 'backward', 'colon' },
  { 'options by position', function() return nn.Conv2d(3, 4, 3, 1, 1) end, 'Conv2d', 'one table' },
  { 'an option by position', function() return nn.Conv2d(3, 4, 3, 1) end, 'Conv2d', 'options', '{name = value}', 'stride' },
  { 'a learning rate by position', function() return torch.optim.Adam(nn.Linear(2, 2):parameters(), 1e-3) end, 'Adam', 'options', 'lr' },
  { 'a network instead of its parameters', function() return torch.optim.Adam(nn.Linear(2, 2)) end, 'Adam', 'net:parameters()' },
  { 'position 0', function() return x2(2, 3)[0] end, '0', 'count from 1' },
  { 'a conversion to an unknown word', function() return x2(2):to('float') end, "to: expected a device", "'float32'", 'float' },
  -- files
  { 'a missing file', function() return torch.load('/nonexistent/file.safetensors') end, '/nonexistent/file.safetensors' },
  { 'a folder as file', function() return torch.load('/tmp') end, '/tmp' },
  { 'a file that is no safetensors', function() return torch.io.safetensors.load('/dev/null') end, '/dev/null' },
  { 'an unwritable path', function() torch.save('/nonexistent/x.st', { a = x2(1) }) end, '/nonexistent/x.st' },
  { 'saving a function', function() torch.save('/tmp/masked_torch_misuse.st', { a = { b = print } }) end, 'save', 'a.b', 'function' },
  { 'a missing image', function() return torch.io.png.load('/nonexistent/a.png') end, '/nonexistent/a.png' },
  { 'a figure of unknown type', function() torch.plot.figure{ width = 1, height = 1 }:save('/tmp/a.bmp') end, '.bmp' },
  { 'no threads', function() torch.set_num_threads(0) end, 'set_num_threads', '0' },
}
