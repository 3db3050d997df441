--- native/cuda: loads the CUDA library at the first use of a CUDA device, never before: scripts without one pay nothing.
--
-- MASKED_TORCH_CUDA=simulator loads the kernels compiled for the processor (make cuda-simulator): for tests.

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local cuda = {}

local library, why_not

--- The number of usable devices, and of the one that 'cuda' means.
cuda.devices, cuda.current = 0, 0

local function load()
  local simulated = os.getenv 'MASKED_TORCH_CUDA' == 'simulator'
  local path, header = native.find_cuda(simulated)
  if not path or not header then
    return nil, simulated and 'the simulator is not built (make cuda-simulator)' or 'this build has no CUDA library (make cuda)'
  end
  if not pcall(ffi.typeof, 'mt_device_properties') then native.declare(header) end
  local ok, K = pcall(ffi.load, path)
  if not ok then return nil, 'the CUDA library does not load: ' .. tostring(K) end
  local built = ffi.string(K.mt_version())
  if built ~= native.version then
    return nil, ('the CUDA library is version %s, the Lua files are %s (make cuda)'):format(built, native.version)
  end
  local count = ffi.new 'int32_t[1]'
  if K.mt_device_count(count) ~= 0 then return nil, ffi.string(K.mt_last_error()) end
  native.add_library(K)
  cuda.devices = count[0]
  cuda.follow(K)
  return K
end

--- What is set for the whole process holds in both libraries.
function cuda.follow(K)
  K = K or library
  if K then
    native.check(K.mt_matmul_precision_set(native.cpu.mt_matmul_precision_get()))
    native.check(K.mt_conv_algorithm_set(native.cpu.mt_conv_algorithm_get()))
  end
end

--- The namespace of the CUDA library, or nil and the reason why there is none. The answer is remembered.
function cuda.open()
  if not library and not why_not then library, why_not = load() end
  return library, why_not
end

--- The library when it is loaded already.
function cuda.loaded() return library end

--- The number of the device that a string names: 'cuda' is the current one; nil when it is no name of a CUDA device.
function cuda.number(device)
  if device == 'cuda' then return cuda.current end
  return type(device) == 'string' and tonumber(device:match('^cuda:(%d+)$')) or nil
end

return cuda
