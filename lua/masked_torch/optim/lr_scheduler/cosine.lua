--- cosine: CosineAnnealingLR and CosineAnnealingWarmRestarts (Loshchilov, Hutter, 2017).

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Schedule = require('masked_torch.optim.lr_scheduler.schedule').Schedule

local function half_wave(low, high, t, period) return low + (high - low) * (1 + math.cos(math.pi * t / period)) / 2 end

--- CosineAnnealingLR(optimizer, T_max, {eta_min = 0}): lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2. Beyond T_max it
-- rises again, as in PyTorch.
local CosineAnnealingLR = class('CosineAnnealingLR', Schedule)

function CosineAnnealingLR:__init(optimizer, T_max, opts)
  self:set_optimizer(optimizer)
  opts = options.parse('CosineAnnealingLR', { eta_min = 0 }, opts)
  self.T_max = native.integer('CosineAnnealingLR', 'T_max', T_max, 1)
  self.eta_min = list.number('CosineAnnealingLR', 'eta_min', opts.eta_min, 0)
  self:start(optimizer)
end

function CosineAnnealingLR:lr_at(_, base, t) return half_wave(self.eta_min, base, t, self.T_max) end

--- CosineAnnealingWarmRestarts(optimizer, T_0, {T_mult = 1, eta_min = 0}): the half wave again and again, each T_mult times as long
-- as the one before.
local CosineAnnealingWarmRestarts = class('CosineAnnealingWarmRestarts', Schedule)

function CosineAnnealingWarmRestarts:__init(optimizer, T_0, opts)
  local op = 'CosineAnnealingWarmRestarts'
  self:set_optimizer(optimizer)
  opts = options.parse(op, { T_mult = 1, eta_min = 0 }, opts)
  self.T_0 = native.integer(op, 'T_0', T_0, 1)
  self.T_mult = native.integer(op, 'T_mult', opts.T_mult, 1)
  self.eta_min = list.number(op, 'eta_min', opts.eta_min, 0)
  self:start(optimizer)
end

function CosineAnnealingWarmRestarts:lr_at(_, base, t)
  local period = self.T_0
  if self.T_mult == 1 then
    t = t % period
  else
    while t >= period do
      t = t - period
      period = period * self.T_mult
    end
  end
  return half_wave(self.eta_min, base, t, period)
end

return { CosineAnnealingLR = CosineAnnealingLR, CosineAnnealingWarmRestarts = CosineAnnealingWarmRestarts }
