--- fetch: published files in a folder of the user's. Nothing goes to the network unless asked to, and what was fetched counts only when
-- its checksum is right.

local ffi = require 'ffi'
local file = require 'masked_torch.io.file'
local native = require 'masked_torch.native'
local sha256 = require 'masked_torch.io.sha256'

local fail = native.fail
local fetch = {}

--- fetch.folder(op): where fetched files lie: $MASKED_TORCH_DATA, or masked_torch in $XDG_CACHE_HOME, or in ~/.cache.
function fetch.folder(op)
  local own, xdg, home = os.getenv 'MASKED_TORCH_DATA', os.getenv 'XDG_CACHE_HOME', os.getenv 'HOME'
  if own and own ~= '' then return own end
  if xdg and xdg ~= '' then return xdg .. '/masked_torch' end
  if home and home ~= '' then return home .. '/.cache/masked_torch' end
  fail('%s: no folder for fetched files: set MASKED_TORCH_DATA, or HOME', op)
end

--- fetch.exists(path)
function fetch.exists(path)
  local f = io.open(path, 'rb')
  if f then f:close() end
  return f ~= nil
end

--- fetch.verified(op, path, source): the content of the file; anything but source.bytes bytes with the checksum source.sha256 is an error.
function fetch.verified(op, path, source)
  local content = file.read(op, path, math.max(source.bytes, 2 ^ 24))
  if #content ~= source.bytes or sha256(content) ~= source.sha256 then
    fail('%s: %s is not the expected file (%d bytes, sha256 %s); expected %d bytes, sha256 %s; remove it and fetch it anew from %s',
      op, path, #content, sha256(content), source.bytes, source.sha256, source.url)
  end
  return content
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- fetch.get(op, path, source): fetches source.url with curl to a name beside path, verifies it, and only then gives it its name.
-- Returns the content.
function fetch.get(op, path, source)
  file.make_folders(op, path)
  local partial = ('%s.%d.part'):format(path, ffi.C.getpid())
  local pipe = io.popen(("curl --fail --silent --show-error --location --proto '=https,file' --max-time 120 --max-filesize %d " ..
    '-o %s %s 2>&1; echo " $?"'):format(source.bytes, quoted(partial), quoted(source.url)))
  local said = pipe:read '*a'
  pipe:close()
  local reason, status = said:match '^(.-)%s*(%d+)%s*$'
  if status ~= '0' then
    os.remove(partial)
    fail('%s: %s cannot be fetched (%s); curl does that (apt install curl); without a network, place that file as %s', op, source.url,
      reason and reason ~= '' and reason or 'curl gave ' .. tostring(status), path)
  end
  local ok, content = pcall(fetch.verified, op, partial, source)
  os.remove(partial)
  if not ok then error(content, 0) end
  file.write(op, path, function(write) write(content) end)
  return content
end

return fetch
