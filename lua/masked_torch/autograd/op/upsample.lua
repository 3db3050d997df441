--- upsample: nearest and linear resampling of 1 to 3 spatial axes, mask-aware.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'
local spatial = require 'masked_torch.autograd.spatial'

local check, fail = native.check, native.fail

local upsample = spatial.linear_op('upsample', 'mt_upsample')

local upsample_type = ffi.typeof('mt_upsample')
local LINEAR = { 'linear', 'bilinear', 'trilinear' }

-- One positive number for all axes or a table of one per axis.
local function factors(value, dims)
  local list = {}
  for d = 1, dims do
    local v = value
    if type(value) == 'table' then v = value[d] end
    if type(v) ~= 'number' or not (v > 0 and v < math.huge) or type(value) == 'table' and #value ~= dims then
      fail('interpolate: scale_factor: expected a positive number or a table of %d, got %s', dims,
        type(value) == 'table' and ('a table of %d'):format(#value) or native.show(value))
    end
    list[d] = v
  end
  return list
end

local none = options.none
local DEFAULTS = { size = none, scale_factor = none, mode = 'nearest', align_corners = false, mask = none, mask_rule = 'grow' }

--- interpolate(x, {size = nil | scale_factor = nil, mode = 'nearest', align_corners = false, mask = nil, mask_rule = 'grow'})
-- -> y, mask (nil without one)
-- x (N, C, *S) -> (N, C, *size), or (N, C, *floor(S * scale_factor)). mode 'nearest', or 'linear', whose names 'bilinear' and
-- 'trilinear' insist on two and three axes. Positions as in PyTorch: pixel centres unless align_corners.
-- mask: linear weights count for valid neighbours only and are renormalised; an output without one is 0. mask_rule: 'grow'
-- (valid where a neighbour with weight is; fills holes), 'keep' (as the nearest position; for padding), 'coverage' (weighted
-- mean).
-- What lies under mask 0 changes nothing, and a mask of ones equals no mask, both bit for bit.
local function interpolate(x, opts)
  local dims = spatial.check('interpolate', x)
  opts = options.parse('interpolate', DEFAULTS, opts)
  if (opts.size == nil) == (opts.scale_factor == nil) then
    fail('interpolate: expected either size or scale_factor, got %s', opts.size == nil and 'neither' or 'both')
  end
  options.choice('interpolate', 'mode', opts.mode, { 'nearest', 'linear', 'bilinear', 'trilinear' })
  if opts.mode ~= 'nearest' and opts.mode ~= 'linear' and opts.mode ~= LINEAR[dims] then
    fail("interpolate: mode '%s' does not fit the input %s with %d spatial axes; '%s' or 'linear' does", opts.mode,
      Tensor.shape_text(x), dims, LINEAR[dims])
  end
  if opts.align_corners and opts.mode == 'nearest' then
    fail("interpolate: align_corners is an option of the linear modes, the mode is 'nearest'")
  end
  local g = upsample_type()
  g.dims = dims
  g.mode = opts.mode == 'nearest' and 0 or opts.align_corners and 2 or 1
  g.rule = spatial.mask_rule('interpolate', opts.mask_rule)
  local sizes
  if opts.size then
    sizes = spatial.each('interpolate', 'size', opts.size, dims, 1)
  else
    sizes = factors(opts.scale_factor, dims)
    for d = 1, dims do
      g.scale[d - 1] = 1 / sizes[d]
      sizes[d] = math.floor(x:size(2 + d) * sizes[d])
      if sizes[d] < 1 then fail('interpolate: scale_factor leaves nothing of the input %s', Tensor.shape_text(x)) end
    end
  end
  local mask = Mask.of('interpolate', opts.mask, x)
  local y = upsample(x, mask and mask:compact(x.dtype), g, { x:size(1), x:size(2), unpack(sizes) })
  if not mask then return y end
  local key = ('upsample %s %d %d %.17g %.17g %.17g'):format(table.concat(sizes, ','), g.mode, g.rule, g.scale[0], g.scale[1],
    g.scale[2])
  return y, mask:derived(key, function()
    local soft64 = mask.kind == 'tensor' and mask.origin.dtype == 'float64'
    local m = mask:compact(soft64 and 'float64' or 'float32')
    local out = Tensor.empty_format('upsample', m, { m:size(1), m:size(2), unpack(sizes) })
    check(m.K.mt_upsample_mask(out._c, m._c, g))
    return Mask.wrap(out)
  end)
end

return { functional = { interpolate = interpolate }, internal = { defaults = DEFAULTS } }
