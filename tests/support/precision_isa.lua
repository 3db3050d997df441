-- Run by matmul_precision_spec.lua in a process of its own: luajit precision_isa.lua TESTS/. Prints the instruction set in use and
-- a digest of products of bfloat16 operands.
local tests = arg[1]
package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local sha256 = require 'masked_torch.io.sha256'
local F = torch.nn.functional

local parts = {}
local function add(t)
  t = t:contiguous()
  parts[#parts + 1] = ffi.string(t._c.data, t:numel() * 4)
end

torch.manual_seed(3)
torch.set_float32_matmul_precision 'medium'
for _, size in ipairs { { 1, 1, 1 }, { 3, 7, 5 }, { 130, 300, 513 }, { 29, 65, 1030 } } do
  local rows, out, k = unpack(size)
  local x, w, b = torch.randn(rows, k):requires_grad_(), torch.randn(out, k):requires_grad_(), torch.randn(out)
  local y = F.linear(x, w, b)
  y:backward(torch.randn(rows, out))
  add(y:detach())
  add(x.grad)
  add(w.grad)
  add(torch.randn(2, 3, rows, k):matmul(torch.randn(3, k, 9)))
end
-- Rows of positions whose number is odd; and values without a bfloat16: beyond its range, NaN, halves of its steps.
local x, w = torch.randn(4, 7, 6), torch.randn(3, 6):requires_grad_()
F.linear(x, w):backward(torch.randn(4, 7, 3))
add(w.grad)
local odd = torch.tensor({ { 3.4e38, 1 }, { 1 / 0, 1 }, { 1.00390625, 1.01171875 }, { 1e-39, 1 } })
add(torch.where(odd:mm(torch.eye(2)):isnan(), torch.zeros(4, 2), odd:mm(torch.eye(2))))
print('isa ' .. ffi.string(native.cpu.mt_isa()) .. ' digest ' .. sha256(table.concat(parts)))
