--- References for the optimisers: one number at a time, in double, written from the papers and PyTorch's documentation.
-- reference.Name(options) returns a function step(p, g) -> p of one parameter element, which keeps its own state.
local references = {}

local function gradient(o, p, g)
  if o.maximize then g = -g end
  return g + (o.weight_decay or 0) * p
end

function references.SGD(o)
  local buffer
  return function(p, g)
    g = gradient(o, p, g)
    if (o.momentum or 0) ~= 0 then
      buffer = buffer and o.momentum * buffer + (1 - (o.dampening or 0)) * g or g
      g = o.nesterov and g + o.momentum * buffer or buffer
    end
    return p - o.lr * g
  end
end

local function adam(o, decoupled)
  local betas, m, v, top, t = o.betas or { 0.9, 0.999 }, 0, 0, 0, 0
  return function(p, g)
    t = t + 1
    if decoupled then
      g = o.maximize and -g or g
      p = p - o.lr * (o.weight_decay or 0.01) * p
    else
      g = gradient(o, p, g)
    end
    m = betas[1] * m + (1 - betas[1]) * g
    v = betas[2] * v + (1 - betas[2]) * g ^ 2
    top = math.max(top, v)
    local mc, vc = m / (1 - betas[1] ^ t), (o.amsgrad and top or v) / (1 - betas[2] ^ t)
    return p - o.lr * mc / (vc ^ 0.5 + (o.eps or 1e-8))
  end
end
function references.Adam(o) return adam(o, false) end
function references.AdamW(o) return adam(o, true) end

function references.RMSprop(o)
  local alpha, s, m, buffer = o.alpha or 0.99, 0, 0, 0
  return function(p, g)
    g = gradient(o, p, g)
    s = alpha * s + (1 - alpha) * g ^ 2
    m = alpha * m + (1 - alpha) * g
    local a = (o.centered and math.max(0, s - m ^ 2) or s) ^ 0.5 + (o.eps or 1e-8)
    buffer = (o.momentum or 0) * buffer + g / a
    return p - o.lr * buffer
  end
end

function references.Adan(o)
  local betas, m, k, v, before, t = o.betas or { 0.98, 0.92, 0.99 }, 0, 0, 0, nil, 0
  return function(p, g)
    t = t + 1
    if o.maximize then g = -g end
    local d = before and g - before or 0
    before = g
    m = betas[1] * m + (1 - betas[1]) * g
    k = betas[2] * k + (1 - betas[2]) * d
    v = betas[3] * v + (1 - betas[3]) * (g + betas[2] * d) ^ 2
    local a = (v / (1 - betas[3] ^ t)) ^ 0.5 + (o.eps or 1e-8)
    local u = o.lr * (m / (1 - betas[1] ^ t) + betas[2] * k / (1 - betas[2] ^ t)) / a
    local decay = o.lr * (o.weight_decay or 0)
    if o.no_prox then return p * (1 - decay) - u end
    return (p - u) / (1 + decay)
  end
end

return references
