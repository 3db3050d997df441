--- Start-up time: luajit bench/startup.lua [runs]
--
-- 1. a fresh process that loads the library and runs a 3x3 MaskedConv2d on 1 x 3 x 32 x 32 (goal: well under 50 ms)
-- 2. the prompt at a terminal, until it can be typed at (goal: at most 60 ms)
-- 3. the default figure script from end to end on one thread (goal: at most 1.5 s)
-- Wall time of whole processes, first run not counted; minimum, median and maximum are printed. An empty `luajit -e ""`
-- stands beside them, so that the share of process start is visible.

local ffi = require 'ffi'
ffi.cdef [[
typedef struct { int64_t tv_sec, tv_nsec; } bench_timespec;
int clock_gettime(int, bench_timespec *);
]]

local root = arg[0]:match('^(.*)bench/startup%.lua$') or './'
if root == '' then root = './' end
local runs = tonumber(arg[1]) or 7

local clock = ffi.new('bench_timespec')
local function now()
  ffi.C.clock_gettime(1, clock)   -- CLOCK_MONOTONIC
  return tonumber(clock.tv_sec) + tonumber(clock.tv_nsec) * 1e-9
end

-- From the start of masked-torch at a terminal of its own until its prompt stands there.
local function first_prompt()
  package.path = root .. 'tests/?.lua;' .. package.path
  local pty = require 'support.pty'
  local begin = now()
  local p = pty.start({ 'luajit', root .. 'bin/masked-torch' }, { TERM = 'xterm', MASKED_TORCH_HISTORY = '', MASKED_TORCH_THREADS = '1' })
  p:wait_until(function(text) return text:match '[^\n]*$' == '>' and p.screen.column == 3 end, 'the prompt')
  local elapsed = now() - begin
  p:send '\4'
  p:finish()
  return elapsed
end

local function wall_time(command)
  local begin = now()
  if os.execute(command .. ' >/dev/null') ~= 0 then error('failed: ' .. command) end
  return now() - begin
end

local function time(command)
  local seconds = {}
  for i = 0, runs do
    local elapsed = type(command) == 'function' and command() or wall_time(command)
    if i > 0 then seconds[i] = elapsed end
  end
  table.sort(seconds)
  return seconds
end

local forward = ([[package.path = "%slua/?.lua;%slua/?/init.lua;" .. package.path
local torch = require "masked_torch"
local net = torch.nn.MaskedConv2d(3, 8, 3, {padding = 1})
net(torch.randn(1, 3, 32, 32), torch.ones(1, 1, 32, 32))]]):format(root, root)

local rows = {
  { 'luajit -e ""', "luajit -e ''" },
  { 'library and one forward', "MASKED_TORCH_THREADS=1 luajit -e '" .. forward .. "'" },
  { 'the prompt', first_prompt },
  { 'default figure, one thread', 'MASKED_TORCH_THREADS=1 luajit ' .. root ..
    'experiments/visualize_activations.lua --threads 1 --out /tmp/masked_torch_startup.png' },
}
print(('%-28s %9s %9s %9s   (ms, %d runs)'):format('', 'min', 'median', 'max', runs))
for _, row in ipairs(rows) do
  local t = time(row[2])
  print(('%-28s %9.1f %9.1f %9.1f'):format(row[1], t[1] * 1e3, t[math.ceil(#t / 2)] * 1e3, t[#t] * 1e3))
end
os.remove('/tmp/masked_torch_startup.png')
