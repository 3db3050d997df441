-- Every public name has a doc comment, and `make doc` can arrange them.
local root = require 'support.root'
package.path = root .. 'scripts/?.lua;' .. package.path
local source = require 'masked_torch.repl.source'

describe('the reference', function()
  local names = require 'public_names'()

  it('knows what is public', function()
    local count = 0
    for _ in pairs(names) do count = count + 1 end
    assert.is_true(count > 800, count)
    for _, name in ipairs{ 'torch.randn', 'torch.save', 'x:sum', 'x:log_', 'nn.MaskedConv2d', 'F.masked_conv', 'optim.Adam', 'data.Loader',
      'io.png.save', 'train.checkpoint.save', 'lr_scheduler.StepLR', 'Module:state_dict', 'mask.boxes', 'plot.figure' } do
      assert.is_not_nil(names[name], name)
    end
  end)

  it('has a comment for every public name', function()
    local missing = {}
    for name, value in pairs(names) do
      if #source.find(name) == 0 and not (type(value) == 'function' and source.of(value)) then missing[#missing + 1] = name end
    end
    table.sort(missing)
    assert.equal('', table.concat(missing, ' '))
  end)
end)
