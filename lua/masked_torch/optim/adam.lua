local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Optimizer = require('masked_torch.optim.optimizer').Optimizer

--- Adam(parameters, {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0, amsgrad = false, maximize = false}):
-- g += weight_decay p;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p -= lr mc / (sqrt(vc) + eps) with the bias
-- corrected mc = m / (1 - beta1^t), vc = v / (1 - beta2^t); amsgrad: the largest v so far in place of v
-- (Kingma, Ba, 2015; Reddi, Kale, Kumar, 2018).
local Adam = class('Adam', Optimizer)

Adam.defaults = { lr = 1e-3, betas = options.any{ 0.9, 0.999 }, eps = 1e-8, weight_decay = 0, amsgrad = false, maximize = false }
Adam.known_state = { exp_avg = true, exp_avg_sq = true, max_exp_avg_sq = true }

function Adam.check_options(op, group)
  list.number(op, 'lr', group.lr, 0)
  list.number(op, 'eps', group.eps, 0)
  list.number(op, 'weight_decay', group.weight_decay, 0)
  Optimizer.check_betas(op, group.betas, 2)
end

function Adam.state_names(group)
  return group.amsgrad and { 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq' } or { 'exp_avg', 'exp_avg_sq' }
end

local function update(decoupled)
  return function(K, group, count, lists, step)
    native.check(K.mt_optim_adam(count, lists.parameters, lists.gradients, lists.exp_avg, lists.exp_avg_sq, lists.max_exp_avg_sq, step,
      group.lr, group.betas[1], group.betas[2], group.eps, group.weight_decay, decoupled, group.maximize and 1 or 0))
  end
end

Adam.update = update(0)

--- AdamW(parameters, {lr = 1e-3, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0.01, amsgrad = false, maximize = false}): Adam whose
-- decay is apart from the gradient: p *= 1 - lr weight_decay (Loshchilov, Hutter, 2019).
local AdamW = class('AdamW', Adam)

AdamW.defaults = { lr = 1e-3, betas = options.any{ 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.01, amsgrad = false, maximize = false }
AdamW.update = update(1)

return { Adam = Adam, AdamW = AdamW }
