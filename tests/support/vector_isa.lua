-- Run by vector_math_spec.lua in a process of its own: luajit vector_isa.lua TESTS/. Prints the instruction set in use and a checksum of
-- the results and gradients of every function.
local tests = arg[1]
package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local vector_functions = require 'support.vector_functions'

-- NaN has many patterns, and which of them comes out is nobody's promise.
local function bits(t)
  t = torch.where(t:isnan(), torch.zeros_like(t), t)
  return ('%08x'):format(tonumber(native.cpu.mt_checksum_crc32c(0, t._c.data, t:numel() * 4, 0)))
end

local x = vector_functions.sweep()
local names, line = {}, { ffi.string(native.cpu.mt_isa()) }
for name in pairs(vector_functions.functions) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local leaf = x:clone():requires_grad_()
  local y = vector_functions.functions[name][2](leaf)
  y:backward(torch.ones_like(y))
  line[#line + 1] = name:gsub('%W', '') .. ':' .. bits(y:detach()) .. bits(leaf.grad)
end
print(table.concat(line, ' '))
