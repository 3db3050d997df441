--- input: something to feed a network with, when a property is checked: drawn to fit its first layers, or what the user gave.

local native = require 'masked_torch.native'
local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'
local walk = require 'masked_torch.inspect.walk'

local fail = native.fail

local input = {}

-- dims, channels, what sizes must be multiples of, and whether the input holds numbers of rows, as the first layers with sizes say.
local function guess(op, net)
  local factor, dims = 1, nil
  for _, layer in ipairs(walk.layers(net)) do
    local module, name = layer.module, walk.class(layer.module)
    dims = tonumber(name:match '(%d)d$') or dims
    if name:find 'Embedding$' then return { dims = 1, rows = module.num_embeddings, multiple = factor } end
    if name:find 'Unshuffle' then factor = factor * module.downscale_factor end
    local channels = module.in_channels or module.num_features or module.num_channels
    if channels then
      local d = module.dims or dims
      if d then return { dims = d, channels = channels / factor ^ d, multiple = factor } end
    end
    if module.in_features then return { dims = 0, channels = module.in_features, multiple = 1 } end
  end
  fail('%s: x: no layer says what the input is like; give one: %s(net, x)', op, op)
end

-- Numbers that do not disturb the user's random stream.
local function generator(seed) return require('masked_torch').Generator(seed) end

--- input.draw(op, net, opts): {x =, rows =, dims =}: x (N, C, *S) of normal values, or (N, L) of row numbers for an embedding. opts: x, N,
-- size (per spatial axis), seed, dtype.
function input.draw(op, net, opts)
  local torch = require 'masked_torch'
  if opts.x then
    Tensor.check(op, 'x', opts.x)
    local floating = Tensor.floating[opts.x.dtype]
    if opts.x:dim() < 2 then fail('%s: x: expected (N, C, *S) or (N, L), got %s', op, Tensor.shape_text(opts.x)) end
    return { x = opts.x:detach(), rows = not floating, dims = floating and opts.x:dim() - 2 or opts.x:dim() - 1 }
  end
  local g = guess(op, net)
  local shape = { opts.N or 3 }
  if not g.rows then shape[2] = g.channels end
  for _ = 1, g.dims do shape[#shape + 1] = opts.size or (g.dims == 3 and 16 or 32) end
  if g.rows then
    return { x = torch.randint(1, g.rows, shape, { generator = generator(opts.seed or 1) }), rows = true, dims = 1 }
  end
  local x = torch.randn(shape, { generator = generator(opts.seed or 1) })
  if opts.dtype and opts.dtype ~= 'float32' then x = x:to{ dtype = opts.dtype } end
  return { x = x, dims = g.dims }
end

--- input.sizes(x, dims): the spatial sizes of x.
function input.sizes(x, dims)
  local shape, list = x:size(), {}
  for d = 1, dims do list[d] = shape[#shape - dims + d] end
  return list
end

--- input.boxes(x, dims): sizes for each sample of x: the first as large as the canvas, the others smaller.
function input.boxes(x, dims)
  local boxes, whole = {}, input.sizes(x, dims)
  local share = { 1, 0.62, 0.34, 0.81 }
  for n = 1, x:size(1) do
    boxes[n] = {}
    for d, size in ipairs(whole) do boxes[n][d] = math.max(1, math.floor(size * share[(n + (n > 1 and d or 0) - 1) % 4 + 1] + 0.5)) end
    if n == 1 then boxes[n] = whole end
  end
  return boxes
end

--- input.mask(boxes, canvas): the mask of samples of those sizes in the corner of a canvas.
function input.mask(boxes, canvas)
  if #canvas == 1 then
    local lengths = {}
    for n, box in ipairs(boxes) do lengths[n] = box[1] end
    return Mask.lengths(lengths, canvas[1])
  end
  return Mask.boxes(boxes, canvas)
end

-- Where sample n's own part lies, as an index; `dims` spatial axes at the end of x.
local function place(x, n, box)
  local where = { { n, n } }
  for _ = 2, x:dim() - #box do where[#where + 1] = {} end
  for _, size in ipairs(box) do where[#where + 1] = { 1, size } end
  return where
end

--- input.canvas(x, boxes, canvas, fill): x's samples, cut to their boxes, in a canvas that holds `fill` elsewhere.
function input.canvas(x, boxes, canvas, fill)
  local torch = require 'masked_torch'
  local shape = x:size()
  for d, size in ipairs(canvas) do shape[#shape - #canvas + d] = size end
  local out = torch.full(shape, fill, { dtype = x.dtype, device = x.device })
  for n, box in ipairs(boxes) do
    local where = place(x, n, box)
    out[where] = x[where]
  end
  return out
end

return input
