--- public_names: every name that a user may call, as scripts write it: torch.randn, x:sum, nn.Conv2d, F.relu, Module:parameters ...
-- For make_reference and for the test that all of them have a doc comment.
local torch = require 'masked_torch'
local loaded_later = require('masked_torch.namespace').names

local function add(list, prefix, t, names)
  for name in pairs(names or t) do
    local value = type(name) == 'string' and not name:find('^__') and t[name]
    if value and type(value) ~= 'string' then list[prefix .. name] = value end     -- torch.float32 is a string
  end
end

--- public_names() -> name -> value
return function()
  local list, nn = {}, torch.nn
  add(list, 'torch.', torch)
  for _, name in ipairs{ 'Tensor', 'autograd', 'save', 'load', 'gradcheck', 'Function', 'profile' } do
    list['torch.' .. name] = torch[name]
  end
  for name, method in pairs(torch.Tensor.methods) do
    if not name:find('^_') then list['x:' .. name] = method end
  end
  add(list, 'F.', nn.functional)
  add(list, 'nn.', nn, nn.class_files)
  add(list, 'nn.init.', nn.init)
  for name, method in pairs(nn.Module) do
    if type(method) == 'function' and not name:find('^_') and name ~= 'is' then list['Module:' .. name] = method end
  end
  for _, area in ipairs{ 'optim', 'data', 'io', 'train' } do add(list, area .. '.', torch[area], loaded_later(torch[area])) end
  add(list, 'plot.', torch.plot)
  add(list, 'mask.', torch.mask)
  for _, area in ipairs{ 'cpu', 'cuda', 'inspect', 'repl' } do
    local there, module = pcall(function() return torch[area] end)
    if there and type(module) == 'table' then add(list, area .. '.', module) end
  end
  add(list, 'lr_scheduler.', torch.optim.lr_scheduler, loaded_later(torch.optim.lr_scheduler))
  for _, module in ipairs{ 'safetensors', 'npy', 'png', 'jpeg', 'gif', 'image', 'json', 'idx', 'gzip', 'onnx' } do
    add(list, 'io.' .. module .. '.', torch.io[module])
  end
  for _, module in ipairs{ 'collate', 'text', 'tokenizer' } do add(list, 'data.' .. module .. '.', torch.data[module]) end
  for _, module in ipairs{ 'checkpoint', 'tensorboard' } do add(list, 'train.' .. module .. '.', torch.train[module]) end
  return list
end
