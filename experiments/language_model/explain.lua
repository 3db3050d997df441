--- explain: why a model predicts what it predicts, in numbers: the contribution of every token, and what its layers hold.

local torch = require 'masked_torch'
local sampling = require 'language_model.sampling'
local F = torch.nn.functional

local explain = {}

-- The embedded tokens as a leaf, padded on the left as the model needs; how many positions were added.
local function embed(model, tokens)
  local padded = {}
  for i = 1, -#tokens % (model.unit or 1) do padded[i] = 1 end
  local skipped = #padded
  for i = 1, #tokens do padded[skipped + i] = tokens[i] end
  local x = torch.tensor({ padded }, { dtype = 'int64', device = model.embedding.weight.device })
  return model.embedding(x):detach():requires_grad_(true), skipped
end

-- The logits (1, vocabulary) of the token after n tokens.
local function predict(model, x, n)
  if model.blocks then return (model:run(x):select(2, n)) end
  return (model:run(x, torch.tensor({ n }, { dtype = 'int64', device = x.device })))
end

-- Gradient x input of each token, and the probability of the target.
local function contributions_of(x, skipped, logits, target)
  local loss = F.cross_entropy(logits, torch.tensor({ target }, { dtype = 'int64', device = x.device }))
  loss:backward()
  local values = (x.grad * x:detach()):sum(3):reshape(x:size(2)):totable()
  local result = {}
  for i = 1, #values - skipped do result[i] = -values[skipped + i] end
  return result, math.exp(-loss:item())
end

--- explain.contributions(model, tokens, [target]) -> a table of numbers, one per token, the target, its probability. Gradient x input: the
-- derivative of the log-probability of the target (by default the most probable next token) times the token's embedding, summed over
-- channels. Positive: the token speaks for the target. tokens: a table, at most model.context of them.
function explain.contributions(model, tokens, target)
  model:eval()
  local x, skipped = embed(model, tokens)
  local logits = predict(model, x, #tokens)
  target = target or logits:detach():argmax(2):item()
  local values, p = contributions_of(x, skipped, logits, target)
  return values, target, p
end

-- ---- activations ---------------------------------------------------------------------------------------------------------

-- Mean, standard deviation, skewness and kurtosis (3 for a normal distribution) of all numbers in rows, standardised first.
local function moments(rows)
  local n, sum = 0, 0
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do n, sum = n + 1, sum + v end
  end
  local mean, square = sum / n, 0
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do square = square + (v - mean) ^ 2 end
  end
  local std, third, fourth = math.sqrt(square / n), 0, 0
  if std > 0 then
    for _, row in ipairs(rows) do
      for _, v in ipairs(row) do
        local z = (v - mean) / std
        third, fourth = third + z ^ 3, fourth + z ^ 4
      end
    end
  end
  return { mean = mean, std = std, skewness = third / n, kurtosis = fourth / n }
end

-- One layer: its statistics over the positions that cover a token, and `cells`, at each of them the mean of |a| over channels (for
-- the outputs of a ReLU the plain mean). cell_of[i] is the cell that covers token i: with `skipped` positions of padding before the
-- text, token i is at position i + skipped, and a cell of stride s covers positions s (k - 1) + 1 to s k.
local function summary(stage, a, n, skipped)
  local first = math.floor(skipped / stage.stride)           -- cells of nothing but padding
  local rows = a:detach():narrow(2, first + 1, a:size(2) - first):totable()
  local layer = moments(rows)
  layer.name, layer.stride, layer.channels, layer.cells, layer.cell_of = stage.name, stage.stride, #rows, {}, {}
  for k = 1, #rows[1] do
    local total = 0
    for c = 1, #rows do total = total + math.abs(rows[c][k]) end
    layer.cells[k] = total / #rows
  end
  for i = 1, n do layer.cell_of[i] = math.floor((i + skipped - 1) / stage.stride) + 1 - first end
  return layer
end

--- explain.activation(layers, n) -> one number per token: the published picture's, with its indexing mended. Each layer gives its cell
-- over the token, divided by twice the layer's standard deviation, weighted by 1 / stride (a cell over 8 tokens counts an eighth for
-- each of them); the weights add up to 1.
function explain.activation(layers, n)
  local result = {}
  for i = 1, n do
    local sum, weights = 0, 0
    for _, layer in ipairs(layers) do
      local share = layer.std > 0 and layer.cells[layer.cell_of[i]] / (2 * layer.std) or 0
      sum, weights = sum + share / layer.stride, weights + 1 / layer.stride
    end
    result[i] = sum / weights
  end
  return result
end

-- ---- steps ---------------------------------------------------------------------------------------------------------------

-- The k most probable tokens, { token, p }, most probable first; the target is one of them.
local function best_of(p, k, target)
  local order = {}
  for i = 1, #p do order[i] = i end
  table.sort(order, function(a, b) return p[a] > p[b] or (p[a] == p[b] and a < b) end)
  local list, found = {}, false
  for i = 1, math.min(k, #order) do
    list[i] = { order[i], p[order[i]] }
    found = found or order[i] == target
  end
  if not found then list[#list] = { target, p[target] } end
  return list
end

--- explain.step(model, tokens, choose) -> everything about one prediction. choose(logits): the token to explain, from a table of logits.
-- { tokens =, target =, p = its probability, contributions = one per token, layers = (see `summary`), activation = one per token,
-- best = the ten most probable tokens { token, p }, the target among them }. One forward pass and one backward pass.
function explain.step(model, tokens, choose)
  model:eval()
  local x, skipped = embed(model, tokens)
  local seen, remove, stages = {}, {}, model:stages()
  for i, stage in ipairs(stages) do
    remove[i] = stage.module:register_forward_hook(function(_, inputs, outputs) seen[i] = stage.of(inputs, outputs) end)
  end
  local ok, logits = pcall(predict, model, x, #tokens)
  for _, undo in ipairs(remove) do undo() end
  if not ok then error(logits, 0) end
  local step = { tokens = tokens, layers = {} }
  for i, stage in ipairs(stages) do step.layers[i] = summary(stage, seen[i], #tokens, skipped) end
  step.activation = explain.activation(step.layers, #tokens)
  step.target = choose(logits:detach():squeeze(1):totable())
  step.best = best_of(F.softmax(logits:detach(), 2):squeeze(1):totable(), 10, step.target)
  step.contributions, step.p = contributions_of(x, skipped, logits, step.target)
  return step
end

--- explain.run(model, tokens, o) -> steps, all tokens. Samples o.steps tokens after `tokens` (o: those of sampling.choose, and generator),
-- each explained from the last o.context tokens; or, with o.given, explains the last o.steps of `tokens` themselves. step.start is how
-- many tokens stand before its context.
function explain.run(model, tokens, o)
  local all, steps, seen = {}, {}, {}
  for i, token in ipairs(tokens) do all[i], seen[token] = token, true end
  if #all == 0 then error('language_model: --text is empty: there is nothing to explain', 0) end
  if o.given and #all < 2 then error('language_model: --text is one token, which leaves none to predict', 0) end
  local count = o.given and math.min(o.steps, #all - 1) or o.steps
  local first = o.given and #all - count or #all
  for i = 1, count do
    local n = first + i - 1
    local start = math.max(0, n - o.context)
    local prefix = {}
    for k = start + 1, n do prefix[#prefix + 1] = all[k] end
    steps[i] = explain.step(model, prefix, function(logits)
      if o.given then return all[n + 1] end
      local u = torch.rand(1, { dtype = 'float64', generator = o.generator }):item()
      return (sampling.choose(logits, o, seen, u))
    end)
    steps[i].start = start
    all[n + 1], seen[steps[i].target] = steps[i].target, true
  end
  return steps, all
end

return explain
