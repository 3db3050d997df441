local interpreter = require 'support.interpreter'
local lfs = require 'lfs'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local data = torch.data
local text = data.text

local function command(name) return os.execute('command -v ' .. name .. ' >/dev/null 2>&1') == 0 end

describe('text', function()
  teardown(scratch.clean)

  it('is read as a string and as bytes that count from 1', function()
    local path = scratch.file('h\0\255\n')
    assert.equal('h\0\255\n', text.read(path))
    assert.equal('h\0\255\n', text.load(path))
    assert.same({ 105, 1, 256, 11 }, text.bytes(path):tensor():totable())
    assert.equal(4, text.bytes(path, { context = 3 }):length())
  end)

  it('is the King James Bible', function()
    if not command('bible') then
      pending('bible-kjv is not installed')
      return
    end
    local kjv = text.load('kjv')
    local _, verses = kjv:gsub('\n', '\n')
    assert.equal(31102, verses)
    assert.equal('In the beginning God created the heaven and the earth.\n', kjv:match('^.-\n'))
    assert.is_nil(kjv:find('[\128-\255%d]'))
    assert.equal('Ge1:1 In the', text.kjv{ references = true }:sub(1, 12))
  end)

  it('says what to install when the Bible is missing', function()
    -- The search path of the child is what os.execute and io.popen use; a copy of the process with an empty one.
    local script = scratch.file([[
      package.path = ...
      local ok, message = pcall(require('masked_torch').data.text.kjv)
      io.write(tostring(message))
    ]])
    local pipe = io.popen(("%s %s '%s'"):format(interpreter, script, package.path) .. ' 2>&1')
    local with = pipe:read('*a')
    pipe:close()
    pipe = io.popen(("luajit=$(command -v %s); sh=$(command -v sh); PATH=/nowhere $luajit %s '%s' 2>&1"):format(interpreter,
      script, package.path))
    local without = pipe:read('*a')
    pipe:close()
    assert.is_not_nil(without:find('apt install bible-kjv bible-kjv-text', 1, true), without)
    assert.is_true(with ~= without or not command('bible'))
  end)

  it('names the file to place when Shakespeare is missing', function()
    assert.fails(function() text.tiny_shakespeare{ folder = '/nowhere' } end, '/nowhere/tiny_shakespeare.txt is missing',
      '{fetch = true}', 'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt')
  end)

  it('checks the checksum of what is there', function()
    local folder = scratch.folder() .. '/cache'
    assert(lfs.mkdir(folder))
    local path = folder .. '/tiny_shakespeare.txt'
    finally(function() os.remove(path) lfs.rmdir(folder) end)
    for _, content in ipairs{ 'To be', ('x'):rep(1115394), '' } do
      local f = assert(io.open(path, 'wb'))
      f:write(content)
      f:close()
      assert.fails(function() text.load('tiny_shakespeare', { folder = folder }) end, path, 'is not the expected file',
        '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed')
    end
  end)

  it('takes Shakespeare from the cache, and fetches it only when asked', function()
    local original = (os.getenv('MASKED_TORCH_DATA') or '') .. '/tiny_shakespeare.txt'
    if not lfs.attributes(original) then
      pending('set MASKED_TORCH_DATA to a folder with tiny_shakespeare.txt to test this')
      return
    end
    local tokens = data.Tokens.of_string(text.tiny_shakespeare())
    local train, valid, test = tokens:split{ 0.9, 0.05, 0.05 }
    assert.same({ 1003854, 55770, 55770 }, { train:length(), valid:length(), test:length() })
  end)

  -- A curl of our own, first in the path, stands for the network.
  it('keeps only what was fetched whole', function()
    local bin, cache = scratch.folder() .. '/bin', scratch.folder() .. "/it's a cache/deep"
    assert(lfs.mkdir(bin))
    local curl = bin .. '/curl'
    local f = assert(io.open(curl, 'w'))
    f:write('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho "To be" > "$2"\n')
    f:close()
    os.execute('chmod +x ' .. curl)
    local script = scratch.file([[
      local path, cache = ...
      package.path = path
      local ok, message = pcall(require('masked_torch').data.text.tiny_shakespeare, { fetch = true, folder = cache })
      io.write(tostring(message))
    ]])
    local pipe = io.popen(('PATH=%s:$PATH %s %s \'%s\' "%s" 2>&1'):format(bin, interpreter, script, package.path, cache))
    local message = pipe:read('*a')
    pipe:close()
    os.remove(curl)
    lfs.rmdir(bin)
    assert.is_not_nil(message:find('is not the expected file (6 bytes', 1, true), message)
    local left = {}
    for name in lfs.dir(cache) do
      if not name:find('^%.') then left[#left + 1] = name end
    end
    assert.same({}, left)
    lfs.rmdir(cache)
    lfs.rmdir(cache:match('^(.*)/'))
  end)

  for what, case in pairs{
    ['a missing file'] = { function() text.read('/nowhere/x.txt') end, '/nowhere/x.txt: No such file' },
    ['a missing file of bytes'] = { function() text.bytes('/nowhere/x.txt') end, '/nowhere/x.txt: No such file' },
    ['an empty file'] = { function() text.read(scratch.file('')) end, 'the file is empty' },
    ['an empty file of bytes'] = { function() text.bytes(scratch.file('')) end, 'the file is empty' },
    ['a file shorter than the context'] = { function() text.bytes(scratch.file(('x'):rep(90)), { context = 128 }) end,
      'has 90 tokens, context needs 129' },
    ['tokens shorter than the context'] = { function() text.check_context({ 1, 2 }, 2) end, 'dataset has 2 tokens, context needs 3' },
    ['a folder'] = { function() text.read('/tmp') end, 'a folder' },
    ['a device'] = { function() text.bytes('/dev/zero') end, 'regular file' },
    ['a path that is a number'] = { function() text.read(5) end, 'expected a file name' },
    ['a path with a zero byte'] = { function() text.bytes('a\0b') end, 'zero byte' },
    ['options of another source'] = { function() text.load('/tmp', { fetch = true }) end, 'fetch' },
    ['an unknown option'] = { function() text.tiny_shakespeare{ fetsh = true } end, "'fetch'" },
  } do
    it('refuses ' .. what, function() assert.fails(case[1], unpack(case, 2)) end)
  end
end)
