--- class: the idiom of Torch7 without its globals.
--
-- class(name, parent) returns the class and its parent. Methods and metamethods are inherited by copying them at the time of
-- the call, so define a class after its parent is complete. `object:is(Class)` walks the chain.
-- A constructor without `...` refuses arguments that it does not have; a class without a constructor takes none.
--
-- @usage
-- local class = require 'masked_torch.class'
-- local Counter = class('Counter')
-- function Counter:__init(first) self.n = first end
-- function Counter:next() self.n = self.n + 1 return self.n end
-- print(Counter(3):next())      --> 4

local native = require 'masked_torch.native'

local function is(object, class)
  local c = getmetatable(object)
  while c do
    if c == class then return true end
    c = c.__parent
  end
  return false
end

-- Lua drops arguments too many without a word; a constructor with a fixed number of parameters refuses them.
local function check_count(name, init, ...)
  local info = init and debug.getinfo(init, 'u') or { nparams = 1 }
  if info.isvararg then return end
  for i = info.nparams, select('#', ...) do
    local value = select(i, ...)
    if value ~= nil then
      native.fail('%s: one argument too many: %s (options go into one table at the end)', name,
        type(value) == 'table' and 'a table' or tostring(value))
    end
  end
end

return function(name, parent)
  local class = {}
  for key, value in pairs(parent or {}) do class[key] = value end
  class.__name = name
  class.__parent = parent
  class.is = is
  if class.__index == nil or class.__index == parent then class.__index = class end
  setmetatable(class, {
    __call = function(_, ...)
      local object = setmetatable({}, class)
      check_count(name, class.__init, ...)
      if class.__init then object:__init(...) end
      return object
    end,
    __tostring = function() return 'class ' .. name end,
  })
  return class, parent
end
