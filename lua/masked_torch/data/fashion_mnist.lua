--- fashion_mnist: 70,000 pictures of clothes, 28 x 28 (Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017), as Debian packages them.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local dataset = require 'masked_torch.data.dataset'
local idx = require 'masked_torch.io.idx'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail

local FashionMNIST, TensorDataset = class('FashionMNIST', dataset.TensorDataset)

local FOLDER = '/usr/share/datasets/fashion-mnist'

FashionMNIST.classes = { 'T-shirt/top', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag',
  'ankle boot' }

-- The package has .gz files; an unpacked copy will do as well.
local function locate(folder, name)
  for _, path in ipairs{ folder .. '/' .. name .. '.gz', folder .. '/' .. name } do
    local file = io.open(path, 'rb')
    if file then
      file:close()
      return path
    end
  end
  fail('FashionMNIST: %s/%s.gz was not found; on Debian and Ubuntu: apt install dataset-fashion-mnist (or give the folder that ' ..
    'holds it: {folder = ...})', folder, name)
end

--- data.FashionMNIST([{train = true, folder = '/usr/share/datasets/fashion-mnist'}]): samples {image = (1, 28, 28) uint8, 0..255,
-- label = 1..10}; 60,000 to train, 10,000 to test (train = false). FashionMNIST.classes names the labels.
function FashionMNIST:__init(opts)
  opts = options.parse('FashionMNIST', { train = true, folder = FOLDER }, opts)
  local part = opts.train and 'train' or 't10k'
  local image_path = locate(opts.folder, part .. '-images-idx3-ubyte')
  local label_path = locate(opts.folder, part .. '-labels-idx1-ubyte')
  local images, stored = idx.load(image_path), idx.load(label_path)
  if images.dtype ~= 'uint8' or images:dim() ~= 3 then
    fail('FashionMNIST: %s: expected images (N, H, W) uint8, it holds %s %s', image_path, Tensor.shape_text(images), images.dtype)
  end
  local n = images:size(1)
  if stored.dtype ~= 'uint8' or stored:dim() ~= 1 or stored:size(1) ~= n then
    fail('FashionMNIST: %s: expected %d labels (N) uint8, it holds %s %s', label_path, n, Tensor.shape_text(stored), stored.dtype)
  end
  local labels = Tensor.empty('FashionMNIST', { n }, 'int64')
  local from, to = ffi.cast('const uint8_t *', stored._c.data), ffi.cast('int64_t *', labels._c.data)
  for i = 0, n - 1 do
    if from[i] > 9 then fail('FashionMNIST: %s: label %d of sample %d is outside 0..9', label_path, from[i], i + 1) end
    to[i] = from[i] + 1
  end
  TensorDataset.__init(self, { image = images:unsqueeze(2), label = labels })
end

return { FashionMNIST = FashionMNIST }
