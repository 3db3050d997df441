--- io: files. Reading a file never executes anything in it; a hostile file is an error, and the memory it can claim is bounded
-- by its size. A written file is whole or absent.
--
--     io.safetensors  tensors by name                    io.npy    one array (NumPy)
--     io.idx          the format of MNIST                 io.gzip   compressed files (reading)
--     io.png, io.jpeg, io.image   pictures               io.gif    animations
--     io.json   text                                      io.onnx   networks (writing)
--     io.save, io.load            nested tables of tensors, numbers, strings and booleans (torch.save, torch.load)

local namespace = require 'masked_torch.namespace'

return namespace('io', { save = 'value', load = 'value' },
  { 'safetensors', 'npy', 'png', 'jpeg', 'gif', 'image', 'json', 'file', 'idx', 'gzip', 'sha256', 'onnx' })
