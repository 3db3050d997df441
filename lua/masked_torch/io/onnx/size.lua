--- size: sizes that are only known when an exported network runs: "length", "2*length - 1", "floor(length / 4)".
--
-- A Size stands where a number does in a module's forward: it adds, multiplies, divides (//: size.floordiv) and takes
-- remainders. Comparisons are decided by the example inputs of the export, and what they assumed is noted, for the file must
-- not be used where it does not hold (onnx.export returns these notes).
-- A Size is a cdata number of an entry of the running export: Lua 5.1 compares a table with a number only by an error, a cdata
-- with its metamethods. That includes ==, which is safe here because Sizes are never keys and never compared with nil.

local ffi = require 'ffi'
local native = require 'masked_torch.native'

local fail = native.fail
local size = {}

ffi.cdef 'typedef struct { int32_t id; } mt_onnx_size;'
local Size = ffi.typeof 'mt_onnx_size'

-- The sizes of the running export: entries { constant =, terms = {{atom =, factor =}} sorted by atom.name, example = }.
local run

--- size.begin(): forgets the sizes of the last export. run.notes collects assumptions.
function size.begin()
  run = { entries = {}, atoms = {}, notes = {}, noted = {} }
  return run
end

--- size.is(value)
function size.is(value) return type(value) == 'cdata' and ffi.istype(Size, value) end
local is = size.is

local function entry_of(value)
  if is(value) then return run.entries[value.id] end
  if type(value) ~= 'number' then fail('onnx.export: a size: expected a whole number, got %s', type(value)) end
  return { constant = value, terms = {}, example = value }
end
size.entry_of = entry_of

--- The value that it has for the example inputs.
function size.example(value) return is(value) and run.entries[value.id].example or value end

local function make(constant, terms, example)
  if #terms == 0 then return constant end
  table.sort(terms, function(a, b) return a.atom.name < b.atom.name end)
  local id = #run.entries + 1
  run.entries[id] = { constant = constant, terms = terms, example = example }
  return Size(id)
end

-- atom: { name =, example =, kind =, ... }; the same name is the same atom.
local function of_atom(atom)
  atom = run.atoms[atom.name] or atom
  run.atoms[atom.name] = atom
  return make(0, { { atom = atom, factor = 1 } }, atom.example)
end

--- size.input(name, example, place): a size of an input of the network; place: what the graph reads it from.
function size.input(name, example, place)
  return of_atom{ name = name, example = example, kind = 'input', place = place }
end

--- size.text(value): 2*length - 1
function size.text(value)
  local e = entry_of(value)
  local parts = {}
  for _, t in ipairs(e.terms) do
    local sign = t.factor < 0 and (#parts > 0 and ' - ' or '-') or #parts > 0 and ' + ' or ''
    parts[#parts + 1] = sign .. (math.abs(t.factor) ~= 1 and ('%d*'):format(math.abs(t.factor)) or '') .. t.atom.name
  end
  if e.constant ~= 0 or #parts == 0 then
    parts[#parts + 1] = (#parts > 0 and (e.constant < 0 and ' - ' or ' + ') or e.constant < 0 and '-' or '') ..
      ('%d'):format(math.abs(e.constant))
  end
  return table.concat(parts)
end

--- size.same(a, b): known to be equal, whatever the inputs.
function size.same(a, b)
  if not is(a) and not is(b) then return a == b end
  return is(a) and is(b) and size.text(a) == size.text(b)
end

local function combine(a, b, factor)
  local x, y = entry_of(a), entry_of(b)
  local by_name, terms = {}, {}
  for _, t in ipairs(x.terms) do by_name[t.atom.name] = { atom = t.atom, factor = t.factor } end
  for _, t in ipairs(y.terms) do
    local known = by_name[t.atom.name] or { atom = t.atom, factor = 0 }
    known.factor = known.factor + factor * t.factor
    by_name[t.atom.name] = known
  end
  for _, t in pairs(by_name) do
    if t.factor ~= 0 then terms[#terms + 1] = t end
  end
  return make(x.constant + factor * y.constant, terms, x.example + factor * y.example)
end

local function multiply(a, b)
  if is(a) and is(b) then
    local first, second = size.text(a), size.text(b)
    if second < first then first, second, a, b = second, first, b, a end
    return of_atom{ name = ('(%s)*(%s)'):format(first, second), example = size.example(a) * size.example(b), kind = 'mul', a = a,
      b = b }
  end
  if is(b) then a, b = b, a end
  local e, terms = entry_of(a), {}
  if b == 0 then return 0 end
  for i, t in ipairs(e.terms) do terms[i] = { atom = t.atom, factor = t.factor * b } end
  return make(e.constant * b, terms, e.example * b)
end

-- a / b where every term divides, or nil.
local function exact(a, b)
  local e, terms = entry_of(a), {}
  for i, t in ipairs(e.terms) do
    if t.factor % b ~= 0 then return nil end
    terms[i] = { atom = t.atom, factor = t.factor / b }
  end
  return make(math.floor(e.constant / b), terms, math.floor(e.example / b))
end

--- size.floordiv(a, b): floor(a / b), b a positive number.
function size.floordiv(a, b)
  if not is(a) then return math.floor(a / b) end
  if type(b) ~= 'number' or b < 1 or b % 1 ~= 0 then fail('onnx.export: the size %s is divided by %s', size.text(a), tostring(b)) end
  if b == 1 then return a end
  local whole = exact(a, b)
  if whole then return whole end
  local e = entry_of(a)
  local t = e.terms[1]
  if #e.terms == 1 and t.factor == 1 and t.atom.kind == 'div' then    -- floor((floor(x / c) + k) / b) = floor((x + k c) / (b c))
    return size.floordiv(t.atom.a + e.constant * t.atom.by, t.atom.by * b)
  end
  -- What divides goes in front, so that equal sizes are written alike.
  local rest, front = { constant = e.constant % b, terms = {} }, { constant = math.floor(e.constant / b), terms = {} }
  local example = rest.constant
  for _, term in ipairs(e.terms) do
    local whole_part = math.floor(term.factor / b)
    local left = term.factor - whole_part * b
    if whole_part ~= 0 then front.terms[#front.terms + 1] = { atom = term.atom, factor = whole_part } end
    if left ~= 0 then
      rest.terms[#rest.terms + 1] = { atom = term.atom, factor = left }
      example = example + left * term.atom.example
    end
  end
  local inner = make(rest.constant, rest.terms, example)
  local text = size.text(inner)
  local name = (text:find('[ *]') and 'floor((%s)/%d)' or 'floor(%s/%d)'):format(text, b)
  local quotient = of_atom{ name = name, example = math.floor(example / b), kind = 'div', a = inner, by = b }
  local front_example = math.floor(e.example / b) - math.floor(example / b)
  return make(front.constant, front.terms, front_example) + quotient
end

--- size.min(a, b), size.max(a, b)
local function extreme(kind, pick)
  return function(a, b)
    if not is(a) and not is(b) then return pick(a, b) end
    if size.same(a, b) then return a end
    return of_atom{ name = ('%s(%s, %s)'):format(kind, size.text(a), size.text(b)), example = pick(size.example(a), size.example(b)),
      kind = kind, a = a, b = b }
  end
end
size.min, size.max = extreme('min', math.min), extreme('max', math.max)

local function remainder(a, b)
  if type(b) ~= 'number' or b < 1 or b % 1 ~= 0 then fail('onnx.export: a remainder of a size by %s', tostring(b)) end
  local e = entry_of(a)
  local all = e.constant % b == 0
  for _, t in ipairs(e.terms) do all = all and t.factor % b == 0 end
  if all then return 0 end
  return a - size.floordiv(a, b) * b
end

local function remember(text)
  if not run.noted[text] then
    run.noted[text] = true
    run.notes[#run.notes + 1] = text
  end
end

local opposite = { ['=='] = '~=', ['<'] = '>=', ['<='] = '>' }

local function note(a, sign, b, result)
  remember(('%s %s %s'):format(size.text(a), result and sign or opposite[sign], size.text(b)))
  return result
end

local function known(value) return is(value) or type(value) == 'number' end

ffi.metatype(Size, {
  __add = function(a, b) return combine(a, b, 1) end,
  __sub = function(a, b) return combine(a, b, -1) end,
  __mul = multiply,
  __unm = function(a) return multiply(a, -1) end,
  __mod = remainder,
  __div = function(a, b)
    if type(b) ~= 'number' or size.example(a) % b ~= 0 then
      fail('onnx.export: the size %s is divided by %s with a rest; use math on sizes that divide', size.text(a), tostring(b))
    end
    if is(remainder(a, b)) then remember(('%s is a multiple of %d'):format(size.text(a), b)) end
    return size.floordiv(a, b)
  end,
  __eq = function(a, b)
    if not known(a) or not known(b) then return false end
    if size.same(a, b) then return true end
    local difference = a - b
    if not is(difference) then return false end
    return note(a, '==', b, size.example(a) == size.example(b))
  end,
  __lt = function(a, b) return note(a, '<', b, size.example(a) < size.example(b)) end,
  __le = function(a, b) return note(a, '<=', b, size.example(a) <= size.example(b)) end,
  __tostring = function(a) return size.text(a) end,
})

return size
