-- Norm layers: state, modes, printing, masks.
local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional

local function tensor(values, dtype) return torch.Tensor.from_table('tensor', values, dtype) end

describe('batch norm layers', function()
  it('print, name and start as PyTorch', function()
    local layer = nn.BatchNorm2d(5)
    assert.equal('BatchNorm2d(5, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)', tostring(layer))
    assert.equal('weight bias running_mean running_var num_batches_tracked', table.concat(layer:state_names(), ' '))
    assert.near_tensor({ 1, 1, 1, 1, 1 }, layer.running_var)
    assert.equal('int64', layer.num_batches_tracked.dtype)
    assert.equal('MaskedBatchNorm2d(5, eps=1e-05, momentum=None, affine=False, track_running_stats=True)',
      tostring(nn.MaskedBatchNorm2d(5, { momentum = 'cumulative', affine = false })))
    assert.equal('MaskedBatchNorm3d(5, eps=0.001, momentum=0.1, affine=True, track_running_stats=False)',
      tostring(nn.MaskedBatchNorm3d(5, { eps = 1e-3, track_running_stats = false })))
    assert.equal('InstanceNorm1d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)',
      tostring(nn.InstanceNorm1d(3)))
    assert.equal('GroupNorm(3, 6, eps=1e-05, affine=True)', tostring(nn.GroupNorm(3, 6)))
    assert.equal('LayerNorm((6, 5), eps=1e-05, elementwise_affine=True)', tostring(nn.LayerNorm({ 6, 5 })))
    assert.equal('LayerNorm((6,), eps=100.0, elementwise_affine=False)',
      tostring(nn.LayerNorm(6, { eps = 100, elementwise_affine = false })))
    assert.equal('RMSNorm((6,), eps=None, elementwise_affine=True)', tostring(nn.RMSNorm(6)))
  end)

  it('track statistics in training and use them in evaluation', function()
    local x = tensor{ { { 1, 2, 3 } }, { { 4, 5, 9 } } }
    local layer = nn.BatchNorm1d(1)
    layer(x)
    assert.near_tensor({ 0.4 }, layer.running_mean, 1e-7)
    assert.near_tensor({ 0.9 + 0.1 * 8 }, layer.running_var, 1e-6)
    assert.equal(1, layer.num_batches_tracked:item())
    local mean, var = layer.running_mean:item(), layer.running_var:item()
    local y = layer:eval()(x)
    assert.near_tensor({ { { (1 - mean) / math.sqrt(var + 1e-5) } } }, y:narrow(1, 1, 1):narrow(3, 1, 1), 1e-6)
    assert.equal(1, layer.num_batches_tracked:item())
  end)

  it('average over all batches with a cumulative momentum', function()
    local layer = nn.BatchNorm1d(1, { momentum = 'cumulative', affine = false })
    layer(tensor{ { 1 }, { 3 } })
    layer(tensor{ { 5 }, { 7 } })
    layer(tensor{ { 9 }, { 14 } })
    assert.near_tensor({ (2 + 6 + 11.5) / 3 }, layer.running_mean, 1e-6)
    assert.near_tensor({ (2 + 2 + 12.5) / 3 }, layer.running_var, 1e-6)
  end)

  it('use the batch in evaluation when nothing is tracked', function()
    local layer = nn.MaskedBatchNorm1d(2, { track_running_stats = false })
    local x = tensor{ { 1, 2 }, { 3, 5 } }
    local train = layer(x)
    assert.same_bits(train, (layer:eval()(x)))
    assert.is_nil(layer.running_mean)
  end)

  it('return the mask as a Mask and nil as nil', function()
    local layer = nn.BatchNorm2d(2)
    local x = torch.ones(1, 2, 2, 2)
    local _, none = layer(x)
    assert.is_nil(none)
    local m = torch.mask.wrap(torch.ones(1, 1, 2, 2))
    local _, same = layer(x, m)
    assert.equal(m, same)
  end)

  it('refuse other numbers of dimensions and channels', function()
    assert.fails(function() nn.MaskedBatchNorm2d(2)(torch.ones(1, 2, 3)) end, 'expected 4D input (got 3D input)',
      'MaskedBatchNorm2d')
    assert.fails(function() nn.MaskedBatchNorm2d(2)(torch.ones(1, 2, 3, 3), torch.ones(3, 3)) end,
      'expected 4D input (got 2D input)', 'mask')
    assert.fails(function() nn.MaskedBatchNorm1d(2)(torch.ones(1, 2, 3, 3)) end, 'expected 2D or 3D input (got 4D input)')
    assert.fails(function() nn.BatchNorm1d(2)(torch.ones(4, 3)) end, 'BatchNorm1d', 'expected 2 channels', '(4, 3)')
    assert.fails(function() nn.BatchNorm1d(2, { momentum = 'mean' }) end, 'momentum', 'cumulative')
    assert.fails(function() nn.BatchNorm1d(2, { compat = true }) end, 'compat')
    assert.fails(function() nn.BatchNorm1d(0) end, 'num_features')
    assert.fails(function() nn.BatchNorm1d(2)(torch.ones(1, 2)) end, 'more than 1 value per channel', '(1, 2)')
    assert.fails(function() nn.GroupNorm(4, 6) end, 'num_groups', '6 channels')
  end)

  it('do not count a batch that failed', function()
    local layer = nn.BatchNorm1d(2)
    assert.fails(function() layer(torch.ones(1, 2)) end)
    assert.equal(0, layer.num_batches_tracked:item())
  end)

  it('reset', function()
    local layer = nn.BatchNorm1d(1)
    layer(tensor{ { 1 }, { 3 } })
    layer:reset_parameters()
    assert.equal(0, layer.num_batches_tracked:item())
    assert.near_tensor({ 0 }, layer.running_mean)
  end)
end)

describe('the other norm layers', function()
  local x = tensor{ { { 1, 2, 4 }, { 3, 7, 5 } }, { { 0, 2, 1 }, { 3, 4, 4 } } }
  local mask = tensor{ { { 1, 1, 0 } }, { { 1, 1, 1 } } }

  it('are their functions', function()
    assert.same_bits(F.group_norm(x, 2, nil, nil, 1e-5, { mask = mask }), (nn.GroupNorm(2, 2)(x, mask)))
    assert.same_bits(F.instance_norm(x, { mask = mask }), (nn.MaskedInstanceNorm1d(2)(x, mask)))
    assert.same_bits(F.layer_norm(x, { 2, 3 }, { mask = mask }), (nn.MaskedLayerNorm({ 2, 3 })(x, mask)))
    assert.same_bits(F.rms_norm(x, 3, { mask = mask }), (nn.RMSNorm(3)(x, mask)))
    assert.same_bits(F.layer_norm(x, 2, { channels = true }), (nn.LayerNorm(2, { channels = true })(x)))
  end)

  it('return a Mask', function()
    for _, layer in ipairs{ nn.GroupNorm(2, 2), nn.InstanceNorm1d(2), nn.LayerNorm(3), nn.LayerNorm(2, { channels = true }),
      nn.RMSNorm(3) } do
      local _, kept = layer(x, mask)
      assert.is_true(torch.mask.is_mask(kept))
      assert.equal(kept, (select(2, layer(x, mask))))      -- the same one: what layers derived from it is shared
    end
  end)

  it('take a mask of tokens', function()
    local tokens = tensor{ { { 1 }, { 0 } }, { { 1 }, { 1 } } }
    local y, kept = nn.LayerNorm(3)(x, tokens)
    assert.equal(tokens, kept)
    assert.near_tensor({ 0, 0, 0 }, y:select(1, 1):select(1, 2))
    assert.same_bits((nn.LayerNorm(3)(x)):select(1, 2), y:select(1, 2))
  end)

  it('track instance statistics', function()
    local layer = nn.InstanceNorm1d(1, { track_running_stats = true, momentum = 1 })
    layer(tensor{ { { 1, 2, 100 } }, { { 3, 5, 100 } }, { { 9, 9, 9 } } },
      tensor{ { { 1, 1, 0 } }, { { 1, 1, 0 } }, { { 0, 0, 0 } } })
    assert.near_tensor({ (1.5 + 4) / 2 }, layer.running_mean, 1e-6)
    assert.near_tensor({ (0.5 + 2) / 2 }, layer.running_var, 1e-6)
    local y = layer:eval()(tensor{ { { 2.75, 2.75 } } })
    assert.near_tensor({ { { 0, 0 } } }, y, 1e-6)
  end)

  it('refuse what does not fit', function()
    assert.fails(function() nn.LayerNorm(4)(x) end, 'normalized_shape', '(2, 2, 3)', '(4)')
    assert.fails(function() nn.LayerNorm('a') end, 'normalized_shape')
    assert.fails(function() nn.InstanceNorm2d(2)(x) end, 'expected 4D input (got 3D input)')
    assert.fails(function() nn.InstanceNorm1d(2)(torch.ones(2, 2, 1)) end, 'more than 1 spatial element')
    assert.fails(function() nn.LayerNorm(3)(x, torch.ones(2, 2, 2)) end, 'mask')
  end)
end)
