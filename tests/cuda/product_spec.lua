--- Products on a device: which sums depend on what, long sums, NaN. The values are in the op tables of matmul and linear.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local devices = require 'support.device'

local device = devices.name
local check = native.check

local function same(a, b, what) assert.is_true(torch.equal(a:cpu(), b:cpu()), what) end
local function difference(a, b) return (a:cpu():double() - b):abs():max():item() / b:abs():max():item() end

local function product(a, b)
  a, b = a:to(device), b:to(device)
  local y = torch.full({ a:size(1), b:size(2) }, 7, { dtype = a.dtype, device = a.device })
  check(y.K.mt_matmul(y._c, a._c, b._c))
  return y
end

local function weight_gradient(dy, x)
  dy, x = dy:to(device), x:to(device)
  local dw = torch.full({ dy:size(-1), x:size(-1) }, 7, { device = x.device })
  local db = torch.full({ dy:size(-1) }, 7, { device = x.device })
  check(dw.K.mt_linear_backward_weight(dw._c, dy._c, x._c))
  check(dw.K.mt_linear_backward_bias(db._c, dy._c))
  return dw, db
end

devices.describe('products', function()
  before_each(function() torch.manual_seed(5) end)

  it('have elements that depend on their row and column alone, whatever the layout and the tile', function()
    local a, b = torch.randn(150, 40), torch.randn(40, 90)
    local all = product(a, b)
    same(all[{ { 70, 72 }, { 60, 61 } }], product(a[{ { 70, 72 } }], b[{ {}, { 60, 61 } }]), 'alone')
    same(all, product(a:t():contiguous():t(), b), 'a by columns')
    same(all, product(a, b:t():contiguous():t()), 'b by columns')
    same(all, product(a:t():contiguous():t(), b:t():contiguous():t()), 'both by columns')
  end)

  it('are exact to float32 in long sums too', function()
    local a, b = torch.randn(3, 20000), torch.randn(20000, 2)
    local want = torch.matmul(a:double(), b:double())
    assert.is_true(difference(product(a, b), want) <= 2e-6, tostring(difference(product(a, b), want)))
    assert.is_true(difference(product(a:double(), b:double()), want) <= 1e-13)
    -- zeros at the end are no terms
    local wide, tall = torch.zeros(3, 20011), torch.zeros(20011, 2)
    wide[{ {}, { 1, 20000 } }], tall[{ { 1, 20000 } }] = a, b
    same(product(a, b), product(wide, tall))
  end)

  it('of gradients do not see positions of zeros, nor further rows of them', function()
    for _, shape in ipairs { { 3, 5 }, { 2, 11 }, { 70, 3 } } do
      local n, l = unpack(shape)
      local x, dy = torch.randn(n, l, 12), torch.randn(n, l, 9)
      local dw, db = weight_gradient(dy, x)
      for _, larger in ipairs { { n, l + 1 }, { n, l + 20 } } do
        local wx, wdy = torch.randn(larger[1], larger[2], 12), torch.zeros(larger[1], larger[2], 9)
        wx[{ { 1, n }, { 1, l } }], wdy[{ { 1, n }, { 1, l } }] = x, dy
        local got, bias = weight_gradient(wdy, wx)
        same(dw, got, ('%d x %d'):format(unpack(larger)))
        same(db, bias, 'bias')
      end
    end
    local x, dy = torch.randn(30, 12), torch.randn(30, 9)
    local wx, wdy = torch.randn(47, 12), torch.zeros(47, 9)
    wx[{ { 1, 30 } }], wdy[{ { 1, 30 } }] = x, dy
    same((weight_gradient(dy, x)), (weight_gradient(wdy, wx)))
  end)

  it('let NaN and Inf through', function()
    local a, b = torch.ones(70, 8), torch.ones(8, 70)
    a[{ 3, 2 }], a[{ 4, 2 }] = 1 / 0, 0 / 0
    b[{ 2, 5 }] = 0
    local y = product(a, b):cpu()
    assert.are.equal(1 / 0, y[{ 3, 1 }])
    assert.is_true(y[{ 3, 5 }] ~= y[{ 3, 5 }] and y[{ 4, 1 }] ~= y[{ 4, 1 }])
    assert.are.equal(8, y[{ 5, 1 }])
    assert.are.equal(7, y[{ 70, 5 }])
  end)

  -- 2^27 multiplications are cuBLASLt's at these precisions (cuda/cublas.cu), 777 columns are what the simulator's refuses.
  describe('at lower precision, large,', function()
    local limits = { high = 1e-3, medium = 1e-2 }
    after_each(function() torch.set_float32_matmul_precision 'highest' end)

    local function at(precision, fn)
      torch.set_float32_matmul_precision(precision)
      fn(function(got, want, what)
        local error = difference(got, want)
        assert.is_true(error <= limits[precision], ('%s, %s: %g'):format(what, precision, error))
        assert.is_true(error > 1e-6, ('%s, %s: %g is too exact to be of that precision'):format(what, precision, error))
      end)
    end

    it('are right in any layout', function()
      local a, b = torch.randn(256, 1024), torch.randn(1024, 513)
      local want = torch.matmul(a:double(), b:double())
      at('medium', function(near) near(product(a, b), want, 'rows') end)
      at('high', function(near)
        near(product(a, b), want, 'rows')
        near(product(a:t():contiguous():t(), b), want, 'a by columns')
        near(product(a, b:t():contiguous():t()), want, 'b by columns')
        near(product(a:t():contiguous():t(), b:t():contiguous():t()), want, 'both by columns')
        local wide = torch.randn(1024, 1027)
        wide[{ {}, { 2, 514 } }] = b
        local odd, left = wide:to(device)[{ {}, { 2, 514 } }], a:to(device)
        near(left:mm(odd), want, 'a part, on no boundary')
        same(left:mm(odd), left:mm(odd), 'the same twice')
        local apart = torch.zeros(512, 1024):to(device)
        near(apart[{ { 1, 512, 2 } }]:copy_(left):mm(odd), want, 'every other row')
      end)
    end)

    it('are right in batches, also where one factor is common', function()
      local a, b = torch.randn(5, 128, 512), torch.randn(5, 512, 512)
      at('medium', function(near)
        near(a:to(device):matmul(b:to(device)), a:double():matmul(b:double()), 'batch')
        near(a:to(device):matmul(b[2]:to(device)), a:double():matmul(b[2]:double()), 'common b')
        near(a[2]:to(device):matmul(b:to(device)), a[2]:double():matmul(b:double()), 'common a')
      end)
    end)

    it('linear layers are right, forward and backward', function()
      for columns, precision in pairs{ [1024] = 'high', [777] = 'medium' } do
        local x, w, b, dy = torch.randn(400, 512), torch.randn(columns, 512), torch.randn(columns) * 100, torch.randn(400, columns)
        at(precision, function(near)
          local on = {}
          for name, t in pairs{ x = x, w = w, b = b } do on[name] = t:to(device):requires_grad_() end
          local y = torch.nn.functional.linear(on.x, on.w, on.b)
          y:backward(dy:to(device))
          near(y:detach() - on.b:detach(), x:double():mm(w:double():t()), 'y')
          near(on.x.grad, dy:double():mm(w:double()), 'dx')
          near(on.w.grad, dy:double():t():mm(x:double()), 'dw')
        end)
      end
    end)
  end)
end)
