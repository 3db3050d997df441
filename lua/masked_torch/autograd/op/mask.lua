--- mask: applying a mask to a tensor. Masks are constants; holes are selected away, never multiplied: NaN under a mask is gone.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local masks = require 'masked_torch.mask'

local check = native.check

-- An operation whose gradient is itself: run(y, x, mask, eps).
local function self_adjoint(name, run)
  return autograd.op{
    name = name,
    forward = function(ctx, x, m, eps)
      ctx.m, ctx.eps = m, eps
      local y = Tensor.empty_like(x)
      check(run(y, x, m, eps))
      return y
    end,
    backward = function(ctx, dy)
      local dx = Tensor.empty_like(dy)
      check(run(dx, dy, ctx.m, ctx.eps))
      return dx
    end,
  }
end

local apply = self_adjoint('apply_mask', function(y, x, m) return x.K.mt_mask_apply(y._c, x._c, m._c) end)
local select_valid = self_adjoint('select_valid', function(y, x, m) return x.K.mt_mask_select(y._c, x._c, m._c) end)
local unmask = self_adjoint('unmask', function(y, x, m, eps) return x.K.mt_mask_unapply(y._c, x._c, m._c, eps) end)

local function prepare(op, x, mask)
  Tensor.check(op, 'input', x)
  local m = masks.of(op, mask, x)
  return m and m:compact(x.dtype)
end

return {
  --- x:apply_mask(mask): x * mask, exactly 0 where mask is 0 whatever x holds there. mask: nil, a Mask or a tensor
  -- (N or 1, C or 1, *S). Gradient: dx = dy * mask.
  method = { apply_mask = function(x, mask)
    local m = prepare('apply_mask', x, mask)
    if not m then return x end
    local y = apply(x, m)
    return y
  end,

  --- x:select_valid(mask): x where mask is not 0, else 0. Like apply_mask for binary masks; soft values do not scale.
  select_valid = function(x, mask)
    local m = prepare('select_valid', x, mask)
    if not m then return x end
    local y = select_valid(x, m)
    return y
  end,

  --- x:unmask(mask, [eps = 1e-8]): x / (mask + eps), the opposite of apply_mask for soft masks.
  unmask = function(x, mask, eps)
    local m = prepare('unmask', x, mask)
    eps = eps == nil and 1e-8 or native.number('unmask', 'eps', eps)
    if not m then return x end
    local y = unmask(x, m, eps)
    return y
  end },

  functional = {
    apply_mask = function(x, mask)
      local y = Tensor.methods.apply_mask(x, mask)
      return y
    end,
    unmask = function(x, mask, eps)
      local y = Tensor.methods.unmask(x, mask, eps)
      return y
    end,
  },
}
