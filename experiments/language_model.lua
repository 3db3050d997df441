--- language_model: a convolutional language model, trained on contexts of every length.
--
--     luajit experiments/language_model.lua [train] [options]           --help lists them
--     luajit experiments/language_model.lua resume --out FOLDER         goes on with the run in FOLDER, to the same bits
--     luajit experiments/language_model.lua sample --out FOLDER --prompt 'The'
--     luajit experiments/language_model.lua visualise --out FOLDER      a report as one HTML file
--     luajit experiments/language_model.lua profile                     parameters and multiplications per layer
--
-- causal: gated causal convolutions, a prediction at every position, sampled with a cache. window: masked_torch's published model,
-- one prediction per window. Both get windows of random length, padded on the left, with their masks. docs/language_model.md has
-- what to expect.

local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '../lua/?.lua;' .. here .. '../lua/?/init.lua;' .. here .. '?.lua;' .. package.path

local torch = require 'masked_torch'
local cli = require 'language_model.cli'
local corpus = require 'language_model.corpus'
local report = require 'language_model.report'
local sampling = require 'language_model.sampling'
local training = require 'language_model.training'
local train, tokenizers = torch.train, torch.data.tokenizer

local o = cli.parse(arg)
torch.manual_seed(o.seed)
local folder = train.checkpoint.folder(o.out)

local function tokenizer_of(config)
  return config.tokenizer == 'bytes' and tokenizers.bytes() or tokenizers.deserialize(config.tokenizer, 'the checkpoint')
end

-- The content of a checkpoint of --out; what it says about the model wins over the command line.
local function saved(name)
  if not folder:exists(name) then
    error(('language_model: there is no %s; train first, or say where with --out'):format(folder:path(name)), 0)
  end
  return train.checkpoint.verify(folder:path(name))
end

-- ---- train, resume -------------------------------------------------------------------------------------------------------

local function train_or_resume()
  local config, text
  if o.command == 'resume' then
    config = saved('last').config
    o.tokenizer, o.data, o.dataset = config.tokenizer, o.data or config.data, config.dataset
    o.context, o.model = config.context, config.model
    text = corpus.load(o, tokenizer_of(config))
  else
    text = corpus.load(o)
    config = training.config(o, text.tokenizer)
  end
  local run = training.new(config, text)
  if o.command == 'resume' then
    local rest = folder:load('last', run.state)
    run.step, run.best, run.seconds = rest.step, rest.best, rest.seconds
  end
  local bars = train.progress{ quiet = o.quiet }
  local log = train.logger{ bars = bars, file = o.out .. '/log.txt' }
  log:debug('%s', tostring(run.model))
  log:info('%s: %d tokens of %d kinds for training, %d for validation', text.name, text.train:length(), config.vocabulary,
    text.valid:length())
  log:info('%s: %d parameters; steps %d to %d', config.model, run.model:num_parameters(), run.step + 1, config.steps)
  train.manifest(o.out .. '/manifest.json', { seed = config.seed, options = o })
  local resume = o.command == 'resume' and run.step or nil
  local csv = train.csv(o.out .. '/curve.csv', { columns = { 'step', 'lr', 'train', 'valid', 'seconds', 'cpu_seconds' }, resume = resume })
  local board = train.tensorboard.writer(o.out)
  training.run(run, { folder = folder, log = log, bars = bars, csv = csv, board = board, save_every = o.save_every,
    resume = ('luajit %s resume --out %s%s'):format(arg[0], o.out, config.data and ' --data ' .. config.data or '') })
  bars:close()
  log:info('best validation loss %.4f nats per token; %s', run.best, folder:path 'best')
  csv:close() board:close() log:close()
end

-- ---- sample --------------------------------------------------------------------------------------------------------------

local function load_model(name)
  local content = saved(name)
  local model = training.build(content.config)
  train.checkpoint.load(folder:path(name), { model = model })
  return model:eval(), content.config, tokenizer_of(content.config)
end

local function sample()
  local model, config, tokenizer = load_model(o.checkpoint)
  local generator = torch.Generator(o.seed)
  for _, prompt in ipairs(o.prompt) do
    for _, temperature in ipairs(o.temperatures) do
      io.write(('temperature %.2f: %s'):format(temperature, prompt))
      local decoder = tokenizer:decoder()
      sampling.generate(model, tokenizer:encode_to_table(prompt), { temperature = temperature, top_k = o.top_k, top_p = o.top_p,
        min_p = o.min_p, floor = o.floor, repetition_penalty = o.repetition_penalty, tokens = o.tokens, generator = generator,
        cache = not o.no_cache, context = config.context, on_token = function(token)
          io.write(decoder:push(token))
          io.flush()
        end })
      io.write(decoder:finish(), '\n\n')
    end
  end
end

-- ---- visualise -----------------------------------------------------------------------------------------------------------

local function visualise()
  local model, config, tokenizer = load_model(o.checkpoint)
  local generator, samples = torch.Generator(o.seed), {}
  for _, temperature in ipairs(o.temperatures) do
    local tokens = sampling.generate(model, tokenizer:encode_to_table(o.prompt[1]), { temperature = temperature, top_k = o.top_k,
      top_p = o.top_p, min_p = o.min_p, floor = o.floor, repetition_penalty = o.repetition_penalty, tokens = o.tokens,
      generator = generator, context = config.context })
    samples[#samples + 1] = { ('temperature %.2f'):format(temperature), o.prompt[1] .. tokenizer:decode(tokens) }
  end
  local path = o.out .. '/report.html'
  report.write(path, { model = model, tokenizer = tokenizer, config = config, text = o.prompt[#o.prompt], samples = samples,
    curve = o.out .. '/curve.csv' })
  print(path)
end

-- ---- profile -------------------------------------------------------------------------------------------------------------

local function profile()
  local model = training.build(training.config(o, { vocab_size = 256, serialize = function() return 'bytes' end })):eval()
  local tokens = torch.randint(1, 256, 1, o.context, { dtype = 'int64' })
  local counts = train.count(model, tokens)
  print(counts)
  print(counts:summary())
end

-- ---- ---------------------------------------------------------------------------------------------------------------------

local commands = { train = train_or_resume, resume = train_or_resume, sample = sample, visualise = visualise,
  profile = profile }
local ok, message = xpcall(commands[o.command], function(e) return type(e) == 'string' and e or debug.traceback(tostring(e)) end)
if not ok then
  io.stderr:write(message, '\n')
  os.exit(1)
end
