--- cuda: times on a GPU beside PyTorch's. bench/cuda.sh calls it; luajit bench/cuda.lua [python3] alone prints the rows.
--
-- Each row: some calls to warm up, then `rounds` rounds of as many calls as last 20 ms, timed by the device's own clock (events);
-- the median counts, the spread is that of the middle half. PyTorch (bench/cuda_peer.py) runs the same rows, with the same shapes, before
-- and after ours: the ratio is its faster median divided by ours. Bytes and operations are those of an ideal kernel.

local root = arg[0]:match('^(.*)bench/cuda%.lua$') or './'
if root == '' then root = './' end
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local nn, F, cuda = torch.nn, torch.nn.functional, torch.cuda

local ok, why = cuda.is_available()
if not ok then
  io.stderr:write('bench/cuda.lua: no GPU to measure: ', why, '\n')
  os.exit(1)
end
local device = { device = 'cuda' }
local N, C, S = 32, 64, 64                     -- images of the rows: 32 x 64 x 64 x 64

-- ---- rows: name = what makes a function to be timed; the peer has the same names -------------------------------------------

local function image(channels)
  return torch.randn(N, channels or C, S, S, device):contiguous('channels_last')
end

local function both(net, x, mask)
  x:requires_grad_()
  local y = net(x, mask)
  local gradient = torch.randn(y:size(), device)
  return function()
    x.grad = nil
    net:zero_grad()
    local out = net(x, mask)
    out:backward(gradient)
  end
end

-- The corner of each canvas that is valid has `share` of its area.
local function masked(share)
  local side = math.floor(S * math.sqrt(share) + 0.5)
  local sizes = {}
  for n = 1, N do sizes[n] = { side, side } end
  local mask = torch.mask.boxes(sizes, { S, S }, device)
  return nn.MaskedConv2d(C, C, 3, { padding = 1, bias = true }):to(device), mask
end

local elements, conv_flops = N * C * S * S, 2 * 9 * N * C * C * S * S
local rows = {
  { 'copy 256 MB', bytes = 2 * 2 ^ 28, make = function()
    local x, y = torch.zeros(2 ^ 26, device), torch.zeros(2 ^ 26, device)
    return function() y:copy_(x) end
  end },
  { 'matmul 4096, float32', flops = 2 * 4096 ^ 3, make = function()
    local a, b = torch.randn(4096, 4096, device), torch.randn(4096, 4096, device)
    return function() return a:mm(b) end
  end },
  { 'GELU', bytes = 8 * elements, make = function()
    local x = image()
    return function() return F.gelu(x) end
  end },
  { 'batch norm, training', bytes = 12 * elements, make = function()
    local x, net = image(), nn.BatchNorm2d(C):to(device)
    return function() return torch.no_grad(net, x) end
  end },
  { 'batch norm, training, with backward', bytes = 28 * elements, make = function()
    return both(nn.BatchNorm2d(C):to(device), image())
  end },
  { 'RMS norm 16384 x 1024, with backward', bytes = 28 * 2 ^ 24, make = function()
    return both(nn.RMSNorm(1024):to(device), torch.randn(16384, 1024, device))
  end },
  { 'max pool 2, with backward', bytes = 13 * elements, make = function() return both(nn.MaxPool2d(2), image()) end },
  { 'bilinear upsampling by 2, with backward', bytes = 40 * elements, make = function()
    local net = nn.Upsample{ scale_factor = 2, mode = 'bilinear' }
    return both(net, image())
  end },
  { 'softmax 4096 x 50257', bytes = 8 * 4096 * 50257, make = function()
    local x = torch.randn(4096, 50257, device)
    return function() return F.softmax(x, 2) end
  end },
  { 'cross entropy 4096 x 50257, with backward', bytes = 12 * 4096 * 50257, make = function()
    local x, target = torch.randn(4096, 50257, device), torch.randint(1, 50257, { 4096 }, { dtype = 'int64', device = 'cuda' })
    x:requires_grad_()
    return function()
      x.grad = nil
      F.cross_entropy(x, target):backward()
    end
  end },
  { 'Adam, 20 million parameters', bytes = 28 * 2e7, make = function()
    local p = torch.randn(20000000, device):requires_grad_()
    p.grad = torch.randn(20000000, device)
    local optimizer = torch.optim.Adam({ p }, { lr = 1e-3 })
    return function() optimizer:step() end
  end },
  { 'convolution 3 x 3', flops = conv_flops, make = function()
    local x, net = image(), nn.Conv2d(C, C, 3, { padding = 1 }):to(device)
    return function() return torch.no_grad(net, x) end
  end },
  { 'convolution 3 x 3, with backward', flops = 3 * conv_flops, make = function()
    return both(nn.Conv2d(C, C, 3, { padding = 1 }):to(device), image())
  end },
}
for _, percent in ipairs { 100, 50, 25 } do
  rows[#rows + 1] = { ('masked convolution 3 x 3, %d %% valid'):format(percent), peer = 'convolution 3 x 3',
    flops = conv_flops * percent / 100, make = function()
      local net, mask = masked(percent / 100)
      local x = image()
      return function() return torch.no_grad(net, x, mask) end
    end }
  rows[#rows + 1] = { ('masked convolution 3 x 3, %d %% valid, with backward'):format(percent), peer = 'convolution 3 x 3, with backward',
    flops = 3 * conv_flops * percent / 100, make = function()
      local net, mask = masked(percent / 100)
      return both(net, image(), mask)
    end }
end

-- The language model's step: batch, loss, gradients, optimiser; loss:item() as in training.
for _, entry in ipairs { { 'causal', 8, 128 }, { 'causal', 64, 512 }, { 'window', 256, 128 } } do
  local kind, batch, length = unpack(entry)
  rows[#rows + 1] = { ('language model step, %s, %d x %d'):format(kind, batch, length), make = function()
    local net
    if kind == 'causal' then
      net = require 'language_model.causal' { vocabulary = 256, width = 128, depth = 6 }
    else
      net = require 'language_model.window' { vocabulary = 256 }
    end
    net:to(device)
    local trained = {}
    for _, p in ipairs(net:parameters()) do
      if p.requires_grad then trained[#trained + 1] = p end
    end
    local optimizer = torch.optim.AdamW(trained, { lr = 1e-3 })
    local int64 = { dtype = 'int64', device = 'cuda' }
    local tokens = torch.randint(1, 256, { batch, length }, int64)
    local target = torch.randint(1, 256, kind == 'causal' and { batch, length } or { batch }, int64)
    return function()
      optimizer:zero_grad()
      local logits = net(tokens)
      if kind == 'causal' then logits = logits:transpose(2, 3) end
      local loss = F.cross_entropy(logits, target)
      loss:backward()
      optimizer:step()
      return loss:item()
    end
  end }
end

-- ---- times -----------------------------------------------------------------------------------------------------------------

local function elapsed(fn, calls)
  local from, to = cuda.Event{ enable_timing = true }, cuda.Event{ enable_timing = true }
  from:record()
  for _ = 1, calls do fn() end
  to:record()
  return from:elapsed_time(to) / calls
end

local function measure(fn, rounds)
  for _ = 1, 3 do fn() end
  cuda.synchronize()
  local calls = math.max(1, math.ceil(20 / math.max(1e-3, elapsed(fn, 3))))
  local times = {}
  for r = 1, rounds do
    times[r] = elapsed(fn, calls)
    collectgarbage()
  end
  table.sort(times)
  return times[math.ceil(rounds / 2)], (times[math.ceil(rounds * 0.75)] - times[math.ceil(rounds * 0.25)]) / times[math.ceil(rounds / 2)]
end

-- name -> median milliseconds of PyTorch, or nil and why there is none.
local function peer(python)
  local pipe = assert(io.popen(("'%s' '%sbench/cuda_peer.py' 2>&1"):format(python, root)))
  local times, found, last = {}, false, 'it printed nothing'
  for line in pipe:lines() do
    local name, ms = line:match('^(.-)\t([%d.]+)$')
    if name then
      times[name], found = tonumber(ms), true
    elseif line:match '^#' then
      print(line)
    else
      last = line
    end
  end
  pipe:close()
  return found and times or nil, last
end

local p = cuda.get_device_properties()
print(('# ours: %s, %d processors, compute capability %d.%d, %.0f GB'):format(p.name, p.multi_processor_count, p.major, p.minor,
  p.total_memory / 1e9))
local before, missing = peer(arg[1] or 'python3')
if not before then print('# no PyTorch column: ' .. missing) end

local ours = {}
for _, row in ipairs(rows) do
  local done, result, spread = pcall(function() return measure(row.make(), 11) end)
  ours[row] = done and { result, spread } or tostring(result)
  collectgarbage()
  cuda.empty_cache()
end
local after = before and peer(arg[1] or 'python3') or {}
local failures = 0
print(('%-58s %10s %7s %9s %9s %10s %7s'):format('', 'ms', 'spread', 'GB/s', 'TFLOP/s', 'PyTorch ms', 'ratio'))
for _, row in ipairs(rows) do
  local mine, name = ours[row], row.peer or row[1]
  if type(mine) == 'string' then
    failures = failures + 1
    print(('%-58s failed: %s'):format(row[1], mine))
  else
    local theirs = before and math.min(before[name] or math.huge, after[name] or math.huge)
    print(('%-58s %10.4f %6.1f%% %9s %9s %10s %7s'):format(row[1], mine[1], 100 * mine[2],
      row.bytes and ('%.0f'):format(row.bytes / mine[1] / 1e6) or '', row.flops and ('%.1f'):format(row.flops / mine[1] / 1e9) or '',
      theirs and theirs < math.huge and ('%.4f'):format(theirs) or '', theirs and theirs < math.huge and
        ('%.2f'):format(theirs / mine[1]) or ''))
  end
end
os.exit(failures == 0 and 0 or 1)
