--- nn: modules. A class is loaded from its file when it is first used.
--
-- stems[file] lists the classes of nn/<file>.lua, which returns a table of them. Adding a layer adds one line.

local namespace = require 'masked_torch.namespace'

local stems = {
  module = 'Module Parameter',
  container = 'Sequential ModuleList ModuleDict Identity',
  masked = 'MaskedSequential Masked ApplyMask UnMask SpatialMean MaskedSpatialMean',
  linear = 'Linear',
  embedding = 'Embedding',
  activation = 'ReLU LeakyReLU GELU SiLU ELU Softplus Sigmoid Tanh Softmax LogSoftmax',
  dropout = 'Dropout Dropout1d Dropout2d Dropout3d',
  loss = 'CrossEntropyLoss NLLLoss MSELoss L1Loss SmoothL1Loss HuberLoss BCEWithLogitsLoss KLDivLoss',
  conv = 'Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d',
  masked_conv = 'MaskedConv1d MaskedConv2d MaskedConv3d PartialConv1d PartialConv2d PartialConv3d ' ..
    'MaskConv1d MaskConv2d MaskConv3d HalfConv1d HalfConv2d HalfConv3d ' ..
    'SparseConv1d SparseConv2d SparseConv3d SubmanifoldConv1d SubmanifoldConv2d SubmanifoldConv3d ' ..
    'NormalizedConv1d NormalizedConv2d NormalizedConv3d GatedConv1d GatedConv2d GatedConv3d',
  norm = 'BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d RMSNorm',
  masked_norm = 'MaskedBatchNorm1d MaskedBatchNorm2d MaskedBatchNorm3d MaskedLayerNorm MaskedGroupNorm ' ..
    'MaskedInstanceNorm1d MaskedInstanceNorm2d MaskedInstanceNorm3d MaskedRMSNorm',
  pool = 'MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d ' ..
    'AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d',
  shuffle = 'Unshuffle1d Unshuffle2d Unshuffle3d Shuffle1d Shuffle2d Shuffle3d ' ..
    'MaskedUnshuffle1d MaskedUnshuffle2d MaskedUnshuffle3d MaskedShuffle1d MaskedShuffle2d MaskedShuffle3d ' ..
    'PixelUnshuffle PixelShuffle',
  upsample = 'Upsample',
}

-- Files whose classes all have a lazy form, LazyName (nn/lazy.lua).
local has_lazy_forms = { linear = true, conv = true, masked_conv = true, norm = true, masked_norm = true }

local file_of = {}
for stem, names in pairs(stems) do
  for name in names:gmatch('%S+') do
    file_of[name] = stem
    if has_lazy_forms[stem] then file_of['Lazy' .. name] = stem end
  end
end

--- nn.class_files[class name]: the stem of the file that has it.
return namespace('nn', file_of, { 'functional', init = 'initialise' }, { class_files = file_of })
