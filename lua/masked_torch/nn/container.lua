--- container: modules made of modules.

local is_grad_enabled = require('masked_torch.autograd').is_grad_enabled
local class = require 'masked_torch.class'
local fusion = require 'masked_torch.nn.fusion'
local Mask = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local Module = require('masked_torch.nn.module').Module

local fail = native.fail

-- Modules given one by one or as one array.
local function fill(self, ...)
  local name = getmetatable(self).__name
  local list = { ... }
  local n = select('#', ...)
  if n == 1 and type(list[1]) == 'table' and not list[1].__module then
    list = list[1]
    n = #list
    for key in pairs(list) do
      if type(key) ~= 'number' or key < 1 or key > n or key % 1 ~= 0 then
        fail('%s: expected an array of modules, got the key %s', name, tostring(key))
      end
    end
  end
  for i = 1, n do
    if not Module.is_module(list[i]) then
      fail('%s: argument %d: expected a module, got %s%s', name, i, type(list[i]),
        type(list[i]) == 'table' and list[i].__module and ' (a class: call it)' or '')
    end
    self[i] = list[i]
  end
end

-- ---- Sequential ------------------------------------------------------------------------------------------------

--- Sequential{ a, b, ... } or Sequential(a, b, ...): one after the other. Plain and masked modules mix: (x, mask) goes through
-- all of them. A convolution or norm with an activation behind it, an unshuffle in one axis and a convolution, or, without a graph, a
-- convolution and a batch norm in evaluation, is one operation where nobody looks between them (nn/fusion.lua).
local Sequential = class('Sequential', Module)

function Sequential:__init(...)
  Module.__init(self)
  fill(self, ...)
end

function Sequential:forward(x, mask)
  local i, n = 1, #self
  local recorded, ours = is_grad_enabled(), false     -- ours: x is held by nobody else
  while i <= n do
    local module = self[i]
    local factor = fusion.factor(module, self[i + 1], x, mask)
    if factor then
      i = i + 1
      module = self[i]
    end
    local norm = not recorded and fusion.norm(module, self[i + 1]) or nil
    if norm then i = i + 1 end
    local behind = self[i + 1]
    local activation, slope = fusion.behind(module, behind)
    local before, makes = x, not recorded and fusion.is_maker(module)
    if activation or factor or norm then
      x, mask = module(x, mask, activation, slope, factor, norm)
    else
      x, mask = module(x, mask)
    end
    if makes and ours and before ~= x then before:release() end
    ours = makes
    if activation then
      mask = Mask.of(getmetatable(behind).__name, mask, x)
      i = i + 1
    end
    i = i + 1
  end
  return x, mask
end

--- Appends a module. Returns the container.
function Sequential:add(module)
  self[#self + 1] = module
  return self
end
Sequential.append = Sequential.add

--- Modules first..last (negative: from the end) as a container of the same class, sharing them.
function Sequential:slice(first, last)
  local n = #self
  local function position(value, default)
    if value == nil then return default end
    native.integer('slice', 'position', value)
    return value < 0 and n + 1 + value or value
  end
  local part = {}
  for i = math.max(1, position(first, 1)), math.min(n, position(last, n)) do part[#part + 1] = self[i] end
  return getmetatable(self)(part)
end

-- ---- ModuleList, ModuleDict ------------------------------------------------------------------------------------

--- ModuleList{ a, b, ... }: an array of modules that is called by its owner.
local ModuleList = class('ModuleList', Module)

function ModuleList:__init(...)
  Module.__init(self)
  fill(self, ...)
end

ModuleList.add, ModuleList.append, ModuleList.slice = Sequential.add, Sequential.append, Sequential.slice

function ModuleList.forward()
  fail('ModuleList: it has no forward; call its elements')
end

--- ModuleDict{ { 'name', module }, ... }: modules by name, in that order; ModuleDict{ name = module } sorts the names.
-- dict.name, dict:keys().
local ModuleDict = class('ModuleDict', Module)

function ModuleDict:__init(entries)
  Module.__init(self)
  if entries ~= nil and (type(entries) ~= 'table' or Module.is_module(entries)) then
    fail('ModuleDict: expected a table of modules by name, got %s', type(entries))
  end
  local names = {}
  for key, value in pairs(entries or {}) do
    if type(key) == 'string' then
      names[#names + 1] = key
    elseif type(value) ~= 'table' or Module.is_module(value) then
      fail("ModuleDict: expected { 'name', module } at position %s", tostring(key))
    end
  end
  table.sort(names)
  for _, entry in ipairs(entries or {}) do self:add_module(entry[1], entry[2]) end
  for _, name in ipairs(names) do self:add_module(name, entries[name]) end
end

--- The names, in order.
function ModuleDict:keys()
  local names = {}
  for name in self:named_children() do names[#names + 1] = name end
  return names
end

function ModuleDict.forward()
  fail('ModuleDict: it has no forward; call its elements')
end

-- ---- Identity --------------------------------------------------------------------------------------------------

--- Identity(...): returns what it is given; its arguments are ignored.
local Identity = class('Identity', Module)

function Identity:__init(...)   -- luacheck: no unused args
  Module.__init(self)
end

function Identity.forward(_, x, mask)
  return x, mask
end

return { Sequential = Sequential, ModuleList = ModuleList, ModuleDict = ModuleDict, Identity = Identity }
