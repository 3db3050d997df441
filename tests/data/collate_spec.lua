local torch = require 'masked_torch'
local collate = torch.data.collate

local golden = torch.io.json.decode(torch.io.file.read('test', 'tests/golden/data.json'))

local function int(values) return torch.tensor(values, { dtype = 'int64' }) end

describe('collate', function()
  it('pads as masked_torch does', function()
    for _, case in ipairs(golden.collate) do
      local pad = collate.sequences{ pad = case.pad_direction, multiple = case.dividable_by, pad_value = 0 }
      local samples = {}
      for r, s in ipairs(case.batch) do samples[r] = { sequence = int(s.sequence), target = s.target } end
      for _, form in ipairs{ case.batch, samples } do
        local batch = pad(form)
        assert.same(case.sequence, batch.sequence:totable())
        assert.same(case.sequence_lengths, batch.lengths:totable())
        assert.same(case.target, batch.target:totable())
        assert.equal('int64', batch.target.dtype)
        local L = #case.sequence[1]
        for r, n in ipairs(case.sequence_lengths) do
          for k = 1, L do
            local valid = case.pad_direction == 'left' and k > L - n or case.pad_direction == 'right' and k <= n
            assert.equal(valid and 1 or 0, batch.mask:tensor()[{ r, 1, k }])
          end
        end
      end
    end
  end)

  it('pads to a fixed length, and with token 1 unless told otherwise', function()
    local batch = collate.sequences{ length = 4 }{ { sequence = { 5, 6 } }, { sequence = {} } }
    assert.same({ { 5, 6, 1, 1 }, { 1, 1, 1, 1 } }, batch.sequence:totable())
    assert.is_nil(batch.target)
    assert.same({ 2, 0 }, batch.mask:count())
  end)

  it('pads targets of the same length', function()
    local batch = collate.sequences{ pad = 'left', pad_value = 9 }{ { sequence = { 5, 6 }, target = int{ 6, 7 } },
      { sequence = { 3 }, target = { 4 } } }
    assert.same({ { 6, 7 }, { 9, 4 } }, batch.target:totable())
  end)

  it('stacks numbers, booleans, strings and tensors', function()
    local batch = collate.default{ { a = 1, b = 1.5, c = true, d = 'x', e = torch.ones(2) },
      { a = 2, b = 2, c = false, d = 'y', e = torch.zeros(2) } }
    assert.equal('int64', batch.a.dtype)
    assert.equal('float32', batch.b.dtype)
    assert.equal('bool', batch.c.dtype)
    assert.same({ 1, 2 }, batch.a:totable())
    assert.same({ 1.5, 2 }, batch.b:totable())
    assert.same({ true, false }, batch.c:totable())
    assert.same({ 'x', 'y' }, batch.d)
    assert.same({ { 1, 1 }, { 0, 0 } }, batch.e:totable())
    local view = torch.range(1, 6):reshape(2, 3):transpose(1, 2)
    assert.same({ view:totable(), view:totable() }, collate.default{ { view }, { view } }[1]:totable())
  end)

  it('puts images of different sizes on one canvas', function()
    local images = collate.images{ multiple = 4, pad_value = 5 }
    local batch = images{ { image = torch.ones(2, 3, 5), label = 3 }, { image = torch.full({ 2, 6, 2 }, 2), label = 1 } }
    assert.same({ 2, 2, 8, 8 }, batch.image:size())
    assert.same({ { 3, 5 }, { 6, 2 } }, batch.sizes:totable())
    assert.same({ 3, 1 }, batch.label:totable())
    assert.same({ 15, 12 }, batch.mask:count())
    for r, size in ipairs{ { 3, 5 }, { 6, 2 } } do
      for y = 1, 8 do
        for x = 1, 8 do
          local inside = y <= size[1] and x <= size[2]
          assert.equal(inside and r or 5, batch.image[{ r, 2, y, x }])
          assert.equal(inside and 1 or 0, batch.mask:tensor()[{ r, 1, y, x }])
        end
      end
    end
    batch = collate.images{ key = 1, canvas = { 4, 4 } }{ { torch.ones(3, 2), 1 } }
    assert.same({ 1, 1, 4, 4 }, batch[1]:size())
    assert.same({ 6 }, batch.mask:count())
  end)

  local s = { sequence = { 1, 2, 3 } }
  for what, case in pairs{
    ['no samples'] = { function() collate.default{} end, 'table of samples' },
    ['samples that are numbers'] = { function() collate.default{ 1, 2 } end, 'sample 1', 'table of parts' },
    ['a part that one sample lacks'] = { function() collate.default{ { a = 1, b = 2 }, { a = 1 } } end, 'sample 2 has no b' },
    ['a part that only one sample has'] = { function() collate.default{ { a = 1 }, { a = 1, b = 2 } } end, 'sample 2 has b' },
    ['different shapes'] = { function() collate.default{ { torch.ones(2) }, { torch.ones(3) } } end, 'sample 2 is (3) float32',
      'collate.sequences' },
    ['different dtypes'] = { function() collate.default{ { torch.ones(2) }, { int{ 1, 2 } } } end, 'sample 2 is (2) int64' },
    ['a number beside a tensor'] = { function() collate.default{ { torch.ones(2) }, { 1 } } end, 'sample 2 is number' },
    ['an unknown side'] = { function() collate.sequences{ pad = 'both' } end, "'left', 'right'" },
    ['a multiple of 0'] = { function() collate.sequences{ multiple = 0 } end, 'multiple' },
    ['a length that is no multiple'] = { function() collate.sequences{ multiple = 4, length = 6 } end, '6 is not a multiple of 4' },
    ['a longer sequence than length'] = { function() collate.sequences{ length = 2 }{ s } end, '3 tokens, length is 2' },
    ['an unknown option'] = { function() collate.sequences{ padding = 'left' } end, 'padding' },
    ['a sequence of floats'] = { function() collate.sequences(){ { sequence = torch.ones(2) } } end, 'whole numbers' },
    ['a target of another length'] = { function() collate.sequences(){ { sequence = { 1, 2 }, target = { 1 } } } end, 'target',
      'its sequence has 2 tokens' },
    ['an image that is a number'] = { function() collate.images(){ { image = 1 } } end, 'image: sample 1' },
    ['other channels'] = { function() collate.images(){ { image = torch.ones(1, 2, 2) }, { image = torch.ones(3, 2, 2) } } end,
      'sample 2', 'channels' },
    ['an image beyond the canvas'] = { function() collate.images{ canvas = { 2, 2 } }{ { image = torch.ones(1, 3, 2) } } end,
      'the canvas is (2, 2)' },
    ['a canvas of other dims'] = { function() collate.images{ canvas = { 2 } }{ { image = torch.ones(1, 2, 2) } } end,
      'expected 2 sizes, got 1' },
  } do
    it('refuses ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end
end)
