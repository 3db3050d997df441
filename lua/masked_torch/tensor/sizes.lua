--- sizes: the argument list of functions that make a tensor: sizes as numbers or one table, then options.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local sizes = {}

local DEFAULTS = { dtype = 'float32', device = 'cpu', requires_grad = false }

--- sizes.shape(op, shape): a copy of a table of whole numbers >= 0, or an error.
function sizes.shape(op, shape)
  if type(shape) ~= 'table' or Tensor.is_tensor(shape) then
    native.fail('%s: size: expected a table of whole numbers, got %s', op,
      Tensor.is_tensor(shape) and 'a tensor' or type(shape))
  end
  local copy = {}
  for d = 1, #shape do copy[d] = native.integer(op, 'size', shape[d], 0) end
  if #copy > 8 then native.fail('%s: size: %d dimensions; a tensor has 0 to 8', op, #copy) end
  return copy
end

--- sizes.options(op, given, extra): dtype, device and requires_grad, checked; extra adds keys or replaces defaults.
function sizes.options(op, given, extra)
  if given == nil and extra == nil then return { dtype = 'float32', device = 'cpu', requires_grad = false } end
  local defaults = {}
  for key, value in pairs(DEFAULTS) do defaults[key] = value end
  if extra then
    for key, value in pairs(extra) do defaults[key] = value end
  end
  local opts = options.parse(op, defaults, given)
  Tensor.check_dtype(op, opts.dtype)
  if opts.device ~= nil then opts.device = Tensor.check_device(op, opts.device) end
  return opts
end

local function is_options(value)
  return type(value) == 'table' and not Tensor.is_tensor(value) and #value == 0 and next(value) ~= nil
end

--- sizes.parse(op, extra, ...): the arguments `2, 3, {dtype = ...}` or `{2, 3}, {dtype = ...}` as a shape and options.
function sizes.parse(op, extra, ...)
  local n = select('#', ...)
  local arguments = { ... }
  local given
  if is_options(arguments[n]) then given, n = arguments[n], n - 1 end
  local shape
  if type(arguments[1]) == 'table' then
    if n > 1 then native.fail('%s: expected sizes as one table or as numbers, then options; got %d more arguments', op, n - 1) end
    shape = sizes.shape(op, arguments[1])
  else
    for i = 1, n do native.integer(op, 'size', arguments[i], 0) end
    shape = sizes.shape(op, { unpack(arguments, 1, n) })
  end
  return shape, sizes.options(op, given, extra)
end

--- Marks a new tensor as its options ask. Returns it.
function sizes.finish(t, opts)
  if opts.requires_grad then t:requires_grad_() end
  return t
end

return sizes
