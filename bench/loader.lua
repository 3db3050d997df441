--- Processor time of a shuffled batch of windows: luajit bench/loader.lua [batch] [length]
--
-- Windows of 1 .. length tokens are gathered and padded in the caller (no prefetch), 10 rounds of 20 batches; minimum and median.

local root = arg[0]:match('^(.*)bench/loader%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. package.path
local data = require('masked_torch').data

local batch, length = tonumber(arg[1]) or 1024, tonumber(arg[2]) or 128
local tokens = data.Tokens.of_string(('abcdefg '):rep(50000))
local loader = data.Loader(data.SlidingWindowDataset(tokens, 1, length), { batch_size = batch, shuffle = true, prefetch = 0 })
local times = {}
for round = 1, 10 do
  local start = os.clock()
  for _ = 1, 20 do loader() end
  times[round] = (os.clock() - start) / 20 * 1e3
end
table.sort(times)
print(('%d x %d: min %.3f ms, median %.3f ms of processor time per batch'):format(batch, length, times[1], times[5]))
