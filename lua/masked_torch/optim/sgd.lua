local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local list = require 'masked_torch.optim.list'
local Optimizer = require('masked_torch.optim.optimizer').Optimizer

--- SGD(parameters, {lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false, maximize = false}): stochastic gradient
-- descent. g += weight_decay p;  b = g in the first step, then momentum b + (1 - dampening) g;  p -= lr b, or with nesterov
-- p -= lr (g + momentum b) (Sutskever, Martens, Dahl, Hinton, 2013; in PyTorch's form).
local SGD = class('SGD', Optimizer)

SGD.defaults = { lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = false, maximize = false }
SGD.known_state = { momentum_buffer = true }
SGD.restart = 'momentum_buffer'

function SGD.check_options(op, group)
  list.number(op, 'lr', group.lr, 0)
  list.number(op, 'momentum', group.momentum, 0)
  list.number(op, 'dampening', group.dampening)
  list.number(op, 'weight_decay', group.weight_decay, 0)
  if group.nesterov and (group.momentum == 0 or group.dampening ~= 0) then
    native.fail('%s: nesterov: needs a momentum above 0 and dampening 0', op)
  end
end

function SGD.state_names(group) return group.momentum ~= 0 and { 'momentum_buffer' } or {} end

function SGD.update(K, group, count, lists, step)
  native.check(K.mt_optim_sgd(count, lists.parameters, lists.gradients, lists.momentum_buffer, step, group.lr, group.momentum,
    group.dampening, group.weight_decay, group.nesterov and 1 or 0, group.maximize and 1 or 0))
end

return { SGD = SGD }
