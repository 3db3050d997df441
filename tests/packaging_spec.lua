-- What is installed runs without the checkout, and goes away again.
local lfs = require 'lfs'
local interpreter = require 'support.interpreter'

local root = require 'support.root'
if not root:find('^/') then root = lfs.currentdir() .. '/' .. root end
local config = os.getenv('MASKED_TORCH_CONFIG') or 'release'

local function shell(command, ...)
  local pipe = assert(io.popen(('{ ' .. command .. '\n} 2>&1; echo "[$?]"'):format(...)))
  local text = pipe:read('*a')
  pipe:close()
  local output, status = text:match('^(.*)%[(%d+)%]\n$')
  return output, tonumber(status)
end

local function folder()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  finally(function() os.execute(("rm -rf '%s'"):format(path)) end)
  return path
end

describe('an installation', function()
  for _, layout in ipairs{ { 'PREFIX', '' }, { 'LuaRocks', ' LUADIR=%s/rock/share NATIVEDIR=%s/rock/share/masked_torch/native' } } do
    it('below ' .. layout[1] .. ' runs without the checkout, and is removed without rest', function()
      local place = folder()
      local where = (" -C '%s' config=%s DESTDIR= PREFIX='%s/usr'"):format(root, config, place) .. layout[2]:gsub('%%s', place)
      local output, status = shell('make -s install%s', where)
      assert.equal(0, status, output)
      local lua = layout[2] == '' and place .. '/usr/share/lua/5.1' or place .. '/rock/share'
      -- `here` says where the library was found.
      local script = [[local torch = require "masked_torch"
        print(torch.__version, torch.nn.MaskConv2d(1, 2, 3)(torch.ones(1, 1, 4, 4)):size(2), torch.io, torch.train, torch.plot ~= nil)
        for line in io.lines "/proc/self/maps" do print(line:match("/.*/libmasked_torch_cpu.so")) end]]
      local printed = shell([[cd '%s' && LUA_PATH='%s/?.lua;%s/?/init.lua' '%s' -e '%s']], place, lua, lua, interpreter, script)
      assert.is_truthy(printed:find('^%d+%.%d+%.%d+%s+2%s'), printed)
      assert.is_truthy(printed:find(place, 1, true), printed)
      assert.is_nil(printed:find(root .. 'build', 1, true), printed)
      printed = shell([[cd '%s' && LUA_PATH= '%s' usr/bin/masked-torch -e 'torch.ones(2):sum():item()']], place, interpreter)
      if layout[2] == '' then assert.equal('2\n', printed) end
      output, status = shell('make -s uninstall%s', where)
      assert.equal(0, status, output)
      assert.equal('', (shell("find '%s' -type f", place)))
    end)
  end

  it('has every module that the checkout has', function()
    local place = folder()
    shell("make -s -C '%s' config=%s install DESTDIR='%s' PREFIX=/p", root, config, place)
    local function list(path) return (shell("cd '%s' && find masked_torch -name '*.lua' | sort", path)) end
    assert.equal(list(root .. 'lua'), list(place .. '/p/share/lua/5.1'))
  end)
end)

describe('a tarball', function()
  it('of one commit has the same bytes every time', function()
    if not lfs.attributes(root .. '.git') then return pending('not a git checkout') end
    local place, first = folder(), nil
    for _ = 1, 2 do
      local output, status = shell("make -s -C '%s' dist DIST_FOLDER='%s'", root, place)
      assert.equal(0, status, output)
      first = first or output
      assert.equal(first, output)
    end
    local list = shell("tar tzf '%s'/masked-torch-*.tar.gz | sed 's,^[^/]*/,,'", place)
    for _, name in ipairs{ 'VERSION', 'Makefile', 'debian/control', 'docs/README.md', 'bin/masked-torch' } do
      assert.is_truthy(('\n' .. list):find('\n' .. name .. '\n', 1, true), name)
    end
  end)
end)

describe('the man page', function()
  it('has every option of the command', function()
    local page = io.open(root .. 'docs/masked-torch.1'):read('*a'):gsub('\\%-', '-')
    page = page:gsub('\\f[BIR]', '')
    local count = 0
    for option in shell("'%s' '%sbin/masked-torch' --help", interpreter, root):gmatch('\n  (%-%-?[%a-]*)') do
      count = count + 1
      assert.is_truthy(page:find('\n[%.BIR ]*"?' .. option:gsub('%-', '%%-') .. '[%s"]'), option)
    end
    assert.is_true(count >= 9)
  end)
end)

describe('the rockspec', function()
  it('is of this version and names what exists', function()
    local version = io.open(root .. 'VERSION'):read('*l')
    local found
    for name in lfs.dir(root) do
      if name:find('%.rockspec$') then
        assert.is_nil(found)
        found = name
      end
    end
    local rock = {}
    setfenv(assert(loadfile(root .. found)), rock)()
    assert.equal(('%s-%s.rockspec'):format(rock.package, rock.version), found)
    assert.equal(version, rock.version:match('^(.*)%-%d+$'))
    assert.equal('v' .. version, rock.source.tag)
    local makefile = io.open(root .. 'Makefile'):read('*a')
    for _, target in ipairs{ rock.build.build_target, rock.build.install_target } do
      assert.is_truthy(makefile:find('\n' .. target .. ':', 1, true))
    end
  end)
end)
