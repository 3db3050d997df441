-- Convolution and linear layers: printing, initialisation, options, lazy layers, masks.
local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional

local function within(t, bound)
  local worst, sum, n = 0, 0, t:numel()
  for _, v in ipairs(t:detach():view(n):totable()) do
    worst, sum = math.max(worst, math.abs(v)), sum + v
  end
  assert(worst <= bound and worst > 0.8 * bound, ('largest %g, bound %g'):format(worst, bound))
  assert(math.abs(sum / n) < 0.2 * bound)
end

describe('convolution layers', function()
  it('print as in PyTorch', function()
    for text, layer in pairs {
      ['Conv1d(3, 4, kernel_size=(3,), stride=(1,))'] = nn.Conv1d(3, 4, 3),
      ['Conv2d(4, 6, kernel_size=(3, 5), stride=(2, 2), padding=(1, 2), groups=2)'] = nn.Conv2d(4, 6, { 3, 5 },
        { stride = 2, padding = { 1, 2 }, groups = 2 }),
      ['Conv3d(3, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=same, dilation=(2, 2, 2), bias=False)'] = nn.Conv3d(3, 4, 3,
        { padding = 'same', dilation = 2, bias = false }),
      ['Conv2d(1, 1, kernel_size=(2, 2), stride=(1, 1), padding=(1, 1), padding_mode=reflect)'] = nn.Conv2d(1, 1, 2,
        { padding = 1, padding_mode = 'reflect' }),
      ['Conv2d(1, 1, kernel_size=(2, 2), stride=(1, 1), padding=((1, 0), (0, 0)))'] = nn.Conv2d(1, 1, 2,
        { padding = { { 1, 0 }, { 0, 0 } } }),
      ['ConvTranspose2d(3, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))'] =
        nn.ConvTranspose2d(3, 4, 3, { stride = 2, padding = 1, output_padding = 1 }),
      ['LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1))'] = nn.LazyConv2d(4, 3),
      ['Linear(in_features=3, out_features=4, bias=True)'] = nn.Linear(3, 4),
      ['LazyLinear(in_features=0, out_features=4, bias=False)'] = nn.LazyLinear(4, { bias = false }),
    } do
      assert.are.equal(text, tostring(layer))
    end
  end)

  it('start with values of PyTorch\'s range', function()
    torch.manual_seed(1)
    local conv = nn.Conv2d(16, 64, 3, { groups = 2 })
    assert.same({ 64, 8, 3, 3 }, conv.weight:size())
    within(conv.weight, 1 / math.sqrt(8 * 9))
    within(conv.bias, 1 / math.sqrt(8 * 9))
    conv = nn.ConvTranspose1d(12, 64, 4)
    assert.same({ 12, 64, 4 }, conv.weight:size())
    within(conv.weight, 1 / math.sqrt(64 * 4))
    local linear = nn.Linear(50, 60)
    within(linear.weight, 1 / math.sqrt(50))
    within(linear.bias, 1 / math.sqrt(50))
  end)

  it('call the function of their name', function()
    local x = torch.randn(2, 4, 7, 6)
    local opts = { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 2 }, groups = 2 }
    local conv = nn.Conv2d(4, 6, 3, opts)
    local y, mask = conv(x)
    assert.is_nil(mask)
    assert.same_bits(F.conv2d(x, conv.weight, conv.bias, opts), y)
    local up = nn.ConvTranspose2d(4, 6, 3, { stride = 2, padding = 1, output_padding = 1, groups = 2, bias = false })
    assert.same_bits(F.conv_transpose2d(x, up.weight, nil, { stride = 2, padding = 1, output_padding = 1, groups = 2 }), (up(x)))
    assert.same({ 2, 6, 14, 12 }, up(x):size())
    local linear = nn.Linear(6, 5)
    assert.same_bits(F.linear(x, linear.weight, linear.bias), (linear(x)))
  end)

  it('lazy layers take their channels from the first input or from a state', function()
    local lazy = nn.LazyConv2d(6, 3, { groups = 2 })
    assert.fails(function() lazy:parameters() end, 'parameters: LazyConv2d has no parameters yet')
    assert.same({ 1, 6, 3, 3 }, lazy(torch.zeros(1, 4, 5, 5)):size())
    assert.same({ 6, 2, 3, 3 }, lazy.weight:size())
    assert.fails(function() lazy(torch.zeros(1, 6, 5, 5)) end, 'Conv2d: input:')
    local other = nn.LazyConv2d(6, 3, { groups = 2 })
    other:load_state_dict(lazy:state_dict())
    assert.same_bits(lazy.weight:detach(), other.weight:detach())
    local linear = nn.LazyLinear(3)
    assert.same({ 2, 3 }, linear(torch.zeros(2, 5)):size())
    assert.are.equal(5, linear.in_features)
    assert.are.equal('Linear(in_features=5, out_features=3, bias=True)', tostring(linear))
    assert.are.equal('Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), groups=2)', tostring(lazy))
    assert.are.equal(tostring(lazy), tostring(other))
  end)

  it('parameters are of the dtype asked for', function()
    local conv = nn.Conv1d(2, 3, 2, { dtype = 'float64' })
    assert.are.equal('float64', conv(torch.zeros(1, 2, 4, { dtype = 'float64' })).dtype)
    assert.are.equal('float64', nn.Linear(2, 2, { dtype = 'float64' }).bias.dtype)
  end)

  it('refuse what cannot be', function()
    assert.fails(function() nn.Conv2d(3) end, 'Conv2d: out_channels:')
    assert.fails(function() nn.Conv2d(3, 4) end, 'Conv2d: kernel_size:')
    assert.fails(function() nn.Conv2d(3, 4, 0) end, 'Conv2d: kernel_size:', '0')
    assert.fails(function() nn.Conv2d(3, 4, 3, { groups = 2 }) end, 'Conv2d: in_channels:', '3 channels', '2 groups')
    assert.fails(function() nn.Conv2d(4, 3, 3, { groups = 2 }) end, 'Conv2d: out_channels:', '3 channels', '2 groups')
    assert.fails(function() nn.Conv2d(3, 4, 3, { pading = 1 }) end, 'Conv2d:', "'pading'", "'padding'")
    assert.fails(function() nn.Conv2d(3, 4, 3, { padding = 'same', stride = 2 }) end, 'Conv2d: padding:', "'same'")
    assert.fails(function() nn.ConvTranspose2d(3, 4, 3, { padding = 'same' }) end, 'ConvTranspose2d: padding:')
    assert.fails(function() nn.ConvTranspose2d(1, 1, 3)(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3)) end,
      'ConvTranspose2d: mask:', '(1, 1, 2, 3)')
    for _, layer in ipairs{ nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), nn.MaskedConv2d(3, 4, 3) } do
      local mine = layer:__tostring():match '^%w+' .. ': input: expected (N, in_channels = 3, H, W), got '
      assert.fails(function() layer(torch.zeros(1, 28, 28, 3)) end, mine .. '(1, 28, 28, 3) float32')
      assert.fails(function() layer(torch.zeros(3, 28, 28), torch.ones(1, 28, 28)) end, mine .. '(3, 28, 28) float32')
      assert.fails(function() layer 'image' end, 'input: expected a tensor, got string')
    end
    for _, layer in ipairs{ nn.Conv2d(3, 4, 3), nn.MaskConv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), nn.Linear(9, 2) } do
      assert.fails(function() layer(torch.zeros(1, 3, 9, 9, { dtype = 'uint8' })) end, 'input: expected float32 like the weight, got',
        "(1, 3, 9, 9) uint8; convert it with x:to{dtype = 'float32'}")
    end
    assert.fails(function() nn.Linear(16, 2)(torch.zeros(1, 8)) end,
      'Linear: input: expected in_features = 16 in the last dim, got (1, 8) float32')
    assert.fails(function() nn.ConvTranspose2d(1, 1, 3, { mask_rule = 'erode' }) end, 'ConvTranspose2d: mask_rule:')
    assert.fails(function() nn.Linear(2.5, 3) end, 'Linear: in_features:', '2.5')
    assert.fails(function() nn.Linear(2, 3, { biass = false }) end, 'Linear:', "'bias'")
  end)

  it('with a mask: clear the holes, convolve, keep the mask, mask the output', function()
    local x, conv = torch.randn(2, 3, 6, 5), nn.Conv2d(3, 4, 3, { padding = 1 })
    local m = torch.mask.boxes({ { 4, 5 }, { 6, 2 } }, { 6, 5 }):tensor('float32')
    local y, mask = conv(x, m)
    assert.same_bits(m, mask:tensor('float32'))
    local expected = F.conv2d(x * m, conv.weight, conv.bias, { padding = 1 }) * m
    assert.near_tensor(expected:detach(), y:detach(), 0)
  end)

  it('pads mask and data alike', function()
    local x, m = torch.randn(2, 3, 6, 5), torch.rand(2, 1, 6, 5):gt(0.4)
    for _, mode in ipairs { 'reflect', 'replicate', 'circular' } do
      local conv = nn.Conv2d(3, 4, 3, { padding = 1, padding_mode = mode })
      local holes = torch.where(m, x, 0 / 0)
      local y, mask = conv(holes, m)
      local kept = m:double():to('float32')
      assert.same_bits(kept, mask:tensor('float32'))
      assert.near_tensor((conv((x * kept)) * kept):detach(), y:detach(), 0)
    end
  end)
end)

describe('a transposed convolution with a mask', function()
  local function rule_of(rule, m, opts)
    opts.mask_rule = rule
    local k = opts.kernel
    opts.kernel = nil
    local layer = nn.ConvTranspose1d(1, 1, k, opts)
    local y, mask = layer(torch.ones(1, 1, #m), torch.tensor({ { m } }))
    assert.same(y:size(), mask:size())
    return mask:totable()[1][1]
  end

  it('spreads each value over the stride, or over the kernel', function()
    assert.same({ 1, 1, 0, 0, 1, 1 }, rule_of('keep', { 1, 0, 1 }, { kernel = 2, stride = 2 }))
    assert.same({ 1, 1, 0, 0, 1, 1 }, rule_of('keep', { 1, 0, 1 }, { kernel = 4, stride = 2, padding = 1 }))
    assert.same({ 1, 1, 1, 0, 0, 0 }, rule_of('keep', { 1, 1, 0, 0 }, { kernel = 3 }))
    assert.same({ 1, 1, 0, 0 }, rule_of('keep', { 1, 1, 0, 0 }, { kernel = 3, padding = 1 }))
    assert.same({ 1, 1, 1, 0, 0, 0, 0, 0 },
      rule_of('grow', { 1, 0, 0, 0 }, { kernel = 4, stride = 2, padding = 1 }))
    assert.same({ 0.5, 0.5, 0, 0 }, rule_of('grow', { 0.5, 0 }, { kernel = 2, stride = 2 }))
  end)

  it('reads no hole, sends no gradient there, and does not see the padding', function()
    for dims = 1, 3 do
      local S = ({ { 5 }, { 5, 4 }, { 4, 3, 3 } })[dims]
      local layer = nn['ConvTranspose' .. dims .. 'd'](2, 4, 3, { stride = 2, padding = 1, output_padding = 1, groups = 2 })
      local larger, box = {}, {}
      for d = 1, dims do larger[d], box[d] = S[d] + 2, S[d] - 1 end
      local x = torch.randn{ 1, 2, unpack(S) }
      local m = torch.mask.boxes({ box }, S)
      local plain = layer(x)
      assert.same_bits(plain, (layer(x, torch.ones{ 1, 1, unpack(S) })))
      local holes = torch.where(m:bool(), x, 0 / 0):requires_grad_()
      local y, mask = layer(holes, m)
      assert.same(layer(x * m):size(), y:size())
      y:sum():backward()
      local around = torch.full({ 1, 2, unpack(larger) }, 0 / 0)
      local corner = { { 1, 1 }, { 1, 2 } }
      for d = 1, dims do corner[d + 2] = { 1, S[d] } end
      around[corner] = holes:detach()
      local wide = layer(around, torch.mask.boxes({ box }, larger))
      local inner = { {}, {} }
      for d = 1, dims do inner[d + 2] = { 1, y:size(d + 2) } end
      assert.same_bits(y:detach():contiguous(), wide[inner]:detach():contiguous())
      assert.near_tensor((layer(x * m) * mask):detach(), y:detach(), 0)
      assert.equal(0, (holes.grad * torch.where(m:bool(), 0, 1)):abs():sum():item())
    end
  end)

  it('has the same bits with weights of either memory format, forward and backward', function()
    -- Taps that are all in use and few of them, panels and planes of outputs, the transform, groups, one axis.
    for _, case in ipairs { { 3, 8, { 9, 9 } }, { 64, 48, { 12, 12 } }, { 64, 48, { 2, 2 } }, { 130, 40, { 1, 1 } }, { 40, 33, { 5, 6 } },
      { 24, 36, { 7, 7 }, 4 }, { 32, 40, { 17 } } } do
      local C, O, size, groups = unpack(case)
      local layer = nn[('Conv%dd'):format(#size)](C, O, 3, { padding = 1, groups = groups or 1 })
      local x = torch.randn(2, C, unpack(size))
      local function run()
        local leaf = x:clone():requires_grad_()
        layer:zero_grad()
        local y = layer(leaf)
        y:sum():backward()
        return y:detach(), leaf.grad, layer.weight.grad
      end
      local y, dx, dw = run()
      local weight = layer.weight
      assert.equal(layer, layer:to { memory_format = 'channels_last' })
      assert.equal(weight, layer.weight)
      assert.same(torch.Tensor.channels_last(weight:size()), weight:stride())
      local y2, dx2, dw2 = run()
      assert.same_bits(y, y2)
      assert.same_bits(dx, dx2)
      assert.same_bits(dw, dw2)
      assert.is_true(layer:to({ memory_format = 'contiguous' }).weight:is_contiguous())
      assert.same_bits(y, (run()))
    end
    assert.fails(function() nn.Conv2d(1, 1, 1):to { memory_format = 'nchw' } end, 'memory_format', 'channels_last')
  end)
end)
