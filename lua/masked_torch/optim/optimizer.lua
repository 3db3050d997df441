--- optimizer: the base of all optimisers: groups of parameters, state, the walk of a step.
--
-- An optimiser is a class with
--   defaults         options and their defaults, lr among them (every group may set its own)
--   check_options(op, group)     fails for options outside their range; may replace tables by copies
--   state_names(group)           the names of the tensors kept for each parameter
--   restart          name of the state tensor whose first use is step 1 again (SGD's momentum_buffer), or nil
--   update(K, group, count, lists, step)     calls the kernel; lists.parameters, lists.gradients and lists[state name] are
--                    C arrays of `count` pointers, step a C array of doubles

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local list = require 'masked_torch.optim.list'
local first_non_finite = require('masked_torch.optim.clip').first_non_finite

local fail, check, is_tensor = native.fail, native.check, Tensor.is_tensor
local doubles = ffi.typeof('double[?]')
local out_a, out_b = ffi.new('int64_t[1]'), ffi.new('int64_t[1]')

local Optimizer = class('Optimizer')

local function name_of(self) return getmetatable(self).__name end

-- opt.lr is the learning rate of the only group.
local function only_group(self)
  local groups = rawget(self, 'param_groups')
  if #groups ~= 1 then
    fail('%s: lr: there are %d parameter groups; use opt.param_groups[i].lr', name_of(self), #groups)
  end
  return groups[1]
end

function Optimizer.__index(self, key)
  local value = getmetatable(self)[key]
  if value == nil and key == 'lr' then return only_group(self).lr end
  return value
end

function Optimizer.__newindex(self, key, value)
  if key == 'lr' then
    only_group(self).lr = list.number(name_of(self), 'lr', value, 0)
  else
    rawset(self, key, value)
  end
end

-- ---- groups ----------------------------------------------------------------------------------------------------

local function copied(value)
  if type(value) ~= 'table' or is_tensor(value) then return value end
  local copy = {}
  for key, v in pairs(value) do copy[key] = v end
  return copy
end

-- The options of a group: `given` over `common` over the class's defaults, each checked, tables copied.
local function group_options(self, op, common, given)
  local group = options.parse(op, self.defaults, common)
  for key, value in pairs(options.parse(op, self.defaults, given)) do
    if given and given[key] ~= nil then group[key] = value end
  end
  for key, value in pairs(group) do group[key] = copied(value) end
  self.check_options(op, group)
  return group
end

--- Optimizer(parameters, options): parameters is an array of tensors (net:parameters()), or {groups = {{params = array, lr = ...},
-- ...}} where a group's own options replace the common ones. Beside the options of its class every optimiser takes
-- on_nonfinite = 'error' (default: a gradient that holds NaN or infinity is an error, nothing is changed), 'skip' (the step is
-- left out) or 'ignore' (not looked for, as in PyTorch). The caller's tables are not kept.
function Optimizer:__init(parameters, opts)
  local op = name_of(self)
  if self.defaults == nil then fail('Optimizer: use one of its classes, such as torch.optim.SGD') end
  local common, policy = {}, 'error'
  -- Objects with a metatable are taken too: what was read from a JSON file has one.
  if opts ~= nil and (type(opts) ~= 'table' or is_tensor(opts)) then options.check_table(op, self.defaults, opts) end
  for key, value in pairs(opts or {}) do
    if key == 'on_nonfinite' then policy = value else common[key] = value end
  end
  rawset(self, 'on_nonfinite', options.choice(op, 'on_nonfinite', policy, { 'error', 'skip', 'ignore' }))
  rawset(self, 'options', group_options(self, op, common))
  rawset(self, 'param_groups', {})
  rawset(self, 'state', {})          -- by parameter number, counted through all groups
  rawset(self, 'parameters', {})     -- all parameters in that order
  local groups = type(parameters) == 'table' and not is_tensor(parameters) and parameters.groups
  if groups then
    for key in pairs(parameters) do
      if key ~= 'groups' then fail("%s: parameters: expected {groups = ...} alone, got the key '%s' beside it", op, tostring(key)) end
    end
    if type(groups) ~= 'table' or #groups == 0 then fail('%s: groups: expected an array of at least one group', op) end
    for _, group in ipairs(groups) do self:add_param_group(group) end
  else
    self:add_param_group{ params = parameters }
  end
end

local function check_distinct(op, all)
  check(all[1].K.mt_optim_shared(out_a, out_b, #all, list.pointers(all)), op)
  if out_a[0] > 0 then
    local a, b = tonumber(out_a[0]), tonumber(out_b[0])
    fail('%s: parameters %d %s and %d %s share memory; give each once', op, a, Tensor.shape_text(all[a]), b,
      Tensor.shape_text(all[b]))
  end
end

--- opt:add_param_group{params = array, lr = ...}: more parameters, with their own options.
function Optimizer:add_param_group(group)
  local op = name_of(self)
  if type(group) ~= 'table' or is_tensor(group) then fail('%s: group: expected {params = array, ...}, got %s', op, type(group)) end
  local own = {}
  for key, value in pairs(group) do
    if key ~= 'params' then own[key] = value end
  end
  local params = list.check(op, 'params', group.params)
  if #params == 0 then fail('%s: params: the array is empty', op) end
  local all, seen = {}, {}
  for i, p in ipairs(self.parameters) do all[i], seen[p] = p, true end
  for i, p in ipairs(params) do
    if p.grad_fn then
      fail('%s: params[%d]: expected a leaf, got the result of %s', op, i, p.grad_fn.op.name)
    end
    if seen[p] then fail('%s: params[%d] %s is given twice', op, i, Tensor.shape_text(p)) end
    if all[1] and p.device ~= all[1].device then fail('%s: params[%d] is on %s, the first one on %s', op, i, p.device, all[1].device) end
    seen[p] = true
    all[#all + 1] = p
  end
  local new = group_options(self, op, self.options, own)
  check_distinct(op, all)
  new.params = params
  self.param_groups[#self.param_groups + 1] = new
  rawset(self, 'parameters', all)
end

--- opt:zero_grad(): forgets the gradients of all parameters.
function Optimizer:zero_grad()
  native.check_self('zero_grad', self)
  for _, p in ipairs(self.parameters) do p.grad = nil end
end

-- ---- the step --------------------------------------------------------------------------------------------------

local function zeros_like(p)
  local t = Tensor.empty_like(p)
  check(t.K.mt_tensor_fill(t._c, 0))
  return t
end

-- The state of parameter number i, with all the tensors in names.
local function state_of(self, op, i, p, names)
  local state = self.state[i]
  if not state then
    state = { step = 0 }
    self.state[i] = state
  end
  for _, name in ipairs(names) do
    local t = state[name]
    if t == nil then
      state[name] = zeros_like(p)
      if name == self.restart then state.step = 0 end
    elseif t.dtype ~= p.dtype or t.device ~= p.device then
      fail('%s: parameter %d is %s on %s, its %s %s on %s: make the optimiser after net:to{...}', op, i, p.dtype, p.device, name,
        t.dtype, t.device)
    end
  end
  return state
end

-- What one kernel call needs: the parameters of a group that have a gradient, and their state.
local function gather(self, op, group, first)
  local batch = { parameters = {}, gradients = {}, states = {}, numbers = {} }
  self.check_options(op, group)
  for k, p in ipairs(group.params) do
    if not is_tensor(p) or p._c.dtype < 0 then Tensor.check(op, ('parameter %d'):format(first + k), p) end
    local g = list.gradient(op, first + k, p)
    if g then
      local n = #batch.parameters + 1
      batch.parameters[n], batch.gradients[n], batch.numbers[n] = p, g, first + k
    end
  end
  return batch
end

-- The kernel call of the batch's next step.
local function compute(self, group, batch, lists, step)
  for n, state in ipairs(batch.states) do step[n - 1] = state.step + 1 end
  self.update(batch.parameters[1].K, group, #batch.parameters, lists, step)
end

local function update(self, group, batch, lists, step)
  compute(self, group, batch, lists, step)
  for n, state in ipairs(batch.states) do
    state.step = state.step + 1
    Tensor.bump(batch.parameters[n])
  end
end

-- In a graph (torch.cuda.graph) nothing is updated yet: every launch counts a step and takes the numbers that this makes, and the learning
-- rate of that time.
local function capture(self, group, batch, lists, step)
  local op, graph = name_of(self), native.capture
  if batch.parameters[1].device ~= graph.device then
    fail('%s: the parameters are on %s, the graph that is being captured is one of %s', op, batch.parameters[1].device, graph.device)
  end
  local first = graph:slots()
  compute(self, group, batch, lists, step)
  graph:renew_with(first, function()
    self.check_options(op, group)
    for n, state in ipairs(batch.states) do
      if self.state[batch.numbers[n]] ~= state then
        fail('%s: the state is another one than when the step was captured (load_state_dict); capture it again', op)
      end
    end
    update(self, group, batch, lists, step)
  end)
end

local function run(self, group, batch)
  local count = #batch.parameters
  local lists = { parameters = list.pointers(batch.parameters), gradients = list.pointers(batch.gradients) }
  for _, name in ipairs(self.state_names(group)) do
    local tensors = {}
    for n = 1, count do tensors[n] = batch.states[n][name] end
    lists[name] = list.pointers(tensors)
  end
  local step = doubles(count)
  if native.capture then capture(self, group, batch, lists, step) else update(self, group, batch, lists, step) end
end

-- An error when a gradient is not finite. On a device nobody waits for the answer: updates there change nothing from such a gradient
-- on, and the error comes with a later step or the next value that is read.
local function guard(op, batch)
  local count = #batch.gradients
  if count == 0 then return end
  local numbers = doubles(count)
  for n = 1, count do numbers[n - 1] = batch.numbers[n] end
  check(batch.gradients[1].K.mt_optim_guard(out_a, count, list.pointers(batch.gradients), numbers))     -- or what kernels met before
  local bad = tonumber(out_a[0])
  if bad > 0 then
    fail("%s: the gradient of parameter %d %s holds NaN or infinity; nothing was changed (on_nonfinite = 'skip' leaves such steps " ..
      "out, 'ignore' does not look)", op, batch.numbers[bad], Tensor.shape_text(batch.parameters[bad]))
  end
end

-- True when the step may go on.
local function gradients_are_fine(self, op, batches)
  if self.on_nonfinite == 'ignore' then return true end
  if native.capture and self.on_nonfinite == 'skip' then
    fail("%s: on_nonfinite = 'skip' waits for the device, which a function inside torch.cuda.graph cannot do; 'error' and 'ignore' can", op)
  end
  for _, batch in ipairs(batches) do
    if self.on_nonfinite == 'skip' then
      if first_non_finite(batch.gradients) then return false end
    else
      guard(op, batch)
    end
  end
  return true
end

--- opt:step([closure]): one update of all parameters that have a gradient, in place. A closure computes the loss and calls
-- backward; it runs first. Returns the closure's result (nil without one) and whether the step was made (false: left out by
-- on_nonfinite = 'skip'). Everything is checked before the first parameter changes. On a device a gradient that is not finite is an error
-- of a later step or of the next value that is read, and no parameter has changed since; the host never waits.
function Optimizer:step(closure)
  native.check_self('step', self)
  local op = name_of(self)
  local loss
  if closure ~= nil then
    native.callable(op, 'closure', closure)
    loss = autograd.enable_grad(closure)
  end
  options.choice(op, 'on_nonfinite', self.on_nonfinite, { 'error', 'skip', 'ignore' })
  local batches, first = {}, 0
  for i, group in ipairs(self.param_groups) do
    batches[i] = gather(self, op, group, first)
    first = first + #group.params
  end
  if not gradients_are_fine(self, op, batches) then return loss, false end
  for i, group in ipairs(self.param_groups) do
    local names, batch = self.state_names(group), batches[i]
    for n, p in ipairs(batch.parameters) do batch.states[n] = state_of(self, op, batch.numbers[n], p, names) end
  end
  for i, group in ipairs(self.param_groups) do
    if #batches[i].parameters > 0 then run(self, group, batches[i]) end
  end
  return loss, true
end

-- ---- state -----------------------------------------------------------------------------------------------------

--- opt:state_dict() -> {optimizer = class name, state = {[parameter number] = {step =, tensors by name}}, param_groups = {{lr =, ...,
-- params = numbers}, ...}}, which torch.save can write. The tensors share memory with the optimiser: save them or clone them.
function Optimizer:state_dict()
  native.check_self('state_dict', self)
  local state, groups, number = {}, {}, 0
  for i, own in pairs(self.state) do
    state[i] = {}
    for name, value in pairs(own) do state[i][name] = is_tensor(value) and value:detach() or value end
  end
  for i, group in ipairs(self.param_groups) do
    groups[i] = {}
    for key, value in pairs(group) do groups[i][key] = copied(value) end
    groups[i].params = {}
    for k = 1, #group.params do
      number = number + 1
      groups[i].params[k] = number
    end
  end
  return { optimizer = name_of(self), state = state, param_groups = groups }
end

local function loaded_state(op, i, p, given)
  if type(given) ~= 'table' or is_tensor(given) then fail('%s: load_state_dict: state %d: expected a table, got %s', op, i, type(given)) end
  local state = { step = native.integer(op .. ': load_state_dict', ('step of parameter %d'):format(i), given.step, 0) }
  for name, value in pairs(given) do
    if name ~= 'step' then
      if not is_tensor(value) then
        fail('%s: load_state_dict: %s of parameter %d: expected a tensor, got %s', op, tostring(name), i, type(value))
      end
      if Tensor.shape_text(value) ~= Tensor.shape_text(p) then
        fail('%s: load_state_dict: %s of parameter %d: expected %s, got %s', op, tostring(name), i, Tensor.shape_text(p),
          Tensor.shape_text(value))
      end
      if value.device ~= p.device then value = value:detach():to{ device = p.device } end
      local t = Tensor.empty_like(p)
      check(t.K.mt_tensor_copy(t._c, value._c), op)
      state[name] = t
    end
  end
  return state
end

--- opt:load_state_dict(dict): takes over the state and the options of all groups, as state_dict gave them for an optimiser of the
-- same class with as many parameters in as many groups. The tensors are copied, types converted. On an error nothing has changed.
function Optimizer:load_state_dict(dict)
  native.check_self('load_state_dict', self)
  local op = name_of(self)
  if type(dict) ~= 'table' or type(dict.state) ~= 'table' or type(dict.param_groups) ~= 'table' then
    fail('%s: load_state_dict: expected what state_dict gives, got %s', op, type(dict))
  end
  if dict.optimizer ~= op then
    fail('%s: load_state_dict: the state is of %s', op, tostring(dict.optimizer))
  end
  if #dict.param_groups ~= #self.param_groups then
    fail('%s: load_state_dict: the state has %d parameter groups, the optimiser %d', op, #dict.param_groups, #self.param_groups)
  end
  local groups = {}
  for i, group in ipairs(self.param_groups) do
    local own, given = {}, dict.param_groups[i]
    if type(given) ~= 'table' or type(given.params) ~= 'table' or #given.params ~= #group.params then
      fail('%s: load_state_dict: group %d has %d parameters in the optimiser, %s in the state', op, i, #group.params,
        type(given) == 'table' and type(given.params) == 'table' and #given.params or 'none')
    end
    for key, value in pairs(given) do
      if key ~= 'params' then own[key] = value end
    end
    groups[i] = group_options(self, op .. ': load_state_dict', self.options, own)
    groups[i].params = group.params
  end
  local state = {}
  for i, given in pairs(dict.state) do
    if not self.parameters[i] then fail('%s: load_state_dict: there is no parameter %s', op, tostring(i)) end
    state[i] = loaded_state(op, i, self.parameters[i], given)
    for name in pairs(state[i]) do
      if name ~= 'step' and not self.known_state[name] then
        fail("%s: load_state_dict: state %d: unknown tensor '%s'", op, i, tostring(name))
      end
    end
  end
  -- The groups keep their identity: a schedule or a script may hold them.
  for i, group in ipairs(self.param_groups) do
    for key, value in pairs(groups[i]) do group[key] = value end
  end
  rawset(self, 'state', state)
end

local function text_of(value)
  if type(value) == 'table' then
    local parts = {}
    for i, v in ipairs(value) do parts[i] = text_of(v) end
    return '(' .. table.concat(parts, ', ') .. ')'
  end
  return type(value) == 'number' and ('%.14g'):format(value) or tostring(value)
end

function Optimizer:__tostring()
  local lines = { name_of(self) .. ' (' }
  for i, group in ipairs(self.param_groups) do
    local keys = {}
    for key in pairs(group) do
      if key ~= 'params' then keys[#keys + 1] = key end
    end
    table.sort(keys)
    lines[#lines + 1] = ('Parameter Group %d'):format(i - 1)
    for _, key in ipairs(keys) do lines[#lines + 1] = ('    %s: %s'):format(key, text_of(group[key])) end
  end
  lines[#lines + 1] = ')'
  return table.concat(lines, '\n')
end

--- Betas as optimisers take them: a copy of an array of `count` numbers from 0 to below 1.
function Optimizer.check_betas(op, betas, count)
  if type(betas) ~= 'table' or is_tensor(betas) or #betas ~= count then
    fail('%s: betas: expected %d numbers, got %s', op, count, type(betas) == 'table' and not is_tensor(betas) and #betas or type(betas))
  end
  for i = 1, count do list.number(op, ('betas[%d]'):format(i), betas[i], 0, 1) end
end

return { Optimizer = Optimizer }
