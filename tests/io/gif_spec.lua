local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local Random = require 'support.random'
local gif = torch.io.gif

local random = Random.new(11)

-- Random uint8 pixels below `most`.
local function noise(channels, height, width, most)
  local values = {}
  for c = 1, channels do
    values[c] = {}
    for y = 1, height do
      values[c][y] = {}
      for x = 1, width do values[c][y][x] = math.floor(random:next() * (most or 256)) % 256 end
    end
  end
  return torch.tensor(values, { dtype = 'uint8' })
end

local function word(n) return string.char(n % 256, math.floor(n / 256)) end

-- A GIF file by hand: palette entry i (0..127) is the colour (i, 2i mod 256, 255 - i). images: { { left, top, width, height, pixels,
-- interlaced = , control = 4 bytes } }. Codes of 8 bits, a clear code before the table grows past them.
local function by_hand(width, height, images, opts)
  local out = { opts and opts.stamp or 'GIF89a', word(width), word(height), string.char(opts and opts.no_palette and 0 or 0xf6, 0, 0) }
  if not (opts and opts.no_palette) then
    for i = 0, 127 do out[#out + 1] = string.char(i, 2 * i % 256, 255 - i) end
  end
  for _, im in ipairs(images) do
    if im.control then out[#out + 1] = '\33\249\4' .. im.control .. '\0' end
    out[#out + 1] = ',' .. word(im[1]) .. word(im[2]) .. word(im[3]) .. word(im[4]) .. string.char(im.interlaced and 64 or 0, 7)
    local codes = { 128 }
    for i, v in ipairs(im[5]) do
      codes[#codes + 1] = v
      if i % 100 == 0 then codes[#codes + 1] = 128 end
    end
    codes[#codes + 1] = 129
    for i = 1, #codes, 200 do
      local block = {}
      for k = i, math.min(#codes, i + 199) do block[#block + 1] = string.char(codes[k]) end
      out[#out + 1] = string.char(#block) .. table.concat(block)
    end
    out[#out + 1] = '\0'
  end
  return table.concat(out) .. ';'
end

local function same(value, n)
  local list = {}
  for i = 1, n do list[i] = value end
  return list
end

-- The first channel of a frame as nested tables.
local function red(frame) return frame:totable()[1] end

describe('animations #memory', function()
  teardown(scratch.clean)

  for _, case in ipairs{ { 1, 1, 1 }, { 1, 5, 7 }, { 3, 9, 13 }, { 3, 1, 300 }, { 1, 301, 2 }, { 3, 64, 3 } } do
    it(('of %d x %d x %d survive unchanged'):format(unpack(case)), function()
      local channels, height, width = unpack(case)
      local frames, delays = {}, { 0, 0.5, 1.25, 655.35, 0.01 }
      for i = 1, 5 do frames[i] = noise(channels, height, width, channels == 1 and 256 or 4) end
      frames[3] = frames[2]:clone()      -- nothing changes
      local path = scratch.path '.gif'
      gif.save(path, frames, { delay = delays, loop = 3 })
      local loaded, waits, loop = gif.load(path, { channels = channels == 3 and 3 or nil })
      assert.equal(5, #loaded)
      assert.equal(3, loop)
      for i = 1, 5 do
        assert.same_bits(frames[i], loaded[i])
        assert.near(delays[i], waits[i], 1e-9)
      end
      assert.equal(gif.encode(frames, { delay = delays, loop = 3 }), scratch.content(path))
    end)
  end

  it('take floats, (H, W), one tensor of frames, and any layout', function()
    local path = scratch.path '.gif'
    gif.save(path, { torch.tensor{ { -1, 0.5, 2 }, { 0.1, 0.2, 0.999 } } })
    local frames, delays, loop = gif.load(path)
    assert.near_tensor({ { { 0, 128, 255 }, { 26, 51, 255 } } }, frames[1])
    assert.same({ 0.1 }, delays)
    assert.equal(0, loop)
    local t = noise(2, 3, 4, 200):unsqueeze(2)
    gif.save(path, t:transpose(3, 4), { loop = 1 })
    frames, delays, loop = gif.load(path, { dtype = 'float32' })
    assert.equal(1, loop)
    assert.equal(2, #delays)
    assert.near_tensor(t[2]:transpose(2, 3):to{ dtype = 'float32' } / 255, frames[2], 1e-7)
  end)

  it('are exact with up to 256 colours over all frames, and in frames that have few of them', function()
    local a, b = noise(3, 40, 40, 6), noise(3, 40, 40, 6)      -- 216 colours
    local path = scratch.path '.gif'
    gif.save(path, { a, b })
    local common = #scratch.content(path)
    assert.same_bits(b, gif.load(path)[2])
    local c = a:clone()
    c:narrow(2, 1, 10):add_(100)                               -- other colours, in a part of the picture
    gif.save(path, { a, c, b })
    local frames = gif.load(path)
    for i, t in ipairs{ a, c, b } do assert.same_bits(t, frames[i]) end
    assert.is_true(#scratch.content(path) < 2 * common)        -- only the part is stored
    gif.save(path, { a }, { colors = 16 })
    frames = gif.load(path)
    local seen, kinds = {}, 0
    for y = 1, 40 do
      for x = 1, 40 do
        local key = ('%d %d %d'):format(frames[1][{ 1, y, x }], frames[1][{ 2, y, x }], frames[1][{ 3, y, x }])
        if not seen[key] then seen[key], kinds = true, kinds + 1 end
      end
    end
    assert.equal(16, kinds)
  end)

  it('are near with more colours, and keep a background', function()
    local path = scratch.path '.gif'
    for _, side in ipairs{ 60, 200 } do        -- below and above the number of kinds that are looked at one by one
      local t = noise(3, side, side)
      t:narrow(2, 1, side / 2):fill_(253)
      gif.save(path, { t })
      local got = gif.load(path)[1]
      assert.is_true(torch.equal(t:narrow(2, 1, side / 2), got:narrow(2, 1, side / 2)))
      local difference = (got:to{ dtype = 'float32' } - t:to{ dtype = 'float32' }):abs()
      assert.is_true(difference:mean():item() < 8, difference:mean():item())
    end
  end)

  it('show grays through a colormap', function()
    local path = scratch.path '.gif'
    local t = noise(1, 16, 16)
    gif.save(path, { t }, { colormap = 'viridis' })
    local map, got = torch.plot.colormap 'viridis', gif.load(path)[1]
    for c = 1, 3 do assert.equal(map[t[{ 1, 7, 5 }] + 1][c], got[{ c, 7, 5 }]) end
    local inverted = {}
    for i = 1, 256 do inverted[i] = { 256 - i, 256 - i, 256 - i } end
    gif.save(path, { t }, { colormap = inverted })
    assert.equal(255 - t[{ 1, 3, 4 }], gif.load(path)[1][{ 1, 3, 4 }])
  end)

  it('that cannot be saved are refused, and nothing is written', function()
    local path, t = scratch.path '.gif', noise(3, 4, 4)
    local function refused(frames, opts, ...)
      local words = { ... }
      assert.fails(function() gif.save(path, frames, opts) end, unpack(words))
    end
    refused({}, nil, 'gif.save: frames: there is none')
    refused(t, nil, 'expected (frames, channels, height, width), got (3, 4, 4)')
    refused('x', nil, 'gif.save: frames: expected a table of tensors')
    refused({ t, 3 }, nil, 'gif.save: frame 2: expected a tensor')
    refused({ t, noise(3, 4, 5) }, nil, 'frame 2: 5 x 4 pixels, the first frame has 4 x 4')
    refused({ noise(4, 4, 4) }, nil, 'frame 1: 4 channels')
    refused({ torch.tensor{ { 0 / 0 } } }, nil, 'frame 1: tensor: a value is NaN')
    refused({ t }, { delay = -1 }, 'delay: expected 0 to 655.35 seconds, got -1')
    refused({ t }, { delay = 0 / 0 }, 'delay: expected 0 to 655.35 seconds')
    refused({ t }, { delay = { 1, 2 } }, 'delay: expected a number or 1 of them, got 2')
    refused({ t }, { delay = 'x' }, 'delay: expected seconds')
    refused({ t }, { colors = 257 }, 'colors: expected a whole number from 2 to 256')
    refused({ t }, { loop = -1 }, 'loop: expected a whole number')
    refused({ t }, { colormap = 'viridis' }, 'a colormap is for frames of 1 channel, it has 3')
    refused({ t }, { colormap = 'virids' }, "did you mean 'viridis'")
    refused({ t }, { colormap = { { 0, 0, 0 } } }, 'a table of 256 colours')
    refused({ t }, { delays = 1 }, "unknown option 'delays'", "did you mean 'delay'")
    assert.is_nil(io.open(path))
    assert.fails(function() gif.save('/nowhere/a.gif', { t }) end, '/nowhere/a.gif')
  end)

  it('of others are read: interlaced, transparent, restored', function()
    local rows = {}
    for i, y in ipairs{ 0, 8, 4, 2, 6, 1, 3, 5, 7, 9 } do rows[i] = y end
    local path = scratch.file(by_hand(1, 10, { { 0, 0, 1, 10, rows, interlaced = true } }))
    local column = {}
    for y = 1, 10 do column[y] = { y - 1 } end
    assert.same(column, red(gif.load(path)[1]))

    local images = { { 0, 0, 3, 2, same(1, 6), control = '\4\10\0\0' }, { 1, 0, 2, 1, { 9, 5 }, control = '\9\20\0\9' },
      { 0, 1, 2, 1, { 6, 6 }, control = '\12\30\0\0' }, { 2, 1, 1, 1, { 7 } } }
    local frames, delays, loop = gif.load(scratch.file(by_hand(3, 2, images)))
    assert.same({ 0.1, 0.2, 0.3, 0 }, delays)
    assert.equal(1, loop)
    assert.same({ { 1, 1, 1 }, { 1, 1, 1 } }, red(frames[1]))
    assert.same({ { 1, 1, 5 }, { 1, 1, 1 } }, red(frames[2]))              -- 9 is transparent
    assert.same({ { 1, 255, 255 }, { 6, 6, 1 } }, red(frames[3]))          -- the second image was cleared,
    assert.same({ { 1, 255, 255 }, { 1, 1, 7 } }, red(frames[4]))          -- the third undone
    assert.same({ 10, 248 }, { frames[2][{ 2, 1, 3 }], frames[2][{ 3, 1, 1 }] - 6 })
  end)

  it('that are damaged are refused at every byte', function()
    local content = gif.encode({ noise(3, 6, 5, 3), noise(3, 6, 5, 3) }, { loop = 0 })
    for n = 0, #content - 1 do
      local cut = scratch.file(content:sub(1, n))
      assert.fails(function() gif.load(cut) end, 'gif.load: ' .. cut)
    end
    assert.fails(function() gif.load('/dev/null') end, 'it is a device')
    assert.fails(function() gif.load '/nowhere.gif' end, '/nowhere.gif')
    assert.fails(function() gif.load(scratch.file(content), { dtype = 'int64' }) end, 'dtype: expected one of')
    assert.fails(function() gif.load(scratch.file(content), { channels = 1 }) end, 'channels: expected 3 or nil')
  end)

  it('that ask for too much, or make no sense, are refused', function()
    local function refused(bytes, ...)
      local words = { ... }
      assert.fails(function() gif.load(scratch.file(bytes)) end, unpack(words))
    end
    local one = { 0, 0, 1, 1, { 3 } }
    refused(by_hand(65535, 65535, { one }), '65535 x 65535 pixels')
    refused(by_hand(0, 5, { one }), '0 x 5 pixels')
    refused(by_hand(9000, 9000, { one, one }), 'more than 1 frames of 9000 x 9000 pixels')
    refused(by_hand(1, 1, same(one, 16385)), 'more than 16384 frames of 1 x 1 pixels')
    refused(by_hand(4, 4, { { 3, 0, 2, 1, { 1, 1 } } }), 'frame 1: 2 x 1 pixels at column 4, row 1, the picture has 4 x 4')
    refused(by_hand(4, 4, { { 0, 0, 0, 1, {} } }), 'frame 1: 0 x 1 pixels')
    refused(by_hand(4, 4, { one }, { no_palette = true }), 'frame 1: it has no palette')
    refused(by_hand(4, 4, {}), 'it holds no picture')
    refused(by_hand(4, 4, { { 0, 0, 4, 4, same(1, 15) } }), 'gif.load: ')
    refused(by_hand(4, 4, { one }, { stamp = 'PIG89a' }), 'gif.load: ')
    -- A palette of two colours, and a pixel of the third.
    local small = by_hand(1, 1, { { 0, 0, 1, 1, { 2 } } })
    refused(small:sub(1, 10) .. '\240' .. small:sub(12, 19) .. small:sub(14 + 384), 'frame 1: colour 3 of a palette of 2')
  end)

  it('never crash, whatever a file holds', function()
    local content = gif.encode({ noise(3, 9, 8, 3), noise(3, 9, 8, 3), noise(1, 9, 8) }, { delay = 0.2 })
    local path, loaded = scratch.path '.gif', 0
    for _ = 1, 2000 do
      local bytes = content
      for _ = 1, 1 + math.floor(random:next() * 4) do
        local at = 1 + math.floor(random:next() * #bytes)
        bytes = bytes:sub(1, at - 1) .. string.char(math.floor(random:next() * 256)) .. bytes:sub(at + 1)
      end
      local f = assert(io.open(path, 'wb'))
      f:write(bytes)
      f:close()
      local ok, frames = pcall(gif.load, path)
      if ok then
        loaded = loaded + 1
        for _, frame in ipairs(frames) do assert.equal(3, frame:dim()) end
      else
        assert.matches('gif.load: ', frames, 1, true)
      end
    end
    assert.is_true(loaded > 100 and loaded < 1900, loaded)
  end)

  it('need giflib, and say how to get it', function()
    local load, saved = ffi.load, package.loaded['masked_torch.io.gif']
    package.loaded['masked_torch.io.gif'] = nil
    ffi.load = function() error 'no such library' end
    local ok, other = pcall(require, 'masked_torch.io.gif')
    local t = noise(1, 2, 2)
    local saving, loading = { pcall(other.encode, { t }) }, { pcall(other.load, '/dev/null') }
    ffi.load, package.loaded['masked_torch.io.gif'] = load, saved
    assert.is_true(ok)
    assert.is_false(saving[1] or loading[1])
    assert.matches('gif.encode: libgif 5 was not found; on Debian and Ubuntu: apt install libgif7', saving[2], 1, true)
    assert.matches('gif.load: libgif 5 was not found; on Debian and Ubuntu: apt install libgif7', loading[2], 1, true)
  end)
end)
