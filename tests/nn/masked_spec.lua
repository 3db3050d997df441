local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local nn = torch.nn

local inf, nan = math.huge, 0 / 0

-- f(0) = 1, and it knows nothing of masks.
local PlusOne = class('PlusOne', nn.Module)
function PlusOne.forward(_, x) return x + 1 end

local x = torch.tensor{ { { 1, 2, 3 }, { 4, 5, 6 } } }
local mask = torch.tensor{ { { 1, 0, 0.5 }, { 1, 1, 0 } } }

describe('masked modules', function()
  it('ApplyMask selects: what lies under 0 is gone', function()
    local dirty = torch.tensor{ { { 1, nan, 3 }, { 4, 5, inf } } }
    local y, m = nn.ApplyMask()(dirty, mask)
    assert.near_tensor({ { { 1, 0, 1.5 }, { 4, 5, 0 } } }, y)
    assert.near_tensor(mask, m:tensor())
    assert.equal(dirty, (nn.ApplyMask()(dirty, torch.ones(mask:size()))))      -- nothing to select
    local same, none = nn.ApplyMask()(x)
    assert.equal(x, same)
    assert.is_nil(none)
  end)

  it('UnMask divides', function()
    local y = nn.UnMask(0.5)(x, mask)
    assert.near_tensor({ { { 1 / 1.5, 4, 3 }, { 4 / 1.5, 5 / 1.5, 12 } } }, y, 1e-6)
    assert.equal(x, (nn.UnMask{ eps = 1e-6 }(x)))
    assert.fails(function() nn.UnMask('x') end, 'UnMask: eps')
    assert.fails(function() nn.UnMask{ epsilon = 1 } end, "unknown option 'epsilon'")
  end)

  it('means are taken over valid elements', function()
    local y, none = nn.SpatialMean()(x, mask)
    assert.near_tensor({ { 2, 5 } }, y)
    assert.is_nil(none)
    local z, m = nn.MaskedSpatialMean()(x:apply_mask(mask), mask)
    assert.near_tensor({ { 2.5 / 1.5, 4.5 } }, z, 1e-6)
    assert.near_tensor({ { 0.5, 2 / 3 } }, m:tensor(), 1e-6)
    local empty = nn.MaskedSpatialMean()(x, torch.zeros(1, 1, 3))
    assert.near_tensor({ { 0, 0 } }, empty)
    assert.fails(function() nn.MaskedSpatialMean{ compat = true }(x, torch.ones(1, 1, 3)) end, 'mask.shape=(1, 1, 3)',
      'input.shape=(1, 2, 3)')
    assert.equal(1e-8, nn.MaskedSpatialMean(nil, { compat = true }).eps)
  end)

  it('Masked empties the holes of modules that fill them', function()
    local m = nn.Masked(PlusOne())
    local y, out = m(x, mask)
    assert.near_tensor({ { { 2, 0, 4 }, { 5, 6, 0 } } }, y)
    assert.near_tensor(mask, out:tensor())
    assert.near_tensor({ { { 2, 3, 4 }, { 5, 6, 7 } } }, (nn.Masked(PlusOne(), { compat = true })(x, mask)))
    assert.near_tensor({ { { 2, 3, 4 }, { 5, 6, 7 } } }, (m(x)))
    assert.equal('Masked(Identity())', tostring(nn.Masked(nn.Identity())))
    assert.equal(' module', (function()
      local names = {}
      for name in m:named_modules() do names[#names + 1] = name end
      return table.concat(names, ' ')
    end)())
    assert.fails(function() nn.Masked(nn.ApplyMask()) end, 'ApplyMask treats masks itself (double masking)')
    assert.fails(function() nn.Masked(nn.Masked(nn.Identity())) end, 'double masking')
    assert.fails(function() nn.Masked(nn.MaskedUnshuffle1d(2)) end, 'double masking')
    assert.fails(function() nn.Masked(3) end, 'Masked: module: expected a module')
    assert.fails(function() nn.Masked(nn.SpatialMean()) end, 'double masking')
  end)

  it('MaskedSequential takes any mask, or checks as masked_torch does', function()
    local net = nn.MaskedSequential{ nn.ApplyMask(), nn.Identity() }
    assert.equal(x, (net(x)))
    local y = net(x, torch.tensor{ { { 1, 0, 1 } } })
    assert.near_tensor({ { { 1, 0, 3 }, { 4, 0, 6 } } }, y)
    for _, strict in ipairs{ nn.MaskedSequential{ nn.ApplyMask(), compat = true },
      nn.MaskedSequential(nn.ApplyMask(), { compat = true }) } do
      assert.equal(1, #strict)
      assert.near_tensor({ { { 1, 0, 1.5 }, { 4, 5, 0 } } }, (strict(x, mask)))
      assert.fails(function() strict(x) end, 'mask is nil')
      assert.fails(function() strict(x, torch.ones(1, 1, 3)) end, 'mask.shape=(1, 1, 3), input.shape=(1, 2, 3)')
    end
    assert.equal('MaskedSequential(\n  (0): ApplyMask()\n)', tostring(nn.MaskedSequential(nn.ApplyMask())))
    assert.fails(function() nn.MaskedSequential(nn.ApplyMask(), { compt = true }) end, "did you mean 'compat'")
  end)
end)
