-- The op table of view. References build nested tables by position, in plain Lua.
local function size(x)
  local shape = {}
  while type(x) == 'table' do
    shape[#shape + 1] = #x
    x = x[1]
  end
  return shape
end

-- make({2, 3}, function(i, j) ... end): nested tables of that shape.
local function make(shape, f, ...)
  local d = select('#', ...) + 1
  if d > #shape then return f(...) end
  local row, prefix = {}, { ... }
  for i = 1, shape[d] do
    prefix[d] = i
    row[i] = make(shape, f, unpack(prefix, 1, d))
  end
  return row
end

local function flat(x, out)
  out = out or {}
  for _, v in ipairs(x) do
    if type(v) == 'table' then flat(v, out) else out[#out + 1] = v end
  end
  return out
end

local function reshape(x, shape)
  local values, n = flat(x), 0
  return make(shape, function()
    n = n + 1
    return values[n]
  end)
end

local function normal(...)
  local shape = { ... }
  return function(random) return { random:normal(shape) } end
end

local cases = {
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
cases.make, cases.size, cases.flat, cases.reshape = make, size, flat, reshape
return cases
