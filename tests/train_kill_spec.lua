-- kill -9 at random moments while a run saves after every step. MASKED_TORCH_KILLS sets how many (40).
local lfs = require 'lfs'
local torch = require 'masked_torch'
local process = require 'support.process'

local checkpoint = torch.train.checkpoint
local kills = tonumber(os.getenv 'MASKED_TORCH_KILLS') or 40

local function folder()
  local path = os.tmpname()
  os.remove(path)
  os.execute('mkdir ' .. path)
  finally(function() os.execute('rm -rf ' .. path) end)
  return path
end

describe('a run that is killed', function()
  it('leaves whole checkpoints, never goes back, and ends with the bits of one that was not', function()
    local path = folder()
    local keep = checkpoint.folder(path)
    local step, chance = 0, torch.Generator(os.time())
    local killed, moved, seen_best = 0, 0, math.huge
    for round = 1, kills do
      local before = lfs.attributes(keep:path 'last', 'ino')
      local pid = process.start('tests/support/train_child.lua', path, 1e6, 1)
      -- Every other time at any moment, start-up included; else some time after a new file has taken its place.
      for _ = 1, round % 2 == 0 and 5000 or 0 do
        if lfs.attributes(keep:path 'last', 'ino') ~= before then break end
        process.sleep(0.002)
      end
      process.sleep((round % 2 == 0 and 0.05 or 0.15) * torch.rand(1, { generator = chance }):item())
      process.signal(pid, process.SIGKILL)
      local how = process.wait(pid)
      if how == 'signal' then killed = killed + 1 end
      if keep:exists 'last' then
        local now = checkpoint.verify(keep:path 'last')
        assert.is_true(now.step >= step, ('step %d after step %d'):format(now.step, step))
        if now.step > step then moved = moved + 1 end
        step = now.step
        local best = checkpoint.verify(keep:path 'best')
        assert.is_true(best.best <= seen_best)
        seen_best = best.best
      end
    end
    assert.are.equal(kills, killed)
    assert.is_true(moved >= kills / 4, ('only %d of %d kills came after a save'):format(moved, kills))

    local whole = folder()
    assert.are.same({ 'exit', 0 }, { process.wait(process.start('tests/support/train_child.lua', whole, step, step), 120) })
    local a, b = checkpoint.verify(keep:path 'last'), checkpoint.verify(whole .. '/last.safetensors')
    assert.same_values(b, a, 'checkpoint')
    -- At most the temporary file of the last kill is left; the next run removes it.
    checkpoint.folder(path)
    local names = {}
    for name in lfs.dir(path) do names[#names + 1] = name end
    assert.are.equal(2 + 3, #names)
  end)
end)
