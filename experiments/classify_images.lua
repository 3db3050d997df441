--- classify_images: pictures of different sizes in one batch. A template for training scripts: copy it and change it.
--
--     luajit experiments/classify_images.lua --quick          --help lists the options
--
-- Fashion-MNIST, every picture scaled to a size of its own (14 to 28 pixels), lies in the corner of a canvas of 28. After
-- training the same test pictures are put on larger canvases. The mask-aware network gives the same logits on each of them,
-- bit for bit; the plain network sees the padding, and its answers change.

local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '../lua/?.lua;' .. here .. '../lua/?/init.lua;' .. package.path

local torch = require 'masked_torch'
local has_argparse, argparse = pcall(require, 'argparse')
if not has_argparse then
  io.stderr:write('classify_images needs lua-argparse (apt install lua-argparse, or luarocks install argparse)\n')
  os.exit(1)
end
local nn, F, data, train = torch.nn, torch.nn.functional, torch.data, torch.train

local SMALLEST, LARGEST = 14, 28                       -- sizes of the pictures
local CANVASES = { 28, 32, 40, 56 }                    -- the first is the one for training

-- ---- options ---------------------------------------------------------------------------------------------------------

local function number(name)
  return function(text) return tonumber(text), ("--%s: expected a number, got '%s'"):format(name, text) end
end
local parser = argparse('classify_images', 'Classifies pictures of different sizes in one batch.')
parser:option('--network', 'masked, or plain: the same layers without the mask.', 'masked'):choices{ 'masked', 'plain' }
parser:option('--images', 'Pictures to train on (default 20000, with --quick 4000).'):convert(number 'images')
parser:option('--epochs', 'How often each is seen.', '4'):convert(number 'epochs')
parser:option('--batch', 'Pictures per step.', '128'):convert(number 'batch')
parser:option('--seed', 'Of the sizes, the weights and the order.', '1'):convert(number 'seed')
parser:option('--threads', 'Threads (default: one per core).'):convert(number 'threads')
parser:option('--device', 'cpu or cuda.', 'cpu')
parser:option('--precision', 'Of products and of what is kept for backward; weights are float32.', 'float32'):choices{ 'float32',
  'bfloat16' }
parser:option('--out', 'The checkpoint.', 'out/classify_images.safetensors')
parser:flag('--quick', 'A small run, under two minutes on two cores.')
parser:option('--data', 'The folder of Fashion-MNIST (default: where Debian\'s dataset-fashion-mnist puts it).')
parser:flag('--synthetic', 'Drawn shapes instead of Fashion-MNIST: needs no data.')
parser:flag('--resume', 'Continue from the checkpoint, with its options.')
parser:flag('--profile', 'Show where the time of a step goes, instead of training.')
parser:flag('--overwrite', 'Replace the checkpoint that is there.')
function parser.error(_, message)
  io.stderr:write('classify_images: ', message, ' (--help lists the options)\n')
  os.exit(1)
end
local options = parser:parse()
train.quit_on_interrupt()

-- What makes a run what it is. A resumed run takes it from the checkpoint.
local config = { network = options.network, seed = options.seed, synthetic = options.synthetic or false,
  images = options.images or (options.quick and 4000 or 20000), epochs = options.epochs, batch = options.batch, data = options.data,
  precision = options.precision,
  tests = options.synthetic and 200 or options.quick and 2000 or 10000 }
for _, name in ipairs{ 'images', 'epochs', 'batch' } do
  local value = config[name]
  if not (value >= 1 and value % 1 == 0) then parser:error(('--%s: expected a whole number of at least 1'):format(name)) end
end
-- Mistakes of the user, missing files and full disks are told in a line, without a traceback.
local function try(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  io.stderr:write('classify_images: ', (tostring(result):gsub('^[^:\n]*:%d+: ', '')), '\n')
  os.exit(1)
end
local resume = train.command('--resume', '--out', options.out)
if options.resume then
  config = try(train.checkpoint.verify, options.out).config
  if type(config) ~= 'table' or not config.tests then try(error, options.out .. ': not a checkpoint of this script', 0) end
elseif not (options.overwrite or options.profile) and io.open(options.out) then
  try(error, ('%s is there; go on with it: %s, or replace it: --overwrite'):format(options.out, resume), 0)
end
if options.threads then try(torch.set_num_threads, options.threads) end
try(torch.manual_seed, config.seed)
local device = try(train.device, options.device)
local autocast = train.autocast(config.precision, device)

-- ---- data ------------------------------------------------------------------------------------------------------------

-- Four kinds of shapes by their equation, at random places and sizes, with noise: n pictures as of Fashion-MNIST.
local function draw_shapes(n)
  local along = torch.linspace(0.5, 27.5, 28)
  local radius = torch.rand(n, 1, 1, 1) * 4 + 7
  local v = (along:view(1, 1, 28, 1) - (torch.rand(n, 1, 1, 1) * 6 + 11)) / radius
  local u = (along:view(1, 1, 1, 28) - (torch.rand(n, 1, 1, 1) * 6 + 11)) / radius
  local round, square = (u * u + v * v):sqrt(), torch.maximum(u:abs(), v:abs())
  local shapes = torch.cat({ round:lt(1), (round - 0.8):abs():lt(0.2), (square - 0.8):abs():lt(0.2),
    torch.maximum(torch.minimum(u:abs(), v:abs()) * 4, square):lt(1) }, 2):float()      -- disc, ring, frame, cross
  local label = torch.randint(1, 4, { n })
  local image = (shapes * F.one_hot(label, 4):view(n, 4, 1, 1):float()):sum(2, { keepdim = true })
  return { image = (image * 0.8 + torch.rand(n, 1, 28, 28) * 0.2) * 255, label = label }
end

-- n pictures, the same number of each size: {image (n, 1, 28, 28) in 0..1, size (n, 2), label (n)}. The background is 0, as the
-- padding is: normalised pictures would lie in frames, which would be harder on the plain network.
local function mixed_sizes(source, n)
  local images, sizes, labels = {}, {}, {}
  n = math.min(n, source.image:size(1))
  local order = torch.randperm(source.image:size(1))
  local kinds = LARGEST - SMALLEST + 1
  for k = 1, kinds do
    local first, last = math.floor(n * (k - 1) / kinds) + 1, math.floor(n * k / kinds)
    if last >= first then
      local some, size = order:narrow(1, first, last - first + 1), SMALLEST + k - 1
      local scaled = F.interpolate(source.image:index_select(1, some):float() / 255, { size = { size, size }, mode = 'bilinear' })
      images[#images + 1] = F.pad(scaled, { 0, LARGEST - size, 0, LARGEST - size })
      sizes[#sizes + 1] = torch.full({ some:numel(), 2 }, size, { dtype = 'int64' })
      labels[#labels + 1] = source.label:index_select(1, some)
    end
  end
  return data.TensorDataset{ image = torch.cat(images, 1), size = torch.cat(sizes, 1), label = torch.cat(labels, 1) }
end

local function load(is_train)
  if config.synthetic then return draw_shapes(is_train and config.images or config.tests) end
  local ok, set = pcall(data.FashionMNIST, { train = is_train, folder = config.data })
  if not ok then try(error, set .. (set:find 'not found' and '; without data: --synthetic' or ''), 0) end
  return set.tensors
end
local train_set, test_set = mixed_sizes(load(true), config.images), mixed_sizes(load(false), config.tests)

-- ---- network ---------------------------------------------------------------------------------------------------------

-- Every layer takes (x, mask) and returns (y, mask). Without a mask these layers are Conv2d, BatchNorm2d and the mean over the
-- whole canvas: that is the plain network.
local layers, channels = {}, 1
for _, shape in ipairs{ { 16, 1 }, { 32, 2 }, { 32, 1 }, { 64, 2 }, { 64, 1 } } do
  local width, stride = unpack(shape)
  layers[#layers + 1] = nn.MaskedConv2d(channels, width, 3, { stride = stride, padding = 1, bias = false })
  layers[#layers + 1] = nn.MaskedBatchNorm2d(width)
  layers[#layers + 1] = nn.ReLU()
  channels = width
end
layers[#layers + 1] = nn.MaskedSpatialMean()
layers[#layers + 1] = nn.Linear(channels, config.synthetic and 4 or 10)
local net = nn.Sequential(layers):to(device)

-- The logits of a batch on a canvas of its own size or larger.
local function classify(batch, canvas)
  local more = canvas - batch.image:size(4)
  local image = F.pad(batch.image, { 0, more, 0, more }):to(device)
  local mask = config.network == 'masked' and torch.mask.boxes(batch.size:to(device), { canvas, canvas }) or nil
  return (autocast(net, image, mask))
end

-- The logits of all test pictures.
local function test(canvas)
  net:eval()
  local logits = {}
  torch.no_grad(function()
    for batch in data.Loader(test_set, { batch_size = 250 }) do
      logits[#logits + 1] = classify(batch, canvas):to{ device = 'cpu' }
    end
  end)
  net:train()
  return torch.cat(logits, 1)
end

local function accuracy(logits) return 100 * logits:argmax(2):eq(test_set.tensors.label):float():mean():item() end

-- ---- training --------------------------------------------------------------------------------------------------------

local loader = data.Loader(train_set, { batch_size = config.batch, shuffle = true, seed = config.seed })
local optimizer = torch.optim.Adam(net:parameters(), { lr = 2e-3 })
local schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * loader:length())
local means, watch = train.means(), train.watch(options.resume and options.out)     -- the last good checkpoint

-- All that a checkpoint restores, and what it remembers.
local run = { model = net, optimizer = optimizer, schedule = schedule, loader = loader, means = means, config = config, step = 0 }
if options.resume then run.step = try(train.checkpoint.load, options.out, run).step end
local function save()
  watch:flush()
  train.checkpoint.save(options.out, run)
  watch.keeper = options.out
  return options.out
end

-- One step; the loss is checked before a weight changes (on a device some steps later: nothing waits there).
local function train_on(batch, step)
  local logits = classify(batch, CANVASES[1])
  local label = batch.label:to(device)
  local loss, hits = F.cross_entropy(logits, label, { metric = true })
  optimizer:zero_grad()
  loss:backward()
  means:add({ loss = watch:check(loss:detach(), step), accuracy = hits:double() * 100 / label:numel() })
  watch:check(torch.optim.grad_norm(net:parameters(), { as_tensor = true }), step, "gradient's norm")
  optimizer:step()
  schedule:step()
end

if options.profile then
  print(torch.profile(function() train_on(loader() or loader(), 1) end))
  os.exit(0)
end

local bars = train.progress()
local bar = bars:add('Steps', config.epochs * loader:length(), { initial = run.step })
local log = train.logger{ bars = bars }
log:info('%s network, %d pictures to train, %d to test', config.network, train_set:length(), test_set:length())

try(train.interrupt, function(guard)
  if not options.resume then save() end       -- a folder that cannot be written shows now, not after the first epoch
  for step, batch, epoch in train.steps{ loader = loader, first = run.step + 1, epochs = config.epochs, guard = guard } do
    train_on(batch, step)
    run.step = step
    bar:update(1, means)
    if step % loader:length() == 0 then
      local mean = means:get()
      log:info('epoch %d: training loss %.4f, accuracy %.2f %%; test accuracy %.2f %%', epoch, mean.loss, mean.accuracy,
        accuracy(test(CANVASES[1])))
      means:reset()
      save()
    end
  end
end, { save = save, log = log, resume = resume })
bars:close()

-- ---- the same pictures on other canvases -----------------------------------------------------------------------------

local reference = test(CANVASES[1])
print(('%-8s  %6s  %8s  %s'):format('network', 'canvas', 'accuracy', 'largest change of a logit'))
for _, canvas in ipairs(CANVASES) do
  local logits = test(canvas)
  print(('%-8s  %6d  %6.2f %%  %.3g'):format(config.network, canvas, accuracy(logits), (logits - reference):abs():max():item()))
end
