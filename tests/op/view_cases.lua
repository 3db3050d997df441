-- The op table of view.
local nested = require 'support.nested'
local make, reshape, normal = nested.make, nested.reshape, nested.normal

return {
  { op = 'view', name = 'view with -1', inputs = normal(2, 3, 4),
    fn = function(x) return x:contiguous():view(6, -1) end,
    reference = function(x) return reshape(x, { 6, 4 }) end },
  { op = 'view', name = 'reshape of a transposed tensor', inputs = normal(3, 4, 2),
    fn = function(x) return x:transpose(1, 3):reshape{ 4, 6 } end,
    reference = function(x) return reshape(make({ 2, 4, 3 }, function(i, j, k) return x[k][j][i] end), { 4, 6 }) end },
  { op = 'view', name = 'flatten, unflatten', inputs = normal(2, 3, 4),
    fn = function(x) return x:flatten(2, -1):unflatten(2, { 2, -1, 3 }) end,
    reference = function(x) return reshape(x, { 2, 2, 2, 3 }) end },
  { op = 'view', name = 'squeeze, unsqueeze', inputs = normal(1, 3, 1, 2),
    fn = function(x) return x:squeeze():unsqueeze(1):unsqueeze(-1):squeeze(1) end,
    reference = function(x) return reshape(x, { 3, 2, 1 }) end },
  { op = 'permute', name = 'three dims', inputs = normal(2, 3, 4),
    fn = function(x) return x:permute(3, 1, -2) end,
    reference = function(x) return make({ 4, 2, 3 }, function(i, j, k) return x[j][k][i] end) end },
  { op = 'permute', name = 't, movedim', inputs = normal(3, 5),
    fn = function(x) return x:t():unsqueeze(1):movedim(1, -1) end,
    reference = function(x) return make({ 5, 3, 1 }, function(i, j) return x[j][i] end) end },
  { op = 'contiguous', name = 'of a permuted tensor', inputs = normal(2, 3, 4),
    fn = function(x) return x:permute(2, 3, 1):contiguous() end,
    reference = function(x) return make({ 3, 4, 2 }, function(i, j, k) return x[k][i][j] end) end },
  { op = 'contiguous', name = 'channels-last', inputs = normal(2, 3, 2, 5),
    fn = function(x) return x:channels_last() end,
    reference = function(x) return x end },
  { op = 'expand', name = 'new and repeated dims', inputs = normal(3, 1, 2),
    fn = function(x) return x:expand(4, -1, 5, 2) end,
    reference = function(x) return make({ 4, 3, 5, 2 }, function(_, i, _, j) return x[i][1][j] end) end },
  { op = 'expand', name = 'a scalar', inputs = function(random) return { { shape = {}, values = { random:next() } } } end,
    fn = function(x) return x:expand(3, 7) end,
    reference = function(x) return make({ 3, 7 }, function() return x end) end },
  { op = 'expand', name = 'tile', inputs = normal(2, 3),
    fn = function(x) return x:tile(2, 1, 3), x:tile(2), x:tile(1) end,
    reference = function(x)
      return make({ 2, 2, 9 }, function(_, i, j) return x[i][(j - 1) % 3 + 1] end),
        make({ 2, 6 }, function(i, j) return x[i][(j - 1) % 3 + 1] end), x
    end },
}
