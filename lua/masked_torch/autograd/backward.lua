--- backward: walks the tape from a result to its leaves.
--
-- Nodes are served highest number first: whatever adds to a node's gradient was recorded after it, so the gradient is complete
-- when its turn comes, and no recursion is needed.
--
-- Memory: a node's saved tensors and the gradient it got are let go when it has run (retain_graph keeps the saved tensors). A
-- gradient made by a registered operation during this run, and held by nobody else, is freed at once or written to: summed into
-- in place, or turned into the next gradient (Node:gradient_like). Gradients that users' code has seen, in hooks and
-- torch.Function, are left alone. An operation may spend what it saved, unless ctx.retained says that this run keeps the graph.

local ffi = require 'ffi'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail, is_tensor, shape_text = native.check, native.fail, Tensor.is_tensor, Tensor.shape_text
local release = Tensor.methods.release
local tonumber = tonumber

local run_number, running = 0, 0

return function(autograd)
  local Node = autograd.Node

  local function sum(a, b)
    local y = Tensor.empty_like(a)
    check(a.K.mt_elementwise_add(y._c, a._c, b._c, 1))
    return y
  end

  -- May g's memory be written to? `uses`: how many places of this run hold g.
  local function is_ours(g, uses)
    return g.born == running and uses == 1 and g._c.storage.references == 1 and native.cpu.mt_tensor_is_dense(g._c) == 1
  end

  local function let_go(g, uses)
    local left = uses[g] - 1
    uses[g] = left > 0 and left or nil
    if left == 0 and g.born == running then release(g) end
  end

  -- a + b, in a's or b's memory where that is ours. Both lose one use, the result has one. a + b and b + a have the same bits.
  local function add(a, b, uses)
    if is_ours(b, uses[b]) and not is_ours(a, uses[a]) then a, b = b, a end
    local y = a
    if is_ours(a, uses[a]) then
      check(a.K.mt_elementwise_add(a._c, a._c, b._c, 1))
    else
      y = sum(a, b)
      uses[y] = 1
      let_go(a, uses)
    end
    let_go(b, uses)
    return y
  end

  local function same_kind(a, b)
    return a.dtype == b.dtype and a.device == b.device and Tensor.same_shape(a, b)
  end

  local function address(c) return tonumber(ffi.cast('intptr_t', c.storage)) end

  -- A leaf keeps its gradient: it must own dense memory that no other leaf's gradient shares.
  local function accumulate(leaf, g, uses, taken)
    local have = rawget(leaf, 'grad')
    if have then
      if not is_tensor(have) or not same_kind(have, g) then
        fail('backward: the .grad of a leaf was replaced by %s where %s %s is to be added',
          is_tensor(have) and shape_text(have) .. ' ' .. have.dtype or type(have), shape_text(g), g.dtype)
      end
      local c = have._c
      if c.storage.references == 1 and not have.grad_fn and native.cpu.mt_tensor_is_dense(c) == 1 then
        check(have.K.mt_elementwise_add(c, c, g._c, 1))
        Tensor.bump(have)
      else
        leaf.grad = sum(have, g)
      end
      let_go(g, uses)
      return
    end
    local c = g._c
    if is_ours(g, uses[g]) and c.numel * g:element_size() == c.storage.bytes then
      g.born = false
      leaf.grad = g
      return
    end
    local key = address(c)
    if taken[key] or native.cpu.mt_tensor_is_dense(c) == 0 or c.numel * g:element_size() ~= c.storage.bytes then
      local copy = Tensor.empty_like(g)
      check(g.K.mt_tensor_copy(copy._c, c))
      copy.born = false
      leaf.grad = copy
    else
      taken[key] = true
      leaf.grad = g:detach()
      leaf.grad.born = false
    end
    let_go(g, uses)
  end

  local function check_gradient(node, i, g)
    if not is_tensor(g) then
      fail('%s: backward: expected a tensor as gradient of argument %d, got %s', node.op.name, i, type(g))
    end
  end

  -- A hook sees the gradient and may return another one of the same shape.
  local function apply_hooks(hooks, g)
    for _, entry in ipairs(hooks) do
      g.born = false
      local other = entry.hook(g)
      if other ~= nil then
        if not is_tensor(other) or not same_kind(other, g) then
          fail('register_hook: the hook returned %s where a gradient %s %s was expected',
            is_tensor(other) and shape_text(other) .. ' ' .. other.dtype or type(other), shape_text(g), g.dtype)
        end
        g = other
        g.born = false
      end
    end
    return g
  end

  -- ---- the nodes still to be served: a heap, highest number on top -------------------------------------------------

  local function push(heap, node)
    local i = #heap + 1
    while i > 1 do
      local up = (i - i % 2) / 2
      if heap[up].seq >= node.seq then break end
      heap[i] = heap[up]
      i = up
    end
    heap[i] = node
  end

  local function pop(heap)
    local top, n = heap[1], #heap
    local last = heap[n]
    heap[n] = nil
    n = n - 1
    if n > 0 then
      local i = 1
      while true do
        local child = 2 * i
        if child > n then break end
        if child < n and heap[child + 1].seq > heap[child].seq then child = child + 1 end
        if heap[child].seq <= last.seq then break end
        heap[i] = heap[child]
        i = child
      end
      heap[i] = last
    end
    return top
  end

  -- ---- one run -----------------------------------------------------------------------------------------------------

  -- state: heap; pending[node] = the gradient of its only output, or a table of them by number; leaves, with their gradients by
  -- leaf; uses.
  -- Leaves are served when the whole graph is done: a hook sees the complete gradient once, and an error on the way leaves every
  -- .grad as it was.
  local function route(state, node, i, g)
    local edge = node[i]
    if edge == nil then return end
    check_gradient(node, i, g)
    local uses = state.uses
    if not node.op.registered then g.born = false end
    uses[g] = (uses[g] or 0) + 1
    if is_tensor(edge) then
      local leaves = state.leaves
      local before = leaves[edge]
      if before then
        leaves[edge] = add(before, g, uses)
      else
        leaves[#leaves + 1] = edge
        leaves[edge] = g
      end
      return
    end
    local fn, nr = edge, 1
    if getmetatable(edge) ~= Node then fn, nr = edge.fn, edge.nr end
    local pending = state.pending
    local slots = pending[fn]
    if slots == nil then
      push(state.heap, fn)
      if fn.outputs == 1 then
        pending[fn] = g
      else
        pending[fn] = { [nr] = g }
      end
    elseif fn.outputs == 1 then
      pending[fn] = add(slots, g, uses)
    else
      slots[nr] = slots[nr] and add(slots[nr], g, uses) or g
    end
  end

  local function hooked(node, nr, g, uses)
    local hooks = node.output_hooks and node.output_hooks[nr]
    if not hooks or not g then return g end
    local other = apply_hooks(hooks, g)
    uses[other] = uses[other] or 1
    return other
  end

  local function serve_node(state, node, retain)
    if node.freed then
      fail('backward: the graph was freed by an earlier backward (at %s); pass {retain_graph = true} to the first one',
        node.op.name)
    end
    local op, uses, slots = node.op, state.uses, state.pending[node]
    local arguments = node.arguments
    state.pending[node] = nil
    if retain then node.retained = true elseif node.retained then node.retained = nil end
    if node.outputs == 1 and arguments <= 4 then
      local g = hooked(node, 1, slots, uses)
      if not op.registered then g.born = false end
      node.may_overwrite = is_ours(g, uses[g])
      local g1, g2, g3, g4 = op.backward(node, g)
      node.may_overwrite = nil
      if g1 ~= nil then route(state, node, 1, g1) end
      if arguments >= 2 and g2 ~= nil then route(state, node, 2, g2) end
      if arguments >= 3 and g3 ~= nil then route(state, node, 3, g3) end
      if arguments >= 4 and g4 ~= nil then route(state, node, 4, g4) end
      let_go(g, uses)
    else
      if node.outputs == 1 then slots = { slots } end
      for nr = 1, node.outputs do
        slots[nr] = hooked(node, nr, slots[nr], uses)
        if slots[nr] and not op.registered then slots[nr].born = false end
      end
      local gradients = { op.backward(node, unpack(slots, 1, node.outputs)) }
      for i = 1, arguments do
        if gradients[i] ~= nil then route(state, node, i, gradients[i]) end
      end
      for nr = 1, node.outputs do
        if slots[nr] then let_go(slots[nr], uses) end
      end
    end
    if not retain then node.freed, node.kept = true, nil end
  end

  local function serve_leaves(state)
    local leaves, taken = state.leaves, state.taken
    for i = 1, #leaves do
      local leaf = leaves[i]
      local g = leaves[leaf]
      if leaf.hooks then
        g = apply_hooks(leaf.hooks, g)
        state.uses[g] = state.uses[g] or 1
      end
      accumulate(leaf, g, state.uses, taken)
    end
  end

  local function run(root, grad, retain)
    local state = { heap = {}, pending = {}, leaves = {}, uses = { [grad] = 1 }, taken = { [address(grad._c)] = true } }
    local fn = root.grad_fn
    if fn == nil then
      state.leaves[1], state.leaves[root] = root, grad
    else
      state.pending[fn] = fn.outputs == 1 and grad or { [root.output_nr] = grad }
      push(state.heap, fn)
      while state.heap[1] do serve_node(state, pop(state.heap), retain) end
    end
    serve_leaves(state)
  end

  -- Tensors made from here on belong to this run; a run inside a run (a hook) has a number of its own.
  local function numbered(root, grad, retain)
    local outer = running
    run_number = run_number + 1
    running = run_number
    Tensor.set_born(running)
    local ok, message = pcall(run, root, grad, retain)
    running = outer
    Tensor.set_born(outer)
    if not ok then error(message, 0) end
  end

  -- ---- public ------------------------------------------------------------------------------------------------------

  local methods = Tensor.methods
  local backward_options = { retain_graph = false }

  --- x:backward([gradient], {retain_graph = false}): adds d(x)/d(leaf) to the .grad of every leaf. The gradient may be left out
  -- for a single element (then 1). A .grad that exists is added to in place.
  function methods.backward(x, gradient, opts)
    Tensor.check('backward', 'input', x)
    if gradient ~= nil and not is_tensor(gradient) then
      gradient, opts = nil, gradient
    end
    local retain = opts ~= nil and options.parse('backward', backward_options, opts).retain_graph
    if not x.requires_grad then
      fail('backward: the tensor %s does not require a gradient: nothing it was computed from has requires_grad', shape_text(x))
    end
    autograd.check_view('backward', x)
    if gradient == nil then
      if x._c.numel ~= 1 then
        fail('backward: the tensor %s has more than one element; pass the gradient, or call :sum() first', shape_text(x))
      end
      gradient = Tensor.empty('backward', Tensor.shape_of(x), x.dtype, x.device)
      check(x.K.mt_tensor_fill(gradient._c, 1))
    else
      Tensor.check('backward', 'gradient', gradient)
      if gradient.dtype ~= x.dtype or not Tensor.same_shape(gradient, x) then
        fail('backward: gradient: expected %s %s, got %s %s', shape_text(x), x.dtype, shape_text(gradient), gradient.dtype)
      end
    end
    autograd.no_grad(numbered, x, gradient, retain)
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
    native.callable('register_hook', 'hook', hook)
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
        x.grad = x.grad and sum(x.grad, kept) or kept
      end)
      x.retains_grad = true
    end
    return x
  end
end
