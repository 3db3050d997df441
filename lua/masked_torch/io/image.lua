--- image: pictures of any supported kind, recognised by their first bytes.

local native = require 'masked_torch.native'
local file = require 'masked_torch.io.file'

local image = {}

--- image.load(path, {dtype = 'float32'}): a PNG or JPEG file as (C, H, W); see png.load and jpeg.load.
function image.load(path, opts)
  local start = file.with('image.load', path, function(f) return f:read(0, math.min(8, f.size)) end)
  if start == '\137PNG\r\n\26\n' then return (require('masked_torch.io.png').load(path, opts)) end
  if start:sub(1, 3) == '\255\216\255' then return (require('masked_torch.io.jpeg').load(path, opts)) end
  native.fail('image.load: %s: neither a PNG nor a JPEG file', path)
end

--- image.save(path, tensor): a PNG file; the name must end in .png.
function image.save(path, t)
  file.check_path('image.save', path)
  if not path:lower():find('%.png$') then native.fail('image.save: %s: the name must end in .png', path) end
  require('masked_torch.io.png').save(path, t)
end

return image
