-- The JIT compiler under this library (masked_torch/luajit.lua): it has room, and what releases of LuaJIT get wrong stays off.
require 'masked_torch'
local process = require 'support.process'
local scratch = require 'support.scratch'

local root = require 'support.root'

describe('compiled code', function()
  it('of a training step is kept', function()
    -- In a process of its own: options of this one's compiler, and its traces, are not a user's.
    local how, out, err = process.run(scratch.file([[
      package.path = arg[1] .. 'lua/?.lua;' .. arg[1] .. 'lua/?/init.lua;' .. package.path
      local torch = require 'masked_torch'
      local nn, F, flushes = torch.nn, torch.nn.functional, 0
      jit.attach(function(what) flushes = flushes + (what == 'flush' and 1 or 0) end, 'trace')
      local net = nn.Sequential{ nn.MaskedConv1d(4, 8, 3, { padding = 'causal' }), nn.GELU(), nn.MaskedBatchNorm1d(8),
        nn.PartialConv1d(8, 8, 3, { padding = 1 }), nn.ReLU(), nn.GroupNorm(2, 8), nn.HalfConv1d(8, 8, 3, { padding = 1 }),
        nn.SiLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, { padding = 1 }), nn.Tanh(), nn.Dropout(0.1), nn.MaskedSpatialMean(),
        nn.Linear(8, 10) }
      local optimizer = torch.optim.AdamW(net:parameters())
      for i = 1, 300 do
        optimizer:zero_grad()
        local x, mask = torch.rand(4, 4, 12), torch.mask.lengths({ i % 12 + 1, 12, 3, 7 }, 12)
        F.cross_entropy(net(x, mask), torch.ones(4, { dtype = 'int64' })):backward()
        optimizer:step()
      end
      print((jit.status()), flushes)
    ]], '.lua'), root)
    assert.are.same({ 'exit 0', 'true\t0\n' }, { how, out }, err)
  end)
end)

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

describe('loops over pairs()', function()
  it('see every entry, also after the compiler has given them up', function()
    local source = [[
      local list = { 1, 2, 3, 4, 5 }
      local map, wrong = { a = list, b = list, c = list, d = list, e = list }, 0
      local function interpreted() for _ = 1, 100 do end end
      for _ = 1, 100000 do
        interpreted()
        local n = 0
        for _, inner in pairs(map) do
          for _ in pairs(inner) do end
          n = n + 1
        end
        if n ~= 5 then wrong = wrong + 1 end
      end
      return wrong
    ]]
    for _ = 1, 3 do
      assert.equal(0, loadstring(source)())
      jit.flush()
    end
  end)

  it('are those of the language otherwise', function()
    local keys = {}
    for key, value in pairs{ 10, 20, x = 30 } do keys[#keys + 1] = tostring(key) .. '=' .. value end
    table.sort(keys)
    assert.same({ '1=10', '2=20', 'x=30' }, keys)
    for _ in pairs{} do error 'an entry of nothing' end
    local t = { a = 1, b = 2, c = 3 }
    for key in pairs(t) do t[key] = nil end
    assert.is_nil(next(t))
    for _, value in ipairs{ 1, 'text', true } do
      local ok, message = pcall(function() for _ in pairs(value) do end end)
      assert.is_false(ok)
      assert.matches('jit_spec.lua:%d+: bad argument #1 to \'pairs\' %(table expected, got ' .. type(value) .. '%)', message)
    end
    local _, message = pcall(function() pairs() end)
    assert.matches('got no value', message)
  end)
end)
