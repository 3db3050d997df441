local torch = require 'masked_torch'
local screens = require 'support.screen'

local train = torch.train

-- A group on a screen of its own with a clock that the test moves.
local function make(opts)
  local screen, time = screens.new(), { now = 100 }
  opts = opts or {}
  opts.write = function(text) screen:write(text) end
  opts.clock = function() return time.now end
  if opts.interactive == nil then opts.interactive = true end
  if opts.utf8 == nil then opts.utf8 = false end
  opts.columns = opts.columns or 81
  return train.progress(opts), screen, time
end

describe('progress', function()
  it('keeps each bar on its line, with rate, remaining time and running means', function()
    local bars, screen, time = make()
    local epochs, steps = bars:add('Epochs', 4, { unit = 'epoch' }), bars:add('Train', 200)
    local means = train.means()
    for i = 1, 100 do
      time.now = time.now + 0.25
      means:add{ loss = i, error = 0.5 }
      steps:update(1, means)
    end
    time.now = time.now + 0.2
    epochs:update(1)
    local lines = screen:lines()
    assert.are.equal(2, #lines)
    assert.is_truthy(lines[1]:find('^Epochs:  25%%|#+%-+| 1/4 %[00:25<01:15, 25%.2s/epoch%]$'), lines[1])
    assert.is_truthy(lines[2]:find('^Train:  50%%|#+%-+| 100/200 %[00:25<00:25, 4it/s, error=0.5, loss=50.5%]$'), lines[2])
    local _, done = lines[2]:gsub('#', '')
    local _, left = lines[2]:gsub('%-', '')
    assert.is_true(math.abs(done - left) <= 1)
  end)

  it('draws at most once per interval, and always at the end', function()
    local bars, screen, time = make()
    local bar = bars:add('Train', 100000)
    local before = screen.writes
    for _ = 1, 99999 do
      time.now = time.now + 0.0001
      bar:update(1)
    end
    assert.is_true(screen.writes - before <= 101, tostring(screen.writes - before))
    assert.is_true(screen.writes - before >= 90)
    bar:update(1)
    assert.is_truthy(screen:lines()[1]:find('100%', 1, true))
  end)

  it('does not exceed the terminal, whatever is in a line', function()
    for _, columns in ipairs{ 10, 20, 40, 80, 200 } do
      local bars, screen, time = make{ columns = columns, utf8 = true }
      local bar = bars:add('äöü ' .. ('name'):rep(10), 30)
      for i = 1, 30 do
        time.now = time.now + 1
        bar:update(1, { loss = 1 / i, text = ('ß'):rep(30) })
      end
      assert.is_true(screen:width() < columns, ('%d of %d'):format(screen:width(), columns))
      assert.are.equal(1, #screen:lines())
    end
  end)

  it('moves log lines above the bars', function()
    local bars, screen, time = make()
    local a, b = bars:add('A', 10), bars:add('B', 10)
    a:update(1) b:update(2)
    bars:write('first')
    time.now = time.now + 1
    b:update(3)
    bars:write('second\nthird\n')
    local lines = screen:lines()
    assert.are.same({ 'first', 'second', 'third' }, { lines[1], lines[2], lines[3] })
    assert.is_truthy(lines[4]:find('^A:  10%%'))
    assert.is_truthy(lines[5]:find('^B:  50%%'))
    assert.are.equal(5, #lines)
  end)

  it('lets a bar leave and be used again', function()
    local bars, screen, time = make()
    local a, b = bars:add('A', 3), bars:add('B', 4)
    b:update(4)
    b:close()
    time.now = time.now + 1
    a:update(2)
    local lines = screen:lines()
    assert.is_truthy(lines[1]:find('^B: 100%%'))
    assert.is_truthy(lines[2]:find('^A:  66%%'))
    assert.are.equal(2, #lines)
    a:reset(5)
    time.now = time.now + 1
    a:update(1)
    assert.is_truthy(screen:lines()[2]:find('^A:  20%%.* 1/5 %[00:01<00:04, 1it/s%]'))
    bars:close()
    screen:write('after')
    assert.are.equal('after', screen:lines()[3])
  end)

  it('writes plain lines where there is no terminal, and with quiet', function()
    for _, opts in ipairs{ { interactive = false }, { quiet = true } } do
      local bars, screen, time = make(opts)
      local bar = bars:add('Train', 100)
      for i = 1, 100 do
        time.now = time.now + 0.5
        bar:update(1, { loss = i })
      end
      bars:close()
      local lines = screen:lines()
      assert.is_truthy(lines[1]:find('^Train: 20%% 20/100 %[00:10<00:40, 2it/s, loss=20%]$'), lines[1])
      assert.is_truthy(lines[#lines]:find('^Train: 100%% 100/100 %[00:50<00:00, 2it/s, loss=100%]$'), lines[#lines])
      assert.are.equal(5, #lines)
    end
  end)

  it('counts without a total, and starts in the middle', function()
    local bars, screen, time = make()
    local open = bars:add('Lines')
    time.now = time.now + 2
    open:update(10)
    assert.is_truthy(screen:lines()[1]:find('^Lines:  10it %[00:02, 5it/s%]$') or
      screen:lines()[1]:find('^Lines: 10it %[00:02, 5it/s%]$'), screen:lines()[1])
    bars, screen, time = make()
    local resumed = bars:add('Train', 100, { initial = 90 })
    time.now = time.now + 1
    resumed:set(95)
    assert.is_truthy(screen:lines()[1]:find('95/100 [00:01<00:01, 5it/s]', 1, true), screen:lines()[1])
  end)

  it('is stderr: piped output has no escapes', function()
    local code = "package.path='lua/?.lua;lua/?/init.lua;'..package.path local t=require'masked_torch'.train " ..
      "local b=t.bar('Run',3) for _=1,3 do b:update(1) end b:close() t.log:info('done')"
    local pipe = io.popen(('luajit -e "%s" 2>&1 >/dev/null'):format(code))
    local text = pipe:read('*a')
    pipe:close()
    assert.is_truthy(text:find('^Run: 100%% 3/3 %[00:00<00:00, [^\n]*%]\n%[%d+%] %[%d%d:%d%d:%d%d%] done\n$'), text)
  end)

  it('refuses mistakes', function()
    local bars = make()
    assert.fails(function() train.progress{ quite = true } end, 'progress', "did you mean 'quiet'")
    assert.fails(function() bars:add(3) end, 'progress', 'name')
    assert.fails(function() bars:add('x', 1.5) end, 'progress', 'total')
    assert.fails(function() bars:add('x', 3):update('many') end, 'progress', 'expected a number')
    assert.fails(function() bars:add('x', 3):update(3, 7) end, 'progress', 'postfix')
  end)
end)
