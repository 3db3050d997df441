local torch = require 'masked_torch'
local function long(data) return torch.tensor(data, { dtype = 'int64' }) end
local function cube() return torch.range(1, 24):reshape(2, 3, 4) end

describe('t[key] #memory', function()
  it('reads elements as Lua values', function()
    local x = cube()
    assert.are.equal(24, x[2][3][4])
    assert.are.equal(13, x[{ 2, 1, 1 }])
    assert.are.equal(24, x[{ -1, -1, -1 }])
    assert.are.equal(true, x:gt(3)[{ 1, 1, 4 }])
    assert.are.equal(3, x.shape[2])
    assert.is_nil(x.grad)
    assert.is_nil(x.anything)
  end)

  it('takes views of positions and ranges', function()
    local x = cube()
    assert.are.same({ 3, 4 }, x[2]:size())
    assert.near_tensor({ { 5, 6, 7, 8 }, { 17, 18, 19, 20 } }, x[{ {}, 2 }])
    assert.near_tensor({ { 7, 8 }, { 11, 12 } }, x[{ 1, { 2, 3 }, { -2, -1 } }])
    assert.near_tensor({ { 1, 4 } }, x[{ 1, { 1 }, { 1, 4, 3 } }])
    assert.are.same({ 0, 3, 4 }, x[{ { 1, 0 } }]:size())
    assert.are.same({ 2, 3, 4 }, x[{}]:size())
    assert.is_true(x[{ {}, 2 }]._c.storage == x._c.storage)
    local base = torch.zeros(0, 3)
    assert.are.same({ 0 }, base[{ {}, 2 }]:size())
  end)

  it('takes copies by mask and by index', function()
    local x = cube()
    assert.near_tensor({ 23, 24 }, x[x:gt(22)])
    assert.near_tensor({ { 5, 6, 7, 8 }, { 21, 22, 23, 24 } }, x[torch.tensor{ { false, true, false }, { false, false, true } }])
    assert.are.same({ 1, 3, 4 }, x[torch.tensor{ false, true }]:size())
    assert.are.same({ 2, 2, 3, 4 }, x[long{ { 1, 2 }, { 2, 2 } }]:size())
    assert.near_tensor({ { 4, 1 }, { 8, 5 } }, x[{ 1, { 1, 2 }, long{ 4, 1 } }])
    assert.near_tensor({ { 2, 3 } }, x[{ 1, { 1 }, torch.tensor{ false, true, true, false } }])
  end)

  it('assigns to all of these', function()
    local x = torch.zeros(3, 4)
    x[1] = 5
    x[{ 2, 3 }] = 7
    x[{ { 2, 3 }, { 1, 2 } }] = torch.tensor{ 1, 2 }
    x[{ 3, { 3, 4 } }] = { 8, 9 }
    assert.near_tensor({ { 5, 5, 5, 5 }, { 1, 2, 7, 0 }, { 1, 2, 8, 9 } }, x)
    x[x:ge(7)] = -1
    assert.near_tensor({ { 5, 5, 5, 5 }, { 1, 2, -1, 0 }, { 1, 2, -1, -1 } }, x)
    x[x:lt(0)] = torch.tensor{ 10, 20, 30 }
    x[long{ 1, 3 }] = torch.tensor{ { 1, 1, 1, 1 }, { 2, 2, 2, 2 } }
    assert.near_tensor({ { 1, 1, 1, 1 }, { 1, 2, 10, 0 }, { 2, 2, 2, 2 } }, x)
    x[torch.tensor{ true, false, true }] = 0
    x[{ {}, long{ 4, 1 } }] = torch.tensor{ { 3 }, { 4 }, { 5 } }
    assert.near_tensor({ { 3, 0, 0, 3 }, { 4, 2, 10, 4 }, { 5, 0, 0, 5 } }, x)
    x[{ {}, { 2, 4 } }] = x[{ {}, { 1, 3 } }]   -- overlapping memory
    assert.near_tensor({ { 3, 3, 0, 0 }, { 4, 4, 2, 10 }, { 5, 5, 0, 0 } }, x)
    local v = torch.zeros(3)
    v[2] = 4
    v[-1] = 6
    assert.near_tensor({ 0, 4, 6 }, v)
    local bits = torch.zeros(2, { dtype = 'bool' })
    bits[1] = true
    assert.are.same({ true, false }, bits:totable())
    local whole = torch.zeros(2, { dtype = 'int64' })
    whole[{ {} }] = torch.tensor{ 1.7, -2.7 }
    assert.near_tensor({ 1, -2 }, whole)
    local deep = torch.zeros(2, 2, 2)
    deep[torch.tensor{ { true, false }, { false, true } }] = 3
    assert.near_tensor({ { { 3, 3 }, { 0, 0 } }, { { 0, 0 }, { 3, 3 } } }, deep)
  end)

  it('counts versions and refuses what autograd cannot undo', function()
    local x = torch.zeros(3)
    x[1] = 1
    x[{ { 1, 2 } }] = 2
    assert.are.equal(2, torch.Tensor.version(x))
    local leaf = torch.zeros(3, { requires_grad = true })
    assert.fails(function() leaf[1] = 1 end, 'index: a leaf tensor that requires a gradient cannot be changed in place')
    assert.fails(function() leaf:mul(2)[{ { 1, 2 } }][1] = 1 end, 'view')
    local grid = torch.zeros(2, 2)
    assert.fails(function() grid[1][{ {} }] = leaf:narrow(1, 1, 2) end, 'the view (2) cannot be changed in place')
    torch.no_grad(function() leaf[1] = 1 end)
    assert.near_tensor({ 1, 0, 0 }, leaf)
    local y = leaf:exp()
    y[2] = 0
    assert.fails(function() y:sum():backward() end, 'exp: backward', 'was changed in place')
  end)

  it('names what is wrong', function()
    local x = torch.zeros(4, 6)
    assert.fails(function() return x[{ 1, 7 }] end, 'index 7 is outside 1..6 (dim 2 of (4, 6))')
    assert.fails(function() return x[5] end, 'index 5 is outside 1..4 (dim 1 of (4, 6))')
    assert.fails(function() return x[0] end, 'index 0 is outside 1..4')
    assert.fails(function() return x[1.5] end, 'expected a whole number, got 1.5')
    assert.fails(function() return x[0 / 0] end, 'whole number')
    assert.fails(function() return x[{ {}, { 2, 7 } }] end, 'range {2, 7} is outside 1..6 (dim 2 of (4, 6))')
    assert.fails(function() return x[{ { 3, 1 } }] end, 'range {3, 1}')
    assert.fails(function() return x[{ { 1, 4, 0 } }] end, 'step')
    assert.fails(function() return x[{ { first = 1 } }] end, 'named keys')
    assert.fails(function() return x[{ 1, 2, 3 }] end, '3 entries for (4, 6)')
    assert.fails(function() return x[{ 'a' }] end, 'entry 1')
    assert.fails(function() return x[true] end, 'got boolean')
    assert.fails(function() return x[torch.ones(4)] end, 'got a tensor (4) float32')
    assert.fails(function() return x[torch.tensor{ true }] end, 'mask (1) does not fit (4, 6)')
    assert.fails(function() return x[long{ 5 }] end, 'value 5 at position (1) is outside 1..4')
    assert.fails(function() return torch.tensor(3)[1] end, 'use :item()')
    assert.fails(function() x[{ 5, 1 }] = 1 end, 'index 5 is outside 1..4')
    assert.fails(function() x[1] = torch.ones(5) end, '(5) does not broadcast to (6)')
    assert.fails(function() x[1] = 'a' end, 'value: expected a number')
    assert.fails(function() x[1] = nil end, 'value')
    assert.fails(function() x[x:eq(0)] = torch.ones(3) end, '(3) does not broadcast to (24)')
    assert.fails(function() x[long{ 9 }] = 1 end, 'value 9')
    assert.fails(function() x:expand(2, 4, 6)[{ 1, 1 }] = 1 end, 'share')
    assert.fails(function() x.size = 3 end, "'size' cannot be assigned to")
    x:release()
    assert.fails(function() return x[1] end, 'the tensor was released')
  end)
end)
