-- The JIT compiler under this library: the load forwarding that LuaJIT 2.1.0-beta3 gets wrong stays off.
require 'masked_torch'

describe('loops over table literals', function()
  it('see every constant, however the loops are compiled', function()
    -- Compiled anew each time, at another moment, since what is wrong depends on where a trace begins.
    local source = [[
      local records, found, n = ..., {}, 0
      for a = 1, 3 do
        for i, record in ipairs(records) do
          for _, what in ipairs{ 'y', 'mask', 'panel' } do found[a .. what .. i] = record[what] end
        end
      end
      for _ in pairs(found) do n = n + 1 end
      local list, sum = {}, 0
      for _ = 1, 9 do
        for _ in ipairs(records) do
          for _, w in ipairs{ 5, 6, 7 } do list[#list + 1] = w end
        end
      end
      for _, v in ipairs(list) do sum = sum + v end
      return n, sum
    ]]
    local records = {}
    for i = 1, 5 do records[i] = { y = 1, mask = 2, panel = 3 } end
    for k = 1, 2000 do
      local run = assert((loadstring or load)(source))
      jit.flush()
      for _ = 1, k % 60 do
        local warm = 0
        for i = 1, 3 do warm = warm + i end
      end
      local n, sum = run(records)
      assert(n == 45 and sum == 810, ('round %d: %d keys, sum %d'):format(k, n, sum))
    end
  end)
end)
