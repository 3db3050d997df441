--- Convolutions with few channels per group: what they give with and without masks, for conv_groups_spec.lua and conv_groups_isa.lua.
local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local Random = require 'support.random'

local C = native.cpu
local cases = {}

-- name, x, channels per group, kernel, options
cases.list = {
  { '3 x 3, rows of 28', { 2, 32, 9, 28 }, 1, { 3, 3 }, { padding = 1 } },
  { 'rows of 13, a last vector inside the one before', { 2, 41, 6, 13 }, 1, { 3, 3 }, { padding = 1 } },
  { 'rows of 7 and 5 x 5', { 3, 48, 7, 7 }, 1, { 5, 5 }, { padding = 2 } },
  { 'rows of 30 and 7 x 7', { 1, 16, 8, 30 }, 1, { 7, 7 }, { padding = 3 } },
  { 'stride 2', { 2, 32, 11, 33 }, 1, { 3, 3 }, { padding = 1, stride = 2 } },
  { 'stride 2, 7 x 5', { 2, 16, 12, 26 }, 1, { 7, 5 }, { padding = 2, stride = 2 } },
  { 'stride 1 and 2, no padding', { 2, 16, 5, 21 }, 1, { 2, 4 }, { stride = { 1, 2 } } },
  { 'stride 3', { 2, 16, 10, 20 }, 1, { 3, 3 }, { padding = 1, stride = 3 } },
  { 'dilation of rows', { 2, 16, 9, 15 }, 1, { 3, 3 }, { padding = { 2, 1 }, dilation = { 2, 1 } } },
  { 'dilation in a row', { 2, 16, 6, 15 }, 1, { 3, 3 }, { padding = { 1, 2 }, dilation = { 1, 2 } } },
  { 'one axis, causal', { 3, 64, 37 }, 1, { 7 }, { padding = 'causal' } },
  { 'one axis, longer than a piece', { 1, 16, 600 }, 1, { 5 }, { padding = 2 } },
  { 'three axes', { 1, 16, 4, 5, 9 }, 1, { 3, 3, 3 }, { padding = 1 } },
  { 'wider than an image', { 2, 16, 2, 3 }, 1, { 3, 7 }, { padding = { 1, 3 } } },
  { 'crops', { 2, 16, 7, 12 }, 1, { 3, 3 }, { padding = { { -1, 1 }, { -2, 0 } } } },
  { 'pairs', { 2, 32, 9, 15 }, 2, { 3, 3 }, { padding = 1 } },
  { 'pairs, stride 2, one vector and a half', { 2, 24, 9, 17 }, 2, { 3, 5 }, { padding = 2, stride = 2 } },
  { 'fours', { 2, 64, 8, 14 }, 4, { 3, 3 }, { padding = 1 } },
  { 'fours, one axis', { 2, 20, 40 }, 4, { 4 }, { padding = 2 } },
  { 'eights', { 2, 32, 6, 16 }, 8, { 3, 3 }, { padding = 1 } },
  { 'sixteens', { 2, 48, 6, 15 }, 16, { 3, 3 }, { padding = 1 } },
  { 'eights, more terms than a block', { 1, 16, 8, 9 }, 8, { 7, 7 }, { padding = 3 } },
}

local function last(t)
  local y = Tensor.empty('test', t:size(), t.dtype, 'cpu', Tensor.channels_last(t:size()))
  return y:copy_(t)
end

-- The same for every machine and type: numbers of float32.
function cases.tensor(random, shape, dtype)
  return torch.tensor(random:normal(shape).values):to { dtype = 'float32' }:reshape(shape):to { dtype = dtype }
end

-- Something by which no two places can be exchanged.
function cases.weights(t) return (torch.range(1, t:numel()):to { dtype = 'float64' }:reshape(t:size()) * 0.37):sin() end

function cases.make(case, dtype)
  local _, shape, group, kernel, opts = unpack(case)
  local more = { groups = shape[2] / group }
  for key, value in pairs(opts) do more[key] = value end
  local random = Random.new(5)
  local p = { opts = more, x = last(cases.tensor(random, shape, dtype)), b = cases.tensor(random, { shape[2] }, dtype),
    w = cases.tensor(random, { shape[2], group, unpack(kernel) }, dtype) }
  p.g = geometry.conv('conv', #shape - 2, kernel, more)
  p.g.groups = more.groups
  p.shape = { shape[1], shape[2], unpack(geometry.output_size('conv', p.g, geometry.spatial(p.x))) }
  p.dy = last(cases.tensor(random, p.shape, dtype))
  local function map(of, channel)
    local size = { unpack(of) }
    size[2] = channel
    return size
  end
  -- Runs and holes: a sample that is empty, one whose rows end early
  p.valid = (cases.tensor(random, map(shape, 1), 'float32') + 0.5):gt(0)
  p.active = (cases.tensor(random, map(p.shape, 1), 'float32') + 0.7):gt(0)
  p.r, p.m = cases.tensor(random, map(p.shape, 1), dtype), cases.tensor(random, map(p.shape, 1), dtype)
  p.m = p.m * (p.m + 0.5):gt(0):to { dtype = dtype }
  return p
end

function cases.forward(p, x, valid, active, r, m, activation)
  local y = Tensor.empty('test', p.shape, p.x.dtype, 'cpu', Tensor.channels_last(p.shape))
  native.check(C.mt_conv_forward(y._c, x._c, p.w._c, p.b._c, p.g, valid and valid._c, active and active._c, r and r._c, m and m._c,
    nil, activation or C.MT_ACTIVATION_IDENTITY, 0.25))
  return y
end

function cases.input(p, dy, valid, active)
  local dx = Tensor.empty_like(p.x)
  native.check(C.mt_conv_backward_input(dx._c, dy._c, p.w._c, nil, p.g, valid and valid._c, active and active._c))
  return dx
end

function cases.weight(p, dy, x, valid, active)
  local dw = Tensor.empty_like(p.w)
  native.check(C.mt_conv_backward_weight(dw._c, dy._c, x._c, p.g, valid and valid._c, active and active._c))
  return dw
end

function cases.run(case, dtype)
  local p = cases.make(case, dtype)
  local y = cases.forward(p, p.x, nil, nil, nil, nil, C.MT_ACTIVATION_LEAKY_RELU)
  return { y = y, dx = cases.input(p, p.dy), dw = cases.weight(p, p.dy, p.x),
    masked = cases.forward(p, p.x, p.valid, p.active, p.r, p.m), masked_dx = cases.input(p, p.dy, p.valid, p.active),
    masked_dw = cases.weight(p, p.dy, p.x, p.valid, p.active) }
end

return cases
