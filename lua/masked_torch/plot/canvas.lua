--- canvas: drawing in points (1/72 inch) on a PNG, SVG or PDF surface. The only file that draws with Cairo.

local ffi = require 'ffi'
local bit = require 'bit'
local cairo = require 'masked_torch.native.cairo'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local Canvas = {}
Canvas.__index = Canvas

-- Cairo's constants.
local ARGB32, FILTER_NEAREST, ANTIALIAS_GRAY, OFF, JOIN_ROUND, CAP_ROUND = 0, 3, 2, 1, 1, 1
-- SVG and PDF hold images as pictures of at least about this many pixels across: some viewers smooth pictures whatever the
-- file says, and the cells are to look sharp there too. (Rectangles would show seams, and noise would make huge files.)
local ENLARGED = 512
-- Cairo's own limit is 32767.
local MAX_PIXELS = 30000

--- Canvas.new(kind, path, width, height, dpi): kind 'png', 'svg' or 'pdf'; sizes in points. A PNG is written by finish.
function Canvas.new(kind, path, width, height, dpi)
  local C = cairo.open()
  local surface
  local scale = 1
  if kind == 'png' then
    scale = dpi / 72
    local w, h = math.floor(width * scale + 0.5), math.floor(height * scale + 0.5)
    if w < 1 or h < 1 or w > MAX_PIXELS or h > MAX_PIXELS then
      native.fail('plot: the picture would have %d x %d pixels; expected 1 to %d each', w, h, MAX_PIXELS)
    end
    surface = C.cairo_image_surface_create(ARGB32, w, h)
  elseif kind == 'svg' then
    surface = C.cairo_svg_surface_create(path, width, height)
  else
    surface = C.cairo_pdf_surface_create(path, width, height)
  end
  surface = ffi.gc(surface, C.cairo_surface_destroy)
  cairo.check(C.cairo_surface_status(surface), 'plot: ' .. path)
  local cr = ffi.gc(C.cairo_create(surface), C.cairo_destroy)
  cairo.check(C.cairo_status(cr), 'plot: ' .. path)
  local self = setmetatable({ C = C, cr = cr, surface = surface, kind = kind, path = path, scale = scale,
    extents = ffi.new('cairo_text_extents_t') }, Canvas)
  C.cairo_scale(cr, scale, scale)
  C.cairo_set_line_join(cr, JOIN_ROUND)
  -- No hinting: a text is as wide in every format and at every resolution, so the layout is too.
  local font = ffi.gc(C.cairo_font_options_create(), C.cairo_font_options_destroy)
  C.cairo_font_options_set_antialias(font, ANTIALIAS_GRAY)
  C.cairo_font_options_set_hint_style(font, OFF)
  C.cairo_font_options_set_hint_metrics(font, OFF)
  C.cairo_set_font_options(cr, font)
  C.cairo_select_font_face(cr, 'DejaVu Sans', 0, 0)
  self:color(1, 1, 1)
  C.cairo_paint(cr)
  return self
end

--- Writes everything out; the canvas may not be used again.
function Canvas:finish()
  local C, what = self.C, 'plot: ' .. self.path
  cairo.check(C.cairo_status(self.cr), what)
  if self.kind == 'png' then
    C.cairo_surface_flush(self.surface)
    cairo.check(C.cairo_surface_write_to_png(self.surface, self.path), what)
  end
  C.cairo_surface_finish(self.surface)
  cairo.check(C.cairo_surface_status(self.surface), what)
end

--- The picture so far as a uint8 tensor (3, height, width); a canvas of kind 'png'.
function Canvas:pixels()
  if self.kind ~= 'png' then native.fail('canvas.pixels: expected a canvas of pixels, this one is a %s file', self.kind) end
  local C, surface = self.C, self.surface
  cairo.check(C.cairo_status(self.cr), 'plot: ' .. self.path)
  C.cairo_surface_flush(surface)
  local data, stride = C.cairo_image_surface_get_data(surface), C.cairo_image_surface_get_stride(surface)
  local width, height = C.cairo_image_surface_get_width(surface), C.cairo_image_surface_get_height(surface)
  local out = Tensor.empty('canvas.pixels', { 3, height, width }, 'uint8')
  local to, size = ffi.cast('uint8_t *', out._c.data), width * height
  for y = 0, height - 1 do
    local row = ffi.cast('uint32_t *', data + y * stride)
    for x = 0, width - 1 do
      local color, at = row[x], y * width + x
      to[at] = bit.band(bit.rshift(color, 16), 255)
      to[size + at], to[2 * size + at] = bit.band(bit.rshift(color, 8), 255), bit.band(color, 255)
    end
  end
  return out
end

function Canvas:color(r, g, b, a) self.C.cairo_set_source_rgba(self.cr, r, g, b, a or 1) end

-- Thin horizontal and vertical lines lie on the pixel grid.
local function snap(self, v)
  if self.kind ~= 'png' then return v end
  return (math.floor(v * self.scale) + 0.5) / self.scale
end

--- A filled rectangle; edges on the pixel grid.
function Canvas:rectangle(x, y, w, h)
  local s = self.kind == 'png' and self.scale or nil
  if s then
    local x1, y1 = math.floor((x + w) * s + 0.5) / s, math.floor((y + h) * s + 0.5) / s
    x, y = math.floor(x * s + 0.5) / s, math.floor(y * s + 0.5) / s
    w, h = x1 - x, y1 - y
  end
  self.C.cairo_rectangle(self.cr, x, y, w, h)
  self.C.cairo_fill(self.cr)
end

--- A horizontal or vertical hairline.
function Canvas:rule(x0, y0, x1, y1, width)
  local C, cr = self.C, self.cr
  C.cairo_set_line_width(cr, width or 0.6)
  if x0 == x1 then
    x0 = snap(self, x0)
    x1 = x0
  else
    y0 = snap(self, y0)
    y1 = y0
  end
  C.cairo_move_to(cr, x0, y0)
  C.cairo_line_to(cr, x1, y1)
  C.cairo_stroke(cr)
end

--- A polyline through points {x1, y1, x2, y2, ...}; NaN breaks it. dash: lengths in points or nil.
function Canvas:polyline(points, width, dash)
  local C, cr = self.C, self.cr
  C.cairo_set_line_width(cr, width)
  C.cairo_set_line_cap(cr, CAP_ROUND)
  if dash then C.cairo_set_dash(cr, ffi.new('double[?]', #dash, dash), #dash, 0) end
  local open = false
  for i = 1, #points, 2 do
    local x, y = points[i], points[i + 1]
    if x ~= x or y ~= y then
      open = false
    elseif open then
      C.cairo_line_to(cr, x, y)
    else
      C.cairo_move_to(cr, x, y)
      C.cairo_line_to(cr, x, y)   -- a lone point shows as a dot
      open = true
    end
  end
  C.cairo_stroke(cr)
  C.cairo_set_dash(cr, nil, 0, 0)
  C.cairo_set_line_cap(cr, 0)
end

--- A filled polygon {x1, y1, x2, y2, ...}.
function Canvas:polygon(points)
  local C, cr = self.C, self.cr
  C.cairo_new_path(cr)
  for i = 1, #points, 2 do C.cairo_line_to(cr, points[i], points[i + 1]) end
  C.cairo_fill(cr)
end

function Canvas:dot(x, y, radius)
  self.C.cairo_new_path(self.cr)
  self.C.cairo_arc(self.cr, x, y, radius, 0, 2 * math.pi)
  self.C.cairo_fill(self.cr)
end

--- Draws draw() inside a rectangle only.
function Canvas:clipped(x, y, w, h, draw)
  local C, cr = self.C, self.cr
  C.cairo_save(cr)
  C.cairo_rectangle(cr, x, y, w, h)
  C.cairo_clip(cr)
  draw()
  C.cairo_restore(cr)
end

-- ---- text ----------------------------------------------------------------------------------------------------

--- The font of the following texts, 'DejaVu Sans' at first.
function Canvas:font(family) self.C.cairo_select_font_face(self.cr, family, 0, 0) end

--- Width of a text in points.
function Canvas:width(text, size)
  self.C.cairo_set_font_size(self.cr, size)
  self.C.cairo_text_extents(self.cr, text, self.extents)
  return self.extents.x_advance
end

--- A line of text on the baseline y; align 'left', 'center' or 'right' of x; upward: turned by 90 degrees.
function Canvas:text(x, y, text, size, align, upward)
  local C, cr = self.C, self.cr
  local w = self:width(text, size)
  local shift = align == 'center' and -w / 2 or align == 'right' and -w or 0
  C.cairo_save(cr)
  C.cairo_translate(cr, x, y)
  if upward then C.cairo_rotate(cr, -math.pi / 2) end
  C.cairo_move_to(cr, shift, 0)
  C.cairo_show_text(cr, text)
  C.cairo_restore(cr)
end

-- Without its last character (UTF-8).
local function shorten(text)
  return text:match('^(.*)[%z\1-\127\194-\244][\128-\191]*$') or ''
end

local function elide(self, text, size, width)
  if self:width(text, size) <= width then return text end
  while text ~= '' and self:width(text .. '…', size) > width do text = shorten(text) end
  return text:gsub('%s+$', '') .. '…'
end

-- Words in at most `limit` lines of that width; the last line takes the rest, however long.
local function wrap(self, text, size, width, limit)
  local lines, line = {}, nil
  for word in text:gmatch('%S+') do
    local longer = line and line .. ' ' .. word or word
    if line and #lines < limit - 1 and self:width(longer, size) > width then
      lines[#lines + 1], line = line, word
    else
      line = longer
    end
  end
  lines[#lines + 1] = line
  return lines
end

--- The lines and the size with which a text fits a width: smaller first, then on two lines, then cut with an ellipsis.
function Canvas:fit(text, size, width)
  local lines = {}
  if not text:find('\n', 1, true) then
    for _, factor in ipairs{ 1, 0.9, 0.8 } do
      if self:width(text, size * factor) <= width then return { text }, size * factor end
    end
    lines = wrap(self, text, size * 0.8, width, 2)
  else
    for line in (text .. '\n'):gmatch('(.-)\n') do lines[#lines + 1] = line end
  end
  local best = size * 0.8
  for i, line in ipairs(lines) do lines[i] = elide(self, line, best, width) end
  return lines, best
end

-- ---- images --------------------------------------------------------------------------------------------------

-- A surface of w x h pixels, each the colour of color(x, y) (0-based) as 0xffrrggbb.
local function picture(self, w, h, color)
  local C = self.C
  local surface = ffi.gc(C.cairo_image_surface_create(ARGB32, w, h), C.cairo_surface_destroy)
  cairo.check(C.cairo_surface_status(surface), 'plot: image')
  C.cairo_surface_flush(surface)
  local data, stride = C.cairo_image_surface_get_data(surface), C.cairo_image_surface_get_stride(surface)
  for y = 0, h - 1 do
    local row = ffi.cast('uint32_t *', data + y * stride)
    for x = 0, w - 1 do row[x] = color(x, y) end
  end
  C.cairo_surface_mark_dirty(surface)
  return surface
end

local function channels(color)
  return bit.band(bit.rshift(color, 16), 255), bit.band(bit.rshift(color, 8), 255), bit.band(color, 255)
end

-- Mean of the cells x0..x1, y0..y1 of an image: of the values where there are any (a mean of colours would leave the map),
-- else of the colours.
local function mean_color(image, x0, x1, y0, y1)
  local columns, pixels, values = image.columns, image.pixels, image.values
  local sum, red, green, blue, n = 0, 0, 0, 0, 0
  for j = y0, y1 do
    for i = x0, x1 do
      local at = j * columns + i
      if not values then
        local r, g, b = channels(pixels[at])
        red, green, blue, n = red + r, green + g, blue + b, n + 1
      elseif values[at] == values[at] then
        sum, n = sum + values[at], n + 1
      end
    end
  end
  if values then return image.shade(n > 0 and sum / n or 0 / 0) end
  local function mean(total) return math.floor(total / n + 0.5) end
  return 0xff000000 + mean(red) * 65536 + mean(green) * 256 + mean(blue)
end

-- The image's colour for the pixel (x, y) of w x h: its cell when enlarging, the mean of the cells it covers when reducing.
local function resampled(image, w, h)
  local columns, rows, pixels = image.columns, image.rows, image.pixels
  local function range(i, n, size)
    local first = math.floor(i * size / n)
    return first, math.max(first, math.ceil((i + 1) * size / n) - 1)
  end
  return function(x, y)
    if columns <= w and rows <= h then
      return pixels[math.floor((y + 0.5) * rows / h) * columns + math.floor((x + 0.5) * columns / w)]
    end
    local x0, x1 = range(x, w, columns)
    local y0, y1 = range(y, h, rows)
    return mean_color(image, x0, x1, y0, y1)
  end
end

local function paint(self, surface, x, y, w, h)
  local C, cr = self.C, self.cr
  C.cairo_set_source_surface(cr, surface, x, y)
  C.cairo_pattern_set_filter(C.cairo_get_source(cr), FILTER_NEAREST)
  C.cairo_rectangle(cr, x, y, w, h)
  C.cairo_fill(cr)
end

--- An image in a rectangle, every cell with sharp edges: { rows =, columns =, pixels = 0xffrrggbb row by row, values = nil or the
-- numbers behind the pixels, shade = function(value) -> pixel }. Returns the rectangle really used: in a PNG it lies on the
-- pixel grid.
function Canvas:image(x, y, w, h, image)
  local rows, columns, pixels = image.rows, image.columns, image.pixels
  local C, cr = self.C, self.cr
  if self.kind == 'png' then
    local s = self.scale
    local x0, y0 = math.floor(x * s + 0.5), math.floor(y * s + 0.5)
    local x1, y1 = math.max(x0 + 1, math.floor((x + w) * s + 0.5)), math.max(y0 + 1, math.floor((y + h) * s + 0.5))
    C.cairo_save(cr)
    C.cairo_scale(cr, 1 / s, 1 / s)
    paint(self, picture(self, x1 - x0, y1 - y0, resampled(image, x1 - x0, y1 - y0)), x0, y0, x1 - x0, y1 - y0)
    C.cairo_restore(cr)
    return x0 / s, y0 / s, (x1 - x0) / s, (y1 - y0) / s
  end
  C.cairo_save(cr)
  C.cairo_translate(cr, x, y)
  C.cairo_scale(cr, w / columns, h / rows)
  local k = math.max(1, math.floor(ENLARGED / math.max(rows, columns)))
  C.cairo_scale(cr, 1 / k, 1 / k)
  local surface = picture(self, columns * k, rows * k, function(i, j)
    return pixels[math.floor(j / k) * columns + math.floor(i / k)]
  end)
  paint(self, surface, 0, 0, columns * k, rows * k)
  C.cairo_restore(cr)
  return x, y, w, h
end

return Canvas
