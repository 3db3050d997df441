local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local idx, gzip = torch.io.idx, torch.io.gzip

local function header(kind, ...)
  local out = { '\0\0' .. string.char(kind, select('#', ...)) }
  for _, n in ipairs{ ... } do
    out[#out + 1] = string.char(math.floor(n / 2 ^ 24) % 256, math.floor(n / 2 ^ 16) % 256, math.floor(n / 256) % 256, n % 256)
  end
  return table.concat(out)
end

-- A gzip file made by the program of that name.
local function compressed(content)
  local path = scratch.file(content)
  assert(os.execute('gzip -9 -n ' .. path) == 0)
  local packed = scratch.content(path .. '.gz')
  os.remove(path .. '.gz')
  return packed
end

describe('idx #memory', function()
  teardown(scratch.clean)

  it('reads every element type, plain and compressed', function()
    for _, case in ipairs{
      { 8, '\0\1\127\255', 'uint8', { 0, 1, 127, 255 } },
      { 9, '\0\1\127\255', 'int32', { 0, 1, 127, -1 } },
      { 0x0b, '\0\1\255\254', 'int32', { 1, -2 } },
      { 0x0c, '\0\0\1\0\255\255\255\255', 'int32', { 256, -1 } },
      { 0x0d, '\63\128\0\0\192\0\0\0', 'float32', { 1, -2 } },
      { 0x0e, '\63\240\0\0\0\0\0\0', 'float64', { 1 } },
    } do
      local content = header(case[1], #case[4]) .. case[2]
      for _, stored in ipairs{ content, compressed(content) } do
        local t = idx.load(scratch.file(stored))
        assert.equal(case[3], t.dtype)
        assert.same(case[4], t:totable())
      end
    end
    local t = idx.load(scratch.file(header(8, 2, 1, 3) .. 'abcdef'))
    assert.same({ { { 97, 98, 99 } }, { { 100, 101, 102 } } }, t:totable())
    assert.same({ 0, 5 }, idx.load(scratch.file(header(8, 0, 5))):size())
    assert.same({ 0 }, idx.load(scratch.file(compressed(header(8, 0)))):size())
  end)

  it('reads compressed data of several pieces and members', function()
    local body = {}
    for i = 1, 300000 do body[i] = string.char((i * i) % 251) end
    body = table.concat(body)
    local t = idx.load(scratch.file(compressed(header(8, 300000) .. body:sub(1, 1e5)) .. compressed(body:sub(100001))))
    local values = t:totable()
    for i = 1, 300000, 997 do assert.equal((i * i) % 251, values[i]) end
    assert.equal(body, gzip.read('test', scratch.file(compressed(body)), 300000))
  end)

  local good = compressed(header(8, 2, 2) .. 'abcd')
  for what, case in pairs{
    ['an empty file'] = { '', 'too short for an IDX header' },
    ['another file'] = { 'PNG not IDX', 'not an IDX file: it begins with 50 4e 47 20' },
    ['another compressed file'] = { compressed('PNG not IDX'), 'not an IDX file' },
    ['an unknown element type'] = { header(7, 1) .. 'a', 'not an IDX file' },
    ['no dims'] = { header(8) .. 'a', '0 dims' },
    ['9 dims'] = { header(8, 1, 1, 1, 1, 1, 1, 1, 1, 1) .. 'a', '9 dims' },
    ['sizes cut off'] = { header(8, 2, 2):sub(1, 9), 'too short for its sizes' },
    ['data cut off'] = { header(8, 2, 2) .. 'abc', 'the sizes (2, 2) need 4 bytes' },
    ['more data'] = { header(8, 2, 2) .. 'abcde', '1 bytes follow' },
    ['sizes of terabytes'] = { header(8, 2 ^ 31, 2 ^ 31) .. 'abcd', 'cannot hold them' },
    ['sizes that overflow'] = { header(0x0e, 2 ^ 32 - 1, 2 ^ 32 - 1, 2 ^ 32 - 1) .. 'abcd', 'cannot hold them' },
    ['compressed sizes of terabytes'] = { compressed(header(8, 2 ^ 31, 2 ^ 31) .. 'abcd'), 'cannot hold them' },
    ['compressed data cut short'] = { compressed(header(8, 2, 2) .. 'abc'), 'ends after 15 bytes, 1 more' },
    ['more compressed data'] = { compressed(header(8, 2, 2) .. 'abcde'), 'more data follows' },
    ['a bomb'] = { compressed(header(8, 2, 2) .. ('\0'):rep(1e7)), 'more data follows' },
    ['damaged data'] = { good:sub(1, 10) .. '\7' .. good:sub(12), 'damaged' },
    ['a wrong checksum'] = { good:sub(1, -9) .. 'abcd' .. good:sub(-4), 'damaged' },
    ['garbage after the end'] = { good .. 'garbage', 'damaged' },
  } do
    it('refuses ' .. what, function()
      local path = scratch.file(case[1])
      local before = torch.Tensor.namespace.cpu.mt_memory_peak()
      assert.fails(function() idx.load(path) end, 'idx.load: ' .. path, case[2])
      assert.is_true(torch.Tensor.namespace.cpu.mt_memory_peak() - before < 1e6)
    end)
  end

  it('refuses a file cut off at any byte, plain or compressed', function()
    for _, content in ipairs{ header(8, 2, 2) .. 'abcd', good } do
      for n = 0, #content - 1 do
        local cut = scratch.file(content:sub(1, n))
        assert.fails(function() idx.load(cut) end, 'idx.load: ' .. cut)
      end
    end
  end)

  it('never crashes on a damaged file', function()
    local refused = 0
    for n = 1, #good do
      for _, byte in ipairs{ 0, 255, (good:byte(n) + 1) % 256 } do
        local ok = pcall(idx.load, scratch.file(good:sub(1, n - 1) .. string.char(byte) .. good:sub(n + 1)))
        refused = refused + (ok and 0 or 1)
      end
    end
    assert.is_true(refused > #good)
  end)

  it('limits what gzip.read unpacks', function()
    local bomb = scratch.file(compressed(('\0'):rep(1e7)))
    assert.fails(function() gzip.read('test', bomb, 1e6) end, 'test: ' .. bomb, 'more than the limit of 1000000 bytes')
    assert.fails(function() gzip.read('test', scratch.file('abc'), 10) end, 'not a gzip file')
    assert.fails(function() gzip.read('test', '/nowhere/x', 10) end, 'No such file')
  end)
end)
