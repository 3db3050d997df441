local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local Tensor = torch.Tensor

check_op(require 'op.mask_cases')

local function tensor(data, dtype) return Tensor.from_table('test', data, dtype) end
local nan, inf = 0 / 0, math.huge

describe('apply_mask', function()
  it('clears NaN and Inf under mask 0, forward and backward', function()
    local x = tensor({ { { nan, inf, -inf, 2 } } }):requires_grad_()
    local m = tensor({ { { 0, 0, 0, 1 } } })
    local y = x:apply_mask(m)
    assert.are.same({ { { 0, 0, 0, 2 } } }, y:totable())
    y:backward(tensor({ { { nan, inf, 1, 3 } } }))
    assert.are.same({ { { 0, 0, 0, 3 } } }, x.grad:totable())
    assert.are.same({ { { 0, 0, 0, 2 } } }, x:select_valid(m):totable())
  end)
  it('returns x itself without a mask', function()
    local x = tensor({ { { 1, 2 } } })
    assert.are.equal(x, x:apply_mask(nil))
    assert.are.equal(x, x:unmask(nil))
  end)
  it('works on an empty batch', function()
    local x = Tensor.empty('test', { 0, 2, 3 }, 'float32')
    assert.are.same({ 0, 2, 3 }, x:apply_mask(torch.mask.full { 0, 1, 3 }):size())
  end)
end)

describe('a mask', function()
  it('is made from lengths, left and right', function()
    local m = torch.mask.lengths({ 2, 0, 4 }, 4)
    assert.are.same({ 3, 1, 4 }, m:size())
    assert.are.same({ { { 1, 1, 0, 0 } }, { { 0, 0, 0, 0 } }, { { 1, 1, 1, 1 } } }, m:tensor():totable())
    assert.are.same({ 2, 0, 4 }, m:count())
    assert.are.equal(0.5, m:coverage())
    local r = torch.mask.lengths(tensor({ 1, 3 }, 'int64'), 3, { align = 'right' })
    assert.are.same({ { { 0, 0, 1 } }, { { 1, 1, 1 } } }, r:tensor('float64'):totable())
  end)
  it('is made from boxes in 1 to 3 dimensions', function()
    local m = torch.mask.boxes({ { 1, 2 }, { 2, 3 } }, { 2, 3 })
    assert.are.same({ { { { true, true, false }, { false, false, false } } },
      { { { true, true, true }, { true, true, true } } } }, m:tensor('bool'):totable())
    assert.are.same({ { { true, false } } }, torch.mask.boxes({ { 1 } }, { 2 }):bool():totable())
    local cube = torch.mask.boxes({ { 2, 1, 2 } }, { 2, 2, 3 })
    assert.are.same({ 4 }, cube:count())
    assert.are.same({ { { 1, 1, 0 }, { 0, 0, 0 } }, { { 1, 1, 0 }, { 0, 0, 0 } } }, cube:tensor():totable()[1][1])
  end)
  it('keeps soft values and takes integers as valid or not', function()
    assert.are.same({ { { 0.25, 0, 1 } } }, torch.mask.wrap(tensor({ { { 0.25, 0, 1 } } })):tensor('float64'):totable())
    assert.are.same({ { { 1, 0, 1 } } }, torch.mask.wrap(tensor({ { { 7, 0, 255 } } }, 'int64')):tensor():totable())
    assert.are.same({ 2 }, torch.mask.wrap(tensor({ { { 0.25, 0, 1 } } })):count())
  end)
  it('knows when it changes nothing', function()
    assert.is_true(torch.mask.full({ 2, 1, 3 }):all_valid())
    assert.is_true(torch.mask.lengths({ 3, 3 }, 3):all_valid())
    assert.is_false(torch.mask.lengths({ 3, 2 }, 3):all_valid())
    assert.is_false(torch.mask.wrap(tensor({ { { 1, 0.5 } } })):all_valid())
  end)
  it('says where there is work: some channel is not 0', function()
    assert.is_nil(torch.mask.full({ 2, 1, 3 }):valid())
    assert.is_nil(torch.mask.lengths({ 3, 3 }, 3):valid())
    assert.is_nil(torch.mask.wrap(tensor({ { { 1, 0.5 }, { 0, 1 } } })):valid())
    local v = torch.mask.lengths({ 3, 2 }, 3):valid()
    assert.are.equal('bool', v.dtype)
    assert.are.same({ { { true, true, true } }, { { true, true, false } } }, v:totable())
    local m = torch.mask.wrap(tensor({ { { 1, 0, 0.5, 0 }, { 1, 0, 0.5, 0.25 }, { 1, 0, 0.5, 0 } } }))
    assert.are.same({ { { true, false, true, true } } }, m:valid():totable())
    assert.are.equal(m:valid(), m:valid())
    assert.are.same({ 1, 1, 4 }, m:expand(2, 3):valid():size())
  end)
  it('tells the kinds of positions apart in any memory order', function()
    local check = require('masked_torch.native').check
    local function kinds(t)
      local shape = t:size()
      shape[2] = 1
      local valid, kind = Tensor.empty('test', shape, 'bool'), Tensor.empty('test', shape, 'uint8')
      local counts = require('ffi').new('int64_t[4]')
      check(t.K.mt_mask_kinds(valid._c, kind._c, counts, t._c))
      return kind:totable(), { tonumber(counts[0]), tonumber(counts[1]), tonumber(counts[2]), tonumber(counts[3]) }
    end
    for _, dtype in ipairs{ 'float32', 'float64' } do
      local t = tensor({ { { { 1, 0, 0.5, 0, 1 } }, { { 1, 0, 0.5, 0.25, 0 } }, { { 1, 0, 0.5, 0, 1 } } } }, dtype)
      for _, source in ipairs{ t, t:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3) } do
        local list, counts = kinds(source)
        assert.are.same({ { { { 1, 0, 2, 3, 3 } } } }, list)
        assert.are.same({ 1, 1, 1, 2 }, counts)
      end
      assert.fails(function() kinds(tensor({ { { 1, 0 }, { 0, nan } } }, dtype)) end, 'from 0 to 1', 'nan', 'sample 1')
      assert.fails(function() kinds(tensor({ { { 1, 1 } }, { { 1, 1.5 } } }, dtype)) end, 'got 1.5 in sample 2')
    end
    -- Pixels of a few neighbouring channels go another way than planes.
    for _, dtype in ipairs{ 'float32', 'float64', 'bool' } do
      for _, C in ipairs{ 3, 4, 8, 12, 32, 36 } do
        local t = torch.randint(0, 1, { 1, 1, 3, 701 }):expand(1, C, 3, 701):clone()
        for at = 1, 300, 7 do
          t[{ 1, at % C + 1, at % 3 + 1, at }] = 1
          t[{ 1, (at + 1) % C + 1, (at + 1) % 3 + 1, at }] = 0
        end
        t = t:to{ dtype = dtype }
        if dtype ~= 'bool' then t = t * torch.where(torch.rand(1, 1, 3, 701):gt(0.5), 0.5, 1):to{ dtype = dtype } end
        local near = t:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
        local planes, counts = kinds(t)
        local pixels, same = kinds(near)
        assert.are.same(planes, pixels)
        assert.are.same(counts, same)
        assert.is_true(counts[4] > 20 and counts[1] > 100)
        for _, c in ipairs{ 1, C } do
          if dtype ~= 'bool' then
            near[{ 1, c, 2, 601 }] = 1.5
            assert.fails(function() kinds(near) end, 'got 1.5 in sample 1')
            near[{ 1, c, 2, 601 }] = 0
          end
        end
      end
    end
    -- Rows that follow each other in memory are read as one; in parts of a larger mask they do not.
    for N = 2, 9, 7 do
      local t = torch.randint(0, 1, { N, 2, 5, 6, 7 }):float()
      for _, part in ipairs{ t, t:narrow(5, 2, 4), t:narrow(4, 3, 2), t:narrow(4, 3, 1), t:narrow(3, 2, 3), t:narrow(3, 5, 1),
        t:transpose(3, 5), t:transpose(4, 5), t:narrow(4, 2, 3):transpose(3, 4), t:narrow(2, 2, 1):narrow(3, 2, 2) } do
        local values, expected = part:totable(), kinds(part)
        for n, sample in ipairs(values) do
          for a, slice in ipairs(sample[1]) do
            for b, row in ipairs(slice) do
              for c, first in ipairs(row) do
                local last = sample[#sample][a][b][c]
                assert.equal(first ~= last and 3 or first, expected[n][1][a][b][c])
              end
            end
          end
        end
      end
    end
    local list, counts = kinds(torch.mask.boxes({ { 1, 2 } }, { 2, 2 }):bool())
    assert.are.same({ { { { 1, 1 }, { 0, 0 } } } }, list)
    assert.are.same({ 2, 2, 0, 0 }, counts)
  end)
  it('notices that its tensor changed in place', function()
    local t = tensor({ { { 1, 1 } } })
    local m = torch.mask.wrap(t)
    assert.is_true(m:all_valid())
    torch.Tensor.bump(t)
    local new = tensor({ { { 1, 0 } } })
    require('masked_torch.native').check(t.K.mt_tensor_copy(t._c, new._c))
    assert.is_false(m:all_valid())
    assert.are.same({ 1 }, m:count())
  end)
  it('is recognised again on the same tensor', function()
    local t, x = tensor({ { 1, 0, 1 } }), Tensor.empty('test', { 2, 4, 1, 3 }, 'float32')
    local m = torch.mask.of('test', t, x)
    assert.are.same({ 1, 1, 1, 3 }, m:size())
    assert.are.equal(m, torch.mask.of('test', t, x))
    assert.is_nil(torch.mask.of('test', nil, x))
  end)
  it('expands without copying, and compacts again', function()
    local m = torch.mask.lengths({ 2, 1 }, 2)
    local e = m:expand(2, 3)
    assert.are.same({ 2, 3, 2 }, e:size())
    assert.are.same({ 2, 1, 2 }, e:compact():size())
    assert.are.same({ { 1, 0 }, { 1, 0 }, { 1, 0 } }, e:tensor():totable()[2])
  end)
  it('computes and indexes like its tensor', function()
    local x, m = torch.full({ 2, 1, 4 }, 3), torch.mask.lengths({ 2, 3 }, 4)
    assert.are.same({ { { 3, 3, 0, 0 } }, { { 3, 3, 3, 0 } } }, (x * m):totable())
    assert.are.same((x * m):totable(), (m * x):totable())
    assert.are.same({ { { 0, 0, 1, 1 } }, { { 0, 0, 0, 1 } } }, (1 - m):totable())
    assert.are.equal('float64', (m * x:double()).dtype)
    assert.are.equal(1, m[{ 2, 1, 3 }])
    assert.are.equal(0, m[1][1][3])
  end)
  it('prints', function()
    assert.are.equal('mask (2, 1, 4): lengths right, 62.5 % covered, valid per sample 2 3',
      tostring(torch.mask.lengths({ 2, 3 }, 4, { align = 'right' })))
    assert.are.equal('mask (1, 1, 2): all valid', tostring(torch.mask.full { 1, 1, 2 }))
  end)
  it('refuses what it cannot be', function()
    local x = Tensor.empty('test', { 2, 3, 4 }, 'float32')
    assert.fails(function() torch.mask.lengths({ 5 }, 4) end, 'mask.lengths: lengths', '5 of sample 1', '0..4')
    assert.fails(function() torch.mask.lengths({ -1 }, 4) end, 'mask.lengths: lengths', 'at least 0')
    assert.fails(function() torch.mask.lengths({ 1.5 }, 4) end, 'mask.lengths: lengths', '1.5')
    assert.fails(function() torch.mask.lengths({ 1 }, 4, { align = 'middle' }) end, 'mask.lengths: align', 'middle')
    assert.fails(function() torch.mask.lengths({ 1 }, 4, { aling = 'left' }) end, "did you mean 'align'")
    assert.fails(function() torch.mask.lengths(tensor({ 1 }), 4) end, 'expected int64', 'float32')
    assert.fails(function() torch.mask.boxes({ { 1, 2, 3 } }, { 4, 4 }) end, 'mask.boxes: sizes', '(1, 3)')
    assert.fails(function() torch.mask.boxes({ { 1, 5 } }, { 4, 4 }) end, 'mask.boxes', '5 of sample 1', '0..4')
    assert.fails(function() torch.mask.boxes({ 1, 5 }, { 4, 4 }) end, 'mask.boxes: sizes', 'sample 1')
    assert.fails(function() torch.mask.wrap(tensor({ 1 })) end, 'mask.wrap', '(1)')
    assert.fails(function() torch.mask.wrap(3) end, 'mask.wrap', 'number')
    assert.fails(function() torch.mask.wrap(tensor({ { 2 } })):count() end, 'from 0 to 1', 'got 2')
    assert.fails(function() torch.mask.wrap(tensor({ { nan } })):all_valid() end, 'from 0 to 1', 'nan')
    assert.fails(function() x:apply_mask(tensor({ { { 1, 2 } } })) end, 'apply_mask: mask', '(1, 1, 2)', '(2, 3, 4)')
    assert.fails(function() x:apply_mask(torch.mask.lengths({ 1, 2, 3 }, 4)) end, 'apply_mask: mask', '(3, 1, 4)', '(2, 3, 4)')
    assert.fails(function() x:apply_mask('half') end, 'apply_mask: mask', 'string')
    assert.fails(function() x:unmask(torch.mask.full { 2, 1, 4 }, 'x') end, 'unmask: eps')
  end)
end)
