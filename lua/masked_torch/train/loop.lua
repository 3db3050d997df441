--- loop: the iterator of a training loop, and what happens when the loss is no number. The loop itself stays the script's.
--
-- @usage
-- local batches, step = { { 1, 2 }, { 3 } }, 0
-- for step, batch, epoch in torch.train.steps{ loader = batches, first = 3, last = 5 } do
--   print(step, #batch, epoch)
-- end
-- --> 3	2	1
-- --> 4	1	1
-- --> 5	2	2

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Pending = require 'masked_torch.train.pending'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail

-- The batches of one epoch: loader() or loader:iterate() gives an iterator, a table is a list of batches.
local function begin_epoch(loader)
  if type(loader) == 'function' then return loader() end
  if type(loader.iterate) == 'function' then return loader:iterate() end
  local meta = getmetatable(loader)
  if type(meta) == 'table' and meta.__call then return function() return loader() end end
  local i = 0
  return function()
    i = i + 1
    return loader[i]
  end
end

local defaults = { loader = options.any(nil), first = options.any(1), last = options.any(math.huge), epoch = options.any(nil),
  epochs = options.any(math.huge), guard = options.any(nil), bar = options.any(nil) }

--- for step, batch, epoch in torch.train.steps{loader =, ...} do: goes through the loader again and again.
-- loader: an object with iterate(), which returns an iterator over the batches of one epoch (continued in the middle where the
-- object was restored in the middle), a function that returns such an iterator, an object that is an iterator itself (called
-- until it returns nil, then called for the next epoch), or a list of batches. first, last: the numbers of the first and
-- the last step (1, no end); epoch, epochs: the number of the first epoch (loader.epoch where it has one, or 1) and of the
-- last (no end). After each step, before the next batch is taken, bar:update(1) and guard:poll(step).
-- An epoch without a batch is an error: the loop would never end.
local function steps(opts)
  opts = options.parse('steps', defaults, opts)
  local loader, step, epoch = opts.loader, native.integer('steps', 'first', opts.first) - 1, opts.epoch
  if epoch == nil then epoch = type(loader) == 'table' and type(loader.epoch) == 'number' and loader.epoch or 1 end
  native.integer('steps', 'epoch', epoch)
  if type(loader) ~= 'function' and (type(loader) ~= 'table' or Tensor.is_tensor(loader)) then
    fail('steps: loader: expected a loader, a function or a list of batches, got %s', type(loader))
  end
  native.number('steps', 'last', opts.last)
  native.number('steps', 'epochs', opts.epochs)
  if epoch > opts.epochs or step >= opts.last then return function() return nil end end
  local next_batch, started, in_epoch = nil, false, 0
  return function()
    if started then
      if opts.bar then opts.bar:update(1) end
      if opts.guard then opts.guard:poll(step) end
    end
    if step >= opts.last then return nil end
    next_batch = next_batch or begin_epoch(loader)
    local batch = next_batch()
    while batch == nil do
      -- A restored loader may stand at the very end of its epoch.
      if in_epoch == 0 and started then fail('steps: loader: epoch %d has no batch', epoch) end
      if epoch >= opts.epochs then return nil end
      epoch, in_epoch, started = epoch + 1, 0, true
      next_batch = begin_epoch(loader)
      batch = next_batch()
    end
    started, step, in_epoch = true, step + 1, in_epoch + 1
    return step, batch, epoch
  end
end

--- torch.train.check_loss(loss, step, [keeper], [what = 'loss']): the loss (a number or a tensor of one element) as a number; NaN
-- or infinite is an error that says the step and, given a checkpoint folder or a path, what to go on from. Call it before the
-- optimiser's step, so that what is saved stays good. A finite loss may have a gradient that is not: check its norm as well
-- (what names it in the message).
local function check_loss(loss, step, keeper, what)
  local number = loss
  if Tensor.is_tensor(loss) then number = loss:item() end
  native.number('check_loss', 'loss', number)
  if number == number and math.abs(number) < math.huge then return number end
  local advice = ''
  if type(keeper) == 'string' then
    advice = '; the last good checkpoint is ' .. keeper
  elseif type(keeper) == 'table' and type(keeper.path) == 'function' and keeper:exists('last') then
    advice = '; the last good checkpoint is ' .. keeper:path('last')
  end
  local text = number ~= number and 'nan' or number > 0 and 'inf' or '-inf'
  fail('train: the %s is %s at step %s%s', what or 'loss', text, tostring(step), advice)
end

local Watch = class('Watch')

--- torch.train.watch([keeper], [{every = 16}]): check_loss for a loop that does not wait for a device. watch:check(loss, step, [what]):
-- a number, or a tensor on the CPU, is checked at once and returned as a number. A tensor on a device is returned as it is; what it
-- holds is read when `every` of them have come together, with the others, or at watch:flush(): the error comes later, but names the
-- step. The weights are still good then: an optimiser on a device changes nothing from the first bad gradient on.
function Watch:__init(keeper, opts)
  opts = options.parse('watch', { every = 16 }, opts)
  self.keeper = keeper
  self.pending = Pending(native.integer('watch', 'every', opts.every, 1), function(note, value)
    check_loss(value, note.step, self.keeper, note.what)
  end)
end

function Watch:check(loss, step, what)
  if not (Tensor.is_tensor(loss) and loss.device ~= 'cpu') then return (check_loss(loss, step, self.keeper, what)) end
  self.pending:add({ step = step, what = what }, loss)
  return loss
end

--- watch:flush(): reads and checks what has come so far.
function Watch:flush() self.pending:flush() end

return { steps = steps, check_loss = check_loss, watch = Watch }
