local torch = require 'masked_torch'
local init = torch.nn.init

local function moments(t)
  local n, sum, squares, low, high = 0, 0, 0, math.huge, -math.huge
  local function walk(v)
    if type(v) == 'table' then
      for _, e in ipairs(v) do walk(e) end
    else
      n, sum, squares = n + 1, sum + v, squares + v * v
      low, high = math.min(low, v), math.max(high, v)
    end
  end
  walk(t:totable())
  return sum / n, math.sqrt(squares / n - (sum / n) ^ 2), low, high
end

describe('initialisers', function()
  before_each(function() torch.manual_seed(7) end)

  it('know fans and gains', function()
    assert.same({ 27, 72 }, { init.calculate_fan(torch.zeros(8, 3, 3, 3)) })
    assert.fails(function() init.calculate_fan(torch.zeros(3)) end, 'calculate_fan', '(3)')
    assert.equal(5 / 3, init.calculate_gain('tanh'))
    assert.equal(math.sqrt(2 / 1.25), init.calculate_gain('leaky_relu', 0.5))
    assert.fails(function() init.calculate_gain('relo') end, 'calculate_gain: nonlinearity')
  end)

  it('have the range and spread of their formulas', function()
    local function weight() return torch.zeros(64, 32, 3, 3):requires_grad_() end
    local bound = 1 / math.sqrt(32 * 9)
    local mean, std, low, high = moments(init.kaiming_uniform_(weight(), { a = math.sqrt(5) }))
    assert.is_true(low >= -bound and high <= bound and high > 0.99 * bound)
    assert.near(0, mean, bound / 50)
    assert.near(bound / math.sqrt(3), std, bound / 50)
    mean, std = moments(init.kaiming_normal_(weight(), { mode = 'fan_out', nonlinearity = 'relu' }))
    assert.near(math.sqrt(2 / (64 * 9)), std, 2e-3)
    assert.near(0, mean, 2e-3)
    mean, std, low, high = moments(init.xavier_uniform_(weight(), 2))
    assert.near(0, mean, 1e-3)
    bound = 2 * math.sqrt(6 / (96 * 9))
    assert.is_true(low >= -bound and high <= bound and high > 0.99 * bound)
    assert.near(bound / math.sqrt(3), std, bound / 50)
    mean, std = moments(init.xavier_normal_(weight()))
    assert.near(0, mean, 2e-3)
    assert.near(math.sqrt(2 / (96 * 9)), std, 2e-3)
    assert.near_tensor({ 3, 3 }, init.constant_(torch.zeros(2), 3))
    assert.near_tensor({ 1, 1 }, init.ones_(torch.zeros(2)))
    assert.near_tensor({ 0, 0 }, init.zeros_(torch.ones(2)))
    mean, std, low, high = moments(init.uniform_(torch.zeros(1000), 2, 3))
    assert.is_true(low >= 2 and high < 3)
    assert.near(2.5, mean, 0.05)
    assert.near(math.sqrt(1 / 12), std, 0.03)
  end)

  it('keep leaves leaves, and count a version', function()
    local w = torch.zeros(4, 4):requires_grad_()
    local before = torch.Tensor.version(w)
    init.normal_(w)
    assert.is_true(torch.Tensor.version(w) > before)
    assert.is_nil(w.grad_fn)
    assert.is_true(w.requires_grad)
    assert.fails(function() init.normal_(torch.zeros({ 2 }, { dtype = 'int64' })) end, 'normal_', 'int64')
    assert.fails(function() init.kaiming_uniform_(w, { mod = 'fan_in' }) end, "did you mean 'mode'")
  end)

  it('orthogonal rows or columns', function()
    for _, shape in ipairs{ { 4, 6 }, { 6, 4 }, { 3, 2, 2 } } do
      local values = init.orthogonal_(torch.zeros(shape, { dtype = 'float64' }), 2)
      local flat = values:reshape(shape[1], -1):totable()
      local rows, columns = #flat, #flat[1]
      for i = 1, math.min(rows, columns) do
        for j = 1, i do
          local dot = 0
          for k = 1, math.max(rows, columns) do
            dot = dot + (rows <= columns and flat[i][k] * flat[j][k] or rows > columns and flat[k][i] * flat[k][j])
          end
          assert.near(i == j and 4 or 0, dot, 1e-12)
        end
      end
    end
  end)
end)
