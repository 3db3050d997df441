--- device: where a script runs.

local Tensor = require 'masked_torch.tensor'

local device = {}

--- train.device(name) -> 'cpu', 'cuda:0', ...: what a script's --device names ('cpu', 'cuda' or 'cuda:<n>'; nil is 'cpu'). An error that
-- says why when there is no such device. Everything follows from it: net:to(device), data.Loader(..., {device = device}).
function device.device(name) return (Tensor.check_device('train', name)) end

return device
