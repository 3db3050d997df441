-- conv and conv_transpose: the op table, the bit promises, the adjoint, misuse.
local check_op = require 'support.check_op'
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local Random = require 'support.random'
local isas = require 'support.isas'
local starve = require 'support.starve'
local F, Tensor = torch.nn.functional, torch.Tensor

check_op(require 'op.conv_cases')

local function tensor(shape, values, dtype)
  local t = Tensor.empty('test', shape, dtype or 'float32')
  local buffer = ffi.new('double[?]', math.max(1, #values))
  for i = 1, #values do buffer[i - 1] = values[i] end
  native.check(t.K.mt_tensor_write(t._c, buffer))
  return t
end

local function normal(random, shape, dtype) return tensor(shape, random:normal(shape).values, dtype) end

-- y and the gradients of x, w, b under the upstream gradient dy
local function run(fn, x, w, b, opts, dy)
  x, w, b = x:detach():requires_grad_(), w:detach():requires_grad_(), b and b:detach():requires_grad_()
  local y = fn(x, w, b, opts)
  y:backward(dy)
  return y:detach(), x.grad, w.grad, b and b.grad
end

-- Samples [first, last] as a new tensor.
local function samples(t, first, last)
  local shape, stride = t:size(), t:stride()
  shape[1] = last - first + 1
  return Tensor.as_view('test', t, shape, stride, (first - 1) * stride[1])
end

-- x in the corner of zeros of the given spatial sizes.
local function pad_to(t, sizes)
  local shape = t:size()
  local large = torch.zeros({ shape[1], shape[2], unpack(sizes) }, { dtype = t.dtype })
  local corner = Tensor.as_view('test', large, shape, large:stride(), 0)
  native.check(t.K.mt_tensor_copy(corner._c, t._c))
  return large
end

local function crop(t, sizes)
  return Tensor.as_view('test', t, { t:size(1), t:size(2), unpack(sizes) }, t:stride(), 0)
end

-- Cases of the bit promises: input, weight, options with sizes that make the output as large as the input's padding allows.
local promised = {
  { { 4, 3, 19 }, { 5, 3, 3 }, { padding = 1 } },
  { { 4, 5, 6, 7 }, { 34, 5, 3, 3 }, { padding = 1 } },
  { { 4, 20, 5, 4 }, { 7, 20, 3, 2 }, { padding = { { 1, 1 }, { 1, 0 } } } },
  { { 4, 6, 5, 6 }, { 6, 1, 3, 3 }, { padding = 1, groups = 6 } },
  { { 4, 6, 6, 4 }, { 4, 3, 3, 3 }, { padding = 2, groups = 2, dilation = 2 } },
  { { 4, 300, 3, 3 }, { 9, 300, 1, 1 }, {} },
  { { 4, 2, 3, 4, 5 }, { 3, 2, 3, 3, 3 }, { padding = 1 } },
}

describe('convolution', function()
  for number, case in ipairs(promised) do
    local fn = F['conv' .. #case[1] - 2 .. 'd']
    for _, dtype in ipairs { 'float32', 'float64' } do
      local random = Random.new(number)
      local x, w, b = normal(random, case[1], dtype), normal(random, case[2], dtype), normal(random, { case[2][1] }, dtype)
      local dy = normal(random, fn(x, w, b, case[3]):size(), dtype)
      local y, dx, dw, db = run(fn, x, w, b, case[3], dy)

      it(('%d, %s: a sample does not depend on its batch'):format(number, dtype), function()
        for _, half in ipairs { { 1, 1 }, { 1, 2 }, { 3, 4 }, { 2, 4 } } do
          local part, dpart = run(fn, samples(x, unpack(half)), w, b, case[3], samples(dy, unpack(half)))
          assert.same_bits(samples(y, unpack(half)), part)
          assert.same_bits(samples(dx, unpack(half)), dpart)
        end
      end)

      it(('%d, %s: padding with zeros changes nothing'):format(number, dtype), function()
        local sizes, out = {}, {}
        for d = 3, #case[1] do sizes[d - 2], out[d - 2] = case[1][d], dy:size(d) end
        for d = 1, #sizes do
          for _, extra in ipairs { 1, 5 } do
            local large, large_out = { unpack(sizes) }, { unpack(out) }
            large[d], large_out[d] = large[d] + extra, large_out[d] + extra
            local y2, dx2, dw2, db2 = run(fn, pad_to(x, large), w, b, case[3], pad_to(dy, large_out))
            assert.same_bits(y, crop(y2, out))
            assert.same_bits(dx, crop(dx2, sizes))
            assert.same_bits(dw, dw2)
            assert.same_bits(db, db2)
          end
        end
      end)

      it(('%d, %s: the same bits on any number of threads'):format(number, dtype), function()
        local before = torch.get_num_threads()
        for threads = 1, 4 do
          torch.set_num_threads(threads)
          local results = { run(fn, x, w, b, case[3], dy) }
          assert.same_bits(y, results[1])
          assert.same_bits(dx, results[2])
          assert.same_bits(dw, results[3])
          assert.same_bits(db, results[4])
        end
        torch.set_num_threads(before)
      end)
    end
  end

  it('large enough for several threads: the same bits on 1 to 4, and whether samples come together or alone', function()
    local random = Random.new(7)
    local x, w, dy = normal(random, { 3, 33, 24, 25 }), normal(random, { 65, 33, 3, 3 }), normal(random, { 3, 65, 12, 13 })
    local opts, before, first = { stride = 2, padding = 1 }, torch.get_num_threads(), nil
    for threads = 1, 4 do
      torch.set_num_threads(threads)
      local results = { run(F.conv2d, x, w, nil, opts, dy) }
      first = first or results
      for k = 1, 3 do assert.same_bits(first[k], results[k]) end
    end
    torch.set_num_threads(before)
    for n = 1, 3 do
      assert.same_bits(samples(first[1], n, n), (F.conv2d(samples(x, n, n), w, nil, opts)))
    end
  end)

  it('products that vanish below the smallest number do not show where the padding is', function()
    -- 1e-30 * -1e-30 rounds to -0; a tap outside the image must not tell
    local w = tensor({ 1, 1, 3 }, { -1e-30, -1e-30, -1 })
    local y = F.conv1d(tensor({ 1, 1, 2 }, { 1e-30, 0 }), w, nil, { padding = 1 })
    local padded = F.conv1d(tensor({ 1, 1, 5 }, { 1e-30, 0, 0, 0, 0 }), w, nil, { padding = 1 })
    assert.same_bits(y, crop(padded, { 2 }))
    assert.are.equal(math.huge, 1 / padded:totable()[1][1][2])
  end)

  for dims = 1, 3 do
    it(('the gradient of the input is the adjoint, %d-D'):format(dims), function()
      local random = Random.new(dims)
      local spatial, kernel = { 7, 6, 5 }, { 3, 2, 2 }
      local function shape(a, b, sizes)
        local s = { a, b }
        for d = 1, dims do s[d + 2] = sizes[d] end
        return s
      end
      local x, w = normal(random, shape(2, 4, spatial), 'float64'), normal(random, shape(6, 2, kernel), 'float64')
      local opts = { stride = 2, padding = 1, groups = 2 }
      local y0 = F['conv' .. dims .. 'd'](x, w, nil, opts)
      local dy = normal(random, y0:size(), 'float64')
      local y, dx = run(F['conv' .. dims .. 'd'], x, w, nil, opts, dy)
      local function dot(a, b)
        local sum = 0
        local function walk(p, q)
          if type(p) ~= 'table' then sum = sum + p * q return end
          for i = 1, #p do walk(p[i], q[i]) end
        end
        walk(a:totable(), b:totable())
        return sum
      end
      local left, right = dot(y, dy), dot(x, dx)
      assert(math.abs(left - right) <= 1e-12 * math.abs(left), ('%.17g against %.17g'):format(left, right))
      -- The transposed convolution computes the same bits.
      local extra = {}
      for d = 1, dims do extra[d] = (spatial[d] + 2 - kernel[d]) % 2 end
      assert.same_bits(dx, F['conv_transpose' .. dims .. 'd'](dy, w, nil, { stride = 2, padding = 1, groups = 2,
        output_padding = extra }))
    end)
  end

  it('an empty batch and an empty image', function()
    local w, b = torch.zeros(3, 2, 3, 3), tensor({ 3 }, { 1, 2, 3 })
    local x = torch.zeros(0, 2, 5, 5):requires_grad_()
    w:requires_grad_()
    local y = F.conv2d(x, w, b, { padding = 1 })
    assert.same({ 0, 3, 5, 5 }, y:size())
    y:backward(torch.zeros(0, 3, 5, 5))
    assert.same({ 0, 2, 5, 5 }, x.grad:size())
    assert.same_bits(torch.zeros(3, 2, 3, 3), w.grad)
    assert.same({ 0, 2, 9, 9 }, F.conv_transpose2d(torch.zeros(0, 3, 5, 5), w, nil, { stride = 2, padding = 1 }):size())
    y = F.conv2d(torch.zeros(1, 2, 0, 2), w, b, { padding = { { 2, 1 }, { 1, 1 } } })
    assert.same({ { { { 1, 1 } }, { { 2, 2 } }, { { 3, 3 } } } }, y:totable())
  end)

  it('the result is channels-last and its input may be so too', function()
    local random = Random.new(5)
    local x, w = normal(random, { 2, 3, 4, 5 }), normal(random, { 6, 3, 1, 1 })
    local y = F.conv2d(x, w)
    assert.same({ 120, 1, 30, 6 }, y:stride())
    local last = Tensor.empty('test', { 2, 3, 4, 5 }, 'float32', 'cpu', Tensor.channels_last({ 2, 3, 4, 5 }))
    native.check(x.K.mt_tensor_copy(last._c, x._c))
    assert.same_bits(y, F.conv2d(last, w))
  end)

  it('NaN and Inf reach exactly the windows that hold them', function()
    local y = F.conv1d(tensor({ 1, 1, 6 }, { 1, 0 / 0, 1, 1, 1, math.huge }), tensor({ 1, 1, 2 }, { 1, 1 })):totable()[1][1]
    assert.is_true(y[1] ~= y[1] and y[2] ~= y[2])
    assert.same({ 2, 2, math.huge }, { y[3], y[4], y[5] })
  end)

  it('other padding modes are padding before the convolution', function()
    local random = Random.new(6)
    local x, w = normal(random, { 2, 2, 5, 6 }), normal(random, { 3, 2, 3, 3 })
    for _, mode in ipairs { 'reflect', 'replicate', 'circular' } do
      local y = F.conv2d(x, w, nil, { padding = { { 1, 2 }, { 3, 0 } }, padding_mode = mode })
      assert.same_bits(F.conv2d(F.pad(x, { 3, 0, 1, 2 }, { mode = mode }), w), y)
    end
  end)

  it('without memory: an error, and nothing is kept', function()
    local C, random = native.cpu, Random.new(8)
    local g = require('masked_torch.autograd.geometry').conv('conv2d', 2, { 3, 3 }, { padding = 1 })
    local x, w, b = normal(random, { 40, 5, 6, 7 }), normal(random, { 3, 5, 3, 3 }), normal(random, { 3 })
    local y = normal(random, { 40, 3, 6, 7 })
    local dx, dw = Tensor.empty_like(x), Tensor.empty_like(w)
    for name, call in pairs {
      forward = function() return C.mt_conv_forward(y._c, x._c, w._c, b._c, g, nil, nil, nil, nil, nil, -1, 0) end,
      input = function() return C.mt_conv_backward_input(dx._c, y._c, w._c, nil, g, nil, nil) end,
      weight = function() return C.mt_conv_backward_weight(dw._c, y._c, x._c, g, nil, nil) end,
    } do
      assert(starve(call) > 1, name)
    end
  end)

  it('an interruption is an error and leaves no trace', function()
    local x, w = torch.zeros(8, 32, 40, 40), torch.zeros(32, 32, 3, 3)
    native.cpu.mt_cancel_set(1)
    assert.fails(function() F.conv2d(x, w) end, 'interrupted')
    assert.same({ 8, 32, 38, 38 }, F.conv2d(x, w):size())
  end)

  -- Each build of the micro-kernels in a process of its own.
  it('every instruction set is right, and avx512 and avx2 agree bit for bit', function()
    local outputs = {}
    for _, build in ipairs(isas 'conv_isa') do
      local text = build[2]
      local used, error_text, digest = text:match('isa (%S+) error (%S+) digest (%S+)')
      assert(used, text)
      assert(tonumber(error_text) <= 1.5e-6, ('%s: relative error %s'):format(used, error_text))
      outputs[used] = digest
    end
    assert.is_truthy(outputs.portable)
    if outputs.avx512 and outputs.avx2 then assert.are.equal(outputs.avx512, outputs.avx2) end
  end)
end)

describe('weights and images that repeat memory', function()
  -- Which sizes repeat: of the weight (outputs, channels, height, width), then of the image.
  local cases = {
    { 'one column for the kernel', { 10, 4, 5, 5 }, 4, { 2, 4, 9, 8 } },
    { 'one row', { 10, 4, 3, 3 }, 3, { 2, 4, 9, 8 } },
    { 'one weight for all taps', { 6, 3, 2, 3 }, 34, { 1, 3, 6, 7 } },
    { 'one row, in Winograd form', { 32, 33, 3, 3 }, 3, { 2, 33, 9, 12 } },
    { 'one column, in Winograd form', { 32, 32, 3, 3 }, 4, { 2, 32, 12, 12 } },
    { 'one weight for all taps, in Winograd form', { 48, 32, 5, 5 }, 34, { 1, 32, 16, 16 } },
    { 'one channel', { 32, 32, 3, 3 }, 2, { 2, 32, 12, 12 } },
    { 'one output', { 32, 32, 3, 3 }, 1, { 2, 32, 12, 12 } },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. ': the bits of a copy', function()
      local random, shape = Random.new(5), {}
      for d, n in ipairs(case[2]) do shape[d] = tostring(case[3]):find(d, 1, true) and 1 or n end
      for _, dtype in ipairs{ 'float32', 'float64' } do
        local x, w = normal(random, case[4], dtype), normal(random, shape, dtype):expand(case[2])
        local copy = Tensor.empty('test', case[2], dtype):copy_(w)
        for _, opts in ipairs{ { padding = 1 }, { padding = 2, stride = 2 } } do
          local dy = torch.ones_like(F.conv2d(x, copy, nil, opts))
          local y, dx, dw = run(F.conv2d, x, w, nil, opts, dy)
          local y0, dx0, dw0 = run(F.conv2d, x, copy, nil, opts, dy)
          assert.is_true(Tensor.same_bits(y, y0))
          assert.is_true(Tensor.same_bits(dx, dx0))
          assert.is_true(torch.equal(dw, dw0))
        end
      end
    end)
  end
end)

describe('misuse of convolution', function()
  local x, w, b = torch.zeros(4, 16, 28, 28), torch.zeros(8, 16, 3, 3), torch.zeros(8)
  local function refuses(name, fn, ...)
    local texts = { ... }
    it(name, function() assert.fails(fn, unpack(texts)) end)
  end
  refuses('channels', function() F.conv2d(x, torch.zeros(8, 3, 3, 3)) end, 'conv2d: weight:', '(out, 16, kh, kw)',
    '(8, 3, 3, 3) float32', '(4, 16, 28, 28)')
  refuses('rank of the input', function() F.conv2d(torch.zeros(16, 28, 28), w) end, 'conv2d: input:', '4 dimensions',
    '(16, 28, 28)', '(8, 16, 3, 3)')
  refuses('rank of the weight', function() F.conv2d(x, torch.zeros(8, 16, 3)) end, 'conv2d: weight:', '(8, 16, 3)')
  refuses('dtype', function() F.conv2d(x, torch.zeros(8, 16, 3, 3, { dtype = 'float64' })) end, 'conv2d: weight:', 'float64')
  refuses('integers', function() F.conv2d(torch.zeros(4, 16, 28, 28, { dtype = 'int64' }), w) end, 'conv2d: input:', 'int64')
  refuses('bias size', function() F.conv2d(x, w, torch.zeros(7)) end, 'conv2d: bias:', '(8) float32', '(7) float32')
  refuses('a list in the place of the bias', function() F.conv2d(x, w, { 0, 0 }) end, 'conv2d: bias:', 'table')
  it('options in the place of the bias are options', function()
    assert.same({ 4, 8, 28, 28 }, F.conv2d(x, w, { padding = 1 }):size())
    assert.same({ 4, 16, 30, 30 }, F.conv_transpose2d(torch.zeros(4, 8, 28, 28), w, {}):size())
  end)
  refuses('nil input', function() F.conv2d(nil, w) end, 'conv2d: input:', 'nil')
  refuses('nil weight', function() F.conv2d(x) end, 'conv2d: weight:', 'nil')
  refuses('unknown option', function() F.conv2d(x, w, b, { strides = 2 }) end, 'conv2d:', "'strides'", "'stride'")
  refuses('stride 0', function() F.conv2d(x, w, b, { stride = 0 }) end, 'conv2d: stride:', '0')
  refuses('stride 1.5', function() F.conv2d(x, w, b, { stride = 1.5 }) end, 'conv2d: stride:', '1.5')
  refuses('NaN as dilation', function() F.conv2d(x, w, b, { dilation = 0 / 0 }) end, 'conv2d: dilation:', 'nan')
  refuses('three strides', function() F.conv2d(x, w, b, { stride = { 1, 1, 1 } }) end, 'conv2d: stride:', 'table of 3')
  refuses('padding word', function() F.conv2d(x, w, b, { padding = 'full' }) end, 'conv2d: padding:', "'full'")
  refuses('half a pair', function() F.conv2d(x, w, b, { padding = { { 1 }, { 1, 1 } } }) end, 'conv2d: padding:',
    '{before, after}')
  refuses('same with stride', function() F.conv2d(x, w, b, { padding = 'same', stride = 2 }) end, 'conv2d: padding:', "'same'")
  refuses('padding mode', function() F.conv2d(x, w, b, { padding_mode = 'mirror' }) end, 'conv2d: padding_mode:', "'mirror'")
  refuses('groups of channels', function() F.conv2d(x, w, b, { groups = 3 }) end, 'conv2d: input:', '16 channels', '3 groups')
  refuses('groups of outputs', function() F.conv2d(x, torch.zeros(9, 8, 3, 3), nil, { groups = 2 }) end, 'conv2d: weight:',
    '9 output channels')
  refuses('kernel too large', function() F.conv2d(x, torch.zeros(8, 16, 30, 3)) end, 'conv2d: input:', '28', '30')
  refuses('a huge dilation', function() F.conv2d(x, w, b, { dilation = 2 ^ 52 }) end, 'conv2d:')
  refuses('a released tensor', function()
    local t = torch.zeros(4, 16, 28, 28)
    t:release()
    F.conv2d(t, w)
  end, 'conv2d: input:', 'released')
  refuses('2^40 outputs', function()
    F.conv2d(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), nil, { padding = 2 ^ 20 })
  end, 'memory')
  refuses('transposed: channels', function() F.conv_transpose2d(x, torch.zeros(8, 16, 3, 3)) end, 'conv_transpose2d: weight:',
    '(16, out / groups, kh, kw)')
  refuses('transposed: output_padding', function() F.conv_transpose2d(x, torch.zeros(16, 2, 3, 3), nil,
    { output_padding = 1 }) end, 'conv_transpose2d: output_padding:', 'stride 1')
  refuses('transposed: same', function() F.conv_transpose2d(x, torch.zeros(16, 2, 3, 3), nil, { padding = 'same' }) end,
    'conv_transpose2d: padding:')
  refuses('transposed: nothing left', function() F.conv_transpose1d(torch.zeros(1, 1, 2), torch.zeros(1, 1, 3), nil,
    { padding = 2 }) end, 'conv_transpose1d: input:', 'size 0')
end)

describe('a single position', function()
  for _, dtype in ipairs{ 'float32', 'float64' } do
    for _, outputs in ipairs{ 4, 32, 48, 256 } do
      for _, case in ipairs{ { 3, 0, 1 }, { 1, 0, 1 }, { 5, 1, 1 }, { 5, { { 4, 0 } }, 1 } } do
        it(('of %d outputs, %d taps, padding %s, %s: weights whose outputs are neighbours give the same bits'):format(outputs, case[1],
          type(case[2]) == 'table' and 'before' or case[2], dtype),
          function()
            local random = Random.new(7)
            local kernel, padding = case[1], case[2]
            local length = padding == 0 and kernel or padding == 1 and kernel - 2 or 1
            local x, b = normal(random, { 1, 37, length }, dtype), normal(random, { outputs }, dtype)
            local w = normal(random, { outputs, 37, kernel }, dtype)
            local beside = Tensor.empty('test', { outputs, 37, kernel }, dtype, 'cpu', { 1, outputs, outputs * 37 })
            native.check(w.K.mt_tensor_copy(beside._c, w._c))
            local y = F.conv1d(x, w, b, { padding = padding })
            assert.equal(1, y:size(3))
            assert.is_true(torch.equal(y, F.conv1d(x, beside, b, { padding = padding })))
            local wide = F.conv1d(torch.cat({ x, x }, 1), w, b, { padding = padding })
            assert.is_true(torch.equal(wide:narrow(1, 2, 1), F.conv1d(x, beside, b, { padding = padding })))
          end)
      end
    end
  end
end)

-- The work is cut into bands of rows, of columns, of samples, of outputs; which kernel sums depends on the numbers of outputs
-- and groups. None of it, and no map, may show in a bit.
describe('however the work is cut', function()
  local function geometry_of(dims, kernel, opts)
    local list = {}
    for d = 1, dims do list[d] = kernel end
    return require('masked_torch.autograd.geometry').conv('test', dims, list, { stride = opts.stride or 1, padding = opts.padding or 1,
      dilation = opts.dilation or 1, groups = opts.groups or 1 })
  end
  local function map(random, n, spatial, share)
    local shape = { n, 1, unpack(spatial) }
    local values = random:uniform(shape, 0, 1).values
    for i = 1, #values do values[i] = values[i] < share and 1 or 0 end
    return tensor(shape, values)
  end
  -- t where m is 1; elsewhere 0, or NaN.
  local function cleared(m, t)
    local result = Tensor.empty_like(t)
    native.check(t.K.mt_mask_select(result._c, t._c, m:to{ dtype = t.dtype }._c))
    return result
  end
  local function spoilt(m, t)
    m = m:to{ dtype = t.dtype }
    return cleared(m, t) + (1 - m) / m * 0
  end
  for _, case in ipairs {
    { 'rows longer than a band', 2, 5, 20, { 2000 }, 3, {} },
    { 'more rows than a band', 3, 18, 33, { 40, 37 }, 3, {} },
    { 'many short rows', 70, 9, 35, { 6 }, 3, {} },
    { 'one short row of many outputs', 1, 40, 90, { 4 }, 3, {} },
    { 'few outputs, several blocks of terms', 3, 70, 3, { 20, 33 }, 3, {} },
    { 'few outputs, stride 2', 2, 6, 4, { 41, 43 }, 3, { stride = 2 } },
    { 'few outputs, stride 3, long rows', 2, 3, 1, { 3000 }, 5, { stride = 3, padding = 2 } },
    { 'few outputs of every group', 2, 12, 12, { 30, 31 }, 3, { groups = 6 } },
    { 'depthwise', 3, 41, 41, { 23, 29 }, 3, { groups = 41, dilation = 2, padding = 2 } },
    { 'three axes', 2, 6, 17, { 7, 9, 11 }, 3, {} },
  } do
    local name, n, channels, outputs, spatial, kernel, opts = unpack(case)
    it(name, function()
      for _, dtype in ipairs{ 'float32', 'float64' } do
        local random = Random.new(5)
        local g = geometry_of(#spatial, kernel, opts)
        local out = require('masked_torch.autograd.geometry').output_size('test', g, spatial)
        local x = normal(random, { n, channels, unpack(spatial) }, dtype)
        local taps = {}
        for d = 1, #spatial do taps[d] = kernel end
        local w = normal(random, { outputs, channels / (opts.groups or 1), unpack(taps) }, dtype)
        local b = normal(random, { outputs }, dtype)
        local dy = normal(random, { n, outputs, unpack(out) }, dtype)
        local function forward(t, valid, active)
          local y = Tensor.empty('test', { t:size(1), outputs, unpack(out) }, dtype)
          native.check(t.K.mt_conv_forward(y._c, t._c, w._c, b._c, g, valid and valid._c, active and active._c, nil, nil, nil, -1, 0))
          return y
        end
        local function backward(t, valid, active)
          local dx = Tensor.empty('test', { t:size(1), channels, unpack(spatial) }, dtype)
          native.check(t.K.mt_conv_backward_input(dx._c, t._c, w._c, nil, g, valid and valid._c, active and active._c))
          return dx
        end
        local y, dx = forward(x), backward(dy)
        for i = 1, math.min(n, 3) do
          assert.is_true(torch.equal(y:narrow(1, i, 1), forward(x:narrow(1, i, 1))))
          assert.is_true(torch.equal(dx:narrow(1, i, 1), backward(dy:narrow(1, i, 1))))
        end
        for _, share in ipairs{ 0.05, 0.5, 0.97 } do
          local valid, active = map(random, n, spatial, share), map(random, 1, out, share)
          local v, a = valid:to{ dtype = 'bool' }, active:to{ dtype = 'bool' }
          assert.is_true(torch.equal(cleared(active, forward(cleared(valid, x))), forward(spoilt(valid, x), v, a)))
          assert.is_true(torch.equal(cleared(valid, backward(cleared(active, dy))), backward(spoilt(active, dy), v, a)))
        end
      end
    end)
  end
end)
