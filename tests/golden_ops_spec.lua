-- Plain operators against the reference vectors. Labels and indices in the files count from 0, dims too.
local torch = require 'masked_torch'
local golden = require 'support.golden'
local F = torch.nn.functional

local function options_of(args, ...)
  local opts = {}
  for key, value in pairs(args) do opts[key] = value end
  for _, name in ipairs{ ... } do opts[name] = nil end
  if next(opts) then return opts end
end

-- 0-based positions -> 1-based; negative ones are marks.
local function one_based(t)
  local function walk(v)
    if type(v) ~= 'table' then return v < 0 and v or v + 1 end
    local out = {}
    for i, e in ipairs(v) do out[i] = walk(e) end
    return out
  end
  return torch.tensor(walk(t:totable()), { dtype = t.dtype, device = t.device })
end

local function windowed(name)
  return function(v, args) return F[name](v.x, args.kernel_size, options_of(args, 'kernel_size')) end
end

local function weighted(name)
  return function(v, args) return F[name](v.x, v.weight, v.bias, options_of(args)) end
end

local function pointwise(name)
  return function(v) return F[name](v.x) end
end

local function along(name)
  return function(v, args) return F[name](v.x, args.dim < 0 and args.dim or args.dim + 1) end
end

local function classified(name)
  return function(v, args)
    local opts = options_of(args) or {}
    opts.weight = v.class_weight
    return F[name](v.x, one_based(v.target), opts)
  end
end

local function compared(name)
  return function(v, args) return F[name](v.x, v.target, options_of(args)) end
end

local call = {
  linear = function(v) return F.linear(v.x, v.weight, v.bias) end,
  cross_entropy = classified('cross_entropy'), nll_loss = classified('nll_loss'),
  softmax = along('softmax'), log_softmax = along('log_softmax'),
  layer_norm = function(v, args) return F.layer_norm(v.x, args.normalized_shape, v.weight, v.bias, args.eps) end,
  group_norm = function(v, args) return F.group_norm(v.x, args.num_groups, v.weight, v.bias, args.eps) end,
  batch_norm = function(v, args)
    return F.batch_norm(v.x, nil, nil, v.weight, v.bias, args.training, args.momentum, args.eps)
  end,
  instance_norm = function(v, args) return F.instance_norm(v.x, { weight = v.weight, bias = v.bias, eps = args.eps }) end,
  embedding = function(v, args)
    return F.embedding(one_based(v.index), v.weight, args.padding_idx and { padding_idx = args.padding_idx + 1 })
  end,
  leaky_relu = function(v, args) return F.leaky_relu(v.x, args.negative_slope) end,
  elu = function(v, args) return F.elu(v.x, args.alpha) end,
  gelu = function(v, args) return F.gelu(v.x, args.approximate) end,
  softplus = function(v, args) return F.softplus(v.x, args.beta, args.threshold) end,
}
for dims = 1, 3 do
  for _, name in ipairs{ 'conv', 'conv_transpose' } do call[name .. dims .. 'd'] = weighted(name .. dims .. 'd') end
  for _, name in ipairs{ 'avg_pool', 'max_pool' } do call[name .. dims .. 'd'] = windowed(name .. dims .. 'd') end
end
for _, name in ipairs{ 'mse_loss', 'l1_loss', 'smooth_l1_loss', 'huber_loss', 'binary_cross_entropy_with_logits', 'kl_div' } do
  call[name] = compared(name)
end
for _, name in ipairs{ 'relu', 'sigmoid', 'tanh', 'silu' } do call[name] = pointwise(name) end

describe('golden ops', function()
  for _, case in ipairs(golden.cases('ops')) do
    if not case.layer:find('^optim%.') then
      it(case.name, function()
        local values = golden.fields(case, 'in.')
        for name, t in pairs(values) do
          if torch.Tensor.floating[t.dtype] and name ~= 'class_weight' then t:requires_grad_() end
        end
        local y = (assert(call[case.layer], case.layer)(values, case.args))
        golden.check(case, 'out.y', y)
        y:backward(golden.tensor(case, 'gout.y'))
        assert.is_true(#case.grads > 0)
        for _, name in ipairs(case.grads) do golden.check(case, 'grad.' .. name, values[name].grad) end
      end)
    end
  end
end)
