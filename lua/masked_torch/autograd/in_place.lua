--- in_place: x:name_() from the operation that makes a new tensor.
--
--     in_place(op, x, out_of_place, kernel, ...)
--
-- Without a gradient, kernel(x, ...) writes to x. With one, out_of_place(copy, ...) runs on a copy that stands for x's old
-- value in the graph, and x becomes its result: whatever backward needs of the old value stays alive. Returns x.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local is_tensor = Tensor.is_tensor

return function(op, x, out_of_place, kernel, ...)
  autograd.check_in_place(op, x)
  local recording = x.requires_grad
  for i = 1, select('#', ...) do
    local argument = (select(i, ...))
    recording = recording or (is_tensor(argument) and argument.requires_grad)
  end
  if not (recording and autograd.is_grad_enabled()) then
    if x.dtype == 'bfloat16' and out_of_place.bfloat16 ~= 'itself' then
      native.check(x.K.mt_tensor_copy(x._c, out_of_place(x, ...)._c))
    else
      kernel(x, ...)
    end
    Tensor.bump(x)
    return x
  end
  autograd.check_recorded(op, x)
  local before = Tensor.empty_like(x)
  native.check(x.K.mt_tensor_copy(before._c, x._c))
  before.requires_grad, before.grad_fn, before.output_nr = x.requires_grad, x.grad_fn, x.output_nr
  local y = out_of_place(before, ...)
  if y.dtype ~= x.dtype or not Tensor.same_shape(y, x) then
    native.fail('%s: the result %s %s cannot be written to %s %s', op, Tensor.shape_text(y), y.dtype, Tensor.shape_text(x),
      x.dtype)
  end
  native.check(x.K.mt_tensor_copy(x._c, y._c))
  Tensor.bump(x)
  x.requires_grad, x.grad_fn, x.output_nr = y.requires_grad, y.grad_fn, y.output_nr
  return x
end
