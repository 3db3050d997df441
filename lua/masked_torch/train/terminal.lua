--- terminal: what kind of place standard error is, and a clock.

local ffi = require 'ffi'

local terminal = {}

if not pcall(ffi.typeof, 'struct mt_window_size') then
  ffi.cdef [[
    struct mt_window_size { unsigned short rows, columns, width, height; };
    struct mt_time { long seconds, nanoseconds; };
    int isatty(int fd);
    int ioctl(int fd, unsigned long request, ...);
    int clock_gettime(int clock, struct mt_time *time);
  ]]
end
local C = ffi.C
local TIOCGWINSZ, REALTIME, MONOTONIC, STDERR = 0x5413, 0, 1, 2
local window, time = ffi.new 'struct mt_window_size', ffi.new 'struct mt_time'

local function read(clock)
  C.clock_gettime(clock, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) * 1e-9
end

--- terminal.now(): seconds of a clock that never goes back; its zero means nothing.
function terminal.now() return (read(MONOTONIC)) end

--- terminal.wall_time(): seconds since 1970, with their fraction.
function terminal.wall_time() return (read(REALTIME)) end

--- terminal.host_name()
function terminal.host_name()
  local handle = io.open('/proc/sys/kernel/hostname', 'r')
  local name = handle and handle:read('*l')
  if handle then handle:close() end
  return name or 'localhost'
end

--- terminal.is_interactive(): can standard error move its cursor?
function terminal.is_interactive()
  return C.isatty(STDERR) == 1 and os.getenv('TERM') ~= 'dumb'
end

--- terminal.columns(): the width of the terminal at standard error, now; 80 where there is none.
function terminal.columns()
  if C.ioctl(STDERR, TIOCGWINSZ, window) == 0 and window.columns > 0 then return window.columns end
  return 80
end

--- terminal.is_utf8(): may text hold more than ASCII?
function terminal.is_utf8()
  for _, name in ipairs{ 'LC_ALL', 'LC_CTYPE', 'LANG' } do
    local value = os.getenv(name)
    if value and value ~= '' then return value:lower():find('utf%-?8') ~= nil end
  end
  return false
end

--- terminal.length(text): its characters (UTF-8), each taken to be one column wide.
function terminal.length(text)
  local _, continued = text:gsub('[\128-\191]', '')
  return #text - continued
end

--- terminal.cut(text, columns): its first characters, at most so many.
function terminal.cut(text, columns)
  if #text <= columns then return text end
  local position, n = 1, 0
  while position <= #text and n < columns do
    n = n + 1
    position = text:match('^.[\128-\191]*()', position)
  end
  return text:sub(1, position - 1)
end

return terminal
