local torch = require 'masked_torch'

local function leaf(data) return torch.tensor(data, { dtype = 'float64', requires_grad = true }) end

describe('backward', function()
  it('walks a chain of 100000 operations', function()
    local x = leaf{ 1, 2 }
    local y = x
    for _ = 1, 100000 do y = y + 1 end
    y:sum():backward()
    assert.near_tensor({ 1, 1 }, x.grad)
  end)

  it('adds over the branches of a diamond', function()
    local x = leaf{ 3, -2 }
    local a = x * 2
    local b, c = a * a, a + x
    torch.sum(b * c):backward()   -- 4 x^2 * 3 x
    assert.near_tensor({ 36 * 9, 36 * 4 }, x.grad)
  end)

  it('adds over calls', function()
    local x = leaf{ 1, 2 }
    local y = (x * x):sum()
    y:backward{ retain_graph = true }
    y:backward{ retain_graph = true }
    assert.near_tensor({ 4, 8 }, x.grad)
    y:backward(nil, { retain_graph = false })
    assert.near_tensor({ 6, 12 }, x.grad)
  end)

  it('frees the graph, and says so', function()
    local x = leaf{ 1, 2 }
    local y = (x * x):sum()
    y:backward()
    assert.fails(function() y:backward() end, 'the graph was freed by an earlier backward', 'retain_graph = true')
    local once = x * 3            -- nothing saved: freed all the same
    once:sum():backward()
    assert.near_tensor({ 5, 7 }, x.grad)
  end)

  it('needs a gradient for more than one element', function()
    local x = leaf{ { 1, 2 }, { 3, 4 } }
    assert.fails(function() (x * 2):backward() end, 'backward: the tensor (2, 2) has more than one element')
    assert.fails(function() (x * 2):backward(torch.ones(2)) end, 'backward: gradient: expected (2, 2) float64, got (2) float32')
    assert.fails(function() torch.ones(1):backward() end, 'does not require a gradient')
    torch.mul(x, 2):backward(torch.ones(2, 2, { dtype = 'float64' }))
    assert.near_tensor({ { 2, 2 }, { 2, 2 } }, x.grad)
    local one = leaf(5)
    one:backward()
    assert.are.equal(1, one.grad:item())
  end)

  it('gives every leaf a gradient of its own', function()
    local a, b = leaf{ 1, 2 }, leaf{ 3, 4 }
    local upstream = torch.ones(2, { dtype = 'float64' })
    local y = a + b
    y:retain_grad()
    y:backward(upstream)
    a.grad:mul_(10)
    assert.near_tensor({ 10, 10 }, a.grad)
    assert.near_tensor({ 1, 1 }, b.grad)
    assert.near_tensor({ 1, 1 }, y.grad)
    assert.near_tensor({ 1, 1 }, upstream)
    local c = leaf{ { 1, 2 } }
    c:t():view(2):backward(upstream)
    c.grad:mul_(3)
    assert.near_tensor({ 1, 1 }, upstream)
    local d, e = leaf(1), leaf(2)
    torch.stack{ d, e, d }:sum():backward()
    d.grad:mul_(7)
    assert.are.equal(14, d.grad:item())
    assert.are.equal(1, e.grad:item())
  end)

  it('leaves every gradient as it was when it fails', function()
    local a, b = leaf{ 1, 2 }, leaf{ 3, 4 }
    local e = b:exp()
    local y = (a * 2 + e):sum()
    torch.no_grad(function() e:zero_() end)
    assert.fails(function() y:backward() end, 'exp')
    assert.is_nil(a.grad)
    assert.is_nil(b.grad)
  end)
end)

describe('in-place changes', function()
  it('of a saved tensor are found', function()
    local x = leaf{ 1, 2 }
    local y = x:exp()
    local z = y:sum()
    y:mul_(2)
    assert.fails(function() z:backward() end, 'exp: backward: the tensor (2), saved by exp, was changed in place since',
      'version 0, now 1')
  end)

  it('through a view are found', function()
    local x = leaf{ 1, 2 }
    local y = x:exp()
    torch.no_grad(function() y:view(2, 1):zero_() end)
    assert.fails(function() y:sum():backward() end, 'was changed in place since')
  end)

  it('of a leaf are refused while recording', function()
    local x = leaf{ 1, 2 }
    assert.fails(function() x:add_(1) end, 'add_: a leaf tensor that requires a gradient cannot be changed in place', 'no_grad')
    assert.near_tensor({ 1, 2 }, x)
    torch.no_grad(function() x:add_(1) end)
    assert.near_tensor({ 2, 3 }, x)
    assert.is_true(x.requires_grad)
    assert.is_nil(x.grad_fn)
  end)

  it('are differentiated', function()
    local x = leaf{ 1, 2 }
    local y = x * 1
    y:mul_(x)
    y:add_(x)
    y:sum():backward()
    assert.near_tensor({ 3, 5 }, x.grad)
    local w, z = leaf{ 2, 3 }, torch.ones(2, { dtype = 'float64' })
    z:mul_(w)
    z:sum():backward()
    assert.near_tensor({ 1, 1 }, w.grad)
  end)

  it('of a view of the graph are refused', function()
    local x = leaf{ { 1, 2 }, { 3, 4 } }
    local y = x * 2
    assert.fails(function() y:t():add_(1) end, 'add_: the view of a tensor in the graph cannot be changed in place')
    assert.fails(function() x:view(4):add_(1) end, 'add_', 'in place')
    assert.fails(function() torch.zeros(2, 2):select(1, 1):copy_(x:select(1, 1)) end, 'copy_: the view (2) cannot be changed')
    local w = torch.zeros(2, 2, { dtype = 'float64' })
    assert.fails(function() w:t():add_(x) end, 'add_: the view (2, 2) cannot be changed')
  end)

  it('of a base make its older views useless', function()
    local x = leaf{ 1, 2 }
    local y = x * 2
    local view = y:view(2, 1)
    y:mul_(3)
    assert.fails(function() return view * 1 end, 'mul: the tensor (2, 1) is a view whose base was changed in place since')
    assert.fails(function() view:sum() end, 'sum: the tensor (2, 1) is a view')
    y:view(2, 1):sum():backward()
    assert.near_tensor({ 6, 6 }, x.grad)
    local plain = torch.zeros(2, { dtype = 'float64' })
    local part = plain:narrow(1, 1, 1)
    plain:add_(x)
    assert.fails(function() return part + 1 end, 'is a view whose base was changed')
    local free = torch.zeros(2)
    local half = free:narrow(1, 1, 1)
    free:add_(1)                  -- no history: views go on
    assert.are.equal(2, (half + 1)[1])
  end)
end)

describe('recording', function()
  it('stops in no_grad and comes back after an error', function()
    local x = leaf{ 1, 2 }
    local y = torch.no_grad(function() return x * 2 end)
    assert.is_false(y.requires_grad)
    assert.is_true(torch.is_grad_enabled())
    assert.fails(function() torch.no_grad(function() error('boom') end) end, 'boom')
    assert.is_true(torch.is_grad_enabled())
    assert.fails(function() return x * torch.ones(3) end, 'mul')
    assert.is_true(torch.is_grad_enabled())
    torch.no_grad(function()
      assert.is_true(torch.enable_grad(function() return (x * 2).requires_grad end))
      assert.is_false(torch.is_grad_enabled())
    end)
    assert.are.same({ 1, 2, 3 }, { torch.no_grad(function(...) return ... end, 1, 2, 3) })
    torch.set_grad_enabled(false)
    assert.is_false((x * 2).requires_grad)
    torch.set_grad_enabled(true)
  end)

  it('is for floating point only', function()
    assert.fails(function() torch.tensor({ 1 }, { dtype = 'int64' }):requires_grad_() end,
      'requires_grad_: only float32 and float64 tensors have gradients, this one is int64')
    assert.fails(function() torch.ones(1, { dtype = 'bool' }):requires_grad_() end, 'bool')
    local x = leaf{ 1, 2 }
    assert.is_false(x:gt(1).requires_grad)
    assert.is_nil(x:to('int64').grad_fn)
    assert.fails(function() (x * 2):requires_grad_(false) end, 'requires_grad_: the tensor is the result of mul; use :detach()')
  end)

  it('ends at detach', function()
    local x = leaf{ 1, 2 }
    local d = (x * 2):detach()
    assert.is_false(d.requires_grad)
    assert.is_nil(d.grad_fn)
    assert.is_true(x:is_leaf())
    assert.is_false((x * 2):is_leaf())
    torch.sum(x * d):backward()
    assert.near_tensor({ 2, 4 }, x.grad)
  end)
end)

describe('hooks', function()
  it('see and change gradients', function()
    local x = leaf{ 1, 2 }
    local seen = {}
    local y = x * 3
    local remove = y:register_hook(function(g)
      seen[#seen + 1] = g:totable()
      return g * 10
    end)
    y:sum():backward{ retain_graph = true }
    assert.are.same({ { 1, 1 } }, seen)
    assert.near_tensor({ 30, 30 }, x.grad)
    remove()
    y:sum():backward()
    assert.near_tensor({ 33, 33 }, x.grad)
    assert.are.equal(1, #seen)
  end)

  it('of a leaf see the complete gradient once', function()
    local x = leaf{ 1, 2 }
    local calls = 0
    x:register_hook(function(g)
      calls = calls + 1
      return g:clamp(-1, 1)
    end)
    torch.add((x * 3):sum(), (x * 4):sum()):backward()
    assert.are.equal(1, calls)
    assert.near_tensor({ 1, 1 }, x.grad)
  end)

  it('must return a gradient of the same shape', function()
    local x = leaf{ 1, 2 }
    x:register_hook(function() return 3 end)
    assert.fails(function() (x * 2):sum():backward() end, 'register_hook', 'number', '(2) float64')
    assert.fails(function() torch.ones(1):register_hook(print) end, 'does not require a gradient')
    assert.fails(function() x:register_hook(3) end, 'register_hook: hook: expected a function, got 3')
  end)

  it('are removed one by one', function()
    local x = leaf{ 1, 2 }
    local function double(g) return g * 2 end
    local remove = x:register_hook(double)
    x:register_hook(double)
    remove()
    remove()
    x:sum():backward()
    assert.near_tensor({ 2, 2 }, x.grad)
    x.grad = torch.ones(3)
    assert.fails(function() x:sum():backward() end, 'backward: the .grad of a leaf was replaced by (3) float32', '(2) float64')
  end)

  it('keep the gradient of a result', function()
    local x = leaf{ 1, 2 }
    local y = (x * x):retain_grad():retain_grad()
    torch.sum(y * 3):backward()
    assert.near_tensor({ 3, 3 }, y.grad)
    assert.near_tensor({ 6, 12 }, x.grad)
  end)
end)

describe('torch.Function', function()
  local Cube = torch.Function{
    name = 'cube',
    forward = function(ctx, x, scale)
      assert(not torch.is_grad_enabled())
      ctx:save(x)
      ctx.scale = scale
      return x * x * x * scale
    end,
    backward = function(ctx, dy)
      local x = ctx:saved()
      return dy * x * x * (3 * ctx.scale), nil
    end,
  }

  it('defines differentiable functions', function()
    local x = leaf{ 1, -2 }
    local y = Cube(x, 2)
    assert.near_tensor({ 2, -16 }, y)
    assert.are.equal('<cube_backward>', tostring(y.grad_fn))
    assert.is_true((torch.gradcheck(function(a) return Cube(a, 0.5) end, { x })))
    assert.is_nil(torch.autograd.registry.cube)
    assert.is_false(Cube(x:detach(), 1).requires_grad)
  end)

  it('takes several arguments and outputs', function()
    local Split = torch.Function{
      name = 'split_sum',
      forward = function(ctx, a, b)
        local order = a:gt(b)
        ctx:mark_non_differentiable(order)
        return a + b, a - b, order
      end,
      backward = function(ctx, ds, dd, dorder)
        assert(dorder == nil)
        local a = ctx.needs[1] and (ds and dd and ds + dd or ds or dd) or nil
        local b = ctx.needs[2] and (ds and dd and ds - dd or ds or -dd) or nil
        return a, b
      end,
    }
    local a, b = leaf{ 1, 2 }, leaf{ 5, 1 }
    local s, d, order = Split(a, b)
    assert.is_false(order.requires_grad)
    torch.sum(s * 2 + d):backward()
    assert.near_tensor({ 3, 3 }, a.grad)
    assert.near_tensor({ 1, 1 }, b.grad)
    local _, only = Split(a, b:detach())
    only:sum():backward()
    assert.near_tensor({ 4, 4 }, a.grad)
  end)

  it('copies arguments that come back, and gradients that are kept tensors', function()
    local Same = torch.Function{ name = 'same',
      forward = function(ctx, x, w)
        ctx:save(w)
        return x:t()
      end,
      backward = function(ctx) return ctx:saved() end }
    local x, w = leaf{ { 1, 2 } }, torch.ones(1, 2, { dtype = 'float64' })
    local y = Same(x, w)
    y:mul_(2)
    assert.near_tensor({ { 1, 2 } }, x)
    y:sum():backward()
    x.grad:zero_()
    assert.near_tensor({ { 1, 1 } }, w)
  end)

  it('may return views of what it made', function()
    local Pair = torch.Function{ name = 'pair',
      forward = function(_, x) return torch.stack{ x, x }:view(-1) end,
      backward = function(_, dy) return dy:view(2, -1):sum(1) end }
    local x = leaf{ 1, 2 }
    local y = Pair(x)
    y:mul_(3)
    y:sum():backward()
    assert.near_tensor({ 3, 6, 3, 6 }, y)
    assert.near_tensor({ 6, 6 }, x.grad)
  end)

  it('names itself in errors', function()
    local x = leaf{ 1, 2 }
    local function with(backward, forward)
      return torch.Function{ name = 'mine', forward = forward or function(_, a, b) return a + b end, backward = backward }
    end
    assert.fails(function() with(function(_, g) return g end)(x, x):sum():backward() end,
      'mine: backward: expected 2 gradients', 'got 1')
    assert.fails(function() with(function(_, g) return g, g, g end)(x, x):sum():backward() end, 'mine: backward', 'got 3')
    assert.fails(function() with(function(_, g) return g, 3 end)(x, x):sum():backward() end,
      'mine: backward: gradient 2', 'number')
    assert.fails(function() with(function(_, g) return g, g:sum() end)(x, x):sum():backward() end,
      'mine: backward: gradient 2: expected (2) float64, got () float64')
    assert.fails(function() with(function() error('boom') end)(x, x):sum():backward() end, 'boom', 'mine')
    assert.fails(function() with(print, function() error('bang') end)(x) end, 'bang', 'mine')
    assert.fails(function() with(print, function() end)(x) end, 'mine: forward: expected it to return a tensor, got nothing')
    assert.fails(function() torch.Function{ forward = print } end, 'Function: backward: expected a function, got nil')
    assert.fails(function() torch.Function{ forwrd = print } end, "did you mean 'forward'?")
    assert.is_true(torch.is_grad_enabled())
    local y = x * 1
    local cube = Cube(y, 1)
    torch.no_grad(y.add_, y, 1)
    assert.fails(function() cube:sum():backward() end, 'cube: backward: the tensor (2), saved by cube, was changed in place')
    local used = Cube(x, 1):sum()
    used:backward()
    assert.fails(function() used:backward() end, 'freed')
  end)
end)

describe('gradcheck', function()
  it('finds a wrong gradient', function()
    local Wrong = torch.Function{ name = 'wrong',
      forward = function(_, x) return x * x end,
      backward = function(_, g) return g end }
    local ok, message = torch.gradcheck(Wrong, { leaf{ 1, 2 } })
    assert.is_false(ok)
    assert.is_truthy(message:find('relative error'))
    assert.is_true((torch.gradcheck(function(x) return x * x end, { leaf{ 1, 2 } })))
    assert.fails(function() torch.gradcheck(Wrong, { leaf{ 1 } }, { raise = true }) end, 'gradcheck')
    assert.fails(function() torch.gradcheck(Wrong, { torch.ones(2, { dtype = 'float64' }) }) end, 'gradcheck: no input requires a gradient')
    -- Nothing is left in the inputs.
    local x = leaf{ 1, 2 }
    torch.gradcheck(Wrong, { x })
    assert.is_nil(x.grad)
    x:sum():backward()
    local grad = x.grad
    assert.is_true((torch.gradcheck(function(t) return t * t end, { x })))
    assert.are.equal(grad, x.grad)
    assert.are.same({ 1, 1 }, grad:totable())
  end)
end)

describe('memory', function()
  it('of a graph is freed with its root', function()
    local function live()
      collectgarbage()
      collectgarbage()
      return require('masked_torch.native').cpu.mt_memory_blocks()
    end
    local before = live()
    local function train()
      local x = leaf{ 1, 2 }
      local y = x
      for _ = 1, 100 do y = (y * 2):view(2, 1):view(2) end
      y:sum():backward()
    end
    train()
    assert.is_true(live() <= before + 4)
  end)

  local function blocks() return require('masked_torch.native').cpu.mt_memory_blocks() end
  local function bytes() return torch.cpu.memory_allocated() end

  it('of gradients is freed as backward goes, without the collector', function()
    local x = torch.randn(1000, 100):requires_grad_()
    local y = x
    for i = 1, 20 do y = (i % 2 == 0 and y:exp() or y * 0.01) end
    local gradient = torch.ones(1000, 100)
    collectgarbage()
    collectgarbage('stop')
    finally(function() collectgarbage('restart') end)
    local before = bytes()
    y:backward(gradient)
    -- x.grad, and what the last operation had besides
    assert.is_true(bytes() - before <= 3 * 4e5 + 1e4, tostring(bytes() - before))
  end)

  it('of gradients that others hold is left alone', function()
    local x, kept, seen = leaf{ 1, 2, 3 }, nil, nil
    local Keeping = torch.Function{ name = 'keeping',
      forward = function(_, a) return a * 1 end,
      backward = function(_, g) kept = g return g end }
    local a = x * 2
    a:register_hook(function(g) seen = g end)
    local b = Keeping(a):exp():relu()
    local given = torch.ones(3, { dtype = 'float64' })
    b:backward(given)
    local expected = (x:detach() * 2):exp()
    assert.near_tensor({ 1, 1, 1 }, given)
    assert.near_tensor(expected:totable(), kept)
    assert.near_tensor(expected:totable(), seen)
    assert.near_tensor((expected * 2):totable(), x.grad)
  end)

  it('of one gradient that goes to several places stays intact', function()
    local x, z = leaf{ 1, 2 }, leaf{ 3, 4 }
    local s = x + z                       -- one gradient for both
    local y = s + x                       -- and once more for x
    torch.sum(y:exp() * z):backward()
    local e0, e1 = math.exp(5), math.exp(8)
    assert.near_tensor({ 2 * e0 * 3, 2 * e1 * 4 }, x.grad)
    assert.near_tensor({ e0 * 3 + e0, e1 * 4 + e1 }, z.grad)
  end)

  it('of a leaf\'s gradient is added to in place unless it is shared', function()
    local x = leaf{ 1, 2 }
    torch.sum(x * 3):backward()
    local first = x.grad
    local before = blocks()
    torch.sum(x * 3):backward()
    assert.are.equal(first, x.grad)
    assert.near_tensor({ 6, 6 }, x.grad)
    local view = x.grad:view(2, 1)
    torch.sum(x * 3):backward()
    assert.near_tensor({ { 6 }, { 6 } }, view)
    assert.near_tensor({ 9, 9 }, x.grad)
    assert.is_true(before > 0)
  end)

  it('of a retained graph gives the same gradients twice', function()
    local x = leaf{ 0.5, -2 }
    local y = torch.sum((x * x):tanh():relu() * x)
    y:backward{ retain_graph = true }
    local first = x.grad:clone()
    x.grad = nil
    y:backward()
    assert.same_bits(first, x.grad)
    assert.fails(function() y:backward() end, 'freed')
  end)
end)
