local ffi = require 'ffi'
local bit = require 'bit'
local lfs = require 'lfs'
local torch = require 'masked_torch'
local cairo = require 'masked_torch.native.cairo'
local plot = torch.plot

local function tensor(data, dtype) return torch.Tensor.from_table('test', data, dtype) end

local folder = os.tmpname()
os.remove(folder)
lfs.mkdir(folder)
local function path(name) return folder .. '/' .. name end

teardown(function() os.execute("rm -rf '" .. folder .. "'") end)

local function contents(name)
  local file = assert(io.open(path(name), 'rb'))
  local text = file:read('*a')
  file:close()
  return text
end

-- The PNG's size and a function (x, y) -> 'rrggbb'.
local function read_png(name)
  local C = cairo.open()
  local surface = ffi.gc(C.cairo_image_surface_create_from_png(path(name)), C.cairo_surface_destroy)
  assert.are.equal(0, C.cairo_surface_status(surface))
  local data, stride = C.cairo_image_surface_get_data(surface), C.cairo_image_surface_get_stride(surface)
  return C.cairo_image_surface_get_width(surface), C.cairo_image_surface_get_height(surface), function(x, y)
    local _ = surface   -- the pixels live as long as the surface
    return bit.tohex(ffi.cast('uint32_t *', data + y * stride)[x], 6)
  end
end

-- First and last column and row whose pixels are of that colour.
local function box(width, height, pixel, color)
  local x0, x1, y0, y1, n
  n = 0
  for y = 0, height - 1 do
    for x = 0, width - 1 do
      if pixel(x, y) == color then
        x0, x1, y0, y1 = math.min(x0 or x, x), math.max(x1 or x, x), math.min(y0 or y, y), math.max(y1 or y, y)
        n = n + 1
      end
    end
  end
  return x0, x1, y0, y1, n
end

local function everything()
  local fig = plot.figure { width = 6, height = 5, dpi = 80, title = 'all kinds' }
  local grid = fig:grid(2, 3)
  grid[1][1]:image(tensor { { 0, 1 }, { 2, 3 } }, { title = 'image', colorbar = 'value' })
  grid[1][2]:image(tensor { { { 1, 0, 0 }, { 0, 1, 0 } } },
    { title = 'colours, and a title that is far too long' })
  grid[1][3]:line({ 1, 10, 100 }, { 1e-3, 1, 0 / 0 }, { label = 'a' })
    :line({ 3, 2 }, { label = 'b', dash = { 3, 1 }, marker = true })
    :axes { x_label = 'x', y_label = 'y', x_log = true, y_log = true }
  grid[2][1]:bars({ 1, -2, 3 }, { labels = { 'p', 'q', 'r' }, label = 'one' }):bars(tensor { 2, 2, 2 }, { label = 'two' })
  grid[2][2]:histogram(tensor { { 1, 2, 2 }, { 3, 0 / 0, 1 / 0 } }, { bins = 3 }):histogram({ 5 }, { density = true })
  return fig
end

describe('a figure', function()
  it('is written as PNG with the size asked for, the same bytes every time', function()
    local fig = everything()
    fig:save(path 'a.png'):save(path 'b.png')
    everything():save(path 'c.png')
    local width, height = read_png('a.png')
    assert.same({ 480, 400 }, { width, height })
    assert.are.equal(contents 'a.png', contents 'b.png')
    assert.are.equal(contents 'a.png', contents 'c.png')
  end)

  it('is written as SVG and PDF', function()
    everything():save(path 'a.svg'):save(path 'a.PDF')
    assert.is_truthy(contents('a.svg'):find('<svg', 1, true))
    assert.is_truthy(contents('a.svg'):find('image-rendering:pixelated', 1, true))
    assert.are.equal('%PDF', contents('a.PDF'):sub(1, 4))
    assert.is_truthy(contents('a.PDF'):find('%%EOF', 1, true))
  end)

  it('has cells with sharp edges and the exact colours of the map', function()
    local fig = plot.figure { width = 1, height = 1, dpi = 100 }
    fig:cell():image(tensor { { 0, 1 }, { 0.5, 0 / 0 } }, { frame = false })
    fig:save(path 'pixels.png')
    local width, height, pixel = read_png('pixels.png')
    local map = plot.colormap('viridis')
    local function hex(i) return ('%02x%02x%02x'):format(unpack(map[i])) end
    local size
    for _, color in ipairs { hex(1), hex(256), hex(129), 'c8c8c8' } do
      local x0, x1, y0, y1, n = box(width, height, pixel, color)
      assert(x0, color .. ' is missing')
      assert.are.equal((x1 - x0 + 1) * (y1 - y0 + 1), n)          -- a full rectangle, nothing blended
      size = size or n
      assert(math.abs(n - size) <= 2 * math.sqrt(size), 'cells differ in size')
    end
    local _, _, _, _, white = box(width, height, pixel, 'ffffff')
    local inside = 0
    for _, color in ipairs { hex(1), hex(256), hex(129), 'c8c8c8' } do
      inside = inside + select(5, box(width, height, pixel, color))
    end
    assert.are.equal(width * height, white + inside)
  end)

  it('shows vmin to vmax, bytes and bools', function()
    local function colour_of(t, opts)
      local fig = plot.figure { width = 0.5, height = 0.5, dpi = 100 }
      opts.frame = false
      fig:cell():image(t, opts)
      fig:save(path 'one.png')
      local width, height, pixel = read_png('one.png')
      return pixel(math.floor(width / 2), math.floor(height / 2))
    end
    assert.are.equal('808080', colour_of(tensor { { 5 } }, { cmap = 'gray', vmin = 0, vmax = 10 }))
    assert.are.equal('ffffff', colour_of(tensor { { 50 } }, { cmap = 'gray', vmin = 0, vmax = 10 }))
    assert.are.equal('000000', colour_of(tensor { { -1 / 0 } }, { cmap = 'gray', vmin = 0, vmax = 10 }))
    assert.are.equal('ffffff', colour_of(tensor { { true } }, { cmap = 'gray', vmin = 0, vmax = 1 }))
    assert.are.equal('ff8000', colour_of(tensor({ { { 255, 128, 0 } } }, 'uint8'), {}))
    assert.are.equal('ff8000', colour_of(tensor { { { 1, 0.5, 0 } } }, {}))
  end)

  it('averages the values, not the colours, of an image that is larger than its place', function()
    local rows = {}
    for i = 1, 200 do
      rows[i] = {}
      for j = 1, 200 do rows[i][j] = (i + j) % 2 end
    end
    local fig = plot.figure { width = 0.72, height = 0.72, dpi = 100 }
    fig:cell():image(tensor(rows), { cmap = 'coolwarm', frame = false })
    fig:save(path 'small.png')
    local _, _, pixel = read_png('small.png')
    for k = 1, 5, 2 do
      local part = tonumber(pixel(36, 36):sub(k, k + 1), 16)      -- red and blue cells together are light gray
      assert(part > 190 and part < 250, part)
    end
  end)

  it('never lets titles overlap: they shrink, wrap and are cut', function()
    local Canvas = require 'masked_torch.plot.canvas'
    local canvas = Canvas.new('png', path 'unused.png', 200, 100, 72)
    local words = 'mconv[0] activation: Größe der Überlagerung in jeder Schicht des Netzes'
    for _, width in ipairs { 400, 150, 80, 40, 12, 3 } do
      local lines, size = canvas:fit(words, 9, width)
      assert(#lines <= 2 and size >= 7.2 - 1e-9)
      for _, line in ipairs(lines) do
        assert(canvas:width(line, size) <= width or line == '…', ('%q is wider than %g'):format(line, width))
      end
    end
    assert.same({ { words }, 9 }, { canvas:fit(words, 9, 1000) })
    assert.same({ 'two', 'lines' }, (canvas:fit('two\nlines', 9, 1000)))
  end)

  it('takes data without a finite value, a single point, no data', function()
    local fig = plot.figure {}
    local grid = fig:grid(2, 2)
    grid[1][1]:line({ 0 / 0, 1 / 0 })
    grid[1][2]:line({ 5 }):axes { y_log = true }
    grid[2][1]:histogram({})
    grid[2][2]:image(tensor { { 0 / 0 } }, { colorbar = true })
    for _, kind in ipairs { 'png', 'svg', 'pdf' } do fig:save(path('odd.' .. kind)) end
    plot.figure {}:save(path 'empty.png')
  end)

  it('copies its data', function()
    local t = tensor { { 0, 1 } }
    local fig = plot.figure { width = 1, height = 1 }
    fig:cell():image(t)
    fig:save(path 'before.png')
    t.K.mt_tensor_fill(t._c, 7)
    t:release()
    fig:save(path 'after.png')
    assert.are.equal(contents 'before.png', contents 'after.png')
  end)
end)

describe('a mistake in a figure', function()
  it('names file and reason', function()
    local fig = plot.figure {}
    assert.fails(function() fig:save(path 'missing/a.png') end, 'figure.save', 'missing/a.png', 'No such file')
    assert.fails(function() fig:save(path 'a.jpg') end, 'figure.save', 'a.jpg', '.png, .svg or .pdf')
    assert.fails(function() fig:save('picture') end, 'figure.save', 'picture')
    assert.fails(function() fig:save() end, 'figure.save: path', 'nil')
    lfs.mkdir(path 'folder.png')
    assert.fails(function() fig:save(path 'folder.png') end, 'figure.save', 'folder.png', 'directory')
    assert.is_nil(lfs.attributes(path 'folder.png.part'))
    local tiny = plot.figure { width = 0.5, height = 0.5 }
    tiny:grid(100, 100)
    assert.fails(function() tiny:save(path 'tiny.png') end, '100 x 100 cells do not fit')
    assert.is_nil(lfs.attributes(path 'tiny.png'))
    assert.is_nil(lfs.attributes(path 'tiny.png.part'))
    assert.fails(function() plot.figure { width = 1000, dpi = 1000 }:save(path 'big.png') end, '1000000 x')
  end)

  it('names function and argument', function()
    local fig = plot.figure {}
    local cell = fig:cell()
    assert.fails(function() plot.figure { width = 0 } end, 'figure: width', 'above 0')
    assert.fails(function() plot.figure { widht = 1 } end, "did you mean 'width'")
    assert.fails(function() plot.figure { dpi = 0 / 0 } end, 'figure: dpi')
    assert.fails(function() fig:grid(2, 2) end, 'figure.grid', 'already has a grid of 1 x 1')
    assert.fails(function() plot.figure {}:grid(0, 1) end, 'figure.grid: rows', 'got 0')
    assert.fails(function() cell:image(tensor { 1, 2 }) end, 'cell.image', '(H, W)', '(2)')
    assert.fails(function() cell:image({ { 1 } }) end, 'cell.image: image', 'table')
    assert.fails(function() cell:image(tensor { { 1 } }, { cmap = 'jet' }) end, 'cmap', "'jet'")
    assert.fails(function() cell:image(tensor { { 1 } }, { vmin = 2, vmax = 1 }) end, 'vmin 2 is above vmax 1')
    assert.fails(function() cell:image(tensor { { 1 } }, { aspect = 'wide' }) end, 'aspect', "'equal'")
    assert.fails(function() cell:title() end, 'cell.title', 'nil')
    assert.fails(function() cell:title('\255\254') end, 'cell.title', 'UTF-8')
    assert.fails(function() cell:title('a\0b') end, 'cell.title', 'zero bytes')
    assert.fails(function() cell:line({ 1, 2 }, { 1 }) end, 'cell.line', 'x has 2', 'y has 1')
    assert.fails(function() cell:line({ 1, 'a' }) end, 'cell.line: y: element 2', 'string')
    assert.fails(function() cell:line(tensor { { 1 } }) end, 'cell.line: y', '1 dimension', '(1, 1)')
    assert.fails(function() cell:line({ 1 }, { color = 'red' }) end, 'color', '#rrggbb', 'red')
    assert.fails(function() cell:line({ 1 }, { dash = { 0 } }) end, 'cell.line: dash')
    assert.fails(function() cell:bars({ 1, 2 }, { labels = { 'a' } }) end, 'cell.bars: labels', 'table of 2')
    assert.fails(function() cell:histogram({ 1 }, { bins = 0 }) end, 'cell.histogram: bins')
    assert.fails(function() cell:histogram({ 1 }, { low = 2, high = 1 }) end, 'cell.histogram', 'low 2 is above high 1')
    assert.fails(function() cell:axes { y_log = true, y_min = 0 } end, 'cell.axes: y_min', 'above 0')
    assert.fails(function() cell:axes { x_min = 2, x_max = 1 } end, 'cell.axes: x_min 2 is not below x_max 1')
    assert.fails(function() plot.figure {}:cell():colorbar() end, 'cell.colorbar', 'no image')
  end)

  it('gives its pixels, the same as of a PNG', function()
    local fig = plot.figure { width = 2, height = 1, dpi = 90, title = 'a title' }
    fig:cell():line({ 1, 3, 2 })
    local saved = path 'rendered.png'
    fig:save(saved)
    local pixels = fig:render()
    assert.same_bits(torch.io.png.load(saved, { dtype = 'uint8' }), pixels)
    assert.same({ 3, 90, 180 }, pixels:size())
  end)

  it('draws freely on a canvas', function()
    local canvas = plot.canvas(20, 10)
    canvas:color(1, 0, 0.2)
    canvas:rectangle(4, 2, 3, 5)
    local t = canvas:pixels()
    assert.same({ 3, 10, 20 }, t:size())
    for c, value in ipairs{ 255, 0, 51 } do
      assert.equal(value, t[{ c, 3, 5 }])
      assert.equal(255, t[{ c, 3, 8 }])
      assert.equal(255, t[{ c, 2, 5 }])
    end
    assert.fails(function() plot.canvas(0, 5) end, 'plot.canvas: width')
  end)

  it('says how to get Cairo where it is missing', function()
    assert.fails(function() cairo.open { 'libnot-there.so.9' } end, 'plot', 'Cairo', 'libnot-there.so.9', 'apt install libcairo2')
  end)
end)
