--- embedding: rows of a table by number (1-based).

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local embedding_op = autograd.op{
  name = 'embedding',
  forward = function(ctx, index, weight, padding)
    local shape = index:size()
    shape[#shape + 1] = weight:size(2)
    local y = Tensor.empty('embedding', shape, weight.dtype, weight.device)
    check(weight.K.mt_embedding_forward(y._c, weight._c, index._c))
    ctx.shape, ctx.padding = weight:size(), padding
    ctx:save(index)
    return y
  end,
  backward = function(ctx, dy)
    local dweight = Tensor.empty('embedding', ctx.shape, dy.dtype, dy.device)
    check(dy.K.mt_embedding_backward(dweight._c, dy._c, ctx:saved()._c, ctx.padding))
    return nil, dweight
  end,
}

--- A row number of a table with `rows` rows, negative ones from the end; 0 for nil.
local function padding_of(op, padding, rows)
  if padding == nil then return 0 end
  return native.dim(op .. ': padding_idx', padding, rows) + 1
end

--- F.embedding(index, weight, {padding_idx =}): weight (V, D), index (*) int64 with values 1..V -> (*, D). The row padding_idx
-- (1-based, negative from the end) gets no gradient. Gradients of repeated rows are summed in the order of the index.
local function embedding(index, weight, opts)
  Tensor.check('embedding', 'index', index)
  Tensor.check('embedding', 'weight', weight)
  Tensor.check_device_of('embedding', weight, 'index', index)
  opts = options.parse('embedding', { padding_idx = options.none }, opts)
  if weight:dim() ~= 2 then fail('embedding: weight: expected (V, D), got %s', Tensor.shape_text(weight)) end
  local y = embedding_op(index, weight, padding_of('embedding', opts.padding_idx, weight:size(1)))
  return y
end

return { functional = { embedding = embedding }, internal = { padding_of = padding_of } }
