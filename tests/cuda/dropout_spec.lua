--- Dropout on a device draws the CPU's bits, whatever the layout.
local torch = require 'masked_torch'
local F = torch.nn.functional

local device = require('support.device').name

describe('dropout on a device', function()
  it('drops what the CPU drops', function()
    if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
    local function check(shape, f)
      local x = torch.randn(shape)
      torch.manual_seed(5)
      local here = f(x)
      torch.manual_seed(5)
      assert.is_true(torch.equal(here, f(x:to{ device = device }):cpu()))
    end
    check({ 1001 }, function(x) return F.dropout(x, 0.3) end)
    check({ 7, 9, 5 }, function(x) return F.dropout(x:transpose(1, 2), 0.3) end)
    check({ 7, 9, 5, 3 }, function(x) return F.dropout2d(x, 0.3) end)
    check({ 7, 9, 5, 3 }, function(x) return F.dropout2d(x:contiguous{ memory_format = 'channels_last' }, 0.3) end)
  end)
end)
