-- Our side of the benchmark still fits the library: every kind of row, very small, runs and gives finite results.
local here = debug.getinfo(1, 'S').source:match('^@(.*)tests/bench/ours_spec%.lua$') or './'
package.path = here .. 'bench/?.lua;' .. here .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local ours = require 'ours'
local rows = require 'rows'

local small = { M = 5, N = 3, K = 7, I = 5, O = 8, C = 8, V = 11, L = 16, vocabulary = 13, scale = 4, width = 8, depth = 2, levels = 3,
  canvas = 14, repeated = 2, shapes = { { 3, 2 }, { 4 } } }

local function shrunk(row)
  local out = {}
  for key, value in pairs(row) do out[key] = small[key] ~= nil and small[key] or value end
  if row.kind == 'figure' then out.size = 8 elseif row.size then
    out.size = {}
    for d = 1, #row.size do out.size[d] = 6 end
  end
  if row.groups and row.groups > 1 then out.groups = row.groups == row.C and 8 or 2 end
  if row.module == 'GroupNorm' then out.C = 32 end
  return out
end

describe('our side of the benchmark', function()
  local seen = {}
  for _, row in ipairs(rows) do
    local dims = type(row.size) == 'table' and #row.size .. 'd' or ''
    local key = table.concat({ row.kind, row.pass or '', row.module or '', row.mask and row.mask[1] or '', dims,
      row.groups and row.groups > 1 and 'groups' or '' }, ' ')
    if not seen[key] then
      seen[key] = true
      it('runs: ' .. key, function()
        local work = ours.prepare(shrunk(row))
        assert.truthy(next(work.inputs))
        work.ours()
        if work['ours plain'] then work['ours plain']() end
        for name, t in pairs(work.outputs and work.outputs() or {}) do
          assert.is_true(t:numel() > 0 and t:abs():max():item() < math.huge, name)
        end
        assert.is_true(not work.area or work.area > 0 and work.area <= 1)
      end)
    end
  end

  it('gives a row the same numbers every time', function()
    local row = shrunk(rows.select{ pattern = '^conv forward r28' }[1])
    assert.same_bits(ours.prepare(row).inputs.x, ours.prepare(row).inputs.x)
    assert.is_true(torch.is_tensor(ours.prepare(row).inputs.w))
  end)
end)
