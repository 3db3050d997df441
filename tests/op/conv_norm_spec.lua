-- A convolution with a frozen norm and an activation behind it in one kernel: the bits of the operations one after the other.

local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local both = require 'support.conv_both'
local Tensor = torch.Tensor

for kind_name, kind in pairs(both.kinds) do
  it(('a convolution (%s) with a frozen norm is the two one after the other, bit for bit, in every kernel'):format(kind_name), function()
    for _, form in ipairs(both.forms) do
      for _, activation in ipairs { false, both.activations.relu, both.activations.leaky_relu } do
        local wrong, seen = both.compare_norm(form, kind, activation or nil)
        assert.same({}, wrong)
        assert.is_true(seen > 0 or form[2][1] == 0, form[1])
      end
    end
  end)
end

describe('the table of a frozen norm', function()
  local K = native.cpu
  local mean, var = torch.tensor { 1, -2 }, torch.tensor { 3, 0.5 }

  it('is mean, scale and shift of every channel', function()
    local t = torch.zeros(3, 2, { dtype = 'float64' })
    native.check(K.mt_norm_batch_frozen(t._c, mean._c, var._c, nil, nil, 1))
    assert.same_bits(torch.tensor({ { 1, -2 }, { 0.5, 1 / math.sqrt(1.5) }, { 0, 0 } }, { dtype = 'float64' }), t)
    local weight, bias = torch.tensor { 9, 2, 9, 4 }[{ { 2, 4, 2 } }], torch.tensor { 5, 6 }
    native.check(K.mt_norm_batch_frozen(t._c, mean._c, var._c, weight._c, bias._c, 1))
    assert.same_bits(torch.tensor({ { 1, -2 }, { 1, 4 / math.sqrt(1.5) }, { 5, 6 } }, { dtype = 'float64' }), t)
  end)

  it('is refused where it does not fit', function()
    local function refuses(text, status) assert.fails(function() native.check(status) end, text) end
    local t, other = torch.zeros(3, 2, { dtype = 'float64' }), torch.zeros(2, 3, { dtype = 'float64' })
    refuses('norm', K.mt_norm_batch_frozen(other._c, mean._c, var._c, nil, nil, 1))
    refuses('norm', K.mt_norm_batch_frozen(torch.zeros(3, 2)._c, mean._c, var._c, nil, nil, 1))
    refuses('running_var', K.mt_norm_batch_frozen(t._c, mean._c, nil, nil, nil, 1))
    refuses('weight', K.mt_norm_batch_frozen(t._c, mean._c, var._c, torch.zeros(3)._c, nil, 1))
    refuses('bias', K.mt_norm_batch_frozen(t._c, mean._c, var._c, nil, mean:double()._c, 1))
    local x, w, g = torch.randn(1, 2, 5), torch.randn(2, 2, 3), geometry.conv('conv1d', 1, { 3 }, {})
    local y = torch.zeros(1, 2, 3)
    refuses('norm', K.mt_conv_forward(y._c, x._c, w._c, nil, g, nil, nil, nil, nil, other._c, -1, 0))
    refuses('row-major', K.mt_conv_forward(y._c, x._c, w._c, nil, g, nil, nil, nil, nil, other:transpose(1, 2)._c, -1, 0))
    refuses('norm', K.mt_conv_forward(y._c, x._c, w._c, nil, g, nil, nil, nil, nil, torch.zeros(3, 2)._c, -1, 0))
    local table_of = torch.zeros(3, 2, { dtype = 'float64' })
    refuses('norm: expected an output of float32', K.mt_conv_forward(y:bfloat16()._c, x:bfloat16()._c, w:bfloat16()._c, nil, g, nil, nil,
      nil, nil, table_of._c, -1, 0))
  end)

  it('gives the same bits on any number of threads', function()
    local before, seen = torch.get_num_threads(), nil
    local x, w, b = torch.randn(2, 33, 40, 30), torch.randn(48, 33, 3, 3), torch.randn(48)
    local norm, table_of = torch.rand(3, 48, { dtype = 'float64' }), geometry.conv('conv2d', 2, { 3, 3 }, { padding = 1 })
    for _, threads in ipairs { 1, 2, 5 } do
      torch.set_num_threads(threads)
      local y = torch.zeros(2, 48, 40, 30)
      native.check(K.mt_conv_forward(y._c, x._c, w._c, b._c, table_of, nil, nil, nil, nil, norm._c, -1, 0))
      seen = seen or y
      assert.is_true(Tensor.same_bits(seen, y))
    end
    torch.set_num_threads(before)
  end)
end)
