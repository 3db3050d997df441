-- Layer and RMS norm over the last dim: dense rows are normalised a few at a time (core/norm_lines.c), all others pass by pass. The
-- bits are the same.

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local starve = require 'support.starve'
local F, Tensor = torch.nn.functional, torch.Tensor

local nan = 0 / 0

-- The same values where the first two dims have changed places in memory.
local function elsewhere(t)
  local strides, step = {}, 1
  for d = t:dim(), 3, -1 do strides[d], step = step, step * t:size(d) end
  strides[1], strides[2] = step, step * t:size(1)
  local y = Tensor.empty('spec', t:size(), t.dtype, 'cpu', strides)
  native.check(y.K.mt_tensor_copy(y._c, t._c))
  return y
end

local function results(make, shape, dtype, token_mask, options, place, parameters)
  torch.manual_seed(11)
  local D = shape[#shape]
  local x, dy = torch.randn(shape, { dtype = dtype }), torch.randn(shape, { dtype = dtype })
  local o = {}
  for key, value in pairs(options) do o[key] = value end
  if token_mask then
    local sizes = { unpack(shape) }
    sizes[#sizes] = 1
    o.mask = token_mask(torch.rand(sizes, { dtype = dtype }))
    local under = torch.full(shape, nan, { dtype = dtype })
    x = torch.where(o.mask:expand(shape):ne(0), x, under)
  end
  x = place(x):requires_grad_()
  local w, b = torch.randn(D, { dtype = dtype }), torch.randn(D, { dtype = dtype })
  if parameters then
    w:requires_grad_()
    b:requires_grad_()
  end
  local y = make(x, D, w, b, o)
  y:backward(place(dy))
  return { y = y, dx = x.grad, dw = w.grad, db = b.grad }
end

local norms = {
  layer_norm = function(x, D, w, b, o) return F.layer_norm(x, D, w, b, o) end,
  ['layer_norm without parameters'] = function(x, D, _, _, o) return F.layer_norm(x, D, o) end,
  ['layer_norm with only a bias'] = function(x, D, _, b, o)
    o.bias = b
    return F.layer_norm(x, D, o)
  end,
  rms_norm = function(x, D, w, _, o) return F.rms_norm(x, D, w, o) end,
}
local masks = {
  none = false,
  tokens = function(r) return r:lt(0.7):to(r.dtype) end,
  ['tokens, one soft'] = function(r)
    local m = r:lt(0.7):to(r.dtype)
    m:view(-1)[3] = 0.5
    return m
  end,
  ['nothing valid'] = function(r) return r * 0 end,
}
local shapes = { { 3, 40, 12 }, { 2, 9, 7 }, { 2, 3, 11, 260 }, { 5, 2, 4 }, { 3, 33, 24 }, { 40, 21, 128 } }

for name, make in pairs(norms) do
  describe(name .. ' over the last dim', function()
    for kind, mask in pairs(masks) do
      for _, options in ipairs { {}, { activation = 'relu' }, { activation = 'leaky_relu' } } do
        it(('has the same bits row by row and pass by pass: mask %s, %s'):format(kind, options.activation or 'no activation'), function()
          for _, shape in ipairs(shapes) do
            for _, dtype in ipairs { 'float32', 'float64' } do
              for _, parameters in ipairs { true, false } do
                local dense = results(make, shape, dtype, mask, options, function(t) return t end, parameters)
                local other = results(make, shape, dtype, mask, options, elsewhere, parameters)
                for key, t in pairs(other) do
                  assert(Tensor.same_bits(dense[key]:contiguous(), t:contiguous()), ('%s (%s) %s'):format(key, table.concat(shape, ', '),
                    dtype))
                  if kind ~= 'tokens, one soft' then assert.is_true(t:isfinite():all():item()) end
                end
              end
            end
          end
        end)
      end
    end
  end)
end

describe('dense rows', function()
  it('have the same bits on any number of threads', function()
    local before, seen = torch.get_num_threads(), nil
    for _, threads in ipairs { 1, 2, 3 } do
      torch.set_num_threads(threads)
      local now = results(norms.layer_norm, { 70, 21, 128 }, 'float32', masks.tokens, { activation = 'relu' },
        function(t) return t end, true)
      seen = seen or now
      for key, t in pairs(seen) do assert(Tensor.same_bits(now[key], t)) end
    end
    torch.set_num_threads(before)
  end)

  it('have the same bits where the result goes past the caches', function()
    for _, mask in ipairs { false, masks.tokens } do
      for _, name in ipairs { 'layer_norm', 'rms_norm' } do
        local dense, other
        for _, place in ipairs { function(t) return t end, elsewhere } do
          other = dense
          dense = results(norms[name], { 33, 500, 128 }, 'float32', mask, { activation = 'relu' }, place, true)
        end
        for key, t in pairs(dense) do assert(Tensor.same_bits(other[key]:contiguous(), t:contiguous()), name .. ' ' .. key) end
      end
    end
  end)

  it('give their scratch memory back, also when there is none', function()
    local K = native.cpu
    local x, y, dx, dw = torch.randn(2, 9, 4), torch.zeros(2, 9, 4), torch.zeros(2, 9, 4), torch.zeros(4)
    local stats, mask = torch.zeros(2, 9, 3, { dtype = 'float64' }), torch.ones(2, 9, 1)
    for _, call in ipairs {
      function() return K.mt_norm_layer_forward(y._c, stats._c, x._c, mask._c, nil, nil, 1e-5, 0, 0) end,
      function() return K.mt_norm_layer_backward(dx._c, dw._c, nil, y._c, x._c, mask._c, nil, nil, stats._c, 0, 0) end,
    } do
      assert.is_true(starve(call) >= 1)
    end
  end)
end)
