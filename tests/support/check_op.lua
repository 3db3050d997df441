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
-- inputs (transposed, parts of larger tensors, every second element) give the same bits; so does an expanded upstream gradient;
-- threads 1 to 4 give the same bits.

local assert = require 'luassert'
local torch = require 'masked_torch'
local gradcheck = require('masked_torch.autograd.gradcheck').gradcheck
local Random = require 'support.random'
local op_case = require 'support.op_case'

local Tensor = torch.Tensor
local tensor, build, tensors_of, run = op_case.tensor, op_case.build, op_case.tensors_of, op_case.run
local relative_error, within, same = op_case.relative_error, op_case.within, op_case.same

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
            for _, layout in ipairs { 'transposed', 'part', 'channels-last part', 'spread' } do
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
