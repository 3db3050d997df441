--- colormap: numbers in 0..1 as colours.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local tables = require 'masked_torch.plot.colormap_tables'

local colormap = {}
local decoded = {}

--- colormap.table(name): 256 colours {red, green, blue}, 0..255 each; name is 'viridis', 'coolwarm' or 'gray'.
function colormap.table(name)
  if type(name) ~= 'string' or not tables[name] then
    local near = type(name) == 'string' and options.nearest(name, tables)
    native.fail("plot: cmap: expected 'viridis', 'coolwarm' or 'gray', got %s%s", type(name) == 'string' and "'" .. name .. "'" or
      tostring(name), near and (" (did you mean '%s'?)"):format(near) or '')
  end
  if not decoded[name] then
    local list = {}
    for r, g, b in tables[name]:gmatch('(%x%x)(%x%x)(%x%x)') do
      list[#list + 1] = { tonumber(r, 16), tonumber(g, 16), tonumber(b, 16) }
    end
    decoded[name] = list
  end
  return decoded[name]
end

--- colormap.index(t): the entry (1..256) for t: equal intervals, values outside 0..1 take the end colours.
function colormap.index(t)
  local i = math.floor(t * 256) + 1
  return i < 1 and 1 or i > 256 and 256 or i
end

return colormap
