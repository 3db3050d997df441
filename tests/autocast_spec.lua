--- torch.autocast: what is computed in bfloat16, what stays float32, and that training with it is like training without. On the CPU, or on
-- the device that MASKED_TORCH_TEST_DEVICE names.
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local nn, F = torch.nn, torch.nn.functional

local device = os.getenv 'MASKED_TORCH_TEST_DEVICE' or 'cpu'
local kind = device:match('^[^:]*')

local function autocast(fn, ...) return torch.autocast(kind, fn, ...) end
local function randn(...) return torch.randn(...):to(device) end

local function relative(expected, got)
  local d = (expected:double() - got:double()):norm():item()
  return d / math.max(1e-30, expected:double():norm():item())
end

local function near(expected, got, limit)
  local e = relative(expected, got)
  assert(e <= (limit or 1e-2), ('relative error %.3g > %.3g'):format(e, limit or 1e-2))
end

-- A masked network with every kind of layer on the way of the language model and of the classifier.
local function network()
  torch.manual_seed(5)
  return nn.MaskedSequential{ nn.ApplyMask(), nn.MaskedUnshuffle1d(2), nn.MaskedConv1d(8, 12, 3, { padding = 1 }), nn.Masked(nn.ReLU()),
    nn.MaskedBatchNorm1d(12), nn.MaskConv1d(12, 10, 3, { padding = 1, reweight = 'count', alpha = 0.5, border = true }),
    nn.Masked(nn.GELU()), nn.MaskedSpatialMean(), nn.Linear(10, 5) }:to(device)
end

local function batch()
  torch.manual_seed(6)
  return randn(6, 4, 16), torch.mask.lengths(torch.tensor({ 16, 10, 4, 2, 14, 8 }, { dtype = 'int64' }):to(device), 16),
    torch.tensor({ 1, 3, 5, 2, 2, 4 }, { dtype = 'int64' }):to(device)
end

describe('autocast', function()
  it('multiplies in bfloat16 and sums in float32', function()
    local x, w = randn(3, 4), randn(5, 4)
    local conv = nn.Conv2d(2, 3, 3):to(device)
    autocast(function()
      assert.equal('bfloat16', F.linear(x, w).dtype)
      assert.equal('bfloat16', x:matmul(w:transpose(1, 2)).dtype)
      assert.equal('bfloat16', conv(randn(1, 2, 5, 5)).dtype)
      assert.equal('bfloat16', nn.ConvTranspose1d(2, 3, 2):to(device)(randn(1, 2, 5)).dtype)
      local y = F.linear(x, w)
      assert.equal('bfloat16', F.relu(y).dtype)
      assert.equal('bfloat16', (y * 2 + y).dtype)
      assert.equal('float32', (y + randn(5)).dtype)
      assert.equal('bfloat16', nn.LayerNorm(5):to(device)(y).dtype)
      assert.equal('float32', y:sum().dtype)
      assert.equal('float32', y:softmax(2).dtype)
      assert.equal('float32', F.cross_entropy(y, torch.tensor({ 1, 2, 3 }, { dtype = 'int64' }):to(device)).dtype)
      assert.equal('float32', F.mse_loss(y, randn(3, 5)).dtype)
      assert.equal('float64', F.linear(x:double(), w:double()).dtype)
      assert.same_bits(y:float():argmax(2), y:argmax(2))
    end)
    assert.equal('float32', F.linear(x, w).dtype)
  end)

  it('is the product of the rounded operands, summed in float32 and rounded once', function()
    local x, w, b = randn(7, 33), randn(6, 33), randn(6)
    local y = autocast(F.linear, x, w, b)
    local exact = F.linear(x:bfloat16():double(), w:bfloat16():double(), b:double())
    near(exact, y, 2 ^ -8)
    assert.is_true((exact - y:double()):abs():max():item() <= 2 ^ -8 * exact:abs():max():item())
  end)

  it('is for one kind of device, ends with the call and with an error', function()
    local other = kind == 'cpu' and 'cuda' or 'cpu'
    local x, w = randn(3, 4), randn(5, 4)
    assert.equal('float32', torch.autocast(other, F.linear, x, w).dtype)
    assert.same({ false, true, false }, autocast(function()
      return { torch.is_autocast_enabled(other), torch.is_autocast_enabled(kind), torch.autocast(kind, { enabled = false }, function()
        return torch.is_autocast_enabled(kind)
      end) }
    end))
    assert.fails(function() autocast(error, 'here') end, 'here')
    assert.is_false(torch.is_autocast_enabled(kind))
    assert.equal('float32', F.linear(x, w).dtype)
    assert.same({ 1, 2 }, { autocast(function(a, b) return a, b end, 1, 2) })
    assert.fails(function() torch.autocast('tpu', print) end, "autocast: device: expected 'cpu' or 'cuda', got \"tpu\"")
    assert.fails(function() torch.autocast(kind, { dtype = 'float16' }, print) end, "autocast: dtype: expected 'bfloat16'")
    assert.fails(function() torch.autocast(kind, { enable = true }, print) end, 'enable', 'enabled')
    assert.fails(function() torch.autocast(kind, 3) end, 'autocast: fn: expected a function')
    assert.fails(function() F.linear(x:bfloat16(), w) end, 'linear: weight', 'float32')
  end)

  it('converts a weight once, and again when it has changed', function()
    local w = randn(5, 4):requires_grad_()
    local function graph_of(y) return y.grad_fn[2] end     -- what made the weight of the product
    autocast(function()
      local x = randn(2, 4)
      local first = graph_of(F.linear(x, w))
      assert.equal(first, graph_of(F.linear(x, w)))
      autocast(function() assert.equal(first, graph_of(F.linear(x, w))) end)
      assert.equal(first, graph_of(F.linear(x, w)))
      torch.no_grad(function() w:fill_(2) end)
      local y = F.linear(torch.ones(1, 4):to(device), w)
      assert.not_equal(first, graph_of(y))
      assert.equal(8, y[{ 1, 1 }])
      first = graph_of(y)
      torch.autocast(kind, { cache_enabled = false }, function() assert.not_equal(first, graph_of(F.linear(x, w))) end)
    end)
    local x, kept = randn(2, 4), nil
    autocast(function()
      torch.no_grad(function() kept = F.linear(x, w) end)
      assert.is_nil(kept.grad_fn)
      assert.truthy(graph_of(F.linear(x, w)))     -- a copy without history is not taken where one is wanted
      kept = graph_of(F.linear(x, w))
    end)
    autocast(function() assert.not_equal(kept, graph_of(F.linear(x, w))) end)
  end)

  it('keeps for backward what it computed with, and says when that was changed', function()
    local x, w = randn(3, 4):requires_grad_(), randn(5, 4):requires_grad_()
    local y = autocast(F.linear, x, w)
    for i = 1, 3, 2 do assert.equal('bfloat16', y.grad_fn.kept[i].dtype) end
    local a = randn(3, 4):bfloat16():requires_grad_()
    local b = a * 1
    local c = b:tanh()
    assert.equal('bfloat16', c.grad_fn.kept[1].dtype)
    torch.no_grad(function() c:fill_(0) end)
    assert.fails(function() c:sum():backward() end, 'tanh', 'changed in place')
    local d = b:square()
    d:sum():backward({ retain_graph = true })
    local first = a.grad:clone()
    d:sum():backward()
    near(first * 2, a.grad, 2 ^ -8)
    assert.fails(function() d:sum():backward() end, 'freed')
  end)

  it('gives results and gradients near those of float32', function()
    local net = network()
    local x, mask, target = batch()
    x:requires_grad_()
    local function run(fn)
      net:zero_grad()
      x.grad = nil
      local y = fn(function() return (net(x, mask)) end)
      local loss = fn(F.cross_entropy, y, target)
      loss:backward()
      local gradients = { x.grad:clone() }
      for _, p in net:named_parameters() do gradients[#gradients + 1] = p.grad:clone() end
      return y:detach(), loss:item(), gradients
    end
    local y, loss, gradients = run(function(fn, ...) return fn(...) end)
    local y16, loss16, gradients16 = run(autocast)
    near(y, y16)
    assert.is_true(math.abs(loss - loss16) <= 1e-2 * loss)
    for i = 1, #gradients do
      assert.equal('float32', gradients16[i].dtype)
      near(gradients[i], gradients16[i], 3e-2)
    end
  end)

  it('keeps the promises: padding and what lies under masks change no bit', function()
    local net = network():eval()
    local x, mask = batch()
    local function logits(input, m) return torch.no_grad(function() return autocast(function() return (net(input, m)) end) end) end
    local y = logits(x, mask)
    local hidden = mask:tensor('bool')
    assert.same_bits(y, logits(torch.where(hidden, x, 1e30), mask))
    local wide = F.pad(x, { 0, 8 })
    local lengths = torch.tensor({ 16, 10, 4, 2, 14, 8 }, { dtype = 'int64' }):to(device)
    assert.same_bits(y, logits(wide, torch.mask.lengths(lengths, 24)))
    for i = 1, 6 do
      local alone = torch.mask.lengths(lengths:narrow(1, i, 1), 16)
      assert.same_bits(y:narrow(1, i, 1):clone(), logits(x:narrow(1, i, 1), alone))
    end
  end)

  it('trains like float32, with float32 weights and checkpoints', function()
    local function train(wrap)
      local net = network()
      local optimizer = torch.optim.Adam(net:parameters(), { lr = 1e-2 })
      local x, mask, target = batch()
      local losses = {}
      for step = 1, 25 do
        optimizer:zero_grad()
        local loss = wrap(function() return F.cross_entropy((net(x, mask)), target) end)
        loss:backward()
        optimizer:step()
        losses[step] = loss:item()
      end
      return losses, net
    end
    local single = train(function(fn) return fn() end)
    local half, net = train(autocast)
    assert.is_true(single[25] < 0.5 * single[1])
    for step = 1, 25 do
      assert.is_true(math.abs(single[step] - half[step]) <= 0.03 * single[1], ('step %d: %g, %g'):format(step, single[step], half[step]))
    end
    local path = scratch.path()
    torch.io.safetensors.save(path, net:state_dict())
    local again = network()
    again:load_state_dict((torch.io.safetensors.load(path)))
    for name, p in net:named_parameters() do
      assert.equal('float32', p.dtype)
      assert.same_bits(p:detach():cpu(), again:state_dict()[name]:cpu())
    end
    local rerun = train(autocast)
    assert.same(half, rerun)
  end)
end)

describe('arithmetic on bfloat16', function()
  local function of(values) return torch.tensor(values, { dtype = 'bfloat16' }):to(device) end

  it('rounds results, not numbers', function()
    assert.same({ 0.10009765625 }, of{ 1 }:mul(0.1):totable())
    assert.same({ 201 }, of{ 200 }:mul(1.003):totable())       -- 1.003 has no bfloat16 but 1
    assert.equal('bfloat16', (1 - of{ 3 }).dtype)
    assert.equal('bfloat16', of{ 3 }:pow(2).dtype)
    assert.equal('float32', (of{ 3 } + torch.ones(1):to(device)).dtype)
    assert.equal('float64', (of{ 3 } + torch.ones(1, { dtype = 'float64' }):to(device)).dtype)
    assert.equal('bfloat16', (of{ 3 } + torch.ones(1, { dtype = 'int64' }):to(device)).dtype)
    assert.same({ true, false }, of{ 1, 2 }:lt(1.001):totable())
    assert.same({ 1, 2 }, torch.where(of{ 1, 0 }:ne(0), of{ 1, 1 }, 2):totable())
  end)

  it('works in place, and adds gradients to a leaf', function()
    local x = of{ 1, -2 }
    assert.same({ 2, 0 }, x:add_(1):relu_():totable())
    x:mul_(of{ 3, 3 })
    assert.same({ 6, 0 }, x:totable())
    local y = of{ 1, 2 }:requires_grad_()
    local z = y * 1
    z:add_(y)
    z:sum():backward()
    y:sum():backward()
    assert.equal('bfloat16', y.grad.dtype)
    assert.same({ 3, 3 }, y.grad:totable())
    local w = of{ 1, 2, 3, 4 }
    w[{ { 2, 3 } }] = torch.ones(2):to(device) * 9
    w[w:gt(8)] = 0
    assert.same({ 1, 0, 0, 4 }, w:totable())
    local logits = of{ { 1, 2, 3 } }:requires_grad_()
    local moved = logits * 1
    F.cross_entropy(moved, torch.tensor({ 2 }, { dtype = 'int64' }):to(device), { inplace = true }):backward()
    assert.equal('bfloat16', logits.grad.dtype)
    near(torch.tensor({ { 0.0900, -0.7553, 0.6652 } }):to(device), logits.grad)
  end)

  it('leaves a function of the user its tensors, and an operation the copy that it gives away', function()
    local seen
    local twice = torch.Function{ name = 'twice', forward = function(_, x)
      seen = x.dtype
      return x * 2
    end, backward = function(_, dy) return dy * 2 end }
    local x = of{ 1, 2 }:requires_grad_()
    local y = twice(x)
    y:sum():backward()
    assert.same({ 'bfloat16', 'bfloat16' }, { seen, y.dtype })
    assert.same({ 2, 2 }, x.grad:totable())
    local same = torch.autograd.operation{ name = 'same', bfloat16 = 'float32', forward = function(_, a) return a end,
      backward = function(_, dy) return dy end }
    local wide = same(x:detach())
    assert.equal('float32', wide.dtype)
    assert.same({ 1, 2 }, wide:totable())
  end)

  it('goes through views, which share memory', function()
    local x = of{ { 1, 2 }, { 3, 4 } }
    local view = x:transpose(1, 2):reshape(4)
    x:view(4):narrow(1, 2, 1):fill_(7)
    assert.equal(7, x[{ 1, 2 }])
    assert.same({ 1, 3, 2, 4 }, view:totable())
    local y = of{ 1, 2 }:requires_grad_()
    y:unsqueeze(1):expand(300, 2):sum():backward()
    assert.same({ 300, 300 }, y.grad:totable())
  end)
end)
