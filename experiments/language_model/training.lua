--- training: models, batches, the loop, checkpoints.

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local Causal = require 'language_model.causal'
local Window = require 'language_model.window'
local data, train, F = torch.data, torch.train, torch.nn.functional

local training = {}

--- training.config(options, tokenizer, [checksum]): what a checkpoint must know to build the same model, and to go on with the same
-- run. checksum: of the text.
function training.config(o, tokenizer, checksum)
  local config = { checksum = checksum, tokenizer = o.tokenizer == 'bytes' and 'bytes' or tokenizer:serialize(),
    vocabulary = tokenizer.vocab_size }
  for _, key in ipairs{ 'model', 'context', 'shortest', 'width', 'depth', 'kernel', 'dilations', 'dropout', 'tied', 'scale', 'steps',
    'batch', 'lr', 'warmup', 'weight_decay', 'clip', 'valid_every', 'save_every', 'valid_context', 'valid_batches', 'seed', 'data',
    'dataset', 'precision' } do
    config[key] = o[key]
  end
  return config
end

--- training.build(config) -> model, with weights from the default generator.
function training.build(c)
  if c.model == 'window' then
    return Window{ vocabulary = c.vocabulary, depth = c.depth, scale = c.scale, width = c.width,
      context = math.max(1024, c.context + 2 ^ c.depth) }
  end
  return Causal{ vocabulary = c.vocabulary, width = c.width, depth = c.depth, kernel = c.kernel, dilations = c.dilations,
    dropout = c.dropout or 0, tied = c.tied or false, context = c.context }
end

-- ---- batches -----------------------------------------------------------------------------------------------------------

-- Windows are padded on the left: the masks of all batches differ. The tokens lie on the device, and batches are made there.
local function train_loader(c, tokens, device)
  local collate = data.collate.sequences{ pad = 'left', multiple = c.model == 'window' and 2 ^ c.depth or 1 }
  local windows
  if c.model == 'window' then
    windows = data.SlidingWindowDataset(tokens, c.shortest, c.context, { lengths = 'random' })
  else
    windows = data.NextTokenDataset(tokens, c.context, { lengths = 'random', shortest = c.shortest })
  end
  return data.Loader(windows:to(device), { batch_size = math.min(c.batch, windows:length()), shuffle = true, drop_last = true,
    seed = c.seed, collate = collate })
end

-- causal: whole windows side by side; window: full contexts, the same random ones every time.
local function valid_loader(c, tokens, device)
  if c.model == 'window' then
    local windows = data.SlidingWindowDataset(tokens, c.context, c.context)
    return data.Loader(windows:to(device), { batch_size = math.min(c.batch, windows:length()), shuffle = true, drop_last = true,
      collate = data.collate.sequences{ pad = 'left', multiple = 2 ^ c.depth } })
  end
  local length = math.min(c.valid_context, tokens:length() - 1)
  return data.Loader(data.NextTokenDataset(tokens, length, { stride = length }):to(device), { batch_size = 8 })
end

-- The mean loss of a batch in nats per token, how many tokens it is of, and of how many the model's first choice is right (a tensor).
local function loss_of(model, batch)
  if batch.target:dim() == 1 then
    -- The logits, 200 MB with the vocabulary of GPT-2, are nobody else's: their gradient takes their place.
    local loss, hits = F.cross_entropy(model(batch.sequence, batch.lengths), batch.target, { metric = true, inplace = true })
    return loss, batch.target:numel(), hits
  end
  local mask = torch.mask.wrap(batch.mask)
  if mask:all_valid() then mask = nil end
  local logits = model(batch.sequence, mask)
  local tokens = mask and mask:coverage() * batch.target:numel() or batch.target:numel()
  local loss, hits = F.cross_entropy(logits:transpose(2, 3), batch.target, { mask = mask, metric = true })
  return loss, tokens, hits
end
training.loss_of = loss_of

--- training.validate(model, loader, [most], [stop], [wrap]) -> nats per token over the loader's batches, at most so many of them; the same
-- ones every time. nil when stop() is true after a batch. wrap: of train.autocast.
function training.validate(model, loader, most, stop, wrap)
  wrap = wrap or train.autocast()
  model:eval()
  local total, count, batches, stopped = 0, 0, 0, false
  local start = loader:state_dict()
  torch.no_grad(function()
    for batch in loader do
      local loss, tokens = wrap(loss_of, model, batch)
      total, count, batches = total + loss:item() * tokens, count + tokens, batches + 1
      if batches == most then break end
      stopped = stop and stop()
      if stopped then break end
    end
  end)
  loader:load_state_dict(start)
  model:train()
  return not stopped and total / count or nil
end

-- ---- a run ---------------------------------------------------------------------------------------------------------------

local function schedule(c)
  return function(step)
    if step < c.warmup then return (step + 1) / c.warmup end
    local done = math.min(1, (step - c.warmup) / math.max(1, c.steps - c.warmup))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
  end
end

--- training.new(config, corpus, [device = 'cpu']) -> everything a run consists of. Checkpoints hold the objects of run.state. The
-- first weights are the same on every device, and a checkpoint may go on on another.
function training.new(c, corpus, device)
  device = device or 'cpu'
  if corpus.tokenizer.vocab_size ~= c.vocabulary then
    native.fail('language_model: the checkpoint has a vocabulary of %d tokens, the tokenizer %d', c.vocabulary,
      corpus.tokenizer.vocab_size)
  end
  if c.checksum ~= corpus.checksum then
    native.fail('language_model: %s is not the text that the run began with (its checksum is %s, now it is %s)', corpus.name,
      tostring(c.checksum), tostring(corpus.checksum))
  end
  local model = training.build(c):to{ device = device }
  local parameters = {}
  for _, p in ipairs(model:parameters()) do
    if p.requires_grad then parameters[#parameters + 1] = p end
  end
  local Optimizer = c.model == 'window' and torch.optim.Adam or torch.optim.AdamW
  local optimizer = Optimizer(parameters, { lr = c.lr, weight_decay = c.weight_decay,
    betas = { 0.9, c.model == 'window' and 0.999 or 0.99 } })
  local run = { config = c, model = model, parameters = parameters, step = 0, best = math.huge, seconds = 0, validated = 0,
    valid = valid_loader(c, corpus.valid, device), watch = train.watch(), autocast = train.autocast(c.precision, device) }
  run.state = { model = model, optimizer = optimizer, scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(c)),
    loader = train_loader(c, corpus.train, device), means = train.means() }
  return run
end

--- What a checkpoint of the run holds.
function training.fields(run)
  local fields = { step = run.step, best = run.best, seconds = run.seconds, validated = run.validated, config = run.config }
  for key, object in pairs(run.state) do fields[key] = object end
  return fields
end

--- training.step(run, batch, folder) -> loss, percentage of tokens foreseen. A loss or a gradient that is NaN or infinite: an error,
-- before any weight has changed. On a device both results stay there and the error comes some steps later, so that nobody waits.
function training.step(run, batch, folder)
  local optimizer = run.state.optimizer
  optimizer:zero_grad()
  local loss, tokens, hits = run.autocast(loss_of, run.model, batch)
  run.watch.keeper = folder
  local value = run.watch:check(loss:detach(), run.step + 1)
  loss:backward()
  local clip = run.config.clip > 0 and run.config.clip or math.huge
  local norm = torch.optim.clip_grad_norm_(run.parameters, clip, { as_tensor = loss.device ~= 'cpu' })
  run.watch:check(norm, run.step + 1, "gradient's norm")
  optimizer:step()
  run.state.scheduler:step()
  run.step = run.step + 1
  if loss.device == 'cpu' then return value, 100 * hits:item() / tokens end
  return value, hits:double() * 100 / tokens
end

--- training.profile(run) -> where the time of a training step goes (torch.profile). The run is not good for training afterwards.
function training.profile(run)
  run.model:train()
  local loader = run.state.loader
  return torch.profile(function() training.step(run, loader() or loader()) end)
end

--- training.run(run, {folder =, log =, bars =, csv =, board =, save_every =, resume = command}): trains to config.steps, validates,
-- saves. Ctrl-C finishes the step (it gives a validation up, which is made good when the run goes on), saves and ends the program.
function training.run(run, o)
  local c, last_time, means = run.config, os.clock(), run.state.means
  local wall = require('masked_torch.train.terminal').now
  local started, before = wall(), run.seconds
  local bar = o.bars:add('Train', c.steps, { unit = 'step', initial = run.step })
  local function save(is_best)
    run.watch:flush()
    run.seconds = before + wall() - started
    o.folder:save(training.fields(run), is_best)
    return o.folder:path 'last'
  end
  local function validate(guard)
    local valid = training.validate(run.model, run.valid, c.valid_batches, function() return guard:pending() ~= nil end,
      run.autocast)
    if not valid then return false end
    run.validated = run.step
    local is_best = valid < run.best
    if is_best then run.best = valid end
    run.seconds = before + wall() - started
    local row = { step = run.step, lr = run.state.optimizer.param_groups[1].lr, train = means:get('loss'), valid = valid,
      seconds = run.seconds, cpu_seconds = os.clock() - last_time }
    o.csv:write(row)
    o.board:scalars('loss', { train = row.train, valid = valid }, run.step)
    o.board:scalar('lr', row.lr, run.step)
    o.log:info('step %d: train %.4f, valid %.4f nats per token%s, %.0f s (%.0f s of processor time in this process)', run.step, row.train,
      valid, is_best and ' (best)' or '', row.seconds, row.cpu_seconds)
    means:reset()
    return is_best
  end
  train.interrupt(function(guard)
    local loader = run.state.loader
    local function due() return run.validated < run.step and (run.step % c.valid_every == 0 or run.step >= c.steps) end
    local function finish_step()
      local at_end, is_best = run.step >= c.steps, false
      if due() then is_best = validate(guard) end
      if is_best or run.step % o.save_every == 0 or at_end then save(is_best) end
      guard:poll(run.step)
      return at_end
    end
    if due() then finish_step() end
    while run.step < c.steps do
      for batch in loader do
        local loss, accuracy = training.step(run, batch, o.folder)
        means:add{ loss = loss, accuracy = accuracy }
        bar:update(1, means)
        if finish_step() then break end
      end
    end
  end, { save = save, resume = o.resume, log = o.log })
  bar:close()
end

return training
