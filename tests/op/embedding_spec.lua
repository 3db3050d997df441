local check_op = require 'support.check_op'
check_op(require 'op.embedding_cases')

local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional
local function long(data) return torch.tensor(data, { dtype = 'int64' }) end

describe('embedding #memory', function()
  it('gives the padding row no gradient', function()
    local weight = torch.randn(4, 2, { requires_grad = true })
    F.embedding(long{ 1, 3, 3, 4 }, weight, { padding_idx = 3 }):sum():backward()
    assert.near_tensor({ { 1, 1 }, { 0, 0 }, { 0, 0 }, { 1, 1 } }, weight.grad)
    weight.grad = nil
    F.embedding(long{ 4, 1, 1 }, weight, { padding_idx = -1 }):sum():backward()
    assert.near_tensor({ { 2, 2 }, { 0, 0 }, { 0, 0 }, { 0, 0 } }, weight.grad)
  end)

  it('works on empty and expanded indexes', function()
    local weight = torch.randn(4, 2, { requires_grad = true })
    local y = F.embedding(torch.zeros(3, 0, { dtype = 'int64' }), weight)
    assert.are.same({ 3, 0, 2 }, y:size())
    y:sum():backward()
    assert.near_tensor({ { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } }, weight.grad)
    weight.grad = nil
    F.embedding(long{ { 2 }, { 4 } }:expand(2, 3), weight):sum():backward()
    assert.near_tensor({ { 0, 0 }, { 3, 3 }, { 0, 0 }, { 3, 3 } }, weight.grad)
  end)

  it('names what is wrong', function()
    local weight = torch.randn(4, 2)
    assert.fails(function() F.embedding(long{ { 1, 2 }, { 5, 1 } }, weight) end,
      'embedding: index: value 5 at position (2, 1) is outside 1..4')
    assert.fails(function() F.embedding(long{ 0 }, weight) end, 'value 0 at position (1)')
    assert.fails(function() F.embedding(torch.ones(2), weight) end, 'embedding: index: expected int64 or int32, got (2) float32')
    assert.fails(function() F.embedding(long{ 1 }, torch.ones(3)) end, 'embedding: weight: expected (V, D), got (3)')
    assert.fails(function() F.embedding({ 1 }, weight) end, 'embedding: index: expected a tensor, got table')
    assert.fails(function() F.embedding(long{ 1 }, weight, { padding_idx = 5 }) end, 'embedding: padding_idx')
    assert.fails(function() F.embedding(long{ 1 }, weight, { padding = 5 }) end, 'unknown option')
    assert.fails(function() nn.Embedding(3) end, 'Embedding: embedding_dim')
  end)
end)

describe('nn.Embedding', function()
  it('starts as N(0, 1), with a zero row for padding', function()
    torch.manual_seed(3)
    local layer = nn.Embedding(300, 40, { padding_idx = 2 })
    assert.are.equal('Embedding(300, 40, padding_idx=2)', tostring(layer))
    assert.are.equal('Embedding(61, 12)', tostring(nn.Embedding(61, 12)))
    assert.are.equal(0, layer.weight[2]:abs():sum():item())
    assert.is_true(math.abs(layer.weight:mean():item()) < 0.03)
    assert.is_true(math.abs(layer.weight:std():item() - 1) < 0.03)
    assert.is_true(layer.weight.requires_grad)
    assert.is_false(nn.Embedding(3, 2, { freeze = true }).weight.requires_grad)
    local y, mask = layer(long{ 2, 1 }, 'm')
    assert.near_tensor({ layer.weight[2]:totable(), layer.weight[1]:totable() }, y)
    assert.are.equal('m', mask)
    assert.are.same({ 'weight' }, (function()
      local names = {}
      for name in pairs(layer:state_dict()) do names[#names + 1] = name end
      return names
    end)())
  end)
end)
