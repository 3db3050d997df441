-- Run by conv_groups_spec.lua in a process of its own: luajit conv_groups_isa.lua TESTS/. Prints the instruction set in use, how many
-- results are wrong beside float64 (an error above 2e-6 of the largest), and a digest of all result bits.
local tests = arg[1]
package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local cases = require 'support.conv_groups'

local checksum, wrong, count = {}, {}, 0
for _, case in ipairs(cases.list) do
  local single, double = cases.run(case, 'float32'), cases.run(case, 'float64')
  for _, key in ipairs { 'y', 'dx', 'dw', 'masked', 'masked_dx', 'masked_dw' } do
    local t, e = single[key], double[key]
    local largest = math.max(1, e:abs():max():item())
    local err = (t:to { dtype = 'float64' } - e):abs():max():item() / largest
    if not (err <= 2e-6) then wrong[#wrong + 1] = ('%s %s %g'):format(case[1], key, err) end
    checksum[#checksum + 1] = ('%.17g'):format((t:to { dtype = 'float64' } * cases.weights(t)):sum():item())
    count = count + 1
  end
end
print(('isa %s results %d wrong %d %s'):format(ffi.string(native.cpu.mt_isa()), count, #wrong, table.concat(wrong, ', ')))
print(table.concat(checksum, ' '))
assert(torch.get_num_threads() >= 1)
