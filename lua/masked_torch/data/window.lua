--- window: pieces of token sequences as samples.
--
-- Samples are {sequence = int64 tensor, target = ...}. Loaders gather whole batches of them in C (`plan`), padded as
-- data.collate.sequences says, and with context lengths drawn anew in every epoch where lengths = 'random'. Where the tokens lie on
-- a CUDA device (dataset:to('cuda')), whole batches are made there.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local collate = require 'masked_torch.data.collate'
local dataset = require 'masked_torch.data.dataset'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local tokens = require 'masked_torch.data.tokens'

local check, fail = native.check, native.fail
local Dataset = dataset.Dataset

local window = {}

local function lines(n) return Tensor.empty('Loader', { n }, 'int64') end
local function pointer(t) return ffi.cast('int64_t *', t._c.data) end

-- What all datasets here share: a sequence, and self:locate(i) -> first position, length.
local Windows = class('Windows', Dataset)

function Windows:length() return self.count end

--- dataset:to(device): moves the tokens there, in place; loaders make their batches there from then on. Returns the dataset.
function Windows:to(device)
  self.sequence = self.sequence:to(device)
  return self
end

-- first and length of every window, int64 tensors; indexes is trusted (samplers count within 1..length).
function Windows:spans(indexes, seed, epoch)
  local n = indexes:numel()
  local first, length = lines(n), lines(n)
  local i, f, l = pointer(indexes), pointer(first), pointer(length)
  for r = 0, n - 1 do
    local begin, size = self:locate(tonumber(i[r]))
    f[r], l[r] = begin, size
  end
  if self.random then
    local drawn = lines(n)
    check(drawn.K.mt_sampler_lengths(drawn._c, seed, epoch, self.shortest, length._c, indexes._c))
    if self.keep_end then
      local d = pointer(drawn)
      for r = 0, n - 1 do f[r] = f[r] + l[r] - d[r] end
    end
    length = drawn
  end
  return first, length
end

local function lengths_option(op, opts)
  options.choice(op, 'lengths', opts.lengths, { 'full', 'random' })
  return opts.lengths == 'random'
end

-- ---- sliding window: predict the next token ------------------------------------------------------------------------

local SlidingWindowDataset = class('SlidingWindowDataset', Windows)
window.SlidingWindowDataset = SlidingWindowDataset

local function check_sizes(op, shortest, longest)
  native.integer(op, 'shortest', shortest, 1)
  native.integer(op, 'longest', longest, shortest)
end

--- data.SlidingWindowDataset(sequence, shortest, longest, [{lengths = 'full'}]): contexts of `shortest` to `longest` tokens and the
-- token that follows. It has max(0, n - shortest) samples; sample i ends at token i + shortest - 1 and is as long as the sequence
-- and `longest` allow: only the first windows are shorter than longest. lengths = 'random': a loader shortens each context at its
-- beginning to a length drawn from shortest..its full length, anew every epoch, so that a model meets short contexts too.
function SlidingWindowDataset:__init(sequence, shortest, longest, opts)
  opts = options.parse('SlidingWindowDataset', { lengths = 'full' }, opts)
  check_sizes('SlidingWindowDataset', shortest, longest)
  self.sequence = tokens.wrap('SlidingWindowDataset', sequence)
  self.shortest, self.longest = shortest, longest
  self.random, self.keep_end = lengths_option('SlidingWindowDataset', opts), true
  self.count = math.max(0, self.sequence:length() - shortest)
  self.default_collate = collate.sequences()
end

function SlidingWindowDataset:locate(i)
  local first = math.max(1, i + self.shortest - self.longest)
  return first, i + self.shortest - first
end

function SlidingWindowDataset:get(i)
  local first, length = self:locate(i)
  local both = self.sequence:slice(first, first + length)
  return { sequence = both:narrow(1, 1, length), target = both[length + 1] }
end

-- Of windows with one target token each.
local function plan_next(self, indexes, form, seed, epoch)
  local first, length = self:spans(indexes, seed, epoch)
  local n = indexes:numel()
  local after, target = lines(n), Tensor.empty('Loader', { n }, 'int64', self.sequence.device)
  local f, l, a = pointer(first), pointer(length), pointer(after)
  for r = 0, n - 1 do a[r] = f[r] + l[r] end
  local batch, sequence = form:batch(length, self.sequence.device)
  batch.target = target
  return batch, { self.sequence:gather(sequence, first, length, form.pad_value, form.pad == 'left'),
    self.sequence:gather(target, after) }
end

function SlidingWindowDataset:plan(indexes, form, seed, epoch)
  if not form.is_sequences then return nil end
  return plan_next(self, indexes, form, seed, epoch)
end

-- ---- many sequences --------------------------------------------------------------------------------------------------

local Collection = class('CollectionSlidingWindowDataset', Windows)
window.CollectionSlidingWindowDataset = Collection

--- data.CollectionSlidingWindowDataset(sequences, shortest, longest, [{lengths = 'full'}]): the sliding windows of every sequence
-- of a table, one sequence after the other; no window crosses a border. The tokens are copied into one int64 tensor. O(log n) per
-- look-up.
function Collection:__init(sequences, shortest, longest, opts)
  local op = 'CollectionSlidingWindowDataset'
  opts = options.parse(op, { lengths = 'full' }, opts)
  check_sizes(op, shortest, longest)
  if type(sequences) ~= 'table' or Tensor.is_tensor(sequences) then
    fail('%s: sequences: expected a table of sequences, got %s', op, type(sequences))
  end
  self.shortest, self.longest, self.random, self.keep_end = shortest, longest, lengths_option(op, opts), true
  self.ends, self.starts = {}, {}
  local wrapped, total, count = {}, 0, 0
  for k, sequence in ipairs(sequences) do
    wrapped[k] = tokens.wrap(op, sequence)
    self.starts[k] = total
    total = total + wrapped[k]:length()
    count = count + math.max(0, wrapped[k]:length() - shortest)
    self.ends[k] = count
  end
  local all = Tensor.empty(op, { total }, 'int64')
  for k, sequence in ipairs(wrapped) do
    local n = sequence:length()
    local part = Tensor.as_view(op, all, { n }, { 1 }, self.starts[k])
    check(all.K.mt_tensor_copy(part._c, sequence:to('cpu'):tensor()._c))
  end
  self.sequence, self.count = tokens.Tokens(all), count
  self.default_collate = collate.sequences()
end

function Collection:locate(i)
  local k = dataset.find(self.ends, i)
  local within = i - (self.ends[k - 1] or 0)
  local first = math.max(1, within + self.shortest - self.longest)
  return self.starts[k] + first, within + self.shortest - first
end

Collection.get, Collection.plan = SlidingWindowDataset.get, SlidingWindowDataset.plan

-- ---- windows of one length ---------------------------------------------------------------------------------------------

local MemoryMap = class('MemoryMapSlidingWindowDataset', Windows)
window.MemoryMapSlidingWindowDataset = MemoryMap

--- data.MemoryMapSlidingWindowDataset(path, [window = 1], [stride = 1], [{dtype = 'uint8', add = 1}]): the windows of a
-- memory-mapped file: floor((n - window) / stride) + 1 samples {sequence =} of `window` tokens each, `stride` apart. dtype and add:
-- see data.Tokens.open. A Tokens is taken in place of the path.
function MemoryMap:__init(path, size, stride, opts)
  local op = 'MemoryMapSlidingWindowDataset'
  if type(size) == 'table' then size, opts = nil, size end
  if type(stride) == 'table' then stride, opts = nil, stride end
  self.window = native.integer(op, 'window', size == nil and 1 or size, 1)
  self.stride = native.integer(op, 'stride', stride == nil and 1 or stride, 1)
  if type(path) == 'string' then
    self.sequence = tokens.Tokens.open(path, opts)
  else
    options.parse(op, {}, opts)
    self.sequence = tokens.wrap(op, path)
  end
  local n = self.sequence:length()
  self.count = n < self.window and 0 or math.floor((n - self.window) / self.stride) + 1
  self.default_collate = collate.sequences()
end

function MemoryMap:locate(i) return (i - 1) * self.stride + 1, self.window end

function MemoryMap:get(i)
  local first = self:locate(i)
  return { sequence = self.sequence:slice(first, first + self.window - 1) }
end

function MemoryMap:plan(indexes, form, seed, epoch)
  if not form.is_sequences then return nil end
  local first, length = self:spans(indexes, seed, epoch)
  local batch, sequence = form:batch(length, self.sequence.device)
  return batch, { self.sequence:gather(sequence, first, length, form.pad_value, form.pad == 'left') }
end

-- ---- a target at every position ---------------------------------------------------------------------------------------

local NextTokenDataset = class('NextTokenDataset', Windows)
window.NextTokenDataset = NextTokenDataset

--- data.NextTokenDataset(sequence, length, [{stride = 1, lengths = 'full', shortest = 1}]): for causal models. Sample i is
-- {sequence = tokens f..f + length - 1, target = tokens f + 1..f + length} with f = (i - 1) * stride + 1. lengths = 'random': a
-- loader ends each sample after a number of tokens drawn from shortest..length, anew every epoch. Padding of the target is the
-- pad value; the batch's mask says what counts. A sequence of fewer than length + 1 tokens is an error.
function NextTokenDataset:__init(sequence, length, opts)
  local op = 'NextTokenDataset'
  opts = options.parse(op, { stride = 1, lengths = 'full', shortest = 1 }, opts)
  self.window = native.integer(op, 'length', length, 1)
  self.stride = native.integer(op, 'stride', opts.stride, 1)
  self.shortest = native.integer(op, 'shortest', opts.shortest, 1, length)
  self.random = lengths_option(op, opts)
  self.sequence = tokens.wrap(op, sequence)
  local n = self.sequence:length()
  if n < length + 1 then fail('%s: dataset has %d tokens, context needs %d', op, n, length + 1) end
  self.count = math.floor((n - 1 - length) / self.stride) + 1
  self.default_collate = collate.sequences()
end

NextTokenDataset.locate = MemoryMap.locate

function NextTokenDataset:get(i)
  local first = self:locate(i)
  local both = self.sequence:slice(first, first + self.window)
  return { sequence = both:narrow(1, 1, self.window), target = both:narrow(1, 2, self.window) }
end

function NextTokenDataset:plan(indexes, form, seed, epoch)
  if not form.is_sequences then return nil end
  local first, length = self:spans(indexes, seed, epoch)
  local n = indexes:numel()
  local after = lines(n)
  local f, a = pointer(first), pointer(after)
  for r = 0, n - 1 do a[r] = f[r] + 1 end
  local batch, sequence = form:batch(length, self.sequence.device)
  batch.target = Tensor.empty('Loader', sequence:size(), 'int64', sequence.device)
  local left = form.pad == 'left'
  return batch, { self.sequence:gather(sequence, first, length, form.pad_value, left),
    self.sequence:gather(batch.target, after, length, form.pad_value, left) }
end

return window
