-- Every form of the convolution's kernels with an activation, or a frozen norm and an activation, in its epilogue, and with the
-- operations one after the other: conv_activation_spec.lua, conv_norm_spec.lua. Run by them as well, in a process of its own: luajit
-- conv_both.lua TESTS/. Prints the instruction set in use and how many results differed in bits.

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
  { 'Winograd of groups', { 2, 32, 9, 8 }, { 40, 16, 3, 3 }, { padding = 1, groups = 2 }, 'winograd' },
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

-- x, w, b, the mask, all options.
local function operands(form, kind, dtype, activation)
  torch.manual_seed(5)
  local _, x_shape, w_shape, options, _, memory = unpack(form, 1, 6)
  local arrange = memory == 'row by row' and function(t) return t end or last
  local x = arrange(torch.randn(x_shape, { dtype = dtype }))
  local w = memory == 'channels last' and last(torch.randn(w_shape, { dtype = dtype })) or torch.randn(w_shape, { dtype = dtype })
  local b = torch.randn({ w_shape[1] }, { dtype = dtype })
  -- An output that is 0, one that is not a number, and infinities.
  if w_shape[1] > 4 then
    b[1], b[2], b[3] = 0, nan, -inf
    w:select(1, 1):fill_(0)
  end
  local all, mask = {}, nil
  for key, value in pairs(options) do all[key] = value end
  for key, value in pairs(activation or {}) do all[key] = value end
  if kind then
    mask = kind[1](x_shape, dtype)
    for key, value in pairs(kind[2]) do all[key] = value end
    if all.alpha == 'learnt' then all.alpha = torch.tensor({ 0.75 }, { dtype = dtype }) end
    if all.gate == 'sigmoid' then all.gate_weight = torch.randn(w_shape, { dtype = dtype }) end
  end
  return x, w, b, mask, all
end

local function run(form, kind, x, w, b, mask, all)
  local before = torch.conv_algorithm(form[5] or 'auto')
  local y, kept
  if kind then
    y, kept = F.masked_conv(x, w, b, mask, all)
  else
    y = F['conv' .. x:dim() - 2 .. 'd'](x, w, b, all)
  end
  torch.conv_algorithm(before)
  return y, kept
end

local function results(form, kind, dtype, activation, behind)
  local x, w, b, mask, all = operands(form, kind, dtype, activation)
  local memory, learnt = form[6], torch.Tensor.is_tensor(all.alpha) and all.alpha:requires_grad_() or nil
  x:requires_grad_()
  w:requires_grad_()
  b:requires_grad_()
  local before = torch.conv_algorithm(form[5] or 'auto')
  local y = run(form, kind, x, w, b, mask, all)
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

-- Options as a layer gives them: all of them, and the norm behind it.
local function of_a_layer(kind, all, norm)
  local conv, masked = require 'masked_torch.autograd.op.conv', require 'masked_torch.autograd.op.masked_conv'
  local call = require('masked_torch.options').own{ whole = true, norm = norm }
  for key, value in pairs(kind and masked.internal.defaults or conv.internal.conv_defaults) do
    if type(value) == 'table' then value = value.any end
    call[key] = value
  end
  for key, value in pairs(all) do call[key] = value end
  return call
end

-- The same for a norm in evaluation and then the activation (nil: none), without a graph.
local function compare_norm(form, kind, activation)
  local wrong, seen = {}, 0
  for _, dtype in ipairs { 'float32', 'float64' } do
    torch.no_grad(function()
      local channels, dims = form[3][1], #form[2] - 2
      local norm = torch.nn['BatchNorm' .. dims .. 'd'](channels, { dtype = dtype, affine = channels % 2 == 0 }):eval()
      local x, w, b, mask, all = operands(form, kind, dtype, nil)
      norm.running_mean:copy_(torch.randn(channels, { dtype = dtype }) + 1)
      norm.running_var:copy_(torch.rand(channels, { dtype = dtype }) + 0.1)
      if norm.affine then
        norm.weight:copy_(torch.randn(channels, { dtype = dtype }))
        norm.bias:copy_(torch.randn(channels, { dtype = dtype }))
      end
      local raw, kept = run(form, kind, x, w, b, mask, all)
      local two = norm(raw, kept)
      if activation then two = activation[2](two) end
      for key, value in pairs(activation and activation[1] or {}) do all[key] = value end
      local one, also = run(form, kind, x, w, b, mask, of_a_layer(kind, all, norm))
      if not Tensor.same_bits(one, two) then wrong[#wrong + 1] = ('%s, %s'):format(form[1], dtype) end
      if (kept == nil) ~= (also == nil) then wrong[#wrong + 1] = form[1] .. ': mask' end
      seen = seen + one:numel()
    end)
  end
  return wrong, seen
end

if tests then
  local wrong = 0
  for _, form in ipairs(forms) do
    for _, kind in pairs(kinds) do
      for _, activation in pairs(activations) do
        wrong = wrong + #compare(form, kind, activation) + #compare_norm(form, kind, activation)
      end
      wrong = wrong + #compare_norm(form, kind)
    end
  end
  print(('isa %s wrong %d'):format(require('ffi').string(native.cpu.mt_isa()), wrong))
end

return { forms = forms, kinds = kinds, activations = activations, results = results, compare = compare, compare_norm = compare_norm }
