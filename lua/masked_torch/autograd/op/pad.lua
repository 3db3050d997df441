--- pad: F.pad, more positions at the ends of the last dims.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local index = require('masked_torch.autograd.op.index').internal

local check, fail, shape_of, shape_text = native.check, native.fail, Tensor.shape_of, Tensor.shape_text

-- The part of the padded tensor and the part of the input that are the same elements; negative padding cuts the input.
local function windows(padded, x_shape, x_strides, before)
  local shape, to, from = {}, 0, 0
  local p_shape, p_strides, numel = shape_of(padded), padded:stride(), 1
  for d = 1, #x_shape do
    local start, skip = math.max(0, before[d]), math.max(0, -before[d])
    shape[d] = math.max(0, math.min(p_shape[d] - start, x_shape[d] - skip))
    to, from, numel = to + start * p_strides[d], from + skip * x_strides[d], numel * shape[d]
  end
  if numel == 0 then to, from = 0, 0 end
  return shape, to, from
end

local pad_op = autograd.op{
  name = 'pad',
  bfloat16 = 'itself',
  forward = function(ctx, x, before, shape, value)
    ctx.shape, ctx.layout, ctx.before = shape_of(x), Tensor.layout_of(x), before
    local y = Tensor.empty_format('pad', x, shape)
    check(y.K.mt_tensor_fill(y._c, value))
    local common, to, from = windows(y, ctx.shape, x:stride(), before)
    check(y.K.mt_tensor_copy(Tensor.as_view('pad', y, common, y:stride(), to)._c,
      Tensor.as_view('pad', x, common, x:stride(), from)._c))
    return y
  end,
  backward = function(ctx, dy)
    local dx = index.zeros('pad', ctx.shape, dy, ctx.layout)
    local common, to, from = windows(dy, ctx.shape, dx:stride(), ctx.before)
    check(dy.K.mt_tensor_copy(Tensor.as_view('pad', dx, common, dx:stride(), from)._c,
      Tensor.as_view('pad', dy, common, dy:stride(), to)._c))
    return dx
  end,
}

-- The 1-based source of position i (0 = the input's first element) in a dim of size n.
local source = {
  reflect = function(i, n)
    if i < 0 then i = -i end
    if i >= n then i = 2 * (n - 1) - i end
    return i + 1
  end,
  replicate = function(i, n) return math.max(0, math.min(n - 1, i)) + 1 end,
  circular = function(i, n) return i % n + 1 end,
}
-- The most that a mode can add at one end of a dim of size n.
local reach = { reflect = function(n) return n - 1 end, replicate = function() return math.huge end,
  circular = function(n) return n end }

--- F.pad(x, {before_last, after_last, before_previous, ...}, {mode = 'constant', value = 0}): the last dims with more positions
-- (fewer where a number is negative). mode: 'constant' (value), 'reflect' (mirrored without the edge), 'replicate' (the edge),
-- 'circular' (the other end).
local function pad(x, padding, opts)
  Tensor.check('pad', 'input', x)
  opts = options.parse('pad', { mode = 'constant', value = 0 }, opts)
  options.choice('pad', 'mode', opts.mode, { 'constant', 'reflect', 'replicate', 'circular' })
  if type(padding) ~= 'table' or Tensor.is_tensor(padding) then
    fail('pad: padding: expected a table {before_last, after_last, ...}, got %s', type(padding))
  end
  local shape, n = shape_of(x), x:dim()
  if #padding % 2 ~= 0 or #padding > 2 * n then
    fail('pad: padding: expected 2 numbers for each of up to %d dims of %s, got %d', n, shape_text(x), #padding)
  end
  local before, padded = {}, {}
  for d = 1, n do
    local k = 2 * (n - d) + 1
    before[d] = native.integer('pad', 'padding', padding[k] or 0, -2 ^ 40, 2 ^ 40)
    padded[d] = shape[d] + before[d] + native.integer('pad', 'padding', padding[k + 1] or 0, -2 ^ 40, 2 ^ 40)
    if padded[d] < 0 then
      fail('pad: padding: %d and %d cut more than dim %d of %s has', before[d], padding[k + 1], d, shape_text(x))
    end
  end
  if opts.mode == 'constant' then
    local y = pad_op(x, before, padded, opts.value)
    return y
  end
  local y = x
  for d = n, 1, -1 do
    local after = padded[d] - shape[d] - before[d]
    if before[d] ~= 0 or after ~= 0 then
      local most = reach[opts.mode](shape[d])
      if math.max(before[d], after) > most or shape[d] == 0 then
        fail("pad: padding: mode '%s' can add at most %d to dim %d of %s, got %d and %d", opts.mode, shape[d] == 0 and 0 or most,
          d, shape_text(x), before[d], after)
      end
      local from = {}
      for i = 1, padded[d] do from[i] = source[opts.mode](i - 1 - before[d], shape[d]) end
      y = y:index_select(d, from)
    end
  end
  if y == x then y = x:clone() end
  return y
end

return { functional = { pad = pad } }
