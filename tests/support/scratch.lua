--- scratch: a path for a file that a test makes; removed when the test runner ends or by scratch.clean().
local lfs = require 'lfs'
local scratch = {}
local folder, count, made = nil, 0, {}

function scratch.folder()
  if not folder then
    folder = os.tmpname()
    os.remove(folder)
    assert(lfs.mkdir(folder))
  end
  return folder
end

function scratch.path(suffix)
  count = count + 1
  local path = ('%s/%d%s'):format(scratch.folder(), count, suffix or '')
  made[#made + 1] = path
  return path
end

--- Writes a file with this content; returns its path.
function scratch.file(content, suffix)
  local path = scratch.path(suffix)
  local f = assert(io.open(path, 'wb'))
  f:write(content)
  f:close()
  return path
end

function scratch.content(path)
  local f = assert(io.open(path, 'rb'))
  local text = f:read('*a')
  f:close()
  return text
end

function scratch.clean()
  for _, path in ipairs(made) do os.remove(path) end
  made = {}
  if folder then
    for name in lfs.dir(folder) do
      if name ~= '.' and name ~= '..' then os.remove(folder .. '/' .. name) end
    end
    lfs.rmdir(folder)
    folder = nil
  end
end

return scratch
