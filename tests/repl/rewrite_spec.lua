local lexer = require 'masked_torch.repl.lexer'
local rewrite = require 'masked_torch.repl.rewrite'

local function compiles(text) return loadstring(text) ~= nil end

describe('lexer', function()
  it('cuts Lua into tokens that put together are the text again', function()
    local text = table.concat({ '#!/bin/sh', 'local x = 0x1F + 1e-3 .. "a\\"b" --[[ long', 'comment ]] y = [==[ ]] ]==] -- end',
      "f 'x\\", "y' ::top:: goto top a[1].b:c{...} ~= <= 'é' .5 3..2 10LL" }, '\n')
    local tokens, at, kinds = lexer.tokens(text), 1, {}
    for _, token in ipairs(tokens) do
      assert.is_truthy(text:sub(at, token.first - 1):find '^%s*$')
      assert.are.equal(text:sub(token.first, token.last), token.text)
      assert.are.equal(select(2, text:sub(1, token.first - 1):gsub('\n', '')) + 1, token.line)
      at = token.last + 1
      kinds[token.kind] = true
    end
    assert.are.same({ name = true, keyword = true, number = true, string = true, comment = true, operator = true }, kinds)
  end)

  it('reads every file of the library', function()
    local lfs = require 'lfs'
    local function each(folder)
      for name in lfs.dir(folder) do
        local path = folder .. '/' .. name
        if name:find '%.lua$' then
          local file = assert(io.open(path))
          local text = file:read '*a'
          file:close()
          for _, token in ipairs(lexer.tokens(text)) do
            assert.are_not.equal('unknown', token.kind, path)
            assert.is_nil(token.open, path)
          end
          assert.is_true(compiles(rewrite.polls(text, '__poll()')), path)
          if path:find '/nn/' then
            assert.is_true(compiles(rewrite.at_end(text, '__keep()')), path)
            assert.is_true(compiles((rewrite.locals(text))), path)
          end
        elseif name:sub(1, 1) ~= '.' and lfs.attributes(path, 'mode') == 'directory' then
          each(path)
        end
      end
    end
    each(require 'support.root' .. 'lua/masked_torch')
  end)

  it('marks what is open and never fails on half a line', function()
    assert.is_true(lexer.tokens('x = "abc')[3].open)
    assert.is_true(lexer.tokens('[[ abc')[1].open)
    assert.is_true(lexer.tokens('--[[ abc')[1].open)
    assert.are.equal('unknown', lexer.tokens('x @ y')[2].kind)
    local all = 'local function f(a) return "x" .. [[y]] --[=[z]=] end'
    for n = 0, #all do lexer.tokens(all:sub(1, n)) end
  end)
end)

describe('top-level locals', function()
  local function locals(text) return (rewrite.locals(text):gsub(' +', ' '):gsub('^ ', '')) end

  it('become variables of the session', function()
    assert.are.equal('x = 1', locals 'local x = 1')
    assert.are.equal('x, y = f()', locals 'local x, y = f()')
    assert.are.equal('x = nil', locals 'local x')
    assert.are.equal('x, y = nil y = 2', locals 'local x, y local y = 2')
    assert.are.equal('function f(a) local b = a return b end', locals 'local function f(a) local b = a return b end')
    assert.are.equal('x = 1; y = 2', locals 'local x = 1; local y = 2')
    local _, names = rewrite.locals 'local a, b = 1 local function c() end do local d end'
    assert.are.same({ 'a', 'b', 'c' }, names)
  end)

  it('stay what they are inside blocks, functions and strings', function()
    for _, text in ipairs{ 'do local x = 1 end', 'for i = 1, 2 do local x = i end', 'if a then local x = 1 else local y end',
      'repeat local x = 1 until x', 'f(function() local x end)', '-- local x = 1', "s = 'local x = 1'",
      't = { f = function() local x end }', 'while true do local x = 1 break end' } do
      assert.are.equal(text, locals(text))
    end
    assert.are.equal('do local x end y = 1', locals 'do local x end local y = 1')
  end)

  it('keep line numbers', function()
    local text = 'local x = 1\nlocal function f()\n  error "here"\nend\nf()'
    local ok, message = pcall(assert(loadstring(rewrite.locals(text), '=chunk')))
    assert.is_false(ok)
    assert.are.equal('chunk:3: here', message)
    _G.x, _G.f = nil, nil
  end)
end)

describe('polls', function()
  it('stand in every loop and nowhere else', function()
    assert.are.equal('for i = 1, 2 do P  f(i) end', rewrite.polls('for i = 1, 2 do f(i) end', 'P'))
    assert.are.equal('while f(function() do return end end) do P  g() end',
      rewrite.polls('while f(function() do return end end) do g() end', 'P'))
    assert.are.equal('repeat P  x() until true', rewrite.polls('repeat x() until true', 'P'))
    assert.are.equal('do x() end', rewrite.polls('do x() end', 'P'))
    assert.are.equal('while a do P  while b do P  end do end end', rewrite.polls('while a do while b do end do end end', 'P'))
    assert.are.equal('-- while true do end', rewrite.polls('-- while true do end', 'P'))
  end)
end)

describe('the last statement', function()
  it('is found where it is an expression', function()
    local function last(text) return { rewrite.last(text, compiles) } end
    assert.are.same({ 'x = 1; ', 'x + 1' }, last 'x = 1; x + 1')
    assert.are.same({ 'x = 1\n', 'x:f()' }, last 'x = 1\nx:f()')
    assert.are.same({ 'f(1,\n2); ', 'y' }, last 'f(1,\n2); y')
    assert.are.same({}, last 'x = 1; y = 2')
    assert.are.same({}, last 'for i = 1, 2 do\nf(i)\nend')
    assert.are.same({ 'x = {\n1,\n2 }\n', 'x' }, last 'x = {\n1,\n2 }\nx')
  end)

  it('is silenced by a semicolon', function()
    assert.are.same({ 'x ', true }, { rewrite.silenced 'x;' })
    assert.are.same({ 'x  -- why', true }, { rewrite.silenced 'x; -- why' })
    assert.are.same({ 'x', false }, { rewrite.silenced 'x' })
    assert.are.same({ "'x;'", false }, { rewrite.silenced "'x;'" })
    assert.are.same({ 'f(function() x() end)', false }, { rewrite.silenced 'f(function() x() end)' })
  end)

  it('of a file is followed by a call', function()
    assert.are.equal('x = 1\nK()', rewrite.at_end('x = 1', 'K()'))
    assert.are.equal('if a then return end K() return x', rewrite.at_end('if a then return end return x', 'K()'))
    assert.are.equal('x = 1 -- end\nK()', rewrite.at_end('x = 1 -- end', 'K()'))
  end)
end)
