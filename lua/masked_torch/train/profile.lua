--- profile: where the time of a step goes.
--
-- While it runs, the forward and backward of every operation and the steps of the optimisers are replaced by timed ones; outside
-- of it nothing is measured and nothing costs anything. Times are those of the operation itself: an operation that another one
-- runs is counted for itself. What is left (the script, modules, autograd, making tensors) is "outside". Functions of
-- torch.Function count as outside too.
-- The collector's share comes from LuaJIT's sampler (a sample per millisecond of processor time); Lua garbage is what a step
-- allocates in Lua, tensors' memory aside. The pool counts its own time: mt_threads_profile in core/runtime.h.
--
-- @usage
-- local net, x = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 16, 16)
-- local report = torch.profile(function() net(x):sum():backward() end)
-- print(report)
-- --> ...

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local now = require('masked_torch.train.terminal').now

local C = native.cpu

-- ---- timers ----------------------------------------------------------------------------------------------------

-- Seconds that timed calls inside the current one took.
local inside = 0

local function finish(entry, field, outer, begin, ...)
  local elapsed = now() - begin
  entry[field] = entry[field] + elapsed - inside
  inside = outer + elapsed
  return ...
end

local function timed(entry, field, fn)
  return function(...)
    local outer = inside
    inside = 0
    entry.calls = entry.calls + (field == 'forward' and 1 or 0)
    return finish(entry, field, outer, now(), fn(...))
  end
end

-- Replaces object[key] for the time of the profile.
local function replace(undo, object, key, value)
  undo[#undo + 1] = { object, key, rawget(object, key) }
  rawset(object, key, value)
end

local function instrument(undo, entries)
  local function entry_of(name)
    local entry = { name = name, calls = 0, forward = 0, backward = 0 }
    entries[#entries + 1] = entry
    return entry
  end
  for name, op in pairs(autograd.registry) do
    local entry = entry_of(name)
    replace(undo, op, 'forward', timed(entry, 'forward', op.forward))
    if op.backward then replace(undo, op, 'backward', timed(entry, 'backward', op.backward)) end
  end
  local optim = require 'masked_torch.optim'
  for _, name in ipairs{ 'SGD', 'Adam', 'AdamW', 'RMSprop', 'Adan' } do
    local class = optim[name]
    replace(undo, class, 'step', timed(entry_of(name .. ':step'), 'forward', class.step))
  end
  for _, name in ipairs{ 'clip_grad_norm_', 'clip_grad_value_' } do
    local fn = optim[name]
    replace(undo, optim, name, timed(entry_of(name), 'forward', fn))
  end
end

-- Explicit collections: how often, how long, how much they found. keep_stopped: a full collection would start the automatic one.
local function watch_collector(undo, collector)
  local original = collectgarbage
  replace(undo, _G, 'collectgarbage', function(what, ...)
    if what ~= nil and what ~= 'collect' then return original(what, ...) end
    local before, begin = original 'count', now()
    local result = original('collect')
    collector.count, collector.seconds = collector.count + 1, collector.seconds + now() - begin
    collector.freed = collector.freed + math.max(0, before - original 'count')
    if collector.keep_stopped then original 'stop' end
    return result
  end)
end

-- ---- the report ------------------------------------------------------------------------------------------------

local Report = {}
Report.__index = Report

local function percent(part, whole) return whole > 0 and 100 * part / whole or 0 end

--- print(report): a line per operation, the slowest first, then collector and pool.
function Report:__tostring()
  local lines = { ('%d steps of %.3f ms, %d thread%s'):format(self.steps, self.seconds * 1e3, self.threads, self.threads > 1 and 's' or ''),
    ('%-24s %9s %12s %12s %8s'):format('', 'calls', 'forward ms', 'backward ms', 'share') }
  for _, op in ipairs(self.ops) do
    lines[#lines + 1] = ('%-24s %9.6g %12.3f %12s %6.1f %%'):format(op.name, op.calls, op.forward * 1e3,
      op.backward > 0 and ('%.3f'):format(op.backward * 1e3) or '-', percent(op.forward + op.backward, self.seconds))
  end
  lines[#lines + 1] = ('%-24s %9s %12.3f %12s %6.1f %%'):format('outside', '', self.outside * 1e3, '', percent(self.outside, self.seconds))
  local sampled = self.collector_share and (', %.1f %% of the time; JIT compiler %.1f %%'):format(100 * self.collector_share,
    100 * self.compiler_share) or ''
  lines[#lines + 1] = ('collector: %.1f KB of Lua garbage per step, %.2f full collections per step (%.3f ms each)%s'):format(
    self.garbage / 1024, self.collections, self.collection_seconds * 1e3, sampled)
  local busy = {}
  for i, share in ipairs(self.pool.busy) do busy[i] = ('%.0f'):format(100 * share) end
  lines[#lines + 1] = self.pool.loops == 0 and 'pool: not used' or
    ('pool: %.6g loops per step take %.1f %% of the time; threads busy %s %% of it: efficiency %.0f %%'):format(self.pool.loops,
      percent(self.pool.seconds, self.seconds), table.concat(busy, ', '), 100 * self.pool.efficiency)
  return table.concat(lines, '\n')
end

-- ---- running ---------------------------------------------------------------------------------------------------

-- Samples by state of the virtual machine, where this LuaJIT has the sampler.
local function start_sampler()
  local found, sampler = pcall(require, 'jit.profile')
  local samples = { total = 0, G = 0, J = 0 }
  if not found then return samples, function() end end
  sampler.start('i1', function(_, count, state)
    samples.total = samples.total + count
    samples[state] = (samples[state] or 0) + count
  end)
  return samples, sampler.stop
end

local function run(fn, steps, collector, entries)
  local report = setmetatable({ steps = steps, threads = C.mt_threads_get(), ops = {} }, Report)
  fn()      -- compiles, fills caches
  for _, entry in ipairs(entries) do entry.calls, entry.forward, entry.backward = 0, 0, 0 end
  collector.count, collector.seconds, collector.freed, inside = 0, 0, 0, 0
  local samples, stop_sampler = start_sampler()
  C.mt_threads_profile(1)
  local begin = now()
  local ok, message = pcall(function() for _ = 1, steps do fn() end end)
  report.seconds = (now() - begin) / steps
  C.mt_threads_profile(0)
  stop_sampler()
  if not ok then error(message, 0) end
  report.outside = report.seconds - inside / steps
  report.collections, report.collection_seconds = collector.count / steps, collector.count > 0 and collector.seconds / collector.count or 0
  if samples.total > 0 then
    report.collector_share, report.compiler_share = samples.G / samples.total, samples.J / samples.total
  end
  local wall, total = C.mt_threads_seconds() / steps, 0
  report.pool = { loops = C.mt_threads_loops() / steps, seconds = wall, busy = {} }
  for i = 1, report.threads do
    local busy = C.mt_threads_busy(i - 1) / steps
    report.pool.busy[i] = wall > 0 and busy / wall or 0
    total = total + report.pool.busy[i]
  end
  report.pool.efficiency = total / report.threads
  for _, entry in ipairs(entries) do
    if entry.calls > 0 or entry.backward > 0 then
      report.ops[#report.ops + 1] = { name = entry.name, calls = entry.calls / steps, forward = entry.forward / steps,
        backward = entry.backward / steps }
    end
  end
  table.sort(report.ops, function(a, b)
    local x, y = a.forward + a.backward, b.forward + b.backward
    if x ~= y then return x > y end
    return a.name < b.name
  end)
  return report
end

-- KB that one step allocates: with the collector at rest, what is there more afterwards and what explicit collections found.
local function garbage_of(fn, collector)
  collectgarbage()
  collector.keep_stopped, collector.freed = true, 0
  collectgarbage 'stop'
  local before = collectgarbage 'count'
  local ok, message = pcall(fn)
  local grown = collectgarbage 'count' - before
  collector.keep_stopped = false
  collectgarbage 'restart'
  if not ok then error(message, 0) end
  return grown + collector.freed
end

local profile_defaults = { steps = 5 }

--- torch.profile(fn, {steps = 5}) -> report: calls fn() once to warm up, `steps` times with timers and once more to count Lua
-- garbage. print(report) shows it; fields, all per step: seconds, ops (array of {name, calls, forward, backward}, slowest
-- first), outside, garbage (bytes), collections, collection_seconds (each), collector_share and compiler_share (0..1, nil without
-- samples), pool {loops, seconds, busy (share of `seconds` by thread), efficiency (their mean)}; steps, threads. An error
-- in fn passes through, and everything is as before.
local function profile(fn, opts)
  native.callable('profile', 'fn', fn)
  opts = options.parse('profile', profile_defaults, opts)
  native.integer('profile', 'steps', opts.steps, 1)
  local undo, entries, collector = {}, {}, { count = 0, seconds = 0, freed = 0 }
  instrument(undo, entries)
  watch_collector(undo, collector)
  local ok, report = pcall(function()
    local result = run(fn, opts.steps, collector, entries)
    result.garbage = 1024 * garbage_of(fn, collector)
    return result
  end)
  for i = #undo, 1, -1 do rawset(undo[i][1], undo[i][2], undo[i][3]) end
  if not ok then error(report, 0) end
  return report
end

return { profile = profile }
