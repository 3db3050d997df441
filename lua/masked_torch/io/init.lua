--- io: files. Reading a file never executes anything in it; a hostile file is an error, and the memory it can claim is bounded
-- by its size. A written file is whole or absent.
--
--     io.safetensors  tensors by name                    io.npy    one array (NumPy)
--     io.idx          the format of MNIST                 io.gzip   compressed files (reading)
--     io.png, io.jpeg, io.image   pictures               io.gif    animations
--     io.json   text                                      io.onnx   networks (writing)
--     io.save, io.load            nested tables of tensors, numbers, strings and booleans (torch.save, torch.load)

local modules = { safetensors = true, npy = true, png = true, jpeg = true, gif = true, image = true, json = true, file = true,
  idx = true, gzip = true, sha256 = true, onnx = true }

return setmetatable({}, { __index = function(t, key)
  local value
  if modules[key] then
    value = require('masked_torch.io.' .. key)
  elseif key == 'save' or key == 'load' then
    value = require('masked_torch.io.value')[key]
  end
  if value ~= nil then rawset(t, key, value) end
  return value
end })
