--- A small training run: luajit tests/support/train_child.lua FOLDER LAST EVERY. Goes on from FOLDER's last checkpoint, saves after
-- each EVERY-th step (and after step LAST).
package.path = 'lua/?.lua;lua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local nn, optim, data, train = torch.nn, torch.optim, torch.data, torch.train

local keep = train.checkpoint.folder(arg[1])
local last, every = tonumber(arg[2]), tonumber(arg[3])
torch.set_num_threads(1)
torch.manual_seed(5)
local net = nn.Sequential{ nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3) }
local optimizer = optim.AdamW(net:parameters(), { lr = 1e-2 })
local scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
local average = optim.EMA(net:parameters())
local samples = torch.randn(23, 4, { generator = torch.Generator(2) })
local loader = data.Loader(data.TensorDataset{ x = samples }, { batch_size = 4, shuffle = true, seed = 3 })
local noise, means = torch.Generator(9), train.means()
local objects = { model = net, optimizer = optimizer, scheduler = scheduler, average = average, loader = loader, means = means,
  generators = { noise = noise } }
local step, best = 0, math.huge
if keep:exists 'last' then
  local rest = keep:load('last', objects)
  step, best = rest.step, rest.best
end

for now, batch in train.steps{ loader = loader, first = step + 1, last = last } do
  optimizer:zero_grad()
  local x = batch.x + torch.randn(batch.x:size(1), 4, { generator = noise }) * 0.1
  local loss = (net(x) ^ 2):mean()
  local value = train.check_loss(loss, now, keep)
  loss:backward()
  optim.clip_grad_norm_(net:parameters(), 1)
  optimizer:step()
  scheduler:step()
  average:update()
  means:add{ loss = value }
  local is_best = value < best
  best = math.min(best, value)
  if now % every == 0 or now == last then
    local fields = { step = now, best = best }
    for name, object in pairs(objects) do fields[name] = object end
    keep:save(fields, is_best)
  end
end
