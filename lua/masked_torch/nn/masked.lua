--- masked: the small modules of masked_torch around its convolutions.

local class = require 'masked_torch.class'
local masks = require 'masked_torch.mask'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local F = require 'masked_torch.nn.functional'
local Module = require('masked_torch.nn.module').Module
local Sequential = require('masked_torch.nn.container').Sequential

local fail = native.fail

-- ---- ApplyMask, UnMask -----------------------------------------------------------------------------------------

--- ApplyMask(): y = x * mask, exactly 0 where the mask is 0 whatever x holds there. Without a mask, and where it is known to be full: x.
local ApplyMask = class('ApplyMask', Module)

function ApplyMask:__init()
  Module.__init(self)
end

function ApplyMask.forward(_, x, mask)
  if mask == nil then return x, nil end
  mask = masks.of('ApplyMask', mask, x)
  return mask:known_full() and x or x:apply_mask(mask), mask
end

--- UnMask(eps = 1e-8): y = x / (mask + eps), the opposite of ApplyMask for soft masks. Without a mask: x.
local UnMask = class('UnMask', Module)

function UnMask:__init(eps)
  Module.__init(self)
  if type(eps) == 'table' then eps = options.parse('UnMask', { eps = 1e-8 }, eps).eps end
  self.eps = native.number('UnMask', 'eps', eps or 1e-8)
end

function UnMask:forward(x, mask)
  if mask == nil then return x, nil end
  mask = masks.of('UnMask', mask, x)
  return x:unmask(mask, self.eps), mask
end

-- ---- means -----------------------------------------------------------------------------------------------------

--- SpatialMean(): (N, C, *S) -> (N, C), the mean of all positions, valid or not. A mask ends here: the result has none.
local SpatialMean = class('SpatialMean', Module)

function SpatialMean:__init()
  Module.__init(self)
end

function SpatialMean.forward(_, x)
  return (F.masked_mean(x)), nil
end

--- MaskedSpatialMean(eps, {compat = false}): (N, C, *S) -> (N, C), the mean of the valid elements: the sum of x where the mask
-- is not 0, divided by the sum of the mask (+ eps, default 0); 0 where nothing is valid. The result's mask is the mean of the
-- mask: how much was covered. Without a mask: the plain mean. As in masked_torch the gradient passes into the holes (the input
-- is the product of a mask, whose own gradient stops there); F.masked_mean can stop it here.
-- compat = true is masked_torch's: eps 1e-8, holes are summed and get a gradient, the mask must have x's shape.
local MaskedSpatialMean = class('MaskedSpatialMean', Module)

function MaskedSpatialMean:__init(eps, opts)
  Module.__init(self)
  if type(eps) == 'table' then
    opts = options.parse('MaskedSpatialMean', { eps = options.none, compat = false }, eps)
    eps = opts.eps
  else
    opts = options.parse('MaskedSpatialMean', { compat = false }, opts)
  end
  self.compat = opts.compat
  self.eps = native.number('MaskedSpatialMean', 'eps', eps or (opts.compat and 1e-8 or 0))
end

-- masked_torch's own check and message.
local function check_same_shape(x, mask)
  if mask == nil then fail("MaskedSequential: compat: the mask is nil; masked_torch needs one") end
  local m, s = mask:size(), Tensor.shape_of(x)
  local same = #m == #s
  for d = 1, #s do same = same and m[d] == s[d] end
  if not same then
    fail('mask.shape=(%s), input.shape=(%s): compat = true needs equal shapes', table.concat(m, ', '), table.concat(s, ', '))
  end
end

function MaskedSpatialMean:forward(x, mask)
  if mask == nil then return (F.masked_mean(x)), nil end
  mask = masks.of('MaskedSpatialMean', mask, x)
  if self.compat then check_same_shape(x, mask) end
  local y, coverage = F.masked_mean(x, mask, options.own{ eps = self.eps, premask = 'values', compat = self.compat })
  return y, masks.wrap(coverage)
end

-- ---- MaskedSequential ------------------------------------------------------------------------------------------

--- MaskedSequential{ a, b, ..., compat = false }: Sequential under masked_torch's name. Takes nil, one-channel masks and masks
-- of any other kind. compat = true checks as masked_torch does: before and after every module the mask must exist and have
-- the shape of the data.
local MaskedSequential = class('MaskedSequential', Sequential)

function MaskedSequential:__init(...)
  local arguments, n = { ... }, select('#', ...)
  local opts
  if n == 1 and type(arguments[1]) == 'table' and not arguments[1].__module and arguments[1].compat ~= nil then
    local list = {}
    for key, value in pairs(arguments[1]) do list[key] = value end
    opts, list.compat = { compat = list.compat }, nil
    arguments[1] = list
  elseif n > 1 and type(arguments[n]) == 'table' and not Module.is_module(arguments[n]) then
    opts, n = arguments[n], n - 1
  end
  Sequential.__init(self, unpack(arguments, 1, n))
  self.compat = options.parse('MaskedSequential', { compat = false }, opts).compat
end

function MaskedSequential:forward(x, mask)
  if not self.compat then return Sequential.forward(self, x, mask) end
  for i = 1, #self do
    check_same_shape(x, mask)
    x, mask = self[i](x, mask)
    check_same_shape(x, mask)
  end
  return x, mask
end

-- ---- Masked ----------------------------------------------------------------------------------------------------

-- f(0) = 0: data that is 0 in the holes stays 0 there.
local keeps_zero = { ReLU = true, LeakyReLU = true, GELU = true, SiLU = true, ELU = true, Tanh = true, Identity = true,
  Dropout = true, Dropout1d = true, Dropout2d = true, Dropout3d = true }

-- Files of the classes that treat masks themselves.
local masked_files = { masked = true, masked_conv = true, masked_norm = true }

local function treats_masks(module)
  local files = require('masked_torch.nn').class_files
  local c = getmetatable(module)
  while c do
    if masked_files[files[c.__name]] or c.__name:find('^Masked') then return true end
    c = c.__parent
  end
  return false
end

--- Masked(module, {compat = false}): any module that knows nothing of masks, by itself on the data; the mask passes. Where the
-- module does not keep zero (Sigmoid, Softplus, Linear ...) its results in holes are set to 0; compat = true leaves them, as
-- masked_torch does. A module that treats masks itself is refused (double masking).
local Masked = class('Masked', Module)

function Masked:__init(module, opts)
  Module.__init(self)
  opts = options.parse('Masked', { compat = false }, opts)
  if not Module.is_module(module) then fail('Masked: module: expected a module, got %s', type(module)) end
  if treats_masks(module) then
    fail('Masked: module: %s treats masks itself (double masking)', getmetatable(module).__name)
  end
  self.module = module
  self.compat = opts.compat
  self.keeps_zero = keeps_zero[getmetatable(module).__name] or false
end

function Masked:forward(x, mask)
  local y = (self.module(x))
  if mask == nil then return y, nil end
  mask = masks.of('Masked', mask, y)
  if not self.compat and not self.keeps_zero then y = y:select_valid(mask) end
  return y, mask
end

function Masked:__tostring()
  return ('Masked(%s)'):format(tostring(self.module))
end

return { ApplyMask = ApplyMask, UnMask = UnMask, SpatialMean = SpatialMean, MaskedSpatialMean = MaskedSpatialMean,
  MaskedSequential = MaskedSequential, Masked = Masked }
