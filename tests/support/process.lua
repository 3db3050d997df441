--- process: child processes that a test signals and waits for.
local ffi = require 'ffi'
pcall(ffi.cdef, 'int fork(void); int waitpid(int, int *, int); void _exit(int);')
pcall(ffi.cdef, 'int execvp(const char *, const char *const *);')
pcall(ffi.cdef, 'int kill(int, int);')
pcall(ffi.cdef, 'int usleep(unsigned int);')
pcall(ffi.cdef, 'void (*signal(int, void (*)(int)))(int);')
local C = ffi.C

local process = { SIGHUP = 1, SIGINT = 2, SIGKILL = 9, SIGTERM = 15 }

--- process.start(script, arguments...): luajit runs the script, its output goes to the files named in process.out, process.err;
-- the signals listed in process.ignored are ignored, as nohup does; process.before is a shell command that runs first.
function process.start(script, ...)
  local quoted = {}
  for i, v in ipairs{ script, ... } do quoted[i] = "'" .. tostring(v) .. "'" end
  local command = ('%sexec luajit %s >>%s 2>>%s'):format(process.before and process.before .. '; ' or '',
    table.concat(quoted, ' '), process.out or '/dev/null', process.err or '/dev/null')
  local argv = ffi.new('const char *[4]', { 'sh', '-c', command })
  local pid = C.fork()
  if pid == 0 then
    -- A runner in the background has the first ignored, one under nohup the last.
    for _, number in ipairs{ process.SIGINT, process.SIGTERM, process.SIGHUP } do C.signal(number, nil) end
    for _, number in ipairs(process.ignored or {}) do C.signal(number, ffi.cast('void (*)(int)', 1)) end
    C.execvp('sh', argv)
    C._exit(127)
  end
  return pid
end

function process.signal(pid, number) C.kill(pid, number) end
function process.sleep(seconds) C.usleep(math.floor(seconds * 1e6)) end

--- process.wait(pid, [seconds = 30]): 'exit', status or 'signal', number; kills what does not end.
function process.wait(pid, seconds)
  local status = ffi.new 'int[1]'
  local left = (seconds or 30) * 200
  while C.waitpid(pid, status, 1) == 0 do
    if left <= 0 then
      C.kill(pid, process.SIGKILL)
      C.waitpid(pid, status, 0)
      return 'hang'
    end
    C.usleep(5000)
    left = left - 1
  end
  local s = status[0]
  if bit.band(s, 127) == 0 then return 'exit', bit.band(bit.rshift(s, 8), 255) end
  return 'signal', bit.band(s, 127)
end

--- process.run(script, arguments...): runs it to its end (120 s): 'exit 0' or the like, what it printed, and its errors.
function process.run(...)
  local out, err = process.out, process.err
  process.out, process.err = os.tmpname(), os.tmpname()
  local how, status = process.wait(process.start(...), 120)
  local texts = {}
  for i, path in ipairs{ process.out, process.err } do
    local file = assert(io.open(path))
    texts[i] = file:read '*a'
    file:close()
    os.remove(path)
  end
  process.out, process.err = out, err
  return how .. ' ' .. tostring(status), texts[1], texts[2]
end

--- process.wait_for(condition, [seconds = 20]): polls until condition() holds.
function process.wait_for(condition, seconds)
  for _ = 1, (seconds or 20) * 500 do
    if condition() then return true end
    C.usleep(2000)
  end
  return false
end

return process
