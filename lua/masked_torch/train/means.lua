--- means: running means of named numbers, and the log lines of an epoch.

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local Pending = require 'masked_torch.train.pending'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail

local Means = class('Means')

--- torch.train.means(): means:add({loss = 1.9, error = 0.4}, [weight = 1]); means:get() -> {loss =, error =}.
-- The mean of each name over everything added since the last reset, weighted (by the size of the batch, say). Values on a device are
-- copied there and read together, when a mean is asked for: adding never waits.
function Means:__init()
  self.pending = Pending(256, function(note, value) self:count(note.name, value, note.weight) end)
  self:reset()
end

--- means:reset(): forgets everything.
function Means:reset()
  self.pending:clear()
  self.order, self.mean, self.total = {}, {}, {}
  return self
end

--- means:add(values, [weight = 1]): numbers, or tensors of one element, by name. Returns means.
function Means:add(values, weight)
  weight = native.number('means', 'weight', weight == nil and 1 or weight)
  if not (weight >= 0) then fail('means: weight: expected a number of at least 0, got %g', weight) end
  if type(values) ~= 'table' or Tensor.is_tensor(values) then
    fail('means: values: expected a table of numbers by name, got %s', Tensor.is_tensor(values) and 'a tensor' or type(values))
  end
  local added = {}
  for name in pairs(values) do
    if type(name) ~= 'string' then fail('means: values: names are strings, got %s', tostring(name)) end
    if not self.total[name] then added[#added + 1] = name end
  end
  table.sort(added)       -- pairs has no order
  for _, name in ipairs(added) do
    self.order[#self.order + 1], self.mean[name], self.total[name] = name, 0, 0
  end
  for name, value in pairs(values) do
    if self.pending:holds(value) then
      if not Tensor.is_tensor(value) then native.number('means', name, value) end
      self.pending:add({ name = name, weight = weight }, value)
    else
      if Tensor.is_tensor(value) then value = value:item() end
      self:count(name, native.number('means', name, value), weight)
    end
  end
  return self
end

function Means:count(name, value, weight)
  local total = self.total[name] + weight
  if weight > 0 then
    self.mean[name] = self.mean[name] + (value - self.mean[name]) * (weight / total)
    self.total[name] = total
  end
end

--- means:get([name]): one mean, or all in a new table. NaN where nothing was added.
function Means:get(name)
  self.pending:flush()
  if name then return self.total[name] and self.total[name] > 0 and self.mean[name] or 0 / 0 end
  local all = {}
  for _, key in ipairs(self.order) do all[key] = self:get(key) end
  return all
end

--- means:names(): in the order in which they came.
function Means:names() return { unpack(self.order) } end

--- means:state_dict(), means:load_state_dict(state): for checkpoints in the middle of an epoch.
function Means:state_dict()
  self.pending:flush()
  local state = { names = self:names(), mean = {}, total = {} }
  for i, name in ipairs(self.order) do state.mean[i], state.total[i] = self.mean[name], self.total[name] end
  return state
end

function Means:load_state_dict(state)
  if type(state) ~= 'table' or type(state.names) ~= 'table' then
    fail('means: state: expected what state_dict returned, got %s', type(state))
  end
  self:reset()
  for i, name in ipairs(state.names) do
    self.order[i], self.mean[name], self.total[name] = name, state.mean[i], state.total[i]
  end
end

-- ---- the lines of an epoch -----------------------------------------------------------------------------------------

local function rank(name)
  if name == 'epoch' then return 1 end
  if name == 'train/lr' then return 2 end
  if name:find('^train/') then return 3 end
  if name:find('^valid/') then return 4 end
  return 5
end

--- header, values = torch.train.epoch_lines{epoch = 3, ['train/lr'] = 1e-3, ['train/loss'] = 1.9, ['valid/loss'] = 2.0}:
-- two aligned lines. epoch first, then train/lr, train/..., valid/..., the rest; by name within each. Whole epochs are printed
-- as they are, everything else as 1.90e+00; a column is as wide as its name, 10 at least.
local function epoch_lines(row)
  if type(row) ~= 'table' then fail('epoch_lines: row: expected a table of numbers by name, got %s', type(row)) end
  local keys = {}
  for key, value in pairs(row) do
    if type(key) ~= 'string' then fail('epoch_lines: row: names are strings, got %s', tostring(key)) end
    native.number('epoch_lines', key, value)
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b)
    local x, y = rank(a), rank(b)
    if x ~= y then return x < y end
    return a < b
  end)
  local header, values = {}, {}
  for i, key in ipairs(keys) do
    local width = math.max(#key, 10)
    local text = key == 'epoch' and row[key] % 1 == 0 and ('%d'):format(row[key]) or ('%.2e'):format(row[key])
    header[i] = (' '):rep(width - #key) .. key
    values[i] = (' '):rep(width - #text) .. text
  end
  return table.concat(header, ', '), table.concat(values, ', ')
end

return { means = Means, epoch_lines = epoch_lines }
