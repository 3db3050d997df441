-- The op table of activation.
local function map(f)
  local function walk(x)
    if type(x) ~= 'table' then return f(x) end
    local y = {}
    for i, v in ipairs(x) do y[i] = walk(v) end
    return y
  end
  return walk
end

return {
  { op = 'relu', name = 'away from the kink',
    inputs = function(random) return { random:away({ 3, 4, 5 }) } end,
    fn = function(x) return x:relu() end,
    reference = map(function(x) return math.max(x, 0) end) },
}
