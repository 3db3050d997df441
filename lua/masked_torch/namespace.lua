--- namespace: tables such as torch, nn and io, whose entries are loaded when they are first used, so that a script pays only for
-- what it needs. A name that such a table does not have is an error with the nearest one: nil would be "attempt to call a nil value"
-- at best, and vanish from the end of Sequential{ ..., nn.Relu } at worst.
--
--     local nn = namespace('nn', { Conv2d = 'conv' }, { 'functional', init = 'initialise' })
--     nn.Conv2d          require('masked_torch.nn.conv').Conv2d
--     nn.functional      require 'masked_torch.nn.functional'
--     nn.init            require 'masked_torch.nn.initialise'

local options = require 'masked_torch.options'

local namespace = {}

-- What each of these tables loads: names as keys.
local names_of = setmetatable({}, { __mode = 'k' })

--- namespace.names(t) -> the names that t loads on first use, as keys; nil where t is not such a table. Nothing is loaded.
function namespace.names(t) return names_of[t] end

local function no_such_name(where, t, name)
  local known = {}
  for key in next, t do known[tostring(key)] = true end
  for key in pairs(names_of[t]) do known[key] = true end
  options.no_such_name(where, name, known)
end

local function new(where, entries, modules, t)
  local folder = where == 'torch' and 'masked_torch.' or 'masked_torch.' .. where .. '.'
  local names, whole = {}, {}
  for name in pairs(entries) do names[name] = true end
  for key, file in pairs(modules) do
    local name = type(key) == 'string' and key or file
    names[name], whole[name] = true, file
  end
  t = t or {}
  names_of[t] = names
  return setmetatable(t, { __index = function(_, name)
    if not names[name] then
      if type(name) == 'string' then no_such_name(where, t, name) end
      return nil
    end
    local value = require(folder .. (whole[name] or entries[name]))
    if not whole[name] then value = value[name] end
    rawset(t, name, value)
    return value
  end })
end

--- namespace(where, entries, modules, [t]) -> t (default: a new table). entries[name] is the file, below the folder of the table,
-- whose result has `name`; modules lists files that are entries themselves, [name] = file where the two differ. `where` is the
-- folder and what messages call the table ('torch': the top).
return setmetatable(namespace, { __call = function(_, ...) return new(...) end })
