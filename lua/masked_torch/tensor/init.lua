--- tensor: a Lua table around one C tensor.
--
-- Fields:  _c      the mt_tensor, owned: its finalizer drops the reference
--          K       the FFI namespace of its device; x.K.mt_foo(...) runs where x lives
--          dtype, device      strings
--          requires_grad, grad, grad_fn, output_nr      autograd (autograd/init.lua)
--          born    the run of backward that made it, 0 outside (autograd/backward.lua)
-- This file knows creation, properties, views and transfer. Differentiable operations are installed on the class by
-- autograd/op/*.lua, indexing by tensor/index.lua, printing by tensor/show.lua.
--
-- `#t` cannot work (Lua 5.1 ignores __len on tables): use t:size(1).

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local C, check, fail, gc = native.cpu, native.check, native.fail, ffi.gc
local before_allocation = native.before_allocation

--- torch.Tensor: the class of all tensors; torch.tensor, torch.zeros and their like make them.
local Tensor = {}
local methods = {}
Tensor.methods = methods
Tensor.__index = methods       -- tensor/index.lua replaces it by the indexing function
Tensor.__name = 'Tensor'

local DTYPES = { [0] = 'float32', 'float64', 'int64', 'int32', 'uint8', 'bool', 'bfloat16' }
local DTYPE_CODE, DTYPE_SIZE = {}, { float32 = 4, float64 = 8, int64 = 8, int32 = 4, uint8 = 1, bool = 1, bfloat16 = 2 }
for code, name in pairs(DTYPES) do DTYPE_CODE[name] = code end
local dtype_words = "'" .. table.concat(DTYPES, "', '", 0) .. "'"
-- Looked up when the first bfloat16 tensor is made: until then no operation asks whether an argument is one.
Tensor.narrow = { exists = false, autocast = nil }    -- autocast: autograd/autocast.lua
DTYPES[DTYPE_CODE.bfloat16] = nil
setmetatable(DTYPES, { __index = function(_, code)
  if code ~= DTYPE_CODE.bfloat16 then return nil end
  Tensor.narrow.exists = true
  return 'bfloat16'
end })
Tensor.dtype_code, Tensor.dtype_size = DTYPE_CODE, DTYPE_SIZE
-- What carries gradients, and of it what kernels compute with: bfloat16 is for storage (autograd/bfloat16.lua).
Tensor.floating, Tensor.real = { float32 = true, float64 = true, bfloat16 = true }, { float32 = true, float64 = true }

local out_pointer = ffi.new('mt_tensor *[1]')
local namespace = { cpu = C }   -- 'cuda:0', 'cuda:1', ... are added by Tensor.check_device
local out_double = ffi.new('double[1]')
local out_int = ffi.new('int32_t[1]')

--- torch.is_tensor(value)
function Tensor.is_tensor(value)
  return getmetatable(value) == Tensor
end
local is_tensor = Tensor.is_tensor

-- ---- creation ------------------------------------------------------------------------------------------------

local born = 0

-- Takes over the reference in out_pointer.
local function adopt(K, device)
  local c = out_pointer[0]
  return setmetatable({ _c = gc(c, K.mt_tensor_release), K = K, dtype = DTYPES[c.dtype], device = device,
    requires_grad = false, born = born }, Tensor)
end

--- A CPU tensor of a handle that another library made and `free` ends (torch.cuda.pinned).
function Tensor.adopt(c, free)
  return setmetatable({ _c = gc(c, free), free_handle = free, K = C, dtype = DTYPES[c.dtype],
    device = 'cpu', requires_grad = false, born = born }, Tensor)
end

--- Tensors made from now on get this mark (autograd/backward.lua).
function Tensor.set_born(mark) born = mark end

function Tensor.check_dtype(op, dtype)
  if dtype ~= nil and not DTYPE_CODE[dtype] then fail('%s: dtype: expected one of %s, got %s', op, dtype_words, native.show(dtype)) end
  return dtype
end

local device_number = {}
local function cuda() return require 'masked_torch.native.cuda' end

--- What x:to and net:to take: a table of options, or one word, the name of a dtype or of a device.
function Tensor.conversion(target)
  if type(target) ~= 'string' then return target end
  if DTYPE_CODE[target] then return { dtype = target } end
  if target == 'cpu' or target:find '^cuda' then return { device = target } end
  fail("to: expected a device ('cpu', 'cuda', 'cuda:<n>') or a dtype (%s), got %s", dtype_words, native.show(target))
end

--- The device as tensors name it: 'cuda' becomes 'cuda:0', or what torch.cuda.set_device chose. Loads the CUDA library.
function Tensor.check_device(op, device)
  if device == nil or device == 'cpu' then return 'cpu' end
  if namespace[device] then return device end
  local number = type(device) == 'string' and device:find('^cuda') and cuda().number(device)
  if number then
    local K, why = cuda().open()
    if not K then fail('%s: device: %s is not available: %s', op, device, why) end
    if number >= cuda().devices then
      fail('%s: device: %s does not exist; the last one is cuda:%d', op, device, cuda().devices - 1)
    end
    local name = ('cuda:%d'):format(number)
    namespace[name], device_number[name] = K, number
    return name
  end
  fail("%s: device: expected 'cpu', 'cuda' or 'cuda:<n>', got %s", op, native.show(device))
end

-- Sizes go to C through these two: a table per call would be garbage.
local size_buffer, stride_buffer = ffi.new('int64_t[8]'), ffi.new('int64_t[8]')
Tensor.size_buffer = size_buffer

local function put(buffer, d, op, argument, value)
  if type(value) ~= 'number' or value % 1 ~= 0 or value < -2 ^ 53 or value > 2 ^ 53 then native.integer(op, argument, value) end
  buffer[d] = value
end

-- Written out for few dims: loops of two or three rounds keep LuaJIT from compiling what is around them.
local function fill_buffer(buffer, op, argument, values)
  local n = #values
  if n > 8 then fail('%s: %s: %d dimensions; a tensor has 0 to 8', op, argument, n) end
  if n >= 1 then put(buffer, 0, op, argument, values[1]) end
  if n >= 2 then put(buffer, 1, op, argument, values[2]) end
  if n >= 3 then put(buffer, 2, op, argument, values[3]) end
  if n >= 4 then put(buffer, 3, op, argument, values[4]) end
  for i = 5, n do put(buffer, i - 1, op, argument, values[i]) end
  return n
end

--- An uninitialised tensor: shape is a Lua table, dtype a string, strides nil (row-major) or a Lua table of a dense layout.
-- This function, Tensor.empty_like and Tensor.empty_broadcast are where tensor memory comes from.
function Tensor.empty(op, shape, dtype, device, strides)
  device = device or 'cpu'
  local K = namespace[device]
  if K ~= C then
    device = Tensor.check_device(op, device)
    K = namespace[device]
    check(K.mt_device_set(device_number[device]))
  end
  before_allocation(K)
  local n, steps = fill_buffer(size_buffer, op, 'size', shape), nil
  if strides then
    fill_buffer(stride_buffer, op, 'stride', strides)
    steps = stride_buffer
  end
  local status = K.mt_tensor_new(out_pointer, DTYPE_CODE[dtype], n, size_buffer, steps)
  if status ~= 0 then native.retry(op, status, K.mt_tensor_new, out_pointer, DTYPE_CODE[dtype], n, size_buffer, steps) end
  return adopt(K, device)
end

-- A Lua table of an int64_t[8] of a tensor with n dims.
local function list_of(array, n)
  if n == 0 then return {} end
  if n == 1 then return { tonumber(array[0]) } end
  if n == 2 then return { tonumber(array[0]), tonumber(array[1]) } end
  if n == 3 then return { tonumber(array[0]), tonumber(array[1]), tonumber(array[2]) } end
  local list = { tonumber(array[0]), tonumber(array[1]), tonumber(array[2]), tonumber(array[3]) }
  for d = 4, n - 1 do list[d + 1] = tonumber(array[d]) end
  return list
end

local function shape_of(t)
  local c = t._c
  return list_of(c.shape, c.ndim)
end

--- Strides of a row-major layout.
function Tensor.row_major(shape)
  local strides, step = {}, 1
  for d = #shape, 1, -1 do
    strides[d] = step
    step = step * math.max(1, shape[d])
  end
  return strides
end

--- Strides of the channels-last layout of a shape (N, C, *S): channels are neighbours in memory.
function Tensor.channels_last(shape)
  local strides, step = {}, shape[2]
  for d = #shape, 3, -1 do
    strides[d] = step
    step = step * math.max(1, shape[d])
  end
  strides[1], strides[2] = step, 1
  return strides
end

--- The strides of x's memory format for a tensor of its own: nil for row-major, and when x is not dense.
function Tensor.layout_of(x)
  local c = x._c
  if C.mt_tensor_is_contiguous(c) == 1 or C.mt_tensor_is_dense(c) == 0 then return nil end
  x.K.mt_tensor_layout(stride_buffer, c)
  return list_of(stride_buffer, c.ndim)
end

local function allocate_like(op, x, sizes, dtype)
  local K, code = x.K, dtype and DTYPE_CODE[dtype] or -1
  before_allocation(K)
  local status = K.mt_tensor_new_like(out_pointer, x._c, sizes, code)
  if status ~= 0 then native.retry(op, status, K.mt_tensor_new_like, out_pointer, x._c, sizes, code) end
  return adopt(K, x.device)
end

--- An uninitialised tensor with x's shape, device and memory format (row-major when x is not dense).
function Tensor.empty_like(x, dtype) return (allocate_like('empty_like', x, nil, dtype)) end

--- The same with other sizes of the same number of dims: what pooling or resampling x gives.
function Tensor.empty_format(op, x, shape, dtype)
  fill_buffer(size_buffer, op, 'size', shape)
  return (allocate_like(op, x, size_buffer, dtype))
end

--- An uninitialised tensor of the shape that a and b broadcast to, in the memory format of the operand that has it. The kernel
-- refuses sizes that do not fit together.
function Tensor.empty_broadcast(op, a, b, dtype)
  local K, code = a.K, dtype and DTYPE_CODE[dtype] or -1
  before_allocation(K)
  local status = K.mt_tensor_new_broadcast(out_pointer, a._c, b._c, code)
  if status ~= 0 then native.retry(op, status, K.mt_tensor_new_broadcast, out_pointer, a._c, b._c, code) end
  return adopt(K, a.device)
end

--- A view: shape and strides are Lua tables, offset counts elements from x's first. No autograd (autograd/op/view.lua).
function Tensor.as_view(op, x, shape, strides, offset)
  local n = fill_buffer(size_buffer, op, 'size', shape)
  fill_buffer(stride_buffer, op, 'stride', strides)
  check(x.K.mt_tensor_view(out_pointer, x._c, n, size_buffer, stride_buffer, offset or 0))
  return adopt(x.K, x.device)
end

-- Views by C alone (core/tensor.h), dims 0-based or as bits.
function Tensor.select_view(x, dim, position)
  check(x.K.mt_tensor_select(out_pointer, x._c, dim, position))
  return adopt(x.K, x.device)
end
function Tensor.squeeze_view(x, bits)
  check(x.K.mt_tensor_squeeze(out_pointer, x._c, bits))
  return adopt(x.K, x.device)
end
function Tensor.unsqueeze_view(x, bits)
  check(x.K.mt_tensor_unsqueeze(out_pointer, x._c, bits))
  return adopt(x.K, x.device)
end
--- x repeated to a shape (a Lua table).
function Tensor.expand_view(op, x, shape)
  local n = fill_buffer(size_buffer, op, 'size', shape)
  check(x.K.mt_tensor_expand(out_pointer, x._c, n, size_buffer))
  return adopt(x.K, x.device)
end
--- order: a Lua table of 1-based dims.
function Tensor.permute_view(op, x, order)
  local n = fill_buffer(size_buffer, op, 'dim', order)
  for d = 0, n - 1 do size_buffer[d] = size_buffer[d] - 1 end
  check(x.K.mt_tensor_permute(out_pointer, x._c, size_buffer))
  return adopt(x.K, x.device)
end

--- The same elements without history: shares memory, does not require a gradient.
function methods.detach(x)
  Tensor.check('detach', 'input', x)
  check(x.K.mt_tensor_alias(out_pointer, x._c))
  return adopt(x.K, x.device)
end

--- x:release(): frees the C memory now (the collector would do it later). The tensor may not be used again.
local released = ffi.new('mt_tensor')
released.dtype = -1
function methods.release(x)
  if not is_tensor(x) then Tensor.check('release', 'input', x) end
  local c = x._c
  if c ~= released then
    x._c = released
    x.grad, x.grad_fn = nil, nil
    ffi.gc(c, nil)
    local free = rawget(x, 'free_handle') or x.K.mt_tensor_release
    free(c)
  end
end

--- Fails when x is not a tensor or was released. Names the operation and the argument.
function Tensor.check(op, argument, x)
  if not is_tensor(x) then
    local hint = argument == 'input' and methods[op] and (' (a method is called with a colon, x:%s)'):format(op) or ''
    fail('%s: %s: expected a tensor, got %s%s', op, argument, type(x), hint)
  end
  if x._c.dtype < 0 then
    fail('%s: %s: the tensor was released', op, argument)
  end
  return x
end

--- Fails when y lives on another device than x.
function Tensor.check_device_of(op, x, argument, y)
  if x.device ~= y.device then
    fail('%s: %s is on %s, the input on %s; move one with :to{device = ...}', op, argument, y.device, x.device)
  end
end

-- float32 or its upper half.
local SINGLE = { float32 = true, bfloat16 = true }

--- The type that kernels compute in for tensors of a type, and that a mask beside them has.
function Tensor.kernel_type(dtype) return dtype == 'bfloat16' and 'float32' or dtype end

--- Whether a and b are of one type, or float32 and bfloat16, which one operation can take together (autograd/bfloat16.lua).
function Tensor.compatible(a, b) return a.dtype == b.dtype or SINGLE[a.dtype] and SINGLE[b.dtype] end

--- Whether a and b can be multiplied: of one type, or made so by autocast.
function Tensor.multiplies(a, b) return a.dtype == b.dtype or Tensor.narrow.autocast and Tensor.compatible(a, b) end

--- Fails when x is not of the type of a layer's weight.
function Tensor.check_dtype_of(op, x, weight)
  if not Tensor.multiplies(x, weight) then
    fail("%s: input: expected %s like the weight, got %s %s; convert it with x:to{dtype = '%s'}", op, weight.dtype, Tensor.shape_text(x),
      x.dtype, weight.dtype)
  end
end

-- ---- properties ----------------------------------------------------------------------------------------------

function methods.dim(x) return Tensor.check('dim', 'input', x)._c.ndim end
--- x:ndimension(): x:dim().
methods.ndimension = methods.dim

--- x:size() -> table of sizes; x:size(dim) -> number.
function methods.size(x, dim)
  Tensor.check('size', 'input', x)
  if dim == nil then return shape_of(x) end
  return tonumber(x._c.shape[native.dim('size', dim, x._c.ndim)])
end

--- x:sizes() -> the sizes as several results: local N, C, H, W = x:sizes()
function methods.sizes(x)
  return unpack(methods.size(x))
end

--- x:stride() -> table of strides in elements; x:stride(dim) -> number.
function methods.stride(x, dim)
  Tensor.check('stride', 'input', x)
  local c = x._c
  if dim then return tonumber(c.stride[native.dim('stride', dim, c.ndim)]) end
  return list_of(c.stride, c.ndim)
end

--- x:numel() -> the number of elements.
function methods.numel(x) return tonumber(Tensor.check('numel', 'input', x)._c.numel) end
--- x:is_contiguous() -> true where the elements lie in row-major order.
function methods.is_contiguous(x) return C.mt_tensor_is_contiguous(Tensor.check('is_contiguous', 'input', x)._c) == 1 end
--- x:is_floating_point() -> true for float32, float64 and bfloat16.
function methods.is_floating_point(x) return Tensor.floating[Tensor.check('is_floating_point', 'input', x).dtype] == true end
--- x:element_size() -> bytes of an element.
function methods.element_size(x) return DTYPE_SIZE[Tensor.check('element_size', 'input', x).dtype] end
--- x:is_leaf() -> true when no operation made it.
function methods.is_leaf(x) return Tensor.check('is_leaf', 'input', x).grad_fn == nil end

--- Whether two tensors have the same sizes; and also the same dtype, device and strides.
function Tensor.same_shape(a, b) return C.mt_tensor_alike(a._c, b._c) >= 1 end
function Tensor.has_shape(x, shape)
  return C.mt_tensor_has_shape(x._c, fill_buffer(size_buffer, 'has_shape', 'size', shape), size_buffer) == 1
end
function Tensor.same_layout(a, b) return a.device == b.device and C.mt_tensor_alike(a._c, b._c) == 3 end

--- The storage's version: every in-place change counts it up.
function Tensor.version(x) return tonumber(x._c.storage.version) end
function Tensor.bump(x) x._c.storage.version = x._c.storage.version + 1 end

--- "(2, 3)" for messages.
function Tensor.shape_text(x)
  if not is_tensor(x) then return tostring(x) end
  return '(' .. table.concat(shape_of(x), ', ') .. ')'
end

--- The only element as a Lua number.
function methods.item(x)
  Tensor.check('item', 'input', x)
  if x._c.numel ~= 1 then
    fail('item: expected a tensor with one element, got %s', Tensor.shape_text(x))
  end
  check(x.K.mt_tensor_read(out_double, x._c), native.capture and 'item')
  if x.dtype == 'bool' then return out_double[0] ~= 0 end
  return out_double[0]
end

-- ---- transfer ------------------------------------------------------------------------------------------------

--- Nested Lua tables of numbers (booleans for bool).
function methods.totable(x)
  Tensor.check('totable', 'input', x)
  local values = ffi.new('double[?]', math.max(1, x:numel()))
  check(x.K.mt_tensor_read(values, x._c), native.capture and 'totable')
  local shape, next_value, bool = shape_of(x), 0, x.dtype == 'bool'
  local function build(d)
    if d > #shape then
      local value = values[next_value]
      next_value = next_value + 1
      if bool then return value ~= 0 end
      return value
    end
    local row = {}
    for i = 1, shape[d] do row[i] = build(d + 1) end
    return row
  end
  return build(1)
end

-- Sizes of nested tables; every row must have the same length.
local function table_shape(op, data, path, depth, shape)
  if type(data) ~= 'table' then
    if #shape >= depth then fail('%s: element %s is a %s where a table was expected', op, path, type(data)) end
    return
  end
  if depth > 8 then fail('%s: element %s is nested more than 8 deep (does a table contain itself?)', op, path) end
  if shape[depth] == nil then
    shape[depth] = #data
  elseif shape[depth] ~= #data then
    fail('%s: element %s has %d entries where its siblings have %d', op, path, #data, shape[depth])
  end
end

local function flatten(op, data, shape, values, is_bool)
  local n = 0
  local function walk(row, depth, path)
    if depth > #shape then
      if type(row) == 'boolean' then
        row = row and 1 or 0
      elseif type(row) ~= 'number' or is_bool then
        fail('%s: %s is %s, expected a %s', op, path == '' and 'data' or 'element ' .. path,
          type(row) == 'table' and 'a table' or type(row) == 'string' and ('%q'):format(row) or tostring(row),
          is_bool and 'boolean' or 'number')
      end
      values[n] = row
      n = n + 1
      return
    end
    table_shape(op, row, path, depth, shape)
    for i = 1, shape[depth] do
      local value = row[i]
      if value == nil then fail('%s: element %s[%d] is nil', op, path, i) end
      walk(value, depth + 1, path .. '[' .. i .. ']')
    end
  end
  walk(data, 1, '')
end

-- What integers hold: the least number, and the first that is too large.
local ranges = { uint8 = { 0, 2 ^ 8 }, int32 = { -2 ^ 31, 2 ^ 31 }, int64 = { -2 ^ 63, 2 ^ 63 } }

--- Tensor.check_value(op, argument, value, dtype) -> value, a number that a tensor of this dtype can take: integers hold whole numbers of
-- their range (a fraction is cut off), everything else any number.
function Tensor.check_value(op, argument, value, dtype)
  local range = ranges[dtype]
  if not range then return value end
  local whole = value < 0 and math.ceil(value) or math.floor(value)
  if not (whole >= range[1] and whole < range[2]) then
    fail('%s: %s: %s holds whole numbers from %.0f to below %.0f, got %s', op, argument, dtype, range[1], range[2], tostring(value))
  end
  return value
end

--- Tensor.from_table(op, data, dtype, device): nested tables, a number or a boolean. The default dtype is float32, bool for
-- booleans.
function Tensor.from_table(op, data, dtype, device)
  local shape, first = {}, data
  while type(first) == 'table' do
    if is_tensor(first) then fail('%s: data: expected numbers, got a tensor; use :clone() or torch.stack', op) end
    shape[#shape + 1] = #first
    if #shape > 8 then fail('%s: data is nested more than 8 deep (does a table contain itself?)', op) end
    first = first[1]
  end
  if first == nil and shape[#shape] ~= 0 then fail('%s: data: expected a table or a number, got nil', op) end
  local is_bool = type(first) == 'boolean'
  local n = 1
  for i = 1, #shape do n = n * shape[i] end
  local values = ffi.new('double[?]', math.max(1, n))
  flatten(op, data, shape, values, is_bool)
  local t = Tensor.empty(op, shape, dtype or (is_bool and 'bool' or 'float32'), device)
  if ranges[dtype] then
    for i = 0, n - 1 do Tensor.check_value(op, 'data', values[i], dtype) end
  end
  check(t.K.mt_tensor_write(t._c, values))
  return t
end

--- True when shape, dtype and every bit agree.
function Tensor.same_bits(a, b)
  check(a.K.mt_tensor_same_bits(out_int, a._c, b._c))
  return out_int[0] == 1
end

--- The first element's address as a lightweight pointer, and the tensor that must be kept alive as long as it is used.
-- Unsafe: contiguous CPU tensors only.
function methods.data_ptr(x)
  Tensor.check('data_ptr', 'input', x)
  if x.device ~= 'cpu' or not x:is_contiguous() then
    fail('data_ptr: expected a contiguous CPU tensor, got %s on %s; use :contiguous()', Tensor.shape_text(x), x.device)
  end
  return x._c.data, x
end

Tensor.namespace = namespace
Tensor.shape_of = shape_of
return Tensor
