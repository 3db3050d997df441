--- axes: lines, bars and histograms with their scales, ticks, labels and legend.

local ticks = require 'masked_torch.plot.ticks'

local axes = {}

local function finite(v) return v == v and v < math.huge and v > -math.huge end

-- ---- scales --------------------------------------------------------------------------------------------------

local function extend(range, v, log)
  if finite(v) and (not log or v > 0) then
    range.low, range.high = math.min(range.low, v), math.max(range.high, v)
  end
end

-- The range of an axis: the user's limits, else the data's with some air.
local function settle(range, low, high, log, air_low, air_high)
  if range.low > range.high then range.low, range.high = log and 1 or 0, log and 10 or 1 end
  local a, b = range.low, range.high
  if log then a, b = math.log10(a), math.log10(b) end
  if a == b then
    local d = log and 0.5 or a == 0 and 0.5 or math.abs(a) * 0.1
    a, b = a - d, b + d
  end
  local span = b - a
  a, b = a - air_low * span, b + air_high * span
  if low then a = log and math.log10(low) or low end
  if high then b = log and math.log10(high) or high end
  if a >= b then       -- one limit given, on the far side of the data
    if low then b = a + 1 else a = b - 1 end
  end
  return { a = a, b = b, log = log }
end

-- Position of a value in 0..1; NaN where it has none.
local function at(scale, v)
  if scale.log then
    if v ~= v or v <= 0 then return 0 / 0 end
    v = math.log10(v)
  end
  return (v - scale.a) / (scale.b - scale.a)
end

local function marks(scale, n)
  if scale.log then return ticks.log(10 ^ scale.a, 10 ^ scale.b, n) end
  return ticks.linear(scale.a, scale.b, n)
end

local function ranges(cell)
  local style = cell.style
  local x, y = { low = math.huge, high = -math.huge }, { low = math.huge, high = -math.huge }
  local grounded = false
  for _, s in ipairs(cell.series) do
    if s.kind == 'line' then
      for i = 1, #s.y do
        if finite(s.x[i]) and finite(s.y[i]) then
          extend(x, s.x[i], style.x_log)
          extend(y, s.y[i], style.y_log)
        end
      end
    else
      grounded = true
      if s.kind == 'bars' then
        extend(x, 0.5, style.x_log)
        extend(x, #s.y + 0.5, style.x_log)
      else
        extend(x, s.low, style.x_log)
        extend(x, s.low + s.bin * #s.y, style.x_log)
      end
      for _, v in ipairs(s.y) do extend(y, v, style.y_log) end
    end
  end
  if grounded and not style.y_log then extend(y, 0) end
  local floor_air = grounded and y.low == 0 and 0 or 0.05
  return settle(x, style.x_min, style.x_max, style.x_log, grounded and 0 or 0.02, grounded and 0 or 0.02),
    settle(y, style.y_min, style.y_max, style.y_log, floor_air, 0.05), grounded
end

local function y_marks(scale, height, size) return marks(scale, math.max(2, math.floor(height / (size * 2.8)))) end
local function x_marks(scale, width, size) return marks(scale, math.max(2, math.floor(width / (size * 5)))) end

-- ---- room ----------------------------------------------------------------------------------------------------

--- Room left of and below the axes of a cell of about that size.
function axes.margins(canvas, cell, width, height, size)
  local style = cell.style
  local left, bottom = 4, 4
  if style.ticks ~= false then
    local _, y = ranges(cell)
    local _, labels = y_marks(y, height * 0.8, size)
    local widest = 0
    for _, label in ipairs(labels) do widest = math.max(widest, canvas:width(label, size)) end
    left, bottom = widest + 7, size * 1.3 + 4
  end
  if style.y_label then left = left + size * 1.5 end
  if style.x_label then bottom = bottom + size * 1.5 end
  return math.min(left, width * 0.6), bottom
end

-- ---- drawing -------------------------------------------------------------------------------------------------

local function draw_ticks(canvas, cell, frame, size)
  local style, x, y, w, h = cell.style, frame.x, frame.y, frame.w, frame.h
  local positions, labels
  if style.names then
    positions, labels = {}, {}
    for i, name in ipairs(style.names) do
      positions[i] = i
      labels[i] = canvas:fit(name, size, w / #style.names - 2)[1]
    end
  else
    positions, labels = x_marks(frame.sx, w, size)
  end
  local last = -math.huge      -- labels never run into each other
  for i, value in ipairs(positions) do
    local px = x + w * at(frame.sx, value)
    if not style.names and style.grid ~= false then
      canvas:color(0.9, 0.9, 0.9)
      canvas:rule(px, y, px, y + h)
    end
    canvas:color(0, 0, 0)
    if not style.names then canvas:rule(px, y + h, px, y + h + 2.5) end
    local half = canvas:width(labels[i], size) / 2
    if px - half > last + 2 then
      canvas:text(px, y + h + 3.5 + size, labels[i], size, 'center')
      last = px + half
    end
  end
  positions, labels = y_marks(frame.sy, h, size)
  for i, value in ipairs(positions) do
    local py = y + h * (1 - at(frame.sy, value))
    if style.grid ~= false then
      canvas:color(0.9, 0.9, 0.9)
      canvas:rule(x, py, x + w, py)
    end
    canvas:color(0, 0, 0)
    canvas:rule(x - 2.5, py, x, py)
    canvas:text(x - 4, py + 0.36 * size, labels[i], size, 'right')
  end
end

local function draw_labels(canvas, cell, frame, size)
  local style = cell.style
  canvas:color(0, 0, 0)
  if style.x_label then
    local lines, fitted = canvas:fit(style.x_label, size * 1.05, frame.w)
    local below = (style.ticks ~= false and size * 1.3 + 3 or 2) + size * 1.1
    canvas:text(frame.x + frame.w / 2, frame.y + frame.h + below, lines[1], fitted, 'center')
  end
  if style.y_label then
    local lines, fitted = canvas:fit(style.y_label, size * 1.05, frame.h)
    local _, labels = y_marks(frame.sy, frame.h, size)
    local widest = 0
    if style.ticks ~= false then
      for _, label in ipairs(labels) do widest = math.max(widest, canvas:width(label, size)) end
    end
    canvas:text(frame.x - widest - 8, frame.y + frame.h / 2, lines[1], fitted, 'center', true)
  end
end

-- Where a series' points lie on the page: {x1, y1, ...}, NaN between broken parts.
local function page(frame, xs, ys)
  local points = {}
  for i = 1, #ys do
    -- Far outside the frame a coordinate would overflow Cairo's numbers.
    local tx, ty = at(frame.sx, xs[i]), at(frame.sy, ys[i])
    local px, py = frame.x + frame.w * tx, frame.y + frame.h * (1 - ty)
    if not (finite(px) and finite(py)) then px, py = 0 / 0, 0 / 0 end
    points[2 * i - 1] = math.max(-1e5, math.min(1e5, px))
    points[2 * i] = math.max(-1e5, math.min(1e5, py))
    if px ~= px then points[2 * i - 1], points[2 * i] = px, py end
  end
  return points
end

local function draw_line(canvas, frame, s)
  local points = page(frame, s.x, s.y)
  if s.width > 0 then canvas:polyline(points, s.width, s.dash) end
  if s.marker then
    for i = 1, #points, 2 do
      if points[i] == points[i] then canvas:dot(points[i], points[i + 1], 1.2 + s.width * 0.6) end
    end
  end
end

-- A column from the baseline to a value.
local function column(canvas, frame, from, to, value)
  local base = frame.sy.log and 0 or math.max(0, math.min(1, at(frame.sy, 0)))
  local top = at(frame.sy, value)
  if not finite(top) or not finite(from) or not finite(to) then return end
  top = math.max(-1, math.min(2, top))
  local low, high = math.min(base, top), math.max(base, top)
  canvas:rectangle(frame.x + frame.w * from, frame.y + frame.h * (1 - high), frame.w * (to - from), frame.h * (high - low))
end

-- A histogram as one outline: columns of their own would show seams.
local function draw_steps(canvas, frame, s)
  local bottom = frame.y + frame.h
  local function level(value)
    local t = at(frame.sy, value)
    return t == t and frame.y + frame.h * (1 - math.max(0, math.min(2, t))) or bottom
  end
  local function edge(i)
    local t = at(frame.sx, s.low + i * s.bin)
    return frame.x + frame.w * (t == t and math.max(-1, math.min(2, t)) or 0)
  end
  local points = { edge(0), bottom }
  for i, value in ipairs(s.y) do
    local n, y = #points, level(value)
    points[n + 1], points[n + 2], points[n + 3], points[n + 4] = edge(i - 1), y, edge(i), y
  end
  points[#points + 1], points[#points + 2] = edge(#s.y), bottom
  canvas:polygon(points)
end

local function draw_series(canvas, cell, frame)
  local groups, group = 0, 0
  for _, s in ipairs(cell.series) do
    if s.kind == 'bars' then groups = groups + 1 end
  end
  local histograms = 0
  for _, s in ipairs(cell.series) do
    canvas:color(s.color[1], s.color[2], s.color[3])
    if s.kind == 'line' then
      draw_line(canvas, frame, s)
    elseif s.kind == 'bars' then
      local width = 0.8 / groups
      for i, value in ipairs(s.y) do
        local from = i - 0.4 + group * width
        column(canvas, frame, at(frame.sx, from), at(frame.sx, from + width), value)
      end
      group = group + 1
    else
      -- A second histogram lets the first one shine through.
      histograms = histograms + 1
      if histograms > 1 then canvas:color(s.color[1], s.color[2], s.color[3], 0.6) end
      draw_steps(canvas, frame, s)
    end
  end
end

-- ---- legend --------------------------------------------------------------------------------------------------

-- Items of the legend and the size of its box; nil without one.
local function legend_of(canvas, cell, frame, size)
  local items, widest = {}, 0
  for _, s in ipairs(cell.series) do
    if s.label then
      local lines, fitted = canvas:fit((s.label:gsub('\n', ' ')), size, frame.w * 0.6)
      items[#items + 1] = { series = s, text = lines[1], size = fitted }
      widest = math.max(widest, canvas:width(lines[1], fitted))
    end
  end
  if #items == 0 or cell.style.legend == false then return nil end
  return { items = items, w = widest + 24, h = #items * size * 1.35 + 4 }
end

-- How many points and columns a box would cover.
local function covered(cell, frame, x, y, w, h)
  local hits = 0
  for _, s in ipairs(cell.series) do
    local column_series = s.kind ~= 'line'
    for i = 1, #s.y do
      local from, to
      if s.kind == 'bars' then
        from, to = i - 0.4, i + 0.4
      elseif column_series then
        from, to = s.low + (i - 1) * s.bin, s.low + i * s.bin
      else
        from, to = s.x[i], s.x[i]
      end
      local left, right = frame.x + frame.w * at(frame.sx, from), frame.x + frame.w * at(frame.sx, to)
      local top = frame.y + frame.h * (1 - at(frame.sy, s.y[i]))
      if right >= x and left <= x + w and top <= y + h and (column_series or top >= y) then hits = hits + 1 end
    end
  end
  return hits
end

-- The corner where a legend hides least.
local function place(cell, frame, legend)
  local best
  for _, corner in ipairs{ { 1, 0 }, { 0, 0 }, { 0, 1 }, { 1, 1 } } do
    local x = frame.x + 3 + corner[1] * (frame.w - legend.w - 6)
    local y = frame.y + 3 + corner[2] * (frame.h - legend.h - 6)
    local hits = covered(cell, frame, x, y, legend.w, legend.h)
    if not best or hits < best.hits then best = { x = x, y = y, hits = hits } end
  end
  return best
end

local function draw_legend(canvas, legend, x, y, size)
  canvas:color(1, 1, 1, 0.85)
  canvas:rectangle(x, y, legend.w, legend.h)
  for i, item in ipairs(legend.items) do
    local s, middle = item.series, y + 2 + (i - 0.5) * size * 1.35
    canvas:color(s.color[1], s.color[2], s.color[3])
    if s.kind == 'line' then
      canvas:polyline({ x + 3, middle, x + 17, middle }, math.max(s.width, 0.5), s.dash)
      if s.marker then canvas:dot(x + 10, middle, 1.2 + s.width * 0.6) end
    else
      canvas:rectangle(x + 5, middle - 3, 10, 6)
    end
    canvas:color(0, 0, 0)
    canvas:text(x + 20, middle + 0.36 * item.size, item.text, item.size)
  end
end

--- Draws a cell's series; x, y, w, h is the frame of the data.
function axes.draw(canvas, cell, x, y, w, h, size)
  local sx, sy, grounded = ranges(cell)
  local frame = { x = x, y = y, w = w, h = h, sx = sx, sy = sy, grounded = grounded }
  local legend, spot = legend_of(canvas, cell, frame, size), nil
  if legend then
    spot = place(cell, frame, legend)
    if spot.hits > 0 and not cell.style.y_max and legend.h < h / 2 then
      -- No free corner: the data leave room above them.
      sy.b = sy.a + (sy.b - sy.a) / (1 - (legend.h + 4) / h)
      spot = place(cell, frame, legend)
    end
  end
  if cell.style.ticks ~= false then draw_ticks(canvas, cell, frame, size) end
  canvas:clipped(x, y, w, h, function() draw_series(canvas, cell, frame) end)
  canvas:color(0, 0, 0)
  canvas:rule(x, y + h, x + w, y + h)
  canvas:rule(x, y, x, y + h)
  local zero = at(sy, 0)
  if frame.grounded and zero > 0 and zero < 1 then canvas:rule(x, y + h * (1 - zero), x + w, y + h * (1 - zero), 0.4) end
  draw_labels(canvas, cell, frame, size)
  if legend then draw_legend(canvas, legend, spot.x, spot.y, size) end
end

return axes
