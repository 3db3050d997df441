local torch = require 'masked_torch'

describe('colour maps', function()
  it('have 256 entries with the published ends and some entries between', function()
    local known = {
      viridis = { [1] = { 68, 1, 84 }, [2] = { 68, 2, 86 }, [65] = { 59, 82, 139 }, [128] = { 33, 145, 140 },
        [129] = { 33, 145, 140 }, [192] = { 92, 200, 99 }, [256] = { 253, 231, 37 } },
      coolwarm = { [1] = { 59, 76, 192 }, [128] = { 221, 221, 221 }, [129] = { 222, 220, 219 }, [256] = { 180, 4, 38 } },
      gray = { [1] = { 0, 0, 0 }, [2] = { 1, 1, 1 }, [129] = { 128, 128, 128 }, [256] = { 255, 255, 255 } },
    }
    for name, entries in pairs(known) do
      local map = torch.plot.colormap(name)
      assert.are.equal(256, #map)
      for i, color in pairs(entries) do
        for k = 1, 3 do assert(math.abs(color[k] - map[i][k]) <= 1, ('%s %d: %s'):format(name, i, table.concat(map[i], ' '))) end
      end
    end
    assert.same({ 68, 1, 84 }, torch.plot.colormap('viridis')[1])
    assert.same({ 253, 231, 37 }, torch.plot.colormap('viridis')[256])
    assert.same({ 59, 76, 192 }, torch.plot.colormap('coolwarm')[1])
    assert.same({ 180, 4, 38 }, torch.plot.colormap('coolwarm')[256])
  end)

  it('divide 0..1 into equal intervals', function()
    local colormap = require 'masked_torch.plot.colormap'
    for t, i in pairs { [-1] = 1, [0] = 1, [0.0039] = 1, [0.0040] = 2, [0.5] = 129, [0.999] = 256, [1] = 256, [7] = 256 } do
      assert.are.equal(i, colormap.index(t))
    end
  end)

  it('are known by name', function()
    assert.fails(function() torch.plot.colormap('viridi') end, 'cmap', "did you mean 'viridis'")
    assert.fails(function() torch.plot.colormap() end, 'cmap', 'nil')
  end)
end)
