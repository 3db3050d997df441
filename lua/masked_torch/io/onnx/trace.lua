--- trace: runs a module's forward once with Values in place of tensors, so that every operation on the way emits its ONNX form.
--
-- Nothing is computed. While it runs, the functions of torch, torch.nn.functional and torch.mask and the methods of tensors are
-- exchanged: those that get a Value or a Size call the form of the same name, all others do what they always do. So constants
-- are computed as usual and stored, and a module written with these functions needs no code for the export. Layers whose
-- forward works on the insides of tensors have a form of their own, by class name.

local autograd = require 'masked_torch.autograd'
local masks = require 'masked_torch.mask'
local set_tracer = require('masked_torch.nn.module').set_tracer
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local size = require 'masked_torch.io.onnx.size'
local Graph = require 'masked_torch.io.onnx.graph'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local is_value, Value = Graph.is_value, Graph.Value

-- ---- the table of forms, by the name of the operation ------------------------------------------------------------------------

local forms, layers, mask_functions = {}, {}, nil
for _, stem in ipairs{ 'shape', 'elementwise', 'reduce', 'conv', 'masked_conv', 'norm', 'pool', 'mask' } do
  local found = require('masked_torch.io.onnx.form.' .. stem)
  for name, fn in pairs(found.form or found) do forms[name] = fn end
  for name, fn in pairs(found.layers or {}) do layers[name] = fn end
  mask_functions = found.functions or mask_functions
end

local active      -- the graph being built

-- ---- what a Value answers to -------------------------------------------------------------------------------------------------

local methods = {}

function methods.dim(v) return #v.shape end
methods.ndimension = methods.dim

function methods.size(v, dim)
  if dim == nil then return { unpack(v.shape) } end
  return v.shape[native.dim('size', dim, #v.shape) + 1]
end

function methods.sizes(v) return unpack(v.shape) end

function methods.numel(v)
  local n = 1
  for _, s in ipairs(v.shape) do n = n * s end
  return n
end

function methods.is_floating_point(v) return Tensor.floating[v.dtype] == true end
function methods.requires_grad_(v) return v end

-- As a mask (masked_torch.mask). What depends on its values is not known: nothing is taken to be full.
function methods.tensor(v, dtype) return active:cast(v, dtype or 'float32') end
methods.compact = methods.tensor
function methods.derived(v, _, make) return make(v) end
function methods.known() return nil end
function methods.keep(_, _, value) return value end
function methods.all_valid() return false end
function methods.is_binary() return false end
function methods.known_full() return false end
function methods.known_binary() return false end

function methods.expand(v, ...)
  if #v.shape > 2 and select('#', ...) == 2 and type((...)) ~= 'table' then      -- mask:expand(N, C)
    local N, C = ...
    return active:expand(v, { N, C, unpack(v.shape, 3) })
  end
  return forms.expand(active, v, ...)
end

local function refuse(name)
  return function() fail("onnx.export: '%s' has no ONNX form", name) end
end

function Value.__index(v, key)
  if type(key) ~= 'string' then return forms.index(active, v, key) end
  if methods[key] then return methods[key] end
  if forms[key] then
    return function(...) return forms[key](active, ...) end
  end
  if key == 'device' then return 'cpu' end
  if key == 'requires_grad' then return false end
  if Tensor.methods[key] or key == 'coverage' or key == 'count' then return refuse(key) end
  return nil
end

function Value.__newindex(_, key)
  fail("onnx.export: an assignment to %s of a result has no ONNX form", type(key) == 'string' and "'" .. key .. "'" or 'elements')
end

function Value.__tostring(v)
  local texts = {}
  for i, s in ipairs(v.shape) do texts[i] = size.text(s) end
  return ('%s (%s) %s'):format(rawget(v, 'name'), table.concat(texts, ', '), v.dtype)
end

local events = { __add = 'add', __sub = 'sub', __mul = 'mul', __div = 'div', __pow = 'pow', __mod = 'remainder', __unm = 'neg' }
for event, name in pairs(events) do
  Value[event] = function(a, b)
    if event == '__unm' then return forms.neg(active, a) end
    return forms[name](active, a, b)
  end
end

-- ---- exchanging functions --------------------------------------------------------------------------------------------------------

local function involved(...)
  for i = 1, select('#', ...) do
    local a = select(i, ...)
    if type(a) == 'table' then
      local meta = getmetatable(a)
      if meta == Value then return true end
      if options.is_plain(a) then
        for _, entry in next, a do
          if is_value(entry) or size.is(entry) then return true end
        end
      end
    elseif size.is(a) then
      return true
    end
  end
  return false
end

-- title names an operation in messages: F.conv2d, torch.cat, x:add_. Made once for each.
local made = {}

local function exchanged(title, form, original)
  local known = made[title]
  if known and known.original == original then return known.substitute end
  local function substitute(...)
    if not involved(...) then return original(...) end
    if not form then
      fail('onnx.export: %s has no ONNX form%s', title, title:find('_$') and '; use the operation without the underscore' or '')
    end
    return form(active, ...)
  end
  made[title] = { original = original, substitute = substitute }
  return substitute
end

-- The changes as a list of { table, key, value }.
local function changes()
  local torch, F = require 'masked_torch', require 'masked_torch.nn.functional'
  local list = {}
  local function change(t, key, value) list[#list + 1] = { t, key, value } end
  local function all(t, title, table_of_forms)
    for name, fn in next, t do
      if type(name) == 'string' and type(fn) == 'function' and not methods[name] then
        change(t, name, exchanged(title .. name, table_of_forms[name], fn))
      end
    end
  end
  all(F, 'F.', forms)
  all(torch, 'torch.', forms)
  all(Tensor.methods, 'x:', forms)
  all(masks, 'torch.mask.', mask_functions)
  for event, name in pairs(events) do
    change(Tensor, event, exchanged('tensor ' .. name, forms[name], Tensor[event]))
    change(masks.Mask, event, exchanged('mask ' .. name, forms[name], masks.Mask[event]))
  end
  local check, is_tensor, shape_of, shape_text = Tensor.check, Tensor.is_tensor, Tensor.shape_of, Tensor.shape_text
  local function tensor_or_value(v) return is_value(v) or is_tensor(v) end
  change(Tensor, 'is_tensor', tensor_or_value)
  change(torch, 'is_tensor', tensor_or_value)
  change(masks, 'is_mask', function(v) return is_value(v) or getmetatable(v) == masks.Mask end)
  change(Tensor, 'check', function(op, argument, v) return is_value(v) and v or check(op, argument, v) end)
  change(Tensor, 'check_device_of', function() end)
  change(Tensor, 'shape_of', function(v) return is_value(v) and { unpack(v.shape) } or shape_of(v) end)
  change(Tensor, 'shape_text', function(v) return is_value(v) and tostring(v) or shape_text(v) end)
  for _, name in ipairs{ 'no_grad', 'enable_grad', 'set_grad_enabled', 'is_grad_enabled' } do change(torch, name, torch[name]) end
  return list
end

-- ---- modules -------------------------------------------------------------------------------------------------------------------------

-- The form of a layer: that of the class that defined its forward.
local function layer_form(module)
  local c = getmetatable(module)
  local forward = c.forward
  while c and c.forward == forward do
    if layers[c.__name] then return layers[c.__name] end
    c = c.__parent
  end
end

local function tracer(paths)
  return function(module, ...)
    local path = active.path
    if rawget(module, '_hooks') or rawget(module, '_pre_hooks') then
      fail('%s: it has forward hooks, which a file cannot hold; remove them first', getmetatable(module).__name)
    end
    if not involved(...) then return module:forward(...) end
    local inner = { unpack(path) }
    inner[#inner + 1] = paths[module] or path[#path]
    active.path = inner
    local form = layer_form(module)
    local function leave(...)
      active.path = path
      return ...
    end
    if form then return leave(form(active, module, ...)) end
    return leave(module:forward(...))
  end
end

--- trace(net, opset, make_inputs) -> graph, results: make_inputs(graph) returns the Values for net's arguments.
return function(net, opset, make_inputs)
  local names, paths = {}, {}
  for path, module in net:named_modules() do
    paths[module] = path
    for _, list in ipairs{ module._parameters, module._buffers } do
      for _, name in ipairs(list.names) do
        local t = list.values[name]
        if t ~= nil and not names[t] then names[t] = path == '' and name or path .. '.' .. name end
      end
    end
  end
  local graph = Graph.new{ opset = opset, names = names, forms = forms }
  local list, saved, done = changes(), {}, 0
  local previous = active
  active = graph
  local function body()
    for i, c in ipairs(list) do
      saved[i] = rawget(c[1], c[2])
      rawset(c[1], c[2], c[3])
      done = i
    end
    set_tracer(tracer(paths))
    return { net(unpack(make_inputs(graph))) }
  end
  local ok, results = pcall(autograd.no_grad, body)
  set_tracer(nil)
  for i = done, 1, -1 do rawset(list[i][1], list[i][2], saved[i]) end
  active = previous
  if not ok then error(results, 0) end
  return graph, results
end
