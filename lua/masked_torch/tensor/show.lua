--- show: tostring(tensor), as PyTorch prints.
--
--     tensor([[ 1.0000, -2.5000],
--             [ 0.0000,     nan]], dtype=float64, grad_fn=<relu_backward>)
--
-- All elements share one number format, chosen from those that are printed: whole numbers as "3.", scientific when the range is
-- wide. Above `threshold` elements only `edge_items` at each end of a dim are fetched and printed. Printing never fails.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local show = {}

local settings = { precision = 4, threshold = 1000, edge_items = 3, line_width = 80 }

--- torch.set_print_options{precision = 4, threshold = 1000, edge_items = 3, line_width = 80, sci_mode = 'auto'}: how tensors are
-- printed; what is not given stays as it is. sci_mode = true or false fixes the choice between 0.0001 and 1.0000e-04. Returns
-- the previous settings.
function show.set_print_options(given)
  local op = 'set_print_options'
  local known = { sci_mode = options.any(settings.sci_mode == nil and 'auto' or settings.sci_mode) }
  for key, value in pairs(settings) do
    if key ~= 'sci_mode' then known[key] = value end
  end
  local new = options.parse(op, known, given)
  native.integer(op, 'precision', new.precision, 0, 17)
  native.integer(op, 'edge_items', new.edge_items, 1)
  native.integer(op, 'line_width', new.line_width, 10)
  if not (new.threshold >= 0) then native.fail('%s: threshold: expected a number of at least 0, got %s', op, new.threshold) end
  if new.sci_mode ~= 'auto' and type(new.sci_mode) ~= 'boolean' then
    native.fail("%s: sci_mode: expected true, false or 'auto', got %s", op, native.show(new.sci_mode))
  end
  local previous = settings
  if new.sci_mode == 'auto' then new.sci_mode = nil end
  settings = new
  if previous.sci_mode == nil then previous.sci_mode = 'auto' end
  return previous
end

-- ---- elements ------------------------------------------------------------------------------------------------

local element = ffi.new('double[1]')
local place = ffi.new('int64_t[8]')
local whole = ffi.new('int64_t[1]')

-- Through the kernel, never from raw memory: LuaJIT boxes values in NaNs.
local function element_at(t)
  native.check(t.K.mt_tensor_get(element, t._c, place))
  local value = element[0]
  if t.dtype == 'bool' then return value ~= 0 end
  if t.dtype == 'int64' and math.abs(value) >= 2 ^ 53 then
    local offset = 0
    for d = 0, t._c.ndim - 1 do offset = offset + tonumber(place[d] * t._c.stride[d]) end
    local one = Tensor.as_view('show', t, {}, {}, offset)
    native.check(t.K.mt_tensor_read_bytes(whole, 8, one._c))
    return (tostring(whole[0]):gsub('LL$', ''))
  end
  return value
end

-- Positions (from 0) of a dim that are printed; false stands for the dots.
local function positions(size, summarize)
  local list, edge = {}, settings.edge_items
  if not summarize or size <= 2 * edge then
    for i = 0, size - 1 do list[#list + 1] = i end
  else
    for i = 0, edge - 1 do list[#list + 1] = i end
    list[#list + 1] = false
    for i = size - edge, size - 1 do list[#list + 1] = i end
  end
  return list
end

-- Nested tables of the printed elements, false for dots; `all` collects the elements.
local function fetch(t, shape, d, summarize, all)
  if d > #shape then
    local value = element_at(t)
    all[#all + 1] = value
    return { value = value }
  end
  local row = {}
  for k, i in ipairs(positions(shape[d], summarize)) do
    if i then
      place[d - 1] = i
      row[k] = fetch(t, shape, d + 1, summarize, all)
    else
      row[k] = false
    end
  end
  return row
end

-- ---- one format for all ----------------------------------------------------------------------------------------

local function fixed(value, digits) return ('%.' .. digits .. 'f'):format(value) end
local function scientific(value) return ('%.' .. settings.precision .. 'e'):format(value) end
local function finite(value) return value == value and math.abs(value) < math.huge end

-- The function that formats an element, and the width it fills.
local function formatter(t, all)
  local format
  if not Tensor.floating[t.dtype] then
    format = function(value) return type(value) == 'number' and fixed(value, 0) or tostring(value) end
  else
    local integers, low, high = true, math.huge, 0
    for _, value in ipairs(all) do
      if finite(value) and value ~= 0 then
        low, high = math.min(low, math.abs(value)), math.max(high, math.abs(value))
        integers = integers and value % 1 == 0
      end
    end
    local wide = high > 0 and (high / low > 1000 or high > 1e8 or (not integers and low < 1e-4))
    if settings.sci_mode ~= nil then wide = settings.sci_mode end
    format = function(value)
      if value ~= value then return 'nan' end
      if not finite(value) then return value > 0 and 'inf' or '-inf' end
      if wide then return scientific(value) end
      return integers and fixed(value, 0) .. '.' or fixed(value, settings.precision)
    end
  end
  local width = 1
  for _, value in ipairs(all) do width = math.max(width, #format(value)) end
  return function(value)
    local text = format(value)
    return (' '):rep(width - #text) .. text
  end, width
end

local function vector(row, indent, format, width)
  local per_line = math.max(1, math.floor((settings.line_width - indent) / (width + 2)))
  local lines, line = {}, {}
  for _, item in ipairs(row) do
    if #line == per_line then
      lines[#lines + 1] = table.concat(line, ', ')
      line = {}
    end
    line[#line + 1] = item and format(item.value) or ' ...'
  end
  lines[#lines + 1] = table.concat(line, ', ')
  return '[' .. table.concat(lines, ',\n' .. (' '):rep(indent + 1)) .. ']'
end

local function nested(row, dims, indent, format, width)
  if dims == 0 then return format(row.value) end
  if dims == 1 then return vector(row, indent, format, width) end
  local parts = {}
  for k, part in ipairs(row) do parts[k] = part and nested(part, dims - 1, indent + 1, format, width) or '...' end
  return '[' .. table.concat(parts, ',' .. ('\n'):rep(dims - 1) .. (' '):rep(indent + 1)) .. ']'
end

-- ---- the whole -----------------------------------------------------------------------------------------------

local PREFIX = 'tensor('

local function describe(t)
  local shape, body = Tensor.shape_of(t), '[]'
  local suffixes = {}
  if t.device ~= 'cpu' then suffixes[1] = 'device=' .. t.device end
  local plain = t.dtype == 'float32'
  if tonumber(t._c.numel) == 0 then
    if #shape ~= 1 then suffixes[#suffixes + 1] = 'size=' .. Tensor.shape_text(t) end
  else
    plain = plain or t.dtype == 'int64' or t.dtype == 'bool'
    local all = {}
    local row = fetch(t, shape, 1, tonumber(t._c.numel) > settings.threshold, all)
    local format, width = formatter(t, all)
    body = nested(row, #shape, #PREFIX, format, width)
  end
  if not plain then suffixes[#suffixes + 1] = 'dtype=' .. t.dtype end
  if t.grad_fn then
    suffixes[#suffixes + 1] = 'grad_fn=' .. tostring(t.grad_fn)
  elseif t.requires_grad then
    suffixes[#suffixes + 1] = 'requires_grad=true'
  end
  local text = PREFIX .. body
  local last = #(text:match('[^\n]*$'))
  for _, suffix in ipairs(suffixes) do
    if last + #suffix + 2 > settings.line_width then
      text = text .. ',\n' .. (' '):rep(#PREFIX) .. suffix
      last = #PREFIX + #suffix
    else
      text = text .. ', ' .. suffix
      last = last + #suffix + 2
    end
  end
  return text .. ')'
end

function Tensor.__tostring(t)
  local c = rawget(t, '_c')
  if c == nil then return 'class Tensor' end
  if c.dtype < 0 then return 'tensor(released)' end
  local ok, text = pcall(describe, t)
  return ok and text or ('tensor(%s %s: %s)'):format(Tensor.shape_text(t), t.dtype, tostring(text))
end

return show
