-- What a profile counts. How long things take is a benchmark, not a test.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local autograd = require 'masked_torch.autograd'
local nn, C = torch.nn, native.cpu

local function by_name(report)
  local ops = {}
  for _, op in ipairs(report.ops) do ops[op.name] = op end
  return ops
end

local function originals()
  local found = { collect = collectgarbage, step = torch.optim.Adam.step, clip = torch.optim.clip_grad_norm_ }
  for name, op in pairs(autograd.registry) do found[name .. ' forward'], found[name .. ' backward'] = op.forward, op.backward end
  return found
end

describe('a profile', function()
  local threads = torch.get_num_threads()
  after_each(function() torch.set_num_threads(threads) end)

  it('counts operations, and puts everything back', function()
    local net = nn.Sequential{ nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Tanh() }
    local optimizer = torch.optim.Adam(net:parameters(), { lr = 1e-3 })
    local x, calls = torch.randn(2, 2, 9, 9), 0
    local before = originals()
    local report = torch.profile(function()
      calls = calls + 1
      optimizer:zero_grad()
      net(x):sum():backward()
      optimizer:step()
    end, { steps = 4 })
    assert.same(before, originals())
    assert.equal(6, calls)                        -- one to warm up, one for the garbage
    local ops = by_name(report)
    assert.equal(2, ops.conv.calls)
    assert.equal(2, ops.tanh.calls)
    assert.equal(1, ops.sum.calls)
    assert.equal(1, ops['Adam:step'].calls)
    assert.is_nil(ops.softmax)
    assert.is_true(ops.conv.forward > 0 and ops.conv.backward > 0)
    assert.equal(0, ops['Adam:step'].backward)
    assert.equal(4, report.steps)
    -- Own times and what is outside are the whole.
    local total = report.outside
    for _, op in ipairs(report.ops) do total = total + op.forward + op.backward end
    assert.near(report.seconds, total, 1e-9)
    for i = 2, #report.ops do
      local a, b = report.ops[i - 1], report.ops[i]
      assert.is_true(a.forward + a.backward >= b.forward + b.backward)
    end
    local text = tostring(report)
    for _, part in ipairs{ '4 steps of', 'conv%s+2 ', 'Adam:step%s+1 ', 'outside', 'Lua garbage per step', '\npool: ' } do
      assert.truthy(text:find(part), part .. '\n' .. text)
    end
  end)

  it('counts the garbage of a step, with or without explicit collections', function()
    local keep
    local function step() keep = ('x'):rep(2 ^ 20) .. tostring(keep and #keep) end
    local report = torch.profile(step, { steps = 1 })
    assert.is_true(report.garbage > 2 ^ 20 and report.garbage < 2 ^ 23, report.garbage)
    assert.equal(0, report.collections)
    report = torch.profile(function()
      step()
      keep = nil
      collectgarbage()
    end, { steps = 3 })
    assert.is_true(report.garbage > 2 ^ 20 and report.garbage < 2 ^ 23, report.garbage)
    assert.equal(1, report.collections)
    assert.equal('number', type(collectgarbage 'count'))
  end)

  it('counts an operation inside another for itself', function()
    local outer = autograd.op{ name = 'profile_outer', forward = function(_, x) return (x:relu()) end }
    local report = torch.profile(function() outer(torch.ones(3)) end, { steps = 2 })
    autograd.registry.profile_outer = nil
    local ops = by_name(report)
    assert.equal(1, ops.profile_outer.calls)
    assert.equal(1, ops.relu.calls)
  end)

  it('reads the pool', function()
    torch.set_num_threads(2)
    local x = torch.randn(400000)
    local report = torch.profile(function() return x:exp() end, { steps = 2 })
    assert.equal(2, report.threads)
    assert.equal(2, #report.pool.busy)
    assert.is_true(report.pool.loops >= 1 and report.pool.seconds > 0 and report.pool.seconds <= report.seconds)
    for _, share in ipairs(report.pool.busy) do assert.is_true(share >= 0 and share <= 1, share) end
    assert.is_true(report.pool.efficiency > 0 and report.pool.efficiency <= 1)
    local loops = C.mt_threads_loops()
    assert.is_true(x:exp():numel() > 0)
    assert.equal(loops, C.mt_threads_loops())      -- nothing is counted any more
    assert.equal(0, C.mt_threads_busy(-1))
    assert.equal(0, C.mt_threads_busy(256))
    torch.set_num_threads(1)
    report = torch.profile(function() return x:exp() end, { steps = 1 })
    assert.equal(0, report.pool.loops)
    assert.truthy(tostring(report):find('pool: not used', 1, true))
  end)

  it('lets errors through, and puts everything back', function()
    local before = originals()
    for last = 1, 3 do
      local calls = 0
      assert.fails(function()
        torch.profile(function()
          calls = calls + 1
          if calls == last then torch.ones(2):view(3) end
        end, { steps = 1 })
      end, 'view')
      assert.same(before, originals())
    end
    local weak = setmetatable({ {} }, { __mode = 'v' })       -- the collector runs again
    for _ = 1, 100000 do
      if weak[1] == nil then break end
      local _ = ('y'):rep(10000) .. math.random()
    end
    assert.is_nil(weak[1])
    assert.fails(function() torch.profile(3) end, 'profile', 'fn')
    assert.fails(function() torch.profile(print, { steps = 0 }) end, 'profile', 'steps')
    assert.fails(function() torch.profile(print, { step = 1 }) end, 'profile', 'steps')
  end)
end)
