--- count: parameters and multiply-accumulate operations (MACs) per layer, for one input.
--
-- Two counts. `macs` follows thop (github.com/Lyken17/pytorch-OpCounter), so that numbers compare with published ones; it does
-- not look at the mask:
--     convolution            elements of the output * (in_channels / groups) * taps of the kernel
--     transposed             elements of the input * (out_channels / groups) * taps (thop counts it by the output, which is
--                            too much by the product of the strides)
--     MaskedConv             the convolution, and a 1x1 convolution of the mask: elements of the output * (in_channels / groups)
--     normalisation          2 * elements, 4 with weight and bias
--     Linear                 in_features * elements of the output
--     everything else        0
-- `effective` counts what the result depends on: taps on valid elements of the input, for valid elements of the output; padding
-- around the image is not valid; nothing for masks. A nil mask is a full one.
-- Only layers with a rule count in `parameters` (thop's habit, which leaves out embeddings); `all_parameters` has them all.
--
-- @usage
-- local report = torch.train.count(nn.Linear(3, 4), torch.ones(2, 3))
-- print(report:summary())      --> Params: 16.000, MACs: 24.000, MACs/Param: 1.500
-- print(report)                -- a table, a line per layer
-- --> ...

local class = require 'masked_torch.class'
local columns = require 'masked_torch.columns'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local walk = require 'masked_torch.inspect.walk'

local fail = native.fail

local function product(list)
  local n = 1
  for _, v in ipairs(list) do n = n * v end
  return n
end

-- ---- valid elements --------------------------------------------------------------------------------------------------------

-- 0 and 1 in float64, (N or 1, C or 1, *S); nil for no mask, or one that does not belong to x.
local function binary(mask, x)
  local m = walk.dense(mask, x)
  return m and (m:ne(0):to{ dtype = 'float64' })
end

local function valid_elements(mask, x)
  local m = binary(mask, x)
  if not m or m:numel() == 0 then return x:numel() end
  return m:sum():item() * (x:numel() / m:numel())
end

-- (N, C, *S) with C channels in `groups` groups -> (N, groups, *S) sums; one channel stands for all: (N, 1, *S)
local function by_group(t, channels, groups)
  local shape = t:size()
  if shape[2] == 1 then return t * (channels / groups) end
  local split = { shape[1], groups, channels / groups }
  for d = 3, #shape do split[d + 1] = shape[d] end
  return (t:reshape(split):sum(3))
end

local function conv_effective(module, inputs, outputs)
  local x, y = inputs[1], outputs[1]
  if y:numel() == 0 then return 0 end
  local torch = require 'masked_torch'
  local double = { dtype = 'float64' }
  local m = binary(inputs[2], x)
  if not m then
    local shape = x:size()
    shape[1], shape[2] = 1, 1
    m = torch.ones(shape, double)
  end
  local opts = module:functional_options()
  opts.groups = m:size(2)
  local kernel = torch.ones({ m:size(2), 1, unpack(module.kernel_size) }, double)
  local counted = torch.nn.functional['conv' .. module.dims .. 'd'](m, kernel, nil, opts)
  local taps = by_group(counted, module.in_channels, module.groups)
  local out = binary(outputs[2], y)
  if not out then
    local shape = y:size()
    shape[1], shape[2] = 1, 1
    out = torch.ones(shape, double)
  end
  out = by_group(out, module.out_channels, module.groups)
  local both = taps * out
  return both:sum():item() * (y:size(1) / both:size(1)) * (module.groups / both:size(2))
end

-- ---- rules -------------------------------------------------------------------------------------------------------------------

local function conv(module, inputs, outputs)
  local macs = outputs[1]:numel() * (module.in_channels / module.groups) * product(module.kernel_size)
  return macs, conv_effective(module, inputs, outputs)
end

local function masked_conv(module, inputs, outputs)
  local macs, effective = conv(module, inputs, outputs)
  return macs + outputs[1]:numel() * (module.in_channels / module.groups), effective
end

local function transposed(module, inputs)
  local macs = inputs[1]:numel() * (module.out_channels / module.groups) * product(module.kernel_size)
  return macs, macs
end

local function norm(module, inputs)
  local factor = module.weight and 4 or 2
  return factor * inputs[1]:numel(), factor * valid_elements(inputs[2], inputs[1])
end

local function linear(module, _, outputs)
  local macs = module.in_features * outputs[1]:numel()
  return macs, macs
end

-- By the name of the class without Lazy, Masked and 1d, 2d, 3d; a subclass has the rule of its nearest ancestor.
local rules = { ConvNd = conv, MaskedConv = masked_conv, ConvTranspose = transposed, Linear = linear, BatchNorm = norm,
  InstanceNorm = norm, LayerNorm = norm, GroupNorm = norm, RMSNorm = norm }

local function rule_of(module, own)
  local c = getmetatable(module)
  while c do
    local name = c.__name
    local plain = name:gsub('^Lazy', ''):gsub('[123]d$', '')
    local rule = own[name] or rules[plain] or rules[(plain:gsub('^Masked', ''))]
    if rule then return rule end
    c = c.__parent
  end
end

-- ---- the report ----------------------------------------------------------------------------------------------------------------

local Report = class('Report')

function Report:__init() self.rows, self.parameters, self.macs, self.effective = {}, 0, 0, 0 end

-- 26865041 -> "26.865M"
local function short(n)
  for _, unit in ipairs{ { 1e12, 'T' }, { 1e9, 'G' }, { 1e6, 'M' }, { 1e3, 'K' } } do
    if n >= unit[1] then return ('%.3f%s'):format(n / unit[1], unit[2]) end
  end
  return ('%.3f'):format(n)
end

--- report:summary(): "Params: 26.865M, MACs: 44.655M, MACs/Param: 1.662"
function Report:summary()
  return ('Params: %s, MACs: %s, MACs/Param: %.3f'):format(short(self.parameters), short(self.macs),
    self.macs / (self.parameters + 1e-5))
end

-- 1234567 -> "1,234,567"
local function grouped(n)
  local text = ('%.0f'):format(n)
  while true do
    local done
    text, done = text:gsub('^(%d+)(%d%d%d)', '%1,%2')
    if done == 0 then return text end
  end
end

function Report:__tostring()
  local lines = { { 'layer', 'class', 'output', 'parameters', 'MACs', 'effective', '' } }
  for _, row in ipairs(self.rows) do
    lines[#lines + 1] = { row.name, row.class, '(' .. table.concat(row.shape, ', ') .. ')', grouped(row.parameters), grouped(row.macs),
      grouped(row.effective), row.macs > 0 and ('%.0f %%'):format(100 * row.effective / row.macs) or '' }
  end
  lines[#lines + 1] = { 'total', '', '', grouped(self.parameters), grouped(self.macs), grouped(self.effective),
    self.macs > 0 and ('%.0f %%'):format(100 * self.effective / self.macs) or '' }
  return columns(lines, 3) .. '\n' .. self:summary()
end

--- torch.train.count(net, x, [mask], [{rules = {ClassName = function(module, inputs, outputs) return macs, effective end}}]): runs
-- net(x, mask) once, in evaluation mode and without gradients, and returns a report: rows (name, class, shape, parameters,
-- macs, effective), and the totals parameters, all_parameters, macs, effective. For the whole batch: give one sample to count
-- one. A layer that runs twice counts twice, its parameters once. The network is left as it was.
local function count(net, x, mask, opts)
  walk.check('count', net)
  opts = options.parse('count', { rules = options.any(nil) }, opts)
  local own = opts.rules or {}
  if type(own) ~= 'table' then fail('count: rules: expected a table of functions by class name, got %s', type(own)) end
  local report, layers, rule_by, row_of = Report(), {}, {}, {}
  for name, module in net:named_modules() do
    local rule = rule_of(module, own)
    if rule then layers[#layers + 1], rule_by[module] = { name = name, module = module }, rule end
  end
  walk.run(net, x, mask, function(name, module, inputs, outputs)
    local macs, effective = rule_by[module](module, inputs, outputs)
    local row = row_of[module]
    if not row then
      local parameters = 0
      for _, p in ipairs(module:parameters()) do parameters = parameters + p:numel() end
      row = { name = name, class = walk.class(module), parameters = parameters, macs = 0, effective = 0 }
      report.rows[#report.rows + 1], row_of[module] = row, row
      report.parameters = report.parameters + parameters
    end
    row.shape = outputs[1]:size()
    row.macs, row.effective = row.macs + macs, row.effective + effective
    report.macs, report.effective = report.macs + macs, report.effective + effective
  end, layers)
  report.all_parameters = net:num_parameters()
  return report
end

return { count = count }
