--- cpu: the memory of tensors on the CPU, in bytes.
--
-- Freed memory is kept for the next tensors of its size: fresh pages cost more than most kernels. At most 256 MB are kept, or as
-- much as ever lived at once; it goes back to the system when the machine's memory runs short. MASKED_TORCH_CACHE=0 in the
-- environment keeps nothing.

local native = require 'masked_torch.native'

local C = native.cpu
local cpu = {}

--- What tensors (and kernels, while they run) hold now. Tensors that the collector has not seen yet count.
function cpu.memory_allocated() return C.mt_memory_live() end

--- The highest it has been.
function cpu.max_memory_allocated() return C.mt_memory_peak() end

--- What lives and what is kept for later: the tensors' share of the process.
function cpu.memory_reserved() return C.mt_memory_live() + C.mt_memory_cached() end

--- Gives what is kept back to the system. Tensors that nobody holds any more are collected first.
function cpu.empty_cache()
  collectgarbage()
  collectgarbage()
  native.check(C.mt_memory_empty_cache())
end

return cpu
