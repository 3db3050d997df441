--- module: the base of every layer and network.
--
-- Parameters, buffers and named children are kept beside the object, in the order in which they were registered, so that
-- assignments to them can be checked; numbered children are the array part of the object itself (#net, net[1], ipairs).
-- Inside names (state_dict, named_modules, printing) numbered children count from 0, as in PyTorch: files travel both ways.
--
-- @usage
-- local class, nn = require 'masked_torch.class', require 'masked_torch.nn'
-- local Block = class('Block', nn.Module)
-- function Block:__init(channels)
--   nn.Module.__init(self)
--   self.conv = nn.MaskedConv2d(channels, channels, 3, { padding = 1 })      -- a child, by assignment
--   self:register_parameter('scale', torch.ones(1))
-- end
-- function Block:forward(x, mask)
--   local y, kept = self.conv(x, mask)
--   return y * self.scale, kept
-- end
-- print(Block(2))
-- --> Block(
-- -->   (conv): MaskedConv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), eps=1e-08)
-- --> )

local Tensor = require 'masked_torch.tensor'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local class = require 'masked_torch.class'
local lazy = require 'masked_torch.nn.lazy'

local fail, is_tensor = native.fail, Tensor.is_tensor

--- nn.Module: the base class. A subclass calls Module.__init(self) first and defines forward(self, x, mask) -> y, mask.
local Module = class('Module')
Module.__module = true    -- inherited by copying: marks every module class

local function is_module(value)
  local meta = type(value) == 'table' and getmetatable(value)
  return type(meta) == 'table' and rawget(meta, '__module') == true
end

-- ---- an ordered table: names in order of their first use -------------------------------------------------------

local function ordered() return { names = {}, values = {}, known = {} } end

local function put(list, name, value)
  if not list.known[name] then
    list.known[name] = true
    list.names[#list.names + 1] = name
  end
  list.values[name] = value
end

local function drop(list, name)
  list.known[name], list.values[name] = nil, nil
  for i, other in ipairs(list.names) do
    if other == name then table.remove(list.names, i) return end
  end
end

-- ---- fields ----------------------------------------------------------------------------------------------------

--- Begins a module. Every class calls it first: Module.__init(self)
function Module:__init()
  rawset(self, '_parameters', ordered())
  rawset(self, '_buffers', ordered())
  rawset(self, '_modules', ordered())
  rawset(self, 'training', true)
end

function Module.__index(self, key)
  local value = getmetatable(self)[key]
  if value ~= nil then return value end
  local parameters = rawget(self, '_parameters')
  if not parameters then return nil end
  if type(key) == 'number' then
    if key < 0 then return rawget(self, #self + 1 + key) end
    return nil
  end
  value = parameters.values[key]
  if value == nil then value = self._buffers.values[key] end
  if value == nil then value = self._modules.values[key] end
  return value
end

local function name_of(self) return getmetatable(self).__name end

-- A parameter is a leaf: something an optimiser may change in place.
local function check_parameter(self, name, value)
  if value == nil then return end
  if not is_tensor(value) then fail('%s: %s: expected a tensor or nil, got %s', name_of(self), name, type(value)) end
  if value.grad_fn then
    fail('%s: %s: a parameter cannot be the result of an operation (%s); use :detach()', name_of(self), name,
      value.grad_fn.op.name)
  end
end

function Module.__newindex(self, key, value)
  local parameters = rawget(self, '_parameters')
  if not parameters then
    fail('%s: a field was assigned before Module.__init(self) was called', name_of(self))
  end
  if type(key) == 'number' then
    if key ~= #self + 1 or not is_module(value) then
      fail('%s: [%s]: expected a module for position %d, got %s', name_of(self), native.show(key), #self + 1,
        is_module(value) and name_of(value) or type(value))
    end
    rawset(self, key, value)
  elseif parameters.known[key] then
    check_parameter(self, key, value)
    local before = parameters.values[key]
    if value ~= nil and Tensor.floating[value.dtype] then value.requires_grad = before == nil or before.requires_grad end
    parameters.values[key] = value
  elseif self._buffers.known[key] then
    if value ~= nil and not is_tensor(value) then
      fail('%s: %s: expected a tensor or nil, got %s', name_of(self), key, type(value))
    end
    self._buffers.values[key] = value
  elseif is_module(value) then
    self:add_module(key, value)
  elseif self._modules.known[key] then
    if value ~= nil then fail('%s: %s: expected a module or nil, got %s', name_of(self), key, type(value)) end
    drop(self._modules, key)
  elseif is_tensor(value) and value.is_parameter then
    self:register_parameter(key, value)
  else
    rawset(self, key, value)
  end
end

local function check_name(self, kind, name, own)
  if type(name) ~= 'string' or name == '' or name:find('.', 1, true) then
    fail("%s: %s: expected a name without dots, got %s", name_of(self), kind,
      type(name) == 'string' and ('%q'):format(name) or type(name))
  end
  if rawget(self, '_parameters') == nil then fail('%s: call Module.__init(self) before %s', name_of(self), kind) end
  if not own.known[name] and self[name] ~= nil then
    fail("%s: %s: the name '%s' is taken", name_of(self), kind, name)
  end
end

--- Registers a parameter: it gets a gradient and is listed by parameters(). nil reserves the name (an absent bias).
function Module:register_parameter(name, tensor)
  check_name(self, 'register_parameter', name, rawget(self, '_parameters') or {})
  check_parameter(self, name, tensor)
  if tensor then tensor:requires_grad_(true) end
  put(self._parameters, name, tensor)
end

--- Registers a tensor that is state but not trained. { persistent = false } keeps it out of state_dict.
function Module:register_buffer(name, tensor, opts)
  opts = options.parse('register_buffer', { persistent = true }, opts)
  check_name(self, 'register_buffer', name, rawget(self, '_buffers') or {})
  if tensor ~= nil and not is_tensor(tensor) then
    fail('register_buffer: %s: expected a tensor or nil, got %s', name, type(tensor))
  end
  put(self._buffers, name, tensor)
  if not opts.persistent then
    self._buffers.transient = self._buffers.transient or {}
    self._buffers.transient[name] = true
  end
end

--- Registers a child under a name; `self.name = module` does the same.
function Module:add_module(name, module)
  check_name(self, 'add_module', name, rawget(self, '_modules') or {})
  if not is_module(module) then fail('%s: add_module: %s: expected a module, got %s', name_of(self), name, type(module)) end
  put(self._modules, name, module)
end

-- ---- walking ---------------------------------------------------------------------------------------------------

-- Calls visit(name, child, how Lua reaches it) for each child, in order.
local function each_child(self, visit)
  for i = 1, #self do visit(tostring(i - 1), self[i], '[' .. i .. ']') end
  for _, name in ipairs(self._modules.names) do
    visit(name, self._modules.values[name], '.' .. name)
  end
end

local function check_prefix(self, method, prefix)
  if prefix ~= nil and type(prefix) ~= 'string' then
    fail('%s:%s: prefix: expected a string, got %s', name_of(self), method, native.show(prefix))
  end
  return prefix
end

local function walk(self, prefix, seen, visit)
  if seen[self] then return end
  seen[self] = true
  visit(prefix, self)
  each_child(self, function(name, child)
    walk(child, prefix == '' and name or prefix .. '.' .. name, seen, visit)
  end)
end

local function iterate(names, values)
  local i = 0
  return function()
    i = i + 1
    return names[i], values[i]
  end
end

-- Pairs of name and tensor of all modules below self; a tensor shared by two modules is listed once. op: a layer that has no
-- parameters yet is an error of that operation.
local function gather(self, field, prefix, op)
  local names, values, seen = {}, {}, {}
  local function visit(path, module)
    local list = module[field]
    if op then lazy.refuse(op, path, module) end
    for _, name in ipairs(list.names) do
      local value = list.values[name]
      if value ~= nil and not seen[value] then
        seen[value] = true
        names[#names + 1], values[#values + 1] = path == '' and name or path .. '.' .. name, value
      end
    end
  end
  walk(self, prefix or '', {}, visit)
  return names, values
end

--- All parameters, in order, each once: the array an optimiser takes. An error while a lazy layer has none yet.
function Module:parameters()
  native.check_self('parameters', self)
  local _, values = gather(self, '_parameters', nil, 'parameters')
  return values
end

--- for name, parameter in net:named_parameters() do ... end
function Module:named_parameters(prefix)
  native.check_self('named_parameters', self)
  return iterate(gather(self, '_parameters', check_prefix(self, 'named_parameters', prefix)))
end

--- All buffers (running statistics ...).
function Module:buffers()
  local _, values = gather(self, '_buffers')
  return values
end

--- for name, buffer in net:named_buffers() do ... end
function Module:named_buffers(prefix) return iterate(gather(self, '_buffers', check_prefix(self, 'named_buffers', prefix))) end

--- for name, module in net:named_modules() do ... end: the module itself first, under the empty name.
function Module:named_modules(prefix)
  local names, values = {}, {}
  walk(self, check_prefix(self, 'named_modules', prefix) or '', {}, function(path, module)
    names[#names + 1], values[#values + 1] = path, module
  end)
  return iterate(names, values)
end

--- The module and everything below it.
function Module:modules()
  local list = {}
  for _, module in self:named_modules() do list[#list + 1] = module end
  return list
end

--- for name, child in net:named_children() do ... end
function Module:named_children()
  local names, values = {}, {}
  each_child(self, function(name, child)
    names[#names + 1], values[#values + 1] = name, child
  end)
  return iterate(names, values)
end

--- The direct children.
function Module:children()
  local list = {}
  each_child(self, function(_, child) list[#list + 1] = child end)
  return list
end

--- Calls fn(module) for everything below the module and then for itself. Returns the module.
function Module:apply(fn)
  native.callable(name_of(self) .. ':apply', 'fn', fn)
  each_child(self, function(_, child) child:apply(fn) end)
  fn(self)
  return self
end

--- module:when_materialised(fn): calls fn(module) now; of a lazy layer, as soon as it has its parameters (for initialisation).
-- Returns the module.
function Module:when_materialised(fn)
  native.callable(name_of(self) .. ':when_materialised', 'fn', fn)
  lazy.after(self, fn)
  return self
end

--- The number of trained values.
function Module:num_parameters()
  local n = 0
  for _, p in ipairs(self:parameters()) do n = n + p:numel() end
  return n
end

--- net:describe(x, [mask]): shapes, masks, receptive fields, parameters, work and memory, layer by layer, for this input; a report to
-- print (inspect/describe.lua).
function Module:describe(x, mask, opts)
  local report = require('masked_torch.inspect').describe(self, x, mask, opts)
  return report
end

-- ---- modes -----------------------------------------------------------------------------------------------------

--- Training mode (default) or, with false, evaluation: batch norm uses its running statistics, dropout passes through.
function Module:train(flag)
  native.check_self('train', self)
  if flag == nil then flag = true end
  if type(flag) ~= 'boolean' then fail('train: flag: expected a boolean, got %s', type(flag)) end
  for _, module in self:named_modules() do rawset(module, 'training', flag) end
  return self
end

--- Evaluation mode.
function Module:eval()
  native.check_self('eval', self)
  return self:train(false)
end

--- Forgets all gradients.
function Module:zero_grad()
  native.check_self('zero_grad', self)
  for _, p in self:named_parameters() do p.grad = nil end
end

--- Freezes (false) or unfreezes all parameters.
function Module:requires_grad_(flag)
  for _, p in self:named_parameters() do p:requires_grad_(flag) end
  for _, module in self:named_modules() do lazy.freeze(module, flag) end
  return self
end

-- ---- dtype and device ------------------------------------------------------------------------------------------

-- Gives `t` other memory but leaves the Lua object, so that optimisers which hold it stay valid. The version counts on:
-- a graph that saved the old values must notice.
local function convert(t, dtype, device, strides_of)
  dtype = dtype and Tensor.floating[t.dtype] and dtype or t.dtype
  device = device or t.device
  local strides = strides_of and t:dim() > 2 and strides_of(t:size()) or nil
  if dtype == t.dtype and device == t.device and not strides then return end
  local new
  if device == t.device then
    new = strides and Tensor.empty('to', t:size(), dtype, device, strides) or Tensor.empty_like(t, dtype)
    native.check(t.K.mt_tensor_copy(new._c, t._c))
  else
    new = t:detach():to{ dtype = dtype, device = device }
  end
  new._c.storage.version = t._c.storage.version + 1
  t._c, t.K, t.dtype, t.device = new._c, new.K, new.dtype, new.device
  if t.grad then convert(t.grad, dtype, device, strides_of) end
end

local formats = { channels_last = Tensor.channels_last, contiguous = Tensor.row_major }

--- Moves all parameters and buffers, in place: net:to{dtype = 'float64'}, net:to{device = 'cuda'}, net:to('cuda').
-- Only floating point tensors change their type. net:to{memory_format = 'channels_last'} lays weights (O, C, *K) out with
-- neighbouring channels, 'contiguous' row by row: values and names stay. Large weights over small images, as in the deep levels
-- of a network that is only run, are read several times faster then (CPU). Returns the module.
function Module:to(opts)
  native.check_self('to', self)
  opts = options.parse('to', { dtype = options.none, device = options.none, memory_format = options.none }, Tensor.conversion(opts))
  Tensor.check_dtype('to', opts.dtype)
  if opts.dtype and not Tensor.real[opts.dtype] then
    fail("to: dtype: a module has 'float32' or 'float64' parameters, got '%s'", opts.dtype)
  end
  if opts.device then opts.device = Tensor.check_device('to', opts.device) end
  local strides_of
  if opts.memory_format ~= nil then
    strides_of = formats[options.choice('to', 'memory_format', opts.memory_format, { 'channels_last', 'contiguous' })]
  end
  for _, p in self:named_parameters() do convert(p, opts.dtype, opts.device, strides_of) end
  for _, b in ipairs(self:buffers()) do convert(b, opts.dtype, opts.device) end
  for _, module in self:named_modules() do lazy.to(module, opts.dtype, opts.device) end
  return self
end

function Module:double() return self:to{ dtype = 'float64' } end
function Module:float() return self:to{ dtype = 'float32' } end
function Module:cuda(device) return self:to{ device = device or 'cuda' } end
function Module:cpu() return self:to{ device = 'cpu' } end

require('masked_torch.nn.state')(Module, each_child)     -- state_dict, state_names, load_state_dict, clone

-- ---- calling ---------------------------------------------------------------------------------------------------

-- The modules being called, outermost first. One protected call, the outermost, is enough to name the failing module.
local running, depth = {}, 0

-- "Sequential[2].conv", "MaskedConv2d" for the modules in running[1..n]. An entry that is not a child of the one before
-- it (its parent was left by an error that somebody caught) is joined to the nearest one that is its parent.
local function failing_path(n)
  local module = running[n]
  local parts = {}
  local current, i = module, n - 1
  while i >= 1 do
    local step
    each_child(running[i], function(_, child, access)
      if child == current then step = step or access end
    end)
    if step then
      table.insert(parts, 1, step)
      current = running[i]
    end
    i = i - 1
  end
  if #parts == 0 then return nil end
  return name_of(current) .. table.concat(parts), name_of(module)
end

local function outermost(ok, ...)
  if ok then
    depth = 0
    return ...
  end
  local message = (...)
  local path, class_name
  if depth > 1 then path, class_name = failing_path(depth) end
  for i = 1, depth do running[i] = nil end
  depth = 0
  if path and type(message) == 'string' then
    local position, text = native.split_position(message)
    -- The layers begin their own messages with their name.
    local class_text = text:sub(1, #class_name) == class_name and '' or ' (' .. class_name .. ')'
    message = position .. path .. class_text .. ': ' .. text
  end
  error(message, 0)
end

local function leave(level, ...)
  running[level] = nil
  depth = level - 1
  return ...
end

local function pack(...) return { n = select('#', ...), ... } end

local function call_with_hooks(self, ...)
  local inputs = pack(...)
  for _, hook in ipairs(self._pre_hooks or {}) do
    inputs = hook(self, inputs) or inputs
  end
  local outputs = pack(self:forward(unpack(inputs, 1, inputs.n or #inputs)))
  for _, hook in ipairs(self._hooks or {}) do
    outputs = hook(self, inputs, outputs) or outputs
  end
  return unpack(outputs, 1, outputs.n or #outputs)
end

-- Called in place of forward while a network is exported (io/onnx/trace.lua).
local tracer

-- From now on module(...) calls fn(module, ...); nil ends that.
local function set_tracer(fn) tracer = fn end

-- May somebody look at this module's arguments or results?
local function is_watched(self)
  return tracer ~= nil or rawget(self, '_hooks') ~= nil or rawget(self, '_pre_hooks') ~= nil
end

local function call(self, ...)
  if tracer then return tracer(self, ...) end
  if rawget(self, '_hooks') or rawget(self, '_pre_hooks') then return call_with_hooks(self, ...) end
  return self:forward(...)
end

--- module(x, mask) -> y, mask: forward with its hooks. An error inside nested modules names the path to the failing one.
function Module:__call(...)
  local level = depth + 1
  depth = level
  running[level] = self
  if level == 1 then return outermost(native.protected(call, self, ...)) end
  return leave(level, call(self, ...))
end

--- module:forward(x, mask) -> y, mask: what the layer computes; every class defines it. Call the module, not this: hooks.
function Module:forward()
  fail('%s: forward is not defined', name_of(self))
end

local function add_hook(self, field, hook)
  native.callable('register_forward_hook', 'hook', hook)
  local list = rawget(self, field)
  if not list then
    list = {}
    rawset(self, field, list)
  end
  -- Wrapped, so that a function registered twice can be removed once.
  local entry = function(...) return hook(...) end
  list[#list + 1] = entry
  return function()
    for i = #list, 1, -1 do
      if list[i] == entry then table.remove(list, i) end
    end
    if #list == 0 and rawget(self, field) == list then rawset(self, field, nil) end
  end
end

--- hook(module, inputs, outputs) runs after forward, with tables of its arguments and results; a table it returns replaces
-- the results. Returns a function that removes the hook.
function Module:register_forward_hook(hook) return add_hook(self, '_hooks', hook) end

--- hook(module, inputs) runs before forward; a table it returns replaces the arguments. Returns a function that removes it.
function Module:register_forward_pre_hook(hook) return add_hook(self, '_pre_hooks', hook) end

-- ---- printing --------------------------------------------------------------------------------------------------

--- The text between the parentheses when the module is printed; classes override it.
function Module.extra_repr() return '' end

function Module:__tostring()
  local lines, extra = {}, self:extra_repr()
  for line in (extra == '' and '' or extra .. '\n'):gmatch('(.-)\n') do lines[#lines + 1] = line end
  local only_extra = #lines == 1
  each_child(self, function(name, child)
    lines[#lines + 1] = ('(%s): %s'):format(name, (tostring(child):gsub('\n', '\n  ')))
    only_extra = false
  end)
  if #lines == 0 or only_extra then return ('%s(%s)'):format(name_of(self), lines[1] or '') end
  return ('%s(\n  %s\n)'):format(name_of(self), table.concat(lines, '\n  '))
end

--- nn.Parameter(tensor): marks a tensor so that assigning it to a field of a module registers it.
local function Parameter(tensor)
  Tensor.check('Parameter', 'tensor', tensor)
  if tensor.grad_fn then tensor = tensor:detach() end
  tensor:requires_grad_(true)
  tensor.is_parameter = true
  return tensor
end

--- nn.Module.is_module(value)
Module.is_module = is_module

return { Module = Module, Parameter = Parameter, set_tracer = set_tracer, is_watched = is_watched }
