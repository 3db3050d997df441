--- mask: masks as Values, and what is done with them. In the graph a mask is a Value (N or 1, C or 1, *S) that broadcasts to x, of
-- x's type inside and of any type as an input.

local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local size = require 'masked_torch.io.onnx.size'
local Graph = require 'masked_torch.io.onnx.graph'
local masks = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local form, functions = {}, {}

--- g:mask(m, x): a mask argument as a Value of x's type and number of dims; nil stays nil. x: a Value.
function Graph:mask(m, x)
  if m == nil then return nil end
  if masks.is_mask(m) then m = m:compact(x.dtype) end
  if not self.is_value(m) then m = self:tensor(m) end
  if not Tensor.floating[m.dtype] and m.dtype ~= 'bool' then m = self:cast(m, 'bool') end
  m = self:cast(m, x.dtype)
  local missing = #x.shape - #m.shape
  if missing > 0 then
    local axes = {}
    for d = 1, missing do axes[d] = d end
    m = self:unsqueeze(m, axes)
  end
  return m
end

--- F.apply_mask, F.unmask, x:select_valid(mask)
function form.apply_mask(g, x, m)
  if m == nil then return x end
  m = g:mask(m, x)
  return g:select(g:binary('Mul', x, m), m)
end

function form.select_valid(g, x, m) return m == nil and x or g:select(x, g:mask(m, x)) end

function form.unmask(g, x, m, eps)
  if m == nil then return x end
  return g:binary('Div', x, g:binary('Add', g:mask(m, x), g:number(eps or 1e-8, x.dtype)))
end

--- F.masked_mean(x, mask, opts) -> y, coverage
function form.masked_mean(g, x, m, opts)
  opts = options.parse('masked_mean', require('masked_torch.autograd.op.pool').internal.MEAN, opts)
  local eps = opts.eps or (opts.compat and 1e-8 or 0)
  local axes = {}
  for d = 3, #x.shape do axes[#axes + 1] = d end
  if m == nil then return g:reduce('ReduceMean', x, axes), nil end
  m = g:mask(m, x)
  local cleared = (opts.compat or opts.premask == 'none') and x or g:select(x, m)
  local total = g:reduce('ReduceSum', m, axes)
  if eps ~= 0 then total = g:binary('Add', total, g:number(eps, x.dtype)) end
  return g:divide(g:reduce('ReduceSum', cleared, axes), total), g:reduce('ReduceMean', m, axes)
end

-- ---- torch.mask --------------------------------------------------------------------------------------------------------------

-- The first dim of m that is neither x's nor 1 for the batch or the channels.
local function misfit(m, x)
  local wanted = Tensor.shape_of(x)
  for d, s in ipairs(Tensor.shape_of(m)) do
    local fits = size.same(s, wanted[d]) or size.example(s) == size.example(wanted[d])
    if not fits and not (d <= 2 and not size.is(s) and s == 1) then return d end
  end
end

functions['of'] = function(g, op, m, x)
  if m == nil then return nil end
  if not g.is_value(x) then x = g:tensor(x) end
  if not (g.is_value(m) and #m.shape == #x.shape) then return g:mask(m, x) end
  local d = misfit(m, x)
  if d then
    fail('%s: mask: its size %s of dim %d does not fit the input\'s %s', op, size.text(m.shape[d]), d, size.text(x.shape[d]))
  end
  return m
end

functions['fits'] = function(_, m, x) return #Tensor.shape_of(m) == #Tensor.shape_of(x) and not misfit(m, x) end

functions['wrap'] = function(_, m) return m end

-- 1 where position < length (or, aligned to the right, >= L - length), of lengths (N).
functions['lengths'] = function(g, lengths, L, opts)
  opts = options.parse('mask.lengths', { align = 'left' }, opts)
  lengths = g:tensor(lengths)
  local positions, n = g:positions(L), g:unsqueeze(lengths, { 2 })
  local result
  if opts.align == 'right' then
    local first = g:binary('Sub', g:scalar(L), n)
    result = g:binary('GreaterOrEqual', positions, first, 'bool')
  else
    result = g:binary('Less', positions, n, 'bool')
  end
  return g:unsqueeze(result, { 2 })
end

functions['boxes'] = function(g, sizes, canvas)
  sizes = g:tensor(sizes)
  local result
  for d, s in ipairs(canvas) do
    local own = g:slice(sizes, { [2] = { d - 1, d } })                          -- (N, 1)
    local inside = g:binary('Less', g:positions(s), own, 'bool')                -- (N, S)
    local axes = { 2 }
    for k = 1, #canvas do
      if k ~= d then axes[#axes + 1] = 2 + k end
    end
    inside = g:unsqueeze(inside, axes)
    result = result and g:binary('And', result, inside) or inside
  end
  return result
end

functions['full'] = function(g, shape) return g:expand(g:number(1, 'float32', #shape), shape) end

return { form = form, functions = functions }
