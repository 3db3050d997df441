local ffi = require 'ffi'
local history = require 'masked_torch.repl.history'
local lfs = require 'lfs'
local scratch = require 'support.scratch'

pcall(ffi.cdef, 'int setenv(const char *, const char *, int); int unsetenv(const char *);')

describe('history', function()
  after_each(function() scratch.clean() end)

  it('is appended to, entry by entry, by sessions side by side', function()
    local path = scratch.file 'old\n'
    local a, b = history.open(path), history.open(path)
    a:add 'from a'
    b:add 'from b'
    a:add 'for i = 1, 2 do\n  print("\\n")\nend'
    assert.are.equal('old\nfrom a\nfrom b\nfor i = 1, 2 do\\n  print("\\\\n")\\nend\n', scratch.content(path))
    assert.are.same({ 'old', 'from a', 'from b', 'for i = 1, 2 do\n  print("\\n")\nend' }, history.open(path).entries)
  end)

  it('leaves out blank and repeated entries', function()
    local h = history.open(nil)
    for _, text in ipairs{ 'x', 'x', '', '  ', 'x  ', 'y', 'x' } do h:add(text) end
    assert.are.same({ 'x', 'y', 'x' }, h.entries)
  end)

  it('reads the end of a long file, and makes the folders of a new one', function()
    local path = scratch.path()
    local file = assert(io.open(path, 'w'))
    for i = 1, 50000 do file:write(('entry number %d\n'):format(i)) end
    file:close()
    local entries = history.open(path).entries
    assert.is_true(#entries > 20000 and #entries < 40000)
    assert.are.equal('entry number 50000', entries[#entries])
    assert.is_truthy(entries[1]:find '^entry number %d+$')
    local folder = scratch.folder() .. '/state'
    assert.is_nil(history.open(folder .. '/deeper/history'):add 'first')
    assert.are.equal('first\n', scratch.content(folder .. '/deeper/history'))
    os.remove(folder .. '/deeper/history')
    lfs.rmdir(folder .. '/deeper')
    lfs.rmdir(folder)
  end)

  it('says once that it cannot be saved', function()
    local h = history.open '/proc/nowhere/history'
    assert.is_truthy(h:add 'a':find('history is not saved', 1, true))
    assert.is_nil(h:add 'b')
    assert.are.same({ 'a', 'b' }, h.entries)
  end)

  it('is found by beginning, or by anything in it', function()
    local h = history.open(nil)
    for _, text in ipairs{ 'x = 1', 'y = 2', 'x = 3', 'print(x)' } do h:add(text) end
    assert.are.equal(3, h:search('x', 5, -1))
    assert.are.equal(1, h:search('x', 3, -1))
    assert.is_nil(h:search('x', 1, -1))
    assert.are.equal(4, h:search('(x)', 5, -1, true))
    assert.are.equal(3, h:search('x', 1, 1))
  end)

  it('stands where the environment says', function()
    local saved = {}
    for _, name in ipairs{ 'MASKED_TORCH_HISTORY', 'XDG_STATE_HOME', 'HOME' } do saved[name] = os.getenv(name) or false end
    local function with(environment)
      for name in pairs(saved) do
        if environment[name] then ffi.C.setenv(name, environment[name], 1) else ffi.C.unsetenv(name) end
      end
      return history.path()
    end
    assert.are.equal('/a/b', with{ MASKED_TORCH_HISTORY = '/a/b', HOME = '/home/x' })
    assert.is_nil(with{ MASKED_TORCH_HISTORY = '', HOME = '/home/x' })
    assert.are.equal('/state/masked_torch/history', with{ XDG_STATE_HOME = '/state', HOME = '/home/x' })
    assert.are.equal('/home/x/.local/state/masked_torch/history', with{ HOME = '/home/x' })
    assert.are.equal('/home/x/.local/state/masked_torch/history', with{ XDG_STATE_HOME = 'relative', HOME = '/home/x' })
    assert.is_nil(with{})
    with(saved)
  end)
end)
