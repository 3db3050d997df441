--- Loaded before the first spec: the assertions that specs share.
local assert = require 'luassert'
local say = require 'say'
local torch = require 'masked_torch'

-- assert.near_tensor(expected, got, tolerance): |got - expected| <= tolerance everywhere, NaN only where NaN is expected;
-- expected is a tensor or nested tables, tolerance absolute.
local function flatten(value, out)
  if type(value) ~= 'table' then
    out[#out + 1] = value
  else
    for _, v in ipairs(value) do flatten(v, out) end
  end
  return out
end

local function near_tensor(state, arguments)
  local expected, got, tolerance = arguments[1], arguments[2], arguments[3] or 0
  local shape_e = torch.is_tensor(expected) and table.concat(expected:size(), 'x') or nil
  local shape_g = table.concat(got:size(), 'x')
  if shape_e and shape_e ~= shape_g then
    state.failure_message = ('shape %s, expected %s'):format(shape_g, shape_e)
    return false
  end
  local e = flatten(torch.is_tensor(expected) and expected:totable() or expected, {})
  local g = flatten(got:totable(), {})
  if #e ~= #g then
    state.failure_message = ('%d elements, expected %d'):format(#g, #e)
    return false
  end
  local worst, where = 0, nil
  for i = 1, #e do
    local ev, gv = e[i], g[i]
    if type(ev) == 'boolean' then ev, gv = ev and 1 or 0, gv and 1 or 0 end
    local both_nan = ev ~= ev and gv ~= gv
    if not both_nan and ev ~= gv and not (math.abs(ev - gv) <= tolerance) then
      local err = math.abs(ev - gv)
      if not where or not (err <= worst) then worst, where = err, i end
    end
  end
  if where then
    state.failure_message = ('element %d of %s: got %.9g, expected %.9g, error %.3g > %.3g'):format(where, shape_g, tonumber(g[where]) or 0,
      tonumber(e[where]) or 0, worst, tolerance)
    return false
  end
  return true
end
say:set('assertion.near_tensor.positive', 'expected tensors to agree:\n%s')
assert:register('assertion', 'near_tensor', near_tensor, 'assertion.near_tensor.positive', 'assertion.near_tensor.positive')

-- assert.same_bits(a, b): shape, dtype and every bit agree.
local function same_bits(state, arguments)
  local a, b = arguments[1], arguments[2]
  if torch.Tensor.same_bits(a, b) then return true end
  state.failure_message = ('bits differ: %s %s against %s %s'):format(a.dtype, table.concat(a:size(), 'x'), b.dtype,
    table.concat(b:size(), 'x'))
  return false
end
say:set('assertion.same_bits.positive', 'expected the same bits:\n%s')
assert:register('assertion', 'same_bits', same_bits, 'assertion.same_bits.positive', 'assertion.same_bits.positive')

-- assert.same_values(expected, got, where): nested tables with the same keys and values, tensors to the bit. The message says where
-- they part.
local function parting(expected, got, where)
  if torch.is_tensor(expected) and torch.is_tensor(got) then
    return not torch.Tensor.same_bits(expected, got) and where .. ': bits differ' or nil
  elseif type(expected) ~= 'table' or type(got) ~= 'table' then
    return expected ~= got and ('%s: %s, expected %s'):format(where, tostring(got), tostring(expected)) or nil
  end
  for key, value in pairs(expected) do
    local found = parting(value, got[key], where .. '.' .. tostring(key))
    if found then return found end
  end
  for key in pairs(got) do
    if expected[key] == nil then return ('%s.%s: not expected'):format(where, tostring(key)) end
  end
end

local function same_values(state, arguments)
  local problem = parting(arguments[1], arguments[2], arguments[3])
  state.failure_message = problem
  return problem == nil
end
say:set('assertion.same_values.positive', 'expected the same values:\n%s')
assert:register('assertion', 'same_values', same_values, 'assertion.same_values.positive', 'assertion.same_values.positive')

-- assert.fails(fn, ...): fn raises an error whose message holds every one of the plain texts.
local function fails(state, arguments)
  local ok, message = pcall(arguments[1])
  if ok then
    state.failure_message = 'no error was raised'
    return false
  end
  for i = 2, arguments.n do
    if not tostring(message):find(arguments[i], 1, true) then
      state.failure_message = ('the message lacks %q:\n%s'):format(arguments[i], tostring(message))
      return false
    end
  end
  return true
end
say:set('assertion.fails.positive', 'expected an error:\n%s')
assert:register('assertion', 'fails', fails, 'assertion.fails.positive', 'assertion.fails.positive')
