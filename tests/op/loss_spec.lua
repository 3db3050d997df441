local check_op = require 'support.check_op'
local torch = require 'masked_torch'
check_op(require 'op.loss_cases')

local F, nn = torch.nn.functional, torch.nn
local Tensor = torch.Tensor
local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local function labels(data) return tensor(data, 'int64') end
local function empty(shape, dtype) return Tensor.empty('test', shape, dtype or 'float32') end
local nan, inf = 0 / 0, math.huge

local function wave(n, c, h, w)
  local x = {}
  for i = 1, n do
    x[i] = {}
    for k = 1, c do
      x[i][k] = {}
      for a = 1, h do
        x[i][k][a] = {}
        for b = 1, w do x[i][k][a][b] = 3 * math.sin(i * 50 + k * 17 + a * 5 + b) end
      end
    end
  end
  return x
end

describe('cross_entropy', function()
  it('names a label out of range, its place, and that labels are 1-based', function()
    local x = empty { 2, 3, 2 }
    x.K.mt_tensor_fill(x._c, 0)
    assert.fails(function() F.cross_entropy(x, labels { { 1, 2 }, { 4, 0 } }) end, 'cross_entropy: target', 'label 4',
      '(2, 1)', '1..3', '1-based')
    assert.fails(function() F.cross_entropy(x, labels { { 1, 0 }, { 4, 0 } }) end, 'label 0', '(1, 2)')
    assert.fails(function() F.nll_loss(x, labels { { 1, -100 }, { 1, 1 } }) end, 'nll_loss', 'label -100')
    assert.near(math.log(3), F.cross_entropy(x, labels { { 1, -100 }, { 3, 2 } }, { ignore_index = -100 }):item(), 1e-6)
    local masked = F.cross_entropy(x, labels { { 1, 77 }, { 3, 2 } }, { mask = tensor { { 1, 0 }, { 1, 1 } } })
    assert.near(math.log(3), masked:item(), 1e-6)
  end)

  it('does not depend on padding nor on what lies in it', function()
    local results = {}
    for k, pad in ipairs { 0, 1, 6 } do
      for _, junk in ipairs { 0, nan } do
        local H, W = 4 + pad, 5 + 2 * pad
        local x, t, m = wave(2, 3, H, W), {}, {}
        for n = 1, 2 do
          t[n], m[n] = {}, {}
          for h = 1, H do
            t[n][h], m[n][h] = {}, {}
            for w = 1, W do
              local inside = h <= 4 and w <= 5
              m[n][h][w] = inside and 1 or 0
              t[n][h][w] = inside and (n + h * w) % 3 + 1 or -5
              if not inside then
                for c = 1, 3 do x[n][c][h][w] = junk end
              end
            end
          end
        end
        x = tensor(x):requires_grad_()
        for _, reduction in ipairs { 'mean', 'sum' } do
          x.grad = nil
          local y = F.cross_entropy(x, labels(t), { mask = tensor(m), reduction = reduction, label_smoothing = 0.1 })
          y:backward()
          local g = Tensor.as_view('test', x.grad, { 2, 3, 4, 5 }, x.grad:stride(), 0)
          local expected = results[reduction]
          if expected then
            assert.same_bits(expected[1], y)
            assert.same_bits(expected[2], g)
          else
            results[reduction] = { y, g }
          end
          if pad == 6 then assert.are.equal(0, x.grad:totable()[2][3][10][17]) end
        end
        if k == 1 then
          assert.same_bits(results.mean[1], F.cross_entropy(x, labels(t), { label_smoothing = 0.1 }))
        end
      end
    end
  end)

  it('takes masks of every form', function()
    local x, t = tensor { { { 1, 2 }, { 0, 1 } }, { { 3, -1 }, { 0.5, 1 } } }, labels { { 1, 2 }, { 2, 1 } }
    local expected = F.cross_entropy(x, t, { mask = tensor { { true, true }, { true, false } } })
    assert.same_bits(expected, F.cross_entropy(x, t, { mask = torch.mask.lengths({ 2, 1 }, 2) }))
    assert.same_bits(expected, F.cross_entropy(x, t, { mask = tensor { { { 1, 1 } }, { { 1, 0 } } } }))
    assert.same_bits(expected, F.cross_entropy(x, t, { mask = tensor({ { 7, 7 }, { 7, 0 } }, 'int64') }))
    assert.same_bits(F.cross_entropy(x, t, { mask = tensor { { 1, 0 }, { 1, 0 } } }),
      F.cross_entropy(x, t, { mask = tensor { { 1, 0 } } }))
    assert.fails(function() F.cross_entropy(x, t, { mask = tensor { { { 1, 1 }, { 1, 1 } }, { { 1, 1 }, { 1, 1 } } } }) end,
      'cross_entropy: mask', 'one channel')
    assert.fails(function() F.cross_entropy(x, t, { mask = tensor { { 1, 1, 1 } } }) end, 'cross_entropy: mask')
  end)

  it('adds nothing up to 0, and averages it to NaN', function()
    local x, t = empty { 0, 3 }, empty({ 0 }, 'int64')
    assert.are.equal(0, F.cross_entropy(x, t, { reduction = 'sum' }):item())
    local mean = F.cross_entropy(x, t):item()
    assert.is_true(mean ~= mean)
    assert.are.same({ 0 }, F.cross_entropy(x, t, { reduction = 'none' }):size())
    x = tensor({ { 1, 2 } }):requires_grad_()
    local all_ignored = F.cross_entropy(x, labels { -1 }, { ignore_index = -1 })
    assert.is_true(all_ignored:item() ~= all_ignored:item())
    all_ignored:backward()
    assert.are.same({ { 0, 0 } }, x.grad:totable())
  end)

  it('stays finite for large logits', function()
    assert.near(2000, F.cross_entropy(tensor { { 1000, -1000 } }, labels { 2 }):item(), 0)
    assert.near(0, F.cross_entropy(tensor { { 1000, -inf } }, labels { 1 }):item(), 0)
    assert.are.equal(inf, F.cross_entropy(tensor { { 1000, -inf } }, labels { 2 }):item())
  end)

  it('gives the same gradient twice from a retained graph', function()
    local x = tensor({ { 1, 2, 3 } }):requires_grad_()
    local y = F.cross_entropy(x, labels { 1 })
    y:backward(nil, { retain_graph = true })
    local first = x.grad
    x.grad = nil
    y:backward()
    assert.same_bits(first, x.grad)
    -- The first run computes it anew, the second spends what forward made.
    torch.manual_seed(5)
    local many, t = (torch.randn(5, 300) * 4):requires_grad_(), labels { 3, 300, 1, 256, 17 }
    for _, opts in ipairs { {}, { reduction = 'sum' }, { ignore_index = 17 }, { mask = tensor { 1, 0, 1, 1, 1 } } } do
      local loss = F.cross_entropy(many, t, opts)
      many.grad = nil
      loss:backward(nil, { retain_graph = true })
      local again = many.grad
      many.grad = nil
      loss:backward()
      assert.same_bits(again, many.grad)
      assert.fails(function() loss:backward() end, 'at cross_entropy', 'retain_graph')
    end
  end)

  it('counts hits as argmax finds them: ties, NaN, masks, ignored labels', function()
    torch.manual_seed(4)
    local x = (torch.randn(300, 7) * 2):floor()          -- many ties
    x[{ 3, 2 }], x[{ 3, 5 }], x[{ 4, 1 }] = nan, nan, nan
    local t = (torch.rand(300) * 7):floor():to { dtype = 'int64' } + 1
    t[3], t[4] = 2, 1
    for _, dtype in ipairs { 'float32', 'float64' } do
      local y = x:to { dtype = dtype }
      local right = y:argmax(2):eq(t):to { dtype = 'int64' }
      local loss, hits = F.cross_entropy(y, t, { metric = true, reduction = 'none' })
      assert.are.same({ 300 }, loss:size())
      assert.are.equal(right:sum():item(), hits:item())
      local mask = (torch.rand(300) * 2):floor():to { dtype = dtype }
      local _, masked = F.cross_entropy(y, t, { metric = true, mask = mask })
      assert.are.equal((right * mask:to { dtype = 'int64' }):sum():item(), masked:item())
      local _, without = F.cross_entropy(y, t, { metric = true, ignore_index = 2, label_smoothing = 0.1 })
      assert.are.equal((right * t:ne(2):to { dtype = 'int64' }):sum():item(), without:item())
    end
    local _, modules = nn.CrossEntropyLoss { metric = true }(x, t)
    assert.are.equal(x:argmax(2):eq(t):to { dtype = 'int64' }:sum():item(), modules:item())
    assert.is_nil((select(2, F.cross_entropy(x, t))))
    assert.fails(function() F.cross_entropy(x, x, { metric = true }) end, 'cross_entropy: metric', 'labels')
    assert.fails(function() F.nll_loss(x, t, { metric = true }) end, 'metric')
  end)

  it('finds NaN among many classes, where lines are looked through by vectors', function()
    torch.manual_seed(6)
    for _, dtype in ipairs { 'float32', 'float64' } do
      local x, t = torch.randn(40, 300, { dtype = dtype }), torch.full({ 40 }, 5, { dtype = 'int64' })
      for n = 1, 20 do x[{ n, 5 }] = nan end           -- argmax is the first NaN
      for n = 11, 20 do t[n] = 9 end
      for n = 31, 40 do t[n] = 300 end
      for n = 21, 25 do x[{ n, 5 }] = 50 end
      local right = x:argmax(2):eq(t):to { dtype = 'int64' }:sum():item()
      assert.are.equal(15, right)
      assert.are.equal(right, (select(2, F.cross_entropy(x, t, { metric = true }))):item())
      assert.are.equal(10, (select(2, F.cross_entropy(x:narrow(1, 1, 20), t:narrow(1, 1, 20), { metric = true }))):item())
    end
  end)

  -- Loss and gradient with a mask and without the lines or elements that it hides, which hold NaN.
  it('does not look at masked positions, in any layout, one line or many', function()
    for _, shape in ipairs { { 3, 7, 40 }, { 2, 21, 9, 33 }, { 30, 5000 }, { 50, 1, 3 } } do
      for _, share in ipairs { 0.1, 0.5 } do
        torch.manual_seed(shape[2])
        local positions = { unpack(shape) }
        table.remove(positions, 2)
        local one = { unpack(shape) }
        one[2] = 1
        local t, valid = torch.randint(1, shape[2], positions), torch.rand(positions):lt(share)
        local target = t:masked_fill(valid:logical_not(), -5)        -- no label
        for _, dtype in ipairs { 'float32', 'float64' } do
          local clean = torch.randn(shape, { dtype = dtype })
          for _, x in ipairs { clean, clean:dim() > 2 and clean:channels_last() or clean:t():contiguous():t() } do
            local hidden = valid:view(unpack(one)):logical_not():expand(unpack(shape))
            for _, opts in ipairs { {}, { reduction = 'sum', label_smoothing = 0.1 }, { metric = true }, { inplace = true } } do
              local function run(from, goal, more)
                local leaf = from:clone():requires_grad_()
                local given = {}
                for _, o in ipairs { opts, more } do
                  for key, value in pairs(o) do given[key] = value end
                end
                local loss, hits = F.cross_entropy(leaf * 1, goal, given)
                loss:backward()
                return loss:detach(), leaf.grad, hits
              end
              local spoilt = x:masked_fill(hidden, nan)
              local a, da, hit_a = run(x, target, { ignore_index = -5 })
              local b, db, hit_b = run(spoilt, t, { mask = valid })
              local _, dc = run(spoilt, target, { ignore_index = -5 })
              assert.same_bits(a, b)
              assert.same_bits(da, db)
              assert.same_bits(da, dc)
              assert.same_bits(torch.zeros(shape, { dtype = dtype }), db:masked_fill(hidden:logical_not(), 0))
              if hit_a then assert.are.equal(hit_a:item(), hit_b:item()) end
            end
          end
        end
      end
    end
  end)

  it('takes a mask that hides nothing for none', function()
    local x, t = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    local full = torch.mask.wrap(torch.ones(3, 1, 5))
    assert.same_bits(F.mse_loss(x, t), F.mse_loss(x, t, { mask = full }))
    local classes = torch.randint(1, 4, { 3, 5 })
    assert.same_bits(F.cross_entropy(x, classes), F.cross_entropy(x, classes, { mask = full }))
    assert.fails(function() F.mse_loss(x, t, { mask = torch.mask.full{ 3, 1, 6 } }) end, 'mse_loss', 'mask')
  end)

  it('does not look at masked elements, in any layout, for runs of any length', function()
    local losses = { mse_loss = {}, l1_loss = {}, smooth_l1_loss = { beta = 0.5 }, huber_loss = { delta = 0.5 },
      binary_cross_entropy_with_logits = {}, kl_div = { log_target = true } }
    for _, shape in ipairs { { 3, 4, 40 }, { 2, 3, 9, 33 }, { 1, 2, 1400 } } do
      local one = { unpack(shape) }
      one[2] = 1
      torch.manual_seed(shape[3])
      for _, mask in ipairs { torch.rand(one):lt(0.2), torch.rand(shape):lt(0.6), torch.rand(one) * torch.rand(one):lt(0.5):float(),
        torch.zeros(one), torch.ones(one) } do
        local hidden = mask:eq(0):expand(unpack(shape))
        for _, dtype in ipairs { 'float32', 'float64' } do
          local x, t = torch.randn(shape, { dtype = dtype }), torch.rand(shape, { dtype = dtype })
          for name, more in pairs(losses) do
            for _, reduction in ipairs { 'mean', 'sum', 'none' } do
              local function run(a, b, m)
                local leaf, other = a:clone():requires_grad_(), b:clone():requires_grad_()
                local given = { mask = m, reduction = reduction }
                for key, value in pairs(more) do given[key] = value end
                local loss = F[name](leaf, other, given)
                loss:backward(torch.ones_like(loss) * 3)
                return loss:detach(), leaf.grad, other.grad
              end
              local y, dx, dt = run(x, t, mask)
              for _, layout in ipairs { 'row-major', 'channels last' } do
                local a, b = x:masked_fill(hidden, nan), t:masked_fill(hidden, -1 / 0)
                if layout == 'channels last' then a, b = a:channels_last(), b:channels_last() end
                local z, dz, dw = run(a, b, mask)
                assert.same_bits(y, z)
                assert(torch.Tensor.same_bits(dx, dz), name .. reduction .. layout .. tostring(mask:float():mean():item()) .. dtype)
                assert(torch.Tensor.same_bits(dt, dw), name .. reduction .. layout .. tostring(mask:float():mean():item()))
              end
              if mask:to { dtype = 'float64' }:sum():item() == mask:numel() then
                local z, dz, dw = run(x, t, nil)
                assert.same_bits(y, z)
                assert.same_bits(dx, dz)
                assert.same_bits(dt, dw)
              end
            end
          end
        end
      end
    end
  end)

  it('is exact for many classes, in any layout', function()
    for _, shape in ipairs { { 5, 5000 }, { 3, 70, 6, 11 }, { 40, 17 }, { 2, 1, 3 } } do
      torch.manual_seed(shape[2])
      local x = torch.randn(shape) * 4
      local positions = { unpack(shape) }
      table.remove(positions, 2)
      local t = (torch.rand(positions) * shape[2]):floor():to { dtype = 'int64' } + 1
      for _, opts in ipairs { {}, { label_smoothing = 0.1 }, { reduction = 'none' } } do
        local function result(given)
          local leaf = given:detach():requires_grad_()
          local y = F.cross_entropy(leaf, t, opts)
          torch.manual_seed(9)
          y:backward(torch.rand(y:size()):to { dtype = y.dtype })
          return y:detach(), leaf.grad
        end
        local y, g = result(x)
        local exact, exact_g = result(x:double())
        assert.near_tensor(exact, y:double(), 2e-6)
        assert.near_tensor(exact_g, g:double(), 2e-7)
        if #shape == 4 then
          local y2, g2 = result(x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3))
          assert.same_bits(y, y2)
          assert.same_bits(g, g2:contiguous())
        end
      end
    end
  end)

  it('writes the gradient over the logits where asked', function()
    torch.manual_seed(1)
    local w, x = torch.randn(30, 8), torch.randn(6, 8)
    local t = labels { 3, 1, 30, 7, 7, 2 }
    for _, opts in ipairs { {}, { reduction = 'sum' }, { reduction = 'none' }, { label_smoothing = 0.2 }, { ignore_index = 7 },
      { mask = tensor { 1, 0, 1, 0.5, 1, 1 } } } do
      local function gradient(inplace, upstream)
        local leaf = w:clone():requires_grad_()
        local all = { metric = true, inplace = inplace }
        for key, value in pairs(opts) do all[key] = value end
        local logits = F.linear(x, leaf)
        local y, hits = F.cross_entropy(logits, t, all)
        y:backward(upstream or y:dim() == 1 and torch.ones(6) or nil)
        return leaf.grad, y:detach(), hits:item(), logits
      end
      local g, y, hits = gradient(false)
      local g2, y2, hits2 = gradient(true)
      assert.same_bits(y, y2)
      assert.are.equal(hits, hits2)
      assert.near_tensor(g, g2, 1e-7)
      local upstream = y:dim() == 1 and torch.rand(6) or torch.tensor(-2.5)
      assert.near_tensor(gradient(false, upstream), (gradient(true, upstream)), 1e-6)
    end
    -- Where no gradient is wanted, nothing is written.
    local logits = torch.randn(6, 30)
    local before = logits:clone()
    F.cross_entropy(logits, t, { inplace = true })
    torch.no_grad(function() F.cross_entropy(logits:clone():requires_grad_(), t, { inplace = true }) end)
    assert.same_bits(before, logits)
  end)

  it('in place: whoever still needs the logits is told', function()
    local w, x, t = torch.randn(3, 2):requires_grad_(), torch.randn(4, 2), labels { 1, 2, 3, 1 }
    local kept = F.linear(x, w)
    local other = (kept * kept):sum()
    local loss = F.cross_entropy(kept, t, { inplace = true })
    assert.fails(function() (loss + other):backward() end, 'mul: backward', 'changed in place')
    local logits = F.linear(x, w)
    loss = F.cross_entropy(logits, t, { inplace = true })
    logits:detach():mul_(2)
    assert.fails(function() loss:backward() end, 'cross_entropy: backward', 'changed in place')
    assert.fails(function() F.cross_entropy(torch.randn(4, 3):requires_grad_(), t, { inplace = true }) end, 'cross_entropy', 'leaf')
    -- A label out of range is found before anything is written.
    local fine = F.linear(x, w)
    local before = fine:detach():clone()
    assert.fails(function() F.cross_entropy(fine, labels { 1, 2, 3, 4 }, { inplace = true }) end, 'label 4', '(4)')
    assert.same_bits(before, fine:detach())
    local once = F.cross_entropy(F.linear(x, w), t, { inplace = true })
    once:backward(nil, { retain_graph = true })
    assert.fails(function() once:backward() end, 'cross_entropy: backward', 'inplace')
    -- The gradient flows through something else than the loss alone.
    local shared = F.linear(x, w)
    local sum = shared:sum()
    w.grad = nil;
    (F.cross_entropy(shared, t, { inplace = true }) + sum):backward()
    local both = w.grad
    w.grad = nil
    local plain = F.linear(x, w);
    (F.cross_entropy(plain, t) + plain:sum()):backward()
    assert.near_tensor(w.grad, both, 1e-6)
  end)

  it('refuses what it cannot do, by name', function()
    local x, t = tensor { { 1, 2, 3 }, { 4, 5, 6 } }, labels { 1, 2 }
    assert.fails(function() F.cross_entropy(x, labels { 1, 2, 3 }) end, 'cross_entropy: target', '(2)', '(3) int64')
    assert.fails(function() F.cross_entropy(x, tensor { 1, 2 }) end, 'cross_entropy: target', '(2, 3)', '(2) float32')
    assert.fails(function() F.cross_entropy(x, tensor({ 1, 2 }, 'float64')) end, 'cross_entropy: target', 'int64', 'float64')
    assert.fails(function() F.cross_entropy(x, t, { weight = tensor { 1, 2 } }) end, 'cross_entropy: weight', '(3)', '(2)')
    assert.fails(function() F.cross_entropy(x, t, { reduction = 'avg' }) end, 'cross_entropy: reduction', "'mean'")
    assert.fails(function() F.cross_entropy(x, t, { label_smoothing = 2 }) end, 'cross_entropy: label_smoothing')
    assert.fails(function() F.cross_entropy(x, t, { label_smoothing = nan }) end, 'cross_entropy: label_smoothing')
    assert.fails(function() F.cross_entropy(x, t, { ignore_index = 1.5 }) end, 'cross_entropy: ignore_index')
    assert.fails(function() F.cross_entropy(x, x, { ignore_index = 1 }) end, 'cross_entropy: ignore_index')
    assert.fails(function() F.cross_entropy(x, t, { wieght = 1 }) end, "'weight'")
    assert.fails(function() F.cross_entropy(tensor(1), t) end, 'cross_entropy: input')
    assert.fails(function() F.cross_entropy(t, t) end, 'cross_entropy: input', 'int64')
    assert.fails(function() F.cross_entropy(x, nil) end, 'cross_entropy: target', 'nil')
    assert.fails(function() F.nll_loss(x, x) end, 'nll_loss: target')
    assert.fails(function() F.nll_loss(x, t, { label_smoothing = 0.1 }) end, 'label_smoothing')
  end)
end)

describe('elementwise losses', function()
  it('do not depend on padding nor on what lies in it', function()
    for _, name in ipairs { 'mse_loss', 'l1_loss', 'smooth_l1_loss', 'huber_loss', 'binary_cross_entropy_with_logits' } do
      local expected
      for _, pad in ipairs { 0, 3 } do
        local x, t, m = wave(2, 2, 3 + pad, 5 + pad), wave(2, 2, 4 + pad, 5 + pad), {}
        for n = 1, 2 do
          m[n] = { {} }
          for h = 1, 3 + pad do
            m[n][1][h] = {}
            for w = 1, 5 + pad do
              m[n][1][h][w] = h <= 3 and w <= 5 and 1 or 0
              if m[n][1][h][w] == 0 then
                for c = 1, 2 do x[n][c][h][w] = nan end
              end
            end
          end
          for c = 1, 2 do table.remove(t[n][c], 1) end
        end
        x = tensor(x):requires_grad_()
        local y = F[name](x, tensor(t), { mask = tensor(m) })
        y:backward()
        local g = Tensor.as_view('test', x.grad, { 2, 2, 3, 5 }, x.grad:stride(), 0)
        if expected then
          assert.same_bits(expected[1], y)
          assert.same_bits(expected[2], g)
          assert.are.equal(0, x.grad:totable()[1][1][5][2])
        else
          expected = { y, g }
          assert.same_bits(y, F[name](x, tensor(t)))
        end
      end
    end
  end)

  it('stay right at the ends', function()
    assert.are.equal(1000, F.binary_cross_entropy_with_logits(tensor { 1000 }, tensor { 0 }):item())
    assert.are.equal(0, F.binary_cross_entropy_with_logits(tensor { 1000 }, tensor { 1 }):item())
    assert.are.equal(0, F.kl_div(tensor { -1 }, tensor { 0 }):item())
    assert.are.equal(1, F.kl_div(torch.tensor(-1), torch.tensor(1), { reduction = 'batchmean' }):item())
    assert.are.equal(0.5, F.smooth_l1_loss(tensor { 0 }, tensor { 0.5 }, { beta = 0 }):item())
    local x = tensor({ 2 }):requires_grad_()
    F.l1_loss(x, tensor { 2 }):backward()
    assert.are.equal(0, x.grad:item())
    assert.are.equal(0, F.mse_loss(empty { 0, 2 }, empty { 0, 2 }, { reduction = 'sum' }):item())
    local mean = F.mse_loss(empty { 0, 2 }, empty { 0, 2 }):item()
    assert.is_true(mean ~= mean)
  end)

  it('refuse what they cannot do, by name', function()
    local x = tensor { { 1, 2, 3 } }
    assert.fails(function() F.mse_loss(x, tensor { 1, 2, 3 }) end, 'mse_loss: target', '(1, 3)', '(3)')
    assert.fails(function() F.mse_loss(x, tensor({ { 1, 2, 3 } }, 'int64')) end, 'mse_loss: target', 'int64')
    assert.fails(function() F.l1_loss(x, x, { reduction = 'batchmean' }) end, 'l1_loss: reduction')
    assert.fails(function() F.smooth_l1_loss(x, x, { beta = -1 }) end, 'smooth_l1_loss: beta')
    assert.fails(function() F.huber_loss(x, x, { delta = 0 }) end, 'huber_loss: delta')
    assert.fails(function() F.huber_loss(x, x, { mask = tensor { 1, 2 } }) end, 'huber_loss: mask')
    assert.fails(function() F.mse_loss(1, x) end, 'mse_loss: input', 'number')
  end)
end)

describe('losses without reduction', function()
  it('take upstream gradients that repeat one element', function()
    local x = tensor({ { 1, 2, 3 }, { 4, 5, 7 } }, 'float64'):requires_grad_()
    for _, name in ipairs { 'cross_entropy', 'mse_loss' } do
      local t = name == 'mse_loss' and tensor({ { 0, 0, 1 }, { 1, 0, 2 } }, 'float64') or labels { 1, 3 }
      x.grad = nil
      F[name](x, t, { reduction = 'none' }):sum():backward()
      local expected = x.grad
      x.grad = nil
      F[name](x, t, { reduction = 'sum' }):backward()
      assert.same_bits(expected, x.grad)
    end
  end)
end)

describe('loss modules', function()
  it('compute and print as PyTorch does', function()
    local x, t = tensor { { 1, 2, 3 }, { 4, 5, 6 } }, labels { 1, 2 }
    local loss = nn.CrossEntropyLoss{ weight = tensor { 1, 2, 3 }, ignore_index = 2 }
    assert.same_bits(F.cross_entropy(x, t, { weight = tensor { 1, 2, 3 }, ignore_index = 2 }), loss(x, t))
    assert.are.equal('CrossEntropyLoss()', tostring(loss))
    assert.are.equal('MSELoss()', tostring(nn.MSELoss()))
    assert.same_bits(F.smooth_l1_loss(x, x * 2, { beta = 0.5, mask = tensor { 1, 0, 1 } }),
      nn.SmoothL1Loss({ beta = 0.5 })(x, x * 2, tensor { 1, 0, 1 }))
    for _, name in ipairs { 'NLLLoss', 'MSELoss', 'L1Loss', 'HuberLoss', 'BCEWithLogitsLoss', 'KLDivLoss' } do
      local target = name == 'NLLLoss' and t or x
      assert.are.equal(0, nn[name]()(x, target):dim())
    end
    assert.fails(function() nn.MSELoss{ reduction = 'no' } end, 'MSELoss: reduction')
  end)
end)
