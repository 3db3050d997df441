--- Every operation on bfloat16: what float32 gives on the same values, rounded; gradients in the type of each input. On the CPU, or on the
-- device that MASKED_TORCH_TEST_DEVICE names.
local lfs = require 'lfs'
local torch = require 'masked_torch'
local Random = require 'support.random'
local op_case = require 'support.op_case'

local Tensor = torch.Tensor
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE'
local root = debug.getinfo(1, 'S').source:match('^@(.*)bfloat16_spec%.lua$')

-- The same inputs once more as float32 leaves.
local function widened(inputs)
  local wide = { n = inputs.n }
  for i = 1, inputs.n do
    local x = inputs[i]
    if Tensor.is_tensor(x) and x.dtype == 'bfloat16' then
      wide[i] = x:detach():float():requires_grad_(x.requires_grad)
    else
      wide[i] = x
    end
  end
  return wide
end

-- A result is rounded once, or a few times where an operation is made of several: 2^-8 of its size. Gradients of small cases have
-- sums that nearly cancel.
local function compare(case, number, exact)
  local inputs = op_case.build(case.inputs(Random.new(number)), 'bfloat16', { device = device })
  local wide = widened(inputs)
  local got, outputs = op_case.run(case, inputs)
  local expected, outputs_wide = op_case.run(case, wide)
  assert.equal(outputs_wide, outputs)
  assert.equal(#expected, #got)
  for k = 1, #got do
    local what = (k <= outputs and 'output ' or 'gradient ') .. k
    if k > outputs then assert.equal('bfloat16', got[k].dtype, what) end
    local limit = got[k].dtype == 'bfloat16' and (k <= outputs and 2 ^ -8 or 2 ^ -5) or 1e-6
    if exact and k <= outputs then
      assert.same_bits(expected[k]:detach():to(got[k].dtype), got[k]:detach())
    end
    op_case.within(op_case.relative_error(expected[k], got[k]), limit, what)
  end
end

-- Whose cases are one operation each: float32's result, rounded.
local one_rounding = { activation = true, shuffle = true, view = true, slice = true, cat = true, pad = true, pool = true, upsample = true }

for file in lfs.dir(root) do
  local stem = file:match('^([%w_]+)_cases%.lua$')
  for number, case in ipairs(stem and require('op.' .. stem .. '_cases') or {}) do
    local ops = type(case.op) == 'table' and table.concat(case.op, ', ') or case.op
    it(('%s %d: %s %s'):format(stem, number, ops, case.name or ''), function() compare(case, number, one_rounding[stem]) end)
  end
end
