--- Convolution on a device: maps, factors, and the promises that a table of cases cannot hold: padding, holes, NaN, precision.
local torch = require 'masked_torch'
local geometry = require 'masked_torch.autograd.geometry'
local native = require 'masked_torch.native'
local devices = require 'support.device'

local device = devices.name
local check = native.check

local function run(name, y, ...)
  local arguments = { ... }
  for i = 1, select('#', ...) do
    local a = arguments[i]
    if type(a) == 'table' and a._c then arguments[i] = a._c end
  end
  check(y.K['mt_conv_' .. name](y._c, unpack(arguments, 1, select('#', ...))))
  return y
end

local function largest(t) return t:abs():max():item() end
local function difference(a, b) return largest(a:cpu():double() - b:double()) / math.max(1e-30, largest(b:double())) end
local function same(a, b, what) assert.is_true(torch.equal(a:cpu(), b:cpu()), what) end

-- The three passes of a 2-D convolution with maps. t: x, w, b, dy and the maps on one device.
local function passes(t, g)
  local n, o, c = t.x:size(1), t.w:size(1), t.x:size(2)
  local opts = { dtype = t.x.dtype, device = t.x.device }
  local size = t.dy:size()
  local y = run('forward', torch.full(size, 7, opts), t.x, t.w, t.b, g, t.valid, t.active, t.r, t.m, nil, -1, 0)
  local dx = run('backward_input', torch.full({ n, c, t.x:size(3), t.x:size(4) }, 7, opts), t.dy, t.w, nil, g, t.valid, t.active)
  local reached = run('backward_input', torch.full({ n, c, t.x:size(3), t.x:size(4) }, 7, opts), t.dy, t.w, nil, g, nil, t.active)
  local dw = run('backward_weight', torch.full(t.w:size(), 7, opts), t.dy, t.x, g, t.valid, t.active)
  local db = torch.full({ o }, 7, opts)
  check(db.K.mt_conv_backward_epilogue(nil, db._c, t.dy._c, nil, t.active and t.active._c, nil, nil, -1, 0))
  return { y, dx, reached, dw, db }
end
local names = { 'forward', 'input gradient', 'input gradient where dy reaches', 'weight gradient', 'bias gradient' }

local function on(t, where, dtype)
  local moved = {}
  for k, v in pairs(t) do moved[k] = v:to{ device = where, dtype = v.dtype == 'bool' and 'bool' or dtype } end
  return moved
end

local function problem(shape, kernel, opts, groups)
  local n, c, h, w, o = unpack(shape)
  opts.groups = groups
  local g = geometry.conv('conv2d', 2, { kernel, kernel }, opts)
  g.groups = groups
  local out = geometry.output_size('conv2d', g, { h, w })
  local function holes(height, width) return torch.rand(n, 1, height, width):gt(0.4) end
  local t = { x = torch.randn(n, c, h, w), w = torch.randn(o, c / groups, kernel, kernel), b = torch.randn(o),
    dy = torch.randn(n, o, out[1], out[2]), valid = holes(h, w), active = holes(out[1], out[2]),
    r = torch.rand(n, 1, out[1], out[2]), m = torch.rand(n, 1, out[1], out[2]) }
  t.r[{ 1, 1, 1, 1 }] = 0
  t.m[{ 1, 1, 1, 2 }] = 0
  return t, g
end

devices.describe('convolution', function()
  before_each(function() torch.manual_seed(3) end)
  after_each(function() torch.set_float32_matmul_precision('highest') end)

  it('agrees with the CPU under all maps and factors', function()
    for i, case in ipairs {
      { { 2, 5, 7, 9, 6 }, 3, { padding = 1 }, 1 },
      { { 3, 8, 6, 11, 12 }, 3, { stride = 2, padding = 1 }, 1 },
      { { 1, 4, 9, 5, 8 }, 2, { dilation = 2, padding = 2, stride = 3 }, 2 },
      { { 2, 6, 5, 8, 6 }, 3, { padding = 1 }, 6 },
      { { 70, 4, 3, 5, 4 }, 3, { padding = 1 }, 1 },
    } do
      local t, g = problem(unpack(case))
      local want = passes(on(t, 'cpu', 'float64'), g)
      for _, dtype in ipairs { 'float64', 'float32' } do
        local got = passes(on(t, device, dtype), g)
        for k = 1, 5 do
          local limit = dtype == 'float64' and 1e-12 or 2e-6
          assert.is_true(difference(got[k], want[k]) <= limit, ('%d, %s, %s: %g'):format(i, dtype, names[k], difference(got[k], want[k])))
        end
      end
    end
  end)

  it('does not look at what holes hold', function()
    local t, g = problem({ 2, 8, 7, 9, 8 }, 3, { padding = 1 }, 1)
    local dirty = {}
    for k, v in pairs(t) do dirty[k] = v end
    dirty.x = torch.where(t.valid, t.x, torch.tensor(0 / 0))
    dirty.dy = torch.where(t.active, t.dy, torch.tensor(1 / 0))
    local a, b = passes(on(t, device, 'float32'), g), passes(on(dirty, device, 'float32'), g)
    for k = 1, 5 do same(a[k], b[k], names[k]) end
  end)

  it('gives the same bits for a full mask, for none, and for any amount of padding', function()
    for _, groups in ipairs { 1, 8 } do
      local t, g = problem({ 3, 8, 6, 7, 8 }, 3, { padding = 1 }, groups)
      t.valid, t.active, t.r, t.m = nil, nil, nil, nil
      local plain = passes(on(t, device, 'float32'), g)
      t.valid, t.active = torch.ones(3, 1, 6, 7):to{ dtype = 'bool' }, torch.ones(3, 1, 6, 7):to{ dtype = 'bool' }
      local full = passes(on(t, device, 'float32'), g)
      for k = 1, 5 do same(plain[k], full[k], 'full: ' .. names[k]) end
      -- in a larger canvas, masked all around; and with zeros after the end and no mask
      local function placed(v, top, left, h, w)
        local size = v:size()
        local canvas = torch.zeros({ size[1], size[2], h, w }, { dtype = v.dtype })
        canvas[{ {}, {}, { top + 1, top + size[3] }, { left + 1, left + size[4] } }] = v
        return canvas
      end
      for _, place in ipairs { { 0, 0, 9, 30 }, { 2, 3, 11, 17 }, { 0, 0, 6, 40 }, { 4, 0, 10, 7 } } do
        local top, left, h, w = unpack(place)
        local far = { w = t.w, b = t.b }
        for _, name in ipairs { 'x', 'dy', 'valid', 'active' } do far[name] = placed(t[name], top, left, h, w) end
        local got = passes(on(far, device, 'float32'), g)
        for k = 1, 5 do
          local v = got[k]
          if k <= 3 then v = v[{ {}, {}, { top + 1, top + 6 }, { left + 1, left + 7 } }] end
          if k ~= 3 then same(plain[k], v, ('%d %d: %s'):format(h, w, names[k])) end
        end
        if top + left == 0 then
          far.valid, far.active = nil, nil
          got = passes(on(far, device, 'float32'), g)
          for k = 4, 5 do same(plain[k], got[k], 'zeros: ' .. names[k]) end
        end
      end
    end
  end)

  it('gives a sample the same bits in any batch', function()
    local t, g = problem({ 5, 8, 30, 31, 40 }, 3, { padding = 1 }, 1)
    local all = passes(on(t, device, 'float32'), g)
    local alone = {}
    for k, v in pairs(t) do alone[k] = (k == 'w' or k == 'b') and v or v[{ { 4, 4 } }] end
    local one = passes(on(alone, device, 'float32'), g)
    for k = 1, 3 do same(all[k][{ { 4, 4 } }], one[k], names[k]) end
  end)

  it('lets Inf and NaN through as plain arithmetic does', function()
    local x, w = torch.ones(1, 8, 1, 4), torch.ones(8, 8, 1, 1)
    x[{ 1, 1, 1, 2 }], x[{ 1, 1, 1, 3 }], x[{ 1, 1, 1, 4 }] = 1 / 0, 0 / 0, 3.4028234e38
    w[{ 2, 1, 1, 1 }] = 0
    w[{ 3, 1, 1, 1 }] = -1
    local g = geometry.conv('conv2d', 2, { 1, 1 }, {})
    local y = run('forward', torch.zeros({ 1, 8, 1, 4 }, { device = device }), x:to(device), w:to(device), nil, g, nil, nil, nil, nil,
      nil, -1, 0):cpu()
    local function at(o, p) return y[{ 1, o, 1, p }] end
    assert.are.equal(8, at(1, 1))
    assert.are.equal(1 / 0, at(1, 2))
    assert.are.equal(-1 / 0, at(3, 2))
    assert.is_true(at(2, 2) ~= at(2, 2) and at(1, 3) ~= at(1, 3))
    assert.is_true(math.abs(at(1, 4) / 3.4028234e38 - 1) < 1e-6)
  end)

  it('takes a norm in evaluation along, with the bits of the two one after the other', function()
    local nn = torch.nn
    torch.manual_seed(3)
    local hole, soft = torch.rand(2, 1, 9, 7):lt(0.6), torch.maximum(torch.rand(2, 1, 9, 7) * 1.4 - 0.4, torch.zeros(1))
    for _, case in ipairs {
      { nn.Conv2d(8, 12, 3, { padding = 1 }) }, { nn.Conv2d(8, 8, 3, { padding = 1, groups = 8 }) },
      { nn.Conv2d(8, 12, 3, { groups = 4 }) },
      { nn.Conv2d(8, 12, 3, { padding = 1 }), hole }, { nn.PartialConv2d(8, 12, 3, { padding = 1 }), hole },
      { nn.PartialConv2d(8, 12, 3, { padding = 1 }), soft } } do
      for _, dtype in ipairs { 'float32', 'float64' } do
        local norm = nn.BatchNorm2d(case[1].out_channels):eval()
        norm.running_mean:copy_(torch.randn(norm.num_features))
        norm.running_var:copy_(torch.rand(norm.num_features) + 0.2)
        torch.no_grad(function() norm.bias:copy_(torch.randn(norm.num_features)) end)
        local net = nn.Sequential{ case[1], norm, nn.ReLU() }:to{ device = device, dtype = dtype }
        local x, mask = torch.randn(2, 8, 9, 7):to{ device = device, dtype = dtype }, case[2] and case[2]:to(device)
        local y = torch.no_grad(function() return (net(x, mask)) end)
        local remove = norm:register_forward_hook(function() end)
        same(torch.no_grad(function() return (net(x, mask)) end), y, tostring(case[1]) .. dtype)
        remove()
        case[1]:to{ device = 'cpu', dtype = 'float32' }
      end
    end
  end)

  it('keeps the precision that is asked for', function()
    local t, g = problem({ 2, 64, 8, 9, 24 }, 3, { padding = 1 }, 1)
    local want = passes(on(t, 'cpu', 'float64'), g)
    for precision, limits in pairs { highest = { 0, 1e-6 }, high = { 1e-5, 1e-3 }, medium = { 2e-4, 1e-2 } } do
      torch.set_float32_matmul_precision(precision)
      local got = passes(on(t, device, 'float32'), g)
      for k = 1, 4 do
        local e = difference(got[k], want[k])
        assert.is_true(e >= limits[1] and e <= limits[2], ('%s, %s: %g'):format(precision, names[k], e))
      end
    end
  end)
end)
