local here = require 'support.root'
package.path = here .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local Causal = require 'language_model.causal'
local Window = require 'language_model.window'
local cached = require 'language_model.cached'
local cli = require 'language_model.cli'
local corpus = require 'language_model.corpus'
local explain = require 'language_model.explain'
local report = require 'language_model.report'
local sampling = require 'language_model.sampling'
local training = require 'language_model.training'
local scratch = require 'support.scratch'
local checkpoint = torch.train.checkpoint
local F = torch.nn.functional

local text = ('To be, or not to be, that is the question: whether it is nobler in the mind to suffer.\n'):rep(40)

local function options_for(model)
  local o = cli.parse{ '--quick', '--model', model, '--dataset', 'kjv', '--seed', '3' }
  o.depth, o.steps, o.context, o.valid_context, o.shortest, o.width = 2, 6, 16, 16, model == 'window' and 1 or 8, 8
  return o
end

local function corpus_of(tokens)
  local train, valid = torch.data.Tokens.of_string(tokens or text):split{ 0.9, 0.05 }
  return { train = train, valid = valid, tokenizer = torch.data.tokenizer.bytes(), name = 'text' }
end

local function new_run(model)
  torch.manual_seed(3)
  local c = corpus_of()
  return training.new(training.config(options_for(model), c.tokenizer), c)
end

-- Takes n steps and returns the losses.
local function steps(run, n)
  local losses = {}
  for batch in run.state.loader do
    losses[#losses + 1] = training.step(run, batch)
    if #losses == n then break end
  end
  return losses
end

local function assert_same_weights(a, b)
  local other = b:state_dict()
  for name, t in pairs(a:state_dict()) do assert.is_true(torch.equal(t, other[name]), name) end
end

local function tiny(opts)
  torch.manual_seed(5)
  local o = { vocabulary = 20, width = 8, depth = 3, kernel = 3, dilations = { 1, 2, 4 } }
  for key, value in pairs(opts or {}) do o[key] = value end
  local net = Causal(o):eval()
  for _, p in ipairs(net:parameters()) do p:detach():normal_(0, 0.5) end
  return net
end

describe('a training run', function()
  it('shows where the time of its steps goes, over the end of an epoch', function()
    for _, model in ipairs{ 'causal', 'window' } do
      local run = new_run(model)
      local length = run.state.loader:length()
      for _ = 1, length - 2 do run.state.loader() end
      local names = {}
      for _, op in ipairs(training.profile(run).ops) do names[op.name] = op.calls end
      assert.are.equal(1, names.cross_entropy)
      assert.are.equal(1, names[model == 'window' and 'Adam:step' or 'AdamW:step'])
    end
  end)
end)

describe('the causal language model', function()
  it('predicts from the past only, whatever follows, to the bit', function()
    local net = tiny()
    local x = torch.randint(1, 20, 2, 24, { dtype = 'int64' })
    local full = net(x)
    assert.is_true(torch.equal(full:narrow(2, 1, 10), net(x:narrow(2, 1, 10):contiguous())))
  end)

  it('knows nothing of padding on the left: logits and gradients', function()
    local net = tiny()
    local x = torch.randint(1, 20, 3, 11, { dtype = 'int64' })
    local lengths = { 11, 5, 8 }
    local gradients, logits = {}, {}
    for i, padding in ipairs{ 0, 3, 13 } do
      local padded = torch.cat({ torch.randint(1, 20, 3, padding, { dtype = 'int64' }), x }, 2)
      local mask = torch.mask.lengths(lengths, 11 + padding, { align = 'right' })
      net:zero_grad()
      local y = net(padded, mask)
      F.cross_entropy(y:transpose(2, 3), padded, { mask = mask }):backward()
      logits[i] = y:narrow(2, padding + 7, 5)
      gradients[i] = {}
      for name, p in net:named_parameters() do gradients[i][name] = p.grad:clone() end
    end
    for i = 2, 3 do
      assert.is_true(torch.equal(logits[1], logits[i]))
      for name, g in pairs(gradients[1]) do
        assert.is_true(torch.equal(g, gradients[i][name]), name)
      end
    end
  end)

  it('gives a short context what the text alone gives', function()
    local net = tiny()
    local x = torch.randint(1, 20, 1, 12, { dtype = 'int64' })
    local mask = torch.mask.lengths({ 5 }, 12, { align = 'right' })
    assert.is_true(torch.equal(net(x, mask):narrow(2, 8, 5), net(x:narrow(2, 8, 5):contiguous())))
  end)

  for name, opts in pairs{ plain = {}, tied = { tied = true }, wide = { width = 40, kernel = 4, dilations = { 3 } },
    hidden = { hidden = 24 } } do
    it('samples with a cache to the same bits: ' .. name, function()
      local net = tiny(opts)
      local x = torch.randint(1, 20, 1, 60, { dtype = 'int64' })
      local full, state = net(x), cached.new(net)
      for _ = 1, 2 do
        for i = 1, 60 do assert.is_true(torch.equal(state:push(x[{ 1, i }]), full[{ 1, i }]), 'position ' .. i) end
        state:reset()
      end
    end)
  end

  it('counts its receptive field', function()
    local net = tiny()
    assert.equal(1 + 2 * (1 + 2 + 4), net:receptive_field())
    local x = torch.ones(1, 30, { dtype = 'int64' })
    local other = x:clone()
    other[{ 1, 30 - 15 }] = 7
    assert.is_true(torch.equal(net(x)[{ 1, 30 }], net(other)[{ 1, 30 }]))
    other[{ 1, 30 - 14 }] = 7
    assert.is_false(torch.equal(net(x)[{ 1, 30 }], net(other)[{ 1, 30 }]))
  end)

  it('refuses a token that does not exist', function()
    local state = cached.new(tiny())
    assert.has_error(function() state:push(21) end)
    assert.has_error(function() state:push(0) end)
  end)
end)

describe('the window language model', function()
  it('takes any length up to its context', function()
    torch.manual_seed(1)
    local net = Window{ vocabulary = 20, depth = 2, scale = 4, width = 6, context = 32 }:eval()
    local x = torch.randint(1, 20, 2, 13, { dtype = 'int64' })
    local padded = torch.cat({ torch.ones(2, 3, { dtype = 'int64' }), x }, 2)
    local y = net(x)
    assert.is_true(torch.equal(y, net(padded, torch.tensor({ 13, 13 }, { dtype = 'int64' }))))
    assert.same({ 2, 20 }, y:size())
    local ok, message = pcall(net, torch.ones(1, 33, { dtype = 'int64' }))
    assert.is_false(ok)
    assert.matches('33 positions, the table has 32', message)
  end)
end)

describe('training', function()
  for _, model in ipairs{ 'causal', 'window' } do
    it(model .. ': steps lower the loss; resuming is as if nothing had happened, to the bit', function()
      local whole = new_run(model)
      local before = training.validate(whole.model, whole.valid)
      local losses = steps(whole, 6)
      assert.is_true(training.validate(whole.model, whole.valid) < before)

      local path = scratch.folder() .. '/part.safetensors'
      local part = new_run(model)
      steps(part, 2)
      checkpoint.save(path, training.fields(part))
      local other = new_run(model)
      steps(other, 1)
      local rest = checkpoint.load(path, other.state)
      other.step = rest.step
      assert.equal(2, rest.step)
      local more = steps(other, 4)
      for i = 1, 4 do assert.equal(losses[i + 2], more[i]) end
      assert_same_weights(whole.model, other.model)
    end)

    it(model .. ': stops at a loss that is no number and leaves the weights alone', function()
      local run = new_run(model)
      steps(run, 1)
      local before = {}
      run.model.head.weight:detach():fill_(0 / 0)
      for name, t in pairs(run.model:state_dict()) do before[name] = t:clone() end
      local ok, message = pcall(steps, run, 1)
      assert.is_false(ok)
      assert.matches('nan at step 2', message)
      for name, p in run.model:named_parameters() do
        if name ~= 'head.weight' then assert.is_true(torch.equal(p, before[name]), name) end
      end
    end)

    it(model .. ': validates', function()
      local run = new_run(model)
      local a = training.validate(run.model, run.valid)
      assert.is_true(a > 4 and a < 8)
      assert.equal(a, training.validate(run.model, run.valid))
    end)
  end

  it('does not load a checkpoint of another architecture or vocabulary', function()
    local path = scratch.folder() .. '/other.safetensors'
    checkpoint.save(path, training.fields(new_run 'causal'))
    local run = new_run 'window'
    local ok, message = pcall(checkpoint.load, path, { model = run.model })
    assert.is_false(ok)
    assert.matches('sequential', message)
    local c = training.config(options_for 'causal', torch.data.tokenizer.bytes())
    c.vocabulary = 300
    ok, message = pcall(training.new, c, corpus_of())
    assert.is_false(ok)
    assert.matches('vocabulary of 300 tokens, the tokenizer 256', message)
  end)
end)

describe('the corpus', function()
  local function load(content, opts)
    local o = options_for 'causal'
    o.data = scratch.path '.txt'
    if content then
      local f = assert(io.open(o.data, 'wb'))
      f:write(content)
      f:close()
    end
    for key, value in pairs(opts or {}) do o[key] = value end
    return corpus.load(o)
  end

  it('is bytes, 90 % for training, 5 % for validation', function()
    local c = load(text)
    assert.equal(math.floor(#text * 0.9), c.train:length())
    assert.equal(256, c.tokenizer.vocab_size)
    assert.equal(text:byte(1) + 1, c.train:slice(1, 1):item())
  end)

  it('trains a byte-pair encoding', function()
    local c = load(text, { tokenizer = 'bpe:270' })
    assert.is_true(c.tokenizer.vocab_size > 256 and c.tokenizer.vocab_size <= 270)
    assert.is_true(c.train:length() < #text * 0.9)
  end)

  for what, case in pairs{ ['an empty file'] = { '', 'empty' }, ['a missing file'] = { nil, 'No such file' },
    ['a file shorter than the context'] = { 'short', '5 tokens, context needs 17' } } do
    it('refuses ' .. what, function()
      local ok, message = pcall(load, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message)
    end)
  end

  it('refuses an unknown tokenizer', function()
    assert.has_error(function() load(text, { tokenizer = 'no such file' }) end)
  end)
end)

describe('sampling', function()
  local function choose(p, o, u)
    local logits = {}
    for i = 1, #p do logits[i] = math.log(p[i]) end
    local _, kept = sampling.choose(logits, o, {}, u or 0)
    local list = {}
    for i = 1, #p do list[i] = kept[i] > 0 and 1 or 0 end
    return list
  end
  local p = { 0.5, 0.2, 0.15, 0.1, 0.05 }

  it('cuts by rank, mass, share of the best, and absolutely', function()
    assert.same({ 1, 1, 1, 1, 1 }, choose(p, { temperature = 1 }))
    assert.same({ 1, 1, 0, 0, 0 }, choose(p, { temperature = 1, top_k = 2 }))
    assert.same({ 1, 1, 1, 0, 0 }, choose(p, { temperature = 1, top_p = 0.8 }))
    assert.same({ 1, 1, 1, 0, 0 }, choose(p, { temperature = 1, min_p = 0.25 }))
    assert.same({ 1, 1, 1, 1, 0 }, choose(p, { temperature = 1, floor = 0.07 }))
  end)

  it('takes the best at temperature 0 and where nothing is left', function()
    assert.equal(2, (sampling.choose({ 1, 3, 2 }, { temperature = 0 }, {}, 0.9)))
    assert.equal(2, (sampling.choose({ 1, 3, 2 }, { temperature = 1, floor = 0.99 }, {}, 0.9)))
  end)

  it('draws in proportion', function()
    local logits, counts = { math.log(0.7), math.log(0.3) }, { 0, 0 }
    for i = 0, 99 do
      local token = sampling.choose(logits, { temperature = 1 }, {}, (i + 0.5) / 100)
      counts[token] = counts[token] + 1
    end
    assert.same({ 70, 30 }, counts)
  end)

  it('penalises what has appeared', function()
    assert.equal(1, (sampling.choose({ 1, 1.5 }, { temperature = 0, repetition_penalty = 2 }, { [2] = true }, 0)))
  end)

  it('gives the same tokens with and without the cache', function()
    local net = tiny()
    local results = {}
    for i, cache in ipairs{ true, false } do
      results[i] = sampling.generate(net, { 1, 5, 9 }, { temperature = 1, tokens = 30, cache = cache, context = 128,
        generator = torch.Generator(7) })
    end
    assert.equal(30, #results[1])
    assert.same(results[1], results[2])
  end)
end)

describe('contributions', function()
  it('are gradient x input: they add up to what a linear model says, and end at the receptive field', function()
    local net = tiny()
    local tokens = {}
    for i = 1, 30 do tokens[i] = (i * 7) % 20 + 1 end
    local values, best, p = explain.contributions(net, tokens)
    assert.equal(30, #values)
    assert.is_true(best >= 1 and best <= 20 and p > 0 and p <= 1)
    for i = 1, 30 - net:receptive_field() do assert.equal(0, values[i]) end
    assert.is_true(values[30] ~= 0)
    -- Numerically: the derivative along the embedding of one token.
    local x = net:double().embedding(torch.tensor({ tokens }, { dtype = 'int64' })):detach()
    local function log_p(scale)
      local moved = x:clone()
      local row = moved:select(2, 28)
      row:mul_(scale)
      local logits = net:run(moved):select(2, 30)
      return -F.cross_entropy(logits, torch.tensor({ best }, { dtype = 'int64' })):item()
    end
    assert.near((log_p(1 + 1e-5) - log_p(1 - 1e-5)) / 2e-5, values[28], 1e-3)
  end)

  it('of a window model leave the padding out; a report is one file without the network', function()
    torch.manual_seed(2)
    local net = Window{ vocabulary = 256, depth = 2, scale = 4, width = 6, context = 32 }
    assert.equal(13, #(explain.contributions(net, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 })))
    local path = scratch.path '.html'
    report.write(path, { model = net, tokenizer = torch.data.tokenizer.bytes(), config = { model = 'window', context = 16 },
      text = 'To <be>, or not', curve = 'none', samples = { { 'a', 'b < c' } } })
    local f = assert(io.open(path))
    local html = f:read '*a'
    f:close()
    assert.matches('&lt;', html)
    assert.is_nil(html:find('http', 1, true))
  end)
end)
