--- page: the code blocks of a Markdown page, executed as a reader would.
--
-- What stands behind the language of a fence tells what becomes of the block:
--   lua                 executed; the blocks of a page share their variables, top-level locals included
--   lua path, c path, c++ path    written to that file, below the folder in which the page runs
--   lua norun reason    not executed
--   sh run              executed by sh; a non-zero status fails, unless the last line of the output says [status N]
--   sh                  its commands must exist: targets of make, scripts and their options
--   output              what the block before it prints
--   text, python        anything
-- `--> text` is the output of the statement it belongs to, `--> error: text` the message of a statement that must fail (without
-- file and line; lines that follow are joined). `...` stands for anything. What is printed and not expected fails, too.

local page = {}

-- ---- parsing -------------------------------------------------------------------------------------------------------

local kinds = { lua = true, sh = true, output = true, text = true, c = true, ['c++'] = true, python = true }

--- page.parse(text, name): the blocks { kind, info, first (line), lines } and a list of problems.
function page.parse(text, name)
  local blocks, problems, open, number = {}, {}, nil, 0
  local function complain(line, format, ...) problems[#problems + 1] = ('%s:%d: %s'):format(name, line, format:format(...)) end
  for line in (text .. '\n'):gmatch('(.-)\r?\n') do
    number = number + 1
    local indent, info = line:match('^(%s*)```+(.*)$')
    if open and info then
      open = nil
    elseif open then
      open.lines[#open.lines + 1] = line:sub(#open.indent + 1)
    elseif info then
      local kind, rest = info:match('^%s*(%S*)%s*(.-)%s*$')
      open = { kind = kind, info = rest, first = number + 1, lines = {}, indent = indent }
      blocks[#blocks + 1] = open
      local before = blocks[#blocks - 1]
      if not kinds[kind] then
        complain(number, 'a block of kind %q: expected lua, c, c++, sh, output, python or text', kind)
      elseif kind == 'output' then
        if not before or not (before.kind == 'lua' and before.info == '' or before.kind == 'sh' and before.info == 'run') then
          complain(number, 'output of nothing: an executed block must stand before it')
        else
          before.output = open.lines
        end
      elseif kind == 'lua' and rest:find('^norun') then
        if #rest < 20 then complain(number, 'norun without a reason') end
      elseif (kind == 'c' or kind == 'c++') and rest == '' then
        complain(number, 'a C block without the name of its file')
      end
    elseif line:find('^    %s*local [%w_, ]+=') or line:find('^    %s*print%(') then
      complain(number, 'indented Lua is not executed; use a fence')
    end
  end
  if open then complain(open.first - 1, 'the block is not closed') end
  return blocks, problems
end

--- A block's statements { first (line), code, expected = lines, error = text or nil }, or nil and a message.
function page.statements(block, name)
  local statements, pending, expected, start = {}, {}, {}, block.first
  local lines = block.lines
  local function compiles()
    return loadstring(('\n'):rep(start - 1) .. table.concat(pending, '\n'), '=' .. name)
  end
  local function close()
    local statement = { first = start, code = table.concat(pending, '\n'), expected = expected }
    if expected[1] and expected[1]:find('^error: ') then
      statement.error, statement.expected = table.concat(expected, ' '):sub(8), {}
    end
    statements[#statements + 1] = statement
  end
  for i, line in ipairs(lines) do
    local code, text = line:match('^(.-)%s*%-%->%s?(.-)%s*$')
    pending[#pending + 1] = code or line
    if text then expected[#expected + 1] = text end
    -- A statement ends before a line that begins at the margin and does not close something.
    local k = i + 1
    while lines[k] and lines[k]:find('^%s*$') do k = k + 1 end
    local next_line = lines[k]
    local ends = not next_line or not (next_line:find('^%s') or next_line:find('^[%]%)}]') or next_line:find('^%-%->') or
      next_line:find('^end%f[%W]') or next_line:find('^else') or next_line:find('^until%f[%W]'))
    if ends then
      local ok, message = compiles()
      if ok then
        close()
        pending, expected, start = {}, {}, block.first + i
      elseif not next_line or not message:find("near '<eof>'", 1, true) then
        return nil, message
      end
    end
  end
  return statements
end

-- ---- comparing -----------------------------------------------------------------------------------------------------

local function pattern(text)
  return '^' .. text:gsub('[%^%$%(%)%%%.%[%]%*%+%-%?]', '%%%0'):gsub('%%%.%%%.%%%.', '.*') .. '$'
end

local function matches(expected, got) return got:find(pattern(expected)) ~= nil end

local function lines_of(text)
  local list = {}
  for line in (text:gsub('\n$', '') .. '\n'):gmatch('(.-)\n') do list[#list + 1] = (line:gsub('%s+$', '')) end
  if #list == 1 and list[1] == '' then list = {} end
  return list
end

-- nil, or how the printed text differs from the expected lines. A line `...` stands for any number of lines.
local function difference(expected, printed)
  local got, at = lines_of(printed), 1
  for i, line in ipairs(expected) do
    line = line:gsub('%s+$', '')
    if line == '...' then
      local following = expected[i + 1]
      if not following then return nil end
      while got[at] and not matches(following:gsub('%s+$', ''), got[at]) do at = at + 1 end
    else
      if not got[at] then return ('expected %q, and nothing more was printed'):format(line) end
      if not matches(line, got[at]) then return ('expected %q, got %q'):format(line, got[at]) end
      at = at + 1
    end
  end
  if got[at] then return ('printed %q, which is not in the page'):format(got[at]) end
end
page.difference = difference

-- ---- executing -----------------------------------------------------------------------------------------------------

-- Top-level locals live as long as the page.
local function keep_locals(code)
  if code:find('^local function ') then return (code:gsub('^local ', '', 1)) end
  if code:find('^local [%w_, ]+=') then return (code:gsub('^local ', '', 1)) end
  local names = code:match('^local ([%w_, ]+)%s*$')
  return names and names .. ' = nil' or code
end

-- capture(fn) runs fn and returns what it wrote to standard output.
local function run_lua(block, name, environment, capture, complain)
  local statements, message = page.statements(block, name)
  if not statements then
    local line, rest = message:match('^[^:]*:(%d+): (.*)$')
    return complain(tonumber(line), rest)
  end
  local last = statements[#statements]
  for _, line in ipairs(block.output or {}) do last.expected[#last.expected + 1] = line end
  for _, statement in ipairs(statements) do
    local chunk = assert(loadstring(('\n'):rep(statement.first - 1) .. keep_locals(statement.code), '=' .. name))
    setfenv(chunk, environment)
    local ok, failure
    local printed = capture(function() ok, failure = pcall(chunk) end)
    if statement.error then
      local got = tostring(failure):gsub('^[^:\n]+:%d+: ', ''):gsub('%s+', ' ')
      if ok then
        complain(statement.first, 'no error, expected: ' .. statement.error)
      elseif not matches(statement.error:gsub('%s+', ' '), got) then
        complain(statement.first, ('expected the error %q, got %q'):format(statement.error, got))
      end
    elseif not ok then
      return complain(statement.first, 'failed: ' .. tostring(failure))
    end
    local wrong = difference(statement.expected, printed)
    if wrong then complain(statement.first, wrong) end
  end
end

local function run_shell(block, complain, before)
  local script = os.tmpname()
  local file = assert(io.open(script, 'w'))
  file:write(table.concat(block.lines, '\n'), '\n')
  file:close()
  local pipe = assert(io.popen(('%s sh -e %s 2>&1; echo "[status $?]"'):format(before or '', script)))
  local text = pipe:read('*a')
  pipe:close()
  os.remove(script)
  if not (block.output and block.output[#block.output] or ''):find('^%[status %d+%]$') then
    if not text:find('%[status 0%]\n$') then return complain(block.first, 'failed:\n' .. text) end
    text = text:gsub('%[status 0%]\n$', '')
  end
  local wrong = difference(block.output or {}, text)
  if wrong then complain(block.first, wrong) end
end

--- page.run(blocks, name, {environment, capture, write, before_shell, after_shell}): executes what is to be executed; returns the number of
-- blocks and a list of problems.
function page.run(blocks, name, how)
  local problems, count = {}, 0
  local function complain(line, message) problems[#problems + 1] = ('%s:%d: %s'):format(name, line, message) end
  for _, block in ipairs(blocks) do
    if (block.kind == 'lua' or block.kind == 'c' or block.kind == 'c++') and block.info ~= '' and not block.info:find('^norun') then
      how.write(block.info, table.concat(block.lines, '\n') .. '\n')
      count = count + 1
    elseif block.kind == 'lua' and block.info == '' then
      run_lua(block, name, how.environment, how.capture, complain)
      count = count + 1
    elseif block.kind == 'sh' and block.info == 'run' then
      run_shell(block, complain, how.before_shell)
      if how.after_shell then how.after_shell() end
      count = count + 1
    end
  end
  return count, problems
end

--- The @usage examples of a Lua file, as blocks.
function page.examples(text)
  local blocks, open, number = {}, nil, 0
  for line in (text .. '\n'):gmatch('(.-)\n') do
    number = number + 1
    local comment = line:match('^%s*%-%- ?(.*)$')
    if line:find('^%s*%-%- @usage%s*$') then
      open = { kind = 'lua', info = '', first = number + 1, lines = {} }
      blocks[#blocks + 1] = open
    elseif open and comment and not comment:find('^@') then
      open.lines[#open.lines + 1] = comment
    else
      open = nil
    end
  end
  return blocks
end

return page
