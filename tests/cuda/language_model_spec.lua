--- The language model's script trains on a device: the curve of the CPU, from data that lie there; the CPU goes on with its run.
local process = require 'support.process'

local device = require('support.device').name

local root = require 'support.root'

local function lines(path)
  local found = {}
  for line in io.lines(path) do found[#found + 1] = line end
  return found
end

describe('language_model.lua --device', function()
  for _, model in ipairs { 'causal', 'window' } do
    it('trains there: ' .. model, function()
      if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute(('mkdir -p %s'):format(folder)))
      local text = assert(io.open(folder .. '/text.txt', 'w'))
      text:write(('In the beginning was the word. '):rep(100))
      text:close()
      for _, where in ipairs { 'cpu', device } do
        local how, _, errors = process.run(root .. 'experiments/language_model.lua', 'train', '--device', where, '--data',
          folder .. '/text.txt', '--out', folder .. '/' .. where, '--steps', '4', '--valid-every', '2', '--width', '8', '--depth', '2',
          '--scale', '8', '--context', '16', '--batch', '4', '--tokenizer', 'bytes', '--model', model, '--quiet', '--valid-context', '64',
          '--valid-batches', '2')
        assert.are.equal('exit 0', how, errors)
      end
      local here, there = lines(folder .. '/cpu/curve.csv'), lines(folder .. '/' .. device .. '/curve.csv')
      assert.are.equal(3, #here)
      assert.are.equal(#here, #there)
      for i = 2, #here do
        local a, b = tonumber(here[i]:match('^%d+,[^,]+,([^,]+)')), tonumber(there[i]:match('^%d+,[^,]+,([^,]+)'))
        assert.is_true(math.abs(a - b) <= 1e-4 * a, here[i] .. '\n' .. there[i])
      end
      os.execute(('rm -rf %s'):format(folder))
    end)
  end
end)
