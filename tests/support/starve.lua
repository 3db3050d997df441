--- starve(call) -> n: calls it with the first allocation of the library refused, with the second, and so on, until it succeeds: it makes
-- n allocations. Every refusal must be the status MT_ERROR_MEMORY and leave no block behind.
local assert = require 'luassert'
local C = require('masked_torch.native').cpu

local MOST = 50

local function refused(call, n)
  local blocks = C.mt_memory_blocks()
  C.mt_memory_fail_at(n, 0)
  local status = call()
  C.mt_memory_fail_at(0, 0)
  assert.are.equal(blocks, C.mt_memory_blocks())
  if status ~= C.MT_OK then assert.are.equal(C.MT_ERROR_MEMORY, status) end
  return status ~= C.MT_OK
end

local function count(call)
  local n = 1
  while refused(call, n) do
    n = n + 1
    assert.is_true(n < MOST)
  end
  return n - 1
end

return function(call)
  collectgarbage()
  collectgarbage()
  collectgarbage('stop')      -- what it frees is not the kernels'
  local ok, n = pcall(count, call)
  collectgarbage('restart')
  if not ok then error(n, 0) end
  return n
end
