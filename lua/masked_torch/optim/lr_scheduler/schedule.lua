--- schedule: the base of the schedules. A class defines lr_at(i, base, t): the rate of group i with the rate `base` at its beginning
-- after t steps.

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local list = require 'masked_torch.optim.list'
local Optimizer = require('masked_torch.optim.optimizer').Optimizer

local fail = native.fail

--- Schedule: the base class of the schedules; not to be made itself.
local Schedule = class('Schedule')

local function name_of(self) return getmetatable(self).__name end

--- To be called at the end of __init: takes the groups' present rates as the beginning and sets those of step 0.
function Schedule:start(optimizer)
  self.last_step = 0
  self.base_lrs = {}
  for i, group in ipairs(optimizer.param_groups) do self.base_lrs[i] = group.lr end
  self:apply()
end

--- The first argument of every schedule.
function Schedule:set_optimizer(optimizer)
  if type(optimizer) ~= 'table' or type(optimizer.is) ~= 'function' or not optimizer:is(Optimizer) then
    fail('%s: optimizer: expected an optimiser, got %s', name_of(self), type(optimizer))
  end
  self.optimizer = optimizer
end

--- One finite number per group, from a number or an array of them.
function Schedule:per_group(argument, value, low)
  local op, groups, numbers = name_of(self), #self.optimizer.param_groups, {}
  if type(value) == 'table' and #value ~= groups then
    fail('%s: %s: expected one number or %d, one for each parameter group, got %d', op, argument, groups, #value)
  end
  for i = 1, groups do
    numbers[i] = list.number(op, argument, type(value) == 'table' and value[i] or value, low)
  end
  return numbers
end

-- Sets the rates of step last_step.
function Schedule:apply()
  local op = name_of(self)
  for i, group in ipairs(self.optimizer.param_groups) do
    self.base_lrs[i] = self.base_lrs[i] or group.lr      -- a group that was added later begins where it is
    group.lr = list.number(op, 'lr', self:lr_at(i, self.base_lrs[i], self.last_step), 0)
  end
end

--- schedule:step(): the rates of the next step. To be called after the optimiser's step.
function Schedule:step()
  self.last_step = self.last_step + 1
  self:apply()
end

--- schedule:get_lr() -> the present rate of each group, as several results.
function Schedule:get_lr()
  local rates = {}
  for i, group in ipairs(self.optimizer.param_groups) do rates[i] = group.lr end
  return unpack(rates)
end

local function numbers(values)
  local copy = {}
  for i, v in ipairs(values) do copy[i] = v end
  return copy
end

--- schedule:state_dict() -> a table of numbers for torch.save. The options are not in it: they are the script's.
function Schedule:state_dict()
  return { schedule = name_of(self), last_step = self.last_step, base_lrs = numbers(self.base_lrs) }
end

-- Checks a state and the rates in it under `key`.
function Schedule:check_state(state, key)
  local op = name_of(self) .. ': load_state_dict'
  if type(state) ~= 'table' then fail('%s: expected what state_dict gives, got %s', op, type(state)) end
  if state.schedule ~= name_of(self) then fail('%s: the state is of %s', op, tostring(state.schedule)) end
  native.integer(op, 'last_step', state.last_step, 0)
  local groups = #self.optimizer.param_groups
  if type(state[key]) ~= 'table' or #state[key] ~= groups then
    fail('%s: %s: expected %d rates, one for each parameter group', op, key, groups)
  end
  for i = 1, groups do list.number(op, key, state[key][i], 0) end
  return numbers(state[key])
end

--- schedule:load_state_dict(state): goes on where state_dict was taken, and sets the rates.
function Schedule:load_state_dict(state)
  self.base_lrs = self:check_state(state, 'base_lrs')
  self.last_step = state.last_step
  self:apply()
end

return { Schedule = Schedule }
