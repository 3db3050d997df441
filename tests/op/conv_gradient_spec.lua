-- The gradient of convolution weights: what maps leave out is skipped, which neither garbage nor padding may show; sums of long
-- rows stay exact; small and wide shapes, which go other ways, are right.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local geometry = require 'masked_torch.autograd.geometry'
local Tensor = torch.Tensor

local names = { 'conv1d', 'conv2d', 'conv3d' }

local function gradient(dy, x, weight_shape, opts, valid, active)
  local dims = #weight_shape - 2
  local dw, kernel = Tensor.empty('test', weight_shape, x.dtype), {}
  for d = 1, dims do kernel[d] = weight_shape[d + 2] end
  local g = geometry.conv(names[dims], dims, kernel, opts)
  native.check(x.K.mt_conv_backward_weight(dw._c, dy._c, x._c, g, valid and valid._c, active and active._c))
  return dw
end

local function random_map(shape, share)
  local s = { shape[1], 1 }
  for d = 3, #shape do s[d] = shape[d] end
  return torch.rand(s):le(share)
end

local function output_shape(shape, weight_shape, opts)
  local out = { shape[1], weight_shape[1] }
  for d = 3, #shape do
    local extent = (opts.dilation or 1) * (weight_shape[d] - 1) + 1
    out[d] = math.floor((shape[d] + 2 * (opts.padding or 0) - extent) / (opts.stride or 1)) + 1
  end
  return out
end

-- input, weight, options: plain tiles, single and few channels (taps of a row together), groups, depthwise, strides, dilation,
-- single pixels, rows longer than a piece
local cases = {
  { { 2, 19, 6, 9 }, { 33, 19, 3, 3 }, { padding = 1 } },
  { { 3, 3, 9, 21 }, { 16, 3, 3, 3 }, { padding = 1 } },
  { { 2, 1, 8, 8 }, { 1, 1, 3, 3 }, { padding = 1 } },
  { { 2, 4, 11, 12 }, { 7, 4, 5, 3 }, { padding = 2, stride = 2 } },
  { { 2, 12, 7, 10 }, { 9, 4, 3, 3 }, { padding = 1, groups = 3 } },
  { { 2, 37, 6, 7 }, { 37, 1, 3, 3 }, { padding = 1, groups = 37 } },
  { { 2, 37, 9, 8 }, { 37, 1, 5, 5 }, { padding = 2, groups = 37 } },
  { { 3, 70, 11 }, { 70, 1, 7 }, { padding = 3, groups = 70, stride = 2 } },
  { { 2, 20, 7, 8 }, { 9, 20, 3, 3 }, { padding = 2, dilation = 2 } },
  { { 2, 3, 4, 5, 6 }, { 5, 3, 2, 3, 3 }, { padding = 1 } },
  { { 5, 40, 1, 1 }, { 24, 40, 3, 3 }, { padding = 1 } },
  { { 2, 2, 1100 }, { 3, 2, 3 }, { padding = 1 } },
  { { 2, 18, 700 }, { 20, 18, 3 }, { padding = 1 } },
}

describe('the gradient of convolution weights', function()
  for number, case in ipairs(cases) do
    local shape, weight, opts = unpack(case)
    local out = output_shape(shape, weight, opts)
    for _, share in ipairs { 0.5, 0.9 } do
      it(('%d: skips %d %% of the pixels, whatever they hold'):format(number, 100 - 100 * share), function()
        torch.manual_seed(number)
        local x, dy, valid, active = torch.randn(shape), torch.randn(out), random_map(shape, share), random_map(out, share)
        local expected = gradient(torch.where(active, dy, 0), torch.where(valid, x, 0), weight, opts)
        local function same(a, b) assert.near_tensor(a, b, 1e-5 * b:abs():max():item()) end
        local garbage = gradient(torch.where(active, dy, 0 / 0), torch.where(valid, x, math.huge), weight, opts, valid, active)
        local clean = gradient(dy, x, weight, opts, valid, active)
        assert.same_bits(clean, garbage)
        same(clean, expected)
        local double = gradient(torch.where(active, dy, 0):double(), torch.where(valid, x, 0):double(), weight, opts)
        local scale = double:abs():max():item()
        assert((clean:double() - double):abs():max():item() <= 2e-6 * scale)
        -- rows no longer than a piece: skipping changes no bit
        if shape[#shape] <= 256 then assert.same_bits(expected, clean) end
      end)
    end

    it(number .. ': full maps are no maps', function()
      torch.manual_seed(number)
      local x, dy = torch.randn(shape), torch.randn(out)
      assert.same_bits(gradient(dy, x, weight, opts), gradient(dy, x, weight, opts, random_map(shape, 1), random_map(out, 1)))
    end)

    it(number .. ': padding of a masked row at either end changes no bit', function()
      torch.manual_seed(number)
      local last, stride = #shape, opts.stride or 1
      local x, dy, valid, active = torch.randn(shape), torch.randn(out), random_map(shape, 0.8), random_map(out, 0.8)
      local before, after = 300 * stride, 7 * stride
      local function around(t, left, right)
        local s, place = t:size(), {}
        for d = 1, last do place[d] = { 1, s[d] } end
        s[last] = s[last] + left + right
        place[last] = { left + 1, left + t:size(last) }
        local large = t.dtype == 'bool' and torch.zeros(s, { dtype = 'bool' }) or torch.full(s, 0 / 0)
        large[place] = t
        return large
      end
      -- The output grows by as many pixels as the input, over the stride.
      local extra = output_shape({ 1, 1, shape[last] + before + after }, { 1, 1, weight[last] }, opts)[3] - out[last]
      local left = before / stride
      assert.same_bits(gradient(dy, x, weight, opts, valid, active),
        gradient(around(dy, left, extra - left), around(x, before, after), weight, opts, around(valid, before, after),
          around(active, left, extra - left)))
    end)
  end

  it('of long rows is as exact as of short ones', function()
    torch.manual_seed(1)
    local x, dy = torch.randn(1, 2, 30000):add(0.5), torch.randn(1, 17, 30000):add(0.5)
    local dw, double = gradient(dy, x, { 17, 2, 3 }, { padding = 1 }), gradient(dy:double(), x:double(), { 17, 2, 3 }, { padding = 1 })
    assert((dw:double() - double):abs():max():item() <= 2e-6 * double:abs():max():item())
  end)

  it('is the same on any number of threads, with irregular maps', function()
    local before = torch.get_num_threads()
    for _, number in ipairs { 1, 2, 6 } do
      local shape, weight, opts = unpack(cases[number])
      shape = { 16, unpack(shape, 2) }
      torch.manual_seed(number)
      local out = output_shape(shape, weight, opts)
      local x, dy, valid, active = torch.randn(shape), torch.randn(out), random_map(shape, 0.7), random_map(out, 0.7)
      local first
      for threads = 1, 4 do
        torch.set_num_threads(threads)
        local dw = gradient(dy, x, weight, opts, valid, active)
        first = first or dw
        assert.same_bits(first, dw)
      end
    end
    torch.set_num_threads(before)
  end)
end)

-- Runs of active pixels, rows without any, outputs by 64, by 16 and the rest: the same sums as over zeros.
describe('the gradient of the bias', function()
  it('adds up the active pixels of neighbouring outputs', function()
    local T = require 'masked_torch.tensor'
    torch.manual_seed(3)
    for _, outputs in ipairs { 149, 70, 19 } do
      local shape = { 3, outputs, 9, 40 }
      local dy, active = T.empty('test', shape, 'float32', 'cpu', T.channels_last(shape)), torch.rand(3, 1, 9, 40):gt(0.4)
      native.check(dy.K.mt_tensor_copy(dy._c, torch.randn(shape)._c))
      active[{ {}, {}, { 2, 3 } }] = 0
      local function bias(t, map)
        local db = T.empty('test', { outputs }, 'float32', 'cpu')
        native.check(t.K.mt_conv_backward_epilogue(nil, db._c, t._c, nil, map and map._c, nil, nil, native.cpu.MT_ACTIVATION_IDENTITY, 0))
        return db
      end
      local cleared = T.empty_like(dy)
      native.check(dy.K.mt_mask_select(cleared._c, dy._c, active:float()._c))
      local db = bias(dy, active)
      assert.same_bits(bias(cleared), db)
      assert.is_true((db:double() - cleared:double():sum({ 1, 3, 4 })):abs():max():item() <= 1e-4)
    end
  end)
end)
