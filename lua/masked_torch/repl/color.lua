--- color: text in colours where the terminal has them. NO_COLOR (any value) switches them off, as does TERM=dumb.

local ffi = require 'ffi'
local terminal = require 'masked_torch.train.terminal'

local color = { on = false }

local codes = { red = '31', green = '32', yellow = '33', blue = '34', magenta = '35', cyan = '36', grey = '90', bold = '1' }

--- color.detect(fd): may text to that file carry colours?
function color.detect(fd)
  local term = os.getenv 'TERM'
  local no = os.getenv 'NO_COLOR'
  return ffi.C.isatty(fd) == 1 and term ~= nil and term ~= '' and term ~= 'dumb' and (no == nil or no == '')
end

--- color.paint('red', text)
function color.paint(name, text)
  if not color.on then return text end
  return ('\27[%sm%s\27[0m'):format(codes[name], text)
end

--- color.background(r, g, b): begins a background of that colour, '' without colours. 24 bits where the terminal says so, else
-- the nearest of 216.
function color.background(r, g, b)
  if not color.on then return '' end
  local depth = os.getenv 'COLORTERM'
  if depth == 'truecolor' or depth == '24bit' then return ('\27[48;2;%d;%d;%dm'):format(r, g, b) end
  local function level(v) return math.floor(v / 255 * 5 + 0.5) end
  return ('\27[48;5;%dm'):format(16 + 36 * level(r) + 6 * level(g) + level(b))
end

color.utf8 = terminal.is_utf8
return color
