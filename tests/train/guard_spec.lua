local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local process = require 'support.process'
local scratch = require 'support.scratch'

local train, C = torch.train, native.cpu

local function start(mode)
  local path = os.tmpname()
  os.remove(path)
  os.execute('mkdir ' .. path)
  finally(function()
    process.err, process.ignored = nil, nil
    os.execute('rm -rf ' .. path)
  end)
  process.err = path .. '/err'
  local function exists(name)
    local f = io.open(path .. '/' .. name)
    if f then f:close() end
    return f ~= nil
  end
  local pid = process.start('tests/support/guard_child.lua', path, mode or 'fast')
  assert.is_true(process.wait_for(function() return exists 'started' end), 'the child did not start')
  return pid, path, exists
end

describe('guard', function()
  for name, case in pairs{ SIGINT = { 'Ctrl-C', 130 }, SIGTERM = { 'SIGTERM', 143 }, SIGHUP = { 'SIGHUP', 129 } } do
    it(('finishes the step, saves and ends with status %d on %s'):format(case[2], name), function()
      local pid, path = start()
      process.sleep(0.05)
      process.signal(pid, process[name])
      assert.are.same({ 'exit', case[2] }, { process.wait(pid) })
      local rest = train.checkpoint.verify(path .. '/last.safetensors')
      assert.are.equal(500000, rest.sum)
      local said = scratch.content(path .. '/err')
      assert.is_truthy(said:find(('%s: stopping after step %d\n'):format(case[1], rest.step), 1, true), said)
      assert.is_truthy(said:find(('saved %s/last.safetensors; go on with: luajit child.lua --resume\n'):format(path), 1, true), said)
    end)
  end

  it('leaves a signal ignored that was ignored before: nohup', function()
    process.ignored = { process.SIGHUP }
    local pid = start()
    process.signal(pid, process.SIGHUP)
    process.sleep(0.1)
    process.signal(pid, process.SIGTERM)
    assert.are.same({ 'exit', 143 }, { process.wait(pid) })
  end)

  it('leaves at once on the second Ctrl-C', function()
    local pid, path, exists = start 'slow'
    process.signal(pid, process.SIGINT)
    assert.is_true(process.wait_for(function() return exists 'saving' end))
    process.signal(pid, process.SIGINT)
    assert.are.same({ 'signal', 2 }, { process.wait(pid, 5) })
    assert.is_false(exists 'last.safetensors')
    assert.is_truthy(scratch.content(path .. '/err'):find('stopping after step', 1, true))
  end)

  it('lets kernels run, and tells what is pending', function()
    local status
    train.interrupt(function(guard)
      assert.is_nil(guard:pending())
      guard:poll(1)
      C.mt_guard_set(15)
      assert.are.equal('SIGTERM', (guard:pending()))
      assert.are.equal(3e5, torch.ones(300000):sum():item())
      guard:poll(2)
      assert.is_nil(guard:pending())
    end, { exit = function(code) status = code end, log = { write = function() end } })
    assert.are.equal(143, status)
    assert.are.equal(0, C.mt_guard_pending())
  end)

  it('closes after an error and returns results', function()
    assert.are.same({ 1, nil, 3 }, { train.interrupt(function() return 1, nil, 3 end) })
    assert.fails(function() train.interrupt(function() error('inside', 0) end) end, 'inside')
    local guard = train.guard()
    assert.fails(function() train.guard() end, 'another guard')
    guard:close()
    guard:close()
    assert.fails(function() train.guard{ save = 3 } end, 'guard: save')
    assert.fails(function() train.guard{ resme = '' } end, "'resume'")
    train.guard():close()
  end)
end)
