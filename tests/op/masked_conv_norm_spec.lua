-- How much taps and channels of filters weigh (core/masked_conv_norm.c): filters and channels beyond a block, every layout of weights.

local torch = require 'masked_torch'
local F = torch.nn.functional

local function weights_of(O, C, dtype, layout)
  local w = torch.randn(O, C, 3, 2, { dtype = dtype })
  return layout == 'last' and w:channels_last() or layout == 'apart' and torch.randn(C, O, 3, 2, { dtype = dtype }):transpose(1, 2) or w
end

-- A convolution of the mask by |w| or w^2, over that of ones.
local function shares(norm, mask, O, opts)
  local K = F.conv2d(torch.ones(mask:size(), { dtype = mask.dtype }), norm, nil, opts)
  local S = F.conv2d(mask:expand(mask:size(1), norm:size(2) * (opts.groups or 1), mask:size(3), mask:size(4)), norm, nil, opts)
  assert.equal(O, K:size(2))
  return S / K, K / S
end

describe('the weight of taps and channels', function()
  for _, size in ipairs { { 8, 256 }, { 11, 300 }, { 3, 2 }, { 17, 513 } } do
    local O, C = unpack(size)
    for _, layout in ipairs { 'rows', 'last', 'apart' } do
      it(('is summed for %d filters of %d channels: %s'):format(O, C, layout), function()
        local w, x = weights_of(O, C, 'float64', layout), torch.randn(2, C, 4, 5, { dtype = 'float64' })
        local mask = torch.maximum(torch.rand(2, C, 4, 5, { dtype = 'float64' }) * 1.5 - 0.5, torch.zeros(1, { dtype = 'float64' }))
        local plain = { padding = { 0, 0 } }
        for _, case in ipairs { { 'l1', w:abs() }, { 'l2', w * w } } do
          local _, ratio = shares(case[2], mask, O, plain)
          local y = F.masked_conv2d(x, w, nil, mask, { rule = 'grow', reweight = case[1], gate = 'none' })
          local raw = F.masked_conv2d(x, w, nil, mask, { rule = 'grow', gate = 'none' })
          assert.near_tensor(raw * (case[1] == 'l2' and ratio:sqrt() or ratio), y, 1e-9)
        end
        local share = shares(w:abs(), mask, O, plain)
        local _, confidence = F.masked_conv2d(x, w, nil, mask, { rule = 'confidence', gate = 'none' })
        assert.near_tensor(share, confidence:tensor('float64'), 1e-12)
        local centre = shares(w:abs():sum{ dim = { 3, 4 }, keepdim = true }, mask:narrow(3, 2, 2):narrow(4, 2, 4), O, {})
        local _, kept = F.masked_conv2d(x, w, nil, mask, { rule = 'centre' })
        assert.near_tensor(centre, kept:tensor('float64'), 1e-12)
      end)
    end
  end

  it('is summed for each group', function()
    local O, C, groups = 22, 30, 2
    local w = weights_of(O, C / groups, 'float64', 'rows')
    local mask, x = torch.rand(1, C, 4, 5, { dtype = 'float64' }), torch.randn(1, C, 4, 5, { dtype = 'float64' })
    local _, confidence = F.masked_conv2d(x, w, nil, mask, { rule = 'confidence', gate = 'none', groups = groups })
    assert.near_tensor(shares(w:abs(), mask, O, { groups = groups }), confidence:tensor('float64'), 1e-12)
  end)

  it('has the same bits in every layout', function()
    local w, mask, x = torch.randn(9, 300, 3, 3), torch.rand(1, 300, 6, 6), torch.randn(1, 300, 6, 6)
    local _, rows = F.masked_conv2d(x, w, nil, mask, { rule = 'centre', padding = 1 })
    local _, last = F.masked_conv2d(x, w:channels_last(), nil, mask, { rule = 'centre', padding = 1 })
    assert.same_bits(rows:tensor():contiguous(), last:tensor():contiguous())
  end)
end)
