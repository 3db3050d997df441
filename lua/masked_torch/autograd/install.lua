--- install: puts the operations of autograd/op/*.lua where users find them.
--
-- An op file returns up to three tables of functions:
--   method      x:name(...) and torch.name(x, ...)
--   torch       torch.name(...) only
--   functional  torch.nn.functional.name(...)

local namespace = require 'masked_torch.namespace'
local Tensor = require 'masked_torch.tensor'

local stems = { 'create', 'random', 'view', 'slice', 'index', 'cat', 'pad', 'elementwise', 'activation', 'reduce', 'matmul',
  'sort', 'softmax', 'loss', 'embedding', 'dropout', 'linear', 'conv', 'mask', 'masked_conv', 'pool', 'shuffle', 'upsample',
  'norm' }

-- x:cuda() and x:cpu() are methods, torch.cuda and torch.cpu modules.
local module_names = { cuda = true, cpu = true }

return function(torch)
  local functional = {}
  for _, stem in ipairs(stems) do
    local op = require('masked_torch.autograd.op.' .. stem)
    for name, fn in pairs(op.method or {}) do
      Tensor.methods[name] = fn
      if not module_names[name] then torch[name] = torch[name] or fn end
    end
    for name, fn in pairs(op.torch or {}) do torch[name] = fn end
    for name, fn in pairs(op.functional or {}) do functional[name] = fn end
  end
  require 'masked_torch.tensor.index'
  torch.set_print_options = require('masked_torch.tensor.show').set_print_options
  package.loaded['masked_torch.nn.functional'] = namespace('nn.functional', {}, {}, functional)
end
