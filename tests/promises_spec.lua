-- The promises on whole networks, bit for bit: padding invariance, independence of hole values and batch mates,
-- full mask = no mask = plain layers, equal results on any number of threads.
local torch = require 'masked_torch'

local nn, F = torch.nn, torch.nn.functional

-- make test-cuda runs this file too.
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE' or 'cpu'
if device == '' then device = 'cpu' end

-- Networks that keep their mask. Each entry: spatial dims, builder, multiple that sizes must have.
local networks = {
  { 'convolution, batch norm, ReLU, mean, linear (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 8, 3, { padding = 1 }), nn.MaskedBatchNorm2d(8), nn.ReLU(),
      nn.MaskedConv2d(8, 5, 3, { padding = 1 }), nn.MaskedSpatialMean(), nn.Linear(5, 4) }
  end },
  { 'stride, dilation, groups, GELU, layer norm free (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 6, 3, { padding = 1, stride = 2 }), nn.GELU(),
      nn.MaskedConv2d(6, 6, 3, { padding = 2, dilation = 2, groups = 3 }), nn.Sigmoid(),
      nn.MaskedConv2d(6, 4, 5, { padding = 2 }), nn.MaskedSpatialMean() }
  end },
  { 'plain layers given a mask (2-D)', 2, function()
    return nn.Sequential{ nn.Conv2d(3, 6, 3, { padding = 1 }), nn.BatchNorm2d(6), nn.SiLU(), nn.Conv2d(6, 4, 3, { padding = 1 }),
      nn.GroupNorm(2, 4), nn.ELU(), nn.InstanceNorm2d(4), nn.MaskedSpatialMean() }
  end },
  { 'alpha = 1/2, mask kept (2-D)', 2, function()
    return nn.Sequential{ nn.HalfConv2d(3, 6, 3, { padding = 1, rule = 'keep' }), nn.ReLU(),
      nn.HalfConv2d(6, 4, 3, { padding = 1, rule = 'keep' }), nn.MaskedSpatialMean() }
  end },
  { 'pooling (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 6, 3, { padding = 1 }), nn.MaxPool2d(2), nn.Tanh(),
      nn.MaskedConv2d(6, 4, 3, { padding = 1 }), nn.AvgPool2d(2), nn.MaskedSpatialMean() }
  end, 4 },
  { 'language-model body (1-D)', 1, function()
    return nn.Sequential{ nn.ApplyMask(), nn.MaskedUnshuffle1d(2), nn.MaskedConv1d(6, 8, 3, { padding = 1 }), nn.ReLU(),
      nn.MaskedBatchNorm1d(8), nn.MaskedUnshuffle1d(2), nn.MaskedConv1d(16, 8, 3, { padding = 1 }), nn.MaskedSpatialMean(),
      nn.Linear(8, 5) }
  end, 4 },
  { 'wide enough for the Winograd transform (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 32, 3, { padding = 1 }), nn.MaskedBatchNorm2d(32), nn.ReLU(),
      nn.MaskedConv2d(32, 33, 3, { padding = 1 }), nn.SiLU(), nn.HalfConv2d(33, 34, 3, { padding = 1, rule = 'keep' }),
      nn.MaskedSpatialMean() }
  end },
  { 'wide enough for the Winograd transform (1-D)', 1, function()
    return nn.Sequential{ nn.MaskedConv1d(3, 32, 3, { padding = 1 }), nn.GELU(),
      nn.MaskedConv1d(32, 66, 3, { padding = 1, groups = 2 }), nn.MaskedSpatialMean() }
  end },
  { 'strided, wide enough for the Winograd transform (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 32, 3, { padding = 1 }), nn.SiLU(), nn.MaskedConv2d(32, 33, 3, { padding = 1, stride = 2 }),
      nn.MaskedBatchNorm2d(33), nn.HalfConv2d(33, 48, 3, { padding = 1, rule = 'keep' }), nn.ReLU(),
      nn.MaskedConv2d(48, 16, 3, { padding = 1, stride = { 2, 1 } }), nn.MaskedSpatialMean() }
  end },
  { 'strided, wide enough for the Winograd transform (1-D)', 1, function()
    return nn.Sequential{ nn.MaskedConv1d(3, 32, 3, { padding = 1 }), nn.GELU(), nn.MaskedConv1d(32, 64, 3, { padding = 1, stride = 2 }),
      nn.MaskedConv1d(64, 34, 5, { padding = 2, stride = 2, groups = 2 }), nn.MaskedSpatialMean() }
  end },
  { 'causal, dilated (1-D)', 1, function()
    return nn.Sequential{ nn.MaskedConv1d(3, 8, 3, { padding = 'causal' }), nn.SiLU(),
      nn.MaskedConv1d(8, 8, 4, { padding = 'causal', dilation = 2 }), nn.MaskedBatchNorm1d(8),
      nn.HalfConv1d(8, 6, 2, { padding = 'causal', rule = 'keep' }), nn.MaskedSpatialMean() }
  end },
  { 'causal, strided (2-D)', 2, function()
    return nn.Sequential{ nn.MaskedConv2d(3, 6, 3, { padding = 'causal' }), nn.ReLU(),
      nn.MaskedConv2d(6, 4, { 2, 3 }, { padding = 'causal', stride = 2 }), nn.MaskedSpatialMean() }
  end },
  { 'three dimensions', 3, function()
    return nn.Sequential{ nn.MaskedConv3d(3, 4, 3, { padding = 1 }), nn.MaskedBatchNorm3d(4), nn.ReLU(), nn.MaskedSpatialMean() }
  end },
}

local function copy_into(canvas, x, boxes)
  for n, box in ipairs(boxes) do
    local where, from = { n, {} }, { n, {} }
    for d, size in ipairs(box) do
      where[d + 2] = { 1, size }
      from[d + 2] = { 1, size }
    end
    canvas[where] = x[from]
  end
  return canvas
end

-- A batch of samples of different sizes in a canvas; the holes hold `junk`.
local function batch(dims, canvas, boxes, junk, seed)
  torch.manual_seed(seed or 7)
  local shape, largest = { #boxes, 3 }, { #boxes, 3 }
  for d = 1, dims do
    shape[d + 2] = canvas[d]
    largest[d + 2] = 12
  end
  local values = torch.randn(largest)
  local x = torch.full(shape, junk)
  copy_into(x, values, boxes)
  if dims == 1 then
    local lengths = {}
    for n, box in ipairs(boxes) do lengths[n] = box[1] end
    return x:to(device), torch.mask.lengths(lengths, canvas[1], { device = device })
  end
  return x:to(device), torch.mask.boxes(boxes, canvas, { device = device })
end

local boxes = { { { 8 }, { 4 }, { 12 } }, { { 8, 12 }, { 12, 4 }, { 4, 8 } }, { { 4, 8, 12 }, { 12, 4, 8 }, { 8, 8, 4 } } }
local small = { { 12 }, { 12, 12 }, { 12, 12, 12 } }
local large = { { 24 }, { 16, 20 }, { 16, 12, 20 } }

local function build(builder, seed)
  torch.manual_seed(seed or 3)
  return builder():to(device)
end

-- Output, then every parameter's gradient, under a fixed upstream gradient.
local function run(net, x, mask)
  net:zero_grad()
  local y = net(x, mask)
  torch.manual_seed(5)
  y:backward(torch.randn(y:size(), { dtype = y.dtype, device = y.device }))
  local results = { y:detach() }
  for name, p in net:named_parameters() do
    assert.is_not_nil(p.grad, name)
    results[#results + 1] = p.grad:detach()
  end
  return results
end

local function same(a, b)
  assert.are.equal(#a, #b)
  for i = 1, #a do
    assert.are.equal(0, a[i]:isnan():sum():item(), 'NaN in result ' .. i)
    assert.same_bits(a[i], b[i])
  end
end

for _, entry in ipairs(networks) do
  for _, algorithm in ipairs(device == 'cpu' and { 'auto', 'winograd' } or { 'auto' }) do
    local name, dims, builder = unpack(entry)
    describe(('%s, convolution: %s'):format(name, algorithm), function()
      before_each(function() torch.conv_algorithm(algorithm) end)
      after_each(function() torch.conv_algorithm 'auto' end)

      it('does not see how much padding there is, in outputs or gradients (training)', function()
        local a = run(build(builder), batch(dims, small[dims], boxes[dims], 0))
        local b = run(build(builder), batch(dims, large[dims], boxes[dims], 0))
        same(a, b)
      end)

      it('does not see what lies in the holes: NaN, Inf, garbage', function()
        local a = run(build(builder), batch(dims, small[dims], boxes[dims], 0))
        for _, junk in ipairs { 0 / 0, 1 / 0, -1 / 0, 1e30 } do
          same(a, run(build(builder), batch(dims, small[dims], boxes[dims], junk)))
        end
      end)

      it('does not see batch mates (evaluation)', function()
        local net = build(builder)
        net:eval()
        local x, mask = batch(dims, small[dims], boxes[dims], 0)
        local together = net(x, mask):detach()
        for n, box in ipairs(boxes[dims]) do
          local where = { { n, n }, {} }
          for d, size in ipairs(box) do where[d + 2] = { 1, size } end
          local alone = net(x[where]:contiguous()):detach()     -- its own size, no mask at all
          assert.same_bits(alone, together:narrow(1, n, 1):contiguous())
        end
      end)

      it('takes a full mask as no mask', function()
        local full = {}
        for n = 1, 3 do full[n] = small[dims] end
        local x, mask = batch(dims, small[dims], full, 0)
        same(run(build(builder), x), run(build(builder), x, mask))
        same(run(build(builder), x), run(build(builder), x, mask:tensor('float32'):clone()))
      end)

      local each_count = device == 'cpu' and it or function() end
      each_count('gives the same bits on 1 to 4 threads, in float32 and float64', function()
        local before = torch.get_num_threads()
        for _, dtype in ipairs { 'float32', 'float64' } do
          local results = {}
          for threads = 1, 4 do
            torch.set_num_threads(threads)
            local net = build(builder):to { dtype = dtype }
            local x, mask = batch(dims, large[dims], boxes[dims], 0)
            results[threads] = run(net, x:to { dtype = dtype }, mask)
          end
          for threads = 2, 4 do same(results[1], results[threads]) end
        end
        torch.set_num_threads(before)
      end)
    end)
  end
end

describe('sequences aligned to the right', function()
  it('do not see their left padding', function()
    local function net()
      return build(function()
        return nn.Sequential{ nn.ApplyMask(), nn.MaskedUnshuffle1d(2), nn.MaskedConv1d(6, 32, 3, { padding = 1 }), nn.ReLU(),
          nn.MaskedBatchNorm1d(32), nn.MaskedConv1d(32, 35, 3, { padding = 1 }), nn.MaskedSpatialMean() }
      end)
    end
    torch.manual_seed(11)
    local values, lengths = torch.randn(3, 3, 12), { 12, 5, 8 }
    local results = {}
    for _, L in ipairs { 12, 20, 32 } do
      local x = torch.full({ 3, 3, L }, 0 / 0)
      for n, length in ipairs(lengths) do x[{ n, {}, { L - length + 1, L } }] = values[{ n, {}, { 1, length } }] end
      results[#results + 1] = run(net(), x:to(device), torch.mask.lengths(lengths, L, { align = 'right', device = device }))
    end
    same(results[1], results[2])
    same(results[1], results[3])
  end)
end)

describe('masked layers under a full mask', function()
  it('equal the plain ones bit for bit', function()
    torch.manual_seed(1)
    local x = torch.randn(2, 4, 7, 9):to(device)
    local plain = nn.Conv2d(4, 6, 3, { padding = 1, stride = 2, groups = 2 }):to(device)
    local expected = plain(x)
    for _, name in ipairs { 'MaskedConv2d', 'MaskConv2d' } do
      local layer = nn[name](4, 6, 3, { padding = 1, stride = 2, groups = 2 }):to(device)
      layer:load_state_dict(plain:state_dict())
      assert.same_bits(expected:detach(), (layer(x, torch.ones(2, 1, 7, 9, { device = device }))):detach())
      assert.same_bits(expected:detach(), (layer(x, torch.ones(2, 4, 7, 9, { dtype = 'bool', device = device }))):detach())
      assert.same_bits(expected:detach(), (layer(x)):detach())
    end
  end)
end)

describe('images smaller than the kernel', function()
  it('give the bits that they give in a canvas: taps nobody needs leave the order of the others', function()
    for _, C in ipairs { 3, 48, 100, 300 } do
      torch.manual_seed(C)
      local x, w = torch.randn(2, C, 1, 2):to(device), torch.randn(5, C, 3, 3):to(device)
      local canvas = torch.zeros(2, C, 6, 7, { device = device })
      canvas[{ {}, {}, { 1, 1 }, { 1, 2 } }] = x
      local alone, within = F.conv2d(x, w, nil, { padding = 1 }), F.conv2d(canvas, w, nil, { padding = 1 })
      assert.same_bits(alone, within[{ {}, {}, { 1, 1 }, { 1, 2 } }]:contiguous())
    end
  end)
end)

describe('losses over padded positions', function()
  it('do not see the padding', function()
    local results = {}
    for _, L in ipairs { 6, 11 } do
      torch.manual_seed(2)
      local values, labels, lengths = torch.randn(3, 5, 6),
        { { 1, 2, 3, 4, 5, 1 }, { 2, 2, 1, 1, 3, 3 }, { 5, 4, 3, 2, 1, 1 } }, { 6, 2, 4 }
      local x, target = torch.full({ 3, 5, L }, 0 / 0), torch.ones(3, L, { dtype = 'int64' })
      for n = 1, 3 do
        x[{ n, {}, { 1, lengths[n] } }] = values[{ n, {}, { 1, lengths[n] } }]
        for i = 1, lengths[n] do target[{ n, i }] = labels[n][i] end
      end
      x, target = x:to(device):requires_grad_(), target:to(device)
      local loss = F.cross_entropy(x, target, { mask = torch.mask.lengths(lengths, L, { device = device }) })
      loss:backward()
      results[#results + 1] = { loss:detach(), x.grad[{ {}, {}, { 1, 2 } }]:contiguous() }
    end
    same(results[1], results[2])
  end)
end)
