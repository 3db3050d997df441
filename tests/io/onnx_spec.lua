-- Exported networks: the file read back, and run by the interpreter of tests/support/onnx.lua on several shapes.
local torch = require 'masked_torch'
local cases = require 'io.onnx_cases'
local onnx = require 'support.onnx'
local scratch = require 'support.scratch'
local nn = torch.nn
local export = torch.io.onnx.export

-- The largest difference, relative to the largest value.
local function difference(expected, got)
  expected, got = expected:double(), got:double()
  if expected:numel() == 0 then return 0 end
  local d = (expected - got):abs()
  assert.is_false(d:isnan():any():item(), 'NaN')
  local scale = expected:abs():amax():item()
  return d:amax():item() / (scale > 0 and scale or 1)
end

local function dense(value) return torch.is_tensor(value) and value or value:tensor() end

-- Exports with the first shape and compares for all of them. Returns the model.
local function check(case, opset)
  local net, path = cases.make(case), scratch.path('.onnx')
  local example = cases.inputs(case, case.shapes[1])
  local before = net:state_dict()
  for name, t in pairs(before) do before[name] = t:clone() end
  local report = export(net, path, { inputs = example, dynamic_axes = cases.axes(case, example), input_names = case.input_names,
    training = case.training, opset = opset })
  for name, t in pairs(net:state_dict()) do assert.same_bits(before[name], t) end
  local model = onnx.read(path)
  assert.equal(report.nodes, #model.nodes)
  for _, shape in ipairs(case.shapes) do
    local inputs = cases.inputs(case, shape)
    local got = onnx.run(model, inputs)
    local expected = { torch.no_grad(net, unpack(inputs)) }
    assert.equal(table.maxn(expected), #got)
    for i, value in ipairs(got) do
      local err = difference(dense(expected[i]), value)
      assert(err <= 1e-5, ('%s: output %d for shape %s: error %g'):format(case.name, i, table.concat(shape, 'x'), err))
    end
  end
  return model, net, report
end

describe('onnx.export', function()
  teardown(scratch.clean)

  for _, case in ipairs(cases) do
    if not case.large then it('writes ' .. case.name, function() check(case) end) end
  end

  it('has a case for every layer', function()
    local have = {}
    for _, case in ipairs(cases) do
      for word in (case.name .. ' ' .. tostring(case.net())):gmatch('%w+') do have[word] = true end
    end
    -- Containers without a forward of their own, and what is not a layer.
    local excepted = { Module = true, Parameter = true, ModuleList = true, ModuleDict = true, Sequential = true }
    for name, stem in pairs(nn.class_files) do
      if stem ~= 'loss' and not excepted[name] and not name:find('^Lazy') then assert.is_true(have[name], name .. ' has no case') end
    end
  end)

  for _, opset in ipairs{ 13, 17, 22 } do
    it(('writes opset %d'):format(opset), function()
      for i = 1, #cases, 23 do
        if not cases[i].large then assert.equal(opset, check(cases[i], opset).opset) end
      end
    end)
  end
end)

local function written(net, opts)
  local path = scratch.path('.onnx')
  local report = export(net, path, opts)
  return onnx.read(path), report, path
end

describe('an exported file', function()
  teardown(scratch.clean)
  local x = torch.randn(2, 3, 8, 6)
  local mask = torch.rand(2, 1, 8, 6):gt(0.3)
  local function build()
    return nn.Sequential{ nn.MaskedConv2d(3, 4, 3, { padding = 1 }), nn.MaskedBatchNorm2d(4), nn.ReLU(),
      nn.Sequential{ nn.MaskedSpatialMean(), nn.Linear(4, 2) } }
  end

  it('says what it is', function()
    local net = build()
    local model, report, path = written(net, { inputs = { x, mask }, doc = 'a test', name = 'four_layers',
      dynamic_axes = { x = { 'batch', [3] = 'height' }, mask = { 'batch', [3] = 'height' } } })
    assert.equal('masked_torch', model.producer)
    assert.equal(torch.__version, model.version)
    assert.equal(8, model.ir_version)
    assert.equal(18, model.opset)
    assert.equal('a test', model.doc)
    assert.equal('four_layers', model.name)
    assert.equal(tostring(net), model.graph_doc)
    assert.equal('false', model.metadata.training)
    assert.equal(torch.__version, model.metadata.masked_torch)
    assert.is_nil(model.metadata.assumes)
    assert.same({ { name = 'x', dtype = 'float32', shape = { 'batch', 3, 'height', 6 } },
      { name = 'mask', dtype = 'bool', shape = { 'batch', 1, 'height', 6 } } }, model.inputs)
    assert.same({ { name = 'y', dtype = 'float32', shape = { 'batch', 2 } },
      { name = 'y_mask', dtype = 'float32', shape = { 'batch', 1 } } }, model.outputs)
    assert.same(model.inputs, report.inputs)
    assert.same(model.outputs, report.outputs)
    assert.equal(#scratch.content(path), report.bytes)
    assert.is_true(net.training)
  end)

  it('holds the weights under their names in the state', function()
    local net = build()
    local model = written(net, { inputs = { x, mask } })
    for name, t in pairs(net:state_dict()) do
      if name ~= '1.num_batches_tracked' then assert.same_bits(t, model.initializers[name]) end
    end
    assert.is_nil(model.initializers['1.num_batches_tracked'])
    -- Nodes are named after the modules, results after the nodes, and everything is there before it is used.
    local seen, parts = {}, {}
    for _, input in ipairs(model.inputs) do seen[input.name] = true end
    for name in pairs(model.initializers) do seen[name] = true end
    for _, node in ipairs(model.nodes) do
      for _, name in ipairs(node.inputs) do assert.is_true(name == '' or seen[name], name) end
      assert.is_nil(seen[node.outputs[1]])
      seen[node.outputs[1]] = true
      parts[node.name:match('^(.*)/') or ''] = true
    end
    for _, path in ipairs{ '0', '1', '2', '3.0', '3.1' } do assert.is_true(parts[path], path) end
    -- Nothing is there for nothing.
    local used = {}
    for _, node in ipairs(model.nodes) do
      for _, name in ipairs(node.inputs) do used[name] = true end
    end
    for name in pairs(model.initializers) do assert.is_true(used[name], name) end
  end)

  it('names sizes that follow from others, and what was assumed of them', function()
    local net = nn.Sequential{ nn.Conv1d(4, 4, 3, { stride = 2 }), nn.Unshuffle1d(2) }
    local model, report = written(net, { inputs = { torch.randn(1, 4, 13) }, dynamic_axes = { x = { [3] = 'length' } } })
    assert.same({ 1, 8, 'floor((length + 3)/4) - 1' }, model.outputs[1].shape)
    assert.same({ 'floor((length + 1)/2) - 1 is a multiple of 2' }, report.notes)
    assert.equal(report.notes[1], model.metadata.assumes)
  end)

  it('is the same every time', function()
    local net = build()
    local _, _, first = written(net, { inputs = { x, mask }, dynamic_axes = { { 1, 3 }, { 1, 3 } } })
    local _, _, second = written(net, { inputs = { x, mask }, dynamic_axes = { { 1, 3 }, { 1, 3 } } })
    assert.equal(scratch.content(first), scratch.content(second))
  end)

  it('takes masks of every kind as examples', function()
    local layer = nn.MaskedConv1d(2, 3, 3, { padding = 1 })
    local m = torch.mask.lengths({ 4, 2 }, 5)
    local model = written(layer, { inputs = { torch.randn(2, 2, 5), m } })
    assert.same({ name = 'mask', dtype = 'bool', shape = { 2, 1, 5 } }, model.inputs[2])
    local input = torch.randn(2, 2, 5)
    local y = onnx.run(model, { input, m:tensor('bool') })
    assert.is_true(difference(layer(input, m):detach(), y[1]) <= 1e-6)
  end)

  it('runs in float64', function()
    local net = build():double()
    local model = written(net, { inputs = { x:double(), mask } })
    assert.equal('float64', model.outputs[1].dtype)
    local y = onnx.run(model, { x:double(), mask })
    -- epsilon is a float32 attribute where a standard operator normalises.
    assert.is_true(difference(net:eval()(x:double(), mask):detach(), y[1]) <= 1e-12)
  end)

  it('leaves the network and the library as they were', function()
    local net = build()
    local relu, add, of = torch.nn.functional.relu, torch.Tensor.__add, torch.mask.of
    local state = net:state_dict()
    for name, t in pairs(state) do state[name] = t:clone() end
    written(net, { inputs = { x, mask }, training = true })
    assert.fails(function() written(nn.Sequential{ nn.Dropout() }, { inputs = { x }, training = true }) end, 'dropout')
    assert.equal(relu, torch.nn.functional.relu)
    assert.equal(add, torch.Tensor.__add)
    assert.equal(of, torch.mask.of)
    for name, t in pairs(net:state_dict()) do assert.same_bits(state[name], t) end
    assert.is_true(torch.is_grad_enabled())
    assert.is_true(net(x, mask).requires_grad)
  end)
end)

describe('onnx.export refuses', function()
  teardown(scratch.clean)
  local x = torch.randn(2, 3, 8)
  local path = scratch.path('.onnx')
  local function refused(net, opts, ...)
    local messages = { ... }
    assert.fails(function() export(net, path, opts) end, unpack(messages))
    assert.is_nil(io.open(path))
  end

  local function module(forward)
    local Own = require 'masked_torch.class'('Own', nn.Module)
    function Own:__init() nn.Module.__init(self) end
    Own.forward = forward
    return Own()
  end

  it('what has no form, and names it and its place', function()
    local opts = { inputs = { x } }
    refused(nn.Sequential{ nn.ReLU(), module(function(_, y) return y:cumprod(2) end) }, opts, 'onnx.export', 'Sequential[2]', 'cumprod')
    refused(module(function(_, y) return y:add_(1) end), opts, 'add_')
    refused(module(function(_, y) return (torch.sort(y)) end), opts, 'sort')
    refused(module(function(_, y) return y[y:gt(0)] end), opts, 'indexing by a mask', 'torch.where')
    refused(module(function(_, y) return y[{ 1, 2, 3, 4 }] end), opts, '4 entries for 3 dims')
    refused(module(function(_, y)
      y[1] = 0
      return y
    end), opts, 'assignment')
    refused(module(function() return nil end), opts, 'returned nothing')
    refused(module(function() return 3 end), opts, 'expected tensors')
    refused(module(function(_, y) return y + nil end), opts, 'add')
    refused(nn.MaxPool1d(2, { return_indices = true }), opts, 'return_indices')
    refused(nn.MSELoss(), { inputs = { x, x } }, 'mse_loss')
    refused(nn.Sequential{ nn.Dropout(0.5) }, { inputs = { x }, training = true }, 'dropout', 'eval()')
  end)

  it('networks that are not ready', function()
    refused(nn.Sequential{ nn.LazyConv1d(4, 3) }, { inputs = { x } }, 'LazyConv1d has no parameters yet')
    local hooked = nn.Sequential{ nn.ReLU() }
    hooked[1]:register_forward_hook(function() end)
    refused(hooked, { inputs = { x } }, 'ReLU', 'hooks')
    refused(nn.Sequential{ nn.MaskedConv1d(4, 3, 3) }, { inputs = { x } }, 'onnx.export', 'Sequential[1]', 'in_channels = 4')
  end)

  it('wrong arguments', function()
    local net = nn.ReLU()
    refused(3, { inputs = { x } }, 'onnx.export: net')
    refused(net, {}, 'onnx.export: inputs', 'got nil')
    refused(net, { inputs = x }, 'inputs', '{ x }')
    refused(net, { inputs = {} }, 'at least one')
    refused(net, { inputs = { 3 } }, 'inputs[1]')
    refused(net, { inputs = { x }, opset = 12 }, 'opset', '13 to 22', '12')
    refused(net, { inputs = { x }, opset = 18.5 }, 'opset')
    refused(net, { inputs = { x }, input_name = {} }, "unknown option 'input_name'", 'input_names')
    refused(net, { inputs = { x }, input_names = { 'a', 'b' } }, '2 names for 1')
    refused(net, { inputs = { x }, output_names = { 'x' } }, "'x' is taken")
    refused(net, { inputs = { x, x }, input_names = { 'a', 'a' } }, 'given twice')
    refused(net, { inputs = { x }, dynamic_axes = { z = { 1 } } }, 'no input "z"', 'inputs: x')
    refused(net, { inputs = { x }, dynamic_axes = { x = { [4] = 'batch' } } }, 'dynamic_axes: x', '4')
    refused(net, { inputs = { x }, dynamic_axes = { x = { [1] = 'a b' } } }, 'letters')
    refused(net, { inputs = { x, x:narrow(1, 1, 1) }, dynamic_axes = { x = { 'batch' }, mask = { 'batch' } } },
      "'batch' is 2 in x and 1 in mask")
    assert.fails(function() export(net, '', { inputs = { x } }) end, 'onnx.export: path')
    assert.fails(function() export(net, '/nonexistent/a.onnx', { inputs = { x } }) end, 'onnx.export: /nonexistent/a.onnx')
  end)

  it('files above 2 GiB', function()
    local net = module(function(self, y) return y, self.big end)
    net:register_buffer('big', torch.zeros(1):expand(2 ^ 29))      -- a view: nothing of that size exists
    refused(net, { inputs = { x } }, '2 GiB', '2147483')
  end)
end)
