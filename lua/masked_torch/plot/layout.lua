--- layout: places the cells of a figure, draws them and writes the file.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local colormap = require 'masked_torch.plot.colormap'
local Canvas = require 'masked_torch.plot.canvas'
local axes = require 'masked_torch.plot.axes'
local ticks = require 'masked_torch.plot.ticks'

local layout = {}

local MARGIN, LINE = 8, 1.25      -- points; line height in font sizes
local BAR, BAR_GAP = 7, 4         -- width of a colour bar and its distance from the image

-- ---- titles --------------------------------------------------------------------------------------------------

-- Height of a fitted text.
local function text_height(lines, size) return #lines * size * LINE end

-- Lines of a fitted text, centred on x, the last baseline just above y.
local function draw_lines(canvas, lines, size, x, y)
  canvas:color(0, 0, 0)
  for i, line in ipairs(lines) do
    canvas:text(x, y - (#lines - i) * size * LINE - 0.25 * size, line, size, 'center')
  end
end

-- ---- images --------------------------------------------------------------------------------------------------

local function bar_labels(picture, height, size)
  if picture.low == picture.high then return { picture.low }, { ('%g'):format(picture.low) } end
  return ticks.linear(picture.low, picture.high, math.max(2, math.min(6, math.floor(height / (3 * size)))))
end

-- Room that the colour bar takes at the right of the image.
local function bar_width(canvas, picture, height, size)
  if not picture.bar then return 0 end
  local _, labels = bar_labels(picture, height, size)
  local widest = 0
  for _, label in ipairs(labels) do widest = math.max(widest, canvas:width(label, size)) end
  return BAR_GAP + BAR + 5 + widest + (picture.bar.label and size * 1.6 or 0)
end

local function draw_frame(canvas, x, y, w, h)
  canvas:color(0, 0, 0)
  canvas:rule(x, y, x + w, y)
  canvas:rule(x, y + h, x + w, y + h)
  canvas:rule(x, y, x, y + h)
  canvas:rule(x + w, y, x + w, y + h)
end

local function draw_bar(canvas, picture, x, y, h, room, size)
  local map, pixels = colormap.table(picture.cmap), ffi.new('uint32_t[256]')
  for i = 0, 255 do
    local c = map[256 - i]
    pixels[i] = 0xff000000 + c[1] * 65536 + c[2] * 256 + c[3]
  end
  canvas:image(x, y, BAR, h, { rows = 256, columns = 1, pixels = pixels })
  draw_frame(canvas, x, y, BAR, h)
  local positions, labels = bar_labels(picture, h, size)
  for i, value in ipairs(positions) do
    local t = picture.high > picture.low and (value - picture.low) / (picture.high - picture.low) or 0.5
    local at = y + h * (1 - t)
    canvas:rule(x + BAR, at, x + BAR + 2.5, at)
    canvas:text(x + BAR + 4, at + 0.36 * size, labels[i], size)
  end
  if picture.bar.label then
    local lines, fitted = canvas:fit(picture.bar.label, size * 1.1, h)
    canvas:text(x + room - BAR_GAP - 0.3 * size, y + h / 2, lines[1], fitted, 'center', true)
  end
end

local function draw_image(canvas, cell, x, y, w, h, size)
  local picture = cell.picture
  local room = bar_width(canvas, picture, h, size)
  w = math.max(1, w - room)
  local iw, ih = w, h
  if picture.aspect == 'equal' then
    local scale = math.min(w / picture.columns, h / picture.rows)
    iw, ih = picture.columns * scale, picture.rows * scale
  end
  local left, top = x + (w - iw) / 2, y
  left, top, iw, ih = canvas:image(left, top, iw, ih, picture)
  if picture.frame then draw_frame(canvas, left, top, iw, ih) end
  if picture.bar then draw_bar(canvas, picture, left + iw + BAR_GAP, top, ih, room, size) end
end

-- ---- the grid ------------------------------------------------------------------------------------------------

-- Per row the room for titles, per column the room left of the axes, per row the room below them.
local function measure(canvas, figure, width, height, size)
  local tops, lefts, bottoms = {}, {}, {}
  for r, row in ipairs(figure.cells) do
    for c, cell in ipairs(row) do
      if cell.heading then
        cell.lines, cell.fitted = canvas:fit(cell.heading, size, width - 2)
        tops[r] = math.max(tops[r] or 0, text_height(cell.lines, cell.fitted))
      end
      if not cell.picture and #cell.series > 0 then
        local left, bottom = axes.margins(canvas, cell, width, height, size * 0.85)
        lefts[c] = math.max(lefts[c] or 0, left)
        bottoms[r] = math.max(bottoms[r] or 0, bottom)
      end
    end
  end
  return tops, lefts, bottoms
end

local function draw(canvas, figure)
  local size, top = figure.font_size, MARGIN
  if figure.heading then
    local lines, fitted = canvas:fit(figure.heading, size * 1.3, figure.width - 2 * MARGIN)
    top = top + text_height(lines, fitted)
    draw_lines(canvas, lines, fitted, figure.width / 2, top)
    top = top + 0.4 * size
  end
  if not figure.cells then return end
  local rows, columns, gap = #figure.cells, #figure.cells[1], figure.gap
  local width = (figure.width - 2 * MARGIN - (columns - 1) * gap) / columns
  local height = (figure.height - top - MARGIN - (rows - 1) * gap) / rows
  if width < 4 or height < 4 then
    native.fail('figure.save: %d x %d cells do not fit on %g x %g inches', rows, columns, figure.width / 72, figure.height / 72)
  end
  local tops, lefts, bottoms = measure(canvas, figure, width, height, size)
  for r, row in ipairs(figure.cells) do
    for c, cell in ipairs(row) do
      local x, y = MARGIN + (c - 1) * (width + gap), top + (r - 1) * (height + gap)
      local title = math.min(tops[r] or 0, height - 2)
      local inner = height - title
      if cell.heading then draw_lines(canvas, cell.lines, cell.fitted, x + width / 2, y + title) end
      if cell.picture then
        draw_image(canvas, cell, x, y + title, width, inner, size * 0.8)
      elseif #cell.series > 0 then
        local left, bottom = math.min(lefts[c], width / 2), math.min(bottoms[r], inner / 2)
        axes.draw(canvas, cell, x + left, y + title + 3, width - left - 4, inner - bottom - 3, size * 0.85)
      end
    end
  end
end

-- ---- the file ------------------------------------------------------------------------------------------------

-- Cairo's SVG of embedded pictures does not say that cells are sharp: viewers would smooth them.
local function sharpen(path)
  local file = assert(io.open(path, 'rb'))
  local content = file:read('*a')
  file:close()
  content = content:gsub('<image ', '<image image-rendering="optimizeSpeed" style="image-rendering:pixelated" ')
  file = assert(io.open(path, 'wb'))
  local ok, reason = file:write(content)
  local closed = file:close()
  if not ok or not closed then native.fail('figure.save: %s: %s', path, reason or 'could not be written') end
end

--- Draws into a file beside the target and renames it when it is complete.
function layout.save(figure, path, kind)
  local part = path .. '.part'
  local file, reason = io.open(part, 'wb')
  if not file then native.fail('figure.save: %s could not be written: %s', path, (reason:gsub('^.-: ', ''))) end
  file:close()
  local ok, message = pcall(function()
    local canvas = Canvas.new(kind, part, figure.width, figure.height, figure.dpi)
    draw(canvas, figure)
    canvas:finish()
    if kind == 'svg' then sharpen(part) end
    local renamed, why = os.rename(part, path)
    if not renamed then native.fail('figure.save: %s could not be written: %s', path, (why:gsub('^.-: ', ''))) end
  end)
  if not ok then
    os.remove(part)
    error(message, 0)
  end
end

--- Draws to memory: a uint8 tensor (3, height, width).
function layout.render(figure)
  local canvas = Canvas.new('png', 'a picture in memory', figure.width, figure.height, figure.dpi)
  draw(canvas, figure)
  return (canvas:pixels())
end

return layout
