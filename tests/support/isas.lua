--- isas(name) -> { {isa, text}, ... }: what tests/support/<name>.lua prints in a process of its own for each build of the kernels, the
-- widest first. It is given the folder of the tests.
local interpreter = require 'support.interpreter'

local here = debug.getinfo(1, 'S').source:match('^@(.*)support/isas%.lua$')

return function(name)
  local printed = {}
  for i, isa in ipairs { 'avx512', 'avx2', 'portable' } do
    local pipe = assert(io.popen(("MASKED_TORCH_ISA=%s %s '%ssupport/%s.lua' '%s' 2>&1"):format(isa, interpreter, here, name, here)))
    printed[i] = { isa, pipe:read('*a') }
    pipe:close()
  end
  return printed
end
