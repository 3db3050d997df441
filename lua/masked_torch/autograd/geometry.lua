--- geometry: what convolution-like operations share: options into the C struct `mt_conv`, and sizes.
--
--     local g = geometry.conv('conv2d', 2, {3, 3}, { stride = 2, padding = 'same', dilation = 1, groups = 1 })
--     local out = geometry.output_size('conv2d', g, { 28, 28 })

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local spatial = require 'masked_torch.autograd.spatial'
local Tensor = require 'masked_torch.tensor'

local C, fail = native.cpu, native.fail

local geometry = {}

local words = { same = true, valid = true, causal = true }

--- geometry.padding(op, padding, kernel, stride, dilation) -> before, after: one whole number per axis each.
-- padding: a number; a table with one number per axis, or one {before, after} per axis; 'valid' (none); 'same' (the output has
-- the input's size, stride 1 only; an odd total puts the extra position at the end); 'causal' (all before: position p of
-- every axis sees nothing after p). Negative numbers crop.
function geometry.padding(op, padding, kernel, stride, dilation)
  local dims, before, after = #kernel, {}, {}
  if type(padding) == 'string' then
    if not words[padding] then
      fail("%s: padding: expected a number, a table, 'same', 'valid' or 'causal', got '%s'", op, padding)
    end
    for d = 1, dims do
      local total = dilation[d] * (kernel[d] - 1)
      if padding == 'valid' then
        before[d], after[d] = 0, 0
      elseif padding == 'causal' then
        before[d], after[d] = total, 0
      else
        if stride[d] ~= 1 then
          fail("%s: padding: 'same' needs stride 1, the stride of axis %d is %d", op, d, stride[d])
        end
        before[d] = math.floor(total / 2)
        after[d] = total - before[d]
      end
    end
    return before, after
  end
  if type(padding) == 'table' then
    if #padding ~= dims then
      fail('%s: padding: expected %d numbers or {before, after} pairs, got %d', op, dims, #padding)
    end
    for d = 1, dims do
      local p = padding[d]
      if type(p) == 'table' then
        if #p ~= 2 then fail('%s: padding: axis %d: expected {before, after}, got %d numbers', op, d, #p) end
        before[d], after[d] = native.integer(op, 'padding', p[1]), native.integer(op, 'padding', p[2])
      else
        before[d] = native.integer(op, 'padding', p)
        after[d] = before[d]
      end
    end
    return before, after
  end
  if type(padding) ~= 'number' then
    fail("%s: padding: expected a number, a table, 'same', 'valid' or 'causal', got %s", op, type(padding))
  end
  native.integer(op, 'padding', padding)
  for d = 1, dims do before[d], after[d] = padding, padding end
  return before, after
end

--- geometry.conv(op, dims, kernel, opts) -> mt_conv. kernel: one size per axis; opts: stride, padding, dilation, groups, each
-- with PyTorch's default.
function geometry.conv(op, dims, kernel, opts)
  kernel = spatial.each(op, 'kernel_size', kernel, dims, 1)
  local stride = spatial.each(op, 'stride', opts.stride or 1, dims, 1)
  local dilation = spatial.each(op, 'dilation', opts.dilation or 1, dims, 1)
  local before, after = geometry.padding(op, opts.padding or 0, kernel, stride, dilation)
  local g = ffi.new('mt_conv')
  g.dims, g.groups = dims, native.integer(op, 'groups', opts.groups or 1, 1, 2 ^ 31 - 1)
  for d = 1, dims do
    g.kernel[d - 1], g.stride[d - 1], g.dilation[d - 1] = kernel[d], stride[d], dilation[d]
    g.pad_before[d - 1], g.pad_after[d - 1] = before[d], after[d]
  end
  return g
end

local sizes = ffi.typeof('int64_t[3]')

--- geometry.output_size(op, g, input) -> table: sizes of the spatial axes after a convolution of spatial sizes `input`.
function geometry.output_size(op, g, input)
  local from, to, result = sizes(), sizes(), {}
  for d = 1, g.dims do from[d - 1] = native.integer(op, 'size', input[d], 0) end
  native.check(native.cpu.mt_conv_output_size(to, from, g))
  for d = 1, g.dims do result[d] = tonumber(to[d - 1]) end
  return result
end

-- A number, a word or a list of numbers, to be compared with same(); nil where it holds something else.
local function copy(value)
  if type(value) ~= 'table' then return value end
  for d = 1, #value do
    if type(value[d]) ~= 'number' then return nil end
  end
  return { value[1], value[2], value[3] }
end

local function same(value, known)
  if type(value) ~= 'table' or type(known) ~= 'table' then return value == known end
  return value[1] == known[1] and value[2] == known[2] and value[3] == known[3] and value[4] == nil
end

local shape_of_eight = ffi.typeof('int64_t[8]')

local function shape_array(shape)
  local array = shape_of_eight()
  for d = 1, #shape do array[d - 1] = shape[d] end
  return array
end

--- geometry.frame(op, x, w, opts) -> what follows from sizes and options alone, not to be changed by others:
--   { dims =, geometry = mt_conv, spatial = sizes of x's spatial axes, out = of y's, shape = {N, O, *out}, strides = channels-last }
-- It stays in opts.frame: options that a layer keeps (options.own) give the same table as long as nothing changes.
function geometry.frame(op, x, w, opts)
  local frame, dims = opts.frame, x._c.ndim - 2
  if frame and frame.dims == dims and frame.dtype == x.dtype and C.mt_tensor_has_shape(x._c, dims + 2, frame.of_x) == 1 and
    C.mt_tensor_has_shape(w._c, dims + 2, frame.of_w) == 1 and frame.groups == opts.groups and same(opts.stride, frame.stride) and
    same(opts.padding, frame.padding) and same(opts.dilation, frame.dilation) then
    return frame
  end
  local shape, of_w = x:size(), w:size()
  local kernel, within = { unpack(of_w, 3) }, { unpack(shape, 3) }
  local g = geometry.conv(op, dims, kernel, opts)
  local out = geometry.output_size(op, g, within)
  local of_y = { shape[1], of_w[1], unpack(out) }
  frame = { dims = dims, dtype = x.dtype, geometry = g, spatial = within, out = out, shape = of_y,
    strides = Tensor.channels_last(of_y), of_x = shape_array(shape), of_w = shape_array(of_w), groups = opts.groups,
    stride = copy(opts.stride), padding = copy(opts.padding), dilation = copy(opts.dilation) }
  opts.frame = frame.stride ~= nil and frame.padding ~= nil and frame.dilation ~= nil and frame or nil
  return frame
end

--- geometry.spatial(x) -> table: the spatial sizes of an (N, C, *S) tensor.
function geometry.spatial(x)
  local shape, result = x:size(), {}
  for d = 3, #shape do result[d - 2] = shape[d] end
  return result
end

return geometry
