-- The op table of linear.
local torch = require 'masked_torch'
local F = torch.nn.functional

local function rows(x, fn)
  if type(x[1]) ~= 'table' then return fn(x) end
  local y = {}
  for i, row in ipairs(x) do y[i] = rows(row, fn) end
  return y
end

local function linear(x, w, b)
  return rows(x, function(row)
    local y = {}
    for o = 1, #w do
      local sum = 0
      for i = 1, #row do sum = sum + row[i] * w[o][i] end
      y[o] = sum + (b and b[o] or 0)
    end
    return y
  end)
end

local cases = {}
local function case(name, x, w, bias)
  cases[#cases + 1] = { op = 'linear', name = name, fn = function(...) return F.linear(...) end, reference = linear,
    inputs = function(random)
      return { random:normal(x), random:normal(w), bias and random:normal({ w[1] }) or nil }
    end }
end

case('plain', { 5, 3 }, { 4, 3 }, true)
case('no bias', { 2, 7 }, { 3, 7 }, false)
case('a single vector', { 6 }, { 2, 6 }, true)
case('four dims', { 2, 3, 2, 5 }, { 7, 5 }, true)
case('one feature in and out', { 3, 1 }, { 1, 1 }, true)
case('long sums', { 2, 600 }, { 3, 600 }, true)
case('several panels', { 3, 4 }, { 45, 4 }, true)
case('more rows than one block', { 2, 70, 3 }, { 2, 3 }, true)

return cases
