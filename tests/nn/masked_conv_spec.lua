-- The convolution layers over incomplete data.
local golden = require 'support.golden'
local torch = require 'masked_torch'

local nn = torch.nn
local F = nn.functional

local families = { 'MaskedConv', 'PartialConv', 'MaskConv', 'HalfConv', 'SparseConv', 'SubmanifoldConv', 'NormalizedConv',
  'GatedConv' }

local function sizes(dims) return ({ { 9 }, { 6, 7 }, { 4, 5, 4 } })[dims] end

local function input(dims, channels) return torch.randn({ 2, channels, unpack(sizes(dims)) }) end

-- Per-sample corners of the canvas.
local function mask_of(dims)
  local full = sizes(dims)
  local half = {}
  for d = 1, dims do half[d] = math.ceil(full[d] / 2) end
  return torch.mask.boxes({ half, full }, full)
end

describe('printing', function()
  it('is masked_torch\'s', function()
    local made = {
      nn.MaskedConv1d(3, 4, 3), nn.MaskedConv2d(3, 4, 3, { padding = 1, bias = false }),
      nn.MaskedConv2d(4, 6, { 3, 5 }, { stride = 2, padding = { 1, 2 }, groups = 2 }), nn.MaskedConv3d(3, 4, 3, { dilation = 2 }),
      nn.PartialConv1d(3, 4, 2, { padding = 'same' }), nn.PartialConv2d(3, 4, 3, { padding = 1, multichannel = true }),
      nn.PartialConv3d(4, 4, 3, { groups = 4, eps = 1e-6 }),
    }
    local expected = {}
    for _, entry in ipairs(golden.json('reprs.json')) do
      if entry.class:find('Conv%dd$') then expected[#expected + 1] = entry end
    end
    assert.are.equal(#expected, #made)
    for i, entry in ipairs(expected) do
      assert.are.equal(entry.repr, tostring(made[i]))
      assert.are.same(entry.state_dict_keys, made[i]:state_names())
    end
  end)
  it('of presets says what differs from the row', function()
    assert.are.equal('HalfConv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))',
      tostring(nn.HalfConv2d(3, 4, 3, { padding = 1 })))
    assert.are.equal('HalfConv1d(3, 4, kernel_size=(3,), stride=(1,), alpha=0.25, rule=grow)',
      tostring(nn.HalfConv1d(3, 4, 3, { alpha = 0.25, rule = 'grow' })))
    assert.are.equal('MaskConv1d(2, 2, kernel_size=(3,), stride=(2,), padding=((2, 0),))',
      tostring(nn.MaskConv1d(2, 2, 3, { stride = 2, padding = { { 2, 0 } } })))
    assert.are.equal('MaskConv1d(2, 2, kernel_size=(1,), stride=(1,), alpha=0.5, learn_alpha=True, reweight=count)',
      tostring(nn.MaskConv1d(2, 2, 1, { reweight = 'count', alpha = 0.5, learn_alpha = true })))
  end)
end)

describe('every layer', function()
  for _, family in ipairs(families) do
    for dims = 1, 3 do
      local name = family .. dims .. 'd'
      it(name .. ' runs with and without a mask, and trains', function()
        torch.manual_seed(1)
        local layer = nn[name](3, 4, 3, { padding = 1 })
        local x = input(dims, 3)
        local y = layer(x)
        assert.are.same({ 2, 4, unpack(sizes(dims)) }, y:size())
        local z, mask = layer(x, mask_of(dims))
        assert.are.same(y:size(), z:size())
        assert.are.same({ 2, family == 'NormalizedConv' and 4 or 1, unpack(sizes(dims)) }, mask:size())
        z:sum():backward()
        for _, p in ipairs(layer:parameters()) do
          assert.is_true(p.grad:abs():sum():item() > 0)
        end
      end)
    end
    it(family .. ' has the parameters of a convolution, within PyTorch\'s bounds', function()
      torch.manual_seed(2)
      local layer = nn[family .. '2d'](8, 6, 5, { groups = 2, dtype = 'float64' })
      local bound = 1 / math.sqrt(4 * 25)
      assert.are.same({ 6, 4, 5, 5 }, layer.weight:size())
      assert.are.equal('float64', layer.bias.dtype)
      for _, p in ipairs { layer.weight, layer.bias } do
        local low, high = p:min():item(), p:max():item()
        assert.is_true(low >= -bound and high <= bound and high > 0 and low < 0)
      end
      assert.are.same({ 'weight', 'bias' }, { unpack(layer:state_names(), 1, 2) })
    end)
    it(family .. ' does not see what lies under the mask', function()
      torch.manual_seed(3)
      local layer = nn[family .. '2d'](3, 4, 3, { padding = 1 })
      local x = input(2, 3)
      local mask = mask_of(2)
      local dirty = torch.where(mask:tensor('bool'):expand(2, 3, 6, 7), x, torch.full({ 2, 3, 6, 7 }, 0 / 0))
      assert.same_bits(layer(x, mask), layer(dirty, mask))
    end)
  end
end)

describe('presets', function()
  it('HalfConv keeps the second moment at initialisation, where the mask has holes', function()
    torch.manual_seed(4)
    local function moment(family, opts)
      opts.padding, opts.bias = 1, false
      local layer = nn[family .. '2d'](32, 64, 3, opts)
      local w = layer.weight
      torch.no_grad(function() w:normal_(0, 1 / math.sqrt(32 * 9)) end)
      local mask = torch.rand(1, 1, 24, 24):gt(0.6)
      local y, new = layer(torch.randn(1, 32, 24, 24), mask)
      local m = new:tensor()
      return ((y * y * m):sum() / (m:sum() * 64)):item()
    end
    assert.is_true(math.abs(moment('HalfConv', {}) - 1) < 0.06)
    assert.is_true(math.abs(moment('HalfConv', { rule = 'grow' }) - 1) < 0.06)
    assert.is_true(moment('MaskConv', {}) < 0.6)
    assert.is_true(moment('PartialConv', {}) > 1.5)
  end)
  it('NormalizedConv and PartialConv give a constant back through holes', function()
    local mask = torch.rand(1, 1, 9, 9):gt(0.5)
    local soft = torch.rand(1, 2, 9, 9) * 0.9 + 0.1
    for _, family in ipairs { 'NormalizedConv', 'PartialConv', 'SparseConv' } do
      local layer = nn[family .. '2d'](2, 1, 3, { padding = 1, bias = false })
      torch.no_grad(function() layer.weight:fill_(0.5) end)
      local y, new = layer(torch.ones(1, 2, 9, 9), family == 'NormalizedConv' and soft or mask)
      local got = y:totable()[1][1]
      local valid = new:totable()[1][1]
      for i = 1, 9 do
        for j = 1, 9 do
          if valid[i][j] > 0 then assert.is_true(math.abs(got[i][j] - 9) <= 1e-5) end
        end
      end
    end
  end)
  it('SubmanifoldConv keeps the size and refuses a stride', function()
    local layer = nn.SubmanifoldConv2d(2, 3, 5)
    local x, mask = input(2, 2), mask_of(2)
    local y, new = layer(x, mask)
    assert.are.same({ 2, 3, 6, 7 }, y:size())
    assert.are.equal(mask, new)
    assert.fails(function() nn.SubmanifoldConv2d(2, 3, 3, { stride = 2 }) end, "SubmanifoldConv2d: padding: 'same'", 'stride')
    assert.fails(function() nn.SubmanifoldConv2d(2, 3, 3, { stride = 2, padding = 1 }) end, 'SubmanifoldConv2d: stride')
  end)
  it('learn their exponent', function()
    local layer = nn.HalfConv1d(2, 3, 3, { learn_alpha = true })
    assert.are.same({ 'weight', 'bias', 'alpha' }, layer:state_names())
    assert.are.equal(0.5, layer.alpha:item())
    local y = layer(torch.randn(1, 2, 8), torch.mask.lengths({ 5 }, 8))
    y:sum():backward()
    assert.is_true(layer.alpha.grad:item() ~= 0)
    -- Where nothing is re-weighted, alpha has the gradient 0.
    for _, reweight in ipairs { 'none', 'count' } do
      local still = nn.MaskConv1d(2, 3, 3, { learn_alpha = true, reweight = reweight })
      local z = still(torch.randn(1, 2, 8), reweight == 'none' and torch.mask.lengths({ 5 }, 8) or nil)
      z:sum():backward()
      assert.are.equal(0, still.alpha.grad:item())
    end
  end)
  it('pad by other modes, mask and input alike', function()
    local x, mask = input(2, 2), mask_of(2)
    for _, mode in ipairs { 'reflect', 'replicate', 'circular' } do
      local layer = nn.MaskConv2d(2, 3, 3, { padding = 1, padding_mode = mode })
      local y, new = layer(x, mask)
      local m = mask:tensor()
      local expected = F.conv2d(F.pad(x:apply_mask(mask), { 1, 1, 1, 1 }, { mode = mode }), layer.weight, layer.bias)
      assert.same_bits(expected:apply_mask(mask), y)
      assert.same_bits(m, new:tensor())
    end
  end)
end)

describe('lazy layers', function()
  it('take their channels from the first input or from a file', function()
    for _, family in ipairs(families) do
      local layer = nn['Lazy' .. family .. '2d'](4, 3, { padding = 1 })
      assert.fails(function() layer:parameters() end, 'has no parameters yet')
      assert.are.same({ 2, 4, 6, 7 }, layer(input(2, 3), mask_of(2)):size())
      assert.are.equal(3, layer.in_channels)
      assert.are.equal(tostring(nn[family .. '2d'](3, 4, 3, { padding = 1 })), tostring(layer))
      local other = nn['Lazy' .. family .. '2d'](4, 3, { padding = 1 })
      other:load_state_dict(layer:state_dict())
      local x = input(2, 3)
      assert.same_bits(layer(x, mask_of(2)), other(x, mask_of(2)))
    end
    assert.fails(function() nn.LazyMaskedConv2d(4, 3)(torch.randn(2, 3, 8)) end, 'LazyMaskedConv2d: input', '(2, 3, 8)')
  end)
end)

describe('corrections of masked_torch', function()
  it('masks of any type, one channel or spatial only', function()
    for _, family in ipairs { 'MaskedConv', 'PartialConv' } do
      local layer = nn[family .. '2d'](3, 4, 3, { padding = 1 })
      local x, m = input(2, 3), mask_of(2)
      local y = layer(x, m)
      assert.same_bits(y, layer(x, m:tensor('bool')))
      assert.same_bits(y, layer(x, m:tensor('int64')))
      assert.same_bits(y, layer(x, m:tensor('float64')))
      local shared = torch.rand(6, 7):gt(0.4)
      assert.same_bits(layer(x, shared), layer(x, shared:view(1, 1, 6, 7):expand(2, 1, 6, 7)))
    end
  end)
  it('dilation, even kernels, small padding, words for the padding', function()
    local x, m = input(2, 3), mask_of(2)
    for _, opts in ipairs { { dilation = 2, padding = 2 }, { padding = 0 }, { padding = 'same' }, { padding = 'valid' },
      { padding = 'causal' } } do
      for _, kernel in ipairs { 3, 2 } do
        local layer = nn.MaskedConv2d(3, 4, kernel, opts)
        local y, new = layer(x, m)
        assert.are.same({ y:size(3), y:size(4) }, { new:size(3), new:size(4) })
        if opts.dilation and kernel == 3 then assert.are.equal(m, new) end
      end
    end
    -- valid convolution: the mask is cropped to the centres
    local _, new = nn.MaskedConv1d(1, 1, 3)(torch.ones(1, 1, 6), torch.mask.lengths({ 3 }, 6))
    assert.are.same({ { { 1, 1, 0, 0 } } }, new:totable())
    -- an even kernel's centre is tap floor(k / 2): with 4 taps and 'same' padding (1 before, 2 after), the next position
    local _, even = nn.MaskedConv1d(1, 1, 4, { padding = 'same' })(torch.ones(1, 1, 6), torch.mask.lengths({ 3 }, 6))
    assert.are.same({ { { 1, 1, 0, 0, 0, 0 } } }, even:totable())
  end)
  it('a layer of zeros can be trained', function()
    local layer = nn.MaskedConv1d(2, 3, 3, { padding = 1 })
    torch.no_grad(function() layer.weight:fill_(0) end)
    local m = torch.rand(2, 2, 8):gt(0.3)
    local y = layer(torch.randn(2, 2, 8), m)
    y:sum():backward()
    assert.is_true(layer.weight.grad:abs():sum():item() > 0)
    local strict = nn.MaskedConv1d(2, 3, 3, { padding = 1, compat = true })
    torch.no_grad(function() strict.weight:fill_(0) end)
    local z = strict(torch.randn(2, 2, 8), m:float())
    z:sum():backward()
    assert.are.equal(0, strict.weight.grad:abs():sum():item())
  end)
  it('PartialConv without a mask re-weights the border', function()
    local layer = nn.PartialConv2d(1, 1, 3, { padding = 1, bias = false })
    torch.no_grad(function() layer.weight:fill_(1) end)
    local y, mask = layer(torch.ones(1, 1, 4, 4))
    assert.are.same({ 9, 9, 9, 9 }, y:totable()[1][1][1])
    assert.is_true(mask:all_valid())
  end)
end)

describe('compat', function()
  it('refuses what masked_torch refuses', function()
    local x = torch.randn(1, 2, 5, 5)
    local one, many = torch.mask.full { 1, 1, 5, 5 }, torch.mask.full { 1, 2, 5, 5 }
    assert.fails(function() nn.MaskedConv2d(2, 2, 4, { compat = true }) end, 'Only odd kernel sizes are supported')
    assert.fails(function() nn.MaskedConv2d(2, 2, { 3, 2 }, { compat = true }) end, 'Only odd kernel sizes are supported')
    assert.fails(function() nn.MaskedConv1d(2, 2, 3, { padding = 'same', compat = true }) end, "Untested padding='same'")
    for _, family in ipairs { 'MaskedConv2d', 'PartialConv2d' } do
      assert.fails(function() nn[family](2, 2, 3, { padding_mode = 'reflect', compat = true }) end,
        "Only padding_mode='zeros' is supported")
    end
    local padded = nn.MaskedConv2d(2, 2, 3, { padding = 1, compat = true })
    assert.fails(function() padded(x, one) end, 'MaskedConv2d: mask', 'but got 1 channels instead')
    assert.fails(function() nn.MaskedConv2d(2, 2, 3, { compat = true })(x, many) end, 'negative padding is not supported')
    assert.fails(function() nn.MaskedConv2d(2, 2, 3, { padding = 2, dilation = 2, compat = true })(x, many) end, 'dilation 2')
    assert.fails(function()
      nn.PartialConv2d(2, 2, 3, { padding = 1, compat = true })(torch.randn(2, 2, 5, 5), torch.mask.full { 2, 1, 5, 5 })
    end, 'PartialConv2d: mask', '(2, 1, 5, 5)')
  end)
end)

describe('layers refuse', function()
  local function refuses(name, texts, fn)
    it(name, function() assert.fails(fn, unpack(texts)) end)
  end
  refuses('channels that are not whole', { 'MaskedConv2d: in_channels', '1.5' }, function() nn.MaskedConv2d(1.5, 2, 3) end)
  refuses('no kernel size', { 'MaskedConv2d: kernel_size', 'nil' }, function() nn.MaskedConv2d(1, 2) end)
  refuses('a kernel of other dimensions', { 'PartialConv2d: kernel_size', '3' },
    function() nn.PartialConv2d(1, 2, { 3, 3, 3 }) end)
  refuses('a misspelt option', { "'paddin'", "did you mean 'padding'" }, function() nn.HalfConv1d(1, 2, 3, { paddin = 1 }) end)
  refuses('an option of another row', { "SparseConv1d: unknown option 'multichannel'" },
    function() nn.SparseConv1d(1, 2, 3, { multichannel = true }) end)
  refuses('groups that do not divide', { 'GatedConv1d: in_channels', '3 channels', '2 groups' },
    function() nn.GatedConv1d(3, 2, 3, { groups = 2 }) end)
  refuses('a padding mode that does not exist', { 'MaskConv1d: padding_mode', 'mirror' },
    function() nn.MaskConv1d(3, 2, 3, { padding_mode = 'mirror' }) end)
  refuses('an integer dtype', { 'MaskConv1d: dtype', 'int64' }, function() nn.MaskConv1d(3, 2, 3, { dtype = 'int64' }) end)
  refuses('an input of other dimensions', { 'MaskedConv2d: input', '(2, 3, 8)' },
    function() nn.MaskedConv2d(3, 2, 3)(torch.randn(2, 3, 8)) end)
  refuses('another number of channels', { 'MaskedConv1d: input', 'in_channels = 4', '(2, 3, 8)' },
    function() nn.MaskedConv1d(4, 2, 3)(torch.randn(2, 3, 8)) end)
  refuses('a mask that does not fit', { 'MaskedConv1d: mask', '(2, 1, 7)', '(2, 3, 8)' },
    function() nn.MaskedConv1d(3, 2, 3)(torch.randn(2, 3, 8), torch.mask.full { 2, 1, 7 }) end)
end)
