--- value: torch.save and torch.load. A nested table of tensors, numbers, strings and booleans in one safetensors file: the
-- tensors under their key paths ("model.0.weight"), the structure as JSON text in the file's metadata. Any safetensors reader
-- can open the file; reading it never executes code.
--
-- The structure: true, false, numbers and strings stand for themselves, and arrays hold everything else:
--     ["t", name]  a tensor        ["n", "nan" | "inf" | "-inf"]        ["b", hex]  a string that is not UTF-8
--     ["l", v1, v2, ...]  a table with the keys 1..n                    ["m", k1, v1, k2, v2, ...]  any other table

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local options = require 'masked_torch.options'
local json = require 'masked_torch.io.json'
local safetensors = require 'masked_torch.io.safetensors'

local fail = native.fail
local value = {}

local KEY, VERSION_KEY, VERSION = 'masked_torch.structure', 'masked_torch.version', '1'
local DEPTH = 60

local function key_text(key)
  if type(key) == 'string' and key:find('^[%a_][%w_]*$') then return '.' .. key end
  return '[' .. (type(key) == 'string' and ('%q'):format(key) or tostring(key)) .. ']'
end

local function array(...) return setmetatable({ ... }, json.array) end

local function order(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return ta < tb end
  if ta == 'boolean' then return not a and b end
  return a < b
end

-- ---- saving ----------------------------------------------------------------------------------------------------

local function describe(op, root_name, root)
  local tensors, name_of, open = {}, {}, {}

  local function tensor_name(t, names)
    if name_of[t] then return name_of[t] end
    local base = #names > 0 and table.concat(names, '.') or 'tensor'
    if json.invalid_utf8(base) or base == '__metadata__' then base = 'tensor' end
    local name, n = base, 1
    while tensors[name] do
      n = n + 1
      name = base .. '~' .. n
    end
    tensors[name], name_of[t] = t, name
    return name
  end

  local function encode(v, path, names)
    local kind = type(v)
    if kind == 'boolean' then return v end
    if kind == 'number' then
      if v ~= v then return array('n', 'nan') end
      if v == math.huge or v == -math.huge then return array('n', v > 0 and 'inf' or '-inf') end
      return v
    elseif kind == 'string' then
      if not json.invalid_utf8(v) then return v end
      return array('b', (v:gsub('.', function(c) return ('%02x'):format(c:byte()) end)))
    elseif Tensor.is_tensor(v) then
      Tensor.check(op, path, v)
      return array('t', tensor_name(v, names))
    elseif kind ~= 'table' then
      fail('%s: %s: a %s cannot be saved; tables of tensors, numbers, strings and booleans can', op, path, kind)
    elseif getmetatable(v) ~= nil then
      fail('%s: %s: a %s cannot be saved, only plain tables%s', op, path,
        getmetatable(v).__name or 'table with a metatable', v.state_dict and '; save its :state_dict()' or '')
    elseif open[v] then
      fail('%s: %s: the table contains itself', op, path)
    elseif #names >= DEPTH then
      fail('%s: %s: nested more than %d deep', op, path, DEPTH)
    end
    open[v] = true
    local keys, n = {}, 0
    for key in pairs(v) do
      local key_kind = type(key)
      if key_kind ~= 'string' and key_kind ~= 'number' and key_kind ~= 'boolean' then
        fail('%s: %s: a key is a %s; strings, numbers and booleans can be saved', op, path, key_kind)
      end
      n = n + 1
      keys[n] = key
    end
    local list = n == #v
    table.sort(keys, order)
    local out = array(list and 'l' or 'm')
    for _, key in ipairs(keys) do
      names[#names + 1] = tostring(key)
      if not list then out[#out + 1] = encode(key, path, names) end
      out[#out + 1] = encode(v[key], path .. key_text(key), names)
      names[#names] = nil
    end
    open[v] = nil
    return out
  end

  return encode(root, root_name, {}), tensors
end

--- tensors, metadata = value.pack(op, name, v): what safetensors.save writes for a value; errors name op and name.key.key
function value.pack(op, name, v)
  local structure, tensors = describe(op, name, v)
  return tensors, { [KEY] = json.encode(structure), [VERSION_KEY] = VERSION }
end

--- torch.save(path, value): value is a nested table of tensors, numbers, strings and booleans (or one of these). Numbers come
-- back as the same doubles, NaN and infinities included; a tensor that occurs twice is written once and shared again when
-- loaded; requires_grad and gradients are not kept. Functions, objects (save their state_dict) and tables that contain
-- themselves are errors that name the key. The file is whole or absent.
function value.save(path, v)
  if v == nil then fail('save: value: nothing to save (nil); the call is torch.save(path, value)') end
  safetensors.save(path, value.pack('save', 'value', v))
end

-- ---- loading ---------------------------------------------------------------------------------------------------

--- value.unpack(op, path, tensors, metadata): the value again; nil where the metadata holds none.
function value.unpack(op, path, tensors, metadata)
  if not metadata[KEY] then return nil end
  local function bad(...) fail('%s: %s: structure: %s', op, path, select('#', ...) > 1 and string.format(...) or (...)) end
  if metadata[VERSION_KEY] ~= VERSION then
    bad('version %s; this library reads version %s', tostring(metadata[VERSION_KEY]):sub(1, 20), VERSION)
  end
  local structure = json.decode(metadata[KEY], function(at, message) bad('character %d: %s', at, message) end, DEPTH + 4)

  local function decode(node)
    if node == json.null or getmetatable(node) == json.object then bad('an unknown form') end
    if type(node) ~= 'table' then return node end
    local tag, first = node[1], node[2]
    if tag == 't' then
      local t = type(first) == 'string' and tensors[first]
      if not t then bad('the tensor %q is missing', tostring(first)) end
      return t
    elseif tag == 'n' then
      if first == 'nan' then return 0 / 0 end
      if first ~= 'inf' and first ~= '-inf' then bad('an unknown number') end
      return first == 'inf' and math.huge or -math.huge
    elseif tag == 'b' then
      if type(first) ~= 'string' or #first % 2 ~= 0 or first:find('%X') then bad('a malformed string') end
      return (first:gsub('..', function(pair) return string.char(tonumber(pair, 16)) end))
    elseif tag == 'l' then
      local list = {}
      for i = 2, #node do list[i - 1] = decode(node[i]) end
      return list
    elseif tag == 'm' then
      local map = {}
      for i = 2, #node - 1, 2 do
        local key = decode(node[i])
        if key == nil or key ~= key or type(key) == 'table' then bad('a malformed key') end
        map[key] = decode(node[i + 1])
      end
      return map
    end
    bad('an unknown form')
  end
  return decode(structure)
end

--- torch.load(path, {device = 'cpu'}): what torch.save wrote. For any other safetensors file: its tensors by name, and its
-- metadata.
function value.load(path, opts)
  opts = options.parse('load', { device = 'cpu' }, opts)
  local tensors, metadata = safetensors.load(path, { device = opts.device })
  local v = value.unpack('load', path, tensors, metadata)
  if v == nil then return tensors, metadata end
  return v
end

return value
