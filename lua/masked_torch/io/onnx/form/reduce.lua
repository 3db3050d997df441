--- reduce: sums, means, extremes, deviations and running sums along dims. Arguments as in autograd/op/reduce.lua.

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local floating = Tensor.floating
local form = {}

-- (dim or dims, {keepdim =}) as reductions take them: a list of dims, keepdim, the other options.
local function arguments(op, x, dims, opts)
  if type(dims) == 'table' and #dims == 0 and next(dims) ~= nil then
    opts, dims = dims, dims.dim
  end
  if opts == true then opts = { keepdim = true } end
  opts = opts or {}
  if type(dims) == 'number' then dims = { dims } end
  if type(dims) == 'table' and #dims == 0 then dims = nil end
  local list = {}
  if dims == nil then
    for d = 1, #x.shape do list[d] = d end
  else
    for i, d in ipairs(dims) do list[i] = native.dim(op, d, #x.shape) + 1 end
  end
  return list, opts.keepdim or false, opts
end

for name, op in pairs{ sum = 'ReduceSum', mean = 'ReduceMean', amax = 'ReduceMax', amin = 'ReduceMin', prod = 'ReduceProd' } do
  form[name] = function(g, x, dims, opts)
    local list, keepdim = arguments(name, x, dims, opts)
    if (name == 'sum' or name == 'prod') and not floating[x.dtype] then x = g:cast(x, 'int64') end
    if #list == 0 then return x end
    return g:reduce(op, x, list, keepdim)
  end
end

for name, op in pairs{ any = 'ReduceMax', all = 'ReduceMin' } do
  form[name] = function(g, x, dims, opts)
    local list, keepdim = arguments(name, x, dims, opts)
    return g:cast(g:reduce(op, g:cast(g:cast(x, 'bool'), 'int32'), list, keepdim), 'bool')
  end
end

-- sum of (x - mean)^2 / (count - correction)
local function variance(g, name, x, dims, opts)
  local list, keepdim, given = arguments(name, x, dims, opts)
  local correction = given.correction or (given.unbiased == false and 0 or 1)
  local d = g:binary('Sub', x, g:reduce('ReduceMean', x, list, true))
  local squares = g:binary('Mul', d, d)
  if correction == 0 then return g:reduce('ReduceMean', squares, list, keepdim) end
  local count = 1
  for _, k in ipairs(list) do count = count * x.shape[k] end
  local divisor = g:cast(g:scalar(count - correction), x.dtype)
  return g:binary('Div', g:reduce('ReduceSum', squares, list, keepdim), divisor)
end

form['var'] = function(g, x, dims, opts) return variance(g, 'var', x, dims, opts) end
function form.std(g, x, dims, opts) return g:node('Sqrt', { variance(g, 'std', x, dims, opts) }) end

function form.logsumexp(g, x, dims, opts)
  local list, keepdim = arguments('logsumexp', x, dims, opts)
  local largest = g:reduce('ReduceMax', x, list, true)
  local total = g:reduce('ReduceSum', g:node('Exp', { g:binary('Sub', x, largest) }), list, true)
  local y = g:binary('Add', g:node('Log', { total }), largest)
  return keepdim and y or g:squeeze(y, list)
end

-- Places from 1; without dim, in row-major order.
local function place(g, op, x, dim, opts)
  if type(dim) == 'table' then dim, opts = dim.dim, dim end
  local keepdim = opts == true or opts and opts.keepdim or false
  if dim == nil then
    local count = 1
    for _, s in ipairs(x.shape) do count = count * s end
    x, dim = g:reshape(x, { count }), 1
  end
  local d, shape = native.dim(op, dim, #x.shape), { unpack(x.shape) }
  if keepdim then shape[d + 1] = 1 else table.remove(shape, d + 1) end
  local index = g:node(op == 'argmax' and 'ArgMax' or 'ArgMin', { x }, { axis = { int = d }, keepdims = { int = keepdim and 1 or 0 } },
    shape, 'int64')
  return g:binary('Add', index, g:number(1, 'int64'))
end

function form.argmax(g, x, dim, opts) return place(g, 'argmax', x, dim, opts) end
function form.argmin(g, x, dim, opts) return place(g, 'argmin', x, dim, opts) end

for name, reduction in pairs{ max = 'ReduceMax', min = 'ReduceMin' } do
  form[name] = function(g, x, dim, opts)
    if g.is_value(dim) or Tensor.is_tensor(dim) then
      return g:binary(name == 'max' and 'Max' or 'Min', g:tensor(x), g:tensor(dim))
    end
    local list, keepdim = arguments(name, x, dim, opts)
    local y = g:reduce(reduction, x, list, keepdim)
    if dim == nil then return y end
    return y, place(g, 'arg' .. name, x, list[1], keepdim)
  end
end

function form.cumsum(g, x, dim)
  if not floating[x.dtype] then x = g:cast(x, 'int64') end
  return g:node('CumSum', { x, g:number(native.dim('cumsum', dim, #x.shape), 'int64') })
end

return form
