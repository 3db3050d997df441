-- Ctrl-C and SIGTERM, sent to the scripts and typed into a terminal of their own.
local lfs = require 'lfs'
local ffi = require 'ffi'
local torch = require 'masked_torch'
local process = require 'support.process'
local scratch = require 'support.scratch'

local checkpoint = torch.train.checkpoint
local SCRIPT = 'experiments/language_model.lua'
local text = ('To be, or not to be, that is the question: whether it is nobler in the mind to suffer.\n'):rep(40)

local function folder(name)
  local path = os.tmpname()
  os.remove(path)
  finally(function() os.execute(("rm -rf '%s'"):format(path)) end)
  lfs.mkdir(path)
  return path .. '/' .. (name or 'run')
end

local function arguments(out, ...)
  return SCRIPT, 'train', '--data', scratch.file(text, '.txt'), '--out', out, '--context', 8, '--width', 8, '--depth', 1, '--batch', 4,
    '--steps', 1000000, '--save-every', 20, '--threads', 1, ...
end

-- Waits for the first checkpoint.
local function saved(out)
  assert.is_true(process.wait_for(function() return lfs.attributes(out .. '/last.safetensors') ~= nil end, 60))
end

describe('a training run that is told to stop', function()
  for name, status in pairs{ SIGINT = 130, SIGTERM = 143 } do
    it(('saves and prints a command that goes on: %s'):format(name), function()
      local out = folder "a run's folder"
      out = out:gsub("'", '_') .. ' $HOME'
      process.err = scratch.path '.err'
      local log = process.err
      finally(function() process.err = nil end)
      local pid = process.start(arguments(out))
      saved(out)
      process.signal(pid, process[name])
      assert.are.same({ 'exit', status }, { process.wait(pid, 30) })
      local said = scratch.content(log)
      assert.matches(name == 'SIGINT' and 'Ctrl%-C: stopping after step %d+\n' or 'SIGTERM: stopping after step %d+\n', said)
      local step = tonumber(said:match 'stopping after step (%d+)')
      local last = checkpoint.verify(out .. '/last.safetensors')
      assert.are.equal(step, last.step)
      -- The command works as it stands, in a shell; the run has little left to do.
      local command = said:match 'saved [^\n]*; go on with: ([^\n]*)\n'
      assert.is_truthy(command, said)
      last.library, last.config.steps = nil, step + 3
      checkpoint.save(out .. '/last.safetensors', last)
      assert.are.equal(0, os.execute(command .. ' >/dev/null 2>&1'))
      assert.are.equal(step + 3, checkpoint.verify(out .. '/last.safetensors').step)
    end)
  end

  it('gives a validation up, and makes it good when it goes on', function()
    -- A validation of many batches after every step: the signal almost surely arrives within one.
    local out, whole = folder(), folder()
    local function start(path, steps)
      return process.start(SCRIPT, 'train', '--data', scratch.file(text:rep(40), '.txt'), '--out', path, '--context', 8, '--width', 8,
        '--depth', 2, '--batch', 2, '--steps', steps, '--valid-every', 1, '--valid-context', 8, '--threads', 1, '--quiet')
    end
    assert.are.same({ 'exit', 0 }, { process.wait(start(whole, 3), 60) })
    local pid = start(out, 3)
    assert.is_true(process.wait_for(function() return (lfs.attributes(out .. '/curve.csv', 'size') or 0) > 0 end, 60))
    process.signal(pid, process.SIGINT)
    assert.are.same({ 'exit', 130 }, { process.wait(pid, 60) })
    local last = checkpoint.verify(out .. '/last.safetensors')
    assert.is_true(last.step < 3)
    assert.are.equal('exit 0', (process.run(SCRIPT, 'resume', '--out', out, '--quiet')))
    local function rows(path) return (scratch.content(path .. '/curve.csv'):gsub(',[^,\n]*,[^,\n]*\n', '\n')) end
    assert.are.equal(rows(whole), rows(out))
    local a, b = checkpoint.verify(whole .. '/last.safetensors'), checkpoint.verify(out .. '/last.safetensors')
    assert.are.equal(a.best, b.best)
    for name, t in pairs(a.model) do assert.same_bits(t, b.model[name]) end
  end)

  it('leaves at once before it has begun', function()
    -- A tokenizer that takes a while: words that are all different.
    local words = {}
    for i = 1, 300000 do words[i] = ('%x'):format(i * 2654435761 % 2 ^ 40) end
    local pid = process.start(SCRIPT, 'train', '--data', scratch.file(table.concat(words, ' '), '.txt'), '--tokenizer', 'bpe:30000',
      '--out', folder())
    process.sleep(0.5)
    process.signal(pid, process.SIGINT)
    assert.are.same({ 'signal', process.SIGINT }, { process.wait(pid, 5) })
  end)
end)

describe('a sample', function()
  it('ends after a token on Ctrl-C and SIGTERM', function()
    local out = folder()
    local how, _, err = process.run(SCRIPT, 'train', '--data', scratch.file(text, '.txt'), '--out', out, '--quick')
    assert.are.equal('exit 0', how, err)
    for name, status in pairs{ SIGINT = 130, SIGTERM = 143 } do
      process.out, process.err = scratch.path '.out', scratch.path '.err'
      local said, errors = process.out, process.err
      finally(function() process.out, process.err = nil, nil end)
      local pid = process.start(SCRIPT, 'sample', '--out', out, '--prompt', 'To be', '--tokens', 100000000, '--temperatures', 1)
      process.out, process.err = nil, nil
      assert.is_true(process.wait_for(function() return (lfs.attributes(said, 'size') or 0) > 200 end, 30))
      process.signal(pid, process[name])
      assert.are.same({ 'exit', status }, { process.wait(pid, 30) })
      assert.matches('^temperature 1.00: To be.*\n$', scratch.content(said))
      assert.matches('stopping\n$', scratch.content(errors))
    end
  end)
end)

-- ---- a terminal ------------------------------------------------------------------------------------------------------

local has_terminal = pcall(ffi.cdef, [[
  int posix_openpt(int); int grantpt(int); int unlockpt(int); char *ptsname(int); int setsid(void); int dup2(int, int);
  int64_t read(int, void *, size_t); int poll(void *, unsigned long, int);
]])
pcall(ffi.cdef, 'int open(const char *, int, ...);')
pcall(ffi.cdef, 'int close(int);')
pcall(ffi.cdef, 'int64_t write(int, const void *, size_t);')
local C = ffi.C

-- luajit runs the script in a terminal of its own: pid, and the descriptor of the other end.
local function in_terminal(...)
  local quoted = {}
  for i, v in ipairs{ ... } do quoted[i] = "'" .. tostring(v) .. "'" end
  local argv = ffi.new('const char *[4]', { 'sh', '-c', 'TERM=xterm exec luajit ' .. table.concat(quoted, ' ') })
  local master = C.posix_openpt(2 + 256)            -- O_RDWR | O_NOCTTY
  if master < 0 or C.grantpt(master) ~= 0 or C.unlockpt(master) ~= 0 then return nil end
  local name = ffi.string(C.ptsname(master))
  local pid = C.fork()
  if pid == 0 then
    C.setsid()
    local slave = C.open(name, 2)                   -- becomes the controlling terminal
    for fd = 0, 2 do C.dup2(slave, fd) end
    for _, number in ipairs{ process.SIGINT, process.SIGTERM, process.SIGHUP } do C.signal(number, nil) end
    C.execvp('sh', argv)
    C._exit(127)
  end
  return pid, master
end

-- What the terminal shows until `done` or 30 s.
local function show(master, done)
  local shown, bytes = '', ffi.new 'char[4096]'
  local request = ffi.new('struct { int fd; short events, revents; }', { master, 1, 0 })
  local stop = torch.train.terminal.now() + 30
  while torch.train.terminal.now() < stop do
    if C.poll(request, 1, 20) > 0 then
      local n = tonumber(C.read(master, bytes, 4096))
      if n <= 0 then break end
      shown = shown .. ffi.string(bytes, n)
    end
    if done(shown) then break end
  end
  return shown
end

describe('in a terminal', function()
  it('^C stops training after the step, below the bars; another one at once', function()
    if not has_terminal then return pending 'no terminals here' end
    for round = 1, 2 do
      local out = folder()
      local pid, master = in_terminal(arguments(out))
      if not pid then return pending 'no terminals here' end
      finally(function() C.close(master) end)
      show(master, function() return lfs.attributes(out .. '/last.safetensors') ~= nil end)
      C.write(master, round == 1 and '\3' or '\3\3\3\3', round == 1 and 1 or 4)
      local shown = show(master, function(s) return round == 1 and s:find 'go on with: [^\n]*\n' end)
      local how, status = process.wait(pid, 30)
      if round == 1 then
        assert.are.same({ 'exit', 130 }, { how, status })
        assert.matches('stopping after step %d+\r\n', shown)
        assert.matches('go on with: luajit experiments/language_model.lua resume %-%-out [^\n]*\r\n', shown)
      else
        assert.is_true(how == 'signal' and status == 2 or status == 130, how .. status)
      end
      checkpoint.verify(out .. '/last.safetensors')
    end
  end)
end)
