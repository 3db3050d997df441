--- sampling: one token after the other.

local torch = require 'masked_torch'
local cached = require 'language_model.cached'

local sampling = {}

-- Sets everything to 0 that `keep` refuses.
local function filter(p, keep)
  for i = 1, #p do
    if not keep(p[i]) then p[i] = 0 end
  end
end

-- The probability below which top_k and top_p cut; equal probabilities stay together.
local function threshold(p, top_k, top_p)
  local sorted = {}
  for i = 1, #p do sorted[i] = p[i] end
  table.sort(sorted, function(a, b) return a > b end)
  local cut = 0
  if top_k > 0 and top_k < #sorted then cut = sorted[top_k] end
  if top_p < 1 then
    local total = 0
    for i = 1, #sorted do
      total = total + sorted[i]
      if total >= top_p then return math.max(cut, sorted[i]) end
    end
  end
  return cut
end

--- sampling.choose(logits, o, seen, u) -> token, probabilities. logits: a table; o: { temperature, top_k = 0, top_p = 1, min_p = 0,
-- floor = 0, repetition_penalty = 1 }; seen: tokens that appeared, as keys; u: uniform in [0, 1). In this order: the penalty
-- (Keskar et al. 2019) divides positive logits and multiplies negative ones; a temperature of 0 takes the largest logit;
-- probabilities below the k-th largest go, then those outside the smallest set that reaches top_p, those below min_p times the largest,
-- and those below floor (masked_torch's min_p). When nothing is left, or nothing finite, the largest logit wins.
function sampling.choose(logits, o, seen, u)
  local n, penalty = #logits, o.repetition_penalty or 1
  local best, z = 1, {}
  for i = 1, n do
    local v = logits[i]
    if penalty ~= 1 and seen and seen[i] then v = v > 0 and v / penalty or v * penalty end
    z[i] = v
    if v > z[best] then best = i end
  end
  if o.temperature <= 0 then return best end
  local p, total = {}, 0
  for i = 1, n do
    p[i] = math.exp((z[i] - z[best]) / o.temperature)
    total = total + p[i]
  end
  if not (total > 0 and total < math.huge) then return best end
  for i = 1, n do p[i] = p[i] / total end
  local cut = 0
  if (o.top_k or 0) > 0 or (o.top_p or 1) < 1 then cut = threshold(p, o.top_k or 0, o.top_p or 1) end
  local least = math.max(cut, (o.min_p or 0) * p[best], o.floor or 0)
  if least > 0 then filter(p, function(v) return v >= least end) end
  total = 0
  for i = 1, n do total = total + p[i] end
  if not (total > 0) then return best end
  local rest, last = u * total, best
  for i = 1, n do
    if p[i] > 0 then
      last = i
      rest = rest - p[i]
      if rest < 0 then break end
    end
  end
  return last, p
end

-- The next logits after each token, from the last `context` tokens at most.
local function recompute(model, context)
  local tokens = {}
  return function(token)
    tokens[#tokens + 1] = token
    if #tokens > context then table.remove(tokens, 1) end
    local x = torch.tensor({ tokens }, { dtype = 'int64', device = model.embedding.weight.device })
    local logits = torch.no_grad(model, x)
    return logits:dim() == 3 and logits:select(2, #tokens):squeeze(1) or logits:squeeze(1)
  end
end

--- sampling.predictor(model, {cache = true, context = 128}) -> push(token) -> logits (vocabulary). With the cache, which only causal
-- models on the CPU have, every earlier token within the receptive field counts; without, the last `context` tokens.
function sampling.predictor(model, o)
  if model.blocks and o.cache ~= false and model.embedding.weight.device == 'cpu' then
    local state = cached.new(model)
    return function(token) return (state:push(token)) end
  end
  return recompute(model, o.context)
end

--- sampling.generate(model, prompt, o) -> a table of tokens. prompt: a table of at least one token. o: those of choose and predictor,
-- tokens = how many, generator = of random numbers, on_token = function(token).
function sampling.generate(model, prompt, o)
  if #prompt == 0 then error('sampling: the prompt is empty', 0) end
  local was_training = model.training
  model:eval()
  local push, seen, logits = sampling.predictor(model, o), {}, nil
  for _, token in ipairs(prompt) do
    logits, seen[token] = push(token), true
  end
  local result = {}
  for i = 1, o.tokens do
    local u = torch.rand(1, { dtype = 'float64', generator = o.generator }):item()
    local token = sampling.choose(logits:totable(), o, seen, u)
    result[i], seen[token] = token, true
    if o.on_token then o.on_token(token) end
    if i < o.tokens then logits = push(token) end
  end
  model:train(was_training)
  return result
end

return sampling
