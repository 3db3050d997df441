--- animation: sampling, step by step: what every token contributes, what the layers hold, what comes next.

local ffi = require 'ffi'
local torch = require 'masked_torch'
local glyphs = require 'language_model.glyphs'

local animation = {}

-- Points, which are pixels here.
local WIDTH, MARGIN, GAP = 1200, 26, 34
local PANEL = (WIDTH - 2 * MARGIN - GAP) / 2
local MONO, SANS = 'DejaVu Sans Mono', 'DejaVu Sans'
local SIZE, LINE, LINES = 17, 29, 10           -- of the text: font, distance of lines, most lines on the picture
local BAR, BAR_GAP, LABEL = 20, 3, 112         -- of the candidates: height, distance, room for the token
local LONGEST = 28                             -- characters of a token that are shown

local INK, FADED, PALE, RED = { 0.1, 0.1, 0.1 }, { 0.5, 0.5, 0.5 }, { 0.76, 0.76, 0.76 }, { 0.84, 0.1, 0.1 }
local FOR, AGAINST, ACTIVE, SKY = { 0.36, 0.62, 0.95 }, { 0.96, 0.47, 0.42 }, { 0.42, 0.46, 1 }, { 0.68, 0.85, 0.95 }

local function color(canvas, c) canvas:color(c[1], c[2], c[3]) end

-- From white to a colour.
local function tint(canvas, c, share)
  share = math.max(0, math.min(1, share))
  canvas:color(1 + (c[1] - 1) * share, 1 + (c[2] - 1) * share, 1 + (c[3] - 1) * share)
end

local function frame(canvas, x, y, w, h, width)
  canvas:polyline({ x, y, x + w, y, x + w, y + h, x, y + h, x, y }, width)
end

-- ---- text in boxes -------------------------------------------------------------------------------------------------------

--- animation.layout(bytes, measure, width) -> boxes { text =, clean =, x =, line =, width = }, number of lines. bytes: of every token.
-- Words stay whole where a line can hold them; a line ends after a token with a newline; no box leaves the width, for a token that
-- is too long is cut in its middle.
function animation.layout(bytes, measure, width)
  local boxes, line, x, word = {}, 1, 0, 1
  local full, room = width, width - measure((glyphs.of '\n'))      -- a newline finds room at the end of a full line
  for i, b in ipairs(bytes) do
    local text, clean = glyphs.of(b)
    local most = LONGEST
    text = glyphs.cut(text, most)
    width = b:find '^\n' and full or room
    while measure(text) > width and most > 3 do
      most = most - 1
      text = glyphs.cut(text, most)
    end
    local w = math.min(width, math.max(measure(text), measure 'n' / 2))      -- a lone combining mark has no width of its own
    if b:find '^%s' or (i > 1 and bytes[i - 1]:find '%s$') then word = i end
    if x + w > width then
      -- The word's beginning comes along, unless the word fills the line.
      local from = boxes[word] and boxes[word].line == line and boxes[word].x > 0 and word or i
      line, x = line + 1, 0
      for k = from, i - 1 do
        boxes[k].line, boxes[k].x = line, x
        x = x + boxes[k].width
      end
      if x + w > width then line, x = line + 1, 0 end
      word = from
    end
    boxes[i] = { text = text, clean = clean, x = x, line = line, width = w }
    x = x + w
    if b:find('\n', 1, true) then line, x, word = line + 1, 0, i + 1 end
  end
  return boxes, #boxes > 0 and boxes[#boxes].line or 0
end

-- The text with a coloured box behind every token of the context; background(i, token of the context) sets the colour.
local function draw_text(canvas, boxes, o, step, left, top, background)
  canvas:font(MONO)
  local target = step.start + #step.tokens + 1
  -- The last lines up to the target's, and what follows while there is room.
  local first = math.max(1, math.min(boxes[target].line - math.floor(o.lines * 0.6), o.total - o.lines + 1))
  for i, box in ipairs(boxes) do
    local y = top + (box.line - first) * LINE
    if box.line >= first and box.line < first + o.lines then
      local inside = i > step.start and i < target
      if inside then
        background(i - step.start)
        canvas:rectangle(left + box.x, y, box.width, LINE - 3)
      end
      color(canvas, i > target and PALE or i <= step.start and FADED or not box.clean and RED or INK)
      canvas:text(left + box.x, y + LINE - 11, box.text, SIZE)
      if i == target then
        color(canvas, RED)
        frame(canvas, left + box.x + 0.5, y + 0.5, math.max(6, box.width) - 1, LINE - 4, 2)
      end
    end
  end
  canvas:font(SANS)
end

local function draw_contributions(canvas, boxes, o, step, left, top)
  local largest = 0
  for _, v in ipairs(step.contributions) do largest = math.max(largest, math.abs(v)) end
  color(canvas, INK)
  canvas:text(left, top, 'Contribution of each token: gradient × input', 14)
  local x = left + PANEL - 6
  for _, part in ipairs{ { ('for (darkest: %.2g)'):format(largest), FOR }, { 'against', AGAINST } } do
    color(canvas, FADED)
    canvas:text(x, top, part[1], 11, 'right')
    x = x - canvas:width(part[1], 11) - 17
    color(canvas, part[2])
    canvas:rectangle(x, top - 10, 12, 12)
    x = x - 10
  end
  draw_text(canvas, boxes, o, step, left, top + 14, function(i)
    local v = step.contributions[i]
    tint(canvas, v < 0 and AGAINST or FOR, largest > 0 and math.abs(v) / largest or 0)
  end)
end

local function draw_activation(canvas, boxes, o, step, left, top)
  color(canvas, INK)
  canvas:text(left, top, 'Activation over each token, all layers', 14)
  color(canvas, FADED)
  canvas:text(left + PANEL - 6, top, 'of 2 standard deviations, and above', 11, 'right')
  tint(canvas, ACTIVE, 1)
  canvas:rectangle(left + PANEL - 6 - canvas:width('of 2 standard deviations, and above', 11) - 17, top - 10, 12, 12)
  draw_text(canvas, boxes, o, step, left, top + 14, function(i) tint(canvas, ACTIVE, step.activation[i]) end)
end

-- ---- what comes next -----------------------------------------------------------------------------------------------------

--- animation.percent(p): a probability as text: 44 %, 2.1 %, < 0.1 %.
function animation.percent(p)
  return p >= 0.0995 and ('%.0f %%'):format(100 * p) or p >= 0.001 and ('%.1f %%'):format(100 * p) or '< 0.1 %'
end

local function draw_candidates(canvas, o, step, left, top)
  color(canvas, INK)
  canvas:text(left, top, 'Next token, by probability', 14)
  local room = PANEL - LABEL - 62
  for i, candidate in ipairs(step.best) do
    local y = top + 14 + (i - 1) * (BAR + BAR_GAP)
    local text, clean = glyphs.of(o.bytes_of(candidate[1]), { spaces = true })
    local is_target = candidate[1] == step.target
    canvas:font(MONO)
    text = glyphs.cut(text, math.floor((LABEL - 10) / canvas:width('m', 14)))
    color(canvas, clean and INK or RED)
    canvas:text(left + LABEL - 8, y + BAR - 6, text, 14, 'right')
    canvas:font(SANS)
    color(canvas, SKY)
    canvas:rectangle(left + LABEL, y, math.max(1, room * candidate[2]), BAR)
    if is_target then
      color(canvas, RED)
      frame(canvas, left + LABEL, y, math.max(2, room * candidate[2]), BAR, 2)
    end
    color(canvas, INK)
    canvas:text(left + LABEL + math.max(2, room * candidate[2]) + 8, y + BAR - 5, animation.percent(candidate[2]), 12)
  end
end

-- ---- the layers ----------------------------------------------------------------------------------------------------------

--- animation.strip(layer, columns) -> an image of one row for canvas:image: the layer's cells as wide as their stride, the last
-- token at the right end of `columns` columns, viridis from 0 to 2 standard deviations, light gray where there is no token.
function animation.strip(layer, columns)
  local map, pixels = torch.plot.colormap 'viridis', ffi.new('uint32_t[?]', columns)
  local n = #layer.cell_of
  for column = 0, columns - 1 do
    local token = n - (columns - 1 - column)
    if token < 1 then
      pixels[column] = 0xffececec
    else
      local share = layer.std > 0 and layer.cells[layer.cell_of[token]] / (2 * layer.std) or 0
      local c = map[math.max(1, math.min(256, math.floor(share * 256) + 1))]
      pixels[column] = 0xff000000 + c[1] * 65536 + c[2] * 256 + c[3]
    end
  end
  return { rows = 1, columns = columns, pixels = pixels }
end

local function draw_layers(canvas, o, step, left, top, height)
  color(canvas, INK)
  canvas:text(left, top, 'Activation of each layer over the context', 14)
  local n, room = #step.layers, 84
  local row = math.min(46, (height - 12) / n)
  for i, layer in ipairs(step.layers) do
    local y = top + 14 + (i - 1) * row
    color(canvas, INK)
    canvas:text(left + room - 8, y + row / 2 + 1, layer.name, 12, 'right')
    canvas:image(left + room, y, PANEL - room - 6, row - 5, animation.strip(layer, o.columns))
  end
end

-- ---- frames --------------------------------------------------------------------------------------------------------------

local function draw(o, step, number, boxes)
  local canvas = torch.plot.canvas(WIDTH, o.height)
  local left, right, top = MARGIN, MARGIN + PANEL + GAP, 38
  color(canvas, INK)
  local head = ('%d of %d: '):format(number, o.count)
  canvas:text(left, top, head, 19)
  local x = left + canvas:width(head, 19) + 4
  canvas:font(MONO)
  local text = glyphs.cut((glyphs.of(o.bytes_of(step.target), { spaces = true })), LONGEST)
  local w = canvas:width(text, 19)
  canvas:text(x + 6, top, text, 19)
  color(canvas, RED)
  frame(canvas, x, top - 19, w + 12, 25, 2)
  canvas:font(SANS)
  color(canvas, INK)
  canvas:text(x + w + 22, top, ('with %s'):format(animation.percent(step.p)), 19)
  color(canvas, FADED)
  canvas:text(WIDTH - MARGIN - 6, top, o.caption, 13, 'right')
  top = top + 36
  draw_contributions(canvas, boxes, o, step, left, top)
  draw_activation(canvas, boxes, o, step, right, top)
  top = top + 14 + o.lines * LINE + 34
  draw_candidates(canvas, o, step, left, top)
  draw_layers(canvas, o, step, right, top, 10 * (BAR + BAR_GAP))
  return (canvas:pixels())
end

--- animation.frames(steps, { text = all tokens, tokenizer =, caption = text }) -> a table of pictures (3, height, width), one per step of
-- explain.run. Black: what the model sees, on its colour; a red frame: the token that is explained; light gray: what comes later.
function animation.frames(steps, o)
  local function bytes_of(token) return o.tokenizer:decode{ token } end
  local bytes = {}
  for i, token in ipairs(o.text) do bytes[i] = bytes_of(token) end
  local measuring = torch.plot.canvas(1, 1)
  measuring:font(MONO)
  local boxes, total = animation.layout(bytes, function(text) return measuring:width(text, SIZE) end, PANEL - 6)
  local columns = 0
  for _, step in ipairs(steps) do columns = math.max(columns, #step.tokens) end
  local all = { bytes_of = bytes_of, caption = o.caption, total = total, lines = math.min(total, LINES), columns = columns,
    count = #steps }
  all.height = 38 + 36 + 14 + all.lines * LINE + 34 + 14 + 10 * (BAR + BAR_GAP) + MARGIN - 8
  local frames = {}
  for i, step in ipairs(steps) do frames[i] = draw(all, step, i, boxes) end
  return frames
end

--- animation.save(path, steps, o): the same as an endless GIF; o.delay: seconds per step, the last one stays twice as long.
function animation.save(path, steps, o)
  local frames, delays = animation.frames(steps, o), {}
  for i = 1, #frames do delays[i] = i < #frames and o.delay or 2 * o.delay end
  torch.io.gif.save(path, frames, { delay = delays })
end

return animation
