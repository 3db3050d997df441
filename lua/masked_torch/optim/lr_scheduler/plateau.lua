local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local list = require 'masked_torch.optim.list'
local Schedule = require('masked_torch.optim.lr_scheduler.schedule').Schedule

--- ReduceLROnPlateau(optimizer, {mode = 'min' or 'max', factor = 0.1, patience = 10, threshold = 1e-4, threshold_mode = 'rel' or 'abs',
-- cooldown = 0, min_lr = 0, eps = 1e-8}): schedule:step(metric) multiplies the rates by factor, never below min_lr (a number, or one for
-- each group), when the metric has not improved for more than `patience` calls, and then waits `cooldown` calls. Better means below
-- best (1 - threshold) ('rel') or best - threshold ('abs'), for 'max' above best (1 + threshold), best + threshold. NaN is not better.
-- A change of eps or less is not made.
local ReduceLROnPlateau = class('ReduceLROnPlateau', Schedule)

local defaults = { mode = 'min', factor = 0.1, patience = 10, threshold = 1e-4, threshold_mode = 'rel', cooldown = 0,
  min_lr = options.any(0), eps = 1e-8 }

function ReduceLROnPlateau:__init(optimizer, opts)
  local op = 'ReduceLROnPlateau'
  self:set_optimizer(optimizer)
  opts = options.parse(op, defaults, opts)
  self.mode = options.choice(op, 'mode', opts.mode, { 'min', 'max' })
  self.threshold_mode = options.choice(op, 'threshold_mode', opts.threshold_mode, { 'rel', 'abs' })
  self.factor = list.number(op, 'factor', opts.factor, 0, 1)
  self.patience = native.integer(op, 'patience', opts.patience, 0)
  self.cooldown = native.integer(op, 'cooldown', opts.cooldown, 0)
  self.threshold = list.number(op, 'threshold', opts.threshold, 0)
  self.eps = list.number(op, 'eps', opts.eps, 0)
  self.min_lrs = self:per_group('min_lr', opts.min_lr, 0)
  self.best = self.mode == 'min' and math.huge or -math.huge
  self.num_bad_steps, self.cooldown_counter, self.last_step = 0, 0, 0
end

local function is_better(self, metric)
  local best, threshold = self.best, self.threshold
  if self.mode == 'min' then
    return metric < (self.threshold_mode == 'rel' and best * (1 - threshold) or best - threshold)
  end
  return metric > (self.threshold_mode == 'rel' and best * (1 + threshold) or best + threshold)
end

local function reduce(self)
  for i, group in ipairs(self.optimizer.param_groups) do
    local rate = math.max(group.lr * self.factor, self.min_lrs[i] or self.min_lrs[#self.min_lrs])
    if group.lr - rate > self.eps then group.lr = rate end
  end
end

--- schedule:step(metric): a number or a tensor with one element, such as the validation loss.
function ReduceLROnPlateau:step(metric)
  if Tensor.is_tensor(metric) then metric = metric:item() end
  native.number('ReduceLROnPlateau', 'metric', metric)
  self.last_step = self.last_step + 1
  if is_better(self, metric) then
    self.best, self.num_bad_steps = metric, 0
  else
    self.num_bad_steps = self.num_bad_steps + 1
  end
  if self.cooldown_counter > 0 then
    self.cooldown_counter = self.cooldown_counter - 1
    self.num_bad_steps = 0
  end
  if self.num_bad_steps > self.patience then
    reduce(self)
    self.cooldown_counter, self.num_bad_steps = self.cooldown, 0
  end
end

function ReduceLROnPlateau:state_dict()
  return { schedule = 'ReduceLROnPlateau', last_step = self.last_step, best = self.best, num_bad_steps = self.num_bad_steps,
    cooldown_counter = self.cooldown_counter, lrs = { self:get_lr() } }
end

function ReduceLROnPlateau:load_state_dict(state)
  local op = 'ReduceLROnPlateau: load_state_dict'
  local rates = self:check_state(state, 'lrs')
  native.number(op, 'best', state.best)
  native.integer(op, 'num_bad_steps', state.num_bad_steps, 0)
  native.integer(op, 'cooldown_counter', state.cooldown_counter, 0)
  for i, group in ipairs(self.optimizer.param_groups) do group.lr = rates[i] end
  self.last_step, self.best = state.last_step, state.best
  self.num_bad_steps, self.cooldown_counter = state.num_bad_steps, state.cooldown_counter
end

return { ReduceLROnPlateau = ReduceLROnPlateau }
