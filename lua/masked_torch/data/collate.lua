--- collate: from samples to batches.
--
-- A collate function takes a table of samples and returns a batch, a table. torch.data.collate.default stacks what has one shape;
-- `sequences` pads token sequences, `images` puts pictures of different sizes on one canvas. Both add the mask.

local class = require 'masked_torch.class'
local masks = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local collate = {}

-- ---- equal shapes ----------------------------------------------------------------------------------------------------

local function describe(value)
  return Tensor.is_tensor(value) and Tensor.shape_text(value) .. ' ' .. value.dtype or type(value)
end

local function same_shape(a, b)
  local x, y = a:size(), b:size()
  if #x ~= #y then return false end
  for d = 1, #x do
    if x[d] ~= y[d] then return false end
  end
  return true
end

local function stack_tensors(op, key, values)
  local first = values[1]
  local shape = first:size()
  table.insert(shape, 1, #values)
  local out = Tensor.empty(op, shape, first.dtype, first.device)
  local inner, strides, step = first:size(), Tensor.row_major(first:size()), first:numel()
  for r, value in ipairs(values) do
    if not Tensor.is_tensor(value) or value.dtype ~= first.dtype or not same_shape(value, first) then
      fail('%s: %s: sample %d is %s, sample 1 is %s; different sizes need collate.sequences or collate.images', op, tostring(key),
        r, describe(value), describe(first))
    end
    Tensor.check_device_of(op, first, tostring(key), value)
    check(out.K.mt_tensor_copy(Tensor.as_view(op, out, inner, strides, (r - 1) * step)._c, value._c))
  end
  return out
end

local function stack(op, key, values)
  local first = values[1]
  if Tensor.is_tensor(first) then return stack_tensors(op, key, values) end
  local kind, whole = type(first), true
  for r, value in ipairs(values) do
    if type(value) ~= kind then fail('%s: %s: sample %d is %s, sample 1 is %s', op, tostring(key), r, describe(value), kind) end
    whole = whole and kind == 'number' and value % 1 == 0 and math.abs(value) <= 2 ^ 53
  end
  if kind == 'number' then return Tensor.from_table(op, values, whole and 'int64' or 'float32') end
  if kind == 'boolean' then return Tensor.from_table(op, values) end
  return values
end

-- The values of `key` in all samples; a sample without it is an error.
local function column(op, samples, key)
  local values = {}
  for r, sample in ipairs(samples) do
    values[r] = sample[key]
    if values[r] == nil then fail('%s: sample %d has no %s, sample 1 has', op, r, tostring(key)) end
  end
  return values
end

local function check_samples(op, samples)
  if type(samples) ~= 'table' or #samples == 0 then fail('%s: expected a table of samples', op) end
  for r, sample in ipairs(samples) do
    if type(sample) ~= 'table' or Tensor.is_tensor(sample) then
      fail('%s: sample %d: expected a table of parts, like {sequence =, target =} or {x, y}, got %s', op, r, describe(sample))
    end
    for key in pairs(sample) do
      if samples[1][key] == nil then fail('%s: sample %d has %s, sample 1 has not', op, r, tostring(key)) end
    end
  end
end

--- collate.default(samples): every part stacked: tensors of one shape and dtype to one with a first dim more, whole numbers to
-- int64, other numbers to float32, booleans to bool; strings and tables stay Lua tables.
function collate.default(samples)
  check_samples('collate', samples)
  local batch = {}
  for key in pairs(samples[1]) do batch[key] = stack('collate', key, column('collate', samples, key)) end
  return batch
end

local function round_up(n, multiple) return math.ceil(n / multiple) * multiple end

local function largest(values)
  local most = 0
  for _, n in ipairs(values) do most = math.max(most, n) end
  return most
end

-- ---- sequences -------------------------------------------------------------------------------------------------------

local Sequences = class('Sequences')

--- collate.sequences([{pad = 'right', multiple = 1, pad_value = 1, length = nil}]): a collate function for samples with a
-- `sequence` of any length (an integer tensor or table (L)). Batch: sequence (N, L) int64, padded on the given side to the longest,
-- rounded up to a multiple (or to `length`; a longer one is an error); lengths (N) int64; mask (N, 1, L); target: (N) from numbers,
-- (N, L) padded like the sequence from sequences of the same lengths; other parts as collate.default. Padding holds pad_value: 1 is
-- a token that exists, so that an embedding can be looked up. masked_torch pads left.
function collate.sequences(opts)
  local form = Sequences()
  opts = options.parse('collate.sequences', { pad = 'right', multiple = 1, pad_value = 1, length = options.none }, opts)
  form.pad = options.choice('collate.sequences', 'pad', opts.pad, { 'left', 'right' })
  form.multiple = native.integer('collate.sequences', 'multiple', opts.multiple, 1, 2 ^ 31)
  form.pad_value = native.integer('collate.sequences', 'pad_value', opts.pad_value)
  if opts.length ~= nil then
    form.length = native.integer('collate.sequences', 'length', opts.length, 1)
    if form.length % form.multiple ~= 0 then
      fail('collate.sequences: length: %d is not a multiple of %d', form.length, form.multiple)
    end
  end
  return form
end

function Sequences:__init() self.is_sequences = true end

-- A batch with lengths and mask, and its sequence yet to be filled. lengths: int64 tensor on the CPU; device: where the batch goes.
function Sequences:batch(lengths, device)
  local n, most, least = lengths:numel(), 0, math.huge
  local values = lengths:totable()
  for r = 1, n do most, least = math.max(most, values[r]), math.min(least, values[r]) end
  if self.length and most > self.length then
    fail('collate.sequences: a sequence has %d tokens, length is %d', most, self.length)
  end
  local L = self.length or round_up(most, self.multiple)
  local sequence = Tensor.empty('collate.sequences', { n, L }, 'int64', device)
  -- A batch without padding needs no dense mask until somebody asks.
  local mask = least == L and masks.full({ n, 1, L }, { device = device }) or
    masks.lengths(lengths, L, { align = self.pad == 'left' and 'right' or 'left' })
  if sequence.device ~= 'cpu' then lengths, mask = lengths:to{ device = device }, mask:to{ device = device } end
  return { sequence = sequence, lengths = lengths, mask = mask }, sequence
end

-- values: tables or 1-D tensors of these lengths -> (N, L).
local function pad_rows(self, key, values, lengths, out)
  check(out.K.mt_tensor_fill(out._c, self.pad_value))
  local L = out:size(2)
  for r, value in ipairs(values) do
    local n = lengths[r]
    if not Tensor.is_tensor(value) then value = Tensor.from_table('collate.sequences', value, 'int64') end
    if value:dim() ~= 1 or value:numel() ~= n then
      fail('collate.sequences: %s: sample %d is %s, its sequence has %d tokens', key, r, describe(value), n)
    end
    if n > 0 then
      local row = Tensor.as_view('collate.sequences', out, { n }, { 1 }, (r - 1) * L + (self.pad == 'left' and L - n or 0))
      check(out.K.mt_tensor_copy(row._c, value._c))
    end
  end
  return out
end

function Sequences:__call(samples)
  local op = 'collate.sequences'
  check_samples(op, samples)
  local rows, lengths = column(op, samples, 'sequence'), {}
  for r, row in ipairs(rows) do
    if type(row) ~= 'table' or (Tensor.is_tensor(row) and (row:dim() ~= 1 or Tensor.floating[row.dtype])) then
      fail('%s: sequence: sample %d: expected whole numbers in one dim, got %s', op, r, describe(row))
    end
    lengths[r] = Tensor.is_tensor(row) and row:numel() or #row
  end
  local batch, sequence = self:batch(Tensor.from_table(op, lengths, 'int64'))
  pad_rows(self, 'sequence', rows, lengths, sequence)
  for key, value in pairs(samples[1]) do
    if key == 'target' and type(value) == 'table' and (not Tensor.is_tensor(value) or value:dim() == 1) then
      local out = Tensor.empty(op, sequence:size(), 'int64')
      batch.target = pad_rows(self, 'target', column(op, samples, 'target'), lengths, out)
    elseif key ~= 'sequence' then
      batch[key] = stack(op, key, column(op, samples, key))
    end
  end
  return batch
end

-- ---- images ------------------------------------------------------------------------------------------------------------

--- collate.images([{key = 'image', multiple = 1, canvas = nil, pad_value = 0}]): a collate function for pictures of different sizes.
-- Samples have an image (C, *S) or (*S) of 2 dims under `key` (1 for samples like {image, label}). Batch: the key's images
-- (N, C, *canvas), each in the first corner of the canvas, pad_value elsewhere; sizes (N, dims) int64; mask (N, 1, *canvas); other
-- parts as collate.default. The canvas holds the largest, rounded up to a multiple, or is given ({H, W}; a larger picture is an
-- error).
function collate.images(opts)
  local op = 'collate.images'
  opts = options.parse(op, { key = options.any('image'), multiple = 1, canvas = options.none, pad_value = 0 }, opts)
  local key, multiple = opts.key, native.integer(op, 'multiple', opts.multiple, 1, 2 ^ 31)
  if opts.canvas ~= nil then
    if type(opts.canvas) ~= 'table' then fail('%s: canvas: expected a table of sizes, got %s', op, type(opts.canvas)) end
    for _, n in ipairs(opts.canvas) do native.integer(op, 'canvas', n, 1) end
  end

  local function canvas_of(sizes)
    local canvas = {}
    for d = 1, #sizes[1] do
      local along = {}
      for r = 1, #sizes do along[r] = sizes[r][d] end
      canvas[d] = opts.canvas and opts.canvas[d] or round_up(largest(along), multiple)
    end
    if opts.canvas and #opts.canvas ~= #sizes[1] then
      fail('%s: canvas: expected %d sizes, got %d', op, #sizes[1], #opts.canvas)
    end
    return canvas
  end

  return function(samples)
    check_samples(op, samples)
    local images, sizes, channels = column(op, samples, key), {}, nil
    for r, image in ipairs(images) do
      if not Tensor.is_tensor(image) or image:dim() < 2 then
        fail('%s: %s: sample %d: expected a tensor (C, *S), got %s', op, tostring(key), r, describe(image))
      end
      if image:dim() == 2 then image = image:unsqueeze(1) end
      images[r] = image
      local shape = image:size()
      channels = channels or shape[1]
      if shape[1] ~= channels or image:dim() ~= images[1]:dim() or image.dtype ~= images[1].dtype or image.device ~= 'cpu' then
        fail('%s: %s: sample %d is %s, sample 1 is %s; channels, dims and dtype must agree', op, tostring(key), r, describe(image),
          describe(images[1]))
      end
      table.remove(shape, 1)
      sizes[r] = shape
    end
    local canvas = canvas_of(sizes)
    local shape = { #images, channels, unpack(canvas) }
    local out = Tensor.empty(op, shape, images[1].dtype)
    check(out.K.mt_tensor_fill(out._c, opts.pad_value))
    local strides = Tensor.row_major(shape)
    local step = table.remove(strides, 1)
    for r, image in ipairs(images) do
      for d, n in ipairs(sizes[r]) do
        if n > canvas[d] then
          fail('%s: sample %d is %s, the canvas is (%s)', op, r, Tensor.shape_text(image), table.concat(canvas, ', '))
        end
      end
      local corner = Tensor.as_view(op, out, image:size(), strides, (r - 1) * step)
      check(out.K.mt_tensor_copy(corner._c, image._c))
    end
    local batch = { sizes = Tensor.from_table(op, sizes, 'int64') }
    batch[key], batch.mask = out, masks.boxes(batch.sizes, canvas)
    for other in pairs(samples[1]) do
      if other ~= key then batch[other] = stack(op, other, column(op, samples, other)) end
    end
    return batch
  end
end

return collate
