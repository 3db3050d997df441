--- system: shared libraries that the operating system provides.

local ffi = require 'ffi'

local system = {}

--- system.open(names) -> the first library of the list that can be loaded, or nil and why the first one cannot. The versioned name
-- comes first: the one without a version belongs to a package for developers.
function system.open(names)
  local why
  for _, name in ipairs(names) do
    local ok, library = pcall(ffi.load, name)
    if ok then return library end
    why = why or tostring(library)
  end
  return nil, why
end

return system
