--- nn.embedding: Embedding.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local init = require 'masked_torch.nn.initialise'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local Module = require('masked_torch.nn.module').Module
local padding_of = require('masked_torch.autograd.op.embedding').internal.padding_of

--- nn.Embedding(num_embeddings, embedding_dim, {padding_idx =, freeze = false, dtype = 'float32'}): a table of vectors, chosen
-- by number: (*) int64 with values 1..num_embeddings -> (*, embedding_dim). weight (num_embeddings, embedding_dim) starts as
-- N(0, 1); the row padding_idx (1-based, negative from the end) starts as 0 and gets no gradient. freeze: the weight is not
-- trained. The mask is returned as it came.
local Embedding = class('Embedding', Module)

function Embedding:__init(num_embeddings, embedding_dim, opts)
  Module.__init(self)
  opts = options.parse('Embedding', { padding_idx = options.none, freeze = false, dtype = 'float32' }, opts)
  self.num_embeddings = native.integer('Embedding', 'num_embeddings', num_embeddings, 0)
  self.embedding_dim = native.integer('Embedding', 'embedding_dim', embedding_dim, 0)
  Tensor.check_dtype('Embedding', opts.dtype)
  local padding = padding_of('Embedding', opts.padding_idx, num_embeddings)
  self.padding_idx = padding > 0 and padding or nil
  self:register_parameter('weight', Tensor.empty('Embedding', { num_embeddings, embedding_dim }, opts.dtype))
  self:reset_parameters()
  if opts.freeze then self.weight:requires_grad_(false) end
end

--- Draws the weight anew.
function Embedding:reset_parameters()
  init.normal_(self.weight)
  if self.padding_idx then init.zeros_(self.weight:detach():select(1, self.padding_idx)) end
end

function Embedding:forward(index, mask)
  local y = F.embedding(index, self.weight, { padding_idx = self.padding_idx })
  return y, mask
end

function Embedding:extra_repr()
  return ('%d, %d%s'):format(self.num_embeddings, self.embedding_dim,
    self.padding_idx and (', padding_idx=%d'):format(self.padding_idx) or '')
end

return { Embedding = Embedding }
