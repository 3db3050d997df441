--- softmax, log_softmax: along one dim, forward and backward one fused kernel each.

local autograd = require 'masked_torch.autograd'
local mask_argument = require 'masked_torch.autograd.mask_argument'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check = native.check

local function define(name, log)
  local op = autograd.op{
    name = name,
    bfloat16 = 'float32',
    forward = function(ctx, x, dim, mask)
      local y = Tensor.empty_like(x)
      check(x.K.mt_softmax_forward(y._c, x._c, mask and mask._c, dim, log))
      ctx.dim = dim
      ctx:save(y)
      return y
    end,
    backward = function(ctx, dy)
      local y = ctx:saved()
      local dx = Tensor.empty_like(y)
      check(y.K.mt_softmax_backward(dx._c, dy._c, y._c, ctx.dim, log))
      return dx
    end,
  }
  return function(x, dim, opts)
    Tensor.check(name, 'input', x)
    if type(dim) == 'table' then dim, opts = dim.dim, dim end
    opts = options.parse(name, { dim = options.none, mask = options.none }, opts)
    if not Tensor.floating[x.dtype] then
      native.fail('%s: input: expected float32 or float64, got %s %s', name, Tensor.shape_text(x), x.dtype)
    end
    dim = dim or opts.dim
    local ndim = x:dim()
    local d = ndim == 0 and (dim == 1 or dim == -1) and 0 or native.dim(name, dim, ndim)
    local y = op(x, d, mask_argument(name, opts.mask, x))
    return y
  end
end

--- softmax(x, dim, {mask = nil}): exp(x) / sum of exp(x) along dim. Where the mask is 0 the result is 0 whatever x holds, and the
-- others share the 1; a line without a valid element is 0. The mask broadcasts to x; any value but 0 is valid.
-- Unlike PyTorch's, a line of -Inf gives 0, not NaN.
local softmax = define('softmax', 0)

--- log_softmax(x, dim, {mask = nil}): x - log(sum of exp(x)) along dim; -Inf where softmax is 0 by the mask.
local log_softmax = define('log_softmax', 1)

return {
  method = { softmax = softmax, log_softmax = log_softmax },
  functional = { softmax = softmax, log_softmax = log_softmax },
}
