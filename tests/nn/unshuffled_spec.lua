-- An unshuffle in one axis and the convolution behind it: one operation that reads the image where it lies, unless somebody looks.

local torch = require 'masked_torch'
local nn, Tensor = torch.nn, torch.Tensor

local N, C, L = 3, 4, 24

-- The operations that y was made by.
local function history(y)
  local found = {}
  local function walk(fn)
    if fn and fn.op and not found[fn] then
      found[fn], found[fn.op.name] = true, true
      for i = 1, fn.arguments do walk(fn[i]) end
    end
  end
  walk(y.grad_fn)
  return found
end

local function is_fused(net, x, mask)
  return not history((net(x:detach():clone():requires_grad_(), mask))).pixel_unshuffle
end

local function watched(net)
  net[1]:register_forward_hook(function() end)
  return net
end

-- A network and the same one watched.
local function pair(make)
  local net, apart = make(), watched(make())
  torch.manual_seed(3)
  torch.no_grad(function()
    for _, p in ipairs(net:parameters()) do p:copy_(torch.randn(p:size(), { dtype = p.dtype })) end
  end)
  apart:load_state_dict(net:state_dict())
  return net, apart
end

-- Output, the mask's values, gradients of x and of the parameters.
local function results(net, x, mask)
  net:zero_grad()
  x = x:detach():clone():requires_grad_()
  local y, kept = net(x, mask)
  y:backward(torch.cos(y:detach() + 1))
  local all = { y:detach(), x.grad }
  for _, p in ipairs(net:parameters()) do all[#all + 1] = p.grad end
  if kept then all[#all + 1] = kept:tensor(x.dtype) end
  return all, kept
end

local function assert_near(there, here, tolerance)
  assert.are.equal(#there, #here)
  for i, t in ipairs(there) do
    assert.same(t:size(), here[i]:size())
    local largest = math.max(1, t:abs():max():item())
    local limit = t:numel() == 1 and 10 * tolerance or tolerance      -- the gradient of alpha: one sum over everything
    assert((t - here[i]):abs():max():item() <= limit * largest, 'result ' .. i)
  end
end

local masks = {
  none = function() return nil end,
  full = function() return torch.ones(N, 1, L) end,
  ['per pixel'] = function() return torch.rand(N, 1, L):lt(0.6) end,
  lengths = function() return torch.mask.lengths({ 24, 9, 0 }, L, { align = 'right' }) end,
  ['per channel'] = function() return torch.rand(N, C, L):lt(0.6) end,
  soft = function() return torch.maximum(torch.rand(N, 1, L) * 1.5 - 0.5, torch.zeros(1)) end,
  ['soft per channel'] = function() return torch.maximum(torch.rand(1, C, L) * 1.5 - 0.5, torch.zeros(1)) end,
}

local layers = {
  { 'Conv1d' }, { 'Conv1d', padding = 'causal', bias = false }, { 'MaskedConv1d' }, { 'MaskedConv1d', eps = 1e-3 }, { 'PartialConv1d' },
  { 'PartialConv1d', multichannel = true, stride = 2 }, { 'MaskConv1d', rule = 'erode', dilation = 2 },
  { 'HalfConv1d', rule = 'grow', learn_alpha = true }, { 'SparseConv1d' }, { 'SubmanifoldConv1d' }, { 'NormalizedConv1d' },
  { 'GatedConv1d' },
}

local function build(layer, r, dtype, unshuffle)
  local opts = { padding = 1, dtype = dtype }
  for key, value in pairs(layer) do
    if key ~= 1 then opts[key] = value end
  end
  if layer[1] == 'SubmanifoldConv1d' then opts.padding = nil end
  return nn.Sequential{ nn[unshuffle or 'MaskedUnshuffle1d'](r), nn[layer[1]](C * r, 5, 3, opts) }
end

describe('unshuffle and convolution in one axis', function()
  for i, layer in ipairs(layers) do
    it(('give what the two modules give: %s (%d)'):format(layer[1], i), function()
      for _, r in ipairs{ 2, 3, 1 } do
        for _, dtype in ipairs{ 'float64', 'float32' } do
          local net, apart = pair(function() return build(layer, r, dtype) end)
          for kind, make in pairs(masks) do
            torch.manual_seed(r)
            local x, mask = torch.randn(N, C, L, { dtype = dtype }), make()
            assert.is_true(is_fused(net, x, mask))
            assert.is_false(is_fused(apart, x, mask))
            local there, kept = results(apart, x, mask)
            local here, known = results(net, x, mask)
            assert_near(there, here, dtype == 'float64' and 1e-12 or 1e-5)
            if kept then assert.same(kept:size(), known:size(), kind) end
          end
        end
      end
    end)
  end

  it('takes the transform where the two modules take it', function()
    local net, apart = pair(function() return nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(64, 48, 3, { padding = 1 }) } end)
    local x = torch.randn(2, 32, 64)
    assert_near(results(apart, x), results(net, x), 2e-5)
  end)

  it('has the same bits in every memory format, with a graph and without, with a full mask and without', function()
    for _, class in ipairs{ 'Conv1d', 'MaskedConv1d', 'MaskConv1d' } do
      local net = build({ class }, 2)
      local x = torch.randn(N, C, L)
      local y = net(x:clone():requires_grad_())
      assert.same_bits(y, net(x:channels_last()))
      assert.same_bits(y, (torch.no_grad(net, x)))
      assert.same_bits(y, (net(x, torch.ones(N, 1, L))))
      assert.same_bits(y, (net(x, torch.mask.full{ N, 1, L })))
      local channels_last = build({ class }, 2)
      channels_last:load_state_dict(net:state_dict())
      assert.same_bits(y, (channels_last:to{ memory_format = 'channels_last' }(x)))
    end
  end)

  it('does not look into holes, and padding changes no bit', function()
    for _, class in ipairs{ 'Conv1d', 'MaskedConv1d', 'PartialConv1d' } do
      local net = build({ class }, 2)
      local mask = torch.mask.lengths({ 24, 13, 2 }, L)
      local x = torch.randn(N, C, L):apply_mask(mask)
      local clean = results(net, x, mask)
      local dirty = results(net, x + torch.full({ N, C, L }, 0 / 0):apply_mask(torch.ones(N, 1, L) - mask:tensor()), mask)
      for i = 1, #clean do assert(Tensor.same_bits(clean[i], dirty[i]), class .. ', result ' .. i) end
      local wider = torch.cat({ x, torch.zeros(N, C, 8) }, 3)
      local y = net(wider, torch.mask.lengths({ 24, 13, 2 }, L + 8))
      assert.same_bits(clean[1], y:narrow(3, 1, L / 2):contiguous())
    end
  end)

  it('keeps nothing but a view of the image', function()
    local net = build({ 'Conv1d' }, 2)
    local x = torch.randn(N, C, L):channels_last():requires_grad_()
    local y = net(x)
    torch.no_grad(function() x:add_(1) end)
    assert.fails(function() y:sum():backward() end, 'changed in place')
  end)

  it('works in a lazy layer and in every container class', function()
    local net, apart = pair(function()
      return nn.MaskedSequential{ nn.PixelUnshuffle(2), nn.MaskedConv1d(2 * C, 6, 3, { padding = 1 }),
        nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(12, 4, 1) } }
    end)
    local x = torch.randn(N, C, 2 * L)
    watched(apart[3])
    assert.is_true(is_fused(net, x))
    assert_near(results(apart, x, torch.ones(N, 1, 2 * L)), results(net, x, torch.ones(N, 1, 2 * L)), 1e-5)
    for _, class in ipairs{ 'Conv1d', 'PartialConv1d' } do
      local lazy = nn.Sequential{ nn.Unshuffle1d(2), nn['Lazy' .. class](4, 3) }
      local first = lazy(x)
      assert.are.equal(2 * C, lazy[2].in_channels)
      assert.is_true(is_fused(lazy, x))
      assert.same_bits(first, lazy(x))
    end
  end)

  it('is left alone where somebody may look, and where the channels cannot be moved', function()
    local x = torch.randn(N, C, L)
    local function fused(module, opts, y)
      return is_fused(nn.Sequential{ nn.Unshuffle1d(2), module or nn.Conv1d(2 * C, 4, 3, opts) }, y or x)
    end
    assert.is_true(fused())
    assert.is_false(fused(nil, { groups = 2 }))
    assert.is_false(fused(nil, { padding = 1, padding_mode = 'reflect' }))
    assert.is_false(is_fused(nn.Sequential{ nn.Unshuffle2d(2), nn.Conv2d(4 * C, 4, 1) }, torch.randn(1, C, 4, 4)))
    for i = 1, 2 do
      local net = nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(2 * C, 4, 3) }
      local seen
      local remove = net[i]:register_forward_hook(function(_, inputs, outputs) seen = { inputs[1]:detach(), outputs[1]:detach() } end)
      assert.is_false(is_fused(net, x))
      assert.same_bits(nn.functional.unshuffle1d(x, 2), seen[i == 1 and 2 or 1])
      remove()
      assert.is_true(is_fused(net, x))
    end
    local own = nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(2 * C, 4, 3) }
    rawset(own[1], 'forward', function(_, y) return nn.functional.unshuffle1d(y, 2) end)
    assert.is_false(is_fused(own, x))
  end)

  it('refuses an argument that is no factor', function()
    local x = torch.randn(1, 2, 4)
    for _, factor in ipairs{ {}, true, 'x', 2.5, 0, 3 } do
      assert.fails(function() nn.Conv1d(4, 3, 1)(x, nil, nil, nil, factor) end, 'Conv1d: unshuffle')
      assert.fails(function() nn.LazyPartialConv1d(3, 1)(x, nil, nil, nil, factor) end, 'PartialConv1d: unshuffle')
    end
    assert.fails(function() nn.Conv2d(4, 3, 1)(torch.randn(1, 2, 4, 4), nil, nil, nil, 2) end, 'Conv2d: unshuffle', '(1, 2, 4, 4)')
    assert.fails(function() nn.MaskedConv1d(4, 4, 1, { groups = 2 })(x, nil, nil, nil, 2) end, 'MaskedConv1d: unshuffle')
  end)

  it('refuses what the two modules refuse, in their words', function()
    local net = nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(2 * C, 4, 3) }
    local apart = watched(nn.Sequential{ nn.Unshuffle1d(2), nn.Conv1d(2 * C, 4, 3) })
    local masked, one_by_one = build({ 'MaskedConv1d' }, 2), watched(build({ 'MaskedConv1d' }, 2))
    for _, given in ipairs{ { torch.randn(N, C, L - 1) }, { torch.randn(N, C + 1, L) }, { torch.randn(N, C, 2, 2) }, { 'text' }, {},
      { torch.ones(N, C, L, { dtype = 'int64' }) }, { torch.randn(N, C, L, { dtype = 'float64' }) }, { torch.randn(N, C, 2) },
      { torch.randn(N, C, L), torch.ones(N, 1, L + 2) }, { torch.randn(N, C, L), 'mask' } } do
      for _, two in ipairs{ { net, apart }, { masked, one_by_one } } do
        local ok, here = pcall(two[1], given[1], given[2])
        local fine, there = pcall(two[2], given[1], given[2])
        assert.are.equal(fine, ok)
        if not ok then assert.are.equal((there:gsub('^.-:%d+: ', '')), (here:gsub('^.-:%d+: ', ''))) end
      end
    end
  end)
end)
