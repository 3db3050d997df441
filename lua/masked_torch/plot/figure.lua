--- figure: what a figure holds. Data are copied when they are given; the picture is drawn by save (plot/layout.lua).

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local colormap = require 'masked_torch.plot.colormap'
local layout = require 'masked_torch.plot.layout'
local cairo = require 'masked_torch.native.cairo'

local check, fail = native.check, native.fail
local none, any = options.none, options.any

local Figure, Cell = {}, {}
Figure.__index, Cell.__index = Figure, Cell

-- ---- arguments -----------------------------------------------------------------------------------------------

local function text(op, argument, value)
  if type(value) ~= 'string' and type(value) ~= 'number' then
    fail('%s: %s: expected a text, got %s', op, argument, type(value))
  end
  value = tostring(value)
  local rest = value:gsub('[\1-\127]', ''):gsub('[\194-\223][\128-\191]', ''):gsub('[\224-\239][\128-\191][\128-\191]', '')
    :gsub('[\240-\244][\128-\191][\128-\191][\128-\191]', '')
  if rest ~= '' then fail('%s: %s: expected UTF-8 text without zero bytes, got %q', op, argument, value) end
  return value
end

-- Numbers of a 1-D tensor or a table as a Lua array.
local function numbers(op, argument, value)
  if Tensor.is_tensor(value) then
    Tensor.check(op, argument, value)
    if value:dim() ~= 1 then fail('%s: %s: expected 1 dimension, got %s', op, argument, Tensor.shape_text(value)) end
    local list = value:totable()
    if value.dtype == 'bool' then for i, v in ipairs(list) do list[i] = v and 1 or 0 end end
    return list
  end
  if type(value) ~= 'table' then
    fail('%s: %s: expected a 1-D tensor or a table of numbers, got %s', op, argument, type(value))
  end
  local list = {}
  for i, v in ipairs(value) do
    if type(v) ~= 'number' then fail('%s: %s: element %d: expected a number, got %s', op, argument, i, type(v)) end
    list[i] = v
  end
  return list
end

-- All elements of a tensor or the numbers of a table.
local function all_numbers(op, argument, value)
  if not Tensor.is_tensor(value) then return numbers(op, argument, value) end
  Tensor.check(op, argument, value)
  local n = value:numel()
  local buffer, list = ffi.new('double[?]', math.max(1, n)), {}
  check(value.K.mt_tensor_read(buffer, value._c))
  for i = 1, n do list[i] = buffer[i - 1] end
  return list
end

-- Blue, vermilion, green, purple, orange, sky, yellow, black: distinguishable with any colour vision (Okabe and Ito, 2008).
local PALETTE = { '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#f0e442', '#000000' }

local function color(op, value)
  local r, g, b = tostring(value):match('^#(%x%x)(%x%x)(%x%x)$')
  if type(value) ~= 'string' or not r then fail("%s: color: expected '#rrggbb', got %s", op, tostring(value)) end
  return { tonumber(r, 16) / 255, tonumber(g, 16) / 255, tonumber(b, 16) / 255 }
end

local function finite(v) return v == v and v < math.huge and v > -math.huge end

local function finite_range(values, n)
  local low, high = math.huge, -math.huge
  for i = 1, n or #values do
    local v = values[i]
    if finite(v) then low, high = math.min(low, v), math.max(high, v) end
  end
  if low > high then return nil end
  return low, high
end

-- A finite number or nil.
local function limit(op, argument, value)
  if value ~= nil and (type(value) ~= 'number' or not finite(value)) then
    fail('%s: %s: expected a finite number, got %s', op, argument, tostring(value))
  end
  return value
end

-- ---- figure --------------------------------------------------------------------------------------------------

--- torch.plot.figure{width = 6.4, height = 4.8, dpi = 100, title = nil, font_size = 9}: an empty figure; width and height in
-- inches, font_size in points. Raises an error that says how to get Cairo where it is missing.
local function new(opts)
  opts = options.parse('figure', { width = 6.4, height = 4.8, dpi = 100, title = none, font_size = 9 }, opts)
  for _, key in ipairs{ 'width', 'height', 'dpi', 'font_size' } do
    if not (opts[key] > 0 and opts[key] <= 10000) then
      fail('figure: %s: expected a number above 0 and at most 10000, got %s', key, tostring(opts[key]))
    end
  end
  cairo.open()
  return setmetatable({ width = opts.width * 72, height = opts.height * 72, dpi = opts.dpi, font_size = opts.font_size,
    heading = opts.title ~= nil and text('figure', 'title', opts.title) or nil }, Figure)
end

--- fig:title(text): a heading over the whole figure.
function Figure:title(value)
  self.heading = text('figure.title', 'title', value)
  return self
end

--- fig:grid(rows, columns, {gap = 6}): grid[r][c] are the cells; gap in points. Once per figure.
function Figure:grid(rows, columns, opts)
  if self.cells then fail('figure.grid: the figure already has a grid of %d x %d', #self.cells, #self.cells[1]) end
  native.integer('figure.grid', 'rows', rows, 1, 200)
  native.integer('figure.grid', 'columns', columns, 1, 200)
  opts = options.parse('figure.grid', { gap = 6 }, opts)
  self.cells, self.gap = {}, limit('figure.grid', 'gap', opts.gap)
  for r = 1, rows do
    self.cells[r] = {}
    for c = 1, columns do self.cells[r][c] = setmetatable({ series = {}, style = {} }, Cell) end
  end
  return self.cells
end

--- fig:cell(): the only cell of a figure without a grid.
function Figure:cell()
  return self.cells and self.cells[1][1] or self:grid(1, 1)[1][1]
end

local KINDS = { png = true, svg = true, pdf = true }

--- fig:save(path): draws the figure; the file's extension chooses the format. The file is whole or absent. May be called
-- several times. A PNG has width * dpi by height * dpi pixels.
function Figure:save(path)
  if type(path) ~= 'string' then fail('figure.save: path: expected a file name, got %s', type(path)) end
  local kind = (path:match('%.(%w+)$') or ''):lower()
  if not KINDS[kind] then
    fail("figure.save: %s: expected a file name that ends in .png, .svg or .pdf", path)
  end
  layout.save(self, path, kind)
  return self
end

--- fig:render(): the pixels as a uint8 tensor (3, height * dpi, width * dpi), the same as of a PNG. Several make an animation:
-- torch.io.gif.save('out/a.gif', {first:render(), second:render()}, {delay = 0.5}).
function Figure:render()
  local pixels = layout.render(self)
  return pixels
end

-- ---- cells ---------------------------------------------------------------------------------------------------

--- cell:title(text): above the cell; too long a text becomes smaller, then two lines, then ends with an ellipsis.
function Cell:title(value)
  self.heading = text('cell.title', 'title', value)
  return self
end

local function shade_scalar(op, t, opts)
  local values, n = ffi.new('double[?]', t:numel()), t:numel()
  check(t.K.mt_tensor_read(values, t._c))
  local low, high = limit(op, 'vmin', opts.vmin), limit(op, 'vmax', opts.vmax)
  if not low or not high then
    local least, most = math.huge, -math.huge
    for i = 0, n - 1 do
      local v = values[i]
      if finite(v) then least, most = math.min(least, v), math.max(most, v) end
    end
    if least > most then least, most = 0, 1 end
    low, high = low or least, high or most
  end
  if low > high then fail('%s: vmin %g is above vmax %g', op, low, high) end
  local map, scale = colormap.table(opts.cmap), high > low and 1 / (high - low) or 0
  local function shade(v)
    if v ~= v then return 0xffc8c8c8 end
    local position = (v - low) * scale
    if position ~= position then position = v > low and 1 or 0 end
    local c = map[colormap.index(math.max(0, math.min(1, position)))]
    return 0xff000000 + c[1] * 65536 + c[2] * 256 + c[3]
  end
  local pixels = ffi.new('uint32_t[?]', n)
  for i = 0, n - 1 do pixels[i] = shade(values[i]) end
  return { pixels = pixels, values = values, shade = shade, low = low, high = high }
end

local function shade_rgb(t)
  local n = t:numel() / 3
  local values, pixels = ffi.new('double[?]', n * 3), ffi.new('uint32_t[?]', n)
  check(t.K.mt_tensor_read(values, t._c))
  local scale = Tensor.floating[t.dtype] and 255 or 1
  local function byte(v)
    v = v * scale
    return v ~= v and 200 or math.floor(math.max(0, math.min(255, v)) + 0.5)
  end
  for i = 0, n - 1 do
    pixels[i] = 0xff000000 + byte(values[3 * i]) * 65536 + byte(values[3 * i + 1]) * 256 + byte(values[3 * i + 2])
  end
  return { pixels = pixels }
end

--- cell:image(t, {cmap = 'viridis', vmin = nil, vmax = nil, title = nil, aspect = 'equal', colorbar = false, frame = true})
-- t (H, W): through a colour map ('viridis', 'coolwarm', 'gray') from vmin to vmax, by default the least and the largest finite
-- value; NaN is light gray. t (H, W, 3): red, green, blue, 0..1 if floating point, else 0..255. Row 1 is on top. aspect 'fill'
-- stretches the image over the cell. colorbar: true, or a text beside it. No ticks.
function Cell:image(t, opts)
  opts = options.parse('cell.image', { cmap = 'viridis', vmin = none, vmax = none, title = none, aspect = 'equal',
    colorbar = any(false), frame = true }, opts)
  Tensor.check('cell.image', 'image', t)
  local shape = t:size()
  if not (#shape == 2 or #shape == 3 and shape[3] == 3) or shape[1] * shape[2] == 0 then
    fail('cell.image: image: expected (H, W) or (H, W, 3) without a size of 0, got %s', Tensor.shape_text(t))
  end
  options.choice('cell.image', 'aspect', opts.aspect, { 'equal', 'fill' })
  colormap.table(opts.cmap)
  local picture = #shape == 2 and shade_scalar('cell.image', t, opts) or shade_rgb(t)
  picture.rows, picture.columns = shape[1], shape[2]
  picture.cmap, picture.aspect, picture.frame = opts.cmap, opts.aspect, opts.frame
  self.picture = picture
  if opts.title ~= nil then self:title(opts.title) end
  if opts.colorbar then self:colorbar(type(opts.colorbar) == 'string' and { label = opts.colorbar } or nil) end
  return self
end

--- cell:colorbar{label = nil}: the scale of the cell's image beside it.
function Cell:colorbar(opts)
  opts = options.parse('cell.colorbar', { label = none }, opts)
  if not self.picture or not self.picture.low then
    fail('cell.colorbar: the cell has no image with a colour map')
  end
  self.picture.bar = { label = opts.label ~= nil and text('cell.colorbar', 'label', opts.label) or nil }
  return self
end

local function add(cell, op, series, opts)
  series.color = color(op, opts.color or PALETTE[#cell.series % #PALETTE + 1])
  series.label = opts.label ~= nil and text(op, 'label', opts.label) or nil
  cell.series[#cell.series + 1] = series
  return cell
end

--- cell:line([x,] y, {label = nil, color = nil, width = 1.2, dash = nil, marker = false}): x and y are 1-D tensors or tables of
-- equal length; x defaults to 1, 2, ... NaN breaks the line. dash: lengths in points ({4, 2}); marker: a dot at every point.
function Cell:line(x, y, opts)
  if not Tensor.is_tensor(y) and (y == nil or type(y) == 'table' and y[1] == nil and next(y) ~= nil) then
    x, y, opts = nil, x, y
  end
  opts = options.parse('cell.line', { label = none, color = none, width = 1.2, dash = none, marker = false }, opts)
  y = numbers('cell.line', 'y', y)
  if x == nil then
    x = {}
    for i = 1, #y do x[i] = i end
  else
    x = numbers('cell.line', 'x', x)
  end
  if #x ~= #y then fail('cell.line: x has %d elements, y has %d', #x, #y) end
  local dash = opts.dash and numbers('cell.line', 'dash', opts.dash)
  for _, v in ipairs(dash or {}) do
    if not (v > 0 and v < 1000) then fail('cell.line: dash: expected lengths above 0, got %s', tostring(v)) end
  end
  if not (opts.width >= 0 and opts.width < 1000) then
    fail('cell.line: width: expected at least 0, got %s', tostring(opts.width))
  end
  return add(self, 'cell.line', { kind = 'line', x = x, y = y, width = opts.width, dash = dash, marker = opts.marker }, opts)
end

--- cell:bars(values, {labels = nil, label = nil, color = nil}): one bar per value; labels name the bars below the axis, label the
-- group in the legend. Called again, it puts a further group beside the first.
function Cell:bars(values, opts)
  opts = options.parse('cell.bars', { labels = none, label = none, color = none }, opts)
  values = numbers('cell.bars', 'values', values)
  if opts.labels ~= nil then
    if type(opts.labels) ~= 'table' or #opts.labels ~= #values then
      fail('cell.bars: labels: expected a table of %d texts, got %s', #values,
        type(opts.labels) == 'table' and #opts.labels or type(opts.labels))
    end
    local names = {}
    for i, name in ipairs(opts.labels) do names[i] = text('cell.bars', 'labels', name) end
    self.style.names = names
  end
  return add(self, 'cell.bars', { kind = 'bars', y = values }, opts)
end

--- cell:histogram(values, {bins = 30, low = nil, high = nil, density = false, label = nil, color = nil}): values is a tensor of
-- any shape or a table; low and high default to its finite range; density scales the area to 1. Values outside are left out.
function Cell:histogram(values, opts)
  opts = options.parse('cell.histogram', { bins = 30, low = none, high = none, density = false, label = none, color = none },
    opts)
  native.integer('cell.histogram', 'bins', opts.bins, 1, 100000)
  values = all_numbers('cell.histogram', 'values', values)
  local low, high = limit('cell.histogram', 'low', opts.low), limit('cell.histogram', 'high', opts.high)
  local least, most = finite_range(values)
  low, high = low or least or 0, high or most or 1
  if low == high then low, high = low - 0.5, high + 0.5 end
  if low > high then fail('cell.histogram: low %g is above high %g', low, high) end
  local counts, total, width = {}, 0, (high - low) / opts.bins
  for i = 1, opts.bins do counts[i] = 0 end
  for _, v in ipairs(values) do
    if v >= low and v <= high then
      local i = math.min(opts.bins, math.floor((v - low) / width) + 1)
      counts[i], total = counts[i] + 1, total + 1
    end
  end
  if opts.density and total > 0 then
    for i = 1, opts.bins do counts[i] = counts[i] / total / width end
  end
  return add(self, 'cell.histogram', { kind = 'histogram', y = counts, low = low, bin = width }, opts)
end

--- cell:axes{x_label =, y_label =, x_log = false, y_log = false, x_min =, x_max =, y_min =, y_max =, ticks = true, grid = true,
-- legend = true}: how the axes of lines, bars and histograms look. The legend shows the series with a label.
function Cell:axes(opts)
  opts = options.parse('cell.axes', { x_label = none, y_label = none, x_log = false, y_log = false, x_min = none, x_max = none,
    y_min = none, y_max = none, ticks = true, grid = true, legend = true }, opts)
  for _, axis in ipairs{ 'x', 'y' } do
    local label, low, high = opts[axis .. '_label'], axis .. '_min', axis .. '_max'
    if label ~= nil then opts[axis .. '_label'] = text('cell.axes', axis .. '_label', label) end
    limit('cell.axes', low, opts[low])
    limit('cell.axes', high, opts[high])
    if opts[low] and opts[high] and opts[low] >= opts[high] then
      fail('cell.axes: %s %g is not below %s %g', low, opts[low], high, opts[high])
    end
    for _, key in ipairs{ low, high } do
      if opts[axis .. '_log'] and opts[key] and opts[key] <= 0 then
        fail('cell.axes: %s: expected a number above 0 on a log scale, got %g', key, opts[key])
      end
    end
  end
  opts.names = self.style.names
  self.style = opts
  return self
end

return { new = new }
