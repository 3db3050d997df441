--- check_op: what holds for every operation, checked for each case of its table.
--
-- tests/op/<stem>_cases.lua returns an array of cases; tests/op/<stem>_spec.lua runs check_op on it and adds what is special.
-- A case:
--   op          the registered op it covers (or an array of names); contract: every registered op is covered
--   name        what is special about it
--   inputs      function(random) -> array of input descriptions (tests/support/random.lua)
--   fn          function(...) -> tensor or tensors, from the built inputs
--   reference   optional function(...) -> expected value(s) as nested tables or numbers, from nested tables: an independent
--               double-precision definition in plain Lua; compared with the float64 result
--   grad        false: no gradient checks
--   tolerance   {reference = 1e-12, gradient = 1e-8, float32 = 1e-6, float32_gradient = 5e-6}: relative (Frobenius norm)
--   eps         step of the finite differences (1e-3)
--   strided     false: the op documents that it needs contiguous inputs
-- Checked: reference; gradcheck in float64; float32 against float64 on the same values, forward and gradients; non-contiguous
-- inputs (transposed, and every second element of a larger buffer) give the same bits; so does an expanded upstream gradient;
-- threads 1 to 4 give the same bits.

local ffi = require 'ffi'
local assert = require 'luassert'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local gradcheck = require('masked_torch.autograd.gradcheck').gradcheck
local Random = require 'support.random'

local Tensor = torch.Tensor

local function tensor(shape, values, dtype)
  local t = Tensor.empty('check_op', shape, dtype)
  local buffer = ffi.new('double[?]', math.max(1, #values))
  for i = 1, #values do buffer[i - 1] = values[i] end
  native.check(t.K.mt_tensor_write(t._c, buffer))
  return t
end

-- The same values in a transposed layout, or spread over every second element.
local function relayout(t, layout)
  local shape = t:size()
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
  local buffer = Tensor.empty('check_op', wide, t.dtype)
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
      local t = tensor(d.shape, values, d.dtype or dtype)
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
      y:backward(tensor(y:size(), random:normal(y:size()).values, y.dtype), { retain_graph = true })
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

-- describe and it live in the environment of the spec file, the caller.
return function(cases)
  local spec = getfenv(2)
  local describe, it = spec.describe, spec.it
  for number, case in ipairs(cases) do
    local ops = type(case.op) == 'table' and table.concat(case.op, ', ') or case.op
    describe(('%s %d: %s'):format(ops, number, case.name or ''), function()
      local tolerance = case.tolerance or {}
      local function describe_inputs() return case.inputs(Random.new(number)) end

      if case.reference then
        it('equals its definition', function()
          local inputs = build(describe_inputs(), 'float64', { grad = false })
          local tables = { n = inputs.n }
          for i = 1, inputs.n do
            tables[i] = inputs[i]
            if Tensor.is_tensor(inputs[i]) then tables[i] = inputs[i]:totable() end
          end
          local expected = { case.reference(unpack(tables, 1, tables.n)) }
          local got = tensors_of(case.fn(unpack(inputs, 1, inputs.n)))
          for k = 1, #expected do
            within(relative_error(expected[k], got[k]), tolerance.reference or 1e-12, 'output ' .. k)
          end
        end)
      end

      if case.grad ~= false then
        it('has the right gradient', function()
          local ok, message = gradcheck(case.fn, build(describe_inputs(), 'float64'),
            { tolerance = tolerance.gradient or 1e-8, eps = case.eps or 1e-3 })
          assert(ok, message)
        end)
      end

      it('agrees between float32 and float64', function()
        local single, outputs = run(case, build(describe_inputs(), 'float32'))
        local double = run(case, build(describe_inputs(), 'float64', { rounded = true }))
        assert.are.equal(#double, #single)
        for k = 1, #single do
          within(relative_error(double[k], single[k]), k <= outputs and (tolerance.float32 or 1e-6) or
            (tolerance.float32_gradient or 5e-6), (k <= outputs and 'output ' or 'gradient ') .. k)
        end
      end)

      if case.strided ~= false then
        it('does not depend on the layout of its inputs', function()
          for _, dtype in ipairs { 'float32', 'float64' } do
            local plain = run(case, build(describe_inputs(), dtype))
            for _, layout in ipairs { 'transposed', 'spread' } do
              same(plain, run(case, build(describe_inputs(), dtype, { layout = layout })), dtype .. ' ' .. layout)
            end
          end
        end)
      end

      if case.grad ~= false then
        it('takes an upstream gradient that repeats one element, as sum():backward() sends it', function()
          local results = {}
          for _, expanded in ipairs { true, false } do
            local inputs = build(describe_inputs(), 'float32')
            for _, y in ipairs(tensors_of(case.fn(unpack(inputs, 1, inputs.n)))) do
              if y.requires_grad then
                local g = tensor({}, { 0.7 }, y.dtype):expand(y:size())
                y:backward(expanded and g or g:contiguous(), { retain_graph = true })
              end
            end
            local gradients = {}
            for i = 1, inputs.n do
              if Tensor.is_tensor(inputs[i]) and inputs[i].grad then gradients[#gradients + 1] = inputs[i].grad end
            end
            results[#results + 1] = gradients
          end
          same(results[1], results[2], 'expanded gradient')
        end)
      end

      it('gives the same bits on 1 to 4 threads', function()
        local before = torch.get_num_threads()
        local results = {}
        for threads = 1, 4 do
          torch.set_num_threads(threads)
          results[threads] = run(case, build(describe_inputs(), 'float32'))
        end
        torch.set_num_threads(before)
        for threads = 2, 4 do same(results[1], results[threads], threads .. ' threads') end
      end)
    end)
  end
end
