--- gzip: compressed files through zlib.
--
-- What a gzip file unpacks to is not known before it is unpacked, so the caller says how much it expects at most: a small file
-- that unpacks to terabytes is an error, not an allocation.

local ffi = require 'ffi'
local file = require 'masked_torch.io.file'
local native = require 'masked_torch.native'
local system = require 'masked_torch.native.system'

local gzip = {}

if not pcall(ffi.typeof, 'mt_z_stream') then
  ffi.cdef [[
    typedef struct {
      const uint8_t *next_in; unsigned int avail_in; unsigned long total_in;
      uint8_t *next_out; unsigned int avail_out; unsigned long total_out;
      const char *msg; void *state, *zalloc, *zfree, *opaque; int data_type; unsigned long adler, reserved;
    } mt_z_stream;
    const char *zlibVersion(void);
    int inflateInit2_(mt_z_stream *stream, int window_bits, const char *version, int stream_size);
    int inflate(mt_z_stream *stream, int flush);
    int inflateReset(mt_z_stream *stream);
    int inflateEnd(mt_z_stream *stream);
  ]]
end

local library
local function lib(op)
  library = library or system.open{ 'libz.so.1', 'z' }
  if not library then native.fail('%s: zlib was not found; on Debian and Ubuntu: apt install zlib1g', op) end
  return library
end

local OK, STREAM_END, NEED_DICT, MEM_ERROR, BUF_ERROR = 0, 1, 2, -4, -5
local PIECE = 65536

--- gzip.is_gzip(f): whether the open file (io/file.lua) begins like a gzip file.
function gzip.is_gzip(f) return f.size >= 2 and f:read(0, 2) == '\31\139' end

local Reader = {}
Reader.__index = Reader

-- The next piece of the compressed file.
local function feed(r)
  local n = math.min(PIECE, r.f.size - r.at)
  if n > 0 then r.f:read_into(r.input, r.at, n) end
  r.at = r.at + n
  r.stream.next_in, r.stream.avail_in = r.input, n
  return n > 0
end

--- reader(pointer, count): unpacks count bytes to memory; fewer left is an error.
function Reader:__call(pointer, count)
  local got = self:some(pointer, count)
  if got < count then
    self.f:fail(nil, 'the unpacked data ends after %.0f bytes, %.0f more were expected', self.total, count - got)
  end
end

--- reader:some(pointer, count): unpacks at most count bytes; returns how many there were.
function Reader:some(pointer, count)
  local L, s, done = self.L, self.stream, 0
  local out = ffi.cast('uint8_t *', pointer)
  while done < count and not self.finished do
    if s.avail_in == 0 and not feed(self) then self.f:fail(self.f.size, 'the file is cut off: the compressed data has no end') end
    local room = math.min(count - done, 2 ^ 30)
    s.next_out, s.avail_out = out + done, room
    local status = L.inflate(s, 0)
    local made = room - s.avail_out
    done, self.total = done + made, self.total + made
    if status == STREAM_END then
      -- Another member may follow: their contents are joined.
      if s.avail_in == 0 then feed(self) end
      if s.avail_in == 0 then
        self.finished = true
      elseif L.inflateReset(s) ~= OK then
        self.f:fail(nil, 'zlib failed')
      end
    elseif status == MEM_ERROR then
      self.f:fail(nil, 'zlib: out of memory')
    elseif status ~= OK and status ~= BUF_ERROR or status == NEED_DICT then
      self.f:fail(self.at - s.avail_in, 'the compressed data is damaged%s',
        s.msg ~= nil and (': %s'):format(ffi.string(s.msg)) or '')
    end
  end
  return done
end

--- gzip.with(f, fn): fn(reader) unpacks the open file f.
function gzip.with(f, fn)
  local L = lib(f.op)
  local s = ffi.new('mt_z_stream')
  if L.inflateInit2_(s, 15 + 16, L.zlibVersion(), ffi.sizeof('mt_z_stream')) ~= OK then f:fail(nil, 'zlib failed') end
  local reader = setmetatable({ f = f, L = L, stream = s, input = ffi.new('uint8_t[?]', PIECE), at = 0, total = 0 }, Reader)
  local result = { pcall(fn, reader) }
  L.inflateEnd(s)
  if not result[1] then error(result[2], 0) end
  return unpack(result, 2, 4)
end

--- gzip.read(op, path, limit): the unpacked content as a Lua string; more than `limit` bytes is an error.
function gzip.read(op, path, limit)
  return file.with(op, path, function(f)
    if not gzip.is_gzip(f) then f:fail(0, 'not a gzip file') end
    return gzip.with(f, function(reader)
      local parts, total, buffer = {}, 0, ffi.new('uint8_t[?]', PIECE)
      while true do
        local n = reader:some(buffer, PIECE)
        if n == 0 then return table.concat(parts) end
        total = total + n
        if total > limit then f:fail(nil, 'it unpacks to more than the limit of %.0f bytes', limit) end
        parts[#parts + 1] = ffi.string(buffer, n)
      end
    end)
  end)
end

return gzip
