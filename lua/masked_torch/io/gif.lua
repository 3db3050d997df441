--- gif: animations through giflib 5 (libgif.so.7), one line of pixels at a time: nothing but this file's own buffers grows with the
-- picture, and giflib's functions that keep whole files are not used.

local ffi = require 'ffi'
local bit = require 'bit'
local native = require 'masked_torch.native'
local system = require 'masked_torch.native.system'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local palette = require 'masked_torch.io.palette'
local pixels = require 'masked_torch.io.pixels'

local fail = native.fail
local gif = {}

if not pcall(ffi.typeof, 'mt_gif_file') then
  ffi.cdef [[
    typedef struct { uint8_t red, green, blue; } mt_gif_color;
    typedef struct { int count, bits; bool sorted; mt_gif_color *colors; } mt_gif_map;
    typedef struct {
      int width, height, resolution, background; uint8_t aspect; mt_gif_map *map; int images;
      struct { int left, top, width, height; bool interlace; mt_gif_map *map; } image;
      void *saved; int blocks; void *block; int error; void *user, *own;
    } mt_gif_file;
    mt_gif_map *GifMakeMapObject(int count, const mt_gif_color *colors);
    void GifFreeMapObject(mt_gif_map *map);
    const char *GifErrorString(int error);
    mt_gif_file *EGifOpenFileHandle(int fd, int *error);
    void EGifSetGifVersion(mt_gif_file *gif, bool gif89);
    int EGifPutScreenDesc(mt_gif_file *gif, int width, int height, int resolution, int background, const mt_gif_map *map);
    int EGifPutExtensionLeader(mt_gif_file *gif, int code);
    int EGifPutExtensionBlock(mt_gif_file *gif, int size, const void *bytes);
    int EGifPutExtensionTrailer(mt_gif_file *gif);
    int EGifPutExtension(mt_gif_file *gif, int code, int size, const void *bytes);
    int EGifPutImageDesc(mt_gif_file *gif, int left, int top, int width, int height, bool interlace, const mt_gif_map *map);
    int EGifPutLine(mt_gif_file *gif, uint8_t *line, int size);
    int EGifCloseFile(mt_gif_file *gif, int *error);
    mt_gif_file *DGifOpenFileHandle(int fd, int *error);
    int DGifGetRecordType(mt_gif_file *gif, int *kind);
    int DGifGetImageDesc(mt_gif_file *gif);
    int DGifGetLine(mt_gif_file *gif, uint8_t *line, int size);
    int DGifGetExtension(mt_gif_file *gif, int *code, uint8_t **bytes);
    int DGifGetExtensionNext(mt_gif_file *gif, uint8_t **bytes);
    int DGifCloseFile(mt_gif_file *gif, int *error);
    int memfd_create(const char *name, unsigned int flags);
    int dup(int fd);
    int64_t lseek64(int fd, int64_t offset, int whence);
  ]]
end
local C = ffi.C

local library
local function lib(op)
  library = library or system.open{ 'libgif.so.7' }      -- only this version: another one's structures may differ
  if not library then fail('%s: libgif 5 was not found; on Debian and Ubuntu: apt install libgif7', op) end
  return library
end

-- giflib fails without a number now and then.
local function reason(L, number)
  local text = L.GifErrorString(number)
  return text ~= nil and ffi.string(text) or 'the file is damaged'
end

local GRAPHICS, APPLICATION = 0xf9, 0xff                       -- codes of extensions
local IMAGE, EXTENSION, END = 2, 3, 4                            -- kinds of records
local LONGEST = 655.35                                          -- seconds: 16 bits of hundredths

-- ---- writing: arguments ------------------------------------------------------------------------------------------

local function frames_of(op, frames)
  if Tensor.is_tensor(frames) then
    if frames:dim() ~= 4 then fail('%s: frames: expected (frames, channels, height, width), got %s', op, Tensor.shape_text(frames)) end
    local list = {}
    for i = 1, frames:size(1) do list[i] = frames:select(1, i) end
    frames = list
  elseif type(frames) ~= 'table' then
    fail('%s: frames: expected a table of tensors or a tensor (frames, channels, height, width), got %s', op, type(frames))
  end
  if #frames == 0 then fail('%s: frames: there is none', op) end
  return frames
end

-- In hundredths of a second, one per frame.
local function delays_of(op, delay, n)
  local list = {}
  if type(delay) == 'table' and not delay._c then
    if #delay ~= n then fail('%s: delay: expected a number or %d of them, got %d', op, n, #delay) end
  elseif type(delay) ~= 'number' then
    fail('%s: delay: expected seconds or a table of seconds, got %s', op, type(delay) == 'table' and 'a tensor' or type(delay))
  end
  for i = 1, n do
    local v = type(delay) == 'table' and delay[i] or delay
    if type(v) ~= 'number' or not (v >= 0 and v <= LONGEST) then
      fail('%s: delay: expected 0 to %g seconds, got %s', op, LONGEST, native.show(v))
    end
    list[i] = math.floor(v * 100 + 0.5)
  end
  return list
end

-- 256 colours by gray value, or nil.
local function colormap_of(op, map)
  if map == nil then return nil end
  if type(map) == 'string' then map = require('masked_torch.plot.colormap').table(map) end
  if type(map) ~= 'table' or #map ~= 256 then
    fail("%s: colormap: expected a name ('viridis', 'coolwarm', 'gray') or a table of 256 colours {red, green, blue}", op)
  end
  local colors = {}
  for i, c in ipairs(map) do
    for k = 1, 3 do native.integer(op, ('colormap[%d]'):format(i), type(c) == 'table' and c[k] or nil, 0, 255) end
    colors[i - 1] = c[1] * 65536 + c[2] * 256 + c[3]
  end
  return colors
end

-- A frame's pixels as colours (uint32_t), its height and width.
local function colors_of(op, frame, i, map)
  if not Tensor.is_tensor(frame) then fail('%s: frame %d: expected a tensor, got %s', op, i, native.show(frame)) end
  local packed = pixels.pack(('%s: frame %d'):format(op, i), frame)
  local height, width, channels = packed:sizes()
  if channels == 2 or channels == 4 then fail('%s: frame %d: %d channels; a GIF holds 1 or 3, without alpha', op, i, channels) end
  if map and channels ~= 1 then fail('%s: frame %d: a colormap is for frames of 1 channel, it has %d', op, i, channels) end
  local colors = palette.pack(ffi.cast('const uint8_t *', packed._c.data), height * width, channels)
  if map then
    for k = 0, height * width - 1 do colors[k] = map[colors[k] % 256] end
  end
  return colors, height, width
end

-- The smallest rectangle that holds every difference: left, top (0-based), width, height; one pixel where there is none.
local function changed(a, b, height, width)
  local left, right, top, bottom = width, -1, height, -1
  for y = 0, height - 1 do
    local row = y * width
    for x = 0, width - 1 do
      if a[row + x] ~= b[row + x] then
        if x < left then left = x end
        if x > right then right = x end
        if y < top then top = y end
        bottom = y
      end
    end
  end
  if bottom < 0 then return 0, 0, 1, 1 end
  return left, top, right - left + 1, bottom - top + 1
end

-- ---- writing -------------------------------------------------------------------------------------------------------

-- giflib's table of colours, filled to a power of two.
local function map_object(L, op, entries)
  local count = 2
  while count < #entries do count = count * 2 end
  local colors = ffi.new('mt_gif_color[?]', count)
  for i, color in ipairs(entries) do
    colors[i - 1] = { bit.rshift(color, 16), bit.band(bit.rshift(color, 8), 255), bit.band(color, 255) }
  end
  local map = L.GifMakeMapObject(count, colors)
  if map == nil then fail('%s: out of memory', op) end
  return ffi.gc(map, L.GifFreeMapObject)
end

-- One palette when it can hold every colour of all frames exactly; else nil.
local function common_palette(op, frames, map, size)
  local counts = {}
  for i, frame in ipairs(frames) do
    local colors, height, width = colors_of(op, frame, i, map)
    if not palette.count(colors, height * width, counts, size) then return nil end
  end
  return palette.exact(counts)
end

local function put_frames(L, op, handle, bad, frames, o)
  local function check(status) if status ~= 1 then bad(reason(L, handle.error)) end end
  local entries, index = common_palette(op, frames, o.colormap, o.colors)
  local map = entries and map_object(L, op, entries)
  local before, height, width, bytes
  for i, frame in ipairs(frames) do
    local colors, h, w = colors_of(op, frame, i, o.colormap)
    local left, top, across, down = 0, 0, w, h
    if i == 1 then
      height, width, bytes = h, w, ffi.new('uint8_t[?]', w)
      L.EGifSetGifVersion(handle, true)
      check(L.EGifPutScreenDesc(handle, width, height, 8, 0, map))
      if o.loop ~= 1 then
        local repeats = o.loop == 0 and 0 or o.loop - 1
        check(L.EGifPutExtensionLeader(handle, APPLICATION))
        check(L.EGifPutExtensionBlock(handle, 11, 'NETSCAPE2.0'))
        check(L.EGifPutExtensionBlock(handle, 3, string.char(1, repeats % 256, math.floor(repeats / 256))))
        check(L.EGifPutExtensionTrailer(handle))
      end
    elseif h ~= height or w ~= width then
      fail('%s: frame %d: %d x %d pixels, the first frame has %d x %d', op, i, w, h, width, height)
    else
      left, top, across, down = changed(before, colors, height, width)
    end
    local lookup, own = index, nil
    if not lookup then
      local part = ffi.new('uint32_t[?]', across * down)
      for y = 0, down - 1 do ffi.copy(part + y * across, colors + (top + y) * width + left, across * 4) end
      local list
      list, lookup = palette.reduce(part, across * down, o.colors)
      own = map_object(L, op, list)
    end
    -- Disposal 1: the next frame is drawn over this one.
    check(L.EGifPutExtension(handle, GRAPHICS, 4, string.char(4, o.delays[i] % 256, math.floor(o.delays[i] / 256), 0)))
    check(L.EGifPutImageDesc(handle, left, top, across, down, false, own))
    for y = top, top + down - 1 do
      local row = y * width + left
      for x = 0, across - 1 do bytes[x] = lookup[colors[row + x]] end
      check(L.EGifPutLine(handle, bytes, across))
    end
    before = colors
  end
end

-- The whole content of an open file, and its end.
local function content_of(fd, bad)
  local size = tonumber(C.lseek64(fd, 0, 2))
  local buffer = ffi.new('uint8_t[?]', math.max(1, size))
  local done = 0
  while done < size do
    local n = tonumber(C.pread64(fd, buffer + done, size - done, done))
    if n <= 0 then bad('the encoded bytes could not be read back') end
    done = done + n
  end
  return buffer, size
end

-- giflib writes to a file descriptor or calls back; a callback out of compiled Lua code would end the process. So it writes to
-- memory that has a descriptor.
local function encode(op, frames, opts, bad)
  local o = options.parse(op, { delay = options.any(0.1), loop = 0, colors = 256, colormap = options.none }, opts)
  frames = frames_of(op, frames)
  native.integer(op, 'loop', o.loop, 0, 65536)
  native.integer(op, 'colors', o.colors, 2, 256)
  o.delays = delays_of(op, o.delay, #frames)
  o.colormap = colormap_of(op, o.colormap)
  local L = lib(op)
  local fd = C.memfd_create('gif', 1)
  if fd < 0 then bad('no memory for the encoded bytes') end
  local buffer, size
  local ok, message = pcall(function()
    local own = C.dup(fd)                -- giflib closes it
    local status = ffi.new('int[1]')
    local handle = own >= 0 and L.EGifOpenFileHandle(own, status) or nil
    if handle == nil then bad('giflib could not start') end
    local done, why = pcall(put_frames, L, op, handle, bad, frames, o)
    local closed = L.EGifCloseFile(handle, status)
    if not done then error(why, 0) end
    if closed ~= 1 then bad(reason(L, status[0])) end
    buffer, size = content_of(fd, bad)
  end)
  C.close(fd)
  if not ok then error(message, 0) end
  return buffer, size
end

--- gif.save(path, frames, {delay = 0.1, loop = 0, colors = 256, colormap = nil}): an animation. frames: a table of tensors, or one
-- (N, C, H, W); each (3, H, W), (1, H, W) or (H, W), uint8 or floats in 0..1 as for png.save, all of one size.
-- delay: seconds a frame is shown, or a table of one per frame; kept to 1/100 (programs show less than 0.02 s as 0.1 s).
-- loop: how often it plays; 0: for ever. colors: entries of a palette, 2 to 256. colormap: for gray frames, how black to white are
-- shown: 'viridis', 'coolwarm', 'gray', or 256 colours as torch.plot.colormap gives them.
-- Colours are exact when all frames together have at most `colors`. Otherwise every frame has its own palette: exact when the part
-- of the frame that differs from the one before has few enough colours, else the nearest of `colors` boxes (io/palette.lua), not
-- dithered. The file is whole or absent.
function gif.save(path, frames, opts)
  file.check_path('gif.save', path)
  local buffer, size = encode('gif.save', frames, opts, function(message) fail('gif.save: %s: %s', path, message) end)
  file.write('gif.save', path, function(write) write(buffer, size) end)
end

--- gif.encode(frames, opts): the bytes of the file as a string.
function gif.encode(frames, opts)
  local buffer, size = encode('gif.encode', frames, opts, function(message) fail('gif.encode: %s', message) end)
  return ffi.string(buffer, size)
end

-- ---- reading -------------------------------------------------------------------------------------------------------

-- A frame costs more than its pixels, so their number is limited too.
local FRAMES = 16384

-- Reads an extension to its end: the delay, disposal and transparent colour of the next frame, and how often to play.
local function read_extension(L, handle, check, state)
  local code, block = ffi.new('int[1]'), ffi.new('uint8_t *[1]')
  check(L.DGifGetExtension(handle, code, block))
  local netscape = false
  while block[0] ~= nil do
    local bytes, size = block[0] + 1, block[0][0]
    if code[0] == GRAPHICS and size >= 4 then
      state.disposal, state.delay = bit.band(bit.rshift(bytes[0], 2), 7), (bytes[1] + 256 * bytes[2]) / 100
      state.transparent = bit.band(bytes[0], 1) == 1 and bytes[3] or nil
    elseif code[0] == APPLICATION and size == 11 then
      netscape = ffi.string(bytes, 11) == 'NETSCAPE2.0'
    elseif netscape and size == 3 and bytes[0] == 1 then
      local repeats = bytes[1] + 256 * bytes[2]
      state.loop = repeats == 0 and 0 or repeats + 1
    end
    check(L.DGifGetExtensionNext(handle, block))
  end
end

-- Where the rows of an interlaced picture go: first row and step of the four passes.
local PASSES = { { 0, 8 }, { 4, 8 }, { 2, 4 }, { 1, 2 } }

-- Draws the next image of the file over the canvas (interleaved RGB bytes). `refuse` raises an error.
local function draw(L, handle, check, canvas, width, state, refuse)
  local im = handle.image
  local map = im.map ~= nil and im.map or handle.map
  if map == nil then refuse('it has no palette') end
  if im.width < 1 or im.height < 1 or im.left < 0 or im.top < 0 or im.left + im.width > width or
    im.top + im.height > state.height then
    refuse(('%d x %d pixels at column %d, row %d, the picture has %d x %d'):format(im.width, im.height, im.left + 1, im.top + 1,
      width, state.height))
  end
  local line, count, colors, transparent = ffi.new('uint8_t[?]', im.width), map.count, map.colors, state.transparent or -1
  for i = 0, count - 1 do
    local c = colors[i]
    if c.red ~= c.green or c.green ~= c.blue then state.gray = false end
  end
  local left, across = im.left, im.width
  local function row(y)
    check(L.DGifGetLine(handle, line, across))
    local to = canvas + ((im.top + y) * width + left) * 3
    for x = 0, across - 1 do
      local v = line[x]
      if v ~= transparent then
        if v >= count then refuse(('colour %d of a palette of %d'):format(v + 1, count)) end
        local c = colors[v]
        to[3 * x], to[3 * x + 1], to[3 * x + 2] = c.red, c.green, c.blue
      end
    end
  end
  if im.interlace then
    for _, pass in ipairs(PASSES) do
      for y = pass[1], im.height - 1, pass[2] do row(y) end
    end
  else
    for y = 0, im.height - 1 do row(y) end
  end
end

-- All frames as (C, H, W) uint8, with their delays.
local function read_frames(L, handle, op, path)
  local function bad(message) fail('%s: %s: %s', op, path, message) end
  local function check(status) if status ~= 1 then bad(reason(L, handle.error)) end end
  local width, height = handle.width, handle.height
  pixels.check_size(bad, width, height, 3)
  local size = width * height * 3
  local state = { gray = true, loop = 1, height = height }
  local frames, delays, kind = {}, {}, ffi.new('int[1]')
  local screen = pixels.interleaved(op, height, width, 3)
  local canvas = ffi.cast('uint8_t *', screen._c.data)
  ffi.fill(canvas, size, 255)
  local kept
  while true do
    check(L.DGifGetRecordType(handle, kind))
    if kind[0] == END then break end
    if kind[0] == EXTENSION then
      read_extension(L, handle, check, state)
    elseif kind[0] == IMAGE then
      local n = #frames + 1
      if n > FRAMES or n * size > pixels.BYTES then
        bad(('more than %d frames of %d x %d pixels; %d frames and %d bytes are allowed'):format(n - 1, width, height, FRAMES,
          pixels.BYTES))
      end
      check(L.DGifGetImageDesc(handle))
      if state.disposal == 3 then
        kept = kept or ffi.new('uint8_t[?]', size)
        ffi.copy(kept, canvas, size)
      end
      draw(L, handle, check, canvas, width, state, function(message) bad(('frame %d: %s'):format(n, message)) end)
      frames[n], delays[n] = pixels.planar(op, screen, 'uint8'), state.delay or 0
      if state.disposal == 2 then
        local im = handle.image
        for y = im.top, im.top + im.height - 1 do ffi.fill(canvas + (y * width + im.left) * 3, im.width * 3, 255) end
      elseif state.disposal == 3 then
        ffi.copy(canvas, kept, size)
      end
      state.disposal, state.delay, state.transparent = nil, nil, nil
    end
  end
  if #frames == 0 then bad('it holds no picture') end
  return frames, delays, state
end

--- gif.load(path, {dtype = 'uint8', channels = nil}) -> frames, delays, loop: a table of (C, H, W), the seconds each is shown, how
-- often the animation plays (0: for ever). Every frame is the whole picture as it is then seen; what is transparent is white.
-- C is 1 when the file's palettes hold nothing but grays, else 3; channels = 3 is always 3. dtype: also 'float32' and 'float64',
-- in 0..1. At most 16384 frames of 16384 x 16384 pixels and 256 MiB in all; a damaged file is an error.
function gif.load(path, opts)
  local op = 'gif.load'
  local o = options.parse(op, { dtype = 'uint8', channels = options.none }, opts)
  options.choice(op, 'dtype', o.dtype, { 'uint8', 'float32', 'float64' })
  if o.channels ~= nil and o.channels ~= 3 then fail('%s: channels: expected 3 or nil, got %s', op, native.show(o.channels)) end
  local L = lib(op)
  local frames, delays, state
  file.with(op, path, function(f)
    if f.size > pixels.BYTES then f:fail(nil, 'it has %d bytes, the limit is %d', f.size, pixels.BYTES) end
    local own = C.dup(f.fd)            -- giflib closes it
    if own < 0 then f:fail(nil, 'no more files can be opened') end
    local status = ffi.new('int[1]', 104)
    local handle = L.DGifOpenFileHandle(own, status)
    if handle == nil then f:fail(nil, '%s', reason(L, status[0])) end
    local ok, a, b, c = pcall(read_frames, L, handle, op, path)
    L.DGifCloseFile(handle, status)
    if not ok then error(a, 0) end
    frames, delays, state = a, b, c
  end)
  for i, t in ipairs(frames) do
    if state.gray and o.channels ~= 3 then t = t:narrow(1, 1, 1):contiguous() end
    if o.dtype ~= 'uint8' then t = t:to{ dtype = o.dtype } / 255 end
    frames[i] = t
  end
  return frames, delays, state.loop
end

return gif
