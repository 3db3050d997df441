local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local Tensor = torch.Tensor
local F, nn = torch.nn.functional, torch.nn

check_op(require 'op.upsample_cases')

local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local nan = 0 / 0

describe('interpolate', function()
  it('has the positions of PyTorch', function()
    local x = tensor { { { 1, 2, 4 } } }
    assert.same({ { { 1, 1, 2, 2, 4, 4 } } }, F.interpolate(x, { scale_factor = 2 }):totable())
    assert.same({ { { 1, 1.25, 1.75, 2.5, 3.5, 4 } } }, F.interpolate(x, { scale_factor = 2, mode = 'linear' }):totable())
    assert.same({ { { 1, 1.5, 2, 3, 4 } } }, F.interpolate(x, { size = 5, mode = 'linear', align_corners = true }):totable())
    assert.same({ { { 1, 2 } } }, F.interpolate(x, { size = 2 }):totable())
  end)

  it('fills from valid neighbours only, whatever lies in the holes', function()
    local x, m = tensor { { { 1, nan, 5 } } }, tensor { { { 1, 0, 1 } } }
    local y, mask = F.interpolate(x, { scale_factor = 2, mode = 'linear', mask = m })
    assert.same({ { { 1, 1, 1, 5, 5, 5 } } }, y:totable())
    assert.same({ { { 1, 1, 1, 1, 1, 1 } } }, mask:totable())
    y, mask = F.interpolate(x, { scale_factor = 2, mode = 'linear', mask = m, mask_rule = 'keep' })
    assert.same({ { { 1, 1, 0, 0, 5, 5 } } }, y:totable())
    assert.same({ { { 1, 1, 0, 0, 1, 1 } } }, mask:totable())
    y, mask = F.interpolate(x, { scale_factor = 2, mask = m })
    assert.same({ { { 1, 1, 0, 0, 5, 5 } } }, y:totable())
    assert.same({ { { 1, 1, 0, 0, 1, 1 } } }, mask:totable())
    y, mask = F.interpolate(x, { scale_factor = 2, mode = 'linear', mask = m, mask_rule = 'coverage' })
    assert.same({ { { 1, 0.75, 0.25, 0.25, 0.75, 1 } } }, mask:totable())
    assert.same({ { { 1, 1, 1, 5, 5, 5 } } }, y:totable())
  end)

  for _, mode in ipairs { 'nearest', 'linear' } do
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, scale in ipairs { { 3, 1.6 }, { 2.3, 3 }, { 3.3, 2.7 } } do
        it(('%s %s by %g: padding changes no bit, a mask of ones neither'):format(mode, dtype, scale[1]), function()
          local inside, canvas = {}, {}
          local state = 5
          for i = 1, 6 do
            canvas[i] = {}
            if i <= 4 then inside[i] = {} end
            for j = 1, 7 do
              state = state * 16807 % 2147483647
              local v = i <= 4 and j <= 5 and state / 2147483647 - 0.5 or nan
              canvas[i][j] = v
              if v == v then inside[i][j] = v end
            end
          end
          local x, padded = tensor({ { inside } }, dtype):requires_grad_(), tensor({ { canvas } }, dtype):requires_grad_()
          local opts = { scale_factor = scale, mode = mode, mask_rule = 'keep' }
          local plain = F.interpolate(x, opts)
          opts.mask = torch.mask.boxes({ { 4, 5 } }, { 6, 7 })
          local y, mask = F.interpolate(padded, opts)
          local big, valid = y:totable()[1][1], mask:totable()[1][1]
          local cut = {}
          local rows, columns = plain:size(3), plain:size(4)
          for i = 1, rows do cut[i] = { unpack(big[i], 1, columns) } end
          assert.same_bits(plain:detach(), tensor({ { cut } }, dtype))
          local upstream = big     -- outputs beyond the sample's own size may be valid too; the loss does not see them
          for i = 1, #valid do
            for j = 1, #valid[i] do
              local own = i <= rows and j <= columns
              if own then assert.are.equal(1, valid[i][j]) else upstream[i][j] = 0 end
            end
          end
          opts.mask = torch.mask.full { 1, 1, 4, 5 }
          local full, full_mask = F.interpolate(x, opts)
          assert.same_bits(plain:detach(), full:detach())
          assert.is_true(full_mask:all_valid())
          plain:backward(plain:detach())
          y:backward(tensor({ { upstream } }, dtype))
          local gradient = padded.grad:totable()[1][1]
          for i = 1, 4 do gradient[i] = { unpack(gradient[i], 1, 5) } end
          assert.same_bits(x.grad, tensor({ { { unpack(gradient, 1, 4) } } }, dtype))
        end)
      end
    end
  end

  it('keeps coverage of a full mask at exactly 1', function()
    local _, mask = F.interpolate(Tensor.empty('test', { 1, 1, 3, 3, 3 }, 'float32'), { size = 7, mode = 'trilinear',
      mask = torch.mask.full { 1, 1, 3, 3, 3 }, mask_rule = 'coverage' })
    assert.is_true(mask:all_valid())
  end)

  it('keeps the channels-last format and takes an empty batch', function()
    local y = F.interpolate(Tensor.empty('test', { 2, 3, 4, 5 }, 'float32', 'cpu', Tensor.channels_last { 2, 3, 4, 5 }),
      { scale_factor = 2, mode = 'bilinear' })
    assert.same(Tensor.channels_last { 2, 3, 8, 10 }, y:stride())
    assert.same({ 0, 3, 8 }, F.interpolate(Tensor.empty('test', { 0, 3, 4 }, 'float32'), { scale_factor = 2 }):size())
  end)

  it('refuses wrong arguments', function()
    local x = tensor { { { 1, 2, 4 } } }
    assert.fails(function() F.interpolate(x) end, 'interpolate', 'either size or scale_factor', 'neither')
    assert.fails(function() F.interpolate(x, { size = 3, scale_factor = 2 }) end, 'both')
    assert.fails(function() F.interpolate(x, { size = { 3, 3 } }) end, 'interpolate: size', 'table of 2')
    assert.fails(function() F.interpolate(x, { scale_factor = 0 }) end, 'scale_factor', 'positive')
    assert.fails(function() F.interpolate(x, { scale_factor = nan }) end, 'scale_factor', 'positive')
    assert.fails(function() F.interpolate(x, { scale_factor = 0.1 }) end, 'leaves nothing', '(1, 1, 3)')
    assert.fails(function() F.interpolate(x, { size = 3, mode = 'bilinear' }) end, 'bilinear', '(1, 1, 3)', "'linear'")
    assert.fails(function() F.interpolate(x, { size = 3, mode = 'cubic' }) end, 'mode', "'cubic'")
    assert.fails(function() F.interpolate(x, { size = 3, align_corners = true }) end, 'align_corners')
    assert.fails(function() F.interpolate(x, { sise = 3 }) end, "did you mean 'size'")
    assert.fails(function() F.interpolate(x, { size = 3, mask = tensor { { { 1, 1 } } } }) end, 'mask', '(1, 1, 2)', '(1, 1, 3)')
    assert.fails(function() F.interpolate(tensor { { 1, 2 } }, { size = 3 }) end, 'interpolate: input', '(1, 2)')
    assert.fails(function() F.interpolate(tensor({ { { 1, 2 } } }, 'int64'), { size = 3 }) end, 'upsample', 'int64')
  end)
end)

describe('nn.Upsample', function()
  it('prints as in PyTorch and resamples value and mask', function()
    assert.are.equal("Upsample(scale_factor=2.0, mode='nearest')", tostring(nn.Upsample { scale_factor = 2 }))
    assert.are.equal("Upsample(size=(4, 6), mode='bilinear')", tostring(nn.Upsample { size = { 4, 6 }, mode = 'bilinear' }))
    local y, mask = nn.Upsample { scale_factor = 2 }(tensor { { { 1, 2 } } }, torch.mask.lengths({ 1 }, 2))
    assert.same({ { { 1, 1, 0, 0 } } }, y:totable())
    assert.same({ { { 1, 1, 0, 0 } } }, mask:totable())
    assert.fails(function() nn.Upsample {} end, 'Upsample', 'either size or scale_factor')
    assert.fails(function() nn.Upsample { scale_factor = 2, mode = 'area' } end, 'Upsample: mode', "'area'")
  end)
end)
