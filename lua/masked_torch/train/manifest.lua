--- manifest: what ran where, as JSON beside a run's results.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local terminal = require 'masked_torch.train.terminal'

local C = native.cpu

local function first_match(path, pattern)
  local handle = io.open(path, 'r')
  if not handle then return nil end
  local text = handle:read('*a')
  handle:close()
  return text:match(pattern)
end

-- The name of the BLAS that the library is linked with, where it tells.
local function blas()
  pcall(ffi.cdef, 'char *openblas_get_config(void);')
  local ok, text = pcall(function() return ffi.string(C.openblas_get_config()) end)
  return ok and text:gsub('%s+$', '') or 'unknown'
end

-- Only what JSON can hold; NaN and infinities as text, anything else as its tostring.
local function plain(v, depth)
  local kind = type(v)
  if kind == 'number' then
    if v ~= v then return 'nan' end
    if v == math.huge or v == -math.huge then return v > 0 and 'inf' or '-inf' end
    return v
  elseif kind == 'boolean' then
    return v
  elseif kind ~= 'table' or getmetatable(v) ~= nil or depth > 20 then
    local text = tostring(v)
    return json.invalid_utf8(text) and text:gsub('[\128-\255]', '?') or text
  end
  local copy = setmetatable({}, #v > 0 and json.array or json.object)
  if #v > 0 then
    for i, item in ipairs(v) do copy[i] = plain(item, depth + 1) end
  else
    for key, item in pairs(v) do copy[tostring(key)] = plain(item, depth + 1) end
  end
  return copy
end

-- What a run's earlier sessions wrote, or nil.
local function earlier(path)
  local ok, text = pcall(file.read, 'manifest', path, 2 ^ 24)
  if not ok then return nil end
  local decoded, old = pcall(json.decode, text, error)
  return decoded and type(old) == 'table' and type(old.machine) == 'table' and old or nil
end

--- torch.train.manifest([path], {seed =, options =, ...}, [{resume = step}]): a table with the library's version, the date, the
-- command line, the machine (host, processor, its number of cores, memory, instruction set, BLAS, threads, kernel, LuaJIT) and
-- the given fields (seed, options, anything that JSON can hold); with a path it is written there too. Returns the table.
-- resume: the file that a run's first session wrote stays as it is, and gets in its list `resumed` the step, date, command line,
-- version and machine of this one.
local function manifest(path, fields, opts)
  if type(path) == 'table' then path, fields, opts = nil, path, fields end
  opts = options.parse('manifest', { resume = options.any(nil) }, opts)
  if fields ~= nil and (type(fields) ~= 'table' or getmetatable(fields) ~= nil) then
    native.fail('manifest: fields: expected a table, got %s', type(fields))
  end
  local command = {}
  if type(arg) == 'table' then
    for i = 0, #arg do command[#command + 1] = arg[i] end
  end
  local seed = require('masked_torch').initial_seed()
  local _, cores = (first_match('/proc/cpuinfo', '.*') or ''):gsub('processor%s*:', '')
  local memory = tonumber(first_match('/proc/meminfo', 'MemTotal:%s*(%d+)'))
  local result = {
    version = native.version, date = os.date('!%Y-%m-%dT%H:%M:%SZ'), command = command, seed = seed,
    machine = {
      host = terminal.host_name(), cpu = first_match('/proc/cpuinfo', 'model name%s*:%s*([^\n]*)') or 'unknown', cores = cores,
      memory_mb = memory and math.floor(memory / 1024) or 0, isa = ffi.string(C.mt_isa()), blas = blas(),
      threads = C.mt_threads_get(), kernel = first_match('/proc/sys/kernel/osrelease', '[^\n]+') or 'unknown',
      system = ffi.os .. ' ' .. ffi.arch, luajit = jit.version,
    },
  }
  for key, v in pairs(fields or {}) do result[key] = v end
  result = plain(result, 0)
  if path ~= nil then
    file.check_path('manifest', path)
    file.remove_abandoned('manifest', path:match('^(.*)/[^/]*$') or '.', { path:match('[^/]*$') })
    local old = opts.resume ~= nil and earlier(path)
    if old then
      local session = { step = opts.resume }
      for _, key in ipairs{ 'version', 'date', 'command', 'machine' } do session[key] = result[key] end
      old.resumed = setmetatable(type(old.resumed) == 'table' and old.resumed or {}, json.array)
      table.insert(old.resumed, plain(session, 0))
      result = old
    end
    file.make_folders('manifest', file.check_path('manifest', path))
    file.write('manifest', path, function(write) write(json.encode(result) .. '\n') end)
  end
  return result
end

return { manifest = manifest }
