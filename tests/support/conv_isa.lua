-- Run by conv_spec.lua in a process of its own: luajit conv_isa.lua TESTS/. Prints the instruction set in use, the largest
-- relative error of float32 against float64, and a digest of all result bits.
local tests = arg[1]
package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path
local ffi = require 'ffi'
local bit = require 'bit'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local Random = require 'support.random'
local F, Tensor = torch.nn.functional, torch.Tensor

local function tensor(shape, values, dtype)
  local t = Tensor.empty('test', shape, dtype)
  local buffer = ffi.new('double[?]', #values)
  for i = 1, #values do buffer[i - 1] = tonumber(ffi.new('float', values[i])) end
  native.check(t.K.mt_tensor_write(t._c, buffer))
  return t
end

local function run(fn, shapes, opts, dtype)
  local random = Random.new(11)
  local inputs = {}
  for i, shape in ipairs(shapes) do inputs[i] = tensor(shape, random:normal(shape).values, dtype):requires_grad_() end
  local y = fn(inputs[1], inputs[2], inputs[3], opts)
  y:backward(tensor(y:size(), random:normal(y:size()).values, dtype))
  return { y:detach(), inputs[1].grad, inputs[2].grad, inputs[3].grad }
end

local digest = 1
local function read(t)
  local values = ffi.new('double[?]', t:numel())
  native.check(t.K.mt_tensor_read(values, t._c))
  local words = ffi.cast('uint32_t *', values)
  for i = 0, 2 * t:numel() - 1 do
    digest = bit.bxor(bit.rol(digest, 5), tonumber(words[i]) % 2 ^ 31) * 3 % 2 ^ 31
  end
  return values
end

local worst = 0
for _, case in ipairs {
  { F.conv2d, { { 2, 37, 11, 9 }, { 43, 37, 3, 3 }, { 43 } }, { padding = 1 } },      -- by the Winograd transform
  { F.conv2d, { { 1, 32, 48, 51 }, { 41, 32, 3, 3 }, { 41 } }, { padding = 1, stride = 2 } },   -- likewise
  { F.conv1d, { { 2, 300, 13 }, { 40, 300, 3 }, { 40 } }, { padding = 'causal' } },
  { F.conv2d, { { 2, 5, 9, 11 }, { 61, 5, 3, 3 }, { 61 } }, { padding = 1 } },
  { F.conv2d, { { 2, 19, 6, 7 }, { 5, 19, 3, 2 }, { 5 } }, { padding = 1, stride = 2 } },
  { F.conv2d, { { 2, 37, 6, 7 }, { 37, 1, 3, 3 }, { 37 } }, { padding = 1, groups = 37 } },
  { F.conv2d, { { 1, 12, 5, 5 }, { 9, 4, 3, 3 }, { 9 } }, { groups = 3 } },
  { F.conv1d, { { 2, 300, 8 }, { 14, 300, 3 }, { 14 } }, { padding = 'causal' } },
  { F.linear, { { 7, 33 }, { 50, 33 }, { 50 } } },
} do
  local single, double = run(case[1], case[2], case[3], 'float32'), run(case[1], case[2], case[3], 'float64')
  for k = 1, 4 do
    local a, e, d, s = read(single[k]), read(double[k]), 0, 0
    for i = 0, single[k]:numel() - 1 do
      d, s = d + (a[i] - e[i]) ^ 2, s + e[i] ^ 2
    end
    local err = math.sqrt(d / s)
    worst = err == err and math.max(worst, err) or math.huge
  end
end
print(('isa %s error %.3g digest %d'):format(ffi.string(native.cpu.mt_isa()), worst, digest))
