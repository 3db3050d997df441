--- cached: the causal model token by token. Each block keeps the last normalised positions that its convolution still reaches, so
-- a new token costs one position instead of the whole context.
--
--     local state = cached.new(model)
--     local logits = state:push(token)         float32 (vocabulary), overwritten by the next push
--     state:reset()
--
-- The kernels are those of the model, on one position; they sum in an order that knows nothing of the other positions, and what lies
-- before the text is zeros in both cases: the logits are those of model(tokens) to the bit. They are called directly, with results
-- that are allocated once, because the way through autograd costs more than the arithmetic of one position. CPU only.

local ffi = require 'ffi'
local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local geometry = require 'masked_torch.autograd.geometry'
local Tensor = torch.Tensor
local check, C = native.check, native.cpu

local State = class('CachedState')

local function empty(shape, strides, dtype) return Tensor.empty('cached', shape, dtype or 'float32', 'cpu', strides) end

-- RMS norm of one position: x (1, width) -> y; y may be a longer row whose first values are meant.
local function norm_of(layer, x, y)
  local stats = empty({ 1, 1, 3 }, nil, 'float64')
  local a, b, s, w, eps = x._c, y._c, stats._c, layer.weight:detach()._c, layer.eps
  return function()
    local _ = stats
    check(C.mt_norm_rms_forward(b, s, a, nil, w, eps, C.MT_ACTIVATION_IDENTITY, 0))
  end
end

-- A copy of weights (out, ...) with the outputs side by side, which a single position reads fastest.
local function outputs_side_by_side(w)
  local shape, strides, step = w:size(), {}, w:size(1)
  strides[1] = 1
  for d = 2, #shape do strides[d] = 0 end
  for _, d in ipairs(#shape == 3 and { 2, 3 } or { 2 }) do strides[d], step = step, step * shape[d] end
  local copy = empty(shape, strides)
  check(C.mt_tensor_copy(copy._c, w:detach()._c))
  return copy
end

local function linear_of(layer, x, y)
  local weight = outputs_side_by_side(layer.weight)
  local a, b, w, bias = x._c, y._c, weight._c, layer.bias and layer.bias._c
  return function()
    local _ = weight
    check(C.mt_linear_forward(b, a, w, bias))
  end
end

-- One block: adds to x (1, 1, width) in place.
local function step_of(block, x)
  local width, hidden, kernel, dilation = x:size(3), block.hidden, block.kernel, block.dilation
  local reach = (kernel - 1) * dilation + 1                  -- positions that are kept, in a ring
  local bytes = 4 * width
  local normed, ring = empty{ 1, 1, width }, torch.zeros(reach, width)
  local window = empty({ 1, width, kernel }, { width * kernel, 1, width })
  local y = empty({ 1, 2 * hidden, 1 }, { 2 * hidden, 1, 2 * hidden })
  local value, gate = y:narrow(2, 1, hidden), y:narrow(2, hidden + 1, hidden)
  local opened, gated = empty({ 1, hidden, 1 }, { hidden, 1, hidden }), empty({ 1, hidden, 1 }, { hidden, 1, hidden })
  local added = empty{ 1, 1, width }
  local normalise = norm_of(block.norm, x, normed)
  local project = linear_of(block.out, gated:transpose(2, 3), added)
  local g = geometry.conv('conv1d', 1, { kernel }, { stride = 1, padding = 0, dilation = 1, groups = 1 })
  local w, b = outputs_side_by_side(block.conv.weight), block.conv.bias
  local from, to, rows = ffi.cast('char *', normed._c.data), ffi.cast('char *', window._c.data), ffi.cast('char *', ring._c.data)
  local function step(position)
    normalise()
    ffi.copy(rows + position % reach * bytes, from, bytes)
    for tap = 0, kernel - 1 do
      ffi.copy(to + tap * bytes, rows + (position - (kernel - 1 - tap) * dilation) % reach * bytes, bytes)
    end
    check(C.mt_conv_forward(y._c, window._c, w._c, b._c, g, nil, nil, nil, nil, nil, C.MT_ACTIVATION_IDENTITY, 0))
    check(C.mt_elementwise_unary(opened._c, gate._c, nil, C.MT_UNARY_SIGMOID))
    check(C.mt_elementwise_binary(gated._c, value._c, opened._c, C.MT_BINARY_MUL))
    project()
    check(C.mt_elementwise_add(x._c, x._c, added._c, 1))
  end
  return step, function() check(C.mt_tensor_fill(ring._c, 0)) end
end

--- cached.new(model): the state before the first token. The model's weights are read at every push; it must stay on the CPU.
function State:__init(model)
  local width = model.opts.width
  self.vocabulary, self.table = model.opts.vocabulary, model.embedding.weight
  self.x, self.normed, self.logits = empty{ 1, 1, width }, empty{ 1, 1, width }, empty{ 1, 1, self.vocabulary }
  self.result = self.logits:reshape(self.vocabulary)
  self.steps, self.clear = {}, {}
  for i, block in ipairs(model.blocks) do self.steps[i], self.clear[i] = step_of(block, self.x) end
  self.finish_norm, self.head = norm_of(model.norm, self.x, self.normed), linear_of(model.head, self.normed, self.logits)
  self.bytes = 4 * width
  self:reset()
end

--- Forgets all tokens.
function State:reset()
  self.position = 0
  for i = 1, #self.clear do self.clear[i]() end
end

--- state:push(token) -> logits (vocabulary) of the next one.
function State:push(token)
  native.integer('cached.push', 'token', token, 1, self.vocabulary)
  ffi.copy(self.x._c.data, ffi.cast('char *', self.table._c.data) + (token - 1) * self.bytes, self.bytes)
  for i = 1, #self.steps do self.steps[i](self.position) end
  self.position = self.position + 1
  self.finish_norm()
  self.head()
  return self.result
end

return { new = State }
