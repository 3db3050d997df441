-- Norms and limits of gradients.
local torch = require 'masked_torch'
local optim, Tensor = torch.optim, torch.Tensor
local nan = 0 / 0

local function parameters(...)
  local list = {}
  for i, g in ipairs{ ... } do
    list[i] = torch.zeros(g:size(), { dtype = g.dtype })
    list[i].grad = g
  end
  return list
end

-- The same in plain Lua.
local function norm_of(list, p)
  local sum = 0
  local function walk(v)
    if type(v) == 'table' then
      for _, e in ipairs(v) do walk(e) end
    elseif p == math.huge then
      sum = math.max(sum, math.abs(v))
    else
      sum = sum + math.abs(v) ^ p
    end
  end
  for _, q in ipairs(list) do walk(q.grad:totable()) end
  return p == math.huge and sum or sum ^ (1 / p)
end

describe('grad_norm', function()
  for _, p in ipairs{ 2, 1, 3, 0.5, math.huge } do
    it('of type ' .. p, function()
      torch.manual_seed(1)
      local list = parameters(torch.randn(5, 7), torch.randn(3, { dtype = 'float64' }), torch.zeros(0), torch.randn(40000))
      list[#list + 1] = torch.ones(2)   -- without gradient
      local expected = norm_of({ unpack(list, 1, 4) }, p)
      local got = optim.grad_norm(list, { norm_type = p })
      assert(math.abs(got - expected) <= 1e-9 * expected, got .. ' ' .. expected)
    end)
    it('of type ' .. p .. ' has the same bits for all threads and strides', function()
      local before = torch.get_num_threads()
      for seed = 1, 6 do
        torch.manual_seed(seed)
        local g = torch.randn(50, 40, 10, { dtype = 'float64' })   -- float32 squares leave too little to round
        local turned = Tensor.empty('test', { 50, 40, 10 }, 'float64', 'cpu', { 1, 50, 2000 })
        turned:copy_(g)
        local norms = {}
        for threads = 1, 4 do
          torch.set_num_threads(threads)
          norms[#norms + 1] = optim.grad_norm(parameters(g, torch.ones(20001)), { norm_type = p })
          norms[#norms + 1] = optim.grad_norm(parameters(turned, torch.ones(20001)), { norm_type = p })
        end
        for k = 2, #norms do assert.are.equal(norms[1], norms[k]) end
      end
      torch.set_num_threads(before)
    end)
    it('of type ' .. p .. ' shows NaN and infinity', function()
      local got = optim.grad_norm(parameters(torch.tensor{ 1, nan, 2 }, torch.tensor{ 1 / 0 }), { norm_type = p })
      assert.is_false(got == got)
      assert.are.equal(math.huge, optim.grad_norm(parameters(torch.tensor{ 1, -1 / 0 }), { norm_type = p }))
    end)
  end
  it('is exact where float32 sums are not', function()
    assert.are.equal(math.sqrt(2 ^ 24 + 3), optim.grad_norm(parameters(torch.tensor{ 2 ^ 12, 1, 1, 1 })))
    assert.are.equal(torch.tensor{ 1e30 }:item(), optim.grad_norm(parameters(torch.tensor{ 1e30 })))
  end)
  it('of nothing is 0', function()
    assert.are.equal(0, optim.grad_norm({}))
    assert.are.equal(0, optim.grad_norm(torch.ones(2)))
    assert.are.equal(0, optim.grad_norm(parameters(torch.zeros(0))))
  end)
end)

describe('clip_grad_norm_', function()
  it('scales all gradients to the norm', function()
    local list = parameters(torch.tensor{ 3, 0 }, torch.tensor{ { 4 } })
    assert.are.equal(5, optim.clip_grad_norm_(list, 1))
    assert.near_tensor({ 0.6, 0 }, list[1].grad, 1e-6)
    assert.near_tensor({ { 0.8 } }, list[2].grad, 1e-6)
  end)
  it('leaves smaller ones alone, bit for bit', function()
    local g = torch.randn(7)
    local list = parameters(g:clone())
    optim.clip_grad_norm_(list, 100)
    assert.same_bits(g, list[1].grad)
  end)
  it('takes other norms', function()
    local list = parameters(torch.tensor{ 3, -4 })
    assert.are.equal(7, optim.clip_grad_norm_(list, 3.5, { norm_type = 1 }))
    assert.near_tensor({ 1.5, -2 }, list[1].grad, 1e-5)
    assert.is_true(math.abs(optim.clip_grad_norm_(list, 1, { norm_type = math.huge }) - 2) <= 1e-6)
    assert.near_tensor({ 0.75, -1 }, list[1].grad, 1e-5)
  end)
  it('works through strides', function()
    local wide = torch.ones(2, 6)
    local view = Tensor.as_view('test', wide, { 2, 3 }, { 6, 2 }, 0)
    optim.clip_grad_norm_(parameters(view), math.sqrt(6) / 2)
    assert.near_tensor({ { 0.5, 1, 0.5, 1, 0.5, 1 }, { 0.5, 1, 0.5, 1, 0.5, 1 } }, wide, 1e-6)
  end)
  it('can refuse what is not finite', function()
    local list = parameters(torch.tensor{ 1, nan })
    assert.fails(function() optim.clip_grad_norm_(list, 1, { error_if_nonfinite = true }) end, 'clip_grad_norm_', 'nan')
    assert.are.equal(1, list[1].grad:totable()[1])
    optim.clip_grad_norm_(list, 1)   -- as in PyTorch: all become NaN
    assert.near_tensor({ nan, nan }, list[1].grad)
  end)
end)

describe('clip_grad_value_', function()
  it('limits every element', function()
    local list = parameters(torch.tensor{ -3, -0.5, 0, 0.5, 3, nan, 1 / 0 })
    optim.clip_grad_value_(list, 1)
    assert.near_tensor({ -1, -0.5, 0, 0.5, 1, nan, 1 }, list[1].grad)
    optim.clip_grad_value_(list, 0.25)
    assert.near_tensor({ -0.25, -0.25, 0, 0.25, 0.25, nan, 0.25 }, list[1].grad)
  end)
end)

describe('has_non_finite', function()
  it('gives the position of the first bad tensor', function()
    local fine, far = torch.ones(3), torch.ones(50000)
    assert.is_false(optim.has_non_finite{ fine, far, torch.zeros(0) })
    assert.is_false(optim.has_non_finite{})
    for _, bad in ipairs{ nan, 1 / 0, -1 / 0 } do
      for _, dtype in ipairs{ 'float32', 'float64' } do
        local t = torch.zeros(50000, { dtype = dtype })
        t[49999] = bad
        assert.are.equal(2, optim.has_non_finite{ fine, t, t:clone() })
        assert.are.equal(1, optim.has_non_finite(t))
        local view = Tensor.as_view('test', t, { 25000 }, { 2 }, 0)
        assert.are.equal(1, optim.has_non_finite(view))
        assert.is_false(optim.has_non_finite(Tensor.as_view('test', t, { 25000 }, { 2 }, 1)))
      end
    end
  end)
  it('knows large finite numbers', function()
    assert.is_false(optim.has_non_finite(torch.tensor({ 1.7e308, -1.7e308 }, { dtype = 'float64' })))
    assert.is_false(optim.has_non_finite(torch.tensor{ 3.4e38, -3.4e38 }))
  end)
end)

describe('misuse of clipping is an error:', function()
  local list = parameters(torch.ones(2))
  for _, case in ipairs{
    { 'no limit', function() optim.clip_grad_norm_(list) end, 'clip_grad_norm_: max_norm', 'nil' },
    { 'a negative limit', function() optim.clip_grad_norm_(list, -1) end, 'clip_grad_norm_: max_norm', '-1' },
    { 'NaN as limit', function() optim.clip_grad_norm_(list, nan) end, 'clip_grad_norm_: max_norm', 'nan' },
    { 'an unknown option', function() optim.clip_grad_norm_(list, 1, { norm = 2 }) end, 'clip_grad_norm_', "'norm'" },
    { 'a norm of type 0', function() optim.grad_norm(list, { norm_type = 0 }) end, 'grad_norm: norm_type', '0' },
    { 'a norm of type NaN', function() optim.grad_norm(list, { norm_type = nan }) end, 'grad_norm: norm_type', 'nan' },
    { 'a negative value', function() optim.clip_grad_value_(list, -2) end, 'clip_grad_value_: clip_value', '-2' },
    { 'no value', function() optim.clip_grad_value_(list) end, 'clip_grad_value_: clip_value', 'nil' },
    { 'no parameters', function() optim.clip_grad_norm_(nil, 1) end, 'clip_grad_norm_: parameters', 'nil' },
    { 'a module', function() optim.clip_grad_norm_(torch.nn.ReLU(), 1) end, 'clip_grad_norm_: parameters', 'module' },
    { 'an array with a hole', function() optim.has_non_finite{ list[1], nil, list[1] } end, 'has_non_finite: tensors' },
    { 'whole numbers', function() optim.has_non_finite{ torch.ones(2, { dtype = 'int64' }) } end, 'has_non_finite', 'int64' },
  } do
    it(case[1], function()
      assert.fails(case[2], unpack(case, 3))
    end)
  end
end)
