--- dataset: samples by number.
--
-- A dataset has `length()` and `get(i)` for i = 1..length; `dataset[i]` is get with its number checked. A sample is a table whose
-- keys name its parts: {sequence =, target =}, or {x, y}. A subclass may have `plan` (loader.lua), which lets whole batches be
-- gathered in C.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local C, check, fail = native.cpu, native.check, native.fail

local dataset = {}
--- data.Dataset: the base class. A subclass has `length()` and `get(i)`.
local Dataset = class('Dataset')
dataset.Dataset = Dataset

--- dataset[i]: sample i, from 1.
function Dataset:__index(key)
  local own = getmetatable(self)
  if type(key) ~= 'number' then return own[key] end
  native.integer(own.__name, 'index', key, 1, self:length())
  return (self:get(key))
end

--- dataset:map(fn): the dataset of fn(sample, i).
function Dataset:map(fn) return dataset.MapDataset(self, fn) end

function Dataset:length() fail('%s: length() is not defined; a subclass of data.Dataset has length() and get(i)', self.__name) end
function Dataset:get() fail('%s: get(i) is not defined; a subclass of data.Dataset has length() and get(i)', self.__name) end

function Dataset:__tostring() return ('%s(%d)'):format(self.__name, self:length()) end

-- A Lua table of samples.
local List = class('List', Dataset)
function List:__init(samples) self.samples = samples end
function List:length() return #self.samples end
function List:get(i) return self.samples[i] end

--- The dataset that value is: an object with length() and get(i), or a plain list of samples; else an error.
function dataset.check(op, value)
  if options.is_plain(value) and type(value[1]) == 'table' then return List(value) end
  if type(value) ~= 'table' or type(value.length) ~= 'function' or type(value.get) ~= 'function' then
    fail('%s: dataset: expected an object with length() and get(i), or a list of samples, got %s', op, native.show(value))
  end
  return value
end

-- ---- tensors ---------------------------------------------------------------------------------------------------

local TensorDataset = class('TensorDataset', Dataset)
dataset.TensorDataset = TensorDataset

--- data.TensorDataset{x, y} or {image = x, label = y}: sample i is {x[i], y[i]} or {image = x[i], label = y[i]}. All tensors have
-- the same first size. A loader reads ahead: they must not change meanwhile. From tensors on a CUDA device batches are made there.
function TensorDataset:__init(tensors)
  if type(tensors) ~= 'table' or Tensor.is_tensor(tensors) or next(tensors) == nil then
    fail('TensorDataset: expected a table of tensors, like {x, y} or {image = x, label = y}, got %s',
      Tensor.is_tensor(tensors) and 'a tensor' or type(tensors))
  end
  self.tensors, self.names = {}, {}
  for name, t in pairs(tensors) do
    Tensor.check('TensorDataset', tostring(name), t)
    if t:dim() == 0 then fail('TensorDataset: %s: expected samples along the first dim, got a scalar', tostring(name)) end
    self.names[#self.names + 1] = name
    self.tensors[name] = t:detach()
  end
  table.sort(self.names, function(a, b) return tostring(a) < tostring(b) end)
  local first = self.tensors[self.names[1]]
  self.count = first:size(1)
  for _, name in ipairs(self.names) do
    local t = self.tensors[name]
    if t:size(1) ~= self.count then
      fail('TensorDataset: %s has %d samples, %s has %d', tostring(name), t:size(1), tostring(self.names[1]), self.count)
    end
  end
end

function TensorDataset:length() return self.count end

function TensorDataset:get(i)
  local sample = {}
  for _, name in ipairs(self.names) do sample[name] = self.tensors[name][i] end
  return sample
end

-- Batches of rows gathered in C. indexes: int64 tensor (N).
function TensorDataset:plan(indexes)
  local n, gathers, batch = indexes:numel(), {}, {}
  if #self.names > 8 then return nil end
  for k, name in ipairs(self.names) do
    local t = self.tensors[name]
    if t.device ~= self.tensors[self.names[1]].device or not t:is_contiguous() then return nil end
    local shape = t:size()
    shape[1] = n
    local row = self.count > 0 and t:numel() / self.count or 0
    local first = Tensor.empty('Loader', { n }, 'int64')
    local from, to = ffi.cast('const int64_t *', indexes._c.data), ffi.cast('int64_t *', first._c.data)
    for r = 0, n - 1 do to[r] = (from[r] - 1) * row + 1 end
    batch[name] = Tensor.empty('Loader', shape, t.dtype, t.device)
    gathers[k] = { out = batch[name], source = t, type = Tensor.dtype_code[t.dtype], add = 0, first = first, pad = 0,
      align_right = 0 }
  end
  return batch, gathers
end

-- ---- views of other datasets -------------------------------------------------------------------------------------

local Subset = class('Subset', Dataset)
dataset.Subset = Subset

-- Fails when a position is outside 1..n.
local function check_positions(op, positions, n)
  local p = ffi.cast('const int64_t *', positions._c.data)
  for i = 0, positions:numel() - 1 do
    if p[i] < 1 or p[i] > n then
      fail('%s: indexes: %d at position %d is outside 1..%d', op, tonumber(p[i]), i + 1, n)
    end
  end
end

--- data.Subset(dataset, indexes): the samples of those numbers (a table or an int64 tensor), in that order.
function Subset:__init(inner, indexes)
  inner = dataset.check('Subset', inner)
  if Tensor.is_tensor(indexes) then
    Tensor.check('Subset', 'indexes', indexes)
    if indexes.dtype ~= 'int64' or indexes:dim() ~= 1 then
      fail('Subset: indexes: expected a 1-D int64 tensor, got %s %s', Tensor.shape_text(indexes), indexes.dtype)
    end
    indexes = indexes:clone():contiguous()
  else
    if type(indexes) ~= 'table' then fail('Subset: indexes: expected a table or an int64 tensor, got %s', type(indexes)) end
    for i = 1, #indexes do native.integer('Subset', ('indexes[%d]'):format(i), indexes[i]) end
    indexes = #indexes == 0 and Tensor.empty('Subset', { 0 }, 'int64') or Tensor.from_table('Subset', indexes, 'int64')
  end
  check_positions('Subset', indexes, inner:length())
  self.dataset, self.indexes, self.count = inner, indexes, indexes:numel()
  self.positions = ffi.cast('const int64_t *', indexes._c.data)
  self.default_collate = inner.default_collate
end

function Subset:length() return self.count end
function Subset:get(i) return (self.dataset:get(tonumber(self.positions[i - 1]))) end

function Subset:plan(indexes, ...)
  if not self.dataset.plan then return nil end
  local n = indexes:numel()
  local inner = Tensor.empty('Loader', { n }, 'int64')
  local from, to = ffi.cast('const int64_t *', indexes._c.data), ffi.cast('int64_t *', inner._c.data)
  for r = 0, n - 1 do to[r] = self.positions[tonumber(from[r]) - 1] end
  return self.dataset:plan(inner, ...)
end

local MapDataset = class('MapDataset', Dataset)
dataset.MapDataset = MapDataset

--- data.MapDataset(dataset, fn): sample i is fn(dataset[i], i). fn must return a sample.
function MapDataset:__init(inner, fn)
  inner = dataset.check('MapDataset', inner)
  native.callable('MapDataset', 'fn', fn)
  self.dataset, self.fn = inner, fn
  self.default_collate = inner.default_collate
end

function MapDataset:length() return self.dataset:length() end

function MapDataset:get(i)
  local sample = self.fn(self.dataset:get(i), i)
  if sample == nil then fail('MapDataset: fn returned nil for sample %d', i) end
  return sample
end

-- ---- concatenation -----------------------------------------------------------------------------------------------

--- dataset.find(ends, i): the smallest k with i <= ends[k]. ends: ascending cumulative counts in a Lua table. O(log n).
function dataset.find(ends, i)
  local low, high = 1, #ends
  while low < high do
    local middle = math.floor((low + high) / 2)
    if i <= ends[middle] then high = middle else low = middle + 1 end
  end
  return low
end

local ConcatDataset = class('ConcatDataset', Dataset)
dataset.ConcatDataset = ConcatDataset

--- data.ConcatDataset{a, b, ...}: the samples of a, then those of b, and so on. O(log n) per look-up.
function ConcatDataset:__init(datasets)
  if type(datasets) ~= 'table' or #datasets == 0 then fail('ConcatDataset: expected a table of datasets') end
  self.datasets, self.ends = {}, {}
  local total = 0
  for k, inner in ipairs(datasets) do
    inner = dataset.check('ConcatDataset', inner)
    self.datasets[k] = inner
    total = total + inner:length()
    self.ends[k] = total
    self.default_collate = self.default_collate or inner.default_collate
  end
end

function ConcatDataset:length() return self.ends[#self.ends] end

function ConcatDataset:get(i)
  local k = dataset.find(self.ends, i)
  return (self.datasets[k]:get(i - (self.ends[k - 1] or 0)))
end

-- ---- splits ------------------------------------------------------------------------------------------------------

--- data.random_split(dataset, sizes, [{seed = 0}]): disjoint random Subsets, as several results. sizes: counts with the dataset's
-- length as their sum, or fractions with the sum 1 (what rounding leaves goes to the first).
function dataset.random_split(inner, sizes, opts)
  inner = dataset.check('random_split', inner)
  opts = options.parse('random_split', { seed = 0 }, opts)
  native.integer('random_split', 'seed', opts.seed, 0, 2 ^ 53)
  if type(sizes) ~= 'table' or #sizes == 0 then fail('random_split: sizes: expected a table like {0.9, 0.1}') end
  local n, total, counts = inner:length(), 0, {}
  for k, size in ipairs(sizes) do
    native.number('random_split', 'sizes', size)
    if not (size >= 0) then fail('random_split: sizes: expected numbers of at least 0, got %g', size) end
    total = total + size
    counts[k] = size
  end
  if math.abs(total - 1) < 1e-9 and n ~= 1 then
    local used = 0
    for k = 1, #counts do
      counts[k] = math.floor(n * counts[k] + 1e-9)
      used = used + counts[k]
    end
    counts[1] = counts[1] + n - used
  else
    for k = 1, #counts do native.integer('random_split', 'sizes', counts[k], 0) end
    if total ~= n then fail('random_split: sizes: %d in sum, the dataset has %d samples', total, n) end
  end
  local order = Tensor.empty('random_split', { n }, 'int64')
  check(C.mt_sampler_permutation(order._c, opts.seed, 0, math.max(1, n), 0))
  local parts, first = {}, 0
  for k, count in ipairs(counts) do
    parts[k] = Subset(inner, Tensor.as_view('random_split', order, { count }, { 1 }, first))
    first = first + count
  end
  return unpack(parts)
end

return dataset
