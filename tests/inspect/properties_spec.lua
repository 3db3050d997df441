-- The property checks as users call them: on networks that hold, on networks that break each property in a known layer, and on what
-- they must leave alone.
local class = require 'masked_torch.class'
local torch = require 'masked_torch'

local nn, inspect = torch.nn, torch.inspect

local function good()
  torch.manual_seed(4)
  return nn.Sequential{ nn.MaskedConv2d(3, 6, 3, { padding = 1 }), nn.MaskedBatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3),
    nn.MaskedConv2d(6, 5, 3, { padding = 1, stride = 2 }), nn.MaskedSpatialMean(), nn.Linear(5, 4) }
end

local function layer(forward, name)
  local Own = class(name or 'Own', nn.Module)
  function Own:__init() nn.Module.__init(self) end
  Own.forward = forward
  return Own()
end

local all = { 'padding_invariant', 'hole_agnostic', 'batch_invariant', 'equals_dense_when_full' }

-- Breaks the property at that layer; the report and its text say so.
local function breaks(property, at, net, x, ...)
  local ok, report = inspect[property](net, x)
  assert.is_false(ok, property)
  assert.are.equal(at, report.layer, tostring(report))
  assert.is_true(report.difference > 0)
  for _, text in ipairs{ property .. ': broken', ... } do
    assert.is_truthy(tostring(report):find(text, 1, true), text .. ' in\n' .. tostring(report))
  end
end

describe('property checks', function()
  it('pass for networks that hold', function()
    local nets = { good(), good():double(),
      nn.Sequential{ nn.ApplyMask(), nn.MaskedUnshuffle1d(2), nn.MaskedConv1d(6, 8, 3, { padding = 1 }), nn.MaskedBatchNorm1d(8),
        nn.GELU(), nn.MaskedSpatialMean(), nn.Linear(8, 5) },
      nn.Sequential{ nn.MaskedConv3d(2, 3, 3, { padding = 1 }), nn.MaskedSpatialMean() } }
    for _, net in ipairs(nets) do
      for _, property in ipairs(all) do
        local ok, report = inspect[property](net)
        assert.is_true(ok, tostring(report))
        assert.is_truthy(tostring(report):find(property .. ': holds', 1, true))
      end
    end
    assert.is_true((inspect.gradcheck(nn.Sequential{ nn.MaskedConv2d(2, 3, 3, { padding = 1 }), nn.Tanh(), nn.MaskedSpatialMean() })))
  end)

  it('take an input, and row numbers', function()
    local Text = class('Text', nn.Module)
    function Text:__init(clear)
      nn.Module.__init(self)
      self.embedding = nn.Embedding(11, 4)
      self.clear = clear
      self.conv = nn.MaskedConv1d(4, 6, 3, { padding = 1 })
      self.mean = nn.MaskedSpatialMean()
    end
    function Text:forward(index, mask)
      local x, m = self.embedding(index):permute(1, 3, 2), mask
      if self.clear then x, m = self.clear(x, m) end
      x, m = self.conv(x, m)
      return self.mean(x, m)
    end
    for _, property in ipairs(all) do
      local ok, report = inspect[property](Text(nn.ApplyMask()))
      assert.is_true(ok, tostring(report))
    end
    -- MaskedConv passes its gradient into the holes: rows that stand in the padding learn from it.
    breaks('padding_invariant', 'embedding.weight', Text(), nil, 'nn.ApplyMask')
    assert.is_true((inspect.padding_invariant(good(), torch.randn(2, 3, 20, 12))))
    assert.is_true((inspect.batch_invariant(nn.Linear(3, 2))))
  end)

  it('find where padding comes in, and say what to do', function()
    breaks('padding_invariant', '0', nn.Sequential{ nn.PartialConv2d(3, 4, 3, { padding = 1 }), nn.MaskedSpatialMean() }, nil,
      'its mask differs', 'PartialConv2d', "rule = 'keep'")
    breaks('padding_invariant', '1', nn.Sequential{ nn.MaskedConv2d(3, 4, 3, { padding = 1 }), nn.SpatialMean() }, nil,
      'nn.MaskedSpatialMean')
    local drops = layer(function(_, x) return x * 2 + 1 end, 'Drops')
    breaks('padding_invariant', '2', nn.Sequential{ nn.MaskedConv2d(3, 4, 3, { padding = 1 }), drops,
      nn.MaskedConv2d(4, 4, 3, { padding = 1 }), nn.MaskedSpatialMean() }, nil, 'No mask reaches this layer')
    local flat = layer(function(_, x) return x:reshape(x:size(1), -1) end, 'Flatten')
    local ok, report = inspect.padding_invariant(nn.Sequential{ nn.MaskedConv2d(3, 1, 3, { padding = 1 }), flat, nn.Linear(32 * 32, 2) })
    assert.is_false(ok)
    assert.is_truthy(tostring(report):find('broken', 1, true))
  end)

  it('find gradients that see the padding although the outputs do not', function()
    -- Forward is masked, backward is not: the gradient of an offset in the padding reaches the parameter.
    local Offset = class('Offset', nn.Module)
    local leak = torch.Function{
      forward = function(ctx, x, w)
        ctx.shape = x:size()
        return x * 1, w * 0
      end,
      backward = function(ctx, dx) return dx, torch.full({ 1 }, ctx.shape[3]) end,
    }
    function Offset:__init()
      nn.Module.__init(self)
      self:register_parameter('w', torch.ones(1))
    end
    function Offset:forward(x, mask)
      local y, zero = leak(x, self.w)
      return y + zero, mask
    end
    local net = nn.Sequential{ nn.MaskedConv2d(3, 2, 3, { padding = 1 }), Offset(), nn.MaskedSpatialMean() }
    local ok, report = inspect.padding_invariant(net)
    assert.is_false(ok)
    assert.are.equal('1.w', report.layer)
    assert.is_true((inspect.padding_invariant(net, { gradients = false })))
  end)

  it('find what reads under the mask', function()
    breaks('hole_agnostic', '0.module', nn.Sequential{ nn.Masked(nn.Conv2d(3, 4, 3, { padding = 1 })), nn.MaskedSpatialMean() }, nil,
      'nan under the mask', 'nn.ApplyMask')
    breaks('hole_agnostic', '0', nn.Sequential{ layer(function(_, x, mask) return x - x:mean(), mask end, 'Centre'), nn.MaskedSpatialMean(),
      nn.Linear(3, 1) }, torch.randn(3, 3, 8, 8), 'Centre')
  end)

  it('find what mixes samples', function()
    breaks('batch_invariant', '1', nn.Sequential{ nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, { track_running_stats = false }) }, nil,
      'BatchNorm2d', 'for sample 1 of 3')
    breaks('batch_invariant', '0', nn.Sequential{ layer(function(_, x, mask) return x / x:norm(), mask end), nn.Linear(3, 2) },
      torch.randn(4, 3))
  end)

  it('find what a full mask changes', function()
    local scale = layer(function(_, x, mask) return mask and x * 1.5 or x, mask end, 'Scale')
    breaks('equals_dense_when_full', '1', nn.Sequential{ nn.MaskedConv2d(3, 4, 3), scale }, nil, 'full mask of shape (3, 1, 32, 32)')
    breaks('equals_dense_when_full', '0', nn.Sequential{ nn.MaskedConv2d(3, 4, 3, { eps = 0.5 }) }, nil, 'eps > 0')
    assert.is_true((inspect.equals_dense_when_full(nn.Sequential{ nn.MaskedConv2d(3, 4, 3), scale }, { tolerance = 100 })))
  end)

  it('find a wrong backward', function()
    local square = torch.Function{
      forward = function(ctx, x)
        ctx:save(x)
        return x * x
      end,
      backward = function(ctx, dy) return dy * ctx:saved() * 3 end,
    }
    local net = nn.Sequential{ nn.Linear(3, 4), layer(function(_, x, mask) return square(x), mask end) }
    local ok, report = inspect.gradcheck(net)
    assert.is_false(ok)
    assert.is_truthy(tostring(report):find('relative error 0.5', 1, true), tostring(report))
    assert.is_true((inspect.gradcheck(nn.Linear(3, 4))))
  end)

  it('leave the network and the random stream as they were', function()
    local net = good()
    net[1]:eval()
    net(torch.randn(2, 3, 9, 9)):sum():backward()
    local state, grads, modes = {}, {}, {}
    for name, t in pairs(net:state_dict()) do state[name] = t:clone() end
    for name, p in net:named_parameters() do grads[name] = p.grad:clone() end
    for name, m in net:named_modules() do modes[name] = m.training end
    local stream = torch.get_rng_state()
    for _, property in ipairs{ 'padding_invariant', 'hole_agnostic', 'batch_invariant', 'equals_dense_when_full', 'gradcheck' } do
      inspect[property](net)
      for name, t in pairs(net:state_dict()) do assert.same_bits(state[name], t:clone()) end
      for name, p in net:named_parameters() do
        assert.same_bits(grads[name], p.grad)
        assert.are.equal('float32', p.dtype)
      end
      for name, m in net:named_modules() do assert.are.equal(modes[name], m.training) end
      assert.are.same(stream, torch.get_rng_state())
      assert.is_nil(rawget(net[1], '_hooks'))
    end
  end)

  it('name wrong arguments', function()
    assert.fails(function() inspect.padding_invariant(torch.ones(2)) end, 'padding_invariant: net: expected a module', 'tensor')
    assert.fails(function() inspect.padding_invariant(nn.ReLU()) end, 'padding_invariant: x', 'no layer says')
    assert.fails(function() inspect.padding_invariant(nn.Linear(3, 4)) end, 'no spatial axes')
    assert.fails(function() inspect.hole_agnostic(good(), { tolerence = 1 }) end, "'tolerance'")
    assert.fails(function() inspect.batch_invariant(good(), torch.randn(1, 3, 8, 8)) end, 'one sample')
  end)
end)
