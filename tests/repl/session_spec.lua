local native = require 'masked_torch.native'
local scratch = require 'support.scratch'
local session = require 'masked_torch.repl.session'
local torch = require 'masked_torch'

local s
local function run(text)
  local answer = s:evaluate(text)
  assert.is_true(answer.ok, tostring(answer.error))
  if answer.values.n > 0 then s:keep(answer.values[1]) end
  return unpack(answer.values, 1, answer.values.n)
end
local function fails(text, ...)
  local answer = s:evaluate(text)
  assert.is_false(answer.ok, text)
  for _, piece in ipairs{ ... } do assert.is_truthy(tostring(answer.error):find(piece, 1, true), answer.error) end
  return answer
end

describe('a session', function()
  local globals
  before_each(function()
    globals = {}
    for key, value in pairs(_G) do globals[key] = value end
    s = session.new()
  end)
  after_each(function()
    for key, value in pairs(_G) do assert.are.equal(globals[key], value, 'a global: ' .. tostring(key)) end
    scratch.clean()
  end)

  it('gives the values of expressions and of last statements', function()
    assert.are.equal(3, run '1 + 2')
    assert.are.equal(3, run '= 1 + 2')
    assert.are.equal(3, run 'return 1 + 2')
    assert.are.equal(6, run 'local x = 5; x + 1')
    assert.are.same({ 1, nil, 3 }, { run '1, nil, 3' })
    assert.are.equal(3, select('#', run '1, nil, nil'))
    assert.are.equal(0, select('#', run 'local y = 2'))
    assert.is_true(s:evaluate('x;').silent)
    assert.are.equal(7, run 'x = 7\nx -- the end')
    assert.are.equal(0, select('#', run ''))
  end)

  it('keeps locals, functions and globals to itself', function()
    run 'local a, b = 1, 2'
    run 'local function add() return a + b + c end'
    run 'c = 3'
    assert.are.equal(6, run 'add()')
    run 'local a = 10'
    assert.are.equal(15, run 'add()')
    run 'local function fact(n) return n == 0 and 1 or n * fact(n - 1) end'
    assert.are.equal(120, run 'fact(5)')
    run 'local print = 5'
    assert.are_not.equal(5, print)
    assert.are.equal(torch, run 'torch')
    assert.are.equal(torch.nn.functional, run 'F')
    assert.are.equal(torch.optim, run 'optim')
    assert.is_nil(rawget(_G, 'a'))
  end)

  it('knows what is incomplete from what is wrong', function()
    for _, text in ipairs{ 'for i = 1, 2 do', 'function f()', 'x = {', 'print(', '1 +', 'x = ', 'if a then', 'a = [[ long', '--[[ long',
      'f(function()', 'x.', 'local function', "require 'a', ", 'x = "a\\' } do
      assert.is_true(session.incomplete(text), text)
    end
    for _, text in ipairs{ '1', 'x = 1', 'x y', 'x = "open', 'print(1))', 'end', '1 + * 2', ':time for', '?for', '$ for', '', 'return 1 x',
      'for i = 1 do end end', '= 1', 'local x = 1; x', 'x = 1\nx' } do
      assert.is_false(session.incomplete(text), text)
    end
  end)

  it('names the line of a mistake, in functions of earlier inputs too', function()
    fails('x = = 1', "unexpected symbol near '='")
    assert.is_true(fails('x = = 1').syntax)
    run 'local function f(t)\n  return t.x.y\nend'
    local answer = fails('f{}', "attempt to index field 'x'", 'in[3]:2:')
    assert.are.equal('f', answer.trace.frames[1].name)
    assert.are.equal('t', answer.trace.frames[1].locals[1].name)
    fails('\n\nerror "here"', ':3: here')
    fails('1 + * 2', "unexpected symbol near '*'")
    fails('foo bar', "'=' expected near 'bar'")
    fails('local x = 1; y z', "'=' expected near 'z'")
    fails('x.y.z -- what', ':1: attempt to index global')
    fails('error{ code = 3 }')
    assert.are.equal(3, s.last_error.error.code)
    fails 'error()'
    fails('torch.ones(2) + torch.ones(3)', 'in[12]:1:', 'add')
  end)

  it('sees what ran inside a network when an error came', function()
    run 'net = nn.Sequential{ nn.Conv2d(3, 4, 3), nn.Sequential{ nn.ReLU(), nn.Linear(7, 2) } }'
    local answer = fails('net(torch.zeros(1, 3, 8, 8))', 'Sequential[2][2]: Linear')
    local names = {}
    for _, frame in ipairs(answer.trace.frames) do names[#names + 1] = frame.file end
    assert.is_truthy(table.concat(names, ' '):find('nn/linear.lua', 1, true))
    -- An error that somebody catches is not the one that is shown later.
    answer = fails('pcall(net, torch.zeros(1, 3, 8, 8)) error "another"', 'another')
    for _, frame in ipairs(answer.trace.frames) do assert.is_falsy(frame.file:find('nn/linear', 1, true)) end
    answer = fails('torch.no_grad(function() local inner = 5; error "within" end)', 'within')
    assert.are.equal('inner', answer.trace.frames[1].locals[1].name)
  end)

  it('survives a stack overflow and errors in metamethods', function()
    fails('local function f() return 1 + f() end; f()', 'stack overflow')
    fails('tostring(setmetatable({}, { __tostring = function() error "no text" end }))', 'no text')
    assert.are.equal(2, run '1 + 1')
  end)

  it('is interrupted by the flag, in loops and kernels, whatever pcall catches', function()
    local C = native.cpu
    run 'function stop() require("masked_torch.native").cpu.mt_cancel_set(1) end'
    for _, text in ipairs{ 'stop() while true do end', 'stop() for i = 1, math.huge do end', 'stop() repeat until false',
      'stop() while true do pcall(function() torch.ones(3):add_(1) end) end', 'stop() return torch.ones(10) + 1' } do
      local answer = fails(text, 'interrupted')
      assert.is_true(answer.interrupted, text)
      assert.are.equal(0, C.mt_cancel_pending())
    end
    assert.are.equal(11, run 'torch.ones(10):sum():item() + 1')
    assert.is_false(native.keep_interrupt)
  end)
end)

describe('results', function()
  before_each(function() s = session.new() end)

  it('are _, _1 to _3, and cannot be assigned', function()
    run '1'
    run "'two'"
    run '3'
    assert.are.same({ 3, 3, 'two', 1 }, { run '_, _1, _2, _3' })
    run 'local _, x = 5, 6'
    assert.are.equal(6, run 'x')
    assert.are.equal(6, run '_')
  end)

  it('do not keep a tensor alive', function()
    collectgarbage()
    local before = native.cpu.mt_memory_live()
    local function grown()
      collectgarbage()
      collectgarbage()
      return native.cpu.mt_memory_live() - before
    end
    run 'torch.ones(1000, 1000)'
    assert.is_true(grown() >= 4e6)
    assert.are.equal(1e6, run '_:numel()')            -- the next line has it
    assert.is_true(grown() >= 4e6)
    run 'y = 1'                                       -- a line that does not speak of it lets it go
    assert.is_true(grown() < 1e6)
    run '{ deep = { torch.ones(1000, 1000) } }'
    run 'y = 2'
    run 'y = 3'
    assert.is_true(grown() < 1e6)
    run 'z = torch.ones(1000, 1000)'
    run 'z'
    run 'y = 4'
    run 'y = 5'
    assert.are.equal(1e6, run '_:numel()')            -- somebody else holds it
    run 'z = nil'
  end)

  it('are not held at all when they are large, with the graph behind them', function()
    local x = torch.ones(100, 1000):requires_grad_()
    local y = x
    for _ = 1, 200 do y = y:exp() end
    assert.is_true(s:keep(x))
    assert.is_false(s:keep(y))
    assert.are.equal(y, run '_')
  end)
end)

describe('files', function()
  before_each(function() s = session.new() end)
  after_each(function() scratch.clean() end)

  it('leave their top-level locals in the session, at the end, before a return, and after an error', function()
    for _, tail in ipairs{ '', 'return second', 'error "late"', 'do return end' } do
      s = session.new()
      local path = scratch.file('#!/usr/bin/env luajit\nlocal first = ...\nlocal function second() return first end\n' .. tail .. '\n',
        '.lua')
      local answer = s:run_file(path, 'an argument')
      assert.are.equal(tail ~= 'error "late"', answer.ok)
      if tail ~= 'do return end' then
        assert.are.equal('an argument', run 'first')
        assert.are.equal('an argument', run 'second()')
      end
      if not answer.ok then assert.is_truthy(answer.error:find(path .. ':4: late', 1, true)) end
      assert.is_nil(rawget(s.env, '__poll'))
    end
  end)

  it('keep the meaning of locals that are declared twice', function()
    local path = scratch.file('local x = 1\nlocal function f() return x end\nlocal x = 2\ny = f()\n')
    local env = setmetatable({}, { __index = _G })
    local fn = assert(session.load_file(path))
    setfenv(fn, env)()
    assert.are.equal(1, env.y)
  end)

  it('that are missing or wrong are errors', function()
    assert.is_truthy(s:run_file('/nowhere/x.lua').error:find('/nowhere/x.lua', 1, true))
    local path = scratch.file 'x = = 1'
    assert.is_truthy(s:run_file(path).error:find(path .. ':1:', 1, true))
  end)
end)

describe('a class that is defined again', function()
  it('gives its methods to the objects that there are', function()
    s = session.new()
    run 'class = require "masked_torch.class"'
    run 'local Scale = class("Scale", nn.Module)'
    run 'function Scale:__init() nn.Module.__init(self) self:register_parameter("w", torch.full({ 1 }, 3)) end'
    run 'function Scale:forward(x) return x * self.w end'
    run 'local net = nn.Sequential{ Scale() }'
    run 'function Scale:forward(x) return x * self.w + 1 end'       -- on the class itself
    assert.are.equal(7, run 'net(torch.full({ 1 }, 2)):item()')
    run([[local Scale = class("Scale", nn.Module)
function Scale:__init() nn.Module.__init(self) end
function Scale:forward(x) return x * self.w * 10 end]])
    assert.are.equal(60, run 'net(torch.full({ 1 }, 2)):item()')
    assert.is_true(run 'net[1]:is(Scale)')
    assert.is_true(run 'net[1]:is(nn.Module)')
    run([[local Scale = class("Scale", nn.Module)
function Scale:forward(x) return x end]])
    assert.are.equal(2, run 'net(torch.full({ 1 }, 2)):item()')
    assert.is_true(run 'net[1]:is(Scale)')
  end)
end)
