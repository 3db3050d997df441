--- complete: what Tab offers: names, fields, methods, option keys, file names in strings, modules, commands.
--
--     local from, candidates = complete(session, text, cursor, commands)
--
-- candidates replace the text from byte `from` to the cursor. Values are looked at but nothing is run: no __index function, no
-- metamethod. What the library loads on first use is known by name and loaded when its own fields are asked for.

local lexer = require 'masked_torch.repl.lexer'
local namespace = require 'masked_torch.namespace'
local source = require 'masked_torch.repl.source'
local Tensor = require 'masked_torch.tensor'

-- ---- fields without running anything ---------------------------------------------------------------------------

-- The names that a table of the library loads on first use (torch, nn, optim, io ...). Asking such a table runs no code of others.
local function lazy_names(value, session)
  if session and value == session.env then
    local names = {}
    for _, name in ipairs(session.lazy_names) do names[name] = true end
    return names
  end
  return namespace.names(value)
end

local function is_module(value)
  local meta = getmetatable(value)
  return type(meta) == 'table' and rawget(meta, '__module') == true
end

-- value[key] by raw access alone, through __index tables; for the library's own lazy tables with loading.
local function field(value, key, session)
  for _ = 1, 20 do
    if type(value) == 'string' then return string[key] end
    if type(value) ~= 'table' then return nil end
    local found = rawget(value, key)
    if found ~= nil then return found end
    if Tensor.is_tensor(value) then return Tensor.methods[key] end
    if is_module(value) then
      for _, list in ipairs{ '_parameters', '_buffers', '_modules' } do
        local values = rawget(value, list)
        if values and values.values[key] ~= nil then return values.values[key] end
      end
      return getmetatable(value)[key]
    end
    local lazy = lazy_names(value, session)
    if lazy and lazy[key] then
      local ok, loaded = pcall(function() return value[key] end)
      return ok and loaded or nil
    end
    local meta = getmetatable(value)
    local follow = type(meta) == 'table' and rawget(meta, '__index')
    if session and value == session.env then follow = session.base end
    if type(follow) ~= 'table' then return nil end
    value = follow
  end
end

-- Every key that a value answers to, as a set.
local function fields(value, session)
  local keys = {}
  local function take(t)
    for key in next, t do
      if type(key) == 'string' then keys[key] = true end
    end
  end
  if type(value) == 'string' then
    take(string)
    return keys
  end
  for _ = 1, 20 do
    if type(value) ~= 'table' then break end
    take(value)
    if Tensor.is_tensor(value) then
      take(Tensor.methods)
      break
    end
    if is_module(value) then
      for _, list in ipairs{ '_parameters', '_buffers', '_modules' } do
        local values = rawget(value, list)
        if values then take(values.values) end
      end
      take(getmetatable(value))
      break
    end
    for name in pairs(lazy_names(value, session) or {}) do keys[name] = true end
    local meta = getmetatable(value)
    local follow = type(meta) == 'table' and rawget(meta, '__index')
    if session and value == session.env then follow = session.base end
    value = follow
  end
  return keys
end

-- ---- what stands before the cursor -----------------------------------------------------------------------------

-- The tokens of the chain of names that ends at token i: a.b[1].c -> {first token, ..., last}; nil when it begins with a call.
local function chain_start(tokens, i)
  while i >= 1 do
    local token = tokens[i]
    if token.text == ']' and token.kind == 'operator' then
      if not (tokens[i - 1] and tokens[i - 2] and tokens[i - 2].text == '[' and
        (tokens[i - 1].kind == 'number' or tokens[i - 1].kind == 'string')) then return nil end
      i = i - 3
    elseif token.kind == 'name' or token.kind == 'string' then
      local before = tokens[i - 1]
      if before and before.kind == 'operator' and (before.text == '.' or before.text == ':') then
        i = i - 2
      else
        return i
      end
    else
      return nil
    end
  end
end

local function literal(token)
  if token.kind == 'number' then return tonumber(token.text) end
  return token.text:match '^[\'"](.*)[\'"]$'
end

-- The value of the chain tokens[first..last], or nil.
local function value_of(tokens, first, last, session)
  local value
  if tokens[first].kind == 'string' then
    value = literal(tokens[first])
  else
    value = field(session.env, tokens[first].text, session)
  end
  local i = first + 1
  while i <= last and value ~= nil do
    if tokens[i].text == '[' then
      local key = literal(tokens[i + 1])
      if type(value) ~= 'table' or Tensor.is_tensor(value) or key == nil then return nil end
      value = rawget(value, key)
      i = i + 3
    else
      value = field(value, tokens[i + 1].text, session)
      i = i + 2
    end
  end
  return value
end

local function name_of(tokens, first, last)
  local parts = {}
  for i = first, last do parts[#parts + 1] = tokens[i].text end
  return table.concat(parts)
end

-- The call whose argument list is open at the end of the tokens, when the innermost open bracket is a table in it:
-- nn.Conv2d(3, 8, 3, { str -> the tokens of nn.Conv2d.
local function open_call(tokens)
  local stack = {}
  for i, token in ipairs(tokens) do
    if token.kind == 'operator' then
      if token.text:find '^[%(%[{]$' then
        stack[#stack + 1] = i
      elseif token.text:find '^[%)%]}]$' then
        stack[#stack] = nil
      end
    end
  end
  local top = stack[#stack]
  if not top or tokens[top].text ~= '{' then return nil end
  local before, outer = tokens[top - 1], stack[#stack - 1]
  if before and before.kind == 'name' then return chain_start(tokens, top - 1), top - 1 end      -- f{ ... }
  if outer and tokens[outer].text == '(' and tokens[outer - 1] and tokens[outer - 1].kind == 'name' then
    return chain_start(tokens, outer - 1), outer - 1
  end
end

-- ---- sources of candidates -------------------------------------------------------------------------------------

-- Names that begin with an underscore are offered when one was typed, those with two when two were.
local function sorted(set, prefix)
  local list = {}
  local hidden = math.min(2, #prefix:match '^_*')
  for name in pairs(set) do
    if name:sub(1, #prefix) == prefix and name:find '^[%a_][%w_]*$' and not lexer.keywords[name] and
      math.min(2, #name:match '^_*') <= hidden then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function files(prefix)
  local found, lfs = pcall(require, 'lfs')
  if not found then return {} end
  local folder, name = prefix:match '^(.*/)([^/]*)$'
  folder, name = folder or '', name or prefix
  local where = folder:gsub('^~/', (os.getenv 'HOME' or '~') .. '/')
  local list = {}
  local ok, iterator, state = pcall(lfs.dir, where == '' and '.' or where)
  if not ok then return {} end
  for entry in iterator, state do
    if entry:sub(1, #name) == name and entry ~= '.' and entry ~= '..' and (name ~= '' or entry:sub(1, 1) ~= '.') then
      local mode = lfs.attributes((where == '' and './' or where) .. entry, 'mode')
      list[#list + 1] = folder .. entry .. (mode == 'directory' and '/' or '')
    end
  end
  table.sort(list)
  return list
end

local function modules(prefix)
  local set, list = {}, {}
  for name in pairs(package.loaded) do set[name] = true end
  for name in pairs(package.preload) do set[name] = true end
  local head = prefix:match '^(.*%.)' or ''
  for pattern in package.path:gmatch '[^;]+' do
    local folder, tail = pattern:match '^(.-)%?(.*)$'
    if folder then
      local deeper = folder .. head:gsub('%.', '/')
      for _, entry in ipairs(files(deeper)) do
        local name = entry:sub(#deeper + 1)
        if tail == '.lua' and name:find '%.lua$' then set[head .. name:sub(1, -5)] = true end
        if tail == '/init.lua' and name:sub(-1) == '/' then
          local handle = io.open(entry .. 'init.lua')
          if handle then
            handle:close()
            set[head .. name:sub(1, -2)] = true
          end
        end
      end
    end
  end
  for name in pairs(set) do
    if name:sub(1, #prefix) == prefix and not (head == '' and name:find '%.') and not name:find '%.$' then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- A function gets its "(" and a module or table its ".", as soon as it is alone.
local function with_suffix(list, owner, session, colon)
  if #list ~= 1 then return list end
  local value = owner and field(owner, list[1], session)
  if type(value) == 'function' then return { list[1] .. '(' } end
  if type(value) == 'table' and rawget(value, '__name') and rawget(value, '__index') ~= nil and not colon then return { list[1] .. '(' } end
  return list
end

-- Commands that take a path.
local paths = { edit = true, load = true, reload = true, save = true }

--- complete(session, text, cursor, commands): commands is a table by name, for `:na`.
return function(session, text, cursor, commands)
  local before = text:sub(1, cursor)
  local command, at = before:match '^%s*:()([%a]*)$'
  if command then
    local set = {}
    for name in pairs(commands or {}) do set[name] = true end
    return command, sorted(set, at)
  end
  local word = before:match '^%s*:(%a+)%s'
  if word and paths[word] then
    local from, typed = before:match '()(%S*)$'
    return from, word == 'reload' and modules(typed) or files(typed)
  end
  -- What stands behind a command or question mark is Lua.
  local code = before:gsub('^%s*:%a+', function(lead) return (' '):rep(#lead) end):gsub('^%s*%?+', function(lead)
    return (' '):rep(#lead)
  end)
  local tokens = lexer.tokens(code)
  local last = tokens[#tokens]
  if not last or last.kind == 'comment' and last.last == #before then return nil end
  if last.kind == 'string' and last.open then
    local from = last.first + 1
    local typed = before:sub(from)
    local caller = tokens[#tokens - 1]
    if caller and caller.text == '(' then caller = tokens[#tokens - 2] end
    if caller and caller.text == 'require' then return from, modules(typed) end
    return from, files(typed)
  end
  local prefix, from, i = '', #before + 1, #tokens
  if (last.kind == 'name' or last.kind == 'keyword') and last.last == #before then
    prefix, from, i = last.text, last.first, #tokens - 1
  end
  local dot = tokens[i]
  if dot and dot.kind == 'operator' and (dot.text == '.' or dot.text == ':') then
    local owner = tokens[i - 1]
    if not owner then return nil end
    if owner.text == ')' and dot.text == ':' then
      return from, sorted(Tensor.methods, prefix)     -- what nearly every function here returns
    end
    local first = chain_start(tokens, i - 1)
    local value = first and value_of(tokens, first, i - 1, session)
    if value == nil then return nil end
    local set = fields(value, session)
    if dot.text == ':' then
      for name in pairs(set) do
        if type(field(value, name, session)) ~= 'function' then set[name] = nil end
      end
    end
    return from, with_suffix(sorted(set, prefix), value, session, dot.text == ':')
  end
  local call_first, call_last = open_call(tokens)
  local previous = tokens[i]
  if call_first and previous and (previous.text == '{' or previous.text == ',') then
    local list = sorted(source.keys(value_of(tokens, call_first, call_last, session), name_of(tokens, call_first, call_last)), prefix)
    if #list > 0 then
      for k, name in ipairs(list) do list[k] = name .. ' = ' end
      return from, list
    end
  end
  if prefix == '' then return nil end
  local set = fields(session.env, session)
  local list = sorted(set, prefix)
  for keyword in pairs(lexer.keywords) do
    if keyword:sub(1, #prefix) == prefix then list[#list + 1] = keyword end
  end
  table.sort(list)
  return from, with_suffix(list, session.env, session)
end
