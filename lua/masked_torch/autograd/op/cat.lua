--- cat: joining tensors along an existing dim (cat) or a new one (stack).

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local check, fail, shape_of, shape_text = native.check, native.fail, Tensor.shape_of, Tensor.shape_text

-- Calls visit(i, window) for the part of `whole` that belongs to tensor i.
local function walk(op, whole, sizes, dim, visit)
  local shape, strides, first = shape_of(whole), whole:stride(), 0
  for i = 1, #sizes do
    shape[dim] = sizes[i]
    visit(i, Tensor.as_view(op, whole, shape, strides, whole:numel() > 0 and sizes[i] > 0 and first * strides[dim] or 0))
    first = first + sizes[i]
  end
end

local cat_op = autograd.op{
  name = 'cat',
  bfloat16 = 'itself',
  forward = function(ctx, dim, ...)
    local tensors, sizes, total = { ... }, {}, 0
    for i, x in ipairs(tensors) do
      sizes[i] = x:size(dim)
      total = total + sizes[i]
    end
    local shape = shape_of(tensors[1])
    shape[dim] = total
    local y = Tensor.empty_format('cat', tensors[1], shape)
    walk('cat', y, sizes, dim, function(i, window) check(y.K.mt_tensor_copy(window._c, tensors[i]._c)) end)
    ctx.dim, ctx.sizes = dim, sizes
    return y
  end,
  backward = function(ctx, dy)
    local gradients = {}
    walk('cat', dy, ctx.sizes, ctx.dim, function(i, window) gradients[i] = ctx.needs[i + 1] and window or nil end)
    return nil, unpack(gradients, 1, #ctx.sizes)
  end,
}

-- A list of tensors of one dtype, device and number of dims.
local function list_of(op, list)
  if type(list) ~= 'table' or Tensor.is_tensor(list) then
    fail('%s: tensors: expected a table of tensors, got %s', op, Tensor.is_tensor(list) and 'a tensor' or type(list))
  end
  if #list == 0 then fail('%s: tensors: the table is empty', op) end
  local first = Tensor.check(op, 'tensor 1', list[1])
  for i = 2, #list do
    local x = Tensor.check(op, 'tensor ' .. i, list[i])
    Tensor.check_device_of(op, first, 'tensor ' .. i, x)
    if x.dtype ~= first.dtype then fail('%s: tensor %d is %s, tensor 1 %s; convert one with :to', op, i, x.dtype, first.dtype) end
  end
  return list
end

local function check_shapes(op, list, dim)
  local first = shape_of(list[1])
  for i = 2, #list do
    local shape = shape_of(list[i])
    local same = #shape == #first
    for d = 1, #first do same = same and (shape[d] == first[d] or d == dim) end
    if not same then
      fail('%s: tensor %d has shape %s, tensor 1 %s: they may differ in dim %s only', op, i, shape_text(list[i]),
        shape_text(list[1]), dim or 'none')
    end
  end
end

-- LuaJIT passes at most some 8000 arguments: longer lists are joined in groups.
local group = 4000

local function joined(list, dim)
  if #list <= group then
    local y = cat_op(dim, unpack(list))
    return y
  end
  local groups = {}
  for first = 1, #list, group do
    groups[#groups + 1] = cat_op(dim, unpack(list, first, math.min(first + group - 1, #list)))
  end
  return joined(groups, dim)
end

local torch = {}

--- torch.cat({a, b, ...}, [dim = 1]): joined along dim; the other sizes must agree. Tensors of shape (0) are left out.
function torch.cat(list, dim)
  list_of('cat', list)
  local kept = {}
  for _, x in ipairs(list) do
    if x:dim() ~= 1 or x:numel() > 0 then kept[#kept + 1] = x end
  end
  if #kept == 0 then kept = { list[1] } end
  dim = native.dim('cat', dim or 1, kept[1]:dim()) + 1
  check_shapes('cat', kept, dim)
  local y = joined(kept, dim)
  return y
end

--- torch.stack({a, b, ...}, [dim = 1]): joined along a new dim; all shapes must agree.
function torch.stack(list, dim)
  list_of('stack', list)
  dim = native.dim('stack', dim or 1, list[1]:dim() + 1) + 1
  check_shapes('stack', list, nil)
  local raised = {}
  for i, x in ipairs(list) do raised[i] = x:unsqueeze(dim) end
  local y = joined(raised, dim)
  return y
end

return { torch = torch }
