--- Every case of the op table on a GPU, against the CPU's float64 result: outputs and gradients.
--
-- make test-cuda needs a GPU; make test-cuda-simulated has the kernels executed by the processor (tests/cuda_simulator).
-- MASKED_TORCH_TEST_DEVICE names the device, OP one stem.
local lfs = require 'lfs'
local torch = require 'masked_torch'
local Random = require 'support.random'
local op_case = require 'support.op_case'
local devices = require 'support.device'

local device = devices.name
local only = os.getenv 'OP'
if only == '' then only = nil end

local missing = {}
for _, stem in ipairs(require 'support.cuda_missing') do missing[stem] = true end

-- The kernel that a message says is not there yet, when its stem is on the list.
local function needs(message)
  local name = tostring(message):match('undefined symbol: mt_([%w_]+)')
  for stem in pairs(missing) do
    if name and (name == stem or name:sub(1, #stem + 1) == stem .. '_') then return name end
  end
end

local function compare(case, number, pending)
  local tolerance = case.tolerance or {}
  local function describe_inputs() return case.inputs(Random.new(number)) end
  local function on(where, dtype, opts)
    opts = opts or {}
    opts.device = where
    return op_case.run(case, op_case.build(describe_inputs(), dtype, opts))
  end
  local ok, message = pcall(function()
    local expected, outputs = on(nil, 'float64')
    local expected_rounded = on(nil, 'float64', { rounded = true })
    for _, dtype in ipairs { 'float64', 'float32' } do
      local want = dtype == 'float64' and expected or expected_rounded
      local got = on(device, dtype)
      assert.are.equal(#want, #got)
      for k = 1, #want do
        local what = ('%s, %s %d'):format(dtype, k <= outputs and 'output' or 'gradient', k)
        assert.are.equal(device:match('^%a+'), got[k].device:match('^%a+'), what)
        local limit = dtype == 'float64' and 1e-11 or
          k <= outputs and math.max(2e-6, tolerance.float32 or 0) or math.max(5e-6, tolerance.float32_gradient or 0)
        op_case.within(op_case.relative_error(want[k], got[k]), limit, what)
      end
      op_case.same(got, on(device, dtype), dtype .. ', a second time')
      if case.strided ~= false then
        for _, layout in ipairs { 'transposed', 'spread' } do
          op_case.same(got, on(device, dtype, { layout = layout }), dtype .. ' ' .. layout)
        end
      end
    end
  end)
  if ok then return end
  local name = needs(message)
  if name then pending('needs mt_' .. name) end
  error(message, 0)
end

devices.describe('the op table', function()
  local folder = debug.getinfo(1, 'S').source:match('^@(.*)cuda/op_table_spec%.lua$') .. 'op/'
  local stems = {}
  for entry in lfs.dir(folder) do stems[#stems + 1] = entry:match('^(.*)_cases%.lua$') end
  table.sort(stems)
  for _, stem in ipairs(stems) do
    if not missing[stem] and (not only or only == stem) then
      for number, case in ipairs(dofile(folder .. stem .. '_cases.lua')) do
        local ops = type(case.op) == 'table' and table.concat(case.op, ', ') or case.op
        it(('%s: %s %d: %s'):format(stem, ops, number, case.name or ''), function() compare(case, number, pending) end)
      end
    end
  end

  it('is a device', function()
    local ok, why = torch.cuda.is_available()
    assert(ok, why)
  end)
end)
