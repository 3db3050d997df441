-- Our side of the benchmark still fits the library: every kind of row, very small, runs and gives finite results. Also on the device that
-- MASKED_TORCH_TEST_DEVICE names.
local here = require 'support.root'
package.path = here .. 'bench/?.lua;' .. here .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local ours = require 'ours'
local rows = require 'rows'

local device = os.getenv 'MASKED_TORCH_TEST_DEVICE' or 'cpu'

describe('our side of the benchmark', function()
  local seen = {}
  for _, row in ipairs(rows) do
    local dims = type(row.size) == 'table' and #row.size .. 'd' or ''
    local key = table.concat({ row.kind, row.pass or '', row.module or '', row.mask and row.mask[1] or '', dims,
      row.groups and row.groups > 1 and 'groups' or '' }, ' ')
    if not seen[key] then
      seen[key] = true
      it('runs: ' .. key, function()
        local work = ours.prepare(rows.small(row), device)
        assert.truthy(next(work.inputs))
        work.ours()
        if work['ours plain'] then work['ours plain']() end
        if work['ours apart'] then assert.same_bits(work.ours():detach(), work['ours apart']():detach()) end
        for _ = 1, work['ours graph'] and 3 or 0 do work['ours graph']() end
        for name, t in pairs(work.outputs and work.outputs() or {}) do
          assert.is_true(t:numel() > 0 and t:abs():max():item() < math.huge, name)
        end
        assert.is_true(not work.area or work.area > 0 and work.area <= 1)
      end)
    end
  end

  it('gives a row the same numbers every time and everywhere', function()
    local row = rows.small(rows.select{ pattern = '^conv forward r28' }[1])
    local x = ours.prepare(row).inputs.x
    assert.is_true(torch.is_tensor(x))
    assert.same_bits(x, ours.prepare(row, device).inputs.x:to 'cpu')
  end)
end)
