-- Every norm with an activation in its kernel and with the two operations one after the other: norm_activation_spec.lua.
-- Run by it as well, in a process of its own: luajit norm_both.lua TESTS/. Prints the instruction set in use and how many
-- results differed in bits.

local tests = arg and arg[0] and arg[0]:find('norm_both%.lua$') and arg[1]
if tests then package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path end

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local F, Tensor = torch.nn.functional, torch.Tensor

local inf, nan = math.huge, 0 / 0

local function in_format(t, format)
  if format == 'row by row' or t:dim() < 3 then return t end
  local y = Tensor.empty('spec', t:size(), t.dtype, 'cpu', Tensor.channels_last(t:size()))
  native.check(y.K.mt_tensor_copy(y._c, t._c))
  return y
end

local function with(options, activation)
  local all = {}
  for key, value in pairs(options) do all[key] = value end
  for key, value in pairs(activation or {}) do all[key] = value end
  return all
end

local function running(C, dtype)
  return torch.randn(C, { dtype = dtype }), torch.rand(C, { dtype = dtype }) + 0.5
end

-- fn(x, w, b, options) -> y, and what else it changes; parameters(shape of x) -> their shape.
local function channels(shape) return { shape[2] } end
local function trailing(shape) return { unpack(shape, 3) } end
local norms = {
  ['batch_norm'] = { channels, function(x, w, b, o)
    local mean, var = running(x:size(2), x.dtype)
    return F.batch_norm(x, mean, var, w, b, true, 0.1, 1e-5, o), mean, var
  end },
  ['batch_norm in evaluation'] = { channels, function(x, w, b, o)
    local mean, var = running(x:size(2), x.dtype)
    return F.batch_norm(x, mean, var, w, b, o)
  end },
  ['batch_norm, compat'] = { channels, function(x, w, b, o)
    o.compat = true
    return F.batch_norm(x, nil, nil, w, b, true, 0.1, 1e-5, o)
  end },
  ['batch_norm, compat, in evaluation'] = { channels, function(x, w, b, o)
    local mean, var = running(x:size(2), x.dtype)
    o.compat = true
    return F.batch_norm(x, mean, var, w, b, o)
  end },
  ['group_norm'] = { channels, function(x, w, b, o) return F.group_norm(x, x:size(2) % 2 == 0 and 2 or 1, w, b, o) end },
  ['instance_norm'] = { channels, function(x, w, b, o) return F.instance_norm(x, nil, nil, w, b, o) end },
  ['instance_norm in evaluation'] = { channels, function(x, w, b, o)
    local mean, var = running(x:size(2), x.dtype)
    return F.instance_norm(x, mean, var, w, b, false, o)
  end },
  ['layer_norm'] = { trailing, function(x, w, b, o) return F.layer_norm(x, w:size(), w, b, o) end },
  ['layer_norm over channels'] = { channels, function(x, w, b, o)
    o.channels = true
    return F.layer_norm(x, x:size(2), w, b, o)
  end },
  ['rms_norm'] = { trailing, function(x, w, _, o) return F.rms_norm(x, w:size(), w, o) end },
}

local masks = {
  none = function() return nil end,
  binary = function(shape, dtype)
    return torch.rand({ shape[1], 1, unpack(shape, 3) }):lt(0.7):to(dtype)
  end,
  ['soft, one for all samples'] = function(shape, dtype)
    return torch.maximum(torch.rand({ 1, 1, unpack(shape, 3) }, { dtype = dtype }) * 1.3 - 0.3, torch.zeros(1, { dtype = dtype }))
  end,
  ['soft, per channel'] = function(shape, dtype)
    return torch.maximum(torch.rand(shape, { dtype = dtype }) * 1.3 - 0.3, torch.zeros(1, { dtype = dtype }))
  end,
}

local activations = {
  relu = { { activation = 'relu' }, F.relu },
  ['leaky_relu'] = { { activation = 'leaky_relu', negative_slope = 0.3 }, function(y) return F.leaky_relu(y, 0.3) end },
  ['leaky_relu of slope 0'] = { { activation = 'leaky_relu', negative_slope = 0 }, function(y) return F.leaky_relu(y, 0) end },
}

local shapes = { { 3, 2, 5, 7 }, { 2, 5, 9 }, { 3, 12, 6, 5 }, { 40, 21, 37 }, { 2, 4, 3, 2, 5 } }

-- Results and gradients of fn on the same numbers every time.
local function results(norm, shape, mask, dtype, format, activation, behind)
  torch.manual_seed(3)
  local x = in_format(torch.randn(shape, { dtype = dtype }), format)
  local m = mask(shape, dtype)
  -- The smallest numbers there are: results that round to 0 where the activation looks at them.
  local tiny = dtype == 'float32' and 2 ^ -149 or 2 ^ -1074
  local w, b = torch.randn(norm[1](shape), { dtype = dtype }), torch.randn(norm[1](shape), { dtype = dtype })
  local flat_w, flat_b = w:view(-1), b:view(-1)
  flat_w[1], flat_b[1] = tiny, 0
  flat_w[2], flat_b[2] = 0.25, 0.1
  local dy = in_format(torch.randn(shape, { dtype = dtype }), format)
  x:requires_grad_()
  w:requires_grad_()
  b:requires_grad_()
  local y, mean, var = norm[2](x, w, b, with({ mask = m }, activation))
  if behind then y = behind(y) end
  -- What comes back where nothing passes must not matter, whatever it is.
  local closed = y:detach():le(0)
  if not (activation and activation.negative_slope) and (activation or behind == F.relu) then
    local function full(value) return torch.full(shape, value, { dtype = dtype }) end
    local values = torch.where(torch.rand(shape):lt(0.5), full(inf), full(nan))
    dy = in_format(torch.where(closed, values, dy), format)
  end
  y:backward(dy)
  return { y = y, dx = x.grad, dw = w.grad, db = b.grad, mean = mean, var = var }
end


-- What differs in bits, as text; how many results were open and closed.
local function compare(norm, mask, activation)
  local wrong, open, closed = {}, 0, 0
  for _, shape in ipairs(shapes) do
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, format in ipairs { 'row by row', 'channels last' } do
        local one = results(norm, shape, mask, dtype, format, activation[1])
        local two = results(norm, shape, mask, dtype, format, nil, activation[2])
        for key, t in pairs(two) do
          if not Tensor.same_bits(one[key], t) then
            wrong[#wrong + 1] = ('%s (%s) %s %s'):format(key, table.concat(shape, ', '), dtype, format)
          end
        end
        local y = one.y:detach()
        open, closed = open + y:gt(0):sum():item(), closed + y:lt(1e-30):sum():item()
      end
    end
  end
  return wrong, open, closed
end

if tests then
  local wrong = 0
  for _, norm in pairs(norms) do
    for _, activation in pairs(activations) do
      for _, mask in pairs(masks) do wrong = wrong + #compare(norm, mask, activation) end
    end
  end
  print(('isa %s wrong %d'):format(require('ffi').string(native.cpu.mt_isa()), wrong))
end

return { norms = norms, masks = masks, activations = activations, results = results, compare = compare, with = with }
