--- script(session): the inputs that worked, as the text of a Lua script, and their number.
--
-- `local` stands where a variable is first declared and is taken away where it is declared again: a session has one variable of
-- each name. Values that the prompt printed are printed.

local lexer = require 'masked_torch.repl.lexer'
local rewrite = require 'masked_torch.repl.rewrite'

-- A chunk of Lua may have 200 locals; past this many the script has globals.
local MOST_LOCALS = 180

-- Does the text use a name that the prompt gives?
local function uses(text, name)
  for _, token in ipairs(lexer.tokens(text)) do
    if token.kind == 'name' and token.text == name then return true end
  end
  return false
end

local function compiles(text) return loadstring(text) ~= nil end

return function(session)
  local body, declared, count, n = {}, {}, 0, 0
  -- false: the declaration stays as it is
  local function keep(names)
    local new = false
    for _, name in ipairs(names) do new = new or not declared[name] end
    if not new or count >= MOST_LOCALS then return true end
    for _, name in ipairs(names) do
      if not declared[name] then declared[name], count = true, count + 1 end
    end
    return false
  end
  for _, entry in ipairs(session.inputs) do
    if entry.ok then
      n = n + 1
      local text = rewrite.silenced(entry.text):gsub('^%s*=', '')
      local before, last = text, nil
      if compiles('return ' .. text) then
        before, last = '', text
      elseif entry.expression then
        before, last = rewrite.last(text, compiles)
      end
      text = rewrite.locals(before, keep):gsub('^      ?', '')
      if last and not (entry.silent and compiles(last)) then
        text = text .. (entry.silent and 'local _ = %s' or 'print(%s)'):format((last:gsub('%s+$', '')))
      elseif last then
        text = text .. last
      end
      body[#body + 1] = (text:gsub('%s+$', ''))
    end
  end
  local all = table.concat(body, '\n')
  local head = { '-- A session of masked-torch.', "local torch = require 'masked_torch'" }
  for _, given in ipairs{ { 'nn', 'torch.nn' }, { 'F', 'torch.nn.functional' }, { 'optim', 'torch.optim' } } do
    if uses(all, given[1]) and not declared[given[1]] then head[#head + 1] = ('local %s = %s'):format(given[1], given[2]) end
  end
  return table.concat(head, '\n') .. '\n\n' .. all .. '\n', n
end
