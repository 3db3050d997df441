--- train: what a training run needs around its loop. Each part works alone; the loop stays the script's own.
--
--     train.progress, train.bar    progress bars            train.log           lines that do not break the bars
--     train.means                  running means            train.epoch_lines   the two log lines of an epoch
--     train.checkpoint             save, load, last, best   train.guard         Ctrl-C finishes the step, saves, ends
--     train.tensorboard            event files              train.csv, train.jsonl   tables of numbers
--     train.steps                  for step, batch in ...   train.check_loss    a loss that is not finite stops the run
--                                                           train.watch         the same, without waiting for a device
--     train.count                  parameters and MACs      train.manifest      what ran where, as JSON
--     train.profile                where the time goes (also torch.profile)
--     train.device                 where --device says to run             train.autocast      how exactly, as --precision says
--     train.command                how to run this again    train.quit_on_interrupt   Ctrl-C outside a guard

local namespace = require 'masked_torch.namespace'

local functions = {
  progress = 'progress', bar = 'progress', log = 'log', logger = 'log', means = 'means', epoch_lines = 'means',
  guard = 'guard', interrupt = 'guard', quit_on_interrupt = 'guard', command = 'guard',
  csv = 'table_log', jsonl = 'table_log', steps = 'loop', check_loss = 'loop', watch = 'loop',
  count = 'count', device = 'device', autocast = 'device', manifest = 'manifest', profile = 'profile',
}
return namespace('train', functions, { 'checkpoint', 'tensorboard', 'terminal' })
