--- editor: the line editor: libedit, read key by key.
--
--     local line = editor.open()                    nil where libedit or a terminal is missing
--     local text, what = line:read('> ', { history =, incomplete =, complete =, indent = })
--
-- libedit owns the keyboard: its keys, its ~/.editrc, UTF-8, kill and yank, the drawing of several rows. It runs "unbuffered": after
-- each key it comes back here. Keys that mean something to Lua (Tab, Enter, Ctrl-C, Ctrl-D, the arrows) are bound to "insert
-- yourself"; what they inserted is taken out again and acted upon. So no key calls Lua from C. One C callback remains, the one
-- that names the prompt: made once, and no code here is ever compiled, because a callback below compiled code would end the process.
--
-- Enter ends an input that is whole or wrong, and begins a new row of one that is not; a blank row ends it in any case. Pasted text
-- (bracketed paste) is taken as it is.

jit.off(true, true)

local ffi = require 'ffi'
local poll = require('masked_torch.repl.prompt').poll
local system = require 'masked_torch.native.system'
local terminal = require 'masked_torch.train.terminal'

local editor = {}
local Editor = {}
Editor.__index = Editor

if not pcall(ffi.typeof, 'struct mt_edit_line') then
  ffi.cdef [[
    typedef struct editline mt_edit;
    struct mt_edit_line { const char *buffer, *cursor, *lastchar; };
    mt_edit *el_init(const char *, void *, void *, void *);
    void el_end(mt_edit *);
    const char *el_gets(mt_edit *, int *);
    int el_set(mt_edit *, int, ...);
    int el_source(mt_edit *, const char *);
    void el_resize(mt_edit *);
    const struct mt_edit_line *el_line(mt_edit *);
    int el_insertstr(mt_edit *, const char *);
    void el_deletestr(mt_edit *, int);
    void el_push(mt_edit *, const char *);
    int el_cursor(mt_edit *, int);
    typedef char *(*mt_edit_prompt)(mt_edit *);
    int raise(int);
    long mt_edit_read(int, void *, unsigned long) __asm__("read");
  ]]
end
local C = ffi.C

-- histedit.h
local EDITOR, BIND, SETTY, UNBUFFERED, REFRESH, PROMPT_ESC = 2, 4, 8, 15, 20, 21
local SIGTSTP, CLOSED = 20, 0x38       -- POLLERR, POLLHUP, POLLNVAL
local FAR = 2 ^ 24                     -- beyond every end

local CTRL = { C = '\3', D = '\4', TAB = '\t', ENTER = '\31', N = '\14', P = '\16', R = '\18', Z = '\26',
  PASTE = '\28' }
local REPAINT = '\30'      -- bound to libedit's own redrawing; nobody types it
local special = {}
for _, c in pairs(CTRL) do special[c] = true end

local function word(text) return ffi.cast('const char *', text) end
local function call(el, op, ...)
  local list, n = { ... }, select('#', ...)
  for i = 1, n do
    if type(list[i]) == 'string' then list[i] = word(list[i]) end
  end
  return editor.library.el_set(el, op, unpack(list, 1, n))
end
local NULL = ffi.cast('void *', nil)

-- libedit decodes the keyboard with the locale; a session in the C locale gets one that knows UTF-8.
local function set_locale()
  os.setlocale('', 'ctype')
  if not terminal.is_utf8() then
    return os.setlocale('C.UTF-8', 'ctype') or os.setlocale('C.utf8', 'ctype')
  end
end

--- editor.open(): an editor on standard input and output, or nil and the reason.
function editor.open()
  local term = os.getenv 'TERM'
  if C.isatty(0) == 0 or C.isatty(1) == 0 then return nil, 'not a terminal' end
  if not term or term == '' or term == 'dumb' then return nil, 'the terminal cannot move its cursor' end
  editor.library = editor.library or system.open{ 'libedit.so.2', 'libedit.so.0', 'libedit.3.dylib' }
  if not editor.library then return nil, 'libedit is missing' end
  local L = editor.library
  set_locale()
  local el = L.el_init('masked_torch', io.stdin, io.stdout, io.stderr)
  if el == nil then return nil, 'libedit does not start' end
  local self = setmetatable({ el = el, got = ffi.new 'int[1]' }, Editor)
  self.shown = word ''
  self.prompt = ffi.cast('mt_edit_prompt', function() return ffi.cast('char *', self.shown) end)
  call(el, EDITOR, 'emacs')
  call(el, PROMPT_ESC, self.prompt, ffi.new('int', 1))
  L.el_source(el, nil)
  for c in pairs(special) do call(el, BIND, c, 'ed-insert', NULL) end
  call(el, BIND, REPAINT, 'ed-redisplay', NULL)
  for _, key in ipairs{
    { '\r', CTRL.ENTER }, { '\n', CTRL.ENTER },   -- not as itself: libedit loses count of its rows when a row break is typed
    { '\27[A', CTRL.P }, { '\27OA', CTRL.P }, { '\27[B', CTRL.N }, { '\27OB', CTRL.N },
    { '\27[200~', CTRL.PASTE } } do
    call(el, BIND, '-s', key[1], key[2], NULL)
  end
  for _, key in ipairs{ { '\27[H', 'ed-move-to-beg' }, { '\27[F', 'ed-move-to-end' }, { '\27[1~', 'ed-move-to-beg' },
    { '\27[4~', 'ed-move-to-end' }, { '\27[3~', 'ed-delete-next-char' }, { '\27[1;5D', 'ed-prev-word' },
    { '\27[1;5C', 'em-next-word' } } do
    call(el, BIND, key[1], key[2], NULL)
  end
  call(el, SETTY, '-d', '-isig', NULL)
  return self
end

-- ---- the buffer ------------------------------------------------------------------------------------------------

-- Its text, and how many bytes stand before the cursor.
function Editor:line()
  local line = editor.library.el_line(self.el)
  return ffi.string(line.buffer, line.lastchar - line.buffer), tonumber(line.cursor - line.buffer)
end

-- Replaces everything; the cursor goes behind `cursor` bytes, or to the end.
function Editor:set(text, cursor)
  local L, el = editor.library, self.el
  local old = self:line()
  L.el_cursor(el, FAR)
  L.el_deletestr(el, terminal.length(old))
  if text ~= '' then L.el_insertstr(el, text) end
  if cursor and cursor < #text then L.el_cursor(el, -terminal.length(text:sub(cursor + 1))) end
end

-- Draws the input again where it stands. EL_REFRESH would begin at the cursor, wherever that is: for a fresh row only.
function Editor:repaint()
  editor.library.el_push(self.el, REPAINT)
  editor.library.el_gets(self.el, self.got)
end

-- Below the input: the cursor leaves its last row.
function Editor:below()
  editor.library.el_cursor(self.el, FAR)
  self:repaint()
  io.stdout:write '\n'
end

-- ---- keys ------------------------------------------------------------------------------------------------------

local function rows_before(text, cursor) return select(2, text:sub(1, cursor):gsub('\n', '')) end

-- Candidates in columns.
function Editor.list(candidates)
  local width = 0
  for _, candidate in ipairs(candidates) do width = math.max(width, terminal.length(candidate)) end
  local columns = math.max(1, math.floor((terminal.columns() + 1) / (width + 2)))
  local most = columns * 12
  local rows = math.ceil(math.min(#candidates, most) / columns)
  local lines = {}
  for r = 1, rows do
    local cells = {}
    for c = 1, columns do
      local candidate = candidates[(c - 1) * rows + r]
      if candidate then cells[c] = candidate .. (' '):rep(width - terminal.length(candidate)) end
    end
    lines[r] = table.concat(cells, '  '):gsub('%s+$', '')
  end
  if #candidates > most then lines[#lines + 1] = ('... and %d more'):format(#candidates - most) end
  return table.concat(lines, '\n')
end

local function common_prefix(list)
  local prefix = list[1]
  for _, text in ipairs(list) do
    while text:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

-- True when the input has been drawn already.
function Editor:complete(text, cursor, hooks)
  local before = text:sub(1, cursor)
  if before:match '[^\n]*$' :find '^%s*$' then      -- nothing to complete: Tab indents
    self:set(before .. '  ' .. text:sub(cursor + 1), cursor + 2)
    return
  end
  local from, candidates, shown = hooks.complete(text, cursor)
  if not candidates or #candidates == 0 then
    io.stdout:write '\a'
    return
  end
  local typed, prefix = before:sub(from), common_prefix(candidates)
  if #prefix > #typed or #candidates == 1 then
    local new = before:sub(1, from - 1) .. prefix
    self:set(new .. text:sub(cursor + 1), #new)
  else
    self:below()
    io.stdout:write(self.list(shown or candidates), '\n')
    self:set(text, cursor)
    call(self.el, REFRESH)
    return true
  end
end

-- Up and down move between rows first, then through the entries that begin with what was typed; Ctrl-R finds it anywhere.
function Editor:recall(text, cursor, step, hooks, anywhere)
  local history = hooks.history
  if not history then return end
  if not anywhere then
    local rows, row = rows_before(text, #text), rows_before(text, cursor)
    local target = row + step
    if target >= 0 and target <= rows and not self.recalling then
      local column = #text:sub(1, cursor):match '[^\n]*$'
      local position = 0
      for _ = 1, target do position = text:find('\n', position + 1, true) end
      local length = #text:sub(position + 1):match '^[^\n]*'
      self:set(text, position + math.min(column, length))
      return
    end
  end
  if self.recalled ~= text then        -- something was typed since: it is what is looked for
    self.at, self.query, self.draft = #history.entries + 1, text, text
  end
  local found = history:search(self.query, self.at, step, anywhere)
  while found and history.entries[found] == text do found = history:search(self.query, found, step, anywhere) end
  if found then
    self.at, self.recalled = found, history.entries[found]
    self:set(self.recalled)
  elseif step > 0 and self.at <= #history.entries then
    self.at, self.recalled = #history.entries + 1, self.draft
    self:set(self.draft)
  else
    io.stdout:write '\a'
  end
end

-- The row of the cursor, moved left where it closes a block.
local function dedent(text, cursor, indent)
  local start = #text:sub(1, cursor):gsub('[^\n]*$', '')
  local row = text:sub(start + 1, cursor)
  local blank, first = row:match '^(%s*)([%a})%]]+)'
  if not first or not (first == 'end' or first == 'else' or first == 'elseif' or first == 'until' or first:find '^[})%]]') then
    return text, cursor
  end
  local wanted = ('  '):rep(math.max(0, indent(text:sub(1, start)) - 1))
  if wanted == blank then return text, cursor end
  return text:sub(1, start) .. wanted .. text:sub(start + #blank + 1), cursor - #blank + #wanted
end

-- The pasted text, up to the mark behind it. Read past libedit, whose drawing of every character would take its time; byte by byte,
-- because what follows the mark is libedit's.
local PASTED = '\27[201~'
function Editor.pasted()
  local parts, byte = {}, ffi.new 'char[1]'
  local text
  repeat
    if C.mt_edit_read(0, byte, 1) <= 0 then break end
    parts[#parts + 1] = ffi.string(byte, 1)
    text = parts[#parts] == '~' and table.concat(parts, '', math.max(1, #parts - 5))
  until text == PASTED
  text = table.concat(parts, '', 1, text == PASTED and #parts - #PASTED or #parts)
  return (text:gsub('\r\n?', '\n'):gsub('\t', '  '):gsub('[%z\1-\9\11-\31\127]', ''))
end

-- What Enter does: true when the input is done.
function Editor:enter(text, cursor, hooks)
  local last = not text:find('\n', cursor + 1, true)
  local row = text:sub(1, cursor):match '[^\n]*$'
  local blank = text:find '\n' and row:find '^%s*$' and text:sub(cursor + 1):find '^%s*$'
  if blank or (last and not hooks.incomplete(text)) then
    self:set((dedent(text, cursor, hooks.indent)))
    return true
  end
  text, cursor = dedent(text, cursor, hooks.indent)
  local new = text:sub(1, cursor) .. '\n' .. ('  '):rep(hooks.indent(text:sub(1, cursor)))
  self:set(new .. text:sub(cursor + 1), #new)
end

-- Leaves the terminal as programs expect it, and takes it back.
function Editor:stop()
  io.stdout:write '\27[?2004l'
  io.stdout:flush()
  call(self.el, UNBUFFERED, ffi.new('int', 0))
end

function Editor:start()
  editor.library.el_resize(self.el)
  self.columns = terminal.columns()
  io.stdout:write '\27[?2004h'
  io.stdout:flush()
  call(self.el, UNBUFFERED, ffi.new('int', 1))
end

--- line:read(prompt, hooks): the text of one input; nil and 'end' at the end of the input (Ctrl-D on nothing), nil and 'interrupt' after
-- Ctrl-C. Parts of the prompt between two \1 take no room.
function Editor:read(prompt, hooks)
  self.shown_text = prompt           -- C reads it
  self.shown = word(prompt)
  self.recalled, self.recalling = nil, false
  self:start()
  local text, what
  repeat
    text, what = self:key(hooks)
  until what
  if what ~= 'end' then self:below() end
  self:stop()
  if what == 'end' then io.stdout:write '\n' end
  if what == 'done' then return text end
  return nil, what
end

-- One key. Returns the text and 'done', 'end' or 'interrupt' when the input is over.
function Editor:key(hooks)
  if editor.library.el_gets(self.el, self.got) == nil then
    -- An empty line and the end of the input look alike.
    if bit.band(poll(0), CLOSED) ~= 0 then return nil, 'end' end
    return
  end
  local text, cursor = self:line()
  local c = text:sub(cursor, cursor)
  local recall = c == CTRL.P or c == CTRL.N or c == CTRL.R
  if terminal.columns() ~= self.columns then       -- the window has changed its size since the last key
    self.columns = terminal.columns()
    editor.library.el_resize(self.el)
    if not special[c] then self:repaint() end
  end
  if not special[c] then
    self.recalling = false
    return
  end
  text, cursor = text:sub(1, cursor - 1) .. text:sub(cursor + 1), cursor - 1
  self:set(text, cursor)
  local result, what, drawn
  if c == CTRL.PASTE then
    local pasted = self.pasted()
    self:set(text:sub(1, cursor) .. pasted .. text:sub(cursor + 1), cursor + #pasted)
  elseif c == CTRL.C then
    result, what = nil, 'interrupt'
  elseif c == CTRL.D then
    if text == '' then return nil, 'end' end
    if cursor < #text then
      local following = text:match('^.[\128-\191]*', cursor + 1)
      self:set(text:sub(1, cursor) .. text:sub(cursor + #following + 1), cursor)
    end
  elseif c == CTRL.TAB then
    drawn = self:complete(text, cursor, hooks)
  elseif c == CTRL.P or c == CTRL.N then
    self:recall(text, cursor, c == CTRL.P and -1 or 1, hooks)
  elseif c == CTRL.R then
    self:recall(text, cursor, -1, hooks, true)
  elseif c == CTRL.Z then
    self:stop()
    C.raise(SIGTSTP)
    self:start()
    self:set(text, cursor)
  elseif self:enter(text, cursor, hooks) then
    result, what = self:line(), 'done'
  end
  self.recalling = recall
  if not drawn and not what then self:repaint() end
  return result, what
end

--- line:close(): gives the terminal back.
function Editor:close()
  if not self.el then return end
  editor.library.el_end(self.el)
  self.prompt:free()
  self.el = nil
end

return editor
