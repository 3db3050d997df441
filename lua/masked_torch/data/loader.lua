--- loader: batches of a dataset, in an order that a position restores exactly.
--
-- The loader is its own position: (seed, epoch, next batch). A loop that was left early goes on where it stopped; rewind() starts
-- the epoch over. Which samples a batch holds, and what they look like, follows from those three numbers alone, so a loader that
-- was given the state of another continues with the same batches, bit for bit, whatever `prefetch` is.
--
-- Datasets may have plan(indexes, collate, seed, epoch) -> batch, gathers: a batch with its tensors not yet filled and the
-- gathers (core/loader.h) that fill them; a thread does that ahead of time, or the device that the data lie on. nil, or a collate
-- function of the user's, means that samples are fetched one by one here.
--
-- @usage
-- local dataset = torch.data.TensorDataset{ x = torch.randn(10, 3), y = torch.randint(1, 2, { 10 }) }
-- local loader = torch.data.Loader(dataset, { batch_size = 4, shuffle = true, seed = 1 })
-- for epoch = 1, 2 do
--   for batch in loader do print(epoch, batch.x:size(1)) end
-- end
-- --> 1	4
-- --> 1	4
-- --> 1	2
-- --> 2	4
-- --> 2	4
-- --> 2	2

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local collate = require 'masked_torch.data.collate'
local dataset = require 'masked_torch.data.dataset'
local move = require 'masked_torch.data.move'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local sampler = require 'masked_torch.data.sampler'
local Tensor = require 'masked_torch.tensor'
local tokens = require 'masked_torch.data.tokens'

local C, check, fail = native.cpu, native.check, native.fail

local Loader = class('Loader')

local OPTIONS = { batch_size = 1, shuffle = false, drop_last = false, seed = 0, prefetch = 2, sampler = options.none,
  batch_sampler = options.none, collate = options.none, transform = options.none, device = options.none }

local opened = ffi.new('mt_loader *[1]')
local ticket = ffi.new('int64_t[1]')
local jobs = ffi.new('mt_gather[8]')

local function batch_sampler(self, opts)
  if opts.batch_sampler ~= nil then
    local s = opts.batch_sampler
    if type(s) ~= 'table' or type(s.batch) ~= 'function' or type(s.length) ~= 'function' then
      fail('Loader: batch_sampler: expected an object with length() and batch(epoch, k), got %s', type(s))
    elseif opts.sampler ~= nil or opts.shuffle then
      fail('Loader: batch_sampler excludes sampler and shuffle')
    end
    return s
  end
  local s = opts.sampler
  if s ~= nil and opts.shuffle then fail('Loader: sampler excludes shuffle') end
  if s == nil then
    local n = self.dataset:length()
    s = opts.shuffle and sampler.RandomSampler(n, { seed = opts.seed }) or sampler.SequentialSampler(n)
  end
  return sampler.BatchSampler(s, opts.batch_size, { drop_last = opts.drop_last })
end

--- data.Loader(dataset, options): dataset: an object with length() and get(i), or a list of samples.
--   batch_size = 1, drop_last = false
--   shuffle = false, seed = 0     a new random order in every epoch; the seed also draws random context lengths
--   sampler, batch_sampler        an order of one's own, instead of shuffle (data.RandomSampler, data.BucketSampler, ...)
--   collate                       function(samples) -> batch; default: the dataset's own, or data.collate.default
--   device                        where batches go (data.to); default: where the dataset's tensors are
--   transform                     function(batch) -> batch, applied to every batch, on its device
--   prefetch = 2                  how many batches the thread makes ahead; 0: none, each batch is made when it is asked for
function Loader:__init(source, opts)
  opts = options.parse('Loader', OPTIONS, opts)
  source = dataset.check('Loader', source)
  self.dataset = source
  native.integer('Loader', 'batch_size', opts.batch_size, 1)
  self.seed = native.integer('Loader', 'seed', opts.seed, 0, 2 ^ 53)
  self.ahead = native.integer('Loader', 'prefetch', opts.prefetch, 0, 32)
  for _, name in ipairs{ 'collate', 'transform' } do
    if opts[name] ~= nil then native.callable('Loader', name, opts[name]) end
  end
  for _, name in ipairs{ 'images', 'sequences' } do
    if opts.collate == collate[name] then fail('Loader: collate: call it, collate = data.collate.%s()', name) end
  end
  self.custom = opts.collate ~= nil and not (type(opts.collate) == 'table' and opts.collate.is_sequences)
  self.collate = opts.collate or source.default_collate or collate.default
  self.transform = opts.transform
  self.device = opts.device and Tensor.check_device('Loader', opts.device)
  if source:length() == 0 then fail('Loader: the dataset is empty') end
  self.batches = batch_sampler(self, opts)
  if self.batches:length() == 0 then
    fail('Loader: a batch_size of %d with drop_last leaves no batch of %d samples', opts.batch_size, source:length())
  end
  self.settings = { samples = source:length(), batches = self.batches:length(), batch_size = opts.batch_size,
    shuffle = opts.shuffle, drop_last = opts.drop_last }
  self.epoch, self.next, self.queue = 1, 1, {}
end

--- loader:length(): batches per epoch.
function Loader:length() return self.batches:length() end

-- ---- making batches ------------------------------------------------------------------------------------------------------

local function slow(self, indexes)
  local samples = {}
  for r, i in ipairs(indexes:totable()) do samples[r] = self.dataset:get(i) end
  local batch = self.collate(samples)
  if type(batch) ~= 'table' then fail('Loader: collate returned %s, expected a table', type(batch)) end
  return batch
end

local function plan(self, epoch, k)
  local indexes = self.batches:batch(epoch, k)
  if not self.custom and self.dataset.plan then
    local batch, gathers = self.dataset:plan(indexes, self.collate, self.seed, epoch)
    if batch then return batch, gathers end
  end
  return slow(self, indexes)
end

-- Gives the gathers of one batch to the thread; returns the job's number.
local function submit(self, gathers)
  if not self.thread then
    check(C.mt_loader_new(opened), 'Loader')
    self.thread = ffi.gc(opened[0], C.mt_loader_free)
  end
  for k, g in ipairs(gathers) do
    local job = jobs[k - 1]
    job.out, job.source, job.first, job.length = g.out._c, g.source._c, g.first._c, g.length and g.length._c or nil
    job.add, job.pad, job.type, job.align_right = g.add, g.pad, g.type, g.align_right
  end
  check(C.mt_loader_submit(self.thread, #gathers, jobs, ticket), 'Loader')
  return ticket[0]
end

local function enqueue(self, epoch, k)
  local batch, gathers = plan(self, epoch, k)
  local entry = { epoch = epoch, k = k, batch = batch }
  if gathers and gathers[1].out.device ~= 'cpu' then
    for _, g in ipairs(gathers) do tokens.gather(g) end   -- the device has a queue of its own
  elseif gathers then
    entry.job = submit(self, gathers)
  else
    self.no_thread = true   -- samples are fetched in Lua: nothing to gain from being early
  end
  self.queue[#self.queue + 1] = entry
end

local function after(self, epoch, k)
  if k < self:length() then return epoch, k + 1 end
  return epoch + 1, 1
end

-- Gives up what was made ahead. The thread holds the tensors of its jobs until one is waited for.
local function discard(self)
  local last = self.queue[#self.queue]
  if last and last.job then check(C.mt_loader_wait(self.thread, last.job), 'Loader') end
  self.queue = {}
end

local function from_thread(self, epoch, k)
  local head = self.queue[1]
  if head and (head.epoch ~= epoch or head.k ~= k) then discard(self) end
  local e, b = epoch, k
  if #self.queue > 0 then
    local last = self.queue[#self.queue]
    e, b = after(self, last.epoch, last.k)
  end
  while #self.queue == 0 or (#self.queue <= self.ahead and not self.no_thread) do
    enqueue(self, e, b)
    e, b = after(self, e, b)
  end
  local entry = table.remove(self.queue, 1)
  if entry.job then check(C.mt_loader_wait(self.thread, entry.job), 'Loader') end
  return entry.batch
end

local function here(self, epoch, k)
  local batch, gathers = plan(self, epoch, k)
  for _, g in ipairs(gathers or {}) do tokens.gather(g) end
  return batch
end

--- loader(): the next batch, or nil at the end of an epoch, which begins the next one. So `for batch in loader do` is one epoch, or
-- the rest of it.
function Loader:__call()
  if self.next > self:length() then
    self.epoch, self.next = self.epoch + 1, 1
    return nil
  end
  local batch = (self.ahead > 0 and from_thread or here)(self, self.epoch, self.next)
  if self.device then batch = move.to(batch, self.device) end
  if self.transform then
    batch = self.transform(batch)
    if batch == nil then fail('Loader: transform returned nil') end
  end
  self.next = self.next + 1
  return batch
end

-- ---- position --------------------------------------------------------------------------------------------------------------

--- loader:rewind(): the epoch begins again with its first batch. Returns the loader.
function Loader:rewind()
  self.next = 1
  return self
end

--- loader:state_dict() -> {seed =, epoch =, next =, ...}: numbers and booleans for a checkpoint. next: the number of the batch to
-- come in this epoch (length() + 1 when only the end of the loop is left).
function Loader:state_dict()
  local state = { seed = self.seed, epoch = self.epoch, next = self.next }
  for key, value in pairs(self.settings) do state[key] = value end
  return state
end

--- loader:load_state_dict(state): continues where state_dict was called. The seed is taken over; a loader of another dataset length
-- or with other settings is an error, for its batches would be others. Returns the loader.
function Loader:load_state_dict(state)
  local known = { seed = 0, epoch = 0, next = 0 }
  for key, value in pairs(self.settings) do known[key] = value end
  if type(state) ~= 'table' then fail('load_state_dict: state: expected a table, got %s', type(state)) end
  options.parse('load_state_dict', known, state)
  for key, value in pairs(self.settings) do
    if state[key] ~= value then
      fail('load_state_dict: %s: the state says %s, this loader has %s', key, tostring(state[key]), tostring(value))
    end
  end
  local seed = native.integer('load_state_dict', 'seed', state.seed, 0, 2 ^ 53)
  local epoch = native.integer('load_state_dict', 'epoch', state.epoch, 1, 2 ^ 40)
  local next_batch = native.integer('load_state_dict', 'next', state.next, 1, self:length() + 1)
  if seed ~= self.seed then
    local order = self.batches.sampler
    if not self.settings.shuffle and order and order.seed ~= nil then
      fail('load_state_dict: seed: the state says %d, the sampler of this loader has its own', seed)
    end
    if self.settings.shuffle then order.seed = seed end
  end
  discard(self)
  self.seed, self.epoch, self.next = seed, epoch, next_batch
  return self
end

function Loader:__tostring()
  return ('Loader(%s, %d batches of %d, epoch %d, next %d)'):format(tostring(self.dataset), self:length(),
    self.settings.batch_size, self.epoch, self.next)
end

return { Loader = Loader }
