--- commands: what a line that begins with a colon does.
--
-- Each entry: {arguments =, text = one line for :help, run = function(repl, rest)}. repl is the object of repl/init.lua: repl.session,
-- repl:print(text), repl:show(answer), repl:run(text).

local color = require 'masked_torch.repl.color'
local native = require 'masked_torch.native'
local session_of = require 'masked_torch.repl.session'
local show = require 'masked_torch.repl.show'
local terminal = require 'masked_torch.train.terminal'
local trace = require 'masked_torch.repl.trace'
local weigh = require 'masked_torch.repl.weigh'
local Tensor = require 'masked_torch.tensor'

local C = native.cpu
local commands = {}

local function fail(format, ...) error(format:format(...), 0) end

-- The value of an expression that follows a command.
local function value_of(repl, rest, command)
  if rest == '' then fail(':%s needs an expression, as in :%s x', command, command) end
  local answer = repl.session:evaluate(rest)
  repl.session.inputs[#repl.session.inputs].ok = nil      -- a look at something: :save leaves it out
  if not answer.ok then return nil, answer end
  return answer.values[1]
end

local function tensor_of(repl, rest, command)
  local value, answer = value_of(repl, rest, command)
  if answer then
    repl:show(answer)
    return nil
  end
  local Mask = package.loaded['masked_torch.mask']
  if Mask and Mask.is_mask(value) then value = value:tensor('float32') end
  if not Tensor.is_tensor(value) then fail(':%s draws tensors; this is %s', command, show.brief(value)) end
  return value
end

commands.map = { arguments = 'x',
  text = 'a tensor as a heat map; of more than two dims, the mean over the first',
  run = function(repl, rest)
  local t = tensor_of(repl, rest, 'map')
  if t then repl:print(require('masked_torch.repl.sketch').map(t)) end
end }

commands.hist = { arguments = 'x', text = 'how the elements of a tensor are distributed, in one line', run = function(repl, rest)
  local t = tensor_of(repl, rest, 'hist')
  if t then repl:print(require('masked_torch.repl.sketch').hist(t)) end
end }

-- ---- time and memory -------------------------------------------------------------------------------------------

local function duration(seconds)
  if seconds < 1e-3 then return ('%.1f us'):format(seconds * 1e6) end
  if seconds < 1 then return ('%.2f ms'):format(seconds * 1e3) end
  return ('%.3f s'):format(seconds)
end
commands.duration = duration

commands.time = { arguments = 'code|on|off',
  text = 'how long it took and what memory it left; on: of every line',
  run = function(repl, rest)
  if rest == 'on' or rest == 'off' then
    repl.timing = rest == 'on'
    return
  end
  if rest == '' then fail ':time needs a statement, or on or off' end
  repl:run(rest, true)
end }

commands.bench = { arguments = 'code', text = 'runs it for about a second: fastest and median time', run = function(repl, rest)
  if rest == '' then fail ':bench needs a statement' end
  local fn, message = repl.session:compile(rest, 'bench')
  if not fn then return repl:show{ ok = false, syntax = true, error = message, text = rest } end
  local times = {}
  local answer = repl.session:call(function()
    fn()
    local begin = terminal.now()
    repeat
      session_of.poll()
      local start = terminal.now()
      fn()
      times[#times + 1] = terminal.now() - start
    until #times >= 10000 or (terminal.now() - begin > 1 and #times >= 3)
  end)
  if not answer.ok then return repl:show(answer) end
  table.sort(times)
  repl:print(('%s fastest, %s median of %d'):format(duration(times[1]), duration(times[math.ceil(#times / 2)]), #times))
end }

-- A line for every GPU that this session has used.
local function print_devices(repl)
  local torch = require 'masked_torch'
  local names = {}
  for name in pairs(Tensor.namespace) do
    if name:find '^cuda:%d' then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local ok, s = pcall(torch.cuda.memory_stats, name)
    if ok then
      repl:print(('%s: %s tensors of %s live, %s at most so far, %s kept for the next ones'):format(name, show.count(s.blocks),
        show.size(s.allocated), show.size(s.peak), show.size(s.cached)))
    end
  end
end

-- Tensors that the session's own variables reach, the largest first.
local function held(session)
  local list = {}
  for name, value in pairs(session.env) do
    if type(value) == 'table' then
      local bytes = weigh(value)
      if bytes > 0 and bytes < math.huge then list[#list + 1] = { name, bytes, show.brief(value) } end
    end
  end
  table.sort(list, function(a, b) return a[2] > b[2] end)
  return list
end

commands.mem = { arguments = '', text = 'live tensors and their bytes per device, and what the variables hold', run = function(repl)
  collectgarbage()
  collectgarbage()
  repl:print(('cpu: %s tensors of %s live, %s at most so far, %s kept for the next ones; Lua: %s'):format(
    show.count(C.mt_memory_blocks()), show.size(C.mt_memory_live()), show.size(C.mt_memory_peak()), show.size(C.mt_memory_cached()),
    show.size(collectgarbage 'count' * 1024)))
  print_devices(repl)
  local list = held(repl.session)
  for i, entry in ipairs(list) do
    if i > 12 then
      repl:print(('... and %d more variables'):format(#list - 12))
      break
    end
    repl:print(('%12s  %s  %s'):format(show.size(entry[2]), entry[1], color.paint('grey', entry[3])))
  end
  local last = repl.session.last_error
  if last and last.trace then
    local bytes = weigh(last.trace)
    if bytes > 0 and bytes < math.huge then
      repl:print(("%12s  the last error's locals (:forget lets them go)"):format(show.size(bytes)))
    end
  end
end }

commands.gc = { arguments = '', text = 'collects garbage and gives freed memory back to the system', run = function(repl)
  local before = C.mt_memory_live() + C.mt_memory_cached()
  collectgarbage()
  collectgarbage()
  native.check(C.mt_memory_empty_cache())
  repl:print(show.size(math.max(0, before - C.mt_memory_live() - C.mt_memory_cached())) .. ' given back')
end }

-- ---- variables -------------------------------------------------------------------------------------------------

commands.who = { arguments = '', text = 'the variables of the session', run = function(repl)
  local names = {}
  for name in pairs(repl.session.env) do names[#names + 1] = name end
  table.sort(names)
  if #names == 0 then repl:print 'nothing yet' end
  for _, name in ipairs(names) do repl:print(('%-12s %s'):format(name, show.brief(repl.session.env[name]))) end
end }

commands.reset = { arguments = '', text = 'forgets all variables and results', run = function(repl)
  local s = repl.session
  for name in pairs(s.env) do s.env[name] = nil end
  for i = 1, 3 do s.results[i] = nil end
  s.last_error = nil
  collectgarbage()
end }

-- ---- after an error --------------------------------------------------------------------------------------------

local function last_trace(repl)
  local last = repl.session.last_error
  if not last or not last.trace or #last.trace.frames == 0 then fail 'there was no error with something to look at' end
  last.frame = last.frame or trace.start(last.trace)
  return last, last.trace.frames
end

commands.where = { arguments = '[all]',
  text = 'the functions that ran when the last error came (all: those of the library too)',
  run = function(repl, rest)
  local last, frames = last_trace(repl)
  for i, frame in ipairs(frames) do
    if rest == 'all' or not frame.library or i == last.frame then
      local line = ('%s %2d  %s'):format(i == last.frame and '*' or ' ', i, trace.describe(frame))
      repl:print(frame.library and color.paint('grey', line) or line)
    end
  end
end }

local function print_locals(repl)
  local last, frames = last_trace(repl)
  local frame = frames[last.frame]
  repl:print(color.paint('grey', trace.describe(frame)))
  if #frame.locals == 0 then repl:print '  no locals' end
  for _, variable in ipairs(frame.locals) do
    repl:print(('  %-12s %s'):format(variable.name, (show.brief(variable.value))))
  end
end

commands.locals = { arguments = '[name]',
  text = 'the local variables there, as they were; with a name: that one, as a result',
  run = function(repl, rest)
  if rest == '' then return print_locals(repl) end
  local last, frames = last_trace(repl)
  for _, variable in ipairs(frames[last.frame].locals) do
    if variable.name == rest then
      repl.session:keep(variable.value)
      return repl:print(show.value(variable.value))
    end
  end
  fail('no local %s there; :where lists the functions, :up and :down move', rest)
end }

local function move(step)
  return function(repl)
    local last, frames = last_trace(repl)
    local i = last.frame + step
    if not frames[i] then fail(step > 0 and 'this is the outermost function' or 'this is the innermost function') end
    last.frame = i
    print_locals(repl)
  end
end

commands.up = { arguments = '', text = 'to the caller', run = move(1) }
commands.down = { arguments = '', text = 'back towards the error', run = move(-1) }
commands.forget = { arguments = '', text = 'lets go of what the last error holds', run = function(repl)
  repl.session.last_error = nil
  collectgarbage()
end }

-- ---- files -----------------------------------------------------------------------------------------------------

commands.load = { arguments = 'file', text = 'runs a script here; its top-level locals become variables', run = function(repl, rest)
  if rest == '' then fail ':load needs a file' end
  repl:show(repl.session:run_file(rest))
end }

commands.reload = { arguments = '[module]',
  text = 'reads a changed module again; objects keep their state and get the new methods',
  run = function(repl, rest)
  local name = rest ~= '' and rest or repl.reloaded
  if not name then fail ':reload needs the name of a module, as in require' end
  if package.loaded[name] == nil then fail("module '%s' has not been loaded", name) end
  repl.reloaded = name
  local reload = require 'masked_torch.repl.reload'
  local answer = repl.session:call(reload.module, name)
  if not answer.ok then return repl:show(answer) end
  local old, new = answer.values[1], answer.values[2]
  local env = repl.session.env
  -- Variables that hold the module or one of its classes hold the new ones.
  for key, value in pairs(env) do
    if value == old then
      env[key] = new
    elseif type(value) == 'table' and type(new) == 'table' and show.is_class(value) and show.is_class(new[rawget(value, '__name')]) then
      env[key] = new[rawget(value, '__name')]
    end
  end
  repl:print('reloaded ' .. name)
end }

local function quote(path) return "'" .. path:gsub("'", "'\\''") .. "'" end

commands.edit = { arguments = '[file]',
  text = 'opens $EDITOR on a file, or on the last input, and runs what was saved',
  run = function(repl, rest)
  local program = os.getenv 'VISUAL' or os.getenv 'EDITOR' or 'vi'
  local path, own = rest, false
  if path == '' then
    own, path = true, os.tmpname()
    os.remove(path)
    path = path .. '.lua'
    local file = assert(io.open(path, 'w'))
    local inputs = repl.session.inputs
    local last = inputs[#inputs]
    file:write(last and last.text or '', '\n')
    file:close()
  end
  local status = os.execute(program .. ' ' .. quote(path))
  local file = (status == 0 or status == true) and io.open(path)
  local text = file and file:read '*a'
  if file then file:close() end
  if own then os.remove(path) end
  if not text then fail('%s did not end well; nothing was run', program) end
  if own then
    if text:find '%S' then
      text = text:gsub('%s+$', '')
      repl:print(color.paint('grey', text))
      repl:input(text)
    end
    return
  end
  -- A module that is loaded: new methods for what exists.
  for name in pairs(package.loaded) do
    if type(name) == 'string' and package.searchpath(name, package.path) == path then return commands.reload.run(repl, name) end
  end
  repl:show(repl.session:run_file(path))
end }

commands.save = { arguments = 'file', text = 'writes the inputs that worked as a script', run = function(repl, rest)
  if rest == '' then fail ':save needs a file' end
  local text, n = require('masked_torch.repl.script')(repl.session)
  local existing = io.open(rest, 'rb')
  if existing then
    existing:close()
    if not repl:confirm(rest .. ' exists; write over it?') then return end
  end
  local file, problem = io.open(rest, 'wb')
  if not file then fail('save: %s', problem) end
  file:write(text)
  file:close()
  repl:print(('%d inputs in %s'):format(n, rest))
end }

commands.history = { arguments = '[text]', text = 'the last inputs, or those with a text in them', run = function(repl, rest)
  local entries, list = repl.history.entries, {}
  for i = #entries, 1, -1 do
    if rest == '' or entries[i]:find(rest, 1, true) then table.insert(list, 1, entries[i]) end
    if #list == 30 then break end
  end
  for _, entry in ipairs(list) do repl:print((entry:gsub('\n', '\n  '))) end
end }

commands.quit = { arguments = '', text = 'leaves, as Ctrl-D does', run = function(repl) repl.leaving = true end }

-- In the order of :help.
local order = { 'map', 'hist', 'time', 'bench', 'mem', 'gc', 'who', 'reset', 'where', 'locals', 'up', 'down', 'forget', 'load', 'reload',
  'edit', 'save', 'history', 'help', 'quit' }

local introduction = [[
Type Lua and see its results: no `=` is needed, a `;` at the end prints nothing; _ is the last result, _2 and _3 those before. Locals of
the prompt stay. Input goes on until it is whole; a blank line ends it. Tab completes, Up and Ctrl-R find earlier input, Ctrl-C stops
what runs, Ctrl-D leaves. torch, nn, F (torch.nn.functional) and optim are there.]]

-- Words in lines as wide as the terminal; what stands before them is `indent` wide.
local function wrapped(text, indent)
  local width, lines, line = math.max(40, terminal.columns() - 1 - indent), {}, nil
  for word in text:gmatch '%S+' do
    if line and #line + #word + 1 > width then
      lines[#lines + 1], line = line, nil
    end
    line = line and line .. ' ' .. word or word
  end
  lines[#lines + 1] = line
  return table.concat(lines, '\n' .. (' '):rep(indent))
end

commands.help = { arguments = '', text = 'this list', run = function(repl)
  repl:print(wrapped(introduction, 0) .. '\n')
  local list = { { '?name', 'documentation of a function, class or variable: ?nn.Conv2d, ?x:sum; help(x) does the same' },
    { '??word', 'where the documentation speaks of it' }, { '$ command', 'runs a command of the shell' } }
  for _, name in ipairs(order) do
    list[#list + 1] = { ':' .. name .. ' ' .. commands[name].arguments, commands[name].text }
  end
  for _, entry in ipairs(list) do
    repl:print(('  %-18s %s'):format(entry[1], wrapped(entry[2], 21)))
  end
end }

local names = {}
for _, name in ipairs(order) do names[name] = commands[name] end
return { list = names, duration = duration }
