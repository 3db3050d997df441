--- The simulator finds what it says it finds (tests/cuda_simulator/README.md).
local lfs = require 'lfs'

local root = require 'support.root'
local program = ('%sbuild/%s/simulator/bad_kernels'):format(root == '' and './' or root, os.getenv 'MASKED_TORCH_CONFIG' or 'release')

local function run(which)
  if lfs.attributes(program, 'mode') ~= 'file' then pending(program .. ' is not built (make cuda-simulator)') end
  local pipe = assert(io.popen(("'%s' '%s' 2>&1"):format(program, which)))
  local text = pipe:read('*a')
  pipe:close()
  return text
end

describe('the simulator', function()
  it('runs barriers and warp functions', function()
    assert.are.equal('no error, 0 damaged\n', run 'rotate')
    assert.are.equal('no error, 0 damaged\n', run 'warp functions')
    assert.are.equal('no error, 0 damaged\n', run 'nothing')
  end)

  for which, message in pairs {
    outside = 'outside a block', before = 'outside a block', barrier = 'wait for each other for ever',
    ['host pointer'] = 'address of host memory', ['too many threads'] = 'invalid configuration',
    ['host touch'] = 'host code touched device memory' } do
    it('finds: ' .. which, function()
      local text = run(which)
      assert.truthy(text:find(message, 1, true), text)
    end)
  end
end)
