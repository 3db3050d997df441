--- source: the documentation of the library, read from its doc comments when somebody asks for it.
--
--     source.find 'nn.Conv2d'          blocks, the best first: {names =, text =, file =, line =, prefix =}
--     source.of(torch.randn)           the block above a function
--     source.keys(nn.Conv2d)           the option keys that a function or class knows
--
-- A block begins with `---` and goes on with `--`. Its first line may be a signature: "torch.eye(n, [m], [options]): ones on ...",
-- "nn.Conv1d/2d/3d(...)", "rand_like(x), randn_like(x): ...".

local native = require 'masked_torch.native'

local source = {}

local root = native.lua_directory .. 'masked_torch/'
local index                     -- last part of a name -> blocks
local by_file                   -- file -> blocks in order

local function lua_files(folder, out)
  local lfs = require 'lfs'
  local names = {}
  for name in lfs.dir(folder) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local path = folder .. name
    if name:find '%.lua$' then
      out[#out + 1] = path
    elseif name:sub(1, 1) ~= '.' and lfs.attributes(path, 'mode') == 'directory' then
      lua_files(path .. '/', out)
    end
  end
  return out
end

-- The names that a signature declares: "F.sum(x), F.mean(x)" -> F.sum, F.mean; "Conv1d/2d(" -> Conv1d, Conv2d.
local function signature(text)
  local names, at = {}, 1
  while true do
    local name, after = text:match('^([%a_][%w_%.:]*)()', at)
    if not name then return {} end
    name = name:gsub('[%.:]+$', function(tail)
      after = after - #tail
      return ''
    end)
    names[#names + 1] = name
    local stem = name:match '^(.*)%dd$'
    while stem and text:find('^/%dd', after) do
      names[#names + 1] = stem .. text:sub(after + 1, after + 2)
      after = after + 3
    end
    local _, close = text:find('^%b()', after)
    if not close then _, close = text:find('^%b{}', after) end
    local open = not close and text:find('^[({]', after)
    if open then return names end                      -- goes on in the next line
    at = text:match('^%s*,%s*()', (close or after - 1) + 1)
    if not at or not text:find('^[%a_][%w_%.:/]*[%(,{:]', at) then
      if close or (#names > 1 and text:find('^:', after)) then return names end
      return {}
    end
  end
end

-- The name that the code below a block gives to what it documents.
local function code_name(line)
  if not line then return nil end
  return line:match '^%s*local function ([%w_]+)' or line:match '^%s*function ([%w_%.:]+)' or
    line:match '^%s*([%w_%.]+)%s*=%s*function' or line:match '^%s*local ([%w_]+)%s*=' or line:match '^%s*([%a_][%w_%.]*)%s*='
end

local function prefix_of(file, name)
  local last = name:match '[^%.:]+$'
  if name ~= last then return name:sub(1, #name - #last - 1) end
  if file:find '^nn/' and last:find '^%u' then return 'nn' end
  if file:find '^optim/' then return 'optim' end
  if file:find '^autograd/op/' then return 'torch' end
  return file:match '^([%w_]+)' or ''
end

local function read(path)
  local file = path:sub(#root + 1)
  local blocks, lines = {}, {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  local i = 1
  while i <= #lines do
    local first = lines[i]:match '^%s*%-%-%- ?(.*)$'
    if first then
      local block, text = { file = file, line = i }, { first }
      while lines[i + 1] and lines[i + 1]:find '^%s*%-%-' and not lines[i + 1]:find '^%s*%-%-%-' do
        i = i + 1
        text[#text + 1] = lines[i]:match '^%s*%-%- ?(.*)$'
      end
      block.last, block.text = i, table.concat(text, '\n')
      block.names = signature(first)
      block.header = block.line == 1
      local below = code_name(lines[i + 1])
      if #block.names == 0 and block.header then
        block.names = { first:match '^([%w_%.]+):' }
      elseif #block.names == 0 and below then
        block.names, block.plain = { below }, true
      end
      if below then block.below = below:match '[^%.:]+$' end
      blocks[#blocks + 1] = block
    end
    i = i + 1
  end
  return file, blocks
end

local function load_all()
  if index then return end
  index, by_file = {}, {}
  for _, path in ipairs(lua_files(root, {})) do
    local file, blocks = read(path)
    by_file[file] = blocks
    for _, block in ipairs(blocks) do
      for _, name in ipairs(block.names) do
        local last = name:match '[^%.:]+$'
        index[last] = index[last] or {}
        table.insert(index[last], block)
      end
    end
  end
end

local areas = { torch = { torch = 3, x = 2, tensor = 1, Tensor = 1, F = 1 }, F = { F = 3, torch = 2, functional = 3 },
  x = { x = 3, torch = 2, tensor = 1 } }

local function rank(block, prefix, last)
  local score = block.plain and 0 or 2
  if block.header then score = score - 3 end
  if block.file:find '^repl/' or block.file:find '^native/' then score = score - 1 end
  for _, name in ipairs(block.names) do
    if name:match '[^%.:]+$' == last then
      local own = prefix_of(block.file, name)
      if prefix and own == prefix then
        score = score + 5
      elseif prefix and areas[prefix] then
        score = score + (areas[prefix][own] or 0)
      end
    end
  end
  return score
end

--- source.find(name): the blocks that document a name ("randn", "nn.Conv2d", "x:sum"), the best first.
function source.find(name)
  load_all()
  local last = name:match '[^%.:]+$'
  if not last then return {} end
  local prefix = #last < #name and name:sub(1, #name - #last - 1):match '[^%.:]+$' or nil
  local list = {}
  -- Forms in place and lazy forms are documented with what they are forms of.
  local base = last:match '^(.*%w)_$' or last:match '^Lazy(%u.*)$'
  if not index[last] and base and index[base] then last = base end
  for _, block in ipairs(index[last] or {}) do list[#list + 1] = block end
  local score = {}
  for position, block in ipairs(list) do score[block] = rank(block, prefix, last) - position * 1e-3 end
  table.sort(list, function(a, b) return score[a] > score[b] end)
  return list
end

--- source.is_own(fn): is it a function of the library?
function source.is_own(fn) return debug.getinfo(fn, 'S').source:sub(2, #root + 1) == root end

--- source.of(fn): the block directly above a function of the library, or nil.
function source.of(fn)
  local info = debug.getinfo(fn, 'S')
  local path = info.source:match '^@(.*)'
  if not path or path:sub(1, #root) ~= root then return nil end
  load_all()
  for _, block in ipairs(by_file[path:sub(#root + 1)] or {}) do
    if block.last + 1 == info.linedefined and not block.header then return block end
  end
end

--- source.names(): every documented name, for suggestions.
function source.names()
  load_all()
  return index
end

--- source.search(word): blocks whose text holds the word.
function source.search(word)
  load_all()
  local list, seen = {}, {}
  word = word:lower()
  for file, blocks in pairs(by_file) do
    for _, block in ipairs(blocks) do
      if not seen[block] and #block.names > 0 and not file:find '^repl/' and block.text:lower():find(word, 1, true) then
        seen[block] = true
        list[#list + 1] = block
      end
    end
  end
  table.sort(list, function(a, b)
    if a.file ~= b.file then return a.file < b.file end
    return a.line < b.line
  end)
  return list
end

-- ---- option keys -----------------------------------------------------------------------------------------------

-- The names in {a, b = 1, c =}: the braces of a signature.
local function add_keys(text, keys)
  for body in text:gmatch '%b{}' do
    for part in (body:sub(2, -2):gsub('%b{}', '') .. ','):gmatch '([^,]*),' do
      local key = part:match '^%s*([%a_][%w_]*)%s*$' or part:match '^%s*([%a_][%w_]*)%s*='
      if key then keys[key] = true end
    end
  end
end

--- source.keys(value, [name]): the option keys of a function or class, as a set; from a class's defaults or from the braces of its
-- signature.
function source.keys(value, name)
  local keys = {}
  if type(value) == 'table' then
    local defaults = rawget(value, 'defaults')
    for _, from in ipairs{ defaults or false, rawget(value, 'options') or false } do
      if type(from) == 'table' then
        for key in pairs(from) do
          if type(key) == 'string' then keys[key] = true end
        end
      end
    end
  end
  local block = type(value) == 'function' and source.of(value) or (name and source.find(name)[1])
  if block then
    local head = block.text:match '^[^\n]*\n[^\n]*' or block.text
    local arguments = block.text:match '^[^%(]*(%b())' or block.text:match '^[^{]*(%b{})' or head
    add_keys(arguments, keys)
    if arguments:find 'options%]?%)' then
      for _, key in ipairs{ 'dtype', 'device', 'requires_grad' } do keys[key] = true end
    end
  end
  return keys
end

return source
