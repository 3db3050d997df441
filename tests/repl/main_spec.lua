-- The program: options, pipes, scripts, exit status. What a terminal adds is in terminal_spec.
local interpreter = require 'support.interpreter'
local scratch = require 'support.scratch'

local root = require 'support.root'

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Runs masked-torch with these arguments and that input: status, standard output, errors.
local function run(input, ...)
  local words = { 'env', 'MASKED_TORCH_THREADS=1', 'MASKED_TORCH_HISTORY=' .. scratch.path(), interpreter, root .. 'bin/masked-torch', ... }
  for i, word in ipairs(words) do words[i] = quote(word) end
  local stdin, out, err = scratch.file(input), scratch.path(), scratch.path()
  local status = os.execute(('%s <%s >%s 2>%s'):format(table.concat(words, ' '), stdin, out, err))
  return status / 256, scratch.content(out), scratch.content(err)
end

describe('masked-torch', function()
  after_each(function() scratch.clean() end)

  it('evaluates a pipe without prompt and greeting', function()
    local status, out, err = run 'local x = torch.ones(2, 2)\nx:sum():item()\nfor i = 1, 2 do\n\n  print(i)\nend\nx = 5;\n_ + 1\n'
    assert.are.same({ 0, '4\n1\n2\n5\n', '' }, { status, out, err })
  end)

  it('stops at the first mistake of a pipe', function()
    local status, out, err = run '1\nerror "no"\n2\n'
    assert.are.same({ 1, '1\n' }, { status, out })
    assert.is_truthy(err:find('error: no', 1, true))
    status, out, err = run '1\nx = = 2\n2\n'
    assert.are.same({ 1, '1\n' }, { status, out })
    assert.is_truthy(err:find("unexpected symbol near '='", 1, true))
    status, out = run '1\n:nothing\n2\n'
    assert.are.same({ 1, '1\n' }, { status, out })
    status, out, err = run 'print("half'
    assert.are.same({ 1, '' }, { status, out })
    assert.is_truthy(err:find('unfinished string', 1, true))
    status, out, err = run ''
    assert.are.same({ 0, '', '' }, { status, out, err })
  end)

  it('names what a misspelt name may have meant', function()
    local _, _, err = run('', '-e', 'torch.zeross(1)')
    assert.is_truthy(err:find("did you mean 'zeros'?", 1, true), err)
    _, _, err = run('', '-e', 'nn.Sequential{}:paramters()')
    assert.is_truthy(err:find('did you mean parameters?', 1, true), err)
    _, _, err = run('', '-e', 'torch.nothing_like_it_at_all()')
    assert.is_nil(err:find 'mean')
  end)

  it('runs code from the command line', function()
    local status, out = run('', '-e', 'local x = torch.ones(3)', '-e', 'x:sum():item()')
    assert.are.same({ 0, '3\n' }, { status, out })
    assert.are.equal(1, (run('', '-e', 'error "no"')))
    assert.are.equal(1, (run('', '-e', ':nothing')))
    local _, text = run('', '-e', '?torch.eye')
    assert.is_truthy(text:find('torch.eye(n', 1, true))
    status, out = run('1 + 1\n', '-e', 'x = 1', '-i')
    assert.are.same({ 0, '2\n' }, { status, out })
    status, out = run('x\n', '-l', 'masked_torch.options', '-e', 'options.nearest("ab", { abc = 1 })')
    assert.are.same({ 0, '"abc"\n' }, { status, out })
    assert.are.equal(1, (run('', '-l', 'no_such_module', '-e', '1')))
  end)

  it('runs scripts as luajit does', function()
    local script = scratch.file([[
local torch = require 'masked_torch'
print(arg[0], arg[1], arg[-1] ~= nil, ...)
assert(rawget(_G, 'nn') == nil and rawget(_G, 'torch') == nil)
print(torch.ones(2):sum():item())
os.exit(tonumber(arg[3]))
]], '.lua')
    local status, out, err = run('', script, 'a', '-x', '7')
    assert.are.same({ 7, ('%s\ta\ttrue\ta\t-x\t7\n2\n'):format(script), '' }, { status, out, err })
    status, out = run('print "from standard input"', '-')
    assert.are.same({ 0, 'from standard input\n' }, { status, out })
    local fails = scratch.file('local function f()\n  error "no"\nend\nf()\n', '.lua')
    status, out, err = run('', fails)
    assert.are.same({ 1, '' }, { status, out })
    assert.is_truthy(err:find(fails .. ':2: no', 1, true))
    assert.is_truthy(err:find(fails .. ':4', 1, true))
    assert.is_falsy(err:find('repl/main', 1, true))
    assert.are.equal(1, (run('', '/nowhere/at/all.lua')))
    status, out = run('value\n', '-i', scratch.file('local value = 42\n', '.lua'))
    assert.are.same({ 0, '42\n' }, { status, out })
  end)

  it('explains itself', function()
    local status, out = run('', '--help')
    assert.are.equal(0, status)
    for _, word in ipairs{ '-e CODE', '-i', '-l MODULE', '--device D', '--plain', 'MASKED_TORCH_HISTORY', 'Exit status' } do
      assert.is_truthy(out:find(word, 1, true), word)
    end
    local _, version = run('', '--version')
    assert.is_truthy(version:find('^masked%-torch %d+%.%d+%.%d+ %(LuaJIT'))
    local wrong, _, err = run('', '--wrong')
    assert.are.equal(2, wrong)
    assert.is_truthy(err:find('unknown option --wrong', 1, true))
    assert.are.equal(2, (run('', '-e')))
  end)

  it('names a device', function()
    assert.are.same({ 0, 'cpu\n', '' }, { run('print(device)\n', '--device', 'cpu') })
    local status, _, err = run('', '--device', 'cpu:1')
    assert.are.equal(2, status)
    assert.matches("^masked%-torch: %-%-device: expected 'cpu', 'cuda' or 'cuda:<n>', got \"cpu:1\"", err)
    assert.are.equal(2, (run('', '--device')))
  end)

  it('is the same through luajit -l', function()
    local out = scratch.path()
    local status = os.execute(("echo '1 + 2' | LUA_PATH='%slua/?.lua;%slua/?/init.lua;;' %s -l masked_torch.repl >%s"):format(root, root,
      interpreter, out))
    assert.are.same({ 0, '3\n' }, { status, scratch.content(out) })
    -- A script that requires it gets the module, and no prompt.
    status = os.execute(("LUA_PATH='%slua/?.lua;%slua/?/init.lua;;' %s -e 'print(type(require(\"masked_torch.repl\").start))' >%s"):format(
      root, root, interpreter, out))
    assert.are.same({ 0, 'function\n' }, { status, scratch.content(out) })
  end)

  it('saves a session that runs again', function()
    local path = scratch.path '.lua'
    local status, out, err = run(([[
local x = torch.ones(2, 3)
local x = x * 2
x:sum():item()
local function double(t) return t * 2 end
double(x):sum():item();
:hist x
error 'left out'
]]):gsub("error 'left out'\n", '') .. ':save ' .. path .. '\n')
    assert.are.same({ 0, '' }, { status, err })
    assert.is_truthy(out:find('^12\n2 |.*\n5 inputs in ' .. path:gsub('%p', '%%%0') .. '\n$'), out)
    local text = scratch.content(path)
    assert.is_truthy(text:find("local torch = require 'masked_torch'\n", 1, true))
    assert.is_truthy(text:find('local x = torch.ones(2, 3)\nx = x * 2\nprint(x:sum():item())\n', 1, true), text)
    local again, printed = run('', path)
    assert.are.same({ 0, '12\n' }, { again, printed })
    assert.are.equal(1, (run('1\n:save ' .. path .. '\n', '-q') == 0 and 1 or 0))      -- nobody to ask: kept
    assert.are.equal(text, scratch.content(path))
  end)
end)
