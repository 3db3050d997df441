--- log: lines on standard error that do not break the bars, and in a file.
--
-- The first number counts milliseconds since the program loaded this file. Levels: debug, info, warning, error; a warning or
-- an error begins with that word.
--
-- @usage
-- local log = torch.train.logger{ file = 'log.txt' }
-- log:info('%d parameters', 26865041)      -- [1042] [14:03:27] 26865041 parameters
-- log:close()

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local terminal = require 'masked_torch.train.terminal'
local append = require 'masked_torch.train.append'

local began = terminal.now()
local levels = { debug = 1, info = 2, warning = 3, error = 4 }
local names = { 'debug', 'info', 'warning', 'error' }

local Logger = class('Logger')

local defaults = { level = 'info', bars = options.any(nil), file = options.none, write = options.any(nil),
  clock = options.any(nil), time = options.any(nil) }

--- torch.train.logger([options]): level = 'info' is the lowest that is shown (the file gets everything from debug on); bars: a
-- torch.train.progress whose lines stay whole; file: a path, appended to. write(text), clock() and time() (seconds since
-- 1970) replace standard error and the clocks.
function Logger:__init(opts)
  opts = options.parse('logger', defaults, opts)
  self:set_level(opts.level)
  self.bars, self.write_text = opts.bars, opts.write
  self.clock, self.time, self.began = opts.clock or terminal.now, opts.time or os.time, opts.clock and opts.clock() or began
  if opts.file ~= nil then self.file = append.open('logger', opts.file) end
end

--- log:set_level(name)
function Logger:set_level(name)
  options.choice('logger', 'level', name, names)
  self.level = levels[name]
end

--- log:write(level, format, ...): the text alone where there is nothing to format, so that a '%' in a message is safe.
function Logger:write(level, format, ...)
  options.choice('logger', 'level', level, names)
  if levels[level] < self.level and not self.file then return end
  local text = select('#', ...) > 0 and tostring(format):format(...) or tostring(format)
  if levels[level] >= levels.warning then text = level:upper() .. ': ' .. text end
  local line = ('[%d] [%s] %s\n'):format(math.floor((self.clock() - self.began) * 1000 + 0.5), os.date('%H:%M:%S', self.time()),
    text)
  if self.file then self.file:write(line) end
  if levels[level] < self.level then return end
  if self.write_text then
    self.write_text(line)
  elseif self.bars then
    self.bars:write(line)
  else
    io.stderr:write(line)
  end
end

--- log:debug(format, ...), log:info, log:warning, log:error (the last only prints, it does not raise)
for _, name in ipairs(names) do
  Logger[name] = function(self, format, ...) self:write(name, format, ...) end
end

--- log:close(): closes the file.
function Logger:close()
  if self.file then self.file:close() end
  self.file = nil
end

-- torch.train.log: a logger without bars or file, made at its first use.
local shared
local log = setmetatable({}, { __index = function(_, key)
  shared = shared or Logger()
  local value = shared[key]
  if type(value) ~= 'function' then return value end
  return function(_, ...) value(shared, ...) end
end, __newindex = function() native.fail('train.log: nothing can be set; make one with train.logger{...}') end })

return { logger = Logger, log = log }
