--- Batches from data that lie on a device are the batches of data on the CPU.
local torch = require 'masked_torch'
local data = torch.data
local devices = require 'support.device'

local device = devices.name

local function same(here, there)
  for name, value in pairs(here) do
    local other = there[name]
    if torch.is_tensor(value) then
      assert.are.equal(device, other.device:match('^%a+'), name)
    else
      value, other = value:tensor 'bool', other:tensor 'bool'
    end
    assert.are.same(value:size(), other:size())
    assert.is_true(torch.equal(value, other:cpu()), name)
  end
end

local function check(make, options)
  local here, there = data.Loader(make(), options), data.Loader(make():to(device), options)
  for _ = 1, 2 do
    local batches = 0
    for batch in here do
      same(batch, (assert(there())))
      batches = batches + 1
    end
    assert.is_nil(there())
    assert.is_true(batches > 1)
  end
end

devices.describe('loaders', function()
  local text = ('the quick brown fox jumps over the lazy dog; '):rep(3)
  for _, pad in ipairs { 'left', 'right' } do
    for _, lengths in ipairs { 'full', 'random' } do
      local options = { batch_size = 7, shuffle = true, seed = 3, collate = data.collate.sequences{ pad = pad, pad_value = 33 } }
      it(('windows, %s, %s'):format(pad, lengths), function()
        check(function() return data.SlidingWindowDataset(text, 3, 9, { lengths = lengths }) end, options)
        check(function() return data.NextTokenDataset(text, 9, { lengths = lengths }) end, options)
        check(function() return data.CollectionSlidingWindowDataset({ text, 'short', text }, 3, 9, { lengths = lengths }) end, options)
      end)
    end
  end

  it('16-bit tokens, parts of them, and samples one by one', function()
    local bytes = torch.randint(0, 255, 400):to{ dtype = 'uint8' }
    local tokens = data.Tokens(bytes, { dtype = 'uint16', add = 1 }):narrow(20, 180)
    local moved = tokens:to(device)
    assert.is_true(torch.equal(tokens:slice(5, 40), moved:slice(5, 40):cpu()))
    assert.are.equal(moved, moved:to(device))
    check(function() return data.MemoryMapSlidingWindowDataset(tokens, 8, 3) end, { batch_size = 5 })
  end)

  it('tensors', function()
    local x, y = torch.randn(11, 2, 3), torch.randint(1, 5, 11)
    local options = { batch_size = 4, shuffle = true }
    local here = data.Loader(data.TensorDataset{ x = x, y = y }, options)
    local there = data.Loader(data.TensorDataset{ x = x:to{ device = device }, y = y:to{ device = device } }, options)
    for batch in here do same(batch, (assert(there()))) end
  end)

  it('a network learns from them', function()
    torch.manual_seed(1)
    local nn, F = torch.nn, torch.nn.functional
    local loader = data.Loader(data.NextTokenDataset(text, 8):to(device), { batch_size = 16, shuffle = true })
    local net = nn.Sequential{ nn.Embedding(256, 8), nn.ReLU() }:to{ device = device }
    local weight = torch.randn(128, 8):to{ device = device }:requires_grad_()
    local parameters = net:parameters()
    parameters[#parameters + 1] = weight
    local adam = torch.optim.Adam(parameters, { lr = 0.05 })
    local first, last
    for _ = 1, 2 do
      for batch in loader do
        local logits = torch.matmul(net(batch.sequence), weight:t())
        local loss = F.cross_entropy(logits:reshape(-1, 128), batch.target:reshape(-1))
        adam:zero_grad()
        loss:backward()
        torch.optim.clip_grad_norm_(parameters, 1)
        adam:step()
        last = loss:item()
        first = first or last
      end
    end
    assert.is_true(last < first)
  end)
end)
