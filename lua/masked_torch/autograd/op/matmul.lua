--- matmul: matmul, mm, bmm, mv, dot, outer, addmm. float32, float64 and bfloat16.
--
-- The bits of a product depend neither on the memory layout nor on the threads, nor on other rows and columns; large ones of the
-- portable build, which go to OpenBLAS (core/gemm.h), may depend on the sizes. F.linear never does.

local autograd = require 'masked_torch.autograd'
local autocast = require 'masked_torch.autograd.autocast'
local converted = require('masked_torch.autograd.bfloat16').converted
local cuda = require 'masked_torch.native.cuda'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

-- x with two dims or more and `ndim` dims: a vector becomes a row or a column, leading sizes 1 are added.
local function promoted(x, ndim, as_column)
  local shape, strides = Tensor.shape_of(x), x:stride()
  if #shape == 1 then
    local at = as_column and 2 or 1
    table.insert(shape, at, 1)
    table.insert(strides, at, 1)
  end
  while #shape < ndim do
    table.insert(shape, 1, 1)
    table.insert(strides, 1, 1)
  end
  return Tensor.as_view('matmul', x, shape, strides, 0)
end

local function transposed(x)
  local order = {}
  for d = 1, x._c.ndim do order[d] = d end
  local n = #order
  order[n - 1], order[n] = n, n - 1
  return Tensor.permute_view('matmul', x, order)
end

-- a b for promoted operands; row-major, of a's type or of `dtype`.
local function product(a, b, dtype)
  local shape, sb = Tensor.shape_of(a), Tensor.shape_of(b)
  local n = #shape
  for d = 1, n - 2 do
    if shape[d] == 1 then shape[d] = sb[d] end
  end
  shape[n] = sb[n]
  local y = Tensor.empty('matmul', shape, dtype or a.dtype, a.device)
  check(a.K.mt_matmul(y._c, a._c, b._c))
  return y
end

-- The gradient a b of x, which is `like` in the promoted shape: summed over the leading dims in which x has size 1.
local function gradient(a, b, like, x)
  local size, bits, g = Tensor.shape_of(like), 0
  for d = 1, #size - 2 do
    if size[d] == 1 and (a:size(d) ~= 1 or b:size(d) ~= 1) then bits = bits + 2 ^ (d - 1) end
  end
  if bits ~= 0 then
    local each = product(a, b, Tensor.kernel_type(x.dtype))     -- bfloat16 is rounded once, after the sum
    g = Tensor.empty('matmul', size, each.dtype, x.device)
    check(g.K.mt_reduce_sum(g._c, each._c, bits))
    if g.dtype ~= x.dtype then g = converted(g, x.dtype) end
  else
    g = product(a, b)
  end
  local shape = Tensor.shape_of(x)
  return Tensor.as_view('matmul', g, shape, Tensor.row_major(shape), 0)
end

local matmul = autograd.op{
  name = 'matmul',
  bfloat16 = 'itself',
  forward = function(ctx, a, b)
    local ndim = math.max(2, a._c.ndim, b._c.ndim)
    if a._c.ndim == 2 and b._c.ndim == 2 then
      local y = Tensor.empty('matmul', { tonumber(a._c.shape[0]), tonumber(b._c.shape[1]) }, a.dtype, a.device)
      check(a.K.mt_matmul(y._c, a._c, b._c))
      ctx:save(a, b)
      return y
    end
    local y = product(promoted(a, ndim, false), promoted(b, ndim, true))
    ctx.ndim, ctx.shape = ndim, Tensor.shape_of(y)
    ctx:save(a, b)
    local shape = Tensor.shape_of(y)
    if b:dim() == 1 then table.remove(shape) end
    if a:dim() == 1 then table.remove(shape, b:dim() == 1 and #shape or #shape - 1) end
    if #shape == ndim then return y end
    return Tensor.as_view('matmul', y, shape, Tensor.row_major(shape), 0)
  end,
  backward = function(ctx, dy)
    local a, b = ctx:saved()
    if a._c.ndim == 2 and b._c.ndim == 2 then
      return ctx.needs[1] and product(dy, transposed(b)) or nil, ctx.needs[2] and product(transposed(a), dy) or nil
    end
    local wide_a, wide_b = promoted(a, ctx.ndim, false), promoted(b, ctx.ndim, true)
    local wide_shape, strides = ctx.shape, dy:stride()
    -- dy in the promoted shape: sizes 1 where a vector's dim was dropped.
    if b:dim() == 1 then table.insert(strides, 1) end
    if a:dim() == 1 then table.insert(strides, #strides, 1) end
    dy = Tensor.as_view('matmul', dy, wide_shape, strides, 0)
    return ctx.needs[1] and gradient(dy, transposed(wide_b), wide_a, a) or nil,
      ctx.needs[2] and gradient(transposed(wide_a), dy, wide_b, b) or nil
  end,
}

-- ---- arguments -----------------------------------------------------------------------------------------------

local function operands(op, a, b, ndim_a, ndim_b)
  Tensor.check(op, 'input', a)
  Tensor.check(op, 'other', b)
  Tensor.check_device_of(op, a, 'other', b)
  a, b = autocast.operands(a, b)
  if not Tensor.floating[a.dtype] or a.dtype ~= b.dtype then
    fail('%s: expected two tensors of floating point and of one type, got %s %s and %s %s', op, Tensor.shape_text(a), a.dtype,
      Tensor.shape_text(b), b.dtype)
  end
  if (ndim_a and a:dim() ~= ndim_a) or (ndim_b and b:dim() ~= ndim_b) then
    fail('%s: expected tensors of %d and %d dimensions, got %s and %s', op, ndim_a, ndim_b, Tensor.shape_text(a),
      Tensor.shape_text(b))
  end
  if a:dim() == 0 or b:dim() == 0 then
    fail('%s: expected tensors of at least 1 dimension, got %s and %s; use * for numbers', op, Tensor.shape_text(a),
      Tensor.shape_text(b))
  end
  local inner_a, inner_b = a:size(-1), b:size(b:dim() == 1 and 1 or -2)
  if inner_a ~= inner_b then
    fail('%s: sizes do not fit: %s times %s needs %d = %d', op, Tensor.shape_text(a), Tensor.shape_text(b), inner_a, inner_b)
  end
  for d = 3, math.min(a._c.ndim, b._c.ndim) do
    local sa, sb = a:size(-d), b:size(-d)
    if sa ~= sb and sa ~= 1 and sb ~= 1 or (op == 'bmm' and sa ~= sb) then
      fail('%s: batch sizes do not fit: %s and %s', op, Tensor.shape_text(a), Tensor.shape_text(b))
    end
  end
  return a, b
end

local method = {}

--- a:matmul(b): the product over the last dim of a and the last but one of b, by rank as in PyTorch:
--   (k) (k) -> (); (m, k) (k) -> (m); (k) (k, n) -> (n); (m, k) (k, n) -> (m, n);
--   (*, m, k) (*, k, n) -> (*, m, n), the leading dims broadcast.
function method.matmul(a, b)
  a, b = operands('matmul', a, b)
  local y
  if b:dim() <= 2 and a:dim() > 2 and a:numel() > 0 then
    -- One matrix for the whole batch: its rows are the rows of one product, in any layout of a.
    local shape, k = a:size(), a:size(-1)
    shape[#shape] = b:dim() == 2 and b:size(2) or nil
    y = matmul(a:reshape(a:numel() / k, k), b):reshape(shape)
  else
    y = matmul(a, b)
  end
  return y
end

local function ranked(name, ndim_a, ndim_b)
  return function(a, b)
    a, b = operands(name, a, b, ndim_a, ndim_b)
    local y = matmul(a, b)
    return y
  end
end

--- a:mm(b): (m, k) (k, n) -> (m, n)
method.mm = ranked('mm', 2, 2)
--- a:bmm(b): (B, m, k) (B, k, n) -> (B, m, n)
method.bmm = ranked('bmm', 3, 3)
--- a:mv(x): (m, k) (k) -> (m)
method.mv = ranked('mv', 2, 1)
--- a:dot(b): (k) (k) -> ()
method.dot = ranked('dot', 1, 1)

--- a:outer(b): (m) (n) -> (m, n), y[i][j] = a[i] b[j]
function method.outer(a, b)
  Tensor.check('outer', 'input', a)
  Tensor.check('outer', 'other', b)
  if a:dim() ~= 1 or b:dim() ~= 1 then
    fail('outer: expected two vectors, got %s and %s', Tensor.shape_text(a), Tensor.shape_text(b))
  end
  local column, row = a:unsqueeze(2), b:unsqueeze(1)
  column, row = operands('outer', column, row)
  local y = matmul(column, row)
  return y
end

--- x:addmm(a, b, {beta = 1, alpha = 1}) = beta x + alpha (a b); x broadcasts to the product. With beta = 0, x is not read.
function method.addmm(x, a, b, opts)
  Tensor.check('addmm', 'input', x)
  opts = options.parse('addmm', { beta = 1, alpha = 1 }, opts)
  a, b = operands('addmm', a, b, 2, 2)
  local y = matmul(a, b)
  if opts.alpha ~= 1 then y = y * opts.alpha end
  if opts.beta == 0 then return y end
  return (opts.beta == 1 and x or x * opts.beta) + y
end

-- ---- precision -----------------------------------------------------------------------------------------------

local PRECISIONS = { 'highest', 'high', 'medium' }

local matmul_torch = {}

--- torch.set_float32_matmul_precision(precision): how float32 products of matmul and F.linear, and their gradients, are computed from
-- now on. 'highest' (default) and 'high': in float32. 'medium': operands are rounded to bfloat16 (relative error up to 2^-9 each),
-- sums stay float32; parameters and results are float32 as before (master weights). About twice as fast where the processor has the
-- instruction (avx512_bf16); elsewhere the same bits, without the speed. Convolutions are not affected. On a GPU, where convolutions
-- follow too: 'highest' has three TF32 products for one, as exact as float32; 'high' is TF32 (2^-11); 'medium' is bfloat16, not with
-- the CPU's bits. float64 is never affected.
function matmul_torch.set_float32_matmul_precision(precision)
  options.choice('set_float32_matmul_precision', 'precision', precision, PRECISIONS)
  for code, name in ipairs(PRECISIONS) do
    if name == precision then check(native.cpu.mt_matmul_precision_set(code - 1)) end
  end
  cuda.follow()
end

--- torch.get_float32_matmul_precision() -> 'highest', 'high' or 'medium'.
function matmul_torch.get_float32_matmul_precision()
  return PRECISIONS[native.cpu.mt_matmul_precision_get() + 1]
end

return { method = method, torch = matmul_torch }
