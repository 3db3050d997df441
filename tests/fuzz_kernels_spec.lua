--- Every kernel over tensors of the contract, called through FFI with valid arguments of which some are spoilt. Whatever it is
-- given, a kernel returns: a status, and with a status other than 0 a message that begins with a name. Nothing leaks, no guard
-- is damaged; an
-- access out of bounds or an overflow is seen by config=sanitize and config=debug.
--
--   MASKED_TORCH_FUZZ=200000        how many calls (default 9000)
--   MASKED_TORCH_FUZZ_SEED=7        another sequence
--   MASKED_TORCH_FUZZ_ONLY=pool     kernels whose name holds this
--   MASKED_TORCH_FUZZ_TRACE=1       writes every call to stderr before it is made

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local shapes = require 'support.fuzz_shapes'

local C = native.cpu
local calls = tonumber(os.getenv('MASKED_TORCH_FUZZ') or 9000)
local seed = tonumber(os.getenv('MASKED_TORCH_FUZZ_SEED') or 1)
local only = os.getenv('MASKED_TORCH_FUZZ_ONLY') or ''
local trace = os.getenv('MASKED_TORCH_FUZZ_TRACE')

-- ---- the contract ----------------------------------------------------------------------------------------------

local core = native.lua_directory .. '../core/'

local function without_comments(name)
  local lines = {}
  for line in io.lines(core .. name) do lines[#lines + 1] = (line:gsub('//.*', '')) end
  return table.concat(lines, '\n')
end

-- Left out: stems without a recipe in fuzz_shapes.lua (what changes the whole process, takes lists of pointers or handles), and
-- what takes raw memory whose size nobody can check.
local settings = { mt_matmul_precision_set = true, mt_conv_algorithm_set = true }
-- They answer, they do not fail.
local predicates = { mt_conv_algorithm_get = true, mt_tensor_is_contiguous = true, mt_tensor_is_dense = true,
  mt_tensor_alike = true, mt_tensor_has_shape = true }

local function left_out(name)
  return not shapes.known(name) or name == 'mt_random_philox' or settings[name] or predicates[name]
end

local kernels, struct_fields = {}, {}
do
  local contract = without_comments('kernels.h')
  for header in io.open(core .. 'kernels.h'):read('*a'):gmatch('#include "([%w_]+%.h)"') do
    contract = contract .. without_comments(header)
  end
  for name, body in contract:gmatch('struct (mt_[%w_]+) {(.-)}') do
    local fields = {}
    for field_type, field, count in body:gmatch('([%w_]+) ([%w_]+)%[?(%d*)%]?;') do
      fields[#fields + 1] = { type = field_type, name = field, count = tonumber(count) }
    end
    struct_fields[name] = fields
  end
  for name, list in contract:gmatch('\nint (mt_[%w_]+)(%b());') do
    if not left_out(name) and name:find(only, 1, true) then
      local parameters = {}
      for parameter in list:sub(2, -2):gmatch('[^,]+') do
        local kind, variable = parameter:gsub('%s+', ' '):match('^ ?(.-) ?([%w_]+)$')
        local plain = kind:gsub('const ', '')
        parameters[#parameters + 1] = { type = plain, name = variable, is_output = not kind:find('const ', 1, true) }
      end
      kernels[#kernels + 1] = { name = name, parameters = parameters }
    end
  end
end

-- ---- random values ---------------------------------------------------------------------------------------------

local state = seed
local function uniform()   -- the minimal standard generator: the same sequence everywhere
  state = (state * 16807) % 2147483647
  return state / 2147483647
end
local function random(n) return math.floor(uniform() * n) + 1 end
local function pick(list) return list[random(#list)] end

local huge = 9223372036854775807LL
local wild_int64 = { 0LL, -1LL, 1LL, 2LL, 7LL, 8LL, 63LL, 64LL,
  2147483647LL, -2147483648LL, 2LL ^ 40, -(2LL ^ 40), 2LL ^ 62, huge, -huge - 1,
  huge - 1 }
local wild_int32 = { 0, -1, 1, 2, 3, 4, 7, 8, 9, 31, 32, 63, 64, 255, 256, 2147483647, -2147483648, 1073741824 }
local wild_double = { 0, -0, 1, -1, 0.5, 1e-320, 1e308, -1e308, 2 ^ 53, 2 ^ 63, -2 ^ 63, 2 ^ 64, 1 / 0, -1 / 0, 0 / 0 }

local function spoilt_number(kind)
  if kind == 'double' then return pick(wild_double) end
  if kind == 'int32_t' then return pick(wild_int32) end
  return pick(wild_int64)
end

-- ---- tensors ---------------------------------------------------------------------------------------------------

local out = ffi.new('mt_tensor *[1]')
local sizes_type = ffi.typeof('int64_t[8]')
local element = ffi.new('double[?]', 65536)
local live = {}

local function sizes(list)
  local array = sizes_type()
  for d, n in ipairs(list) do array[d - 1] = n end
  return array
end

local function own(status)
  if status ~= 0 then error('the pool could not be made: ' .. ffi.string(C.mt_last_error())) end
  live[#live + 1] = out[0]
  return out[0]
end

local function new(dtype, shape) return own(C.mt_tensor_new(out, dtype, #shape, sizes(shape), nil)) end

-- Small whole numbers, so that they serve as labels and positions too; masks are 0, 1 and between.
local function fill(t, name)
  local mask = name == 'mask' or name == 'm'
  local wild = random(6) == 1
  assert(t.numel <= 65536)
  for i = 0, tonumber(t.numel) - 1 do
    if wild and random(5) == 1 then element[i] = pick(wild_double)
    elseif mask then element[i] = pick { 0, 1, 1, 0.5 }
    else element[i] = random(6) - (random(8) == 1 and 6 or 0) end
  end
  assert(C.mt_tensor_write(t, element) == 0)
end

local function product(shape)
  local n = 1
  for _, m in ipairs(shape) do n = n * m end
  return n
end

-- A tensor of this shape, in one of the layouts that views bring about.
local function laid_out(shape, dtype, name, is_output)
  local layout, n = random(5), #shape
  if layout == 1 and n > 0 then       -- a slice: every second element of a larger one, from the second on
    local larger, offset, step, strides = {}, 0, 1, {}
    for d = n, 1, -1 do
      larger[d] = math.max(1, shape[d]) * 2 + 1
      strides[d], offset = step * 2, offset + step
      step = step * larger[d]
    end
    if step <= 60000 then
      local base = new(dtype, larger)
      fill(base, name)
      return own(C.mt_tensor_view(out, base, n, sizes(shape), sizes(strides), offset))
    end
  elseif layout == 2 and n > 1 then   -- transposed
    local strides, step = {}, 1
    for d = 1, n do
      strides[d] = step
      step = step * math.max(1, shape[d])
    end
    local t = own(C.mt_tensor_new(out, dtype, n, sizes(shape), sizes(strides)))
    fill(t, name)
    return t
  elseif layout == 3 and not is_output and product(shape) > 0 then   -- expanded
    local base = new(dtype, { 3 })
    fill(base, name)
    local strides = {}
    for d = 1, n do strides[d] = shape[d] == 1 and random(2) == 1 and 2LL ^ 58 or 0 end
    return own(C.mt_tensor_view(out, base, n, sizes(shape), sizes(strides), 1))
  end
  local t = new(dtype, shape)
  fill(t, name)
  return t
end

local released = ffi.new('mt_tensor')
released.dtype = -1

local function spoilt_shape(shape)
  local s = {}
  for d, n in ipairs(shape) do s[d] = n end
  local way = random(5)
  if way == 1 and #s > 0 then s[random(#s)] = pick { 0, 1, 2, 5 }
  elseif way == 2 and #s > 0 then table.remove(s, random(#s))
  elseif way == 3 and #s < 8 then table.insert(s, random(#s + 1), pick { 1, 1, 2 })
  elseif way == 4 then
    s = {}
    for d = 1, random(9) - 1 do s[d] = random(3) end
  elseif #s > 0 then s[random(#s)] = 0 end
  return s
end

-- No elements, yet sizes whose products overflow when they are multiplied carelessly; and elements that share memory.
local function monster(dtype, n)
  local way = random(3)
  local s, strides = {}, {}
  if way == 1 then
    n = math.max(2, n)
    for d = 1, n do s[d] = 1 end
    s[random(n)] = 2LL ^ pick { 31, 40, 58 }
    local at = random(n)
    s[at] = 0
    return new(dtype, s)
  end
  for d = 1, n do s[d], strides[d] = way == 2 and 1 or random(3), way == 2 and pick(wild_int64) or 0 end
  for d = 1, n do if strides[d] < 0 or strides[d] > 2LL ^ 58 then strides[d] = 2LL ^ 58 end end
  return own(C.mt_tensor_view(out, new(dtype, { 4 }), n, sizes(s), sizes(strides), random(4) - 1))
end

local function make_tensor(parameter, recipe, dtype, hostile)
  local wanted = type(recipe) == 'table' and recipe.shape and recipe or { shape = { random(4), random(4) }, dtype = 'real' }
  local kind = wanted.dtype == 'real' and dtype or wanted.dtype
  local shape = wanted.shape
  if uniform() < hostile then
    local way = random(8)
    if way == 1 then return nil end
    if way == 2 then return released end
    if way <= 4 then kind = random(6) - 1
    elseif way <= 6 then shape = spoilt_shape(shape)
    else return monster(kind, #shape) end
  end
  -- Half of the optional ones are left out: which those are, the kernel knows.
  if hostile > 0 and random(12) == 1 then return nil end
  return laid_out(shape, kind, parameter.name, parameter.is_output)
end

local function make_struct(kind, recipe, hostile)
  if uniform() < hostile / 4 then return nil end
  local g = ffi.new(kind)
  local spoil = uniform() < 1.5 * hostile
  local fields = struct_fields[kind]
  local chosen = spoil and pick(fields).name
  for _, field in ipairs(fields) do
    local value = type(recipe) == 'table' and recipe[field.name]
    for i = 1, field.count or 1 do
      local v = type(value) == 'table' and value[i] or type(value) == 'number' and value or 1
      if field.name == chosen and random(2) == 1 or uniform() < hostile / 10 then
        v = spoilt_number(field.type)
      end
      if field.count then g[field.name][i - 1] = v else g[field.name] = v end
    end
  end
  return g
end

-- ---- one call ----------------------------------------------------------------------------------------------------

local buffer = ffi.new('char[?]', 8 * 65536)

local function show(value)
  if value == nil then return 'NULL' end
  if type(value) ~= 'cdata' then return tostring(value) end
  if ffi.istype('mt_tensor', value) or ffi.istype('mt_tensor *', value) then
    local s = {}
    for d = 0, math.min(value.ndim, 8) - 1 do
      s[#s + 1] = tostring(value.shape[d]):gsub('LL', '') .. '@' .. tostring(value.stride[d]):gsub('LL', '')
    end
    return ('(%s) dtype %d'):format(table.concat(s, ', '), value.dtype)
  end
  for name, fields in pairs(struct_fields) do
    if ffi.istype(name, value) then
      local s = {}
      for _, field in ipairs(fields) do
        for i = 1, field.count or 1 do
          s[#s + 1] = field.name .. ' ' .. tostring(field.count and value[field.name][i - 1] or value[field.name])
        end
      end
      return '{' .. table.concat(s, ', ') .. '}'
    end
  end
  return tostring(value)
end

local function arguments(kernel, friendly)
  local recipe = shapes.arguments(kernel.name, random)
  local hostile = friendly and 0 or pick { 0, 0.15, 0.15, 0.5, 1 }
  local dtype = random(4) == 1 and random(6) - 1 or random(2) - 1
  local list = {}
  for i, parameter in ipairs(kernel.parameters) do
    local kind, wanted = parameter.type, recipe[parameter.name]
    if kind == 'mt_tensor *' then list[i] = make_tensor(parameter, wanted, dtype, hostile)
    elseif kind == 'mt_tensor **' then list[i] = ffi.new('mt_tensor *[1]')
    elseif kind == 'char *' then list[i] = random(2) == 1 and 'fuzz' or nil
    elseif struct_fields[kind:match('^(.-) %*$')] then list[i] = make_struct(kind:match('^(.-) %*$'), wanted, hostile)
    elseif kind:find('%*$') then
      list[i] = ffi.cast(kind, buffer)
    elseif uniform() < hostile then list[i] = spoilt_number(kind)
    else list[i] = wanted or random(3) - 1 end
  end
  return list
end

-- Kernels whose scalars describe raw memory: what they may be given is made here.
local special = {
  mt_tensor_new = function(a)
    local n = random(12) - 2
    local shape = sizes {}
    for d = 0, math.min(math.max(n, 0), 8) - 1 do
      shape[d] = random(6) == 1 and pick { -1LL, 0LL, 2LL ^ 57, 2LL ^ 62, huge } or random(3)
    end
    local strides = sizes {}
    for d = 0, 7 do strides[d] = pick { 0LL, 1LL, 2LL, 3LL, 6LL, -1LL, huge } end
    a[2], a[3], a[4], a[5] = random(9) - 2, n, shape, random(2) == 1 and strides or nil
  end,
  mt_tensor_view = function(a)
    local strides, shape = sizes {}, sizes {}
    for d = 0, 7 do
      strides[d] = pick { 0LL, 1LL, 2LL, 3LL, 6LL, -1LL, huge }
      shape[d] = random(6) == 1 and pick { -1LL, 0LL, 2LL ^ 57, 2LL ^ 62, huge } or random(3)
    end
    a[3], a[4], a[5] = random(12) - 2, shape, strides
    a[6] = pick { 0LL, 0LL, 0LL, 1LL, -1LL, 5LL, huge, -huge - 1, 2LL ^ 61, 2LL ^ 62 }
  end,
  mt_tensor_get = function(a)
    a[3] = sizes {}
    for d = 0, 7 do a[3][d] = random(5) == 1 and pick(wild_int64) or random(3) - 1 end
  end,
  mt_tensor_read_bytes = function(a)
    local t = a[3]
    if t and t.dtype >= 0 and random(4) > 1 then a[2] = tonumber(t.numel) * ({ [0] = 4, 8, 8, 4, 1, 1 })[t.dtype] end
  end,
  mt_conv_output_size = function(a) a[2] = sizes { 9, 8, random(4) == 1 and pick(wild_int64) or 7 } end,
}
function special.mt_tensor_set(a)
  a[2] = sizes {}
  for d = 0, 7 do a[2][d] = random(5) == 1 and pick(wild_int64) or random(3) - 1 end
end
function special.mt_tensor_write_bytes(a)
  local t = a[1]
  if t and t.dtype >= 0 and random(4) > 1 then a[3] = tonumber(t.numel) * ({ [0] = 4, 8, 8, 4, 1, 1 })[t.dtype] end
end
special.mt_pool_output_size = special.mt_conv_output_size

-- The message before each call, which none of them may leave.
local stale = "tensor: unknown dtype 77"

local function one(kernel, problems, friendly)
  local n = #kernel.parameters
  local list = arguments(kernel, friendly)
  if special[kernel.name] then special[kernel.name](list) end
  C.mt_tensor_new(out, 77, 0, sizes {}, nil)
  local text = {}
  for i = 1, n do text[i] = show(list[i]) end
  text = kernel.name .. '(' .. table.concat(text, ', ') .. ')'
  if trace then io.stderr:write(text, '\n') end
  local blocks = C.mt_memory_blocks()
  if random(40) == 1 then C.mt_memory_fail_at(random(4), 0) end
  local status = C[kernel.name](unpack(list, 1, n))
  C.mt_memory_fail_at(0, 0)
  local message = ffi.string(C.mt_last_error())
  if status < 0 or status > 2 then
    problems[#problems + 1] = ('status %d: %s: %s'):format(status, message, text)
  elseif status ~= 0 and (message == stale or not message:find('^[%a][%w_%. ]*: .')) then
    problems[#problems + 1] = ('no message of its own (%q): %s'):format(message, text)
  end
  if list[1] and kernel.parameters[1].type == 'mt_tensor **' then
    C.mt_tensor_release(list[1][0])
  end
  if C.mt_memory_blocks() ~= blocks then problems[#problems + 1] = 'memory is not given back: ' .. text end
  for i = #live, 1, -1 do
    C.mt_tensor_release(live[i])
    live[i] = nil
  end
  return status
end

describe('kernels given anything', function()
  it('return a status and a message', function()
    local problems, fine, refused = {}, 0, 0
    local reached = {}
    -- Blocks are counted around each call: the collector must not free those of earlier specs in between.
    collectgarbage()
    collectgarbage('stop')
    finally(function() collectgarbage('restart') end)
    for i = 1, calls do
      local kernel = kernels[(i - 1) % #kernels + 1]
      -- The last rounds are well-meant until one has succeeded, so that chance does not decide what is reached.
      local status = one(kernel, problems, i > calls / 2 and not reached[kernel.name])
      if status == 0 then
        fine = fine + 1
        reached[kernel.name] = true
      else
        refused = refused + 1
      end
      if #problems > 20 then break end
    end
    assert.equal('', table.concat(problems, '\n'))
    local damaged = ffi.new('int32_t[1]')
    C.mt_memory_check(damaged)
    assert.equal(0, damaged[0])
    -- A recipe that never passes the checks tests nothing behind them.
    local missed = {}
    for _, kernel in ipairs(kernels) do
      if calls >= 20 * #kernels and not reached[kernel.name] then missed[#missed + 1] = kernel.name end
    end
    assert.equal('', table.concat(missed, ' '))
    assert.is_true(fine > 0 and refused > 0)
    if os.getenv('MASKED_TORCH_FUZZ') then print(('%d calls succeeded, %d were refused'):format(fine, refused)) end
  end)
end)
