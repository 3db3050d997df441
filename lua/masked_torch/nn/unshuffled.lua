--- unshuffled: what an unshuffle in one axis gives, where it lies. Nothing of an image moves if its channels may stand in another order.
--
--     memory of x, channels last, C = 2, r = 2:     a0 b0 | a1 b1 | a2 b2 | a3 b3        channels a, b at positions 0 to 3
--     read as two positions of four channels:       a0 b0   a1 b1 | a2 b2   a3 b3
--     unshuffle1d(x, 2):                            a0 a1   b0 b1 | a2 a3   b2 b3
--
-- The second line is a view: channel j * C + c holds the j-th position of the block of channel c, which unshuffle1d calls c * r + j.
-- A convolution that reads the view with the input channels of its weights in that order gives the same sums, added in another
-- order (nn/fusion.lua); what is copied is a small weight instead of a large image, forward and backward.

local masks = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'

local unshuffled = {}

--- unshuffled.input(x, r): (N, C, L) -> (N, r * C, L / r), y[n, j * C + c, p] = x[n, c, p * r + j]; a view where x is channels-last.
function unshuffled.input(x, r)
  local n, channels, length = x:sizes()
  return x:transpose(2, 3):contiguous():view(n, length / r, r * channels):transpose(2, 3)
end

--- unshuffled.weight(w, r): (O, C * r, K) -> (O, r * C, K), the input channels in the order of unshuffled.input.
function unshuffled.weight(w, r)
  local outputs, channels, kernel = w:sizes()
  return w:reshape(outputs, channels / r, r, kernel):transpose(2, 3):reshape(outputs, channels, kernel)
end

--- unshuffled.with_channels(mask, channels): the mask's tensor, in its own type, with `channels` channels instead of one (memory is
-- shared).
function unshuffled.with_channels(mask, channels)
  local t = mask:compact(mask.kind == 'tensor' and mask.origin.dtype or 'bool')
  if t:size(2) == channels then return t end
  local shape, strides = t:size(), t:stride()
  shape[2], strides[2] = channels, 0
  return Tensor.as_view('mask', t, shape, strides, 0)
end

-- Keys of what a mask keeps, made once per kind, factor and channels.
local names = {}
local function name_of(kind, r, channels)
  local of_kind = names[kind] or {}
  names[kind] = of_kind
  local list = of_kind[r] or {}
  of_kind[r] = list
  local name = list[channels]
  if not name then
    name = ('%s %d %d'):format(kind, r, channels)
    list[channels] = name
  end
  return name
end

--- unshuffled.mask(mask, x, r, kind, fn): the mask of x, unshuffled by fn(tensor, r); kept on the mask under the name `kind`. The
-- channels of the result come from different positions, so they need masks of their own: one channel becomes C * r^d.
function unshuffled.mask(mask, x, r, kind, fn)
  local channels = x:size(2)
  local name = name_of(kind, r, channels)
  local known = mask:known(name)
  if known then return known end
  if mask.kind == 'full' or mask.shape[2] == 1 and mask:known_full() then      -- of one channel: looking is cheap
    local shape = mask:size()
    shape[2] = channels
    for d = 3, #shape do shape[2], shape[d] = shape[2] * r, shape[d] / r end
    return mask:keep(name, masks.full(shape, { device = mask.device }))
  end
  return mask:keep(name, masks.wrap(fn(unshuffled.with_channels(mask, channels), r)))
end

return unshuffled
