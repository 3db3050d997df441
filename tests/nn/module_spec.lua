local torch = require 'masked_torch'
local class = require 'masked_torch.class'
local nn = torch.nn
local Tensor = torch.Tensor

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

local Scale = class('Scale', nn.Module)
function Scale:__init(n, bias)
  nn.Module.__init(self)
  self.n = n
  local ones = {}
  for i = 1, n do ones[i] = i end
  self:register_parameter('weight', tensor(ones))
  self:register_parameter('bias', bias and tensor(ones) or nil)
  self:register_buffer('count', tensor(0, 'int64'))
  self:register_buffer('cache', tensor({ 1, 2 }), { persistent = false })
end
function Scale.forward(_, x, mask)
  if x == 'bad' then require('masked_torch.native').fail('scale: input: expected (n), got bad') end
  return x, mask
end
function Scale:extra_repr() return ('%d, bias=%s'):format(self.n, self.bias and 'True' or 'False') end

local Block = class('Block', nn.Module)
function Block:__init()
  nn.Module.__init(self)
  self.first = Scale(2, true)
  self.act = nn.Identity()
  self.second = Scale(3)
end
function Block:forward(x, mask) return self.second(self.act(self.first(x, mask))) end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return table.concat(list, ' ')
end

describe('Module', function()
  it('lists what was registered, in order', function()
    local net = nn.Sequential{ Block(), nn.Identity(), Scale(1, true) }
    assert.equal('0.first.weight 0.first.bias 0.second.weight 2.weight 2.bias', names(net:named_parameters()))
    assert.equal('0.first.count 0.first.cache 0.second.count 0.second.cache 2.count 2.cache', names(net:named_buffers()))
    assert.equal(' 0 0.first 0.act 0.second 1 2', names(net:named_modules()))
    assert.equal('first act second', names(net[1]:named_children()))
    assert.equal('net.0.first.weight', (net:named_parameters('net')()))
    assert.equal(5, #net:parameters())
    assert.equal(2 + 2 + 3 + 1 + 1, net:num_parameters())
    assert.equal('0.first.weight 0.first.bias 0.first.count 0.second.weight 0.second.count 2.weight 2.bias 2.count',
      table.concat(net:state_names(), ' '))
  end)

  it('lists a shared parameter once and keeps both names in the state', function()
    local a, b = Scale(2), Scale(2)
    b.weight = a.weight
    local net = nn.Sequential(a, b)
    assert.equal(1, #net:parameters())
    local state = net:state_dict()
    assert.same_bits(state['0.weight'], state['1.weight'])
  end)

  it('prints as PyTorch prints', function()
    assert.equal('Scale(2, bias=False)', tostring(Scale(2)))
    assert.equal('Identity()', tostring(nn.Identity(1, 2)))
    assert.equal('Sequential(\n  (0): Block(\n    (first): Scale(2, bias=True)\n    (act): Identity()\n' ..
      '    (second): Scale(3, bias=False)\n  )\n  (1): Identity()\n)', tostring(nn.Sequential{ Block(), nn.Identity() }))
    assert.equal('Sequential()', tostring(nn.Sequential()))
  end)

  it('checks assignments', function()
    local layer = Scale(2)
    layer.weight = tensor{ 5, 6, 7 }
    assert.is_true(layer.weight.requires_grad)
    assert.near_tensor({ 5, 6, 7 }, layer.weight)
    assert.is_nil(layer.bias)
    layer.bias = tensor{ 1 }
    assert.equal('weight bias', names(layer:named_parameters()))
    layer.bias = nil
    assert.equal('weight', names(layer:named_parameters()))
    assert.fails(function() layer.weight = 3 end, 'Scale: weight', 'expected a tensor')
    assert.fails(function() layer.count = 'x' end, 'Scale: count', 'expected a tensor')
    assert.fails(function() layer:register_parameter('a.b', tensor{ 1 }) end, 'without dots')
    assert.fails(function() layer:register_parameter('forward', tensor{ 1 }) end, "'forward' is taken")
    assert.fails(function() layer:register_buffer('weight', tensor{ 1 }) end, "'weight' is taken")
    assert.fails(function() layer:register_buffer('z', tensor{ 1 }, { persistant = false }) end, "did you mean 'persistent'")
    local block = Block()
    assert.fails(function() block.first = 3 end, 'expected a module')
    block.first = nil
    assert.equal('act second', names(block:named_children()))
    block.gain = nn.Parameter(tensor{ 1 })
    assert.equal('gain second.weight', names(block:named_parameters()))
    local Early = class('Early', nn.Module)
    function Early:__init() self.x = 1 end
    assert.fails(function() Early() end, 'Early', 'Module.__init(self)')
  end)

  it('switches modes everywhere', function()
    local net = nn.Sequential{ Block() }
    assert.is_true(net[1].first.training)
    assert.equal(net, net:eval())
    assert.is_false(net[1].first.training)
    net:train()
    assert.is_true(net[1].first.training)
    net:requires_grad_(false)
    assert.is_false(net[1].first.weight.requires_grad)
    local seen = {}
    net:apply(function(m) seen[#seen + 1] = getmetatable(m).__name end)
    assert.equal('Scale Identity Scale Block Sequential', table.concat(seen, ' '))
  end)

  it('converts in place and keeps the identity of its parameters', function()
    local net = nn.Sequential{ Scale(2, true) }
    local weight = net[1].weight
    weight.grad = tensor{ 1, 1 }
    local version = Tensor.version(weight)
    net:double()
    assert.equal(weight, net[1].weight)
    assert.equal('float64', weight.dtype)
    assert.equal('float64', weight.grad.dtype)
    assert.equal('int64', net[1].count.dtype)
    assert.equal('float64', net[1].cache.dtype)
    assert.is_true(weight.requires_grad)
    assert.is_true(Tensor.version(weight) > version)
    assert.near_tensor({ 1, 2 }, weight)
    net:zero_grad()
    assert.is_nil(weight.grad)
    assert.fails(function() net:to{ dtype = 'int64' } end, 'to: dtype')
    assert.fails(function() net:to{ devise = 'cpu' } end, "did you mean 'device'")
  end)

  it('loads a state or changes nothing', function()
    local a, b = nn.Sequential{ Scale(2, true), Scale(3) }, nn.Sequential{ Scale(2, true), Scale(3) }
    a[1].weight = tensor({ 7, 8 }, 'float64')
    a[1].count = tensor(5, 'int64')
    local target = b[1].weight
    local version = Tensor.version(target)
    local result = b:load_state_dict(a:state_dict())
    assert.equal(target, b[1].weight)
    assert.equal('float32', target.dtype)
    assert.is_true(Tensor.version(target) > version)
    assert.near_tensor({ 7, 8 }, target)
    assert.equal(5, b[1].count:item())
    assert.same({ missing = {}, unexpected = {} }, result)

    local state = a:state_dict()
    state['0.weight'] = tensor{ 0, 0 }
    state['1.weight'], state['0.bias'], state.extra = nil, tensor{ 1, 2, 3 }, tensor{ 1 }
    assert.fails(function() b:load_state_dict(state) end, 'missing: 1.weight', 'unexpected: extra',
      '0.bias: the file has (3), the module (2)')
    assert.near_tensor({ 7, 8 }, target)
    assert.fails(function() b:load_state_dict(state, { strict = false }) end, '0.bias')
    state['0.bias'] = nil
    assert.same({ missing = { '0.bias', '1.weight' }, unexpected = { 'extra' } }, b:load_state_dict(state, { strict = false }))
    assert.near_tensor({ 0, 0 }, target)
    assert.fails(function() b:load_state_dict(tensor{ 1 }) end, 'load_state_dict: state')
  end)

  it('runs hooks until they are removed', function()
    local layer, log = Scale(1), {}
    local remove = layer:register_forward_hook(function(module, inputs, outputs)
      log[#log + 1] = { module, inputs[1], outputs[1], outputs[2], outputs.n }
      return { outputs[1] .. '!', outputs[2] }
    end)
    local remove_pre = layer:register_forward_pre_hook(function(_, inputs) return { inputs[1] .. '?', inputs[2] } end)
    local y, mask = layer('x', 'm')
    assert.equal('x?!', y)
    assert.equal('m', mask)
    assert.same({ 'x?', 'x?', 'm', 2 }, { log[1][2], log[1][3], log[1][4], log[1][5] })
    remove()
    remove_pre()
    assert.equal('x', (layer('x')))
    assert.equal(1, #log)
  end)

  it('names the failing module of nested containers', function()
    local net = nn.Sequential{ nn.Identity(), nn.Sequential{ Block() } }
    assert.fails(function() net('bad') end, 'module_spec.lua:', ': Sequential[2][1].first (Scale): scale: input')
    assert.fails(function() net('bad') end, 'module_spec.lua:', ': Sequential[2][1].first (Scale): scale: input')
    -- The name of a chunk may have spaces.
    local line = loadstring('local net, x = ... local y = net(x) return y', '=(command line)')
    local _, named = pcall(line, nn.Sequential{ nn.Softmax(3) }, torch.zeros(2))
    assert.matches('(command line):1: Sequential[1] (Softmax): softmax: dim', named, 1, true)
    local ok, message = pcall(function() Scale(1)('bad') end)
    assert.is_false(ok)
    assert.is_nil(message:find('Scale', 1, true))
    -- An error that a module swallows leaves no trace in the next message.
    local Careful = class('Careful', nn.Module)
    function Careful:__init() nn.Module.__init(self) self.a, self.b = Scale(1), Scale(1) end
    function Careful:forward(x) pcall(self.a, x) return self.b(x) end
    assert.fails(function() Careful()('bad') end, 'Careful.b (Scale): scale')
    assert.equal('fine', (net('fine')))
  end)
end)

describe('containers', function()
  it('are arrays', function()
    local net = nn.Sequential(nn.Identity(), Scale(1), Scale(2))
    assert.equal(3, #net)
    assert.equal(net[3], net[-1])
    assert.is_nil(net[4])
    net:add(Scale(3))
    assert.equal(4, #net)
    assert.equal(net[2], net:slice(2, -2)[1])
    assert.equal(2, #net:slice(2, -2))
    local count = 0
    for i, child in ipairs(net) do assert.equal(net[i], child) count = count + 1 end
    assert.equal(4, count)
    local y, mask = net('x', 'm')
    assert.same({ 'x', 'm' }, { y, mask })
    assert.equal(0, #nn.ModuleList())
  end)

  it('refuse what is not a module', function()
    assert.fails(function() nn.Sequential{ nn.Identity(), 3 } end, 'Sequential: argument 2', 'got number')
    assert.fails(function() nn.Sequential(nn.Identity) end, 'call it')
    assert.fails(function() nn.Sequential{ a = nn.Identity() } end, 'the key a')
    assert.fails(function() nn.Sequential()[3] = nn.Identity() end, 'position 1')
    assert.fails(function() nn.ModuleList{ nn.Identity() }('x') end, 'call its elements')
  end)

  it('keep names in order', function()
    local dict = nn.ModuleDict{ { 'z', Scale(1) }, { 'a', Scale(2) } }
    assert.equal('z a', table.concat(dict:keys(), ' '))
    assert.equal(2, dict.a.n)
    assert.equal('a z', table.concat(nn.ModuleDict{ z = Scale(1), a = Scale(2) }:keys(), ' '))
    assert.fails(function() nn.ModuleDict{ forward = Scale(1) } end, "'forward' is taken")
  end)
end)
