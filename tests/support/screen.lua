--- screen: a terminal that understands what progress bars send: \r, \n, ESC[nA, ESC[K, ESC[J.
local screen = {}
screen.__index = screen

function screen.new() return setmetatable({ rows = {}, row = 1, column = 1, writes = 0 }, screen) end

function screen:write(text)
  self.writes = self.writes + 1
  local i = 1
  while i <= #text do
    local c = text:match('^[%z\1-\127\194-\244][\128-\191]*', i)
    local n, code = text:match('^\27%[(%d*)(%a)', i)
    if code then
      i = i + 2 + #n + 1
      if code == 'A' then
        self.row = self.row - tonumber(n)
        assert(self.row >= 1, 'the cursor left the screen')
      elseif code == 'K' then
        local line = self.rows[self.row] or {}
        for k = #line, self.column, -1 do line[k] = nil end
      elseif code == 'J' then
        for k = #self.rows, self.row + (self.column > 1 and 1 or 0), -1 do self.rows[k] = nil end
      else
        error('unknown escape ' .. code)
      end
    else
      i = i + #c
      if c == '\n' then
        self.row, self.column = self.row + 1, 1
      elseif c == '\r' then
        self.column = 1
      else
        local line = self.rows[self.row] or {}
        for k = #line + 1, self.column - 1 do line[k] = ' ' end
        line[self.column] = c
        self.rows[self.row], self.column = line, self.column + 1
      end
    end
  end
end

function screen:lines()
  local out, last = {}, 0
  for k in pairs(self.rows) do last = math.max(last, k) end
  for k = 1, last do out[k] = (table.concat(self.rows[k] or {}):gsub('%s+$', '')) end
  return out
end

function screen:width()
  local widest = 0
  for _, line in pairs(self.rows) do widest = math.max(widest, #line) end
  return widest
end

return screen
