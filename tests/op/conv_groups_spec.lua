-- Few channels per group, one above all: sums straight from the rows of an image (core/taps_rows.c), gradients of weights lane by lane.

local torch = require 'masked_torch'
local cases = require 'support.conv_groups'
local isas = require 'support.isas'
local native = require 'masked_torch.native'
local starve = require 'support.starve'
local Tensor = require 'masked_torch.tensor'

local C = native.cpu
local keys = { 'y', 'dx', 'dw', 'masked', 'masked_dx', 'masked_dw' }

local function masked_fill(t, map, value)
  local out = t:clone()
  return out:masked_fill_(map:logical_not():expand(t:size()), value)
end

describe('convolution with few channels per group', function()
  it('every instruction set is right, and avx512 and avx2 agree bit for bit', function()
    local sums = {}
    for _, build in ipairs(isas 'conv_groups_isa') do
      local used, count, wrong, what, text = build[2]:match('isa (%S+) results (%d+) wrong (%d+) ([^\n]*)\n([^\n]+)\n$')
      assert(used, build[2])
      assert.equal(6 * #cases.list, tonumber(count))
      assert.equal('0', wrong, used .. ': ' .. what)
      sums[used] = text
    end
    assert.is_truthy(sums.portable)
    if sums.avx512 and sums.avx2 then assert.equal(sums.avx512, sums.avx2) end
  end)

  for _, case in ipairs(cases.list) do
    it('has the same bits for any number of threads, any layout and any batch: ' .. case[1], function()
      local threads = torch.get_num_threads()
      local one = {}
      for _, n in ipairs { 1, 2, 3 } do
        torch.set_num_threads(n)
        local results = cases.run(case, 'float32')
        for _, key in ipairs(keys) do
          if n == 1 then one[key] = results[key] else assert.same_bits(one[key], results[key]) end
        end
      end
      torch.set_num_threads(threads)
      local p = cases.make(case, 'float32')
      local y, dx, dw = cases.forward(p, p.x), cases.input(p, p.dy), cases.weight(p, p.dy, p.x)
      -- row-major
      local x, dy = p.x:contiguous(), p.dy:contiguous()
      assert.same_bits(y, cases.forward(p, x))
      assert.same_bits(dx, cases.input(p, dy))
      assert.same_bits(dw, cases.weight(p, dy, x))
      -- a sample by itself
      local shape = p.shape
      for i = 1, shape[1] do
        p.shape = { 1, unpack(shape, 2) }
        assert.same_bits(y:narrow(1, i, 1):clone(), cases.forward(p, p.x:narrow(1, i, 1)):clone())
      end
      p.shape = shape
    end)

    it('reads nothing under a mask, and a full one is none: ' .. case[1], function()
      local p = cases.make(case, 'float32')
      local all, every = torch.ones_like(p.valid), torch.ones_like(p.active)
      assert.same_bits(cases.forward(p, p.x), cases.forward(p, p.x, all, every))
      assert.same_bits(cases.input(p, p.dy), cases.input(p, p.dy, all, every))
      assert.same_bits(cases.weight(p, p.dy, p.x), cases.weight(p, p.dy, p.x, all, every))
      local nan, zero = masked_fill(p.x, p.valid, 0 / 0), masked_fill(p.x, p.valid, 0)
      local y = cases.forward(p, nan, p.valid, p.active, p.r, p.m)
      assert.same_bits(cases.forward(p, zero, nil, p.active, p.r, p.m), y)
      assert.same_bits(masked_fill(cases.forward(p, zero), p.active, 0), cases.forward(p, nan, p.valid, p.active))
      local dnan, dzero = masked_fill(p.dy, p.active, 0 / 0), masked_fill(p.dy, p.active, 0)
      assert.same_bits(masked_fill(cases.input(p, dzero), p.valid, 0), cases.input(p, dnan, p.valid, p.active))
      assert.same_bits(cases.weight(p, dnan, nan, p.valid, p.active), cases.weight(p, dzero, zero, p.valid, p.active))
    end)
  end

  -- Large enough that results go past the caches and the image is fetched ahead.
  it('has the bits of a small batch where results are large', function()
    for _, group in ipairs { 1, 4 } do
      local p = cases.make({ 'large', { 24, 64, 44, 45 }, group, { 3, 3 }, { padding = 1, stride = group == 1 and 1 or 2 } }, 'float32')
      local y, shape = cases.forward(p, p.x), p.shape
      local dx, whole = cases.input(p, p.dy), p.x
      p.shape = { 1, unpack(shape, 2) }
      for _, i in ipairs { 1, 13, 24 } do
        p.x = whole:narrow(1, i, 1)
        assert.same_bits(y:narrow(1, i, 1):clone(), cases.forward(p, p.x):clone())
        assert.same_bits(dx:narrow(1, i, 1):clone(), cases.input(p, p.dy:narrow(1, i, 1)):clone())
      end
    end
  end)

  it('without samples or memory: nothing, and an error that leaves nothing', function()
    local empty = cases.make({ 'empty', { 0, 32, 5, 6 }, 2, { 3, 3 }, { padding = 1 } }, 'float32')
    assert.same({ 0, 32, 5, 6 }, cases.forward(empty, empty.x):size())
    assert.equal(0, cases.weight(empty, empty.dy, empty.x):abs():max():item())
    for _, group in ipairs { 1, 4 } do
      local p = cases.make({ 'starved', { 2, 32, 6, 9 }, group, { 3, 3 }, { padding = 1 } }, 'float32')
      local y, dw, dx = Tensor.empty_like(p.dy), Tensor.empty_like(p.w), Tensor.empty_like(p.x)
      assert(starve(function()
        return C.mt_conv_forward(y._c, p.x._c, p.w._c, p.b._c, p.g, p.valid._c, p.active._c, p.r._c, p.m._c, nil,
          C.MT_ACTIVATION_IDENTITY, 0)
      end) > 3)
      assert(starve(function() return C.mt_conv_backward_input(dx._c, p.dy._c, p.w._c, nil, p.g, nil, nil) end) > 1)
      assert(starve(function() return C.mt_conv_backward_weight(dw._c, p.dy._c, p.x._c, p.g, nil, p.active._c) end) > 0)
    end
  end)
end)
