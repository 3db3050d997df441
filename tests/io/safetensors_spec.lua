local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local safetensors = torch.io.safetensors
local Tensor = torch.Tensor

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

local function bytes_of(n, width)
  local out = {}
  for i = 1, width do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

local function build(header, data) return bytes_of(#header, 8) .. header .. (data or '') end

local function one(fields, data, name)
  return build(('{"%s":{%s}}'):format(name or 'a', fields), data or ('\0'):rep(8))
end

describe('safetensors #memory', function()
  teardown(scratch.clean)

  it('keeps every bit', function()
    local nan32, nan64 = tensor({ 1, 2, 3 }), tensor({ 1, 2 }, 'float64')
    ffi.cast('uint32_t *', nan32._c.data)[1] = 0x7fa12345
    ffi.cast('uint64_t *', nan64._c.data)[0] = 0xfff0000000000123ULL
    local given = { nan32 = nan32, nan64 = nan64, scalar = tensor(-0.0), i64 = tensor({ { -2 ^ 53, 2 ^ 53 } }, 'int64'),
      i32 = tensor({ -2 ^ 31, 2 ^ 31 - 1 }, 'int32'), u8 = tensor({ 0, 255, 7 }, 'uint8'), flag = tensor({ true, false }),
      empty = Tensor.empty('empty', { 0, 3 }, 'float32'), ['a "b"\nü'] = tensor{ { 1, 2 }, { 3, 4 } } }
    local path = scratch.path()
    safetensors.save(path, given, { format = 'pt', note = 'line\n"quoted" ü' })
    local got, metadata = safetensors.load(path)
    assert.same({ format = 'pt', note = 'line\n"quoted" ü' }, metadata)
    for name, t in pairs(given) do assert.same_bits(t, got[name]) end
    for name in pairs(got) do assert.is_not_nil(given[name]) end
    -- The data is aligned: the header's length is a multiple of 8 and the largest elements come first.
    assert.equal(0, (8 + scratch.content(path):byte(1)) % 8)
    local again = scratch.path()
    safetensors.save(again, got, metadata)
    assert.equal(scratch.content(path), scratch.content(again))
  end)

  -- 'PK' is 19280 in bytes 1 and 2.
  it('does not take a header of that length for a ZIP archive', function()
    local path, length = scratch.path(), 0x4b50
    local function save(n)
      safetensors.save(path, { x = torch.ones(2) }, { note = ('x'):rep(n) })
      local text = scratch.content(path)
      return text:byte(1) + 256 * text:byte(2)
    end
    assert.equal(length, save(length - save(8) + 8))
    assert.equal('PK', scratch.content(path):sub(1, 2))
    assert.same({ 1, 1 }, safetensors.load(path).x:totable())
  end)

  it('writes views row-major', function()
    local t = tensor{ { 1, 2, 3 }, { 4, 5, 6 } }
    local path = scratch.path()
    safetensors.save(path, { t = Tensor.as_view('view', t, { 3, 2 }, { 1, 3 }, 0) })
    assert.near_tensor({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, safetensors.load(path).t)
    safetensors.save(path, {})
    assert.same({}, (safetensors.load(path)))
  end)

  it('widens the types it lacks', function()
    local function load(dtype, data, n)
      local text = ('"dtype":"%s","shape":[%d],"data_offsets":[0,%d]'):format(dtype, n, #data)
      return safetensors.load(scratch.file(one(text, data))).a
    end
    local half = load('F16', '\0\60\0\192\1\0\0\124\0\128\255\3\255\123', 7)
    assert.equal('float32', half.dtype)
    assert.near_tensor({ 1, -2, 2 ^ -24, math.huge, 0, 1023 * 2 ^ -24, 65504 }, half)
    assert.equal(-math.huge, 1 / half:totable()[5])
    assert.equal('bfloat16', load('BF16', '\128\63\0\192', 2).dtype)
    assert.near_tensor({ 1, -2 }, load('BF16', '\128\63\0\192', 2):float())
    assert.near_tensor({ -1, 127 }, load('I8', '\255\127', 2))
    assert.near_tensor({ -1 }, load('I16', '\255\255', 1))
    assert.near_tensor({ 65535 }, load('U16', '\255\255', 1))
    assert.near_tensor({ 4294967295 }, load('U32', '\255\255\255\255', 1))
    assert.equal('int64', load('U32', '\255\255\255\255', 1).dtype)
  end)

  local good = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
  for what, case in pairs{
    ['an empty file'] = { '', 'byte 0', '0 bytes' },
    ['a header longer than the file'] = { bytes_of(1000, 8) .. '{}', 'byte 0', '1000 bytes' },
    ['a header of 2^40 bytes'] = { bytes_of(2 ^ 40, 8) .. '{}', '2 to 16777216' },
    ['a header of 2^64-1 bytes'] = { ('\255'):rep(8) .. '{}', '18446744073709551615' },
    ['a header of 0 bytes'] = { bytes_of(0, 8) .. '{}', '2 to' },
    ['no brace'] = { build(' {}'), 'byte 8', "'{'" },
    ['an array'] = { build('[]'), "'{'" },
    ['text after the header'] = { build('{} x'), 'text after' },
    ['duplicate names'] = { build('{"a":{' .. good .. '},"a":{' .. good .. '}}', ('\0'):rep(8)), 'appears twice' },
    ['invalid UTF-8'] = { one(good, nil, '\255'), 'invalid UTF-8' },
    ['deep nesting'] = { build('{"a":' .. ('['):rep(100000)), 'nested more than' },
    ['an unknown type'] = { one('"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]'), "tensor 'a'", 'F8_E4M3' },
    ['a type that is a number'] = { one('"dtype":4,"shape":[8],"data_offsets":[0,8]'), "tensor 'a'", 'dtype' },
    ['a missing shape'] = { one('"dtype":"F32","data_offsets":[0,8]'), 'shape: expected an array' },
    ['an unknown entry'] = { one(good .. ',"x":1'), "unknown entry 'x'" },
    ['a negative size'] = { one('"dtype":"F32","shape":[-2],"data_offsets":[0,8]'), 'whole number' },
    ['a fractional size'] = { one('"dtype":"F32","shape":[2.5],"data_offsets":[0,8]'), 'whole number' },
    ['a size of 2^62'] = { one('"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]'), 'whole number' },
    ['a product that overflows'] = { one('"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]', ''),
      'overflows' },
    ['a product that wraps'] = { one('"dtype":"F32","shape":[4294967296,1073741824,2],"data_offsets":[0,8]'), 'overflows' },
    ['9 dimensions'] = { one('"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]'), '9 dimensions' },
    ['offsets in reverse'] = { one('"dtype":"F32","shape":[2],"data_offsets":[8,0]'), 'data_offsets' },
    ['offsets past the end'] = { one('"dtype":"F32","shape":[4],"data_offsets":[0,16]'), '8 bytes of data' },
    ['three offsets'] = { one('"dtype":"F32","shape":[2],"data_offsets":[0,8,8]'), 'two whole numbers' },
    ['a shape that does not fit'] = { one('"dtype":"F32","shape":[3],"data_offsets":[0,8]'), 'its shape needs 12' },
    ['a hole'] = { one('"dtype":"F32","shape":[1],"data_offsets":[4,8]'), 'leaves a hole' },
    ['an overlap'] = { build('{"a":{' .. good .. '},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', ('\0'):rep(12)),
      "tensor 'b' overlaps" },
    ['the same bytes twice'] = { build('{"a":{' .. good .. '},"b":{' .. good .. '}}', ('\0'):rep(8)), 'overlaps' },
    ['trailing bytes'] = { one(good, ('\0'):rep(9)), '1 bytes after the last tensor' },
    ['metadata that is no string'] = { build('{"__metadata__":{"a":1}}'), "__metadata__: 'a'" },
    ['metadata that is no object'] = { build('{"__metadata__":"x"}'), '__metadata__' },
    ['an entry that is no object'] = { build('{"a":3}'), "tensor 'a'" },
    ['a bool of 2'] = { one('"dtype":"BOOL","shape":[3],"data_offsets":[0,3]', '\0\1\2'), '2 is neither true nor false' },
  } do
    it('refuses ' .. what, function()
      local path = scratch.file(case[1])
      assert.fails(function() safetensors.load(path) end, 'safetensors.load: ' .. path, unpack(case, 2))
    end)
  end

  it('refuses a file cut off at any byte, and one byte more', function()
    local path = scratch.path()
    safetensors.save(path, { a = tensor{ 1, 2, 3 }, b = tensor({ true, false }) }, { x = 'y' })
    local content = scratch.content(path)
    for n = 0, #content - 1 do
      local cut = scratch.file(content:sub(1, n))
      assert.fails(function() safetensors.load(cut) end, 'safetensors.load: ' .. cut)
      os.remove(cut)
    end
    assert.fails(function() safetensors.load(scratch.file(content .. '\0')) end, 'after the last tensor')
  end)

  it('opens regular files only', function()
    assert.fails(function() safetensors.load('/dev/zero') end, 'it is a device')
    assert.fails(function() safetensors.load(scratch.folder()) end, 'it is a folder')
    assert.fails(function() safetensors.load('/nowhere/file') end, '/nowhere/file: No such file')
    assert.fails(function() safetensors.load(3) end, 'path: expected a file name, got number')
    assert.fails(function() safetensors.load('a\0b') end, 'zero byte')
    local fifo = scratch.path()
    os.execute('mkfifo ' .. fifo)
    assert.fails(function() safetensors.load(fifo) end, 'it is a FIFO')
    assert.fails(function() safetensors.save(fifo, {}) end, 'it is a FIFO')
  end)

  it('checks what it writes, and leaves the old file on any error', function()
    local path = scratch.path()
    safetensors.save(path, { a = tensor{ 1 } })
    local before = scratch.content(path)
    assert.fails(function() safetensors.save(path, { tensor{ 1 } }) end, 'a tensor name: expected a string, got number')
    assert.fails(function() safetensors.save(path, { ['\255'] = tensor{ 1 } }) end, 'not valid UTF-8')
    assert.fails(function() safetensors.save(path, { __metadata__ = tensor{ 1 } }) end, '__metadata__')
    assert.fails(function() safetensors.save(path, { a = 1 }) end, 'safetensors.save: a: expected a tensor')
    assert.fails(function() safetensors.save(path, tensor{ 1 }) end, 'got a tensor')
    assert.fails(function() safetensors.save(path, {}, { a = 1 }) end, 'metadata: a: expected a string')
    assert.fails(function() safetensors.save('/nowhere/x', {}) end, '/nowhere/x: No such file')
    assert.fails(function() safetensors.save('/proc/x', {}) end, '/proc/x: No such file')
    assert.fails(function() safetensors.load(path, { devise = 'cpu' }) end, "did you mean 'device'")
    assert.equal(before, scratch.content(path))
    local file = require 'masked_torch.io.file'
    assert.fails(function()
      file.write('test', path, function(write) write('half') error('disk full', 0) end)
    end, 'disk full')
    assert.equal(before, scratch.content(path))
    for name in require('lfs').dir(scratch.folder()) do assert.is_nil(name:find('%.tmp$')) end
  end)
end)
