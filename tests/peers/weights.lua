--- The middle part of tests/peers/weights.py: loads states that PyTorch saved, compares outputs, and writes states and outputs.
-- luajit tests/peers/weights.lua FOLDER
local root = arg[0]:match('^(.*)tests/peers/weights%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local file = require 'masked_torch.io.file'
local nn, json, safetensors = torch.nn, torch.io.json, torch.io.safetensors
local Window = require 'language_model.window'

local folder = arg[1]
local networks = json.decode(file.read('weights', folder .. '/networks.json'))

-- The layers of masked_torch compute as it does where the masks are its own.
local as_original = { MaskedConv = true, PartialConv = true, MaskedBatchNorm = true, MaskedSpatialMean = true }

local function layer(spec)
  local list, opts = {}, {}
  for i = 2, #spec do
    local value = spec[i]
    if type(value) == 'table' and getmetatable(value) == json.object then
      for key, v in pairs(value) do opts[key] = v end
    elseif type(value) == 'table' then
      local copy = {}
      for k, v in ipairs(value) do copy[k] = v end
      list[#list + 1] = type(copy[1]) == 'string' and layer(copy) or copy
    else
      list[#list + 1] = value
    end
  end
  if as_original[spec[1]:gsub('[123]d$', '')] then opts.compat = true end
  if next(opts) then list[#list + 1] = opts end
  return nn[spec[1]](unpack(list))
end

local function build(entry)
  if not entry.layers then
    return Window{ vocabulary = entry.vocabulary, depth = entry.depth, scale = entry.scale, base = entry.base, context = entry.context,
      width = entry.width, compat = true }
  end
  local list = {}
  for i, spec in ipairs(entry.layers) do list[i] = layer(spec) end
  return entry.masked and nn.MaskedSequential(list) or nn.Sequential(list)
end

-- Tokens are counted from 0 in files and from 1 here.
local function arguments(entry, tensors)
  local x, second = tensors['in.1'], tensors['in.2']
  return entry.layers and x or x + 1, second
end

local function run(entry, net, tensors)
  local results = { torch.no_grad(net, arguments(entry, tensors)) }
  local list = {}
  for i = 1, table.maxn(results) do
    local t = results[i]
    if t ~= nil then list[#list + 1] = torch.is_tensor(t) and t or t:tensor() end
  end
  return list
end

local report = {}
for i, entry in ipairs(networks) do
  local stem = ('%s/%03d.'):format(folder, i - 1)
  local net = build(entry):eval()
  net:load_state_dict((safetensors.load(stem .. 'theirs.safetensors')))
  local theirs = safetensors.load(stem .. 'theirs.outputs.safetensors')
  local worst = 0
  for k, t in ipairs(run(entry, net, theirs)) do
    local expected = theirs['out.' .. k]:double()
    local scale = expected:abs():amax():item()
    worst = math.max(worst, (expected - t:double()):abs():amax():item() / (scale > 0 and scale or 1))
  end
  report[i] = { name = entry.name, error = worst }

  -- The other way.
  torch.manual_seed(i)
  local own = build(entry):eval()
  for name, t in pairs(own:state_dict()) do
    if name:find('running_var$') then
      t:uniform_(0.5, 2)
    elseif not name:find('num_batches_tracked$') then
      t:normal_(0.1, 0.4)
    end
  end
  safetensors.save(stem .. 'ours.safetensors', own:state_dict())
  local outputs = { ['in.1'] = theirs['in.1'], ['in.2'] = theirs['in.2'] }
  for k, t in ipairs(run(entry, own, outputs)) do outputs['out.' .. k] = t end
  safetensors.save(stem .. 'ours.outputs.safetensors', outputs)
end
file.write('weights', folder .. '/ours.json', function(write) write(json.encode(report)) end)
