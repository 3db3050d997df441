-- bench/soak.lua in short: memory does not grow while a network trains.
local process = require 'support.process'

describe('a long training run', function()
  it('keeps its memory', function()
    -- AddressSanitizer holds freed blocks back: the resident memory is not ours to judge there.
    if os.getenv 'MASKED_TORCH_CONFIG' == 'sanitize' then return pending('resident memory is judged without sanitizers') end
    local how, out, err = process.run('bench/soak.lua', 300)
    assert.are.equal('exit 0', how, out .. err)
    for _, subject in ipairs{ 'causal', 'window', 'images' } do
      assert.matches('\n' .. subject .. '  [^\n]* flat\n', out)
      assert.matches('\n' .. subject .. ', compiled [^\n]* flat\n', out)
    end
  end)
end)
