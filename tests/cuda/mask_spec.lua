--- Masks on a device: construction, what they hold, and the errors, against the CPU.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local ffi = require 'ffi'
local devices = require 'support.device'

local device = devices.name

local function scan(t)
  local shape = t:size()
  shape[2] = 1
  local valid = torch.zeros(shape, { dtype = 'bool', device = t.device })
  local kinds = torch.zeros(shape, { dtype = 'uint8', device = t.device })
  local counts = ffi.new('int64_t[4]')
  native.check(t.K.mt_mask_kinds(valid._c, kinds._c, counts, t._c))
  return valid:cpu():totable(), kinds:cpu():totable(),
    { tonumber(counts[0]), tonumber(counts[1]), tonumber(counts[2]), tonumber(counts[3]) }
end

local function summary(t)
  local valid = torch.zeros({ t:size(1) }, { dtype = 'float64', device = t.device })
  local sum = torch.zeros({ t:size(1) }, { dtype = 'float64', device = t.device })
  local all = ffi.new('int32_t[1]')
  native.check(t.K.mt_mask_summary(valid._c, sum._c, all, t._c))
  return valid:cpu():totable(), sum:cpu():totable(), tonumber(all[0])
end

-- Quarters, so that sums are exact in any order; planes of zeros, ones, equal and mixed channels.
local function soft(n, c, h, w)
  local t = torch.zeros(n, c, h, w)
  for a = 1, n do for b = 1, h do for d = 1, w do
    local kind = (a * 7 + b * 3 + d * 5) % 4
    for e = 1, c do
      t[{ a, e, b, d }] = kind == 0 and 0 or kind == 1 and 1 or kind == 2 and 0.25 or (e % 3) * 0.5
    end
  end end end
  return t
end

devices.describe('masks', function()
  it('hold what they hold on the CPU', function()
    for _, shape in ipairs { { 2, 1, 5, 7 }, { 3, 5, 3, 33 }, { 1, 40, 4, 3 }, { 2, 64, 1, 65 }, { 0, 1, 3, 3 }, { 2, 0, 3, 3 } } do
      local t = soft(unpack(shape))
      for _, dtype in ipairs { 'float32', 'float64', 'bool' } do
        local host = t:to{ dtype = dtype }
        for _, m in ipairs { host:to(device), host:transpose(3, 4):to(device):transpose(3, 4) } do
          assert.are.same({ scan(host) }, { scan(m) })
          if shape[2] > 0 then assert.are.same({ summary(host) }, { summary(m) }) end
        end
      end
    end
    assert.are.same({ { 12 }, { 12 }, 1 }, { summary(torch.ones(1, 3, 4):to(device)) })
  end)

  it('have sums that zeros at the end of an axis leave alone', function()
    local m = torch.rand(2, 3, 5, 37):to(device)
    local wide = torch.zeros(2, 3, 9, 80):to(device)
    wide[{ {}, {}, { 1, 5 }, { 1, 37 } }] = m
    local _, a = summary(m)
    local _, b = summary(wide)
    assert.are.same(a, b)
  end)

  it('refuse values outside 0..1 with the first one and its sample', function()
    for _, read in ipairs { scan, summary } do
      local t = torch.ones(3, 2, 4, 5)
      t[{ 2, 2, 3, 1 }] = 0 / 0
      t[{ 3, 1, 1, 1 }] = 7
      assert.error_matches(function() read(t:to(device)) end, 'expected values from 0 to 1, got %-?nan in sample 2')
      t[{ 2, 1, 1, 2 }] = 1.5
      assert.error_matches(function() read(t:to(device)) end, 'got 1.5 in sample 2')
    end
  end)

  it('are built of lengths and boxes', function()
    for _, make in ipairs {
      function(d) return torch.mask.lengths(torch.tensor({ 0, 3, 5 }, { dtype = 'int64', device = d }), 5) end,
      function(d) return torch.mask.lengths(torch.tensor({ 0, 3, 5 }, { dtype = 'int64', device = d }), 5, { align = 'right' }) end,
      function(d) return torch.mask.boxes(torch.tensor({ { 0, 3 }, { 2, 4 } }, { dtype = 'int64', device = d }), { 3, 4 }) end,
    } do
      local want, got = make('cpu'):tensor('bool'), make(device):tensor('bool')
      assert.are.equal(device:match('^%a+'), got.device:match('^%a+'))
      assert.are.same(want:totable(), got:cpu():totable())
      assert.are.same(want:totable(), make(device):tensor('float32'):cpu():to{ dtype = 'bool' }:totable())
    end
    local t = torch.zeros({ 2, 1, 4 }, { dtype = 'float32', device = device })
    local lengths = torch.tensor({ 1, 9 }, { dtype = 'int64', device = device })
    assert.error_matches(function()
      native.check(t.K.mt_mask_lengths(t._c, lengths._c, 0))
      torch.cuda.synchronize()
    end, 'mask.lengths: lengths: 9 of sample 2 is outside 0%.%.4')
  end)
end)
