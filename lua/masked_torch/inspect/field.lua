--- field: the receptive field of every layer, by following tensors through the operations of one forward pass.
--
-- Every operation passes on the largest field of its operands; those that look at neighbours add to it:
--   convolution, pooling      field + dilation (kernel - 1) jump, jump * stride
--   transposed convolution    what one output reads: ceil((dilation (kernel - 1) + 1) / stride) inputs; jump / stride
--   unshuffle by r            field + (r - 1) jump, jump * r; shuffle: jump / r
--   upsampling                nearest: one input, linear: two; jump / factor
--   means over axes, flattening, adaptive windows, matrix products   everything
-- Statistics of norm layers are not counted, as is usual. A field is a table {size per spatial axis} or 'all'; nil: not known.

local autograd = require 'masked_torch.autograd'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local field = {}

local is_tensor = Tensor.is_tensor

local function copy(list)
  local new = {}
  for i, v in ipairs(list) do new[i] = v end
  return new
end

local function merged(fields, ...)
  local out
  for i = 1, select('#', ...) do
    local x = select(i, ...)
    local own = type(x) == 'table' and (is_tensor(x) and fields[x])
    if not own and options.is_plain(x) then     -- cat, stack, index
      own = merged(fields, unpack(x))
    end
    if own then
      if not out then
        out = { all = own.all, size = copy(own.size), jump = copy(own.jump) }
      else
        out.all = out.all or own.all
        for d, v in ipairs(own.size) do out.size[d] = math.max(out.size[d] or 1, v) end
        for d, v in ipairs(own.jump) do out.jump[d] = out.jump[d] or v end
      end
    end
  end
  return out
end

-- f grown by a window; numbers per axis come from C arrays.
local function grow(f, dims, kernel, stride, dilation)
  for d = 1, dims do
    f.jump[d] = f.jump[d] or 1
    f.size[d] = (f.size[d] or 1) + tonumber(dilation[d - 1]) * (tonumber(kernel[d - 1]) - 1) * f.jump[d]
    f.jump[d] = f.jump[d] * tonumber(stride[d - 1])
  end
end

local function pool(f, _, _, g)
  if g.adaptive ~= 0 then
    f.all = true
  else
    grow(f, g.dims, g.kernel, g.stride, g.dilation)
  end
end

local function everything(f) f.all = true end

local function scaled(f, factor, reads)
  for d = 1, #f.jump do
    if reads > 1 then f.size[d] = f.size[d] + (reads - 1) * f.jump[d] end
    f.jump[d] = f.jump[d] * factor
  end
end

-- What operations do to the merged field of their operands: rule(field, arguments of forward ...).
local rules = { max_pool = pool, avg_pool = pool, masked_mean = everything, matmul = everything }

local function convolve(f, g) grow(f, g.dims, g.kernel, g.stride, g.dilation) end

function rules.conv(f, _, _, _, frame) convolve(f, frame.geometry) end
function rules.masked_conv(f, _, _, _, _, plan) convolve(f, plan.geometry) end
function rules.conv_transpose(f, _, _, _, g)
  for d = 1, g.dims do
    local stride = tonumber(g.stride[d - 1])
    local reach = tonumber(g.dilation[d - 1]) * (tonumber(g.kernel[d - 1]) - 1) + 1
    f.jump[d] = f.jump[d] or 1
    f.size[d] = (f.size[d] or 1) + (math.ceil(reach / stride) - 1) * f.jump[d]
    f.jump[d] = f.jump[d] / stride
  end
end
function rules.pixel_unshuffle(f, _, r) scaled(f, r, r) end
function rules.pixel_shuffle(f, _, r) scaled(f, 1 / r, 1) end
function rules.upsample(f, x, _, g, shape)
  local linear = g.mode ~= 0
  for d = 1, g.dims do
    f.size[d] = f.size[d] + (linear and f.jump[d] or 0)
    f.jump[d] = f.jump[d] * x:size(2 + d) / shape[2 + d]
  end
end

-- Sums, means, maxima over some axes; views that fold axes into one.
local function loses_axes(f, x, y)
  if not is_tensor(y) or not is_tensor(x) then return end
  if y:dim() < x:dim() and x:dim() > 2 and y:dim() <= 2 then f.all = true end
end

--- field.follow(x, fn): fn() with every operation watched; returns a function tensor -> field, and what fn returned after it. x is
-- where the fields begin: a tensor (N, C, *S), or (N, L) of integers.
function field.follow(x, fn)
  local fields, undo = setmetatable({}, { __mode = 'k' }), {}
  local axes = x:dim() > 2 and x:dim() - 2 or (Tensor.floating[x.dtype] and 0 or 1)
  local begin = { size = {}, jump = {} }
  for d = 1, axes do begin.size[d], begin.jump[d] = 1, 1 end
  fields[x] = begin
  local function after(name, first, rest, ...)
    local f = merged(fields, unpack(rest, 1, rest.n))
    if f then
      local rule = rules[name]
      if rule then rule(f, unpack(rest, 1, rest.n)) end
      for i = 1, select('#', ...) do
        local y = select(i, ...)
        if is_tensor(y) then
          if not rule then loses_axes(f, first, y) end
          fields[y] = f
        end
      end
    end
    return ...
  end
  for name, op in pairs(autograd.registry) do
    local forward = op.forward
    undo[#undo + 1] = { op, forward }
    rawset(op, 'forward', function(ctx, ...)
      local rest = { n = select('#', ...), ... }
      return after(name, rest[1], rest, forward(ctx, ...))
    end)
  end
  local results = { pcall(fn, fields) }
  for _, entry in ipairs(undo) do rawset(entry[1], 'forward', entry[2]) end
  if not results[1] then error(results[2], 0) end
  return fields, unpack(results, 2, table.maxn(results))
end

--- field.text(f): "7x7", "all", "" when it is not known.
function field.text(f)
  if not f then return '' end
  if f.all then return 'all' end
  return table.concat(f.size, 'x')
end

return field
