local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local npy = torch.io.npy
local Tensor = torch.Tensor

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

local function build(header, data, major)
  major = major or 1
  local length = major == 1 and string.char(#header % 256, math.floor(#header / 256)) or
    string.char(#header % 256, math.floor(#header / 256) % 256, 0, 0)
  return '\147NUMPY' .. string.char(major, 0) .. length .. header .. (data or '')
end

local function dict(descr, shape, fortran)
  return ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"):format(descr, fortran and 'True' or 'False', shape)
end

local function load(...) return npy.load(scratch.file(build(...))) end

describe('npy #memory', function()
  teardown(scratch.clean)

  it('keeps every bit', function()
    local nan = tensor{ 1, 2, 3 }
    ffi.cast('uint32_t *', nan._c.data)[1] = 0xffa12345
    for _, t in ipairs{ nan, tensor(3.5, 'float64'), tensor({ { -2 ^ 53 }, { 4 } }, 'int64'), tensor({ 1, -1 }, 'int32'),
      tensor({ 0, 255 }, 'uint8'), tensor{ { true, false }, { false, true } }, Tensor.empty('empty', { 0, 2 }, 'float32') } do
      local path = scratch.path()
      npy.save(path, t)
      assert.same_bits(t, npy.load(path))
      assert.equal(0, (scratch.content(path):find('\n', 1, true)) % 64)
    end
  end)

  it('writes views row-major', function()
    local path = scratch.path()
    npy.save(path, Tensor.as_view('view', tensor{ { 1, 2, 3 }, { 4, 5, 6 } }, { 3, 2 }, { 1, 3 }, 0))
    assert.near_tensor({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, npy.load(path))
  end)

  it('reads both index orders, both byte orders, all versions', function()
    local data = '\1\0\2\0\3\0\4\0\5\0\6\0'
    for major = 1, 3 do
      assert.near_tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, load(dict('<i2', '(2, 3)'), data, major))
      local fortran = load(dict('<u2', '(2, 3)', true), data, major)
      assert.near_tensor({ { 1, 3, 5 }, { 2, 4, 6 } }, fortran)
      assert.is_true(fortran:is_contiguous())
    end
    assert.near_tensor({ 256, 512, 768, 1024, 1280, 1536 }, load(dict('>i2', '(6,)'), data))
    assert.near_tensor({ 1, -2 }, load(dict('>f4', '(2,)'), '\63\128\0\0\192\0\0\0'))
    assert.near_tensor({ 1 }, load(dict('>f8', '(1,)'), '\63\240' .. ('\0'):rep(6)))
    assert.near_tensor({ 1, -2 }, load(dict('<f2', '(2,)'), '\0\60\0\192'))
    assert.near_tensor({ -1 }, load(dict('|i1', '(1,)'), '\255'))
    assert.same({}, load(dict('<f4', '()'), '\0\0\0\0'):size())
    assert.near_tensor({ 1 }, load('{"shape":(1,),"fortran_order":False,"descr":"|u1"}', '\1'))
  end)

  for what, case in pairs{
    ['another file'] = { 'not an npy file at all', 'not an npy file' },
    ['version 4'] = { build(dict('<f4', '(1,)'), '\0\0\0\0', 4), 'version 4.0' },
    ['a header past the end'] = { '\147NUMPY\1\0\255\255{}', 'the header has 65535 bytes' },
    ['a header of 4 GB'] = { '\147NUMPY\2\0\255\255\255\255{}', 'the header has' },
    ['objects'] = { build(dict('|O', '(1,)'), ('\0'):rep(8)), "'|O' is not supported", 'run code' },
    ['a structure'] = { build("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", '\0\0\0\0'), 'structures' },
    ['text'] = { build(dict('<U4', '(1,)'), ('\0'):rep(16)), 'not supported' },
    ['complex numbers'] = { build(dict('<c8', '(1,)'), ('\0'):rep(8)), 'not supported' },
    ['too little data'] = { build(dict('<f4', '(2,)'), '\0\0\0\0'), '4 bytes of data', 'needs 8' },
    ['too much data'] = { build(dict('<f4', '(1,)'), '\0\0\0\0\0'), '5 bytes of data' },
    ['a size of 2^60'] = { build(dict('<f4', '(1152921504606846976,)'), '\0\0\0\0'), 'overflows' },
    ['sizes that wrap'] = { build(dict('<f4', '(4294967296, 4294967296)'), ''), 'overflows' },
    ['a negative size'] = { build(dict('<f4', '(-1,)'), '\0\0\0\0'), 'tuple of whole numbers' },
    ['a size that is code'] = { build(dict('<f4', '(exit(),)'), '\0\0\0\0'), 'header' },
    ['a shape that is a number'] = { build(dict('<f4', '3'), '\0\0\0\0'), 'header' },
    ['a shape in parentheses'] = { build(dict('<f4', '(1)'), '\0\0\0\0'), 'tuple' },
    ['9 dimensions'] = { build(dict('<f4', '(1,1,1,1,1,1,1,1,1)'), '\0\0\0\0'), '9 dimensions' },
    ['a missing entry'] = { build("{'descr': '<f4', 'shape': (1,), }", '\0\0\0\0'), 'were expected' },
    ['an extra entry'] = { build("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 'y'}", '\0\0\0\0'), "'x'" },
    ['an entry twice'] = { build("{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}", '\0\0\0\0'), 'twice' },
    ['a bool of 3'] = { build(dict('|b1', '(1,)'), '\3'), 'neither true nor false' },
    ['a call'] = { build('__import__("os")', ''), 'dictionary' },
  } do
    it('refuses ' .. what, function()
      local path = scratch.file(case[1])
      assert.fails(function() npy.load(path) end, 'npy.load: ' .. path, unpack(case, 2))
    end)
  end

  it('refuses a file cut off at any byte', function()
    local content = build(dict('<f4', '(2, 2)'), ('\0'):rep(16))
    for n = 0, #content - 1 do
      local cut = scratch.file(content:sub(1, n))
      assert.fails(function() npy.load(cut) end, 'npy.load: ' .. cut)
    end
  end)
end)
