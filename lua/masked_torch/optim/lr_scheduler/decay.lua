--- decay: StepLR, MultiStepLR, ExponentialLR, LambdaLR.

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Schedule = require('masked_torch.optim.lr_scheduler.schedule').Schedule

--- StepLR(optimizer, step_size, {gamma = 0.1}): lr = base gamma^floor(t / step_size)
local StepLR = class('StepLR', Schedule)

function StepLR:__init(optimizer, step_size, opts)
  self:set_optimizer(optimizer)
  opts = options.parse('StepLR', { gamma = 0.1 }, opts)
  self.step_size = native.integer('StepLR', 'step_size', step_size, 1)
  self.gamma = list.number('StepLR', 'gamma', opts.gamma, 0)
  self:start(optimizer)
end

function StepLR:lr_at(_, base, t) return base * self.gamma ^ math.floor(t / self.step_size) end

--- MultiStepLR(optimizer, milestones, {gamma = 0.1}): lr = base gamma^(number of milestones that are at most t)
local MultiStepLR = class('MultiStepLR', Schedule)

function MultiStepLR:__init(optimizer, milestones, opts)
  self:set_optimizer(optimizer)
  opts = options.parse('MultiStepLR', { gamma = 0.1 }, opts)
  if type(milestones) ~= 'table' then native.fail('MultiStepLR: milestones: expected an array of steps, got %s', type(milestones)) end
  self.milestones = {}
  for i, m in ipairs(milestones) do self.milestones[i] = native.integer('MultiStepLR', 'milestones', m, 0) end
  self.gamma = list.number('MultiStepLR', 'gamma', opts.gamma, 0)
  self:start(optimizer)
end

function MultiStepLR:lr_at(_, base, t)
  local passed = 0
  for _, m in ipairs(self.milestones) do
    if m <= t then passed = passed + 1 end
  end
  return base * self.gamma ^ passed
end

--- ExponentialLR(optimizer, gamma): lr = base gamma^t
local ExponentialLR = class('ExponentialLR', Schedule)

function ExponentialLR:__init(optimizer, gamma)
  self:set_optimizer(optimizer)
  self.gamma = list.number('ExponentialLR', 'gamma', gamma, 0)
  self:start(optimizer)
end

function ExponentialLR:lr_at(_, base, t) return base * self.gamma ^ t end

--- LambdaLR(optimizer, fn): lr = base fn(t). fn may be an array of functions, one for each group.
local LambdaLR = class('LambdaLR', Schedule)

function LambdaLR:__init(optimizer, fn)
  self:set_optimizer(optimizer)
  self.functions = {}
  local groups = #optimizer.param_groups
  if type(fn) == 'table' and #fn ~= groups then
    native.fail('LambdaLR: fn: expected one function or %d, one for each parameter group, got %d', groups, #fn)
  end
  for i = 1, groups do
    local f = type(fn) == 'table' and fn[i] or fn
    self.functions[i] = native.callable('LambdaLR', 'fn', f)
  end
  self:start(optimizer)
end

function LambdaLR:lr_at(i, base, t)
  return base * list.number('LambdaLR', 'the result of fn', (self.functions[i] or self.functions[#self.functions])(t))
end

return { StepLR = StepLR, MultiStepLR = MultiStepLR, ExponentialLR = ExponentialLR, LambdaLR = LambdaLR }
