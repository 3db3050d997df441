local commands = require('masked_torch.repl.commands').list
local complete = require 'masked_torch.repl.complete'
local scratch = require 'support.scratch'
local session = require 'masked_torch.repl.session'

local s

-- What Tab offers behind the text, as a set; and what stands before it stays.
local function offers(text)
  local from, list = complete(s, text, #text, commands)
  local set = {}
  for _, candidate in ipairs(list or {}) do set[candidate] = true end
  return set, list or {}, from and text:sub(from)
end
local function has(text, ...)
  local set, list = offers(text)
  for _, name in ipairs{ ... } do assert.is_true(set[name] == true, text .. ' lacks ' .. name .. ': ' .. table.concat(list, ' ')) end
end
local function lacks(text, ...)
  local set = offers(text)
  for _, name in ipairs{ ... } do assert.is_nil(set[name], text .. ' offers ' .. name) end
end
local function only(text, candidate)
  local _, list, typed = offers(text)
  assert.are.same({ candidate }, list, text)
  return typed
end

describe('completion', function()
  before_each(function()
    s = session.new()
    s:evaluate 'local picture = torch.ones(2, 3)'
    s:evaluate 'local net = nn.Sequential{ nn.Conv2d(3, 4, 3), nn.ReLU() }'
    s:evaluate 'local deep = { inner = { first = "text", ["a b"] = 1 }, 5 }'
    s:evaluate 'local trap = setmetatable({}, { __index = function() error "touched" end })'
  end)
  after_each(function() scratch.clean() end)

  it('knows variables, what the prompt gives, globals and keywords', function()
    has('pic', 'picture')
    has('t', 'torch', 'table', 'then', 'trap', 'type', 'tostring')
    only('pict', 'picture')
    only('collectg', 'collectgarbage(')
    only('repea', 'repeat')
    only('x = 1; opti', 'optim')
    lacks('_', '__poll', '__values')
    assert.are.same({}, (offers ''))
    assert.are.same({}, (offers '-- pic'))
  end)

  it('knows fields and methods without running anything', function()
    has('torch.ran', 'rand', 'randn', 'range')
    only('torch.linsp', 'linspace(')
    has('torch.', 'nn', 'optim', 'inspect', 'zeros')
    has('nn.Conv', 'Conv1d', 'Conv2d', 'ConvTranspose2d')
    has('F.re', 'relu')
    has('optim.A', 'Adam', 'AdamW')
    has('optim.', 'lr_scheduler', 'SGD')
    has('nn.', 'functional', 'init', 'Module')
    has('torch.io.', 'png', 'safetensors')
    has('torch.train.', 'progress', 'checkpoint')
    has('picture:s', 'sum', 'size', 'sqrt')
    has('picture.', 'dtype', 'device')
    lacks('picture:', 'dtype', '_c')
    has('net:', 'forward', 'parameters', 'describe')
    has('net[1].', 'weight', 'bias', 'kernel_size')
    has('net[1].weight:m', 'mean', 'matmul')
    only('deep.inn', 'inner')
    only('deep.inner.fi', 'first')
    lacks('deep.inner.', 'a b')
    has('deep.inner.first:', 'gsub', 'format')
    has('("x"):', 'sum')                      -- behind any call: methods of tensors
    has('picture:sum():it', 'item')
    assert.are.same({}, (offers 'trap.any'))
    assert.are.same({}, (offers 'trap.any.more'))
    assert.are.same({}, (offers 'nothing.more'))
    has('print(picture:su', 'sum')
    has('a = {net[2].tr', 'training')
  end)

  it('knows option keys', function()
    has('nn.Conv2d(3, 4, 3, { ', 'padding = ', 'stride = ', 'groups = ')
    only('nn.Conv2d(3, 4, 3, { padding = 1, str', 'stride = ')
    has('nn.MaskedConv2d(3, 4, 3, {', 'padding = ', 'compat = ')
    has('optim.Adam(net:parameters(), { ', 'lr = ', 'betas = ')
    has('optim.SGD(net:parameters(), {mom', 'momentum = ')
    has('torch.zeros(2, 3, { d', 'dtype = ', 'device = ')
    has('F.cross_entropy(a, b, { ', 'label_smoothing = ', 'reduction = ')
    has('picture:sum(1, { ', 'keepdim = ')
    has('x = { pic', 'picture')               -- a plain table holds names
    has('nn.Conv2d(3, 4, 3, { padding = pic', 'picture')
  end)

  it('knows files in strings and modules behind require', function()
    local path = scratch.file('', '_weights.safetensors')
    assert.are.equal(path:sub(1, -6), (only("torch.load '" .. path:sub(1, -6), path)))
    assert.are.same({}, (offers "x = '/nowhere/at/all"))
    has("require 'masked_torch.n", 'masked_torch.nn', 'masked_torch.native')
    has('require("masked_torch.repl.com', 'masked_torch.repl.complete', 'masked_torch.repl.commands')
    only(':load ' .. path:sub(1, -6), path)
  end)

  it('knows commands, and Lua behind them', function()
    has(':', 'time', 'mem', 'help')
    only(':rel', 'reload')
    has(':time picture:su', 'sum')
    only('?torch.linsp', 'linspace(')
    only('?? pict', 'picture')
  end)

  it('takes any beginning of any line', function()
    for _, text in ipairs{ 'nn.Conv2d(3, 4, 3, { padding = {1, 2}, stride = ', "f(a[1]['x'].y:z{1, 2}, \"text",
      'net[1][2].weight:sum(', '::a:: goto a', 'x.y.z:', '}])', 'deep[', 'deep["inner"].', '#picture:', 'a..b.' } do
      for n = 0, #text do complete(s, text:sub(1, n), n, commands) end
    end
    has('deep["inner"].', 'first')
  end)
end)
