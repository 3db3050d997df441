-- Lazy layers: every class with input channels or features, alone and in whole networks.
local torch = require 'masked_torch'
local golden = require 'support.golden'
local nn = torch.nn

local function randn(...) return torch.randn(...) end

-- Class of the explicit layer, arguments before the size, size, arguments after it, a shape of inputs.
local layers = {}
local sizes = { { 2, 4, 9 }, { 2, 4, 7, 6 }, { 2, 4, 5, 4, 6 } }
for dims = 1, 3 do
  local function add(name, before, size, after)
    layers[#layers + 1] = { name = ('%s%dd'):format(name, dims), before = before, size = size, after = after, shape = sizes[dims] }
  end
  for _, family in ipairs{ 'Conv', 'ConvTranspose', 'MaskedConv', 'PartialConv', 'MaskConv', 'HalfConv', 'SparseConv',
    'NormalizedConv', 'GatedConv' } do
    add(family, {}, 4, { 6, 3, { padding = 1, groups = 2 } })
  end
  add('SubmanifoldConv', {}, 4, { 6, 3, { bias = false } })
  add('HalfConv', {}, 4, { 6, 3, { learn_alpha = true } })
  for _, family in ipairs{ 'BatchNorm', 'InstanceNorm', 'MaskedBatchNorm', 'MaskedInstanceNorm' } do
    add(family, {}, 4, { { affine = true, track_running_stats = true } })
  end
end
for _, prefix in ipairs{ '', 'Masked' } do
  layers[#layers + 1] = { name = prefix .. 'GroupNorm', before = { 2 }, size = 4, after = { { eps = 1e-3 } }, shape = sizes[2] }
  layers[#layers + 1] = { name = prefix .. 'LayerNorm', before = {}, size = 6, after = { { bias = false } }, shape = sizes[2] }
  layers[#layers + 1] = { name = prefix .. 'LayerNorm', before = {}, size = 4, after = { { channels = true } }, shape = sizes[2] }
  layers[#layers + 1] = { name = prefix .. 'RMSNorm', before = {}, size = 6, after = {}, shape = sizes[2] }
end
layers[#layers + 1] = { name = 'Linear', before = {}, size = 6, after = { 5 }, shape = sizes[2] }

local function join(...)
  local list = {}
  for _, part in ipairs{ ... } do
    for _, value in ipairs(part) do list[#list + 1] = value end
  end
  return unpack(list)
end

local function same_state(a, b)
  local x, y = a:state_dict(), b:state_dict()
  assert.same(a:state_names(), b:state_names())
  for _, name in ipairs(a:state_names()) do assert.same_bits(x[name], y[name]) end
end

describe('a lazy layer', function()
  for i, case in ipairs(layers) do
    it(('%s equals the explicit one (%d)'):format(case.name, i), function()
      local explicit_class, lazy_class = nn[case.name], nn['Lazy' .. case.name]
      torch.manual_seed(i)
      local x = randn(case.shape)
      torch.manual_seed(7)
      local explicit = explicit_class(join(case.before, { case.size }, case.after))
      torch.manual_seed(7)
      local lazy = lazy_class(join(case.before, case.after))
      local copy = lazy:clone()
      assert.equal('Lazy' .. case.name, getmetatable(lazy).__name)
      assert.truthy(tostring(lazy):find('Lazy' .. case.name .. '(', 1, true), tostring(lazy))
      assert.fails(function() lazy:parameters() end, 'parameters: Lazy' .. case.name .. ' has no parameters yet')
      local expected, got = explicit(x), lazy(x)
      assert.same_bits(expected:detach(), got:detach())
      assert.equal(explicit_class, getmetatable(lazy))
      assert.equal(tostring(explicit), tostring(lazy))
      same_state(explicit, lazy)
      assert.equal(#explicit:parameters(), #lazy:parameters())
      for k, p in ipairs(lazy:parameters()) do assert.equal(explicit:parameters()[k].requires_grad, p.requires_grad) end
      -- From a state.
      copy:load_state_dict(explicit:state_dict())
      assert.equal(explicit_class, getmetatable(copy))
      same_state(explicit, copy)
    end)
  end

  it('exists for every class with input channels or features', function()
    for name, stem in pairs(nn.class_files) do
      if (stem == 'conv' or stem == 'masked_conv' or stem == 'norm' or stem == 'masked_norm' or stem == 'linear') and
        not name:find('^Lazy') then
        assert.is_table(nn['Lazy' .. name], name)
        local found = false
        for _, case in ipairs(layers) do found = found or case.name == name end
        assert.is_true(found, name .. ' has no case here')
      end
    end
  end)

  it('is printed as PyTorch prints it', function()
    assert.equal('LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1))', tostring(nn.LazyConv2d(4, 3)))
    assert.equal('LazyBatchNorm2d(0, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)',
      tostring(nn.LazyBatchNorm2d()))
    assert.equal('LazyLinear(in_features=0, out_features=4, bias=True)', tostring(nn.LazyLinear(4)))
    assert.equal('LazyInstanceNorm1d(0, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)',
      tostring(nn.LazyInstanceNorm1d()))
  end)

  it('takes type and device from the first input, unless told', function()
    local x = randn(1, 2, 5, { dtype = 'float64' })
    local layer = nn.LazyMaskedConv1d(3, 3)
    assert.equal('float64', layer(x).dtype)
    assert.equal('float64', layer.weight.dtype)
    local told = nn.LazyConv1d(3, 3, { dtype = 'float32' })
    assert.fails(function() told(x) end, 'float32')
    local moved = nn.Sequential{ nn.LazyConv1d(3, 3), nn.LazyBatchNorm1d() }:double()
    moved(x)
    assert.equal('float64', moved[2].running_mean.dtype)
    local half = nn.LazyHalfConv1d(3, 3, { learn_alpha = true })
    half(x)
    assert.equal('float64', half.alpha.dtype)
    -- A state decides for one that was not told.
    local other = nn.LazyConv1d(3, 3)
    other:load_state_dict(layer:state_dict())
    assert.equal('float64', other.weight.dtype)
    local single = nn.LazyConv1d(3, 3):float()
    single:load_state_dict(layer:state_dict())
    assert.equal('float32', single.weight.dtype)
    assert.fails(function() nn.LazyLinear(2)(torch.tensor({ 1, 2 }, { dtype = 'int64' })) end, 'LazyLinear: input', 'int64')
  end)

  it('stays lazy when its first input does not fit', function()
    local layer = nn.LazyConv2d(4, 3, { groups = 2 })
    assert.fails(function() layer(randn(1, 3, 5, 5)) end, 'LazyConv2d: in_channels: 3 channels cannot be split into 2 groups')
    assert.fails(function() layer(randn(1, 4, 5)) end, 'LazyConv2d: input: expected 4 dimensions')
    assert.equal('LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1), groups=2)', tostring(layer))
    layer(randn(1, 4, 5, 5))
    assert.equal(4, layer.in_channels)
    local norm = nn.LazyGroupNorm(3)
    assert.fails(function() norm(randn(1, 4, 5)) end, 'LazyGroupNorm: num_groups')
    norm(randn(1, 6, 5))
    assert.same({ 6 }, norm.weight:size())
  end)

  it('checks its arguments', function()
    assert.fails(function() nn.LazyConv2d(4, 3, {}, 1) end, 'LazyConv2d: one argument too many')
    assert.fails(function() nn.LazyConv2d(4, 3, { strid = 2 }) end, "LazyConv2d: unknown option 'strid'", "'stride'")
    assert.fails(function() nn.LazyLinear() end, 'LazyLinear: out_features')
    assert.fails(function() nn.LazyBatchNorm2d(4) end, 'LazyBatchNorm2d: options')
    assert.fails(function() nn.Conv2d(nil, 4, 3) end, 'Conv2d: in_channels')
  end)

  it('runs what waits for its parameters', function()
    local seen = {}
    local function zero(layer)
      nn.init.zeros_(layer.bias)
      seen[#seen + 1] = getmetatable(layer).__name
    end
    nn.Linear(2, 3):when_materialised(zero)
    local layer = nn.LazyLinear(3):when_materialised(zero)
    assert.same({ 'Linear' }, seen)
    layer(randn(1, 2))
    assert.same({ 'Linear', 'Linear' }, seen)
    assert.near_tensor({ 0, 0, 0 }, layer.bias:detach())
    assert.fails(function() nn.LazyLinear(3):when_materialised(zero):clone() end, 'clone: a function waits', 'LazyLinear')
    local frozen = nn.Sequential{ nn.LazyLinear(3) }:requires_grad_(false)
    frozen(randn(1, 2))
    assert.is_false(frozen[1].weight.requires_grad)
  end)
end)

describe('a network with lazy layers', function()
  local function build() return nn.Sequential{ nn.Linear(3, 4), nn.LazyLinear(5), nn.ReLU(), nn.Sequential{ nn.LazyBatchNorm1d() } } end

  it('has no parameters and no state to give away', function()
    local net = build()
    assert.fails(function() torch.optim.Adam(net:parameters()) end, "parameters: '1' LazyLinear has no parameters yet",
      'call the network once')
    assert.fails(function() net:num_parameters() end, 'LazyLinear')
    assert.fails(function() net:state_dict() end, "state_dict: '1' LazyLinear has no parameters yet")
    assert.fails(function() net:state_names() end, 'LazyLinear')
    net:zero_grad()
    net:train(false):eval()
    net:train()
    -- Those that are there can be looked at.
    local names = {}
    for name in net:named_parameters() do names[#names + 1] = name end
    assert.same({ '0.weight', '0.bias' }, names)
    -- Nothing will ever come from these.
    assert.equal(0, #nn.Sequential{ nn.LazyInstanceNorm2d() }:parameters())
    assert.same({}, nn.LazyRMSNorm{ elementwise_affine = false }:state_dict())
  end)

  it('loads a state, and says what is missing', function()
    local net, other = build(), build()
    net(randn(2, 3))
    local state = net:state_dict()
    other:load_state_dict(state)
    same_state(net, other)
    local part = build()
    state['1.weight'] = nil
    assert.fails(function() part:load_state_dict(state) end, 'missing: 1.weight', 'unexpected: 1.bias')
    local result = build():load_state_dict(state, { strict = false })
    assert.same({ '1.weight', '1.bias' }, result.missing)
  end)

  it('is cloned with its ties, lazy or not', function()
    local net = build()
    local copy = net:clone()
    net(randn(2, 3))
    assert.equal('LazyLinear', getmetatable(copy[2]).__name)
    copy:load_state_dict(net:state_dict())
    copy[1].weight:detach():fill_(1)
    assert.is_false(torch.equal(net[1].weight, copy[1].weight))
    local tied = nn.Sequential{ nn.Linear(2, 2), nn.Linear(2, 2) }
    tied[2].weight = tied[1].weight
    local again = tied:clone()
    assert.equal(again[1].weight, again[2].weight)
    assert.are_not.equal(tied[1].weight, again[1].weight)
    assert.is_true(again[1].weight.requires_grad)
    assert.equal(3, #again:parameters())
  end)
end)

-- Runs fn with nn.Conv2d(in, ...) and its like making lazy layers.
local function lazily(fn)
  local saved = {}
  for name, stem in pairs(nn.class_files) do
    if (stem == 'conv' or stem == 'masked_conv' or stem == 'linear' or stem == 'norm' or stem == 'masked_norm') and
      not name:find('^Lazy') then
      saved[name] = nn[name]
      nn[name] = function(_, ...) return nn['Lazy' .. name](...) end
    end
  end
  local ok, result = pcall(fn)
  for name, class in pairs(saved) do nn[name] = class end
  assert(ok, result)
  return result
end

local function compare(build, ...)
  torch.manual_seed(5)
  local explicit = build()
  torch.manual_seed(5)
  local lazy = lazily(build)
  assert.truthy(tostring(lazy):find('Lazy', 1, true))
  explicit:eval() lazy:eval()
  local got, expected = lazy(...), explicit(...)
  assert.same_bits(expected:detach(), got:detach())
  same_state(explicit, lazy)
  assert.equal(tostring(explicit), tostring(lazy))
  local loaded = lazily(build):eval()
  loaded:load_state_dict(explicit:state_dict())
  same_state(explicit, loaded)
  assert.same_bits(expected:detach(), loaded(...):detach())
end

describe('built lazily, like explicitly:', function()
  for _, name in ipairs{ 'Conv2d', 'MaskedConv2d', 'PartialConv2d', 'HalfConv2d', 'SparseConv2d', 'NormalizedConv2d', 'GatedConv2d' } do
    it('the network of the figure with ' .. name, function()
      local x, mask = torch.randn(1, 3, 64, 64), torch.rand(1, 3, 64, 64):ge(0.4)
      compare(function()
        local list, inputs = {}, 3
        for i = 0, 5 do
          list[#list + 1] = nn.MaskedUnshuffle2d(2)
          list[#list + 1] = nn[name](4 * inputs, 4 * 2 ^ i, 3, { padding = 1, bias = i % 2 == 0 })
          inputs = 4 * 2 ^ i
        end
        return nn.MaskedSequential(list)
      end, x, mask)
    end)
  end

  local models = golden.root .. '../../experiments/'
  local function model(name)
    local path = package.path
    package.path = models .. '?.lua;' .. path
    local Model = require('language_model.' .. name)
    package.path = path
    return Model
  end
  local tokens = torch.tensor({ { 3, 9, 4, 7, 1, 2, 8, 8 }, { 5, 5, 1, 2, 9, 6, 3, 4 } }, { dtype = 'int64' })

  it('the causal language model', function()
    local Causal = model 'causal'
    for _, tied in ipairs{ false, true } do
      compare(function() return Causal{ vocabulary = 11, width = 12, depth = 3, tied = tied } end, tokens)
    end
  end)

  it('the window language model', function()
    local Window = model 'window'
    compare(function() return Window{ vocabulary = 11, width = 12, depth = 3, scale = 8, context = 16 } end, tokens,
      torch.tensor({ 8, 5 }, { dtype = 'int64' }))
  end)
end)
