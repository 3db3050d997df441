--- causal: a gated convolutional language model: position p of the output predicts token p + 1 and sees tokens up to p only.
--
--     x = embedding(tokens)                                        (N, L, width)
--     x = x + out(value * sigmoid(gate)), (value, gate) = causal dilated convolution of rms_norm(x)        `depth` times
--     logits = head(rms_norm(x))
--
-- After Dauphin et al. 2017 (gated convolutions, arXiv 1612.08083), with dilations as in van den Oord et al. 2016 (1609.03499).
-- Normalisation is position by position, and what a mask calls padding is cleared before each convolution: it counts as the zeros
-- outside the text. So logits depend neither on the amount of padding nor on later tokens, to the bit, and every token can be
-- computed alone from the last few positions of each block (cached.lua).

local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local options = require 'masked_torch.options'
local nn, F = torch.nn, torch.nn.functional

-- ---- a block -----------------------------------------------------------------------------------------------------

local Block = class('GatedBlock', nn.Module)

function Block:__init(width, hidden, kernel, dilation, dropout)
  nn.Module.__init(self)
  self.hidden, self.kernel, self.dilation, self.dropout = hidden, kernel, dilation, dropout
  self.norm = nn.RMSNorm(width, { eps = 1e-5 })
  self.conv = nn.Conv1d(width, 2 * hidden, kernel, { padding = 'causal', dilation = dilation })
  self.out = nn.Linear(hidden, width)
end

--- What the convolution sees of x (N, L, width): (N, width, L).
function Block:prepare(x) return self.norm(x):transpose(2, 3) end

--- From the convolution's result (N, 2 hidden, L) to what is added to x, (N, L, width).
function Block:finish(y)
  local gated = y:narrow(2, 1, self.hidden) * y:narrow(2, self.hidden + 1, self.hidden):sigmoid()
  if self.dropout > 0 then gated = F.dropout(gated, self.dropout, self.training) end
  return (self.out(gated:transpose(2, 3)))
end

function Block:forward(x, mask)
  local h = self:prepare(x):select_valid(mask)
  return x + self:finish((self.conv(h))), mask
end

-- ---- the model -------------------------------------------------------------------------------------------------------

local Causal = class('CausalLanguageModel', nn.Module)

local defaults = { vocabulary = 256, width = 128, hidden = 0, depth = 6, kernel = 3, dilations = options.any{ 1, 2, 4, 8, 16, 1 },
  dropout = 0, tied = false, context = 128 }

--- Causal{vocabulary = 256, width = 128, hidden = width, depth = 6, kernel = 3, dilations = {1, 2, 4, 8, 16, 1}, dropout = 0,
-- tied = false, context = 128}: `dilations` is repeated when there are more blocks; a number is that of every block. tied: the
-- head's weights are the embedding's. context: the length of training windows; the model itself takes any length.
function Causal:__init(opts)
  nn.Module.__init(self)
  opts = options.parse('language_model.causal', defaults, opts)
  if type(opts.dilations) == 'number' then opts.dilations = { opts.dilations } end
  if opts.hidden == 0 then opts.hidden = opts.width end
  self.opts, self.context = opts, opts.context
  self.embedding = nn.Embedding(opts.vocabulary, opts.width)
  nn.init.normal_(self.embedding.weight, 0, 0.02)
  local blocks = {}
  for i = 1, opts.depth do
    local block = Block(opts.width, opts.hidden, opts.kernel, opts.dilations[(i - 1) % #opts.dilations + 1], opts.dropout)
    block.conv:when_materialised(function(conv) nn.init.zeros_(conv.bias) end)
    block.out:when_materialised(function(out)
      nn.init.zeros_(out.bias)
      -- The sum of all branches keeps its size whatever the depth.
      nn.init.normal_(out.weight, 0, 1 / math.sqrt(opts.hidden * opts.depth))
    end)
    blocks[i] = block
  end
  self.blocks = nn.ModuleList(blocks)
  self.norm = nn.RMSNorm(opts.width, { eps = 1e-5 })
  self.head = nn.Linear(opts.width, opts.vocabulary, { bias = not opts.tied })
  self.head:when_materialised(function(head)
    if opts.tied then
      head.weight = self.embedding.weight
    else
      nn.init.normal_(head.weight, 0, 0.02)
      nn.init.zeros_(head.bias)
    end
  end)
end

--- The number of tokens that a prediction depends on.
function Causal:receptive_field()
  local n = 1
  for _, block in ipairs(self.blocks) do n = n + (block.kernel - 1) * block.dilation end
  return n
end

--- model(tokens, [mask]) -> logits (N, L, vocabulary). tokens: int64 (N, L); mask: nil or (N, 1, L), padding on either side.
function Causal:forward(tokens, mask) return self:run((self.embedding(tokens)), mask) end

--- The same from the embedded tokens (N, L, width).
function Causal:run(x, mask)
  for _, block in ipairs(self.blocks) do x = block(x, mask) end
  return (self.head((self.norm(x))))
end

--- The layers whose activations are shown: { name =, module =, stride = 1, of = what is looked at, (channels, L) }: in each block the
-- gated values, which go into `out`.
function Causal:stages()
  local list = {}
  for i, block in ipairs(self.blocks) do
    list[i] = { name = ('block[%d]'):format(i), stride = 1, module = block.out,
      of = function(inputs) return inputs[1]:squeeze(1):transpose(1, 2) end }
  end
  return list
end

return Causal
