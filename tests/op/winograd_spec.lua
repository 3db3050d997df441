-- Convolution by the Winograd transform (core/winograd.h), forced on shapes of every kind, against direct sums in float64.
local torch = require 'masked_torch'

local nn, F = torch.nn, torch.nn.functional
local functions = { F.conv1d, F.conv2d, F.conv3d }

local function with(algorithm, fn)
  local before = torch.conv_algorithm(algorithm)
  local ok, a, b, c = pcall(fn)
  torch.conv_algorithm(before)
  assert(ok, a)
  return a, b, c
end

-- y, dx and dw under a fixed upstream gradient.
local function run(x, w, b, opts, algorithm)
  return with(algorithm, function()
    x, w = x:detach():clone():requires_grad_(), w:detach():clone():requires_grad_()
    local y = functions[x:dim() - 2](x, w, b, opts)
    torch.manual_seed(9)
    y:backward(torch.randn(y:size()):to { dtype = y.dtype })
    return y:detach(), x.grad, w.grad
  end)
end

local function relative_error(a, exact)
  return (a:double() - exact):abs():max():item() / exact:abs():max():item()
end

local cases = {
  -- N, C, O, sizes, options
  { 2, 1, 1, { 1, 1 }, { padding = 1 } },
  { 2, 3, 5, { 4, 4 }, { padding = 1 } },
  { 1, 16, 16, { 5, 3 }, {} },
  { 3, 17, 33, { 9, 14 }, { padding = 1 } },
  { 1, 64, 48, { 13, 6 }, { padding = 2 } },
  { 2, 257, 20, { 6, 7 }, { padding = { { 0, 2 }, { 3, 1 } } } },
  { 2, 520, 7, { 4, 5 }, { padding = 1 } },
  { 2, 12, 20, { 8, 9 }, { padding = 1, groups = 4 } },
  { 70, 4, 8, { 7, 5 }, { padding = 1 } },
  { 2, 1, 1, { 1 }, { padding = 1 } },
  { 2, 31, 40, { 17 }, { padding = 'causal' } },
  { 5, 300, 70, { 11 }, { padding = { { 2, 0 } } } },
  { 3, 64, 64, { 64 }, { padding = 1, groups = 2 } },
  { 1, 8, 9, { 3 }, {} },
  { 2, 8, 9, { 12, 12 }, { padding = { { -1, -2 }, { 1, -3 } } } },       -- cropped
  { 2, 20, 17, { 4, 6 }, { padding = 2 }, 5 },
  { 1, 40, 33, { 9, 5 }, {}, 5 },
  { 2, 8, 9, { 12, 7 }, { padding = { { 4, 1 }, { 0, 3 } }, groups = 1 }, 5 },
  { 3, 34, 40, { 11 }, { padding = 2 }, 5 },
  { 2, 300, 8, { 6 }, { padding = { { 4, 0 } } }, 5 },
  { 2, 16, 20, { 3, 6, 7 }, { padding = 1 } },
  { 1, 32, 33, { 4, 5, 9 }, {} },
  { 2, 96, 17, { 1, 4, 4 }, { padding = { { 2, 0 }, { 3, 1 }, { 1, 1 } } } },
  { 1, 64, 32, { 5, 4, 3 }, { padding = 1, groups = 2 } },
  { 1, 16, 5, { 4 }, {}, 2 },
  { 2, 130, 40, { 13 }, { padding = { { 1, 0 } } }, 2 },
  { 2, 33, 18, { 9, 12 }, { padding = 1 }, 2 },
  -- stride 2: sizes of either parity, every phase of the padding
  { 1, 16, 3, { 3 }, { stride = 2 } },
  { 2, 16, 5, { 12 }, { stride = 2, padding = 1 } },
  { 2, 272, 33, { 37 }, { stride = 2, padding = 'causal' } },
  { 2, 32, 40, { 31 }, { stride = 2, padding = { { 0, 1 } }, groups = 2 } },
  { 2, 16, 33, { 32 }, { stride = 2, padding = 1 }, 4 },
  { 2, 16, 17, { 33 }, { stride = 2, padding = 2 }, 5 },
  { 1, 16, 1, { 3, 3 }, { stride = 2 } },
  { 2, 16, 5, { 12, 13 }, { stride = 2, padding = 1 } },
  { 2, 64, 48, { 25, 22 }, { stride = 2, padding = { { 2, 0 }, { 0, 1 } } } },
  { 2, 32, 18, { 21, 11 }, { stride = 2, padding = 2, groups = 2 } },
  { 1, 80, 34, { 23, 21 }, { stride = 2, padding = { { -1, 2 }, { 3, -2 } } } },
  { 2, 32, 40, { 13, 18 }, { stride = { 2, 1 }, padding = 1 } },
  { 2, 32, 40, { 13, 18 }, { stride = { 1, 2 }, padding = { { 1, 1 }, { 0, 0 } } } },
  { 2, 16, 17, { 22, 23 }, { stride = 2, padding = 1 }, 4 },
  { 2, 16, 17, { 11, 10 }, { stride = 2, padding = { { 2, 1 }, { 0, 3 } } }, 4 },
  { 2, 32, 17, { 23, 14 }, { stride = 2, padding = 2 }, 5 },
  { 1, 32, 17, { 12, 15 }, { stride = { 2, 1 }, padding = 1 }, 5 },
  { 70, 16, 8, { 7, 5 }, { stride = 2, padding = 1 } },
}

describe('the Winograd transform', function()
  for _, case in ipairs(cases) do
    local N, C, O, sizes, opts, width = unpack(case)
    width = width or 3
    local groups = opts.groups or 1
    local list = table.concat(sizes, ', ')
    local stride = type(opts.stride) == 'table' and table.concat(opts.stride, ', ') or opts.stride or 1
    local name = ('is right for (%d, %d, %s) to %d channels, groups %d, kernels of %d, stride %s'):format(N, C, list, O, groups, width,
      stride)
    it(name, function()
      torch.manual_seed(C + O)
      local kernel = {}
      for d = 1, #sizes do kernel[d] = width end
      local x, w, b = torch.randn(N, C, unpack(sizes)), torch.randn(O, C / groups, unpack(kernel)), torch.randn(O)
      local y, dx, dw = run(x, w, b, opts, 'winograd')
      local exact, exact_dx, exact_dw = run(x:double(), w:double(), b:double(), opts, 'direct')
      assert.is_true(relative_error(y, exact) <= 1e-5, tostring(relative_error(y, exact)))
      assert.is_true(relative_error(dx, exact_dx) <= 1e-5, tostring(relative_error(dx, exact_dx)))
      assert.is_true(relative_error(dw, exact_dw) <= 1e-5, tostring(relative_error(dw, exact_dw)))
      local direct, direct_dx, direct_dw = run(x, w, b, opts, 'direct')
      if N * C * O >= 100 then
        assert.is_false(direct:equal(y), 'the transform was not used')
        assert.is_true(not direct_dx:equal(dx) or #sizes == 3 and O % 16 ~= 0, 'the transform was not used for the input')
        assert.is_false(direct_dw:equal(dw), 'the transform was not used for the weight')
      end
    end)
  end

  it('is taken by itself where it pays, per sample, whatever the batch and the padding', function()
    torch.manual_seed(4)
    local layer = nn.MaskedConv2d(32, 32, 3, { padding = 1 })
    local values = torch.randn(3, 32, 12, 12)
    local sizes = { { 12, 12 }, { 4, 12 }, { 7, 5 } }
    local x = torch.full({ 3, 32, 20, 16 }, 0 / 0)
    for n, size in ipairs(sizes) do
      x[{ n, {}, { 1, size[1] }, { 1, size[2] } }] = values[{ n, {}, { 1, size[1] }, { 1, size[2] } }]
    end
    local together = layer(x, torch.mask.boxes(sizes, { 20, 16 })):detach()
    for n, size in ipairs(sizes) do
      local sample = values[{ { n, n }, {}, { 1, size[1] }, { 1, size[2] } }]:contiguous()
      local function alone(algorithm) return with(algorithm, function() return (layer(sample)):detach() end) end
      local part = together[{ { n, n }, {}, { 1, size[1] }, { 1, size[2] } }]:contiguous()
      assert.same_bits(alone 'auto', part)
      assert.same_bits(alone(size[1] < 5 and 'direct' or 'winograd'), part)
      assert.is_false((alone 'direct'):equal(alone 'winograd'))
      assert.equal(0, together[{ { n, n }, {}, { 13, 20 }, {} }]:abs():max():item())
    end
  end)

  it('writes large results past the caches, with the bits of small ones: outputs and gradients of the input', function()
    torch.manual_seed(5)
    local layer = nn.PartialConv2d(32, 32, 3, { padding = 1 })
    local sizes = { { 64, 64 }, { 30, 61 }, { 47, 20 } }      -- one sample has half a megabyte, three have more than one
    local x, dy, mask = torch.randn(3, 32, 64, 64), torch.randn(3, 32, 64, 64), torch.mask.boxes(sizes, { 64, 64 })
    local function both(first, last)
      local part = { { first, last } }
      local leaf = x[part]:contiguous():requires_grad_()
      local own = {}
      for n = first, last do own[#own + 1] = sizes[n] end
      local y = layer(leaf, first == 1 and last == 3 and mask or torch.mask.boxes(own, { 64, 64 }))
      y:backward(dy[part]:contiguous())
      return y:detach(), leaf.grad
    end
    local y, dx = both(1, 3)
    for n = 1, 3 do
      local own_y, own_dx = both(n, n)
      assert.same_bits(own_y, y[{ { n, n } }]:contiguous())
      assert.same_bits(own_dx, dx[{ { n, n } }]:contiguous())
    end
    assert.is_true(y:abs():max():item() > 0 and dx:abs():max():item() > 0)
  end)

  it('takes the samples of a batch that are worth it, the others directly: outputs and gradients', function()
    torch.manual_seed(12)
    for dims = 1, 3 do
      local outputs = dims == 3 and 48 or 33
      local layer = nn[('MaskedConv%dd'):format(dims)](32, outputs, 3, { padding = 1 })
      local N, canvas, sizes = 19, ({ { 24 }, { 11, 13 }, { 3, 11, 12 } })[dims], {}
      for n = 1, N do      -- large and small ones in turn, one of them empty
        local side = n % 2 == 0 and 4 or n == 5 and 0 or 6 + n % 5
        sizes[n] = ({ { side }, { side, side }, { math.min(side, 1 + n % 3), side, side } })[dims]
      end
      local mask = torch.mask.boxes(sizes, canvas)
      local x = torch.randn(N, 32, unpack(canvas)):select_valid(mask):detach()
      local dy = torch.randn(N, outputs, unpack(canvas))
      local function gradients(algorithm, net, values, upstream, batch_mask)
        return with(algorithm, function()
          local leaf = values:detach():clone():requires_grad_()
          net:zero_grad()
          local y = net(leaf, batch_mask)
          y:backward(upstream)
          return { y:detach(), leaf.grad:clone(), net.weight.grad:clone() }
        end)
      end
      local auto, direct = gradients('auto', layer, x, dy, mask), gradients('direct', layer, x, dy, mask)
      for i = 1, 3 do
        assert.is_true((auto[i] - direct[i]):abs():max():item() <= 1e-5 * direct[i]:abs():max():item())
        assert.is_false(auto[i]:equal(direct[i]))
      end
      -- More padding, other threads: the same bits.
      local wide = {}
      for d, size in ipairs(canvas) do wide[d] = size + 5 end
      local function widened(t)
        local where, result = { {}, {} }, torch.full({ N, t:size(2), unpack(wide) }, 0 / 0)
        for d, size in ipairs(canvas) do where[d + 2] = { 1, size } end
        result[where] = t
        return result, where
      end
      local threads = torch.get_num_threads()
      for _, count in ipairs { 1, 3 } do
        torch.set_num_threads(count)
        local padded, where = widened(x)
        local again = gradients('auto', layer, padded, (widened(dy)), torch.mask.boxes(sizes, wide))
        torch.set_num_threads(threads)
        assert.same_bits(auto[1], again[1][where]:contiguous())
        assert.same_bits(auto[3], again[3])
      end
      -- A sample does not know its batch.
      local one = { { 2, 2 }, {} }
      assert.same_bits(auto[1][one]:contiguous(), (layer(x[one]:contiguous(), torch.mask.boxes({ sizes[2] }, canvas))):detach())
      one = { { 3, 3 }, {} }
      assert.same_bits(auto[1][one]:contiguous(), (layer(x[one]:contiguous(), torch.mask.boxes({ sizes[3] }, canvas))):detach())
    end
  end)

  it('counts tiles from the first active pixel: shifted samples keep their bits', function()
    torch.manual_seed(6)
    local layer = nn.MaskedConv2d(33, 40, 3, { padding = 1 })
    local sample = torch.randn(1, 33, 9, 10)
    local expected = layer(sample):detach()
    local solid = nn.MaskedConv3d(32, 40, 3, { padding = 1 })
    local block = torch.randn(1, 32, 4, 9, 10)
    local deep = solid(block):detach()
    for _, shift in ipairs { { 0, 1, 2 }, { 3, 2, 0 }, { 5, 7, 1 } } do
      local space, inside = torch.full({ 1, 32, 7, 17, 19 }, 0 / 0), torch.zeros(1, 1, 7, 17, 19)
      local box = { { 1, 1 }, {}, { shift[3] + 1, shift[3] + 4 }, { shift[1] + 1, shift[1] + 9 }, { shift[2] + 1, shift[2] + 10 } }
      space[box] = block
      inside[box] = 1
      assert.same_bits(deep, solid(space, inside):detach()[box]:contiguous())
      local canvas, mask = torch.full({ 1, 33, 17, 19 }, 1 / 0), torch.zeros(1, 1, 17, 19)
      local where = { { 1, 1 }, {}, { shift[1] + 1, shift[1] + 9 }, { shift[2] + 1, shift[2] + 10 } }
      canvas[where] = sample
      mask[where] = 1
      assert.same_bits(expected, layer(canvas, mask):detach()[where]:contiguous())
    end
  end)

  -- Beside a sample's own pixels the gradient has a rim, as far as the canvas does: what its tiles are must not depend on that.
  it('gives the gradient of the input the same bits however far the canvas goes on', function()
    for dims = 1, 2 do
      for _, kernel in ipairs { 3, 5 } do
        local outputs = dims == 1 and kernel == 5 and 128 or 32
        local layer = nn[('MaskedConv%dd'):format(dims)](128, outputs, kernel, { padding = (kernel - 1) / 2 })
        for side = 4, 14 do
          torch.manual_seed(side)
          local width = side % 2 == 0 and side + 3 or side      -- of the last axis
          local sizes = dims == 1 and { width } or { side, width }
          local sample, upstream = torch.randn(1, 128, unpack(sizes)), torch.randn(1, outputs, unpack(sizes))
          -- The part of the gradient that lies at most `rim` pixels from the sample, and zeros where the canvas has none.
          local function gradient(before, after, rim)
            local canvas, inside, wide, place = {}, { {}, {} }, {}, { {}, {} }
            for d, size in ipairs(sizes) do
              canvas[d], wide[d] = before + size + after, size + 2 * rim
              inside[d + 2] = { before + 1, before + size }
              place[d + 2] = { 1 + rim, size + rim }
            end
            local x, dy = torch.full({ 1, 128, unpack(canvas) }, 0 / 0), torch.full({ 1, outputs, unpack(canvas) }, 0 / 0)
            local mask = torch.zeros(1, 1, unpack(canvas))
            x[inside], dy[inside], mask[inside] = sample, upstream, 1
            x:requires_grad_()
            layer(x, mask):backward(dy)
            local result = torch.zeros(1, 128, unpack(wide))
            local from = { {}, {} }
            for d, size in ipairs(sizes) do
              local low, high = math.min(rim, before), math.min(rim, after)
              from[d + 2], place[d + 2] = { before + 1 - low, before + size + high }, { 1 + rim - low, size + rim + high }
            end
            result[place] = x.grad[from]
            return result
          end
          local x = sample:clone():requires_grad_()
          layer(x):backward(upstream)
          local plain, own = x.grad, gradient(0, 0, 0)
          assert.same_bits(plain, own)
          assert.same_bits(own, gradient(0, 1, 0))
          assert.same_bits(own, gradient(3, 0, 0))
          local reach = (kernel - 1) / 2
          local wide = gradient(reach, reach, reach)
          assert.same_bits(wide, gradient(7, 4, reach))
          assert.same_bits(wide, gradient(2, 11, reach))
          local exact = with('direct', function() return gradient(7, 4, reach) end)
          assert.is_true((wide - exact):abs():max():item() <= 1e-5 * exact:abs():max():item())
          assert.equal(math.min(unpack(sizes)) < 5, wide:equal(exact))
        end
      end
    end
  end)

  -- Outputs and gradients must not show where a sample lies (an even number of pixels further), nor how wide its canvas is.
  it('counts tiles of stride 2 from the first valid pixel: shifted samples keep their bits', function()
    with('winograd', function()
      for _, case in ipairs {
        { 3, { 17, 22 }, { padding = 1 } }, { 3, { 16, 21 }, { padding = 0 } }, { 3, { 13, 24 }, { padding = 2 } },
        { 4, { 18, 15 }, { padding = 1 } }, { 5, { 19, 14 }, { padding = 2 } }, { 3, { 21, 18 }, { padding = 'causal' } },
        { 3, { 12, 19 }, { padding = 1 }, { 2, 1 } },
      } do
        torch.manual_seed(16)
        local kernel, size, options, stride = unpack(case)
        options.stride = stride or 2
        local layer = nn.MaskedConv2d(32, 34, kernel, options)
        local x, results = torch.randn(1, 32, unpack(size)), {}
        for k, place in ipairs { { 0, 0, 0, 0 }, { 0, 0, 3, 8 }, { 4, 2, 1, 0 }, { 2, 6, 0, 5 }, { 10, 12, 2, 1 } } do
          local high, wide = place[1] + size[1] + place[3], place[2] + size[2] + place[4]
          local canvas, mask = torch.full({ 1, 32, high, wide }, 0 / 0), torch.zeros(1, 1, high, wide)
          local where = { { 1, 1 }, {}, { place[1] + 1, place[1] + size[1] }, { place[2] + 1, place[2] + size[2] } }
          canvas[where] = x
          mask[where] = 1
          canvas:requires_grad_()
          layer:zero_grad()
          local y, m = layer(canvas, mask)
          -- Gradients for the outputs that count, in the order in which they lie.
          local counts = m:tensor():expand(unpack(y:size())):gt(0)
          torch.manual_seed(17)
          local upstream = torch.zeros(y:size())
          upstream[counts] = torch.randn(counts:sum():item())
          y:backward(upstream)
          results[k] = { y:detach()[counts], canvas.grad[where]:contiguous(), layer.weight.grad:clone() }
        end
        for k = 2, #results do
          local same_place = kernel ~= 3 or options.padding == 1   -- else the border of the canvas adds or takes outputs
          if same_place or results[k][1]:numel() == results[1][1]:numel() then
            for i = 1, 3 do assert.same_bits(results[1][i], results[k][i]) end
          end
        end
      end
    end)
  end)

  it('skips tiles without a valid pixel and changes no bit of the others', function()
    for i, preset in ipairs { 'MaskedConv2d', 'PartialConv2d', 'HalfConv2d', 'MaskedConv2d', 'PartialConv2d', 'HalfConv2d' } do
      torch.manual_seed(8)
      local stride = i > 3 and 2 or 1      -- of 2: in a larger image
      local layer = nn[preset](32, 32, 3, { padding = 1, stride = stride })
      local high, wide = stride * 34 - 15, stride * 34 - 16
      local x, mask = torch.randn(2, 32, high, wide), torch.rand(2, 1, high, wide):gt(0.5)
      mask[{ {}, {}, { 5, high - 7 }, { 5, wide - 2 } }] = 0
      mask[{ 1, {}, { 10, high } }] = 0
      mask[{ {}, {}, { 1 }, { 1 } }], mask[{ {}, {}, { high }, { wide } }] = 1, 1
      local function gradients(algorithm, input)
        return with(algorithm, function()
          layer:zero_grad()
          local y = layer(input, mask)
          torch.manual_seed(3)
          y:backward(torch.randn(y:size()))
          return layer.weight.grad:clone(), layer.bias.grad:clone()
        end)
      end
      local y, m = layer(x, mask)
      local exact, exact_mask = with('direct', function() return layer(x, mask) end)
      assert.same_bits(exact_mask:tensor(), m:tensor())
      assert.is_true((y - exact):abs():max():item() <= 1e-5 * exact:abs():max():item())
      assert.equal(0, (y * (1 - m:tensor())):abs():max():item())
      -- Holes hold anything.
      local junk = torch.where(mask:expand(2, 32, high, wide), x, torch.full(x:size(), 0 / 0))
      assert.same_bits(y:detach(), (layer(junk, mask)):detach())
      assert.is_false(y:equal(exact))
      local algorithm = stride == 2 and 'winograd' or 'auto'
      local dw, exact_dw = gradients(algorithm, x), gradients('direct', x)
      assert.is_true((dw - exact_dw):abs():max():item() <= 1e-5 * exact_dw:abs():max():item())
      assert.is_false(dw:equal(exact_dw))
      assert.same_bits(dw, (gradients(algorithm, junk)))
    end
  end)

  it('is left alone where it is impossible: other kernels, strides, dilations, float64, odd channels in three axes', function()
    torch.manual_seed(2)
    for _, case in ipairs {
      { F.conv2d, { 2, 32, 9, 9 }, { 32, 32, 4, 4 }, {} }, { F.conv2d, { 2, 32, 9, 9 }, { 32, 32, 3, 1 }, {} },
      { F.conv2d, { 2, 32, 9, 9 }, { 32, 32, 3, 3 }, { stride = 3 } }, { F.conv2d, { 2, 32, 9, 9 }, { 32, 32, 3, 3 }, { dilation = 2 } },
      { F.conv2d, { 2, 33, 9, 9 }, { 32, 33, 3, 3 }, { stride = 2 } },
      { F.conv3d, { 2, 32, 7, 7, 7 }, { 32, 32, 3, 3, 3 }, { stride = 2 } },
      { F.conv3d, { 2, 33, 7, 7, 7 }, { 32, 33, 3, 3, 3 }, {} }, { F.conv2d, { 2, 32, 9, 9 }, { 32, 32, 3, 3 }, {}, 'float64' },
    } do
      local dtype = case[5] or 'float32'
      local x, w = torch.randn(case[2]):to { dtype = dtype }, torch.randn(case[3]):to { dtype = dtype }
      local function y(algorithm) return with(algorithm, function() return case[1](x, w, nil, case[4]) end) end
      assert.same_bits(y 'direct', y 'winograd')
    end
  end)

  it('takes empty batches and masks without a valid pixel', function()
    with('winograd', function()
      assert.same({ 0, 4, 5, 5 }, F.conv2d(torch.zeros(0, 3, 5, 5), torch.zeros(4, 3, 3, 3), nil, { padding = 1 }):size())
      local y = nn.MaskedConv2d(3, 4, 3, { padding = 1 })(torch.full({ 2, 3, 8, 8 }, 0 / 0), torch.zeros(2, 1, 8, 8))
      assert.equal(0, y:abs():max():item())
    end)
  end)
end)

describe('torch.conv_algorithm', function()
  it('tells and sets', function()
    assert.equal('auto', torch.conv_algorithm())
    assert.equal('auto', torch.conv_algorithm 'direct')
    assert.equal('direct', torch.conv_algorithm 'auto')
    assert.fails(function() torch.conv_algorithm 'fft' end, 'conv_algorithm: name:', "'winograd'")
  end)
end)
