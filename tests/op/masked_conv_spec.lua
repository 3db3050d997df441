local check_op = require 'support.check_op'
local Random = require 'support.random'
local starve = require 'support.starve'
local torch = require 'masked_torch'
local F = require 'masked_torch.nn.functional'
local Tensor = torch.Tensor

check_op(require 'op.masked_conv_cases')

local nan, inf = 0 / 0, math.huge
local rules = { 'keep', 'grow', 'erode', 'coverage', 'confidence', 'centre' }
local weightings = { 'none', 'count', 'l1', 'l2' }

-- A tensor from a flat array.
local function tensor(shape, values, dtype)
  local t = Tensor.from_table('test', values, dtype)
  local strides = Tensor.row_major(shape)
  local view = Tensor.as_view('test', t, shape, strides, 0)
  local copy = Tensor.empty_like(view)
  require('masked_torch.native').check(copy.K.mt_tensor_copy(copy._c, view._c))
  return copy
end

local function normal(random, shape, dtype) return tensor(shape, random:normal(shape).values, dtype) end

-- Calls body(options, text) for every rule, re-weighting and gate.
local function every(body)
  for _, rule in ipairs(rules) do
    for _, reweight in ipairs(weightings) do
      for _, gate in ipairs { 'mask', 'none' } do
        body({ rule = rule, reweight = reweight, gate = gate, padding = 1 }, rule .. ' ' .. reweight .. ' ' .. gate)
      end
    end
  end
end

-- Outputs and all gradients of one call; `upstream` is a flat array.
local function results(x, w, b, m, opts, upstream, alpha)
  x, w, b = x:detach():requires_grad_(), w:detach():requires_grad_(), b:detach():requires_grad_()
  if alpha then
    local given = opts
    opts = {}
    for key, value in pairs(given) do opts[key] = value end
    opts.alpha = tensor({ 1 }, { alpha }, x.dtype):requires_grad_()
  end
  local y, new = F.masked_conv(x, w, b, m, opts)
  y:backward(tensor(y:size(), upstream, x.dtype))
  return { y = y, mask = new, x = x.grad, w = w.grad, b = b.grad, alpha = alpha and opts.alpha.grad or nil }
end

local function same(a, b, what)
  assert(Tensor.same_bits(a, b), what .. ' differs')
end

describe('what lies under the mask', function()
  it('changes no bit of outputs and gradients, NaN and Inf included', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      every(function(opts, text)
        local random = Random.new(3)
        local shape = { 2, 3, 5, 6 }
        local values, mask = random:normal(shape).values, random:binary(shape, 0.6).values
        local clean, dirty, garbage = {}, {}, { nan, inf, -inf, 1e30, -7 }
        for i, v in ipairs(values) do
          clean[i] = mask[i] == 0 and 0 or v
          dirty[i] = mask[i] == 0 and garbage[i % #garbage + 1] or v
        end
        local w, b = normal(random, { 4, 3, 3, 3 }, dtype), normal(random, { 4 }, dtype)
        local up = random:normal({ 2, 4, 5, 6 }).values
        for _, premask in ipairs { 'select', 'values', 'multiply' } do
          opts.premask = premask
          local m = tensor(shape, mask, dtype)
          local one = results(tensor(shape, clean, dtype), w, b, m, opts, up)
          local two = results(tensor(shape, dirty, dtype), w, b, m, opts, up)
          for _, field in ipairs { 'y', 'x', 'w', 'b' } do
            same(one[field], two[field], text .. ' ' .. premask .. ' ' .. field)
          end
        end
      end)
    end
  end)
end)

describe('a gradient that arrives at a masked output', function()
  it('changes no bit, NaN and Inf included', function()
    for _, way in ipairs { {}, { reweight = 'count', alpha = 0.5 }, { rule = 'erode' }, { rule = 'grow', reweight = 'l2' } } do
      local opts = { padding = 1 }
      for key, value in pairs(way) do opts[key] = value end
      local random = Random.new(8)
      local x, w, b = normal(random, { 2, 3, 12 }), normal(random, { 4, 3, 3 }), normal(random, { 4 })
      local m = torch.mask.lengths({ 5, 8 }, 12)
      local _, new = F.masked_conv(x, w, b, m, opts)
      local valid = new:expand(2, 4):totable()
      local clean, dirty = random:normal({ 2, 4, 12 }).values, {}
      for i, v in ipairs(clean) do
        local n, o, p = math.floor((i - 1) / 48) + 1, math.floor((i - 1) / 12) % 4 + 1, (i - 1) % 12 + 1
        dirty[i] = valid[n][o][p] == 0 and (i % 2 == 0 and nan or inf) or v
      end
      for _, alpha in ipairs { 0.5, false } do
        local used = opts.reweight and alpha or nil
        local one, two = results(x, w, b, m, opts, clean, used), results(x, w, b, m, opts, dirty, used)
        for _, field in ipairs { 'x', 'w', 'b', 'alpha' } do
          if one[field] then same(one[field], two[field], field) end
        end
      end
    end
  end)
end)

describe('a full mask', function()
  it('equals no mask and the plain convolution to the bit, forward and backward', function()
    every(function(opts, text)
      local random = Random.new(5)
      local x, w, b = normal(random, { 2, 3, 5, 6 }), normal(random, { 4, 3, 3, 3 }), normal(random, { 4 })
      local up = random:normal({ 2, 4, 5, 6 }).values
      local plain = { x:detach():requires_grad_(), w:detach():requires_grad_(), b:detach():requires_grad_() }
      local y = F.conv2d(plain[1], plain[2], plain[3], { padding = 1 })
      y:backward(tensor(y:size(), up, 'float32'))
      local masks = { torch.mask.full { 2, 1, 5, 6 }, torch.mask.boxes({ { 5, 6 }, { 5, 6 } }, { 5, 6 }),
        torch.mask.full({ 2, 3, 5, 6 }):tensor('bool') }
      for i = 0, #masks do
        local r = results(x, w, b, masks[i], opts, up)
        same(y, r.y, text .. ' y')
        same(plain[1].grad, r.x, text .. ' dx')
        same(plain[2].grad, r.w, text .. ' dw')
        same(plain[3].grad, r.b, text .. ' db')
        if i == 0 then assert.is_nil(r.mask) else assert.is_true(r.mask:all_valid()) end
      end
    end)
  end)
  it('equals no mask with a corrected border, where it differs from the plain convolution', function()
    local random = Random.new(6)
    local x, w, b = normal(random, { 1, 2, 5, 5 }), normal(random, { 3, 2, 3, 3 }), normal(random, { 3 })
    for _, reweight in ipairs { 'count', 'l1', 'l2' } do
      local opts = { padding = 1, reweight = reweight, border = true }
      local y, m = F.masked_conv(x, w, b, nil, opts)
      assert.is_nil(m)
      same(y, (F.masked_conv(x, w, b, torch.mask.full { 1, 1, 5, 5 }, opts)), reweight)
      same(y, (F.masked_conv(x, w, b, torch.mask.full { 1, 2, 5, 5 }, opts)), reweight)
      local plain = F.conv2d(x, w, b, { padding = 1 })
      assert.is_false(Tensor.same_bits(y, plain))
      -- inside, every window is full: the ratio is exactly 1
      assert.are.same(plain:totable()[1][1][3][3], y:totable()[1][1][3][3])
    end
  end)
  it('is masked where padding puts the centre of a window outside the image, as beside a hole', function()
    local random = Random.new(8)
    local x, w, b = normal(random, { 2, 3, 5, 6 }), normal(random, { 4, 3, 3, 1 }), normal(random, { 4 })
    for _, rule in ipairs { 'keep', 'centre' } do
      local opts = { rule = rule, padding = { 1, 1 }, stride = { 1, 2 } }
      local y, m = F.masked_conv(x, w, b, torch.mask.full { 2, 3, 5, 6 }, opts)
      local plain = F.conv2d(x, w, b, { padding = { 1, 1 }, stride = { 1, 2 } })
      local holes = torch.ones(2, 3, 5, 6)
      holes[{ 2, 2, 3, 3 }] = 0
      local beside = F.masked_conv(x, w, b, holes, opts)
      for o = 1, y:size(4) do
        local outside = o == 1
        same(outside and torch.zeros(2, 4, 5) or plain:select(4, o):contiguous(), y:select(4, o):contiguous(), rule .. ' ' .. o)
        assert.are.equal(outside and 0 or 1, m:tensor()[{ 1, 1, 1, o }])
      end
      same(beside[1], y[1], rule .. ': a sample without holes')
      same(plain, (F.masked_conv(x, w, b, nil, opts)), rule .. ': nil')
    end
  end)
  it('counts an eps that is given', function()
    local x, w = torch.ones(1, 2, 3, { dtype = 'float64' }), torch.full({ 1, 2, 1 }, 0.25, { dtype = 'float64' })
    for _, mask in ipairs { torch.mask.full { 1, 2, 3 }, torch.mask.full { 1, 1, 3 } } do
      local y, m = F.masked_conv(x, w, nil, mask, { rule = 'centre', eps = 0.5 })
      local expected = mask:size(2) == 2 and 0.5 or 1     -- a one-channel mask of two channels passes as it is
      assert.are.equal(expected, m:tensor('float64')[{ 1, 1, 2 }])
      assert.are.equal(0.5 * expected, y[{ 1, 1, 2 }])
    end
    local one, mask = torch.ones(1, 1, 3, { dtype = 'float64' }), torch.tensor({ { { 1, 0, 1 } } }, { dtype = 'float64' })
    for _, m in ipairs { torch.mask.full { 1, 1, 3 }, mask } do
      local y = F.masked_conv(one, torch.full({ 1, 1, 1 }, 0.5, { dtype = 'float64' }), nil, m, { rule = 'centre', eps = 0.5 })
      assert.are.equal(0.25, y[{ 1, 1, 3 }])
    end
  end)
  it('gives ratios and masks of exactly 1 beside holes too', function()
    local random = Random.new(7)
    local x, w = normal(random, { 1, 3, 9, 4 }), normal(random, { 2, 3, 3, 3 })
    local m = torch.mask.boxes({ { 6, 4 } }, { 9, 4 })
    for _, rule in ipairs(rules) do
      for _, reweight in ipairs(weightings) do
        local y, new = F.masked_conv(x, w, nil, m, { padding = 1, rule = rule, reweight = reweight })
        assert.are.same(F.conv2d(x, w, nil, { padding = 1 }):totable()[1][2][4], y:totable()[1][2][4], rule .. reweight)
        assert.are.same({ 1, 1, 1, 1 }, new:expand(1, 2):totable()[1][2][4])
      end
    end
  end)
end)

-- Places samples of the given sizes in the corner of a canvas; what is outside is `fill`.
local function canvas(samples, C, size, fill)
  local values = {}
  for n = 1, #samples do
    local s = samples[n]
    for c = 1, C do
      for i = 1, size[1] do
        for j = 1, size[2] do
          values[#values + 1] = i <= s.h and j <= s.w and s[c][i][j] or fill
        end
      end
    end
  end
  return tensor({ #samples, C, size[1], size[2] }, values), values
end

local function sample(random, C, h, w)
  local s = { h = h, w = w }
  for c = 1, C do
    s[c] = {}
    for i = 1, h do
      s[c][i] = {}
      for j = 1, w do s[c][i][j] = random:normal({ 1 }).values[1] end
    end
  end
  return s
end

-- The valid corner of sample n as nested tables.
local function corner(t, n, h, w)
  local result = {}
  for c, plane in ipairs(t:totable()[n]) do
    result[c] = {}
    for i = 1, h do
      result[c][i] = {}
      for j = 1, w do result[c][i][j] = plane[i][j] end
    end
  end
  return result
end

describe('a mask that repeats in every channel', function()
  it('gives the bits of the mask of one channel', function()
    every(function(opts, text)
      for _, border in ipairs { true, false } do
        opts.border = border
        local random = Random.new(9)
        local x, w, b = normal(random, { 2, 5, 6, 7 }), normal(random, { 70, 5, 3, 3 }), normal(random, { 70 })
        local one = torch.mask.boxes({ { 3, 4 }, { 6, 2 } }, { 6, 7 })
        local many = torch.mask.wrap(one:expand(2, 5):tensor('float32'):clone())
        assert.are.equal(5, many:compact():size(2))
        same((F.masked_conv(x, w, b, one, opts)), (F.masked_conv(x, w, b, many, opts)), text)
      end
    end)
  end)
end)

describe('a convolution that keeps the mask', function()
  local ways = { { reweight = 'none' }, { reweight = 'count', alpha = 0.5, border = true },
    { reweight = 'l1', border = true }, { reweight = 'l2', border = true, gate = 'none' }, { rule = 'centre' } }
  it('does not see padding nor batch mates: bits of outputs and gradients', function()
    for number, way in ipairs(ways) do
      local random = Random.new(20 + number)
      local C, O = 2, 3
      local samples, ups, sizes = {}, {}, { { 5, 4 }, { 3, 6 }, { 6, 5 } }
      for n, s in ipairs(sizes) do samples[n], ups[n] = sample(random, C, s[1], s[2]), sample(random, O, s[1], s[2]) end
      local w, b = normal(random, { O, C, 3, 3 }), normal(random, { O })
      local opts = { padding = 1 }
      for key, value in pairs(way) do opts[key] = value end
      opts.alpha = nil
      local alpha = way.reweight and way.reweight ~= 'none' and (way.alpha or 0.7) or nil
      local function batch(size, fill)
        local x = canvas(samples, C, size, fill)
        -- Ungated outputs outside the samples are the caller's business: their gradient is 0 there.
        local _, up = canvas(ups, O, size, opts.gate == 'none' and 0 or 1e3)
        return results(x, w, b, torch.mask.boxes(sizes, size), opts, up, alpha)
      end
      local small, large = batch({ 6, 6 }, nan), batch({ 11, 9 }, 3e8)
      same(small.w, large.w, 'dw')
      same(small.b, large.b, 'db')
      if alpha then same(small.alpha, large.alpha, 'dalpha') end
      for n, s in ipairs(sizes) do
        local alone = canvas({ samples[n] }, C, s, 0)
        local options_alone = {}
        for key, value in pairs(opts) do options_alone[key] = value end
        options_alone.alpha = alpha and tensor({ 1 }, { alpha }) or nil
        local y = F.masked_conv(alone, w, b, nil, options_alone)
        assert.are.same(corner(y, 1, s[1], s[2]), corner(small.y, n, s[1], s[2]), 'way ' .. number)
        assert.are.same(corner(y, 1, s[1], s[2]), corner(large.y, n, s[1], s[2]))
        assert.are.same(corner(small.x, n, s[1], s[2]), corner(large.x, n, s[1], s[2]))
      end
    end
  end)
  it('hands the same mask on, and shares what was derived from it', function()
    local x, w = normal(Random.new(1), { 2, 3, 8 }), normal(Random.new(2), { 3, 3, 3 })
    local m = torch.mask.lengths({ 5, 8 }, 8)
    local _, kept = F.masked_conv(x, w, nil, m, { padding = 1 })
    assert.are.equal(m, kept)
    local _, one = F.masked_conv(x, w, nil, m, { padding = 1, stride = 2 })
    local _, two = F.masked_conv(x, w, nil, m, { padding = 1, stride = 2 })
    assert.are.equal(one, two)
    assert.are.same({ 2, 1, 4 }, one:size())
    local _, other = F.masked_conv(x, w, nil, m, { padding = 1, stride = 2, rule = 'grow' })
    assert.are_not.equal(one, other)
  end)
end)

describe('an empty window', function()
  it('gives 0, ungated the bias, never NaN', function()
    local random = Random.new(4)
    local x = tensor({ 1, 2, 6 }, { nan, inf, 1, 2, 3, 4, 5, 6, 7, 8, 9, nan })
    local b = tensor({ 2 }, { 0.5, -0.25 })
    local m = torch.mask.lengths({ 0 }, 6)
    for _, w in ipairs { normal(random, { 2, 2, 3 }), tensor({ 2, 2, 3 }, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }) } do
      every(function(opts, text)
        for _, border in ipairs { true, false } do
          opts.border = border
          local r = results(x, w, b, m, opts, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, opts.reweight ~= 'none' and 0.5 or nil)
          local e1, e2 = opts.gate == 'mask' and 0 or 0.5, opts.gate == 'mask' and 0 or -0.25
          assert.are.same({ { { e1, e1, e1, e1, e1, e1 }, { e2, e2, e2, e2, e2, e2 } } }, r.y:totable(), text)
          assert.are.equal(0, r.mask:coverage())
          assert.are.same({ { { 0, 0, 0, 0, 0, 0 }, { 0, 0, 0, 0, 0, 0 } } }, r.x:totable(), text)
          assert.are.same({ 0, 0, 0 }, r.w:totable()[1][1], text)
        end
      end)
    end
  end)
  it('works for an empty batch', function()
    local x, w = Tensor.empty('test', { 0, 2, 6 }, 'float32'), normal(Random.new(1), { 3, 2, 3 })
    every(function(opts)
      local y = F.masked_conv(x, w, nil, torch.mask.lengths({}, 6), opts)
      assert.are.same({ 0, 3, 6 }, y:size())
    end)
  end)
end)

describe('a filter of zeros', function()
  it('has the unweighted mean as its mask, under compat 0', function()
    local x, w = normal(Random.new(1), { 1, 2, 4 }), tensor({ 1, 2, 1 }, { 0, 0 })
    local m = tensor({ 1, 2, 4 }, { 1, 0, 1, 0, 1, 1, 0, 0 })
    for _, rule in ipairs { 'centre', 'confidence' } do
      local _, new = F.masked_conv(x, w, nil, m, { rule = rule })
      assert.are.same({ { { 1, 0.5, 0.5, 0 } } }, new:totable())
      local _, strict = F.masked_conv(x, w, nil, m, { rule = rule, compat = true })
      assert.are.same({ { { 0, 0, 0, 0 } } }, strict:totable())
    end
  end)
end)

describe('masked_conv refuses', function()
  local x, w, b = normal(Random.new(1), { 2, 4, 6 }), normal(Random.new(2), { 3, 4, 3 }), normal(Random.new(3), { 3 })
  local function refuses(name, texts, ...)
    local arguments, n = { ... }, select('#', ...)
    it(name, function()
      assert.fails(function() F.masked_conv(unpack(arguments, 1, n)) end, 'masked_conv', unpack(texts))
    end)
  end
  refuses('no input', { 'input', 'nil' }, nil, w, b)
  refuses('a table as input', { 'input', 'table' }, {}, w, b)
  refuses('no weight', { 'weight', 'nil' }, x, nil, b)
  refuses('an integer input', { 'input', 'int64' }, Tensor.from_table('t', { { { 1, 2 } } }, 'int64'), w, b)
  refuses('two dimensions', { 'input', '(1, 2)' }, Tensor.from_table('t', { { 1, 2 } }), w, b)
  refuses('another number of channels', { 'weight', '(3, 4, 3)', '(2, 3, 6)' }, normal(Random.new(1), { 2, 3, 6 }), w, b)
  refuses('another precision', { 'weight', 'float64' }, x, normal(Random.new(1), { 3, 4, 3 }, 'float64'), b)
  refuses('a bias of another size', { 'bias', '(4)' }, x, w, normal(Random.new(1), { 4 }))
  refuses('a mask of another size', { 'mask', '(2, 1, 5)', '(2, 4, 6)' }, x, w, b, torch.mask.full { 2, 1, 5 })
  refuses('a mask of two channels', { 'mask', '(2, 2, 6)' }, x, w, b, torch.mask.full { 2, 2, 6 })
  refuses('a word as mask', { 'mask', 'string' }, x, w, b, 'half')
  refuses('mask values above 1', { 'from 0 to 1', 'got 2' }, x, w, b, tensor({ 1, 1, 6 }, { 1, 1, 2, 1, 1, 1 }))
  refuses('an unknown option', { "'strid'", "'stride'" }, x, w, b, nil, { strid = 1 })
  refuses('an unknown rule', { 'rule', "'kept'", 'keep' }, x, w, b, nil, { rule = 'kept' })
  refuses('an unknown re-weighting', { 'reweight', "'sum'" }, x, w, b, nil, { reweight = 'sum' })
  refuses('an unknown gate', { 'gate', "'relu'" }, x, w, b, nil, { gate = 'relu' })
  refuses('an unknown premask', { 'premask' }, x, w, b, nil, { premask = 'yes' })
  refuses('NaN as alpha', { 'alpha' }, x, w, b, nil, { alpha = nan })
  refuses('a word as alpha', { 'alpha', 'string' }, x, w, b, nil, { alpha = 'half' })
  refuses('two exponents', { 'alpha', '(2)' }, x, w, b, nil, { alpha = tensor({ 2 }, { 1, 1 }) })
  refuses('a negative eps', { 'eps' }, x, w, b, nil, { eps = -1 })
  refuses('groups that do not divide', { '4 channels', '3 groups' }, x, w, b, nil, { groups = 3 })
  refuses('stride 0', { 'stride', '0' }, x, w, b, nil, { stride = 0 })
  refuses('a kernel wider than the input', { 'conv' }, x, w, b, nil, { dilation = 4 })
  refuses('a gate without weights', { 'gate_weight', 'nil' }, x, w, b, nil, { gate = 'sigmoid' })
  refuses('gate weights without a gate', { 'gate_weight' }, x, w, b, nil, { gate_weight = w })
  it('a mask of other dimensions in masked_conv2d', function()
    assert.fails(function() F.masked_conv2d(x, w, b) end, 'masked_conv2d: input', '4 dimensions', '(2, 4, 6)')
  end)
end)

describe('the kernels of masks', function()
  it('report missing memory and keep nothing', function()
    local native = require 'masked_torch.native'
    local ffi = require 'ffi'
    local C, random = native.cpu, Random.new(8)
    local g = require('masked_torch.autograd.geometry').conv('masked_conv', 1, { 3 }, { padding = 1, groups = 2 })
    local v = ffi.new('mt_window', { border = 1, strict = 0, multiplicity = 1, eps = 0, centre = { 1 } })
    local m, w = normal(random, { 2, 4, 6 }):gt(0):float(), tensor({ 2, 2, 3 }, { 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6 })
    local out, alpha = Tensor.empty('test', { 2, 2, 6 }, 'float32'), tensor({ 1 }, { 1 })
    local lengths, boxes = Tensor.from_table('test', { 3, 6 }, 'int64'), Tensor.from_table('test', { { 3 }, { 6 } }, 'int64')
    local mask, sums = Tensor.empty('test', { 2, 1, 6 }, 'float32'), Tensor.empty('test', { 2 }, 'float64')
    local valid, all = Tensor.empty('test', { 2 }, 'float64'), ffi.new('int32_t[1]')
    local q = Tensor.empty('test', { 2, 2, 6 }, 'float32')
    local calls = {
      centre = function() return C.mt_masked_conv_mask(out._c, m._c, nil, w._c, g, v, 5) end,
      erode = function() return C.mt_masked_conv_mask(out._c, m._c, nil, nil, g, v, 2) end,
      ratio = function() return C.mt_masked_conv_ratio(out._c, m._c, nil, w._c, g, v, 2) end,
      both = function() return C.mt_masked_conv_confidence(out._c, q._c, m._c, nil, w._c, g, v) end,
      alpha = function() return C.mt_masked_conv_alpha_backward(alpha._c, out._c, out._c, nil, nil, nil) end,
      lengths = function() return C.mt_mask_lengths(mask._c, lengths._c, 1) end,
      boxes = function() return C.mt_mask_boxes(mask._c, boxes._c) end,
      summary = function() return C.mt_mask_summary(valid._c, sums._c, all, m._c) end,
    }
    for name, call in pairs(calls) do assert(starve(call) > 0, name) end
  end)
  it('give confidences and ratios together as they give each alone, to the bit', function()
    local native = require 'masked_torch.native'
    local ffi = require 'ffi'
    local C, random = native.cpu, Random.new(9)
    for _, border in ipairs{ 0, 1 } do
      for _, groups in ipairs{ 1, 2 } do
        local g = require('masked_torch.autograd.geometry').conv('masked_conv', 2, { 3, 2 }, { padding = 1, groups = groups })
        local v = ffi.new('mt_window', { border = border, strict = 0, multiplicity = 1, eps = 1e-8, centre = { 1, 1 } })
        for _, soft in ipairs{ false, true } do
          local m, w = normal(random, { 2, 4, 7, 6 }), normal(random, { 6, 4 / groups, 3, 2 })
          m = soft and m:clamp(0, 1) or m:gt(0.3):to{ dtype = w.dtype }
          local function empty() return Tensor.empty('test', { 2, 6, 7, 7 }, w.dtype) end
          local a, b, together, q = empty(), empty(), empty(), empty()
          native.check(C.mt_masked_conv_mask(a._c, m._c, nil, w._c, g, v, 4))
          native.check(C.mt_masked_conv_ratio(b._c, m._c, nil, w._c, g, v, 1))
          native.check(C.mt_masked_conv_confidence(together._c, q._c, m._c, nil, w._c, g, v))
          assert.same_bits(a, together)
          assert.same_bits(b, q)
        end
      end
    end
  end)
  -- Pixels whose channels hold the same values share their sums (core/masked_conv_repeat.h).
  it('give a pixel the same confidence whatever the others are, to the bit', function()
    local random = Random.new(10)
    local function confidence(m, w, stride)
      local x = torch.ones(m:size(), { dtype = w.dtype })
      local _, new = F.masked_conv2d(x, w, nil, m, { rule = 'centre', padding = 1, stride = stride })
      return new:tensor(w.dtype)
    end
    for _, case in ipairs{ { 3, 5, 1 }, { 3, 5, 2, true }, { 7, 300, 1 }, { 12, 5, 1, true }, { 70, 4, 1 }, { 70, 9, 2, true } } do
      local C, different, stride, soft = unpack(case)
      local w = normal(random, { 4, C, 3, 3 })
      local kinds = normal(random, { 1, C, 1, different })
      kinds = soft and kinds:clamp(0, 1) or kinds:gt(0.2):to{ dtype = w.dtype }
      local at = torch.randint(1, different, { 14 * 30 })
      local m = kinds:squeeze(3):squeeze(1):index_select(2, at):reshape(1, C, 14, 30)
      local plain = confidence(m, w, stride)
      local last = Tensor.empty('test', m:size(), m.dtype, 'cpu', Tensor.channels_last(m:size()))
      last:copy_(m)
      assert.same_bits(plain, confidence(last, w, stride))
      for _, p in ipairs{ { 1, 1 }, { 3, 5 }, { 7, 15 }, { 7, 14 } } do
        local h, v = (p[1] - 1) * stride + 1, (p[2] - 1) * stride + 1
        if h <= 14 and v <= 30 then
          local alone = confidence(m:narrow(3, h, 1):narrow(4, v, 1):clone(), w, 1)
          assert.same_bits(plain:narrow(3, p[1], 1):narrow(4, p[2], 1):clone(), alone)
        end
      end
    end
  end)
  it('refuse what does not fit', function()
    local native = require 'masked_torch.native'
    local ffi = require 'ffi'
    local C = native.cpu
    local g = require('masked_torch.autograd.geometry').conv('masked_conv', 1, { 3 }, { padding = 1, groups = 2 })
    local v = ffi.new('mt_window', { border = 1, strict = 0, multiplicity = 1, eps = 0, centre = { 1 } })
    local m, w = normal(Random.new(1), { 2, 4, 6 }), normal(Random.new(1), { 2, 2, 3 })
    local wide, odd = normal(Random.new(1), { 2, 2, 4 }), normal(Random.new(1), { 2, 3, 3 })
    local out = Tensor.empty('t', { 2, 2, 6 }, 'float32')
    local function c(t) return t and t._c end
    local function refuses(texts, status)
      assert.fails(function() native.check(status) end, 'masked_conv', unpack(texts))
    end
    refuses({ 'rule', '6' }, C.mt_masked_conv_mask(c(out), c(m), nil, nil, g, v, 6))
    refuses({ 'weight', 'nil' }, C.mt_masked_conv_mask(c(out), c(m), nil, nil, g, v, 4))
    refuses({ 'mask', 'nil' }, C.mt_masked_conv_mask(c(out), nil, nil, nil, g, v, 0))
    refuses({ 'geometry' }, C.mt_masked_conv_mask(c(out), c(m), nil, nil, nil, v, 0))
    refuses({ 'output', '(2, 2, 5)' }, C.mt_masked_conv_mask(c(Tensor.empty('t', { 2, 2, 5 }, 'float32')), c(m), nil, nil, g, v, 0))
    refuses({ 'reweight', '3' }, C.mt_masked_conv_ratio(c(out), c(m), nil, c(w), g, v, 3))
    refuses({ 'kernel size 3', '(2, 2, 4)' }, C.mt_masked_conv_ratio(c(out), c(m), nil, c(wide), g, v, 1))
    refuses({ '(2, 4, 6)', '(2, 3, 3)' }, C.mt_masked_conv_ratio(c(out), c(m), nil, c(odd), g, v, 1))
    refuses({ 'ratio', '(2, 2, 6)', 'float64' }, C.mt_masked_conv_finish(c(out), c(out),
      c(Tensor.empty('t', { 2, 2, 6 }, 'float64')), nil, nil, -1, 0))
    refuses({ 'mask', '(2, 4, 6)' }, C.mt_masked_conv_finish(c(out), c(out), nil, nil, c(m), -1, 0))
    refuses({ 'bias', '(3)' }, C.mt_masked_conv_finish(c(out), c(out), nil, c(tensor({ 3 }, { 1, 2, 3 })), nil, -1, 0))
    refuses({ 'activation', '4' }, C.mt_masked_conv_finish(c(out), c(out), nil, nil, nil, 4, 0))
    refuses({ 'alpha', '(2, 2, 6)' }, C.mt_masked_conv_alpha_backward(c(out), c(out), c(out), nil, nil, nil))
    refuses({ 'ratio', '(2, 2, 6)', '(2, 4, 6)' }, C.mt_masked_conv_confidence(c(out), c(m), c(m), nil, c(w), g, v))
    v.multiplicity = 0
    refuses({ 'multiplicity' }, C.mt_masked_conv_mask(c(out), c(m), nil, nil, g, v, 0))
  end)
end)

describe('windows that lie outside the image', function()
  it('are invalid, whether the mask has a hole or not', function()
    for _, rule in ipairs(rules) do
      for _, opts in ipairs { { padding = { { 0, 0 }, { 2, 2 } } }, { padding = { { 3, 4 }, { 0, 0 } }, dilation = 2 },
        { padding = { { 0, 0 }, { 1, 3 } }, stride = { 1, 2 } } } do
        opts.rule = rule
        local x, w, b = torch.randn(1, 2, 4, 5), torch.randn(3, 2, 2, 1), torch.randn(3)
        local full, holed = torch.ones(1, 1, 4, 5), torch.ones(1, 1, 4, 5)
        holed[1][1][3][3] = 0
        local y, m = F.masked_conv(x, w, b, full, opts)
        local _, other = F.masked_conv(x, w, b, holed, opts)
        -- Windows with a tap in the image, by hand.
        local dilation, stride = opts.dilation or 1, opts.stride or { 1, 1 }
        m, other = m:tensor(), other:tensor()
        local outside = 0
        for i = 1, y:size(3) do
          for j = 1, y:size(4) do
            local touches = false
            for t = 0, 1 do
              local r, c = (i - 1) * stride[1] - opts.padding[1][1] + t * dilation, (j - 1) * stride[2] - opts.padding[2][1]
              touches = touches or r >= 0 and r < 4 and c >= 0 and c < 5
            end
            if not touches then
              outside = outside + 1
              assert.are.equal(0, m[{ 1, 1, i, j }])
              assert.are.equal(0, other[{ 1, 1, i, j }])
              assert.are.equal(0, y[{ 1, 2, i, j }])
            elseif rule == 'grow' then
              assert.are.equal(1, m[{ 1, 1, i, j }])
            end
          end
        end
        assert.is_true(outside > 0)
      end
    end
  end)
end)
