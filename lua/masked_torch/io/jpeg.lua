--- jpeg: reading pictures through libturbojpeg.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local system = require 'masked_torch.native.system'
local file = require 'masked_torch.io.file'
local pixels = require 'masked_torch.io.pixels'

local jpeg = {}

if not pcall(ffi.typeof, 'mt_jpeg_declared') then
  ffi.cdef [[
    typedef int mt_jpeg_declared;
    void *tjInitDecompress(void);
    int tjDecompressHeader3(void *handle, const unsigned char *bytes, unsigned long size, int *width, int *height,
      int *subsampling, int *colorspace);
    int tjDecompress2(void *handle, const unsigned char *bytes, unsigned long size, unsigned char *out, int width, int pitch,
      int height, int pixel_format, int flags);
    char *tjGetErrorStr2(void *handle);
    int tjDestroy(void *handle);
  ]]
end

local library
local function lib()
  library = library or system.open{ 'libturbojpeg.so.0', 'turbojpeg' }
  if not library then
    native.fail('jpeg.load: libturbojpeg was not found; on Debian and Ubuntu: apt install libturbojpeg0 (or convert the ' ..
      'picture to PNG)')
  end
  return library
end

local RGB, GRAY, GRAY_SPACE = 0, 6, 2
-- A truncated file is an error, not a gray area; files with thousands of progressive scans are attacks.
local STOP_ON_WARNING, LIMIT_SCANS = 8192, 32768

--- jpeg.load(path, {dtype = 'float32'}): (1, H, W) or (3, H, W), values in 0..1; 'uint8' gives 0..255. Limits as png.load.
function jpeg.load(path, opts)
  opts = pixels.options('jpeg.load', opts)
  local bytes = file.read('jpeg.load', path, pixels.BYTES)
  local L = lib()
  local handle = L.tjInitDecompress()
  if handle == nil then native.fail('jpeg.load: libturbojpeg could not start') end
  local function bad(message) native.fail('jpeg.load: %s: %s', path, message) end
  local function check(status) if status ~= 0 then bad(ffi.string(L.tjGetErrorStr2(handle))) end end
  local ok, t = pcall(function()
    local width, height, subsampling, space = ffi.new('int[1]'), ffi.new('int[1]'), ffi.new('int[1]'), ffi.new('int[1]')
    check(L.tjDecompressHeader3(handle, bytes, #bytes, width, height, subsampling, space))
    local channels = space[0] == GRAY_SPACE and 1 or 3
    pixels.check_size(bad, width[0], height[0], channels)
    local out = pixels.interleaved('jpeg.load', height[0], width[0], channels)
    check(L.tjDecompress2(handle, bytes, #bytes, out._c.data, width[0], 0, height[0], channels == 1 and GRAY or RGB,
      STOP_ON_WARNING + LIMIT_SCANS))
    return out
  end)
  L.tjDestroy(handle)
  if not ok then error(t, 0) end
  return pixels.planar('jpeg.load', t, opts.dtype)
end

return jpeg
