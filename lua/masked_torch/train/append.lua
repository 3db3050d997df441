--- append: a file that grows record by record. Every record reaches the system whole when write returns, so that a killed
-- program loses none; what a crash of the machine may take ends at the last flush.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local file = require 'masked_torch.io.file'

if not pcall(function() return ffi.C.fileno end) then
  ffi.cdef 'int fileno(void *stream); int fsync(int fd);'
end

local Append = class('Append')

local function check(self, ok, reason)
  if not ok then
    -- "path: reason" already when the file could not be opened
    reason = tostring(reason):gsub('^' .. self.path:gsub('%p', '%%%0') .. ': ', '')
    native.fail('%s: %s: %s', self.op, self.path, reason)
  end
  return ok
end

--- append.open(op, path, [mode = 'ab']): makes the folders that are missing. Errors name op, the path and the system's reason.
function Append:__init(op, path, mode)
  file.check_path(op, path)
  file.make_folders(op, path)
  self.op, self.path = op, path
  self.handle = check(self, io.open(path, mode or 'ab'))
  self.handle:setvbuf('full')
end

function Append:write(bytes)
  if not self.handle then native.fail('%s: %s: the file is closed', self.op, self.path) end
  check(self, self.handle:write(bytes))
  check(self, self.handle:flush())
end

-- Compiled, a write or flush that fails leaves the trace and is done again by the interpreter; the buffer is gone by then, and so
-- is the error.
jit.off(Append.write)

--- append:sync(): onto the disk.
function Append:sync()
  if self.handle then ffi.C.fsync(ffi.C.fileno(self.handle)) end
end

function Append:close()
  if not self.handle then return end
  self:sync()
  local handle = self.handle
  self.handle = nil
  check(self, handle:close())
end

return { open = Append }
