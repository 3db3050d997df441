-- The op table of shuffle. The reference works on flat positions of nested tables (N, C, *S).
local torch = require 'masked_torch'
local F = torch.nn.functional

local function size(t)
  local s = {}
  while type(t) == 'table' do
    s[#s + 1] = #t
    t = t[1]
  end
  return s
end

local function at(t, index)
  for _, i in ipairs(index) do t = t[i + 1] end
  return t
end

local function build(shape, f, index)
  index = index or {}
  if #index == #shape then return f(index) end
  local row = {}
  for i = 0, shape[#index + 1] - 1 do
    index[#index + 1] = i
    row[i + 1] = build(shape, f, index)
    index[#index] = nil
  end
  return row
end

local function unshuffle(x, r)
  local s = size(x)
  local dims = #s - 2
  local block = r ^ dims
  local shape = { s[1], s[2] * block }
  for d = 3, #s do shape[d] = s[d] / r end
  return build(shape, function(i)
    local k = i[2] % block
    local source = { i[1], math.floor(i[2] / block) }
    for d = dims, 1, -1 do
      source[2 + d] = i[2 + d] * r + k % r
      k = math.floor(k / r)
    end
    return at(x, source)
  end)
end

local function shuffle(x, r)
  local s = size(x)
  local dims = #s - 2
  local shape = { s[1], s[2] / r ^ dims }
  for d = 3, #s do shape[d] = s[d] * r end
  return build(shape, function(i)
    local k = 0
    local source = { i[1] }
    for d = 1, dims do
      k = k * r + i[2 + d] % r
      source[2 + d] = math.floor(i[2 + d] / r)
    end
    source[2] = i[2] * r ^ dims + k
    return at(x, source)
  end)
end

local cases = {}
local function case(op, name, shape, r, fn, reference)
  cases[#cases + 1] = { op = op, name = name, fn = fn, reference = reference,
    inputs = function(random) return { random:normal(shape), { value = r } } end }
end

case('pixel_unshuffle', '1-D by 3', { 2, 3, 9 }, 3, F.pixel_unshuffle, unshuffle)
case('pixel_unshuffle', '2-D by 2', { 2, 3, 4, 6 }, 2, F.pixel_unshuffle, unshuffle)
case('pixel_unshuffle', '3-D by 2, batch 1', { 1, 2, 4, 2, 6 }, 2, F.pixel_unshuffle, unshuffle)
case('pixel_unshuffle', 'by 1', { 2, 2, 3 }, 1, F.unshuffle1d, unshuffle)
case('pixel_shuffle', '1-D by 2', { 2, 6, 5 }, 2, F.shuffle1d, shuffle)
case('pixel_shuffle', '2-D by 3, batch 1', { 1, 18, 2, 3 }, 3, F.shuffle2d, shuffle)
case('pixel_shuffle', '3-D by 2', { 2, 8, 2, 1, 3 }, 2, F.shuffle3d, shuffle)

return cases
