--- sort: sort, argsort, topk, kthvalue, median, unique.
--
-- Sorting is stable and NaN counts as larger than everything. Indexes are int64 and 1-based. Gradients go back to where the
-- elements came from.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check = native.check

-- The 0-based dim; the last one when none is given.
local function dim_of(op, x, dim)
  local ndim = x:dim()
  if dim == nil then dim = -1 end
  if ndim == 0 and (dim == 1 or dim == -1) then return 0 end
  return native.dim(op, dim, ndim)
end

local function with_size(x, dim, size)
  local shape = Tensor.shape_of(x)
  if #shape > 0 then shape[dim + 1] = size end
  return shape
end

-- An op that chooses elements of x along a dim: call(values, index, x, dim, ...) runs the kernel, size(x, dim, ...) tells how
-- many.
local function choosing(name, size, call)
  return autograd.op{
    name = name,
    forward = function(ctx, x, dim, ...)
      local shape = with_size(x, dim, size(x, dim, ...))
      local values = Tensor.empty(name, shape, x.dtype, x.device)
      local index = Tensor.empty(name, shape, 'int64', x.device)
      check(call(x.K, values._c, index._c, x._c, dim, ...))
      ctx.dim, ctx.like = dim, x
      ctx:save(index)
      ctx:mark_non_differentiable(index)
      return values, index
    end,
    backward = function(ctx, dy)
      local index = ctx:saved()
      if not dy then return nil end
      local dx = Tensor.empty_like(ctx.like)
      check(dy.K.mt_sort_backward(dx._c, dy._c, index._c, ctx.dim))
      return dx
    end,
  }
end

local sort = choosing('sort', function(x, dim) return x:dim() == 0 and 1 or x:size(dim + 1) end,
  function(K, values, index, x, dim, descending) return K.mt_sort(values, index, x, dim, descending) end)
local topk = choosing('topk', function(_, _, k) return k end,
  function(K, values, index, x, dim, k, largest) return K.mt_sort_topk(values, index, x, dim, k, largest) end)
local kthvalue = choosing('kthvalue', function() return 1 end,
  function(K, values, index, x, dim, k) return K.mt_sort_kth(values, index, x, dim, k) end)

-- (dim, opts), (opts) with opts.dim, or (dim, flag) as in PyTorch, where flag stands for the option `positional`.
local function arguments(op, x, dim, opts, defaults, positional)
  Tensor.check(op, 'input', x)
  if type(dim) == 'table' then dim, opts = nil, dim end
  if type(opts) == 'boolean' then opts = { [positional] = opts } end
  defaults.dim = options.none
  opts = options.parse(op, defaults, opts)
  if dim == nil then dim = opts.dim end
  return dim, opts
end

local method = {}

--- x:sort([dim = -1], {descending = false, stable = true}) -> values, index. Always stable; NaN at the end, in descending order
-- at the front.
function method.sort(x, dim, opts)
  dim, opts = arguments('sort', x, dim, opts, { descending = false, stable = true }, 'descending')
  local values, index = sort(x, dim_of('sort', x, dim), opts.descending and 1 or 0)
  return values, index
end

--- x:argsort([dim = -1], {descending = false, stable = true}) -> index (int64, 1-based)
function method.argsort(x, dim, opts)
  dim, opts = arguments('argsort', x, dim, opts, { descending = false, stable = true }, 'descending')
  dim = dim_of('argsort', x, dim)
  local index = Tensor.empty('argsort', Tensor.shape_of(x), 'int64', x.device)
  check(x.K.mt_sort(nil, index._c, x._c, dim, opts.descending and 1 or 0))
  return index
end

--- x:topk(k, [dim = -1], {largest = true, sorted = true}) -> values, index: the k largest (or smallest) along dim, always in
-- order, equal ones by place.
function method.topk(x, k, dim, opts)
  dim, opts = arguments('topk', x, dim, opts, { largest = true, sorted = true }, 'largest')
  k = native.integer('topk', 'k', k, 0)
  dim = dim_of('topk', x, dim)
  local size = x:dim() == 0 and 1 or x:size(dim + 1)
  if k > size then
    native.fail('topk: k: expected at most %d, the size of dim %d of %s, got %d', size, dim + 1, Tensor.shape_text(x), k)
  end
  local values, index = topk(x, dim, k, opts.largest and 1 or 0)
  return values, index
end

local function kth(name, x, k, dim, keepdim)
  dim = dim_of(name, x, dim)
  local values, index = kthvalue(x, dim, k)
  if not keepdim and x:dim() > 0 then
    values, index = values:squeeze(dim + 1), index:squeeze(dim + 1)
  end
  return values, index
end

--- x:kthvalue(k, [dim = -1], {keepdim = false}) -> value, index: the k-th smallest along dim, k from 1.
function method.kthvalue(x, k, dim, opts)
  dim, opts = arguments('kthvalue', x, dim, opts, { keepdim = false }, 'keepdim')
  k = native.integer('kthvalue', 'k', k, 1)
  local values, index = kth('kthvalue', x, k, dim, opts.keepdim)
  return values, index
end

--- x:median() -> the median of all elements; x:median(dim, {keepdim = false}) -> values, index along dim. Of an even number the
-- lower of the two in the middle, as in PyTorch; NaN where there is one.
function method.median(x, dim, opts)
  dim, opts = arguments('median', x, dim, opts, { keepdim = false }, 'keepdim')
  if dim == nil then
    local values = kth('median', x:reshape(x:numel()), 0, 1, false)
    return values
  end
  local values, index = kth('median', x, 0, dim, opts.keepdim)
  return values, index
end

local count = ffi.new('int64_t[1]')

--- x:unique({return_inverse = false, return_counts = false}) -> values [, inverse] [, counts]: the different elements in
-- ascending order; inverse has x's shape and says where each element stands in values (1-based). Not differentiable.
function method.unique(x, opts)
  Tensor.check('unique', 'input', x)
  opts = options.parse('unique', { return_inverse = false, return_counts = false }, opts)
  local flat = x:detach():reshape(x:numel())
  local n = flat:size()
  local values = Tensor.empty('unique', n, x.dtype, x.device)
  local inverse = opts.return_inverse and Tensor.empty('unique', n, 'int64', x.device) or nil
  local counts = opts.return_counts and Tensor.empty('unique', n, 'int64', x.device) or nil
  check(x.K.mt_sort_unique(values._c, inverse and inverse._c, counts and counts._c, count, flat._c))
  local found = { tonumber(count[0]) }
  local results = { Tensor.as_view('unique', values, found, { 1 }, 0) }
  if inverse then results[#results + 1] = inverse:reshape(x:size()) end
  if counts then results[#results + 1] = Tensor.as_view('unique', counts, found, { 1 }, 0) end
  return unpack(results)
end

return { method = method }
