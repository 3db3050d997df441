--- gpt2_files: where GPT-2's encoder.json and vocab.bpe lie, and fetching them when that is asked for.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local file = require 'masked_torch.io.file'
local sha256 = require 'masked_torch.data.tokenizer.sha256'

local fail = native.fail
local gpt2_files = {}

local SOURCE = 'https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/'
local FILES = {
  { 'encoder.json', '196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783' },
  { 'vocab.bpe', '1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5' },
}

local function exists(path)
  local f = io.open(path, 'rb')
  if f then f:close() end
  return f ~= nil
end

--- The folder for fetched files: MASKED_TORCH_CACHE, or masked_torch in XDG_CACHE_HOME, or in ~/.cache.
function gpt2_files.cache()
  local own, xdg, home = os.getenv('MASKED_TORCH_CACHE'), os.getenv('XDG_CACHE_HOME'), os.getenv('HOME')
  if own and own ~= '' then return own end
  return (xdg and xdg ~= '' and xdg or (home or '.') .. '/.cache') .. '/masked_torch'
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Fetches one file beside its place, checks it, and puts it there.
local function fetch(op, source, path, digest)
  local temporary = ('%s.%d.part'):format(path, ffi.C.getpid())
  file.make_folders(op, path)
  local pipe = io.popen(('curl --fail --silent --show-error --location --max-time 120 ' ..
    '--max-filesize 16777216 -o %s %s 2>&1; echo " $?"'):format(quoted(temporary), quoted(source)))
  local said = pipe:read('*a')
  pipe:close()
  local reason, status = said:match('^(.-)%s*(%d+)%s*$')
  if status ~= '0' then
    os.remove(temporary)
    fail('%s: %s cannot be fetched (%s); without a network, place that file as %s', op, source,
      reason and reason ~= '' and reason or 'curl gave ' .. tostring(status), path)
  end
  local text = file.read(op, temporary, 16 * 2 ^ 20)
  os.remove(temporary)
  if sha256(text) ~= digest then fail('%s: %s: the checksum differs from the published file; it was not kept', op, source) end
  file.write(op, path, function(write) write(text) end)
end

--- The folder that holds both files: the given one, or gpt2 in the cache. o.fetch: get what is missing from o.source.
function gpt2_files.folder(op, folder, o)
  folder = folder or gpt2_files.cache() .. '/gpt2'
  for _, entry in ipairs(FILES) do
    local path = folder .. '/' .. entry[1]
    if not exists(path) then
      if not o.fetch then
        fail("%s: %s is missing: place it there (published as %s), or allow fetching with {fetch = true}", op, path,
          SOURCE .. entry[1])
      end
      fetch(op, (o.source or SOURCE) .. entry[1], path, entry[2])
    end
  end
  return folder
end

return gpt2_files
