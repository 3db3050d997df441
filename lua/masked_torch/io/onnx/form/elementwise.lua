--- elementwise: one element at a time, with broadcasting; activations, softmax, products of matrices.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local form = {}

-- ---- one operand -------------------------------------------------------------------------------------------------------

for name, op in pairs{ neg = 'Neg', abs = 'Abs', sign = 'Sign', floor = 'Floor', ceil = 'Ceil', round = 'Round',
  reciprocal = 'Reciprocal', sqrt = 'Sqrt', exp = 'Exp', log = 'Log', sin = 'Sin', cos = 'Cos', tan = 'Tan', atan = 'Atan',
  erf = 'Erf' } do
  form[name] = function(g, x) return g:node(op, { x }) end
end

-- The result, 0 where the option mask of the last argument is 0.
local function cleared(g, y, x, ...)
  for i = 1, select('#', ...) do
    local opts = (select(i, ...))
    if type(opts) == 'table' and opts.mask ~= nil then return g:select(y, g:mask(opts.mask, x)) end
  end
  return y
end

for name, op in pairs{ tanh = 'Tanh', sigmoid = 'Sigmoid', relu = 'Relu' } do
  form[name] = function(g, x, opts) return cleared(g, g:node(op, { x }), x, opts) end
end

function form.square(g, x) return g:binary('Mul', x, x) end
function form.rsqrt(g, x) return g:node('Reciprocal', { g:node('Sqrt', { x }) }) end
function form.log1p(g, x) return g:node('Log', { g:binary('Add', x, g:number(1, x.dtype)) }) end
function form.expm1(g, x) return g:binary('Sub', g:node('Exp', { x }), g:number(1, x.dtype)) end
function form.log2(g, x) return g:binary('Mul', g:node('Log', { x }), g:number(1 / math.log(2), x.dtype)) end

function form.trunc(g, x) return g:binary('Mul', g:node('Sign', { x }), g:node('Floor', { g:node('Abs', { x }) })) end
function form.isnan(g, x) return g:node('IsNaN', { x }, nil, nil, 'bool') end
function form.logical_not(g, x) return g:node('Not', { g:cast(x, 'bool') }) end

-- Arguments given in place or in a table.
local function argument(value, name, default)
  if type(value) == 'table' then value = value[name] end
  return value == nil and default or value
end

function form.leaky_relu(g, x, slope, opts)
  return cleared(g, g:node('LeakyRelu', { x }, { alpha = { float = argument(slope, 'negative_slope', 0.01) } }), x, slope, opts)
end

function form.elu(g, x, alpha, opts)
  return cleared(g, g:node('Elu', { x }, { alpha = { float = argument(alpha, 'alpha', 1) } }), x, alpha, opts)
end

function form.silu(g, x, opts) return cleared(g, g:binary('Mul', x, g:node('Sigmoid', { x })), x, opts) end

--- x / 2 * (1 + erf(x / sqrt 2)), or the approximation by tanh.
function form.gelu(g, x, approximate, opts)
  local function number(v) return g:number(v, x.dtype) end
  local inner
  if argument(approximate, 'approximate', 'none') == 'tanh' then
    local cube = g:binary('Mul', g:binary('Mul', x, x), x)
    inner = g:binary('Add', x, g:binary('Mul', cube, number(0.044715)))
    inner = g:node('Tanh', { g:binary('Mul', inner, number(math.sqrt(2 / math.pi))) })
  else
    inner = g:node('Erf', { g:binary('Mul', x, number(math.sqrt(0.5))) })
  end
  return cleared(g, g:binary('Mul', g:binary('Mul', x, number(0.5)), g:binary('Add', inner, number(1))), x, approximate, opts)
end

function form.softplus(g, x, beta, threshold, opts)
  opts = type(beta) == 'table' and beta or type(threshold) == 'table' and threshold or opts
  if type(threshold) == 'table' then threshold = threshold.threshold end
  if type(beta) == 'table' then beta, threshold = beta.beta, beta.threshold end
  beta, threshold = beta or 1, threshold or 20
  local scaled = beta == 1 and x or g:binary('Mul', x, g:number(beta, x.dtype))
  local y = g:node('Softplus', { scaled })
  if beta ~= 1 then y = g:binary('Div', y, g:number(beta, x.dtype)) end
  return cleared(g, g:where(g:binary('Greater', scaled, g:number(threshold, x.dtype), 'bool'), x, y), x, opts)
end

function form.clamp(g, x, low, high)
  if type(low) == 'table' then low, high = low.min, low.max end
  return g:node('Clip', { x, low and g:number(low, x.dtype) or false, high and g:number(high, x.dtype) or nil })
end
form.clip = form.clamp

-- ---- two operands --------------------------------------------------------------------------------------------------------

local floating = Tensor.floating

-- Numbers and tensors as Values of one type, the floating one where they differ.
local function operands(g, op, a, b)
  local function dtype_of(v) return type(v) == 'table' and v.dtype or nil end
  local dtype = dtype_of(a) or dtype_of(b)
  if dtype_of(a) and dtype_of(b) and a.dtype ~= b.dtype then
    dtype = floating[a.dtype] and a.dtype or floating[b.dtype] and b.dtype or a.dtype ~= 'bool' and a.dtype or b.dtype
  elseif not floating[dtype] and (type(a) == 'number' and a % 1 ~= 0 or type(b) == 'number' and b % 1 ~= 0) then
    dtype = 'float32'
  end
  local function lift(v)
    if type(v) == 'number' then return g:number(v, dtype) end
    if type(v) == 'boolean' then return g:number(v and 1 or 0, dtype) end
    if type(v) == 'cdata' then return g:cast(g:scalar(v), dtype) end
    if type(v) ~= 'table' then fail('%s: expected a tensor or a number, got %s', op, type(v)) end
    if require('masked_torch.mask').Mask == getmetatable(v) then v = v:tensor(dtype) end
    return g:cast(g:tensor(v), dtype)
  end
  return lift(a), lift(b), dtype
end

for name, op in pairs{ mul = 'Mul', maximum = 'Max', minimum = 'Min' } do
  form[name] = function(g, a, b)
    local x, y = operands(g, name, a, b)
    return g:binary(op, x, y)
  end
end

for name, op in pairs{ add = 'Add', sub = 'Sub' } do
  form[name] = function(g, a, b, opts)
    local x, y = operands(g, name, a, b)
    if opts and opts.alpha and opts.alpha ~= 1 then y = g:binary('Mul', y, g:number(opts.alpha, y.dtype)) end
    return g:binary(op, x, y)
  end
end

function form.div(g, a, b, opts)
  local x, y, dtype = operands(g, 'div', a, b)
  if opts ~= nil then fail('div: rounding_mode has no ONNX form here') end
  if not floating[dtype] then x, y = g:cast(x, 'float32'), g:cast(y, 'float32') end
  return g:binary('Div', x, y)
end

function form.pow(g, a, b)
  if b == 2 then return form.square(g, a) end
  local x, y = operands(g, 'pow', a, b)
  return g:binary('Pow', x, y)
end

--- x - y floor(x / y)
function form.remainder(g, a, b)
  local x, y, dtype = operands(g, 'remainder', a, b)
  if not floating[dtype] then return g:binary('Mod', x, y) end
  return g:binary('Sub', x, g:binary('Mul', y, g:node('Floor', { g:binary('Div', x, y) })))
end

for name, op in pairs{ eq = 'Equal', lt = 'Less', gt = 'Greater', le = 'LessOrEqual', ge = 'GreaterOrEqual' } do
  form[name] = function(g, a, b)
    local x, y = operands(g, name, a, b)
    return g:binary(op, x, y, 'bool')
  end
end
function form.ne(g, a, b) return g:node('Not', { form.eq(g, a, b) }) end

for name, op in pairs{ logical_and = 'And', logical_or = 'Or', logical_xor = 'Xor' } do
  form[name] = function(g, a, b) return g:binary(op, g:cast(g:tensor(a), 'bool'), g:cast(g:tensor(b), 'bool')) end
end

form['where'] = function(g, condition, a, b)
  local x, y = operands(g, 'where', a, b)
  return g:where(g:cast(g:tensor(condition), 'bool'), x, y)
end

function form.masked_fill(g, x, mask, value)
  return g:where(g:cast(g:tensor(mask), 'bool'), g:number(value, x.dtype), x)
end

-- ---- along a dim -----------------------------------------------------------------------------------------------------------

for _, name in ipairs{ 'softmax', 'log_softmax' } do
  form[name] = function(g, x, dim, opts)
    if type(dim) == 'table' then dim, opts = dim.dim, dim end
    opts = options.parse(name, { dim = options.none, mask = options.none }, opts)
    local axis = native.dim(name, dim or opts.dim, #x.shape)
    local op, attributes = name == 'softmax' and 'Softmax' or 'LogSoftmax', { axis = { int = axis } }
    if opts.mask == nil then return g:node(op, { x }, attributes) end
    -- Invalid elements count as -Inf; a line without a valid one would be NaN.
    local m = g:is_valid(g:mask(opts.mask, x))
    local hidden = g:where(m, x, g:number(-math.huge, x.dtype))
    local largest = g:reduce('ReduceMax', g:where(m, x, g:number(-3e38, x.dtype)), { axis + 1 }, true)
    local e = g:where(m, g:node('Exp', { g:binary('Sub', hidden, largest) }), g:number(0, x.dtype))
    local total = g:reduce('ReduceSum', e, { axis + 1 }, true)
    if name == 'softmax' then return g:divide(e, total) end
    local y = g:binary('Sub', g:binary('Sub', x, largest), g:node('Log', { total }))
    return g:where(m, y, g:number(-math.huge, x.dtype))
  end
end

-- ---- matrices ------------------------------------------------------------------------------------------------------------------

local function product(g, a, b)
  a, b = g:tensor(a), g:tensor(b)
  local n, k = #a.shape, #b.shape
  if n == 0 or k == 0 then fail('matmul: expected tensors with dimensions') end
  local shape = {}
  if n > 2 or k > 2 then
    shape = g:broadcast('matmul', { unpack(a.shape, 1, math.max(0, n - 2)) }, { unpack(b.shape, 1, math.max(0, k - 2)) })
  end
  if n > 1 then shape[#shape + 1] = a.shape[n - 1] end
  if k > 1 then shape[#shape + 1] = b.shape[k] end
  return g:node('MatMul', { a, b }, nil, shape)
end
form.matmul, form.mm, form.bmm, form.mv, form.dot = product, product, product, product, product

--- F.linear(x, w, b)
function form.linear(g, x, w, b)
  x, w = g:tensor(x), g:tensor(w)
  local shape = { unpack(x.shape) }
  shape[#shape] = w.shape[1]
  if #x.shape == 2 then
    return g:node('Gemm', { x, w, b and g:tensor(b) or nil }, { transB = { int = 1 } }, shape)
  end
  local turned = g:once('transposed ' .. w.name, function() return g:transpose(w, { 2, 1 }) end)
  local y = g:node('MatMul', { x, turned }, nil, shape)
  return b and g:binary('Add', y, g:tensor(b)) or y
end

--- F.embedding(index, weight): rows counted from 1.
function form.embedding(g, index, weight)
  weight = g:tensor(weight)
  local shape = { unpack(index.shape) }
  shape[#shape + 1] = weight.shape[2]
  local rows = g:binary('Sub', index, g:number(1, index.dtype))
  return g:node('Gather', { weight, rows }, { axis = { int = 0 } }, shape)
end

local function dropout(_, x, p, training)
  if type(p) == 'table' then p, training = p.p, p.training end
  if type(training) == 'table' then training = training.training end
  if training == nil then training = true end
  if training and p ~= 0 then
    fail('dropout: in training mode it draws random numbers, which a file cannot; call net:eval() or export with training = false')
  end
  return x
end
form.dropout, form.dropout1d, form.dropout2d, form.dropout3d = dropout, dropout, dropout, dropout

return form
