-- The op table of matmul.
local torch = require 'masked_torch'

local function mm(a, b)
  local y = {}
  for i = 1, #a do
    y[i] = {}
    for j = 1, #b[1] do
      local s = 0
      for k = 1, #b do s = s + a[i][k] * b[k][j] end
      y[i][j] = s
    end
  end
  return y
end

local function bmm(a, b)
  local y = {}
  for n = 1, math.max(#a, #b) do y[n] = mm(a[n] or a[1], b[n] or b[1]) end
  return y
end

local function column(x)
  local y = {}
  for i, v in ipairs(x) do y[i] = { v } end
  return y
end

local cases = {}
local function case(name, shape_a, shape_b, fn, reference, extra)
  local c = { op = 'matmul', name = name, fn = fn, reference = reference,
    inputs = function(random) return { random:normal(shape_a), random:normal(shape_b) } end }
  for k, v in pairs(extra or {}) do c[k] = v end
  cases[#cases + 1] = c
end

local function product(a, b) return a:matmul(b) end

case('two matrices', { 3, 4 }, { 4, 5 }, product, mm)
case('one row', { 1, 7 }, { 7, 3 }, function(a, b) return a:mm(b) end, mm)
case('tall and thin', { 41, 5 }, { 5, 2 }, product, mm)
case('a transposed operand', { 4, 3 }, { 5, 4 }, function(a, b) return a:transpose(1, 2):mm(b:transpose(1, 2)) end)
case('a batch', { 3, 2, 4 }, { 3, 4, 5 }, function(a, b) return a:bmm(b) end, bmm)
case('a tall batch', { 3, 20, 4 }, { 3, 4, 2 }, function(a, b) return a:bmm(b) end, bmm)
case('a batch times one matrix', { 3, 2, 4 }, { 4, 5 }, product, function(a, b) return bmm(a, { b }) end)
case('one matrix times a batch', { 2, 4 }, { 3, 4, 5 }, product, function(a, b) return bmm({ a }, b) end)
case('broadcast batches', { 2, 1, 3, 2 }, { 3, 2, 4 }, product, function(a, b) return { bmm(a[1], b), bmm(a[2], b) } end)
case('two vectors', { 6 }, { 6 }, function(a, b) return a:dot(b) end, function(a, b) return mm({ a }, column(b)) end)
case('a matrix and a vector', { 3, 4 }, { 4 }, function(a, b) return a:mv(b) end, function(a, b) return mm(a, column(b)) end)
case('a vector and a matrix', { 3 }, { 3, 4 }, product, function(a, b) return mm({ a }, b) end)
case('a batch and a vector', { 2, 3, 4 }, { 4 }, product, function(a, b) return bmm(a, { column(b) }) end)
case('a vector and a batch', { 3 }, { 2, 3, 4 }, product, function(a, b) return bmm({ { a } }, b) end)
case('outer', { 3 }, { 4 }, function(a, b) return a:outer(b) end, function(a, b) return mm(column(a), { b }) end)
case('many blocks', { 130, 300 }, { 300, 70 }, product, mm, { grad = false })
cases[#cases + 1] = { op = 'matmul', name = 'addmm',
  inputs = function(random) return { random:normal { 5 }, random:normal { 3, 4 }, random:normal { 4, 5 } } end,
  fn = function(x, a, b) return torch.addmm(x, a, b, { beta = 0.5, alpha = 2 }) end,
  reference = function(x, a, b)
    local y = mm(a, b)
    for i = 1, 3 do
      for j = 1, 5 do y[i][j] = 0.5 * x[j] + 2 * y[i][j] end
    end
    return y
  end }

return cases
