-- The op table of create: copies and conversions.
local function identity(x) return x end

local function each(x, f)
  if type(x) ~= 'table' then return f(x) end
  local y = {}
  for i, v in ipairs(x) do y[i] = each(v, f) end
  return y
end

return {
  { op = 'clone', inputs = function(random) return { random:normal({ 3, 4, 5 }) } end,
    fn = function(x) return x:clone() end, reference = identity },
  { op = 'contiguous', inputs = function(random) return { random:normal({ 3, 1, 5 }) } end,
    fn = function(x) return x:contiguous() * x end,
    reference = function(x) return each(x, function(v) return v * v end) end },
  { op = 'to', name = 'float32 and float64', eps = 1, tolerance = { reference = 0, gradient = 1e-7 },
    inputs = function(random)
      local x = random:uniform({ 2, 3, 4 }, -8, 8)
      for i, v in ipairs(x.values) do x.values[i] = math.floor(v) end   -- exact in float32
      return { x }
    end,
    fn = function(x) return x:to('float32'), x:to('float64') end,
    reference = function(x) return x, x end },
  { op = 'copy_', name = 'broadcast source',
    inputs = function(random) return { random:normal({ 2, 3, 5 }), random:normal({ 3, 1 }) } end,
    fn = function(x, source) return x + (x * 1):copy_(source) end,
    reference = function(x, source)
      for _, m in ipairs(x) do
        for i, row in ipairs(m) do
          for j, v in ipairs(row) do row[j] = v + source[i][1] end
        end
      end
      return x
    end },
  { op = 'fill_', inputs = function(random) return { random:normal({ 3, 4 }) } end,
    fn = function(x) return (x * 2):fill_(7) * x end,
    reference = function(x) return each(x, function(v) return 7 * v end) end },
  { op = 'set', inputs = function(random) return { random:normal({ 3, 4 }) } end,
    fn = function(x) return (x * 2):set(2, -1, 7) * x end,
    reference = function(x)
      local y = each(x, function(v) return 2 * v * v end)
      y[2][4] = 7 * x[2][4]
      return y
    end },
}
