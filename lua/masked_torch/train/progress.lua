--- progress: bars at the bottom of the terminal, each on its own line, with running means, rate and remaining time.
--
--     Epochs:  30%|███       | 3/10 [01:12<02:48, 24.1s/epoch]
--     Train:   75%|███████▌  | 375/500 [00:18<00:06, 20.7it/s, loss=1.93]
--
-- Bars are on standard error. Where that is no terminal, or with quiet, a bar is a plain line now and then: after each
-- 10 s with news, and at its end. The cursor rests on the line below the bars, so that whatever else is printed, an error
-- say, does not run into them.
--
-- @usage
-- local bars, means = torch.train.progress(), torch.train.means()
-- local epochs, steps = bars:add('Epochs', 2, { unit = 'epoch' }), bars:add('Train', 50)
-- for epoch = 1, 2 do
--   steps:reset()
--   for step = 1, 50 do
--     steps:update(1, means:add({ loss = 1 / step }))
--   end
--   epochs:update(1)
-- end
-- bars:close()

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local terminal = require 'masked_torch.train.terminal'

local fail = native.fail
local length, cut = terminal.length, terminal.cut

-- ---- text --------------------------------------------------------------------------------------------------------

-- 75 -> "01:15", 3675 -> "1:01:15"
local function duration(seconds)
  if not (seconds >= 0 and seconds < 1e9) then return '?' end
  local s = math.floor(seconds)
  local h, m = math.floor(s / 3600), math.floor(s / 60) % 60
  if h > 0 then return ('%d:%02d:%02d'):format(h, m, s % 60) end
  return ('%02d:%02d'):format(m, s % 60)
end

local function rate_text(rate, unit)
  if not rate or rate <= 0 then return '?' .. unit .. '/s' end
  if rate < 1 then return ('%.3gs/%s'):format(1 / rate, unit) end
  return (rate < 1000 and '%.3g%s/s' or '%.0f%s/s'):format(rate, unit)
end

local function value_text(value)
  if type(value) ~= 'number' then return tostring(value) end
  if value % 1 == 0 and math.abs(value) < 1e6 then return ('%d'):format(value) end
  return ('%.4g'):format(value)
end

-- A string; running means (in their order); or a table by name (sorted).
local function postfix_text(op, postfix)
  if postfix == nil or type(postfix) == 'string' then return postfix or '' end
  if type(postfix) ~= 'table' then fail('%s: postfix: expected a string or a table, got %s', op, type(postfix)) end
  local names, values = {}, postfix
  if postfix.names then
    names, values = postfix:names(), postfix:get()
  else
    for name in pairs(postfix) do names[#names + 1] = tostring(name) end
    table.sort(names)
  end
  local parts = {}
  for i, name in ipairs(names) do parts[i] = name .. '=' .. value_text(values[name]) end
  return table.concat(parts, ', ')
end

local eighths = { '▏', '▎', '▍', '▌', '▋', '▊', '▉' }

local function gauge(fraction, width, utf8)
  local eight = math.floor(math.max(0, math.min(1, fraction)) * width * (utf8 and 8 or 1) + 1e-9)
  if not utf8 then return ('#'):rep(eight) .. ('-'):rep(width - eight) end
  local full, part = math.floor(eight / 8), eight % 8
  return ('█'):rep(full) .. (eighths[part] or '') .. (' '):rep(width - full - (part > 0 and 1 or 0))
end

-- ---- one bar -------------------------------------------------------------------------------------------------------

local Bar = class('Bar')

function Bar:__init(group, name, total, opts)
  self.group, self.name, self.total = group, name, total
  self.unit, self.text = opts.unit, ''
  self:start(opts.initial)
end

function Bar:start(initial)
  local now = self.group.clock()
  self.n, self.initial, self.began = initial, initial, now
  self.last_time, self.last_n = now, initial
  self.speed, self.weight = 0, 0        -- exponential mean of the rate, and the weights it has so far
  self.printed_time, self.printed_n = now, nil
end

-- The mean of the last redraws counts, so that a change of pace shows.
local function measure(bar, now)
  local dt, dn = now - bar.last_time, bar.n - bar.last_n
  if dt <= 0 or dn <= 0 then return end
  bar.speed = 0.3 * dn / dt + 0.7 * bar.speed
  bar.weight = 0.3 + 0.7 * bar.weight
  bar.last_time, bar.last_n = now, bar.n
end

local function rate_of(bar, now)
  if bar.total and bar.n >= bar.total and now > bar.began then return (bar.n - bar.initial) / (now - bar.began) end
  return bar.weight > 0 and bar.speed / bar.weight or nil
end

-- " 75%" and "375/500 [00:18<00:06, 20.7it/s, loss=1.93]"
local function describe(bar, now)
  local rate = rate_of(bar, now)
  local left = ''
  local count = ('%d%s'):format(bar.n, bar.total and '/' .. ('%d'):format(bar.total) or bar.unit)
  if bar.total then left = '<' .. (rate and duration((bar.total - bar.n) / rate) or '?') end
  local text = ('%s [%s%s, %s%s]'):format(count, duration(now - bar.began), left, rate_text(rate, bar.unit),
    bar.text ~= '' and ', ' .. bar.text or '')
  return bar.total and ('%3d%%'):format(math.floor(100 * math.min(1, bar.n / math.max(1, bar.total)))) or '', text
end

function Bar:line(now, columns, utf8)
  local percent, text = describe(self, now)
  local head = self.name ~= '' and self.name .. ': ' .. percent or percent
  local room = columns - length(head) - length(text) - 3
  if not self.total or room < 4 then return cut(head .. (head ~= '' and ' ' or '') .. text, columns) end
  return head .. '|' .. gauge(self.n / math.max(1, self.total), math.min(room, 60), utf8) .. '| ' .. text
end

--- bar:update([n = 1], [postfix]): n more are done. postfix: running means, a table of numbers by name, or a string; it stays
-- until the next one. Drawn at most every 0.1 s, so it may be called as often as wanted.
function Bar:update(n, postfix)
  n = native.number('progress', 'n', n == nil and 1 or n)
  self.n = self.n + n
  if postfix ~= nil then self.pending = postfix end
  self.group:changed(self)
end

--- bar:set(n, [postfix]): n are done in all.
function Bar:set(n, postfix)
  self:update(native.number('progress', 'n', n) - self.n, postfix)
end

--- bar:postfix(postfix): changes the text only.
function Bar:postfix(postfix)
  self:update(0, postfix)
end

--- bar:reset([total], [initial = 0]): begins again, on the same line.
function Bar:reset(total, initial)
  if total ~= nil then self.total = native.number('progress', 'total', total) end
  self:start(initial or 0)
  self.group:changed(self)
end

--- bar:close(): removes its line from the bottom; its last state stays above the bars.
function Bar:close() self.group:remove(self) end

-- ---- the group -----------------------------------------------------------------------------------------------------

local Progress = class('Progress')

local defaults = { quiet = false, interval = 0.1, plain_interval = 10, columns = options.none, interactive = options.none,
  utf8 = options.none, write = options.any(nil), clock = options.any(nil) }

local function to_stderr(text)
  io.stderr:write(text)
end

--- torch.train.progress([options]): a group of bars. Options: quiet (plain lines even in a terminal), interval (seconds between
-- redraws), plain_interval (seconds between plain lines of a bar); columns, interactive and utf8 override what the
-- terminal says; write(text) and clock() replace standard error and the clock.
function Progress:__init(opts)
  opts = options.parse('progress', defaults, opts)
  self.write_text = opts.write or to_stderr
  self.clock = opts.clock or terminal.now
  self.interval, self.plain_interval, self.columns = opts.interval, opts.plain_interval, opts.columns
  if opts.interactive == nil then opts.interactive = terminal.is_interactive() end
  self.interactive = opts.interactive and not opts.quiet
  if opts.utf8 == nil then opts.utf8 = terminal.is_utf8() end
  self.utf8 = opts.utf8
  self.bars, self.drawn, self.last_draw = {}, 0, -math.huge
end

--- bars:add(name, [total], {unit = 'it', initial = 0}): a bar below the others. Without total it counts and shows the rate.
function Progress:add(name, total, opts)
  opts = options.parse('progress', { unit = 'it', initial = 0 }, opts)
  if type(name) ~= 'string' then fail('progress: name: expected a string, got %s', type(name)) end
  if total ~= nil then native.integer('progress', 'total', total, 0) end
  native.integer('progress', 'initial', opts.initial, 0)
  local bar = Bar(self, name, total, opts)
  self.bars[#self.bars + 1] = bar
  if self.interactive then self:draw(true) end
  return bar
end

local function resolve(bar)
  if bar.pending ~= nil then
    bar.text, bar.pending = postfix_text('progress', bar.pending), nil
  end
end

-- One write per redraw: up to the first bar, each line replaced, the cursor below.
local function frame(self, now)
  local columns = (self.columns or terminal.columns()) - 1
  local parts = {}
  for _, bar in ipairs(self.bars) do
    measure(bar, now)
    resolve(bar)
    parts[#parts + 1] = '\r' .. bar:line(now, columns, self.utf8) .. '\27[K\n'
  end
  return table.concat(parts)
end

local function up(n) return n > 0 and ('\r\27[%dA'):format(n) or '\r' end

function Progress:draw(now_or_force)
  local now = type(now_or_force) == 'number' and now_or_force or self.clock()
  self.write_text(up(self.drawn) .. frame(self, now) .. (#self.bars < self.drawn and '\27[J' or ''))
  self.drawn, self.last_draw = #self.bars, now
end

local function plain(self, bar, now)
  measure(bar, now)
  resolve(bar)
  local percent, text = describe(bar, now)
  self.write_text(('%s%s%s %s\n'):format(bar.name, bar.name ~= '' and ': ' or '', (percent:gsub(' ', '')), text))
  bar.printed_time, bar.printed_n = now, bar.n
end

function Progress:changed(bar)
  local now = self.clock()
  local finished = bar.total and bar.n >= bar.total
  if self.interactive then
    if finished or now - self.last_draw >= self.interval then self:draw(now) end
  elseif bar.n ~= bar.printed_n and bar.n > bar.initial and (finished or now - bar.printed_time >= self.plain_interval) then
    plain(self, bar, now)
  end
end

function Progress:remove(bar)
  for i, other in ipairs(self.bars) do
    if other == bar then
      if self.interactive then
        local now = self.clock()
        measure(bar, now)
        resolve(bar)
        self:write(bar:line(now, (self.columns or terminal.columns()) - 1, self.utf8))
      elseif bar.n ~= bar.printed_n and bar.n > bar.initial then
        plain(self, bar, self.clock())
      end
      table.remove(self.bars, i)
      if self.interactive then self:draw(true) end
      return
    end
  end
end

--- bars:write(text): a line, or several, above the bars.
function Progress:write(text)
  if text:sub(-1) ~= '\n' then text = text .. '\n' end
  if not self.interactive or self.drawn == 0 then
    self.write_text(text)
    return
  end
  local now = self.clock()
  self.write_text(up(self.drawn) .. '\27[J' .. text .. frame(self, now))
  self.last_draw = now
end

--- bars:close(): the bars stay as they are last, and later text comes below.
function Progress:close()
  if self.interactive then
    if #self.bars > 0 then self:draw(true) end
  else
    for _, bar in ipairs(self.bars) do
      if bar.n ~= bar.printed_n and bar.n > bar.initial then plain(self, bar, self.clock()) end
    end
  end
  self.bars, self.drawn = {}, 0
end

--- torch.train.bar(name, [total], [options]): one bar; options are those of progress and add. bar:close() ends it.
local function bar(name, total, opts)
  local own, group = {}, {}
  for key, value in pairs(opts or {}) do
    if key == 'unit' or key == 'initial' then own[key] = value else group[key] = value end
  end
  local bars = Progress(group)
  local one = bars:add(name, total, own)
  return one
end

return { progress = Progress, bar = bar, duration = duration }
