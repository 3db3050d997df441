-- experiments/classify_images.lua, on drawn shapes: what it claims, and that an interrupted run ends like one that was not.
local process = require 'support.process'

local checkpoint = require('masked_torch').train.checkpoint
local SCRIPT = 'experiments/classify_images.lua'

local function temporary()
  local path = os.tmpname()
  finally(function() os.execute(('rm -f %s %s.*'):format(path, path)) end)
  return path
end

local function run(...) return process.run(SCRIPT, ...) end

-- The table that was printed: {canvas =, accuracy =, change =} per row.
local function rows(network, text)
  local list = {}
  for canvas, accuracy, change in text:gmatch(network .. ' +(%d+) +([%d.]+) %% +(%S+)') do
    list[#list + 1] = { canvas = tonumber(canvas), accuracy = tonumber(accuracy), change = tonumber(change) }
  end
  assert.are.equal(4, #list, text)
  return list
end

describe('classify_images', function()
  it('gives the same logits on every canvas with masks, and learns', function()
    local how, out, err = run('--synthetic', '--images', 320, '--batch', 16, '--out', temporary() .. '.a')
    assert.are.equal('exit 0', how, err)
    for _, row in ipairs(rows('masked', out)) do
      assert.are.equal(0, row.change)
      assert.are.equal(rows('masked', out)[1].accuracy, row.accuracy)
    end
    assert.is_true(rows('masked', out)[1].accuracy >= 80, out)      -- 25 is chance
  end)

  it('shows that the plain network has other logits on other canvases', function()
    local how, out, err = run('--synthetic', '--images', 64, '--batch', 16, '--network', 'plain', '--out', temporary() .. '.a')
    assert.are.equal('exit 0', how, err)
    local list = rows('plain', out)
    assert.are.equal(0, list[1].change)
    for k = 2, 4 do assert.is_true(list[k].change > 1e-3) end
  end)

  it('goes on after an interruption as if there had been none', function()
    local whole, cut = temporary() .. '.a', temporary() .. '.a'
    local how, expected, err = run('--synthetic', '--images', 64, '--batch', 16, '--epochs', 20, '--out', whole)
    assert.are.equal('exit 0', how, err)

    local pid = process.start(SCRIPT, '--synthetic', '--images', 64, '--batch', 16, '--epochs', 20, '--out', cut)
    assert.is_true(process.wait_for(function()
      local file = io.open(cut)
      if file then file:close() end
      return file ~= nil
    end, 60))
    process.signal(pid, process.SIGINT)
    assert.are.same({ 'exit', 130 }, { process.wait(pid, 60) })
    assert.is_true(checkpoint.verify(cut).step < 80, 'the run was over before the signal')

    local out
    how, out, err = run('--resume', '--out', cut)
    assert.are.equal('exit 0', how, err)
    assert.are.equal(expected, out)
    -- The table is too coarse: the weights tell.
    local a, b = checkpoint.verify(whole), checkpoint.verify(cut)
    assert.are.equal(80, a.step)
    assert.are.equal(a.step, b.step)
    local compared = 0
    for name, value in pairs(a.model) do
      assert.same_bits(value, b.model[name])
      compared = compared + 1
    end
    assert.is_true(compared > 20)
  end)

  it('tells what is wrong in a line', function()
    local how, _, err = run('--resume', '--out', temporary() .. '.absent')
    assert.are.equal('exit 1', how)
    assert.matches('^classify_images: ', err)
    assert.is_nil(err:find('traceback', 1, true))
    how, _, err = run('--data', temporary() .. '.absent')
    assert.are.equal('exit 1', how)
    assert.matches('apt install dataset%-fashion%-mnist', err)
    assert.is_nil(err:find('traceback', 1, true))
    assert.are_not.equal('exit 0', (run('--synthetic', '--epochs', 0)))
    assert.are.equal('exit 0', (run('--help')))
  end)
end)
