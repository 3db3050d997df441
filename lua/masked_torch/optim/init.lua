--- optim: optimisers, limits for gradients, averages of weights, learning rate schedules.
--
-- Classes: SGD, Adam, AdamW, RMSprop, Adan (all of them an Optimizer), EMA; lr_scheduler holds the schedules.
-- Functions: clip_grad_norm_, clip_grad_value_, grad_norm, has_non_finite.
--
-- @usage
-- local net, x, target = nn.Linear(4, 3), torch.randn(8, 4), torch.randint(1, 3, { 8 })
-- local opt = torch.optim.AdamW(net:parameters(), { lr = 1e-2, weight_decay = 0.01 })
-- local schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 100)
-- for step = 1, 100 do
--   opt:zero_grad()
--   F.cross_entropy(net(x), target):backward()
--   torch.optim.clip_grad_norm_(net:parameters(), 1)
--   opt:step()
--   schedule:step()
-- end

local namespace = require 'masked_torch.namespace'

local files = { Optimizer = 'optimizer', SGD = 'sgd', Adam = 'adam', AdamW = 'adam', RMSprop = 'rmsprop', Adan = 'adan', EMA = 'ema',
  clip_grad_norm_ = 'clip', clip_grad_value_ = 'clip', grad_norm = 'clip', has_non_finite = 'clip' }

return namespace('optim', files, { 'lr_scheduler' })
