--- reload: new code for objects that live on. A network keeps its weights while the file that defines its classes changes.
--
--     reload.module('my_layers')      reads the module again; objects of its classes get the new methods
--     reload.follow(old, new)         the same for one class

local reload = {}

-- Earlier versions of a class by its name and the newest: all of them get the methods of the next one.
local earlier = setmetatable({}, { __mode = 'k' })

local function is_class(value)
  return type(value) == 'table' and type(rawget(value, '__name')) == 'string' and rawget(value, '__index') ~= nil
end

-- Makes `old`, the metatable of objects that exist, answer as `new` does; objects of old then also are objects of new.
local function patch(old, new)
  for key in pairs(old) do
    if rawget(new, key) == nil then rawset(old, key, nil) end
  end
  for key, value in pairs(new) do rawset(old, key, value) end
  if rawget(new, '__index') == new then rawset(old, '__index', old) end
  rawset(old, '__parent', new)
end

--- reload.follow(old, new): objects of the class old take the methods of new.
function reload.follow(old, new)
  if not is_class(old) or not is_class(new) or old == new then return end
  local list = earlier[old] or {}
  earlier[old] = nil
  list[#list + 1] = old
  for _, version in ipairs(list) do patch(version, new) end
  earlier[new] = list
end

-- Walks two versions of a module side by side. Functions and fields of the old tables become those of the new ones, so that whoever
-- holds the old table sees them.
local function merge(old, new, seen, depth)
  if type(old) ~= 'table' or type(new) ~= 'table' or old == new or seen[old] or depth > 4 then return end
  seen[old] = true
  if is_class(old) and is_class(new) then
    reload.follow(old, new)
    return
  end
  if getmetatable(old) or getmetatable(new) then return end
  for key, value in pairs(new) do
    merge(rawget(old, key), value, seen, depth + 1)
    old[key] = value
  end
end

--- reload.module(name): requires it again. On an error the old module stays. Returns the old and the new value.
function reload.module(name)
  local old = package.loaded[name]
  package.loaded[name] = nil
  local ok, new = pcall(require, name)
  if not ok then
    package.loaded[name] = old
    error(new, 0)
  end
  merge(old, new, {}, 1)
  return old, new
end

return reload
