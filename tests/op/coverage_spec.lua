-- The op table is complete: every registered operation has a case.
local lfs = require 'lfs'
local torch = require 'masked_torch'

describe('the op table', function()
  it('has a case for every registered operation', function()
    local root = debug.getinfo(1, 'S').source:match('^@(.*)coverage_spec%.lua$')
    local covered = {}
    for file in lfs.dir(root) do
      local stem = file:match('^([%w_]+)_cases%.lua$')
      for _, case in ipairs(stem and require('op.' .. stem .. '_cases') or {}) do
        for _, name in ipairs(type(case.op) == 'table' and case.op or { case.op }) do covered[name] = true end
      end
    end
    local missing = {}
    for name in pairs(torch.autograd.registry) do
      if not covered[name] then missing[#missing + 1] = name end
    end
    table.sort(missing)
    assert.are.equal('', table.concat(missing, ' '))
  end)
end)
