--- language_model: a convolutional language model, trained on contexts of every length.
--
--     luajit experiments/language_model.lua [train] [options]           --help lists them
--     luajit experiments/language_model.lua resume --out FOLDER         goes on with the run in FOLDER, to the same bits
--     luajit experiments/language_model.lua sample --out FOLDER --prompt 'The'
--     luajit experiments/language_model.lua visualise --out FOLDER      an animation of sampling, a grid of activations, a report
--     luajit experiments/language_model.lua profile                     parameters and multiplications per layer, time per operation
--     luajit experiments/language_model.lua --profile                   the time of training steps on the data, instead of training
--
-- causal: gated causal convolutions, a prediction at every position, sampled with a cache. window: masked_torch's published model,
-- one prediction per window. Both get windows of random length, padded on the left, with their masks. docs/language_model.md has
-- what to expect.

local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '../lua/?.lua;' .. here .. '../lua/?/init.lua;' .. here .. '?.lua;' .. package.path

local torch = require 'masked_torch'
local activation_grid = require 'language_model.activation_grid'
local animation = require 'language_model.animation'
local cli = require 'language_model.cli'
local corpus = require 'language_model.corpus'
local explain = require 'language_model.explain'
local report = require 'language_model.report'
local sampling = require 'language_model.sampling'
local training = require 'language_model.training'
local train, tokenizers = torch.train, torch.data.tokenizer

train.quit_on_interrupt()
local o = cli.parse(arg)
local folder

local function fail(...) error('language_model: ' .. string.format(...), 0) end

local function tokenizer_of(config)
  return config.tokenizer == 'bytes' and tokenizers.bytes() or tokenizers.deserialize(config.tokenizer, 'the checkpoint')
end

-- The content of a checkpoint of --out; what it says about the model wins over the command line.
local function saved(name)
  if not folder:exists(name) then
    fail('there is no %s; %s', folder:path(name), name == 'best' and folder:exists 'last' and
      'the run has not validated yet: --checkpoint last' or 'train first, or say where with --out')
  end
  local content = train.checkpoint.verify(folder:path(name))
  if type(content.config) ~= 'table' or not content.config.tokenizer then
    fail('%s: not a checkpoint of this script', folder:path(name))
  end
  return content
end

-- ---- train, resume -------------------------------------------------------------------------------------------------------

local function train_or_resume()
  local config, text
  local resumed = o.command == 'resume'
  if resumed then
    config = saved('last').config
    o.tokenizer, o.data, o.dataset = config.tokenizer, o.data or config.data, config.dataset
    o.context, o.model = config.context, config.model
    if not o.given.save_every then o.save_every = config.save_every or config.valid_every end
    text = corpus.load(o, tokenizer_of(config))
  else
    if not (o.overwrite or o.profile) and (folder:exists 'last' or folder:exists 'best') then
      fail('%s holds a run; go on with it: %s, or replace it: --overwrite', o.out, train.command('resume', '--out', o.out))
    end
    text = corpus.load(o)
    config = training.config(o, text.tokenizer, text.checksum)
  end
  local run = training.new(config, text, o.device)
  if o.profile then return print(training.profile(run)) end
  if resumed then
    local rest = folder:load('last', run.state)
    run.step, run.best, run.seconds, run.validated = rest.step, rest.best, rest.seconds, rest.validated or rest.step
    if run.validated >= config.steps then
      print(('the run in %s is finished: %d steps, best validation loss %.4f nats per token'):format(o.out, run.step, run.best))
      return
    end
  else
    for _, name in ipairs{ 'best.safetensors', 'best.txt', 'last.safetensors', 'log.txt', 'manifest.json', 'report.html',
      'contributions.gif', 'activations.png', 'activations.csv' } do
      os.remove(o.out .. '/' .. name)
    end
  end
  local bars = train.progress{ quiet = o.quiet }
  local log = train.logger{ bars = bars, file = o.out .. '/log.txt' }
  log:debug('%s', tostring(run.model))
  log:info('%s: %d tokens of %d kinds for training, %d for validation', text.name, text.train:length(), config.vocabulary,
    text.valid:length())
  log:info('%s: %d parameters; steps %d to %d', config.model, run.model:num_parameters(), run.step + 1, config.steps)
  train.manifest(o.out .. '/manifest.json', { seed = config.seed, options = config }, { resume = resumed and run.step or nil })
  -- Rows and events that a killed run wrote after its last checkpoint come again.
  local csv = train.csv(o.out .. '/curve.csv', { columns = { 'step', 'lr', 'train', 'valid', 'seconds', 'cpu_seconds' },
    resume = resumed and run.validated or nil })
  local board = train.tensorboard.writer(o.out, { resume = run.validated })
  training.run(run, { folder = folder, log = log, bars = bars, csv = csv, board = board, save_every = o.save_every,
    resume = train.command('resume', '--out', o.out, unpack(o.data and { '--data', o.data } or {})) })
  bars:close()
  log:info('best validation loss %.4f nats per token; %s', run.best, folder:path 'best')
  csv:close() board:close() log:close()
end

-- ---- sample --------------------------------------------------------------------------------------------------------------

local function load_model(name)
  local content = saved(name)
  local model = training.build(content.config)
  train.checkpoint.load(folder:path(name), { model = model })
  return model:to(o.device):eval(), content.config, tokenizer_of(content.config)
end

local function prompt_tokens(tokenizer, prompt)
  local tokens = tokenizer:encode_to_table(prompt)
  if #tokens == 0 then fail('--prompt is empty: there is nothing to go on from') end
  return tokens
end

-- How the command line says to sample.
local function choice(temperature, generator, config)
  return { temperature = temperature, top_k = o.top_k, top_p = o.top_p, min_p = o.min_p, floor = o.floor,
    repetition_penalty = o.repetition_penalty, tokens = o.tokens, generator = generator, context = config.context }
end

local function sample()
  local model, config, tokenizer = load_model(o.checkpoint)
  local generator = torch.Generator(o.seed)
  train.interrupt(function(guard)
    for _, prompt in ipairs(o.prompt) do
      local tokens = prompt_tokens(tokenizer, prompt)
      for _, temperature in ipairs(o.temperatures) do
        io.write(('temperature %.2f: %s'):format(temperature, prompt))
        local decoder = tokenizer:decoder()
        local options = choice(temperature, generator, config)
        options.cache = not o.no_cache
        function options.on_token(token)
          io.write(decoder:push(token))
          io.flush()
          if guard:pending() then
            io.write(decoder:finish(), '\n')
            guard:poll()
          end
        end
        sampling.generate(model, tokens, options)
        io.write(decoder:finish(), '\n\n')
      end
    end
  end)
end

-- ---- visualise -----------------------------------------------------------------------------------------------------------

-- The animation and the grid; returns the pictures that were made, and the first thing that went wrong: without giflib, say, the rest
-- is still made.
local function explain_steps(model, config, tokenizer)
  local written, problem = {}, nil
  if o.explain == 0 then return written end
  local temperature = o.temperatures[#o.temperatures]
  local options = choice(temperature, torch.Generator(o.seed), config)
  options.steps, options.given = o.explain, o.text ~= nil
  local steps, tokens = explain.run(model, o.text and tokenizer:encode_to_table(o.text) or prompt_tokens(tokenizer, o.prompt[#o.prompt]),
    options)
  local style = { tokenizer = tokenizer, text = tokens, delay = o.delay, caption = ('%s model, %s'):format(config.model,
    o.text and 'a given text' or ('sampled at temperature %g'):format(temperature)) }
  for _, picture in ipairs{ { 'contributions.gif', 'Contributions and activations, step by step', animation.save },
    { 'activations.png', 'Activations of each layer', activation_grid.save },
    { 'activations.csv', nil, activation_grid.save_table } } do
    local path = o.out .. '/' .. picture[1]
    local ok, message = pcall(picture[3], path, steps, style)
    if ok then
      print(path)
      written[#written + 1] = picture[2] and { title = picture[2], path = path }
    else
      problem = problem or message
    end
  end
  return written, problem
end

local function visualise()
  local model, config, tokenizer = load_model(o.checkpoint)
  local pictures, problem = explain_steps(model, config, tokenizer)
  local generator, samples = torch.Generator(o.seed), {}
  for _, temperature in ipairs(o.temperatures) do
    local tokens = sampling.generate(model, prompt_tokens(tokenizer, o.prompt[1]), choice(temperature, generator, config))
    samples[#samples + 1] = { ('temperature %.2f'):format(temperature), o.prompt[1] .. tokenizer:decode(tokens) }
  end
  local path = o.out .. '/report.html'
  report.write(path, { model = model, tokenizer = tokenizer, config = config, text = o.text or o.prompt[#o.prompt], samples = samples,
    pictures = pictures, curve = o.out .. '/curve.csv' })
  print(path)
  if problem then fail('%s (--explain 0 leaves the pictures out)', problem) end
end

-- ---- profile -------------------------------------------------------------------------------------------------------------

-- Needs no data: bytes at random, in batches as in training.
local function profile()
  local bytes = tokenizers.bytes()
  local config = training.config(o, bytes)
  local function tokens(n) return torch.data.Tokens(torch.randint(1, bytes.vocab_size, { n }, { dtype = 'int64' })) end
  local run = training.new(config, { tokenizer = bytes, train = tokens(4 * o.context * o.batch + 4), valid = tokens(2 * o.context + 2) },
    o.device)
  local counts = train.count(run.model:eval(), torch.randint(1, bytes.vocab_size, 1, o.context, { dtype = 'int64', device = o.device }))
  print(counts)
  print(('%d parameters in all: the embedding does not multiply and is not in the table'):format(counts.all_parameters))
  print(training.profile(run))
end

-- ---- ---------------------------------------------------------------------------------------------------------------------

local commands = { train = train_or_resume, resume = train_or_resume, sample = sample, visualise = visualise,
  profile = profile }
local ok, message = xpcall(function()
  folder = train.checkpoint.folder(o.out)
  torch.manual_seed(o.seed)
  commands[o.command]()
end, function(e) return type(e) == 'string' and e or debug.traceback(tostring(e)) end)
if not ok then
  -- A message of the library begins with the line of this script that called it: of no use to who runs it.
  message = message:gsub('^[^:\n]*:%d+: ', ''):gsub('{fetch = true}', '--fetch')
  io.stderr:write(message:find '^language_model: ' and '' or 'language_model: ', message, '\n')
  os.exit(1)
end
