-- The op table of index.
local nested = require 'support.nested'
local make, size = nested.make, nested.size

local function copy(x)
  if type(x) ~= 'table' then return x end
  local y = {}
  for i, v in ipairs(x) do y[i] = copy(v) end
  return y
end

local function truthy(m) return m == true or (type(m) == 'number' and m ~= 0) end

return {
  { op = 'gather', name = 'dim 1 of a matrix, fewer columns',
    inputs = function(r) return { r:normal{ 4, 5 }, r:integers({ 7, 3 }, 1, 4) } end,
    fn = function(x, index) return x:gather(1, index) end,
    reference = function(x, index) return make(size(index), function(i, j) return x[index[i][j]][j] end) end },
  { op = 'gather', name = 'the last of three dims',
    inputs = function(r) return { r:normal{ 2, 3, 5 }, r:integers({ 2, 3, 4 }, 1, 5) } end,
    fn = function(x, index) return x:gather(-1, index) end,
    reference = function(x, index) return make(size(index), function(i, j, k) return x[i][j][index[i][j][k]] end) end },
  { op = 'gather', name = 'many lines, the same few positions',
    inputs = function(r) return { r:normal{ 3, 150 }, r:integers({ 40, 150 }, 1, 3) } end,
    fn = function(x, index) return x:gather(1, index) end, grad = false },
  { op = 'gather', name = 'index_select, int32, with repetitions',
    inputs = function(r) return { r:normal{ 3, 4, 2 }, r:integers({ 6 }, 1, 4, { dtype = 'int32' }) } end,
    fn = function(x, index) return x:index_select(2, index) end,
    reference = function(x, index) return make({ 3, 6, 2 }, function(i, j, k) return x[i][index[j]][k] end) end },
  { op = 'gather', name = 'index_select of rows, take_along_dim, repeat_interleave',
    inputs = function(r) return { r:normal{ 5, 3 }, r:integers({ 9 }, 1, 5), r:integers({ 2, 1 }, 1, 5) } end,
    fn = function(x, rows, index)
      return x:index_select(1, rows), x:take_along_dim(index, 1), x:repeat_interleave(2, 2),
        x:repeat_interleave({ 0, 1, 2, 0, 1 }, 1)
    end,
    reference = function(x, rows, index)
      return make({ 9, 3 }, function(i, j) return x[rows[i]][j] end), make({ 2, 3 }, function(i, j) return x[index[i][1]][j] end),
        make({ 5, 6 }, function(i, j) return x[i][math.floor((j + 1) / 2)] end), { x[2], x[3], x[3], x[5] }
    end },
  { op = 'scatter', name = 'with repeated positions: the last stays',
    inputs = function(r) return { r:normal{ 4, 3 }, r:integers({ 6, 2 }, 1, 4), r:normal{ 6, 2 } } end,
    fn = function(x, index, src) return x:scatter(1, index, src) end,
    reference = function(x, index, src)
      local y = copy(x)
      for i = 1, 6 do for j = 1, 2 do y[index[i][j]][j] = src[i][j] end end
      return y
    end },
  { op = 'scatter', name = 'a number; along the last dim',
    inputs = function(r) return { r:normal{ 3, 5 }, r:integers({ 3, 2 }, 1, 5) } end,
    fn = function(x, index) return x:scatter(2, index, 1.5) end,
    reference = function(x, index)
      local y = copy(x)
      for i = 1, 3 do for j = 1, 2 do y[i][index[i][j]] = 1.5 end end
      return y
    end },
  { op = 'scatter', name = 'index_copy and index_fill',
    inputs = function(r) return { r:normal{ 3, 5 }, r:integers({ 4 }, 1, 5), r:normal{ 3, 4 } } end,
    fn = function(x, index, src) return x:index_copy(2, index, src), x:index_fill(2, index, -1) end,
    reference = function(x, index, src)
      local a, b = copy(x), copy(x)
      for i = 1, 3 do for k = 1, 4 do a[i][index[k]], b[i][index[k]] = src[i][k], -1 end end
      return a, b
    end },
  { op = 'scatter_add', name = 'with repeated positions',
    inputs = function(r) return { r:normal{ 2, 3, 4 }, r:integers({ 2, 7, 4 }, 1, 3), r:normal{ 2, 7, 4 } } end,
    fn = function(x, index, src) return x:scatter_add(2, index, src) end,
    reference = function(x, index, src)
      local y = copy(x)
      for i = 1, 2 do for k = 1, 7 do for j = 1, 4 do
        y[i][index[i][k][j]][j] = y[i][index[i][k][j]][j] + src[i][k][j]
      end end end
      return y
    end },
  { op = 'scatter_add', name = 'index_add with alpha',
    inputs = function(r) return { r:normal{ 4, 6 }, r:integers({ 9 }, 1, 4), r:normal{ 9, 6 } } end,
    fn = function(x, index, src) return x:index_add(1, index, src, -0.5) end,
    reference = function(x, index, src)
      local y = copy(x)
      for k = 1, 9 do for j = 1, 6 do y[index[k]][j] = y[index[k]][j] - 0.5 * src[k][j] end end
      return y
    end },
  { op = 'scatter_add', name = 'long columns, long rows', grad = false,
    inputs = function(r) return { r:normal{ 4, 300 }, r:integers({ 300 }, 1, 4), r:normal{ 300, 300 } } end,
    fn = function(x, index, src) return x:index_add(1, index, src), src:t():index_add(2, index:narrow(1, 1, 4), x:t()) end },
  { op = 'masked_fill', name = 'a mask that broadcasts, infinity',
    inputs = function(r) return { r:normal{ 2, 3, 4 }, r:binary({ 3, 1 }, 0.5, { dtype = 'bool' }) } end,
    fn = function(x, mask) return x:masked_fill(mask, -2.5) end,
    reference = function(x, mask)
      return make({ 2, 3, 4 }, function(i, j, k) return truthy(mask[j][1]) and -2.5 or x[i][j][k] end)
    end },
  { op = 'masked_fill', name = 'tril, triu',
    inputs = function(r) return { r:normal{ 2, 3, 4 } } end,
    fn = function(x) return x:tril(), x:triu(1), x:tril(-1), x:triu(-1) end,
    reference = function(x)
      local function where(f) return make({ 2, 3, 4 }, function(i, j, k) return f(j, k) and x[i][j][k] or 0 end) end
      return where(function(i, j) return j <= i end), where(function(i, j) return j >= i + 1 end),
        where(function(i, j) return j <= i - 1 end), where(function(i, j) return j >= i - 1 end)
    end },
  { op = 'masked_select', name = 'a full mask', inputs = function(r)
      return { r:normal{ 4, 5 }, r:binary({ 4, 5 }, 0.4, { dtype = 'bool' }) }
    end,
    fn = function(x, mask) return x:masked_select(mask) end,
    reference = function(x, mask)
      local y = {}
      for i = 1, 4 do for j = 1, 5 do if truthy(mask[i][j]) then y[#y + 1] = x[i][j] end end end
      return y
    end },
  { op = 'masked_select', name = 'a mask that broadcasts', inputs = function(r)
      return { r:normal{ 3, 2, 4 }, r:binary({ 2, 1 }, 0.5, { dtype = 'uint8' }) }
    end,
    fn = function(x, mask) return x:masked_select(mask) end,
    reference = function(x, mask)
      local y = {}
      for i = 1, 3 do for j = 1, 2 do for k = 1, 4 do if truthy(mask[j][1]) then y[#y + 1] = x[i][j][k] end end end end
      return y
    end },
  { op = 'masked_scatter', name = 'more sources than places', inputs = function(r)
      return { r:normal{ 3, 4 }, r:binary({ 3, 4 }, 0.5, { dtype = 'bool' }), r:normal{ 2, 6 } }
    end,
    fn = function(x, mask, src) return x:masked_scatter(mask, src) end,
    reference = function(x, mask, src)
      local values, n = nested.flat(src), 0
      return make({ 3, 4 }, function(i, j)
        if not truthy(mask[i][j]) then return x[i][j] end
        n = n + 1
        return values[n]
      end)
    end },
  { op = 'index', name = 'ranges and positions', inputs = function(r) return { r:normal{ 4, 5, 6 } } end,
    fn = function(x) return x[{ { 2, -1 }, 3, { 1, 6, 2 } }], x[-1], x[{ {}, { 2 } }] end,
    reference = function(x)
      return make({ 3, 3 }, function(i, j) return x[i + 1][3][2 * j - 1] end), x[4],
        make({ 4, 1, 6 }, function(i, _, k) return x[i][2][k] end)
    end },
  { op = 'index', name = 'masks and index tensors', inputs = function(r)
      return { r:normal{ 4, 3 }, r:binary({ 4, 3 }, 0.5, { dtype = 'bool' }), r:integers({ 2, 3 }, 1, 4),
        r:integers({ 4 }, 1, 3) }
    end,
    fn = function(x, mask, index, columns) return x[mask], x[index], x[{ { 2, 3 }, columns }] end,
    reference = function(x, mask, index, columns)
      local y = {}
      for i = 1, 4 do for j = 1, 3 do if truthy(mask[i][j]) then y[#y + 1] = x[i][j] end end end
      return y, make({ 2, 3, 3 }, function(i, j, k) return x[index[i][j]][k] end),
        make({ 2, 4 }, function(i, j) return x[i + 1][columns[j]] end)
    end },
  { op = 'assign', name = 'to ranges, broadcast',
    inputs = function(r) return { r:normal{ 4, 5 }, r:normal{ 3, 1 }, r:normal{ 5 } } end,
    fn = function(x, a, b)
      local y = x:clone()
      y[{ { 2, 4 }, { 1, 5, 2 } }] = a
      y[1] = b
      y[{ 4, 4 }] = 7
      return y
    end,
    reference = function(x, a, b)
      local y = copy(x)
      for i = 1, 3 do for j = 1, 5, 2 do y[i + 1][j] = a[i][1] end end
      y[1], y[4][4] = b, 7
      return y
    end },
  { op = 'assign', name = 'to a mask', inputs = function(r)
      return { r:normal{ 3, 4 }, { shape = { 3, 4 }, dtype = 'bool', values = { 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0 } },
        r:normal{ 5 }, r:normal{ 1 } }
    end,
    fn = function(x, mask, values, one)
      local y, z = x:clone(), x:clone()
      y[mask] = values
      z[mask] = one
      return y, z
    end,
    reference = function(x, mask, values, one)
      local n = 0
      return make({ 3, 4 }, function(i, j)
        if not truthy(mask[i][j]) then return x[i][j] end
        n = n + 1
        return values[n]
      end), make({ 3, 4 }, function(i, j) return truthy(mask[i][j]) and one[1] or x[i][j] end)
    end },
  { op = 'assign', name = 'to an index with repetitions', inputs = function(r)
      return { r:normal{ 4, 3 }, { shape = { 3 }, dtype = 'int64', values = { 2, 4, 2 } }, r:normal{ 3, 3 },
        { shape = { 3 }, dtype = 'int64', values = { 1, 3, 1 } }, r:normal{ 1, 3 } }
    end,
    fn = function(x, index, rows, columns, values)
      local y, z = x:clone(), x:clone()
      y[index] = rows
      z[{ { 1, 2 }, columns }] = values
      return y, z
    end,
    reference = function(x, _, rows, _, values)
      local y, z = copy(x), copy(x)
      y[2], y[4] = rows[3], rows[2]
      for i = 1, 2 do z[i][3], z[i][1] = values[1][2], values[1][3] end
      return y, z
    end },
}
