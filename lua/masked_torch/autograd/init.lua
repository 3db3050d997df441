--- autograd: reverse-mode differentiation on a tape.
--
-- An operation is a table { name =, forward = function(ctx, ...), backward = function(ctx, ...) }.
--   forward  runs the kernels on its arguments (tensors, numbers, tables, nil) and returns tensors. It keeps what backward
--            needs with ctx:save(...) (tensors; their version is checked later) or as plain fields of ctx.
--   backward takes one gradient per output (nil where none arrived) and returns one gradient per *argument* of forward, in
--            order; nil for arguments without one. ctx.needs[i] tells whether argument i wants one. It must not change the
--            gradients it is given.
-- Calling the operation runs forward and, when a gradient is wanted, records a node: the ctx itself. Nodes are numbered as
-- they are made, so "highest number first" is a topological order (autograd/backward.lua).

local Tensor = require 'masked_torch.tensor'
local native = require 'masked_torch.native'

local autograd = { registry = {} }
local fail = native.fail
local bfloat16 = require 'masked_torch.autograd.bfloat16'
local is_tensor, version, floating = Tensor.is_tensor, Tensor.version, Tensor.floating
local narrow, is_narrow = Tensor.narrow, bfloat16.is_narrow
local NONE = {}

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
  return restore(previous, native.protected(fn, ...))
end

--- torch.enable_grad(fn, ...): the opposite, inside no_grad.
function autograd.enable_grad(fn, ...)
  native.callable('enable_grad', 'fn', fn)
  local previous = enabled
  enabled = true
  return restore(previous, native.protected(fn, ...))
end

--- torch.set_grad_enabled(flag)
function autograd.set_grad_enabled(flag)
  enabled = flag and true or false
end

-- ---- nodes ---------------------------------------------------------------------------------------------------

local Node = {}
Node.__index = Node

--- Keeps tensors for backward, at most eight; without a gradient to compute it keeps nothing.
function Node:save(a, b, c, d, e, f, g, h)
  if not self.wanted then return end
  -- Tensor and version, in turns.
  local kept = { a, a and version(a), b, b and version(b), c, c and version(c), d, d and version(d) }
  if e ~= nil or f ~= nil or g ~= nil or h ~= nil then
    kept[9], kept[10], kept[11], kept[12] = e, e and version(e), f, f and version(f)
    kept[13], kept[14], kept[15], kept[16] = g, g and version(g), h, h and version(h)
  end
  self.kept = kept
end

local function kept_tensor(node, kept, i)
  local t = kept[i]
  if t then
    if t._c.dtype < 0 then
      fail('%s: backward: a tensor %s needs was released', node.op.name, node.op.name)
    elseif version(t) ~= kept[i + 1] then
      fail('%s: backward: the tensor %s, saved by %s, was changed in place since (version %d, now %d); use the ' ..
        'operation without the trailing underscore, or a :clone()', node.op.name, Tensor.shape_text(t), node.op.name,
        kept[i + 1], version(t))
    end
  end
  return t
end

--- The tensors kept by save, in order.
function Node:saved()
  local kept = self.kept
  if not kept then
    fail('%s: backward: the graph was freed by an earlier backward; pass {retain_graph = true} to the first one', self.op.name)
  end
  local a, b = kept_tensor(self, kept, 1), kept_tensor(self, kept, 3)
  local c, d = kept_tensor(self, kept, 5), kept_tensor(self, kept, 7)
  if c == nil and d == nil then return a, b end
  return a, b, c, d, kept_tensor(self, kept, 9), kept_tensor(self, kept, 11), kept_tensor(self, kept, 13),
    kept_tensor(self, kept, 15)
end

--- Fails where saved returns would: for backward itself (autograd/bfloat16.lua).
function Node:check_saved()
  for i = 1, 15, 2 do kept_tensor(self, self.kept, i) end
end

--- For backward: memory for a gradient of x's shape and format. It is dy itself where nobody else needs dy any more and the
-- kernel may work in place (each element of the result depends on the same element of dy alone).
function Node:gradient_like(dy, x)
  if self.may_overwrite and Tensor.same_layout(dy, x) then return dy end
  return (Tensor.empty_like(x))
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

local function record_output(node, y, number)
  if y.is_view_of then
    if node.views and node.views[y] then
      autograd.check_recorded(node.op.name, y)         -- an argument: changed in place
    elseif not y.is_view_of.requires_grad then
      y.is_view_of, y.view_fn = nil, nil               -- a view of something made inside forward
    end
  end
  if floating[y.dtype] and not (node.non_differentiable and node.non_differentiable[y]) then
    y.requires_grad, y.grad_fn, y.output_nr = true, node, number
  end
end

local function record(node, ...)
  local outputs = 0
  for i = 1, select('#', ...) do
    local y = select(i, ...)
    if is_tensor(y) then
      outputs = outputs + 1
      record_output(node, y, outputs)
    end
  end
  node.outputs, node.views = outputs, nil
  sequence = sequence + 1
  node.seq = sequence
  return ...
end

-- Which arguments want a gradient, by their bits: ctx.needs, the same table for every call alike.
local needs_of = {}

local function needs(bits)
  local list = needs_of[bits]
  if not list then
    list = {}
    local rest, i = bits, 1
    while rest > 0 do
      if rest % 2 == 1 then list[i] = true end
      rest, i = math.floor(rest / 2), i + 1
    end
    needs_of[bits] = list
  end
  return list
end

-- Where the gradient of argument i goes: a leaf, a node (its only or first output), or {fn =, nr =}. Remembered as it is now: an
-- in-place operation gives x a new grad_fn.
local function examine(node, i, x)
  if x.is_view_of then
    check_view(node.op.name, x)
    node.views = node.views or {}
    node.views[x] = true
  end
  if not x.requires_grad then return 0 end
  local fn = x.grad_fn
  if fn == nil then
    node[i] = x
  elseif x.output_nr == 1 then
    node[i] = fn
  else
    node[i] = { fn = fn, nr = x.output_nr }
  end
  return 2 ^ (i - 1)
end

local function finish(node, previous, ok, ...)
  enabled = previous
  if not ok then error((...), 0) end
  if node.wanted then return record(node, ...) end
  return ...
end

-- The same for up to four results, without the cost of a variable number.
local function finish_few(node, previous, ok, y, y2, y3, y4)
  enabled = previous
  if not ok then error(y, 0) end
  if not node.wanted then
    if y2 == nil and y3 == nil and y4 == nil then return y end
    return y, y2, y3, y4
  elseif y2 == nil and y3 == nil and y4 == nil and is_tensor(y) then
    record_output(node, y, 1)
    node.outputs, node.views = 1, nil
    sequence = sequence + 1
    node.seq = sequence
    return y
  end
  return record(node, y, y2, y3, y4)
end

-- Any number of arguments and results.
local Op = {}
Op.__index = Op
function Op:__tostring() return 'op ' .. self.name end

function Op:__call(...)
  local n, bits = select('#', ...), 0
  if narrow.exists and self.bfloat16 ~= 'itself' then
    for i = self.bfloat16 == 'first' and 2 or 1, n do
      if is_narrow((select(i, ...))) then return bfloat16.wide(self)(...) end
    end
  end
  local node = setmetatable({ op = self, arguments = n, wanted = false, kept = nil, outputs = 0, seq = 0 }, Node)
  if enabled then
    for i = 1, n do
      local x = select(i, ...)
      if is_tensor(x) then bits = bits + examine(node, i, x) end
    end
  end
  node.wanted, node.needs = bits ~= 0, needs(bits)
  local previous = enabled
  enabled = false
  return finish(node, previous, pcall(self.forward, node, ...))
end

-- Up to eight arguments and four results: what nearly every operation has. Compiled code and the interpreter both pay for
-- variable numbers of arguments.
local FixedOp = {}
FixedOp.__index = FixedOp
FixedOp.__tostring = Op.__tostring

function FixedOp:__call(a, b, c, d, e, f, g, h)
  if narrow.exists and self.bfloat16 ~= 'itself' and (self.bfloat16 ~= 'first' and is_narrow(a) or is_narrow(b) or is_narrow(c) or
      is_narrow(d) or is_narrow(e) or is_narrow(f) or is_narrow(g) or is_narrow(h)) then
    return bfloat16.wide(self)(a, b, c, d, e, f, g, h)
  end
  local node = setmetatable({ op = self, arguments = self.parameters, wanted = false, kept = nil, outputs = 0, seq = 0,
    needs = NONE }, Node)
  local previous = enabled
  if not previous then
    return self.forward(node, a, b, c, d, e, f, g, h)
  end
  local bits = is_tensor(a) and examine(node, 1, a) or 0
  if is_tensor(b) then bits = bits + examine(node, 2, b) end
  if is_tensor(c) then bits = bits + examine(node, 3, c) end
  if is_tensor(d) then bits = bits + examine(node, 4, d) end
  if is_tensor(e) then bits = bits + examine(node, 5, e) end
  if is_tensor(f) then bits = bits + examine(node, 6, f) end
  if is_tensor(g) then bits = bits + examine(node, 7, g) end
  if is_tensor(h) then bits = bits + examine(node, 8, h) end
  if bits ~= 0 then
    node.wanted, node.needs = true, needs(bits)
  end
  enabled = false
  return finish_few(node, previous, pcall(self.forward, node, a, b, c, d, e, f, g, h))
end

--- autograd.operation{name=, forward=, backward=, bfloat16=}: a differentiable operation; bfloat16: see autograd/bfloat16.lua.
function autograd.operation(definition)
  local about = debug.getinfo(definition.forward, 'u')
  definition.parameters = about.nparams - 1
  return setmetatable(definition, (about.isvararg or definition.parameters > 8) and Op or FixedOp)
end

--- autograd.op{name=, forward=, backward=}: the same, entered in the registry that the gradient tests walk. Its backward keeps
-- no reference to the gradients it gets or gives, so their memory is freed or used again as backward goes. It returns at most
-- four results.
function autograd.op(definition)
  local op = autograd.operation(definition)
  op.registered = true
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

autograd.Node, autograd.check_view = Node, check_view
require('masked_torch.autograd.backward')(autograd)

return autograd
