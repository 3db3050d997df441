--- autograd: reverse-mode differentiation on a tape.
--
-- An operation is a table { name =, forward = function(ctx, ...), backward = function(ctx, ...) }.
--   forward  runs the kernels on its arguments (tensors, numbers, tables, nil) and returns tensors. It keeps what backward
--            needs with ctx:save(...) (tensors; their version is checked later) or as plain fields of ctx.
--   backward takes one gradient per output (nil where none arrived) and returns one gradient per *argument* of forward, in
--            order; nil for arguments without one. ctx.needs[i] tells whether argument i wants one. It must not change the
--            gradients it is given.
-- Calling the operation runs forward and, when a gradient is wanted, records a node: the ctx itself. Nodes are numbered as
-- they are made, so "highest number first" is a topological order and backward needs no recursion.

local Tensor = require 'masked_torch.tensor'
local native = require 'masked_torch.native'

local autograd = { registry = {} }
local fail = native.fail
local is_tensor = Tensor.is_tensor

local enabled = true
local sequence = 0

--- True while operations are recorded.
function autograd.is_grad_enabled() return enabled end

local function restore(previous, ok, ...)
  enabled = previous
  if not ok then error((...), 0) end
  return ...
end

--- torch.no_grad(fn, ...): fn(...) without recording; its results are returned, an error passes through.
function autograd.no_grad(fn, ...)
  native.callable('no_grad', 'fn', fn)
  local previous = enabled
  enabled = false
  return restore(previous, pcall(fn, ...))
end

--- torch.enable_grad(fn, ...): the opposite, inside no_grad.
function autograd.enable_grad(fn, ...)
  native.callable('enable_grad', 'fn', fn)
  local previous = enabled
  enabled = true
  return restore(previous, pcall(fn, ...))
end

--- torch.set_grad_enabled(flag)
function autograd.set_grad_enabled(flag)
  enabled = flag and true or false
end

-- ---- nodes ---------------------------------------------------------------------------------------------------

local Node = {}
Node.__index = Node

--- Keeps tensors for backward.
function Node:save(...)
  local tensors, versions = { ... }, {}
  local n = select('#', ...)
  for i = 1, n do
    if tensors[i] then versions[i] = Tensor.version(tensors[i]) end
  end
  self.kept, self.kept_versions, self.kept_count = tensors, versions, n
end

--- The tensors kept by save, in order.
function Node:saved()
  local tensors = self.kept
  if not tensors then
    fail('%s: backward: the graph was freed by an earlier backward; pass {retain_graph = true} to the first one', self.op.name)
  end
  for i = 1, self.kept_count do
    local t = tensors[i]
    if t then
      if t._c.dtype < 0 then
        fail('%s: backward: a tensor %s needs was released', self.op.name, self.op.name)
      elseif Tensor.version(t) ~= self.kept_versions[i] then
        fail('%s: backward: the tensor %s, saved by %s, was changed in place since (version %d, now %d); use the ' ..
          'operation without the trailing underscore, or a :clone()', self.op.name, Tensor.shape_text(t), self.op.name,
          self.kept_versions[i], Tensor.version(t))
      end
    end
  end
  return unpack(tensors, 1, self.kept_count)
end

--- Marks outputs that carry no gradient (indexes, masks).
function Node:mark_non_differentiable(...)
  self.non_differentiable = self.non_differentiable or {}
  for i = 1, select('#', ...) do self.non_differentiable[(select(i, ...))] = true end
end

function Node:__tostring() return '<' .. self.op.name .. '_backward>' end

-- A view remembers its base and the base's history at that time (autograd/op/view.lua). A recorded in-place change of the base
-- gives it a new history that the view's own does not contain.
local function check_view(op, x)
  local base = x.is_view_of
  if base and (base.grad_fn or false) ~= x.view_fn then
    fail('%s: the tensor %s is a view whose base was changed in place since (by %s); take the view again', op,
      Tensor.shape_text(x), base.grad_fn.op.name)
  end
end

--- To be called when an in-place change of x is recorded although x itself may not have required a gradient before.
function autograd.check_recorded(op, x)
  if x.is_view_of then
    fail('%s: the view %s cannot be changed in place by something that requires a gradient: the tensor it is a view of ' ..
      'would not know; change that tensor itself', op, Tensor.shape_text(x))
  end
end

local function record(node, ...)
  local outputs = 0
  for i = 1, select('#', ...) do
    local y = select(i, ...)
    if is_tensor(y) then
      outputs = outputs + 1
      if y.is_view_of then
        if node.views and node.views[y] then
          autograd.check_recorded(node.op.name, y)         -- an argument: changed in place
        elseif not y.is_view_of.requires_grad then
          y.is_view_of, y.view_fn = nil, nil               -- a view of something made inside forward
        end
      end
      if Tensor.floating[y.dtype] and not (node.non_differentiable and node.non_differentiable[y]) then
        y.requires_grad, y.grad_fn, y.output_nr = true, node, outputs
      end
    end
  end
  node.outputs, node.views = outputs, nil
  sequence = sequence + 1
  node.seq = sequence
  return ...
end

local Op = {}
Op.__index = Op
function Op:__tostring() return 'op ' .. self.name end

local function finish(node, wanted, ok, ...)
  enabled = node.was_enabled
  if not ok then error((...), 0) end
  if wanted then return record(node, ...) end
  return ...
end

function Op:__call(...)
  local n = select('#', ...)
  local node = setmetatable({ op = self, needs = {}, was_enabled = enabled, arguments = n }, Node)
  local wanted = false
  if enabled then
    for i = 1, n do
      local x = select(i, ...)
      if is_tensor(x) and x.is_view_of then
        check_view(self.name, x)
        node.views = node.views or {}
        node.views[x] = true
      end
      if is_tensor(x) and x.requires_grad then
        wanted = true
        node.needs[i] = true
        -- An in-place operation gives x a new grad_fn: remember the edge as it is now.
        node[i] = { fn = x.grad_fn, nr = x.output_nr, leaf = x.grad_fn == nil and x or nil }
      end
    end
  end
  node.wanted = wanted
  enabled = false
  return finish(node, wanted, pcall(self.forward, node, ...))
end

--- autograd.operation{name=, forward=, backward=}: a differentiable operation.
function autograd.operation(definition) return setmetatable(definition, Op) end

--- autograd.op{name=, forward=, backward=}: the same, entered in the registry that the gradient tests walk.
function autograd.op(definition)
  local op = autograd.operation(definition)
  autograd.registry[op.name] = op
  return op
end

--- To be called by an in-place operation on x before it writes: refuses what autograd could not undo.
function autograd.check_in_place(op, x, recording)
  if recording == nil then recording = enabled end
  if recording and x.requires_grad and x.grad_fn == nil then
    fail('%s: a leaf tensor that requires a gradient cannot be changed in place; wrap the change in torch.no_grad', op)
  end
  if recording then check_view(op, x) end
  if recording and x.is_view_of and x.is_view_of.requires_grad then
    fail('%s: the view of a tensor in the graph cannot be changed in place; use the operation without the underscore', op)
  end
end

-- ---- backward ------------------------------------------------------------------------------------------------

local function add(a, b)
  local sum = Tensor.empty_like(a)
  native.check(a.K.mt_elementwise_add(sum._c, a._c, b._c, 1))
  return sum
end

-- A leaf keeps its gradient: it must own dense memory that no other leaf's gradient shares.
local function accumulate(leaf, g, taken)
  if leaf.grad then
    if not is_tensor(leaf.grad) or leaf.grad.dtype ~= g.dtype or Tensor.shape_text(leaf.grad) ~= Tensor.shape_text(g) then
      fail('backward: the .grad of a leaf was replaced by %s where %s %s is to be added',
        is_tensor(leaf.grad) and Tensor.shape_text(leaf.grad) .. ' ' .. leaf.grad.dtype or type(leaf.grad),
        Tensor.shape_text(g), g.dtype)
    end
    leaf.grad = add(leaf.grad, g)
    return
  end
  local key = tostring(g._c.storage)
  if taken[key] or native.cpu.mt_tensor_is_dense(g._c) == 0 or g._c.numel * g:element_size() ~= g._c.storage.bytes then
    local copy = Tensor.empty_like(g)
    native.check(g.K.mt_tensor_copy(copy._c, g._c))
    g = copy
    key = tostring(g._c.storage)
  end
  taken[key] = true
  leaf.grad = g:detach()
end

local function collect(root)
  local seen, stack, nodes = { [root] = true }, { root }, {}
  while #stack > 0 do
    local node = stack[#stack]
    stack[#stack] = nil
    nodes[#nodes + 1] = node
    for i = 1, node.arguments do
      local edge = node[i]
      if edge and edge.fn and not seen[edge.fn] then
        seen[edge.fn] = true
        stack[#stack + 1] = edge.fn
      end
    end
  end
  table.sort(nodes, function(a, b) return a.seq > b.seq end)
  return nodes
end

local function check_gradient(node, i, g)
  if not is_tensor(g) then
    fail('%s: backward: expected a tensor as gradient of argument %d, got %s', node.op.name, i, type(g))
  end
end

-- A hook sees the gradient and may return another one of the same shape.
local function apply_hooks(hooks, g)
  for _, entry in ipairs(hooks) do
    local other = entry.hook(g)
    if other ~= nil then
      if not is_tensor(other) or other.dtype ~= g.dtype or Tensor.shape_text(other) ~= Tensor.shape_text(g) then
        fail('register_hook: the hook returned %s where a gradient %s %s was expected',
          is_tensor(other) and Tensor.shape_text(other) .. ' ' .. other.dtype or type(other), Tensor.shape_text(g), g.dtype)
      end
      g = other
    end
  end
  return g
end

-- Leaves are served when the whole graph is done: a hook sees the complete gradient once, and an error on the way leaves every
-- .grad as it was.
local function route(edge, g, pending, leaves)
  if edge.leaf then
    local leaf = edge.leaf
    if not leaves[leaf] then leaves[#leaves + 1] = leaf end
    leaves[leaf] = leaves[leaf] and add(leaves[leaf], g) or g
    return
  end
  local slots = pending[edge.fn]
  if not slots then
    slots = {}
    pending[edge.fn] = slots
  end
  slots[edge.nr] = slots[edge.nr] and add(slots[edge.nr], g) or g
end

local function serve(leaves, taken)
  for _, leaf in ipairs(leaves) do
    local g = leaves[leaf]
    if leaf.hooks then g = apply_hooks(leaf.hooks, g) end
    accumulate(leaf, g, taken)
  end
end

local function run(root, grad, retain)
  local pending, leaves, taken = {}, {}, { [tostring(grad._c.storage)] = true }
  if root.grad_fn == nil then
    leaves[1], leaves[root] = root, grad
    serve(leaves, taken)
    return
  end
  pending[root.grad_fn] = { [root.output_nr] = grad }
  for _, node in ipairs(collect(root.grad_fn)) do
    local slots = pending[node]
    pending[node] = nil
    if slots then
      if node.freed then
        fail('backward: the graph was freed by an earlier backward (at %s); pass {retain_graph = true} to the first one',
          node.op.name)
      end
      if node.output_hooks then
        for nr, hooks in pairs(node.output_hooks) do
          if slots[nr] then slots[nr] = apply_hooks(hooks, slots[nr]) end
        end
      end
      local gradients = { node.op.backward(node, unpack(slots, 1, node.outputs)) }
      for i = 1, node.arguments do
        local edge, g = node[i], gradients[i]
        if edge and g ~= nil then
          check_gradient(node, i, g)
          route(edge, g, pending, leaves)
        end
      end
      if not retain then node.freed, node.kept = true, nil end
    end
  end
  serve(leaves, taken)
end

local methods = Tensor.methods

--- x:backward([gradient], {retain_graph = false}): adds d(x)/d(leaf) to the .grad of every leaf. The gradient may be left out for
-- a single element (then 1).
function methods.backward(x, gradient, opts)
  Tensor.check('backward', 'input', x)
  if gradient ~= nil and not is_tensor(gradient) then
    gradient, opts = nil, gradient
  end
  opts = require('masked_torch.options').parse('backward', { retain_graph = false }, opts)
  if not x.requires_grad then
    fail('backward: the tensor %s does not require a gradient: nothing it was computed from has requires_grad',
      Tensor.shape_text(x))
  end
  check_view('backward', x)
  if gradient == nil then
    if x:numel() ~= 1 then
      fail('backward: the tensor %s has more than one element; pass the gradient, or call :sum() first', Tensor.shape_text(x))
    end
    gradient = Tensor.empty('backward', x:size(), x.dtype, x.device)
    native.check(x.K.mt_tensor_fill(gradient._c, 1))
  elseif gradient.dtype ~= x.dtype or Tensor.shape_text(gradient) ~= Tensor.shape_text(x) then
    fail('backward: gradient: expected %s %s, got %s %s', Tensor.shape_text(x), x.dtype, Tensor.shape_text(gradient),
      gradient.dtype)
  end
  autograd.no_grad(run, x, gradient, opts.retain_graph)
end

--- x:requires_grad_([flag]): marks a leaf. Returns x.
function methods.requires_grad_(x, flag)
  Tensor.check('requires_grad_', 'input', x)
  if flag == nil then flag = true end
  if flag and not Tensor.floating[x.dtype] then
    fail('requires_grad_: only float32 and float64 tensors have gradients, this one is %s', x.dtype)
  end
  if not flag and x.grad_fn then
    fail('requires_grad_: the tensor is the result of %s; use :detach()', x.grad_fn.op.name)
  end
  x.requires_grad = flag
  return x
end

--- x:register_hook(fn): fn(gradient) runs when x's gradient is computed and may return another. Returns a function that
-- removes it.
function methods.register_hook(x, hook)
  Tensor.check('register_hook', 'input', x)
  if not x.requires_grad then fail('register_hook: the tensor does not require a gradient') end
  if type(hook) ~= 'function' then fail('register_hook: hook: expected a function, got %s', type(hook)) end
  local list
  if x.grad_fn then
    x.grad_fn.output_hooks = x.grad_fn.output_hooks or {}
    list = x.grad_fn.output_hooks[x.output_nr] or {}
    x.grad_fn.output_hooks[x.output_nr] = list
  else
    list = x.hooks or {}
    x.hooks = list
  end
  local entry = { hook = hook }
  list[#list + 1] = entry
  return function()
    for i = #list, 1, -1 do
      if list[i] == entry then table.remove(list, i) end
    end
  end
end

--- x:retain_grad(): a result of an operation keeps its gradient too. Returns x.
function methods.retain_grad(x)
  Tensor.check('retain_grad', 'input', x)
  if x.grad_fn and not x.retains_grad then
    methods.register_hook(x, function(g)
      local kept = Tensor.empty_like(g)   -- its own memory: g may become the gradient of others
      native.check(g.K.mt_tensor_copy(kept._c, g._c))
      x.grad = x.grad and add(x.grad, kept) or kept
    end)
    x.retains_grad = true
  end
  return x
end

return autograd
