-- Tables whose entries are loaded when they are first used (masked_torch/namespace.lua).
local namespace = require 'masked_torch.namespace'
local torch = require 'masked_torch'
local process = require 'support.process'
local root = require 'support.root'
local scratch = require 'support.scratch'

describe('a namespace', function()
  it('loads an entry when it is first used, and only then', function()
    local how, out, err = process.run(scratch.file([[
      package.path = arg[1] .. 'lua/?.lua;' .. arg[1] .. 'lua/?/init.lua;' .. package.path
      local torch = require 'masked_torch'
      local function loaded(name) return package.loaded['masked_torch.' .. name] ~= nil end
      print(loaded 'optim', loaded 'nn.linear', loaded 'io.png')
      local Adam, Linear = torch.optim.Adam, torch.nn.Linear
      print(loaded 'optim', loaded 'nn.linear', loaded 'io.png', rawget(torch.optim, 'Adam') == Adam, torch.nn.Linear == Linear)
    ]], '.lua'), root)
    assert.are.same({ 'exit 0', 'false\tfalse\tfalse\ntrue\ttrue\tfalse\ttrue\ttrue\n' }, { how, out }, err)
  end)

  it('has every name that it lists', function()
    for _, t in ipairs{ torch, torch.nn, torch.optim, torch.optim.lr_scheduler, torch.data, torch.io, torch.train } do
      for name in pairs(namespace.names(t)) do assert.is_not_nil(t[name], name) end
    end
    assert.is_nil(namespace.names({}))
  end)

  it('refuses names that it does not have, with the nearest one', function()
    for name, case in pairs{
      zeross = { torch, "torch: there is no 'zeross' (did you mean 'zeros'?)" },
      Conv2D = { torch.nn, "nn: there is no 'Conv2D' (did you mean 'Conv2d'?)" },
      cross_entrop = { torch.nn.functional, "nn.functional: there is no 'cross_entrop' (did you mean 'cross_entropy'?)" },
      StepLr = { torch.optim.lr_scheduler, "optim.lr_scheduler: there is no 'StepLr' (did you mean 'StepLR'?)" },
      DataLoader = { torch.data, "data: there is no 'DataLoader'" },
    } do
      assert.fails(function() return case[1][name] end, case[2])
    end
    assert.is_nil(torch[1])
    assert.is_nil(torch.nn[{}])
  end)
end)
