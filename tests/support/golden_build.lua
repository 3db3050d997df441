--- golden_build: modules from the manifest's class names and arguments, and the comparison of whole cases.
local assert = require 'luassert'
local torch = require 'masked_torch'
local golden = require 'support.golden'
local nn = torch.nn

local positional = { { 'Conv', { 'in_channels', 'out_channels', 'kernel_size' } }, { 'BatchNorm', { 'num_features' } },
  { 'huffle', { 'downscale_factor' } }, { 'UnMask', { 'eps' } } }
local takes_compat = { 'Masked', 'PartialConv' }

local build = {}

local function options_of(class, args, compat)
  local opts = {}
  for key, value in pairs(args) do opts[key] = value end
  for _, name in ipairs(compat and takes_compat or {}) do
    if class:find(name) and not class:find('huffle') and class ~= 'MaskedSequential' then opts.compat = true end
  end
  return opts
end

--- build.module(class, args, compat): args by name as in the manifest.
function build.module(class, args, compat)
  local opts = options_of(class, args, compat)
  if class == 'Masked' then
    opts.module = nil
    return nn.Masked(nn[args.module](), opts)
  elseif class == 'MaskedSequential' then
    local children = {}
    for i, child in ipairs(args.children) do children[i] = build.module(child.class, child.args, compat) end
    return nn.MaskedSequential(children)
  end
  local values, n = {}, 0
  for _, entry in ipairs(positional) do
    if class:find(entry[1]) then
      for _, name in ipairs(entry[2]) do
        n = n + 1
        values[n], opts[name] = opts[name], nil
      end
    end
  end
  if next(opts) then
    n = n + 1
    values[n] = opts
  end
  return nn[class](unpack(values, 1, n))
end

--- build.check(case, module): outputs, gradients and buffers of a case with one input x and an optional mask.
function build.check(case, module)
  if case.dtype == 'F64' then module:double() end
  module:to(golden.device)
  local state = golden.fields(case, 'param.')
  if next(state) then module:load_state_dict(state) end
  module:train(case.mode ~= 'eval')
  local x = golden.tensor(case, 'in.x'):requires_grad_()
  local y, mask = module(x, golden.tensor(case, 'in.mask'))
  golden.check(case, 'out.y', y)
  if case.tensors['out.mask'] then
    golden.check(case, 'out.mask', mask:tensor(y.dtype))
  else
    assert.is_nil(mask)
  end
  y:backward(golden.tensor(case, 'gout.y'))
  golden.check(case, 'grad.x', x.grad)
  local after = module:state_dict()
  for name, p in module:named_parameters() do
    if case.tensors['grad.' .. name] then golden.check(case, 'grad.' .. name, p.grad) end
  end
  for field in pairs(case.tensors) do
    local name = field:match('^state1%.(.*)$')
    if name then golden.check(case, field, after[name]) end
  end
end

return build
