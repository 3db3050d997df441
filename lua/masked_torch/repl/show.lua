--- show: values as the prompt prints them.
--
--     show.value(torch.randn(2, 3))       as PyTorch prints it, and a line with dtype, shape and device
--     show.value{ lr = 0.1, net = net }   tables: sorted keys, three levels, one line per tensor, cycles named
--
-- Nothing here changes print or tostring.

local color = require 'masked_torch.repl.color'
local lexer = require 'masked_torch.repl.lexer'
local terminal = require 'masked_torch.train.terminal'
local Tensor = require 'masked_torch.tensor'

local show = {}

local DEPTH, ENTRIES, TEXT = 3, 60, 2000

local function is_module(value)
  local meta = type(value) == 'table' and getmetatable(value)
  return type(meta) == 'table' and rawget(meta, '__module') == true
end
local function is_class(value)
  return type(value) == 'table' and type(rawget(value, '__name')) == 'string' and rawget(value, '__index') ~= nil
end
show.is_module, show.is_class = is_module, is_class

-- "1,234 parameters"; a lazy layer does not know yet.
local function parameters_text(module)
  local ok, n = pcall(module.num_parameters, module)
  if not ok then return 'parameters come with the first input' end
  return n == 1 and '1 parameter' or show.count(n) .. ' parameters'
end

local function shape(t)
  return '(' .. table.concat(Tensor.shape_of(t), ', ') .. ')'
end

--- show.size(bytes): "12.3 MB"
function show.size(bytes)
  for _, unit in ipairs{ { 2 ^ 30, 'GB' }, { 2 ^ 20, 'MB' }, { 2 ^ 10, 'KB' } } do
    if bytes >= unit[1] then return ('%.1f %s'):format(bytes / unit[1], unit[2]) end
  end
  return ('%d bytes'):format(bytes)
end

--- show.count(number): 1234567 -> "1,234,567"
function show.count(n)
  local text = ('%.0f'):format(n)
  repeat
    local done
    text, done = text:gsub('^(-?%d+)(%d%d%d)', '%1,%2')
  until done == 0
  return text
end

--- show.summary(t): a tensor in one line: dtype, shape, device, and what its finite elements are like.
function show.summary(t)
  local c = rawget(t, '_c')
  if c == nil or c.dtype < 0 then return 'tensor(released)' end
  local parts = { t.dtype, shape(t) }
  if t.device ~= 'cpu' then parts[#parts + 1] = t.device end
  local ok, text = pcall(function()
    local n = t:numel()
    local x = t:detach()
    if n == 0 then return 'empty' end
    if n == 1 then return tostring(x:reshape(1)[1]) end
    if t.dtype == 'bool' then return ('%s of %s true'):format(show.count(x:sum():item()), show.count(n)) end
    if Tensor.floating[t.dtype] then
      local bad = n - x:isfinite():sum():item()
      if bad > 0 then return ('%s of %s not finite'):format(show.count(bad), show.count(n)) end
    end
    return ('%.4g .. %.4g, mean %.4g'):format(x:min():item(), x:max():item(), x:double():mean():item())
  end)
  if ok then parts[#parts + 1] = text end
  if t.grad_fn then
    parts[#parts + 1] = tostring(t.grad_fn)
  elseif t.requires_grad then
    parts[#parts + 1] = 'requires_grad'
  end
  return table.concat(parts, '  ')
end

local function quoted(text)
  if #text > TEXT then return ('%q .. (%s bytes)'):format(text:sub(1, TEXT), show.count(#text)) end
  return (('%q'):format(text):gsub('\\\n', '\\n'):gsub('\r', '\\r'):gsub('[%z\1-\8\11\12\14-\31\127]', function(c)
    return ('\\%d'):format(c:byte())
  end))
end

local function function_text(fn)
  local info = debug.getinfo(fn, 'S')
  if info.what == 'C' then return 'function (built in)' end
  return ('function %s:%d'):format(info.short_src, info.linedefined)
end

-- One line for anything: what stands inside tables and lists of locals.
local function brief(value)
  local kind = type(value)
  if Tensor.is_tensor(value) then return show.summary(value) end
  if is_class(value) then return 'class ' .. rawget(value, '__name') end
  if is_module(value) then
    local text = tostring(value)
    local first = text:match '^[^\n]*'
    if first ~= text then
      return ('%s .. )  %s'):format(first, parameters_text(value))
    end
    return text
  end
  if kind == 'string' then
    if #value > 80 then return ('%s .. (%s bytes)'):format(quoted(value:sub(1, 60)), show.count(#value)) end
    return quoted(value)
  end
  if kind == 'function' then return function_text(value) end
  if kind == 'table' then
    local meta = getmetatable(value)
    if type(meta) == 'table' and meta.__tostring then
      local ok, text = pcall(tostring, value)
      text = ok and text or 'table'
      return #text <= 100 and not text:find '\n' and text or text:match '^[^\n]*':sub(1, 97) .. '...'
    end
    local n = 0
    for _ in next, value do n = n + 1 end
    return n == 0 and '{}' or ('table of %d'):format(n)
  end
  if kind == 'number' and value ~= value then return 'nan' end
  return tostring(value)
end
show.brief = brief

local function key_text(key)
  if type(key) == 'string' then
    if key:find '^[%a_][%w_]*$' and not lexer.keywords[key] then return key end
    return '[' .. quoted(key) .. ']'
  end
  return '[' .. (type(key) == 'table' and brief(key) or tostring(key)) .. ']'
end

local order = { number = 1, string = 2, boolean = 3 }
local function sorted_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local x, y = order[type(a)] or 4, order[type(b)] or 4
    if x ~= y then return x < y end
    if x <= 2 then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function plain_table(value)
  if type(value) ~= 'table' or Tensor.is_tensor(value) or is_module(value) or is_class(value) then return false end
  local meta = getmetatable(value)
  return not (type(meta) == 'table' and meta.__tostring)
end

local function nested(value, indent, depth, path, width)
  if not plain_table(value) then return brief(value) end
  if next(value) == nil then return '{}' end
  if path[value] then return path[value] == '' and '(the table itself)' or '(the table ' .. path[value] .. ')' end
  if depth > DEPTH then return brief(value) end
  local keys, parts = sorted_keys(value), {}
  local here = path.here or ''
  path[value] = here
  for i, key in ipairs(keys) do
    if i > ENTRIES then
      parts[#parts + 1] = ('... %d more'):format(#keys - ENTRIES)
      break
    end
    path.here = here .. (type(key) == 'string' and (here == '' and '' or '.') .. key or '[' .. tostring(key) .. ']')
    local text = nested(value[key], indent + 2, depth + 1, path, width)
    parts[#parts + 1] = key == i and text or key_text(key) .. ' = ' .. text
  end
  path[value], path.here = nil, here
  local flat = '{ ' .. table.concat(parts, ', ') .. ' }'
  if #flat + indent <= width and not flat:find '\n' then
    local tensors = false
    for _, key in ipairs(keys) do tensors = tensors or Tensor.is_tensor(value[key]) end
    if not tensors or #keys == 1 then return flat end
  end
  local space = (' '):rep(indent + 2)
  return '{\n' .. space .. table.concat(parts, ',\n' .. space) .. '\n' .. (' '):rep(indent) .. '}'
end

--- show.value(value): the text for the prompt, several lines where it needs them.
function show.value(value)
  if Tensor.is_tensor(value) then
    local c = rawget(value, '_c')
    if c == nil or c.dtype < 0 then return tostring(value) end
    return tostring(value) .. '\n' .. color.paint('grey', ('%s %s %s'):format(value.dtype, shape(value), value.device))
  end
  if is_module(value) then
    return tostring(value) .. '\n' .. color.paint('grey', parameters_text(value))
  end
  if is_class(value) then return 'class ' .. rawget(value, '__name') end
  if plain_table(value) then return nested(value, 0, 1, {}, terminal.columns()) end
  if type(value) == 'string' then return color.paint('green', quoted(value)) end
  if type(value) == 'function' then return function_text(value) end
  if type(value) == 'number' and value ~= value then return 'nan' end
  return tostring(value)
end

return show
