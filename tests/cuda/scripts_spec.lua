--- What stands above the kernels, on a device: masks, modules, optimisers, files, batches, experiments. The expected values are the
-- CPU's. MASKED_TORCH_TEST_DEVICE names the device.
local torch = require 'masked_torch'
local process = require 'support.process'
local nn, F = torch.nn, torch.nn.functional

local device = require('support.device').name
local root = require 'support.root'

-- Every value within `limit` of the largest.
local function close(expected, got, limit, what)
  assert.are.equal(expected.dtype, got.dtype, what)
  assert.same(expected:size(), got:size())
  local e, g = expected:detach():double(), got:detach():cpu():double()
  local error, scale = (e - g):abs():max():item(), math.max(1e-30, e:abs():max():item())
  assert.is_true(error <= limit * scale, ('%s: error %g of %g'):format(what or '', error, scale))
end

local function on_device(t) return t.device:match('^cuda:') ~= nil end

local function network()
  torch.manual_seed(3)
  return nn.Sequential{ nn.Conv2d(3, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.GroupNorm(2, 8), nn.GELU(),
    nn.Conv2d(8, 6, 3, { padding = 1 }), nn.MaskedSpatialMean(), nn.Linear(6, 4) }
end

local function example()
  torch.manual_seed(4)
  return torch.randn(3, 3, 8, 8), { { 8, 8 }, { 6, 4 }, { 2, 8 } }, torch.tensor({ 1, 4, 2 }, { dtype = 'int64' })
end

-- Three steps of an optimiser; returns the network and the losses.
local function train(net, make, where, steps, optimizer)
  local x, sizes, target = example()
  x, target = x:to(where), target:to(where)
  local mask = torch.mask.boxes(sizes, { 8, 8 }, { device = where })
  optimizer = optimizer or make(net:parameters())
  local losses = {}
  for step = 1, steps or 3 do
    optimizer:zero_grad()
    local loss = F.cross_entropy(net(x, mask), target)
    loss:backward()
    optimizer:step()
    losses[step] = loss:item()
  end
  return optimizer, losses
end

describe('on ' .. (device or 'no device'), function()
  local function check(name, test)
    it(name, function()
      if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
      test()
    end)
  end

  check('masks are made there, move there and back, and say the same', function()
    local sizes = { { 4, 3 }, { 2, 5 } }
    local masks = { torch.mask.boxes(sizes, { 4, 5 }), torch.mask.lengths({ 5, 2 }, 5),
      torch.mask.lengths({ 5, 2 }, 5, { align = 'right' }),
      torch.mask.full{ 2, 1, 5 }, torch.mask.wrap(torch.tensor{ { { 1, 0.5, 0 } }, { { 0, 0, 1 } } }),
      torch.mask.wrap(torch.ones(2, 3, 4):expand(2, 3, 4)) }
    for _, m in ipairs(masks) do
      local there = m:to(device)
      assert.is_true(on_device(there))
      assert.are.equal(there, there:to { device = device })
      assert.same(m:totable(), there:totable())
      assert.same(m:count(), there:count())
      assert.are.equal(m:coverage(), there:coverage())
      assert.are.equal(m:all_valid(), there:all_valid())
      assert.are.equal(m:is_binary(), there:is_binary())
      assert.are.equal(tostring(m), tostring(there))
      assert.same(m:one_channel():size(), there:one_channel():size())
      assert.is_true(on_device(there:tensor 'float64'))
      assert.are.equal('cpu', there:cpu().device)
      assert.same(m:totable(), there:cpu():totable())
    end
    local made = torch.mask.boxes(sizes, { 4, 5 }, { device = device })
    assert.is_true(on_device(made))
    assert.same(masks[1]:totable(), made:totable())
    assert.same(masks[2]:totable(), torch.mask.lengths({ 5, 2 }, 5, { device = device }):totable())
    local ok, message = pcall(function() return nn.ApplyMask()(torch.ones(2, 1, 5, { device = device }), masks[2]) end)
    assert.is_false(ok)
    assert.truthy(message:find('mask is on cpu, the input on cuda:0', 1, true), message)
  end)

  check('modules move with parameters, buffers and gradients, and compute what they compute on the CPU', function()
    local x, sizes = example()
    for _, training in ipairs { true, false } do
      local here, there = network():train(training), network():to(device):train(training)
      for name, p in there:named_parameters() do assert.is_true(on_device(p), name) end
      for _, b in ipairs(there:buffers()) do assert.is_true(on_device(b)) end
      local a = here(x, torch.mask.boxes(sizes, { 8, 8 }))
      local b = there(x:to(device), torch.mask.boxes(sizes, { 8, 8 }, { device = device }))
      close(a, b, 5e-6, 'output')
      a:sum():backward()
      b:sum():backward()
      local gradients = {}
      for name, p in there:named_parameters() do gradients[name] = p.grad end
      -- A bias before a batch norm has a gradient of rounding errors.
      for name, p in here:named_parameters() do
        if name ~= '0.bias' then close(p.grad, gradients[name], 2e-4, name) end
      end
      local state = there:cpu():state_dict()
      for name, value in pairs(here:state_dict()) do close(value, state[name], 5e-6, name) end
    end
  end)

  check('lazy modules are made where their input is', function()
    local x = torch.randn(2, 3, 6, 6, { device = device })
    local net = nn.Sequential{ nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.MaskedSpatialMean(), nn.LazyLinear(5) }:to(device)
    local y = net(x)
    assert.is_true(on_device(y))
    for name, p in net:named_parameters() do assert.is_true(on_device(p), name) end
  end)

  check('optimisers train there, and their state moves to the CPU and back', function()
    for _, name in ipairs { 'SGD', 'Adam', 'AdamW' } do
      local function make(parameters)
        return torch.optim[name](parameters, name == 'SGD' and { lr = 0.05, momentum = 0.9 } or { lr = 0.01 })
      end
      local here, there = network(), network():to(device)
      local _, expected = train(here, make, 'cpu', 4)
      local first, losses = train(there, make, device, 2)
      -- Two steps on the device, two on the CPU.
      local back = network()
      back:load_state_dict(there:state_dict())
      local second = make(back:parameters())
      second:load_state_dict(first:state_dict())
      local _, more = train(back, make, 'cpu', 2, second)
      for i = 1, 2 do
        assert.is_true(math.abs(losses[i] - expected[i]) <= 1e-4 * expected[i], name)
        assert.is_true(math.abs(more[i] - expected[i + 2]) <= 1e-3 * expected[i + 2], name)
      end
    end
  end)

  check('files hold what lay on a device; load puts it where it is asked to', function()
    local path = os.tmpname()
    local x = torch.randn(3, 4, { device = device })
    torch.save(path, { x = x, list = { x:narrow(1, 2, 1), 5 } })
    local here, there = torch.load(path), torch.load(path, { device = device })
    assert.are.equal('cpu', here.x.device)
    assert.is_true(on_device(there.x) and on_device(there.list[1]))
    assert.same(x:totable(), here.x:totable())
    assert.same(x:totable(), there.x:totable())
    local net, other = network():to(device), network()
    local optimizer = torch.optim.Adam(net:parameters(), { lr = 0.01 })
    train(net, nil, device, 1, optimizer)
    torch.train.checkpoint.save(path, { model = net, optimizer = optimizer, step = 7 })
    nn.init.zeros_(other[1].weight)
    local rest = torch.train.checkpoint.load(path, { model = other, optimizer = torch.optim.Adam(other:parameters(), { lr = 0.01 }) })
    assert.are.equal(7, rest.step)
    assert.same(net[1].weight:totable(), other[1].weight:totable())
    local third = network():to(device)
    torch.train.checkpoint.load(path, { model = third, optimizer = torch.optim.Adam(third:parameters(), { lr = 0.01 }) })
    assert.is_true(on_device(third[1].weight))
    assert.same(net[1].weight:totable(), third[1].weight:totable())
    os.remove(path)
  end)

  check('gradcheck', function()
    local float64 = { dtype = 'float64', device = device }
    local x, w = torch.randn(2, 3, 4, 4, float64):requires_grad_(), torch.randn(2, 3, 3, 3, float64):requires_grad_()
    assert.is_true(torch.gradcheck(function(a, b) return F.conv2d(a, b, nil, { padding = 1 }) end, { x, w }))
    local mask = torch.mask.boxes({ { 4, 2 }, { 3, 4 } }, { 4, 4 }, { device = device })
    assert.is_true(torch.gradcheck(function(a) return (F.batch_norm(a, nil, nil, { training = true, mask = mask })) end, { x }))
    assert.is_true(torch.gradcheck(function(a) return (F.avg_pool2d(a, 2, { mask = mask })) end, { x }))
  end)

  check('batches, with masks and tables in them, and what the loader makes of a dataset on the CPU', function()
    local batch = { x = torch.ones(2, 3), inner = { torch.mask.lengths({ 1, 2 }, 3), 'text' }, n = 5 }
    batch.again = batch.inner
    local there = torch.data.to(batch, device)
    assert.is_true(on_device(there.x) and on_device(there.inner[1]))
    assert.are.equal(there.inner, there.again)
    assert.are.equal('cpu', batch.x.device)
    assert.are.equal(5, there.n)
    assert.fails(function() torch.data.to(batch) end, 'data.to', 'device')
    local dataset = torch.data.TensorDataset{ x = torch.randn(10, 3), y = torch.randint(1, 2, { 10 }) }
    local here = torch.data.Loader(dataset, { batch_size = 4, shuffle = true, seed = 2 })
    local loader = torch.data.Loader(dataset, { batch_size = 4, shuffle = true, seed = 2, device = device,
      transform = function(b)
        assert.is_true(on_device(b.x))
        return b
      end })
    for b in loader do
      local want = here()
      assert.is_true(on_device(b.y))
      assert.same(want.x:totable(), b.x:totable())
    end
  end)

  check('what shows tensors brings them to the CPU', function()
    local x = torch.rand(3, 5, 4, { device = device })
    local path = os.tmpname()
    torch.io.png.save(path, x)
    torch.io.npy.save(path, x)
    assert.same(x:totable(), torch.io.npy.load(path):totable())
    os.remove(path)
    assert.truthy(tostring(x):find('cuda:0', 1, true))
    assert.truthy(tostring(x:sum()):find '%d')
  end)

  check('the language model trains, goes on on the CPU, and is sampled', function()
    local out = os.tmpname()
    os.remove(out)
    local function script(...)
      local how, text, errors = process.run(root .. 'experiments/language_model.lua', ...)
      assert.are.equal('exit 0', how, errors)
      return text
    end
    local text = root .. 'README.md'
    script('train', '--device', device, '--data', text, '--quick', '--steps', '4', '--valid-every', '2', '--width', '16', '--context', '16',
      '--depth', '1', '--batch', '2', '--valid-batches', '1', '--valid-context', '16', '--out', out, '--quiet')
    script('resume', '--data', text, '--out', out, '--quiet')
    assert.truthy(script('sample', '--device', device, '--out', out, '--tokens', '3', '--prompt', 'The'):find 'The')
    os.execute('rm -r ' .. out)
  end)

  check('a picture of activations is drawn', function()
    local out = os.tmpname() .. '.png'
    local how, _, errors = process.run(root .. 'experiments/visualize_activations.lua', '--device', device, '--size', '16',
      '--depth', '2', '--out', out)
    if errors:find 'undefined symbol' then pending(errors:match 'undefined symbol: %S+') end
    assert.are.equal('exit 0', how, errors)
    os.remove(out)
  end)
end)
