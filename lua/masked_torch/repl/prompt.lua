--- prompt: lines without an editor: from a pipe or a file, and at terminals that cannot move their cursor.
--
--     local line = prompt.open()
--     local text, what = line:read('> ', { incomplete = })
--
-- The interface of repl/editor.lua. At a terminal Ctrl-C leaves the input that was begun, and a blank line ends it; a pipe goes on
-- to the end of what is not whole.

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local Prompt = {}
Prompt.__index = Prompt

local prompt = {}

if not pcall(ffi.typeof, 'struct mt_wait') then
  ffi.cdef [[
    struct mt_wait { int fd; short events, revents; };
    int mt_poll_stdin(struct mt_wait *, unsigned long, int) __asm__("poll");
  ]]
end

local wait = ffi.new('struct mt_wait', { 0, 1, 0 })

--- prompt.poll(milliseconds): waits for standard input (-1: for ever). What happened, as bits of poll(2); -1 after a signal, 0 in vain.
function prompt.poll(milliseconds)
  wait.revents = 0
  local n = ffi.C.mt_poll_stdin(wait, 1, milliseconds)
  return n > 0 and wait.revents or n
end

--- prompt.open(): reads standard input. line.interactive: is it a terminal?
function prompt.open()
  return setmetatable({ interactive = ffi.C.isatty(0) == 1 }, Prompt)
end

-- A line; nil at the end; false after Ctrl-C. Reading itself goes on after a signal, waiting does not.
function Prompt:line()
  if self.interactive then
    while prompt.poll(-1) < 0 do
      if native.cpu.mt_cancel_pending() ~= 0 then
        native.cpu.mt_cancel_set(0)
        io.stdout:write '\n'
        return false
      end
    end
  end
  return (io.read '*l')
end

function Prompt:ask(text)
  if not self.interactive then return end
  io.stdout:write(text)
  io.stdout:flush()
end

function Prompt:read(text, hooks)
  local shown = text:gsub('\1[^\1]*\1', '')
  self:ask(shown)
  local lines = {}
  while true do
    local line = self:line()
    if line == false then return nil, 'interrupt' end
    if line == nil then
      if self.interactive then io.stdout:write '\n' end
      if #lines == 0 then return nil, 'end' end
      return table.concat(lines, '\n'), 'done'
    end
    lines[#lines + 1] = line
    local all = table.concat(lines, '\n')
    if not hooks.incomplete(all) or self.interactive and #lines > 1 and line:find '^%s*$' then return all, 'done' end
    self:ask(('.'):rep(#shown - 1) .. ' ')
  end
end

function Prompt.close() end

return prompt
