local torch = require 'masked_torch'
local nn = torch.nn

describe('dropout layers', function()
  it('print as PyTorch prints them', function()
    assert.equal('Dropout(p=0.5, inplace=False)', tostring(nn.Dropout()))
    assert.equal('Dropout2d(p=0.1, inplace=False)', tostring(nn.Dropout2d(0.1)))
    assert.equal('Dropout1d(p=1.0, inplace=False)', tostring(nn.Dropout1d { p = 1 }))
  end)

  it('drop in training only, and pass the mask on', function()
    torch.manual_seed(1)
    local x = torch.ones(4, 8, 6)
    local mask = torch.mask.lengths({ 6, 3, 2, 1 }, 6)
    for _, layer in ipairs { nn.Dropout(), nn.Dropout1d() } do
      local y, out = layer(x, mask)
      assert.equal(mask, out)
      assert.is_false(torch.equal(x, y))
      layer:eval()
      assert.equal(x, (layer(x)))
      assert.is_nil((select(2, layer(x))))
    end
  end)

  it('drop whole channels', function()
    local y = nn.Dropout2d(0.5)(torch.ones(8, 8, 2, 3)):totable()
    local dropped = 0
    for n = 1, 8 do
      for c = 1, 8 do
        for h = 1, 2 do
          for w = 1, 3 do assert.equal(y[n][c][1][1], y[n][c][h][w]) end
        end
        dropped = dropped + (y[n][c][1][1] == 0 and 1 or 0)
      end
    end
    assert(dropped > 10 and dropped < 54)
  end)

  it('draw from a generator of their own', function()
    local x = torch.ones(50)
    local a, b = nn.Dropout(0.5, { generator = torch.Generator(3) }), nn.Dropout(0.5, { generator = torch.Generator(3) })
    assert.same_bits((a(x)), (b(x)))
  end)

  it('refuse misuse', function()
    assert.fails(function() nn.Dropout(2) end, 'Dropout', 'p')
    assert.fails(function() nn.Dropout { q = 1 } end, 'Dropout', 'q')
    assert.fails(function() nn.Dropout2d()(torch.ones(2, 3)) end, 'dropout2d')
  end)
end)
