--- op_case: builds the inputs of a case of the op table (check_op.lua), runs it, compares what comes out.

local ffi = require 'ffi'
local assert = require 'luassert'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local Random = require 'support.random'

local Tensor = torch.Tensor

-- device: nil is the CPU.
local function tensor(shape, values, dtype, device)
  local t = Tensor.empty('check_op', shape, dtype, device)
  local buffer = ffi.new('double[?]', math.max(1, #values))
  for i = 1, #values do buffer[i - 1] = values[i] end
  native.check(t.K.mt_tensor_write(t._c, buffer))
  return t
end

-- A part of a larger tensor: row by row, or with neighbouring channels.
local function part_of_larger(t, shape, channels_last)
  local wide = {}
  for d = 1, #shape do wide[d] = shape[d] + 1 end
  local buffer = Tensor.empty('check_op', wide, t.dtype, t.device, channels_last and #wide > 2 and Tensor.channels_last(wide) or nil)
  native.check(t.K.mt_tensor_fill(buffer._c, 77))
  local strides, offset = buffer:stride(), 0
  for d = 1, #shape do offset = offset + strides[d] end
  local y = Tensor.as_view('check_op', buffer, shape, strides, offset)
  native.check(t.K.mt_tensor_copy(y._c, t._c))
  return y
end

-- The same values in a transposed layout, as a part of a larger tensor, or spread over every second element.
local function relayout(t, layout)
  local shape = t:size()
  if layout:find('part', 1, true) and #shape > 0 then return part_of_larger(t, shape, layout == 'channels-last part') end
  if layout == 'transposed' then
    local strides, step = {}, 1
    for d = 1, #shape do
      strides[d] = step
      step = step * math.max(1, shape[d])
    end
    local y = Tensor.empty('check_op', shape, t.dtype, t.device, strides)
    native.check(t.K.mt_tensor_copy(y._c, t._c))
    return y
  end
  local wide = { unpack(shape) }
  wide[#wide] = wide[#wide] * 2
  local buffer = Tensor.empty('check_op', wide, t.dtype, t.device)
  native.check(t.K.mt_tensor_fill(buffer._c, 77))
  local strides = buffer:stride()
  strides[#strides] = 2
  local y = Tensor.as_view('check_op', buffer, shape, strides, 0)
  native.check(t.K.mt_tensor_copy(y._c, t._c))
  return y
end

local function build(descriptions, dtype, opts)
  opts = opts or {}
  local inputs = { n = #descriptions }
  for i, d in ipairs(descriptions) do
    if d.shape then
      local values = d.values
      if opts.rounded and not d.dtype then
        values = {}
        for k, v in ipairs(d.values) do values[k] = tonumber(ffi.new('float', v)) end
      end
      local t = tensor(d.shape, values, d.dtype or dtype, opts.device)
      if opts.layout and #d.shape > 0 then t = relayout(t, opts.layout) end
      if not d.dtype and not d.fixed and opts.grad ~= false then t:requires_grad_() end
      inputs[i] = t
    else
      inputs[i] = d.value
    end
  end
  return inputs
end

local function tensors_of(...)
  local list = {}
  for i = 1, select('#', ...) do
    local y = select(i, ...)
    if Tensor.is_tensor(y) then list[#list + 1] = y end
  end
  return list
end

-- Outputs, then gradients of all inputs under a fixed upstream gradient.
local function run(case, inputs)
  local results = tensors_of(case.fn(unpack(inputs, 1, inputs.n)))
  local outputs = #results
  local random = Random.new(99)
  for k = 1, outputs do
    local y = results[k]
    if y.requires_grad then
      y:backward(tensor(y:size(), random:normal(y:size()).values, y.dtype, y.device), { retain_graph = true })
    end
  end
  for i = 1, inputs.n do
    local x = inputs[i]
    if Tensor.is_tensor(x) and x.grad then results[#results + 1] = x.grad end
  end
  return results, outputs
end

local function flat(value, out)
  out = out or {}
  if Tensor.is_tensor(value) then value = value:totable() end
  if type(value) == 'table' then
    for _, v in ipairs(value) do flat(v, out) end
  else
    out[#out + 1] = type(value) == 'boolean' and (value and 1 or 0) or value
  end
  return out
end

local function relative_error(expected, got)
  local e, g = flat(expected), flat(got)
  assert.are.equal(#e, #g)
  local d, s = 0, 0
  for i = 1, #e do
    local same = e[i] == g[i] or (e[i] ~= e[i] and g[i] ~= g[i])
    if not same then
      d = d + (e[i] - g[i]) ^ 2
    end
    if e[i] == e[i] and math.abs(e[i]) < math.huge then s = s + e[i] ^ 2 end
  end
  return math.sqrt(d) / math.max(1e-30, math.sqrt(s))
end

local function within(err, tolerance, what)
  assert(err <= tolerance, ('%s: relative error %.3g > %.3g'):format(what, err, tolerance))
end

local function same(a, b, what)
  assert(#a == #b, what .. ': number of results differs')
  for k = 1, #a do
    assert(Tensor.same_bits(a[k], b[k]), ('%s: result %d differs in bits'):format(what, k))
  end
end

return { tensor = tensor, build = build, tensors_of = tensors_of, run = run, relative_error = relative_error, within = within,
  same = same }
