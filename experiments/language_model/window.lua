--- window: masked_torch's language model as published: one prediction per window of tokens.
--
-- Frozen random embedding and positions -> ApplyMask -> depth x (unshuffle by 2, masked convolution; ReLU and batch norm between)
-- -> mean over the valid positions -> linear head. Windows are padded on the left. It sees the whole window at once, so it
-- cannot be sampled with a cache; causal.lua can.

local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local nn = torch.nn

local Window = class('AutoregressiveLanguageModel', nn.Module)

local defaults = { vocabulary = 256, depth = 4, scale = 64, base = 2, downscale_factor = 2, activation = 'ReLU', context = 1024,
  width = 128, momentum = 0.03, eps = 1e-5, compat = false }

--- Window{vocabulary = 256, depth = 4, scale = 64, base = 2, downscale_factor = 2, activation = 'ReLU', context = 1024,
-- width = 128, momentum = 0.03, eps = 1e-5, compat = false}: layer i has scale * base^i channels. context: the longest window (the
-- length of the table of positions); width: of the embedding. compat: masked_torch's arithmetic, whose batch norm lets padding
-- leak into the logits; without it they do not depend on the padding.
function Window:__init(opts)
  nn.Module.__init(self)
  opts = options.parse('language_model.window', defaults, opts)
  self.opts = opts
  self.unit, self.context = opts.downscale_factor ^ opts.depth, opts.context
  self:register_buffer('pe', torch.randn(opts.width, opts.context))
  self.embedding = nn.Embedding(opts.vocabulary, opts.width, { freeze = true })
  local layers, channels = { nn.ApplyMask() }, opts.width
  local conv_opts = { padding = 1, compat = opts.compat, eps = opts.compat and 1e-8 or nil }
  for i = 0, opts.depth - 1 do
    if i > 0 then
      layers[#layers + 1] = nn.MaskedBatchNorm1d(channels, { eps = opts.eps, momentum = opts.momentum, compat = opts.compat })
    end
    local outputs = opts.scale * opts.base ^ i
    layers[#layers + 1] = nn.MaskedUnshuffle1d(opts.downscale_factor)
    local conv = nn.MaskedConv1d(channels * opts.downscale_factor, outputs, 3, conv_opts)
    conv:when_materialised(function(layer) nn.init.zeros_(layer.bias) end)
    layers[#layers + 1] = conv
    if i < opts.depth - 1 then layers[#layers + 1] = nn.Masked(nn[opts.activation]()) end
    channels = outputs
  end
  layers[#layers + 1] = nn.MaskedSpatialMean{ compat = opts.compat }
  self.sequential = nn.MaskedSequential(layers)
  self.head = nn.Linear(channels, opts.vocabulary)
  self.head:when_materialised(function(head) nn.init.zeros_(head.bias) end)
end

--- model(tokens, [lengths]) -> logits (N, vocabulary) of the token after each window. tokens: int64 (N, L), padded on the left;
-- lengths: int64 (N), nil when all are L. An L that is no multiple of factor^depth gets more padding.
function Window:forward(tokens, lengths)
  if tokens:size(2) > self.context then
    native.fail('language_model.window: tokens: %d positions, the table has %d', tokens:size(2), self.context)
  end
  local missing = -tokens:size(2) % self.unit
  if missing > 0 then
    lengths = lengths or torch.full({ tokens:size(1) }, tokens:size(2), { dtype = 'int64', device = tokens.device })
    tokens = torch.cat({ torch.ones(tokens:size(1), missing, { dtype = 'int64', device = tokens.device }), tokens }, 2)
  end
  return self:run((self.embedding(tokens)), lengths)
end

--- The same from the embedded tokens (N, L, width), L a multiple of factor^depth.
function Window:run(x, lengths)
  local n, length = x:size(1), x:size(2)
  -- Positions are laid out like x first: adding their columns in place would read each element from a page of its own.
  x = (x + self.pe:narrow(2, self.context - length + 1, length):transpose(1, 2):contiguous()):transpose(2, 3)
  local mask = lengths and torch.mask.lengths(lengths, length, { align = 'right' })
  if self.opts.compat then mask = (mask or torch.mask.full({ n, 1, length }, { device = x.device })):expand(n, x:size(2)) end
  local features = self.sequential(x, mask)
  return (self.head(features))
end

--- The layers whose activations are shown, from the input on: { name =, module = (its output is looked at), stride = how many tokens
-- a position covers }: the ReLU after each convolution, after the last one the convolution itself.
function Window:stages()
  local list, depth, factor = {}, self.opts.depth, self.opts.downscale_factor
  for i = 1, depth do
    -- ApplyMask, unshuffle, convolution, ReLU; then batch norm, unshuffle, convolution, ReLU; ...
    list[i] = { name = ('mconv[%d]'):format(i), stride = factor ^ i, module = self.sequential[4 * i - (i < depth and 0 or 1)],
      of = function(_, outputs) return outputs[1]:squeeze(1) end }
  end
  return list
end

return Window
