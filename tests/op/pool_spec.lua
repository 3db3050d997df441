local check_op = require 'support.check_op'
local golden = require 'support.golden'
local torch = require 'masked_torch'
local Tensor = torch.Tensor
local F = torch.nn.functional

check_op(require 'op.pool_cases')

local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local nan = 0 / 0

-- Values without pattern.
local function noise(shape, dtype)
  local state, n = 11, 1
  for _, s in ipairs(shape) do n = n * s end
  local function nest(d)
    if d > #shape then
      state = state * 16807 % 2147483647
      return state / 2147483647 - 0.5
    end
    local row = {}
    for i = 1, shape[d] do row[i] = nest(d + 1) end
    return row
  end
  return tensor(nest(1), dtype or 'float32')
end

-- x in the corner of a larger canvas filled with NaN, and the mask that says so.
local function embedded(x, canvas)
  local s = x:size()
  local data = x:totable()
  local function pad(t, d)
    local size = d <= 2 and s[d] or canvas[d - 2]
    local row = {}
    for i = 1, size do
      if d == #s then row[i] = t and t[i] or nan else row[i] = pad(t and t[i], d + 1) end
    end
    return row
  end
  local sizes = {}
  for n = 1, s[1] do sizes[n] = { unpack(s, 3) } end
  return tensor(pad(data, 1), x.dtype), torch.mask.boxes(sizes, canvas)
end

-- The first sizes[d] elements of every spatial axis.
local function corner(y, sizes)
  local function cut(t, d)
    local row = {}
    for i = 1, d <= 2 and #t or sizes[d - 2] do row[i] = d == #sizes + 2 and t[i] or cut(t[i], d + 1) end
    return row
  end
  return tensor(cut(y:totable(), 1), y.dtype)
end

local pools = {
  { 'max by 2', function(x, m) return F.max_pool2d(x, 2, { mask = m, mask_rule = 'keep' }) end },
  { 'max by 3, padded', function(x, m) return F.max_pool2d(x, 3, 2, { padding = 1, mask = m, mask_rule = 'keep' }) end },
  { 'avg by 2', function(x, m) return F.avg_pool2d(x, 2, { mask = m, mask_rule = 'keep' }) end },
  { 'avg by 3, padded', function(x, m) return F.avg_pool2d(x, 3, 2, { padding = 1, mask = m, mask_rule = 'keep' }) end },
  { 'avg by 3, padding not counted', function(x, m)
    return F.avg_pool2d(x, 3, 2, { padding = 1, count_include_pad = false, mask = m, mask_rule = 'keep' })
  end },
  { 'global avg', function(x, m) return F.global_avg_pool(x, { mask = m }) end },
  { 'global max', function(x, m) return F.global_max_pool(x, { mask = m }) end },
}

describe('masked pooling', function()
  for _, pool in ipairs(pools) do
    for _, dtype in ipairs { 'float32', 'float64' } do
      it(('%s %s: padding changes no bit of output or gradient, NaN under the mask or not'):format(pool[1], dtype), function()
        local x = noise({ 2, 3, 5, 7 }, dtype):requires_grad_()
        local plain = pool[2](x)
        local canvas, mask = embedded(x:detach(), { 9, 12 })
        canvas:requires_grad_()
        local y, m = pool[2](canvas, mask)
        local sizes = { plain:size(3), plain:size(4) }
        assert.same_bits(plain:detach(), corner(y, sizes))
        local count = m:count()[1]
        assert.are.equal(sizes[1] * sizes[2], count)
        local g = noise(plain:size(), dtype)
        plain:backward(g)
        y:backward((embedded(g, { y:size(3), y:size(4) })))
        assert.same_bits(x.grad, corner(canvas.grad, { 5, 7 }))
        for _, row in ipairs(canvas.grad:totable()[2][3]) do
          for j, v in ipairs(row) do assert.is_true(v == v and (j <= 7 or v == 0)) end
        end
      end)

      it(('%s %s: a mask of ones equals no mask to the bit'):format(pool[1], dtype), function()
        local x = noise({ 2, 3, 5, 7 }, dtype)
        local y, m = pool[2](x, torch.mask.full { 2, 1, 5, 7 })
        assert.same_bits((pool[2](x)), y)
        assert.is_true(m:all_valid())
      end)
    end
  end

  it('passes the mask on as the rule says', function()
    local x = tensor { { { 1, 2, 3, 4, 5, 6 } } }
    local m = tensor { { { 1, 0, 0, 0, 0, 1 } } }
    local expected = { grow = { 1, 0, 1 }, keep = { 0, 0, 1 }, coverage = { 0.5, 0, 0.5 } }
    for rule, mask in pairs(expected) do
      for _, f in ipairs { F.max_pool1d, F.avg_pool1d } do
        local y, out = f(x, 2, { mask = m, mask_rule = rule })
        assert.same(mask, out:totable()[1][1])
        assert.same(rule == 'keep' and { 0, 0, 6 } or { 1, 0, 6 }, y:totable()[1][1])
      end
    end
  end)

  it('makes the output mask once', function()
    local x, m = noise { 2, 3, 6 }, torch.mask.lengths({ 3, 6 }, 6)
    local _, first = F.max_pool1d(x, 2, { mask = m })
    local _, second = F.avg_pool1d(x, 2, { mask = m })
    local _, other = F.avg_pool1d(x, 3, { mask = m })
    assert.are.equal(first, second)
    assert.are_not.equal(first, other)
    assert.same({ 2, 1, 3 }, first:size())
  end)
end)

describe('max_pool', function()
  it('takes the first of equal maxima and lets NaN win', function()
    local x = tensor { { { 2, 2, 1, nan, 5, 0 } } }:requires_grad_()
    local y, mask, indices = F.max_pool1d(x, 2, { return_indices = true })
    assert.is_nil(mask)
    assert.are.equal('int64', indices.dtype)
    assert.same({ { { 1, 4, 5 } } }, indices:totable())
    assert.are.equal(2, y:totable()[1][1][1])
    assert.is_true(y:totable()[1][1][2] ~= y:totable()[1][1][2])
    y:backward(tensor { { { 1, 1, 1 } } })
    assert.same({ { { 1, 0, 0, 1, 1, 0 } } }, x.grad:totable())
  end)

  it('gives 0, index 0 and no gradient without a valid element', function()
    local x = tensor { { { -1, nan, -3, -4 } } }:requires_grad_()
    local y, mask, indices = F.max_pool1d(x, 2, { mask = tensor { { { 0, 0, 1, 1 } } }, return_indices = true })
    assert.same({ { { 0, -3 } } }, y:totable())
    assert.same({ { { 0, 1 } } }, mask:totable())
    assert.same({ { { 0, 3 } } }, indices:totable())
    y:backward(tensor { { { 7, 1 } } })
    assert.same({ { { 0, 0, 1, 0 } } }, x.grad:totable())
  end)
end)

describe('pooling', function()
  it('keeps the channels-last format', function()
    local shape = { 2, 3, 4, 6 }
    local x = noise(shape)
    local y = Tensor.empty('test', shape, 'float32', 'cpu', Tensor.channels_last(shape))
    x.K.mt_tensor_copy(y._c, x._c)
    for _, f in ipairs { F.max_pool2d, F.avg_pool2d } do
      local z = f(y, 2)
      assert.same(Tensor.channels_last { 2, 3, 2, 3 }, z:stride())
      assert.same_bits((f(x, 2)), z)
    end
  end)

  it('takes an empty batch', function()
    local x = Tensor.empty('test', { 0, 3, 4, 6 }, 'float32')
    assert.same({ 0, 3, 2, 3 }, F.max_pool2d(x, 2):size())
    assert.same({ 0, 3, 2, 3 }, F.avg_pool2d(x, 2):size())
    assert.same({ 0, 3 }, F.masked_mean(x):size())
  end)

  it('refuses wrong arguments, naming the shapes', function()
    local x = noise { 2, 3, 5 }
    assert.fails(function() F.max_pool2d(x, 2) end, 'max_pool2d: input', '2 spatial axes', '(2, 3, 5)')
    assert.fails(function() F.max_pool1d(x, 6) end, 'pool', 'does not fit', '6', '(5)')
    assert.fails(function() F.max_pool1d(x, 0) end, 'max_pool1d: kernel_size', 'at least 1', 'got 0')
    assert.fails(function() F.max_pool1d(x, { 2, 2 }) end, 'kernel_size', 'a table of 2')
    assert.fails(function() F.max_pool1d(x) end, 'max_pool1d: kernel_size', 'nil')
    assert.fails(function() F.max_pool1d(x, 2, { padding = 2 }) end, 'padding', 'half the window')
    assert.fails(function() F.max_pool1d(x, 2, { stride = 0 }) end, 'stride', 'got 0')
    assert.fails(function() F.max_pool1d(x, 2, { dilation = 0 / 0 }) end, 'dilation')
    assert.fails(function() F.avg_pool1d(x, 2, { dilation = 2 }) end, 'avg_pool1d', "unknown option 'dilation'")
    assert.fails(function() F.avg_pool1d(x, 2, { paddin = 1 }) end, "did you mean 'padding'")
    assert.fails(function() F.avg_pool1d(x, 2, { count = 'all' }) end, 'count', "'valid', 'window'")
    assert.fails(function() F.avg_pool1d(x, 2, { mask_rule = 'erode' }) end, 'mask_rule', "'grow'")
    assert.fails(function() F.avg_pool1d(x, 2, { mask = noise { 2, 3, 4 } }) end, 'avg_pool1d: mask', '(2, 3, 4)', '(2, 3, 5)')
    assert.fails(function() F.adaptive_avg_pool1d(x, 0) end, 'adaptive_avg_pool1d: output_size')
    assert.fails(function() F.avg_pool1d(tensor({ { { 1, 2 } } }, 'int64'), 2) end, 'avg_pool', 'int64')
    assert.fails(function() F.masked_mean(noise { 2, 3 }) end, 'masked_mean', '(2, 3)')
    assert.fails(function() F.masked_mean(x, nil, { eps = -1 }) end, 'masked_mean: eps')
    assert.fails(function() F.max_pool1d(5, 2) end, 'max_pool1d: input', 'number')
  end)
end)

describe('masked_mean', function()
  it('gives a sample the same bits whatever its batch and layout', function()
    for _, C in ipairs { 7, 600 } do
      local many = torch.randn(17, C, 5):channels_last()
      local masks = { none = false, pixel = torch.rand(17, 1, 5):ge(0.4):float(), channel = torch.rand(17, C, 5):ge(0.4):float() }
      for kind, mask in pairs(masks) do
        local x, dy = many:clone():requires_grad_(), torch.randn(17, C)
        local y = F.masked_mean(x, mask or nil)
        y:backward(dy)
        for n = 1, 17, 4 do
          for _, layout in ipairs { 'contiguous', 'channels_last' } do
            local one = many:narrow(1, n, 1)[layout](many:narrow(1, n, 1)):clone():requires_grad_()
            local z = F.masked_mean(one, mask and mask:narrow(1, n, 1) or nil)
            z:backward(dy:narrow(1, n, 1))
            assert.same_bits(y:detach():narrow(1, n, 1):contiguous(), z:detach())
            assert.same_bits(x.grad:narrow(1, n, 1):contiguous(), one.grad:contiguous(), kind)
          end
        end
      end
    end
  end)

  it('gives coverage, and 0 where nothing is valid', function()
    local x = tensor { { { 2, nan, 4, nan } }, { { nan, nan, nan, nan } } }:requires_grad_()
    local y, coverage = F.masked_mean(x, tensor { { { 1, 0, 1, 0 } }, { { 0, 0, 0, 0 } } })
    assert.same({ { 3 }, { 0 } }, y:totable())
    assert.same({ { 0.5 }, { 0 } }, coverage:totable())
    y:backward(tensor { { 1 }, { 1 } })
    assert.same({ { { 0.5, 0, 0.5, 0 } }, { { 0, 0, 0, 0 } } }, x.grad:totable())
  end)

  it('does not change a bit by padding or a mask of ones', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      local x = noise({ 2, 3, 5, 7 }, dtype)
      local plain = F.masked_mean(x)
      assert.same_bits(plain, (F.masked_mean(embedded(x, { 9, 12 }))))
      assert.same_bits(plain, (F.masked_mean(x, torch.mask.full { 2, 1, 5, 7 })))
    end
  end)

  for _, case in ipairs(golden.cases('modules')) do
    if case.layer == 'SpatialMean' or case.layer == 'MaskedSpatialMean' then
      it('reproduces ' .. case.name, function()
        local x, mask = golden.tensor(case, 'in.x'):requires_grad_(), golden.tensor(case, 'in.mask')
        local y, coverage = F.masked_mean(x, mask, { compat = true })
        golden.check(case, 'out.y', y)
        if mask then golden.check(case, 'out.mask', coverage) end
        y:backward(golden.tensor(case, 'gout.y'))
        golden.check(case, 'grad.x', x.grad)
        -- By default the same values; the gradient differs under mask 0 only.
        golden.check(case, 'out.y', (F.masked_mean(x, mask)))
      end)
    end
  end
end)

describe('the reference vectors of pooling', function()
  for _, case in ipairs(golden.cases('ops')) do
    if case.layer:find('_pool') then
      it('reproduces ' .. case.name, function()
        local x = golden.tensor(case, 'in.x'):requires_grad_()
        local opts = {}
        for k, v in pairs(case.args) do if k ~= 'kernel_size' then opts[k] = v end end
        local y = F[case.layer](x, case.args.kernel_size, opts)
        golden.check(case, 'out.y', y)
        y:backward(golden.tensor(case, 'gout.y'))
        golden.check(case, 'grad.x', x.grad)
      end)
    end
  end
end)
