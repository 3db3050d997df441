--- A training loop on a device does not wait for it: losses, norms and means are read some steps later.
local torch = require 'masked_torch'
local train = torch.train

local device = os.getenv 'MASKED_TORCH_TEST_DEVICE'
if device == '' then device = nil end

describe('train.watch on a device', function()
  it('checks tensors on a device some steps later, and names the step', function()
    if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
    local watch, loss = train.watch(nil, { every = 3 }), torch.tensor(1, { device = device })
    for step = 1, 2 do
      assert.are.equal(loss, watch:check(loss, step))
      loss:fill_(step == 1 and 0 / 0 or 1)      -- what counts is the value at the call
    end
    assert.fails(function() watch:check(loss, 3) end, 'nan at step 2')
    watch:check(loss, 4)
    watch:flush()
    watch:check(loss:fill_(math.huge), 5, "gradient's norm")
    assert.fails(function() watch:flush() end, "gradient's norm is inf at step 5")
    watch:flush()
  end)
end)

describe('running means on a device', function()
  it('are those of numbers, read together', function()
    if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
    local here, there = train.means(), train.means()
    local value = torch.tensor(0, { device = device })
    for i = 1, 600 do
      local number = (i * 37 % 101) / 8
      here:add({ loss = number, share = i }, i % 3)
      there:add({ loss = value:fill_(number), share = i }, i % 3)
    end
    assert.are.same(here:get(), there:get())
    assert.are.same(here:state_dict(), there:state_dict())
    there:add{ loss = value }
    there:reset()
    assert.are.same({}, there:get())
    assert.fails(function() there:add{ loss = torch.zeros(2, { device = device }) } end, 'one element')
  end)
end)

describe('a training step', function()
  local here = require 'support.root'
  package.path = (here == '' and './' or here) .. 'experiments/?.lua;' .. package.path

  -- A capture refuses whatever waits and whatever comes from the host.
  it('of the language model neither waits for the device nor sends anything', function()
    if not device then pending('no MASKED_TORCH_TEST_DEVICE') end
    local training, cli = require 'language_model.training', require 'language_model.cli'
    for _, model in ipairs{ 'causal', 'window' } do
      local o = cli.parse{ '--quick', '--model', model, '--dataset', 'kjv', '--seed', '3' }
      o.depth, o.steps, o.context, o.valid_context, o.shortest, o.width, o.batch = 2, 6, 16, 16, model == 'window' and 4 or 16, 8, 3
      local tokens, valid = torch.data.Tokens.of_string(('To be, or not to be, that is the question. '):rep(9)):split{ 0.7, 0.3 }
      local bytes = torch.data.tokenizer.bytes()
      local run = training.new(training.config(o, bytes), { train = tokens, valid = valid, tokenizer = bytes, name = 'text' }, device)
      local batches = {}
      for batch in run.state.loader do batches[#batches + 1] = batch end
      training.step(run, batches[1])
      local graph = torch.cuda.CUDAGraph()
      local loss, right = graph:capture(function() return training.step(run, batches[2]) end)
      graph:replay()
      run.state.means:add{ loss = loss, accuracy = right }
      local means = run.state.means:get()
      assert.is_true(means.loss > 0 and means.loss < 10 and means.accuracy >= 0 and means.accuracy <= 100)
      run.watch:flush()
      graph:reset()
    end
  end)
end)
