--- cuda: NVIDIA GPUs. The names are those of torch.cuda.
--
-- Work on a device is queued and runs in order; Lua does not wait for it. Reading a value (x:item(), x:totable(), x:cpu()) waits.
-- 'cuda' is the current device (the first one unless set_device changed it), 'cuda:1' the second one.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local native_cuda = require 'masked_torch.native.cuda'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local cuda = {}

local function open(op)
  local K, why = native_cuda.open()
  if not K then fail('%s: CUDA is not available: %s', op, why) end
  return K
end

-- nil, 1, 'cuda' or 'cuda:1' as a number.
local function number_of(op, device)
  local K = open(op)
  if device == nil then return K, native_cuda.current end
  local n = type(device) == 'number' and device or native_cuda.number(device)
  if type(n) ~= 'number' or n % 1 ~= 0 or n < 0 or n >= native_cuda.devices then
    fail("%s: device: expected 'cuda:0' to 'cuda:%d' or that number, got %s", op, native_cuda.devices - 1, native.show(device))
  end
  return K, n
end

-- ---- devices -------------------------------------------------------------------------------------------------

--- Whether tensors can live on a GPU here; if not, the second result says why.
function cuda.is_available()
  local K, why = native_cuda.open()
  return K ~= nil, why
end

--- How many GPUs there are; 0 without CUDA.
function cuda.device_count()
  return native_cuda.open() and native_cuda.devices or 0
end

--- The number of the current device, which 'cuda' means.
function cuda.current_device()
  open('current_device')
  return native_cuda.current
end

--- Makes a device the one that 'cuda' means.
function cuda.set_device(device)
  local _, n = number_of('set_device', device)
  native_cuda.current = n
end

local function describe(op, device)
  local K, n = number_of(op, device)
  local p = ffi.new 'mt_device_properties'
  check(K.mt_device_describe(p, n))
  return p
end

--- 'NVIDIA H200'; 'simulator' for the kernels that tests run on the processor.
function cuda.get_device_name(device)
  return ffi.string(describe('get_device_name', device).name)
end

--- The compute capability as two numbers: 9, 0.
function cuda.get_device_capability(device)
  local p = describe('get_device_capability', device)
  return p.major, p.minor
end

--- {name, major, minor, multi_processor_count, total_memory, free_memory, shared_memory_per_block, L2_cache_size, driver, runtime,
-- simulated}: memory in bytes, versions as text.
function cuda.get_device_properties(device)
  local p = describe('get_device_properties', device)
  local function version(n) return ('%d.%d'):format(math.floor(n / 1000), math.floor(n % 1000 / 10)) end
  return { name = ffi.string(p.name), major = p.major, minor = p.minor, multi_processor_count = p.processors,
    total_memory = tonumber(p.total_memory), free_memory = tonumber(p.free_memory),
    shared_memory_per_block = tonumber(p.shared_memory), L2_cache_size = tonumber(p.l2_bytes), driver = version(p.driver),
    runtime = version(p.runtime), simulated = p.simulated ~= 0 }
end

--- Waits until the device has done all its work. An index out of range that a kernel met is raised here at the latest.
function cuda.synchronize(device)
  local K, n = number_of('synchronize', device)
  check(K.mt_device_synchronize(n))
end

-- ---- memory --------------------------------------------------------------------------------------------------

local function memory(op, device, what)
  local K, n = number_of(op, device)
  return K.mt_device_memory(n, what)
end

--- Bytes that tensors hold (and kernels, while they are queued).
function cuda.memory_allocated(device) return (memory('memory_allocated', device, 0)) end
--- The highest it has been since the start or reset_peak_memory_stats.
function cuda.max_memory_allocated(device) return (memory('max_memory_allocated', device, 1)) end
--- What tensors hold and what is kept for later.
function cuda.memory_reserved(device)
  return memory('memory_reserved', device, 0) + memory('memory_reserved', device, 2)
end

--- cuda.reset_peak_memory_stats([device]): max_memory_allocated begins again with what lives now.
function cuda.reset_peak_memory_stats(device)
  local K, n = number_of('reset_peak_memory_stats', device)
  check(K.mt_device_reset_peak(n))
end

--- {allocated, peak, cached, blocks}: bytes, and the number of blocks that live.
function cuda.memory_stats(device)
  local K, n = number_of('memory_stats', device)
  return { allocated = K.mt_device_memory(n, 0), peak = K.mt_device_memory(n, 1), cached = K.mt_device_memory(n, 2),
    blocks = K.mt_device_memory(n, 3) }
end

--- Gives what is kept back to the driver, of every device. Tensors that nobody holds any more are collected first.
function cuda.empty_cache()
  local K = open('empty_cache')
  collectgarbage()
  collectgarbage()
  check(K.mt_memory_empty_cache())
end

local out_pointer = ffi.new('mt_tensor *[1]')

--- cuda.pinned({sizes}, {dtype = 'float32'}): an uninitialised CPU tensor in page-locked memory, which devices copy without staging.
function cuda.pinned(shape, opts)
  local K = open('pinned')
  opts = options.parse('pinned', { dtype = 'float32' }, opts)
  local code = Tensor.dtype_code[Tensor.check_dtype('pinned', opts.dtype)]
  if type(shape) ~= 'table' then fail('pinned: size: expected a table of sizes, got %s', native.show(shape)) end
  check(K.mt_device_pinned(out_pointer, code, #shape, native.sizes('pinned', 'size', shape)))
  return Tensor.adopt(out_pointer[0], K.mt_tensor_release)
end

-- ---- events --------------------------------------------------------------------------------------------------

--- cuda.Event{enable_timing = false, device = 'cuda'}: a point in a device's queue.
local Event = class('Event')
cuda.Event = Event

local out_int, out_double = ffi.new('int32_t[1]'), ffi.new('double[1]')

function Event:__init(opts)
  opts = options.parse('Event', { enable_timing = false, device = 'cuda' }, opts)
  local K, n = number_of('Event', opts.device)
  local out_event = ffi.new('mt_event *[1]')   -- a type that the CUDA library brings
  check(K.mt_device_event_new(out_event, n, opts.enable_timing and 1 or 0))
  self.K, self._c, self.timing = K, ffi.gc(out_event[0], K.mt_device_event_free), opts.enable_timing
end

--- Marks the point that the device's queue has reached.
function Event:record()
  check(self.K.mt_device_event_record(self._c))
  self.recorded = true
end

--- The later work of a device, this one or another, waits for the event.
function Event:wait(device)
  local K, n = number_of('Event:wait', device)
  check(K.mt_device_event_wait(self._c, n))
end

--- Waits until the device has passed the point.
function Event:synchronize() check(self.K.mt_device_event_synchronize(self._c)) end

--- Whether it has.
function Event:query()
  check(self.K.mt_device_event_query(out_int, self._c))
  return out_int[0] ~= 0
end

--- Milliseconds of the device's time from this event to a later one; waits for both.
function Event:elapsed_time(later)
  for _, event in ipairs { self, later } do
    if not (event.timing and event.recorded) then
      fail('Event:elapsed_time: both events need {enable_timing = true} and record()')
    end
  end
  self:synchronize()
  later:synchronize()
  check(self.K.mt_device_event_elapsed(out_double, self._c, later._c))
  return out_double[0]
end

-- ---- graphs --------------------------------------------------------------------------------------------------

--- cuda.graph, cuda.CUDAGraph: cuda/graph.lua.
local graphs = require 'masked_torch.cuda.graph'
cuda.graph, cuda.CUDAGraph = graphs.graph, graphs.CUDAGraph

return cuda
