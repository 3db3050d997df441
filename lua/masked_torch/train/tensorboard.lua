--- tensorboard: event files that TensorBoard (github.com/tensorflow/tensorboard) shows, written without it.
--
-- The file is a sequence of records: length (8 bytes), masked CRC-32C of it, the event, masked CRC-32C of the event. Every
-- record reaches the system whole, so a killed run leaves a readable file.
--
-- @usage
-- local board = torch.train.tensorboard.writer('runs/a')
-- board:scalar('train/loss', 1.9, 1)
-- board:histogram('weight', torch.randn(100), 1)
-- board:image('sample', torch.rand(3, 8, 8), 1)      -- (C, H, W) as torch.io.png.save takes it
-- board:text('note', 'some *markdown*', 1)
-- board:flush()

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local append = require 'masked_torch.train.append'
local terminal = require 'masked_torch.train.terminal'
local wire = require 'masked_torch.io.wire'

local fail = native.fail
local C = native.cpu
local tensorboard = {}

-- Field numbers of tensorflow's event.proto, summary.proto and tensor.proto.
local EVENT = { wall_time = 1, step = 2, file_version = 3, summary = 5 }
local VALUE = { tag = 1, simple_value = 2, image = 4, histogram = 5, tensor = 8, metadata = 9 }
local DT_STRING = 7

-- ---- records -------------------------------------------------------------------------------------------------------------

-- TensorFlow's masking, so that a checksum of data that holds checksums still works.
local function masked_crc(bytes)
  local crc = C.mt_checksum_crc32c(0, bytes, #bytes, 1)
  return bit.tobit(bit.ror(bit.tobit(crc), 15) + 0xa282ead8)
end

local word = ffi.new 'int32_t[1]'
local function word_bytes(v)
  word[0] = v
  return ffi.string(word, 4)
end

local long = ffi.new 'uint64_t[1]'
local function record(data)
  long[0] = #data
  local length = ffi.string(long, 8)
  return length .. word_bytes(masked_crc(length)) .. data .. word_bytes(masked_crc(data))
end

-- ---- writing -------------------------------------------------------------------------------------------------------------

local Writer = class('TensorboardWriter')
local files = 0

-- Takes what was written after step `last` out of the event files of a folder: whole files are replaced, torn ends and files that
-- hold nothing else go.
local function rewind(folder, last)
  local listed, lfs = pcall(require, 'lfs')
  if not listed then fail('tensorboard: resume: needs lua-filesystem (apt install lua-filesystem, or luarocks install luafilesystem)') end
  local names = {}
  for name in lfs.dir(folder) do
    if name:find('^events%.out%.tfevents%.') and not name:find('%.tmp$') then names[#names + 1] = name end
  end
  file.remove_abandoned('tensorboard', folder, names)
  for _, name in ipairs(names) do
    local path = folder .. '/' .. name
    local kept, used, length = {}, 0, 0
    local events = tensorboard.read(path, function(event, bytes)
      length = length + #bytes
      if event.step > last then return end
      kept[#kept + 1] = bytes
      if event.values[1] then used = used + 1 end
    end)
    if used == 0 then
      os.remove(path)
    elseif #kept < #events or length < lfs.attributes(path, 'size') then
      file.write('tensorboard', path, function(write) write(table.concat(kept)) end)
    end
  end
end

--- torch.train.tensorboard.writer(folder, [{resume = step, suffix = '', time = function}]): a new event file in a folder, which is
-- made where it is missing. A resumed run writes a further file; TensorBoard joins them. resume: the step of the checkpoint that the
-- run goes on from; later events of the earlier files are taken out, so that none is there twice (0: all). time()
-- replaces the clock (seconds since 1970).
function Writer:__init(folder, opts)
  opts = options.parse('tensorboard', { suffix = '', time = options.any(nil), resume = options.any(nil) }, opts)
  file.check_path('tensorboard', folder)
  self.time = opts.time or terminal.wall_time
  if opts.resume ~= nil then
    native.number('tensorboard', 'resume', opts.resume)
    file.make_folders('tensorboard', folder .. '/')
    rewind(folder, opts.resume)
  end
  files = files + 1
  local name = terminal.host_name():gsub('[^%w.-]', '-')
  self.path = ('%s/events.out.tfevents.%010d.%s.%d.%d%s'):format(folder, self.time(), name, ffi.C.getpid(), files, opts.suffix)
  self.file = append.open('tensorboard', self.path)
  self.file:write(record(wire.double(EVENT.wall_time, self.time()) .. wire.bytes(EVENT.file_version, 'brain.Event:2')))
end

local function put(self, tag, step, value)
  if type(tag) ~= 'string' or tag == '' then fail('tensorboard: tag: expected a name, got %s', type(tag)) end
  native.integer('tensorboard', 'step', step, 0)
  local summary = wire.bytes(1, wire.bytes(VALUE.tag, tag) .. value)
  self.file:write(record(wire.double(EVENT.wall_time, self.time()) .. wire.int(EVENT.step, step) ..
    wire.bytes(EVENT.summary, summary)))
end

--- board:scalar(tag, value, step): a number or a tensor of one element.
function Writer:scalar(tag, value, step)
  if Tensor.is_tensor(value) then value = value:item() end
  native.number('tensorboard', 'value', value)
  put(self, tag, step, wire.float(VALUE.simple_value, value))
end

--- board:scalars(prefix, values, step): several, as prefix/name; values are numbers by name, or running means.
function Writer:scalars(prefix, values, step)
  if type(values) == 'table' and type(values.get) == 'function' then values = values:get() end
  local names = {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do self:scalar(prefix .. '/' .. name, values[name], step) end
end

-- Edges of the bins: tensorboard's own, 1e-12 growing by a tenth to 1e20, on both sides of 0.
local edges
local function bin_edges()
  if edges then return edges end
  edges = {}
  local positive, v = {}, 1e-12
  while v < 1e20 do
    positive[#positive + 1] = v
    v = v * 1.1
  end
  edges[1] = -math.huge
  for i = #positive, 1, -1 do edges[#edges + 1] = -positive[i] end
  edges[#edges + 1] = 0
  for i = 1, #positive do edges[#edges + 1] = positive[i] end
  edges[#edges + 1] = math.huge
  return edges
end

--- board:histogram(tag, values, step): of a tensor's finite values (NaN and infinities have no bin).
function Writer:histogram(tag, values, step)
  Tensor.check('tensorboard', 'values', values)
  local n = values:numel()
  local numbers = ffi.new('double[?]', math.max(1, n))
  native.check(C.mt_tensor_read(numbers, values:to{ device = 'cpu' }._c))
  local limits = bin_edges()
  local last = #limits
  local counts = {}
  for i = 1, last do counts[i] = 0 end
  local low, high, sum, squares, num = math.huge, -math.huge, 0, 0, 0
  for i = 0, n - 1 do
    local v = numbers[i]
    if v - v == 0 then
      low, high, sum, squares, num = math.min(low, v), math.max(high, v), sum + v, squares + v * v, num + 1
      local a, b = 1, last              -- the first bin whose upper limit is above v
      while a < b do
        local middle = math.floor((a + b) / 2)
        if limits[middle] > v then b = middle else a = middle + 1 end
      end
      counts[a] = counts[a] + 1
    end
  end
  if num == 0 then low, high = 0, 0 end
  -- Bins from the first to the last one in use; the outermost limits are finite numbers in the file.
  local first, final = 1, last
  while first < last and counts[first] == 0 do first = first + 1 end
  while final > first and counts[final] == 0 do final = final - 1 end
  local upper, count = {}, {}
  if first > 1 then upper[1], count[1] = math.max(limits[first - 1], -1.7e308), 0 end
  for i = first, final do
    upper[#upper + 1], count[#count + 1] = math.min(math.max(limits[i], -1.7e308), 1.7e308), counts[i]
  end
  put(self, tag, step, wire.bytes(VALUE.histogram, wire.double(1, low) .. wire.double(2, high) .. wire.double(3, num) ..
    wire.double(4, sum) .. wire.double(5, squares) .. wire.doubles(6, upper) .. wire.doubles(7, count)))
end

--- board:image(tag, picture, step): (H, W) or (C, H, W) with 1 to 4 channels, floats in 0..1 or uint8; stored as PNG.
function Writer:image(tag, picture, step)
  Tensor.check('tensorboard', 'picture', picture)
  local png = require('masked_torch.io.png').encode(picture)
  local dims = picture:dim()
  local channels = dims == 2 and 1 or picture:size(1)
  put(self, tag, step, wire.bytes(VALUE.image, wire.int(1, picture:size(dims - 1)) .. wire.int(2, picture:size(dims)) ..
    wire.int(3, channels) .. wire.bytes(4, png)))
end

--- board:text(tag, text, step): shown as Markdown.
function Writer:text(tag, text, step)
  if type(text) ~= 'string' then fail('tensorboard: text: expected a string, got %s', type(text)) end
  local plugin = wire.bytes(1, wire.bytes(1, 'text'))
  local tensor = wire.int(1, DT_STRING) .. wire.bytes(2, wire.bytes(2, wire.int(1, 1))) .. wire.bytes(8, text)
  put(self, tag .. '/text_summary', step, wire.bytes(VALUE.tensor, tensor) .. wire.bytes(VALUE.metadata, plugin))
end

--- board:flush(): onto the disk.
function Writer:flush() self.file:sync() end

--- board:close()
function Writer:close() self.file:close() end

tensorboard.writer = Writer

-- ---- reading -------------------------------------------------------------------------------------------------------------

-- The values of one summary.
local function read_value(text, bad)
  local v = {}
  for field, kind, content in wire.fields(text, bad) do
    if field == VALUE.tag and kind == 2 then
      v.tag = content
    elseif field == VALUE.simple_value and kind == 5 then
      v.scalar = wire.to_float(content)
    elseif field == VALUE.image and kind == 2 then
      v.image = {}
      local names = { 'height', 'width', 'channels', 'png' }
      for f, k, x in wire.fields(content, bad) do
        if names[f] then v.image[names[f]] = k == 0 and tonumber(x) or x end
      end
    elseif field == VALUE.histogram and kind == 2 then
      v.histogram = {}
      local names = { 'min', 'max', 'num', 'sum', 'sum_squares', 'limits', 'counts' }
      for f, k, x in wire.fields(content, bad) do
        if k == 1 and names[f] then v.histogram[names[f]] = wire.to_double(x) end
        if k == 2 and names[f] then
          local list = {}
          for i = 1, #x - 7, 8 do list[#list + 1] = wire.to_double(x:sub(i, i + 7)) end
          v.histogram[names[f]] = list
        end
      end
    elseif field == VALUE.tensor and kind == 2 then
      for f, k, x in wire.fields(content, bad) do
        if f == 8 and k == 2 then v.text = x end
      end
    end
  end
  return v
end

--- torch.train.tensorboard.read(path, [visit]): a list of {wall_time =, step =, file_version =, values = {{tag =, scalar =,
-- histogram =, image =, text =}, ...}}, every checksum verified. A record that a crash cut off at the end is left out; the second
-- result is then true. Damage anywhere else is an error that names the byte. visit(event, bytes) is called with each event and
-- its record.
function tensorboard.read(path, visit)
  local text = file.read('tensorboard.read', path)
  local events, i = {}, 1
  local function bad(at, message) fail('tensorboard.read: %s: byte %d: %s', path, at - 1, message) end
  local function int32(at)
    ffi.copy(word, text:sub(at, at + 3), 4)
    return word[0]
  end
  while i <= #text do
    if #text - i + 1 < 12 then return events, true end
    local length = text:sub(i, i + 7)
    if int32(i + 8) ~= masked_crc(length) then bad(i, 'the checksum of a length differs') end
    ffi.copy(long, length, 8)
    local n = tonumber(long[0])
    if n > #text - i + 1 - 16 then return events, true end
    local data, start = text:sub(i + 12, i + 11 + n), i + 12
    if int32(start + n) ~= masked_crc(data) then bad(start, 'the checksum of an event differs') end
    local function bad_field(at, message) bad(start + at, message) end
    local event = { step = 0, values = {} }
    for field, kind, v in wire.fields(data, bad_field) do
      if field == EVENT.wall_time and kind == 1 then
        event.wall_time = wire.to_double(v)
      elseif field == EVENT.step and kind == 0 then
        event.step = tonumber(v)
      elseif field == EVENT.file_version and kind == 2 then
        event.file_version = v
      elseif field == EVENT.summary and kind == 2 then
        for f, k, x in wire.fields(v, bad_field) do
          if f == 1 and k == 2 then event.values[#event.values + 1] = read_value(x, bad_field) end
        end
      end
    end
    events[#events + 1] = event
    if visit then visit(event, text:sub(i, start + n + 3)) end
    i = start + n + 4
  end
  return events, false
end

return tensorboard
