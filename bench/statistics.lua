--- statistics: what the driver computes from times, and the lines it prints. Pure functions.

local statistics = {}

--- The quantile p (0..1) of an array of numbers, linear between neighbours.
function statistics.quantile(values, p)
  local sorted = { unpack(values) }
  table.sort(sorted)
  local at = 1 + p * (#sorted - 1)
  local low = math.floor(at)
  local high = math.min(low + 1, #sorted)
  return sorted[low] + (at - low) * (sorted[high] - sorted[low])
end

--- How often a call must be repeated, so that a measurement takes about `target` seconds: 1 to 1000.
function statistics.repeats(seconds, target)
  return math.max(1, math.min(1000, math.ceil(target / math.max(seconds, 1e-9))))
end

--- Times of one round each, of us and of another contender -> {median, low, high}: how many times longer the other takes,
-- compared round by round; low and high are the quantiles 0.2 and 0.8.
function statistics.ratio(ours, other)
  assert(#ours == #other and #ours > 0, 'ratio: as many rounds of both')
  local ratios = {}
  for i = 1, #ours do ratios[i] = other[i] / ours[i] end
  return { median = statistics.quantile(ratios, 0.5), low = statistics.quantile(ratios, 0.2), high = statistics.quantile(ratios, 0.8) }
end

--- A measurement counts when the peak was the same before and after, and near the best one ever seen with as many threads: within
-- `tolerance` (0.15). Not a number is never near.
function statistics.rejected(before, after, best, tolerance)
  local share = 1 - (tolerance or 0.15)
  return not (before >= share * after and after >= share * before and before >= share * best and after >= share * best)
end

--- What a peak on `threads` threads is compared with: the best one seen; for two threads at least 1.8 times that of one.
function statistics.reference(best, threads)
  return math.max(best[threads] or 0, threads == 2 and best[1] and 1.8 * best[1] or 0)
end

--- times: contender -> array of seconds per call, one per round; 'ours' among them. row: {flops =, bytes =} of one call (0 or nil: not
-- counted). ceilings: {flops = in GFLOP/s, bytes = in GB/s}, measured; errors: contender -> largest relative error. Returns one entry per
-- contender, in the given order: {name, best, median (seconds), rate (GFLOP/s of the best, or GB/s), share (of the ceiling), error,
-- ratio (nil for ours)}.
function statistics.summarise(order, times, row, ceilings, errors)
  local what = row.flops > 0 and 'flops' or row.bytes and 'bytes'
  local out = {}
  for _, name in ipairs(order) do
    local t = times[name]
    if t and #t > 0 then
      local best = statistics.quantile(t, 0)
      local entry = { name = name, best = best, median = statistics.quantile(t, 0.5), error = errors and errors[name] }
      if what then
        entry.rate = row[what] / best * 1e-9
        entry.share = ceilings[what] and entry.rate / ceilings[what]
      end
      if name ~= 'ours' then entry.ratio = statistics.ratio(times.ours, t) end
      out[#out + 1] = entry
    end
  end
  return out
end

--- The contender that beats us most (or least loses to us) among those that `counts` accepts: the smallest median ratio.
function statistics.strongest(entries, counts)
  local best
  for _, entry in ipairs(entries) do
    if entry.ratio and counts(entry.name) and (not best or entry.ratio.median < best.ratio.median) then best = entry end
  end
  return best
end

-- ---- lines -------------------------------------------------------------------------------------------------------

local function number(format, value, width)
  if value == nil then return (' '):rep(width - 1) .. '-' end
  local text = format:format(value)
  return (' '):rep(width - #text) .. text
end

--- The head of the table.
function statistics.head()
  return ('  %-22s %10s %8s %7s %8s %16s %9s'):format('', 'best ms', 'G/s', '% peak', 'ratio', 'p20 .. p80', 'error')
end

--- One contender's line.
function statistics.line(entry)
  local ratio = entry.ratio
  return ('  %-22s %s %s %s %s %16s %s'):format(entry.name, number('%.3f', entry.best * 1e3, 10), number('%.1f', entry.rate, 8),
    number('%.0f', entry.share and entry.share * 100, 7), number('%.2f', ratio and ratio.median, 8),
    ratio and ('%.2f .. %.2f'):format(ratio.low, ratio.high) or '', number('%.1e', entry.error, 9))
end

--- The goal of a masked layer whose share `area` is valid, against our plain one: at most 0.02 + 1.1 area of its time.
function statistics.area_goal(area) return 1 / math.min(1.02, 0.02 + 1.1 * area) end

--- Who a goal is about: 'torch' is any row of PyTorch itself, 'masked_torch' its layers, eager or compiled; 'torch eager' is 'torch' alone.
function statistics.matches(against, name)
  local eager = against:match('^(.*) eager$')
  if eager or against == 'ours plain' then return name == (eager or against) end
  return name == against or name:sub(1, #against + 1) == against .. ' '
end

--- results: array of {name =, goals = array of {against =, ratio =}, setting = 'threads or precision', entries =, rejected =} -> lines: the
-- ratio to the strongest contender of each kind, and whether the goals are met.
function statistics.table(results)
  local kinds = { 'ours plain', 'onednn', 'torch', 'masked_torch' }
  local lines = { ('%-56s %9s %10s %7s %7s %12s  %s'):format('', '', kinds[1], kinds[2], kinds[3], kinds[4], 'goals') }
  for _, result in ipairs(results) do
    local cells = {}
    for i, kind in ipairs(kinds) do
      local entry = statistics.strongest(result.entries, function(name) return statistics.matches(kind, name) end)
      cells[i] = entry and ('%.2f'):format(entry.ratio.median) or '-'
    end
    local texts = {}
    for _, goal in ipairs(result.goals) do
      local entry = statistics.strongest(result.entries, function(name) return statistics.matches(goal.against, name) end)
      if entry then
        texts[#texts + 1] = ('%s %.3g: %s'):format(goal.against, goal.ratio, entry.ratio.median >= goal.ratio and 'met' or 'missed')
      end
    end
    lines[#lines + 1] = ('%-56s %9s %10s %7s %7s %12s  %s%s'):format(result.name, result.setting, cells[1], cells[2], cells[3], cells[4],
      table.concat(texts, ', '), result.rejected and ' *' or '')
  end
  return lines
end

return statistics
