--- conv: convolutions, plain and transposed, and padding.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local geometry = require 'masked_torch.autograd.geometry'
local size = require 'masked_torch.io.onnx.size'
local Graph = require 'masked_torch.io.onnx.graph'
local each = require('masked_torch.autograd.spatial').each

local fail = native.fail
local form = {}

--- Graph.windows(op, w_shape, opts): { dims, kernel, stride, dilation, before, after, groups } of a convolution, checked.
function Graph.windows(op, w_shape, opts)
  local dims, kernel = #w_shape - 2, { unpack(w_shape, 3) }
  local stride, dilation = each(op, 'stride', opts.stride or 1, dims, 1), each(op, 'dilation', opts.dilation or 1, dims, 1)
  local before, after = geometry.padding(op, opts.padding or 0, kernel, stride, dilation)
  return { dims = dims, kernel = kernel, stride = stride, dilation = dilation, before = before, after = after,
    groups = opts.groups or 1, causal = opts.padding == 'causal' }
end

--- Graph.output(s, win, d): the size of spatial axis d behind the windows.
function Graph.output(s, win, d)
  local reach = win.dilation[d] * (win.kernel[d] - 1) + 1
  return size.floordiv(s + (win.before[d] + win.after[d] - reach), win.stride[d]) + 1
end

--- g:conv(x, w, b, win): one Conv. Negative padding crops first.
function Graph:conv(x, w, b, win)
  local pads, crop_before, crop_after, cropped = {}, {}, {}, false
  local shape = { x.shape[1], w.shape[1] }
  for d = 1, win.dims do
    shape[d + 2] = Graph.output(x.shape[d + 2], win, d)
    pads[d], pads[win.dims + d] = math.max(0, win.before[d]), math.max(0, win.after[d])
    crop_before[d + 2], crop_after[d + 2] = math.min(0, win.before[d]), math.min(0, win.after[d])
    cropped = cropped or win.before[d] < 0 or win.after[d] < 0
  end
  if cropped then x = self:pad(x, crop_before, crop_after) end
  return self:node('Conv', { x, w, b or nil }, { kernel_shape = win.kernel, strides = win.stride, dilations = win.dilation, pads = pads,
    group = { int = win.groups } }, shape)
end

local operation = require('masked_torch.autograd.op.conv').internal

for dims = 1, 3 do
  local op = 'conv' .. dims .. 'd'
  form[op] = function(g, x, w, b, opts)
    opts = options.parse(op, operation.conv_defaults, opts)
    x, w = g:tensor(x), g:tensor(w)
    if #x.shape ~= dims + 2 then fail('%s: input: expected %d dimensions, got %d', op, dims + 2, #x.shape) end
    local win = g.windows(op, w.shape, opts)
    if opts.padding_mode ~= 'zeros' then
      local amounts = {}
      for d = dims, 1, -1 do amounts[#amounts + 1], amounts[#amounts + 2] = win.before[d], win.after[d] end
      x = form.pad(g, x, amounts, { mode = opts.padding_mode })
      for d = 1, dims do win.before[d], win.after[d] = 0, 0 end
    end
    return g:activated(g:conv(x, w, b and g:tensor(b), win), opts)
  end
end

for dims = 1, 3 do
  local op = 'conv_transpose' .. dims .. 'd'
  form[op] = function(g, x, w, b, opts)
    opts = options.parse(op, operation.transpose_defaults, opts)
    x, w = g:tensor(x), g:tensor(w)
    local win = g.windows(op, w.shape, opts)
    local extra = each(op, 'output_padding', opts.output_padding, dims, 0)
    local shape, pads = { x.shape[1], w.shape[2] * win.groups }, {}
    for d = 1, dims do
      if win.before[d] < 0 or win.after[d] < 0 then fail('%s: negative padding has no ONNX form here', op) end
      shape[d + 2] = (x.shape[d + 2] - 1) * win.stride[d] + (win.dilation[d] * (win.kernel[d] - 1) + 1 - win.before[d] -
        win.after[d] + extra[d])
      pads[d], pads[dims + d] = win.before[d], win.after[d]
    end
    return g:node('ConvTranspose', { x, w, b and g:tensor(b) or nil }, { kernel_shape = win.kernel, strides = win.stride,
      dilations = win.dilation, pads = pads, output_padding = extra, group = { int = win.groups } }, shape)
  end
end

-- ---- padding -----------------------------------------------------------------------------------------------------------------

local onnx_mode = { constant = 'constant', reflect = 'reflect', replicate = 'edge' }

-- The other end of a dim, by slices: ONNX has no such mode before opset 19.
local function circular(g, x, d, before, after)
  local n, parts = x.shape[d], {}
  if before > 0 then parts[1] = g:slice(x, { [d] = { n - before, n } }) end
  parts[#parts + 1] = x
  if after > 0 then parts[#parts + 1] = g:slice(x, { [d] = { 0, after } }) end
  local shape = { unpack(x.shape) }
  shape[d] = n + before + after
  return g:node('Concat', parts, { axis = { int = d - 1 } }, shape)
end

--- F.pad(x, {before_last, after_last, ...}, {mode =, value =})
function form.pad(g, x, padding, opts)
  opts = options.parse('pad', { mode = 'constant', value = 0 }, opts)
  local before, after, n = {}, {}, #x.shape
  for d = 1, n do
    local k = 2 * (n - d) + 1
    before[d], after[d] = padding[k] or 0, padding[k + 1] or 0
  end
  if opts.mode ~= 'circular' then return g:pad(x, before, after, opts.value, onnx_mode[opts.mode]) end
  for d = 1, n do
    if before[d] ~= 0 or after[d] ~= 0 then x = circular(g, x, d, before[d], after[d]) end
  end
  return x
end

-- ---- the mask of a transposed convolution --------------------------------------------------------------------------------------

-- keep: the mask of the input that stands where the output does; grow: the sum over the inputs that reach a position, at most 1.
local function transposed_mask(g, self, m, y, opts)
  if m.shape[2] ~= 1 then m = g:reduce('ReduceMax', m, { 2 }, true) end
  if self.mask_rule == 'grow' then
    local shape = { 1, 1, unpack(self.kernel_size) }
    opts.groups = 1
    local sum = form['conv_transpose' .. self.dims .. 'd'](g, m, g:filled(shape, 1, m.dtype), nil, opts)
    -- A full mask stays full, also where no input reaches.
    return g:where(g:is_full(m), g:number(1, m.dtype), g:binary('Min', sum, g:number(1, m.dtype)))
  end
  for d = 1, self.dims do
    local span = self.dilation[d] * (self.kernel_size[d] - 1) + 1
    local shift = math.ceil((span - self.stride[d]) / 2) - self.padding_before[d]
    -- floor((o - shift) / stride) inside the input; what would be negative is clamped before the division, which truncates.
    local o = g:binary('Sub', g:positions(y.shape[d + 2]), g:number(shift, 'int64'))
    o = g:binary('Max', o, g:number(0, 'int64'))
    o = g:binary('Div', o, g:number(self.stride[d], 'int64'))
    o = g:binary('Min', o, g:scalar(m.shape[d + 2] - 1))
    m = g:gather(m, d + 2, o)
  end
  return m
end

local layers = {}
for dims = 1, 3 do
  layers['ConvTranspose' .. dims .. 'd'] = function(g, self, x, m)
    local opts = self:functional_options()
    opts.output_padding = self.output_padding
    if m ~= nil then
      m = g:mask(m, x)
      x = g:select(x, m)
    end
    local y = form['conv_transpose' .. dims .. 'd'](g, x, self.weight, self.bias, opts)
    if m == nil then return y, nil end
    m = transposed_mask(g, self, m, y, opts)
    return g:select(g:binary('Mul', y, m), m), m
  end
end

return { form = form, layers = layers }
