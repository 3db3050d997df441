-- Averages of weights.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local scratch = require 'support.scratch'
local EMA = torch.optim.EMA

local function set(p, value) torch.no_grad(function() p:fill_(value) end) end

describe('EMA', function()
  it('follows a += (1 - decay) (p - a)', function()
    local p, q = torch.ones(3):requires_grad_(), torch.zeros(2, 2, { dtype = 'float64' })
    local ema, a, b = EMA({ p, q }, { decay = 0.75 }), 1, 0
    for k = 1, 5 do
      set(p, k)
      set(q, -k)
      ema:update()
      a, b = a + 0.25 * (k - a), b + 0.25 * (-k - b)
      assert.near_tensor({ a, a, a }, ema.averages[1], 1e-6)
      assert.near_tensor({ { b, b }, { b, b } }, ema.averages[2], 1e-14)
    end
    assert.are.equal(5, ema.updates)
    assert.near_tensor({ 5, 5, 5 }, p)
  end)
  it('of weights that stand still is those weights, bit for bit', function()
    local p = torch.randn(1000)
    local ema = EMA({ p }, { decay = 0.9 })
    for _ = 1, 10 do ema:update() end
    assert.same_bits(p, ema.averages[1])
  end)
  it('follows quickly at first with warmup', function()
    local p = torch.zeros(1)
    local ema, a = EMA({ p }, { decay = 0.3, warmup = true }), 0
    set(p, 1)
    for n = 0, 20 do
      ema:update()
      a = a + (1 - math.min(0.3, (1 + n) / (10 + n))) * (1 - a)
      assert.near_tensor({ a }, ema.averages[1], 1e-6)
    end
  end)
  it('has the same bits for all threads and strides', function()
    local before, results = torch.get_num_threads(), {}
    for threads = 1, 4 do
      torch.set_num_threads(threads)
      torch.manual_seed(4)
      local p = torch.randn(300, 200)
      if threads == 4 then p = p:t():contiguous():t() end
      local ema = EMA({ p }, { decay = 0.9 })
      torch.no_grad(function() p:add_(1) end)
      ema:update()
      results[threads] = ema.averages[1]
    end
    torch.set_num_threads(before)
    for k = 2, 4 do assert.same_bits(results[1], results[k]) end
  end)
  it('swaps the averages in and the weights back, in place', function()
    local p = torch.tensor{ 1, 2, 3 }:requires_grad_()
    local alias, ema = p:detach(), EMA({ p }, { decay = 0.5 })
    set(p, 9)
    ema:update()
    ema:swap()
    assert.near_tensor({ 5, 5.5, 6 }, alias, 1e-6)
    for _, name in ipairs{ 'swap', 'update', 'state_dict' } do
      assert.fails(function() ema[name](ema) end, 'EMA: ' .. name, 'restore')
    end
    ema:restore()
    assert.near_tensor({ 9, 9, 9 }, alias)
    assert.near_tensor({ 5, 5.5, 6 }, ema.averages[1], 1e-6)
    assert.fails(function() ema:restore() end, 'EMA: restore', 'swap')
  end)
  it('stands in during a function, errors included', function()
    local p = torch.zeros(1)
    local ema = EMA({ p }, { decay = 0.5 })
    set(p, 2)
    ema:update()
    local inside, given, none, last = ema:with(function(x) return p:item(), x, nil, 7 end, 5)
    assert.are.same({ 1, 5, 7 }, { inside, given, last })
    assert.is_nil(none)
    assert.are.equal(2, p:item())
    assert.fails(function() ema:with(function() error('stop here') end) end, 'stop here')
    assert.are.equal(2, p:item())
    assert.is_false(ema.swapped)
  end)
  it('tells autograd that the weights changed', function()
    local p = torch.ones(2):requires_grad_()
    local ema, loss = EMA({ p }), (p * p):sum()
    ema:with(function() end)
    assert.fails(function() loss:backward() end, 'changed in place')
  end)
  it('resumes from a file, bit for bit', function()
    torch.manual_seed(1)
    local p, q = torch.randn(5), torch.randn(2, 3)
    local ema = EMA({ p, q }, { decay = 0.9, warmup = true })
    local function move(from, to, e)
      for k = from, to do
        torch.no_grad(function()
          p:add_(k)
          q:mul_(k)
        end)
        e:update()
      end
    end
    move(1, 3, ema)
    local path = scratch.path('.safetensors')
    torch.save(path, ema:state_dict())
    local other = EMA({ p, q }, { decay = 0.9, warmup = true })
    local keep_p, keep_q = p:clone(), q:clone()
    move(4, 6, ema)
    p:copy_(keep_p)
    q:copy_(keep_q)
    other:load_state_dict(torch.load(path))
    move(4, 6, other)
    for i = 1, 2 do assert.same_bits(ema.averages[i], other.averages[i]) end
    assert.are.equal(6, other.updates)
    scratch.clean()
  end)
  it('frees what it takes', function()
    local ema = EMA({ torch.randn(100) })
    collectgarbage()
    collectgarbage()
    local live = native.cpu.mt_memory_live()
    for _ = 1, 20 do
      ema:update()
      ema:with(function() end)
    end
    assert.are.equal(live, native.cpu.mt_memory_live())
  end)

  describe('misuse is an error:', function()
    local function ema() return EMA({ torch.ones(2) }) end
    for _, case in ipairs{
      { 'no parameters', function() EMA() end, 'EMA: parameters', 'nil' },
      { 'a module', function() EMA(torch.nn.Linear(1, 1)) end, 'EMA: parameters', 'net:parameters()' },
      { 'a decay above 1', function() EMA({ torch.ones(1) }, { decay = 1.5 }) end, 'EMA: decay', '1.5' },
      { 'a negative decay', function() EMA({ torch.ones(1) }, { decay = -1 }) end, 'EMA: decay', '-1' },
      { 'an unknown option', function() EMA({ torch.ones(1) }, { deacy = 1 }) end, 'EMA', "did you mean 'decay'" },
      { 'with what is no function', function() ema():with(3) end, 'EMA: with', 'got 3' },
      { 'a state that is none', function() ema():load_state_dict(3) end, 'EMA: load_state_dict', 'number' },
      { 'too many averages', function() ema():load_state_dict{ updates = 1, averages = { torch.ones(2), torch.ones(2) } } end,
        'EMA: load_state_dict', '2', '1' },
      { 'an average of another shape', function() ema():load_state_dict{ updates = 1, averages = { torch.ones(3) } } end,
        'EMA: load_state_dict', '(2)', '(3)' },
      { 'updates that are no count', function() ema():load_state_dict{ updates = -1, averages = { torch.ones(2) } } end,
        'EMA: load_state_dict', 'updates', '-1' },
    } do
      it(case[1], function()
        assert.fails(case[2], unpack(case, 3))
      end)
    end
  end)
end)
