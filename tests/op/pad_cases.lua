-- The op table of pad.
local torch = require 'masked_torch'
local make = require('support.nested').make
local F = torch.nn.functional

local function input(...)
  local shape = { ... }
  return function(r) return { r:normal(shape) } end
end

return {
  { op = 'pad', name = 'constant, two dims', inputs = input(2, 3, 4),
    fn = function(x) return F.pad(x, { 1, 2, 0, 3 }, { value = -1.5 }) end,
    reference = function(x)
      return make({ 2, 6, 7 }, function(i, j, k)
        local row = x[i][j]
        return row and k > 1 and k <= 5 and row[k - 1] or -1.5
      end)
    end },
  { op = 'pad', name = 'negative', inputs = input(4, 5),
    fn = function(x) return F.pad(x, { -1, 2, 1, -2 }), F.pad(x, { -2, -3 }) end,
    reference = function(x)
      return make({ 3, 6 }, function(i, j) return x[i - 1] and x[i - 1][j + 1] or 0 end), { {}, {}, {}, {} }
    end },
  { op = 'pad', name = 'reflect', inputs = input(2, 3, 4),
    fn = function(x) return F.pad(x, { 3, 2, 1, 2 }, { mode = 'reflect' }) end,
    reference = function(x)
      local rows, columns = { 2, 1, 2, 3, 2, 1 }, { 4, 3, 2, 1, 2, 3, 4, 3, 2 }
      return make({ 2, 6, 9 }, function(i, j, k) return x[i][rows[j]][columns[k]] end)
    end },
  { op = 'pad', name = 'replicate', inputs = input(1, 3, 2),
    fn = function(x) return F.pad(x, { 3, 1, 0, 2 }, { mode = 'replicate' }) end,
    reference = function(x)
      local rows, columns = { 1, 2, 3, 3, 3 }, { 1, 1, 1, 1, 2, 2 }
      return make({ 1, 5, 6 }, function(i, j, k) return x[i][rows[j]][columns[k]] end)
    end },
  { op = 'pad', name = 'circular', inputs = input(2, 3),
    fn = function(x) return F.pad(x, { 3, 1 }, { mode = 'circular' }) end,
    reference = function(x)
      return make({ 2, 7 }, function(i, j) return x[i][(j - 1) % 3 + 1] end)
    end },
}
