--- Losses that are checked without waiting; on a device: tests/cuda/train_spec.lua.
local torch = require 'masked_torch'
local train = torch.train

describe('train.watch', function()
  it('checks numbers and tensors on the CPU at once', function()
    local watch = train.watch('run.safetensors', { every = 4 })
    assert.are.equal(2, watch:check(2, 1))
    assert.are.equal(0.5, watch:check(torch.tensor(0.5), 1))
    assert.fails(function() watch:check(torch.tensor(0 / 0), 7) end, 'the loss is nan at step 7', 'run.safetensors')
    assert.fails(function() watch:check(-1 / 0, 8, 'norm') end, 'the norm is -inf at step 8')
    watch:flush()
    assert.fails(function() train.watch(nil, { every = 0 }) end, 'watch: every')
  end)
end)
