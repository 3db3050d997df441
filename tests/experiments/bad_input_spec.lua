-- What the training scripts say of bad files, full disks and damaged checkpoints: one line, an exit status that is not 0, and every
-- old file as it was.
local lfs = require 'lfs'
local torch = require 'masked_torch'
local process = require 'support.process'
local scratch = require 'support.scratch'

local checkpoint = torch.train.checkpoint
local LANGUAGE, IMAGES = 'experiments/language_model.lua', 'experiments/classify_images.lua'
local text = ('To be, or not to be, that is the question: whether it is nobler in the mind to suffer.\n'):rep(40)
local tiny = { '--context', 8, '--width', 8, '--depth', 2, '--scale', 4, '--batch', 4, '--steps', 4, '--valid-every', 2, '--save-every', 1,
  '--valid-context', 8, '--valid-batches', 1, '--threads', 1, '--quiet' }

local function with(list, ...)
  local all = { ... }
  for _, v in ipairs(list) do all[#all + 1] = v end
  return unpack(all)
end

local function folder()
  local path = os.tmpname()
  os.remove(path)
  lfs.mkdir(path)
  finally(function() os.execute('rm -rf ' .. path) end)
  return path
end

-- One line that names the script and holds all the texts.
local function refuses(texts, script, ...)
  local how, _, err = process.run(script, ...)
  assert.are.equal('exit 1', how, err)
  -- Lines of the log precede it where the run has begun; a list (of names and shapes) is indented.
  local lines = {}
  for line in err:gmatch '[^\n]+' do
    if line:find '^  ' and lines[1] then
      lines[1] = lines[1] .. '\n' .. line
    elseif not line:find '^%[%d+%] %[' and not line:find '^Train: ' and not line:find '^Steps: ' then lines[#lines + 1] = line end
  end
  assert.are.equal(1, #lines, err)
  assert.matches('^' .. script:match '([%w_]+)%.lua' .. ': ', lines[1])
  assert.is_nil(lines[1]:find('%.lua:%d'), lines[1])
  for _, part in ipairs(texts) do assert.is_truthy(lines[1]:find(part, 1, true), lines[1] .. '\nlacks ' .. part) end
end

-- A finished run's folder, and its text.
local function trained(model)
  local data, path = scratch.file(text, '.txt'), folder()
  local how, _, err = process.run(LANGUAGE, with(tiny, 'train', '--model', model or 'causal', '--data', data, '--out', path))
  assert.are.equal('exit 0', how, err)
  return path, data
end

-- Writes the checkpoint of a run anew after change(content).
local function rewrite(path, change)
  local content = checkpoint.verify(path)
  content.library = nil
  change(content)
  checkpoint.save(path, content)
  return scratch.content(path)
end

local function put(path, bytes)
  local f = assert(io.open(path, 'wb'))
  f:write(bytes)
  f:close()
end

describe('bad input of the language model', function()
  it('that is no text to train on', function()
    local out = folder() .. '/run'
    local function bad(texts, ...) refuses(texts, LANGUAGE, with(tiny, 'train', '--out', out, ...)) end
    bad({ 'is empty' }, '--data', scratch.file '')
    bad({ '5 tokens, context needs 9' }, '--data', scratch.file 'short')
    bad({ 'No such file' }, '--data', '/nowhere/input.txt')
    bad({ 'a folder' }, '--data', '/tmp')
    bad({ 'a device' }, '--data', '/dev/zero')
    bad({ 'not a text: byte 4 is 0', '--binary' }, '--data', scratch.file('abc\0' .. text))
    bad({ 'neither', 'no_such_file' }, '--data', scratch.file(text), '--tokenizer', 'no_such_file')
    bad({ 'tokenizer', 'invalid UTF-8' }, '--data', scratch.file(text), '--tokenizer', scratch.file '\255\254')
    -- Nothing was begun.
    assert.is_nil(lfs.attributes(out))
    local how = process.run(LANGUAGE, with(tiny, 'train', '--out', out, '--binary', '--data', scratch.file('abc\0' .. text)))
    assert.are.equal('exit 0', how)
  end)

  it('on the command line', function()
    for _, case in ipairs{ { '--steps', 'x', "--steps: expected a number, got 'x'" }, { '--dilations', '1,a', '--dilations' },
      { '--width', 0, '--width: expected a whole number' }, { '--bogus', 1, "unknown option '--bogus'" },
      { '--model', 'x', 'causal' }, { '--lr', 'nan', '--lr' }, { '--out', '/dev/null/x', 'Not a directory' },
      { '--out', '/proc/x', '/proc/x' } } do
      refuses({ case[3] }, LANGUAGE, 'train', '--data', scratch.file(text), '--quick', case[1], case[2])
    end
    refuses({ '--steps', 'resume goes on with the options of the run' }, LANGUAGE, 'resume', '--steps', 9)
    refuses({ 'there is no', '/nowhere/last.safetensors', '--out' }, LANGUAGE, 'resume', '--out', '/nowhere')
    refuses({ 'there is no', '/nowhere/best.safetensors' }, LANGUAGE, 'sample', '--out', '/nowhere')
  end)

  it('never replaces a run without being told to', function()
    local path, data = trained()
    local old = scratch.content(path .. '/last.safetensors')
    refuses({ path .. ' holds a run', 'language_model.lua resume --out ' .. path, '--overwrite' }, LANGUAGE,
      with(tiny, 'train', '--data', data, '--out', path))
    refuses({ 'No such file' }, LANGUAGE, with(tiny, 'train', '--data', '/nowhere', '--out', path, '--overwrite'))
    assert.are.equal(old, scratch.content(path .. '/last.safetensors'))
    local curve = scratch.content(path .. '/curve.csv')
    assert.are.equal('exit 0', (process.run(LANGUAGE, with(tiny, 'train', '--data', data, '--out', path, '--overwrite', '--seed', 5))))
    assert.are_not.equal(old, scratch.content(path .. '/last.safetensors'))
    assert.are_not.equal(curve, scratch.content(path .. '/curve.csv'))
    local events = 0
    for name in lfs.dir(path) do events = events + (name:find '^events' and 1 or 0) end
    assert.are.equal(1, events)
  end)

  it('in a checkpoint', function()
    local path, data = trained()
    local last = path .. '/last.safetensors'
    os.remove(path .. '/best.safetensors')       -- the same file on the disk
    local whole = scratch.content(last)
    local function bad(texts, content)
      if content then put(last, content) end
      local old = scratch.content(last)
      refuses(texts, LANGUAGE, 'resume', '--out', path, '--threads', 1)
      assert.are.equal(old, scratch.content(last))
    end
    bad({ last }, '')
    bad({ last }, whole:sub(1, 100))
    bad({ last }, whole:sub(1, -2))
    bad({ last, 'damaged' }, whole:sub(1, -101) .. string.char(bit.bxor(whole:byte(-100), 1)) .. whole:sub(-99))
    bad({ last }, ('hello, this is text\n'):rep(100))
    put(last, whole)
    torch.save(last, { model = {} })
    bad{ last, 'not a checkpoint' }
    checkpoint.save(last, { step = 3, config = { tests = 200 } })
    bad{ last, 'not a checkpoint of this script' }
    -- Another architecture: names and shapes.
    put(last, whole)
    rewrite(last, function(c) c.config.width = 12 end)
    bad{ last, 'embedding.weight: the file has (256, 8), the module (256, 12)', 'blocks.0.conv.weight', '(16, 8, 3)', '(24, 12, 3)' }
    put(last, whole)
    rewrite(last, function(c) c.config.model, c.config.depth = 'window', 3 end)
    refuses({ last, 'missing', 'sequential.2.weight', 'unexpected', 'blocks.0.conv.weight' }, LANGUAGE, 'sample', '--out', path,
      '--checkpoint', 'last')
    -- Another vocabulary, another text.
    put(last, whole)
    rewrite(last, function(c) c.config.vocabulary = 300 end)
    bad{ 'vocabulary of 300 tokens, the tokenizer 256' }
    put(last, whole)
    put(data, text .. 'More of it.\n')
    bad{ data, 'not the text that the run began with' }
    put(data, text)
    -- Nothing was lost: the run is there, and complete.
    assert.are.equal('exit 0', (process.run(LANGUAGE, 'resume', '--out', path)))
    assert.are.equal('exit 0', (process.run(LANGUAGE, 'sample', '--out', path, '--checkpoint', 'last', '--tokens', 3)))
    refuses({ 'best.safetensors', '--checkpoint last' }, LANGUAGE, 'sample', '--out', path)
    refuses({ '--prompt is empty' }, LANGUAGE, 'sample', '--out', path, '--checkpoint', 'last', '--prompt', '')
  end)

  it('that is a token it does not know', function()
    local path, data = folder(), scratch.file(text, '.txt')
    local tokenizer = scratch.path '.json'
    torch.data.tokenizer.characters(text):save(tokenizer)
    assert.are.equal('exit 0', (process.run(LANGUAGE, with(tiny, 'train', '--data', data, '--out', path, '--tokenizer', tokenizer))))
    assert.are.equal('exit 0', (process.run(LANGUAGE, 'sample', '--out', path, '--prompt', 'To be', '--tokens', 3)))
    refuses({ '#' }, LANGUAGE, 'sample', '--out', path, '--prompt', 'To #be', '--tokens', 3)
    refuses({ '#' }, LANGUAGE, with(tiny, 'train', '--data', scratch.file(text .. '#'), '--out', folder() .. '/x', '--tokenizer',
      tokenizer))
  end)

  for _, model in ipairs{ 'causal', 'window' } do
    it('that makes the loss NaN: ' .. model, function()
      local path = trained(model)
      local last = path .. '/last.safetensors'
      -- The run has further steps, and a weight that spoils the first of them.
      local old = rewrite(last, function(c)
        c.config.steps = 9
        for name, t in pairs(c.model) do
          if name == 'head.weight' then t:fill_(0 / 0) end
        end
      end)
      refuses({ 'the loss is nan at step 5', 'the last good checkpoint is ' .. last }, LANGUAGE, 'resume', '--out', path)
      assert.are.equal(old, scratch.content(last))
    end)
  end
end)

-- A run with steps to come, of any of the two scripts: its checkpoint, and the arguments that go on with it.
local function unfinished()
  local path = trained()
  rewrite(path .. '/last.safetensors', function(c) c.config.steps = 9 end)
  return path
end

describe('a disk that takes nothing more', function()
  it('stops the language model and leaves its files: a limit on their size', function()
    local path = unfinished()
    local old = scratch.content(path .. '/last.safetensors')
    process.before = "trap '' XFSZ; ulimit -f 16"
    finally(function() process.before = nil end)
    refuses({ path .. '/last.safetensors', 'File too large' }, LANGUAGE, 'resume', '--out', path)
    process.before = nil
    assert.are.equal(old, scratch.content(path .. '/last.safetensors'))
    assert.are.equal('exit 0', (process.run(LANGUAGE, 'resume', '--out', path)))
    assert.are.equal(9, checkpoint.verify(path .. '/last.safetensors').step)
  end)

  it('stops both scripts and leaves their files: full, read-only', function()
    local path = folder()
    if os.execute(('mount -t tmpfs -o size=4m none %s 2>/dev/null'):format(path)) ~= 0 then
      pending 'no file system of its own can be mounted here'
      return
    end
    finally(function() os.execute('umount ' .. path) end)
    os.execute(('cp -r %s %s/run'):format(unfinished(), path))
    local images = path .. '/images.safetensors'
    local how, _, err = process.run(IMAGES, '--synthetic', '--images', 16, '--batch', 16, '--epochs', 1, '--out', images)
    assert.are.equal('exit 0', how, err)
    rewrite(images, function(c) c.config.epochs = 2 end)
    local last = path .. '/run/last.safetensors'
    local a, b = scratch.content(last), scratch.content(images)
    local function both_refuse(reason)
      refuses({ path, reason }, LANGUAGE, 'resume', '--out', path .. '/run')
      refuses({ images, reason }, IMAGES, '--resume', '--out', images)
      assert.are.equal(a, scratch.content(last))
      assert.are.equal(b, scratch.content(images))
    end
    os.execute(('cat /dev/zero >%s/filler 2>/dev/null'):format(path))
    both_refuse 'No space left on device'
    os.execute(('mount -o remount,ro %s'):format(path))
    both_refuse 'Read-only file system'
    assert.are.equal('exit 0', (process.run(LANGUAGE, 'sample', '--out', path .. '/run', '--tokens', 3)))
    os.execute(('mount -o remount,rw %s && rm %s/filler'):format(path, path))
    for script, arguments in pairs{ [LANGUAGE] = { 'resume', '--out', path .. '/run' }, [IMAGES] = { '--resume', '--out', images } } do
      how, _, err = process.run(script, unpack(arguments))
      assert.are.equal('exit 0', how, err)
    end
    for name in lfs.dir(path .. '/run') do assert.is_nil(name:find '%.tmp$', name) end
  end)
end)

describe('bad input of the image classifier', function()
  -- Fashion-MNIST of n grey pictures in a folder.
  local function dataset(n, label)
    local path = folder()
    local function big(v) return string.char(0, 0, math.floor(v / 256), v % 256) end
    for _, part in ipairs{ 'train', 't10k' } do
      put(('%s/%s-images-idx3-ubyte'):format(path, part), '\0\0\8\3' .. big(n) .. big(28) .. big(28) .. ('\127'):rep(n * 784))
      put(('%s/%s-labels-idx1-ubyte'):format(path, part), '\0\0\8\1' .. big(n) .. ('\3'):rep(n - 1) .. string.char(label))
    end
    return path
  end

  it('is told in a line; nothing is replaced', function()
    local out = folder() .. '/a.safetensors'
    local good = dataset(16, 9)
    local function run(...) return process.run(IMAGES, '--batch', 16, '--epochs', 1, '--out', out, ...) end
    local function bad(texts, ...) refuses(texts, IMAGES, '--batch', 16, '--epochs', 1, '--out', out, ...) end
    bad({ 'label 12 of sample 16 is outside 0..9', 'train-labels' }, '--data', dataset(16, 12))
    local short = dataset(16, 1)
    put(short .. '/train-images-idx3-ubyte', '\0\0\8\3\0\0')
    bad({ short, 'train-images' }, '--data', short)
    put(short .. '/train-images-idx3-ubyte', '')
    bad({ short, 'train-images' }, '--data', short)
    bad({ 'apt install dataset-fashion-mnist' }, '--data', '/nowhere')
    bad({ '--images' }, '--synthetic', '--images', 'x')
    assert.is_nil(lfs.attributes(out))
    local how, _, err = run('--data', good)
    assert.are.equal('exit 0', how, err)
    local old = scratch.content(out)
    bad({ out .. ' is there', '--resume --out ' .. out, '--overwrite' }, '--data', good)
    assert.are.equal(old, scratch.content(out))
    assert.are.equal('exit 0', (run('--data', good, '--overwrite', '--seed', 3)))
    assert.are_not.equal(old, scratch.content(out))

    -- NaN, and what a checkpoint can be.
    old = rewrite(out, function(c)
      c.config.epochs = 2
      c.model['0.weight']:fill_(0 / 0)
    end)
    bad({ 'the loss is nan at step 2', 'the last good checkpoint is ' .. out }, '--resume')
    assert.are.equal(old, scratch.content(out))
    for _, content in ipairs{ '', old:sub(1, 1000), old:sub(1, -2) } do
      put(out, content)
      bad({ out }, '--resume')
      assert.are.equal(content, scratch.content(out))
    end
    put(out, old)
    rewrite(out, function(c) c.model['0.weight'] = torch.zeros(3, 1, 3, 3) end)
    bad({ out, '0.weight: the file has (3, 1, 3, 3), the module (16, 1, 3, 3)' }, '--resume')
  end)
end)
