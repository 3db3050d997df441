--- lr_scheduler: learning rates that change with the step.
--
-- A schedule is made from an optimiser, sets the rate of step 0 at once, and schedule:step() moves on by one. The rate is a function
-- of the number of steps alone (ReduceLROnPlateau apart), so it may be entered at any point: load_state_dict sets it again.
-- Classes: StepLR, MultiStepLR, ExponentialLR, LambdaLR, CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearWarmup, OneCycleLR,
-- ReduceLROnPlateau; Schedule is their base.

local files = { Schedule = 'schedule', StepLR = 'decay', MultiStepLR = 'decay', ExponentialLR = 'decay', LambdaLR = 'decay',
  CosineAnnealingLR = 'cosine', CosineAnnealingWarmRestarts = 'cosine', LinearWarmup = 'warmup', OneCycleLR = 'one_cycle',
  ReduceLROnPlateau = 'plateau' }

return setmetatable({}, { __index = function(t, key)
  if not files[key] then return nil end
  local value = require('masked_torch.optim.lr_scheduler.' .. files[key])[key]
  rawset(t, key, value)
  return value
end })
