--- lr_scheduler: learning rates that change with the step.
--
-- A schedule is made from an optimiser, sets the rate of step 0 at once, and schedule:step() moves on by one. The rate is a function
-- of the number of steps alone (ReduceLROnPlateau apart), so it may be entered at any point: load_state_dict sets it again.
-- Classes: StepLR, MultiStepLR, ExponentialLR, LambdaLR, CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearWarmup, OneCycleLR,
-- ReduceLROnPlateau; Schedule is their base.

local namespace = require 'masked_torch.namespace'

local files = { Schedule = 'schedule', StepLR = 'decay', MultiStepLR = 'decay', ExponentialLR = 'decay', LambdaLR = 'decay',
  CosineAnnealingLR = 'cosine', CosineAnnealingWarmRestarts = 'cosine', LinearWarmup = 'warmup', OneCycleLR = 'one_cycle',
  ReduceLROnPlateau = 'plateau' }

return namespace('optim.lr_scheduler', files, {})
