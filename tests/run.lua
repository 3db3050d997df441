--- Runs the specs: luajit tests/run.lua [busted options] [files]; without files, all of tests/.
-- busted memoises ffi.typeof by its first argument and reloads modules for every file; both are wrong under LuaJIT's FFI,
-- so the first is switched off here and the second in .busted.
local root = arg[0]:match('^(.*)tests/run%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'tests/?.lua;' .. root .. 'tests/?/init.lua;' ..
  package.path
package.preload['busted.luajit'] = function() return function() end end
local ffi = require 'ffi'
if os.getenv 'MASKED_TORCH_CONFIG' == 'sanitize' then     -- see the Makefile
  ffi.cdef 'int unsetenv(const char *);'
  ffi.C.unsetenv 'LD_PRELOAD'
end
io.stdout:setvbuf('line')
require 'busted.runner' { standalone = false }
