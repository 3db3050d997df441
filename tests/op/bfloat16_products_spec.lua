--- Products whose kernels take bfloat16: the bits of float32's kernels on the same values, which at 'medium' round no operand, rounded
-- once. On the CPU, or on the device that MASKED_TORCH_TEST_DEVICE names.
local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'

local F, check = torch.nn.functional, native.check
local C = native.cpu
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE' or 'cpu'

local function randn(...) return torch.randn(...):bfloat16():to(device) end
local function float(x) return torch.is_tensor(x) and x.dtype == 'bfloat16' and x:float() or x end
local function handle(x) return torch.is_tensor(x) and x._c or x end

-- An output of a kernel, full of something else.
local function output(shape, dtype, layout)
  local y = torch.full(shape, 7, { dtype = dtype, device = device })
  return layout and layout(y) or y
end

-- kernel(y, ...) with y of `dtype`.
local function run(kernel, y, ...)
  local arguments, n = { ... }, select('#', ...)
  for i = 1, n do arguments[i] = handle(arguments[i]) end
  check(y.K[kernel](y._c, unpack(arguments, 1, n)))
  return y
end

-- The same in float32.
local function wide(kernel, y, ...)
  local arguments, n = { ... }, select('#', ...)
  for i = 1, n do arguments[i] = float(arguments[i]) end
  torch.set_float32_matmul_precision 'medium'
  local result = run(kernel, y, unpack(arguments, 1, n))
  torch.set_float32_matmul_precision 'highest'
  return result
end

-- kernel with bfloat16 and float32 results against float32's.
local function agrees(what, kernel, shape, ...)
  local expected = wide(kernel, output(shape, 'float32'), ...)
  local got = run(kernel, output(shape, 'bfloat16'), ...)
  assert(torch.Tensor.same_bits(expected:bfloat16(), got), what .. ': bits differ')
  assert(torch.Tensor.same_bits(expected, run(kernel, output(shape, 'float32'), ...)), what .. ', kept in float32: bits differ')
  return got
end

local function relative(exact, got)
  return (exact:double() - got:double()):norm():item() / math.max(1e-30, exact:double():norm():item())
end

-- Other places in memory for the same values.
local layouts = {
  plain = function(x) return x end,
  turned = function(x) return x:dim() > 1 and x:transpose(-1, -2):contiguous():transpose(-1, -2) or x end,
}
function layouts.apart(x)      -- every other column, from the second on
  if x:numel() == 0 then return x end
  local shape = x:size()
  shape[#shape] = shape[#shape] * 2 + 1
  local y = torch.zeros(shape, { dtype = x.dtype, device = x.device })
  local strides = y:stride()
  strides[#strides] = 2
  local part = torch.Tensor.as_view('spec', y, x:size(), strides, 1)
  torch.no_grad(function() part:copy_(x) end)
  return part
end

describe('bfloat16 in the kernels of products', function()
  before_each(function() torch.manual_seed(3) end)
  after_each(function() torch.set_float32_matmul_precision 'highest' end)

  it('linear: float32 bits, rounded once', function()
    for _, size in ipairs{ { { 1 }, 1, 1 }, { { 5 }, 3, 2 }, { { 70 }, 130, 65 }, { { 2, 7 }, 33, 18 }, { { 150 }, 64, 72 },
      { { 0 }, 4, 3 }, { { 3, 0 }, 4, 3 }, { {}, 9, 40 }, { { 4 }, 0, 3 } } do
      local rows, k, n = unpack(size)
      for name, layout in pairs(layouts) do
        local function shape(last)
          local s = { unpack(rows) }
          s[#s + 1] = last
          return s
        end
        local x, w, dy = layout(randn(shape(k))), layout(randn({ n, k })), layout(randn(shape(n)))
        local what = ('%s of %d, %d'):format(name, k, n)
        for type, b in pairs{ none = false, bfloat16 = randn(n), float32 = torch.randn(n):to(device) } do
          agrees(('forward, bias %s, %s'):format(type, what), 'mt_linear_forward', shape(n), x, w, b or nil)
        end
        agrees('input gradient, ' .. what, 'mt_linear_backward_input', shape(k), dy, w)
        agrees('weight gradient, ' .. what, 'mt_linear_backward_weight', { n, k }, dy, x)
        agrees('bias gradient, ' .. what, 'mt_linear_backward_bias', { n }, dy)
      end
    end
  end)

  it('matmul: likewise, in batches too', function()
    for _, size in ipairs{ { {}, {}, 3, 5, 2 }, { { 4 }, { 4 }, 33, 70, 17 }, { { 4 }, { 1 }, 5, 64, 33 }, { { 1 }, { 3 }, 2, 3, 4 },
      { { 2, 3 }, { 1, 3 }, 65, 9, 8 }, { {}, {}, 4, 0, 3 }, { { 0 }, { 0 }, 4, 2, 3 }, { {}, {}, 0, 2, 3 } } do
      local left, right, m, k, n = unpack(size)
      for name, layout in pairs(layouts) do
        local a, b, y = { unpack(left) }, { unpack(right) }, { unpack(left) }
        for d = 1, #y do y[d] = left[d] == 1 and right[d] or left[d] end
        a[#a + 1], b[#b + 1], y[#y + 1] = m, k, m
        a[#a + 1], b[#b + 1], y[#y + 1] = k, n, n
        agrees(('%s %d x %d x %d'):format(name, m, k, n), 'mt_matmul', y, layout(randn(a)), layout(randn(b)))
      end
    end
  end)

  it('linear and matmul are near the exact result, large products too', function()
    local x, w, b, dy = randn(128, 1024), randn(1032, 1024), torch.randn(1032):to(device), randn(128, 1032)
    local function checked(what, kernel, shape, exact, ...)
      local got = run(kernel, output(shape, 'bfloat16'), ...)
      assert(relative(exact:cpu(), got:cpu()) <= 2 ^ -8, ('%s: %g'):format(what, relative(exact:cpu(), got:cpu())))
      local kept = run(kernel, output(shape, 'float32'), ...)
      assert(relative(exact:cpu(), kept:cpu()) <= 1e-5, ('%s, kept: %g'):format(what, relative(exact:cpu(), kept:cpu())))
      assert(relative(kept, got) <= 2 ^ -8, what)
    end
    local xd, wd, dyd = x:cpu():double(), w:cpu():double(), dy:cpu():double()
    local y = xd:mm(wd:t())
    checked('forward', 'mt_linear_forward', { 128, 1032 }, y + b:cpu():double(), x, w, b)
    checked('without bias', 'mt_linear_forward', { 128, 1032 }, y, x, w, nil)
    checked('bfloat16 bias', 'mt_linear_forward', { 128, 1032 }, y + b:bfloat16():cpu():double(), x, w, b:bfloat16())
    checked('input gradient', 'mt_linear_backward_input', { 128, 1024 }, dyd:mm(wd), dy, w)
    checked('weight gradient', 'mt_linear_backward_weight', { 1032, 1024 }, dyd:t():mm(xd), dy, x)
    checked('product', 'mt_matmul', { 128, 1032 }, y, x, w:t())
  end)

  -- { sizes of x, outputs, kernel, options, groups }
  local convolutions = {
    { { 2, 5, 9, 7 }, 6, { 3, 3 }, { padding = 1 }, 1 },
    { { 1, 16, 12, 11 }, 40, { 3, 3 }, { padding = 1 }, 1 },
    { { 2, 8, 9, 8 }, 16, { 3, 2 }, { padding = 1, stride = 2 }, 2 },
    { { 2, 9, 6, 7 }, 9, { 3, 3 }, { padding = 1 }, 9 },
    { { 3, 6, 31 }, 18, { 5 }, { padding = 'causal', dilation = 2 }, 1 },
    { { 1, 4, 3, 5, 6 }, 7, { 2, 3, 3 }, { padding = 1 }, 1 },
    { { 2, 32, 5, 4 }, 8, { 1, 1 }, {}, 1 },
    { { 0, 4, 5, 5 }, 6, { 3, 3 }, { padding = 1 }, 1 },
  }

  local function problem(c)
    local size, outputs, kernel, opts, groups = unpack(c)
    local dims = #kernel
    local g = geometry.conv('conv' .. dims .. 'd', dims, kernel, opts)
    g.groups = groups
    local spatial = { unpack(size, 3) }
    local out = geometry.output_size('conv' .. dims .. 'd', g, spatial)
    local p = { g = g, x = randn(size), w = randn({ outputs, size[2] / groups, unpack(kernel) }), y = { size[1], outputs, unpack(out) } }
    p.b, p.dy = torch.randn(outputs):to(device), randn(p.y)
    local function map(s) return torch.rand({ size[1], 1, unpack(s) }):to(device) end
    p.valid, p.active, p.r, p.m = map(spatial):gt(0.3), map(out):gt(0.3), map(out) * 2, map(out)
    if size[1] > 0 then p.m:select(1, 1):select(-1, 1):fill_(0) end
    return p, ('%d axes, %d groups, %d channels'):format(dims, groups, size[2])
  end

  it('convolution: the forward pass and its gradients', function()
    for _, c in ipairs(convolutions) do
      local p, what = problem(c)
      for name, layout in pairs{ rows = layouts.plain, channels = function(x) return x:channels_last() end } do
        local x, w, dy = layout(p.x), p.w, layout(p.dy)
        local about = name .. ', ' .. what
        for type, b in pairs{ none = false, bfloat16 = p.b:bfloat16(), float32 = p.b } do
          agrees(('forward, bias %s, %s'):format(type, about), 'mt_conv_forward', p.y, x, w, b or nil, p.g, nil, nil, nil, nil, nil, -1, 0)
        end
        agrees('masked, ' .. about, 'mt_conv_forward', p.y, x, w, p.b, p.g, p.valid, p.active, p.r, p.m, nil, -1, 0)
        agrees('input gradient, ' .. about, 'mt_conv_backward_input', p.x:size(), dy, w, nil, p.g, nil, nil)
        agrees('masked input gradient, ' .. about, 'mt_conv_backward_input', p.x:size(), dy, w, nil, p.g, p.valid, p.active)
        agrees('where dy reaches, ' .. about, 'mt_conv_backward_input', p.x:size(), dy, w, nil, p.g, nil, p.active)
        agrees('transposed, ' .. about, 'mt_conv_backward_input', p.x:size(), dy, w, randn(p.x:size(2)), p.g, nil, nil)
        agrees('weight gradient, ' .. about, 'mt_conv_backward_weight', w:size(), dy, x, p.g, nil, nil)
        agrees('masked weight gradient, ' .. about, 'mt_conv_backward_weight', w:size(), dy, x, p.g, p.valid, p.active)
      end
    end
  end)

  it('convolution: an activation finds rounded numbers, forward and backward', function()
    for _, c in ipairs(convolutions) do
      local p, what = problem(c)
      for f, a in pairs{ [C.MT_ACTIVATION_RELU] = 0, [C.MT_ACTIVATION_LEAKY_RELU] = 0.3 } do
        local sums = wide('mt_conv_forward', output(p.y, 'float32'), p.x, p.w, p.b, p.g, nil, p.active, p.r, p.m, nil, -1, 0)
        sums = sums:bfloat16():float()
        local expected = output(p.y, 'float32')
        check(expected.K.mt_activation_forward(expected._c, sums._c, nil, f, a, 0))
        local y = run('mt_conv_forward', output(p.y, 'bfloat16'), p.x, p.w, p.b, p.g, nil, p.active, p.r, p.m, nil, f, a)
        assert(torch.Tensor.same_bits(expected:bfloat16(), y), 'forward, ' .. what)
        local gated, dy, y32 = output(p.y, 'float32'), p.dy:float(), y:float()
        check(gated.K.mt_activation_backward(gated._c, dy._c, y32._c, nil, f, a, 0))
        gated = gated:bfloat16():float()
        local draw, db = output(p.y, 'float32'), output({ p.y[2] }, 'float32')
        check(draw.K.mt_conv_backward_epilogue(draw._c, db._c, gated._c, nil, nil, p.r._c, p.m._c, -1, 0))
        for _, dtype in ipairs{ 'bfloat16', 'float32' } do
          local draw16, db16 = output(p.y, dtype), output({ p.y[2] }, dtype)
          check(draw.K.mt_conv_backward_epilogue(draw16._c, db16._c, p.dy._c, y._c, nil, p.r._c, p.m._c, f, a))
          assert(torch.Tensor.same_bits(draw:to(dtype), draw16), 'backward, ' .. what)
          assert(torch.Tensor.same_bits(db:to(dtype), db16), 'bias, ' .. what)
        end
        local own = p.dy:clone()
        check(own.K.mt_conv_backward_epilogue(own._c, nil, own._c, y._c, nil, p.r._c, p.m._c, f, a))
        assert(torch.Tensor.same_bits(draw:bfloat16(), own), 'in place, ' .. what)
      end
    end
  end)

  it('masked convolution: the result of float32 rounded, and its gradients where nothing is re-weighted', function()
    local soft = torch.rand(2, 1, 7, 6):to(device)
    soft[soft:lt(0.3)] = 0
    local plans = {
      keep = { {}, true }, grow = { { rule = 'grow', premask = 'values' }, true }, ['no gate'] = { { gate = 'none' }, true },
      count = { { reweight = 'count', border = true, alpha = 0.5 } }, coverage = { { rule = 'coverage' } },
    }
    for name, plan in pairs(plans) do
      for _, mask in ipairs{ soft:gt(0), soft } do
        local opts, exact = plan[1], plan[2] and mask.dtype == 'bool'
        opts.padding = 1
        local narrow, wider = { randn(2, 5, 7, 6), randn(6, 5, 3, 3), randn(6) }, {}
        for i, x in ipairs(narrow) do
          wider[i] = x:float():requires_grad_()
          x:requires_grad_()
        end
        local y = F.masked_conv(narrow[1], narrow[2], narrow[3], mask, opts)
        local dy = randn(y:size())
        y:backward(dy)
        torch.set_float32_matmul_precision 'medium'
        local expected = F.masked_conv(wider[1], wider[2], wider[3], mask, opts)
        expected:backward(dy:float())
        torch.set_float32_matmul_precision 'highest'
        assert(torch.Tensor.same_bits(expected:detach():bfloat16(), y:detach()), name)
        for i, x in ipairs(narrow) do
          local e = relative(wider[i].grad, x.grad)
          assert(e <= 2 ^ -7, ('%s: gradient %d: %g'):format(name, i, e))
          assert(not exact or torch.Tensor.same_bits(wider[i].grad:bfloat16(), x.grad), ('%s: gradient %d'):format(name, i))
        end
      end
    end
  end)

  it('gradients have the types of what they belong to', function()
    local function gradients(fn, ...)
      local types = {}
      for i, x in ipairs{ ... } do x:requires_grad_() types[i] = x.dtype end
      local y = fn(...)
      assert.equal('bfloat16', y.dtype)
      y:sum():backward()
      for i, x in ipairs{ ... } do assert.equal(types[i], x.grad.dtype) end
      return y
    end
    for _, dtype in ipairs{ 'bfloat16', 'float32' } do
      local b = torch.randn(6):to(dtype):to(device)
      local y = gradients(F.linear, randn(3, 5), randn(6, 5), b)
      assert.equal('bfloat16', y.grad_fn.op and y.dtype)
      gradients(function(x, w, bias) return F.conv2d(x, w, bias, { activation = 'relu' }) end, randn(2, 4, 5, 5), randn(6, 4, 3, 3),
        b:detach())
      gradients(F.conv_transpose1d, randn(2, 4, 5), randn(4, 6, 3), b:detach())
      gradients(F.masked_conv, randn(2, 4, 5), randn(6, 4, 3), b:detach())
    end
    gradients(torch.matmul, randn(2, 3, 4), randn(4, 5))
    local a, b = randn(3, 4, 5), randn(1, 5, 2)
    gradients(torch.matmul, a, b)
    local exact = torch.ones(3, 4, 2, { dtype = 'float64' })
    local sum = a:detach():cpu():double():transpose(2, 3):matmul(exact):sum(1)
    assert(relative(sum, b.grad:cpu():select(1, 1)) <= 2 ^ -8, 'sum over the batch')
    local w, bias = torch.randn(6, 5):to(device), randn(6)
    local mixed = F.linear(torch.randn(3, 5):to(device), w, bias:requires_grad_())
    assert.equal('float32', mixed.dtype)
    mixed:sum():backward()
    assert.equal('bfloat16', bias.grad.dtype)
    assert.same({ 3, 3, 3, 3, 3, 3 }, bias.grad:totable())
    local image = F.conv1d(torch.randn(2, 5, 4):to(device), torch.randn(6, 5, 2):to(device), bias)
    assert.equal('float32', image.dtype)
  end)

  it('of two types are refused', function()
    local x, w, y = randn(3, 5), torch.randn(6, 5):to(device), output({ 3, 6 }, 'bfloat16')
    local function fails(kernel, out, ...)
      local arguments, n = { ... }, select('#', ...)
      assert.fails(function() run(kernel, out, unpack(arguments, 1, n)) end, 'expected bfloat16')
    end
    fails('mt_linear_forward', y, x, w, nil)
    fails('mt_matmul', y, x, w:t())
    assert.fails(function() run('mt_matmul', y, x:float(), w:t()) end, 'matmul: output: expected float32, got (3, 6) bfloat16')
    assert.fails(function() run('mt_linear_forward', y:double(), x, x, nil) end, 'linear: output: expected bfloat16 or float32')
    local bias = torch.zeros(6, { dtype = 'float64', device = device })
    assert.fails(function() run('mt_linear_forward', y, x, w:bfloat16(), bias) end, 'linear: bias: expected float32 or bfloat16')
  end)
end)
