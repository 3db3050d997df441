--- png: pictures through libpng 1.6's simplified interface, which reports errors by value (no longjmp through Lua).

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local system = require 'masked_torch.native.system'
local file = require 'masked_torch.io.file'
local pixels = require 'masked_torch.io.pixels'

local png = {}

if not pcall(ffi.typeof, 'mt_png_image') then
  ffi.cdef [[
    typedef struct {
      void *opaque; uint32_t version, width, height, format, flags, colormap_entries, warning_or_error; char message[64];
    } mt_png_image;
    int png_image_begin_read_from_memory(mt_png_image *image, const void *memory, size_t size);
    int png_image_finish_read(mt_png_image *image, const void *background, void *buffer, int32_t row_stride, void *colormap);
    int png_image_write_to_memory(mt_png_image *image, void *memory, size_t *bytes, int convert_to_8_bit, const void *buffer,
      int32_t row_stride, const void *colormap);
    void png_image_free(mt_png_image *image);
  ]]
end

local library
local function lib(op)
  library = library or system.open{ 'libpng16.so.16', 'png16', 'png' }
  if not library then native.fail('%s: libpng 1.6 was not found; on Debian and Ubuntu: apt install libpng16-16', op) end
  return library
end

local ALPHA, COLOR = 1, 2
local format_of = { 0, ALPHA, COLOR, COLOR + ALPHA }      -- by number of channels
local FAILED = 2                                            -- bit of warning_or_error

local function image()
  local im = ffi.new('mt_png_image')
  im.version = 1
  return im
end

--- png.load(path, {dtype = 'float32'}): (C, H, W), values in 0..1; 'uint8' gives 0..255. C is 1 (gray), 2 (gray, alpha), 3 (RGB)
-- or 4 (RGB, alpha), as the file has it; palettes are expanded, 16 bits become 8. At most 16384 x 16384 pixels and 256 MiB.
function png.load(path, opts)
  opts = pixels.options('png.load', opts)
  local bytes = file.read('png.load', path, pixels.BYTES)
  local L = lib('png.load')
  local im = image()
  local function bad(message) native.fail('png.load: %s: %s', path, message) end
  if L.png_image_begin_read_from_memory(im, bytes, #bytes) == 0 then bad(ffi.string(im.message)) end
  local ok, t = pcall(function()
    local format = bit.band(im.format, ALPHA + COLOR)
    local channels = 1 + bit.band(format, ALPHA) + bit.band(format, COLOR)
    pixels.check_size(bad, im.width, im.height, channels)
    im.format = format
    local out = pixels.interleaved('png.load', im.height, im.width, channels)
    if L.png_image_finish_read(im, nil, out._c.data, 0, nil) == 0 or bit.band(im.warning_or_error, FAILED) ~= 0 then
      bad(ffi.string(im.message))
    end
    return out
  end)
  L.png_image_free(im)
  if not ok then error(t, 0) end
  return pixels.planar('png.load', t, opts.dtype)
end

-- The bytes of the file: a buffer and their number.
local function encode(op, t, bad)
  local packed = pixels.pack(op, t)
  local L = lib(op)
  local height, width, channels = packed:sizes()
  local im = image()
  im.width, im.height, im.format = width, height, format_of[channels]
  -- Incompressible rows with their filter bytes, zlib's overhead, the chunks around them: the longest result.
  local raw = (width * channels + 1) * height
  local size = ffi.new('size_t[1]', raw + math.floor(raw / 8) + math.floor(raw / 64) + 4096)
  local buffer = ffi.new('uint8_t[?]', size[0])
  local done = L.png_image_write_to_memory(im, buffer, size, 0, packed._c.data, 0, nil)
  local message = ffi.string(im.message)
  L.png_image_free(im)
  if done == 0 then bad(message) end
  return buffer, tonumber(size[0])
end

--- png.save(path, tensor): (C, H, W) with 1 to 4 channels or (H, W); floats in 0..1 (clamped, rounded to 1/255) or uint8.
-- The file is whole or absent.
function png.save(path, t)
  file.check_path('png.save', path)
  local buffer, size = encode('png.save', t, function(message) native.fail('png.save: %s: %s', path, message) end)
  file.write('png.save', path, function(write) write(buffer, size) end)
end

--- png.encode(tensor): the bytes of the file as a string.
function png.encode(t)
  local buffer, size = encode('png.encode', t, function(message) native.fail('png.encode: %s', message) end)
  return ffi.string(buffer, size)
end

return png
