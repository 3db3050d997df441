--- Memory of long training: luajit bench/soak.lua [steps = 20000] [causal | window | images]
--
-- Both language models through the training code of experiments/language_model.lua, and a convolution classifier over pictures of
-- mixed sizes, all small, on 25 MB of data, each in a process of its own, interpreted and compiled; validation and checkpoints at
-- every sample. After the first half of the steps the tensor memory that lives must be the same to the byte at all 20 samples, what
-- malloc has given out within 4 KiB of its first value, and the resident memory within 1 %. (Below 5000 steps 64 KiB and 5 %: the heap
-- still takes its shape. LuaJIT's grows in pieces of 128 KiB, and what is left in them comes and goes.) malloc's caches per thread and
-- size, which fill for ever more slowly, are off. Prints a table; exit status 1 if not.

local root = arg[0]:match('^(.*)bench/soak%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'experiments/?.lua;' .. package.path

local steps, subject = tonumber(arg[1]) or 20000, arg[2]
local ROW = '%-16s %8s %8s %12s %9s %7s %14s %8s %14s %8s %8s  %s'
if steps < 50 or steps % 1 ~= 0 then
  io.stderr:write('soak: steps: expected a whole number of at least 50\n')
  os.exit(1)
end
if not subject then
  print(ROW:format('training', 'steps', 'seconds', 'live, bytes', 'highest', 'blocks', 'malloc, bytes', 'highest',
    'resident, KiB', 'highest', 'change', ''))
  io.stdout:flush()
  local failed = false
  -- The interpreter that runs this, with its options.
  local words, first = {}, 0
  while arg[first - 1] do first = first - 1 end
  for i = first, 0 do words[#words + 1] = "'" .. arg[i]:gsub("'", "'\\''") .. "'" end
  for _, name in ipairs{ 'causal', 'window', 'images' } do
    for _, mode in ipairs{ '-joff', '-jon' } do
      failed = os.execute(('GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0 %s %s %s %d %s'):format(
        words[1], mode, table.concat(words, ' ', 2), steps, name)) ~= 0 or failed
    end
  end
  os.exit(failed and 1 or 0)
end

local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local nn, F, data, train = torch.nn, torch.nn.functional, torch.data, torch.train
ffi.cdef [[
  int malloc_trim(size_t);
  struct soak_mallinfo { size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost; };
  struct soak_mallinfo mallinfo2(void);
]]
torch.set_num_threads(2)
torch.manual_seed(1)

-- ---- what is trained -------------------------------------------------------------------------------------------------

local function language(model)
  local training = require 'language_model.training'
  local text = ('To be, or not to be, that is the question: whether it is nobler in the mind to suffer.\n'):rep(280000)
  local part, rest = data.Tokens.of_string(text):split{ 0.9, 0.05 }
  local corpus = { train = part, valid = rest, tokenizer = data.tokenizer.bytes(), name = 'text' }
  local run = training.new({ tokenizer = 'bytes', vocabulary = 256, model = model, context = 16, shortest = model == 'window' and 1 or 8,
    width = 8, depth = 2, kernel = 3, dilations = { 1, 2 }, dropout = 0.1, scale = 4, steps = steps, batch = 4, lr = 1e-3, warmup = 10,
    weight_decay = 0.1, clip = 1, valid_context = 16 }, corpus)
  return {
    step = function(batch) run.state.means:add{ loss = training.step(run, batch) } end,
    loader = run.state.loader,
    -- Windows that all fill their batch are rare, and the masks of ones for them, a few of which are kept, begin with the first.
    begin = function()
      if model == 'causal' then return end
      for length = 4, 16, 4 do
        training.step(run, { sequence = torch.ones(4, length, { dtype = 'int64' }), target = torch.ones(4, { dtype = 'int64' }),
          lengths = torch.full({ 4 }, length, { dtype = 'int64' }) })
      end
    end,
    validate = function() training.validate(run.model, run.valid, 2) end,
    fields = function() return training.fields(run) end,
  }
end

local function images()
  local n = 8192
  local sizes = torch.randint(9, 28, n, 2, { dtype = 'int64' })
  local set = data.TensorDataset{ image = torch.rand(n, 1, 28, 28), size = sizes, label = torch.randint(1, 10, { n }) }
  local numbers = {}
  for i = 1, 64 do numbers[i] = i end
  local few = data.Subset(set, numbers)
  local net = nn.Sequential{ nn.MaskedConv2d(1, 4, 3, { padding = 1 }), nn.MaskedBatchNorm2d(4), nn.ReLU(),
    nn.MaskedConv2d(4, 8, 3, { stride = 2, padding = 1 }), nn.MaskedBatchNorm2d(8), nn.ReLU(), nn.MaskedSpatialMean(), nn.Linear(8, 10) }
  local optimizer, loader = torch.optim.Adam(net:parameters()), data.Loader(set, { batch_size = 4, shuffle = true, seed = 1 })
  local function logits(batch) return (net(batch.image, torch.mask.boxes(batch.size, { 28, 28 }))) end
  local function take_step(batch)
    optimizer:zero_grad()
    local loss = F.cross_entropy(logits(batch), batch.label)
    train.check_loss(loss, 1)
    loss:backward()
    optimizer:step()
  end
  return {
    step = take_step,
    begin = function()
      take_step{ image = torch.rand(4, 1, 28, 28), size = torch.full({ 4, 2 }, 28, { dtype = 'int64' }),
        label = torch.ones(4, { dtype = 'int64' }) }
    end,
    loader = loader,
    validate = function()
      net:eval()
      torch.no_grad(function()
        for batch in data.Loader(few, { batch_size = 16 }) do logits(batch):argmax(2) end
      end)
      net:train()
    end,
    fields = function() return { model = net, optimizer = optimizer, loader = loader } end,
  }
end

-- ---- measuring -------------------------------------------------------------------------------------------------------

local function resident()
  for line in io.lines '/proc/self/status' do
    local kib = line:match '^VmRSS:%s+(%d+)'
    if kib then return tonumber(kib) end
  end
end

local job = subject == 'images' and images() or language(subject)
local file = os.tmpname()
local warm, first, live_high, resident_high, given_high, exact = math.floor(steps / 2), nil, 0, 0, 0, true
local every, began, step = math.floor((steps - warm) / 19), train.terminal.now(), 0

-- Compiled code comes and goes, up to 1 MiB of it; the heap keeps freed memory: neither is what is looked for.
local function sample()
  job.validate()
  train.checkpoint.save(file, job.fields())
  -- Batches that were fetched ahead have any length.
  job.loader:load_state_dict(job.loader:state_dict())
  jit.flush()
  torch.cpu.empty_cache()
  for _ = 1, 4 do collectgarbage() end       -- a finalizer may free what needs a further round
  ffi.C.malloc_trim(0)
  local now = { live = native.cpu.mt_memory_live(), blocks = native.cpu.mt_memory_blocks(), resident = resident(),
    given = tonumber(ffi.C.mallinfo2().uordblks) }
  first = first or now
  exact = exact and now.live == first.live and now.blocks == first.blocks
  live_high, resident_high = math.max(live_high, now.live), math.max(resident_high, now.resident)
  given_high = math.max(given_high, now.given)
  if os.getenv 'SOAK_VERBOSE' then
    io.stderr:write(('%d %d %d %d %.0f\n'):format(step, now.live, now.blocks, now.resident, collectgarbage 'count'))
  end
end

-- Functions of their own: a loop's variables keep their last batch alive.
local function advance(last)
  while step < last do
    for batch in job.loader do
      job.step(batch)
      step = step + 1
      if step == last then break end
    end
  end
end

-- What was on the stack stays reachable until it is overwritten.
local function scrub(depth)
  local slots = { nil, nil, nil, nil, nil, nil, nil, nil }
  if depth > 0 then scrub(depth - 1) end
  return slots
end

job.begin()
while step < steps do
  advance(step < warm and warm or math.min(steps, step + every))
  scrub(100)
  sample()
end
os.remove(file)

local change = resident_high / first.resident - 1
local short = steps < 5000
local ok = exact and given_high - first.given <= (short and 64 or 4) * 1024 and
  resident_high - first.resident <= (short and 0.05 or 0.01) * first.resident
local function whole(n) return ('%d'):format(n) end
print(ROW:format(subject .. (jit.status() and ', compiled' or ''), whole(steps),
  ('%.0f'):format(train.terminal.now() - began), whole(first.live), whole(live_high), whole(first.blocks),
  whole(first.given), whole(given_high), whole(first.resident), whole(resident_high), ('%.2f %%'):format(100 * change),
  ok and 'flat' or 'NOT FLAT'))
os.exit(ok and 0 or 1)
