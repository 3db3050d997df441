--- guard: Ctrl-C ends a training run in order. The step in progress finishes, the run is saved, the terminal says how to go on.
--
-- Ctrl-C (SIGINT), SIGTERM and SIGHUP are noted while the guard is active; kernels run to their end. A second Ctrl-C leaves at
-- once: what was saved before is whole. The process ends with status 128 + the signal's number: 130, 143, 129.
--
-- @usage
-- local folder, step = torch.train.checkpoint.folder('run'), 0
-- local function save()
--   folder:save({ step = step })
--   return folder:path 'last'
-- end
-- torch.train.interrupt(function(guard)
--   for i = 1, 3 do
--     step = i      -- the work of a step
--     guard:poll(step)
--   end
-- end, { save = save, resume = 'luajit run.lua --resume' })

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'

local fail, check, C = native.fail, native.check, native.cpu

local names = { [1] = 'SIGHUP', [2] = 'Ctrl-C', [15] = 'SIGTERM' }

local Guard = class('Guard')
local active

local defaults = { save = options.any(nil), resume = options.none, log = options.any(nil), exit = options.any(nil) }

--- torch.train.guard([options]): begins to guard. save(): called when the run is to end; it saves and may return the path;
-- resume: the command that goes on; log: a torch.train.logger (default: standard error); exit(status) replaces os.exit.
-- One guard at a time.
function Guard:__init(opts)
  opts = options.parse('guard', defaults, opts)
  for _, key in ipairs{ 'save', 'exit' } do
    if opts[key] ~= nil then native.callable('guard', key, opts[key]) end
  end
  if opts.resume ~= nil and type(opts.resume) ~= 'string' then
    fail('guard: resume: expected a string, got %s', type(opts.resume))
  end
  if active then fail('guard: another guard is active; close it first') end
  self.save, self.resume, self.log, self.exit = opts.save, opts.resume, opts.log, opts.exit or native.leave
  check(C.mt_guard_install())
  active = self
end

--- guard:pending(): 'Ctrl-C', 'SIGTERM' or 'SIGHUP' when one has arrived, otherwise nil.
function Guard:pending()
  if active ~= self then return nil end
  local number = C.mt_guard_pending()
  if number == 0 then return nil end
  return names[number] or 'signal ' .. number, number
end

--- guard:poll([step]): between two steps. When a signal has arrived it saves, says so, and ends the process. Otherwise nothing.
function Guard:poll(step)
  local name, number = self:pending()
  if not name then return end
  local function say(format, ...)
    local text = format:format(...)
    if self.log then self.log:write('info', '%s', text) else io.stderr:write(text, '\n') end
  end
  say('%s: stopping%s', name, step and (' after step %d'):format(step) or '')
  if self.save then
    local path = self.save()
    say('saved%s%s', type(path) == 'string' and ' ' .. path or '', self.resume and '; go on with: ' .. self.resume or '')
  end
  self:close()
  io.stdout:flush()
  self.exit(128 + number)
end

--- guard:close(): signals do again what they did before.
function Guard:close()
  if active ~= self then return end
  active = nil
  check(C.mt_guard_restore())
end

--- torch.train.interrupt(fn, [options]): fn(guard) with a guard that is closed afterwards, whatever happens. Returns fn's results.
local function interrupt(fn, opts)
  native.callable('interrupt', 'fn', fn)
  local guard = Guard(opts)
  local results = { pcall(fn, guard) }
  guard:close()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- torch.train.quit_on_interrupt(): outside a guard, Ctrl-C ends the program at once. LuaJIT itself raises an error instead, which
-- compiled code never sees and a pcall swallows.
local function quit_on_interrupt() check(C.mt_guard_default()) end

--- torch.train.command(arguments...): the command line that runs this script again with other arguments, quoted for the shell:
-- for guard's `resume`.
local function command(...)
  local words, first = {}, 0
  while arg and arg[first - 1] do first = first - 1 end
  for i = first, arg and 0 or -1 do words[#words + 1] = arg[i] end
  for i = 1, select('#', ...) do words[#words + 1] = tostring((select(i, ...))) end
  for i, word in ipairs(words) do
    if word == '' or word:find('[^%w%%+,./:=@_-]') then words[i] = "'" .. word:gsub("'", "'\\''") .. "'" end
  end
  return table.concat(words, ' ')
end

return { guard = Guard, interrupt = interrupt, quit_on_interrupt = quit_on_interrupt, command = command }
