-- The op table of embedding.
local torch = require 'masked_torch'
local nested = require 'support.nested'
local F = torch.nn.functional

return {
  { op = 'embedding', name = 'repeated rows',
    inputs = function(r) return { r:integers({ 3, 4 }, 1, 5), r:normal{ 5, 3 } } end,
    fn = function(index, weight) return F.embedding(index, weight) end,
    reference = function(index, weight) return nested.make({ 3, 4, 3 }, function(i, j, k) return weight[index[i][j]][k] end) end },
  { op = 'embedding', name = 'one index, int32',
    inputs = function(r) return { r:integers({}, 1, 5, { dtype = 'int32' }), r:normal{ 5, 3 } } end,
    fn = function(index, weight) return F.embedding(index, weight) end,
    reference = function(index, weight) return weight[index] end },
  { op = 'embedding', name = 'many indexes, few rows', grad = false,
    inputs = function(r) return { r:integers({ 50, 40 }, 1, 7), r:normal{ 7, 130 } } end,
    fn = function(index, weight) return F.embedding(index, weight) end },
}
