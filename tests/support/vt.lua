--- vt: a terminal of 80 x 24 and more rows above: what a line editor's bytes look like to somebody who watches.
local vt = {}
vt.__index = vt

function vt.new(columns)
  return setmetatable({ columns = columns or 80, rows = { {} }, row = 1, column = 1, pending = '', colours = 0 }, vt)
end

local function put(self, c)
  if self.column > self.columns then self.row, self.column = self.row + 1, 1 end
  self.rows[self.row] = self.rows[self.row] or {}
  self.rows[self.row][self.column] = c
  self.column = self.column + 1
end

local function line(self)
  self.rows[self.row] = self.rows[self.row] or {}
  return self.rows[self.row]
end

local codes = {}
function codes.A(self, n) self.row = math.max(1, self.row - n) end
function codes.B(self, n) self.row = self.row + n end
function codes.C(self, n) self.column = math.min(self.columns, self.column + n) end
function codes.D(self, n) self.column = math.max(1, math.min(self.column, self.columns) - n) end
function codes.G(self, n) self.column = n end
function codes.K(self, _, given)
  assert(given == '' or given == '0', 'clears something else')
  for k in pairs(line(self)) do
    if k >= self.column then self.rows[self.row][k] = nil end
  end
end
function codes.J(self, n, given)
  codes.K(self, n, given)
  for k in pairs(self.rows) do
    if k > self.row then self.rows[k] = nil end
  end
end
function codes.P(self, n)
  local l = line(self)
  for k = self.column, self.columns do l[k] = l[k + n] end
end
codes['@'] = function(self, n)
  local l = line(self)
  for k = self.columns, self.column + n, -1 do l[k] = l[k - n] end
  for k = self.column, self.column + n - 1 do l[k] = ' ' end
end
function codes.m(self) self.colours = self.colours + 1 end
function codes.h() end
function codes.l() end

function vt:write(bytes)
  local text, i = self.pending .. bytes, 1
  self.pending = ''
  while i <= #text do
    local c = text:sub(i, i)
    if c == '\27' then
      local parameters, code, after = text:match('^%[([%d;?]*)([@%a])()', i + 1)
      if text:sub(i + 1, i + 1) == 'M' then parameters, code, after = '', 'A', i + 2 end
      if not code then
        assert(#text - i < 16, 'unknown escape ' .. ('%q'):format(text:sub(i, i + 16)))
        self.pending = text:sub(i)
        return
      end
      local action = assert(codes[code], 'unknown escape ' .. parameters .. code)
      action(self, tonumber(parameters) or 1, parameters)
      i = after
    else
      if c == '\n' then
        self.row = self.row + 1
      elseif c == '\r' then
        self.column = 1
      elseif c == '\8' then
        self.column = math.max(1, self.column - 1)
      elseif c == '\t' then
        self.column = self.column + 8 - (self.column - 1) % 8
      elseif c ~= '\7' and c ~= '\0' then
        local whole = text:match('^[%z\1-\127\194-\244][\128-\191]*', i)
        local need = c:byte() >= 240 and 4 or c:byte() >= 224 and 3 or c:byte() >= 194 and 2 or 1
        if #whole < need and i + need - 1 > #text then
          self.pending = text:sub(i)
          return
        end
        put(self, whole)
        i = i + #whole - 1
      end
      i = i + 1
    end
  end
end

function vt:lines()
  local out, last = {}, self.row
  for k in pairs(self.rows) do last = math.max(last, k) end
  for k = 1, last do
    local l, width = self.rows[k] or {}, 0
    for c in pairs(l) do width = math.max(width, c) end
    local cells = {}
    for c = 1, width do cells[c] = l[c] or ' ' end
    out[k] = (table.concat(cells):gsub('%s+$', ''))
  end
  return out
end

--- The text from a row on.
function vt:text(from)
  local lines = self:lines()
  return table.concat(lines, '\n', math.min(from or 1, #lines), #lines)
end

return vt
