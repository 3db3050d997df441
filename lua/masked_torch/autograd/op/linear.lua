--- linear: y = x w^T + b. core/linear.h has the order of sums.

local autograd = require 'masked_torch.autograd'
local autocast = require 'masked_torch.autograd.autocast'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local linear = autograd.op{
  name = 'linear',
  bfloat16 = 'itself',
  forward = function(ctx, x, w, b)
    local shape = x:size()
    shape[#shape] = w:size(1)
    local y = Tensor.empty('linear', shape, x.dtype, x.device)
    check(x.K.mt_linear_forward(y._c, x._c, w._c, b and b._c))
    ctx:save(x, w)
    ctx.bias = b and b.dtype
    return y
  end,
  backward = function(ctx, dy)
    local x, w = ctx:saved()
    local dx, dw, db
    if ctx.needs[1] then
      dx = Tensor.empty('linear', x:size(), x.dtype, x.device)
      check(x.K.mt_linear_backward_input(dx._c, dy._c, w._c))
    end
    if ctx.needs[2] then
      dw = Tensor.empty('linear', w:size(), w.dtype, w.device)
      check(x.K.mt_linear_backward_weight(dw._c, dy._c, x._c))
    end
    if ctx.needs[3] then
      db = Tensor.empty('linear', { w:size(1) }, ctx.bias, w.device)
      check(x.K.mt_linear_backward_bias(db._c, dy._c))
    end
    return dx, dw, db
  end,
}

return {
  functional = {
    --- F.linear(x, w, b) = x w^T + b. x (*, in), w (out, in), b (out) or nil -> (*, out).
    -- x and w of one type; of float32 and bfloat16, b may be the other one.
    linear = function(x, w, b)
      Tensor.check('linear', 'input', x)
      Tensor.check('linear', 'weight', w)
      x, w = autocast.operands(x, w)
      if x:dim() < 1 then fail('linear: input: expected at least one dimension, got a single number') end
      if not Tensor.floating[x.dtype] then
        fail('linear: input: expected float32 or float64, got %s %s', Tensor.shape_text(x), x.dtype)
      end
      if w:dim() ~= 2 or w:size(2) ~= x:size(-1) or w.dtype ~= x.dtype then
        fail('linear: weight: expected (out, %d) %s, got %s %s; input %s', x:size(-1), x.dtype, Tensor.shape_text(w), w.dtype,
          Tensor.shape_text(x))
      end
      Tensor.check_device_of('linear', x, 'weight', w)
      if b ~= nil then
        Tensor.check('linear', 'bias', b)
        if b:dim() ~= 1 or b:size(1) ~= w:size(1) or not Tensor.compatible(b, x) then
          fail('linear: bias: expected (%d) %s, got %s %s; weight %s', w:size(1), x.dtype, Tensor.shape_text(b), b.dtype,
            Tensor.shape_text(w))
        end
        Tensor.check_device_of('linear', x, 'bias', b)
      end
      local y = linear(x, w, b)
      return y
    end,
  },
}
