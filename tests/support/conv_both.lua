-- Every form of the convolution's kernels with an activation in its epilogue, and with the two operations one after the other:
-- conv_activation_spec.lua. Run by it as well, in a process of its own: luajit conv_both.lua TESTS/. Prints the instruction set in use and
-- how many results differed in bits.

local tests = arg and arg[0] and arg[0]:find('conv_both%.lua$') and arg[1]
if tests then package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path end

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local F, Tensor = torch.nn.functional, torch.Tensor

local inf, nan = math.huge, 0 / 0

local function last(t)
  local y = Tensor.empty('spec', t:size(), t.dtype, 'cpu', Tensor.channels_last(t:size()))
  native.check(y.K.mt_tensor_copy(y._c, t._c))
  return y
end

-- { what the kernel is, sizes of x, sizes of w, options of the convolution, algorithm, memory of x and w }
local forms = {
  { 'panels', { 2, 5, 9, 7 }, { 37, 5, 3, 3 }, { padding = 1 } },
  { 'panels of groups, strides', { 2, 8, 9, 7 }, { 36, 2, 3, 3 }, { padding = 1, groups = 4, stride = 2 } },
  { 'kernel 1', { 3, 33, 5, 4 }, { 20, 33, 1, 1 }, {} },
  { 'one pixel', { 1, 40, 1, 1 }, { 64, 40, 1, 1 }, {}, nil, 'row by row' },
  { 'few pixels', { 1, 48, 3, 3 }, { 32, 48, 3, 3 }, { padding = 1 }, 'direct', 'channels last' },
  { 'few outputs', { 2, 3, 11, 9 }, { 2, 3, 3, 3 }, { padding = 1 } },
  { 'few outputs, planes as they lie', { 2, 3, 11, 9 }, { 1, 3, 3, 3 }, { padding = 1 }, nil, 'row by row' },
  { 'depthwise', { 2, 21, 8, 9 }, { 21, 1, 3, 3 }, { padding = 1, groups = 21 } },
  { 'one axis', { 3, 6, 31 }, { 18, 6, 5 }, { padding = 'causal', dilation = 2 } },
  { 'three axes', { 2, 4, 3, 5, 6 }, { 17, 4, 2, 3, 3 }, { padding = 1 } },
  { 'Winograd', { 2, 16, 11, 13 }, { 24, 16, 3, 3 }, { padding = 1 }, 'winograd' },
  { 'Winograd in one axis', { 2, 16, 29 }, { 19, 16, 3 }, { padding = 1 }, 'winograd' },
  { 'Winograd by itself', { 2, 32, 9, 8 }, { 40, 32, 3, 3 }, { padding = 1 } },
  { 'no sample', { 0, 4, 5, 5 }, { 6, 4, 3, 3 }, { padding = 1 } },
}

local activations = {
  relu = { { activation = 'relu' }, F.relu },
  ['leaky_relu'] = { { activation = 'leaky_relu', negative_slope = 0.3 }, function(y) return F.leaky_relu(y, 0.3) end },
  ['leaky_relu of slope 0'] = { { activation = 'leaky_relu', negative_slope = 0 }, function(y) return F.leaky_relu(y, 0) end },
}

local function holes(shape) return torch.rand({ shape[1], 1, unpack(shape, 3) }):lt(0.7) end
local function soft(shape, dtype)
  return torch.maximum(torch.rand({ 1, 1, unpack(shape, 3) }, { dtype = dtype }) * 1.3 - 0.3, torch.zeros(1, { dtype = dtype }))
end
local function soft_channels(shape, dtype)
  return torch.maximum(torch.rand(shape, { dtype = dtype }) * 1.3 - 0.3, torch.zeros(1, { dtype = dtype }))
end

-- { mask of x, options of F.masked_conv }; false: the plain convolution
local kinds = {
  plain = false,
  ['no mask, the border counts'] = { function() end, { reweight = 'count', border = true } },
  ['kept'] = { holes, {} },
  ['partial'] = { holes, { rule = 'grow', reweight = 'count', border = true, premask = 'values' } },
  ['partial, soft'] = { soft, { rule = 'grow', reweight = 'count', border = true, premask = 'multiply' } },
  ['half'] = { holes, { reweight = 'count', alpha = 0.5 } },
  ['soft coverage'] = { soft, { rule = 'coverage' } },
  ['by channel'] = { soft_channels, { rule = 'centre' } },
  ['by channel, weighted'] = { soft_channels, { rule = 'confidence', reweight = 'l1' } },
  ['learnt exponent'] = { holes, { reweight = 'count', alpha = 'learnt' } },
  ['sigmoid gate'] = { holes, { gate = 'sigmoid' } },
}

local function results(form, kind, dtype, activation, behind)
  torch.manual_seed(5)
  local _, x_shape, w_shape, options, algorithm, memory = unpack(form, 1, 6)
  local dims = #x_shape - 2
  local arrange = memory == 'row by row' and function(t) return t end or last
  local before = torch.conv_algorithm(algorithm or 'auto')
  local x = arrange(torch.randn(x_shape, { dtype = dtype }))
  local w = memory == 'channels last' and last(torch.randn(w_shape, { dtype = dtype })) or torch.randn(w_shape, { dtype = dtype })
  local b = torch.randn({ w_shape[1] }, { dtype = dtype })
  -- An output that is 0, one that is not a number, and infinities.
  if w_shape[1] > 4 then
    b[1], b[2], b[3] = 0, nan, -inf
    w:select(1, 1):fill_(0)
  end
  local all, learnt = {}, nil
  for key, value in pairs(options) do all[key] = value end
  for key, value in pairs(activation or {}) do all[key] = value end
  x:requires_grad_()
  w:requires_grad_()
  b:requires_grad_()
  local y
  if kind then
    local mask = kind[1](x_shape, dtype)
    for key, value in pairs(kind[2]) do all[key] = value end
    if all.alpha == 'learnt' then
      learnt = torch.tensor({ 0.75 }, { dtype = dtype }):requires_grad_()
      all.alpha = learnt
    end
    if all.gate == 'sigmoid' then all.gate_weight = torch.randn(w_shape, { dtype = dtype }) end
    y = F.masked_conv(x, w, b, mask, all)
  else
    y = F['conv' .. dims .. 'd'](x, w, b, all)
  end
  if behind then y = behind(y) end
  local dy = torch.randn(y:size(), { dtype = dtype })
  if memory ~= 'row by row' then dy = last(dy) end
  -- What comes back where nothing passes must not matter.
  if behind == F.relu or activation and activation.activation == 'relu' then
    dy = torch.where(y:detach():gt(0), dy, torch.full({ 1 }, nan, { dtype = dtype }))
    if memory ~= 'row by row' then dy = last(dy) end
  end
  y:backward(dy)
  torch.conv_algorithm(before)
  return { y = y:detach(), dx = x.grad, dw = w.grad, db = b.grad, dalpha = learnt and learnt.grad }
end

-- What differs in bits, as text; how many results were open and closed.
local function compare(form, kind, activation)
  local wrong, open, closed = {}, 0, 0
  for _, dtype in ipairs { 'float32', 'float64' } do
    local one = results(form, kind, dtype, activation[1])
    local two = results(form, kind, dtype, nil, activation[2])
    for key, t in pairs(two) do
      if not Tensor.same_bits(one[key], t) then wrong[#wrong + 1] = ('%s of %s, %s'):format(key, form[1], dtype) end
    end
    open, closed = open + one.y:gt(0):sum():item(), closed + one.y:le(0):sum():item()
  end
  return wrong, open, closed
end

if tests then
  local wrong = 0
  for _, form in ipairs(forms) do
    for _, kind in pairs(kinds) do
      for _, activation in pairs(activations) do wrong = wrong + #compare(form, kind, activation) end
    end
  end
  print(('isa %s wrong %d'):format(require('ffi').string(native.cpu.mt_isa()), wrong))
end

return { forms = forms, kinds = kinds, activations = activations, results = results, compare = compare }
