--- Graphs: N launches of a captured step give the bits of N ordinary steps; what a capture refuses; whose memory is whose. On the
-- simulator a launch runs the kernels with the arguments of the capture, so nothing can depend on what the host knew at a launch.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local nn, F, cuda = torch.nn, torch.nn.functional, torch.cuda

if (os.getenv 'MASKED_TORCH_TEST_DEVICE' or '') == '' then
  describe('graphs', function()
    it('run under make test-cuda and make test-cuda-simulated', function() pending('no MASKED_TORCH_TEST_DEVICE') end)
  end)
  return
end

local on_device = { device = 'cuda' }

-- Compiled code may hold a graph for a long time, and other specs count memory.
local made = {}
local function new_graph()
  made[#made + 1] = cuda.CUDAGraph()
  return made[#made]
end
local function graphed(fn, opts)
  local step = cuda.graph(fn, opts)
  made[#made + 1] = step.graph
  return step
end
local function forget()
  for i = #made, 1, -1 do
    made[i]:reset()
    made[i] = nil
  end
end

-- Everything that a run of `steps` steps leaves behind, as one list of CPU tensors.
local function outcome(run, losses)
  local all = { torch.tensor(losses, { dtype = 'float64' }) }
  for _, p in ipairs(run.net:parameters()) do
    all[#all + 1] = p:detach():cpu()
    if p.grad then all[#all + 1] = p.grad:cpu() end
  end
  for _, b in ipairs(run.net:buffers()) do all[#all + 1] = b:cpu() end
  for _, state in ipairs(run.optimizer.state) do
    all[#all + 1] = torch.tensor({ state.step })
    for _, name in ipairs{ 'exp_avg', 'exp_avg_sq', 'momentum_buffer', 'square_avg', 'neg_pre_grad' } do
      if state[name] then all[#all + 1] = state[name]:cpu() end
    end
  end
  all[#all + 1] = torch.rand(3)      -- where the generator stands
  return all
end

-- build() -> { net =, optimizer =, inputs = array of tensors, loss = function }; batches: arrays of CPU tensors for the inputs.
local function train(build, batches, captured, after)
  torch.manual_seed(11)
  local run, losses = build(), {}
  local function fn()
    run.optimizer:zero_grad()
    local loss, more = run.loss()
    loss:backward()
    run.optimizer:step()
    return loss, more
  end
  local step = captured and graphed(fn) or fn
  for i, batch in ipairs(batches) do
    for k, t in ipairs(batch) do run.inputs[k]:copy_(t) end
    local loss = step()
    losses[i] = loss:item()
    if after then after(run, i) end
  end
  if captured then assert.is_true(step.graph:memory() > 0) end
  return outcome(run, losses)
end

local function check_same(build, batches, after)
  local plain, graph = train(build, batches, false, after), train(build, batches, true, after)
  assert.are.equal(#plain, #graph)
  for i = 1, #plain do
    assert.is_true(torch.equal(plain[i], graph[i]), ('tensor %d of %d differs'):format(i, #plain))
  end
  -- A test that compares a run with itself would pass too: the steps must have been different ones.
  assert.is_true(plain[1][1] ~= plain[1][#batches])
end

local function classes(n, k)
  local t = {}
  for i = 1, n do t[i] = (i * 7) % k + 1 end
  return torch.tensor(t, { dtype = 'int64' })
end

local function pictures(n)
  torch.manual_seed(5)
  local batches = {}
  for i = 1, n do batches[i] = { torch.randn(3, 2, 6, 5), classes(3 + i, 4):narrow(1, i, 3) } end
  return batches
end

describe('a captured step', function()
  after_each(forget)

  for _, case in ipairs{ { 'SGD', { lr = 0.1, momentum = 0.9 } }, { 'Adam', { lr = 0.01 } }, { 'AdamW', { lr = 0.01, amsgrad = true } },
    { 'RMSprop', { lr = 0.01 } }, { 'Adan', { lr = 0.01 } } } do
    it(('trains like an ordinary one: perceptron, dropout, %s, a schedule'):format(case[1]), function()
      local batches = {}
      torch.manual_seed(7)
      for i = 1, 5 do batches[i] = { torch.randn(6, 5), torch.randn(6, 3) } end
      check_same(function()
        local net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)):to(on_device)
        local x, y = torch.zeros(6, 5, on_device), torch.zeros(6, 3, on_device)
        local optimizer = torch.optim[case[1]](net:parameters(), case[2])
        return { net = net, optimizer = optimizer, inputs = { x, y }, loss = function() return F.mse_loss(net(x), y) end,
          schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8) }
      end, batches, function(run) run.schedule:step() end)
    end)
  end

  it('trains convolutions, batch norm, pooling and cross-entropy', function()
    check_same(function()
      local net = nn.Sequential(nn.Conv2d(2, 5, 3, { padding = 1 }), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, { 3, 2 })):to(on_device)
      local x, label = torch.zeros(3, 2, 6, 5, on_device), torch.ones(3, { dtype = 'int64', device = 'cuda' })
      return { net = net, optimizer = torch.optim.Adam(net:parameters(), { lr = 0.02 }), inputs = { x, label },
        loss = function() return F.cross_entropy(net(x):reshape(3, 4), label, { metric = true }) end }
    end, pictures(4))
  end)

  it('trains masked layers with another mask in every batch, all of it valid in some', function()
    torch.manual_seed(9)
    local batches = {}
    for i, lengths in ipairs{ { 7, 3 }, { 7, 7 }, { 2, 7 }, { 7, 7 }, { 1, 5 } } do
      batches[i] = { torch.randn(2, 3, 7), torch.mask.lengths(lengths, 7):tensor('bool'), torch.randn(2, 2) }
    end
    for _, layer in ipairs{ 'MaskedConv1d', 'Conv1d' } do
      check_same(function()
        local net = nn.Sequential(nn[layer](3, 4, 3, { padding = 1 }), nn.BatchNorm1d(4), nn.GELU(), nn[layer](4, 2, 3)):to(on_device)
        local x, y = torch.zeros(2, 3, 7, on_device), torch.zeros(2, 2, on_device)
        local m = torch.zeros(2, 1, 7, { dtype = 'bool', device = 'cuda' })
        return { net = net, optimizer = torch.optim.AdamW(net:parameters(), { lr = 0.01 }), inputs = { x, m, y },
          loss = function()
            local z = net(x, m)
            return F.mse_loss(z:mean(3), y)
          end }
      end, batches)
    end
  end)
end)

describe('a graph', function()
  after_each(forget)

  it('clips gradients on the device, with the bits of the ordinary call', function()
    for _, limit in ipairs{ 0.3, 1e3, math.huge } do
      local function build()
        torch.manual_seed(2)
        local p = torch.randn(50, on_device):requires_grad_()
        local x = torch.randn(50, on_device)
        return p, x, torch.optim.SGD({ p }, { lr = 0.1 })
      end
      local p, x, opt = build()
      local q, y, other = build()
      local step = graphed(function()
        opt:zero_grad();
        (p * x):sum():backward()
        local norm = torch.optim.clip_grad_norm_(p, limit, { as_tensor = true })
        opt:step()
        return norm, (torch.optim.grad_norm(p, { as_tensor = true }))
      end)
      for i = 1, 3 do
        x:mul_(i)
        y:mul_(i)
        local norm, after = step()
        other:zero_grad();
        (q * y):sum():backward()
        assert.are.equal(torch.optim.clip_grad_norm_(q, limit), norm:item())
        assert.are.equal(torch.optim.grad_norm(q), after:item())
        other:step()
        assert.is_true(torch.equal(p:detach(), q:detach()))
      end
    end
  end)

  it('refuses what waits for the device or comes from the host, and names it', function()
    local x, m = torch.randn(4, on_device), torch.ones(4, { dtype = 'bool', device = 'cuda' })
    local p = torch.randn(3, on_device):requires_grad_()
    p.grad = torch.ones(3, on_device)
    for name, fn in pairs{
      item = function() return x:sum():item() end,
      totable = function() return x:totable() end,
      copy = function() return x:cpu() end,
      masked_select = function() return x[m] end,
      allclose = function() return torch.equal(x, x) end,
      synchronize = function() cuda.synchronize() end,
      grad_norm = function() return torch.optim.grad_norm{ p } end,
      has_non_finite = function() return torch.optim.has_non_finite{ x } end,
      ["on_nonfinite = 'skip'"] = function() torch.optim.SGD({ p }, { lr = 1, on_nonfinite = 'skip' }):step() end,
      ['brings values from the host'] = function() return torch.tensor({ 1, 2 }, on_device) end,
      manual_seed = function() torch.manual_seed(1) end,
      randperm = function() return torch.randperm(5, on_device) end,
      ['default generator'] = function() return torch.rand(3, { device = 'cuda', generator = torch.Generator(4) }) end,
      ['one capture'] = function() cuda.CUDAGraph():capture(function() end) end,
    } do
      assert.fails(function() cuda.CUDAGraph():capture(fn) end, name)
      assert.is_nil(native.capture)
    end
    -- The device is as good as before.
    assert.are.equal(4, m:sum():item())
    assert.are.same({ 1, 1, 1 }, p.grad:totable())
    assert.fails(function() cuda.CUDAGraph():replay() end, 'nothing was captured')
    assert.fails(function() cuda.graph(3) end, 'graph: fn')
    assert.fails(function() cuda.graph(function() end)(x) end, 'no arguments')
  end)

  it('does nothing before its first launch, then the same to the same memory', function()
    local x, g = torch.tensor({ 1, 2, 3 }, on_device), new_graph()
    local y = g:capture(function()
      x:add_(1)
      return x * 2
    end)
    assert.are.same({ 1, 2, 3 }, x:totable())
    g:replay()
    assert.are.same({ 4, 6, 8 }, y:totable())
    g:replay()
    assert.are.same({ 3, 4, 5 }, x:totable())
    assert.are.same({ 6, 8, 10 }, y:totable())
    x:fill_(0)
    g:replay()
    assert.are.same({ 2, 2, 2 }, y:totable())
  end)

  it('keeps its memory to itself: what it freed while it was captured is nobody else\'s', function()
    local x, g = torch.ones(1000, on_device), new_graph()
    cuda.empty_cache()
    local before = cuda.memory_reserved()
    local y = g:capture(function()
      local z = x
      for _ = 1, 6 do
        z = z + 1
        collectgarbage()
      end
      return z
    end)
    -- Reused inside: six results take the room of two or three.
    assert.is_true(g:memory() - 65536 <= 4 * 4096, g:memory())
    assert.is_true(cuda.memory_reserved() > before + g:memory() - 512)     -- y counts as its own bytes
    local others = {}
    for i = 1, 8 do others[i] = torch.full({ 1000 }, i, on_device) end
    g:replay()
    assert.are.equal(7000, y:sum():item())
    for i = 1, 8 do assert.are.equal(i * 1000, others[i]:sum():item()) end
    cuda.empty_cache()
    g:replay()
    assert.are.equal(7000, y:sum():item())
    -- What a tensor holds stays when the graph goes.
    g:reset()
    collectgarbage()
    for i = 1, 8 do others[i] = torch.full({ 1000 }, i, on_device) end
    assert.are.equal(7000, y:sum():item())
    assert.are.equal(0, g:memory())
  end)

  it('keeps memory that was freed while it was captured', function()
    local x, g = torch.full({ 500 }, 3, on_device), new_graph()
    local y = g:capture(function()
      local z = x + 1
      x = nil
      collectgarbage()
      collectgarbage()
      return z
    end)
    local other = torch.full({ 500 }, 9, on_device)
    g:replay()
    assert.are.equal(2000, y:sum():item())
    assert.are.equal(4500, other:sum():item())
  end)

  it('draws other numbers at every launch, the ones of ordinary calls', function()
    local function draw()
      local dropped = F.dropout(torch.ones(40, on_device), 0.5)
      return torch.rand(5, on_device), torch.randn(4, on_device), torch.randint(1, 9, { 6 }, on_device), dropped
    end
    torch.manual_seed(3)
    local expected = {}
    for i = 1, 3 do expected[i] = { draw() } end
    torch.manual_seed(3)
    local step, seen = graphed(draw, { warmup = 0 }), {}
    for i = 1, 3 do
      for k, t in ipairs{ step() } do
        assert.is_true(torch.equal(t, expected[i][k]), ('draw %d, tensor %d'):format(i, k))
        seen[k] = t
      end
    end
    torch.manual_seed(3)
    step()
    assert.is_true(torch.equal(seen[1], expected[1][1]))
  end)

  it('does not believe what was known of a mask before, nor is it believed afterwards', function()
    local net = nn.Sequential(nn.MaskedConv1d(2, 3, 3), nn.MaskedConv1d(3, 2, 3)):to(on_device)
    local x, m = torch.randn(1, 2, 9, on_device), torch.ones(1, 1, 9, { dtype = 'uint8', device = 'cuda' })
    local function fn() return (net(x, m)) end
    torch.no_grad(function()
      local step = graphed(fn)
      step()                -- the host knows now that the mask is full
      step()
      local holes = torch.tensor({ { { 1, 1, 0, 0, 0, 0, 1, 1, 1 } } }, { dtype = 'uint8' })
      m:copy_(holes)
      local y = step():clone()
      assert.is_true(torch.equal(y, fn()))
      m:fill_(1)
      local full = fn()
      assert.is_true(torch.equal(full, step()))
      assert.is_false(torch.equal(y, full))
    end)
  end)

  it('raises what kernels recorded after a launch', function()
    local table_of, index = torch.randn(5, 2, on_device), torch.ones(3, { dtype = 'int64', device = 'cuda' })
    local step = graphed(function() return F.embedding(index, table_of) end, { warmup = 0 })
    assert.are.equal(3, step():size(1))
    cuda.synchronize()
    index:fill_(6)
    step()
    assert.fails(function() cuda.synchronize() end, 'index 6')
    index:fill_(5)
    step()
    cuda.synchronize()
  end)

  it('moves averages of weights like ordinary updates', function()
    local p = torch.randn(5, on_device)
    local a, b = torch.optim.EMA({ p }, { decay = 0.9, warmup = true }), torch.optim.EMA({ p }, { decay = 0.9, warmup = true })
    local step = graphed(function() a:update() end)
    for i = 1, 4 do
      p:mul_(i)
      step()
      b:update()
      assert.are.equal(i, a.updates)
      assert.is_true(torch.equal(a.averages[1], b.averages[1]))
    end
  end)

  it('says that the optimiser\'s state was replaced', function()
    local p = torch.randn(3, on_device):requires_grad_()
    p.grad = torch.ones(3, on_device)
    local opt = torch.optim.Adam{ p }
    local step = graphed(function() opt:step() end)
    step()
    step()
    assert.are.equal(2, opt.state[1].step)
    opt:load_state_dict(opt:state_dict())
    assert.fails(function() step() end, 'Adam', 'capture it again')
    assert.are.equal(2, opt.state[1].step)
  end)
end)

describe('a gradient that is not finite', function()
  after_each(forget)

  local function build()
    local p = torch.ones(4, on_device):requires_grad_()
    return p, torch.optim.Adam({ p }, { lr = 0.5 })
  end

  it('changes nothing and is raised later, without waiting', function()
    local p, opt = build()
    p.grad = torch.tensor({ 1, 0 / 0, 1, 1 }, on_device)
    assert.fails(function()
      opt:step()
      opt:step()
    end, 'parameter 1', 'NaN or infinity', 'on_nonfinite')
    assert.are.same({ 1, 1, 1, 1 }, p:detach():totable())
    p.grad = torch.ones(4, on_device)
    opt:step()
    assert.is_true(p:detach():totable()[1] < 1)
    p.grad:fill_(math.huge)
    opt:step()
    assert.fails(function() p:detach():totable() end, 'parameter 1')
  end)

  it('is found in a graph too', function()
    local p, opt = build()
    p.grad = torch.ones(4, on_device)
    local step = graphed(function() opt:step() end)
    step()
    step()
    local before = p:detach():totable()
    p.grad:fill_(0 / 0)
    assert.fails(function()
      step()
      step()
    end, 'parameter 1', 'NaN or infinity')
    assert.are.same(before, p:detach():totable())
  end)
end)
