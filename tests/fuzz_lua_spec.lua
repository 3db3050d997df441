--- Every public function, method, operator and class, called with arguments that are wrong or half right. Allowed: success, or an
-- error that is a string, points at the caller and names the operation. Anything raised inside the package by Lua or FFI itself
-- ("attempt to index", "bad argument", "cannot convert") is a slip: the check of an argument is missing.
--
--   MASKED_TORCH_FUZZ=100000        how many calls (default 6000)
--   MASKED_TORCH_FUZZ_SEED=7        another sequence
--   MASKED_TORCH_FUZZ_ONLY=conv     functions whose name holds this
--   MASKED_TORCH_FUZZ_TRACE=1       writes every call to stderr before it is made

local torch = require 'masked_torch'
local native = require 'masked_torch.native'

local calls = tonumber(os.getenv('MASKED_TORCH_FUZZ') or 6000)
local state = tonumber(os.getenv('MASKED_TORCH_FUZZ_SEED') or 1)
local only = os.getenv('MASKED_TORCH_FUZZ_ONLY') or ''
local trace = os.getenv('MASKED_TORCH_FUZZ_TRACE')

local function random(n)
  state = (state * 16807) % 2147483647
  return math.floor(state / 2147483647 * n) + 1
end
local function pick(list) return list[random(#list)] end

-- ---- arguments ---------------------------------------------------------------------------------------------------

local dtypes = { 'float32', 'float64', 'int64', 'int32', 'uint8', 'bool' }
local shapes = { {}, { 1 }, { 4 }, { 0 }, { 2, 3 }, { 3, 3 }, { 2, 0, 3 }, { 2, 4, 5 }, { 1, 2, 5, 5 }, { 2, 2, 6, 6 },
  { 1, 2, 3, 4, 5 }, { 1, 1, 1, 1, 1, 1, 1, 1 } }

local function tensor(shape, dtype)
  local t = torch.ones(shape, { dtype = dtype })
  if random(3) == 1 and torch.Tensor.floating[dtype] then t.requires_grad = true end
  if random(4) == 1 and #shape > 1 then t = t:transpose(1, 2) end
  return t
end

local common   -- the shape and dtype most tensors of a call have
local function some_tensor()
  if random(3) > 1 then return tensor(common.shape, common.dtype) end
  return tensor(pick(shapes), random(2) == 1 and common.dtype or pick(dtypes))
end

local function cyclic()
  local t = { 1, 2 }
  t[3] = t
  return t
end

local function deep()
  local t = {}
  for _ = 1, 300 do t = { t } end
  return t
end

local words = { '', 'x', 'mean', 'same', 'float64', 'int64',
  'cpu', 'cuda', 'zeros', 'causal', 'nearest', '...', 'weight', '%s%d', '1' }
local numbers = { 0, -1, 1, 2, 3, -3, 1.5, 0.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 53 + 2, 1e30, -1e30, 2 ^ 40, -2 ^ 63 }
local small = { 1, 1, 2, 2, 3, 4, 0, -1 }

local modules
local value
local makers = {
  function() return nil end,
  function() return random(2) == 1 end,
  function() return pick(words) end,
  function() return pick(numbers) end,
  function() return pick(small) end,
  function() return pick(small) end,
  function() return some_tensor() end,
  function() return some_tensor() end,
  function() return some_tensor() end,
  function() return tensor(pick(shapes), pick { 'bool', 'int64', 'float32' }) end,
  function() return torch.ones(common.shape, { dtype = pick { 'bool', common.dtype } }) end,
  function() return { pick(small), pick(small) } end,
  function() return { pick(small), pick(numbers), pick(words) } end,
  function() return { some_tensor(), some_tensor() } end,
  function() return { some_tensor(), nil, value() } end,
  function() return { [pick { 'dtype', 'dim', 'foo', 1.5, true }] = value() } end,
  function() return {} end,
  cyclic, deep,
  function() return function(...) return ... end end,
  function() return coroutine.create(function() end) end,
  function() return pick(modules)() end,
  function() local t = tensor({ 2, 2 }, 'float32') t:release() return t end,
  function() return setmetatable({}, { __index = function() return 1 end }) end,
  function() return native.cpu end,
  function() return 5LL end,
}
function value() return pick(makers)() end

-- Option tables with keys that the function knows, learnt from its messages.
local learnt = {}
local function options_of(name)
  local keys, t = learnt[name], {}
  for _ = 1, random(2) do t[pick(keys)] = random(3) == 1 and pick(small) or value() end
  return t
end

local function show(v, depth)
  if torch.is_tensor(v) then
    return v._c.dtype < 0 and 'released' or ('%s(%s)'):format(v.dtype, table.concat(v:size(), 'x'))
  end
  if type(v) == 'string' then return ('%q'):format(v) end
  if type(v) ~= 'table' or getmetatable(v) or (depth or 0) > 2 then return tostring(type(v) == 'table' and 'table' or v) end
  local out = {}
  for k, w in pairs(v) do out[#out + 1] = (type(k) == 'number' and '' or tostring(k) .. '=') .. show(w, (depth or 0) + 1) end
  return '{' .. table.concat(out, ', ') .. '}'
end

-- ---- what is called ----------------------------------------------------------------------------------------------

-- Left out: settings of the whole process, and what writes files.
local left_out = { set_num_threads = true, set_print_options = true, set_grad_enabled = true, save = true, manual_seed = true,
  set_default_dtype = true, require = true }

local targets = {}
local function add(name, fn, first)
  if name:find(only, 1, true) and (type(fn) == 'function' or getmetatable(fn)) then
    targets[#targets + 1] = { name = name, fn = fn, first = first }
  end
end

local function sorted(t)
  local names = {}
  for name in pairs(t) do if type(name) == 'string' then names[#names + 1] = name end end
  table.sort(names)
  return names
end

for _, name in ipairs(sorted(torch)) do
  if type(torch[name]) == 'function' and not left_out[name] then add('torch.' .. name, torch[name]) end
end
for _, name in ipairs(sorted(torch.Tensor.methods)) do add('Tensor.' .. name, torch.Tensor.methods[name], 'tensor') end
for _, name in ipairs(sorted(torch.nn.functional)) do add('functional.' .. name, torch.nn.functional[name], 'tensor') end
for _, name in ipairs(sorted(torch.nn.init)) do add('init.' .. name, torch.nn.init[name], 'tensor') end
local operators = {
  index = function(a, b) return a[b] end, newindex = function(a, b, c) a[b] = c end, add = function(a, b) return a + b end,
  rsub = function(a, b) return b - a end, mul = function(a, b) return a * b end, div = function(a, b) return a / b end,
  pow = function(a, b) return a ^ b end, mod = function(a, b) return a % b end, unm = function(a) return -a end,
  tostring = function(a) return tostring(a) end, eq = function(a, b) return a == b end,
}
for _, name in ipairs(sorted(operators)) do add('operator.' .. name, operators[name], 'tensor') end

-- A class: built, and when that succeeds its forward and one of its methods called.
local module_methods = { 'forward', 'to', 'train', 'eval', 'parameters', 'named_parameters', 'state_dict',
  'load_state_dict', 'zero_grad', 'apply', 'requires_grad_', 'register_buffer', 'register_parameter', 'add_module',
  'children', 'modules', 'float', 'double' }
for _, name in ipairs(sorted(torch.nn.class_files)) do
  local class = torch.nn[name]
  if class and name ~= 'Parameter' then
    add('nn.' .. name, function(...)
      local module = class(...)
      local method = random(2) == 1 and 'forward' or pick(module_methods)
      return (module[method] or module.forward)(module, some_tensor(), value(), value()), tostring(module)
    end, 'size')
    add('nn.' .. name .. ' (methods)', function(...)
      local built, module = pcall(class, pick(small), pick(small), pick(small))
      if not built then return end
      local method = module[pick(module_methods)]
      return method and method(module, ...)
    end)
  end
end
modules = { function() return torch.nn.ReLU() end, function() return torch.nn.Conv2d(2, 2, 3) end,
  function() return torch.nn.Sequential(torch.nn.Linear(3, 2)) end, function() return torch.nn.Conv2d end }

-- ---- one call ------------------------------------------------------------------------------------------------------

local package_path = native.lua_directory .. 'masked_torch/'

-- What is wrong with an error, or nil.
local function slip(message)
  if type(message) ~= 'string' then return 'not a string: ' .. tostring(message) end
  if message:find("on 'int64_t'", 1, true) then return nil end   -- LuaJIT's own arithmetic comes before a tensor's
  local place, rest = message:match('^([^\n]-:%d+): (.*)')
  if place and place:sub(1, #package_path) == package_path then return message end
  rest = rest or message
  if not rest:find('^[%a_][%w_%.]*[^\n]-: ') and not rest:find('^out of memory') then return message end
  for _, text in ipairs { 'attempt to', 'bad argument', 'cannot convert', 'table index is', 'stack overflow', 'loop: ',
    'table:? 0x' } do
    if message:find(text) then return message end
  end
end

local function arguments(target)
  common = { shape = pick(shapes), dtype = pick(dtypes) }
  if random(2) == 1 then common.dtype = 'float32' end
  local n = random(5) - 1
  local list = {}
  for i = 1, n do list[i] = value() end
  if target.first == 'tensor' and (random(12) > 1 or target.name:find('^operator')) then list[1] = some_tensor()
  elseif target.first == 'size' and random(4) > 1 then
    for i = 1, random(3) do list[i] = pick(small) end
  end
  n = math.max(n, #list)
  if learnt[target.name] and random(2) == 1 then
    n = n + 1
    list[n] = options_of(target.name)
  end
  return list, n
end

describe('functions given anything', function()
  it('succeed or say which argument of which operation is wrong', function()
    local fine, refused, slips, seen = 0, 0, {}, {}
    for i = 1, calls do
      local target = targets[(i - 1) % #targets + 1]
      local list, n = arguments(target)
      local text = {}
      for k = 1, n do text[k] = show(list[k]) end
      text = ('%s(%s)'):format(target.name, table.concat(text, ', '))
      if trace then io.stderr:write(text, '\n') end
      local ok, message = pcall(function() local result = target.fn(unpack(list, 1, n)) return result end)
      if ok then
        fine = fine + 1
      else
        refused = refused + 1
        local wrong = slip(message)
        local known = type(message) == 'string' and message:match('%(known: (.-)%)')
        if known and known ~= 'none' then
          learnt[target.name] = learnt[target.name] or {}
          for key in known:gmatch('[%w_]+') do table.insert(learnt[target.name], key) end
        end
        local key = wrong and wrong:sub(1, 90)
        if wrong and not seen[key] then
          seen[key] = true
          slips[#slips + 1] = wrong .. '\n    ' .. text:sub(1, 200)
        end
      end
    end
    torch.set_grad_enabled(true)
    if os.getenv('MASKED_TORCH_FUZZ') then print(('%d calls succeeded, %d were refused'):format(fine, refused)) end
    assert.equal('', table.concat(slips, '\n'))
    assert.is_true(fine > 0 and refused > 0)
  end)
end)
