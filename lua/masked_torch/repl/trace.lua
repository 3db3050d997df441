--- trace: what an error leaves behind: the functions that were running, with their locals.
--
-- A trace is taken while the stack still stands. It holds the values themselves, so one trace is kept at most: the last
-- (`:forget` lets it go).

local native = require 'masked_torch.native'

local trace = {}

local MOST_FRAMES, MOST_LOCALS = 60, 60
local package_files = '@' .. native.lua_directory .. 'masked_torch/'
-- What stands between a user's mistake and the place that notices it: never where the user wants to look first.
local machinery = { 'native/', 'autograd/', 'tensor/', 'repl/', 'class.lua', 'options.lua', 'nn/module.lua', 'nn/container.lua' }

local function part_of_package(source)
  if source:sub(1, #package_files) ~= package_files then return nil end
  return source:sub(#package_files + 1)
end

-- The locals that can be seen where the frame stands; an inner one hides an outer one of its name.
local function locals_of(level)
  local list, position = {}, {}
  for i = 1, MOST_LOCALS do
    local name, value = debug.getlocal(level + 1, i)
    if not name then break end
    if name:sub(1, 1) ~= '(' then
      if not position[name] then
        list[#list + 1] = name
        position[name] = #list
      end
      list[name] = { value = value }
    end
  end
  for i, name in ipairs(list) do list[i] = { name = name, value = list[name].value } end
  return list
end

--- trace.take(message, [stop]): the running functions, innermost first, up to `stop` (a function, left out).
function trace.take(message, stop)
  local frames = {}
  for level = 2, MOST_FRAMES do
    local info = debug.getinfo(level, 'Slnf')
    if not info or info.func == stop then break end
    if info.what ~= 'C' then
      local inside = part_of_package(info.source)
      local frame = { file = inside and 'masked_torch/' .. inside or info.short_src, line = info.currentline, name = info.name,
        what = info.what, first = info.linedefined, library = inside ~= nil, machinery = false, locals = locals_of(level) }
      for _, beginning in ipairs(machinery) do
        if inside and inside:sub(1, #beginning) == beginning then frame.machinery = true end
      end
      if not (inside and inside:find '^repl/') then frames[#frames + 1] = frame end
    end
  end
  return { message = message, frames = frames }
end

--- trace.start(t): the number of the frame to look at first: the innermost of the user's own functions with something to show,
-- else the innermost layer.
function trace.start(t)
  for i, frame in ipairs(t.frames) do
    if not frame.library and #frame.locals > 0 then return i end
  end
  for i, frame in ipairs(t.frames) do
    if not frame.machinery and #frame.locals > 0 then return i end
  end
  return 1
end

--- trace.describe(frame): "in function 'forward'  net.lua:12"
function trace.describe(frame)
  local where = ('%s:%d'):format(frame.file, frame.line)
  if frame.what == 'main' then return where end
  return ('%s  in %s'):format(where, frame.name and "'" .. frame.name .. "'" or ('the function of line %d'):format(frame.first))
end

return trace
