local torch = require 'masked_torch'

local nn, count = torch.nn, torch.train.count

-- The published window model of masked_torch: depth 4, scale 64, base 2, kernel 3, 128 channels in.
local function window_model(vocabulary)
  local layers, channels = { nn.ApplyMask() }, 128
  for i = 0, 3 do
    if i > 0 then layers[#layers + 1] = nn.MaskedBatchNorm1d(channels) end
    layers[#layers + 1] = nn.MaskedUnshuffle1d(2)
    layers[#layers + 1] = nn.MaskedConv1d(channels * 2, 64 * 2 ^ i, 3, { padding = 1 })
    channels = 64 * 2 ^ i
    if i < 3 then layers[#layers + 1] = nn.Masked(nn.ReLU()) end
  end
  layers[#layers + 1] = nn.MaskedSpatialMean()
  return nn.Sequential{ nn.MaskedSequential(layers), nn.Linear(512, vocabulary) }
end

-- Taps on valid elements for valid outputs, one by one. m, out: (N, C, L) tables of 0 and 1 for every channel.
local function brute_force(m, out, k, stride, padding, dilation, groups)
  local total = 0
  for n = 1, #m do
    local cin, cout = #m[n], #out[n]
    for o = 1, cout do
      local g = math.floor((o - 1) / (cout / groups))
      for p = 1, #out[n][o] do
        for c = g * cin / groups + 1, (g + 1) * cin / groups do
          for t = 0, k - 1 do
            local at = (p - 1) * stride - padding + t * dilation + 1
            if out[n][o][p] ~= 0 and (m[n][c][at] or 0) ~= 0 then total = total + 1 end
          end
        end
      end
    end
  end
  return total
end

describe('count', function()
  it('reproduces the published line', function()
    local report = count(window_model(50257), torch.randn(1, 128, 128))
    assert.are.equal('Params: 26.865M, MACs: 44.655M, MACs/Param: 1.662', report:summary())
    assert.are.equal(44655104, report.macs)
    assert.are.equal(26865041, report.parameters)
    assert.are.equal(8, #report.rows)
    assert.are.equal('0.2', report.rows[1].name)
    assert.are.equal(3145728 + 1048576, report.rows[1].macs)
    assert.is_truthy(tostring(report):find('0%.2 +MaskedConv1d +%(1, 64, 64%) +49,216 +4,194,304 +3,112,960 +74 %%\n'), tostring(report))
  end)

  it('follows thop for plain layers, and the true cost for transposed ones', function()
    local net = nn.Sequential{ nn.Conv2d(4, 6, 3, { stride = 2, padding = 1, groups = 2 }), nn.BatchNorm2d(6), nn.ReLU(),
      nn.ConvTranspose2d(6, 2, 2, { stride = 2 }), nn.MaxPool2d(2), nn.GroupNorm(1, 2, { affine = false }) }
    local report = count(net, torch.randn(2, 4, 8, 8))
    assert.are.same({ 2 * 6 * 16 * 2 * 9, 4 * 2 * 6 * 16, 2 * 6 * 16 * 2 * 4, 2 * 2 * 2 * 16 },
      { report.rows[1].macs, report.rows[2].macs, report.rows[3].macs, report.rows[4].macs })
  end)

  it('counts the effective ones exactly', function()
    torch.manual_seed(3)
    for _, case in ipairs{
      { 'MaskConv1d', 4, 6, 3, { padding = 1, rule = 'keep' }, 1 },
      { 'MaskConv1d', 4, 6, 3, { padding = 2, dilation = 2, groups = 2, multichannel = true, rule = 'grow' }, 4 },
      { 'SparseConv1d', 2, 4, 5, { stride = 2, padding = 2 }, 1 },
      { 'MaskedConv1d', 4, 2, 3, { padding = 1 }, 4 },
      { 'Conv1d', 3, 4, 4, { stride = 3 }, 1 },
    } do
      local name, cin, cout, k, opts, channels = unpack(case)
      local layer = nn[name](cin, cout, k, opts)
      local mask = torch.rand(2, channels, 13):gt(0.4):float()
      local _, out = layer(torch.randn(2, cin, 13), mask)
      local report = count(layer, torch.randn(2, cin, 13), mask)
      local shape = report.rows[1].shape
      local full_out = out and torch.is_tensor(out) and out or out and out:tensor() or torch.ones(1, 1, 1)
      local expected = brute_force(mask:expand(2, cin, 13):contiguous():totable(),
        full_out:expand(2, cout, shape[3]):contiguous():totable(), k, opts.stride or 1, opts.padding or 0, opts.dilation or 1,
        opts.groups or 1)
      assert.are.equal(expected, report.rows[1].effective, name)
      assert.is_true(expected > 0)
    end
  end)

  it('counts the same for a full mask and none, and nothing for padding', function()
    local net = nn.Sequential{ nn.MaskConv2d(3, 8, 3, { padding = 1 }), nn.MaskedBatchNorm2d(8) }
    local x = torch.randn(2, 3, 8, 8)
    local none, full = count(net, x), count(net, x, torch.ones(2, 1, 8, 8))
    assert.are.equal(none.effective, full.effective)
    local small = count(net, x:narrow(3, 1, 4):narrow(4, 1, 5):contiguous())
    local boxes = count(net, x, torch.mask.boxes({ { 4, 5 }, { 4, 5 } }, { 8, 8 }))
    assert.are.equal(small.effective, boxes.effective)
    assert.are.equal(none.macs, boxes.macs)
  end)

  it('leaves the network as it was, and takes own rules', function()
    local net = nn.Sequential{ nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU() }
    net[1]:eval()
    local mean = net[2].running_mean:clone()
    local report = count(net, torch.randn(4, 3), nil, { rules = { ReLU = function(_, inputs) return inputs[1]:numel(), 5 end } })
    assert.are.equal(4 * 9 + 4 * 12 + 12, report.macs)
    assert.are.equal(5, report.rows[3].effective)
    assert.is_false(net[1].training)
    assert.is_true(net[2].training)
    assert.same_bits(mean, net[2].running_mean:clone())
    assert.fails(function() count(net, torch.randn(4, 5)) end, 'Linear')
    assert.is_true(net.training)
    assert.is_nil(rawget(net[1], '_hooks'))
    assert.fails(function() count(torch.ones(2), 1) end, 'count: net')
    assert.fails(function() count(net, torch.randn(4, 3), nil, { rule = {} }) end, "'rules'")
  end)
end)
