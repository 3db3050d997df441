--- file: reading and writing whole files, strictly.
--
-- Only regular files are opened (a FIFO would hang, a directory or device is a mistake), reads never go past the size the
-- file had when it was opened, and a written file appears under its name complete or not at all: it is made beside its place
-- under another name, flushed to the disk, and renamed.

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local fail = native.fail
local file = {}

-- statx has one layout on every Linux; struct stat has not.
if not pcall(ffi.typeof, 'struct mt_statx') then
  ffi.cdef [[
    struct mt_statx {
      uint32_t mask, block_size; uint64_t attributes; uint32_t links, user, group; uint16_t mode, pad;
      uint64_t inode, size; uint8_t rest[208];
    };
    int statx(int fd, const char *path, int flags, unsigned int mask, struct mt_statx *out);
    int open(const char *path, int flags, ...);
    int close(int fd);
    int64_t pread64(int fd, void *bytes, size_t count, int64_t offset);
    int64_t write(int fd, const void *bytes, size_t count);
    int fsync(int fd);
    int fchmod(int fd, unsigned int mode);
    int rename(const char *from, const char *to);
    int unlink(const char *path);
    int link(const char *from, const char *to);
    int mkdir(const char *path, unsigned int mode);
    int getpid(void);
    char *strerror(int number);
  ]]
end
local C = ffi.C

local arm = ffi.arch:find('arm') ~= nil
local READ = 0x80000 + 0x800                                        -- O_RDONLY | O_CLOEXEC | O_NONBLOCK
local WRITE_NEW = 0x1 + 0x40 + 0x80 + 0x80000 + (arm and 0x8000 or 0x20000)  -- O_WRONLY|CREAT|EXCL|CLOEXEC|NOFOLLOW
local DIRECTORY = 0x80000 + (arm and 0x4000 or 0x10000)
local EINTR, EEXIST, ENOENT = 4, 17, 2
local AT_FDCWD, AT_EMPTY_PATH, TYPE_MODE_SIZE = -100, 0x1000, 0x203
local S_IFMT, S_IFREG = 0xf000, 0x8000
local kinds = { [0x1000] = 'a FIFO', [0x2000] = 'a device', [0x4000] = 'a folder', [0x6000] = 'a device',
  [0xa000] = 'a link', [0xc000] = 'a socket' }

local function reason() return ffi.string(C.strerror(ffi.errno())) end

--- A path is a string without zero bytes.
function file.check_path(op, path)
  if type(path) ~= 'string' or path == '' then
    fail('%s: path: expected a file name, got %s', op, path == '' and "''" or type(path))
  elseif path:find('%z') then
    fail('%s: path: a file name cannot hold a zero byte', op)
  end
  return path
end

-- ---- reading ---------------------------------------------------------------------------------------------------

local File = {}
File.__index = File

--- file.with(op, path, fn): fn(f) with the open file, closed afterwards whatever happens; f.size is its length in bytes.
-- Errors name the operation and the path.
function file.with(op, path, fn)
  file.check_path(op, path)
  local fd = C.open(path, READ)
  if fd < 0 then fail('%s: %s: %s', op, path, reason()) end
  local f = setmetatable({ fd = fd, op = op, path = path }, File)
  local function body()
    local stat = ffi.new('struct mt_statx')
    if C.statx(fd, '', AT_EMPTY_PATH, TYPE_MODE_SIZE, stat) ~= 0 then f:fail(nil, '%s', reason()) end
    local kind = bit.band(stat.mode, S_IFMT)
    if kind ~= S_IFREG then f:fail(nil, 'expected a regular file, it is %s', kinds[kind] or 'something else') end
    f.size = tonumber(stat.size)
    return fn(f)
  end
  local result = { pcall(body) }
  C.close(fd)
  if not result[1] then error(result[2], 0) end
  return unpack(result, 2, 4)
end

--- An error that names the operation, the path and the byte (0-based offset; nil when there is none).
function File:fail(offset, format, ...)
  local text = select('#', ...) > 0 and format:format(...) or format
  fail('%s: %s: %s%s', self.op, self.path, offset and ('byte %d: '):format(offset) or '', text)
end

--- Reads count bytes at offset into memory at `pointer`.
function File:read_into(pointer, offset, count)
  if offset < 0 or count < 0 or offset + count > self.size then
    self:fail(offset, 'the file ends at byte %d, %d more bytes were expected', self.size, offset + count - self.size)
  end
  local bytes = ffi.cast('uint8_t *', pointer)
  local done = 0
  while done < count do
    local n = tonumber(C.pread64(self.fd, bytes + done, count - done, offset + done))
    if n > 0 then
      done = done + n
    elseif n == 0 then
      self:fail(offset + done, 'the file became shorter while it was read')
    elseif ffi.errno() ~= EINTR then
      self:fail(offset + done, '%s', reason())
    end
  end
end

--- The same as a Lua string.
function File:read(offset, count)
  if offset + count > self.size then
    self:fail(offset, 'the file ends at byte %d, %d more bytes were expected', self.size, offset + count - self.size)
  end
  local bytes = ffi.new('uint8_t[?]', math.max(1, count))
  self:read_into(bytes, offset, count)
  return ffi.string(bytes, count)
end

--- The whole file as a Lua string; longer than `limit` bytes is an error.
function file.read(op, path, limit)
  return file.with(op, path, function(f)
    if limit and f.size > limit then f:fail(nil, 'it has %d bytes, the limit is %d', f.size, limit) end
    return f:read(0, f.size)
  end)
end

-- ---- writing ---------------------------------------------------------------------------------------------------

local Writer = {}
Writer.__index = Writer

--- writer(bytes, count): appends count bytes from a pointer, or a string.
function Writer:__call(bytes, count)
  count = count or #bytes
  local pointer = ffi.cast('const uint8_t *', bytes)
  local done = 0
  while done < count do
    local n = tonumber(C.write(self.fd, pointer + done, count - done))
    if n >= 0 then
      done = done + n
    elseif ffi.errno() ~= EINTR then
      fail('%s: %s: %s', self.op, self.path, reason())
    end
  end
end

local counter = 0

local function open_beside(op, path)
  for _ = 1, 100 do
    counter = counter + 1
    local name = ('%s.%d-%d.tmp'):format(path, C.getpid(), counter)
    local fd = C.open(name, WRITE_NEW, ffi.cast('unsigned int', 438))    -- rw-rw-rw- less the umask
    if fd >= 0 then return fd, name end
    if ffi.errno() ~= EEXIST then fail('%s: %s: %s', op, path, reason()) end
  end
  fail('%s: %s: too many temporary files beside it', op, path)
end

local function sync_folder(path)
  local folder = path:match('^(.*)/[^/]*$')
  if folder == '' then folder = '/' end
  local fd = C.open(folder or '.', DIRECTORY)
  if fd >= 0 then
    C.fsync(fd)
    C.close(fd)
  end
end

--- file.write(op, path, fn): fn(write) writes the content. The file is whole or unchanged: on any error the old one, or none,
-- is still there. An existing file's permissions are kept; a folder or device of that name is an error.
function file.write(op, path, fn)
  file.check_path(op, path)
  local stat = ffi.new('struct mt_statx')
  local mode
  if C.statx(AT_FDCWD, path, 0, TYPE_MODE_SIZE, stat) == 0 then
    local kind = bit.band(stat.mode, S_IFMT)
    if kind ~= S_IFREG then fail('%s: %s: expected a regular file, it is %s', op, path, kinds[kind] or 'something else') end
    mode = bit.band(stat.mode, 0x1ff)
  elseif ffi.errno() ~= ENOENT then
    fail('%s: %s: %s', op, path, reason())
  end
  local fd, temporary = open_beside(op, path)
  local ok, message = pcall(function()
    if mode then C.fchmod(fd, mode) end
    fn(setmetatable({ fd = fd, op = op, path = path }, Writer))
    if C.fsync(fd) ~= 0 then fail('%s: %s: %s', op, path, reason()) end
  end)
  local closed = C.close(fd)
  if ok and closed ~= 0 then ok, message = false, ('%s: %s: %s'):format(op, path, reason()) end
  if ok and C.rename(temporary, path) ~= 0 then ok, message = false, ('%s: %s: %s'):format(op, path, reason()) end
  if not ok then
    C.unlink(temporary)
    error(message, 0)
  end
  sync_folder(path)
end

--- file.link(op, from, to): `to` becomes a second name of the file `from`, atomically, in place of what had that name. False, and
-- nothing has changed, where the file system has no hard links.
function file.link(op, from, to)
  file.check_path(op, from)
  file.check_path(op, to)
  counter = counter + 1
  local name = ('%s.%d-%d.tmp'):format(to, C.getpid(), counter)
  C.unlink(name)
  if C.link(from, name) ~= 0 then return false end
  if C.rename(name, to) ~= 0 then
    local message = reason()
    C.unlink(name)
    fail('%s: %s: %s', op, to, message)
  end
  C.unlink(name)     -- rename does nothing where both already are one file
  sync_folder(to)
  return true
end

--- file.remove_abandoned(op, folder, names): removes the temporary files of these names that processes which no longer run left
-- in a folder when they were killed. Call it before the first write of this process there.
function file.remove_abandoned(op, folder, names)
  file.check_path(op, folder)
  local listed, lfs = pcall(require, 'lfs')
  if not listed or not lfs.attributes(folder) then return end
  for entry in lfs.dir(folder) do
    local name, pid = entry:match('^(.*)%.(%d+)%-%d+%.tmp$')
    for _, known in ipairs(names) do
      if name == known and (tonumber(pid) == C.getpid() or not lfs.attributes('/proc/' .. pid)) then
        C.unlink(folder .. '/' .. entry)
      end
    end
  end
end

--- file.make_folders(op, path): makes the folders that lead to the file `path`, where they are missing.
function file.make_folders(op, path)
  file.check_path(op, path)
  for position in path:gmatch('()/') do
    local folder = path:sub(1, position - 1)
    if folder ~= '' and C.mkdir(folder, 511) ~= 0 and ffi.errno() ~= EEXIST then
      fail('%s: %s: %s', op, folder, reason())
    end
  end
end

return file
