-- kill -9 at random moments through experiments/language_model.lua itself, which saves after every step. MASKED_TORCH_KILLS sets
-- how many per model (6).
local lfs = require 'lfs'
local torch = require 'masked_torch'
local process = require 'support.process'
local scratch = require 'support.scratch'

local checkpoint, tensorboard = torch.train.checkpoint, torch.train.tensorboard
local SCRIPT = 'experiments/language_model.lua'
local many = tonumber(os.getenv 'MASKED_TORCH_KILLS')
local kills = many or 6
local steps = 8 * kills + 40
local text = ('To be, or not to be, that is the question: whether it is nobler in the mind to suffer.\n'):rep(8)

-- The short form spares the disk.
local function folder()
  local path = os.tmpname()
  os.remove(path)
  if not many and lfs.attributes('/dev/shm', 'mode') == 'directory' then path = '/dev/shm/' .. path:match '[^/]*$' end
  finally(function() os.execute('rm -rf ' .. path) end)
  return path
end

local function start(model, data, out)
  if checkpoint.folder(out):exists 'last' then return process.start(SCRIPT, 'resume', '--out', out, '--threads', 1, '--quiet') end
  return process.start(SCRIPT, 'train', '--model', model, '--data', data, '--out', out, '--steps', steps, '--save-every', 1,
    '--valid-every', 1, '--valid-batches', 1, '--valid-context', 8, '--context', 8, '--width', 8, '--depth', 2, '--scale', 4,
    '--batch', 16, '--dropout', 0.1, '--seed', 21, '--threads', 1, '--quiet')
end

-- The rows without their times.
local function curve(path)
  return (scratch.content(path .. '/curve.csv'):gsub(',[^,\n]*,[^,\n]*\n', '\n'))
end

-- Every scalar of every event file as "tag step value", sorted.
local function scalars(path)
  local list = {}
  for name in lfs.dir(path) do
    if name:find '^events' then
      local events, torn = tensorboard.read(path .. '/' .. name)
      assert.is_false(torn, name)
      for _, event in ipairs(events) do
        for _, value in ipairs(event.values) do list[#list + 1] = ('%s %d %.9g'):format(value.tag, event.step, value.scalar) end
      end
    end
  end
  table.sort(list)
  return list
end

describe('the language model, killed', function()
  for _, model in ipairs{ 'causal', 'window' } do
    it(model .. ': leaves whole checkpoints and ends with the losses and the weights of a run that was not, to the bit', function()
      local data, path, whole = scratch.file(text, '.txt'), folder(), folder()
      local keep = checkpoint.folder(path)
      local chance, step, killed, moved = torch.Generator(os.time()), 0, 0, 0
      for round = 1, kills do
        local function draw() return torch.rand(1, { generator = chance }):item() end
        local before = lfs.attributes(keep:path 'last', 'ino')
        local pid = start(model, data, path)
        -- Every fourth time at any moment, start-up included; else some time after a few new files have taken its place.
        for _ = 1, round % 4 == 0 and 0 or math.ceil(6 * draw()) do
          process.wait_for(function() return lfs.attributes(keep:path 'last', 'ino') ~= before end)
          before = lfs.attributes(keep:path 'last', 'ino')
        end
        process.sleep((round % 4 == 0 and 0.15 or 0.03) * draw())
        process.signal(pid, process.SIGKILL)
        if process.wait(pid) == 'signal' then killed = killed + 1 end
        if keep:exists 'last' then
          local now = checkpoint.verify(keep:path 'last')
          assert.is_true(now.step >= step, ('step %d after step %d'):format(now.step, step))
          if now.step > step then moved = moved + 1 end
          step = now.step
          assert.is_true(checkpoint.verify(keep:path 'best').best <= now.best)
        end
      end
      assert.are.equal(kills, killed, ('the run was over at step %d'):format(step))
      assert.is_true(moved >= kills / 2, ('only %d of %d kills came after a save'):format(moved, kills))
      if many then
        print(('%s: %d kills, %d of them after further steps; %d steps were taken by then'):format(model, killed, moved, step))
      end

      process.err = scratch.path '.err'
      local errors = process.err
      finally(function() process.err = nil end)
      for _, out in ipairs{ path, whole } do
        assert.are.same({ 'exit', 0 }, { process.wait(start(model, data, out), 600) }, scratch.content(errors))
      end
      local a, b = checkpoint.verify(path .. '/last.safetensors'), checkpoint.verify(whole .. '/last.safetensors')
      assert.are.equal(steps, a.step)
      a.seconds, b.seconds = nil, nil
      assert.same_values(b, a, 'checkpoint')
      assert.are.equal(curve(whole), curve(path))
      assert.are.same(scalars(whole), scalars(path))
      assert.are.equal(3 * steps, #scalars(path))
      for name in lfs.dir(path) do assert.is_nil(name:find '%.tmp$', name) end
    end)
  end
end)
