--- nn.pool: pooling layers. All take (x, mask) and return (y, mask); max pooling also returns indices on request.
--
-- Option of all: mask_rule = 'grow' | 'keep' | 'coverage', how the mask goes on (autograd/op/pool.lua).

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local repr = require 'masked_torch.nn.repr'
local spatial = require 'masked_torch.autograd.spatial'
local Module = require('masked_torch.nn.module').Module

-- Numbers and tables of numbers are checked by the function when it runs; here only what cannot be a window at all.
local function check_sizes(op, argument, value)
  if type(value) == 'table' then
    if #value < 1 or #value > 3 then native.fail('%s: %s: expected 1 to 3 numbers, got %d', op, argument, #value) end
    for _, v in ipairs(value) do native.integer(op, argument, v, 0) end
  else
    native.integer(op, argument, value, 0)
  end
  return value
end

local function rule_text(self)
  return self.mask_rule ~= 'grow' and ', mask_rule=' .. self.mask_rule or ''
end

local classes = {}

local function windowed(name, function_name, defaults, extra_repr, takes)
  local Pool = class(name, Module)
  function Pool:__init(kernel_size, stride, opts)
    Module.__init(self)
    stride, opts = spatial.optional(stride, opts)
    opts = options.parse(name, defaults, opts)
    self.kernel_size = check_sizes(name, 'kernel_size', kernel_size)
    if stride == nil then stride = opts.stride end
    self.stride = check_sizes(name, 'stride', stride == nil and kernel_size or stride)
    self.padding = check_sizes(name, 'padding', opts.padding)
    for _, key in ipairs(takes) do self[key] = opts[key] end
    spatial.mask_rule(name, opts.mask_rule)
    self.mask_rule = opts.mask_rule
  end
  function Pool:forward(x, mask)
    local opts = options.own{ stride = self.stride, padding = self.padding, mask = mask, mask_rule = self.mask_rule }
    for i = 1, #takes do opts[takes[i]] = self[takes[i]] end
    return F[function_name](x, self.kernel_size, opts)
  end
  Pool.extra_repr = extra_repr
  classes[name] = Pool
end

local function adaptive(name, function_name, takes_indices)
  local Pool = class(name, Module)
  local defaults = { mask_rule = 'grow', return_indices = takes_indices and false or nil }
  function Pool:__init(output_size, opts)
    Module.__init(self)
    opts = options.parse(name, defaults, opts)
    self.output_size = check_sizes(name, 'output_size', output_size)
    self.return_indices = opts.return_indices
    spatial.mask_rule(name, opts.mask_rule)
    self.mask_rule = opts.mask_rule
  end
  function Pool:forward(x, mask)
    return F[function_name](x, self.output_size,
      options.own{ mask = mask, mask_rule = self.mask_rule, return_indices = self.return_indices })
  end
  function Pool:extra_repr() return 'output_size=' .. repr.size(self.output_size) .. rule_text(self) end
  classes[name] = Pool
end

local any, none = options.any, options.none

for dims = 1, 3 do
  --- nn.MaxPool1d/2d/3d(kernel_size, [stride,] {stride = kernel_size, padding = 0, dilation = 1, ceil_mode = false,
  -- return_indices = false, mask_rule = 'grow'})
  windowed(('MaxPool%dd'):format(dims), ('max_pool%dd'):format(dims),
    { stride = none, padding = any(0), dilation = any(1), ceil_mode = false, return_indices = false, mask_rule = 'grow' },
    function(self)
      return ('kernel_size=%s, stride=%s, padding=%s, dilation=%s, ceil_mode=%s%s'):format(repr.size(self.kernel_size),
        repr.size(self.stride), repr.size(self.padding), repr.size(self.dilation), repr.value(self.ceil_mode), rule_text(self))
    end,
    { 'dilation', 'ceil_mode', 'return_indices' })

  --- nn.AvgPool1d/2d/3d(kernel_size, [stride,] {stride = kernel_size, padding = 0, ceil_mode = false,
  -- count_include_pad = true, count = nil, mask_rule = 'grow'})
  windowed(('AvgPool%dd'):format(dims), ('avg_pool%dd'):format(dims),
    { stride = none, padding = any(0), ceil_mode = false, count_include_pad = true, count = none, mask_rule = 'grow' },
    function(self)
      -- PyTorch's AvgPool1d alone makes tuples of its numbers.
      local function size(value) return repr.size(dims == 1 and type(value) == 'number' and { value } or value) end
      return ('kernel_size=%s, stride=%s, padding=%s%s'):format(size(self.kernel_size), size(self.stride), size(self.padding),
        rule_text(self))
    end,
    { 'ceil_mode', 'count_include_pad', 'count' })

  --- nn.AdaptiveMaxPool1d/2d/3d(output_size, {return_indices = false, mask_rule = 'grow'})
  adaptive(('AdaptiveMaxPool%dd'):format(dims), ('adaptive_max_pool%dd'):format(dims), true)
  --- nn.AdaptiveAvgPool1d/2d/3d(output_size, {mask_rule = 'grow'})
  adaptive(('AdaptiveAvgPool%dd'):format(dims), ('adaptive_avg_pool%dd'):format(dims), false)
end

return classes
