--- plot: figures on Cairo, to PNG, SVG or PDF.
--
-- @usage
-- local fig = torch.plot.figure{ width = 8, height = 3, title = 'first layer' }
-- local grid = fig:grid(1, 3)
-- grid[1][1]:image(torch.rand(8, 8), { title = 'input', cmap = 'gray', colorbar = true })
-- grid[1][2]:line({ 1, 2, 3 }, { 2.5, 1.2, 0.8 }, { label = 'train' }):axes{ x_label = 'step', y_log = true }
-- grid[1][3]:histogram(torch.randn(500), { bins = 40 }):title('weights')
-- fig:save('figure.png')
-- torch.io.gif.save('figure.gif', { fig:render(), fig:render() })

local figure = require 'masked_torch.plot.figure'
local colormap = require 'masked_torch.plot.colormap'
local Canvas = require 'masked_torch.plot.canvas'
local native = require 'masked_torch.native'

return {
  figure = figure.new,
  --- torch.plot.canvas(width, height): white, for free drawing, in points = pixels; see plot/canvas.lua. canvas:pixels() is the picture.
  canvas = function(width, height)
    native.integer('plot.canvas', 'width', width, 1, 30000)
    native.integer('plot.canvas', 'height', height, 1, 30000)
    return (Canvas.new('png', 'a picture in memory', width, height, 72))
  end,
  --- torch.plot.colormap(name): the map's 256 colours as a table of {red, green, blue}, 0..255.
  colormap = colormap.table,
}
