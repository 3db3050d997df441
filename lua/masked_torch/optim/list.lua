--- list: arrays of tensors as the kernels of optim.h take them.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local fail, is_tensor = native.fail, Tensor.is_tensor
local list = {}

local pointers = ffi.typeof('mt_tensor *[?]')

--- A C array of the tensors' pointers. The tensors must stay referenced while it is used.
function list.pointers(tensors)
  local array = pointers(math.max(1, #tensors))
  for i = 1, #tensors do array[i - 1] = tensors[i]._c end
  return array
end

local plain = setmetatable({}, { __mode = 'k' })     -- arrays that were found to have no other keys: their length

--- Checks an argument: a tensor, or an array of floating point tensors of one device without holes. Returns a new array.
function list.check(op, argument, value)
  if is_tensor(value) then value = { value } end
  if type(value) ~= 'table' then
    fail('%s: %s: expected an array of tensors, got %s%s', op, argument, value == nil and 'nil' or type(value),
      type(value) == 'function' and ' (net:parameters(), with a colon and parentheses)' or '')
  end
  if value.parameters and value.named_parameters then
    fail('%s: %s: expected an array of tensors, got a module; pass net:parameters()', op, argument)
  end
  local tensors, count = {}, #value
  -- Looked through once; table traversals are not compiled (luajit.lua).
  if plain[value] ~= count then
    local entries = 0
    for _ in pairs(value) do entries = entries + 1 end
    plain[value] = entries == count and count or nil
  end
  if plain[value] ~= count then
    fail('%s: %s: expected an array of tensors (keys 1, 2, ...), got a table with other keys or holes', op, argument)
  end
  for i = 1, count do
    local t = value[i]
    if not is_tensor(t) or t._c.dtype < 0 then Tensor.check(op, ('%s[%d]'):format(argument, i), t) end
    if not Tensor.real[t.dtype] then
      fail('%s: %s[%d]: expected float32 or float64, got %s', op, argument, i, t.dtype)
    end
    if t.device ~= value[1].device then
      fail('%s: %s[%d] is on %s, the first one on %s', op, argument, i, t.device, value[1].device)
    end
    tensors[i] = t
  end
  return tensors
end

--- The gradient of parameter p (nil when it has none), checked against p.
function list.gradient(op, i, p)
  local g = p.grad
  if g == nil then return nil end
  if not is_tensor(g) or g._c.dtype < 0 then
    fail('%s: the .grad of parameter %d: expected a tensor, got %s', op, i, is_tensor(g) and 'a released one' or type(g))
  end
  if g.dtype ~= p.dtype or g.device ~= p.device or not Tensor.same_shape(g, p) then
    fail('%s: the .grad of parameter %d: expected %s %s on %s, got %s %s on %s', op, i, Tensor.shape_text(p), p.dtype, p.device,
      Tensor.shape_text(g), g.dtype, g.device)
  end
  return g
end

--- The gradients of an array of parameters, those that have one.
function list.gradients(op, parameters)
  local gradients = {}
  for i, p in ipairs(list.check(op, 'parameters', parameters)) do
    gradients[#gradients + 1] = list.gradient(op, i, p)
  end
  return gradients
end

--- A finite number, or a number of at least `low`, or an error.
function list.number(op, argument, value, low, high)
  native.number(op, argument, value)
  local fits = value - value == 0 and (not low or value >= low) and (not high or value < high)
  if not fits then
    fail('%s: %s: expected a finite number%s%s, got %s', op, argument, low and (' of at least %g'):format(low) or '',
      high and (' below %g'):format(high) or '', tostring(value))
  end
  return value
end

return list
