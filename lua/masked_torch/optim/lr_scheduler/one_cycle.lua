local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Schedule = require('masked_torch.optim.lr_scheduler.schedule').Schedule

local fail = native.fail

--- OneCycleLR(optimizer, max_lr, {total_steps =, or epochs = and steps_per_epoch =; pct_start = 0.3, anneal_strategy = 'cos' or 'linear',
-- cycle_momentum = true, base_momentum = 0.85, max_momentum = 0.95, div_factor = 25, final_div_factor = 1e4, three_phase = false}): from
-- max_lr / div_factor up to max_lr at t = pct_start total_steps - 1, then down to max_lr / (div_factor final_div_factor) at
-- t = total_steps - 1; with three_phase first back to the beginning, in as many steps (Smith, Topin, 2018). The momentum (SGD,
-- RMSprop), or betas[1], runs the other way. One step after the end is allowed, as a loop makes it, and changes nothing.
local OneCycleLR = class('OneCycleLR', Schedule)
OneCycleLR.whole = true

local anneal = {
  cos = function(from, to, pct) return to + (from - to) / 2 * (1 + math.cos(math.pi * pct)) end,
  linear = function(from, to, pct) return (to - from) * pct + from end,
}

local function total_of(op, opts)
  if opts.total_steps ~= nil then return native.integer(op, 'total_steps', opts.total_steps, 1) end
  if opts.epochs == nil or opts.steps_per_epoch == nil then
    fail('%s: expected total_steps, or epochs and steps_per_epoch', op)
  end
  return native.integer(op, 'epochs', opts.epochs, 1) * native.integer(op, 'steps_per_epoch', opts.steps_per_epoch, 1)
end

local defaults = { total_steps = options.none, epochs = options.none, steps_per_epoch = options.none, pct_start = 0.3,
  anneal_strategy = 'cos', cycle_momentum = true, base_momentum = 0.85, max_momentum = 0.95, div_factor = 25, final_div_factor = 1e4,
  three_phase = false }

function OneCycleLR:__init(optimizer, max_lr, opts)
  local op = 'OneCycleLR'
  self:set_optimizer(optimizer)
  opts = options.parse(op, defaults, opts)
  self.total_steps = total_of(op, opts)
  self.anneal = anneal[options.choice(op, 'anneal_strategy', opts.anneal_strategy, { 'cos', 'linear' })]
  local pct = list.number(op, 'pct_start', opts.pct_start, 0)
  if pct > 1 then fail('%s: pct_start: expected a number from 0 to 1, got %g', op, pct) end
  if opts.div_factor <= 0 or opts.final_div_factor <= 0 then
    fail('%s: div_factor, final_div_factor: expected numbers above 0, got %g, %g', op, opts.div_factor, opts.final_div_factor)
  end
  self.max_lrs = self:per_group('max_lr', max_lr, 0)
  self.div_factor, self.final_div_factor = opts.div_factor, opts.final_div_factor
  self.base_momentum, self.max_momentum = opts.base_momentum, opts.max_momentum
  self.cycle_momentum = opts.cycle_momentum
  if self.cycle_momentum then
    list.number(op, 'base_momentum', opts.base_momentum, 0, 1)
    list.number(op, 'max_momentum', opts.max_momentum, 0, 1)
    for _, group in ipairs(optimizer.param_groups) do
      if group.momentum == nil and group.betas == nil then
        fail('%s: cycle_momentum: the optimiser has no momentum; pass {cycle_momentum = false}', op)
      end
    end
  end
  -- Each phase: its last step, and from where to where; 1 the beginning, 2 the top, 3 the end.
  local total = self.total_steps
  if opts.three_phase then
    self.phases = { { pct * total - 1, 1, 2 }, { 2 * pct * total - 2, 2, 1 }, { total - 1, 1, 3 } }
  else
    self.phases = { { pct * total - 1, 1, 2 }, { total - 1, 2, 3 } }
  end
  self:start(optimizer)
end

-- The phase that step t lies in and how much of it has passed.
local function phase_of(self, t)
  local from = 0
  for i, phase in ipairs(self.phases) do
    if t <= phase[1] or i == #self.phases then
      local length = phase[1] - from
      return phase, length > 0 and math.min(1, (t - from) / length) or 1
    end
    from = phase[1]
  end
end

function OneCycleLR:lr_at(i, _, t)
  local top = self.max_lrs[i] or self.max_lrs[#self.max_lrs]
  local first = top / self.div_factor
  local rates = { first, top, first / self.final_div_factor }
  local phase, pct = phase_of(self, t)
  return self.anneal(rates[phase[2]], rates[phase[3]], pct)
end

function OneCycleLR:apply()
  if self.last_step > self.total_steps then
    fail('OneCycleLR: step %d: the cycle has %d steps', self.last_step, self.total_steps)
  end
  Schedule.apply(self)
  if not self.cycle_momentum then return end
  local momenta = { self.max_momentum, self.base_momentum, self.max_momentum }
  local phase, pct = phase_of(self, self.last_step)
  local momentum = self.anneal(momenta[phase[2]], momenta[phase[3]], pct)
  for _, group in ipairs(self.optimizer.param_groups) do
    if group.betas then group.betas[1] = momentum else group.momentum = momentum end
  end
end

return { OneCycleLR = OneCycleLR }
