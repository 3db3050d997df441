--- pixels: interleaved bytes (row, column, channel), as picture files hold them, to and from tensors (channel, row, column).

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local options = require 'masked_torch.options'

local pixels = { SIDE = 16384, BYTES = 256 * 2 ^ 20 }

--- Options of the loaders: dtype 'float32' (values / 255), 'float64' or 'uint8'.
function pixels.options(op, opts)
  opts = options.parse(op, { dtype = 'float32' }, opts)
  options.choice(op, 'dtype', opts.dtype, { 'float32', 'float64', 'uint8' })
  return opts
end

--- Raises `fail` for a picture that is empty or too large to decode.
function pixels.check_size(fail, width, height, channels)
  if width < 1 or height < 1 or width > pixels.SIDE or height > pixels.SIDE or width * height * channels > pixels.BYTES then
    fail(('%d x %d pixels of %d channels; 1 to %d a side and %d bytes are allowed'):format(width, height, channels,
      pixels.SIDE, pixels.BYTES))
  end
end

--- A tensor for the decoder to write to: uint8, (height, width, channels).
function pixels.interleaved(op, height, width, channels)
  return Tensor.empty(op, { height, width, channels }, 'uint8')
end

--- (height, width, channels) bytes -> (channels, height, width) of dtype; floats are in 0..1.
function pixels.planar(op, t, dtype)
  local height, width, channels = t:sizes()
  local planar = Tensor.empty(op, { channels, height, width }, 'uint8')
  native.check(planar.K.mt_tensor_copy(planar._c, Tensor.as_view(op, t, { channels, height, width },
    { 1, width * channels, channels }, 0)._c))
  if dtype == 'uint8' then return planar end
  local out = Tensor.empty(op, { channels, height, width }, dtype)
  local from = ffi.cast('const uint8_t *', planar._c.data)
  local to = ffi.cast(dtype == 'float32' and 'float *' or 'double *', out._c.data)
  for i = 0, out:numel() - 1 do to[i] = from[i] / 255 end
  return out
end

--- (channels, height, width) or (height, width), uint8 or float in 0..1 (clamped, rounded; NaN is an error) -> a uint8 tensor
-- (height, width, channels).
function pixels.pack(op, t)
  Tensor.check(op, 'tensor', t)
  local shape = t:size()
  if #shape == 2 then table.insert(shape, 1, 1) end
  local channels, height, width = unpack(shape)
  if #shape ~= 3 or channels < 1 or channels > 4 or (t.dtype ~= 'uint8' and not Tensor.floating[t.dtype]) then
    native.fail('%s: tensor: expected (channels, height, width) with 1 to 4 channels, uint8 or float, got %s %s', op,
      Tensor.shape_text(t), t.dtype)
  end
  pixels.check_size(function(message) native.fail('%s: tensor: %s', op, message) end, width, height, channels)
  if t.device ~= 'cpu' then t = t:detach():to{ device = 'cpu' } end
  local strides = t:stride()
  if #strides == 2 then table.insert(strides, 1, 0) end
  local view = Tensor.as_view(op, t, { height, width, channels }, { strides[2], strides[3], strides[1] }, 0)
  local out = Tensor.empty(op, { height, width, channels }, 'uint8')
  if t.dtype == 'uint8' then
    native.check(out.K.mt_tensor_copy(out._c, view._c))
    return out
  end
  local values = Tensor.empty(op, { height, width, channels }, 'float64')
  native.check(values.K.mt_tensor_copy(values._c, view._c))
  local from, to = ffi.cast('const double *', values._c.data), ffi.cast('uint8_t *', out._c.data)
  for i = 0, out:numel() - 1 do
    local v = from[i]
    if v ~= v then native.fail('%s: tensor: a value is NaN; a picture needs numbers from 0 to 1', op) end
    to[i] = math.floor(math.min(1, math.max(0, v)) * 255 + 0.5)
  end
  return out
end

return pixels
