local check_op = require 'support.check_op'
check_op(require 'op.index_cases')

local torch = require 'masked_torch'
local F = torch.nn.functional
local function long(data) return torch.tensor(data, { dtype = 'int64' }) end
local function matrix(dtype) return torch.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, { dtype = dtype }) end

describe('operations by position #memory', function()
  it('move every dtype', function()
    for _, dtype in ipairs { 'float32', 'float64', 'int64', 'int32', 'uint8' } do
      local x = matrix(dtype)
      assert.near_tensor({ { 3, 3 }, { 6, 6 } }, x:index_select(2, { 3, 3 }))
      assert.near_tensor({ { 1, 5, 3 } }, x:gather(1, long{ { 1, 2, 1 } }))
      assert.near_tensor({ { 7, 2, 3 }, { 4, 5, 7 } }, x:scatter(2, long{ { 1 }, { 3 } }, 7))
      assert.near_tensor({ { 9, 9, 3 }, { 9, 5, 6 } },
        x:masked_fill(torch.tensor{ { true, true, false }, { true, false, false } }, 9))
      assert.near_tensor({ 4, 5, 6 }, x:masked_select(x:gt(3)))
      assert.near_tensor({ { 0, 1, 2, 3 }, { 0, 4, 5, 6 } }, F.pad(x, { 1, 0 }))
      assert.near_tensor({ { 1, 2, 3, 1, 2, 3 }, { 4, 5, 6, 4, 5, 6 } }, torch.cat({ x, x }, 2))
      assert.are.equal(dtype, torch.stack{ x, x }.dtype)
      assert.near_tensor({ { 1, 0, 0 }, { 4, 5, 0 } }, x:tril())
    end
    local bits = torch.tensor{ true, false }
    assert.are.same({ false, true, true }, bits:index_select(1, { 2, 1, 1 }):totable())
    assert.are.same({ true, true }, bits:masked_fill(torch.tensor{ false, true }, true):totable())
  end)

  it('work on empty tensors', function()
    local x = torch.zeros(0, 3)
    assert.are.same({ 0, 3 }, x:index_select(1, long{}):size())
    assert.are.same({ 0, 2 }, x:index_select(2, { 1, 3 }):size())
    assert.are.same({ 0, 3 }, x:gather(1, torch.zeros(0, 3, { dtype = 'int64' })):size())
    assert.are.same({ 0 }, x:masked_select(x:gt(0)):size())
    assert.are.same({ 0, 2 }, x:nonzero():size())
    assert.are.same({ 0, 3 }, x:masked_fill(x:gt(0), 1):size())
    assert.are.same({ 2, 5 }, F.pad(x, { 1, 1, 2, 0 }):size())
    assert.are.same({ 2, 3 }, torch.cat{ x, torch.ones(2, 3), x }:size())
    assert.are.same({ 2, 3 }, torch.cat{ torch.zeros(0), torch.ones(2, 3) }:size())
    assert.are.same({ 0 }, torch.cat{ torch.zeros(0), torch.zeros(0) }:size())
    assert.are.same({ 2, 0, 3 }, torch.stack{ x, x }:size())
    assert.are.same({ 0, 4 }, F.one_hot(long{}, 4):size())
    assert.near_tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, matrix():index_add(1, long{}, x))
    local leaf = torch.zeros(3, { requires_grad = true })
    leaf:masked_select(torch.tensor{ false, false, false }):sum():backward()
    assert.near_tensor({ 0, 0, 0 }, leaf.grad)
  end)

  it('finds positions', function()
    assert.near_tensor({ { 1, 2 }, { 2, 1 }, { 2, 3 } }, torch.tensor{ { 0, 0 / 0, 0 }, { 1, 0, -1 } }:nonzero())
  end)

  it('writes in place and counts it', function()
    local x = torch.zeros(2, 3)
    assert.are.equal(x, x:scatter_(2, long{ { 2 }, { 3 } }, 1))
    x:scatter_add_(2, long{ { 2 }, { 3 } }, torch.ones(2, 1))
    x:index_add_(1, { 1 }, torch.ones(1, 3))
    x:index_copy_(2, { 1 }, torch.tensor{ { 5 }, { 6 } })
    x:index_fill_(2, { 3 }, 9)
    x:masked_fill_(x:eq(9), 8)
    x:masked_scatter_(x:eq(8), torch.tensor{ 1, 2 })
    assert.near_tensor({ { 5, 3, 1 }, { 6, 0, 2 } }, x)
    assert.are.equal(7, torch.Tensor.version(x))
  end)

  it('joins more tensors than one call can take', function()
    local list = {}
    for i = 1, 9001 do list[i] = torch.tensor{ i } end
    local y = torch.cat(list)
    assert.are.equal(9001, y:size(1))
    assert.are.equal(8500, y[8500])
  end)

  it('takes masks', function()
    local mask = torch.mask.lengths({ 1, 3 }, 3)
    local x = torch.ones(2, 2, 3)
    assert.near_tensor({ { { 5, 1, 1 }, { 5, 1, 1 } }, { { 5, 5, 5 }, { 5, 5, 5 } } }, x:masked_fill(mask, 5))
    assert.are.equal(8, x:masked_select(mask):numel())
    -- One without the channels' dim, as other libraries write it.
    assert.fails(function() torch.nn.MaskedConv1d(2, 2, 3)(x, torch.ones(2, 3)) end, 'mask: (2, 3)', 'mask:unsqueeze(2)')
  end)

  it('counts whole numbers', function()
    local labels = long{ 1, 3, 3, 2, 3 }
    for _, dtype in ipairs{ 'int64', 'int32', 'uint8' } do
      local one = torch.ones(5, { dtype = dtype })
      local counts = torch.zeros(4, { dtype = dtype })
      assert.are.same({ 1, 1, 3, 0 }, counts:scatter_add(1, labels, one):totable())
      assert.are.same({ 2, 2, 6, 0 }, counts:index_add_(1, labels, one, { alpha = 2 }):totable())
      assert.are.same({ 2, 2, 6, 0 }, counts:totable())
      assert.are.equal(dtype, counts.dtype)
    end
    assert.are.same({ 3, 0 }, torch.zeros(2):index_add(1, { 1 }, torch.ones(1), 3):totable())
  end)

  it('finds positions of bfloat16', function()
    assert.are.same({ { 2 }, { 3 } }, torch.tensor({ 0, 1, -2 }):bfloat16():nonzero():totable())
  end)

  it('makes one-hot rows', function()
    assert.near_tensor({ { { 0, 1, 0 }, { 0, 0, 1 } } }, F.one_hot(long{ { 2, 3 } }))
    assert.are.same({ 1, 5 }, F.one_hot(long{ 2 }, 5):size())
  end)

  it('name what is wrong', function()
    local x = matrix()
    assert.fails(function() x:index_select(2, { 1, 4 }) end,
      'index_select: index: value 4 at position (2) is outside 1..3 (dim 2 of (2, 3))')
    assert.fails(function() x:index_select(2, { 0 }) end, 'value 0 at position (1)')
    assert.fails(function() x:index_select(3, { 1 }) end, 'index_select: dim')
    assert.fails(function() x:index_select(1, torch.ones(2)) end, 'index_select: index: expected int64 or int32, got (2) float32')
    assert.fails(function() x:index_select(1, long{ { 1 } }) end, 'one dimension')
    assert.fails(function() x:gather(2, long{ { 1, 2 }, { 3, 4 } }) end,
      'gather: index: value 4 at position (2, 2) is outside 1..3')
    assert.fails(function() x:gather(2, long{ 1 }) end, 'gather: index: expected 2 dimensions, got (1) int64')
    assert.fails(function() x:gather(1, torch.ones(1, 4, { dtype = 'int64' })) end, 'gather', '(1, 4)', 'is larger than (2, 3)')
    assert.fails(function() x:gather(1, nil) end, 'gather: index: expected a tensor, got nil')
    assert.fails(function() x:scatter(1, long{ { 1, 1 } }, torch.ones(1, 3)) end, 'scatter: source: expected (1, 2), got (1, 3)')
    assert.fails(function() x:scatter(1, long{ { 1 } }, torch.ones(1, 1, { dtype = 'float64' })) end,
      'scatter: source: expected float32')
    assert.fails(function() x:scatter_add(1, long{ { 3 } }, torch.ones(1, 1)) end, 'scatter_add: index: value 3')
    assert.fails(function() matrix('int64'):scatter_add(1, long{ { 1 } }, torch.ones(1, 1)) end, 'scatter_add: source', 'int64')
    assert.fails(function() matrix('int64'):index_add(1, { 1 }, matrix('int64')[{ { 1 } }], { alpha = 0.5 }) end, 'index_add: alpha', '0.5')
    assert.fails(function() x:index_add(1, { 1 }, torch.ones(1, 3), { alhpa = 2 }) end, 'index_add', "'alpha'")
    assert.fails(function() matrix('uint8'):masked_fill(x:gt(0), 256) end, 'masked_fill: value: uint8 holds', '256')
    assert.fails(function() matrix('int32'):index_fill(1, { 1 }, 1 / 0) end, 'index_fill: value: int32 holds', 'inf')
    assert.fails(function() matrix('uint8')[1] = -1 end, 'index: value: uint8 holds', '-1')
    assert.fails(function() x:index_add(1, { 3 }, torch.ones(1, 3)) end,
      'index_add: index: value 3 at position (1) is outside 1..2')
    assert.fails(function() x:index_add(1, { 1 }, torch.ones(2, 3)) end, 'index_add: source: expected (1, 3), got (2, 3)')
    assert.fails(function() x:masked_fill(torch.ones(2, 3), 0) end, 'masked_fill: mask: expected bool, got (2, 3) float32')
    assert.fails(function() x:masked_fill(x:gt(0), '0') end, 'masked_fill: value')
    assert.fails(function() x:masked_fill(torch.tensor{ true, false }, 0) end, 'masked_fill: (2, 3) and (2) do not broadcast')
    assert.fails(function() x:masked_fill_(torch.ones(2, 2, 3):gt(0), 0) end, 'masked_fill_: mask: (2, 2, 3)')
    assert.fails(function() x:masked_scatter(x:gt(0), torch.ones(5)) end, 'masked_scatter: source: 5 elements for 6')
    assert.fails(function() torch.ones(3):tril() end, 'tril: expected at least 2 dimensions, got (3)')
    assert.fails(function() F.one_hot(long{ 4 }, 3) end, 'one_hot: index: value 4 at position (1, 1) is outside 1..3')
    assert.fails(function() torch.cat{} end, 'cat: tensors: the table is empty')
    assert.fails(function() torch.cat(x) end, 'cat: tensors: expected a table of tensors, got a tensor')
    assert.fails(function() torch.cat{ x, 3 } end, 'cat: tensor 2: expected a tensor, got number')
    assert.fails(function() torch.cat({ x, x }, 3) end, 'cat: dim')
    assert.fails(function() torch.cat{ x, matrix('int32') } end, 'cat: tensor 2 is int32, tensor 1 float32')
    assert.fails(function() torch.cat{ x, torch.ones(2, 4) } end, 'cat: tensor 2 has shape (2, 4), tensor 1 (2, 3)', 'dim 1 only')
    assert.fails(function() torch.stack{ x, torch.ones(2, 4) } end, 'stack: tensor 2 has shape (2, 4)')
    assert.fails(function() F.pad(x, { 1 }) end, 'pad: padding: expected 2 numbers')
    assert.fails(function() F.pad(x, { 1, 1, 1, 1, 1, 1 }) end, 'pad: padding')
    assert.fails(function() F.pad(x, { 3, 0 }, { mode = 'reflect' }) end,
      "pad: padding: mode 'reflect' can add at most 2 to dim 2 of (2, 3)")
    assert.fails(function() F.pad(x, { 4, 0 }, { mode = 'circular' }) end, 'at most 3')
    assert.fails(function() F.pad(x, { 1, 1 }, { mode = 'mirror' }) end, 'pad: mode: expected one of')
    assert.fails(function() F.pad(x, { 1, 1 }, { vlaue = 1 }) end, "did you mean 'value'?")
    assert.fails(function() F.pad(x, { -2, -2 }) end, 'cut more than dim 2')
  end)

  it('survive a lack of memory and an interruption', function()
    local native = require 'masked_torch.native'
    local x, index, mask = torch.randn(6, 5), long{ { 1, 2, 3, 1, 6 } }, torch.randn(6, 5):gt(0)
    local calls = {
      function() return x:gather(1, index) end,
      function() return x:scatter(1, index, torch.ones(1, 5)) end,
      function() return x:scatter_add(1, index, torch.ones(1, 5)) end,
      function() return x:masked_select(mask) end,
      function() return x:nonzero() end,
      function() return F.embedding(index, x) end,
      function() return F.pad(x, { 1, 1 }, { mode = 'reflect' }) end,
      function() return torch.cat{ x, x } end,
      function()
        local leaf = x:detach():requires_grad_()
        leaf:scatter(1, index, leaf:narrow(1, 1, 1)):sum():backward()
        F.embedding(index, leaf):sum():backward()
        return leaf.grad
      end,
    }
    for k, call in ipairs(calls) do
      local expected, failures = call(), 0
      for n = 1, 200 do
        native.cpu.mt_memory_fail_at(n, 1)
        local ok, result = pcall(call)
        native.cpu.mt_memory_fail_at(0, 0)
        if ok then
          assert.same_bits(expected, result)
          break
        end
        failures = failures + 1
        assert.is_truthy(tostring(result):find('memory'), tostring(result))
      end
      assert.is_true(failures > 0 and failures < 200, 'call ' .. k)
    end
    native.cpu.mt_cancel_set(1)
    assert.fails(function() x:nonzero() end, 'interrupted')
    assert.are.equal(2, x:nonzero():size(2))
  end)
end)
