--- activation_grid: what every layer holds at every step, as one picture and as numbers.

local torch = require 'masked_torch'
local file = require 'masked_torch.io.file'
local animation = require 'language_model.animation'
local glyphs = require 'language_model.glyphs'

local grid = {}

local WIDTH, MARGIN, LABEL, GAP = 1440, 24, 208, 14
local TOP, ROW, STRIP = 92, 56, 30
local MOST = 16                                -- steps that are shown: the last ones
local INK, FADED = { 0.1, 0.1, 0.1 }, { 0.45, 0.45, 0.45 }
local MONO, SANS = 'DejaVu Sans Mono', 'DejaVu Sans'

local function color(canvas, c) canvas:color(c[1], c[2], c[3]) end

-- The end of a context, as many characters as fit.
local function tail(canvas, step, bytes_of, size, width)
  local text = ''
  for i = #step.tokens, 1, -1 do
    local longer = (glyphs.of(bytes_of(step.tokens[i]))) .. text
    if canvas:width('…' .. longer, size) > width then return '…' .. text end
    text = longer
  end
  return text
end

local function draw_scale(canvas, x, y, width)
  local map = torch.plot.colormap 'viridis'
  for i = 1, width do
    local c = map[math.ceil(i / width * 256)]
    canvas:color(c[1] / 255, c[2] / 255, c[3] / 255)
    canvas:rectangle(x + i - 1, y, 1, 11)
  end
  color(canvas, FADED)
  canvas:text(x - 6, y + 10, '0', 11, 'right')
  canvas:text(x + width + 6, y + 10, '2 standard deviations', 11)
end

local function statistics(layer)
  return ('mean %.2g   std %.2g   skew %.2g   kurt %.3g'):format(layer.mean, layer.std, layer.skewness, layer.kurtosis)
end

-- The size at which the statistics of all strips fit below them.
local function small(canvas, steps, first, width)
  local widest = 0
  for i = first, #steps do
    for _, layer in ipairs(steps[i].layers) do widest = math.max(widest, canvas:width(statistics(layer), 10)) end
  end
  return math.min(10, 10 * width / widest)
end

local function draw_row(canvas, step, bytes_of, columns, y, width, size)
  canvas:font(MONO)
  color(canvas, INK)
  canvas:text(MARGIN + LABEL - 14, y + 14, tail(canvas, step, bytes_of, 13, LABEL - 14), 13, 'right')
  local target = glyphs.cut((glyphs.of(bytes_of(step.target), { spaces = true })), 12)
  color(canvas, FADED)
  canvas:text(MARGIN + LABEL - 14, y + 31, ('→ %s %s'):format(target, animation.percent(step.p)), 12, 'right')
  canvas:font(SANS)
  for k, layer in ipairs(step.layers) do
    local x = MARGIN + LABEL + (k - 1) * (width + GAP)
    canvas:image(x, y, width, STRIP, animation.strip(layer, columns))
    color(canvas, FADED)
    canvas:text(x, y + STRIP + 12, statistics(layer), size)
  end
end

--- grid.picture(steps, { tokenizer =, caption = text }) -> (3, height, 1440): one row per step of explain.run (the last 16), one column
-- per layer. A strip is the mean of |activation| over channels, at the place and as wide as the tokens it covers, the last token at its
-- right end; every strip has its own scale, from 0 to twice the standard deviation of that layer's activations at that step.
function grid.picture(steps, o)
  local function bytes_of(token) return o.tokenizer:decode{ token } end
  local first = math.max(1, #steps - MOST + 1)
  local layers, columns = steps[1].layers, 0
  for i = first, #steps do columns = math.max(columns, #steps[i].tokens) end
  local canvas = torch.plot.canvas(WIDTH, TOP + (#steps - first + 1) * ROW + MARGIN - 10)
  local width = math.floor((WIDTH - 2 * MARGIN - LABEL - (#layers - 1) * GAP) / #layers)
  color(canvas, INK)
  canvas:text(MARGIN, 38, 'Activation of each layer, step by step', 19)
  color(canvas, FADED)
  canvas:text(MARGIN + canvas:width('Activation of each layer, step by step', 19) + 20, 38, o.caption, 13)
  draw_scale(canvas, WIDTH - MARGIN - 290, 28, 150)
  for k, layer in ipairs(layers) do
    local text = ('%s activation, %d channels'):format(layer.name, layer.channels)
    if layer.stride > 1 then text = text .. (', cells of %d tokens'):format(layer.stride) end
    local lines, fitted = canvas:fit(text, 13, width)
    color(canvas, INK)
    for i, line in ipairs(lines) do
      canvas:text(MARGIN + LABEL + (k - 1) * (width + GAP), TOP - 8 - (#lines - i) * fitted * 1.2, line, fitted)
    end
  end
  local size = small(canvas, steps, first, width)
  for i = first, #steps do draw_row(canvas, steps[i], bytes_of, columns, TOP + (i - first) * ROW, width, size) end
  return (canvas:pixels())
end

--- grid.save(path, steps, o): the same as a PNG file.
function grid.save(path, steps, o) torch.io.png.save(path, grid.picture(steps, o)) end

--- grid.save_table(path, steps): the statistics of every layer at every step as CSV: step, tokens in the context, target, p, layer, stride,
-- mean, std, skewness, kurtosis (3: normal) over its channels and the positions that cover a token.
function grid.save_table(path, steps)
  file.write('visualise', path, function(write)
    write 'step,tokens,target,p,layer,stride,mean,std,skewness,kurtosis\n'
    for i, step in ipairs(steps) do
      for _, l in ipairs(step.layers) do
        write(('%d,%d,%d,%.9g,%s,%d,%.9g,%.9g,%.9g,%.9g\n'):format(i, #step.tokens, step.target, step.p, l.name, l.stride, l.mean, l.std,
          l.skewness, l.kurtosis))
      end
    end
  end)
end

return grid
