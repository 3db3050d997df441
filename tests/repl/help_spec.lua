local help = require 'masked_torch.repl.help'
local session = require 'masked_torch.repl.session'
local source = require 'masked_torch.repl.source'
local torch = require 'masked_torch'

local nn = torch.nn

local function says(text, ...)
  for _, piece in ipairs{ ... } do assert.is_truthy(text:find(piece, 1, true), piece .. ' in\n' .. text) end
end

describe('help', function()
  it('finds functions by name and by value', function()
    says(help.about('torch.eye', torch.eye), 'torch.eye(n, [m], [options])', 'masked_torch/autograd/op/create.lua:')
    says(help.text(torch.linspace), 'torch.linspace(first, last, steps, [options])')
    says(help.about('x:cumsum', torch.Tensor.methods.cumsum), 'x:cumsum(dim)')
    says(help.about 'cross_entropy', 'cross_entropy(input, target', 'label_smoothing')
    says(help.about('F.relu', nn.functional.relu), 'relu(x, {mask = nil}) = max(x, 0)')
    says(help.about('torch.train.count', torch.train.count), 'torch.train.count(net, x')
  end)

  it('finds classes with their options, modules and tensors', function()
    for _, value in ipairs{ nn.Conv2d, nn.Conv2d(1, 2, 3) } do
      says(help.about(value == nn.Conv2d and 'nn.Conv2d' or 'net', value), 'nn.Conv1d/2d/3d(in_channels', "x (N, C, *S) -> (N, O, *S')",
        'padding_mode = "zeros"')
    end
    says(help.about('nn.MaskedConv2d', nn.MaskedConv2d), "m' = sum_c a_c m_c / sum_c a_c", 'compat = false')
    says(help.about('nn.Dropout2d', nn.Dropout2d), 'Dropout1d, Dropout2d, Dropout3d([p = 0.5]')
    says(help.about('optim.Adam', torch.optim.Adam), 'Adam(parameters, {lr = 1e-3')
    says(help.about('picture', torch.ones(2)), 'float32  (2)  1 .. 1', 'A tensor')
    says(help.about('torch.optim', torch.optim), 'optim: optimisers')
    says(help.about('mine', { a = 1, b = 2 }), 'table of 2: a, b')
  end)

  it('says what it does not know, and searches', function()
    says(help.about 'torch.linspaec', 'No documentation for torch.linspaec', 'Did you mean linspace?')
    says(help.about('print', print), 'print is a function (built in)')
    says(help.search 'receptive field', 'describe')
    says(help.search 'xyzzy plugh', 'Nothing about')
  end)

  it('has a block for every class of nn', function()
    local missing = {}
    for name in pairs(nn.class_files) do
      if #source.find('nn.' .. name) == 0 then missing[#missing + 1] = name end
    end
    table.sort(missing)
    assert.are.equal('', table.concat(missing, ' '))
  end)

  it('reads option keys', function()
    local keys = source.keys(nn.Conv2d)
    assert.is_true(keys.padding and keys.stride and keys.groups)
    keys = source.keys(torch.zeros, 'torch.zeros')
    assert.is_true(keys.dtype and keys.device)
    keys = source.keys(torch.allclose, 'torch.allclose')
    assert.are.same({ rtol = true, atol = true, equal_nan = true }, keys)
  end)

  it('is at hand in a session', function()
    local s = session.new{ help = help.text }
    local answer = s:evaluate 'help(torch.eye)'
    says(answer.values[1], 'torch.eye')
  end)
end)
