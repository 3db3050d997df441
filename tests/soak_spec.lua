-- bench/soak.lua in short: memory does not grow while a network trains.
local process = require 'support.process'

describe('a long training run', function()
  for _, subject in ipairs{ 'causal', 'window', 'images' } do
    it('keeps its memory: ' .. subject, function()
      local how, out, err = process.run('bench/soak.lua', 300, subject)
      assert.are.equal('exit 0', how, out .. err)
      assert.matches(subject .. ' .* flat\n$', out)
    end)
  end
end)
