--- A small training run: luajit tests/support/train_child.lua FOLDER LAST EVERY. Goes on from FOLDER's last checkpoint, saves after
-- each EVERY-th step (and after step LAST).
package.path = 'lua/?.lua;lua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local nn, train = torch.nn, torch.train

local keep = train.checkpoint.folder(arg[1])
local last, every = tonumber(arg[2]), tonumber(arg[3])
torch.set_num_threads(1)
torch.manual_seed(5)
local net = nn.Sequential{ nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3) }
local shuffle, means = torch.Generator(9), train.means()
local objects = { model = net, means = means, generators = { shuffle = shuffle } }
local step, best = 0, math.huge
if keep:exists 'last' then
  local rest = keep:load('last', objects)
  step, best = rest.step, rest.best
end

for now = step + 1, last do
  local order = torch.randperm(8, { generator = shuffle }):float():mean():item()
  local loss = (net(torch.randn(8, 4)) ^ 2):mean() + order
  loss:backward()
  torch.no_grad(function()
    for _, p in ipairs(net:parameters()) do p:sub_(p.grad * 0.05) end
  end)
  net:zero_grad()
  local value = train.check_loss(loss, now, keep)
  means:add{ loss = value }
  local is_best = value < best
  best = math.min(best, value)
  if now % every == 0 or now == last then
    keep:save({ model = net, means = means, generators = objects.generators, step = now, best = best }, is_best)
  end
end
