--- sketch: a tensor in a few characters: a heat map of one or more rows, a histogram of one line.
--
--     print(sketch.map(x))     mean over all dims but the last; `:map x` of a matrix draws up to 24 rows
--     print(sketch.hist(x))    how its finite elements are distributed, in as many bins as there is room

local color = require 'masked_torch.repl.color'
local native = require 'masked_torch.native'
local terminal = require 'masked_torch.train.terminal'
local Tensor = require 'masked_torch.tensor'

local sketch = {}

local BARS = { ' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█' }
local PLAIN = { ' ', '.', ':', '-', '=', '+', '*', '#', '@' }
local MOST_ROWS = 24

local function ramp() return terminal.is_utf8() and BARS or PLAIN end

local function check(op, t)
  Tensor.check(op, 'x', t)
  if t:numel() == 0 then native.fail('%s: x: %s has no elements', op, Tensor.shape_text(t)) end
  return t:detach():to{ dtype = 'float64', device = 'cpu' }
end

-- The list shortened to `most` values, each the mean of a run; holes (NaN) do not count.
local function shorten(list, most)
  if #list <= most then return list end
  local out = {}
  for i = 1, most do
    local first, last = math.floor((i - 1) * #list / most) + 1, math.floor(i * #list / most)
    local sum, n = 0, 0
    for k = first, last do
      if list[k] == list[k] then sum, n = sum + list[k], n + 1 end
    end
    out[i] = n > 0 and sum / n or 0 / 0
  end
  return out
end

local function finite(v) return v == v and v < math.huge and v > -math.huge end

local function extremes(rows)
  local low, high = math.huge, -math.huge
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do
      if finite(v) then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  return low, high
end

local function background(fraction)
  local colormap = require 'masked_torch.plot.colormap'
  return color.background(unpack(colormap.table('viridis')[colormap.index(fraction)]))
end

local function cells(row, low, high)
  local out, steps = {}, ramp()
  for i, v in ipairs(row) do
    if not finite(v) then
      out[i] = v ~= v and '?' or '!'
    else
      local fraction = high > low and (v - low) / (high - low) or 0.5
      if color.on then
        out[i] = background(fraction) .. ' '
      else
        out[i] = steps[1 + math.floor(fraction * (#steps - 1) + 0.5)]
      end
    end
  end
  return table.concat(out) .. (color.on and '\27[0m' or '')
end

--- sketch.map(t): t over its last two dims (the mean over the others), darkest the smallest. One line for a vector. `?` marks NaN, `!` Inf.
function sketch.map(t)
  local x = check('map', t)
  while x:dim() > 2 do x = x:mean(1) end
  if x:dim() == 0 then x = x:reshape(1) end
  local rows = x:dim() == 1 and { x:totable() } or x:totable()
  local width = math.max(10, terminal.columns() - 2)
  for i, row in ipairs(rows) do rows[i] = shorten(row, width) end
  if #rows > MOST_ROWS then
    local fewer = {}
    for c = 1, #rows[1] do
      local column = {}
      for r = 1, #rows do column[r] = rows[r][c] end
      for r, v in ipairs(shorten(column, MOST_ROWS)) do
        fewer[r] = fewer[r] or {}
        fewer[r][c] = v
      end
    end
    rows = fewer
  end
  local low, high = extremes(rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = cells(row, low, high) end
  lines[#lines + 1] = low <= high and ('%.4g .. %.4g'):format(low, high) or 'nothing finite'
  return table.concat(lines, '\n')
end

--- sketch.hist(t): one line: the smallest element, bars, the largest; what is not finite is counted behind.
function sketch.hist(t)
  local x = check('hist', t)
  local flat = x:reshape(-1)
  local good = flat:isfinite()
  local n = good:sum():item()
  local bad = x:numel() - n
  if n == 0 then return ('nothing finite in %d elements'):format(x:numel()) end
  local values = bad > 0 and flat:masked_select(good) or flat
  local low, high = values:min():item(), values:max():item()
  local bins = math.max(8, math.min(48, terminal.columns() - 34))
  -- A bin number per element, counted by one kernel.
  local bin = high > low and ((values - low) / ((high - low) / bins)):floor():clamp(0, bins - 1) or values * 0
  local empty = require('masked_torch').zeros(bins, { dtype = 'float64' })
  local counts = empty:index_add(1, (bin + 1):to{ dtype = 'int64' }, values * 0 + 1):totable()
  local most = 0
  for _, c in ipairs(counts) do most = math.max(most, c) end
  local steps, bars = ramp(), {}
  for i, c in ipairs(counts) do bars[i] = steps[c == 0 and 1 or 2 + math.floor((c / most) * (#steps - 2) + 1e-9)] end
  local text = ('%.4g |%s| %.4g'):format(low, table.concat(bars), high)
  if bad > 0 then text = text .. ('  %d not finite'):format(bad) end
  return text .. ('  mean %.4g, std %.4g'):format(values:mean():item(), values:std({ correction = 0 }):item())
end

return sketch
