-- The op table of sort.

-- f(line) -> line along dim 2 of (A, B, C); the index follows the values where f returns one.
local function along_middle(f)
  return function(x)
    local values, index = {}, {}
    for a = 1, #x do
      values[a], index[a] = {}, {}
      for c = 1, #x[a][1] do
        local line = {}
        for b = 1, #x[a] do line[b] = { x[a][b][c], b } end
        for b, item in ipairs(f(line)) do
          values[a][b], index[a][b] = values[a][b] or {}, index[a][b] or {}
          values[a][b][c], index[a][b][c] = item[1], item[2]
        end
      end
    end
    return values, index
  end
end

local function sorted(descending, first, last)
  return function(line)
    table.sort(line, function(p, q)
      if p[1] ~= q[1] then
        if descending then return p[1] > q[1] end
        return p[1] < q[1]
      end
      return p[2] < q[2]
    end)
    local result = {}
    for i = first or 1, last or #line do result[#result + 1] = line[i] end
    return result
  end
end

local function distinct(shape) return function(random) return { random:distinct(shape) } end end

return {
  { op = 'sort', name = 'ascending', inputs = distinct { 2, 37, 3 }, fn = function(x) return x:sort(2) end,
    reference = along_middle(sorted(false)) },
  { op = 'sort', name = 'descending', inputs = distinct { 1, 5, 3 }, fn = function(x) return x:sort(2, { descending = true }) end,
    reference = along_middle(sorted(true)) },
  { op = 'sort', name = 'with equal elements', grad = false, fn = function(x) return x:sort(2) end,
    inputs = function(random)
      local x = random:integers({ 2, 300, 2 }, 1, 9)
      x.dtype = nil
      return { x }
    end, reference = along_middle(sorted(false)) },
  { op = 'topk', name = 'the largest of few', inputs = distinct { 2, 7, 3 }, fn = function(x) return x:topk(3, 2) end,
    reference = along_middle(sorted(true, 1, 3)) },
  { op = 'topk', name = 'the smallest of many', inputs = distinct { 2, 37, 3 },
    fn = function(x) return x:topk(4, 2, { largest = false }) end, reference = along_middle(sorted(false, 1, 4)) },
  { op = 'topk', name = 'of many equal ones', grad = false, fn = function(x) return x:topk(5, 2) end,
    inputs = function(random)
      local x = random:integers({ 2, 50, 2 }, 1, 9)
      x.dtype = nil
      return { x }
    end, reference = along_middle(sorted(true, 1, 5)) },
  { op = 'kthvalue', name = 'the third', inputs = distinct { 2, 7, 3 },
    fn = function(x) return x:kthvalue(3, 2, { keepdim = true }) end, reference = along_middle(sorted(false, 3, 3)) },
  { op = 'kthvalue', name = 'median', inputs = distinct { 2, 6, 3 }, fn = function(x) return x:median(2) end,
    reference = along_middle(sorted(false, 3, 3)) },
  { op = 'kthvalue', name = 'median of all', inputs = distinct { 3, 5 }, fn = function(x) return x:median() end },
}
