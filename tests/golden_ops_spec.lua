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
  return torch.tensor(walk(t:totable()), { dtype = t.dtype })
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

local call = {
  linear = function(v) return F.linear(v.x, v.weight, v.bias) end,
  cross_entropy = function(v, args) return F.cross_entropy(v.x, one_based(v.target), options_of(args)) end,
  softmax = along('softmax'), log_softmax = along('log_softmax'),
  layer_norm = function(v, args) return F.layer_norm(v.x, args.normalized_shape, v.weight, v.bias, args.eps) end,
  group_norm = function(v, args) return F.group_norm(v.x, args.num_groups, v.weight, v.bias, args.eps) end,
  batch_norm = function(v, args)
    return F.batch_norm(v.x, nil, nil, v.weight, v.bias, args.training, args.momentum, args.eps)
  end,
  embedding = function(v) return F.embedding(one_based(v.index), v.weight) end,
  leaky_relu = function(v, args) return F.leaky_relu(v.x, args.negative_slope) end,
}
for _, name in ipairs{ 'conv1d', 'conv2d', 'conv3d', 'conv_transpose1d', 'conv_transpose2d' } do call[name] = weighted(name) end
for _, name in ipairs{ 'avg_pool1d', 'avg_pool2d', 'max_pool1d', 'max_pool2d' } do call[name] = windowed(name) end
for _, name in ipairs{ 'relu', 'sigmoid', 'tanh', 'gelu', 'silu', 'softplus' } do call[name] = pointwise(name) end

describe('golden ops', function()
  for _, case in ipairs(golden.cases('ops')) do
    if not case.layer:find('^optim%.') then
      it(case.name, function()
        local values = golden.fields(case, 'in.')
        for _, t in pairs(values) do
          if torch.Tensor.floating[t.dtype] then t:requires_grad_() end
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
