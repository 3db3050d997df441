--- data: datasets, samplers, loaders and text sources.
--
-- A dataset is anything with `length()` and `get(i)`, i from 1, or a list of samples; a sample is a table whose keys name its parts.
--
-- @usage
-- local data = torch.data
-- local tokens = data.Tokens.of_string('the quick brown fox jumps over the lazy dog')
-- local windows = data.SlidingWindowDataset(tokens, 1, 16)
-- local loader = data.Loader(windows, { batch_size = 8, shuffle = true, drop_last = true,
--   collate = data.collate.sequences{ pad = 'left', multiple = 16 } })
-- for batch in loader do
--   assert(batch.sequence:size(2) == 16 and batch.mask:size(3) == 16 and batch.target:dim() == 1)
-- end

local namespace = require 'masked_torch.namespace'

local where = {
  Dataset = 'dataset', TensorDataset = 'dataset', Subset = 'dataset', ConcatDataset = 'dataset', MapDataset = 'dataset',
  random_split = 'dataset',
  Tokens = 'tokens',
  SlidingWindowDataset = 'window', CollectionSlidingWindowDataset = 'window', MemoryMapSlidingWindowDataset = 'window',
  NextTokenDataset = 'window',
  SequentialSampler = 'sampler', RandomSampler = 'sampler', BatchSampler = 'sampler', BucketSampler = 'sampler',
  Loader = 'loader', to = 'move', FashionMNIST = 'fashion_mnist',
}
return namespace('data', where, { 'collate', 'text', 'tokenizer' })
