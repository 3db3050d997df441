-- The op table of softmax.

-- Applies f(line) -> line along dim 2 of (A, B, C).
local function along_middle(f)
  return function(x, mask)
    local y = {}
    for a = 1, #x do
      y[a] = {}
      for b = 1, #x[a] do y[a][b] = {} end
      for c = 1, #x[a][1] do
        local line, valid = {}, {}
        for b = 1, #x[a] do
          line[b] = x[a][b][c]
          valid[b] = mask == nil or (mask[a] or mask[1])[b][c] ~= 0
        end
        for b, v in ipairs(f(line, valid)) do y[a][b][c] = v end
      end
    end
    return y
  end
end

local function probabilities(line, valid)
  local y, sum = {}, 0
  for i, v in ipairs(line) do
    y[i] = valid[i] and math.exp(v) or 0
    sum = sum + y[i]
  end
  for i = 1, #y do y[i] = sum == 0 and 0 or y[i] / sum end
  return y
end

local function logarithms(line, valid)
  local y = probabilities(line, valid)
  for i = 1, #y do y[i] = math.log(y[i]) end
  return y
end

local function input(shape) return function(random) return { random:normal(shape) } end end
local function masked(shape, mask_shape)
  return function(random)
    local m = random:binary(mask_shape, 0.6)
    for i = 1, #m.values, 7 do m.values[i] = 1 end
    return { random:normal(shape), m }
  end
end

return {
  { op = 'softmax', name = 'the middle dim', inputs = input { 2, 5, 3 }, fn = function(x) return x:softmax(2) end,
    reference = along_middle(probabilities) },
  { op = 'softmax', name = 'the last dim of one sample', inputs = input { 1, 7 }, fn = function(x) return x:softmax(-1) end },
  { op = 'softmax', name = 'masked', inputs = masked({ 2, 5, 3 }, { 2, 5, 3 }),
    fn = function(x, m) return x:softmax(2, { mask = m }) end, reference = along_middle(probabilities) },
  { op = 'softmax', name = 'mask of batch 1', inputs = masked({ 3, 5, 2 }, { 1, 5, 2 }),
    fn = function(x, m) return x:softmax(2, { mask = m }) end, reference = along_middle(probabilities) },
  { op = 'log_softmax', name = 'the middle dim', inputs = input { 2, 5, 3 }, fn = function(x) return x:log_softmax(2) end,
    reference = along_middle(logarithms) },
  { op = 'log_softmax', name = 'large values', fn = function(x) return x:log_softmax(1) end,
    inputs = function(random) return { random:uniform({ 6, 2 }, -100, 100) } end },
  { op = 'log_softmax', name = 'masked, read as probabilities', inputs = masked({ 2, 5, 3 }, { 2, 5, 3 }),
    fn = function(x, m) return x:log_softmax(2, { mask = m }):softmax(2) end, reference = along_middle(probabilities) },
}
