--- device: where a script runs.

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

return device
