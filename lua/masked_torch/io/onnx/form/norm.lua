--- norm: normalisation. autograd/op/norm.lua has the formulas: values travel multiplied by their mask, statistics count valid
-- elements, results are masked again.

local native = require 'masked_torch.native'
local operation = require('masked_torch.autograd.op.norm').internal
local size = require 'masked_torch.io.onnx.size'

local fail = native.fail
local form = {}

-- A parameter (C) for x (N, C, *S).
local function per_channel(g, t, x)
  if t == nil then return nil end
  local shape = {}
  for d = 1, #x.shape do shape[d] = 1 end
  t = g:tensor(t)
  shape[2] = t.shape[1]
  return g:reshape(t, shape)
end

local function affine(g, y, weight, bias)
  if weight then y = g:binary('Mul', y, weight) end
  if bias then y = g:binary('Add', y, bias) end
  return y
end

local function rstd(g, variance, eps)
  return g:node('Reciprocal', { g:node('Sqrt', { g:binary('Add', variance, g:number(eps, variance.dtype)) }) })
end

-- Mean and 1 / std over dims, of x without a mask.
local function plain_statistics(g, x, dims, eps, centred)
  local mean = centred and g:reduce('ReduceMean', x, dims, true) or nil
  local d = mean and g:binary('Sub', x, mean) or x
  return d, rstd(g, g:reduce('ReduceMean', g:binary('Mul', d, d), dims, true), eps)
end

-- Normalises x over dims with a mask m that has x's shape where sums need it; centred = false: RMS.
local function masked(g, x, m, dims, eps, weight, bias, centred)
  m = g:expand(m, x.shape)
  local valid = g:is_valid(m)
  local zero, one = g:number(0, x.dtype), g:number(1, x.dtype)
  local n = g:reduce('ReduceSum', m, dims, true)
  local z = g:where(valid, g:binary('Div', x, g:where(valid, m, one)), zero)
  local d = z
  if centred then
    local mean = g:divide(g:reduce('ReduceSum', g:where(valid, x, zero), dims, true), n)
    d = g:where(valid, g:binary('Sub', z, mean), zero)
  end
  local variance = g:divide(g:reduce('ReduceSum', g:binary('Mul', m, g:binary('Mul', d, d)), dims, true), n)
  local y = affine(g, g:binary('Mul', d, rstd(g, variance, eps)), weight, bias)
  return g:where(valid, g:binary('Mul', y, m), zero)
end

-- ---- batch norm ------------------------------------------------------------------------------------------------------------

local function from_running(g, x, m, o, weight, bias)
  local eps = o.eps
  if not m or o.compat then
    local C = g:tensor(o.running_mean).shape
    local scale = o.weight and g:tensor(o.weight) or g:filled(C, 1, x.dtype)
    local shift = o.bias and g:tensor(o.bias) or g:filled(C, 0, x.dtype)
    return g:node('BatchNormalization', { x, scale, shift, g:tensor(o.running_mean), g:tensor(o.running_var) },
      { epsilon = { float = eps } }, x.shape)
  end
  -- m ((x / m - mean) a + b) = (x - m mean) a + m b
  local scale = rstd(g, per_channel(g, o.running_var, x), eps)
  if weight then scale = g:binary('Mul', scale, weight) end
  local y = g:binary('Mul', g:binary('Sub', x, g:binary('Mul', m, per_channel(g, o.running_mean, x))), scale)
  if bias then y = g:binary('Add', y, g:binary('Mul', m, bias)) end
  return g:select(y, m)
end

-- masked_torch's numbers.
local function compat(g, x, m, dims, eps, weight, bias)
  local n = g:reduce('ReduceSum', m, dims, true)
  local mean = g:binary('Div', g:reduce('ReduceSum', x, dims, true), n)
  local d = g:binary('Sub', x, mean)
  local dm = g:binary('Mul', d, m)
  local variance = g:binary('Div', g:reduce('ReduceSum', g:binary('Mul', dm, dm), dims, true), n)
  return affine(g, g:binary('Mul', d, rstd(g, variance, eps)), weight, bias)
end

local function batch_norm(g, x, o)
  local m, eps = g:mask(o.mask, x), o.eps
  if o.compat and m and not (o.weight and o.bias) then o.weight, o.bias = nil, nil end
  local weight, bias = per_channel(g, o.weight, x), per_channel(g, o.bias, x)
  if not o.training then return from_running(g, x, m, o, weight, bias) end
  local dims = { 1 }
  for d = 3, #x.shape do dims[#dims + 1] = d end
  if not m then
    local d, scale = plain_statistics(g, x, dims, eps, true)
    return affine(g, g:binary('Mul', d, scale), weight, bias)
  end
  if o.compat then return compat(g, x, m, dims, eps, weight, bias) end
  return masked(g, x, m, dims, eps, weight, bias, true)
end

function form.batch_norm(g, x, ...)
  local o = operation.named('batch_norm', operation.batch_names, operation.batch_defaults, ...)
  return g:activated(batch_norm(g, x, o), o)
end

function form.masked_batch_norm(g, x, mask, ...)
  local o = operation.named('masked_batch_norm', operation.batch_names, operation.batch_defaults, ...)
  if mask ~= nil then o.mask = mask end
  return g:activated(batch_norm(g, x, o), o)
end

-- ---- group and instance norm ---------------------------------------------------------------------------------------------------

local function group_norm(g, x, groups, o)
  local C, m, eps = x.shape[2], g:mask(o.mask, x), o.eps
  if size.is(C) then fail('group_norm: the number of channels must be known at export') end
  local split, dims = { x.shape[1], groups, C / groups, unpack(x.shape, 3) }, {}
  for d = 3, #x.shape + 1 do dims[#dims + 1] = d end
  local xg = groups == C and x or g:reshape(x, split)
  if groups == C then table.remove(dims) end
  local weight, bias = per_channel(g, o.weight, x), per_channel(g, o.bias, x)
  if not m then
    local d, scale = plain_statistics(g, xg, dims, eps, true)
    local y = g:binary('Mul', d, scale)
    if groups ~= C then y = g:reshape(y, x.shape) end
    return affine(g, y, weight, bias)
  end
  local me = g:expand(m, x.shape)
  local mg = groups == C and me or g:reshape(me, split)
  local y = masked(g, xg, mg, dims, eps, nil, nil, true)
  if groups ~= C then y = g:reshape(y, x.shape) end
  -- y is multiplied by m already: the bias must be too.
  if weight then y = g:binary('Mul', y, weight) end
  if bias then y = g:binary('Add', y, g:binary('Mul', m, bias)) end
  return y
end

function form.group_norm(g, x, groups, ...)
  local o = operation.named('group_norm', operation.group_names, operation.group_defaults, ...)
  return g:activated(group_norm(g, x, groups, o), o)
end

function form.instance_norm(g, x, ...)
  local o = operation.named('instance_norm', operation.instance_names, operation.instance_defaults, ...)
  if not o.use_input_stats then
    return g:activated(batch_norm(g, x, o), o)
  end
  return g:activated(group_norm(g, x, x.shape[2], o), o)
end

-- ---- layer and RMS norm --------------------------------------------------------------------------------------------------------------

local function trailing(x, normalized_shape)
  local count = type(normalized_shape) == 'table' and #normalized_shape or 1
  local dims = {}
  for i = 1, count do dims[i] = #x.shape - count + i end
  return dims
end

local function along(g, x, m, dims, o, centred, eps)
  local weight, bias = o.weight and g:tensor(o.weight), o.bias and g:tensor(o.bias)
  if m then return masked(g, x, m, dims, eps, weight, bias, centred) end
  if centred and weight and g.opset >= 17 then
    return g:node('LayerNormalization', { x, weight, bias or nil }, { axis = { int = dims[1] - 1 }, epsilon = { float = eps } })
  end
  local d, scale = plain_statistics(g, x, dims, eps, centred)
  return affine(g, g:binary('Mul', d, scale), weight, bias)
end

function form.layer_norm(g, x, normalized_shape, ...)
  local o = operation.named('layer_norm', operation.group_names, operation.layer_defaults, ...)
  local eps, m = o.eps, g:mask(o.mask, x)
  if not o.channels then return g:activated(along(g, x, m, trailing(x, normalized_shape), o, true, eps), o) end
  local order, back, n = { 1 }, { 1, #x.shape }, #x.shape
  for d = 3, n do order[d - 1], back[d] = d, d - 1 end
  order[n] = 2
  local y = along(g, g:transpose(x, order), m and g:transpose(m, order), { n }, o, true, eps)
  return g:activated(g:transpose(y, back), o)
end

function form.rms_norm(g, x, normalized_shape, ...)
  local o = operation.named('rms_norm', operation.rms_names, operation.rms_defaults[x.dtype], ...)
  return g:activated(along(g, x, g:mask(o.mask, x), trailing(x, normalized_shape), o, false, o.eps), o)
end

return { form = form }
