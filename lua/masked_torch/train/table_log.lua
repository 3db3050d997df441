--- table_log: rows of numbers in a file, as CSV or as one JSON object per line.
--
-- A row is written whole and at once. When a run is resumed, rows after its step and a torn last line are dropped, so that a
-- killed and resumed run leaves the same file as one that never stopped.
--
-- @usage
-- local log = torch.train.csv('steps.csv')
-- log:write{ step = 12, loss = 1.9 }
-- log:close()
-- for line in io.lines 'steps.csv' do print(line) end
-- --> step,loss
-- --> 12,1.9

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local append = require 'masked_torch.train.append'

local fail = native.fail

local defaults = { columns = options.any(nil), resume = options.any(nil), key = 'step' }

local function number_text(v)
  if v ~= v then return 'nan' end
  if v == math.huge then return 'inf' end
  if v == -math.huge then return '-inf' end
  if v % 1 == 0 and math.abs(v) < 2 ^ 53 then return ('%d'):format(v) end
  local short = ('%.9g'):format(v)
  return tonumber(short) == v and short or ('%.17g'):format(v)
end

local function quoted(text)
  if text:find('[",\r\n]') then return '"' .. text:gsub('"', '""') .. '"' end
  return text
end

-- epoch and step first, then by name.
local function column_order(row)
  local names = {}
  for name in pairs(row) do names[#names + 1] = tostring(name) end
  local rank = { epoch = 1, step = 2 }
  table.sort(names, function(a, b)
    local x, y = rank[a] or 3, rank[b] or 3
    if x ~= y then return x < y end
    return a < b
  end)
  return names
end

-- The complete lines of the file that is there, or nil.
local function old_lines(op, path)
  local handle = io.open(path, 'rb')
  if not handle then return nil end
  handle:close()
  local lines = {}
  for line in file.read(op, path):gmatch('([^\n]*)\n') do lines[#lines + 1] = line end
  return lines
end

-- Keeps what a resumed run had written until its checkpoint; without resume the file begins anew.
local function open(self, op, path, opts, keep)
  self.op = op
  if opts.resume ~= nil then
    native.number(op, 'resume', opts.resume)
    file.check_path(op, path)
    file.remove_abandoned(op, path:match('^(.*)/[^/]*$') or '.', { path:match('[^/]*$') })
    local lines = old_lines(op, path)
    if lines then
      local kept = keep(lines)
      file.write(op, path, function(write) write(#kept > 0 and table.concat(kept, '\n') .. '\n' or '') end)
      self.file = append.open(op, path)
      return
    end
  end
  self.file = append.open(op, path, 'wb')
end

local function check_row(op, row)
  if type(row) ~= 'table' or getmetatable(row) ~= nil then
    fail('%s: row: expected a table of values by name, got %s', op, type(row))
  end
  for name, v in pairs(row) do
    local kind = type(v)
    if type(name) ~= 'string' or (kind ~= 'number' and kind ~= 'string' and kind ~= 'boolean') then
      fail('%s: row: %s: expected a number, a string or a boolean under a name, got %s', op, tostring(name), kind)
    end
  end
end

-- ---- CSV ---------------------------------------------------------------------------------------------------------------

local Csv = class('Csv')

--- torch.train.csv(path, {columns =, resume =, key = 'step'}): columns: the names in order (default: those of the first row,
-- epoch and step first). resume: the value of `key` (a column) up to which the rows of an existing file are kept; without it
-- the file begins anew.
function Csv:__init(path, opts)
  opts = options.parse('csv', defaults, opts)
  if opts.columns ~= nil then self:set_columns(opts.columns) end
  open(self, 'csv', path, opts, function(lines)
    if #lines == 0 then return lines end
    local names = {}
    for name in (lines[1] .. ','):gmatch('([^,]*),') do names[#names + 1] = name end
    local at
    for i, name in ipairs(names) do
      if name == opts.key then at = i end
    end
    if not at then fail('csv: %s: there is no column %q to resume by', path, opts.key) end
    self:set_columns(names)
    self.has_header = true
    local kept = { lines[1] }
    for i = 2, #lines do
      local n = 0
      for field in (lines[i] .. ','):gmatch('([^,]*),') do
        n = n + 1
        local number = n == at and tonumber(field)
        if number and number <= opts.resume then kept[#kept + 1] = lines[i] end
      end
    end
    return kept
  end)
end

function Csv:set_columns(columns)
  self.columns, self.known = {}, {}
  for i, name in ipairs(columns) do
    if type(name) ~= 'string' or name == '' then fail('csv: columns: expected names, got %s', type(name)) end
    self.columns[i], self.known[name] = name, true
  end
end

--- log:write(row): numbers, strings and booleans by name. A missing one is an empty field; a name that is no column is an error.
function Csv:write(row)
  check_row('csv', row)
  if not self.columns then self:set_columns(column_order(row)) end
  for name in pairs(row) do
    if not self.known[name] then
      fail('csv: %s: unknown column %q (columns: %s)', self.file.path, name, table.concat(self.columns, ', '))
    end
  end
  local fields = {}
  for i, name in ipairs(self.columns) do
    local v = row[name]
    fields[i] = v == nil and '' or type(v) == 'number' and number_text(v) or quoted(tostring(v))
  end
  local header = ''
  if not self.has_header then
    local names = {}
    for i, name in ipairs(self.columns) do names[i] = quoted(name) end
    header, self.has_header = table.concat(names, ',') .. '\n', true
  end
  self.file:write(header .. table.concat(fields, ',') .. '\n')
end

--- log:flush(): onto the disk. log:close()
function Csv:flush() self.file:sync() end
function Csv:close() self.file:close() end

-- ---- JSON lines ----------------------------------------------------------------------------------------------------------

local Jsonl = class('Jsonl')

--- torch.train.jsonl(path, {resume =, key = 'step'}): one JSON object per line; as torch.train.csv, but rows may differ. NaN and
-- infinities are written as the strings "nan", "inf", "-inf".
function Jsonl:__init(path, opts)
  opts = options.parse('jsonl', { resume = options.any(nil), key = 'step' }, opts)
  open(self, 'jsonl', path, opts, function(lines)
    local kept = {}
    for i, line in ipairs(lines) do
      local row = json.decode(line, function(_, message) fail('jsonl: %s: line %d: %s', path, i, message) end)
      local at = type(row) == 'table' and row[opts.key]
      if type(at) == 'number' and at <= opts.resume then kept[#kept + 1] = line end
    end
    return kept
  end)
end

function Jsonl:write(row)
  check_row('jsonl', row)
  local copy = setmetatable({}, json.object)
  for name, v in pairs(row) do
    local finite = type(v) ~= 'number' or (v == v and math.abs(v) < math.huge)
    copy[name] = finite and v or number_text(v)
  end
  self.file:write(json.encode(copy) .. '\n')
end

function Jsonl:flush() self.file:sync() end
function Jsonl:close() self.file:close() end

return { csv = Csv, jsonl = Jsonl }
