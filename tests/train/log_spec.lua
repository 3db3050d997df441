local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local screens = require 'support.screen'

local train = torch.train

local function make(opts)
  local lines, time = {}, { now = 5 }
  opts = opts or {}
  opts.write = opts.bars == nil and function(text) lines[#lines + 1] = text end or nil
  opts.clock, opts.time = function() return time.now end, function() return 0 end
  return train.logger(opts), lines, time
end

describe('logger', function()
  local midnight = os.date('%H:%M:%S', 0)

  it('prints milliseconds, the time of day and the message', function()
    local log, lines, time = make()
    time.now = 6.5
    log:info('%d parameters', 12)
    log:info('100% done')
    log:warning('careful')
    log:error('broken: %s', 'x')
    log:debug('not shown')
    assert.are.same({ '[1500] [' .. midnight .. '] 12 parameters\n', '[1500] [' .. midnight .. '] 100% done\n',
      '[1500] [' .. midnight .. '] WARNING: careful\n', '[1500] [' .. midnight .. '] ERROR: broken: x\n' }, lines)
    log:set_level('debug')
    log:debug('shown')
    assert.are.equal(5, #lines)
    assert.fails(function() log:set_level('loud') end, 'logger', "'debug', 'info', 'warning', 'error'")
  end)

  it('does not break the bars', function()
    local screen = screens.new()
    local bars = train.progress{ interactive = true, columns = 60, utf8 = false, write = function(text) screen:write(text) end }
    local bar = bars:add('Train', 10)
    bar:update(5)
    local log = make{ bars = bars }
    log:info('hello')
    local lines = screen:lines()
    assert.are.equal('[0] [' .. midnight .. '] hello', lines[1])
    assert.is_truthy(lines[2]:find('^Train:  50%%'))
  end)

  it('keeps everything in a file', function()
    local path = scratch.path('.txt')
    local log, lines = make{ file = path, level = 'warning' }
    log:debug('a')
    log:warning('b')
    log:close()
    assert.are.equal(1, #lines)
    assert.are.equal(('[0] [%s] a\n[0] [%s] WARNING: b\n'):format(midnight, midnight), scratch.content(path))
    assert.fails(function() train.logger{ file = '/sys/kernel/log.txt' } end, 'logger', '/sys/kernel/log.txt', 'denied')
    local full = train.logger{ file = '/dev/full', write = function() end }
    assert.fails(function() full:info('x') end, 'logger', '/dev/full', 'No space left on device')
  end)
end)
