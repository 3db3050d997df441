-- The op table of slice.
local nested = require 'support.nested'
local make, flat, normal = nested.make, nested.flat, nested.normal

return {
  { op = 'narrow', name = 'the middle', inputs = normal(2, 6, 3),
    fn = function(x) return x:narrow(2, 2, 3) end,
    reference = function(x) return make({ 2, 3, 3 }, function(i, j, k) return x[i][j + 1][k] end) end },
  { op = 'narrow', name = 'split, chunk', inputs = normal(7, 2),
    fn = function(x)
      local a, b = x:split(3), x:chunk(2)
      return a[3], a[1], b[2], x:split({ 2, 5 })[1]
    end,
    reference = function(x)
      return { x[7] }, { x[1], x[2], x[3] }, { x[5], x[6], x[7] }, { x[1], x[2] }
    end },
  { op = 'select', name = 'from the end', inputs = normal(2, 4, 3),
    fn = function(x) return x:select(2, -1), x:unbind(3)[2] end,
    reference = function(x)
      return make({ 2, 3 }, function(i, j) return x[i][4][j] end), make({ 2, 4 }, function(i, j) return x[i][j][2] end)
    end },
  { op = 'diagonal', name = 'offset', inputs = normal(3, 2, 5),
    fn = function(x) return x:diagonal(1, 1, 3), x:diagonal(-1, -1, 1) end,
    reference = function(x)
      return make({ 2, 3 }, function(i, j) return x[j][i][j + 1] end), make({ 2, 3 }, function(i, j) return x[j][i][j + 1] end)
    end },
  { op = 'unfold', name = 'overlapping windows', inputs = normal(2, 7, 2),
    fn = function(x) return x:unfold(2, 3, 2) end,
    reference = function(x) return make({ 2, 3, 2, 3 }, function(i, w, j, k) return x[i][(w - 1) * 2 + k][j] end) end },
  { op = 'unfold', name = 'twice, with gaps', inputs = normal(5, 8),
    fn = function(x) return x:unfold(1, 2, 1):unfold(2, 2, 3) end,
    reference = function(x)
      return make({ 4, 3, 2, 2 }, function(w, v, i, j) return x[w + i - 1][(v - 1) * 3 + j] end)
    end },
  { op = 'flip', name = 'two dims', inputs = normal(3, 2, 4),
    fn = function(x) return x:flip(1, -1) end,
    reference = function(x) return make({ 3, 2, 4 }, function(i, j, k) return x[4 - i][j][5 - k] end) end },
  { op = 'roll', name = 'two dims', inputs = normal(3, 4),
    fn = function(x) return x:roll({ 1, -1 }, { 1, 2 }) end,
    reference = function(x) return make({ 3, 4 }, function(i, j) return x[(i + 1) % 3 + 1][j % 4 + 1] end) end },
  { op = 'roll', name = 'flattened', inputs = normal(2, 3),
    fn = function(x) return x:roll(8) end,
    reference = function(x)
      local v = flat(x)
      return make({ 2, 3 }, function(i, j) return v[((i - 1) * 3 + j - 1 - 8) % 6 + 1] end)
    end },
}
