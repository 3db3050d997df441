local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local list = require 'masked_torch.optim.list'
local Optimizer = require('masked_torch.optim.optimizer').Optimizer

--- Adan(parameters, {lr = 1e-3, betas = {0.98, 0.92, 0.99}, eps = 1e-8, weight_decay = 0, no_prox = false, maximize = false}): adaptive
-- Nesterov momentum. With d = g - the gradient before (0 in the first step): m averages g with beta1, k averages d with beta2,
-- v averages (g + beta2 d)^2 with beta3, all bias corrected; p = (p - lr (m + beta2 k) / (sqrt(v) + eps)) / (1 + lr weight_decay), or with
-- no_prox p (1 - lr weight_decay) - the same (Xie, Zhou, Li, Lin, Yan, 2022; betas as in the authors' program).
local Adan = class('Adan', Optimizer)

Adan.defaults = { lr = 1e-3, betas = options.any{ 0.98, 0.92, 0.99 }, eps = 1e-8, weight_decay = 0, no_prox = false, maximize = false }
Adan.known_state = { exp_avg = true, exp_avg_diff = true, exp_avg_sq = true, neg_pre_grad = true }

local names = { 'exp_avg', 'exp_avg_diff', 'exp_avg_sq', 'neg_pre_grad' }

function Adan.check_options(op, group)
  list.number(op, 'lr', group.lr, 0)
  list.number(op, 'eps', group.eps, 0)
  list.number(op, 'weight_decay', group.weight_decay, 0)
  Optimizer.check_betas(op, group.betas, 3)
end

function Adan.state_names() return names end

function Adan.update(K, group, count, lists, step)
  local betas = group.betas
  native.check(K.mt_optim_adan(count, lists.parameters, lists.gradients, lists.exp_avg, lists.exp_avg_diff, lists.exp_avg_sq,
    lists.neg_pre_grad, step, group.lr, betas[1], betas[2], betas[3], group.eps, group.weight_decay, group.no_prox and 1 or 0,
    group.maximize and 1 or 0))
end

return { Adan = Adan }
