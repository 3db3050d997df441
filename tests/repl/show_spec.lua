local show = require 'masked_torch.repl.show'
local sketch = require 'masked_torch.repl.sketch'
local torch = require 'masked_torch'

local nn = torch.nn

describe('values', function()
  it('print as PyTorch prints them, with dtype, shape and device', function()
    assert.are.equal('tensor([[1., 1.],\n        [1., 1.]])\nfloat32 (2, 2) cpu', show.value(torch.ones(2, 2)))
    assert.are.equal('tensor(3)\nint64 () cpu', show.value(torch.tensor(3, { dtype = 'int64' })))
    assert.are.equal('Linear(in_features=2, out_features=3, bias=True)\n9 parameters', show.value(nn.Linear(2, 3)))
    local big = show.value(torch.zeros(1000, 1000))
    assert.is_true(#big < 1000 and big:find('...', 1, true) ~= nil)
    assert.are.equal('class Linear', show.value(nn.Linear))
  end)

  it('print strings and numbers as Lua reads them', function()
    assert.are.equal([["a\"b\n\0\200"]], (show.value('a"b\n\0\200'):gsub('\200', '\\200')))
    assert.are.equal('nan', show.value(0 / 0))
    assert.are.equal('0.1', show.value(0.1))
    assert.are.equal('nil', show.value(nil))
    assert.are.equal('5LL', show.value(5LL))
    assert.is_truthy(show.value(print):find '^function')
    assert.is_true(#show.value(('x'):rep(1e6)) < 3000)
  end)

  it('print tables with sorted keys, tensors in one line, cycles by name', function()
    assert.are.equal('{ 1, 2, a = true, b = { c = "x" } }', show.value{ 1, 2, b = { c = 'x' }, a = true })
    assert.are.equal('{}', show.value{})
    local t = { inner = {} }
    t.inner.up, t.inner.own = t, t.inner
    assert.are.equal('{ inner = { own = (the table inner), up = (the table itself) } }', show.value(t))
    assert.are.equal('{\n  w = float32  (2, 2)  1 .. 1, mean 1,\n  x = 1\n}', show.value{ w = torch.ones(2, 2), x = 1 })
    assert.are.equal('{ { { { 1 } } } }', (show.value{ { { { 1 } } } }:gsub('table of 1', '{ 1 }')))
    local many = {}
    for i = 1, 1000 do many[i] = ('entry %d'):format(i) end
    assert.is_truthy(show.value(many):find('... 940 more', 1, true))
    assert.are.equal('{ ["a b"] = 1, ["end"] = 2, [true] = 3 }', show.value{ ['a b'] = 1, ['end'] = 2, [true] = 3 })
  end)

  it('summarise tensors of every kind in one line', function()
    assert.are.equal('float32  (0)  empty', show.summary(torch.zeros(0)))
    assert.are.equal('bool  (3)  2 of 3 true', show.summary(torch.tensor{ true, false, true }))
    assert.are.equal('float32  (2)  1 of 2 not finite', show.summary(torch.tensor{ 1, 0 / 0 }))
    assert.are.equal('int64  (3)  -1 .. 4, mean 1.667', show.summary(torch.tensor({ -1, 4, 2 }, { dtype = 'int64' })))
    assert.are.equal('float32  ()  2  requires_grad', show.summary(torch.tensor(2):requires_grad_()))
    assert.is_truthy(show.summary(torch.ones(2):requires_grad_():exp()):find('<exp_backward>', 1, true))
  end)
end)

describe('sketches', function()
  local lang
  before_each(function() lang = os.getenv 'LANG' end)
  after_each(function() assert.are.equal(lang, os.getenv 'LANG') end)

  it('draw rows from the smallest to the largest', function()
    local text = sketch.map(torch.tensor{ { 0, 1 }, { 1, 0 } })
    local first, second, range = text:match '^([^\n]*)\n([^\n]*)\n([^\n]*)$'
    assert.are.equal('0 .. 1', range)
    assert.are_not.equal(first, second)
    assert.is_truthy(sketch.map(torch.tensor{ 1, 0 / 0, 1 / 0 }):find('?!', 1, true))
    assert.is_truthy(sketch.map(torch.ones(5)):find('1 .. 1', 1, true))
    assert.is_truthy(sketch.map(torch.full({ 3 }, 0 / 0)):find('nothing finite', 1, true))
    local lines = select(2, sketch.map(torch.randn(4, 3, 200, 500)):gsub('\n', ''))
    assert.are.equal(24, lines)
    assert.fails(function() sketch.map(torch.zeros(0)) end, 'map: x')
    assert.fails(function() sketch.map(3) end, 'map: x')
  end)

  it('count every finite element of a histogram', function()
    local text = sketch.hist(torch.tensor{ 1, 1, 1, 2, 0 / 0, 1 / 0 })
    assert.is_truthy(text:find('^1 |') and text:find('| 2', 1, true) and text:find('2 not finite', 1, true), text)
    assert.is_truthy(text:find('mean 1.25, std 0.433', 1, true), text)
    assert.is_truthy(sketch.hist(torch.ones(3)):find('std 0', 1, true))
    assert.is_truthy(sketch.hist(torch.tensor{ 0 / 0 }):find('nothing finite', 1, true))
    assert.is_truthy(sketch.hist(torch.tensor({ 1, 2, 3 }, { dtype = 'int64' })):find('mean 2', 1, true))
  end)
end)
