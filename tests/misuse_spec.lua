-- Every mistake is a Lua error that names the operation; the process stays usable afterwards.
local torch = require 'masked_torch'
local cases = require 'misuse_cases'

describe('a mistake', function()
  for _, case in ipairs(cases) do
    local what, fn = case[1], case[2]
    it('is an error: ' .. what, function()
      assert.fails(fn, unpack(case, 3))
      assert.are.equal(6, torch.ones(2, 3):sum():item())
    end)
  end

  it('points at the line of the user', function()
    local ok, message = pcall(function() return torch.zeros(2, 3):mm(torch.zeros(2, 3)) end)
    assert.is_false(ok)
    assert.is_truthy(message:find('misuse_spec.lua:%d+: mm: '), message)
  end)
end)
