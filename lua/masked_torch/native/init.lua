--- native: the only place that loads the libraries and declares their functions.
--
-- The declarations are the text of core/kernels.h and the headers it includes: one contract for the C compiler, nvcc
-- and LuaJIT. Both libraries export the same names; a tensor carries the namespace of its device (`x.K`), so nothing
-- above this file asks where a tensor lives.
--
-- Environment: MASKED_TORCH_CONFIG names the build folder (release, debug, sanitize, coverage; default release). The CUDA library
-- is loaded at its first use, by native/cuda.lua.

require 'masked_torch.luajit'     -- first of all
local ffi = require 'ffi'

local native = {}

-- lua/masked_torch/native/init.lua, in a checkout or under PREFIX/share/lua/5.1
local here = debug.getinfo(1, 'S').source:match('^@(.*)native/init%.lua$') or './'
native.lua_directory = here:gsub('masked_torch/$', '')

local function readable(path)
  local file = io.open(path, 'rb')
  if file then file:close() end
  return file ~= nil
end

local function find(candidates)
  for _, path in ipairs(candidates) do
    if readable(path) then return path end
  end
end

local function first_readable(what, candidates, advice)
  return find(candidates) or
    error(('masked_torch: %s not found; looked for\n  %s\n%s'):format(what, table.concat(candidates, '\n  '), advice), 0)
end

local config = os.getenv('MASKED_TORCH_CONFIG') or 'release'
-- In a checkout the library stands in build/<config>; installed, beside this file (LuaRocks) or in PREFIX/lib/masked_torch.
local checkout, beside, prefix = here .. '../../', here .. 'native/', here .. '../../../../lib/masked_torch/'

-- The version stands in one place, the file VERSION: the compiler gets it as a flag, an installation as a copy beside the contract.
do
  local file = assert(io.open((first_readable('VERSION', { checkout .. 'VERSION', beside .. 'VERSION', prefix .. 'VERSION' },
    'The installation is incomplete.'))))
  native.version = file:read('*l')
  file:close()
end

-- ---- declarations --------------------------------------------------------------------------------------------

local function declarations(path, seen, out)
  if seen[path] then return end
  seen[path] = true
  for line in io.lines(path) do
    local include = line:match('^#include "([%w_./]+%.h)"')
    if include then
      declarations(path:match('^(.*/)') .. include, seen, out)
    elseif not line:find('^%s*#') then
      out[#out + 1] = line
    end
  end
end

--- Declares a header and what it includes; for native/cuda.lua. tensor.h is known already.
function native.declare(path)
  local out = {}
  declarations(path, { [path:match('^(.*/)') .. '../core/tensor.h'] = true, [path:match('^(.*/)') .. 'tensor.h'] = true }, out)
  ffi.cdef(table.concat(out, '\n'))
end

-- Loading the module twice in one process (a test runner that isolates files) must not declare twice.
if not pcall(ffi.typeof, 'mt_tensor') then
  local header = first_readable('the contract kernels.h',
    { checkout .. 'core/kernels.h', beside .. 'kernels.h', prefix .. 'kernels.h' }, 'The installation is incomplete.')
  local out = {}
  declarations(header, {}, out)
  ffi.cdef(table.concat(out, '\n'))
end

-- ---- libraries -----------------------------------------------------------------------------------------------

local function library_places(device)
  local name = 'libmasked_torch_' .. device .. '.so'
  return name, { checkout .. 'build/' .. config .. '/' .. name, beside .. name, prefix .. name }
end

--- The CPU library. Anchored here for the life of the process.
do
  local name, places = library_places 'cpu'
  native.cpu = ffi.load(first_readable(name, places, 'Run `make` in the checkout.'))
end
local C = native.cpu

--- The CUDA library and the header of what it has beside the contract, or nil; for native/cuda.lua.
function native.find_cuda(simulated)
  local _, places = library_places 'cuda'
  if simulated then places = { checkout .. 'build/' .. config .. '/simulator/libmasked_torch_cuda.so' } end
  return find(places), find { checkout .. 'cuda/device.h', beside .. 'device.h', prefix .. 'device.h' }
end

do
  local built = ffi.string(C.mt_version())
  if built ~= native.version then
    error(('masked_torch: the library is version %s, the Lua files are %s; run `make`'):format(built, native.version), 0)
  end
end

-- ---- errors --------------------------------------------------------------------------------------------------

-- "script.lua:12: " of the innermost caller outside this package, so that a mistake points at the user's line.
local function user_position()
  local lua_files = '@' .. native.lua_directory .. 'masked_torch/'
  for level = 3, 60 do
    local info = debug.getinfo(level, 'Sl')
    if not info then break end
    if info.currentline > 0 and info.source:sub(1, #lua_files) ~= lua_files then
      return ('%s:%d: '):format(info.short_src, info.currentline)
    end
  end
  return ''
end

--- Raises an error that begins with the user's file and line.
function native.fail(format, ...)
  error(user_position() .. (select('#', ...) > 0 and format:format(...) or format), 0)
end

--- native.split_position(message) -> the "script.lua:12: " it begins with ('' where it has none), and the rest. A file's name may have
-- spaces ("(command line)"), the message colons.
function native.split_position(message)
  local position, text = message:match('^([^:\n]*:%d+: )(.*)$')
  return position or '', text or message
end

local fail = native.fail

local device_library   -- CUDA's, once it is loaded

-- The message of the call that failed last, whichever library it was in.
local function last_error()
  local K = C
  if device_library and device_library.mt_last_error_time() > C.mt_last_error_time() then K = device_library end
  return ffi.string(K.mt_last_error())
end

--- Turns a kernel's status into a Lua error. Every call of a kernel is wrapped: `check(K.mt_foo(...))`. Where one kernel serves
-- several functions, `op` stands in the message for the kernel's own name.
function native.check(status, op)
  if status ~= 0 then
    local message = last_error()
    if op then message = message:gsub('^[%w_]+: ', op .. ': ') end
    if status == C.MT_ERROR_INTERRUPTED and not native.keep_interrupt then C.mt_cancel_set(0) end
    fail('%s', message)
  end
end

-- ---- sessions ------------------------------------------------------------------------------------------------

-- What the prompt (repl/) changes while it runs something. keep_interrupt: Ctrl-C stays pending until the prompt takes it back, so that
-- a pcall on the way does not swallow it. leave: how a guarded training run ends the process.
native.keep_interrupt = false
native.leave = os.exit

-- The graph whose work is being captured (cuda.lua); nil: none. What Lua knows of values on a device does not hold there.
native.capture = nil

local observer

--- native.observe(handler): handler(message) sees the stack of an error before native.protected unwinds it; nil: nobody looks.
function native.observe(handler) observer = handler end

--- native.protected(fn, ...): pcall, where a session may look at the error on its way.
function native.protected(fn, ...)
  if observer then return xpcall(fn, observer, ...) end
  return pcall(fn, ...)
end

-- ---- arguments -----------------------------------------------------------------------------------------------

--- A wrong argument as messages show it: numbers and words as they are, anything else by its type.
function native.show(value)
  if type(value) == 'string' then return ('%q'):format(value) end
  local kind = type(value)
  if kind == 'number' or kind == 'boolean' or kind == 'nil' then return tostring(value) end
  return 'a ' .. kind
end

--- A function or something that can be called like one (a module), or an error.
function native.callable(op, argument, value)
  local meta = type(value) == 'table' and getmetatable(value)
  if type(value) ~= 'function' and not (type(meta) == 'table' and meta.__call) then
    fail('%s: %s: expected a function, got %s', op, argument, native.show(value))
  end
  return value
end

--- Fails where a method was called with a dot, net.train(): the likeliest slip of who comes from Python.
function native.check_self(method, self)
  if type(self) ~= 'table' or getmetatable(self) == nil then
    fail('%s: expected an object, got %s (a method is called with a colon, object:%s)', method, native.show(self), method)
  end
end

--- A whole number in a range, or an error that names the operation and the argument. LuaJIT's FFI would silently
-- truncate 2.7 and turn NaN into a huge integer.
function native.integer(op, argument, value, low, high)
  if type(value) ~= 'number' or value % 1 ~= 0 or value < (low or -2 ^ 53) or value > (high or 2 ^ 53) then
    local range = ''
    if low and high then
      range = (' from %d to %d'):format(low, high)
    elseif low then
      range = (' of at least %d'):format(low)
    end
    fail('%s: %s: expected a whole number%s, got %s', op, argument, range,
      native.show(value))
  end
  return value
end

--- A number (NaN and infinities included).
function native.number(op, argument, value)
  if type(value) ~= 'number' then
    fail('%s: %s: expected a number, got %s', op, argument, type(value))
  end
  return value
end

--- A dimension as users write it (1..n, or -1..-n from the end) as the 0-based one of the kernels.
function native.dim(op, dim, ndim)
  if type(dim) ~= 'number' or dim % 1 ~= 0 or dim == 0 or dim > ndim or dim < -ndim then
    if ndim == 0 then fail('%s: dim: the tensor has no dims, got %s', op, native.show(dim)) end
    fail('%s: dim: expected a whole number from 1 to %d, or -%d to -1 from the end, got %s', op, ndim, ndim,
      native.show(dim))
  end
  return dim > 0 and dim - 1 or ndim + dim
end

local sizes = ffi.typeof('int64_t[8]')

--- A C array of up to 8 sizes from a Lua table.
function native.sizes(op, argument, values)
  if #values > 8 then
    fail('%s: %s: %d dimensions; a tensor has 0 to 8', op, argument, #values)
  end
  local array = sizes()
  for i = 1, #values do
    array[i - 1] = native.integer(op, argument, values[i])
  end
  return array
end

-- ---- memory pressure -----------------------------------------------------------------------------------------

-- Lua's collector sees a small table where C holds megabytes. So every allocation is counted here, and past a limit
-- the collector runs; the limit then follows what is really alive. Never from C: the collector may not be entered
-- from a C function that compiled code called.
--
-- The collector's own pace: a cycle begins with the end of the last one, not when the heap has doubled. Garbage is small tables in front of
-- large blocks, and a heap that swings between one and two megabytes breaks into pieces that never shrink again: 20,000 training
-- steps took 3 MB more of resident memory, which still grew, in the same time.
collectgarbage('setpause', 100)
collectgarbage('setstepmul', 400)

local floor = 96 * 2 ^ 20
local limit = floor

-- Devices have memory of their own, and a limit of its own.
local device_floor = 512 * 2 ^ 20
local device_limit = device_floor

local function collect()
  collectgarbage()
  local live = C.mt_memory_live()
  -- A large Lua heap makes each collection dear: wait for as much new memory as the heap is worth.
  limit = math.max(floor, 2 * live, live + 1024 * collectgarbage('count'))
  if device_library then device_limit = math.max(device_floor, 2 * device_library.mt_memory_live()) end
end

--- Called before every allocation of tensor memory. The limit follows what lives, not what is asked for: a request that fails
-- must not raise it.
function native.before_allocation(K)
  if C.mt_memory_live() > limit then
    collect()
  elseif K ~= C and K.mt_memory_live() > device_limit then
    collect()
  end
end

--- The library of CUDA devices is there (native/cuda.lua).
function native.add_library(K) device_library = K end

--- After allocate(...) failed with `status`: runs it once more after a full collection when memory ran out. The message names `op`,
-- the user's operation.
function native.retry(op, status, allocate, ...)
  if status == C.MT_ERROR_MEMORY then
    collectgarbage()
    collectgarbage()
    status = allocate(...)
  end
  if status ~= 0 then
    fail('%s: %s', op, (last_error():gsub('^tensor: ', '')))
  end
end

return native
