-- masked_torch's batch norm: the family bn of the reference vectors, and the norms of the family ops. Cases with compat tags need
-- compat = true; the others hold by default, and under compat too.
local torch = require 'masked_torch'
local golden = require 'support.golden'
local nn, F = torch.nn, torch.nn.functional

local function build(case, compat)
  local a = case.args
  local layer = nn[case.layer](a.num_features, { eps = a.eps, momentum = a.momentum or 'cumulative', affine = a.affine,
    track_running_stats = a.track_running_stats, compat = compat, dtype = case.dtype == 'F64' and 'float64' or 'float32' })
  layer:load_state_dict(golden.fields(case, 'param.'))
  return layer
end

local function check_buffers(case, layer, step)
  for field in pairs(case.tensors) do
    local name = field:match('^state' .. step .. '%.(.*)')
    if name then golden.check(case, field, layer[name]) end
  end
end

-- One call with its gradients; suffix is the number of the call, or nothing in eval mode.
local function call(case, layer, number)
  local x, mask = golden.tensor(case, 'in.x' .. number), golden.tensor(case, 'in.mask' .. number)
  layer:zero_grad()
  x:requires_grad_()
  local y, out_mask = layer(x, mask)
  assert.equal(mask == nil, out_mask == nil)
  golden.check(case, 'out.y' .. number, y)
  y:backward(golden.tensor(case, 'gout.y' .. number))
  local suffix = number
  local function gradient(name, t)
    local field = 'grad.' .. name .. suffix
    if case.tensors[field] then golden.check(case, field, t.grad) end
  end
  gradient('x', x)
  if layer.weight then
    gradient('weight', layer.weight)
    gradient('bias', layer.bias)
  end
end

local function run(case, compat)
  local layer = build(case, compat):to(golden.device)
  if case.mode == 'eval' then
    layer:eval()
    local number = case.tensors['in.x'] and '' or '1'
    call(case, layer, number)
    return
  end
  for step = 1, 3 do
    call(case, layer, tostring(step))
    check_buffers(case, layer, step)
  end
  layer:eval()
  golden.check(case, 'out.y_eval', (layer(golden.tensor(case, 'in.x1'), golden.tensor(case, 'in.mask1'))))
end

describe('the golden batch norm', function()
  local cases = golden.cases('bn')
  if golden.is_committed then
    it('has all its cases', function() assert.equal(24, #cases) end)
  end
  for _, case in ipairs(cases) do
    it(case.name .. ' under compat', function() run(case, true) end)
    if not golden.compat(case) then
      it(case.name, function() run(case, false) end)
    end
  end

  if golden.is_committed then
    it('differs by default where a case needs compat', function()
      for _, case in ipairs(cases) do
        if golden.compat(case) then
          assert.is_false((pcall(run, case, false)), case.name)
        end
      end
    end)
  end
end)

describe('the golden norms', function()
  local calls = {
    layer_norm = function(a, x, w, b) return F.layer_norm(x, a.normalized_shape, w, b, a.eps) end,
    group_norm = function(a, x, w, b) return F.group_norm(x, a.num_groups, w, b, a.eps) end,
    instance_norm = function(a, x, w, b) return F.instance_norm(x, { weight = w, bias = b, eps = a.eps }) end,
    batch_norm = function(a, x, w, b) return F.batch_norm(x, nil, nil, w, b, a.training, a.momentum, a.eps) end,
  }
  local seen = 0
  for _, case in ipairs(golden.cases('ops')) do
    local fn = calls[case.layer]
    if fn then
      seen = seen + 1
      it(case.name, function()
        local inputs = {}
        for i, name in ipairs(case.inputs) do inputs[i] = golden.tensor(case, 'in.' .. name):requires_grad_() end
        local y = fn(case.args, unpack(inputs))
        golden.check(case, 'out.y', y)
        y:backward(golden.tensor(case, 'gout.y'))
        for i, name in ipairs(case.inputs) do golden.check(case, 'grad.' .. name, inputs[i].grad) end
      end)
    end
  end
  if golden.is_committed then
    it('are three', function() assert.equal(3, seen) end)
  end
end)

describe('the golden refusals of batch norm', function()
  for _, case in ipairs(golden.json('errors.json')) do
    if case.what == 'eval without running statistics' then
      it(case.what, function()
        assert.fails(function() F.masked_batch_norm(torch.ones(2, 3), torch.ones(2, 3)) end, 'masked_batch_norm',
          'expected running_mean and running_var')
      end)
    end
  end
end)
