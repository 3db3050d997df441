--- geometry: what convolution-like operations share: options into the C struct `mt_conv`, and sizes.
--
--     local g = geometry.conv('conv2d', 2, {3, 3}, { stride = 2, padding = 'same', dilation = 1, groups = 1 })
--     local out = geometry.output_size('conv2d', g, { 28, 28 })

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local spatial = require 'masked_torch.autograd.spatial'

local fail = native.fail

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

--- geometry.spatial(x) -> table: the spatial sizes of an (N, C, *S) tensor.
function geometry.spatial(x)
  local shape, result = x:size(), {}
  for d = 3, #shape do result[d - 2] = shape[d] end
  return result
end

return geometry
