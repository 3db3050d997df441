--- checkpoint: everything a run needs to go on as if it had never stopped, in one file.
--
-- The file is what torch.save writes (any safetensors reader opens it), plus checksums: a CRC-32C per tensor and one over the
-- names, types, shapes and the structure. It appears whole or not at all: written beside its place, flushed, renamed, the
-- folder flushed. Objects need only state_dict and load_state_dict (or get_state and set_state); everything else is saved
-- as it is: nested tables of tensors, numbers, strings and booleans. The default generator is always saved and restored.
--
-- @usage
-- local checkpoint = torch.train.checkpoint
-- local net = nn.Linear(3, 2)
-- local optimizer = torch.optim.Adam(net:parameters())
-- checkpoint.save('last.safetensors', { model = net, optimizer = optimizer, step = 12, best = 1.9 })
-- local rest = checkpoint.load('last.safetensors', { model = net, optimizer = optimizer })
-- print(rest.step, rest.best)      --> 12	1.9

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local safetensors = require 'masked_torch.io.safetensors'
local value = require 'masked_torch.io.value'
local widen = require 'masked_torch.io.widen'

local fail = native.fail
local C = native.cpu
local checkpoint = {}

local KIND, VERSION, SUMS, HEADER = 'masked_torch.kind', 'masked_torch.checkpoint', 'masked_torch.crc32c',
  'masked_torch.header_crc32c'
local VERSION_NUMBER = '1'
local DEFAULT_GENERATOR = 'default_generator'

-- ---- objects and their state ---------------------------------------------------------------------------------------

local function has(v, name)
  return type(v) == 'table' and not Tensor.is_tensor(v) and getmetatable(v) ~= nil and type(v[name]) == 'function'
end

-- The state of an object, or nil when v is plain data.
local function state_of(v)
  if has(v, 'state_dict') then return v:state_dict() end
  if has(v, 'get_state') then return v:get_state() end
end

local function restore(object, state)
  if has(object, 'load_state_dict') then object:load_state_dict(state) else object:set_state(state) end
end

-- Plain tables may hold objects ({ train = generator, noise = generator }).
local function capture(v, depth)
  local state = state_of(v)
  if state ~= nil then return state end
  if type(v) ~= 'table' or getmetatable(v) ~= nil or depth > 50 then return v end
  local copy = {}
  for key, item in pairs(v) do copy[key] = capture(item, depth + 1) end
  return copy
end

-- Visits the objects in `targets` with the states at the same places: visit(path, object, state).
local function pair_up(targets, states, path, visit)
  local keys = {}
  for key in pairs(targets) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    local object = targets[key]
    local name = path == '' and tostring(key) or path .. '.' .. tostring(key)
    local state
    if type(states) == 'table' then state = states[key] end
    if has(object, 'load_state_dict') or has(object, 'set_state') then
      visit(name, object, state)
    elseif type(object) == 'table' and getmetatable(object) == nil then
      pair_up(object, state, name, visit)
    else
      visit(name, nil, state, object)
    end
  end
end

local function snapshot(v)
  if Tensor.is_tensor(v) then return (v:detach():clone()) end
  if type(v) ~= 'table' or getmetatable(v) ~= nil then return v end
  local copy = {}
  for key, item in pairs(v) do copy[key] = snapshot(item) end
  return copy
end

-- ---- checksums -------------------------------------------------------------------------------------------------------

local function hex(crc) return ('%08x'):format(tonumber(crc)) end

local function text_sum(text) return hex(C.mt_checksum_crc32c(0, text, #text, 1)) end

local function tensor_sum(t)
  local c = widen.contiguous(t)
  local crc = C.mt_checksum_crc32c(0, c._c.data, c:numel() * c:element_size(), 1)
  return hex(crc), c       -- c lives until here
end

local function sorted_names(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- What the tensors' own checksums do not cover.
local function header_sum(tensors, sums, metadata)
  local lines = {}
  for _, name in ipairs(sorted_names(tensors)) do
    local t = tensors[name]
    lines[#lines + 1] = ('%s %s %s %s'):format(name, t.dtype, table.concat(t:size(), ','), sums[name] or '?')
  end
  for _, key in ipairs(sorted_names(metadata)) do
    if key ~= HEADER then lines[#lines + 1] = key .. '=' .. metadata[key] end
  end
  return text_sum(table.concat(lines, '\n'))
end

-- ---- saving ------------------------------------------------------------------------------------------------------------

--- checkpoint.save(path, fields): fields is a table of objects (with state_dict or get_state), tables of them, and plain
-- data: model, optimizer, scheduler, generators, loader, step, epoch, best, config, ... The old file stays until the new one
-- is complete on the disk. Errors name the path and the reason, and the old file is intact.
function checkpoint.save(path, fields)
  local op = 'checkpoint.save'
  file.check_path(op, path)
  if type(fields) ~= 'table' or getmetatable(fields) ~= nil then
    fail('%s: fields: expected a table such as {model = net, optimizer = optimizer, step = step}, got %s', op,
      Tensor.is_tensor(fields) and 'a tensor' or has(fields, 'state_dict') and 'an object' or type(fields))
  end
  local content = capture(fields, 0)
  if fields[DEFAULT_GENERATOR] == nil then
    content[DEFAULT_GENERATOR] = require('masked_torch').default_generator:get_state()
  end
  local tensors, metadata = value.pack(op, 'fields', content)
  local sums = {}
  for name, t in pairs(tensors) do sums[name] = tensor_sum(t) end
  metadata[KIND], metadata[VERSION], metadata['masked_torch.library'] = 'checkpoint', VERSION_NUMBER, native.version
  metadata['masked_torch.isa'] = ffi.string(C.mt_isa())
  metadata[SUMS] = json.encode(setmetatable(sums, json.object))
  metadata[HEADER] = header_sum(tensors, sums, metadata)
  file.make_folders(op, path)
  local ok, message = pcall(safetensors.save, path, tensors, metadata)
  if not ok then error((tostring(message):gsub('safetensors%.save: ', op .. ': ', 1)), 0) end
end

-- ---- loading -----------------------------------------------------------------------------------------------------------

-- The content of the file, verified.
local function read(op, path)
  local ok, tensors, metadata = pcall(safetensors.load, path)
  if not ok then error((tostring(tensors):gsub('safetensors%.load: ', op .. ': ', 1)), 0) end
  if metadata[KIND] ~= 'checkpoint' then
    fail('%s: %s: not a checkpoint, but another safetensors file (torch.load reads it)', op, path)
  end
  if metadata[VERSION] ~= VERSION_NUMBER then
    fail('%s: %s: version %s of the checkpoint format; this library (%s) reads version %s', op, path,
      tostring(metadata[VERSION]):sub(1, 20), native.version, VERSION_NUMBER)
  end
  local sums = json.decode(metadata[SUMS] or '{}', function(_, message) fail('%s: %s: checksums: %s', op, path, message) end)
  if getmetatable(sums) ~= json.object then fail('%s: %s: checksums: expected an object', op, path) end
  for _, name in ipairs(sorted_names(tensors)) do
    if tensor_sum(tensors[name]) ~= sums[name] then
      fail('%s: %s: tensor %q is damaged (its checksum differs)', op, path, name)
    end
  end
  if header_sum(tensors, sums, metadata) ~= metadata[HEADER] then
    fail('%s: %s: the header is damaged (its checksum differs)', op, path)
  end
  local content = value.unpack(op, path, tensors, metadata)
  if type(content) ~= 'table' then fail('%s: %s: the checkpoint holds no table', op, path) end
  return content, metadata
end

--- checkpoint.load(path, [targets], [{warn = function(text)}]): restores the objects in targets (the same table as for save;
-- plain values in it are ignored) and returns everything that was saved: rest.step, rest.config ... Objects appear there
-- as their states. rest.library is the version that wrote it.
-- All or nothing: a damaged file, a missing part, a model of other names or shapes (all are listed) is an error, and the
-- objects are as they were. A file written with another instruction set warns: bits may differ from the uninterrupted run.
function checkpoint.load(path, targets, opts)
  local op = 'checkpoint.load'
  opts = options.parse(op, { warn = options.any(nil) }, opts)
  if targets == nil then targets = {} end
  if type(targets) ~= 'table' or getmetatable(targets) ~= nil then
    fail('%s: targets: expected a table such as {model = net, optimizer = optimizer}, got %s', op, type(targets))
  end
  local content, metadata = read(op, path)
  local work, missing = {}, {}
  pair_up(targets, content, '', function(name, object, state)
    if object == nil then return end
    if state == nil then
      missing[#missing + 1] = name
    else
      work[#work + 1] = { name = name, object = object, state = state }
    end
  end)
  if targets[DEFAULT_GENERATOR] == nil and content[DEFAULT_GENERATOR] ~= nil then
    work[#work + 1] = { name = DEFAULT_GENERATOR, object = require('masked_torch').default_generator,
      state = content[DEFAULT_GENERATOR] }
  end
  if #missing > 0 then
    fail('%s: %s: the checkpoint has no %s (it has %s)', op, path, table.concat(missing, ', '),
      table.concat(sorted_names(content), ', '))
  end
  for _, item in ipairs(work) do item.before = snapshot(state_of(item.object)) end
  for i, item in ipairs(work) do
    -- The object may keep the tables it is given; what is returned stays a value of its own.
    local ok, message = pcall(restore, item.object, snapshot(item.state))
    if not ok then
      for k = i, 1, -1 do pcall(restore, work[k].object, work[k].before) end
      local _, text = native.split_position(tostring(message))
      fail('%s: %s: %s: %s', op, path, item.name, text)
    end
  end
  local isa = ffi.string(C.mt_isa())
  if metadata['masked_torch.isa'] ~= isa then
    local text = ('%s was written with %s instructions, this machine uses %s: the run goes on, but not to the same bits')
      :format(path, metadata['masked_torch.isa'], isa)
    if opts.warn then opts.warn(text) else io.stderr:write('warning: ', text, '\n') end
  end
  content.library = metadata['masked_torch.library']
  return content
end

--- checkpoint.verify(path): what was saved, with every checksum checked; restores nothing.
function checkpoint.verify(path)
  local content, metadata = read('checkpoint.verify', path)
  content.library = metadata['masked_torch.library']
  return content
end

-- ---- last and best -----------------------------------------------------------------------------------------------------

local Folder = class('CheckpointFolder')

--- checkpoint.folder(path): a folder with last.safetensors and best.safetensors.
-- Temporary files that a killed run of this folder left behind are removed.
function Folder:__init(path)
  file.check_path('checkpoint.folder', path)
  if #path > 1 then path = path:gsub('/+$', '') end
  self.directory = path
  file.remove_abandoned('checkpoint.folder', path, { 'last.safetensors', 'best.safetensors', 'best.txt' })
end

--- folder:path(name): name is 'last' or 'best'.
function Folder:path(name)
  options.choice('checkpoint.folder', 'name', name, { 'last', 'best' })
  return self.directory .. '/' .. name .. '.safetensors'
end

--- folder:exists(name)
function Folder:exists(name)
  local handle = io.open(self:path(name), 'rb')
  if handle then handle:close() end
  return handle ~= nil
end

--- folder:save(fields, [is_best]): writes last; where is_best is true also best, and best.txt with one line that says when.
-- best is complete first: a run that is killed in between reaches it again. Both names then share one file on the disk.
function Folder:save(fields, is_best)
  local last, best = self:path('last'), self:path('best')
  if not is_best then return checkpoint.save(last, fields) end
  checkpoint.save(best, fields)
  file.write('checkpoint.save', self.directory .. '/best.txt', function(write)
    local parts = { os.date('!%Y-%m-%dT%H:%M:%SZ') }
    for _, key in ipairs{ 'epoch', 'step', 'best' } do
      local v = fields[key]
      if type(v) == 'number' then parts[#parts + 1] = ('%s=%.10g'):format(key, v) end
    end
    write(table.concat(parts, ', ') .. '\n')
  end)
  if not file.link('checkpoint.save', best, last) then checkpoint.save(last, fields) end
end

--- folder:load([name = 'last'], targets, [opts]): as checkpoint.load.
function Folder:load(name, targets, opts)
  local rest = checkpoint.load(self:path(name or 'last'), targets, opts)
  return rest
end

checkpoint.folder = Folder

return checkpoint
