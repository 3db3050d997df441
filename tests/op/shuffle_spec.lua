local check_op = require 'support.check_op'
local torch = require 'masked_torch'
local Tensor = torch.Tensor
local F = torch.nn.functional

check_op(require 'op.shuffle_cases')

local function sequence(shape, dtype, strides)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  local function nest(d, first, count)
    if d > #shape then return dtype == 'uint8' and first % 256 or first end
    local row, step = {}, count / shape[d]
    for i = 1, shape[d] do row[i] = nest(d + 1, first + (i - 1) * step, step) end
    return row
  end
  local t = Tensor.from_table('test', nest(1, 0, n), dtype)
  if not strides then return t end
  local y = Tensor.empty('test', shape, dtype or 'float32', 'cpu', strides)
  torch.Tensor.namespace.cpu.mt_tensor_copy(y._c, t._c)
  return y
end

describe('pixel_unshuffle', function()
  it('has the channel order c * r^d + offset', function()
    assert.same({ { { 0, 2 }, { 1, 3 } } }, F.unshuffle1d(sequence { 1, 1, 4 }, 2):totable())
    assert.same({ { { { 0 } }, { { 1 } }, { { 2 } }, { { 3 } } } }, F.unshuffle2d(sequence { 1, 1, 2, 2 }, 2):totable())
  end)

  it('is undone by pixel_shuffle in any dtype', function()
    for _, dtype in ipairs { 'float32', 'float64', 'int64', 'int32', 'uint8' } do
      local x = sequence({ 2, 3, 4, 6 }, dtype)
      assert.same_bits(x, F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2))
    end
  end)

  it('keeps the channels-last format', function()
    local shape = { 2, 3, 4, 6 }
    local x = sequence(shape, 'float32', Tensor.channels_last(shape))
    local y = F.pixel_unshuffle(x, 2)
    assert.same(Tensor.channels_last { 2, 12, 2, 3 }, y:stride())
    assert.same_bits(F.pixel_unshuffle(sequence(shape), 2), y)
    assert.same(Tensor.channels_last(shape), F.pixel_shuffle(y, 2):stride())
  end)

  -- Blocks of 2, 4 and 8, rows of planes, and what has no loop of its own; any dtype, both formats.
  it('gives the same in every format and dtype, for every factor', function()
    local function by_formula(x, r)
      local n, c, h, w = unpack(x:size())
      local rows = x:totable()
      local out = {}
      for i = 1, n do
        out[i] = {}
        for k = 1, c * r * r do
          local from, rest, plane = math.floor((k - 1) / (r * r)) + 1, (k - 1) % (r * r), {}
          for a = 1, h / r do
            plane[a] = {}
            for b = 1, w / r do plane[a][b] = rows[i][from][(a - 1) * r + math.floor(rest / r) + 1][(b - 1) * r + rest % r + 1] end
          end
          out[i][k] = plane
        end
      end
      return out
    end
    for _, dtype in ipairs { 'float32', 'float64', 'int64', 'uint8' } do
      for _, r in ipairs { 1, 2, 3, 4 } do
        for _, channels in ipairs { 1, 3, 17 } do
          local shape = { 2, channels, 2 * r, 9 * r }
          for _, strides in ipairs { false, Tensor.channels_last(shape) } do
            local x = sequence(shape, dtype, strides or nil)
            local y = F.pixel_unshuffle(x, r)
            assert.same(by_formula(x, r), y:totable())
            assert.same_bits(x, F.pixel_shuffle(y, r))
          end
        end
      end
    end
    for _, dims in ipairs { 1, 3 } do
      local shape = dims == 1 and { 2, 5, 24 } or { 2, 5, 4, 8, 12 }
      for _, r in ipairs { 2, 4 } do
        local x = sequence(shape)
        local y = F.pixel_unshuffle(x, r)
        local last = F.pixel_unshuffle(sequence(shape, 'float32', Tensor.channels_last(shape)), r)
        assert.same_bits(y, last)
        assert.same_bits(x, F.pixel_shuffle(last, r))
      end
    end
  end)

  it('takes empty tensors', function()
    assert.same({ 0, 12, 2, 3 }, F.pixel_unshuffle(Tensor.empty('test', { 0, 3, 4, 6 }, 'float32'), 2):size())
    assert.same({ 2, 6, 0 }, F.pixel_unshuffle(Tensor.empty('test', { 2, 3, 0 }, 'float32'), 2):size())
    assert.same({ 2, 3, 0 }, F.pixel_shuffle(Tensor.empty('test', { 2, 6, 0 }, 'float32'), 2):size())
  end)

  it('refuses what does not divide, naming the shapes', function()
    assert.fails(function() F.unshuffle1d(sequence { 1, 1, 5 }, 2) end,
      'Length must be divisible by the downscale factor', '(1, 1, 5)')
    assert.fails(function() F.unshuffle2d(sequence { 1, 1, 4, 5 }, 2) end, 'divisible by the downscale factor 2', '(1, 1, 4, 5)')
    assert.fails(function() F.unshuffle3d(sequence { 1, 1, 3, 2, 2 }, 2) end,
      'Depth, height, and width must be divisible by the downscale factor', '(1, 1, 3, 2, 2)')
    assert.fails(function() F.shuffle2d(sequence { 1, 6, 2, 2 }, 2) end, 'pixel_shuffle', 'channels', '(1, 6, 2, 2)')
  end)

  it('refuses wrong arguments', function()
    local x = sequence { 1, 4, 4 }
    assert.fails(function() F.unshuffle2d(x, 2) end, 'unshuffle2d', '2 spatial axes', '(1, 4, 4)')
    assert.fails(function() F.pixel_unshuffle(sequence { 4, 4 }, 2) end, 'pixel_unshuffle', '(4, 4)')
    assert.fails(function() F.pixel_unshuffle(x, 0) end, 'pixel_unshuffle: factor', 'from 1 to', 'got 0')
    assert.fails(function() F.pixel_unshuffle(x, 1.5) end, 'factor', '1.5')
    assert.fails(function() F.pixel_unshuffle(x) end, 'factor', 'nil')
    assert.fails(function() F.pixel_unshuffle({ 1 }, 2) end, 'pixel_unshuffle: input', 'table')
    local gone = sequence { 1, 4, 4 }
    gone:release()
    assert.fails(function() F.pixel_shuffle(gone, 2) end, 'pixel_shuffle', 'released')
  end)
end)
