local ffi = require 'ffi'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'

local nn, checkpoint = torch.nn, torch.train.checkpoint

local function network(width)
  return nn.Sequential{ nn.MaskedConv1d(2, width or 3, 3, { padding = 1 }), nn.MaskedBatchNorm1d(width or 3) }
end

-- An optimiser as this file knows it: something with a state.
local function optimizer(seed)
  local self = { moments = { torch.randn(3, 4, { generator = torch.Generator(seed) }) }, step_count = seed, fails = false }
  return setmetatable(self, { __index = {
    state_dict = function(o) return { moments = o.moments, step = o.step_count } end,
    load_state_dict = function(o, state)
      o.moments, o.step_count = { state.moments[1]:clone() }, state.step
      if o.fails then error('optimizer: 2 groups expected, got 1', 0) end
    end,
  } })
end

local function folder()
  local path = os.tmpname()
  os.remove(path)
  os.execute('mkdir ' .. path)
  finally(function() os.execute('rm -rf ' .. path) end)
  return path
end

local function names_in(path)
  local names = {}
  for name in require('lfs').dir(path) do
    if name ~= '.' and name ~= '..' then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function states_equal(a, b)
  for name, t in pairs(a) do assert.same_bits(t, b[name]) end
end

describe('checkpoint', function()
  it('restores every object and returns the rest', function()
    local path = folder() .. '/new/a.safetensors'
    local net, opt, noise = network(), optimizer(7), torch.Generator(3)
    net(torch.randn(2, 2, 5))
    torch.manual_seed(11)
    torch.rand(5)
    noise:next_call()
    checkpoint.save(path, { model = net, optimizer = opt, generators = { noise = noise }, step = 12, epoch = 2, best = math.huge,
      config = { name = 'tiny', list = { 1, 2 }, rate = 0.1 } })
    local expected, drawn = torch.rand(4), noise:get_state()

    local other, other_opt, other_noise = network(), optimizer(1), torch.Generator(99)
    torch.manual_seed(0)
    local rest = checkpoint.load(path, { model = other, optimizer = other_opt, generators = { noise = other_noise }, step = 0 })
    states_equal(net:state_dict(), other:state_dict())
    assert.same_bits(opt.moments[1], other_opt.moments[1])
    assert.are.equal(7, other_opt.step_count)
    assert.are.same(drawn, other_noise:get_state())
    assert.same_bits(expected, torch.rand(4))
    assert.are.equal(12, rest.step)
    assert.are.equal(math.huge, rest.best)
    assert.are.same({ name = 'tiny', list = { 1, 2 }, rate = 0.1 }, rest.config)
    assert.are.equal(torch.__version, rest.library)
    assert.are.equal(12, checkpoint.verify(path).step)
    assert.are.equal(12, torch.load(path).step)
  end)

  it('lists what does not fit, and changes nothing', function()
    local path = folder() .. '/a.safetensors'
    checkpoint.save(path, { model = network(), optimizer = optimizer(7), step = 1 })
    local net, opt, fitting = network(4), optimizer(1), network()
    local longer = nn.Sequential{ nn.Identity(), nn.Identity(), nn.Linear(2, 2) }
    torch.manual_seed(5)
    local before = {}
    for name, t in pairs(net:state_dict()) do before[name] = t:clone() end
    assert.fails(function() checkpoint.load(path, { model = net, optimizer = opt }) end, 'checkpoint.load', path, 'model',
      '0.weight: the file has (3, 2, 3), the module (4, 2, 3)', '1.running_mean: the file has (3), the module (4)')
    states_equal(before, net:state_dict())
    assert.are.equal(1, opt.step_count)
    assert.fails(function() checkpoint.load(path, { model = longer }) end, 'missing: 2.weight, 2.bias',
      'unexpected: 0.bias, 0.weight', '1.weight')
    assert.fails(function() checkpoint.load(path, { model = fitting, scheduler = optimizer(1) }) end, 'has no scheduler',
      'it has default_generator, model, optimizer, step')
    assert.are.same({ seed = 5, stream = 0, offset = 0 }, torch.get_rng_state())
  end)

  it('takes everything back when a later object refuses', function()
    local path = folder() .. '/a.safetensors'
    checkpoint.save(path, { model = network(), optimizer = optimizer(7) })
    local net, opt = network(), optimizer(1)
    local before, moments = {}, opt.moments[1]:clone()
    for name, t in pairs(net:state_dict()) do before[name] = t:clone() end
    opt.fails = true
    assert.fails(function() checkpoint.load(path, { model = net, optimizer = opt }) end, 'optimizer: 2 groups expected', path)
    states_equal(before, net:state_dict())
    assert.same_bits(moments, opt.moments[1])
    assert.are.equal(1, opt.step_count)
  end)

  it('finds any changed byte and any missing end', function()
    local path = folder() .. '/a.safetensors'
    local net = network()
    checkpoint.save(path, { model = net, step = 3, config = { name = 'x' } })
    local text = scratch.content(path)
    local function put(bytes)
      local f = assert(io.open(path, 'wb'))
      f:write(bytes)
      f:close()
    end
    for i = 1, #text, 3 do
      local damaged = text:sub(1, i - 1) .. string.char(bit.bxor(text:byte(i), 1)) .. text:sub(i + 1)
      put(damaged)
      local ok, message = pcall(checkpoint.load, path, { model = net })
      assert.is_false(ok, 'byte ' .. i .. ' went unnoticed')
      assert.is_truthy(message:find(path, 1, true), message)
      assert.is_truthy(message:find('checkpoint.load', 1, true), message)
    end
    for n = 0, #text - 1, 97 do
      put(text:sub(1, n))
      assert.fails(function() checkpoint.load(path, { model = net }) end, path)
    end
    put(text)
    assert.are.equal(3, checkpoint.load(path, { model = net }).step)
  end)

  it('refuses other files and other versions', function()
    local path = folder() .. '/a.safetensors'
    torch.save(path, { model = network():state_dict() })
    assert.fails(function() checkpoint.load(path, {}) end, 'not a checkpoint', 'torch.load', path)
    assert.fails(function() checkpoint.load(scratch.file('hello, this is text'), {}) end, 'safetensors')
    assert.fails(function() checkpoint.load(path .. '.nothing', {}) end, 'checkpoint.load', 'No such file')
    torch.io.safetensors.save(path, {}, { ['masked_torch.kind'] = 'checkpoint', ['masked_torch.checkpoint'] = '99' })
    assert.fails(function() checkpoint.load(path, {}) end, 'version 99', 'reads version 1')
    assert.fails(function() checkpoint.save(path, network()) end, 'fields', 'an object')
    assert.fails(function() checkpoint.save(path, { step = print }) end, 'checkpoint.save', 'fields.step', 'function')
    assert.fails(function() checkpoint.load(path, network()) end, 'targets')
    assert.fails(function() checkpoint.load(path, {}, { wrn = 1 }) end, 'checkpoint.load', "'warn'")
  end)

  it('warns when other instructions wrote the file', function()
    local path = folder() .. '/a.safetensors'
    local real = ffi.string(require('masked_torch.native').cpu.mt_isa())
    local other = real == 'portable' and 'avx2' or 'portable'
    os.execute(([[MASKED_TORCH_ISA=%s luajit -e "package.path='lua/?.lua;lua/?/init.lua;'..package.path
      require('masked_torch').train.checkpoint.save('%s', {step = 1})"]]):format(other, path))
    local warned
    assert.are.equal(1, checkpoint.load(path, {}, { warn = function(text) warned = text end }).step)
    if real ~= 'portable' then assert.is_truthy(warned:find('portable', 1, true)) end
  end)
end)

describe('a checkpoint that cannot be written', function()
  -- The command runs in a shell with the file size limited; the signal is ignored, so that write fails with EFBIG.
  it('leaves the old file and no other behind (no space)', function()
    local path = folder()
    local a = path .. '/a.safetensors'
    checkpoint.save(a, { model = network(), step = 1 })
    local old = scratch.content(a)
    local code = ([[package.path='lua/?.lua;lua/?/init.lua;'..package.path local t = require 'masked_torch'
      local ok, message = pcall(t.train.checkpoint.save, '%s', { big = t.zeros(300000), step = 2 })
      io.stdout:write(tostring(ok), ' ', tostring(message))]]):format(a)
    local pipe = io.popen(("trap '' XFSZ; ulimit -f 64; luajit -e \"%s\""):format(code))
    local said = pipe:read('*a')
    pipe:close()
    assert.is_truthy(said:find('^false .*checkpoint%.save: .*a%.safetensors: File too large'), said)
    assert.are.equal(old, scratch.content(a))
    assert.are.same({ 'a.safetensors' }, names_in(path))
  end)

  it('leaves the old file when the disk is full', function()
    local path = folder()
    if os.execute(('mount -t tmpfs -o size=64k none %s 2>/dev/null'):format(path)) ~= 0 then
      pending('no file system of its own can be mounted here')
      return
    end
    local a = path .. '/a.safetensors'
    checkpoint.save(a, { model = network(), step = 1 })
    local old = scratch.content(a)
    local ok, message = pcall(checkpoint.save, a, { big = torch.zeros(300000) })
    local now, names = scratch.content(a), names_in(path)
    os.execute('umount ' .. path)
    assert.is_false(ok)
    assert.is_truthy(message:find('No space left on device', 1, true), message)
    assert.are.equal(old, now)
    assert.are.same({ 'a.safetensors' }, names)
  end)

  it('names the path and the reason', function()
    -- /sys refuses new files even to root
    assert.fails(function() checkpoint.save('/sys/kernel/a.safetensors', { step = 1 }) end, 'checkpoint.save',
      '/sys/kernel/a.safetensors', 'denied')
    assert.fails(function() checkpoint.save('/dev/full', { step = 1 }) end, '/dev/full', 'a device')
    assert.fails(function() checkpoint.save('', { step = 1 }) end, 'path')
    local path = folder()
    assert.fails(function() checkpoint.save(path, { step = 1 }) end, path, 'a folder')
  end)
end)

describe('checkpoint.folder', function()
  it('keeps last and best, each whole', function()
    local path = folder() .. '/deep/run'
    local keep = checkpoint.folder(path .. '/')
    assert.is_false(keep:exists('last'))
    local net = network()
    keep:save({ model = net, step = 1, best = 2.5 }, true)
    keep:save({ model = net, step = 2, best = 2.5 })
    assert.are.equal(1, keep:load('best', { model = net }).step)
    assert.are.equal(2, keep:load('last', { model = net }).step)
    keep:save({ model = net, step = 3, best = 1.5 }, true)
    keep:save({ model = net, step = 4, best = 1.0 }, true)
    assert.are.equal(4, keep:load('best', { model = net }).step)
    assert.are.equal(4, keep:load(nil, { model = net }).step)
    assert.are.same({ 'best.safetensors', 'best.txt', 'last.safetensors' }, names_in(path))
    assert.is_truthy(scratch.content(path .. '/best.txt'):find('^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%dZ, step=4, best=1\n$'))
    assert.fails(function() keep:path('worst') end, 'checkpoint.folder', "'last', 'best'")
  end)

  it('writes last anew where there are no hard links', function()
    local file = require 'masked_torch.io.file'
    local link = file.link
    finally(function() file.link = link end)
    file.link = function() return false end
    local keep = checkpoint.folder(folder())
    keep:save({ step = 5 }, true)
    assert.are.equal(5, keep:load('last').step)
    assert.are.equal(5, keep:load('best').step)
  end)

  it('removes what killed runs left, and nothing else', function()
    local path = folder()
    local pid = 2 ^ 22 + 5     -- beyond Linux's limit: never a process
    for _, name in ipairs{ 'last.safetensors.' .. pid .. '-1.tmp', 'last.safetensors.1-1.tmp', 'other.' .. pid .. '-1.tmp', 'last.tmp' } do
      os.execute(('touch %s/%s'):format(path, name))
    end
    checkpoint.folder(path)
    assert.are.same({ 'last.safetensors.1-1.tmp', 'last.tmp', 'other.' .. pid .. '-1.tmp' }, names_in(path))
  end)
end)

describe('crc32c', function()
  local C = require('masked_torch.native').cpu
  it('has the published value, by instruction and by table, in one piece or two', function()
    for hardware = 0, 1 do
      assert.are.equal(0xe3069283, C.mt_checksum_crc32c(0, '123456789', 9, hardware))
      assert.are.equal(0x8a9136aa, C.mt_checksum_crc32c(0, ('\0'):rep(32), 32, hardware))
      assert.are.equal(0, C.mt_checksum_crc32c(0, nil, 0, hardware))
    end
    local bytes = {}
    for i = 1, 1000 do bytes[i] = string.char(i * 7 % 251) end
    local text = table.concat(bytes)
    for n = 0, 100 do
      local whole = C.mt_checksum_crc32c(0, text, #text - n, 0)
      assert.are.equal(whole, C.mt_checksum_crc32c(0, text, #text - n, 1))
      assert.are.equal(whole, C.mt_checksum_crc32c(C.mt_checksum_crc32c(0, text, n, 1), text:sub(n + 1), #text - 2 * n, n % 2))
    end
  end)
end)
