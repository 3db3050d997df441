--- page_child: executes pages in a process and a folder of its own: luajit page_child.lua ROOT KIND FILE...; KIND is `page` or
-- `examples` (of Lua files). Prints problems, one per line or more, and at last "N blocks".
local root, kind = arg[1], arg[2]
package.path = './?.lua;' .. root .. '/lua/?.lua;' .. root .. '/lua/?/init.lua;' .. root .. '/tests/?.lua;' .. package.path
local ffi = require 'ffi'
local page = require 'support.page'
if os.getenv 'MASKED_TORCH_CONFIG' == 'sanitize' then     -- the programs that pages run are not to be instrumented; see tests/run.lua
  ffi.cdef 'int unsetenv(const char *);'
  ffi.C.unsetenv 'LD_PRELOAD'
end
ffi.cdef 'int dup(int); int dup2(int, int); int open(const char *, int, ...); int close(int); int64_t write(int, const char *, size_t);'
local C = ffi.C

-- What is written to standard output goes to a file from here on; reports go to where standard output was.
local out = os.tmpname()
local report_to = C.dup(1)
assert(C.dup2(C.open(out, 1024 + 1), 1) == 1)      -- O_APPEND | O_WRONLY
local reader = assert(io.open(out, 'rb'))
local function capture(fn)
  fn()
  io.stdout:flush()
  return reader:read('*a') or ''
end
local function report(text) C.write(report_to, text .. '\n', #text + 1) end

local function write(path, text)
  local folder = path:match('^(.*)/')
  if folder then os.execute(("mkdir -p '%s'"):format(folder)) end
  local file = assert(io.open(path, 'w'))
  file:write(text)
  file:close()
end

-- In a copy of the tree every object depends on core/kernels.h. Its time stays what it was, so that only new files are compiled.
local lfs = require 'lfs'
local contract = lfs.symlinkattributes('core', 'mode') == 'directory' and lfs.attributes('core/kernels.h', 'modification')
local function after_shell()
  if contract then lfs.touch('core/kernels.h', contract) end
end

local torch = require 'masked_torch'
local function environment(fields)
  torch.manual_seed(0)
  math.randomseed(0)
  return setmetatable(fields or {}, { __index = _G })
end

local total = 0
for i = 3, #arg do
  local file = assert(io.open(arg[i], 'rb'))
  local text = file:read('*a')
  file:close()
  local name = arg[i]:gsub('^' .. root:gsub('%p', '%%%0') .. '/', '')
  if kind == 'page' then
    local blocks, problems = page.parse(text, name)
    for _, problem in ipairs(problems) do report(problem) end
    local n, failures = page.run(blocks, name, { environment = environment(), capture = capture, write = write,
      after_shell = after_shell, before_shell = ("config=%s LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;'")
        :format(os.getenv 'MASKED_TORCH_CONFIG' or 'release', root, root) })
    for _, problem in ipairs(failures) do report(problem) end
    total = total + n
  else
    for _, block in ipairs(page.examples(text)) do
      local n, failures = page.run({ block }, name, { capture = capture, write = write, environment = environment{ torch = torch,
        nn = torch.nn, F = torch.nn.functional } })
      for _, problem in ipairs(failures) do report(problem) end
      total = total + n
    end
  end
end
os.remove(out)
report(total .. ' blocks')
