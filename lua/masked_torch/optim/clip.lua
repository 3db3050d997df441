--- clip: norms and limits of gradients. Each function takes a parameter or an array of them; those without a gradient are left out.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local list = require 'masked_torch.optim.list'

local fail, check = native.fail, native.check
local clip = {}
local out_double, out_int64 = ffi.new('double[1]'), ffi.new('int64_t[1]')

local function norm_type_of(op, value)
  native.number(op, 'norm_type', value)
  if not (value > 0) then fail('%s: norm_type: expected a number above 0 (math.huge: the largest), got %s', op, tostring(value)) end
  return value
end

local function norm_of(gradients, p)
  if #gradients == 0 then return 0 end
  check(gradients[1].K.mt_optim_norm(out_double, #gradients, list.pointers(gradients), p))
  return out_double[0]
end

-- The norm as a tensor where the gradients are; they are brought to `limit`.
local function norm_tensor(op, gradients, limit, p)
  local norm = Tensor.empty(op, {}, 'float64', gradients[1] and gradients[1].device or 'cpu')
  check(norm.K.mt_optim_clip_norm(norm._c, #gradients, list.pointers(gradients), limit, p), op)
  if limit < math.huge then
    for _, g in ipairs(gradients) do Tensor.bump(g) end
  end
  return norm
end

--- grad_norm(parameters, {norm_type = 2, as_tensor = false}) -> (sum of |g|^p over all elements of all gradients)^(1/p), a Lua number.
-- math.huge: the largest |g|. Accumulated in double in a fixed order. as_tensor: a float64 tensor where the gradients are, so that
-- nobody waits for a device.
function clip.grad_norm(parameters, opts)
  opts = options.parse('grad_norm', { norm_type = 2, as_tensor = false }, opts)
  local gradients, p = list.gradients('grad_norm', parameters), norm_type_of('grad_norm', opts.norm_type)
  if opts.as_tensor then return (norm_tensor('grad_norm', gradients, math.huge, p)) end
  return (norm_of(gradients, p))
end

--- clip_grad_norm_(parameters, max_norm, {norm_type = 2, error_if_nonfinite = false, as_tensor = false}): multiplies all gradients in place
-- by max_norm / (norm + 1e-6) where that is below 1. Returns the norm before (Pascanu, Mikolov, Bengio, 2013): a number, or as_tensor, a
-- float64 tensor where the gradients are; then nobody waits for a device.
function clip.clip_grad_norm_(parameters, max_norm, opts)
  local op = 'clip_grad_norm_'
  opts = options.parse(op, { norm_type = 2, error_if_nonfinite = false, as_tensor = false }, opts)
  native.number(op, 'max_norm', max_norm)
  if not (max_norm >= 0) then fail('%s: max_norm: expected a number of at least 0, got %s', op, tostring(max_norm)) end
  local gradients = list.gradients(op, parameters)
  local p = norm_type_of(op, opts.norm_type)
  if opts.as_tensor then
    if opts.error_if_nonfinite then fail('%s: error_if_nonfinite reads the norm; it cannot stand beside as_tensor', op) end
    return (norm_tensor(op, gradients, max_norm, p))
  end
  local norm = norm_of(gradients, p)
  if opts.error_if_nonfinite and norm - norm ~= 0 then
    fail('%s: the norm of the gradients is %s; nothing was changed', op, tostring(norm))
  end
  local factor = max_norm / (norm + 1e-6)
  if not (factor >= 1) and #gradients > 0 then
    check(gradients[1].K.mt_optim_scale(#gradients, list.pointers(gradients), factor))
    for _, g in ipairs(gradients) do Tensor.bump(g) end
  end
  return norm
end

--- clip_grad_value_(parameters, clip_value): limits every element of the gradients to [-clip_value, clip_value], in place.
function clip.clip_grad_value_(parameters, clip_value)
  native.number('clip_grad_value_', 'clip_value', clip_value)
  local gradients = list.gradients('clip_grad_value_', parameters)
  if not (clip_value >= 0) then
    fail('clip_grad_value_: clip_value: expected a number of at least 0, got %s', tostring(clip_value))
  end
  if #gradients == 0 then return end
  check(gradients[1].K.mt_optim_clamp(#gradients, list.pointers(gradients), clip_value))
  for _, g in ipairs(gradients) do Tensor.bump(g) end
end

--- first_non_finite(tensors): the same as has_non_finite for an array that has been checked.
function clip.first_non_finite(tensors)
  if #tensors == 0 then return false end
  check(tensors[1].K.mt_optim_non_finite(out_int64, #tensors, list.pointers(tensors)))
  return out_int64[0] > 0 and tonumber(out_int64[0])
end

--- has_non_finite(tensors) -> the position of the first tensor of the array that holds NaN or infinity, or false.
function clip.has_non_finite(tensors)
  return (clip.first_non_finite(list.check('has_non_finite', 'tensors', tensors)))
end

return clip
