-- A convolution or norm and the activation behind it in a container: one operation, unless somebody looks.

local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local nn, Tensor = torch.nn, torch.Tensor

local function operation(y) return y.grad_fn.op.name end

local x4, x3, x2 = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 7), torch.randn(6, 4)
local x5 = torch.randn(2, 4, 3, 2, 3)
local layers = {
  { 'batch_norm', function() return nn.BatchNorm1d(4) end, x2 }, { 'batch_norm', function() return nn.BatchNorm1d(4) end, x3 },
  { 'batch_norm', function() return nn.BatchNorm2d(4) end, x4 }, { 'batch_norm', function() return nn.BatchNorm3d(4) end, x5 },
  { 'batch_norm', function() return nn.MaskedBatchNorm2d(4) end, x4 },
  { 'group_norm', function() return nn.GroupNorm(2, 4) end, x4 }, { 'group_norm', function() return nn.MaskedGroupNorm(2, 4) end, x3 },
  { 'group_norm', function() return nn.InstanceNorm2d(4, { affine = true }) end, x4 },
  { 'group_norm', function() return nn.MaskedInstanceNorm1d(4) end, x3 },
  { 'layer_norm', function() return nn.LayerNorm(7) end, x3 }, { 'layer_norm', function() return nn.MaskedLayerNorm(7) end, x3 },
  { 'rms_norm', function() return nn.RMSNorm(7) end, x3 },
  { 'conv', function() return nn.Conv1d(4, 5, 3) end, x3, 'masked_conv' },
  { 'conv', function() return nn.Conv2d(4, 5, 3, { padding = 1, padding_mode = 'circular' }) end, x4, 'masked_conv' },
  { 'conv', function() return nn.Conv3d(4, 5, 2, { bias = false }) end, x5, 'masked_conv' },
  { 'masked_conv', function() return nn.MaskedConv2d(4, 5, 3, { padding = 1 }) end, x4 },
  { 'masked_conv', function() return nn.PartialConv2d(4, 5, 3, { padding = 1 }) end, x4 },
  { 'masked_conv', function() return nn.PartialConv2d(4, 5, 3, { padding = 1, multichannel = true }) end, x4 },
  { 'masked_conv', function() return nn.HalfConv1d(4, 5, 3, { padding = 'same', learn_alpha = true }) end, x3 },
  { 'masked_conv', function() return nn.SubmanifoldConv2d(4, 5, 3) end, x4 },
}

local function randomise(net)
  torch.manual_seed(7)
  torch.no_grad(function()
    for _, p in ipairs(net:parameters()) do p:copy_(torch.randn(p:size()) + 0.5) end
  end)
end

-- Outputs, gradients, and the state after a step in training and one in evaluation.
local function results(net, x, mask)
  randomise(net)
  local all = {}
  for _, training in ipairs { true, false } do
    net:train(training):zero_grad()
    local z = x:detach():clone():requires_grad_()
    local y = net(z, mask)
    y:backward((y * y):detach() + 0.5)
    all[#all + 1], all[#all + 2] = y:detach(), z.grad
    for _, p in ipairs(net:parameters()) do all[#all + 1] = p.grad end
    for _, b in ipairs(net:buffers()) do all[#all + 1] = b:clone() end
  end
  return all
end

describe('nn.Sequential', function()
  it('runs an activation behind a norm by the formulas of masked_torch by itself: it clears what they leave under the mask', function()
    local net, mask = nn.Sequential{ nn.MaskedBatchNorm2d(4, { compat = true }), nn.ReLU() }, torch.rand(3, 4, 5, 6):lt(0.5):float()
    local y = net(x4:clone():requires_grad_(), mask)
    assert.equal('relu', operation(y))
    assert.same_bits(torch.zeros(3, 4, 5, 6), y:detach():masked_fill(mask:bool(), 0))
  end)

  it('runs an activation by itself behind a convolution whose result no mask gates', function()
    local mask = torch.mask.lengths({ 7, 2, 1 }, 7)
    for _, layer in ipairs{ nn.SparseConv1d(4, 5, 3, { padding = 1 }), nn.NormalizedConv1d(4, 5, 3, { padding = 1 }),
      nn.MaskConv1d(4, 5, 3, { padding = 1, gate = 'none' }) } do
      layer.bias:detach():fill_(1)
      local y, kept = nn.Sequential{ layer, nn.ReLU() }(x3, mask)
      assert.equal('relu', operation(y))
      assert.same_bits(torch.zeros(y:size()), y:detach():masked_fill(kept:bool():expand(unpack(y:size())), 0))
    end
  end)

  for i, layer in ipairs(layers) do
    it(('runs %s and an activation as one operation (%d)'):format(layer[1], i), function()
      local x = layer[3]:clone():requires_grad_()
      local mask = x:dim() > 2 and torch.rand(x:size()):lt(0.8):float() or nil
      for _, m in ipairs { false, mask } do
        for _, activation in ipairs { function() return nn.ReLU() end, function() return nn.LeakyReLU(0.3) end } do
          local net, name = nn.Sequential{ layer[2](), activation() }, m and layer[4] or layer[1]
          assert.equal(name, operation((net(x, m or nil))))
          local here = results(net, x, m or nil)
          -- The same network with somebody who looks.
          local looks, seen = nn.Sequential{ layer[2](), activation() }, 0
          looks[1]:register_forward_hook(function(_, _, outputs) seen = seen + outputs[1]:detach():lt(0):sum():item() end)
          assert.not_equal(name, operation((looks(x, m or nil))))
          local there = results(looks, x, m or nil)
          assert.is_true(seen > 0)
          assert.equal(#there, #here)
          -- The extra call above moved the running statistics of both alike.
          for k, t in ipairs(there) do assert(Tensor.same_bits(here[k], t), 'result ' .. k) end
          local _, kept = net(x, m or nil)
          local _, also = looks(x, m or nil)
          assert.equal(torch.mask.is_mask(also), torch.mask.is_mask(kept))
          assert.is_true(not m or torch.mask.is_mask(kept))
        end
      end
    end)
  end

  it('leaves alone what somebody may look at, or has changed', function()
    local function last(net) return operation((net(x4))) end
    local function pair() return nn.Sequential{ nn.BatchNorm2d(4), nn.ReLU() } end
    local net = pair()
    assert.equal('batch_norm', last(net))
    for i = 1, 2 do
      for _, register in ipairs { 'register_forward_hook', 'register_forward_pre_hook' } do
        local remove = net[i][register](net[i], function() end)
        assert.equal('relu', last(net))
        remove()
        assert.equal('batch_norm', last(net))
      end
    end
    -- A hook on the container itself sees the same as ever.
    net:register_forward_hook(function() end)
    assert.equal('batch_norm', last(net))

    local Own = class('Own', nn.ReLU)
    assert.equal('relu', last(nn.Sequential{ nn.BatchNorm2d(4), Own() }))
    local Norm = class('Norm', nn.BatchNorm2d)
    assert.equal('relu', last(nn.Sequential{ Norm(4), nn.ReLU() }))
    net = pair()
    rawset(net[2], 'forward', function(_, x) return x:relu():neg() end)
    assert.equal('neg', last(net))
    assert.equal('leaky_relu', last(nn.Sequential{ nn.BatchNorm2d(4), nn.LeakyReLU(1.5) }))
    assert.equal('leaky_relu', last(nn.Sequential{ nn.BatchNorm2d(4), nn.LeakyReLU(-0.5) }))
    assert.equal('gelu', last(nn.Sequential{ nn.BatchNorm2d(4), nn.GELU() }))
    assert.equal('batch_norm', last(nn.Sequential{ nn.ReLU(), nn.BatchNorm2d(4) }))
    assert.equal('batch_norm', last(nn.Sequential{ nn.BatchNorm2d(4) }))
    assert.equal('relu', last(nn.Sequential{ nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU() }))
  end)

  it('takes an activation behind a convolution that is gated by another', function()
    local net = nn.Sequential{ nn.GatedConv2d(4, 5, 3), nn.ReLU() }
    local apart = nn.Sequential{ net[1], nn.ReLU() }
    apart[2]:register_forward_hook(function() end)
    assert.equal('relu', operation((net(x4))))
    assert.same_bits((net(x4)), (apart(x4)))
  end)

  it('runs an unshuffle, a convolution and an activation as one operation', function()
    local net = nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(8, 5, 3), nn.ReLU() }
    local x = torch.randn(2, 4, 12)
    local y = net(x)
    assert.equal('conv', operation(y))
    local apart = nn.Sequential{ nn.Sequential{ net[1], net[2] }, net[3] }
    assert.same_bits(y, (apart(x)))
  end)

  it('frees what lies between convolutions with activations, without a graph', function()
    local net = nn.Sequential{ nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.LeakyReLU(0.1), nn.MaskedConv2d(4, 4, 1), nn.ReLU() }
    local expected, seen = net(x4), {}
    local F = torch.nn.functional
    local original = F.conv2d
    F.conv2d = function(x, ...)
      seen[#seen + 1] = x
      local y = original(x, ...)
      return y
    end
    local ok, y = pcall(torch.no_grad, function() return (net(x4)) end)
    F.conv2d = original
    assert.is_true(ok)
    assert.same_bits(expected, y)
    assert.is_false(pcall(function() return seen[2]:size() end))
    assert.is_true(pcall(function() return x4:size() end))
  end)

  it('waits until a lazy norm has its parameters', function()
    local net = nn.Sequential{ nn.LazyBatchNorm2d(), nn.ReLU() }
    local twin = nn.Sequential{ nn.BatchNorm2d(4), nn.ReLU() }
    for _ = 1, 2 do assert(Tensor.same_bits(net(x4), twin(x4))) end
    assert.equal('batch_norm', operation((net(x4))))
  end)

  it('shows both modules to who describes, counts or exports it', function()
    local net = nn.MaskedSequential{ nn.MaskedConv2d(4, 4, 3), nn.MaskedBatchNorm2d(4), nn.ReLU() }
    assert.equal('batch_norm', operation((net(x4))))
    local text = tostring(net:describe(x4))
    assert.is_truthy(text:find('MaskedBatchNorm2d', 1, true))
    assert.is_truthy(text:find('ReLU', 1, true))
    local path = os.tmpname()
    torch.io.onnx.export(net:eval(), path, { inputs = { x4 } })
    local file = io.open(path, 'rb')
    local bytes = file:read('*a')
    file:close()
    os.remove(path)
    assert.is_truthy(bytes:find('BatchNormalization', 1, true))
    assert.is_truthy(bytes:find('Relu', 1, true))
  end)

  it('exports the functional option too', function()
    local Net = class('Net', nn.Module)
    function Net:__init()
      nn.Module.__init(self)
      self.norm = nn.BatchNorm2d(4)
    end
    function Net:forward(x)
      return torch.nn.functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, { activation = 'leaky_relu' })
    end
    local path = os.tmpname()
    torch.io.onnx.export(Net():eval(), path, { inputs = { x4 } })
    local file = io.open(path, 'rb')
    local bytes = file:read('*a')
    file:close()
    os.remove(path)
    assert.is_truthy(bytes:find('LeakyRelu', 1, true))
  end)
end)

describe('What lies between two layers of a container', function()
  local function is_freed(t) return not pcall(function() return t:size() end) end

  -- net(x) without a graph, and what `keeper` got as its input.
  local function run(net, x, mask)
    return torch.no_grad(function() return (net(x, mask)) end)
  end

  it('is freed without a graph, and only then; the values are the same', function()
    local seen
    local F = torch.nn.functional
    local original = F.conv2d
    local net = nn.Sequential { nn.Conv2d(4, 6, 3), nn.Unshuffle2d(1), nn.MaskedConv2d(6, 4, 3), nn.Conv2d(4, 2, 1) }
    local expected = net(x4)
    F.conv2d = function(x, ...)
      seen = x
      local y = original(x, ...)
      return y
    end
    local ok, y = pcall(run, net, x4)
    local between = seen
    local also, recorded = pcall(net, x4)
    F.conv2d = original
    assert.is_true(ok and also)
    assert.is_true(is_freed(between))
    assert.is_false(is_freed(seen))
    assert.is_false(is_freed(x4))
    assert.same_bits(expected, y)
    assert.same_bits(expected, recorded)
    recorded:sum():backward()
  end)

  it('stays where a hook or a layer of one\'s own may hold it', function()
    local held = {}
    local Keeper = class('Keeper', nn.Conv2d)
    function Keeper:forward(x, mask)
      held[#held + 1] = x
      local y, new = nn.Conv2d.forward(self, x, mask)
      held[#held + 1] = y
      return y, new
    end
    local watched = nn.Conv2d(4, 4, 1)
    watched:register_forward_hook(function(_, inputs, outputs) held[#held + 1], held[#held + 2] = inputs[1], outputs[1] end)
    local replaced = nn.Conv2d(4, 4, 1)
    function replaced:forward(x, mask)
      held[#held + 1] = x
      return nn.Conv2d.forward(self, x, mask)
    end
    local inner = nn.Sequential { nn.Conv2d(4, 4, 1) }
    run(nn.Sequential { nn.Conv2d(4, 4, 1), Keeper(4, 4, 1), nn.Conv2d(4, 4, 1), watched, nn.Conv2d(4, 4, 1), replaced,
      nn.Conv2d(4, 4, 1), inner, nn.Identity(), nn.Conv2d(4, 4, 1) }, x4)
    assert.are.equal(5, #held)
    for _, t in ipairs(held) do assert.is_false(is_freed(t)) end
  end)
end)

describe('A norm in evaluation behind a convolution', function()
  local function norm(class_name, channels)
    local n = nn[class_name](channels)
    n.running_mean:copy_(torch.randn(channels))
    n.running_var:copy_(torch.rand(channels) + 0.2)
    torch.no_grad(function()
      n.weight:copy_(torch.randn(channels))
      n.bias:copy_(torch.randn(channels))
    end)
    return n:eval()
  end

  -- net(x, mask) without a graph, and how often a norm ran by itself.
  local function run(net, x, mask)
    local F = torch.nn.functional
    local batch_norm, masked_batch_norm, calls = F.batch_norm, F.masked_batch_norm, 0
    local function counting(original)
      return function(...)
        calls = calls + 1
        local y = original(...)
        return y
      end
    end
    F.batch_norm, F.masked_batch_norm = counting(batch_norm), counting(masked_batch_norm)
    local ok, y, kept = pcall(torch.no_grad, net, x, mask)
    F.batch_norm, F.masked_batch_norm = batch_norm, masked_batch_norm
    assert(ok, y)
    return y, kept, calls
  end

  local binary = torch.rand(3, 1, 5, 6):lt(0.6)
  local convolutions = {
    { function() return nn.Conv2d(4, 5, 3, { padding = 1 }) end, 'BatchNorm2d', x4 },
    { function() return nn.Conv2d(4, 5, 3, { padding = 1, padding_mode = 'reflect' }) end, 'BatchNorm2d', x4 },
    { function() return nn.Conv1d(4, 5, 3) end, 'BatchNorm1d', x3 },
    { function() return nn.Conv3d(4, 5, 2, { bias = false }) end, 'BatchNorm3d', x5 },
    { function() return nn.Conv2d(4, 5, 3, { padding = 1 }) end, 'BatchNorm2d', x4, binary },
    { function() return nn.MaskedConv2d(4, 5, 3, { padding = 1 }) end, 'MaskedBatchNorm2d', x4, binary },
    { function() return nn.MaskedConv2d(4, 5, 3, { padding = 1 }) end, 'BatchNorm2d', x4 },
    { function() return nn.PartialConv2d(4, 5, 3, { padding = 1, stride = 2 }) end, 'MaskedBatchNorm2d', x4, binary },
    { function() return nn.PartialConv2d(4, 5, 3, { padding = 1, multichannel = true }) end, 'MaskedBatchNorm2d', x4, binary },
    { function() return nn.HalfConv2d(4, 5, 3, { padding = 1, learn_alpha = true }) end, 'MaskedBatchNorm2d', x4, torch.rand(1, 1, 5, 6) },
  }

  for i, case in ipairs(convolutions) do
    it(('is one operation with it, and with the activation that follows (%d)'):format(i), function()
      for _, activation in ipairs { false, function() return nn.ReLU() end, function() return nn.LeakyReLU(0.2) end } do
        local modules = { case[1](), norm(case[2], 5) }
        if activation then modules[3] = activation() end
        local net = nn.Sequential(modules):eval()
        local y, kept, calls = run(net, case[3], case[4])
        assert.equal(0, calls)
        local seen
        local remove = net[2]:register_forward_hook(function(_, inputs) seen = inputs[1] end)
        local apart, also, alone = run(net, case[3], case[4])
        remove()
        assert.equal(1, alone)
        assert.same(y:size(), seen:size())
        assert.same_bits(apart, y)
        assert.equal(torch.mask.is_mask(also), torch.mask.is_mask(kept))
        if kept then assert.same_bits(also:tensor(), kept:tensor()) end
        assert.same_bits((net(case[3], case[4])):detach(), y)
      end
    end)
  end

  it('runs by itself where each channel has a mask of its own, in bfloat16, and by a gate that is learnt', function()
    local soft = torch.rand(3, 4, 5, 6)
    for _, case in ipairs {
      { nn.MaskedConv2d(4, 5, 3, { padding = 1 }), x4, soft }, { nn.GatedConv2d(4, 5, 3, { padding = 1 }), x4, binary },
      { nn.SparseConv2d(4, 5, 3, { padding = 1 }), x4, binary }, { nn.MaskedConv2d(4, 5, 3, { compat = true, padding = 1 }), x4, soft } } do
      local net = nn.Sequential{ case[1], norm('MaskedBatchNorm2d', 5), nn.ReLU() }:eval()
      local y, _, calls = run(net, case[2], case[3])
      assert.equal(1, calls)
      assert.same_bits((net(case[2], case[3])):detach(), y)
    end
    local net = nn.Sequential{ nn.Conv2d(4, 5, 3), norm('BatchNorm2d', 5), nn.ReLU() }:eval()
    local apart = torch.autocast('cpu', function() return (net(x4)) end)
    local y = torch.autocast('cpu', function() return (run(net, x4)) end)
    assert.equal('bfloat16', y.dtype)
    assert.same_bits(apart:detach():float(), y:float())
  end)

  it('is left alone in training, with a graph, where somebody looks, and where it does not fit', function()
    local function ran(net, x) return select(3, run(net, x or x4)) end
    local function pair(n) return nn.Sequential{ nn.Conv2d(4, 5, 3), n or norm('BatchNorm2d', 5) } end
    assert.equal(0, ran(pair():eval()))
    assert.equal(1, ran(pair():train()))
    assert.equal(1, ran(pair(nn.BatchNorm2d(5, { track_running_stats = false })):eval()))
    assert.equal('batch_norm', operation((pair():eval()(x4))))
    local net = pair():eval()
    for i = 1, 2 do
      local remove = net[i]:register_forward_pre_hook(function() end)
      assert.equal(1, ran(net))
      remove()
    end
    local Own = class('OwnNorm', nn.BatchNorm2d)
    assert.equal(1, ran(pair(Own(5)):eval()))
    net = pair():eval()
    rawset(net[2], 'normalise', function(_, x) return x:neg() end)
    assert.same_bits((run(net[1], x4)):neg(), (run(net, x4)))
    assert.fails(function() run(pair(norm('BatchNorm2d', 6)), x4) end, '6 channels')
    assert.fails(function() run(pair(norm('BatchNorm1d', 5)), x4) end, '2D or 3D')
    assert.fails(function() run(pair(nn.BatchNorm2d(5, { dtype = 'float64' }):eval()), x4) end, 'float32')
  end)

  it('follows its statistics', function()
    local net = nn.Sequential{ nn.Conv2d(4, 5, 3), norm('BatchNorm2d', 5) }:eval()
    local before = run(net, x4)
    net[2].running_mean:add_(1)
    local after = run(net, x4)
    assert.same_bits(net(x4):detach(), after)
    assert.is_false(Tensor.same_bits(before, after))
    net:train()
    net(x4)
    net:eval()
    assert.same_bits(net(x4):detach(), (run(net, x4)))
  end)
end)
