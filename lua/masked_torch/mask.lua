--- mask: which elements of a batch count, as a type.
--
-- 1 = valid, 0 = hole or padding, between = confidence. A Mask is a constant: no gradient flows into it. It keeps what it
-- was made from (`kind`, `sizes_of_samples`), makes the dense tensor when somebody asks, once per dtype, and remembers what
-- layers derived from it, so that all layers at one resolution share the work.
-- Layers take nil (all valid), a Mask or a tensor, and return nil or a Mask.
--
-- @usage
-- local m = torch.mask.lengths({ 5, 3 }, 8)                         -- sequences at the start of 8 positions
-- local b = torch.mask.boxes({ { 64, 48 }, { 40, 64 } }, { 64, 64 })      -- images in the corner of a canvas of 64 x 64
-- local w = torch.mask.wrap(torch.rand(2, 1, 8):gt(0.3))            -- any tensor (N or 1, C or 1, *S)
-- print(m)      --> mask (2, 1, 8): lengths left, 50.0 % covered, valid per sample 5 3

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail, check = native.fail, native.check
local is_tensor, shape_of = Tensor.is_tensor, Tensor.shape_of

local mask = {}            -- torch.mask
local methods = {}
local Mask = { __name = 'Mask' }
--- mask.Mask: the class of all masks; made by wrap, full, lengths and boxes.
mask.Mask = Mask

local function is_mask(value) return getmetatable(value) == Mask end
--- torch.mask.is_mask(value)
mask.is_mask = is_mask

local function convert(x, dtype)
  local y = Tensor.empty('mask', shape_of(x), dtype, x.device)
  check(x.K.mt_tensor_copy(y._c, x._c))
  return y
end

-- The type a Mask holds a tensor in. Integers only say valid or not.
local function kept_as(t)
  local dtype = Tensor.kernel_type(t.dtype)
  return Tensor.floating[dtype] and dtype or 'bool'
end

local function new(fields)
  fields.cache, fields.dense, fields.capture = {}, {}, native.capture
  return setmetatable(fields, Mask)
end

-- ---- constructors --------------------------------------------------------------------------------------------

--- torch.mask.wrap(t): a tensor (N or 1, C or 1, *S) as a Mask, sharing its memory. Integers count as valid where they are not
-- 0; floating point values must lie in 0..1 and are soft: the confidence of each element.
function mask.wrap(t)
  if is_mask(t) then return t end
  Tensor.check('mask.wrap', 'mask', t)
  if t:dim() < 2 then
    fail('mask.wrap: mask: expected (N or 1, C or 1, *S), got %s', Tensor.shape_text(t))
  end
  local source = t
  if t.requires_grad then source = t:detach() end
  if kept_as(t) ~= t.dtype then source = convert(t, kept_as(t)) end
  return new{ kind = 'tensor', origin = source, original = t, version = Tensor.version(t), shape = shape_of(t),
    device = t.device, K = t.K }
end

--- torch.mask.full(shape): everything is valid; shape (N or 1, C or 1, *S) as a table.
function mask.full(shape, opts)
  opts = options.parse('mask.full', { device = 'cpu' }, opts)
  if type(shape) ~= 'table' or #shape < 2 then
    fail('mask.full: shape: expected a table {N, C, sizes ...}, got %s', type(shape))
  end
  local sizes = {}
  for i = 1, #shape do sizes[i] = native.integer('mask.full', 'shape', shape[i], 0) end
  local device = Tensor.check_device('mask.full', opts.device)
  return new{ kind = 'full', shape = sizes, device = device, K = Tensor.namespace[device] }
end

local function integer_tensor(op, argument, value, ndim)
  if is_tensor(value) then
    Tensor.check(op, argument, value)
    if value.dtype ~= 'int64' or value:dim() ~= ndim then
      fail('%s: %s: expected int64 with %d dimensions, got %s %s', op, argument, ndim, Tensor.shape_text(value), value.dtype)
    end
    return value
  end
  if type(value) ~= 'table' then fail('%s: %s: expected a table or an int64 tensor, got %s', op, argument, type(value)) end
  for i = 1, #value do
    local row = value[i]
    if ndim == 1 then
      native.integer(op, argument, row, 0)
    else
      if type(row) ~= 'table' then fail('%s: %s: expected a table of sizes for sample %d, got %s', op, argument, i, type(row)) end
      for j = 1, #row do native.integer(op, argument, row[j], 0) end
    end
  end
  if #value == 0 then return Tensor.empty(op, ndim == 1 and { 0 } or { 0, 1 }, 'int64') end
  return Tensor.from_table(op, value, 'int64')
end

-- A tensor stays where it is unless a device is asked for; a table goes there, to the CPU by default.
local function placed(op, value, ndim, argument, device)
  local t = integer_tensor(op, argument, value, ndim)
  if device ~= nil then t = t:to{ device = Tensor.check_device(op, device) } end
  return t
end

--- torch.mask.lengths(lengths, L, {align = 'left', device = where lengths is}): sequences of the given lengths (a table or an int64
-- tensor (N)) on L positions; align = 'right' puts the padding in front. Shape (N, 1, L).
function mask.lengths(lengths, L, opts)
  opts = options.parse('mask.lengths', { align = 'left', device = options.none }, opts)
  options.choice('mask.lengths', 'align', opts.align, { 'left', 'right' })
  lengths = placed('mask.lengths', lengths, 1, 'lengths', opts.device)
  native.integer('mask.lengths', 'L', L, 0)
  local m = new{ kind = 'lengths', align = opts.align, sizes_of_samples = lengths, shape = { lengths:size(1), 1, L },
    device = lengths.device, K = lengths.K }
  m:tensor('bool')   -- a length beyond L is an error here, not in the first layer
  return m
end

--- torch.mask.boxes(sizes, canvas, {device = where sizes is}): images of the given sizes ({{h, w}, ...} or an int64 tensor
-- (N, dims)) in the corner of a canvas {H, W}. Shape (N, 1, *canvas).
function mask.boxes(sizes, canvas, opts)
  opts = options.parse('mask.boxes', { device = options.none }, opts)
  sizes = placed('mask.boxes', sizes, 2, 'sizes', opts.device)
  if type(canvas) ~= 'table' then fail('mask.boxes: canvas: expected a table of sizes, got %s', type(canvas)) end
  if sizes:size(1) > 0 and sizes:size(2) ~= #canvas then
    fail('mask.boxes: sizes: expected %d sizes per sample as in the canvas, got %s', #canvas, Tensor.shape_text(sizes))
  end
  local shape = { sizes:size(1), 1 }
  for d = 1, #canvas do shape[d + 2] = native.integer('mask.boxes', 'canvas', canvas[d], 0) end
  local m = new{ kind = 'boxes', sizes_of_samples = sizes, shape = shape, device = sizes.device, K = sizes.K }
  m:tensor('bool')
  return m
end

-- (N or 1, C or 1, *S) for x. Written out, without tables: every layer asks.
local function fits(shape, x)
  local c = x._c
  local n, sizes = c.ndim, c.shape
  if #shape ~= n then return false end
  return n >= 2 and (shape[1] == 1 or shape[1] == sizes[0]) and (shape[2] == 1 or shape[2] == sizes[1]) and
    (n < 3 or shape[3] == sizes[2]) and (n < 4 or shape[4] == sizes[3]) and (n < 5 or shape[5] == sizes[4]) and
    (n < 6 or shape[6] == sizes[5]) and (n < 7 or shape[7] == sizes[6]) and (n < 8 or shape[8] == sizes[7])
end

--- torch.mask.fits(m, x): whether a tensor of x's number of dims is (N or 1, C or 1, *S) for x (N, C, *S).
function mask.fits(m, x) return fits(shape_of(m), x) end

-- The mask does not fit x: what would, in x's own numbers.
local function refuse(op, shape, x)
  local sizes = shape_of(x)
  local spatial = #sizes > 2 and (' or (%s)'):format(table.concat(sizes, ', ', 3)) or ''
  -- (N, *S), as other libraries write it.
  local same = #shape == #sizes - 1 and #shape > 1 and (shape[1] == sizes[1] or shape[1] == 1)
  for d = 2, #shape do same = same and shape[d] == sizes[d + 1] end
  if same then spatial = spatial .. '; mask:unsqueeze(2) puts the channels in' end
  for d = 1, math.min(2, #sizes) do
    if sizes[d] ~= 1 then sizes[d] = sizes[d] .. ' or 1' end
  end
  fail('%s: mask: (%s) does not fit the input %s: expected (%s)%s', op, table.concat(shape, ', '), Tensor.shape_text(x),
    table.concat(sizes, ', '), spatial)
end

-- A tensor as a Mask for x. It lives on the tensor, so that layers given the same tensor share what they derive from it.
local function of_tensor(op, given, x)
  local known = given.as_mask
  if known and known.version == Tensor.version(given) and fits(known.shape, x) then return known end
  local t = given
  if given:dim() == x:dim() - 2 and given:dim() > 0 then
    t = Tensor.as_view(op, given, { 1, 1, unpack(shape_of(given)) }, { 1, 1, unpack(given:stride()) }, 0)
  end
  if not fits(shape_of(t), x) then refuse(op, shape_of(given), x) end
  known = mask.wrap(t)
  known.original = given
  given.as_mask = known
  return known
end

--- torch.mask.of(op, mask, x): what a layer calls on its argument. nil stays nil; a Mask or a tensor (N or 1, C or 1, *S), or
-- spatial axes only (*S), becomes a Mask that broadcasts to x (N, C, *S), or an error that names op and both shapes.
function mask.of(op, m, x)
  if m == nil then return nil end
  Tensor.check(op, 'input', x)
  if is_tensor(m) then
    Tensor.check(op, 'mask', m)
    m = of_tensor(op, m, x)
  elseif not is_mask(m) then
    fail('%s: mask: expected nil, a mask or a tensor, got %s', op, type(m))
  elseif not fits(m.shape, x) then
    refuse(op, m.shape, x)
  end
  if m.device ~= x.device then
    fail('%s: mask is on %s, the input on %s; move one with :to{device = ...}', op, m.device, x.device)
  end
  return m
end

-- ---- the dense tensor ------------------------------------------------------------------------------------------

local function forget(m) m.cache, m.dense, m.summary, m.scanned = {}, {}, nil, nil end

-- What was derived from a tensor that has changed in place since is forgotten; so is, in a graph that is being captured
-- (torch.cuda.graph) and after it, what was derived elsewhere: a graph derives it at every launch, in memory of its own.
local function refresh(m)
  if m.capture ~= native.capture then
    m.capture = native.capture
    if m.original and kept_as(m.original) ~= m.original.dtype then m.origin = convert(m.original, kept_as(m.original)) end
    forget(m)
  end
  if m.original and Tensor.version(m.original) ~= m.version then
    m.version = Tensor.version(m.original)
    if kept_as(m.original) ~= m.original.dtype then check(m.K.mt_tensor_copy(m.origin._c, m.original._c)) end
    forget(m)
  end
end

local function build(m)
  if m.kind == 'tensor' then return m.origin end
  local t = Tensor.empty('mask', m.shape, 'bool', m.device)
  if m.kind == 'full' then
    check(t.K.mt_tensor_fill(t._c, 1))
  elseif m.kind == 'lengths' then
    check(t.K.mt_mask_lengths(t._c, m.sizes_of_samples._c, m.align == 'right' and 1 or 0))
  else
    check(t.K.mt_mask_boxes(t._c, m.sizes_of_samples._c))
  end
  return t
end

--- m:tensor([dtype]): the dense tensor, float32 unless told otherwise. Computed once; not to be changed.
function methods.tensor(m, dtype)
  dtype = Tensor.kernel_type(Tensor.check_dtype('mask.tensor', dtype)) or 'float32'
  refresh(m)
  local t = m.dense[dtype]
  if not t then
    if not m.dense.source then m.dense.source = build(m) end
    t = m.dense.source
    if t.dtype ~= dtype then t = convert(t, dtype) end
    m.dense[dtype] = t
  end
  return t
end

local compact_keys = {}
for dtype in pairs(Tensor.dtype_code) do compact_keys[dtype] = 'compact ' .. dtype end

--- m:compact([dtype]): like tensor, but batch or channels that repeat the same memory (an expanded view) have size 1. For
-- kernels, which broadcast.
function methods.compact(m, dtype)
  dtype = Tensor.kernel_type(dtype) or 'float32'
  refresh(m)
  local key = compact_keys[dtype]
  local t = m.dense[key]
  if not t then
    if m.kind == 'tensor' then
      local source, c = m.origin, m.origin._c
      local changed = c.shape[0] > 1 and c.stride[0] == 0 or c.shape[1] > 1 and c.stride[1] == 0
      if changed then
        local shape, strides = shape_of(source), source:stride()
        for d = 1, 2 do
          if strides[d] == 0 then shape[d] = math.min(shape[d], 1) end
        end
        source = Tensor.as_view('mask', source, shape, strides, 0)
      end
      t = source.dtype == dtype and source or (changed and convert(source, dtype) or m:tensor(dtype))
    else
      t = m:tensor(dtype)
    end
    m.dense[key] = t
  end
  return t
end

-- ---- properties ----------------------------------------------------------------------------------------------

--- m:size() -> table of sizes; m:size(dim) -> number.
function methods.size(m, dim)
  if dim then return m.shape[native.dim('mask.size', dim, #m.shape) + 1] end
  return { unpack(m.shape) }
end

function methods.dim(m) return #m.shape end

-- What kernels want to know of the mask, position by position, in one pass over it (mt_mask_kinds): { kinds, valid = tensors
-- (N or 1, 1, *S), valid nil where it is true everywhere; zeros, ones, equal, mixed = positions of each kind; all_ones, unknown }.
-- unknown: a mask on a device whose counts nobody has waited for, so every kind may occur. exact: wait (not possible in a graph).
local counts = ffi.new('int64_t[4]')
local function scan(m, exact)
  refresh(m)
  if not m.scanned or exact and m.scanned.unknown and not native.capture then
    local t = m:compact(m.kind == 'tensor' and m.origin.dtype or 'bool')
    local shape = shape_of(t)
    shape[2] = 1
    local valid = Tensor.empty('mask', shape, 'bool', m.device)
    local kinds = Tensor.empty('mask', shape, 'uint8', m.device)
    local full = m.kind == 'full'
    local unknown = m.device ~= 'cpu' and not full and not (exact and not native.capture)
    check(t.K.mt_mask_kinds(valid._c, kinds._c, not unknown and not full and counts or nil, t._c))
    local zeros, ones, equal, mixed = 1, 1, 1, 1
    if full then
      zeros, ones, equal, mixed = 0, valid:numel(), 0, 0
    elseif not unknown then
      zeros, ones, equal, mixed = tonumber(counts[0]), tonumber(counts[1]), tonumber(counts[2]), tonumber(counts[3])
    end
    if zeros == 0 then
      valid:release()     -- its memory is still in the cache
      valid = nil
    end
    m.scanned = { valid = valid, kinds = kinds, zeros = zeros, ones = ones, equal = equal, mixed = mixed,
      all_ones = zeros + equal + mixed == 0, unknown = unknown }
  end
  return m.scanned
end

local function summary(m)
  refresh(m)
  if not m.summary then
    local t = m.kind == 'tensor' and m.origin or m:tensor('bool')
    local valid = Tensor.empty('mask', { m.shape[1] }, 'float64', m.device)
    local sum = Tensor.empty('mask', { m.shape[1] }, 'float64', m.device)
    local all = ffi.new('int32_t[1]')
    check(t.K.mt_mask_summary(valid._c, sum._c, all, t._c))
    m.summary = { valid = valid:totable(), sum = sum:totable() }
  end
  return m.summary
end

--- m:valid() -> bool tensor (N or 1, 1, *S), contiguous, true where some channel is not 0: where there is work to do. nil where
-- that is everywhere. Computed once; not to be changed.
function methods.valid(m)
  if m.kind == 'full' then return nil end
  local s = scan(m)
  if s.zeros == 0 then return nil end
  return s.valid
end

--- m:kinds() -> uint8 tensor (N or 1, 1, *S) of the compact mask: 0 where all channels are 0, 1 where all are 1, 2 where all are
-- equal, 3 where they differ. For kernels; computed once.
function methods.kinds(m) return scan(m).kinds end

--- m:to(device) -> the same mask there ('cuda', {device = 'cuda'}); itself where it is there already. What a scan says goes along, so
-- that layers on a device need not wait for one.
function methods.to(m, device)
  if type(device) == 'table' then device = options.parse('mask.to', { device = m.device }, device).device end
  device = Tensor.check_device('mask.to', device)
  if device == m.device then return m end
  if m.kind == 'full' then return (mask.full(m.shape, { device = device })) end
  local there, s = { device = device }, scan(m)
  local moved
  if m.kind == 'tensor' then
    moved = mask.wrap(m.origin:to(there))
  else
    moved = new{ kind = m.kind, align = m.align, sizes_of_samples = m.sizes_of_samples:to(there), shape = m:size(), device = device,
      K = Tensor.namespace[device] }
    moved.dense.source = m:tensor('bool'):to(there)
    moved.dense.bool = moved.dense.source
  end
  moved.scanned = { valid = s.valid and s.valid:to(there), kinds = s.kinds:to(there), zeros = s.zeros, ones = s.ones, equal = s.equal,
    mixed = s.mixed, all_ones = s.all_ones, unknown = s.unknown }
  if m.device == 'cpu' then moved.summary = summary(m) end
  moved.capture = native.capture
  return moved
end

--- m:one_channel() -> the mask itself, or where it says the same in every channel, a mask of one channel that says it.
function methods.one_channel(m)
  if m.shape[2] < 2 then return m end
  local dtype = m.kind == 'tensor' and m.origin.dtype or 'bool'
  local t = m:compact(dtype)
  if t._c.shape[1] > 1 and scan(m).mixed > 0 then return m end
  local one = m:known 'one channel'
  if one then return one end
  local shape = shape_of(t)
  shape[2] = 1
  local first = Tensor.as_view('mask', t, shape, t:stride(), 0)
  one = mask.wrap(convert(first, dtype))
  first:release()
  return m:keep('one channel', one)
end

--- m:count() -> table: how many elements of each sample are valid (mask not 0); a one-channel mask counts positions.
function methods.count(m) return { unpack(summary(m).valid) } end

--- m:coverage() -> number: the mean of all mask values, 1 when everything is valid.
function methods.coverage(m)
  local total, n = 0, 1
  for _, s in ipairs(summary(m).sum) do total = total + s end
  for _, s in ipairs(m.shape) do n = n * s end
  return n == 0 and 1 or total / n
end

--- m:all_valid(): true when every element is exactly 1, that is, when the mask changes nothing (false where that is not known, in
-- a graph).
function methods.all_valid(m)
  if m.kind == 'full' then return true end
  return scan(m, true).all_ones
end

--- m:known_full(): all_valid() as far as it is known without waiting for a device: what layers ask.
function methods.known_full(m) return m.kind == 'full' or scan(m).all_ones end

local function binary(m, exact)
  if m.kind ~= 'tensor' or m.origin.dtype == 'bool' then return true end
  local s = scan(m, exact)
  if s.unknown then return false end
  if s.mixed == 0 then return s.equal == 0 end
  if not exact and m.device ~= 'cpu' then return false end
  local all = summary(m)      -- positions whose channels differ
  for n, count in ipairs(all.valid) do
    if all.sum[n] ~= count then return false end
  end
  return true
end

--- m:is_binary(): true when every element is 0 or 1 (false where that is not known, in a graph).
function methods.is_binary(m) return binary(m, true) end

--- m:known_binary(): the same as far as it is known without waiting for a device.
function methods.known_binary(m) return binary(m, false) end

--- m:bool(), m:float(), m:double(): dense tensors; m:totable(): nested tables of numbers.
function methods.bool(m) return m:tensor('bool') end
function methods.float(m) return m:tensor('float32') end
function methods.double(m) return m:tensor('float64') end
function methods.totable(m) return m:tensor():totable() end

--- m:cuda(), m:cpu(): to(device).
function methods.cuda(m, device) return (m:to{ device = device or 'cuda' }) end
function methods.cpu(m) return (m:to{ device = 'cpu' }) end

--- m:derived(key, make): make(m), once per key. Layers keep here what follows from the mask and a geometry alone (their output
-- mask, counts), so the key must name rule and geometry completely. nil is not kept.
function methods.derived(m, key, make)
  refresh(m)
  local value = m.cache[key]
  if value == nil then
    value = make(m)
    m.cache[key] = value
  end
  return value
end

--- m:known(key), m:keep(key, value) -> value: the same in two steps, for what runs at every step of a training: a closure per call
-- is neither free nor compiled.
function methods.known(m, key)
  refresh(m)
  return m.cache[key]
end
function methods.keep(m, key, value)
  m.cache[key] = value
  return value
end

--- m:expand(N, C): the same mask seen as (N, C, *S); memory is shared.
function methods.expand(m, N, C)
  local key = ('expand %d %d'):format(N, C)
  local known = m:known(key)
  if known then return known end
  local t = m:compact(m.kind == 'tensor' and m.origin.dtype or 'bool')
  local shape, strides = shape_of(t), t:stride()
  if shape[1] ~= N and shape[1] ~= 1 or shape[2] ~= C and shape[2] ~= 1 then
    fail('mask.expand: (%s) does not broadcast to N = %d, C = %d', table.concat(m.shape, ', '), N, C)
  end
  if shape[1] ~= N then shape[1], strides[1] = N, 0 end
  if shape[2] ~= C then shape[2], strides[2] = C, 0 end
  return m:keep(key, mask.wrap(Tensor.as_view('mask.expand', t, shape, strides, 0)))
end

-- ---- as a value ----------------------------------------------------------------------------------------------

--- m[i], m[{...}]: elements of the dense float32 tensor.
function Mask.__index(m, key)
  local method = methods[key]
  if method ~= nil or type(key) == 'string' then return method end
  return methods.tensor(m)[key]
end

function Mask.__tostring(m)
  local text = ('mask (%s)'):format(table.concat(m.shape, ', '))
  if m.kind == 'full' then return text .. ': all valid' end
  local list = {}
  for n, count in ipairs(m:count()) do
    if n > 8 then list[n] = '...' break end
    list[n] = ('%d'):format(count)
  end
  return ('%s: %s%s, %.1f %% covered, valid per sample %s'):format(text, m.kind, m.align and ' ' .. m.align or '',
    100 * m:coverage(), table.concat(list, ' '))
end

-- A mask is a tensor of the other operand's type in arithmetic; a Mask cannot change, so two masks give a tensor.
local function operand(value, other)
  if not is_mask(value) then return value end
  local dtype = is_tensor(other) and Tensor.floating[other.dtype] and other.dtype or 'float32'
  return value:tensor(dtype)
end
for _, event in ipairs { '__add', '__sub', '__mul', '__div', '__pow' } do
  Mask[event] = function(a, b)
    local x, y = operand(a, b), operand(b, a)
    local result = Tensor[event](x, y)
    return result
  end
end
function Mask.__unm(a) return -a:tensor() end

return mask
