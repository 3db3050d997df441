--- lexer: Lua text as tokens, and what the prompt has to know about it: open blocks, statements, depth.
--
--     for _, token in ipairs(lexer.tokens 'local x = 1') do print(token.kind, token.text, token.first, token.last) end
--
-- Kinds: name, keyword, number, string, comment, operator, unknown. A string or long comment that is not closed reaches to the end
-- of the text and is marked `open`. Nothing here fails: half a line is what completion works on.

local lexer = {}

local keywords = {}
for word in ('and break do else elseif end false for function goto if in local nil not or repeat return then true until while')
  :gmatch '%a+' do
  keywords[word] = true
end
lexer.keywords = keywords

-- The end of a quoted string that begins at i; true when it is not closed.
local function quoted(text, i)
  local quote = text:sub(i, i)
  local at = i + 1
  while true do
    local stop = text:find('[' .. quote .. '\\\n]', at)
    if not stop then return #text, true end
    local c = text:sub(stop, stop)
    if c == quote then return stop end
    if c == '\n' then return stop - 1, true end
    at = stop + 2       -- a backslash and what it protects, a line end too
    if text:sub(stop + 1, stop + 1) == 'z' then at = text:match('^%s*()', at) end
    if at > #text + 1 then return #text, true end
  end
end

-- The end of a long bracket [[ ]], [=[ ]=] that begins at i, or nil when none does.
local function long(text, i)
  local level = text:match('^%[(=*)%[', i)
  if not level then return nil end
  local _, stop = text:find(']' .. level .. ']', i + 2 + #level, true)
  return stop or #text, stop == nil
end

--- lexer.tokens(text): an array of {kind =, text =, first =, last =, line =, open =}; blanks are left out.
function lexer.tokens(text)
  local list, i, line = {}, 1, 1
  local function add(kind, last, open)
    local piece = text:sub(i, last)
    list[#list + 1] = { kind = kind, text = piece, first = i, last = last, line = line, open = open or nil }
    local _, breaks = piece:gsub('\n', '')
    line, i = line + breaks, last + 1
  end
  if text:sub(1, 1) == '#' then add('comment', (text:find('\n', 1, true) or #text + 1) - 1) end
  while true do
    local blank, after = text:match('^(%s*)()', i)
    local _, breaks = blank:gsub('\n', '')
    line, i = line + breaks, after
    if i > #text then break end
    local c = text:sub(i, i)
    if c:find '[%a_\128-\255]' then
      local last = text:match('^[%w_\128-\255]+()', i) - 1
      add(keywords[text:sub(i, last)] and 'keyword' or 'name', last)
    elseif c:find '%d' or text:find('^%.%d', i) then
      local last = text:match('^0[xX][%x%.]*[pP]?[+-]?[%x]*[uUlLiI]*()', i) or text:match('^[%d%.]+[eE][+-]?%d+[iI]?()', i) or
        text:match('^[%d%.]+[uUlLiI]*()', i)
      add('number', last - 1)
    elseif c == '"' or c == "'" then
      add('string', quoted(text, i))
    elseif text:sub(i, i + 1) == '--' then
      local last, open = long(text, i + 2)
      if last then
        add('comment', last, open)
      else
        add('comment', (text:find('\n', i, true) or #text + 1) - 1)
      end
    elseif c == '[' and text:find('^%[=*%[', i) then
      add('string', long(text, i))
    else
      local operator = text:match('^%.%.%.', i) or text:match('^%.%.', i) or text:match('^[=~<>]=', i) or text:match('^::', i) or
        text:match('^[%+%-%*/%%%^#=<>%(%){}%[%];:,%.]', i)
      add(operator and 'operator' or 'unknown', operator and i + #operator - 1 or i)
    end
  end
  return list
end

local opens = { ['('] = true, ['['] = true, ['{'] = true }
local closes = { [')'] = true, [']'] = true, ['}'] = true }
local begins = { ['do'] = true, ['function'] = true, ['if'] = true, ['repeat'] = true }
local ends = { ['end'] = true, ['until'] = true }

--- lexer.depths(tokens): gives every token `block` and `bracket`, the depths in which it stands (an opening or closing one stands
-- outside of what it opens or closes). Returns the depths behind the last token.
function lexer.depths(tokens)
  local block, bracket = 0, 0
  for _, token in ipairs(tokens) do
    local text = token.text
    if token.kind == 'operator' and closes[text] then bracket = math.max(0, bracket - 1) end
    if token.kind == 'keyword' and ends[text] then block = math.max(0, block - 1) end
    token.block, token.bracket = block, bracket
    if token.kind == 'operator' and opens[text] then bracket = bracket + 1 end
    if token.kind == 'keyword' and begins[text] then block = block + 1 end
  end
  return block, bracket
end

return lexer
