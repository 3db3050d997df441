local lfs = require 'lfs'
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local data = torch.data

local function sizes(kind, ...)
  local out = '\0\0' .. string.char(kind, select('#', ...))
  for _, n in ipairs{ ... } do out = out .. '\0\0' .. string.char(math.floor(n / 256), n % 256) end
  return out
end

-- A folder with the files of the package, of these contents.
local function folder(images, labels)
  local path = scratch.folder() .. '/' .. tostring({}):match('%w+$')
  assert(lfs.mkdir(path))
  for name, content in pairs{ ['t10k-images-idx3-ubyte'] = images, ['t10k-labels-idx1-ubyte'] = labels } do
    local f = assert(io.open(path .. '/' .. name, 'wb'))
    f:write(content)
    f:close()
  end
  finally(function()
    os.remove(path .. '/t10k-images-idx3-ubyte')
    os.remove(path .. '/t10k-labels-idx1-ubyte')
    lfs.rmdir(path)
  end)
  return { train = false, folder = path }
end

describe('Fashion-MNIST', function()
  teardown(scratch.clean)

  it('reads images and labels, which count from 1', function()
    local dataset = data.FashionMNIST(folder(sizes(8, 2, 2, 3) .. 'abcdefghijkl', sizes(8, 2) .. '\0\9'))
    assert.equal(2, dataset:length())
    assert.same({ { { 103, 104, 105 }, { 106, 107, 108 } } }, dataset[2].image:totable())
    assert.equal(1, dataset[1].label)
    assert.equal('ankle boot', data.FashionMNIST.classes[dataset[2].label])
    assert.equal('uint8', dataset[2].image.dtype)
  end)

  it('reads the package of Debian', function()
    if not lfs.attributes('/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz') then
      pending('dataset-fashion-mnist is not installed')
      return
    end
    local dataset = data.FashionMNIST{ train = false }
    assert.equal(10000, dataset:length())
    assert.same({ 1, 28, 28 }, dataset[1].image:size())
    assert.equal('ankle boot', data.FashionMNIST.classes[dataset[1].label])
    local counts = {}
    for batch in data.Loader(dataset, { batch_size = 1000 }) do
      for _, label in ipairs(batch.label:totable()) do counts[label] = (counts[label] or 0) + 1 end
    end
    for label = 1, 10 do assert.equal(1000, counts[label]) end
  end)

  it('refuses what is missing or does not fit', function()
    assert.fails(function() data.FashionMNIST{ folder = '/nowhere' } end, '/nowhere/train-images-idx3-ubyte.gz was not found',
      'apt install dataset-fashion-mnist')
    assert.fails(function() data.FashionMNIST{ split = 'train' } end, 'split')
    local images = sizes(8, 1, 1, 2) .. 'ab'
    assert.fails(function() data.FashionMNIST(folder(images, sizes(8, 1) .. '\10')) end, 'label 10 of sample 1')
    assert.fails(function() data.FashionMNIST(folder(images, sizes(8, 2) .. '\1\2')) end, 'expected 1 labels', '(2) uint8')
    assert.fails(function() data.FashionMNIST(folder(sizes(8, 2) .. 'ab', sizes(8, 1) .. '\1')) end, 'expected images (N, H, W)')
    assert.fails(function() data.FashionMNIST(folder(images:sub(1, -2), sizes(8, 1) .. '\1')) end, 'idx.load')
  end)
end)
