-- The prompt as somebody at a terminal sees it: a program, a pseudo-terminal, keys.
local ffi = require 'ffi'
local interpreter = require 'support.interpreter'
local process = require 'support.process'
local pty = require 'support.pty'
local scratch = require 'support.scratch'

local root = require 'support.root'
local launcher = root .. 'bin/masked-torch'
local editing = pcall(ffi.load, 'libedit.so.2')

local PROMPT = '> '

-- Types a line and waits until what it prints has come and the prompt is back.
local function session(options)
  local history = scratch.path()
  local words = { interpreter }
  for _, word in ipairs(options.luajit or {}) do words[#words + 1] = word end
  words[#words + 1] = launcher
  for _, word in ipairs(options) do words[#words + 1] = word end
  local p = pty.start(words, { TERM = options.term or 'xterm', LANG = 'C.UTF-8', LC_ALL = false, NO_COLOR = options.no_color or '1',
    MASKED_TORCH_HISTORY = options.history or history, EDITOR = options.editor or 'false',
    VISUAL = false, MASKED_TORCH_THREADS = '1' }, 160)
  p.history = history
  function p:prompt()
    return self:wait_until(function(text)
      local last = text:match '[^\n]*$'
      return last == '>' and self.screen.column == #PROMPT + 1
    end, 'the prompt')
  end
  -- The output: the rows between what was typed and the new prompt.
  function p:enter(text)
    self:send(text .. '\r')
    self:wait_until(function(shown)
      return shown:find '\n' and shown:match '[^\n]*$' == '>' and self.screen.column == #PROMPT + 1
    end, 'the prompt after ' .. text)
    local rows = select(2, text:gsub('\r', '')) + 1
    local out = self:text():gsub('\n>$', '')
    for _ = 1, rows do out = out:match '^[^\n]*\n(.*)$' or '' end
    return out
  end
  return p
end

local function content(path)
  local file = io.open(path, 'rb')
  local text = file and file:read '*a' or ''
  if file then file:close() end
  return text
end

-- More than thirty steps that every terminal and every way to run LuaJIT must take.
local function conversation(luajit, term)
  local p = session{ luajit = luajit, term = term }
  p:wait_for 'masked_torch'
  p:wait_for ':help lists the rest'
  p:prompt()
  local function says(input, output) assert.are.equal(output, p:enter(input)) end
  local function says_of(input, ...)
    local out = p:enter(input)
    for _, text in ipairs{ ... } do assert.is_truthy(out:find(text, 1, true), input .. '\n' .. out) end
  end

  -- 1-6: results without `=`, silence, several, nil
  says('1 + 1', '2')
  says('= 1 + 1', '2')
  says('return 3', '3')
  says('1 + 1;', '')
  says('_ * 10', '20')
  says("'a', nil, true", '"a"\nnil\ntrue')
  -- 7-10: locals survive the line, in functions too
  says('local x, y = torch.ones(2, 3)', '')
  says('x', 'tensor([[1., 1., 1.],\n        [1., 1., 1.]])\nfloat32 (2, 3) cpu')
  says('local function twice(t) return t * 2 end', '')
  says('local z = 5; twice(x):sum():item() + z', '17')
  -- 11-12: several rows; the rows are one input
  p:send 'for i = 1, 2 do\r'
  p:wait_until(function(text) return text:find 'for i = 1, 2 do\n' and p.screen.column == 3 end, 'the second row')
  p:send 'print(i * 10)\r'
  p:wait_until(function(text) return text:find '10%)\n' and p.screen.column == 3 end, 'the third row')
  says('end', '10\n20')
  -- 13-14: a mistake is not a beginning; a beginning can be left by a blank row and by Ctrl-C
  says_of('print(1 +* 2)', "error: unexpected symbol near '*'")
  p:send 'print(\r'
  p:wait_until(function(text) return text:find 'print%(\n' end, 'the second row')
  says_of('', "near '<eof>'")
  p:send 'print(\r'
  p:wait_until(function(text) return text:find 'print%(\n' and p.screen.column > 1 end, 'the second row')
  p:send '\3'
  p:wait_until(function(text) return text:match '[^\n]*$' == '>' and p.screen.column == 3 end, 'the prompt after Ctrl-C')
  -- 15-18: an error inside a network, and what stood there
  says('local net = nn.Sequential{ nn.Conv2d(3, 4, 3), nn.Sequential{ nn.ReLU(), nn.Linear(7, 2) } }', '')
  says_of('net(torch.zeros(1, 3, 8, 8))', 'error: Sequential[2][2]: Linear: input: expected in_features = 7', ':locals shows')
  says_of(':locals', 'nn/linear.lua', 'x            float32  (1, 4, 6, 6)')
  says_of(':where all', 'nn/linear.lua')
  says_of(":locals x", 'float32 (1, 4, 6, 6) cpu')
  says_of('twice(nil)', "attempt to perform arithmetic on local 't' (a nil value)", "in 'twice'")
  says_of(':locals', 't            nil')
  -- 19-22: Ctrl-C: in a compiled loop, in kernels, inside pcall; the state stays
  local function interrupts(input, ready)
    p:send(input .. '\r')
    ready()
    p:send '\3'
    p:wait_for 'interrupted'
    p:wait_until(function(text) return text:match '[^\n]*$' == '>' and p.screen.column == 3 end, 'the prompt after Ctrl-C')
  end
  local marker = scratch.path()
  local function started() assert.is_true(process.wait_for(function() return content(marker) ~= '' end, 60)) end
  says(('function mark() local f = io.open(%q, "w") f:write "x" f:close() end'):format(marker), '')
  for _, loop in ipairs{ 'local n = 0; mark(); while true do n = n + 1 end', 'mark(); while true do x:add_(1) end',
    'mark(); while true do pcall(function() x:add_(1) end) end',
    'mark(); repeat local ok = pcall(function() while true do n = n + 1 end end) until false' } do
    os.remove(marker)
    interrupts(loop, started)
  end
  says('n > 0 and x:numel()', '6')
  -- 23: numbers stay numbers after all of that
  says('x:fill_(1):sum():item()', '6')
  -- 24-27: help
  says_of('?torch.eye', 'torch.eye(n, [m], [options])', 'create.lua')
  says_of('?nn.Conv2d', 'nn.Conv1d/2d/3d(in_channels', 'x (N, C, *S) -> (N, O, *S\')', 'Options:')
  says_of('help(x)', 'float32', 'A tensor.')
  says_of('?nothing_like_it', 'No documentation')
  -- 28-31: commands
  says_of(':time x:sum()', 'tensor(6.)', 'tensors')
  says_of(':mem', 'live', 'x  float32')
  says_of(':hist torch.range(1, 100)', '1 |', '| 100', 'mean 50.5')
  says_of(':map torch.eye(3)', '0 .. 1')
  says_of(':nothing', 'no command :nothing')
  says_of(':who', 'twice', 'net', 'n ')
  -- 32: the shell
  says('$ echo from the shell', 'from the shell')
  return p, says, says_of
end

local function leave(p)
  p:send '\4'
  local how, status = p:finish()
  assert.are.equal('exit 0', how .. ' ' .. status)
end

describe('the prompt at a terminal', function()
  after_each(function() scratch.clean() end)

  it('holds a conversation', function()
    local p, says = conversation()
    if editing then
      -- the keyboard: completion, history, search, UTF-8, pasted rows
      p:send 'torch.lins\t'
      p:wait_for '> torch.linspace('
      says('1, 2, 2):sum():item()', '3')
      p:send 'x:nume\t'
      p:wait_for '> x:numel('
      says(')', '6')
      p:send 'nn.Conv2d(1, 1, 1, { padding_\t'
      p:wait_for 'padding_mode ='
      says("'zeros' }).padding_mode", '"zeros"')
      p:send 'torch.rand\t'
      p:wait_for 'rand_like   randint     randn'
      says('perm(1):item()', '1')
      p:send '\27[A'
      p:wait_for '> torch.randperm(1):item()'
      p:send '\27[A\27[A'
      p:wait_for '> x:numel()'
      p:send '\27[B\27[B\21for\27[A'
      p:wait_for '> for i = 1, 2 do\n  print(i * 10)\nend'
      says('', '10\n20')
      p:send 'twice\18'
      p:wait_for 'twice(nil)'
      p:send '\21'
      says("'é€x'\27[D\8ü", '"é€ü"')
      p:send '\27[200~local s = 0\nfor i = 1, 3 do\n\ts = s + i\n\nend\27[201~'
      p:wait_for '> local s = 0\nfor i = 1, 3 do\n  s = s + i\n\nend'
      says('', '')
      says('s', '6')
      p:send 'x + \3'
      p:wait_until(function(text) return text:find 'x %+\n>$' and p.screen.column == 3 end, 'the prompt after Ctrl-C')
    end
    leave(p)
    -- Every input is in the file, the rows of one input in one line.
    local lines = content(p.history)
    assert.is_truthy(lines:find('\nlocal x, y = torch.ones(2, 3)\n', 1, true))
    assert.is_truthy(lines:find('\nfor i = 1, 2 do\\n  print(i * 10)\\nend\n', 1, true), lines)
  end)

  it('holds it without the compiler', function() leave((conversation{ '-joff' })) end)
  it('holds it with everything compiled', function() leave((conversation{ '-Ohotloop=1,hotexit=1' })) end)
  it('holds it where the cursor cannot move', function() leave((conversation(nil, 'dumb'))) end)

  it('takes what is pasted as one input, whatever its length, and draws long rows', function()
    if not editing then return pending 'libedit is missing' end
    local p = session{ '-q' }
    p:prompt()
    local rows = {}
    for i = 1, 200 do rows[i] = ('\tlocal v%d = %d -- as in a file'):format(i % 150, i) end
    p:send('\27[200~' .. table.concat(rows, '\r') .. '\27[201~')
    p:wait_for 'local v50 = 200'
    p:send '\r'
    p:wait_until(function(text) return text:match '[^\n]*$' == '>' and p.screen.column == 3 end, 'the prompt')
    assert.are.equal('200', p:enter 'v50')
    -- A row longer than the terminal, completed and sent.
    p:send(('local long = "%s"; torch.lins\t'):format(('é'):rep(200)))
    p:wait_for 'torch.linspace('
    p:send '1, 2, 2):sum():item() + #long\r'
    p:wait_for '403'
    p:prompt()
    -- The window becomes narrower while something is typed.
    p:send '1 + '
    p:wait_for '> 1 +'
    p:resize(30)
    p:send(('2 + '):rep(10) .. '3')
    p:wait_for '> 1 + 2 + 2 + 2 + 2 + 2 + 2 +\n2 + 2 + 2 + 2 + 3'
    p:send '\r'
    p:wait_for '\n24\n>'
    p:prompt()
    leave(p)
  end)

  it('stops a long kernel', function()
    local p = session{ '-q' }
    p:prompt()
    p:enter 'local a = torch.ones(5000, 5000);'
    p:send "print 'go'; a:matmul(a):size(1)\r"
    p:wait_for '\ngo'
    p:send '\3'
    p:wait_for 'interrupted'
    p:prompt()
    assert.are.equal('5000', p:enter 'a[1]:sum():item()')
    leave(p)
  end)

  it('gives a second Ctrl-C to LuaJIT, which stops what looks at no flag', function()
    local p = session{ '-q', luajit = { '-joff' } }
    p:prompt()
    p:enter 'endless = _G.loadstring "local n = 0 while true do n = n + 1 end"'
    for _ = 1, 3 do
      p:send "print 'go'; endless()\r"
      p:wait_for '\ngo'
      p:send '\3'
      p:wait_for '^C'
      -- Two signals at once would be one: the first must have arrived.
      assert.is_true(process.wait_for(function() return content(('/proc/%d/status'):format(p.pid)):find 'ShdPnd:%s*0+\n' ~= nil end))
      p:send '\3'
      p:wait_for 'interrupted'
      p:prompt()
    end
    assert.are.equal('2', p:enter '1 + 1')
    leave(p)
  end)

  it('comes back from a guarded training run', function()
    local p = session{ '-q' }
    p:prompt()
    p:send "torch.train.interrupt(function(g) print 'training' while true do g:poll(7) end end, { save = function() print 'saved' end })\r"
    p:wait_for '\ntraining'
    p:send '\3'
    p:wait_for 'Ctrl-C: stopping after step 7'
    p:wait_for 'interrupted'
    p:prompt()
    assert.are.equal('2', p:enter '1 + 1')
    leave(p)
  end)

  it('has colours where the terminal has, and none where NO_COLOR is set', function()
    for _, no in ipairs{ '', '1' } do
      local p = session{ '-q', no_color = no }
      p:prompt()
      p:enter 'torch.ones(2)'
      assert.are.equal(no == '', p.screen.colours > 0)
      local out = p:enter ':map torch.range(1, 5)'
      assert.is_truthy(out:find('1 .. 5', 1, true))
      leave(p)
    end
  end)

  it('finds earlier sessions, and appends to their file', function()
    local earlier = 'first = 1\nfor i = 1, 2 do\\n  print(i)\\nend\n'
    local history = scratch.file(earlier)
    local p = session{ history = history, '-q' }
    p:prompt()
    if editing then
      p:send '\27[A'
      p:wait_for '> for i = 1, 2 do\n  print(i)\nend'
      assert.are.equal('1\n2', p:enter '')
    end
    assert.are.equal('5', p:enter '2 + 3')
    assert.is_truthy(p:enter ':history first':find('first = 1', 1, true))
    leave(p)
    local lines = content(history)
    assert.are.equal(earlier, lines:sub(1, #earlier))
    assert.is_truthy(lines:find('\n2 + 3\n:history first\n', 1, true), lines)
  end)

  it('stays after a script that failed, with its variables', function()
    local script = scratch.file([[
local torch = require 'masked_torch'
local weights = torch.ones(3)
local function step(rate)
  error('no step at rate ' .. rate)
end
step(0.5)
]], '.lua')
    local p = session{ '-q', '-i', script }
    p:wait_for 'no step at rate 0.5'
    p:prompt()
    assert.is_truthy(p:enter 'weights':find('tensor([1., 1., 1.])', 1, true))
    assert.is_truthy(p:enter ':where':find("in 'step'", 1, true))
    assert.is_truthy(p:enter ':locals':find('rate         0.5', 1, true))
    leave(p)
  end)

  it('edits, reloads and saves', function()
    local folder = scratch.folder()
    local module = scratch.path '.lua'
    local name = module:match '([^/]+)%.lua$'
    local function write(factor)
      local file = assert(io.open(module, 'w'))
      file:write(([[
local class, nn = require 'masked_torch.class', require('masked_torch').nn
local Scale = class('Scale', nn.Module)
function Scale:__init()
  nn.Module.__init(self)
  self:register_parameter('weight', require('masked_torch').ones(1))
end
function Scale:forward(x) return x * self.weight * %d end
return { Scale = Scale }
]]):format(factor))
      file:close()
    end
    write(2)
    local editor = scratch.file('#!/bin/sh\necho "21 * 2" > "$1"\n', '.sh')
    local p = session{ '-q', editor = 'sh ' .. editor }
    p:prompt()
    p:enter(("package.path = '%s/?.lua;' .. package.path"):format(folder))
    p:enter(("local layers = require '%s'"):format(name))
    p:enter 'local net = nn.Sequential{ layers.Scale() }'
    p:enter 'net[1].weight:detach():fill_(10);'
    assert.are.equal('20', p:enter 'net(torch.ones(1)):item()')
    write(3)
    assert.are.equal('reloaded ' .. name, p:enter(':reload ' .. name))
    assert.are.equal('30', p:enter 'net(torch.ones(1)):item()')
    assert.are.equal('true', p:enter 'net[1]:is(layers.Scale)')
    assert.is_truthy(p:enter ':edit':find('21 * 2\n42', 1, true))
    local saved = scratch.path '.lua'
    assert.is_truthy(p:enter(':save ' .. saved):find('inputs in', 1, true))
    leave(p)
    local how, out, err = process.run(root .. 'bin/masked-torch', saved)
    assert.are.equal('exit 0', how, err)
    assert.are.equal('30\n30\ntrue\n42\n', (out:gsub('^20', '30')))      -- the script meets the module as it is now
  end)

  it('opens in the middle of a script', function()
    local script = scratch.file(([[
package.path = '%slua/?.lua;%slua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local rate = 0.5
for step = 1, 1 do torch.repl.here() end
print('rate is now ' .. rate)
]]):format(root, root), '.lua')
    local p = pty.start({ interpreter, script }, { TERM = 'xterm', NO_COLOR = '1', MASKED_TORCH_HISTORY = '' }, 160)
    p:wait_for '>'
    p:send 'step, rate\r'
    p:wait_for '1\n0.5'
    p:send 'rate = 0.25\r'
    p:wait_until(function(text) return text:find 'rate = 0.25\n>$' and p.screen.column == 3 end, 'the prompt')
    p:send '\4'
    p:wait_for 'rate is now 0.25'
    assert.are.same({ 'exit', 0 }, { p:finish() })
  end)

  it('starts as luajit -l masked_torch.repl', function()
    local p = pty.start({ 'env', ('LUA_PATH=%slua/?.lua;%slua/?/init.lua;;'):format(root, root), interpreter, '-l', 'masked_torch.repl' },
      { TERM = 'xterm', NO_COLOR = '1', MASKED_TORCH_HISTORY = '' }, 160)
    p:wait_for 'Ctrl-D leaves'
    p:send '6 * 7\r'
    p:wait_until(function(text) return text:find '\n42\n>$' and p.screen.column == 3 end, 'the prompt')
    p:send '\4'
    assert.are.same({ 'exit', 0 }, { p:finish() })
  end)
end)
