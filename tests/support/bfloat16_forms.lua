--- bfloat16_forms: an operation whose kernel takes bfloat16 against its wide form (autograd/bfloat16.lua), which computes on float32
-- copies. Both give the same bits.
local torch = require 'masked_torch'
local autograd = require 'masked_torch.autograd'
local ffi = require 'ffi'

local Tensor = torch.Tensor
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE'
local forms = {}

--- forms.bits(random, shape, [least, most]): bfloat16 of every kind: numbers of all sizes, subnormal ones, zeros of both signs,
-- infinities and NaN; or, with bounds, ordinary numbers between them.
function forms.bits(random, shape, least, most)
  local x = torch.empty(shape, { dtype = 'bfloat16' })
  local data = ffi.cast('uint16_t *', x._c.data)
  for i = 0, x:numel() - 1 do
    local bits = math.floor(random:next() * 65536)
    -- one NaN: which of two a sum keeps is the processor's choice
    data[i] = bit.band(bits, 0x7f80) == 0x7f80 and bit.band(bits, 0x7f) ~= 0 and 0x7fc0 or bits
  end
  if least then
    local numbers = {}
    for i = 1, x:numel() do numbers[i] = least + (most - least) * random:next() end
    x = x:numel() > 0 and torch.tensor(numbers):view(unpack(shape)):bfloat16() or x
  end
  return device and x:to { device = device } or x
end

-- As it lies in memory: transposed, channels-last, with gaps, repeated.
forms.layouts = {
  plain = function(x) return x end,
  transposed = function(x) return x:dim() > 1 and x:transpose(1, -1):contiguous():transpose(1, -1) or x end,
  channels_last = function(x) return x:dim() > 2 and x:channels_last() or x end,
  gaps = function(x)
    local shape = x:size()
    shape[#shape + 1] = 2
    local part = torch.zeros(shape, { dtype = x.dtype, device = x.device }):select(#shape, 1)
    torch.no_grad(function() part:copy_(x) end)
    return part
  end,
}

-- As float32, where none of the kernels in question is at work; one NaN is as good as another.
local function without_nan(x)
  x = x.dtype == 'bfloat16' and x:float() or x
  return x.dtype == 'float32' and torch.where(x:isnan(), torch.full({}, 0 / 0, { device = x.device }), x) or x
end

-- fn(leaves...) and the gradients of a random upstream gradient.
local function run(fn, inputs, upstream)
  local leaves, results = {}, {}
  for i, x in ipairs(inputs) do
    leaves[i] = x
    if Tensor.is_tensor(x) and Tensor.floating[x.dtype] then leaves[i] = x:detach():requires_grad_() end
  end
  local y = fn(unpack(leaves, 1, #inputs))
  results[1] = y:detach()
  if y.requires_grad then
    local dy = upstream(y)
    y:backward(dy)
    for _, x in ipairs(leaves) do
      if Tensor.is_tensor(x) and x.grad then results[#results + 1] = x.grad end
    end
  end
  return results
end

--- forms.compare(names, about, fn, inputs, upstream): fn(inputs...) by the kernels of the operations `names` and by their wide forms of the
-- kind `about` ('operands', 'float32' or nil) gives the same bits, forward and backward. upstream(y) gives the gradient.
function forms.compare(names, about, fn, inputs, upstream)
  local dy
  local function once(y)
    dy = dy or upstream(y)
    return dy
  end
  local got = run(fn, inputs, once)
  local before = {}
  for _, name in ipairs(names) do
    local op = assert(autograd.registry[name], name)
    assert(op.bfloat16 == 'itself' or op.bfloat16 == 'first', name .. ' takes bfloat16 itself')
    before[name] = op.bfloat16
    op.bfloat16, op.wide_form = about, nil
  end
  local ok, expected = pcall(run, fn, inputs, once)
  for _, name in ipairs(names) do
    local op = autograd.registry[name]
    op.bfloat16, op.wide_form = before[name], nil
  end
  if not ok then error(expected, 0) end
  assert(#got == #expected, 'as many results')
  for i = 1, #got do
    local a, b = expected[i], got[i]
    assert(a.dtype == b.dtype, ('result %d: %s, expected %s'):format(i, b.dtype, a.dtype))
    a, b = without_nan(a), without_nan(b)
    if not Tensor.same_bits(a, b) then
      error(('result %d: bits differ:\n%s\n%s'):format(i, tostring(a), tostring(b)), 2)
    end
  end
end

return forms
