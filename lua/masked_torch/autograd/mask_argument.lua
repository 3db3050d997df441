--- mask_argument: the `mask` of an operation that selects elements of any tensor, not only of images.
--
-- Accepted: nil; a Mask (masked_torch.mask); a tensor of any dtype whose sizes are x's or 1, with as many dims as x or fewer
-- (then they are the last ones of x, as in broadcasting).

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

-- The same values in another dtype, without history. Integers only say valid or not; floating values may be confidences.
local function cast(t, dtype)
  if t.dtype == dtype then return t end
  if dtype ~= 'bool' and not Tensor.floating[t.dtype] and t.dtype ~= 'bool' then t = cast(t, 'bool') end
  local y = Tensor.empty_like(t, dtype)
  native.check(t.K.mt_tensor_copy(y._c, t._c))
  return y
end

--- mask_argument(op, mask, x, [dtype]) -> nil, or a tensor of x's dtype (beside bfloat16 float32; or of another) and number of dims that
-- broadcasts to x.
-- bool: for an operation that only asks what is valid; then a mask that is known to be full is nil, too.
return function(op, mask, x, dtype)
  if mask == nil then return nil end
  if not Tensor.is_tensor(mask) then
    mask = require('masked_torch.mask').of(op, mask, x)
    if dtype ~= 'bool' then return (mask:tensor(dtype or x.dtype)) end
    if mask:known_full() then return nil end
    return (mask:one_channel():compact 'bool')
  end
  Tensor.check(op, 'mask', mask)
  Tensor.check_device_of(op, x, 'mask', mask)
  local shape, size = Tensor.shape_of(x), Tensor.shape_of(mask)
  local missing = #shape - #size
  local fits = missing >= 0
  for d = 1, #size do
    fits = fits and (size[d] == 1 or size[d] == shape[d + missing])
  end
  if not fits then
    native.fail('%s: mask: expected the sizes of the input %s or 1, got %s', op, Tensor.shape_text(x), Tensor.shape_text(mask))
  end
  mask = cast(mask, dtype or Tensor.kernel_type(x.dtype))
  if missing == 0 then return mask end
  local strides = mask:stride()
  for _ = 1, missing do
    table.insert(size, 1, 1)
    table.insert(strides, 1, 1)
  end
  return Tensor.as_view(op, mask, size, strides, 0)
end
