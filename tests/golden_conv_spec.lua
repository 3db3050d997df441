-- MaskedConv and PartialConv against masked_torch: outputs, masks, gradients. Cases that need the original (tags), and
-- PartialConv in float64, where its eps is visible, under compat = true; all others by default. All run under compat as well.
local golden = require 'support.golden'
local torch = require 'masked_torch'

local nn = torch.nn

local function layer_of(case, compat)
  local a = case.args
  local opts = { stride = a.stride, padding = a.padding, dilation = a.dilation, groups = a.groups, bias = a.bias, eps = a.eps,
    compat = compat, dtype = case.dtype == 'F64' and 'float64' or 'float32' }
  if a.multichannel ~= nil then opts.multichannel = a.multichannel end
  local layer = nn[case.layer](a.in_channels, a.out_channels, a.kernel_size, opts)
  layer:to(golden.device):load_state_dict(golden.fields(case, 'param.'))
  return layer
end

local function run(case, compat)
  local layer = layer_of(case, compat)
  local x = golden.tensor(case, 'in.x'):requires_grad_()
  local y, mask = layer(x, golden.tensor(case, 'in.mask'))
  golden.check(case, 'out.y', y)
  if case.tensors['out.mask'] then
    golden.check(case, 'out.mask', mask:tensor(y.dtype))
  else
    assert.is_nil(mask)
  end
  y:backward(golden.tensor(case, 'gout.y'))
  golden.check(case, 'grad.x', x.grad)
  golden.check(case, 'grad.weight', layer.weight.grad)
  if case.tensors['grad.bias'] then golden.check(case, 'grad.bias', layer.bias.grad) end
end

describe('masked_torch\'s convolutions', function()
  for _, case in ipairs(golden.cases('conv')) do
    local partial_f64 = case.dtype == 'F64' and case.layer:find('^PartialConv') ~= nil
    if not golden.compat(case) and not partial_f64 then
      it(case.name, function() run(case, false) end)
    end
    it(case.name .. ', compat', function() run(case, true) end)
  end
end)
