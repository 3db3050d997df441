local class = require 'masked_torch.class'
local torch = require 'masked_torch'

local nn, F = torch.nn, torch.nn.functional

-- The receptive field of the output's middle element, found by its gradient; weights are positive, so nothing cancels.
local function by_gradient(net, x)
  net:eval()
  for _, p in ipairs(net:parameters()) do p:detach():abs_():add_(0.1) end
  x:requires_grad_()
  local y = net(x)
  local g, middle = torch.zeros(y:size()), { 1, 1 }
  for d = 3, y:dim() do middle[d] = math.ceil(y:size(d) / 2) end
  g[middle] = 1
  y:backward(g)
  local sizes = {}
  for d = 3, x:dim() do
    local hit = x.grad:abs()
    for _ = d + 1, x:dim() do hit = hit:sum(d + 1) end
    for _ = 1, d - 1 do hit = hit:sum(1) end
    local first, last
    for i, v in ipairs(hit:totable()) do
      if v > 0 then first, last = first or i, i end
    end
    sizes[#sizes + 1] = last - first + 1
  end
  return table.concat(sizes, 'x')
end

local function field_of(net, x)
  local rows = net:describe(x).rows
  return table.concat(rows[#rows].field.size, 'x')
end

describe('describe', function()
  it('says shapes, masks, work and memory of every layer', function()
    local net = nn.Sequential{ nn.MaskedConv2d(3, 8, 3, { padding = 1, stride = 2 }), nn.Sequential{ nn.MaskedBatchNorm2d(8), nn.ReLU() },
      nn.MaskedSpatialMean(), nn.Linear(8, 4) }
    local x, mask = torch.randn(2, 3, 16, 12), torch.mask.boxes({ { 16, 6 }, { 8, 12 } }, { 16, 12 })
    local report = net:describe(x, mask)
    assert.are.equal(5, #report.rows)
    local conv, norm, relu, mean, linear = unpack(report.rows)
    assert.are.same({ '0', '1.0', '1.1', '2', '3' }, { conv.name, norm.name, relu.name, mean.name, linear.name })
    assert.are.same({ 2, 3, 16, 12 }, conv.input)
    assert.are.same({ 2, 8, 8, 6 }, conv.output)
    assert.are.same({ 2, 1, 8, 6 }, conv.mask)
    assert.near(0.5, conv.coverage, 1e-12)
    assert.are.equal(3 * 8 * 9 + 8, conv.parameters)
    assert.are.equal(2 * 8 * 48 * 4, conv.bytes)
    local counted = torch.train.count(net, x, mask)
    assert.are.equal(counted.macs, report.macs)
    assert.are.equal(counted.effective, report.effective)
    assert.are.equal(counted.rows[1].macs, conv.macs)
    assert.are.equal(net:num_parameters(), report.parameters)
    assert.are.equal(4 * net:num_parameters(), report.parameter_bytes)
    assert.is_true(mean.field.all and linear.field.all)
    local text = tostring(report)
    assert.is_truthy(text:find('1%.0 +MaskedBatchNorm2d +%(2, 8, 8, 6%) +%(2, 8, 8, 6%) +%(2, 1, 8, 6%) +50 %% +3x3 +16 '), text)
    assert.is_truthy(text:find('total', 1, true))
    assert.is_true(net.training)
    assert.is_nil(rawget(net[1], '_hooks'))
    assert.is_falsy(tostring(net:describe(x)):find('mask', 1, true))       -- no column without anything in it
  end)

  it('follows receptive fields through every kind of layer', function()
    local function net(...) return nn.Sequential{ ... } end
    local image = { 1, 2, 41, 43 }
    for name, case in pairs{
      ['one convolution'] = { net(nn.Conv2d(2, 1, { 3, 5 })), image },
      ['dilation and stride'] = { net(nn.Conv2d(2, 3, 3, { stride = 2 }), nn.Conv2d(3, 1, 3, { dilation = 3 })), image },
      ['pooling'] = { net(nn.Conv2d(2, 2, 3), nn.AvgPool2d(2), nn.Conv2d(2, 1, 3), nn.AvgPool2d(3, { stride = 2 })), image },
      ['masked convolutions'] = { net(nn.MaskedConv1d(2, 2, 3), nn.PartialConv1d(2, 1, 5, { dilation = 2 })), { 1, 2, 40 } },
      ['unshuffle'] = { net(nn.Unshuffle1d(4), nn.Conv1d(8, 1, 3)), { 1, 2, 64 } },
      ['three axes'] = { net(nn.Conv3d(2, 1, 3), nn.Conv3d(1, 1, { 1, 3, 5 })), { 1, 2, 13, 13, 13 } },
      ['norms between'] = { net(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Softplus(), nn.Conv2d(2, 1, 3)), image },
    } do
      torch.manual_seed(1)
      local x = torch.rand(case[2])
      assert.are.equal(by_gradient(case[1], x), field_of(case[1], x), name)
    end
  end)

  it('takes the larger field where branches meet, in networks of one\'s own', function()
    local Block = class('Block', nn.Module)
    function Block:__init()
      nn.Module.__init(self)
      self.wide, self.narrow = nn.Conv2d(2, 2, 5, { padding = 2 }), nn.Conv2d(2, 2, 1)
      self.last = nn.Conv2d(4, 1, 3, { padding = 1 })
    end
    function Block:forward(x, mask)
      local y = F.relu(self.wide(x) + x)
      return self.last(torch.cat({ y, self.narrow(x) }, 2)), mask
    end
    local rows = Block():describe(torch.randn(1, 2, 9, 9)).rows
    local seen = {}
    for _, row in ipairs(rows) do seen[row.name] = table.concat(row.field.size, 'x') end
    assert.are.same({ wide = '5x5', narrow = '1x1', last = '7x7' }, seen)
  end)

  it('counts repeated calls once, and names wrong arguments', function()
    local shared = nn.Conv2d(2, 2, 3, { padding = 1 })
    local report = nn.Sequential{ shared, shared }:describe(torch.randn(1, 2, 6, 6))
    assert.are.equal(1, #report.rows)
    assert.are.equal(2, report.rows[1].calls)
    assert.are.equal(2 * 4 * 2 * 36, report.rows[1].bytes)
    assert.fails(function() torch.inspect.describe(torch.ones(1), torch.ones(1)) end, 'describe: net')
    assert.fails(function() shared:describe(3) end, 'describe: x')
    assert.fails(function() shared:describe(torch.ones(1, 3, 6, 6)) end, 'Conv2d: input')
  end)
end)
