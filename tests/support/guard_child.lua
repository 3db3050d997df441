--- A guarded loop: luajit tests/support/guard_child.lua FOLDER MODE. Writes FOLDER/started after its first step. MODE slow: saving
-- takes long (and writes FOLDER/saving first).
package.path = 'lua/?.lua;lua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local train = torch.train
local path, mode = arg[1], arg[2]
local keep = train.checkpoint.folder(path)
local step = 0

local function mark(name) assert(io.open(path .. '/' .. name, 'w')):close() end

local guard = train.guard{ resume = 'luajit child.lua --resume', save = function()
  if mode == 'slow' then
    mark 'saving'
    local from = train.terminal.now()
    while train.terminal.now() - from < 20 do torch.ones(10):sum() end
  end
  keep:save{ step = step, sum = torch.ones(500000):sum():item() }
  return keep:path 'last'
end }
local x = torch.ones(2000000)
while true do
  -- Kernels that a cancel flag would stop.
  local y = x
  for _ = 1, 5 do y = y + 1 end
  assert(y:sum():item() == 12000000)
  step = step + 1
  if step == 1 then mark 'started' end
  guard:poll(step)
end
