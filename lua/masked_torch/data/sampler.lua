--- sampler: in which order samples are visited.
--
-- A sampler has `length()` and `indexes(epoch, first, count)`, an int64 tensor of the entries first..first + count - 1 of that
-- epoch's order (epochs and entries count from 1). A batch sampler has `length()`, the number of batches, and
-- `batch(epoch, k)`, the indexes of batch k. Orders are functions of seed, epoch and position (core/sampler.h): nothing is stored,
-- every position can be entered, and the same seed gives the same order on every machine.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check, fail = native.cpu, native.check, native.fail

local sampler = {}

-- A dataset or a number of samples.
local function count_of(op, source)
  if type(source) == 'table' and type(source.length) == 'function' then source = source:length() end
  return native.integer(op, 'dataset', source, 0)
end

local function check_call(self, epoch, first, count)
  native.integer(self.__name, 'epoch', epoch, 1, 2 ^ 40)
  native.integer(self.__name, 'first', first, 1, self.count + 1)
  native.integer(self.__name, 'count', count, 0, self.count - first + 1)
end

local Sampler = class('Sampler')

function Sampler:length() return self.count end

--- sampler:table(epoch): the whole order as a Lua table.
function Sampler:table(epoch) return (self:indexes(epoch or 1, 1, self.count):totable()) end

local Sequential = class('SequentialSampler', Sampler)
sampler.SequentialSampler = Sequential

--- data.SequentialSampler(dataset or n): 1, 2, ..., n.
function Sequential:__init(source) self.count = count_of('SequentialSampler', source) end

function Sequential:indexes(epoch, first, count)
  check_call(self, epoch, first, count)
  local t = Tensor.empty('SequentialSampler', { count }, 'int64')
  local p = ffi.cast('int64_t *', t._c.data)
  for i = 0, count - 1 do p[i] = first + i end
  return t
end

local Random = class('RandomSampler', Sampler)
sampler.RandomSampler = Random

--- data.RandomSampler(dataset or n, [{seed = 0, replacement = false, samples = n}]): a new order of 1..n in every epoch, in memory
-- independent of n. replacement: every entry is drawn independently; `samples` then says how many make an epoch.
function Random:__init(source, opts)
  opts = options.parse('RandomSampler', { seed = 0, replacement = false, samples = options.none }, opts)
  self.seed = native.integer('RandomSampler', 'seed', opts.seed, 0, 2 ^ 53)
  self.n = count_of('RandomSampler', source)
  self.replacement = opts.replacement
  self.count = self.n
  if opts.samples ~= nil then
    self.count = native.integer('RandomSampler', 'samples', opts.samples, 0, opts.replacement and 2 ^ 53 or self.n)
  end
  if self.n == 0 then self.count = 0 end
end

function Random:indexes(epoch, first, count)
  check_call(self, epoch, first, count)
  local t = Tensor.empty('RandomSampler', { count }, 'int64')
  local draw = self.replacement and C.mt_sampler_replacement or C.mt_sampler_permutation
  check(draw(t._c, self.seed, epoch, self.n, first - 1), 'RandomSampler')
  return t
end

-- ---- batches -------------------------------------------------------------------------------------------------------

local Batch = class('BatchSampler')
sampler.BatchSampler = Batch

--- data.BatchSampler(sampler, batch_size, [{drop_last = false}]): consecutive entries of a sampler. drop_last leaves out a last
-- batch that would be smaller.
function Batch:__init(inner, batch_size, opts)
  opts = options.parse('BatchSampler', { drop_last = false }, opts)
  if type(inner) ~= 'table' or type(inner.indexes) ~= 'function' or type(inner.length) ~= 'function' then
    fail('BatchSampler: sampler: expected an object with length() and indexes(epoch, first, count), got %s', type(inner))
  end
  self.sampler, self.drop_last = inner, opts.drop_last
  self.batch_size = native.integer('BatchSampler', 'batch_size', batch_size, 1)
end

function Batch:length()
  local batches = self.sampler:length() / self.batch_size
  return self.drop_last and math.floor(batches) or math.ceil(batches)
end

function Batch:batch(epoch, k)
  native.integer('BatchSampler', 'batch', k, 1, self:length())
  local first = (k - 1) * self.batch_size + 1
  return (self.sampler:indexes(epoch, first, math.min(self.batch_size, self.sampler:length() - first + 1)))
end

local Bucket = class('BucketSampler')
sampler.BucketSampler = Bucket

--- data.BucketSampler(lengths, batch_size, [{seed = 0, shuffle = true, drop_last = false, bucket = 100}]): batches of samples of
-- similar lengths, so that little is padded. lengths: one number per sample (a table or a tensor). The (random) order is cut into
-- buckets of `bucket` batches; each bucket is sorted by length and cut into batches, which come in random order.
function Bucket:__init(lengths, batch_size, opts)
  local op = 'BucketSampler'
  opts = options.parse(op, { seed = 0, shuffle = true, drop_last = false, bucket = 100 }, opts)
  if Tensor.is_tensor(lengths) then
    if lengths:dim() ~= 1 then fail('%s: lengths: expected one dim, got %s', op, Tensor.shape_text(lengths)) end
    lengths = lengths:totable()
  elseif type(lengths) ~= 'table' then
    fail('%s: lengths: expected a table or a tensor, got %s', op, type(lengths))
  end
  self.lengths = {}
  for i = 1, #lengths do
    native.number(op, ('lengths[%d]'):format(i), lengths[i])
    if lengths[i] ~= lengths[i] then fail('%s: lengths[%d] is NaN', op, i) end
    self.lengths[i] = lengths[i]
  end
  self.batch_size = native.integer(op, 'batch_size', batch_size, 1)
  self.bucket = native.integer(op, 'bucket', opts.bucket, 1) * batch_size
  self.seed = native.integer(op, 'seed', opts.seed, 0, 2 ^ 53)
  self.shuffle, self.drop_last = opts.shuffle, opts.drop_last
  self.sampler = opts.shuffle and Random(#lengths, { seed = opts.seed }) or Sequential(#lengths)
end

Bucket.length = Batch.length

-- The batches of bucket number b (from 0): a table of tables of indexes.
local function arrange(self, epoch, b)
  local n = self.sampler:length()
  local first = b * self.bucket + 1
  local members = self.sampler:indexes(epoch, first, math.min(self.bucket, n - first + 1)):totable()
  local place = {}
  for position, i in ipairs(members) do place[i] = position end
  local lengths = self.lengths
  table.sort(members, function(x, y)
    if lengths[x] ~= lengths[y] then return lengths[x] < lengths[y] end
    return place[x] < place[y]
  end)
  -- A batch that is not full comes last in the epoch, whatever the order of the others; which samples it holds is random.
  local rest = #members % self.batch_size
  local short
  if rest > 0 then
    local left_out = {}
    for k = 1, rest do left_out[k] = math.floor((k - 0.5) * #members / rest) + 1 end
    short = {}
    for k = rest, 1, -1 do table.insert(short, 1, table.remove(members, left_out[k])) end
  end
  local batches = {}
  for k = 1, #members, self.batch_size do
    local batch = {}
    for j = k, k + self.batch_size - 1 do batch[#batch + 1] = members[j] end
    batches[#batches + 1] = batch
  end
  if self.shuffle and #batches > 1 then
    local order = Tensor.empty('BucketSampler', { #batches }, 'int64')
    -- The buckets of all epochs have numbers of their own, above those of the samples' orders.
    check(C.mt_sampler_permutation(order._c, self.seed, 2 ^ 52 + epoch * 2 ^ 24 + b % 2 ^ 24, #batches, 0), 'BucketSampler')
    local shuffled = {}
    for k, from in ipairs(order:totable()) do shuffled[k] = batches[from] end
    batches = shuffled
  end
  if short then batches[#batches + 1] = short end
  return batches
end

function Bucket:batch(epoch, k)
  native.integer('BucketSampler', 'epoch', epoch, 1, 2 ^ 27)
  native.integer('BucketSampler', 'batch', k, 1, self:length())
  local per_bucket = self.bucket / self.batch_size
  local b = math.floor((k - 1) / per_bucket)
  if self.at_epoch ~= epoch or self.at_bucket ~= b then
    self.at_epoch, self.at_bucket, self.arranged = epoch, b, arrange(self, epoch, b)
  end
  return Tensor.from_table('BucketSampler', self.arranged[k - b * per_bucket], 'int64')
end

return sampler
