--- shuffle: space to channels and back. Each direction is the other's gradient.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

-- The loop over the axes written out: LuaJIT does not compile what surrounds a loop of two rounds.
local function unshuffled(op, x, factor)
  local shape = x:size()
  local n = #shape
  shape[2], shape[3] = shape[2] * factor ^ (n - 2), math.floor(shape[3] / factor)
  if n > 3 then shape[4] = math.floor(shape[4] / factor) end
  if n > 4 then shape[5] = math.floor(shape[5] / factor) end
  local y = Tensor.empty_format(op, x, shape)
  check(x.K.mt_shuffle_unshuffle(y._c, x._c, factor))
  return y
end

local function shuffled(op, x, factor)
  local shape = x:size()
  for d = 3, #shape do
    shape[2] = math.floor(shape[2] / factor)
    shape[d] = shape[d] * factor
  end
  local y = Tensor.empty_format(op, x, shape)
  check(x.K.mt_shuffle_shuffle(y._c, x._c, factor))
  return y
end

local function op(name, forward, backward)
  return autograd.op{
    name = name,
    bfloat16 = 'itself',
    forward = function(ctx, x, factor)
      ctx.factor = factor
      return forward(name, x, factor)
    end,
    backward = function(ctx, dy) return backward(name, dy, ctx.factor) end,
  }
end

local unshuffle = op('pixel_unshuffle', unshuffled, shuffled)
local shuffle = op('pixel_shuffle', shuffled, unshuffled)

-- dims: the number of spatial axes the caller insists on; nil: 1 to 3.
local function arguments(name, x, factor, dims)
  Tensor.check(name, 'input', x)
  native.integer(name, 'factor', factor, 1, 2 ^ 20)
  local have = x:dim() - 2
  if have < (dims or 1) or have > (dims or 3) then
    fail('%s: input: expected (N, C, *S) with %s, got %s', name,
      dims and ('%d spatial ax%s'):format(dims, dims == 1 and 'is' or 'es') or '1 to 3 spatial axes', Tensor.shape_text(x))
  end
end

local functional = {}

--- pixel_unshuffle(x, r): (N, C, *S) -> (N, C * r^d, *S / r), 1 to 3 spatial axes, any dtype.
-- Output channel c * r^d + k holds the k-th position of every r x .. x r block, in raster order:
-- 1-D y[n, c*r + j, p] = x[n, c, p*r + j]; 2-D as PyTorch's pixel_unshuffle. The memory format of x is kept.
-- Errors: a size that is no multiple of r.
function functional.pixel_unshuffle(x, factor)
  arguments('pixel_unshuffle', x, factor)
  local y = unshuffle(x, factor)
  return y
end

--- pixel_shuffle(x, r): the inverse, (N, C * r^d, *S) -> (N, C, *S * r).
-- Errors: channels that are no multiple of r^d.
function functional.pixel_shuffle(x, factor)
  arguments('pixel_shuffle', x, factor)
  local y = shuffle(x, factor)
  return y
end

--- unshuffle1d/2d/3d(x, r), shuffle1d/2d/3d(x, r): the same for exactly that number of spatial axes.
for dims = 1, 3 do
  local down, up = ('unshuffle%dd'):format(dims), ('shuffle%dd'):format(dims)
  functional[down] = function(x, factor)
    arguments(down, x, factor, dims)
    local y = unshuffle(x, factor)
    return y
  end
  functional[up] = function(x, factor)
    arguments(up, x, factor, dims)
    local y = shuffle(x, factor)
    return y
  end
end

return { functional = functional }
