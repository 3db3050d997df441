--- activations: what the outputs of every layer are like, over valid elements only.
--
--     print(torch.inspect.activations(net, x, mask))

local class = require 'masked_torch.class'
local columns = require 'masked_torch.columns'
local options = require 'masked_torch.options'
local walk = require 'masked_torch.inspect.walk'
local Tensor = require 'masked_torch.tensor'

local Report = class('Activations')
function Report:__init() self.rows = {} end

-- All moments of a list of numbers, in float64: the mean first, then powers of the distance to it.
local function moments(values, row)
  local n = values:numel()
  row.finite = n
  if n == 0 then return row end
  row.mean = values:sum():item() / n
  local d = values - row.mean
  local d2 = d * d
  local variance = d2:sum():item() / n
  row.std = math.sqrt(variance)
  row.skewness, row.kurtosis = 0 / 0, 0 / 0
  if row.std > 0 and row.std < math.huge then
    -- Scaled before the powers are taken: they neither overflow nor vanish.
    local z = d / row.std
    local z2 = z * z
    row.skewness, row.kurtosis = (z2 * z):sum():item() / n, (z2 * z2):sum():item() / n
  end
  row.min, row.max = values:min():item(), values:max():item()
  row.zero = values:eq(0):sum():item() / n
  local sorted = values:sort()
  local function quantile(q)
    local at = 1 + (n - 1) * q
    local low = math.floor(at)
    local a = sorted:get(low)
    return low < n and a + (at - low) * (sorted:get(low + 1) - a) or a
  end
  row.median, row.iqr = quantile(0.5), quantile(0.75) - quantile(0.25)
  return row
end

-- Channels (dim 2) whose valid, finite elements are all 0, as a share of the channels that have any.
local function dead_channels(y, valid)
  if y:dim() < 2 or y:size(2) == 0 then return nil end
  local shape = y:size()
  local order = { 2, 1 }
  for d = 3, #shape do order[d] = d end
  local function by_channel(t) return t:permute(order):reshape(shape[2], y:numel() / shape[2]) end
  local used = by_channel(valid):sum(2):gt(0)
  local alive = by_channel((y:ne(0) * valid):to{ dtype = 'float64' }):sum(2):gt(0)
  local n = used:sum():item()
  return n > 0 and 1 - alive:sum():item() / n or nil
end

local function measure(y, mask)
  local row = { elements = y:numel(), shape = y:size() }
  local x = y:detach():to{ dtype = 'float64', device = 'cpu' }
  local m = walk.dense(mask, y)
  local valid = require('masked_torch').ones(y:size(), { dtype = 'float64' })
  if m then valid = m:to{ device = 'cpu' }:ne(0):to{ dtype = 'float64' } * valid end
  row.valid = valid:sum():item()
  row.coverage = row.elements > 0 and row.valid / row.elements or 1
  local keep = valid:ne(0)
  local values = x:masked_select(keep)
  local finite = values:isfinite()
  row.nan, row.inf = values:isnan():sum():item(), values:isinf():sum():item()
  moments(row.nan + row.inf > 0 and values:masked_select(finite) or values, row)
  row.dead_channels = row.elements > 0 and dead_channels(x, valid) or nil
  return row
end

--- torch.inspect.activations(net, x, [mask], [{layers = nil}]): runs net(x, mask) once, in evaluation mode and without gradients, and
-- returns a report with a row per layer (layers: a Lua pattern that names must match), in the order of the calls: name, class, shape,
-- elements, valid (how many count), coverage; of the valid ones nan, inf (counts) and finite; over the finite ones mean, std, skewness,
-- kurtosis (3 for a normal distribution), median, iqr (interquartile range), min, max, zero (share of exact zeros), and dead_channels
-- (share of channels with nothing but zeros). What lies under mask 0 counts nowhere, NaN included. All in float64.
local function activations(net, x, mask, opts)
  walk.check('activations', net)
  opts = options.parse('activations', { layers = options.none }, opts)
  local report = Report()
  walk.run(net, x, mask, function(name, module, _, outputs)
    local y = outputs[1]
    if not Tensor.is_tensor(y) or (opts.layers and not name:find(opts.layers)) then return end
    local row = measure(y, outputs[2])
    row.name, row.class = name, walk.class(module)
    report.rows[#report.rows + 1] = row
  end)
  return report
end

local function number(v)
  if v == nil then return '' end
  if v ~= v then return '-' end
  return ('%.3g'):format(v)
end

function Report:__tostring()
  local head = { 'layer', 'class', 'valid', 'mean', 'std', 'skew', 'kurt', 'median', 'iqr', 'min', 'max', 'zero', 'dead', 'NaN', 'Inf' }
  local lines = { head }
  for _, r in ipairs(self.rows) do
    lines[#lines + 1] = { r.name, r.class, ('%.0f %%'):format(100 * r.coverage), number(r.mean), number(r.std), number(r.skewness),
      number(r.kurtosis), number(r.median), number(r.iqr), number(r.min), number(r.max), r.zero and ('%.0f %%'):format(100 * r.zero) or '',
      r.dead_channels and ('%.0f %%'):format(100 * r.dead_channels) or '', r.nan > 0 and ('%d'):format(r.nan) or '',
      r.inf > 0 and ('%d'):format(r.inf) or '' }
  end
  return columns(lines, 2)
end

return activations
