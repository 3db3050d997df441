--- help: what `?name`, `??word` and help(x) print, from the doc comments of the library.

local color = require 'masked_torch.repl.color'
local options = require 'masked_torch.options'
local show = require 'masked_torch.repl.show'
local source = require 'masked_torch.repl.source'
local terminal = require 'masked_torch.train.terminal'
local Tensor = require 'masked_torch.tensor'

local help = {}

-- A block as it is printed: the signature stands out, the place comes last.
local function block_text(block)
  local head, rest = block.text:match '^([^\n]*)\n?(.*)$'
  local lines = { color.paint('bold', head) }
  if rest ~= '' then
    lines[#lines + 1] = rest:gsub('%f[^\n%z]@usage%s*(.*)$', function(example)
      return 'Example:\n  ' .. example:gsub('\n', '\n  ')
    end)
  end
  lines[#lines + 1] = color.paint('grey', ('masked_torch/%s:%d'):format(block.file, block.line))
  return table.concat(lines, '\n')
end

local function default_text(value)
  if type(value) == 'table' then
    if value.any == nil then return '' end      -- none is given
    value = value.any
  end
  return '= ' .. show.brief(value)
end

local function options_text(class)
  local defaults = rawget(class, 'defaults')
  if type(defaults) ~= 'table' then return nil end
  local parts = {}
  for key, value in pairs(defaults) do
    if type(key) == 'string' then parts[#parts + 1] = (key .. ' ' .. default_text(value)):gsub('%s+$', '') end
  end
  table.sort(parts)
  return #parts > 0 and 'Options: ' .. table.concat(parts, ', ') or nil
end

local function for_name(name)
  local list = source.find(name)
  if #list == 0 then return nil end
  local text = block_text(list[1])
  local others = {}
  for i = 2, math.min(#list, 6) do
    others[#others + 1] = ('%s (%s)'):format(list[i].names[1], list[i].file)
  end
  if #others > 0 then text = text .. '\n' .. color.paint('grey', 'Also: ' .. table.concat(others, ', ')) end
  return text
end

local function for_class(class)
  local name = rawget(class, '__name')
  local text = for_name('nn.' .. name) or ('class ' .. name)
  local own = options_text(class)
  return own and text .. '\n' .. own or text
end

--- help.text(value, [name]): help on a value; name is how it was written.
function help.text(value, name)
  if type(value) == 'function' and not source.is_own(value) then
    return ('%s is a %s'):format(name or 'This', show.brief(value))
  elseif type(value) == 'function' then
    local block = source.of(value)
    local found = block and not (name and #source.find(name) > 0 and block.plain) and block_text(block) or name and for_name(name)
    return found or (name or 'This') .. ' is a ' .. show.brief(value) .. ' without documentation.'
  elseif show.is_class(value) and not Tensor.is_tensor(value) then
    return for_class(value)
  elseif show.is_module(value) then
    return show.brief(value) .. '\n\n' .. for_class(getmetatable(value))
  elseif Tensor.is_tensor(value) then
    return show.summary(value) .. '\n\nA tensor. `?x:sum` explains a method, Tab behind `x:` lists them.'
  elseif type(value) == 'table' then
    local block = name and source.find(name)[1]
    if block then return block_text(block) end
    local names = {}
    for key in next, value do
      if type(key) == 'string' then names[#names + 1] = key end
    end
    table.sort(names)
    return show.brief(value) .. (#names > 0 and ': ' .. table.concat(names, ', ') or '')
  end
  return (name and for_name(name)) or show.brief(value)
end

--- help.about(name, value): the text for `?name`; value is what the name means in the session, or nil.
function help.about(name, value)
  if value ~= nil then return help.text(value, name) end
  local text = for_name(name)
  if text then return text end
  local near = options.nearest(name:match '[^%.:]+$' or name, source.names())
  return ('No documentation for %s.%s `??%s` searches the text of all of it.'):format(name,
    near and (' Did you mean %s?'):format(near) or '', name)
end

--- help.search(word): a line per place where the documentation speaks of it.
function help.search(word)
  local list = source.search(word)
  if #list == 0 then return ('Nothing about %q.'):format(word) end
  local lines = {}
  for i, block in ipairs(list) do
    if i > 40 then
      lines[#lines + 1] = ('... and %d more'):format(#list - 40)
      break
    end
    lines[#lines + 1] = terminal.cut(('%-28s %s'):format(block.names[1], (block.text:match '^[^\n]*')), terminal.columns())
  end
  return table.concat(lines, '\n')
end

return help
