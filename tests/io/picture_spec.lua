local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local png, jpeg, image = torch.io.png, torch.io.jpeg, torch.io.image
local Tensor = torch.Tensor

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

local function ramp(channels, height, width)
  local t, n = {}, 0
  for c = 1, channels do
    t[c] = {}
    for h = 1, height do
      t[c][h] = {}
      for w = 1, width do
        t[c][h][w] = n * 37 % 256
        n = n + 1
      end
    end
  end
  return tensor(t, 'uint8')
end

local function write_jpeg(t, pixel_format)
  if not pcall(ffi.typeof, 'mt_jpeg_test') then
    ffi.cdef [[
      typedef int mt_jpeg_test;
      void *tjInitCompress(void);
      int tjCompress2(void *handle, const unsigned char *pixels, int width, int pitch, int height, int format,
        unsigned char **out, unsigned long *size, int subsampling, int quality, int flags);
      void tjFree(unsigned char *buffer);
    ]]
  end
  local L = ffi.load('libturbojpeg.so.0')
  local handle, out, size = L.tjInitCompress(), ffi.new('unsigned char *[1]'), ffi.new('unsigned long[1]')
  local height, width, channels = t:sizes()
  local subsampling = channels == 1 and 3 or 0
  assert(L.tjCompress2(handle, t._c.data, width, width * channels, height, pixel_format, out, size, subsampling, 100, 0) == 0)
  local bytes = ffi.string(out[0], size[0])
  L.tjFree(out[0])
  L.tjDestroy(handle)
  return bytes
end

describe('pictures #memory', function()
  teardown(scratch.clean)

  it('survive PNG unchanged', function()
    for channels = 1, 4 do
      local t = ramp(channels, 5, 7)
      local path = scratch.path('.png')
      png.save(path, t)
      assert.same_bits(t, png.load(path, { dtype = 'uint8' }))
      local float = png.load(path)
      assert.equal('float32', float.dtype)
      assert.near_tensor(37 / 255, tensor(float:totable()[1][1][2]), 1e-7)
      png.save(path, float)
      assert.same_bits(t, image.load(path, { dtype = 'uint8' }))
      assert.equal('float64', image.load(path, { dtype = 'float64' }).dtype)
    end
  end)

  it('are clamped, rounded, and taken from any layout', function()
    local path = scratch.path('.png')
    png.save(path, tensor{ { -1, 0.5, 2 }, { 0.1, 0.2, 0.999 } })
    assert.near_tensor({ { { 0, 128, 255 }, { 26, 51, 255 } } }, png.load(path, { dtype = 'uint8' }))
    local t = ramp(3, 4, 5)
    png.save(path, Tensor.as_view('view', t, { 3, 5, 4 }, { 20, 1, 5 }, 0))
    local got, expected = png.load(path, { dtype = 'uint8' }):totable(), t:totable()
    assert.equal(expected[2][3][4], got[2][4][3])
  end)

  it('that cannot be saved are refused', function()
    local path = scratch.path('.png')
    assert.fails(function() png.save(path, tensor{ 1, 2 }) end, 'png.save: tensor: expected (channels, height, width)', '(2)')
    assert.fails(function() png.save(path, ramp(5, 2, 2)) end, '(5, 2, 2)')
    assert.fails(function() png.save(path, tensor({ { 1 } }, 'int64')) end, 'int64')
    assert.fails(function() png.save(path, tensor{ { 0 / 0 } }) end, 'NaN')
    assert.fails(function() png.save(path, Tensor.empty('empty', { 3, 0, 2 }, 'float32')) end, '2 x 0 pixels')
    assert.fails(function() image.save(scratch.path('.gif'), ramp(3, 2, 2)) end, 'must end in .png')
    assert.is_nil(io.open(path))
  end)

  it('that are damaged are refused at every byte', function()
    local path = scratch.path('.png')
    png.save(path, ramp(3, 4, 4))
    local content = scratch.content(path)
    for n = 0, #content - 13 do         -- the last 12 bytes are the end mark, which holds no pixels
      local cut = scratch.file(content:sub(1, n))
      assert.fails(function() png.load(cut) end, 'png.load: ' .. cut)
    end
    -- A header that claims 2^31 - 1 pixels a side.
    local huge = content:sub(1, 16) .. '\127\255\255\255\127\255\255\255' .. content:sub(25)
    assert.fails(function() png.load(scratch.file(huge)) end, 'png.load: ')
    assert.fails(function() png.load('/dev/null') end, 'it is a device')
    assert.fails(function() image.load(scratch.file('GIF89a..')) end, 'neither a PNG nor a JPEG')
    assert.fails(function() png.load(path, { dtype = 'int64' }) end, 'dtype: expected one of')
  end)

  it('are read from JPEG', function()
    local gray = Tensor.empty('gray', { 16, 8, 1 }, 'uint8')
    ffi.fill(gray._c.data, 128, 100)
    local color = Tensor.empty('color', { 16, 8, 3 }, 'uint8')
    ffi.fill(color._c.data, 384, 200)
    local path = scratch.file(write_jpeg(gray, 6))
    assert.same({ 1, 16, 8 }, image.load(path):size())
    assert.near_tensor(100 / 255, tensor(image.load(path):totable()[1][3][3]), 1e-6)
    local bytes = write_jpeg(color, 0)
    local loaded = jpeg.load(scratch.file(bytes), { dtype = 'uint8' })
    assert.same({ 3, 16, 8 }, loaded:size())
    assert.near_tensor(200, tensor(loaded:totable()[2][16][8]), 1)
    for n = 0, #bytes - 3, 7 do
      local cut = scratch.file(bytes:sub(1, n))
      assert.fails(function() jpeg.load(cut) end, 'jpeg.load: ' .. cut)
    end
  end)
end)
