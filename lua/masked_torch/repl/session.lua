--- session: the variables of the prompt, and what happens to a line of Lua.
--
--     local s = session.new()
--     local answer = s:evaluate 'local x = 1; x + 1'
--     answer.ok, answer.values (n =), answer.silent, answer.error, answer.trace, answer.interrupted
--
-- Knows no terminal: repl/init.lua reads and prints.
--
-- Variables live in one table, whose reads fall through to what every session has (torch, nn, F, optim, help, results) and then to
-- Lua's globals; writes stay in it. Nothing of a session reaches the library or scripts.

local native = require 'masked_torch.native'
local rewrite = require 'masked_torch.repl.rewrite'
local trace = require 'masked_torch.repl.trace'
local weigh = require 'masked_torch.repl.weigh'

local C = native.cpu

local Session = {}
Session.__index = Session

local session = { Session = Session }

local INTERRUPTED = 'interrupted'
-- A result with more bytes than this, what hangs on it included, is not kept alive by the prompt.
local KEEP_BYTES = 64 * 2 ^ 20

-- Called at the beginning of every round of a loop that was typed or loaded here. The flag stays set until the prompt takes it
-- back: a pcall inside the loop must not swallow Ctrl-C.
local function poll()
  if C.mt_cancel_pending() ~= 0 then error(INTERRUPTED, 2) end
end
session.poll = poll
local function values(...) return ... end

local POLL, HERE = '__poll()', 'masked_torch.repl'
package.loaded[HERE .. '.poll'] = poll

--- session.new([base]): base is a table of names that every line sees.
function session.new(base)
  local self = setmetatable({ results = {}, inputs = {}, number = 0, declared = {} }, Session)
  local torch = require 'masked_torch'
  self.base = setmetatable(base or {}, { __index = _G })
  self.base.torch, self.base.__poll, self.base.__values = torch, poll, values
  self.base.dofile = function(path)
    local fn, problem = session.load_file(path)
    if not fn then error(problem, 2) end
    local function pass(...) return ... end      -- no tail call: the line that asks has a number
    return pass(fn())
  end
  self.base.loadstring = function(text, name)
    local fn = type(text) == 'string' and loadstring(session.prepared(text), name or text)
    if fn then return fn end
    return loadstring(text, name)
  end
  local results, names = self.results, self.base
  local numbers = { _ = 1, _1 = 1, _2 = 2, _3 = 3 }
  self.env = setmetatable({}, { __index = function(_, key)
    local n = numbers[key]
    if n then
      local result = results[n]
      return result and result.held[1]
    end
    if names[key] ~= nil then return names[key] end
    -- Not before somebody asks: a session starts in the time that tensors take to load.
    if key == 'nn' then return torch.nn end
    if key == 'F' then return torch.nn.functional end
    if key == 'optim' then return torch.optim end
  end })
  self.lazy_names = { 'nn', 'F', 'optim' }
  return self
end

-- ---- results ---------------------------------------------------------------------------------------------------

-- A value that is held, or only remembered as long as something else holds it.
local function holder(value, strongly)
  if strongly then return { value } end
  return setmetatable({ value }, { __mode = 'v' })
end

local function plain(value)
  local kind = type(value)
  return kind == 'number' or kind == 'string' or kind == 'boolean'
end

--- session:keep(value): makes it `_`; the last three stay in reach as _1 (the same), _2, _3. Numbers and strings stay. A tensor, or what
-- may hold tensors, is held for the next line alone, and not at all above 64 MB: returns false then.
function Session:keep(value)
  if value == nil then return true end
  local small = plain(value) or weigh(value, KEEP_BYTES) <= KEEP_BYTES
  table.insert(self.results, 1, { held = holder(value, small), age = 0 })
  self.results[4] = nil
  return small
end

-- Before a line runs that does not speak of results: lets go what was held for it.
function Session:age_results(text)
  local mentioned = (' ' .. text .. ' '):find '[^%w_%.:]_[123]?[^%w_]'
  for _, result in ipairs(self.results) do
    local value = result.held[1]
    if result.age > 0 and not mentioned and value ~= nil and not plain(value) then result.held = holder(value, false) end
    result.age = result.age + 1
  end
end

-- ---- compiling -------------------------------------------------------------------------------------------------

local function compiles(text) return loadstring(text, '=') ~= nil end
local function ends_early(text)
  local ok, message = loadstring(text, '=')
  if ok or not message:find "near '<eof>'$" then return false end
  -- A string without its quote is a mistake, unless its line ends in a backslash.
  return not message:find('unfinished string', 1, true) or text:find '\\$' ~= nil
end

--- session.incomplete(text): would more lines make it Lua? Only text that the compiler reads to its end counts; a mistake does not.
function session.incomplete(text)
  if text:find '^%s*[:?$]' then return false end
  text = text:gsub('^%s*=', 'return ')
  if compiles(text) or compiles('return ' .. text) or rewrite.last(text, compiles) then return false end
  return ends_early(text) or ends_early('return ' .. text)
end

-- The function of a text, or nil and the compiler's message. Its errors speak of "in[<number>]".
function Session:compile(text, name)
  local given, silent = rewrite.silenced(text)
  given = given:gsub('^(%s*)=', '%1')
  -- In parentheses of a call, so that what is called is not a tail call: its caller has a line number.
  local before, expression = '', compiles('return ' .. given) and given
  if not expression then before, expression = rewrite.last(given, compiles) end
  local source = text
  if expression then
    -- A comment at the end must not swallow the parenthesis; without one the line numbers are simpler.
    source = ('%sreturn __values(%s%s)'):format(before, expression, rewrite.ends_in_comment(expression) and '\n' or '')
  end
  local declared
  source, declared = rewrite.locals(source)
  source = rewrite.polls(source, POLL)
  local fn, message = loadstring(source, '=' .. name)
  if not fn then
    -- The message should speak of what was typed; of an expression, where it goes wrong rather than that it is no statement.
    local _, plainly = loadstring(text, '=' .. name)
    local _, returned = loadstring('return ' .. given, '=' .. name)
    local first = ("near '%s'"):format(given:match '^%s*([%w_]*)')
    if plainly and (plainly:find("'=' expected near", 1, true) or plainly:find(first, 1, true)) and returned and
      not returned:find("'<eof>' expected", 1, true) and not returned:find(first, 1, true) then
      plainly = returned
    end
    return nil, plainly or message
  end
  return setfenv(fn, self.env), silent, declared, expression ~= nil
end

-- ---- running ---------------------------------------------------------------------------------------------------

local function pack(...) return { n = select('#', ...), ... } end

-- Errors inside networks are caught and raised again with the path of the layer: what stood there is taken on the way.
function Session:observer()
  return function(message)
    if not (self.observed and self.observed.message == message) then self.observed = trace.take(message, self.stop) end
    return message
  end
end

-- The trace of an error that reached the prompt: the one taken deeper, where it is the same error.
function Session:trace_of(message)
  local inner = self.observed
  if inner and type(message) == 'string' and type(inner.message) == 'string' then
    local _, text = native.split_position(inner.message)
    if message:sub(-#text) == text then
      inner.message = message
      return inner
    end
  end
  return trace.take(message, self.stop)
end

local function is_interruption(message)
  return type(message) == 'string' and message:find(INTERRUPTED .. '!?$') ~= nil
end

--- session:call(fn, ...): runs it as the prompt runs a line: Ctrl-C stops it, an error is a value. Returns an answer.
function Session:call(fn, ...)
  C.mt_cancel_set(0)
  native.keep_interrupt = true
  self.observed, self.stop = nil, Session.call
  native.observe(self:observer())
  local taken
  local results = pack(xpcall(fn, function(message)
    taken = self:trace_of(message)
    return message
  end, ...))
  native.observe(nil)
  native.keep_interrupt = false
  self.observed = nil
  debug.sethook()                        -- of a Ctrl-C that LuaJIT's own handler has seen
  local pressed = C.mt_cancel_pending() ~= 0
  C.mt_cancel_set(0)
  if results[1] then return { ok = true, values = { n = results.n - 1, unpack(results, 2, results.n) } } end
  local answer = { ok = false, error = results[2], trace = taken or trace.take(results[2]),
    interrupted = pressed or is_interruption(results[2]) }
  self.last_error = answer
  return answer
end

--- session:evaluate(text): compiles and runs one input. See the head of this file for what it returns.
function Session:evaluate(text)
  self.number = self.number + 1
  local name = ('in[%d]'):format(self.number)
  local fn, silent, declared, expression = self:compile(text, name)
  local entry = { text = text, number = self.number, expression = expression, silent = silent }
  self.inputs[#self.inputs + 1] = entry
  if not fn then return { ok = false, error = silent, syntax = true, text = text } end
  self:age_results(text)
  local before = {}
  for key, value in pairs(self.env) do
    if type(value) == 'table' and type(rawget(value, '__name')) == 'string' then before[key] = value end
  end
  local answer = self:call(fn)
  entry.ok = answer.ok
  for _, key in ipairs{ '_', '_1', '_2', '_3' } do rawset(self.env, key, nil) end
  for _, declared_name in ipairs(declared) do self.declared[declared_name] = true end
  self:follow_classes(before)
  answer.silent, answer.text, answer.number = silent, text, self.number
  return answer
end

--- session:follow_classes(before): a class that was defined again replaces the methods of the objects of the old one.
function Session:follow_classes(before)
  local reload
  for key, old in pairs(before) do
    local new = rawget(self.env, key)
    if new ~= old and type(new) == 'table' and rawget(old, '__name') == rawget(new, '__name') then
      reload = reload or require 'masked_torch.repl.reload'
      reload.follow(old, new)
    end
  end
end

-- ---- files -----------------------------------------------------------------------------------------------------

--- session.prepared(text, [keep]): a file's text with polls in its loops and, when its locals are wanted, a call that reads them behind
-- its last statement.
function session.prepared(text, keep)
  local first = text:match '^#[^\n]*' or ''
  local body = rewrite.polls(text:sub(#first + 1), POLL)
  if not keep then return ("local __poll = require '%s.poll' %s"):format(HERE, body) end
  return ("local __poll, __keep = require '%s.poll', require '%s.keep' %s"):format(HERE, HERE, rewrite.at_end(body, '__keep()'))
end

--- session.load_file(path, [keep]): like loadfile, with loops that Ctrl-C stops.
function session.load_file(path, keep)
  local file, problem = io.open(path, 'rb')
  if not file then return nil, problem end
  local text = file:read '*a'
  file:close()
  if text == nil then return nil, path .. ': not a file' end
  if text:sub(1, 1) == '\27' then return loadstring(text, '@' .. path) end
  local fn = loadstring(session.prepared(text, keep), '@' .. path)
  if fn then return fn end
  return loadfile(path)
end

--- session:run_file(path, ...): runs a script; its top-level locals become variables of the session, also after an error.
function Session:run_file(path, ...)
  local env = self.env
  local function set(name, value)
    if name:find '^[%a_]' and name ~= '__poll' and name ~= '__keep' then env[name] = value end
  end
  package.loaded[HERE .. '.keep'] = function()
    for i = 1, 250 do
      local name, value = debug.getlocal(2, i)
      if not name then break end
      set(name, value)
    end
  end
  local fn, problem = session.load_file(path, true)
  if not fn then return { ok = false, error = problem, syntax = true } end
  local answer = self:call(fn, ...)
  if not answer.ok then
    for _, frame in ipairs(answer.trace.frames) do
      if frame.what == 'main' and frame.file == path then
        for _, variable in ipairs(frame.locals) do set(variable.name, variable.value) end
      end
    end
  end
  return answer
end

--- session:loader(): what `require` asks for modules: the files of others, with loops that Ctrl-C stops.
function Session.loader()
  local own = native.lua_directory .. 'masked_torch/'
  return function(name)
    local path = package.searchpath(name, package.path)
    if not path or path:sub(1, #own) == own then return nil end
    return (session.load_file(path))
  end
end

return session
