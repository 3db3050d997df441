local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local Tensor = torch.Tensor

local function tensor(values, dtype) return Tensor.from_table('tensor', values, dtype) end

local function round_trip(value)
  local path = scratch.path()
  torch.save(path, value)
  return torch.load(path)
end

describe('torch.save and torch.load #memory', function()
  teardown(scratch.clean)

  it('keep plain values exactly', function()
    for _, value in ipairs{ true, false, 0, -0.0, 1 / 3, 2 ^ 53 + 2, 5e-324, 1.7976931348623157e308, math.huge, -math.huge, '',
      'x', 'ü\n"\\', '\0\255 binary', ('x'):rep(70000) } do
      local got = round_trip(value)
      assert.equal(value, got)
      if value == 0 then assert.equal(1 / value, 1 / got) end
    end
    local nan = round_trip(0 / 0)
    assert.is_true(nan ~= nan)
  end)

  it('keep nested tables and share tensors', function()
    local t = tensor{ { 1, 2 }, { 3, 4 } }
    local value = { step = 7, list = { 1, 'two', { 3 } }, empty = {}, [5] = 'five', [2.5] = true, [true] = 'yes',
      model = { ['0.weight'] = t, again = t }, sparse = { [1] = 'a', [3] = 'c' } }
    local got = round_trip(value)
    assert.same_bits(t, got.model['0.weight'])
    assert.equal(got.model['0.weight'], got.model.again)
    got.model, value.model = nil, nil
    assert.same(value, got)
    assert.same_bits(t, round_trip(t))
  end)

  it('write files that any safetensors reader understands', function()
    local path = scratch.path()
    torch.save(path, { model = { ['0.weight'] = tensor{ 1 } }, ['model.0'] = { weight = tensor{ 2 } } })
    local tensors = torch.io.safetensors.load(path)
    assert.near_tensor({ 2 }, tensors['model.0.weight~2'])
    assert.near_tensor({ 1 }, tensors['model.0.weight'])
    local got = torch.load(path)
    assert.near_tensor({ 2 }, got['model.0'].weight)
    torch.io.safetensors.save(path, { a = tensor{ 5 } }, { format = 'pt' })
    local plain, metadata = torch.load(path)
    assert.near_tensor({ 5 }, plain.a)
    assert.same({ format = 'pt' }, metadata)
  end)

  it('refuse what is not data, by its place', function()
    local path = scratch.path()
    assert.fails(function() torch.save(path, { a = { print } }) end, 'save: value.a[1]: a function')
    assert.fails(function() torch.save(path, { a = io.stdout }) end, 'save: value.a: a userdata')
    assert.fails(function() torch.save(path, { ['x y'] = coroutine.create(print) }) end, 'value["x y"]: a thread')
    assert.fails(function() torch.save(path, { net = torch.nn.Identity() }) end, 'value.net: a Identity', ':state_dict()')
    assert.fails(function() torch.save(path, { [print] = 1 }) end, 'a key is a function')
    assert.fails(function() torch.save(path, { 1LL }) end, 'value[1]: a cdata')
    assert.fails(function() torch.save(path) end, 'torch.save(path, value)')
    local loop = { inner = {} }
    loop.inner.back = loop
    assert.fails(function() torch.save(path, loop) end, 'value.inner.back: the table contains itself')
    local deep = {}
    local at = deep
    for _ = 1, 100 do
      at.x = {}
      at = at.x
    end
    assert.fails(function() torch.save(path, deep) end, 'nested more than 60 deep')
    local twice = { 1 }
    assert.same({ a = { 1 }, b = { 1 } }, round_trip{ a = twice, b = twice })
    assert.is_nil(io.open(path))
  end)

  it('refuse damaged structures', function()
    local path = scratch.path()
    for _, structure in ipairs{ '["t","missing"]', '["q"]', '["b","0"]', '["b","zz"]', '["m",["l"],1]', '["n","x"]', '{}', 'null',
      '["t",3]', '[', '["m",["n","nan"],1]' } do
      torch.io.safetensors.save(path, {}, { ['masked_torch.structure'] = structure, ['masked_torch.version'] = '1' })
      assert.fails(function() torch.load(path) end, 'load: ' .. path .. ': structure')
    end
    torch.io.safetensors.save(path, {}, { ['masked_torch.structure'] = '1', ['masked_torch.version'] = '2' })
    assert.fails(function() torch.load(path) end, 'version 2')
  end)
end)
