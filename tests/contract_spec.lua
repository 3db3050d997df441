-- The contract and the house: every declared kernel exists, every stem stands in its places.
local lfs = require 'lfs'
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'

local root = require 'support.root'
local read = require('support.scratch').content

local function exists(path) return lfs.attributes(path, 'mode') == 'file' end

local headers = {}
for name in read(root .. 'core/kernels.h'):gmatch('#include "([%w_]+)%.h"') do headers[#headers + 1] = name end

describe('the contract', function()
  it('is implemented: every prototype resolves in the CPU library', function()
    local missing = {}
    for _, stem in ipairs(headers) do
      for name in read(root .. 'core/' .. stem .. '.h'):gsub('//[^\n]*', ''):gmatch('(mt_[%w_]+)%(') do
        if not pcall(function() return native.cpu[name] end) then missing[#missing + 1] = name end
      end
    end
    assert.are.equal('', table.concat(missing, ' '))
  end)

  it('compiles as C and as C++, without a warning, and links', function()
    local scratch = require 'support.scratch'
    local library = ('%sbuild/%s/libmasked_torch_cpu.so'):format(root, os.getenv 'MASKED_TORCH_CONFIG' or 'release')
    local program = '#include "masked_torch.h"\nint main(void) { return mt_version() && mt_threads_get() > 0 ? 0 : 1; }\n'
    for extension, compiler in pairs{ ['.c'] = 'gcc -std=c11', ['.cc'] = 'g++ -std=c++11' } do
      if os.execute(('command -v %s > /dev/null'):format(compiler:match('%S+'))) == 0 then
        local source = scratch.file(program, extension)
        local build = ("%s -Wall -Wextra -pedantic -Werror '-I%score' '%s' '%s' -Wl,--unresolved-symbols=ignore-in-shared-libs -o '%s.out'")
          :format(compiler, root, source, library, source)
        assert.are.equal(0, os.execute(build), build)
        os.remove(source .. '.out')
      end
    end
    scratch.clean()
  end)

  it('names the file in every prefix', function()
    local strays = {}
    for _, stem in ipairs(headers) do
      if stem ~= 'runtime' then
        for name in read(root .. 'core/' .. stem .. '.h'):gsub('//[^\n]*', ''):gmatch('(mt_[%w_]+)%(') do
          local is_own = name == 'mt_' .. stem or name:sub(1, #stem + 4) == 'mt_' .. stem .. '_'
          if not is_own then strays[#strays + 1] = name end
        end
      end
    end
    assert.are.equal('', table.concat(strays, ' '))
  end)

  -- An operation stands in autograd/op; any other stem is a file or a folder of lua/masked_torch. Kernels without a Lua file
  -- of their own are tested with the file that uses them.
  local served = { checksum = 'checkpoint', mapped = 'dataset' }
  it('gives every stem its Lua file, its cases and its spec', function()
    local function find(folder, name)
      for entry in lfs.dir(folder) do
        local path = folder .. '/' .. entry
        if entry == name then return path end
        if not entry:match('^%.') and lfs.attributes(path, 'mode') == 'directory' then
          local found = find(path, name)
          if found then return found end
        end
      end
    end
    local missing = {}
    for _, header in ipairs(headers) do
      local stem = served[header] or header
      if stem ~= 'runtime' and stem ~= 'tensor' then
        local op = root .. 'lua/masked_torch/autograd/op/' .. stem .. '.lua'
        local lua = root .. 'lua/masked_torch'
        if not exists(op) and not find(lua, stem .. '.lua') and not exists(lua .. '/' .. stem .. '/init.lua') then
          missing[#missing + 1] = stem .. '.lua'
        end
        if not find(root .. 'tests', stem .. '_spec.lua') then missing[#missing + 1] = stem .. '_spec.lua' end
        local cases = root .. 'tests/op/' .. stem .. '_cases.lua'
        if exists(op) and read(op):find('autograd.op', 1, true) and not exists(cases) then missing[#missing + 1] = cases end
      end
    end
    assert.are.equal('', table.concat(missing, ' '))
  end)

  it('has one version', function()
    local version = read(root .. 'VERSION'):match('%S+')
    assert.are.equal(version, native.version)
    assert.are.equal(version, ffi.string(native.cpu.mt_version()))
    assert.are.equal(version, torch.__version)
  end)

  it('adds no global names', function()
    local known = {}
    for name in pairs(_G) do known[name] = true end
    for _, name in ipairs { 'nn', 'io', 'plot', 'mask' } do assert.is_table(torch[name]) end
    for name in pairs(torch.nn.class_files) do assert.is_not_nil(torch.nn[name], name) end
    for name in pairs(_G) do assert.is_true(known[name] == true, 'global ' .. tostring(name)) end
  end)

  it('executes no data: io and data hold no load, loadstring or dofile', function()
    local function walk(folder)
      for entry in lfs.dir(folder) do
        local path = folder .. '/' .. entry
        if entry:match('%.lua$') then
          local code = read(path):gsub('%-%-[^\n]*', '')
          assert.is_nil(code:match('[^%w_.:]loadstring%f[%W]') or code:match('[^%w_.:]dofile%f[%W]') or
            code:match('[^%w_.:]load%('), path)
        elseif not entry:match('^%.') and lfs.attributes(path, 'mode') == 'directory' then
          walk(path)
        end
      end
    end
    walk(root .. 'lua/masked_torch/io')
  end)
end)
