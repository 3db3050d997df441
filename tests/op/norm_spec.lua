local torch = require 'masked_torch'
local check_op = require 'support.check_op'
local nested = require 'support.nested'
local Random = require 'support.random'
local starve = require 'support.starve'
local F, Tensor = torch.nn.functional, torch.Tensor

check_op(require 'op.norm_cases')

local nan = 0 / 0

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

-- Every norm on x (N, C, H, W) with weights that do not depend on the canvas: fn(x, mask, w, b, running mean and variance).
local norms = {
  batch_norm = function(x, mask, w, b, mean, var)
    return F.batch_norm(x, mean, var, w, b, true, 0.1, 1e-5, { mask = mask })
  end,
  ['batch_norm in evaluation'] = function(x, mask, w, b, mean, var)
    return F.batch_norm(x, mean, var, w, b, { mask = mask })
  end,
  group_norm = function(x, mask, w, b) return F.group_norm(x, 2, w, b, { mask = mask }) end,
  instance_norm = function(x, mask, w, b, mean, var)
    return F.instance_norm(x, mean, var, w, b, { mask = mask })
  end,
  ['layer_norm over channels'] = function(x, mask, w, b) return F.layer_norm(x, 4, w, b, { mask = mask, channels = true }) end,
  ['layer_norm over the sample'] = function(x, mask)
    local shape = x:size()
    table.remove(shape, 1)
    return F.layer_norm(x, shape, { mask = mask })
  end,
  ['rms_norm over the sample'] = function(x, mask)
    local shape = x:size()
    table.remove(shape, 1)
    return F.rms_norm(x, shape, { mask = mask })
  end,
}

-- Values (N, 4, h, w) placed at (top, left) of a canvas; `under` fills the rest.
local function canvas(values, size, top, left, under, dtype)
  local shape = nested.size(values)
  return tensor(nested.make({ shape[1], shape[2], size[1], size[2] }, function(n, c, i, j)
    local row = values[n][c][i - top]
    return row and row[j - left] or under
  end), dtype)
end

local function cut(t, h, w, top, left) return t:narrow(3, top + 1, h):narrow(4, left + 1, w):contiguous() end

-- Everything a norm produces: output and gradients in the valid region, parameter gradients, running statistics.
local function results(fn, data, placement, dtype, masked, channels_last)
  local size, top, left = placement.size, placement.top, placement.left
  local function place(values, under) return canvas(values, size, top, left, under, dtype) end
  local x, mask = place(data.x, placement.under), masked and place(data.mask, 0) or nil
  if channels_last then
    local y = Tensor.empty('spec', x:size(), dtype, 'cpu', Tensor.channels_last(x:size()))
    require('masked_torch.native').check(y.K.mt_tensor_copy(y._c, x._c))
    x = y
  end
  local w, b = tensor({ 1, 2, -1, 0.5 }, dtype), tensor({ 0.25, 0, 1, -1 }, dtype)
  local mean, var = tensor({ 0, 1, 2, 3 }, dtype), tensor({ 1, 2, 3, 4 }, dtype)
  x:requires_grad_()
  w:requires_grad_()
  b:requires_grad_()
  local y = fn(x, mask, w, b, mean, var)
  y:backward(place(data.dy, placement.under))
  local h, wd = #data.x[1][1], #data.x[1][1][1]
  local list = { cut(y, h, wd, top, left), cut(x.grad, h, wd, top, left), mean, var }
  if w.grad then list[5], list[6] = w.grad, b.grad end
  return list, y, x.grad
end

local function data_of(shape, mask)
  local random = Random.new(5)
  local function normal() return nested.reshape(random:normal(shape).values, shape) end
  return { x = normal(), dy = normal(), mask = nested.make(shape, mask) }
end

local function same(a, b, what)
  assert.equal(#a, #b)
  for k = 1, #a do assert(Tensor.same_bits(a[k], b[k]), what .. ': result ' .. k .. ' differs in bits') end
end

-- Nothing but zeros beside the valid region.
local function zero_outside(t, data, top, left)
  local h, w = #data.x[1][1], #data.x[1][1][1]
  local nonzero = 0
  for _, sample in ipairs(t:totable()) do
    for _, plane in ipairs(sample) do
      for i, row in ipairs(plane) do
        for j, v in ipairs(row) do
          local inside = i > top and i <= top + h and j > left and j <= left + w
          if not inside and v ~= 0 then nonzero = nonzero + 1 end
        end
      end
    end
  end
  assert.equal(0, nonzero)
end

local shape = { 3, 4, 5, 6 }
local masks = {
  full = function() return 1 end,
  binary = function(n, c, i, j) return (n * 7 + c * 3 + i * 5 + j) % 4 == 0 and 0 or 1 end,
  soft = function(n, c, i, j) return ((n * 7 + c * 3 + i * 5 + j) % 9) / 8 end,
}

for name, fn in pairs(norms) do
  describe(name, function()
    for kind, mask in pairs(masks) do
      it('does not depend on padding, bit for bit: ' .. kind .. ' mask', function()
        local data = data_of(shape, mask)
        for _, dtype in ipairs { 'float32', 'float64' } do
          local plain = results(fn, data, { size = { 5, 6 }, top = 0, left = 0, under = 0 }, dtype, true)
          for _, p in ipairs {
            { size = { 5, 9 }, top = 0, left = 0, under = 0 }, { size = { 8, 6 }, top = 0, left = 0, under = nan },
            { size = { 11, 13 }, top = 4, left = 7, under = 1 / 0 }, { size = { 40, 41 }, top = 35, left = 35, under = nan } } do
            local padded, y, dx = results(fn, data, p, dtype, true)
            same(plain, padded, ('%s canvas %dx%d'):format(dtype, p.size[1], p.size[2]))
            zero_outside(y, data, p.top, p.left)
            zero_outside(dx, data, p.top, p.left)
          end
        end
      end)
    end

    it('is the plain norm under a full mask, bit for bit', function()
      local data = data_of(shape, masks.full)
      for _, dtype in ipairs { 'float32', 'float64' } do
        local here = { size = { 5, 6 }, top = 0, left = 0, under = 0 }
        local plain = results(fn, data, here, dtype, false)
        same(plain, results(fn, data, here, dtype, true), dtype)
        same(plain, results(fn, data, here, dtype, true, true), dtype .. ' channels last')
      end
    end)

    it('does not read what lies in holes', function()
      local data = data_of(shape, masks.binary)
      local here = { size = { 5, 6 }, top = 0, left = 0, under = 0 }
      local clean = results(fn, data, here, 'float32', true)
      nested.make(shape, function(n, c, i, j)
        if data.mask[n][c][i][j] == 0 then
          data.x[n][c][i][j], data.dy[n][c][i][j] = (i + j) % 2 == 0 and nan or 1 / 0, nan
        end
        return 0
      end)
      same(clean, results(fn, data, here, 'float32', true), 'holes')
    end)

    it('keeps the memory format', function()
      local x = Tensor.empty('spec', { 2, 4, 3, 5 }, 'float32', 'cpu', Tensor.channels_last{ 2, 4, 3, 5 })
      require('masked_torch.native').check(x.K.mt_tensor_fill(x._c, 1))
      assert.same(x:stride(), (fn(x, nil, nil, nil, tensor{ 0, 0, 0, 0 }, tensor{ 1, 1, 1, 1 })):stride())
    end)

    it('gives zeros and finite gradients where nothing is valid', function()
      local data = data_of(shape, function() return 0 end)
      local r, y = results(fn, data, { size = { 5, 6 }, top = 0, left = 0, under = nan }, 'float32', true)
      for _, t in ipairs { y, r[2], r[5], r[6] } do
        for _, v in ipairs(nested.flat(t:totable())) do assert.equal(0, v) end
      end
      assert.near_tensor({ 0, 1, 2, 3 }, r[3])
      assert.near_tensor({ 1, 2, 3, 4 }, r[4])
    end)
  end)
end

describe('running statistics', function()
  local function track(x, mask, momentum)
    local mean, var = tensor({ 10 }, 'float64'), tensor({ 20 }, 'float64')
    F.batch_norm(tensor(x, 'float64'), mean, var, { training = true, momentum = momentum or 1,
      mask = mask and tensor(mask, 'float64') })
    return mean:item(), var:item()
  end

  it('take the unbiased variance of the valid elements', function()
    local mean, var = track({ { { 1, 2, 4, 77 } } }, { { { 1, 1, 1, 0 } } })
    assert.is_true(math.abs(mean - 7 / 3) <= 1e-15)
    assert.is_true(math.abs(var - 7 / 3) <= 1e-15)
    mean, var = track({ { { 1, 2, 4 } } }, nil, 0.25)
    assert.is_true(math.abs(mean - (0.75 * 10 + 0.25 * 7 / 3)) <= 1e-14)
    assert.is_true(math.abs(var - (0.75 * 20 + 0.25 * 7 / 3)) <= 1e-14)
  end)

  it('weigh soft masks: n^2 / (n^2 - sum m^2)', function()
    local z, m = { 3, -1, 2, 5 }, { 0.5, 1, 0.25, 0 }
    local n, q, mean, var = 1.75, 0.25 + 1 + 0.0625, (1.5 - 1 + 0.5) / 1.75, 0
    for i = 1, 4 do var = var + m[i] * (z[i] - mean) ^ 2 end
    var = var / n * n ^ 2 / (n ^ 2 - q)
    local x = {}
    for i = 1, 4 do x[i] = m[i] * z[i] end
    local got_mean, got_var = track({ { x } }, { { m } })
    assert.is_true(math.abs(got_mean - mean) <= 1e-14)
    assert.is_true(math.abs(got_var - var) <= 1e-14)
  end)

  it('recover the distribution under a soft mask', function()
    local random = Random.new(3)
    local z, m, x = random:normal{ 20000 }.values, random:uniform({ 20000 }, 0, 1).values, {}
    for i, v in ipairs(z) do x[i] = { (1 + 2 * v) * m[i] } m[i] = { m[i] } end
    local mean, var = track(x, m)
    assert.is_true(math.abs(mean - 1) <= 0.05)
    assert.is_true(math.abs(var - 4) <= 0.15)
  end)

  it('stay where nothing is valid, and keep the variance where one element is', function()
    local mean, var = track({ { { 5, 6 } } }, { { { 0, 0 } } })
    assert.equal(10, mean)
    assert.equal(20, var)
    mean, var = track({ { { 5, nan } } }, { { { 1, 0 } } })
    assert.equal(5, mean)
    assert.equal(20, var)
  end)

  it('count the mask for every sample', function()
    local x = { { { 1, 2 } }, { { 3, 9 } } }
    local mean, var = track(x, { { { 1, 0 } } })
    assert.equal(2, mean)
    assert.equal(2, var)
  end)

  it('count up the version of the tensors they change', function()
    local mean, var = tensor{ 0 }, tensor{ 1 }
    local before = Tensor.version(mean)
    F.batch_norm(tensor{ { 1 }, { 2 } }, mean, var, { training = true })
    assert.is_true(Tensor.version(mean) > before)
    before = Tensor.version(mean)
    F.batch_norm(tensor{ { 1 }, { 2 } }, mean, var)
    assert.equal(before, Tensor.version(mean))
  end)
end)

describe('precision', function()
  it('survives a large mean in float32', function()
    local values = {}
    for i = 1, 1000 do values[i] = { 4096 + (i % 8) / 8 } end
    local y = F.batch_norm(tensor(values), nil, nil, { training = true, eps = 0 })
    local sd = math.sqrt(63 / 12) / 8
    local expected = {}
    for i = 1, 1000 do expected[i] = { ((i % 8) / 8 - 7 / 16) / sd } end
    assert.near_tensor(expected, y, 1e-6)
  end)
end)

describe('empty tensors', function()
  it('have empty results', function()
    assert.same({ 0, 3, 4 }, F.batch_norm(torch.zeros(0, 3, 4), nil, nil, { training = true }):size())
    assert.same({ 2, 0, 4 }, F.batch_norm(torch.zeros(2, 0, 4), nil, nil, { training = true }):size())
    assert.same({ 0, 4, 4 }, F.group_norm(torch.zeros(0, 4, 4), 2):size())
    assert.same({ 2, 3, 0 }, F.instance_norm(torch.zeros(2, 3, 0)):size())
    assert.same({ 0, 4 }, F.layer_norm(torch.zeros(0, 4), 4):size())
    assert.same({ 3, 0 }, F.layer_norm(torch.zeros(3, 0), 0):size())
    local w = torch.ones(4):requires_grad_()
    F.layer_norm(torch.zeros(0, 4), 4, w):backward(torch.zeros(0, 4))
    assert.near_tensor({ 0, 0, 0, 0 }, w.grad)
  end)
end)

describe('norms refuse', function()
  local x = torch.zeros(2, 3, 4)
  local cases = {
    { 'a number as input', function() F.batch_norm(3) end, 'batch_norm: input: expected a tensor' },
    { 'whole numbers', function() F.batch_norm(torch.zeros(2, 3, { dtype = 'int64' }), nil, nil, { training = true }) end,
      'batch_norm', 'int64' },
    { 'a vector', function() F.group_norm(torch.zeros(3), 1) end, 'group_norm', '(3)' },
    { 'a weight of another size', function() F.batch_norm(x, nil, nil, { weight = torch.ones(4), training = true }) end,
      'batch_norm: weight: expected (3), got (4)' },
    { 'a weight of another type', function()
      F.batch_norm(x, nil, nil, { weight = torch.ones(3, { dtype = 'float64' }), training = true }) end, 'batch_norm: weight',
      'float64' },
    { 'no running statistics', function() F.batch_norm(x) end, 'expected running_mean and running_var' },
    { 'running statistics of another size', function() F.batch_norm(x, torch.zeros(2), torch.ones(2)) end, 'running_mean' },
    { 'an expanded running mean', function()
      F.batch_norm(x, torch.zeros(1):expand(3), torch.ones(3), { training = true }) end, 'running_mean', 'share memory' },
    { 'a mask of another size', function() F.batch_norm(x, nil, nil, { training = true, mask = torch.ones(2, 3, 5) }) end,
      'mask', '(2, 3, 5)', '(2, 3, 4)' },
    { 'an unknown option', function() F.batch_norm(x, nil, nil, { trainng = true }) end, "did you mean 'training'" },
    { 'a momentum that is no number', function() F.batch_norm(x, nil, nil, { training = true, momentum = 'x' }) end,
      'momentum: expected a number' },
    { 'options in the middle', function() F.batch_norm(x, { training = true }, torch.ones(3)) end, 'last argument' },
    { 'too many arguments', function() F.group_norm(x, 1, nil, nil, 1e-5, 7) end, 'too many arguments' },
    { 'groups that do not divide', function() F.group_norm(x, 2) end, 'num_groups', '3 channels', '(2, 3, 4)' },
    { 'half a group', function() F.group_norm(x, 1.5) end, 'num_groups', '1.5' },
    { 'one position', function() F.instance_norm(torch.zeros(2, 3, 1)) end, 'more than 1 spatial element', '(2, 3, 1)' },
    { 'a shape that is not trailing', function() F.layer_norm(x, { 3 }) end, 'normalized_shape', '(2, 3, 4)', '(3)' },
    { 'too long a shape', function() F.layer_norm(x, { 2, 2, 3, 4 }) end, 'normalized_shape' },
    { 'an empty shape', function() F.layer_norm(x, {}) end, 'normalized_shape' },
    { 'a shape of strings', function() F.rms_norm(x, { 'a' }) end, 'normalized_shape' },
    { 'a bias in rms_norm', function() F.rms_norm(x, 4, { bias = torch.ones(4) }) end, "unknown option 'bias'" },
    { 'a released tensor', function()
      local t = torch.zeros(2, 3)
      t:release()
      F.batch_norm(t, nil, nil, { training = true })
    end, 'released' },
  }
  for _, case in ipairs(cases) do
    it(case[1], function() assert.fails(case[2], unpack(case, 3)) end)
  end
end)

describe('the norm kernels', function()
  local K = require('masked_torch.native').cpu
  local ffi = require 'ffi'
  local x, stats = torch.ones(2, 3, 4), torch.zeros(3, 3, { dtype = 'float64' })
  local function refused(status, text)
    assert.equal(K.MT_ERROR_ARGUMENT, status)
    local message = ffi.string(K.mt_last_error())
    assert.is_true(message:find(text, 1, true) ~= nil, message)
  end

  it('check what a C program passes', function()
    refused(K.mt_norm_batch_forward(nil, stats._c, nil, nil, x._c, nil, nil, nil, 1, 0.1, 1e-5, -1, 0), 'output')
    refused(K.mt_norm_batch_forward(x._c, stats._c, nil, nil, x._c, nil, nil, nil, 1, 0.1, 1e-5, -1, 0), 'shares memory')
    local y = torch.ones(2, 3, 4)
    refused(K.mt_norm_batch_forward(y._c, nil, nil, nil, x._c, nil, nil, nil, 1, 0.1, 1e-5, -1, 0), 'stats')
    refused(K.mt_norm_batch_forward(y._c, stats._c, nil, nil, x._c, nil, nil, nil, 3, 0.1, 1e-5, -1, 0), 'mask')
    refused(K.mt_norm_batch_forward(y._c, stats._c, nil, nil, nil, nil, nil, nil, 1, 0.1, 1e-5, -1, 0), 'input')
    refused(K.mt_norm_batch_backward(y._c, nil, nil, nil, x._c, nil, nil, nil, stats._c, 1, -1, 0), 'gradient')
    refused(K.mt_norm_group_forward(y._c, stats._c, nil, nil, x._c, nil, nil, nil, 0, 1e-5, -1, 0), 'stats')
    refused(K.mt_norm_layer_forward(y._c, stats._c, x._c, nil, nil, nil, 1e-5, -1, 0), 'stats')
    refused(K.mt_norm_layer_forward(y._c, nil, x._c, nil, nil, nil, 1e-5, -1, 0), 'stats')
    refused(K.mt_norm_layer_forward(y._c, torch.zeros(2, 3, 4, 3, { dtype = 'float64' })._c, x._c, nil, nil, nil, 1e-5, -1, 0),
      'normalized_shape')
  end)

  it('give back their scratch memory, also when there is none', function()
    local y = torch.ones(2, 3, 4)
    assert.equal(3, starve(function()
      return K.mt_norm_batch_forward(y._c, stats._c, nil, nil, x._c, nil, nil, nil, 1, 0.1, 1e-5, -1, 0)
    end))
  end)
end)
