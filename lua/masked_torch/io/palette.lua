--- palette: few colours that stand for many. Colours are numbers, red * 65536 + green * 256 + blue.

local ffi = require 'ffi'

local palette = {}

-- More kinds of colours than this are first rounded to 5 bits a channel.
local KINDS = 32768

--- palette.count(colors, n, counts, most): adds colors[0..n-1] to counts (colour -> how often). Returns how many kinds counts.kinds
-- then holds, or nil as soon as there are more than `most`.
function palette.count(colors, n, counts, most)
  local kinds, last, run = counts.kinds or 0, -1, 0
  for i = 0, n - 1 do
    local color = colors[i]
    if color == last then
      run = run + 1
    else
      if last >= 0 then counts[last] = counts[last] + run end
      last, run = color, 1
      if not counts[color] then
        counts[color], kinds = 0, kinds + 1
        if kinds > most then return nil end
      end
    end
  end
  if last >= 0 then counts[last] = counts[last] + run end
  counts.kinds = kinds
  return kinds
end

--- palette.exact(counts) -> entries (a list of colours, ascending), index (colour -> 0-based entry).
function palette.exact(counts)
  local entries, index = {}, {}
  for color in pairs(counts) do
    if type(color) == 'number' then entries[#entries + 1] = color end
  end
  table.sort(entries)
  for i, color in ipairs(entries) do index[color] = i - 1 end
  return entries, index
end

-- ---- the cut -----------------------------------------------------------------------------------------------------

local function channels(color) return math.floor(color / 65536), math.floor(color / 256) % 256, color % 256 end

local function rounded(color)
  local r, g, b = channels(color)
  return math.floor(r / 8) * 1024 + math.floor(g / 8) * 32 + math.floor(b / 8)
end

-- What is to be put into boxes: { red, green, blue, how often }, by colour, and the same by its key: the colour itself, or, with
-- `coarse`, its first 5 bits a channel with the mean of what shares them.
local function members_of(colors, n, counts, coarse)
  local members, by_key = {}, {}
  if not coarse then
    for _, color in ipairs((palette.exact(counts))) do
      local m = { channels(color) }
      m[4] = counts[color]
      members[#members + 1], by_key[color] = m, m
    end
    return members, by_key
  end
  local sums = ffi.new('double[?]', 4 * KINDS)
  for i = 0, n - 1 do
    local r, g, b = channels(colors[i])
    local at = sums + 4 * rounded(colors[i])
    at[0], at[1], at[2], at[3] = at[0] + r, at[1] + g, at[2] + b, at[3] + 1
  end
  for key = 0, KINDS - 1 do
    local at = sums + 4 * key
    if at[3] > 0 then
      local m = { at[0] / at[3], at[1] / at[3], at[2] / at[3], at[3] }
      members[#members + 1], by_key[key] = m, m
    end
  end
  return members, by_key
end

-- A box of colours: its members, their mean, the squared error along the widest channel, which that is.
local function box_of(members)
  local weight, sums, squares = 0, { 0, 0, 0 }, { 0, 0, 0 }
  for _, m in ipairs(members) do
    local w = m[4]
    weight = weight + w
    for c = 1, 3 do sums[c], squares[c] = sums[c] + w * m[c], squares[c] + w * m[c] * m[c] end
  end
  local box = { members = members, mean = {}, error = 0 }
  for c = 1, 3 do
    box.mean[c] = sums[c] / weight
    local e = squares[c] - sums[c] * box.mean[c]
    if #members > 1 and e > box.error then box.error, box.axis = e, c end
  end
  return box
end

-- Cuts at the mean: both sides have members, for a box with an error above 0 has values on either side of its mean (those equal
-- to it, by rounding too, go left).
local function cut(box)
  local left, right, at = {}, {}, box.mean[box.axis]
  for _, m in ipairs(box.members) do
    local side = m[box.axis] <= at and left or right
    side[#side + 1] = m
  end
  if #left == 0 or #right == 0 then return nil end
  return box_of(left), box_of(right)
end

-- What a box is shown as: its most frequent colour where that is at least half of it (a background keeps its colour), else the mean.
local function shown(box)
  local weight, most = 0, box.members[1]
  for _, m in ipairs(box.members) do
    weight = weight + m[4]
    if m[4] > most[4] then most = m end
  end
  local value = most[4] * 2 >= weight and most or box.mean
  local function byte(v) return math.max(0, math.min(255, math.floor(v + 0.5))) end
  return byte(value[1]) * 65536 + byte(value[2]) * 256 + byte(value[3])
end

--- palette.reduce(colors, n, size) -> entries, index: at most `size` colours for colors[0..n-1], and a table from every colour that
-- occurs to its 0-based entry. No dithering. The box of colours with the largest squared error along one channel is cut at its mean
-- until there are `size` boxes (after Heckbert 1982 and Wu 1991); few enough colours stay exact.
function palette.reduce(colors, n, size)
  local counts = {}
  local few = palette.count(colors, n, counts, KINDS)
  if few and few <= size then return palette.exact(counts) end
  local members, by_key = members_of(colors, n, counts, not few)
  local boxes = { box_of(members) }
  while #boxes < size do
    local widest = 1
    for i, box in ipairs(boxes) do
      if box.error > boxes[widest].error then widest = i end
    end
    if not (boxes[widest].error > 0) then break end
    local left, right = cut(boxes[widest])
    if left then
      boxes[widest], boxes[#boxes + 1] = left, right
    else
      boxes[widest].error = 0
    end
  end
  local entries, index = {}, {}
  for i, box in ipairs(boxes) do
    entries[i] = shown(box)
    for _, m in ipairs(box.members) do m.entry = i - 1 end
  end
  if few then
    for color, m in pairs(by_key) do index[color] = m.entry end
  else
    setmetatable(index, { __index = function(_, color) return by_key[rounded(color)].entry end })
  end
  return entries, index
end

--- palette.pack(bytes, n, channels) -> n colours (uint32_t[n]) from interleaved bytes of 1 (gray) or 3 channels.
function palette.pack(bytes, n, count)
  local out = ffi.new('uint32_t[?]', math.max(1, n))
  for i = 0, n - 1 do
    if count == 1 then
      out[i] = bytes[i] * 65793
    else
      out[i] = bytes[3 * i] * 65536 + bytes[3 * i + 1] * 256 + bytes[3 * i + 2]
    end
  end
  return out
end

return palette
