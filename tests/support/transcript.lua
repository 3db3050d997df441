--- transcript: a page's sessions of the prompt, typed again at a terminal.
--
-- A session is a fenced block of text whose first line begins with "> ". Its inputs are the lines that begin so, with the lines that
-- complete them; "^C" at the beginning of a line of output means that Ctrl-C was pressed when what stands before it had come;
-- "<Tab>" at the end of an input is the key: the next input goes on where it was.
local interpreter = require 'support.interpreter'
local pty = require 'support.pty'
local session = require 'masked_torch.repl.session'

local transcript = {}

--- transcript.blocks(text): { first =, last = (lines of the page), lines = } of every session on the page.
function transcript.blocks(text)
  local blocks, open, number = {}, nil, 0
  for line in (text .. '\n'):gmatch '(.-)\n' do
    number = number + 1
    if line:find '^```' then
      if open and open.lines[1] and open.lines[1]:find '^> ' then
        open.last = number - 1
        blocks[#blocks + 1] = open
      end
      open = not open and { first = number + 1, lines = {} } or nil
    elseif open then
      open.lines[#open.lines + 1] = line
    end
  end
  return blocks
end

-- The inputs of a block: { rows = lines to type, interrupt = text to wait for before Ctrl-C, tab = true }
local function inputs(block)
  local list, i = {}, 1
  while i <= #block.lines do
    local first = block.lines[i]:match '^> (.*)$'
    if first then
      local rows, tab = { first }, nil
      local all = first:gsub('<Tab>$', function()
        tab = true
        return ''
      end)
      while not tab and session.incomplete(all) and block.lines[i + 1] do
        i = i + 1
        rows[#rows + 1] = block.lines[i]:gsub('^%s+', '')
        all = all .. '\n' .. block.lines[i]
      end
      local interrupt
      for k = i + 1, #block.lines do
        if block.lines[k]:find '^> ' then break end
        if block.lines[k]:find '^%^C' then interrupt = block.lines[k - 1] end
      end
      list[#list + 1] = { rows = rows, tab = tab, interrupt = interrupt }
    end
    i = i + 1
  end
  return list
end

--- transcript.play(root, blocks): what the terminal shows for each block, in one session.
function transcript.play(root, blocks, folder)
  local p = pty.start({ 'env', '-C', folder, interpreter, root .. 'bin/masked-torch', '-q' }, { TERM = 'xterm', LANG = 'C.UTF-8',
    LC_ALL = false, NO_COLOR = '1', MASKED_TORCH_HISTORY = '', MASKED_TORCH_THREADS = '1' }, 120)
  local function ready(text) return text:match '[^\n]*$' == '>' and p.screen.column == 3 end
  p:wait_until(ready, 'the prompt')
  local shown = {}
  for b, block in ipairs(blocks) do
    local first, kept = p.screen.row, ''
    for _, input in ipairs(inputs(block)) do
      local continued = kept ~= ''
      for r, row in ipairs(input.rows) do
        if continued then
          assert(row:sub(1, #kept) == kept, row)
          row = row:sub(#kept + 1)
        end
        if input.tab then
          local typed = row:gsub('<Tab>$', '')
          p:send(typed .. '\t')
          local before = p.screen.row
          kept = kept .. typed
          p:wait_until(function(text) return p.screen.row > before and text:match '[^\n]*$' == '> ' .. kept end, 'completions of ' .. kept)
        else
          kept = ''
          p:send(row .. '\r')
          local begun = p.screen.row
          if r < #input.rows then
            p:wait_until(function() return p.screen.row > begun and p.screen.column % 2 == 1 end, 'the next row')
          end
        end
      end
      if input.interrupt then
        p:wait_for('\n' .. input.interrupt)
        p:send '\3'
        p:wait_for 'interrupted'
      end
      if not input.tab then
        local from = p.from
        p:wait_until(function(text) return p.screen.row > from and ready(text) end, 'the prompt after ' .. input.rows[1])
      end
    end
    local lines = p.screen:lines()
    for r = first, p.screen.row - 1 do
      for _, input in ipairs(inputs(block)) do
        if input.tab and '> ' .. input.rows[1]:gsub('<Tab>$', '') == lines[r] then lines[r] = '> ' .. input.rows[1] end
      end
    end
    shown[b] = table.concat(lines, '\n', first, p.screen.row - 1)
  end
  p:send '\4'
  assert(p:finish() == 'exit')
  return shown
end

--- transcript.rewrite(text, blocks, shown): the page with what was shown.
function transcript.rewrite(text, blocks, shown)
  local lines, out, at = {}, {}, 1
  for line in text:gmatch '(.-)\n' do lines[#lines + 1] = line end
  for b, block in ipairs(blocks) do
    for i = at, block.first - 1 do out[#out + 1] = lines[i] end
    out[#out + 1], at = shown[b], block.last + 1
  end
  for i = at, #lines do out[#out + 1] = lines[i] end
  return table.concat(out, '\n') .. '\n'
end

local units = { us = 's', ms = 's', s = 's', bytes = 'B', KB = 'B', MB = 'B', GB = 'B', tensors = 'tensors' }

--- transcript.plain(text): without what differs from run to run: times, sizes of memory.
function transcript.plain(text)
  return (text:gsub('[+-]?%d[%d%.,]* (%a+)', function(unit) return units[unit] and '# ' .. units[unit] end):gsub('([^%S\n])[^%S\n]+', '%1')
    :gsub('%f[%w]masked_torch/([%w_/]+%.lua):%d+', '%1'):gsub('(\n[* ]) ?%d+ (in%[)', '%1 # %2'))
end

return transcript
