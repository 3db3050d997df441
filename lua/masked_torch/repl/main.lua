--- main(repl, arguments): the program masked-torch: its options, scripts and exit status.

local native = require 'masked_torch.native'

local usage = [==[
masked-torch [options] [script [arguments]]

Without a script: a Lua prompt with torch, nn, F and optim. With one: runs it, as luajit does.

  -e CODE      runs CODE as the prompt would, and prints its results (several times: one after the other)
  -i           the prompt after -e or the script, also when it failed; its variables are there
  -l MODULE    requires a module into a variable of its name
  --device D   checks that cpu, cuda or cuda:<n> can be used, and names it in the variable `device`
  -q           no greeting
  --plain      no line editing
  --no-color   no colours (as does the variable NO_COLOR)
  -v, --version
  -h, --help
  --           what follows is the script and its arguments
  -            the script is standard input

Environment: MASKED_TORCH_HISTORY names the file of the history (empty: none), MASKED_TORCH_THREADS the number of threads.
Exit status: 0; 1 after an error in a script, in -e or in piped input; 2 for wrong options; 130 after Ctrl-C.
]==]

local function parse(arguments)
  local options, i = { actions = {} }, 1
  while arguments[i] do
    local word = arguments[i]
    if word == '-h' or word == '--help' then
      options.help = true
    elseif word == '-v' or word == '--version' then
      options.version = true
    elseif word == '-i' then
      options.interactive = true
    elseif word == '-q' then
      options.quiet = true
    elseif word == '--plain' then
      options.plain = true
    elseif word == '--no-color' then
      options.no_color = true
    elseif word == '--device' then
      i = i + 1
      if not arguments[i] then return nil, word .. ' needs an argument' end
      options.device = arguments[i]
    elseif word == '-e' or word == '-l' then
      i = i + 1
      if not arguments[i] then return nil, word .. ' needs an argument' end
      table.insert(options.actions, { word, arguments[i] })
    elseif word == '--' then
      i = i + 1
      options.script = arguments[i]
      break
    elseif word == '-' or word:sub(1, 1) ~= '-' then
      options.script = word
      break
    else
      return nil, 'unknown option ' .. word
    end
    i = i + 1
  end
  options.first = i + 1
  return options
end

-- Lua's own convention: arg[0] is the script, arg[1..] its arguments, what came before has negative numbers.
local function set_arg(arguments, options)
  local new = { [0] = options.script }
  for i = options.first, #arguments do new[i - options.first + 1] = arguments[i] end
  local n = -1
  for i = options.first - 2, 1, -1 do
    new[n], n = arguments[i], n - 1
  end
  new[n] = arg and arg[0]
  rawset(_G, 'arg', new)
  return new
end

-- A script alone: like luajit script.lua, with a short list of calls.
local function run_script(path, arguments)
  local fn, problem = loadfile(path ~= '-' and path or nil)
  if not fn then
    io.stderr:write('masked-torch: ', problem, '\n')
    return 1
  end
  local ok, message = xpcall(fn, function(message)
    if type(message) ~= 'string' then message = require('masked_torch.repl.show').value(message) end
    local lines = { message }
    local own = '@' .. native.lua_directory .. 'masked_torch/repl/'
    for level = 2, 40 do
      local info = debug.getinfo(level, 'Slnf')
      if not info or info.source:sub(1, #own) == own then break end
      if info.currentline > 0 then
        lines[#lines + 1] = ('  %s:%d%s'):format(info.short_src, info.currentline, info.name and (" in '%s'"):format(info.name) or '')
      end
      if info.func == fn then break end
    end
    return table.concat(lines, '\n')
  end, unpack(arguments))
  if not ok then io.stderr:write('masked-torch: ', message, '\n') end
  return ok and 0 or 1
end

return function(repl, arguments)
  local options, problem = parse(arguments)
  if not options then
    io.stderr:write('masked-torch: ', problem, '\n', usage)
    return 2
  end
  if options.help then
    io.stdout:write(usage)
    return 0
  end
  if options.version then
    print(('masked-torch %s (%s)'):format(native.version, jit.version))
    return 0
  end
  local terminal_wanted = options.interactive or not (options.script or options.actions[1])
  if options.script and not options.interactive and not options.actions[1] then
    return run_script(options.script, set_arg(arguments, options))
  end

  local device
  if options.device then
    local ok, found = pcall(require('masked_torch.train.device').device, options.device)
    if not ok then
      io.stderr:write('masked-torch: ', (found:gsub('^.-(%-%-device: )', '%1')), '\n')
      return 2
    end
    device = found
  end
  local self = repl.new{ color = not options.no_color }
  self.session.env.device = device
  self:guard()
  local status = 0
  local function finish(answer)
    self:show(answer)
    io.stdout:flush()
    if not answer.ok and status == 0 then status = answer.interrupted and 130 or 1 end
    return answer.ok
  end
  local interactive = self.interactive
  self.interactive = interactive and options.interactive
  local ok = true
  for _, action in ipairs(options.actions) do
    if ok and action[1] == '-e' then
      if action[2]:find '^%s*[:?$]' then
        self.failed = false
        self:input(action[2])
        ok = not self.failed
        if not ok then status = 1 end
      else
        ok = finish(self.session:evaluate(action[2]))
      end
    elseif ok then
      local answer = self.session:call(require, action[2])
      ok = answer.ok or finish(answer)
      if answer.ok then self.session.env[action[2]:match '[^%.]+$'] = answer.values[1] end
    end
  end
  if ok and options.script then
    local words = set_arg(arguments, options)
    if options.script == '-' then
      finish(self.session:evaluate(io.read '*a'))
    else
      local answer = self.session:run_file(options.script, unpack(words))
      answer.silent = true
      finish(answer)
    end
  end
  self.interactive = interactive
  if terminal_wanted then
    local whole = repl.start{ repl = self, quiet = options.quiet or options.interactive, plain = options.plain }
    -- What failed before the prompt came has been shown and could be looked at.
    status = whole and 0 or 1
  end
  return status
end
