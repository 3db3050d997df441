local torch = require 'masked_torch'

local nn, activations = torch.nn, torch.inspect.activations

-- Moments of a plain list, by their definitions.
local function expected(values)
  local n, sum = #values, 0
  for _, v in ipairs(values) do sum = sum + v end
  local mean, second, third, fourth, zero = sum / n, 0, 0, 0, 0
  for _, v in ipairs(values) do
    second, third, fourth = second + (v - mean) ^ 2 / n, third + (v - mean) ^ 3 / n, fourth + (v - mean) ^ 4 / n
    if v == 0 then zero = zero + 1 / n end
  end
  table.sort(values)
  local function quantile(q)
    local at = 1 + (n - 1) * q
    local low = math.floor(at)
    return values[low] + (at - low) * ((values[low + 1] or 0) - values[low])
  end
  return { mean = mean, std = math.sqrt(second), skewness = third / second ^ 1.5, kurtosis = fourth / second ^ 2, zero = zero,
    median = quantile(0.5), iqr = quantile(0.75) - quantile(0.25), min = values[1], max = values[n] }
end

describe('activations', function()
  it('are moments of the valid elements alone', function()
    torch.manual_seed(3)
    local x = torch.randn(3, 4, 7)
    local mask = torch.rand(3, 1, 7):gt(0.4):float()
    local junk = x:masked_fill(mask:eq(0), 0 / 0)
    local report = activations(nn.Sequential{ nn.Identity(), nn.ReLU() }, junk, mask)
    assert.are.equal(2, #report.rows)
    for k, f in ipairs{ function(v) return v end, function(v) return math.max(v, 0) end } do
      local values, row = {}, report.rows[k]
      for n = 1, 3 do
        for c = 1, 4 do
          for p = 1, 7 do
            if mask[n][1][p] == 1 then values[#values + 1] = f(x[n][c][p]) end
          end
        end
      end
      assert.are.equal(#values, row.valid)
      assert.are.equal(#values, row.finite)
      assert.are.equal(0, row.nan + row.inf)
      assert.near(#values / 84, row.coverage, 1e-12)
      for key, value in pairs(expected(values)) do assert.near(value, row[key], 1e-9 * math.max(1, math.abs(value)), key) end
    end
    assert.is_truthy(tostring(report):find('1 +ReLU'))
  end)

  it('count what is not finite and leave it out of the moments', function()
    local x = torch.tensor({ { { 1, 2, 0 / 0, 1 / 0, -1 / 0, 3 } } })
    local row = activations(nn.Sequential{ nn.Identity() }, x).rows[1]
    assert.are.same({ 1, 2, 3 }, { row.nan, row.inf, row.finite })
    assert.near(2, row.mean, 1e-12)
    local text = tostring(activations(nn.Sequential{ nn.Identity() }, x))
    assert.is_truthy(text:find('NaN', 1, true) and text:find('Inf', 1, true), text)
  end)

  it('see dead channels, constants, nothing valid, and numbers near the ends of the range', function()
    local x = torch.zeros(2, 4, 3)
    x[{ {}, 2 }] = 1
    x[{ 1, 3, 1 }] = 5
    local mask = torch.ones(2, 1, 3)
    mask[{ 1, 1, 1 }] = 0                -- channel 3 lives in a hole only
    local row = activations(nn.Identity(), x, mask).rows[1]
    assert.near(0.75, row.dead_channels, 1e-12)
    local constant = activations(nn.Identity(), torch.full({ 1, 1, 4 }, 2)).rows[1]
    assert.are.equal(0, constant.std)
    assert.is_true(constant.kurtosis ~= constant.kurtosis)
    local none = activations(nn.Identity(), x, torch.zeros(2, 1, 3)).rows[1]
    assert.are.equal(0, none.finite)
    assert.is_nil(none.mean)
    assert.is_string(tostring(activations(nn.Identity(), x, torch.zeros(2, 1, 3))))
    local large = activations(nn.Identity(), torch.tensor({ { { 1e300, -1e300, 1e300, -1e300 } } }, { dtype = 'float64' })).rows[1]
    assert.is_true(large.finite == 4)
    local small = activations(nn.Identity(), torch.tensor({ { { 1e-20, -1e-20, 1e-20, -1e-20 } } })).rows[1]
    assert.near(1, small.kurtosis, 1e-6)
  end)

  it('choose layers, and leave the network as it was', function()
    local net = nn.Sequential{ nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU() }
    local mean = net[2].running_mean:clone()
    local report = activations(net, torch.randn(2, 3, 8, 8), nil, { layers = '^[02]$' })
    assert.are.same({ '0', '2' }, { report.rows[1].name, report.rows[2].name })
    assert.is_true(net.training)
    assert.same_bits(mean, net[2].running_mean:clone())
    assert.fails(function() activations(torch.ones(2), torch.ones(2)) end, 'activations: net')
    assert.fails(function() activations(net, torch.ones(2, 3, 8, 8), nil, { layer = 'x' }) end, "'layers'")
  end)
end)
