--- dropout: elements or whole channels set to 0 at random, the others scaled up (Hinton et al., 2012).
--
-- What is dropped follows from the generator's seed and offset: backward draws it again, nothing is stored.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local mask_argument = require 'masked_torch.autograd.mask_argument'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local function drop(x, random, p, dims, valid)
  local y = Tensor.empty_like(x)
  check(x.K.mt_dropout_apply(y._c, x._c, valid and valid._c, random, p, dims))
  return y
end

local dropout = autograd.op{
  name = 'dropout',
  bfloat16 = 'itself',
  forward = function(ctx, x, random, p, dims, valid)
    ctx.random, ctx.p, ctx.dims, ctx.valid = random, p, dims, valid
    return drop(x, random, p, dims, valid)
  end,
  backward = function(ctx, dy)
    return drop(dy, ctx.random, ctx.p, ctx.dims, ctx.valid)
  end,
}

local DEFAULTS = { p = 0.5, training = true, generator = options.any(nil), mask = options.none }

-- dims: how many leading dims draw; nil: all.
local function define(name, ndim, dims)
  return function(x, p, training, opts)
    Tensor.check(name, 'input', x)
    if type(p) == 'table' then
      p, opts = nil, p
    elseif type(training) == 'table' then
      training, opts = nil, training
    end
    opts = options.parse(name, DEFAULTS, opts)
    p = native.number(name, 'p', p == nil and opts.p or p)
    if training == nil then training = opts.training end
    if p < 0 or p > 1 or p ~= p then fail('%s: p: expected a probability from 0 to 1, got %g', name, p) end
    if ndim and x:dim() ~= ndim then
      fail('%s: input: expected %d dimensions (N, C, *S), got %s', name, ndim, Tensor.shape_text(x))
    end
    if not training or p == 0 then return x end
    local random = ffi.new('mt_random', Tensor.generator_of(name, opts):next_call())
    local y = dropout(x, random, p, dims or x:dim(), mask_argument(name, opts.mask, x, 'bool'))
    return y
  end
end

return { functional = {
  --- dropout(x, [p = 0.5], [training = true], [{generator =, mask =}]): each element is 0 with probability p, else x / (1 - p);
  -- x itself when not training. Where the mask is 0, so is the result; the others draw what they draw without one. Also
  -- dropout(x, {p =, training =, generator =, mask =}).
  dropout = define('dropout'),
  --- dropout1d(x, {p = 0.5, training = true, generator = nil, mask = nil}), dropout2d(x, options), dropout3d(x, options): drop whole
  -- channels of (N, C, L), (N, C, H, W), (N, C, D, H, W) (Tompson et al., 2014).
  dropout1d = define('dropout1d', 3, 2),
  dropout2d = define('dropout2d', 4, 2),
  dropout3d = define('dropout3d', 5, 2),
} }
