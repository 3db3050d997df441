--- device: where a script runs, and how exactly.

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local device = {}

--- train.device(name) -> 'cpu', 'cuda:0', ...: what a script's --device names ('cpu', 'cuda' or 'cuda:<n>'; nil is 'cpu'). An error
-- that begins with '--device:' says why when there is no such device. Everything follows from it: net:to(device),
-- data.Loader(..., {device = device}), torch.mask.boxes(..., {device = device}).
function device.device(name)
  local ok, found = pcall(Tensor.check_device, 'train', name)
  if not ok then native.fail('--device: %s', (found:gsub('^.-train: device: ', ''))) end
  return found
end

--- train.autocast(precision, device) -> wrap: wrap(fn, ...) is fn(...), with torch.autocast on that device where a script's --precision is
-- 'bfloat16', as it is for 'float32' (or nil).
function device.autocast(precision, name)
  if precision == nil or precision == 'float32' then return function(fn, ...) return fn(...) end end
  if precision ~= 'bfloat16' then native.fail("--precision: expected 'float32' or 'bfloat16', got %s", native.show(precision)) end
  local kind, autocast = name == 'cpu' and 'cpu' or 'cuda', require('masked_torch.autograd.autocast').autocast
  return function(fn, ...) return autocast(kind, fn, ...) end
end

return device
