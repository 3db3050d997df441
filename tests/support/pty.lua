--- pty: a program at a terminal of its own. Nothing waits for a time, everything for a text.
--
--     local p = pty.start({ 'luajit', ... }, { TERM = 'xterm' })
--     p:send '1 + 1\r'
--     p:wait_for '2'              what is on the screen since the last send; fails with the screen after 60 s
local ffi = require 'ffi'
local process = require 'support.process'
local vt = require 'support.vt'

pcall(ffi.cdef, 'int setenv(const char *, const char *, int); int unsetenv(const char *);')
pcall(ffi.cdef, 'int execvp(const char *, const char *const *);')
pcall(ffi.cdef, 'int chdir(const char *);')
if not pcall(ffi.typeof, 'struct pty_poll') then
  ffi.cdef [[
    struct pty_poll { int fd; short events, revents; };
    struct pty_size { unsigned short rows, columns, width, height; };
    int pty_poll(struct pty_poll *, unsigned long, int) __asm__("poll");
    int posix_openpt(int);
    int grantpt(int);
    int unlockpt(int);
    char *ptsname(int);
    int setsid(void);
    int pty_open(const char *, int, ...) __asm__("open");
    int pty_close(int) __asm__("close");
    int dup2(int, int);
    int pty_ioctl(int, unsigned long, ...) __asm__("ioctl");
    long pty_read(int, void *, unsigned long) __asm__("read");
    long pty_write(int, const void *, unsigned long) __asm__("write");
  ]]
end
local C = ffi.C
local O_RDWR, O_NOCTTY, TIOCSWINSZ, TIOCSCTTY = 2, 256, 0x5414, 0x540E

local Pty = {}
Pty.__index = Pty

local pty = { seconds = 60 }

--- pty.start(arguments, environment): environment: variables, false takes one away. columns: the width of the terminal.
function pty.start(arguments, environment, columns)
  local master = C.posix_openpt(O_RDWR + O_NOCTTY)
  assert(master >= 0 and C.grantpt(master) == 0 and C.unlockpt(master) == 0)
  local name = ffi.string(C.ptsname(master))
  C.pty_ioctl(master, TIOCSWINSZ, ffi.new('struct pty_size', { 24, columns or 80, 0, 0 }))
  local argv = ffi.new('const char *[?]', #arguments + 1)
  for i, word in ipairs(arguments) do argv[i - 1] = word end
  local pid = C.fork()
  if pid == 0 then
    C.setsid()
    local slave = C.pty_open(name, O_RDWR)
    C.pty_ioctl(slave, TIOCSCTTY, ffi.new('int', 0))
    for fd = 0, 2 do C.dup2(slave, fd) end
    for fd = 3, 63 do C.pty_close(fd) end
    for _, number in ipairs{ process.SIGINT, process.SIGTERM, process.SIGHUP } do C.signal(number, nil) end
    for key, value in pairs(environment or {}) do
      if value then C.setenv(key, value, 1) else C.unsetenv(key) end
    end
    C.execvp(argv[0], argv)
    C._exit(127)
  end
  return setmetatable({ fd = master, pid = pid, screen = vt.new(columns), from = 1, poll = ffi.new('struct pty_poll', { master, 1, 0 }),
    buffer = ffi.new 'char[65536]', ended = false }, Pty)
end

-- Reads what has come; false when nothing comes for `milliseconds`.
function Pty:read(milliseconds)
  if C.pty_poll(self.poll, 1, milliseconds) <= 0 then return false end
  local n = tonumber(C.pty_read(self.fd, self.buffer, 65536))
  if n <= 0 then
    self.ended = true
    return false
  end
  self.screen:write(ffi.string(self.buffer, n))
  return true
end

function Pty:text() return self.screen:text(self.from) end

--- p:send(text): types it. What wait_for sees begins at the row where the cursor stands.
function Pty:send(text)
  self.from = self.screen.row
  local at = 0
  while at < #text do
    local n = tonumber(C.pty_write(self.fd, text:sub(at + 1), #text - at))
    assert(n > 0, 'the terminal takes nothing')
    at = at + n
  end
end

--- p:resize(columns): the window's new width.
function Pty:resize(columns)
  self.screen.columns = columns
  C.pty_ioctl(self.fd, TIOCSWINSZ, ffi.new('struct pty_size', { 24, columns, 0, 0 }))
end

--- p:wait_until(condition, what): reads until condition(text) holds.
function Pty:wait_until(condition, what)
  for _ = 1, pty.seconds * 10 do
    if condition(self:text()) then return true end
    if self.ended then break end
    while self:read(100) and not condition(self:text()) do end
  end
  error(('%s did not come%s; the screen:\n%s'):format(what, self.ended and ' before the end' or '', self.screen:text()), 2)
end

--- p:wait_for(plain text)
function Pty:wait_for(text)
  return self:wait_until(function(screen) return screen:find(text, 1, true) ~= nil end, ('%q'):format(text))
end

--- p:finish(): waits for the end of the program: 'exit', status or 'signal', number.
function Pty:finish()
  while not self.ended do
    if not self:read(pty.seconds * 1000) then break end
  end
  local how, status = process.wait(self.pid, pty.seconds)
  C.pty_close(self.fd)
  return how, status
end

return pty
