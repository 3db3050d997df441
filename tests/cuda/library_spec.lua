--- The CUDA library: what it exports, what it links, what it says without a GPU. Which library: the one that `make cuda` built, and
-- the simulator's; those that are not built are passed over, and say so.
local lfs = require 'lfs'
local process = require 'support.process'

local root = require 'support.root'
local read = require('support.scratch').content
local folder = root .. 'build/' .. (os.getenv 'MASKED_TORCH_CONFIG' or 'release') .. '/'

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read('*a')
  pipe:close()
  return text
end

-- Services for the host's memory and threads: the CPU library alone has them. Names, or stems with all their names.
local HOST = { bpe = true, checksum = true, guard = true, mapped = true, sampler = true, loader = true,
  mt_isa = true, mt_threads = true, mt_cancel = true }

-- name -> stem, of what the contract asks of the CUDA library.
local function contract()
  local names = {}
  local function add(stem, text)
    for name in text:gsub('//[^\n]*', ''):gmatch('(mt_[%w_]+)%(') do
      if not HOST[name] and not HOST[name:match('^mt_[%a]+')] then names[name] = stem end
    end
  end
  for stem in read(root .. 'core/kernels.h'):gmatch('#include "([%w_]+)%.h"') do
    if not HOST[stem] then add(stem, read(root .. 'core/' .. stem .. '.h')) end
  end
  add('device', read(root .. 'cuda/device.h'))
  return names
end

local missing = {}
for _, stem in ipairs(require 'support.cuda_missing') do missing[stem] = true end

for what, path in pairs { ['the CUDA library'] = 'libmasked_torch_cuda.so', ['the simulator'] = 'simulator/libmasked_torch_cuda.so' } do
  describe(what, function()
    local built = lfs.attributes(folder .. path, 'modification') or 0
    for entry in lfs.dir(root .. 'cuda') do   -- one that is older than a source is not this version's
      if entry:match('%.cuh?$') and lfs.attributes(root .. 'cuda/' .. entry, 'modification') > built then built = 0 end
    end
    local function check(name, test)
      it(name, function()
        if built == 0 then pending(folder .. path .. ' is not built, or not up to date') end
        test()
      end)
    end

    check('exports the contract\'s names and no others', function()
      local exported, wrong = {}, {}
      for name in output('nm -D --defined-only ' .. folder .. path):gmatch('%x+ %u (%S+)') do exported[name] = true end
      local names = contract()
      for name, stem in pairs(names) do
        if not exported[name] and not missing[stem] then wrong[#wrong + 1] = 'missing: ' .. name end
      end
      for name in pairs(exported) do
        if not names[name] then wrong[#wrong + 1] = 'too many: ' .. name end
      end
      table.sort(wrong)
      assert.are.equal('', table.concat(wrong, '\n'))
    end)

    check('links neither the CPU library nor the driver', function()
      local needed = output('readelf -d ' .. folder .. path)
      assert.is_nil(needed:match('masked_torch_cpu'))
      assert.is_nil(needed:match('libcuda%.so'))
    end)

    check('has every stem that is not on the list of missing ones', function()
      for _, stem in ipairs(require 'support.cuda_missing') do
        assert.is_nil(lfs.attributes(root .. 'cuda/' .. stem .. '.cu'), stem .. ' is there: take it off the list')
      end
    end)
  end)
end

describe('without a GPU', function()
  it('device = cuda is an error that says why, and the rest works', function()
    local path = os.tmpname()
    local file = assert(io.open(path, 'w'))
    file:write(([[
      package.path = '%slua/?.lua;%slua/?/init.lua;' .. package.path
      local torch = require 'masked_torch'
      local ok, why = torch.cuda.is_available()
      if ok then print('available') return end
      print(ok, why, torch.cuda.device_count())
      print(pcall(torch.zeros, 2, { device = 'cuda' }))
      print(pcall(torch.cuda.synchronize))
      print(torch.ones(2):sum():item())
    ]]):format(root, root))
    file:close()
    local how, result, errors = process.run(path)
    os.remove(path)
    assert.are.equal('exit 0', how, errors)
    if result:match('^available') then return end
    assert.truthy(result:match('^false\t%S.*\t0\n'), result)
    assert.truthy(result:match('false\t[^\n]*zeros: device: cuda is not available: %S'), result)
    assert.truthy(result:match('synchronize: CUDA is not available: %S'), result)
    assert.truthy(result:match('\n2\n'), result)
  end)
end)
