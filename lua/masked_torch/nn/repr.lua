--- repr: values as PyTorch prints them inside a module's parentheses.

local repr = {}

--- 0.1, 1e-05, 100.0: the shortest decimal that reads back as the same number. whole = true: whole numbers without ".0".
function repr.number(value, whole)
  if value % 1 == 0 and math.abs(value) < 1e16 then return (whole and '%d' or '%.1f'):format(value) end
  for digits = 1, 17 do
    local text = ('%.' .. digits .. 'g'):format(value)
    if tonumber(text) == value or value ~= value then
      -- %g turns to exponents as soon as the digits run out, Python at 1e16.
      if text:find('e+', 1, true) and math.abs(value) < 1e16 then text = ('%.1f'):format(value) end
      return text
    end
  end
end

--- True, False, None, numbers, or the text itself.
function repr.value(value)
  if value == nil then return 'None' end
  if type(value) == 'boolean' then return value and 'True' or 'False' end
  if type(value) == 'number' then return repr.number(value) end
  return tostring(value)
end

--- (3, 3), (3,), ((1, 0), (1, 0)); floats = true: (0.5, 2.0).
function repr.tuple(values, floats)
  local list = {}
  for i, v in ipairs(values) do list[i] = type(v) == 'table' and repr.tuple(v, floats) or repr.number(v, not floats) end
  return '(' .. table.concat(list, ', ') .. (#list == 1 and ',)' or ')')
end

--- A size or a table of sizes: 2, (2, 3); floats = true: 2.0, (2.0, 3.0).
function repr.size(value, floats)
  return type(value) == 'table' and repr.tuple(value, floats) or repr.number(value, not floats)
end

return repr
