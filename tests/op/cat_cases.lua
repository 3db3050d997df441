-- The op table of cat.
local torch = require 'masked_torch'
local nested = require 'support.nested'
local make = nested.make

return {
  { op = 'cat', name = 'along the middle',
    inputs = function(r) return { r:normal{ 2, 3, 2 }, r:normal{ 2, 1, 2 }, r:normal{ 2, 0, 2 } } end,
    fn = function(a, b, c) return torch.cat({ a, b, c, a }, 2) end,
    reference = function(a, b)
      return make({ 2, 7, 2 }, function(i, j, k)
        if j <= 3 then return a[i][j][k] elseif j == 4 then return b[i][1][k] end
        return a[i][j - 4][k]
      end)
    end },
  { op = 'cat', name = 'stack', inputs = function(r) return { r:normal{ 2, 3 }, r:normal{ 2, 3 } } end,
    fn = function(a, b) return torch.stack{ a, b }, torch.stack({ a, b }, -1) end,
    reference = function(a, b)
      return { a, b }, make({ 2, 3, 2 }, function(i, j, k) return (k == 1 and a or b)[i][j] end)
    end },
}
