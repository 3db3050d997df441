--- cli: the options of language_model.lua.

local torch = require 'masked_torch'

local cli = {}

local function number(name)
  return function(text) return tonumber(text), ("--%s: expected a number, got '%s'"):format(name, text) end
end

local function list(name)
  return function(text)
    local values = {}
    for part in (text .. ','):gmatch '([^,]*),' do
      local value = tonumber(part)
      if not value then return nil, ("--%s: expected numbers with commas between them, got '%s'"):format(name, text) end
      values[#values + 1] = value
    end
    return values
  end
end

local function parser_of(argparse)
  local p = argparse('language_model', 'A convolutional language model over text whose contexts have every length.')
  p:usage 'Usage: language_model [train|resume|sample|visualise|profile] [options]'
  local commands = p:argument('command', 'train, resume (continue the run in --out), sample, visualise, profile.', 'train')
  commands:choices{ 'train', 'resume', 'sample', 'visualise', 'profile' }
  p:group('What and where',
    p:option('--model', 'causal: gated convolutions, a prediction at every position. window: masked_torch\'s, one per window.',
      'causal'):choices{ 'causal', 'window' },
    p:option('--data', 'A text file.'),
    p:flag('--binary', 'Take a file that is no text, as bytes.'),
    p:option('--dataset', 'kjv or tiny_shakespeare, where no --data is given.', 'kjv'):choices{ 'kjv', 'tiny_shakespeare' },
    p:flag('--fetch', 'Get missing files of --dataset and --tokenizer from the network.'),
    p:option('--tokenizer', 'bytes, gpt2, bpe:N (trained on the text) or a file.', 'bytes'),
    p:option('--out', 'The folder of the run: checkpoints, logs, curves, pictures.', 'out/language_model'),
    p:flag('--overwrite', 'train: remove the run that is in --out.'),
    p:option('--seed', 'Of weights, order of the data and samples.', '1337'):convert(number 'seed'),
    p:option('--threads', 'Threads (default: one per core).'):convert(number 'threads'),
    p:option('--device', 'cpu or cuda: of training; sampling and pictures are made on the CPU.', 'cpu'),
    p:option('--precision', 'Of products and of what is kept for backward; weights are float32.', 'float32'):choices{
      'float32', 'bfloat16' },
    p:flag('--quick', 'A small model and a few steps, to see that everything works.'),
    p:flag('--profile', 'train, resume: show where the time of a step goes, instead of training.'),
    p:flag('--quiet', 'Plain lines instead of bars.'))

  p:group('The model',
    p:option('--context', 'Longest context in training.', '128'):convert(number 'context'),
    p:option('--shortest', 'Contexts are drawn from this length to --context (default: 3/4 of it; window: 1).'):convert(number 'shortest'),
    p:option('--width', 'Channels (window: of the embedding).', '128'):convert(number 'width'),
    p:option('--depth', 'Blocks (default 6; window: 4).'):convert(number 'depth'),
    p:option('--kernel', 'causal: taps of a convolution.', '3'):convert(number 'kernel'),
    p:option('--dilations', 'causal: of the blocks, repeated.', '1,2,4,8,16,1'):convert(list 'dilations'),
    p:option('--dropout', 'causal: in every block.', '0'):convert(number 'dropout'),
    p:flag('--tied', 'causal: the head\'s weights are the embedding\'s.'),
    p:option('--scale', 'window: channels of the first layer; each further one has twice as many.', '64'):convert(number 'scale'))

  p:group('Training',
    p:option('--steps', 'Training steps (default 6000; window: 3000).'):convert(number 'steps'),
    p:option('--batch', 'Windows per step (default 8; window: 256).'):convert(number 'batch'),
    p:option('--lr', 'Highest learning rate (default 4e-3; window: 1e-3).'):convert(number 'lr'),
    p:option('--warmup', 'Steps of linear warm-up; a cosine to 2 % follows.', '100'):convert(number 'warmup'),
    p:option('--weight-decay', 'Of AdamW (window: of Adam, in L2 form).'):convert(number 'weight-decay'),
    p:option('--clip', 'Largest norm of the gradient; 0: no limit.', '1'):convert(number 'clip'),
    p:option('--valid-every', 'Steps between validations.', '200'):convert(number 'valid-every'),
    p:option('--save-every', 'Steps between checkpoints (default: as --valid-every).'):convert(number 'save-every'),
    p:option('--valid-context', 'causal: length of validation windows.', '512'):convert(number 'valid-context'),
    p:option('--valid-batches', 'At most so many batches per validation (default: all; window: 20).'):convert(number 'valid-batches'))

  p:group('Sampling and pictures',
    p:option('--prompt', 'What samples begin with; may be repeated.'):count '*',
    p:option('--tokens', 'How many tokens to sample.', '320'):convert(number 'tokens'),
    p:option('--temperatures', '0 takes the most probable token.', '0,0.2,0.4,0.6,0.8,1'):convert(list 'temperatures'),
    p:option('--top-k', 'Only the k most probable tokens; 0: all.', '0'):convert(number 'top-k'),
    p:option('--top-p', 'Only the most probable tokens that together reach this probability.', '1'):convert(number 'top-p'),
    p:option('--min-p', 'Only tokens with this share of the highest probability.', '0'):convert(number 'min-p'),
    p:option('--floor', 'Only tokens with this probability (masked_torch\'s min_p; it used 0.01).', '0'):convert(number 'floor'),
    p:option('--repetition-penalty', 'Divides the logits of tokens that have appeared; 1: off.', '1'):convert(number 'repetition-penalty'),
    p:flag('--no-cache', 'Recompute the whole context for every token.'),
    p:option('--explain', 'visualise: how many steps the animation and the grid show; 0: neither. They continue the last ' ..
      '--prompt with the last of --temperatures.', '16'):convert(number 'explain'),
    p:option('--text', 'visualise: explain the last tokens of this text instead of sampled ones.'),
    p:option('--delay', 'visualise: seconds per step of the animation.', '1.5'):convert(number 'delay'),
    p:option('--checkpoint', 'best or last.', 'best'):choices{ 'best', 'last' })
  return p
end

-- lowest, highest, whole
local ranges = { seed = { 0, 2 ^ 53, true }, threads = { 1, 1024, true }, context = { 1, 2 ^ 20, true }, shortest = { 1, 2 ^ 20, true },
  width = { 1, 65536, true }, depth = { 1, 64, true }, kernel = { 1, 256, true }, dropout = { 0, 0.99 }, scale = { 1, 4096, true },
  steps = { 1, 2 ^ 40, true }, batch = { 1, 2 ^ 20, true }, lr = { 0, 100 }, warmup = { 0, 2 ^ 40, true },
  weight_decay = { 0, 100 }, clip = { 0, math.huge }, valid_every = { 1, 2 ^ 40, true }, save_every = { 1, 2 ^ 40, true },
  valid_context = { 1, 2 ^ 20, true }, valid_batches = { 1, 2 ^ 40, true }, tokens = { 1, 2 ^ 40, true }, top_k = { 0, 2 ^ 31, true },
  top_p = { 0, 1 }, min_p = { 0, 1 }, floor = { 0, 1 }, repetition_penalty = { 0.01, 100 },
  explain = { 0, 1000, true }, delay = { 0.02, 300 } }

local by_model = {
  causal = { depth = 6, steps = 6000, batch = 8, lr = 4e-3, weight_decay = 0.1 },
  window = { depth = 4, steps = 3000, batch = 256, lr = 1e-3, weight_decay = 1e-5, shortest = 1, valid_batches = 20 },
}
local quick = { width = 32, depth = 2, scale = 8, context = 32, steps = 20, batch = 4, valid_every = 10, warmup = 5, valid_context = 64,
  valid_batches = 2, tokens = 40 }

-- What may differ from the run that is resumed.
local at_resume = {}
for name in ('data binary fetch out threads device quiet quick save_every'):gmatch '%S+' do at_resume[name] = true end

--- cli.parse(arguments) -> options, or a line that says what is wrong, and exit. What only makes sense with a model gets that model's
-- default. o.given: the options of the command line, as keys.
function cli.parse(arguments)
  local found, argparse = pcall(require, 'argparse')
  if not found then
    io.stderr:write('language_model needs lua-argparse (apt install lua-argparse, or luarocks install argparse)\n')
    os.exit(1)
  end
  local parser = parser_of(argparse)
  function parser.error(_, message)
    io.stderr:write('language_model: ', message, ' (--help lists the options)\n')
    os.exit(1)
  end
  local o = parser:parse(arguments)
  o.given = {}
  for _, word in ipairs(arguments) do
    local name = word:match '^%-%-([%w-]+)'
    if name then o.given[name:gsub('-', '_')] = true end
  end
  if o.quick then
    for key, value in pairs(quick) do
      if not o.given[key] then o[key] = value end
    end
  end
  if o.command == 'resume' then
    for name in pairs(o.given) do
      if not at_resume[name] then
        parser:error(('--%s: resume goes on with the options of the run; to change them train anew'):format((name:gsub('_', '-'))))
      end
    end
  end
  for key, value in pairs(by_model[o.model]) do
    if o[key] == nil then o[key] = value end
  end
  o.shortest = o.shortest or math.ceil(0.75 * o.context)
  o.save_every = o.save_every or o.valid_every
  for key, range in pairs(ranges) do
    local v = o[key]
    if v ~= nil and not (v >= range[1] and v <= range[2] and (not range[3] or v % 1 == 0)) then
      parser:error(('--%s: expected a %snumber from %g to %g, got %g'):format(key:gsub('_', '-'), range[3] and 'whole ' or '', range[1],
        range[2], v))
    end
  end
  if o.shortest > o.context then parser:error('--shortest is longer than --context') end
  if #o.prompt == 0 then o.prompt = { 'The', 'First Citizen:\nBefore we proceed any further, hear me' } end
  local ok, device = pcall(torch.train.device, o.device)
  if not ok then parser:error((tostring(device):gsub('^.-(%-%-device: )', '%1'))) end
  o.device = device
  if o.threads then torch.set_num_threads(o.threads) end
  return o
end

return cli
