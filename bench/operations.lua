--- operations: what one operation costs besides its kernel (microseconds, bytes of garbage in Lua), and what elementwise kernels
-- cost per element (nanoseconds). One thread, processor time, best and mean of the rounds.
--
--     luajit bench/operations.lua [--only=TEXT] [--elements=262144]

local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '../lua/?.lua;' .. here .. '../lua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional

local options = { only = '', elements = '262144' }
for _, word in ipairs(arg) do
  local key, value = word:match('^%-%-(%w+)=(.*)$')
  if not key or not options[key] then error('usage: luajit bench/operations.lua [--only=TEXT] [--elements=N]', 0) end
  options[key] = value
end

torch.set_num_threads(1)
torch.manual_seed(1)

local function rounds(count, fn)
  local best, total = math.huge, 0
  for _ = 1, count do
    local t = os.clock()
    fn()
    t = os.clock() - t
    best, total = math.min(best, t), total + t
  end
  return best, total / count
end

-- ---- overhead ------------------------------------------------------------------------------------------------

local CHAIN = 1000
local one, leaf = torch.ones(1), torch.ones(1):requires_grad_()
local square, few, vector, matrix = torch.randn(8, 8), torch.randn(4, 8), torch.randn(CHAIN), torch.randn(CHAIN, 3)
local net = nn.Sequential{ nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4) }

local function chain(first, step)
  return function()
    local y = first
    for _ = 1, CHAIN do y = step(y) end
    return y
  end
end

local function backward(forward)
  return function()
    forward():backward()
    leaf.grad = nil
  end
end

local function each(fn)
  return function()
    for i = 1, CHAIN do fn(i) end
  end
end

local plus, times = chain(leaf, function(y) return y + one end), chain(leaf, function(y) return y * one end)
local overhead = {
  { 'x + y', chain(one, function(y) return y + one end) },
  { 'x + 1', chain(one, function(y) return y + 1 end) },
  { 'x:add_(y)', chain(torch.ones(1), function(y) return y:add_(one) end) },
  { 'x + y, recorded', plus },
  { 'x + y, and backward', backward(plus) },
  { 'x * y, and backward', backward(times) },
  { 'x:relu()', chain(one, function(y) return y:relu() end) },
  { 'a:matmul(b), 8 x 8', chain(square, function(y) return y:matmul(square) end) },
  { 'x:sum()', each(function() few:sum() end) },
  { 'x:view(8, 4)', each(function() few:view(8, 4) end) },
  { 'x:t()', each(function() few:t() end) },
  { 'v[i]', each(function(i) return vector[i] end) },
  { 'v[i] = 1', each(function(i) vector[i] = i end) },
  { 'm[i]', each(function(i) return matrix[i] end) },
  { 'torch.zeros(1)', each(function() torch.zeros(1) end) },
  { 'Sequential of 5', each(function() net(few) end) },
  { 'Sequential of 5, and backward', each(function() net(few):sum():backward() end) },
}

print(('%-32s %10s %10s %10s'):format('us per operation', 'best', 'mean', 'bytes'))
for _, row in ipairs(overhead) do
  if row[1]:find(options.only, 1, true) then
    for _ = 1, 3 do row[2]() end
    collectgarbage()
    collectgarbage('stop')
    local before = collectgarbage('count')
    row[2]()
    local bytes = (collectgarbage('count') - before) * 1024
    collectgarbage('restart')
    collectgarbage()
    local best, mean = rounds(12, row[2])
    print(('%-32s %10.2f %10.2f %10.0f'):format(row[1], best / CHAIN * 1e6, mean / CHAIN * 1e6, bytes / CHAIN))
  end
end

-- ---- kernels -------------------------------------------------------------------------------------------------

local N = assert(tonumber(options.elements), 'elements: expected a number')
local side = math.floor(math.sqrt(N / 64))
local x = torch.randn(N)
local image = torch.randn(1, 64, side, side)
local even = torch.randn(1, 64, side - side % 2, side - side % 2):channels_last()
local last, positive, bias = image:channels_last(), x:abs(), torch.randn(1, 64, 1, 1)

local kernels = {
  { 'x + y', function() return x + positive end }, { 'exp', function() return x:exp() end },
  { 'log', function() return positive:log() end }, { 'tanh', function() return x:tanh() end },
  { 'sigmoid', function() return x:sigmoid() end }, { 'pow 1.5', function() return positive:pow(1.5) end },
  { 'relu', function() return x:relu() end }, { 'silu', function() return F.silu(x) end },
  { 'elu', function() return F.elu(x) end }, { 'gelu', function() return F.gelu(x) end },
  { 'softplus', function() return F.softplus(x) end },
  { 'dropout', function() return F.dropout(x, 0.5, true) end },
  { 'randn', function() return torch.randn(N) end }, { 'rand', function() return torch.rand(N) end },
  { 'channels-last + bias', function() return last + bias end },
  { 'to channels-last', function() return image:channels_last() end },
  { 'from channels-last', function() return last:contiguous() end },
  { 'unshuffle, channels-last', function() return F.pixel_unshuffle(even, 2) end },
  { 'float32 to float64', function() return x:double() end }, { 'float32 to int64', function() return x:to('int64') end },
  { 'sum', function() return x:sum() end }, { 'mean over H and W', function() return last:mean{ dim = { 3, 4 } } end },
  { 'var', function() return x:var() end }, { 'max', function() return x:max() end },
}

print(('\n%-32s %10s %10s'):format('ns per element, ' .. N, 'best', 'mean'))
for _, row in ipairs(kernels) do
  if row[1]:find(options.only, 1, true) then
    for _ = 1, 120 do row[2]() end   -- until freed memory comes back: fresh pages are another matter
    local best, mean = rounds(20, row[2])
    print(('%-32s %10.3f %10.3f'):format(row[1], best / N * 1e9, mean / N * 1e9))
  end
end
