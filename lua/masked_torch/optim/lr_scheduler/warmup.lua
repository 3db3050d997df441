local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Schedule = require('masked_torch.optim.lr_scheduler.schedule').Schedule

--- LinearWarmup(optimizer or schedule, steps, {start_factor = 1 / (steps + 1)}): the rate times
-- start_factor + (1 - start_factor) t / steps until t = steps; from there on what the schedule gives for t - steps, or for an
-- optimiser its own rate. With the default the rate of step t is (t + 1) / (steps + 1) of the full one. The schedule inside is not
-- stepped by itself any more.
--
--     LinearWarmup(CosineAnnealingLR(opt, 900), 100)
local LinearWarmup = class('LinearWarmup', Schedule)

function LinearWarmup:__init(inner, steps, opts)
  local op = 'LinearWarmup'
  self.steps = native.integer(op, 'steps', steps, 0)
  opts = options.parse(op, { start_factor = 1 / (self.steps + 1) }, opts)
  self.start_factor = list.number(op, 'start_factor', opts.start_factor, 0)
  local base_lrs
  if type(inner) == 'table' and inner.lr_at then
    if inner.whole then native.fail('%s: %s has its own beginning; use it alone', op, getmetatable(inner).__name) end
    self.inner, base_lrs, inner = inner, inner.base_lrs, inner.optimizer
  end
  self:set_optimizer(inner)
  if base_lrs then
    for i, group in ipairs(inner.param_groups) do group.lr = base_lrs[i] or group.lr end
  end
  self:start(inner)
end

function LinearWarmup:lr_at(i, base, t)
  local factor = t < self.steps and self.start_factor + (1 - self.start_factor) * (t / self.steps) or 1
  local rate = self.inner and self.inner:lr_at(i, base, math.max(0, t - self.steps)) or base
  return rate * factor
end

return { LinearWarmup = LinearWarmup }
