--- activation: relu. Each op is a forward that calls one kernel and a backward that calls its neighbour.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check = native.check

local relu = autograd.op{
  name = 'relu',
  forward = function(ctx, x)
    local y = Tensor.empty_like(x)
    check(x.K.mt_activation_relu_forward(y._c, x._c))
    ctx:save(y)
    return y
  end,
  backward = function(ctx, dy)
    local y = ctx:saved()
    local dx = Tensor.empty_like(y)
    check(y.K.mt_activation_relu_backward(dx._c, dy._c, y._c))
    return dx
  end,
}

return {
  --- relu(x) = max(x, 0)
  method = { relu = function(x)
    Tensor.check('relu', 'input', x)
    local y = relu(x)
    return y
  end },
}
