local lfs = require 'lfs'
local page = require 'support.page'
local interpreter = require 'support.interpreter'

local root = require 'support.root'
if not root:find('^/') then root = lfs.currentdir() .. '/' .. root end
root = root:gsub('/%./', '/'):gsub('/%.?/?$', '')

local function content(path)
  local file = assert(io.open(path, 'rb'))
  local text = file:read('*a')
  file:close()
  return text
end

local function shell(command)
  local pipe = assert(io.popen(command .. ' 2>&1'))
  local text = pipe:read('*a')
  pipe:close()
  return text
end

-- Every page of the manual; every Lua file with an example.
local pages = { 'README.md', 'CONTRIBUTING.md' }
for name in lfs.dir(root .. '/docs') do
  if name:find('%.md$') then pages[#pages + 1] = 'docs/' .. name end
end
table.sort(pages)

-- A folder that looks like the checkout, in which files may be made. Pages that add files to core/ or lua/ get a copy, with the
-- objects of the build, so that only what is new is compiled.
local config = os.getenv('MASKED_TORCH_CONFIG') or 'release'
local function workshop(text)
  local folder = os.tmpname()
  os.remove(folder)
  assert(lfs.mkdir(folder))
  if text:find('```%a+ core/') or text:find('```lua lua/') then
    shell(("cd '%s' && cp -a core cuda lua tests Makefile VERSION .busted '%s' && mkdir -p '%s/build' && cp -a build/%s '%s/build/'")
      :format(root, folder, folder, config, folder))
  else
    for name in lfs.dir(root) do
      if not (name:find('^%.') or name == 'out') then os.execute(("ln -s '%s/%s' '%s/%s'"):format(root, name, folder, name)) end
    end
  end
  return folder
end

local function execute(kind, files, text)
  local folder = workshop(text or '')
  finally(function() os.execute(("rm -rf '%s'"):format(folder)) end)
  return shell(("cd '%s' && { '%s' '%s/tests/support/page_child.lua' '%s' %s %s 2>stderr || { cat stderr; echo failed; }; }")
    :format(folder, interpreter, root, root, kind, table.concat(files, ' ')))
end

describe('the manual', function()
  for _, name in ipairs(pages) do
    it(name .. ' does what it says', function()
      local text = content(root .. '/' .. name)
      local expected = 0
      for info in ('\n' .. text):gmatch('\n%s*```(%a[^\n]*)') do
        if info:find('^lua') and not info:find('^lua norun') or info:find('^c ') or info:find('^c%+%+ ') or info:find('^sh run') then
          expected = expected + 1
        end
      end
      assert.equal(expected .. ' blocks\n', execute('page', { root .. '/' .. name }, text))
    end)
  end

  it('executes the examples of the Lua files', function()
    local files, expected = {}, 0
    for path in shell(("grep -rl -e '-- @usage' '%s/lua' | sort"):format(root)):gmatch('[^\n]+') do
      files[#files + 1] = path
      for _ in ('\n' .. content(path)):gmatch('\n%s*%-%- @usage') do expected = expected + 1 end
    end
    assert.is_true(expected > 0)
    assert.equal(expected .. ' blocks\n', execute('examples', files))
  end)

  it('leaves out few blocks', function()
    local count = 0
    for _, name in ipairs(pages) do
      for _ in content(root .. '/' .. name):gmatch('```lua norun') do count = count + 1 end
    end
    assert.is_true(count <= 4)
  end)

  it('links to what is there', function()
    local missing = {}
    for _, name in ipairs(pages) do
      local folder = name:match('^(.*/)') or ''
      for target in content(root .. '/' .. name):gsub('```.-```', ''):gmatch('%]%(([^)%s]+)%)') do
        local path, anchor = target:match('^([^#]*)#?(.*)$')
        if not target:find('^%a+:') then
          local file = path == '' and name or folder .. path
          local there = lfs.attributes(root .. '/' .. file, 'mode')
          local found = there ~= nil
          if found and anchor ~= '' and file:find('%.md$') then
            found = false
            for heading in ('\n' .. content(root .. '/' .. file)):gmatch('\n#+ ([^\n]+)') do
              if heading:lower():gsub('[^%w%- _]', ''):gsub(' ', '-') == anchor then found = true end
            end
          end
          if not found then missing[#missing + 1] = name .. ': ' .. target end
        end
      end
    end
    assert.same({}, missing)
  end)

  it('lists every module in layers.md', function()
    local text = content(root .. '/docs/layers.md'):gsub('(%w+)1d/2d/3d', '%11d %12d %13d')
    local missing = {}
    for name in pairs(require('masked_torch').nn.class_files) do
      if not text:find('%f[%w]' .. name:gsub('^Lazy', '') .. '%f[%W]') then missing[#missing + 1] = name end
    end
    assert.same({}, missing)
  end)

  it('lists every page in the index', function()
    local index = content(root .. '/docs/README.md')
    for _, name in ipairs(pages) do
      local page_name = name:match('^docs/(.*)')
      if page_name and page_name ~= 'README.md' then assert.is_truthy(index:find('(' .. page_name .. ')', 1, true), page_name) end
    end
  end)

  -- Shell commands that are shown, in fences or indented: targets, scripts and options exist.
  it('names targets, scripts and options that exist', function()
    local targets, wrong = {}, {}
    for target in ('\n' .. content(root .. '/Makefile')):gmatch('\n([%w%-]+):[^=]') do targets[target] = true end
    local function check(name, line)
      for target in line:gmatch('^make ([^#]*)') do
        for word in target:gmatch('%S+') do
          if word:find('^[%a][%w%-]*$') and not targets[word] then wrong[#wrong + 1] = name .. ': make ' .. word end
        end
      end
      local script = line:match('^luajit (%S+%.lua)') or line:match('^sh (scripts/%S+)') or line:match('^(scripts/%S+)') or
        line:match('^luajit (bin/%S+)') or line:match('^(bin/%S+)')
      if script and not script:find('^/') then
        local there = lfs.attributes(root .. '/' .. script, 'mode')
        if not there and not content(root .. '/' .. name):find('```lua ' .. script, 1, true) then
          wrong[#wrong + 1] = name .. ': ' .. script
        elseif there and script:find('^experiments/') then
          local source = content(root .. '/' .. script) .. shell(("cat '%s/%s'/*.lua"):format(root, (script:gsub('%.lua$', ''))))
          for option in line:gsub('%s#.*', ''):gmatch('%s(%-%-[%w%-]+)') do
            if option ~= '--help' and not source:find("'" .. option .. "'", 1, true) and
              not source:find("[' ]" .. option:gsub('%-', '%%-') .. "['= ]") then
              wrong[#wrong + 1] = ('%s: %s has no %s'):format(name, script, option)
            end
          end
        end
      end
    end
    for _, name in ipairs(pages) do
      local text = content(root .. '/' .. name)
      for _, block in ipairs((page.parse(text, name))) do
        if block.kind == 'sh' then
          for _, line in ipairs(block.lines) do check(name, (line:gsub('^%$ ', ''))) end
        end
      end
      for line in text:gmatch('\n    ([^\n]+)') do check(name, line) end
    end
    assert.same({}, wrong)
  end)
end)

-- ---- the harness itself ------------------------------------------------------------------------------------------------

describe('a page', function()
  local function problems_of(...)
    local blocks, problems = page.parse(table.concat({ ... }, '\n'), 'p')
    local file = os.tmpname()
    local reader = assert(io.open(file, 'rb'))
    local writer = assert(io.open(file, 'wb'))
    local environment = setmetatable({ print = function(...)
      local words = { ... }
      for i = 1, select('#', ...) do words[i] = tostring(words[i]) end
      writer:write(table.concat(words, '\t'), '\n')
    end }, { __index = _G })
    local _, failures = page.run(blocks, 'p', { environment = environment, write = function() end, capture = function(fn)
      fn()
      writer:flush()
      return reader:read('*a') or ''
    end })
    writer:close()
    reader:close()
    os.remove(file)
    for _, failure in ipairs(failures) do problems[#problems + 1] = failure end
    return table.concat(problems, '\n')
  end

  it('shares variables between blocks, locals included', function()
    assert.equal('', problems_of('```lua', 'local a, b = 1, 2', 'local function f(x)', '  return x + b', 'end', '```', 'text', '```lua',
      'print(f(a))   --> 3', 'for i = 1, 2 do', '  print(i)', 'end', '--> 1', '--> 2', '```'))
  end)
  it('compares what is printed', function()
    assert.equal('p:2: expected "4", got "3"', problems_of('```lua', 'print(3)  --> 4', '```'))
    assert.equal('p:2: expected "3", and nothing more was printed', problems_of('```lua', 'local x = 1  --> 3', '```'))
    assert.equal('p:3: printed "5", which is not in the page', problems_of('```lua', 'print(3)  --> 3', 'print(5)', '```'))
    assert.equal('', problems_of('```lua', 'print("took 1.5 s")  --> took ... s', '```'))
    assert.equal('', problems_of('```lua', 'print("a\\nb\\nc")', '```', '', '```output', 'a', '...', 'c', '```'))
    assert.equal('p:2: expected "c", got "b"', problems_of('```lua', 'print("a\\nb")', '```', '```output', 'a', 'c', '```'))
  end)
  it('compares messages, and wants them', function()
    assert.equal('', problems_of('```lua', 'error("op: no")  --> error: op: no', '```'))
    assert.equal('', problems_of('```lua', 'error("op: no and no")', '--> error: op: no', '--> and no', '```'))
    assert.equal('p:2: expected the error "op: yes", got "op: no"', problems_of('```lua', 'error("op: no")  --> error: op: yes', '```'))
    assert.equal('p:2: no error, expected: op', problems_of('```lua', 'local y = 1  --> error: op', '```'))
    assert.equal('p:3: failed: p:3: op: no', problems_of('```lua', '', 'error("op: no")', '```'))
  end)
  it('takes no block that is not executed', function()
    assert.equal('p:1: a block of kind "": expected lua, c, c++, sh, output, python or text', problems_of('```', 'x', '```'))
    assert.equal('p:1: a block of kind "Lua": expected lua, c, c++, sh, output, python or text', problems_of('```Lua', 'x', '```'))
    assert.equal('p:1: norun without a reason', problems_of('```lua norun', 'x()', '```'))
    assert.equal('p:2: indented Lua is not executed; use a fence', problems_of('', '    local x = 1'))
    assert.equal('p:1: output of nothing: an executed block must stand before it', problems_of('```output', 'x', '```'))
    assert.equal("p:1: the block is not closed\np:2: '=' expected near '<eof>'", problems_of('```lua', 'x', ''))
    assert.equal("p:2: '=' expected near 'y'", problems_of('```lua', 'x y', '```'))
  end)
  it('runs shell commands', function()
    assert.equal('', problems_of('```sh run', 'echo one', 'echo two', '```', '', '```output', 'one', 'two', '```'))
    assert.equal('p:2: printed "one", which is not in the page', problems_of('```sh run', 'echo one', '```'))
    assert.is_truthy(problems_of('```sh run', 'false', 'true', '```'):find('failed', 1, true))
    assert.equal('', problems_of('```sh run', 'exit 3', '```', '```output', '[status 3]', '```'))
  end)
  it('finds the examples of a Lua file', function()
    local blocks = page.examples(
      '--- f\n-- @usage\n-- local x = 1\n-- print(x)  --> 1\nreturn 1\n--- g\n-- @usage\n--   y = 2\n-- @see f\n')
    assert.same({ { 'local x = 1', 'print(x)  --> 1' }, { '  y = 2' } }, { blocks[1].lines, blocks[2].lines })
    assert.same({ 3, 8 }, { blocks[1].first, blocks[2].first })
  end)
end)
