local torch = require 'masked_torch'
local nn, Tensor = torch.nn, torch.Tensor

local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end

describe('pooling layers', function()
  it('print as in PyTorch', function()
    for text, layer in pairs {
      ['MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)'] = nn.MaxPool1d(2),
      ['MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=True)'] = nn.MaxPool2d(3, 2,
        { padding = 1, ceil_mode = true }),
      ['MaxPool3d(kernel_size=(1, 2, 2), stride=(1, 2, 2), padding=0, dilation=1, ceil_mode=False)'] = nn.MaxPool3d({ 1, 2, 2 }),
      ['AvgPool1d(kernel_size=(3,), stride=(2,), padding=(1,))'] = nn.AvgPool1d(3, { stride = 2, padding = 1 }),
      ['AvgPool2d(kernel_size=2, stride=2, padding=0)'] = nn.AvgPool2d(2),
      ['AvgPool3d(kernel_size=2, stride=(1, 2, 2), padding=0, mask_rule=keep)'] = nn.AvgPool3d(2, { 1, 2, 2 },
        { mask_rule = 'keep' }),
      ['AdaptiveAvgPool2d(output_size=(5, 7))'] = nn.AdaptiveAvgPool2d({ 5, 7 }),
      ['AdaptiveMaxPool1d(output_size=4)'] = nn.AdaptiveMaxPool1d(4),
    } do
      assert.are.equal(text, tostring(layer))
    end
  end)

  it('take and return masks', function()
    local x, m = tensor { { { 1, 2, 3, 4 } } }, torch.mask.lengths({ 3 }, 4)
    local y, mask = nn.MaxPool1d(2)(x, m)
    assert.same({ { { 2, 3 } } }, y:totable())
    assert.same({ { { 1, 1 } } }, mask:totable())
    y, mask = nn.AvgPool1d(2, { mask_rule = 'keep' })(x, m)
    assert.same({ { { 1.5, 0 } } }, y:totable())
    assert.same({ { { 1, 0 } } }, mask:totable())
    y, mask = nn.AdaptiveAvgPool1d(1)(x)
    assert.same({ { { 2.5 } } }, y:totable())
    assert.is_nil(mask)
    local _, _, indices = nn.MaxPool1d(2, { return_indices = true })(x)
    assert.same({ { { 2, 4 } } }, indices:totable())
  end)

  it('refuse wrong arguments', function()
    assert.fails(function() nn.MaxPool2d() end, 'MaxPool2d: kernel_size', 'nil')
    assert.fails(function() nn.MaxPool2d(2.5) end, 'MaxPool2d: kernel_size', '2.5')
    assert.fails(function() nn.MaxPool2d(2, { strid = 1 }) end, "did you mean 'stride'")
    assert.fails(function() nn.AvgPool2d(2, { mask_rule = 'shrink' }) end, 'AvgPool2d: mask_rule', "'shrink'")
    assert.fails(function() nn.AdaptiveAvgPool1d(1, { return_indices = true }) end, 'AdaptiveAvgPool1d', 'return_indices')
  end)
end)
