local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local list = require 'masked_torch.optim.list'
local Optimizer = require('masked_torch.optim.optimizer').Optimizer

--- RMSprop(parameters, {lr = 0.01, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0, centered = false, maximize = false}):
-- g += weight_decay p;  s = alpha s + (1 - alpha) g^2;  p -= lr g / (sqrt(s) + eps). centered: the variance s - m^2 with
-- m = alpha m + (1 - alpha) g in place of s; momentum: b = momentum b + g / (...), p -= lr b (Hinton, 2012; Graves, 2013).
local RMSprop = class('RMSprop', Optimizer)

RMSprop.defaults = { lr = 0.01, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0, centered = false, maximize = false }
RMSprop.known_state = { square_avg = true, grad_avg = true, momentum_buffer = true }

function RMSprop.check_options(op, group)
  for _, name in ipairs{ 'lr', 'alpha', 'eps', 'weight_decay', 'momentum' } do list.number(op, name, group[name], 0) end
end

function RMSprop.state_names(group)
  local names = { 'square_avg' }
  if group.centered then names[#names + 1] = 'grad_avg' end
  if group.momentum ~= 0 then names[#names + 1] = 'momentum_buffer' end
  return names
end

function RMSprop.update(K, group, count, lists)
  native.check(K.mt_optim_rmsprop(count, lists.parameters, lists.gradients, lists.square_avg, lists.grad_avg, lists.momentum_buffer,
    group.lr, group.alpha, group.eps, group.weight_decay, group.momentum, group.maximize and 1 or 0))
end

return { RMSprop = RMSprop }
