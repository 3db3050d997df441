--- tokens: a sequence of token numbers, in memory or in a memory-mapped file.
--
-- Token numbers count from 1, as embeddings and losses take them. Files and bytes count from 0: token = stored value + add, with
-- add = 1 for files and strings, 0 for tensors and tables.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local file = require 'masked_torch.io.file'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check, fail = native.cpu, native.check, native.fail

local tokens = {}
local Tokens = class('Tokens')
tokens.Tokens = Tokens

local STORED = { uint8 = true, int32 = true, int64 = true, uint16 = true }

local opened = ffi.new('mt_tensor *[1]')

-- The elements of a regular file as a 1-D tensor that the system pages in.
local function map(op, path, dtype)
  file.check_path(op, path)
  native.check(C.mt_mapped_open(opened, path, Tensor.dtype_code[dtype], 0, -1), op)
  return setmetatable({ _c = ffi.gc(opened[0], C.mt_tensor_release), K = C, dtype = dtype, device = 'cpu',
    requires_grad = false }, Tensor)
end

local function of_string(text)
  local t = Tensor.empty('Tokens', { #text }, 'uint8')
  ffi.copy(t._c.data, text, #text)
  return t
end

--- data.Tokens(source, [{add =, dtype =}]): source is a 1-D tensor (uint8, int32 or int64), a table of whole numbers, or another
-- Tokens; add (default 0) is added to every stored value. dtype = 'uint16' reads a uint8 tensor of even length as 16-bit values.
-- The tensor is shared, not copied; it must not change while a loader reads ahead. It may lie on a CUDA device: then slices and
-- batches are made there, from tokens that never cross the bus again.
function Tokens:__init(source, opts)
  opts = options.parse('Tokens', { add = options.none, dtype = options.none }, opts)
  if type(source) == 'table' and getmetatable(source) == Tokens then
    self.source, self.dtype, self.type, self.add = source.source, source.dtype, source.type, source.add
    self.before, self.count, self.device = source.before, source.count, source.device
    if opts.add or opts.dtype then fail('Tokens: source: a Tokens keeps its add and dtype; expected no options') end
    return
  end
  if type(source) == 'table' and not Tensor.is_tensor(source) then
    for i = 1, #source do native.integer('Tokens', ('source[%d]'):format(i), source[i]) end
    source = #source == 0 and Tensor.empty('Tokens', { 0 }, 'int64') or Tensor.from_table('Tokens', source, 'int64')
  end
  Tensor.check('Tokens', 'source', source)
  if source:dim() ~= 1 or not STORED[source.dtype] then
    fail('Tokens: source: expected a 1-D tensor of uint8, int32 or int64, got %s %s', Tensor.shape_text(source), source.dtype)
  end
  local dtype = opts.dtype or source.dtype
  if dtype ~= source.dtype and not (dtype == 'uint16' and source.dtype == 'uint8' and source:numel() % 2 == 0) then
    fail("Tokens: dtype: expected '%s'%s, got %s", source.dtype,
      source.dtype == 'uint8' and ", or 'uint16' for an even number of bytes" or '', tostring(dtype))
  end
  self.source, self.device = source:contiguous(), source.device
  self.dtype, self.type = dtype, dtype == 'uint16' and C.MT_UINT16 or Tensor.dtype_code[dtype]
  self.add = native.integer('Tokens', 'add', opts.add or 0)
  self.before, self.count = 0, dtype == 'uint16' and source:numel() / 2 or source:numel()
end

--- Tokens.open(path, [{dtype = 'uint8', add = 1}]): a file of little-endian uint8, uint16, int32 or int64 values, memory-mapped.
-- The default reads any file as bytes: token = byte + 1.
function Tokens.open(path, opts)
  opts = options.parse('Tokens.open', { dtype = 'uint8', add = 1 }, opts)
  options.choice('Tokens.open', 'dtype', opts.dtype, { 'uint8', 'uint16', 'int32', 'int64' })
  local wide = opts.dtype == 'uint16'
  local source = map('Tokens.open', path, wide and 'uint8' or opts.dtype)
  if wide and source:numel() % 2 == 1 then
    fail('Tokens.open: %s: %d bytes are not a whole number of uint16 elements of 2 bytes', path, source:numel())
  end
  return Tokens(source, { dtype = opts.dtype, add = opts.add })
end

--- Tokens.of_string(text): token = byte + 1.
function Tokens.of_string(text)
  if type(text) ~= 'string' then fail('Tokens.of_string: text: expected a string, got %s', type(text)) end
  return Tokens(of_string(text), { add = 1 })
end

--- What datasets do with their argument: Tokens stay, strings are bytes, tensors and tables are wrapped.
function tokens.wrap(op, value)
  if type(value) == 'table' and getmetatable(value) == Tokens then return value end
  if type(value) == 'string' then return (Tokens.of_string(value)) end
  if type(value) ~= 'table' then
    fail('%s: sequence: expected Tokens, a tensor, a table or a string, got %s', op, type(value))
  end
  return (Tokens(value))
end

--- tokens:length()
function Tokens:length() return self.count end

--- A gather (core/loader.h) from these tokens into out; first and length are int64 tensors of 1-based positions within them.
function Tokens:gather(out, first, length, pad, right)
  if self.before > 0 then
    local p = ffi.cast('int64_t *', first._c.data)
    for r = 0, first:numel() - 1 do p[r] = p[r] + self.before end
  end
  return { out = out, source = self.source, type = self.type, add = self.add, first = first, length = length, pad = pad or 0,
    align_right = right and 1 or 0 }
end

local one = ffi.new('mt_gather')

--- Runs one gather now.
function tokens.gather(g)
  one.out, one.source, one.first, one.length = g.out._c, g.source._c, g.first._c, g.length and g.length._c or nil
  one.add, one.pad, one.type, one.align_right = g.add, g.pad, g.type, g.align_right
  if g.source.device == 'cpu' then check(C.mt_loader_gather(one)) else check(g.source.K.mt_device_gather(one)) end
  return g.out
end

local function check_span(self, op, first, last)
  native.integer(op, 'first', first, 1, self.count + 1)
  native.integer(op, 'last', last, first - 1, self.count)
end

--- tokens:slice(first, last): those tokens, both included, as an int64 tensor.
function Tokens:slice(first, last)
  check_span(self, 'slice', first, last)
  local n = last - first + 1
  local out = Tensor.empty('slice', { 1, n }, 'int64', self.device)
  tokens.gather(self:gather(out, Tensor.from_table('slice', { first }, 'int64')))
  return Tensor.as_view('slice', out, { n }, { 1 }, 0)
end

--- tokens:tensor(): all of them, int64.
function Tokens:tensor() return (self:slice(1, self.count)) end

--- tokens:to(device): the same tokens there ('cuda', {device = 'cuda'}); itself where they are there already.
function Tokens:to(device)
  if type(device) == 'table' then device = options.parse('Tokens:to', { device = 'cpu' }, device).device end
  device = Tensor.check_device('Tokens:to', device)
  if device == self.device then return self end
  local moved = Tokens(self)
  moved.source, moved.device = self.source:to{ device = device }, device
  return moved
end

--- tokens:narrow(first, last): the same storage, seen from first to last.
function Tokens:narrow(first, last)
  check_span(self, 'narrow', first, last)
  local part = Tokens(self)
  part.before, part.count = self.before + first - 1, last - first + 1
  return part
end

--- tokens:split{0.9, 0.05, 0.05}: consecutive parts by fractions of the length (the sum at most 1; the ends are rounded down).
function Tokens:split(fractions)
  if type(fractions) ~= 'table' or #fractions == 0 then fail('split: fractions: expected a table like {0.9, 0.1}') end
  local parts, total, begin = {}, 0, 0
  for i, fraction in ipairs(fractions) do
    native.number('split', 'fractions', fraction)
    total = total + fraction
    if not (fraction >= 0 and total <= 1 + 1e-9) then
      fail('split: fractions: expected numbers of at least 0 with a sum of at most 1, got %g at position %d', fraction, i)
    end
    local finish = math.min(self.count, math.floor(self.count * total + 1e-6))
    parts[i] = self:narrow(begin + 1, finish)
    begin = finish
  end
  return unpack(parts)
end

function Tokens:__tostring()
  return ('Tokens(%d x %s%s)'):format(self.count, self.dtype, self.add ~= 0 and (' %+d'):format(self.add) or '')
end

return tokens
