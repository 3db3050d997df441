--- fuzz_shapes: valid arguments of the kernels, for tests/fuzz_kernels_spec.lua to spoil.
--
-- fuzz_shapes.arguments(kernel, random) -> a table that gives for a parameter's name { shape =, dtype = } of a tensor, a number, or a
-- table of a struct's fields; nil: anything. Shapes that belong together come out of one call.

local C = require('masked_torch.native').cpu
local REAL, DOUBLE, INT64, INT32, UINT8, BOOL = 'real', 1, 2, 3, 4, 5

local function copy(shape)
  local out = {}
  for d, n in ipairs(shape) do out[d] = n end
  return out
end

local function tensor(shape, dtype) return { shape = copy(shape), dtype = dtype or REAL } end

-- Sizes that broadcast to `shape`: each the same or 1.
local function smaller(shape, random)
  local out = {}
  for d, n in ipairs(shape) do out[d] = random(3) == 1 and 1 or n end
  return out
end

local function any_shape(random)
  local shape = {}
  for d = 1, random(5) - 1 do shape[d] = random(8) == 1 and random(2) - 1 or random(7) end
  return shape
end

local function reduced(shape, bits)
  local out = {}
  for d, n in ipairs(shape) do out[d] = math.floor(bits / 2 ^ (d - 1)) % 2 == 1 and 1 or n end
  return out
end

-- N, C, O, groups and the spatial sizes of a window operation.
local function windows(random)
  local g = { dims = random(3), groups = random(2), S = {}, out = {},
    kernel = {}, stride = {}, dilation = {}, before = {}, after = {} }
  g.N, g.C, g.O = random(3), g.groups * random(3), g.groups * random(3)
  for d = 1, g.dims do
    g.kernel[d], g.stride[d], g.dilation[d] = random(3), random(3), random(2)
    local reach = g.dilation[d] * (g.kernel[d] - 1)
    g.before[d], g.after[d] = random(reach + 1) - 1, random(reach + 1) - 1
    g.S[d] = reach + random(6)
    g.out[d] = math.floor((g.S[d] + g.before[d] + g.after[d] - reach - 1) / g.stride[d]) + 1
  end
  return g
end

local function spatial(a, b, sizes)
  local shape = { a, b }
  for d, n in ipairs(sizes) do shape[d + 2] = n end
  return shape
end

local recipes = {}

function recipes.conv(random)
  local g = windows(random)
  local x, y, w = spatial(g.N, g.C, g.S), spatial(g.N, g.O, g.out), spatial(g.O, g.C / g.groups, g.kernel)
  local function map(sizes, dtype) return tensor(spatial(random(2) == 1 and 1 or g.N, 1, sizes), dtype) end
  return { x = tensor(x), dx = tensor(x), y = tensor(y), dy = tensor(y), w = tensor(w), dw = tensor(w), b = tensor { g.O },
    valid = map(g.S, BOOL), active = map(g.out, BOOL), r = map(g.out), m = map(g.out),
    db = tensor { g.O }, g = { dims = g.dims, groups = g.groups, kernel = g.kernel, stride = g.stride, dilation = g.dilation,
      pad_before = g.before, pad_after = g.after } }, g
end

function recipes.masked_conv(random, kernel)
  local values, g = recipes.conv(random)
  local norm = random(3) - 1
  local ratio = kernel:find('ratio', 1, true)
  local O = ratio and norm == 0 and 1 or (ratio or random(2) == 1 or kernel:find('confidence', 1, true)) and g.O or 1
  local y, small = spatial(g.N, g.O, g.out), spatial(random(2) == 1 and 1 or g.N, O, g.out)
  local batch = random(2) == 1 and 1 or g.N
  for _, name in ipairs { 'y', 'raw', 'dy', 'draw' } do values[name] = tensor(y) end
  for _, name in ipairs { 'r', 'q', 'm' } do values[name] = tensor(small) end
  values.mask = tensor(spatial(batch, random(2) == 1 and 1 or g.C, g.S))
  values.kinds = random(2) == 1 and tensor(spatial(batch, 1, g.S), UINT8) or nil
  values.out = tensor(spatial(batch, O, g.out))
  if ratio or kernel:find('confidence', 1, true) then values.q = tensor(spatial(batch, O, g.out)) end
  values.dalpha = tensor { 1 }
  local centre = {}
  for d = 1, g.dims do centre[d] = random(g.kernel[d]) - 1 end
  values.v = { border = random(2) - 1, strict = random(2) - 1, multiplicity = random(3), eps = 1e-8, centre = centre }
  values.rule, values.norm = random(6) - 1, norm
  return values
end

function recipes.pool(random, kernel)
  local g = windows(random)
  local adaptive, padding = random(3) == 1 and 1 or 0, {}
  local average = kernel:find('avg', 1, true)
  for d = 1, g.dims do
    if average then g.dilation[d] = 1 end
    padding[d] = random(2) == 1 and math.floor(g.kernel[d] / 2) or 0
    g.out[d] = math.floor((g.S[d] + 2 * padding[d] - g.dilation[d] * (g.kernel[d] - 1) - 1) / g.stride[d]) + 1
    if adaptive == 1 then g.out[d] = random(4) end
  end
  local x, y = spatial(g.N, g.C, g.S), spatial(g.N, g.C, g.out)
  local mask = smaller({ g.N, g.C }, random)
  local mean = kernel:find('mean', 1, true)
  return { x = tensor(x), dx = tensor(x), y = tensor(mean and { g.N, g.C } or y), dy = tensor(mean and { g.N, g.C } or y),
    index = tensor(y, INT32), mask = tensor(spatial(mask[1], mask[2], g.S)), out = tensor(spatial(mask[1], mask[2], g.out)),
    coverage = tensor(mask), g = { dims = g.dims, adaptive = adaptive, ceil_mode = 0, rule = random(3) - 1,
      count_window = random(2) - 1, kernel = g.kernel, stride = g.stride, padding = padding, dilation = g.dilation } }
end

function recipes.upsample(random)
  local g, scale = windows(random), {}
  for d = 1, g.dims do g.out[d], scale[d] = random(9), random(2) == 1 and 0 or random(4) / 2 end
  local x, y, mask = spatial(g.N, g.C, g.S), spatial(g.N, g.C, g.out), smaller({ g.N, g.C }, random)
  return { x = tensor(x), dx = tensor(x), y = tensor(y), dy = tensor(y), mask = tensor(spatial(mask[1], mask[2], g.S)),
    out = tensor(spatial(mask[1], mask[2], g.out)),
    g = { dims = g.dims, mode = random(3) - 1, rule = random(3) - 1, scale = scale } }
end

function recipes.shuffle(random, kernel)
  local g, r = windows(random), random(2)
  local wide = {}
  for d = 1, g.dims do wide[d] = g.out[d] * r end
  local many = spatial(g.N, g.C * r ^ g.dims, g.out)
  wide = spatial(g.N, g.C, wide)
  local un = kernel:find('unshuffle', 1, true)
  return { x = tensor(un and wide or many), y = tensor(un and many or wide), factor = r }
end

local NORM_ACTIVATIONS = { C.MT_ACTIVATION_IDENTITY, C.MT_ACTIVATION_RELU, C.MT_ACTIVATION_LEAKY_RELU }

function recipes.norm(random, kernel)
  local x = any_shape(random)
  local cells, weight
  if #x < 2 then x = { random(4), random(4), random(5) } end
  if kernel:find('batch', 1, true) then
    weight, cells = { x[2] }, { x[2], 3 }
  elseif kernel:find('group', 1, true) then
    weight, cells = { x[2] }, { x[1], random(2) == 1 and 1 or x[2], 3 }
  else
    local keep = random(#x) - 1
    weight, cells = {}, {}
    for d, n in ipairs(x) do
      if d <= keep then cells[d] = n else weight[d - keep] = n end
    end
    cells[keep + 1] = 3
  end
  local out = { stats = tensor(cells, DOUBLE), mask = tensor(smaller(x, random)),
    flags = random(4) - 1, momentum = 0.1, eps = 1e-5, activation = NORM_ACTIVATIONS[random(3)], a = 0.1 }
  for _, name in ipairs { 'x', 'y', 'dx', 'dy' } do out[name] = tensor(x) end
  for _, name in ipairs { 'weight', 'bias', 'dweight', 'dbias', 'running_mean', 'running_var' } do out[name] = tensor(weight) end
  return out
end

function recipes.linear(random)
  local x = any_shape(random)
  local n, m = random(6), random(6)
  local y = copy(x)
  x[#x + 1], y[#y + 1] = n, m
  return { x = tensor(x), dx = tensor(x), y = tensor(y), dy = tensor(y), w = tensor { m, n }, dw = tensor { m, n },
    b = tensor { m }, db = tensor { m } }
end

function recipes.embedding(random)
  local index, v, d = any_shape(random), random(6), random(5)
  local y = copy(index)
  y[#y + 1] = d
  return { weight = tensor { v, d }, dweight = tensor { v, d }, index = tensor(index, random(2) == 1 and INT64 or INT32),
    y = tensor(y), dy = tensor(y), padding = random(v + 1) - 1 }
end

function recipes.loss(random, kernel)
  local reduction = random(3) - 1
  local x = any_shape(random)
  if kernel:find('elements', 1, true) then
    local y = reduction == 0 and x or {}
    return { x = tensor(x), d = tensor(x), target = tensor(x), y = tensor(y), dy = tensor(y), total = tensor({}, DOUBLE),
      mask = tensor(smaller(x, random)), pos_weight = tensor(smaller(x, random)), reduction = reduction,
      options = { parameter = random(2) - 1, kind = random(6) - 1, reduction = reduction } }
  end
  if #x == 0 then x = { random(4) } end
  local places = copy(x)
  table.remove(places, #x == 1 and 1 or 2)
  local y, mask = reduction == 0 and places or {}, copy(x)
  mask[#x == 1 and 1 or 2] = 1
  local positions = 1
  for _, n in ipairs(places) do positions = positions * n end
  return { x = tensor(x), dx = tensor(x), gradient = tensor(x), y = tensor(y), dy = tensor(y), total = tensor({}, DOUBLE),
    hits = tensor({}, INT64), state = tensor({ positions, 2 }, DOUBLE),
    target = random(3) == 1 and tensor(x) or tensor(places, random(2) == 1 and INT64 or INT32), mask = tensor(mask),
    weight = tensor { x[#x == 1 and 1 or 2] }, reduction = reduction,
    options = { ignore_index = random(5) - 2, label_smoothing = random(3) == 1 and 0.5 or 0, ignore = random(2) - 1,
      reduction = reduction, logits = random(4) == 1 and 0 or 1 } }
end

function recipes.softmax(random)
  local x = any_shape(random)
  return { x = tensor(x), y = tensor(x), dx = tensor(x), dy = tensor(x), mask = tensor(smaller(x, random)),
    dim = random(math.max(1, #x)) - 1, log = random(2) - 1 }
end

function recipes.sort(random, kernel)
  local x = any_shape(random)
  local out = copy(x)
  local dim, k = random(math.max(1, #x)) - 1, nil
  if kernel:find('topk', 1, true) then
    k = random((x[dim + 1] or 1) + 1) - 1
    if #x > 0 then out[dim + 1] = k end
  elseif kernel:find('kth', 1, true) then
    k = random((x[dim + 1] or 1) + 1) - 1
    if #x > 0 then out[dim + 1] = 1 end
  elseif kernel:find('unique', 1, true) then
    x = { random(9) - 1 }
    out = x
  end
  return { x = tensor(x), dx = tensor(x), values = tensor(out), dy = tensor(out), index = tensor(out, INT64), dim = dim, k = k,
    inverse = tensor(x, INT64), counts = tensor(x, INT64), descending = random(2) - 1, largest = random(2) - 1 }
end

function recipes.index(random, kernel)
  local x = any_shape(random)
  if #x == 0 then x = { random(5) } end
  local dim = random(#x) - 1
  local index = copy(x)
  index[dim + 1] = random(4)
  local gather = kernel:find('gather', 1, true)
  -- How many elements are chosen is chance: few, so that the output's size fits often enough.
  local chosen = random(3) - 1
  if random(2) == 1 and (kernel:find('masked_select', 1, true) or kernel:find('nonzero', 1, true)) then
    x = { random(2) }
  else
    chosen = random(9)
  end
  if kernel:find('masked', 1, true) then
    return { x = tensor(x), y = kernel:find('select', 1, true) and tensor { chosen } or tensor(x),
      mask = tensor(smaller(x, random), random(2) == 1 and 4 or BOOL),
      src = tensor { 3000 }, value = random(9) - 5 }
  elseif kernel:find('triangle', 1, true) then
    return { mask = tensor({ random(5), random(5) }, BOOL), diagonal = random(7) - 4, upper = random(2) - 1 }
  elseif kernel:find('nonzero', 1, true) then
    return { x = tensor(x), y = tensor({ chosen, #x }, INT64) }
  elseif kernel:find('flip', 1, true) then
    return { x = tensor(x), y = tensor(x), dims = random(2 ^ #x) - 1 }
  end
  return { x = tensor(x), y = tensor(gather and index or x), dy = tensor(x), src = tensor(index), dsrc = tensor(index),
    index = tensor(index, random(2) == 1 and INT64 or INT32), dim = dim, alpha = 1 }
end

function recipes.matmul(random)
  local m, k, n = random(6) - 1, random(6) - 1, random(6) - 1
  local lead = any_shape(random)
  local a, b, y = copy(lead), smaller(lead, random), copy(lead)
  a[#a + 1], a[#a + 2] = m, k
  b[#b + 1], b[#b + 2] = k, n
  y[#y + 1], y[#y + 2] = m, n
  return { a = tensor(a), b = tensor(b), y = tensor(y) }
end

function recipes.reduce(random, kernel)
  local x = any_shape(random)
  local dims = random(2 ^ #x) - 1
  local y = reduced(x, dims)
  local whole = kernel:find('sum_backward', 1, true) or kernel:find('cum', 1, true)
  local small = tensor(y)
  return { x = tensor(x), dx = tensor(x),
    y = tensor(kernel:find('cum', 1, true) and x or y, kernel:find('truth', 1, true) and BOOL or nil),
    dy = whole and random(2) == 1 and tensor(x) or small,
    mean = tensor(y, DOUBLE), values = small, index = tensor(y, INT64), dims = dims,
    dim = random(math.max(1, #x)) - 1, correction = random(3) - 1, p = ({ 0, 1, 2, 3, math.huge, -math.huge })[random(6)],
    root = random(2) - 1, scale = 1, largest = random(2) - 1, every = random(2) - 1, reverse = random(2) - 1 }
end

function recipes.mask(random, kernel)
  local x = any_shape(random)
  if kernel:find('lengths', 1, true) then
    local n, l = random(4), random(6)
    return { mask = tensor { n, 1, l }, lengths = tensor({ n }, INT64), align_right = random(2) - 1 }
  elseif kernel:find('boxes', 1, true) then
    local g = windows(random)
    return { mask = tensor(spatial(g.N, 1, g.S)), sizes = tensor({ g.N, g.dims }, INT64) }
  elseif kernel:find('summary', 1, true) then
    if #x == 0 then x = { 2 } end
    return { mask = tensor(x), valid = tensor({ x[1] }, DOUBLE), sum = tensor({ x[1] }, DOUBLE) }
  end
  if kernel:find('kinds', 1, true) then
    local g = windows(random)
    return { mask = tensor(spatial(g.N, g.C, g.S)), valid = tensor(spatial(g.N, 1, g.S), BOOL),
      kinds = tensor(spatial(g.N, 1, g.S), UINT8) }
  end
  return { x = tensor(x), y = tensor(x), mask = tensor(smaller(x, random)), eps = 1e-8 }
end

function recipes.random(random, kernel)
  local t = any_shape(random)
  local dtype = kernel:find('integers', 1, true) and INT64 or kernel:find('bernoulli', 1, true) and BOOL or nil
  if kernel:find('permutation', 1, true) then t, dtype = { random(20) - 1 }, INT64 end
  return { t = tensor(t, dtype), random = { seed = random(99), call = random(99), first = random(9) - 1 }, low = -2, high = 5,
    mean = 0, std = 1, p = 0.5 }
end

function recipes.dropout(random)
  local x = any_shape(random)
  return { x = tensor(x), y = tensor(x), mask = tensor(smaller(x, random), BOOL), random = { seed = 1, call = 2, first = 0 }, p = 0.5,
    dims = random(#x + 1) - 1 }
end

function recipes.elementwise(random, kernel)
  local x = any_shape(random)
  local bool = kernel:find('binary', 1, true) and random(3) == 1
  local out = { a = tensor(smaller(x, random)), b = tensor(x), y = tensor(x, bool and BOOL or nil), g = tensor(x),
    out = tensor(smaller(x, random)), condition = tensor(smaller(x, random), BOOL), op = random(22) - 1, by_b = random(2) - 1,
    mask = tensor(smaller(x, random), BOOL), low = -1, high = 1, alpha = 2, rtol = 0, atol = 0, equal_nan = random(2) - 1 }
  if kernel:find('differences', 1, true) then out.a = tensor(x) end
  if kernel:find('binary', 1, true) then out.op = random(16) - 1 end
  for _, name in ipairs { 'x', 'dx', 'dy', 'd', 'kept' } do out[name] = tensor(x) end
  return out
end

function recipes.activation(random)
  local x = any_shape(random)
  return { x = tensor(x), y = tensor(x), dx = tensor(x), dy = tensor(x), mask = tensor(smaller(x, random), BOOL),
    ['function'] = random(7) - 1, a = 0.5, b = 20 }
end

function recipes.tensor(random)
  local x = any_shape(random)
  return { t = tensor(x), dst = tensor(x, random(6) - 1),
    src = tensor(x, random(6) - 1), a = tensor(x), b = tensor(x), value = 2 }
end

local function stem_of(kernel) return kernel:match('^mt_(masked_conv)') or kernel:match('^mt_(%a+)') end

local fuzz_shapes = {}

function fuzz_shapes.known(kernel) return recipes[stem_of(kernel)] ~= nil end

function fuzz_shapes.arguments(kernel, random) return recipes[stem_of(kernel)](random, kernel) end

return fuzz_shapes
