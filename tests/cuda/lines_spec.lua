--- Lines longer than those of the op table, on a device: one warp, several elements each; a block; more than a block.
local torch = require 'masked_torch'
local F = torch.nn.functional
local devices = require 'support.device'

local device = devices.name

-- The largest difference, relative to the largest value.
local function apart(a, b)
  a, b = a:cpu():double(), b:cpu():double()
  return (a - b):abs():max():item() / math.max(b:abs():max():item(), 1e-300)
end

local function same(a, b)
  assert.are.same(a:size(), b:size())
  assert.is_true(torch.equal(a:cpu(), b:cpu()))
end

local function near(a, b, limit) assert.is_true(apart(a, b) <= limit) end

devices.describe('long lines', function()
  for _, n in ipairs { 33, 200, 1000, 1500, 3100 } do
    it(('softmax over %d elements'):format(n), function()
      torch.manual_seed(n)
      local x = torch.randn(3, n, { dtype = 'float64' })
      local dy = torch.randn(3, n, { dtype = 'float64' })
      for _, name in ipairs { 'softmax', 'log_softmax' } do
        local here, there = x:clone():requires_grad_(), x:to{ device = device }:requires_grad_()
        local y, z = F[name](here, 2), F[name](there, 2)
        y:backward(dy)
        z:backward(dy:to{ device = device })
        near(z, y, 1e-14)
        near(there.grad, here.grad, 1e-13)
        -- Whatever the layout, and whatever stands behind the last valid element.
        local across = x:t():contiguous():to{ device = device }
        same(F[name](across, 1):t(), z:detach())
        local wide, mask = torch.full({ 3, n + 1100 }, 0 / 0, { dtype = 'float64' }), torch.zeros(3, n + 1100, { dtype = 'float64' })
        wide:narrow(2, 1, n):copy_(x)
        mask:narrow(2, 1, n):fill_(1)
        local padded = F[name](wide:to{ device = device }, 2, { mask = mask:to{ device = device } })
        same(padded:narrow(2, 1, n), z:detach())
      end
    end)
  end

  for _, n in ipairs { 40, 1000, 1500, 40000 } do
    it(('cross_entropy over %d classes'):format(n), function()
      torch.manual_seed(n)
      local x = torch.randn(5, n, { dtype = 'float64' })
      local t = torch.tensor({ 1, n, 7, 20, 31 }, { dtype = 'int64' })
      local _, best = x[2]:max(1)
      t[2] = best:item()
      local settings = { { metric = true }, { label_smoothing = 0.1 }, { ignore_index = 7, reduction = 'none' }, { inplace = true } }
      for _, opts in ipairs(settings) do
        local here, there = x:clone():requires_grad_(), x:to{ device = device }:requires_grad_()
        local y, hits = F.cross_entropy(here * 2, t, opts)
        local z, more = F.cross_entropy(there * 2, t:to{ device = device }, opts)
        y:sum():backward()
        torch.mul(z, torch.ones_like(z)):backward(torch.ones_like(z))
        near(z, y, 1e-13)
        near(there.grad, here.grad, 1e-12)
        if hits then assert.are.equal(hits:item(), more:item()) end
      end
    end)
  end

  for _, n in ipairs { 33, 1024, 1025, 5000 } do
    it(('sort, topk, median and unique of %d elements'):format(n), function()
      torch.manual_seed(n)
      local x = torch.randint(-300, 300, n, 2):to{ dtype = 'float32' }
      x[5][1] = 0 / 0
      local there = x:to{ device = device }
      for _, descending in ipairs { false, true } do
        local values, places = x:sort(1, { descending = descending })
        local v, p = there:sort(1, { descending = descending })
        assert.is_true(torch.allclose(values, v:cpu(), { equal_nan = true }))
        same(p, places)
      end
      local _, best = x:topk(7, 1)
      local _, first = there:topk(7, 1)
      same(first, best)
      local _, middle = x:median(1)
      local _, found = there:median(1)
      same(found, middle)
      local column = x:select(2, 2):contiguous()
      local u, inverse, counts = torch.unique(column, { return_inverse = true, return_counts = true })
      local uu, ii, cc = torch.unique(column:to{ device = device }, { return_inverse = true, return_counts = true })
      same(uu, u)
      same(ii, inverse)
      same(cc, counts)
    end)
  end

  it('a label out of range is told at the next wait', function()
    local x, t = torch.randn(3, 4, { device = device }), torch.tensor({ 1, 5, 2 }, { dtype = 'int64', device = device })
    local y = F.cross_entropy(x, t)
    local ok, message = pcall(y.item, y)
    assert.is_false(ok)
    assert.truthy(tostring(message):match('cross_entropy: target: index 5 at position 2 is outside 1..4'), message)
    assert.are.equal(3, x:narrow(2, 1, 1):numel())
    torch.cuda.synchronize()
  end)
end)
