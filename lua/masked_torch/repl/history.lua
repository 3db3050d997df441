--- history: what was typed, in this session and before.
--
-- The file only grows: every input is appended by one write, so that sessions side by side lose nothing and a killed one keeps
-- its lines. One input per line; line ends and backslashes inside one are written \n and \\. Of a long file the end is read.
-- Place: MASKED_TORCH_HISTORY (empty: no file), else $XDG_STATE_HOME/masked_torch/history, else ~/.local/state/masked_torch/history.

local History = {}
History.__index = History

local history = {}
local READ_BYTES = 512 * 1024

--- history.path(): where the file is, or nil for none.
function history.path()
  local given = os.getenv 'MASKED_TORCH_HISTORY'
  if given then return given ~= '' and given or nil end
  local state = os.getenv 'XDG_STATE_HOME'
  if not state or state:sub(1, 1) ~= '/' then
    local home = os.getenv 'HOME'
    if not home or home == '' then return nil end
    state = home .. '/.local/state'
  end
  return state .. '/masked_torch/history'
end

local function encode(text) return (text:gsub('\\', '\\\\'):gsub('\n', '\\n')) end
local function decode(line)
  return (line:gsub('\\(.)', function(c) return c == 'n' and '\n' or c end))
end

--- history.open([path]): the entries of the file, oldest first; path nil: an empty history without a file.
function history.open(path)
  local self = setmetatable({ path = path, entries = {} }, History)
  local file = path and io.open(path, 'rb')
  if file then
    local size = file:seek 'end' or 0
    file:seek('set', math.max(0, size - READ_BYTES))
    if size > READ_BYTES then file:read '*l' end       -- the rest of a line that was cut
    for line in file:lines() do
      if line ~= '' then self.entries[#self.entries + 1] = decode(line) end
    end
    file:close()
  end
  return self
end

local function make_folder(path)
  local lfs_found, lfs = pcall(require, 'lfs')
  local folder = path:match '^(.*)/[^/]*$'
  if not lfs_found or not folder then return end
  local at = folder:sub(1, 1) == '/' and '/' or ''
  for part in folder:gmatch '[^/]+' do
    at = at .. part
    lfs.mkdir(at)
    at = at .. '/'
  end
end

--- history:add(text): an entry, unless it is blank or repeats the last one. Where the file cannot be written, the first failure
-- is returned as a message and the session goes on without it.
function History:add(text)
  text = text:gsub('%s+$', '')
  if text == '' or text == self.entries[#self.entries] then return nil end
  self.entries[#self.entries + 1] = text
  if not self.path or self.failed then return nil end
  local file, problem = io.open(self.path, 'ab')
  if not file then
    make_folder(self.path)
    file, problem = io.open(self.path, 'ab')
  end
  if file then
    file:setvbuf('full', #text * 2 + 16)
    file:write(encode(text), '\n')
    file:close()
  else
    self.failed = true
    return 'history is not saved: ' .. problem
  end
end

--- history:search(text, from, step, anywhere): the nearest entry that begins with text (or holds it anywhere) before or after entry
-- `from`: its number, or nil.
function History:search(text, from, step, anywhere)
  local i = from + step
  while self.entries[i] do
    local entry = self.entries[i]
    if anywhere and entry:find(text, 1, true) or entry:sub(1, #text) == text then return i end
    i = i + step
  end
end

return history
