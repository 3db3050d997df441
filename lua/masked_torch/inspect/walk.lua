--- walk: one forward pass of a network, seen layer by layer. What the parts of torch.inspect and torch.train.count share.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail

local walk = {}

--- walk.check(op, net): a module, or an error.
function walk.check(op, net)
  if type(net) ~= 'table' or type(net.named_modules) ~= 'function' then
    fail('%s: net: expected a module, got %s', op, Tensor.is_tensor(net) and 'a tensor' or native.show(net))
  end
  return net
end

local function has_children(module) return #module:children() > 0 end

local function owns_parameters(module)
  for _, name in ipairs(module._parameters.names) do
    if module._parameters.values[name] ~= nil then return true end
  end
  return false
end

--- walk.layers(net): names and modules that do something themselves: those without children, and those with parameters of their own.
function walk.layers(net)
  local list = {}
  for name, module in net:named_modules() do
    if not has_children(module) or owns_parameters(module) then list[#list + 1] = { name = name, module = module } end
  end
  return list
end

--- walk.class(module): the name of its class.
function walk.class(module) return getmetatable(module).__name end

--- walk.modes(net): a function that puts all modules back into the mode they are in now.
function walk.modes(net)
  local modes = {}
  for _, module in net:named_modules() do modes[module] = module.training end
  return function()
    for module, flag in pairs(modes) do rawset(module, 'training', flag) end
  end
end

--- walk.run(net, x, mask, visit, [layers = walk.layers(net)]): net(x, mask) in evaluation mode and without gradients, with
-- visit(name, module, inputs, outputs) after every layer. The network is left as it was. Returns what the network returns.
function walk.run(net, x, mask, visit, layers)
  local removers, restore = {}, walk.modes(net)
  for _, layer in ipairs(layers or walk.layers(net)) do
    removers[#removers + 1] = layer.module:register_forward_hook(function(_, inputs, outputs)
      visit(layer.name, layer.module, inputs, outputs)
    end)
  end
  net:eval()
  local results = { pcall(autograd.no_grad, function() return net(x, mask) end) }
  for _, remove in ipairs(removers) do remove() end
  restore()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- walk.dense(mask, x): the mask as a float64 tensor that broadcasts to x; nil for no mask or one that is not for x.
function walk.dense(mask, x)
  if mask == nil or not Tensor.is_tensor(x) or x:dim() < 2 then return nil end
  local ok, m = pcall(Mask.of, 'inspect', mask, x)
  if not ok then return nil end
  return (m:compact 'float64')
end

return walk
