--- golden: the reference vectors of tests/golden, or of the folder that GOLDEN names (drawn by tests/peers/draw_cases.py).
--
--     for _, case in ipairs(golden.cases('conv')) do       manifest entries of one family, in order
--       local x = golden.tensor(case, 'in.x')              a new tensor, nil when the case has no such field
--       golden.check(case, 'out.y', y)                     within the manifest's tolerance, or an error that says where
--     end
--
-- A result may have size 1 where the expected value has the full size (a mask that kept one channel): it is compared repeated.

local ffi = require 'ffi'
local json = require 'dkjson'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'

local Tensor = torch.Tensor
local golden = {}

local drawn = os.getenv('GOLDEN')
local committed = debug.getinfo(1, 'S').source:match('^@(.*)support/golden%.lua$') .. 'golden/'
-- make test-cuda: tensors are made there.
local device = os.getenv 'MASKED_TORCH_TEST_DEVICE' or 'cpu'
if device == '' then device = 'cpu' end
golden.device = device
local root = drawn and drawn:gsub('/*$', '/') or committed
golden.root = committed
--- True when the cases are those of tests/golden, whose number is known.
golden.is_committed = not drawn

-- Messages and printed forms are not drawn.
local function read(name)
  local folder = (name == 'errors.json' or name == 'reprs.json') and committed or root
  local file = assert(io.open(folder .. name, 'rb'))
  local text = file:read('*a')
  file:close()
  return text
end

--- golden.json('errors.json') -> Lua tables; null becomes nil.
function golden.json(name)
  local value, _, message = json.decode(read(name), 1, nil)
  return assert(value, message)
end

local manifest
--- The manifest entries of a family (all without one).
function golden.cases(family)
  manifest = manifest or golden.json('manifest.json')
  local list = {}
  for _, case in ipairs(manifest.cases) do
    if not family or case.family == family then list[#list + 1] = case end
  end
  return list
end

local files = {}
local function open(name)
  if not files[name] then
    local text = read(name)
    local length = 0
    for i = 8, 1, -1 do length = length * 256 + text:byte(i) end
    files[name] = { header = assert(json.decode(text:sub(9, 8 + length), 1, nil)), text = text, start = 8 + length }
  end
  return files[name]
end

local dtypes = { F32 = 'float32', F64 = 'float64', I64 = 'int64' }

--- The tensor of a field, or nil.
function golden.tensor(case, field)
  local file = open(case.file)
  local entry = file.header[case.name .. '/' .. field]
  if not entry then return nil end
  local from, to = entry.data_offsets[1], entry.data_offsets[2]
  local t = Tensor.empty('golden', entry.shape, dtypes[entry.dtype])
  local bytes = file.text:sub(file.start + from + 1, file.start + to)
  native.check(t.K.mt_tensor_write_bytes(t._c, ffi.cast('const void *', bytes), #bytes))
  return t:to(device)
end

--- The fields of a case that begin with prefix ('param.' gives {weight = tensor, ...}).
function golden.fields(case, prefix)
  local result = {}
  for field in pairs(case.tensors) do
    if field:sub(1, #prefix) == prefix then result[field:sub(#prefix + 1)] = golden.tensor(case, field) end
  end
  return result
end

local function flat(t)
  local n = t:numel()
  local values = ffi.new('double[?]', math.max(1, n))
  native.check(t.K.mt_tensor_read(values, t._c))
  return values, n
end

local function repeated(field, t, shape)
  local strides, size = t:stride(), t:size()
  assert(#size == #shape, ('%s: %d dimensions, expected %d'):format(field, #size, #shape))
  for d = 1, #shape do
    if size[d] ~= shape[d] then
      assert(size[d] == 1, ('%s: shape %s, expected (%s)'):format(field, Tensor.shape_text(t), table.concat(shape, ', ')))
      strides[d] = 0
    end
  end
  return Tensor.as_view('golden', t, shape, strides, 0)
end

--- Fails unless max |got - expected| <= tol; expected NaN must be NaN. Returns the largest error divided by the tolerance.
function golden.check(case, field, got)
  assert(Tensor.is_tensor(got), ('%s: %s: expected a tensor, got %s'):format(case.name, field, tostring(got)))
  local expected = assert(golden.tensor(case, field), case.name .. ' has no ' .. field)
  local tol = assert(case.tol[field], case.name .. ' has no tolerance for ' .. field)
  got = repeated(case.name .. ': ' .. field, got, expected:size())
  local e, n = flat(expected)
  local g = flat(got)
  local worst = 0
  for i = 0, n - 1 do
    local same = e[i] == g[i] or (e[i] ~= e[i] and g[i] ~= g[i])
    local err = same and 0 or math.abs(e[i] - g[i])
    assert(err <= tol, ('%s: %s: element %d of %s: got %.17g, expected %.17g, error %.3g > %.3g'):format(case.name, field,
      i + 1, Tensor.shape_text(expected), g[i], e[i], err, tol))
    worst = math.max(worst, tol > 0 and err / tol or err)
  end
  return worst
end

--- True when the case carries the compat tag (any tag without one).
function golden.compat(case, tag)
  for _, t in ipairs(case.compat or {}) do
    if not tag or t == tag then return true end
  end
  return false
end

return golden
