-- Few pixels under weights with neighbouring channels: sums read the weights where they lie (core/taps_few.c). The bits are those of
-- a larger batch, whose weights are packed.

local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local C = native.cpu

local function last(t)
  local y = Tensor.empty('test', t:size(), t.dtype, 'cpu', Tensor.channels_last(t:size()))
  return y:copy_(t)
end

local function forward(x, w, b, opts, r, m)
  local g = geometry.conv('conv', x:dim() - 2, geometry.spatial(w), opts)
  local shape = { x:size(1), w:size(1), unpack(geometry.output_size('conv', g, geometry.spatial(x))) }
  local y = Tensor.empty('test', shape, x.dtype, 'cpu', Tensor.channels_last(shape))
  native.check(C.mt_conv_forward(y._c, x._c, w._c, b and b._c, g, nil, nil, r and r._c, m and m._c, nil, -1, 0))
  return y
end

local function repeated(x, n)
  local list = {}
  for i = 1, n do list[i] = x end
  return last(torch.cat(list, 1))
end

local cases = {
  { 'one pixel', { 1, 48, 1, 1 }, { 32, 48, 3, 3 }, { padding = 1 } },
  { 'four pixels', { 1, 300, 2, 2 }, { 64, 300, 3, 3 }, { padding = 1 } },
  { 'sixteen pixels', { 1, 64, 4, 4 }, { 32, 64, 3, 3 }, { padding = 1 } },
  { 'channels that are no multiple of 4', { 1, 19, 3, 3 }, { 16, 19, 3, 3 }, { padding = 1 } },
  { 'two samples, stride 2', { 2, 33, 5, 5 }, { 16, 33, 3, 3 }, { padding = 1, stride = 2 } },
  { 'dilation without padding', { 1, 40, 7, 6 }, { 48, 40, 3, 2 }, { dilation = 2 } },
  { 'one axis, a causal kernel', { 3, 96, 4 }, { 64, 96, 5 }, { padding = 'causal' } },
  { 'three axes', { 1, 24, 2, 2, 2 }, { 16, 24, 3, 3, 3 }, { padding = 1 } },
  { 'no taps but one', { 7, 530, 1 }, { 96, 530, 1 }, {} },
}

describe('sums of few pixels', function()
  for _, case in ipairs(cases) do
    local name, x_shape, w_shape, opts = unpack(case)
    it('have the bits of a large batch: ' .. name, function()
      local before = torch.conv_algorithm 'direct'
      torch.manual_seed(7)
      local x, w, b = last(torch.randn(x_shape)), last(torch.randn(w_shape)), torch.randn(w_shape[1])
      local expected = forward(repeated(x, 40), w, b, opts):narrow(1, 1, x_shape[1])
      assert.same_bits(expected:clone(), forward(x, w, b, opts):clone())
      -- re-weighted and gated
      local shape = expected:size()
      shape[2] = 1
      local r, m = torch.rand(shape) + 0.5, torch.rand(shape)
      expected = forward(repeated(x, 40), w, b, opts, repeated(r, 40), repeated(m, 40)):narrow(1, 1, x_shape[1])
      assert.same_bits(expected:clone(), forward(x, w, b, opts, r, m):clone())
      local threads = torch.get_num_threads()
      torch.set_num_threads(2)
      assert.same_bits(expected:clone(), forward(x, w, b, opts, r, m):clone())
      torch.set_num_threads(threads)
      torch.conv_algorithm(before)
    end)
  end
end)

-- Few outputs are summed from planes of channels: an image that consists of such planes is read as it is.
describe('sums for few outputs', function()
  for _, case in ipairs{
    { 'two axes', { 2, 12, 19, 37 }, { 4, 12, 3, 3 }, { padding = 1 } },
    { 'stride 2', { 1, 5, 20, 41 }, { 3, 5, 3, 3 }, { padding = 1, stride = 2 } },
    { 'groups', { 2, 6, 9, 30 }, { 4, 3, 3, 2 }, { groups = 2, dilation = 2 } },
    { 'one axis', { 3, 70, 50 }, { 8, 70, 3 }, { padding = 'causal' } },
    { 'three axes', { 1, 3, 5, 6, 33 }, { 2, 3, 3, 3, 3 }, { padding = 1 } },
    { 'channels that are one', { 2, 7, 5, 30 }, { 4, 7, 3, 3 }, { padding = 1 }, true },
  } do
    it('are the same to the bit for planes and for neighbouring channels: ' .. case[1], function()
      local _, x_shape, w_shape, opts, expanded = unpack(case)
      torch.manual_seed(8)
      local x, w, map_shape = torch.randn(x_shape), torch.randn(w_shape), { unpack(x_shape) }
      if expanded then x = x:narrow(2, 1, 1):clone():expand(x_shape) end
      map_shape[2] = 1
      local valid = torch.rand(map_shape):gt(0.3)
      local g = geometry.conv('conv', x:dim() - 2, geometry.spatial(w), opts)
      local function run(input, map)
        local shape = { x:size(1), w:size(1), unpack(geometry.output_size('conv', g, geometry.spatial(x))) }
        local y = Tensor.empty('test', shape, x.dtype)
        native.check(C.mt_conv_forward(y._c, input._c, w._c, nil, g, map and map._c, nil, nil, nil, nil, -1, 0))
        return y
      end
      for _, dtype in ipairs{ 'float32', 'float64' } do
        x, w = x:to{ dtype = dtype }, w:to{ dtype = dtype }
        if expanded then x = x:narrow(2, 1, 1):expand(x_shape) end
        assert.same_bits(run(last(x)), run(x))
        assert.same_bits(run(last(x), valid), run(x, valid))
      end
    end)
  end
end)
