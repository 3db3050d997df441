--- state: the tensors of a module by name, in and out, and copies of modules. Methods of nn.Module.

local lazy = require 'masked_torch.nn.lazy'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail, is_tensor = native.fail, Tensor.is_tensor

local function name_of(self) return getmetatable(self).__name end

local function persistent(list, name) return not (list.transient and list.transient[name]) end

-- Copies of what a module holds. Objects other than modules and tensors (generators, masks) are shared.
local function copy(value, done)
  if type(value) ~= 'table' then return value end
  if done[value] then return done[value] end
  local result
  if is_tensor(value) then
    result = value:detach():clone()
    done[value] = result
    if value.requires_grad then result:requires_grad_(true) end
    result.is_parameter = value.is_parameter
    return result
  end
  local meta = getmetatable(value)
  if meta ~= nil and not rawget(meta, '__module') then return value end
  local later = meta and rawget(value, '_lazy')
  if later and #later.actions > 0 then
    fail('clone: a function waits for the parameters of a %s, and it may be about the original; call the network once before',
      meta.__name)
  end
  result = {}
  done[value] = result
  for key, entry in next, value do rawset(result, copy(key, done), copy(entry, done)) end
  return setmetatable(result, meta)
end

return function(Module, each_child)
  -- Names in PyTorch's order: module by module, parameters before buffers. op: a layer that has no parameters yet is an error of
  -- that operation.
  local function state_of(self, op)
    local names, values = {}, {}
    local function visit(path, module)
      if op then lazy.refuse(op, path, module) end
      for _, list in ipairs{ module._parameters, module._buffers } do
        for _, name in ipairs(list.names) do
          local value = list.values[name]
          if value ~= nil and persistent(list, name) then
            names[#names + 1], values[#values + 1] = path == '' and name or path .. '.' .. name, value
          end
        end
      end
    end
    -- A module used twice appears under both names.
    local function all(module, path)
      visit(path, module)
      each_child(module, function(name, child) all(child, path == '' and name or path .. '.' .. name) end)
    end
    all(self, '')
    return names, values
  end

  --- All parameters and persistent buffers by name ("0.weight", as PyTorch names them). The tensors share memory with the
  -- module: clone them to keep a snapshot. An error while a lazy layer has none yet.
  function Module:state_dict()
    native.check_self('state_dict', self)
    local state = {}
    local names, values = state_of(self, 'state_dict')
    for i, name in ipairs(names) do state[name] = values[i]:detach() end
    return state
  end

  --- The names of state_dict in order: module by module, parameters before buffers.
  function Module:state_names()
    return (state_of(self, 'state_names'))
  end

  local function sorted_unexpected(state, own)
    local list = {}
    for name in pairs(state) do
      if not own[name] then list[#list + 1] = tostring(name) end
    end
    table.sort(list)
    return list
  end

  --- Copies the tensors of `state` (a table by name, e.g. from torch.io.safetensors.load) into the module; types are converted.
  -- A missing or unexpected name is an error unless { strict = false }; a wrong shape always is. An error lists everything
  -- that is wrong and nothing has been changed. Returns { missing = names, unexpected = names }.
  function Module:load_state_dict(state, opts)
    native.check_self('load_state_dict', self)
    opts = options.parse('load_state_dict', { strict = true }, opts)
    if type(state) ~= 'table' or is_tensor(state) then
      fail('load_state_dict: state: expected a table of tensors by name, got %s', type(state))
    end
    -- Lazy modules take their sizes from the file.
    for path, module in self:named_modules() do
      if module.before_load then module:before_load(state, path == '' and '' or path .. '.') end
    end
    local names, values = state_of(self)
    local own, missing, wrong = {}, {}, {}
    for path, module in self:named_modules() do
      for _, name in ipairs(lazy.pending(module) or {}) do missing[#missing + 1] = path == '' and name or path .. '.' .. name end
    end
    for i, name in ipairs(names) do
      own[name] = true
      local value = state[name]
      if value == nil then
        missing[#missing + 1] = name
      elseif not is_tensor(value) then
        wrong[#wrong + 1] = ('%s: expected a tensor, got %s'):format(name, type(value))
      elseif Tensor.shape_text(value) ~= Tensor.shape_text(values[i]) then
        wrong[#wrong + 1] = ('%s: the file has %s, the module %s'):format(name, Tensor.shape_text(value),
          Tensor.shape_text(values[i]))
      end
    end
    local unexpected = sorted_unexpected(state, own)
    if #wrong > 0 or opts.strict and (#missing > 0 or #unexpected > 0) then
      local lines = {}
      local function list(title, entries)
        if #entries > 0 then lines[#lines + 1] = ('\n  %s: %s'):format(title, table.concat(entries, ', ')) end
      end
      if opts.strict then
        list('missing', missing)
        list('unexpected', unexpected)
      end
      if #wrong > 0 then lines[#lines + 1] = '\n  wrong shape: ' .. table.concat(wrong, '\n               ') end
      fail('load_state_dict: the state does not fit %s:%s', name_of(self), table.concat(lines))
    end
    for i, name in ipairs(names) do
      local source, target = state[name], values[i]
      if source then
        if source.device ~= target.device then source = source:detach():to{ device = target.device } end
        native.check(target.K.mt_tensor_copy(target._c, source._c))
        Tensor.bump(target)
      end
    end
    return { missing = missing, unexpected = unexpected }
  end

  --- module:clone(): a copy with tensors of its own. What the module shares with itself (tied weights) the copy shares with itself;
  -- gradients are not copied, generators are shared. A lazy layer's copy is lazy too,
  -- but one that functions wait for (when_materialised) is an error.
  function Module:clone()
    return copy(self, {})
  end
end
