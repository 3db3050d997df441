--- The ladder of product kernels (cuda/lab) in the simulator: every rung gives the right sums, wgmma reads through its descriptors what the
-- copy engine and the producers wrote, and what runs beside the program may run as early or as late as it likes. Outside the sums that are
-- checked here no rung says anything of speed; on a GPU the same checks are the first part of `cuda_lab`.
local lfs = require 'lfs'

local root = require 'support.root'
local program = ('%sbuild/%s/simulator/cuda_lab'):format(root == '' and './' or root, os.getenv 'MASKED_TORCH_CONFIG' or 'release')

local function run(arguments)
  if lfs.attributes(program, 'mode') ~= 'file' then pending(program .. ' is not built (make cuda-simulator)') end
  local pipe = assert(io.popen(('%s check %s 2>&1'):format(program, arguments)))
  local text = pipe:read('*a')
  pipe:close()
  return text
end

-- What the check says of a rung in bfloat16, TF32 and float32.
local function verdicts(text, rung)
  local line = assert(text:match('\n(' .. rung .. ' [^\n]*)'), text)
  return (line:gsub('%S+%s*', '', 1):gsub('[%d.]+e[+-]%d+', ''):gsub('^.-%s%s+', ''):gsub('%s+', ' '):gsub(' $', ''))
end

describe('the ladder of product kernels', function()
  local expected = { 'ok - ok', 'ok - ok', 'ok ok ok', 'ok ok ok', 'ok ok -', 'ok ok -', 'ok ok -', '- - ok' }

  for _, async in ipairs{ 'early-copies', 'late-copies' } do
    it('gives the right sums, with ' .. async, function()
      local text = run(('--async %s'):format(async))
      for rung, verdict in ipairs(expected) do assert.are.equal(verdict, verdicts(text, tostring(rung)), text) end
      assert.is_nil(text:find('simulator:', 1, true), text)
      assert.is_nil(text:find('FAIL', 1, true), text)
    end)
  end

  -- Mistakes that are made on purpose (tests/cuda_simulator/hopper.h), each in the way that shows it.
  for mistake, case in pairs{
    swizzle = { 'late-copies', '6', 'FAIL' },                -- boxes arrive unswizzled
    stride = { 'late-copies', '5', 'FAIL' },                 -- a descriptor says 512 for 1024 bytes
    fence = { 'early-copies', '7', 'without fence' },        -- no fence.proxy.async
    release = { 'early-copies', '6', 'FAIL' },               -- stages are given back before their products are complete
    arrival = { 'late-copies', '7', 'FAIL' },                -- producers arrive before their copies have
  } do
    it('notices a mistake: ' .. mistake, function()
      local text = run(('--rows "65 x 257" --async %s --rungs %s --mistake %s'):format(case[1], case[2], mistake))
      assert.truthy(text:find(case[3], 1, true), text)
    end)
  end
end)
