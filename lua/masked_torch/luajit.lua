--- luajit: two things that releases of LuaJIT compile wrongly, switched off before anything else is loaded, for this library and for
-- the scripts that use it. Both are rare, silent and depend on where a trace happens to begin.
--
-- Loops over a table literal inside hot loops (LuaJIT/LuaJIT#980; releases up to 2023): `for _, what in ipairs{ 'y', 'mask' }` gave
-- 'y' twice, because loads are forwarded from the literal. Without that optimisation results are right; it costs nothing
-- measurable here.
--
-- Loops over pairs() (LuaJIT/LuaJIT#827, #1510; Debian 12's release, the second up to August 2026): when the compiler gives one up and
-- has seen it traversed by position, the loop is run by key from a stale position, and ends early or before it began. In a training
-- loop of small networks, one process of forty lost its default options that way. The loops are taken for traversals of tables
-- because pairs() returns next(); returning a function that calls it keeps them what they are in the language.

local version = jit.version                                  -- 'LuaJIT 2.1.0-beta3', 'LuaJIT 2.1.<seconds, the last commit's date>'
local beta = version:find('beta', 1, true) ~= nil
local date = tonumber(version:match('2%.1%.(%d%d%d%d%d%d%d%d%d+)$')) or math.huge

if beta and jit.opt then jit.opt.start('-fwd') end

if beta or date < 1787184000 then                            -- 20 August 2026
  local builtin, next, type, error = pairs, next, type, error

  local function entry(t, key)
    return next(t, key)
  end

  -- luacheck: globals pairs
  function pairs(t)
    local meta = type(t) ~= 'table' and getmetatable(t)
    if type(t) ~= 'table' and not (type(meta) == 'table' and meta.__pairs) then
      error(("bad argument #1 to 'pairs' (table expected, got %s)"):format(t == nil and 'no value' or type(t)), 2)
    end
    local iterator, state, first = builtin(t)
    return iterator == next and entry or iterator, state, first
  end
end

return { beta = beta }
