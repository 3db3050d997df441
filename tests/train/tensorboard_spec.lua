local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local scratch = require 'support.scratch'

local tensorboard = torch.train.tensorboard

local function folder()
  local path = os.tmpname()
  os.remove(path)
  finally(function() os.execute('rm -rf ' .. path) end)
  return path
end

local function hex(s) return (s:gsub('.', function(c) return ('%02x'):format(c:byte()) end)) end

describe('tensorboard', function()
  it('writes the bytes that the format asks for', function()
    local board = tensorboard.writer(folder(), { time = function() return 1.5 end })
    board:scalar('a', 0.25, 300)
    board:close()
    -- Made by hand from the definition; the checksums by tensorboard's own writer.
    local text = scratch.content(board.path)
    local first = '09000000000000f83f' .. '1a0d' .. hex('brain.Event:2')
    local second = '09000000000000f83f' .. '10ac02' .. '2a0a' .. '0a08' .. '0a0161' .. '150000803e'
    assert.are.equal('1800000000000000', hex(text:sub(1, 8)))
    assert.are.equal(first, hex(text:sub(13, 12 + 24)))
    assert.are.equal(second, hex(text:sub(-4 - #second / 2, -5)))
    assert.is_truthy(board.path:find('/events%.out%.tfevents%.0000000001%.'))
  end)

  it('reads back what it wrote', function()
    local board = tensorboard.writer(folder() .. '/deep/run', { suffix = '.x' })
    board:scalar('loss', torch.tensor(1.5), 1)
    board:scalar('loss', 0 / 0, 2)
    board:scalars('train', { b = 2, a = 1 }, 2 ^ 40)
    board:scalars('means', torch.train.means():add{ c = 3 }, 4)
    local values = torch.randn(500, { dtype = 'float64' })
    board:histogram('w', values, 5)
    board:image('rgb', torch.rand(3, 4, 6), 6)
    board:image('gray', torch.rand(4, 6), 6)
    board:text('note', 'hällo', 7)
    board:flush()
    local events, torn = tensorboard.read(board.path)
    assert.is_false(torn)
    assert.are.equal('brain.Event:2', events[1].file_version)
    local seen = {}
    for _, event in ipairs(events) do
      for _, v in ipairs(event.values) do seen[v.tag .. '@' .. event.step] = v end
    end
    assert.are.equal(1.5, seen['loss@1'].scalar)
    assert.is_true(seen['loss@2'].scalar ~= seen['loss@2'].scalar)
    assert.are.equal(2, seen['train/b@1099511627776'].scalar)
    assert.are.equal(3, seen['means/c@4'].scalar)
    local h = seen['w@5'].histogram
    assert.are.equal(values:min():item(), h.min)
    assert.are.equal(values:max():item(), h.max)
    assert.are.equal(500, h.num)
    assert.are.equal(#h.limits, #h.counts)
    local list = values:totable()
    for i = 1, #h.limits do
      local n = 0
      for _, v in ipairs(list) do
        if v < h.limits[i] and (i == 1 or v >= h.limits[i - 1]) then n = n + 1 end
      end
      assert.are.equal(n, h.counts[i])
    end
    assert.are.equal(6, seen['rgb@6'].image.width)
    assert.are.equal(4, seen['rgb@6'].image.height)
    assert.are.equal(1, seen['gray@6'].image.channels)
    assert.are.equal('\137PNG', seen['rgb@6'].image.png:sub(1, 4))
    assert.are.same({ 3, 4, 6 }, torch.io.png.load(scratch.file(seen['rgb@6'].image.png, '.png')):size())
    assert.are.equal('hällo', seen['note/text_summary@7'].text)
    board:close()
  end)

  it('makes histograms of anything', function()
    local board = tensorboard.writer(folder())
    for _, t in ipairs{ torch.zeros(0), torch.zeros(5), torch.tensor({ 0 / 0, 1 / 0, 1e300, -1e300, 3 }, { dtype = 'float64' }),
      torch.tensor({ 1, 2, 3 }, { dtype = 'int64' }), torch.ones(4, 4):t() } do
      board:histogram('h', t, 1)
    end
    local events = tensorboard.read(board.path)
    local counts = {}
    for i = 2, #events do
      local h = events[i].values[1].histogram
      local sum = 0
      for _, c in ipairs(h.counts) do sum = sum + c end
      for k = 2, #h.limits do assert.is_true(h.limits[k] > h.limits[k - 1]) end
      assert.are.equal(h.num, sum)
      counts[#counts + 1] = h.num
    end
    assert.are.same({ 0, 5, 3, 3, 16 }, counts)
  end)

  it('finds damage, and reads up to a torn end', function()
    local board = tensorboard.writer(folder())
    for step = 1, 20 do board:scalar('loss', step, step) end
    board:close()
    local text = scratch.content(board.path)
    local ends, at = { [0] = 0 }, 0
    for k = 1, 21 do
      at = at + 16 + text:byte(at + 1)
      ends[at] = k
    end
    assert.are.equal(#text, at)
    local whole = 0
    for n = 0, #text do
      whole = ends[n] or whole
      if n % 7 == 0 or ends[n] then
        local events, torn = tensorboard.read(scratch.file(text:sub(1, n)))
        assert.are.equal(whole, #events)
        assert.are.equal(ends[n] == nil, torn)
      end
    end
    for i = 1, #text, 5 do
      local damaged = text:sub(1, i - 1) .. string.char(bit.bxor(text:byte(i), 4)) .. text:sub(i + 1)
      local path = scratch.file(damaged)
      assert.fails(function() tensorboard.read(path) end, 'tensorboard.read', path, 'checksum')
    end
  end)

  it('survives random bytes with right checksums', function()
    local board = tensorboard.writer(folder())
    local C = native.cpu
    local generator = torch.Generator(3)
    for _ = 1, 200 do
      local bytes = torch.randint(0, 255, 40, { generator = generator }):totable()
      local data = string.char(unpack(bytes))
      local function masked(s)
        local crc = bit.tobit(C.mt_checksum_crc32c(0, s, #s, 0))
        local m = bit.tobit(bit.bor(bit.rshift(crc, 15), bit.lshift(crc, 17)) + 0xa282ead8)
        return string.char(bit.band(m, 255), bit.band(bit.rshift(m, 8), 255), bit.band(bit.rshift(m, 16), 255), bit.rshift(m, 24))
      end
      local length = string.char(#data, 0, 0, 0, 0, 0, 0, 0)
      local path = scratch.file(length .. masked(length) .. data .. masked(data))
      local ok, message = pcall(tensorboard.read, path)
      if not ok then assert.is_truthy(message:find('tensorboard.read: ' .. path, 1, true), message) end
    end
    board:close()
  end)

  it('refuses mistakes and says why a file cannot be written', function()
    local board = tensorboard.writer(folder())
    assert.fails(function() board:scalar('', 1, 1) end, 'tensorboard', 'tag')
    assert.fails(function() board:scalar('a', 'b', 1) end, 'tensorboard', 'value')
    assert.fails(function() board:scalar('a', 1, 1.5) end, 'tensorboard', 'step')
    assert.fails(function() board:text('a', 1, 1) end, 'tensorboard', 'text')
    assert.fails(function() board:image('a', torch.rand(2, 3, 4, 5), 1) end, 'png.encode')
    board:close()
    assert.fails(function() board:scalar('a', 1, 1) end, 'closed')
    assert.fails(function() tensorboard.writer('/sys/kernel') end, 'tensorboard', 'denied')
    assert.fails(function() tensorboard.writer('/dev/null/x') end, 'tensorboard', '/dev/null')
  end)
end)
