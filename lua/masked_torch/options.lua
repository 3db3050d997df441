--- options: the table of named keys at the end of an argument list.
--
-- Every key is checked: an unknown one is an error with the nearest known name, because Lua itself would ignore a typo.

local native = require 'masked_torch.native'

local options = {}

-- Levenshtein distance, small strings.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal
    diagonal, row[0] = row[0], i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

--- The known name nearest to `name`, or nil when none is near.
function options.nearest(name, known)
  local best, best_distance = nil, math.max(2, math.floor(#name / 3)) + 1
  for candidate in pairs(known) do
    local d = distance(name, candidate)
    if d < best_distance or (d == best_distance and best and candidate < best) then best, best_distance = candidate, d end
  end
  return best
end

local function suggestion(name, known)
  local near = type(name) == 'string' and options.nearest(name, known)
  return near and (" (did you mean '%s'?)"):format(near) or ''
end

--- The error for a name that a table of functions or classes does not have; `known` has the names as keys.
function options.no_such_name(where, name, known)
  native.fail("%s: there is no '%s'%s", where, name, suggestion(name, known))
end

local function listing(known)
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  return #names == 0 and 'none' or table.concat(names, ', ')
end

--- options.parse(op, defaults, given): `given` completed with `defaults`, in a new table.
-- A default of options.none stands for "no value" (nil). A value must have the default's type unless the default is
-- options.none or options.any(value).
options.none = setmetatable({}, { __tostring = function() return 'nil' end })

function options.any(value) return { any = value } end

--- options.own{...}: options that this library writes itself at every step of a training; their keys are not looked through.
local own = {}
function options.own(given) return setmetatable(given, own) end
function options.is_own(given) return getmetatable(given) == own end

--- A list or a table of options, not an object.
function options.is_plain(value)
  if type(value) ~= 'table' then return false end
  local meta = getmetatable(value)
  return meta == nil or meta == own
end

-- Tables of defaults as arrays: table traversals are not compiled (luajit.lua). Keys with a value come first.
local lists = setmetatable({}, { __mode = 'k' })

local function list_of(defaults)
  local list, without = { keys = {}, values = {} }, {}
  for key, value in pairs(defaults) do
    if type(value) == 'table' and value ~= options.none then value = value.any end
    if value == nil or value == options.none then
      without[#without + 1] = key
    else
      list.keys[#list.keys + 1], list.values[#list.values + 1] = key, value
    end
  end
  for _, key in ipairs(without) do list.keys[#list.keys + 1] = key end
  lists[defaults] = list
  return list
end

--- Fails when `given` is no table of named keys. Who comes from Python writes Conv2d(3, 8, 3, 1): the message shows the way.
function options.check_table(op, defaults, given)
  if options.is_plain(given) then return end
  local name = type(given)
  if name == 'table' then name = given._c and 'a tensor' or 'a ' .. (getmetatable(given).__name or 'table with a metatable') end
  native.fail('%s: options: expected a table of named keys, {name = value}, got %s (known: %s)', op, name, listing(defaults))
end

function options.parse(op, defaults, given)
  local result, list = {}, lists[defaults] or list_of(defaults)
  local keys, values = list.keys, list.values
  if getmetatable(given) == own then
    for i = 1, #keys do
      local key = keys[i]
      local value = given[key]
      if value == nil then value = values[i] end
      result[key] = value
    end
    return result
  end
  for i = 1, #values do result[keys[i]] = values[i] end
  if given == nil then return result end
  options.check_table(op, defaults, given)
  for key, value in pairs(given) do
    local default = defaults[key]
    if default == nil then
      native.fail('%s: unknown option %s%s (known: %s)', op, type(key) == 'string' and "'" .. key .. "'" or native.show(key),
        suggestion(key, defaults), listing(defaults))
    end
    if type(default) ~= 'table' and type(value) ~= type(default) then
      native.fail('%s: %s: expected a %s, got %s', op, key, type(default), type(value))
    end
    result[key] = value
  end
  return result
end

--- Fails unless value is nil: Lua itself would drop an argument too many without a word.
function options.none_left(op, value)
  if value == nil then return end
  local shape = type(value) == 'table' and value._c and 'a tensor'
  native.fail('%s: one argument too many: %s', op, shape or type(value) == 'table' and 'a table' or tostring(value))
end

--- One of a list of words, or an error that lists them.
function options.choice(op, key, value, choices)
  for _, choice in ipairs(choices) do
    if value == choice then return value end
  end
  native.fail("%s: %s: expected one of '%s', got %s", op, key, table.concat(choices, "', '"),
    type(value) == 'string' and "'" .. value .. "'" or native.show(value))
end

return options
