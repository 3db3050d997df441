--- plot: figures on Cairo, to PNG, SVG or PDF.
--
--     local fig = torch.plot.figure{width = 8, height = 3, title = 'first layer'}
--     local grid = fig:grid(1, 3)
--     grid[1][1]:image(x, {title = 'input', cmap = 'gray', colorbar = true})
--     grid[1][2]:line(steps, losses, {label = 'train'}):axes{x_label = 'step', y_log = true}
--     grid[1][3]:histogram(w, {bins = 40}):title('weights')
--     fig:save('out/figure.png')

local figure = require 'masked_torch.plot.figure'
local colormap = require 'masked_torch.plot.colormap'

return {
  figure = figure.new,
  --- torch.plot.colormap(name): the map's 256 colours as a table of {red, green, blue}, 0..255.
  colormap = colormap.table,
}
