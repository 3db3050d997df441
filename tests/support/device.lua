--- device: where the specs of kernels on a GPU run. `make test-cuda` and `make test-cuda-simulated` name it in the environment; without
-- it each of these specs is one pending test.

local busted = require 'busted'      -- its globals are those of spec files alone

local name = os.getenv 'MASKED_TORCH_TEST_DEVICE'
if name == '' then name = nil end

local device = { name = name }

--- device.describe(what, body): describes `what` on the device.
function device.describe(what, body)
  busted.describe(what .. ' on ' .. (name or 'a device'), function()
    if name then return body() end
    busted.pending 'is tested by make test-cuda and make test-cuda-simulated'
  end)
end

return device
