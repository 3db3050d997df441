local torch = require 'masked_torch'
local golden = require 'support.golden'
local nn, Tensor = torch.nn, torch.Tensor

local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end

describe('shuffle layers', function()
  for _, case in ipairs(golden.cases('modules')) do
    if case.layer:find('Unshuffle') then
      it('reproduce ' .. case.name, function()
        local layer = nn[case.layer](case.args.downscale_factor)
        assert.are.equal(case.repr, tostring(layer))
        local x = golden.tensor(case, 'in.x'):requires_grad_()
        local y, mask = layer(x, golden.tensor(case, 'in.mask'))
        golden.check(case, 'out.y', y)
        local expected = golden.tensor(case, 'out.mask')
        if expected then golden.check(case, 'out.mask', mask:tensor()) else assert.is_nil(mask) end
        y:backward(golden.tensor(case, 'gout.y'))
        golden.check(case, 'grad.x', x.grad)
      end)
    end
  end

  it('give every channel of an unshuffled one-channel mask its own positions', function()
    local x = tensor { { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } } }
    local y, mask = nn.Unshuffle1d(2)(x, torch.mask.lengths({ 3 }, 4))
    assert.same({ { { 1, 3 }, { 2, 4 }, { 5, 7 }, { 6, 8 } } }, y:totable())
    assert.same({ { { 1, 1 }, { 1, 0 }, { 1, 1 }, { 1, 0 } } }, mask:totable())
    local back, whole = nn.Shuffle1d(2)(y, mask)
    assert.same_bits(x, back)
    assert.same({ { { 1, 1, 1, 0 }, { 1, 1, 1, 0 } } }, whole:totable())
  end)

  it('keep a one-channel mask one-channel when shuffling', function()
    local x = tensor { { { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, 8 } } }
    local y, mask = nn.MaskedShuffle1d(2)(x, tensor { { { 1, 0.5 } } })
    assert.same({ 1, 2, 4 }, y:size())
    assert.same({ { { 1, 1, 0.5, 0.5 } } }, mask:totable())
    assert.are.equal('MaskedShuffle1d(upscale_factor=2)', tostring(nn.MaskedShuffle1d(2)))
  end)

  it("have PyTorch's names too", function()
    local x = torch.randn(1, 4, 4, 6)
    assert.same_bits(nn.Unshuffle2d(2)(x), (nn.PixelUnshuffle(2)(x)))
    assert.same_bits(nn.Shuffle2d(2)(x), (nn.PixelShuffle(2)(x)))
    assert.are.equal('PixelShuffle(upscale_factor=2)', tostring(nn.PixelShuffle(2)))
    assert.are.equal('PixelUnshuffle(downscale_factor=3)', tostring(nn.PixelUnshuffle(3)))
  end)

  it('refuse sizes that do not divide', function()
    assert.fails(function() nn.Unshuffle1d(2)(tensor { { { 1, 2, 3 } } }) end, 'Length must be divisible by the downscale factor',
      '(1, 1, 3)')
    assert.fails(function() nn.Unshuffle2d(0) end, 'Unshuffle2d: downscale_factor', 'got 0')
    assert.fails(function() nn.Unshuffle2d(2)(tensor { { { 1, 2 } } }) end, '(1, 1, 2)')
  end)
end)
