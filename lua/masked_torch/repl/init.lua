--- repl: the prompt. `masked-torch`, `luajit -l masked_torch.repl`, or in the middle of a script torch.repl.here().
--
--     > local x = torch.randn(2, 3)
--     > x:sum(2)
--     tensor([ 1.2345, -0.6789])
--     float32 (2) cpu
--
-- This file reads, runs and prints. Its parts: editor (libedit) and prompt (none) read lines; session compiles and runs them; show,
-- sketch and help make text; complete answers Tab; commands are the words behind a colon. docs/repl.md is a session.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local color = require 'masked_torch.repl.color'
local history = require 'masked_torch.repl.history'
local session_of = require 'masked_torch.repl.session'
local show = require 'masked_torch.repl.show'
local terminal = require 'masked_torch.train.terminal'

local C = native.cpu

local Repl = {}
Repl.__index = Repl

local repl = {}
--- The class of a running prompt; repl.here and repl.main make one.
repl.Repl = Repl

-- ---- output ----------------------------------------------------------------------------------------------------

function Repl.print(_, text) io.stdout:write(text, '\n') end

-- The message without positions that say nothing: that of a line which was typed alone, and that of the launcher.
local function plain_message(answer)
  local message = answer.error
  if type(message) ~= 'string' then return show.value(message), nil end
  local path = arg and arg[0]
  if path and message:sub(1, #path + 1) == path .. ':' then message = message:sub(#path + 2):gsub('^%d+: ', '') end
  local number, line, text = message:match '^in%[(%d+)%]:(%d+): (.*)$'
  if not number then return message, nil end
  local several = answer.text and answer.text:find '\n'
  if tonumber(number) ~= answer.number and not answer.syntax then return message, nil end
  return several and ('line %s: %s'):format(line, text) or text, tonumber(line)
end

-- The line of a mistake with a mark below the word that the compiler names.
local function marked(text, number, message)
  local n = 0
  for line in (text .. '\n'):gmatch '(.-)\n' do
    n = n + 1
    if n == number then
      local near = message:match "near '(.-)'$"
      local from = near and near ~= '<eof>' and line:find(near, 1, true) or #line + 1
      if #line > terminal.columns() or not line:find '%S' then return nil end
      return ('  %s\n  %s%s'):format(line, (' '):rep(from - 1), color.paint('red', '^'))
    end
  end
end

-- A name that does not exist, as the one who typed it may have meant it.
local function meant(message)
  local name = message:match "attempt to call [fm]%a+ '([%a_][%w_]*)' %(a nil value%)"     -- a field or a method
  return name and require('masked_torch.options').nearest(name, require('masked_torch.repl.source').names())
end

function Repl:show_error(answer)
  io.stdout:flush()
  local message, line = plain_message(answer)
  if answer.interrupted then
    local where = type(answer.error) == 'string' and answer.error:match '^(in%[%d+%]:%d+): ' or ''
    local several = answer.text and answer.text:find '\n'
    where = several and where ~= '' and ' at ' .. where:gsub('^.-:', 'line ') or ''
    io.stderr:write(color.paint('yellow', 'interrupted'), where, '\n')
    return
  end
  io.stderr:write(color.paint('red', 'error: '), message, '\n')
  if answer.syntax and answer.text then
    local mark = marked(answer.text, line or 1, message)
    if mark then io.stderr:write(mark, '\n') end
    return
  end
  local near = meant(message)
  if near then io.stderr:write(color.paint('grey', ('  did you mean %s? ?%s explains it'):format(near, near)), '\n') end
  local frames = answer.trace and answer.trace.frames or {}
  local locals = false
  for _, frame in ipairs(frames) do
    locals = locals or #frame.locals > 0
    if not frame.library and frame.what ~= 'main' then
      io.stderr:write(color.paint('grey', ('  %s:%d  in %s'):format(frame.file, frame.line, frame.name and "'" .. frame.name .. "'" or
        'a function')), '\n')
    end
  end
  if locals and self.interactive and not self.hinted then
    self.hinted = true
    io.stderr:write(color.paint('grey', '  :locals shows the variables there, :where the calls'), '\n')
  end
end

--- repl:show(answer): prints what an input gave.
function Repl:show(answer)
  if not answer.ok then
    self.failed = true
    return self:show_error(answer)
  end
  local values = answer.values
  if values.n > 0 and values[1] ~= nil then
    local kept = self.session:keep(values[1])
    if not kept and not answer.silent then
      local bytes = require('masked_torch.repl.weigh')(values[1])
      self.not_kept = bytes < math.huge and show.size(bytes) or 'many tables'
    end
  end
  if answer.silent then return end
  for i = 1, values.n do
    local ok, text = pcall(show.value, values[i])
    self:print(ok and text or ('(%s that cannot be printed: %s)'):format(type(values[i]), tostring(text)))
  end
  if self.not_kept then
    self:print(color.paint('grey', ('(%s: not kept as _; give it a name)'):format(self.not_kept)))
    self.not_kept = nil
  end
end

--- repl:confirm(question): asks at a terminal; elsewhere the answer is no.
function Repl:confirm(question)
  if not self.interactive then
    self:print(question .. ' no (there is nobody to ask)')
    return false
  end
  local text = self.reader:read(question .. ' [y/n] ', { incomplete = function() return false end, indent = function() return 0 end,
    complete = function() end })
  return text ~= nil and text:find '^%s*[yY]' ~= nil
end

-- ---- one input -------------------------------------------------------------------------------------------------

--- repl:run(text, [timed]): evaluates Lua and prints what it gave.
function Repl:run(text, timed)
  local bytes, lua, begin = C.mt_memory_live(), collectgarbage 'count', terminal.now()
  local answer = self.session:evaluate(text)
  local seconds = terminal.now() - begin
  if timed or self.timing then
    answer.cost = ('%s, tensors %+.1f MB, Lua %+.1f MB'):format(require('masked_torch.repl.commands').duration(seconds),
      (C.mt_memory_live() - bytes) / 2 ^ 20, (collectgarbage 'count' - lua) / 1024)
  end
  self:show(answer)
  if answer.cost then self:print(color.paint('grey', answer.cost)) end
end

-- `?name` and `??word`
function Repl:explain(text)
  local help = require 'masked_torch.repl.help'
  local marks, name = text:match '^%s*(%?+)%s*(.-)%s*$'
  if name == '' then return require('masked_torch.repl.commands').list.help.run(self, '') end
  if #marks > 1 then return self:print(help.search(name)) end
  local value
  if name:find '^[%a_][%w_%.:%[%]\'"]*$' then
    local fn = loadstring('return ' .. name:gsub(':', '.'))
    if fn then
      local answer = self.session:call(setfenv(fn, self.session.env))
      value = answer.ok and answer.values[1] or nil
      if not answer.ok then self.session.last_error = nil end
    end
  end
  self:print(help.about(name, value))
end

function Repl:command(text)
  local name, rest = text:match '^%s*:(%S*)%s*(.-)%s*$'
  local list = require('masked_torch.repl.commands').list
  local command = list[name]
  if not command then
    local near = require('masked_torch.options').nearest(name, list)
    error(('no command :%s%s'):format(name, near and (' (did you mean :%s?)'):format(near) or '; :help lists them'), 0)
  end
  command.run(self, rest)
end

--- repl:input(text): what was typed, whatever it is.
function Repl:input(text)
  if not text:find '%S' then return end
  local mark = text:match '^%s*([:?$])'
  if not mark then return self:run(text) end
  local ok, problem = pcall(function()
    if mark == ':' then return self:command(text) end
    if mark == '?' then return self:explain(text) end
    io.stdout:flush()
    os.execute((text:gsub('^%s*%$', '')))
  end)
  if not ok then
    self.failed = true
    self:show_error{ ok = false, error = problem }
  end
  -- LuaJIT's handler may have seen a Ctrl-C meanwhile.
  self:guard()
end

-- ---- reading ---------------------------------------------------------------------------------------------------

-- How many blocks and brackets are open at the end of a text.
local function indent(text)
  local lexer = require 'masked_torch.repl.lexer'
  local tokens = {}
  for _, token in ipairs(lexer.tokens(text)) do
    if token.open then return 0 end
    if token.kind ~= 'comment' then tokens[#tokens + 1] = token end
  end
  local block, bracket = lexer.depths(tokens)
  return block + bracket
end

function Repl.open_reader(plain)
  local reader
  if not plain then reader = require('masked_torch.repl.editor').open() end
  return reader or require('masked_torch.repl.prompt').open()
end

-- SIGINT sets the flag that kernels and loops look at; a second one, before the first is taken, goes to LuaJIT.
function Repl.guard()
  native.check(C.mt_cancel_restore())
  native.check(C.mt_cancel_install())
  debug.sethook()
end

-- A guarded training run that Ctrl-C ends would end the session; here it comes back to the prompt.
local function leave_training() error('interrupted', 0) end

--- repl:loop(): reads and runs until the input ends. Returns false when an input of a pipe failed: the rest is not run.
function Repl:loop()
  local hooks = { history = self.history, incomplete = session_of.incomplete, indent = indent,
    complete = function(text, cursor)
      local complete = require 'masked_torch.repl.complete'
      local ok, from, list = pcall(complete, self.session, text, cursor, require('masked_torch.repl.commands').list)
      if ok then return from, list end
    end }
  native.leave = leave_training
  local shown = color.on and '\1\27[1;32m\1>\1\27[0m\1 ' or '> '
  while not self.leaving do
    self:guard()
    local text, what = self.reader:read(shown, hooks)
    if text then
      if self.interactive then
        local problem = self.history:add(text)
        if problem then io.stderr:write(problem, '\n') end
      end
      self.failed = false
      self:guard()
      self:input(text)
      io.stdout:flush()
      if self.failed and not self.interactive then return false end
    elseif what == 'end' then
      break
    end
  end
  return true
end

local function banner()
  local text = ('masked_torch %s, %s, %d thread%s (%s)'):format(native.version, jit.version, C.mt_threads_get(),
    C.mt_threads_get() == 1 and '' or 's', ffi.string(C.mt_isa()))
  return text .. '\n' .. color.paint('grey', '?name explains, Tab completes, :help lists the rest, Ctrl-D leaves')
end

--- repl.new([options]): a prompt without its loop. variables: a table of names to begin with; plain = true: no line editing.
function repl.new(opts)
  opts = opts or {}
  local self = setmetatable({ timing = false, interactive = ffi.C.isatty(0) == 1 }, Repl)
  color.on = opts.color ~= false and color.detect(1) and color.detect(2)
  self.session = session_of.new{ help = function(value)
    if value == nil then return self:command ':help' end
    self:print(require('masked_torch.repl.help').text(value, type(value) == 'string' and value or nil))
  end }
  for name, value in pairs(opts.variables or {}) do self.session.env[name] = value end
  self.history = history.open(self.interactive and history.path() or nil)
  return self
end

--- repl.start([options]): the prompt, until the input ends. options: variables, quiet = true (no banner), plain = true (no line
-- editing), color = false. Returns false when piped input failed.
function repl.start(opts)
  opts = opts or {}
  local self = opts.repl or repl.new(opts)
  if self.interactive and not opts.quiet then self:print(banner()) end
  self.reader = Repl.open_reader(opts.plain)
  local loader = session_of.Session.loader()
  table.insert(package.loaders, 2, loader)
  local before = native.leave
  local ok, result = pcall(self.loop, self)
  native.leave = before
  for i, other in ipairs(package.loaders) do
    if other == loader then table.remove(package.loaders, i) end
  end
  self.reader:close()
  C.mt_cancel_restore()
  if not ok then error(result, 0) end
  return result
end

--- repl.here(): a prompt in the middle of a script, which sees and changes the local variables of its caller. Ctrl-D goes on.
function repl.here()
  local self = repl.new()
  local env, position = self.session.env, {}
  for i = 1, 250 do
    local name, value = debug.getlocal(2, i)
    if not name then break end
    if name:find '^[%a_]' then env[name], position[name] = value, i end
  end
  repl.start{ repl = self, quiet = true }
  for name, i in pairs(position) do debug.setlocal(2, i, rawget(env, name)) end
end

--- repl.main(arguments): the program masked-torch. Returns its exit status.
function repl.main(arguments) return require 'masked_torch.repl.main' (repl, arguments) end

-- luajit -l masked_torch.repl: nothing but LuaJIT itself has asked for this module, and there is no script to run afterwards.
local function asked_by_luajit()
  if not arg or arg[0] then return false end
  for level = 3, 20 do
    local info = debug.getinfo(level, 'S')
    if not info then return true end
    if info.what ~= 'C' then return false end
  end
end

if ... == 'masked_torch.repl' and asked_by_luajit() then
  package.loaded[...] = repl
  os.exit(repl.main {})
end

return setmetatable(repl, { __call = function(_, opts) return repl.start(opts) end })
