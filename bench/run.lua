--- run: the benchmark.
--
--     luajit bench/run.lua [--quick] [--rows PATTERN] [--threads 1,2] [--rounds 7] [--save NAME] [--no-peer] [--profile] [--list] [--cpu]
--                          [--device cuda] [--precision highest,high,medium] [--small]
--
-- For every row and number of threads: both sides prepare the same work; then, round by round, every contender runs once (often
-- enough to last some milliseconds), one after the other, in turns from the first and from the last. The first round is thrown away.
-- Ratios are taken within a round, their median counts. The peak of the processor is measured before and after; where it moved by more
-- than 15 %, or is that far below the best one ever seen in this checkout (build/best_peak.txt), something else was running: the row is
-- measured again, and marked if that happens each time.
-- --cpu: the processor's time of either side instead of the clock's, with one thread: for a machine that is busy with other things,
-- where no row is rejected. (What they do to caches and memory still shows.)
-- --device cuda: the rows on a GPU, at each precision of the products (torch.set_float32_matmul_precision; the peer: float32, TF32,
-- bfloat16 by autocast); a call is over when the device is idle again. The ceilings are cuBLAS's largest products and a copy, measured by
-- the peer at the beginning and at the end.
-- --small: tiny sizes, to see that every row runs; their times mean nothing.
-- PEERS names the folder that scripts/install_peers made (build/peers). --profile: where our time went (torch.profile).
-- rows.lua: what is measured; ours.lua: our side; peer.py: PyTorch's; statistics.lua: what is computed from the times.

local root = arg[0]:match('^(.*)bench/run%.lua$') or './'
if root == '' then root = './' end
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'bench/?.lua;' .. root .. 'experiments/?.lua;' .. package.path

local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local now = require('masked_torch.train.terminal').now
local child = require 'child'
local onednn = require 'onednn'
local rows = require 'rows'
local statistics = require 'statistics'

ffi.cdef [[
double bench_peak(int32_t threads, double seconds);
int usleep(unsigned microseconds);
]]
-- ---- options -------------------------------------------------------------------------------------------------------------

local o = { rounds = 7, threads = { 1, 2 }, attempts = 3, target = 0.04, device = 'cpu', precision = { 'highest', 'high', 'medium' } }
do
  local i = 1
  local function value()
    i = i + 1
    return arg[i] or error('bench: ' .. arg[i - 1] .. ' needs a value', 0)
  end
  local function list(pattern)
    local out = {}
    for item in value():gmatch(pattern) do out[#out + 1] = tonumber(item) or item end
    return out
  end
  while arg[i] do
    local name = arg[i]
    if name == '--quick' then o.quick, o.attempts, o.target = true, 1, 0.01
    elseif name == '--rows' then o.pattern = value()
    elseif name == '--threads' then o.threads = list '%d+'
    elseif name == '--precision' then o.precision = list '%a+'
    elseif name == '--rounds' then o.rounds = tonumber(value())
    elseif name == '--save' then o.save = value()
    elseif name == '--device' then o.device = value()
    elseif name == '--no-peer' then o.no_peer = true
    elseif name == '--profile' then o.profile = true
    elseif name == '--list' then o.list = true
    elseif name == '--small' then o.small, o.rounds, o.attempts, o.target = true, 1, 1, 0
    elseif name == '--cpu' then o.cpu, o.threads = true, { 1 }
    elseif name == '--help' then
      for line in io.lines(arg[0]) do     -- the head of this file
        local text = line:match '^%-%-%-? ?(.*)$'
        if not text then os.exit(0) end
        print(text)
      end
    else
      io.stderr:write('bench: unknown option ', name, ' (--help lists them)\n')
      os.exit(2)
    end
    i = i + 1
  end
end
if o.cpu then now = os.clock end

local built = root .. 'build/' .. (os.getenv('MASKED_TORCH_CONFIG') or 'release') .. '/bench/'
local found, peak = pcall(ffi.load, built .. 'libpeak.so')
if not found and not o.list then
  io.stderr:write('bench: ', built, 'libpeak.so is not built; `make bench` builds it and runs this\n')
  os.exit(1)
end
local on_gpu = o.device ~= 'cpu'
if on_gpu then
  local ok, why = torch.cuda.is_available()
  if not ok then
    io.stderr:write('bench: no GPU to measure: ', why, '\n')
    os.exit(1)
  end
end
local chosen = rows.select{ pattern = o.pattern, quick = o.quick, device = on_gpu and 'cuda' or 'cpu' }
if o.list or #chosen == 0 then
  if #chosen == 0 then io.stderr:write('bench: no row matches; all of them:\n') end
  for _, row in ipairs(#chosen > 0 and chosen or rows) do print(row.name) end
  os.exit(#chosen > 0 and 0 or 1)
end

-- What a row is measured with: so many threads, or products of that precision where it has any.
local function settings_of(row)
  local out = {}
  if on_gpu then
    for i, precision in ipairs(o.precision) do
      if i == 1 or row.flops > 0 then out[#out + 1] = { precision = precision, label = precision } end
    end
  else
    for _, n in ipairs(o.threads) do
      out[#out + 1] = { threads = n, precision = row.precision or 'highest', label = n .. (n > 1 and ' threads' or ' thread') }
    end
  end
  return out
end

-- ---- output --------------------------------------------------------------------------------------------------------------

local lines = {}
local function say(format, ...)
  local line = select('#', ...) > 0 and format:format(...) or format
  lines[#lines + 1] = line
  print(line)
  io.stdout:flush()
end

local function command_output(command)
  local handle = io.popen(command .. ' 2>/dev/null')
  local text = handle:read('*l') or ''
  handle:close()
  return text
end

-- ---- measuring -----------------------------------------------------------------------------------------------------------

local folder = command_output('mktemp -d /dev/shm/masked_torch_bench.XXXXXX || mktemp -d')
local peer

-- The best peak ever seen in this checkout: a machine that is busy all the time is noticed too.
local peak_file = root .. 'build/best_peak.txt'
local best_peak = {}
do
  local file = io.open(peak_file)
  for threads, value in (file and file:read('*a') or ''):gmatch('(%d+) ([%d.]+)\n') do best_peak[tonumber(threads)] = tonumber(value) end
  if file then file:close() end
end

local function measure_peak(threads)
  local value = peak.bench_peak(threads, 0.06)
  if value > (best_peak[threads] or 0) then
    best_peak[threads] = value
    local file = assert(io.open(peak_file, 'w'))
    for n, best in pairs(best_peak) do file:write(('%d %.1f\n'):format(n, best)) end
    file:close()
  end
  return value
end

-- GFLOP/s and GB/s that the row's rates are set beside, {flops =, bytes =}; and a GPU's of every precision, asked once.
local gpu_ceilings
local function ceilings_of(setting)
  if not on_gpu then return { flops = best_peak[setting.threads] } end
  return gpu_ceilings and { flops = gpu_ceilings[setting.precision], bytes = gpu_ceilings.bytes } or {}
end

-- Idle pools of either side stop spinning before the other is timed.
local function settle() ffi.C.usleep(4000) end

local function timed(fn, count)
  local begin = now()
  for _ = 1, count do fn() end
  if on_gpu then torch.cuda.synchronize(o.device) end
  return (now() - begin) / count
end

local function save_tensors(prefix, tensors)
  local names = {}
  for name, t in pairs(tensors) do
    torch.io.npy.save(('%s/%s_%s.npy'):format(folder, prefix, name), t:to 'cpu')
    names[#names + 1] = name
  end
  return names
end

local function remove_tensors() os.execute('rm -f ' .. folder .. '/*.npy') end

-- The contenders of a row in order, and a function that runs one of them `count` times and returns the seconds per call.
local function contenders_of(row, work, setting)
  local order = { 'ours' }
  for _, name in ipairs{ 'ours plain', 'ours apart', 'ours graph' } do
    if work[name] then order[#order + 1] = name end
  end
  for _, contender in ipairs(work.extra) do
    order[#order + 1] = contender.name
    work[contender.name] = contender.run
  end
  local missing
  if peer then
    local answer = peer:ask{ command = 'prepare', row = row, threads = setting.threads, precision = on_gpu and setting.precision or nil,
      folder = folder, inputs = save_tensors('in', work.inputs) }
    for _, name in ipairs(answer.contenders) do order[#order + 1] = name end
    missing = answer.missing
  end
  return order, function(name, count)
    settle()
    if work[name] then return timed(work[name], count) end
    return peer:ask{ command = 'run', contender = name, count = count, cpu = o.cpu or false }.seconds
  end, missing
end

-- Seconds per call of each contender, round by round, and the peak before and after (on the processor).
local function rounds_of(order, run, threads)
  local count, times = {}, {}
  for _, name in ipairs(order) do
    count[name], times[name] = statistics.repeats(run(name, 1), o.target), {}
    -- A first call pays for compilation and memory: the second one tells.
    count[name] = math.max(count[name], statistics.repeats(run(name, count[name]), o.target))
  end
  local before = threads and measure_peak(threads)
  -- There and back: who always follows another would find its memory and caches warm.
  for round = 1, o.rounds do
    for i = 1, #order do
      local name = order[round % 2 == 1 and i or #order + 1 - i]
      times[name][round] = run(name, count[name])
    end
  end
  return times, before, threads and measure_peak(threads)
end

local function compare(work)
  if not (peer and work.outputs) then return {} end
  local outputs = { { 'ours', save_tensors('out0', work.outputs()) } }
  for i, contender in ipairs(work.extra) do outputs[i + 1] = { contender.name, save_tensors('out' .. i, contender.outputs()) } end
  local errors = peer:ask{ command = 'compare', folder = folder, outputs = outputs }.errors
  errors.none = nil
  return errors
end

-- The goals of a row here; those about the valid area get their number from the area that the masks really have.
local function goals_of(row, area, setting)
  local goals = {}
  for _, goal in ipairs(row.goals or {}) do
    if not o.small and (goal.device == 'cuda') == on_gpu and (goal.precision == nil or goal.precision == setting.precision) then
      goals[#goals + 1] = { against = goal.against, ratio = goal.ratio or statistics.area_goal(area) }
    end
  end
  return goals
end

local results = {}

local function measure(row, setting)
  local threads = setting.threads
  if threads then native.check(native.cpu.mt_threads_set(threads)) end
  torch.set_float32_matmul_precision(setting.precision)
  collectgarbage()
  local work = require('ours').prepare(row, o.device)
  work.extra = peer and threads and onednn.contenders(row, work.inputs, threads) or {}
  local order, run, missing = contenders_of(row, work, setting)
  local times, before, after, rejected
  for _ = 1, o.attempts do
    times, before, after = rounds_of(order, run, threads)
    rejected = threads and not o.cpu and statistics.rejected(before, after, statistics.reference(best_peak, threads))
    if not rejected then break end
  end
  local errors = compare(work)
  remove_tensors()
  local entries = statistics.summarise(order, times, row, ceilings_of(setting), errors)
  say('')
  say('%s%s, %s%s%s', row.name, work.area and (' (area %.3f)'):format(work.area) or '', setting.label,
    threads and ('   peak %.0f, %.0f GF/s'):format(before, after) or '', rejected and '   REJECTED: the machine was busy' or '')
  for _, entry in ipairs(entries) do say(statistics.line(entry)) end
  for name, why in pairs(missing or {}) do
    if name ~= 'none' then say('  %-22s %s', name, why) end
  end
  if o.profile then say('%s', (tostring(torch.profile(work.ours, { steps = 3 })):gsub('%f[^\n%z]', '    '))) end
  results[#results + 1] = { name = row.name, goals = goals_of(row, work.area, setting), setting = setting.label, entries = entries,
    rejected = rejected }
end

-- ---- the run -------------------------------------------------------------------------------------------------------------

local function gpu_header()
  local p = torch.cuda.get_device_properties(o.device)
  say('%s, compute capability %d.%d, %d multiprocessors, %.0f GiB, driver %s, CUDA %s', p.name, p.major, p.minor, p.multi_processor_count,
    p.total_memory / 2 ^ 30, p.driver, p.runtime)
  gpu_ceilings = peer and not p.simulated and peer:ask{ command = 'ceilings' } or nil
  if gpu_ceilings then
    say('ceilings of cuBLAS and of a copy: float32 %.0f, TF32 %.0f, bfloat16 %.0f GF/s; %.0f GB/s', gpu_ceilings.highest, gpu_ceilings.high,
      gpu_ceilings.medium, gpu_ceilings.bytes)
  end
end

local function header()
  say('masked_torch %s (%s), commit %s', torch.__version, ffi.string(native.cpu.mt_isa()),
    command_output('git -C ' .. root .. ' describe --always --dirty'))
  say('%s', os.date('!%Y-%m-%d %H:%M UTC'))
  say('%s, %s', command_output("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1"), command_output('uname -sr'))
  say('%s; %s', jit.version, command_output('gcc --version'))
  if peer then
    local simulated = on_gpu and torch.cuda.get_device_properties(o.device).simulated
    local hello = peer:ask{ command = 'hello', device = simulated and 'cpu' or o.device }
    say('PyTorch %s (oneDNN %s, %s; cuDNN %s), Python %s, masked_torch %s', hello.torch, hello.onednn, hello.capability, hello.cudnn,
      hello.python, hello.masked_torch and 'present' or 'absent')
    local version = onednn.load(built .. 'libonednn.so')
    say(version and 'oneDNN alone: ' .. version or 'oneDNN alone: scripts/install_peers onednn')
  else
    say('no peer: scripts/install_peers')
  end
  local command = { 'bench/run.lua', unpack(arg) }
  say('luajit %s', table.concat(command, ' '))
  if on_gpu then
    gpu_header()
  else
    for _, threads in ipairs(o.threads) do
      local value = 0
      for _ = 1, 3 do value = math.max(value, measure_peak(threads)) end
      say('peak, %d thread%s: %.0f GF/s now, %.0f GF/s the best in this checkout', threads, threads > 1 and 's' or '', value,
        best_peak[threads])
    end
  end
  if o.cpu then say('times are the processor\'s, not the clock\'s: the machine may be busy') end
  say('%d rounds; ratio: time of the other / time of ours, above 1 we are faster', o.rounds)
  say('G/s: GFLOP/s; where memory is the limit, GB/s')
  say('')
  say(statistics.head())
end

local function summary()
  say('')
  say('Summary: ratio to the strongest of each kind (median; * rejected)')
  for _, line in ipairs(statistics.table(results)) do say(line) end
end

local failed = 0
local function attempt(row, setting)
  local ok, message = xpcall(function() measure(row, setting) end,
    function(e) return type(e) == 'string' and e or debug.traceback(tostring(e)) end)
  if ok then return end
  failed = failed + 1
  say('')
  say('%s, %s: FAILED: %s', row.name, setting.label, message)
end

local function main()
  local peers = os.getenv('PEERS') or root .. 'build/peers'
  local environment = io.open(peers .. '/environment')
  if environment and not o.no_peer then
    environment:close()
    peer = child.start(('. "%s/environment" && exec python3 "%sbench/peer.py"'):format(peers, root), folder)
  end
  header()
  for _, row in ipairs(chosen) do
    if o.small then row = rows.small(row) end
    row.no_compile = o.quick or o.small
    for _, setting in ipairs(settings_of(row)) do attempt(row, setting) end
  end
  if on_gpu then gpu_header() end   -- the clocks may have fallen meanwhile
  summary()
end

local ok, message = xpcall(main, function(e) return type(e) == 'string' and e or debug.traceback(tostring(e)) end)
if peer then peer:stop() end
os.execute('rm -rf ' .. folder)
if not ok then
  io.stderr:write(message, '\n')
  os.exit(1)
end
if o.save then
  local path = ('%sbench/results/%s-%s.txt'):format(root, os.date('!%Y-%m-%d'), o.save)
  os.execute('mkdir -p ' .. root .. 'bench/results')
  local file = assert(io.open(path, 'w'))
  file:write(table.concat(lines, '\n'), '\n')
  file:close()
  print(path)
end
os.exit(failed == 0 and 0 or 1)
