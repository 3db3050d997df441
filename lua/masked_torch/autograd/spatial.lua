--- spatial: arguments that hold one number per spatial axis, inputs with a given number of such axes, what pooling and resampling share.

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local spatial = {}

--- A whole number for all axes or a table of one per axis, as a table of `dims` numbers of at least `low`.
function spatial.each(op, argument, value, dims, low)
  local result = {}
  if type(value) == 'table' then
    if #value ~= dims then
      native.fail('%s: %s: expected a number or a table of %d, got a table of %d', op, argument, dims, #value)
    end
    for d = 1, dims do result[d] = native.integer(op, argument, value[d], low) end
  else
    for d = 1, dims do result[d] = native.integer(op, argument, value, low) end
  end
  return result
end

--- Fails unless x is a floating-point (N, C, *S) with `dims` spatial axes (nil: 1 to 3).
function spatial.check(op, x, dims)
  Tensor.check(op, 'input', x)
  local have = x:dim() - 2
  if have < (dims or 1) or have > (dims or 3) then
    native.fail('%s: input: expected (N, C, *S) with %s, got %s', op,
      dims and ('%d spatial ax%s'):format(dims, dims == 1 and 'is' or 'es') or '1 to 3 spatial axes', Tensor.shape_text(x))
  end
  return have
end

local mask_rules = { grow = 0, keep = 1, coverage = 2 }

--- What pooling and resampling make of a mask, as pool.h and upsample.h number it: 'grow' 0, 'keep' 1, 'coverage' 2.
function spatial.mask_rule(op, rule)
  return mask_rules[options.choice(op, 'mask_rule', rule, { 'grow', 'keep', 'coverage' })]
end

--- Splits the arguments (second, opts) of functions whose second argument may be left out: f(x, a, {opts}).
function spatial.optional(second, opts)
  if opts == nil and type(second) == 'table' and second[1] == nil then return nil, second end
  return second, opts
end

--- spatial.linear_op(name, kernel): the operation of the kernels y = <kernel>_forward(x, mask, g) and dx = <kernel>_backward(dy, mask, g),
-- linear in x; called with x, mask, g and y's shape.
function spatial.linear_op(name, kernel)
  local forward, backward = kernel .. '_forward', kernel .. '_backward'
  return autograd.op{
    name = name,
    forward = function(ctx, x, mask, g, shape)
      local y = Tensor.empty_format(name, x, shape)
      native.check(x.K[forward](y._c, x._c, mask and mask._c, g))
      ctx:save(mask)
      ctx.g, ctx.shape, ctx.strides = g, x:size(), Tensor.layout_of(x)
      return y
    end,
    backward = function(ctx, dy)
      local mask = ctx:saved()
      local dx = Tensor.empty(name, ctx.shape, dy.dtype, dy.device, ctx.strides)
      native.check(dy.K[backward](dx._c, dy._c, mask and mask._c, ctx.g))
      return dx
    end,
  }
end

return spatial
