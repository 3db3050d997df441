--- luajit: how the compiler is set, for this library and for the scripts that use it, before anything else is loaded.
--
-- Room for compiled code. LuaJIT's default is 1000 traces in 512 KiB, after which it throws all away and begins again; a training step
-- needs more. The one in tests/jit_spec.lua was compiled anew every 11 steps, for ever, and took five times as long.
--
-- Two things that releases of LuaJIT compile wrongly; both are rare, silent, and depend on where a trace happens to begin.
--
-- Loops over a table literal inside hot loops (LuaJIT/LuaJIT#980; releases up to 2023): `for _, what in ipairs{ 'y', 'mask' }` gave
-- 'y' twice, because loads are forwarded from the literal. Without that optimisation results are right; it costs nothing
-- measurable here.
--
-- Traversals of tables (Debian 12's release; in part up to August 2026). When the compiler gives a loop over pairs() up after having run
-- it by position, the interpreter takes it up by key at a stale position: it ends early or before it began (LuaJIT/LuaJIT#827,
-- #1510). In a training loop of small networks one process of forty lost its default options that way. And compiled calls of
-- next() crashed, with a pointer cut to 32 bits. So no traversal is compiled: pairs() returns a function that the compiler stays
-- away from, which also keeps it from taking the loop for a traversal. What runs at every step of a training should loop over
-- arrays.

local version = jit.version                                  -- 'LuaJIT 2.1.0-beta3', 'LuaJIT 2.1.<seconds, the last commit's date>'
local beta = version:find('beta', 1, true) ~= nil
local date = tonumber(version:match('2%.1%.(%d%d%d%d%d%d%d%d%d+)$')) or math.huge

if jit.opt then                                              -- not where LuaJIT was built without its compiler
  jit.opt.start('maxmcode=16384', 'maxtrace=8000')
  if beta then jit.opt.start('-fwd') end
end

if beta or date < 1787184000 then                            -- 20 August 2026
  local builtin_pairs, builtin_next, type, error, getmetatable = pairs, next, type, error, getmetatable

  -- luacheck: globals pairs next
  function next(t, key)
    return builtin_next(t, key)
  end
  jit.off(next)
  local entry = next

  function pairs(t)
    if type(t) ~= 'table' then
      local meta = getmetatable(t)
      if type(meta) ~= 'table' or not meta.__pairs then
        error(("bad argument #1 to 'pairs' (table expected, got %s)"):format(t == nil and 'no value' or type(t)), 2)
      end
    end
    local iterator, state, first = builtin_pairs(t)
    return iterator == builtin_next and entry or iterator, state, first
  end
end
