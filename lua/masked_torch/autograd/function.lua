--- function: torch.Function, differentiable functions written by users.
--
-- forward gets the arguments as they are (tensors, numbers, tables, nil) and returns one or more tensors, new ones or views it
-- made; nothing inside it is recorded. backward gets one gradient per output (nil where none arrived) and returns one per
-- argument of forward, nil for those without; fewer or more are an error. ctx:save(...) keeps tensors for ctx:saved(), which
-- fails when one was changed in place since; other values are kept as fields of ctx. ctx.needs[i] tells whether argument i
-- wants a gradient; ctx:mark_non_differentiable(y, ...) marks outputs that have none.
--
-- @usage
-- local Cube = torch.Function{
--   name = 'cube',
--   forward = function(ctx, x)
--     ctx:save(x)
--     return x * x * x
--   end,
--   backward = function(ctx, dy)
--     local x = ctx:saved()
--     return dy * 3 * x * x
--   end,
-- }
-- local x = torch.tensor({ 2 }):requires_grad_()
-- local y = Cube(x)
-- print(y.grad_fn)      --> <cube_backward>
-- y:sum():backward()
-- print(x.grad[1])      --> 12

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail, is_tensor, shape_text = native.fail, Tensor.is_tensor, Tensor.shape_text

-- An argument that comes back as it went in, or a view of one, would lose its own history: give out a copy.
local function check_outputs(name, arguments, n, ...)
  local outputs, count, tensors = { ... }, select('#', ...), 0
  for i = 1, count do
    local y = outputs[i]
    if is_tensor(y) then
      tensors = tensors + 1
      Tensor.check(name, 'output ' .. i, y)
      local shared = false
      for k = 1, n do shared = shared or is_tensor(arguments[k]) and arguments[k]._c.storage == y._c.storage end
      if shared then outputs[i] = y:clone() end
    elseif Tensor.is_tensor(y) then     -- a stand-in, while a network is exported (io/onnx/trace.lua)
      tensors = tensors + 1
    end
  end
  if tensors == 0 then
    fail('%s: forward: expected it to return a tensor, got %s', name, count == 0 and 'nothing' or type((...)))
  end
  return unpack(outputs, 1, count)
end

local function check_gradients(name, ctx, ...)
  local count, expected = select('#', ...), ctx.arguments
  local gradients, extra = { ... }, count > expected
  for i = count + 1, expected do extra = extra or ctx.needs[i] end
  if extra then
    fail('%s: backward: expected %d gradient%s, one for each argument of forward, got %d', name, expected,
      expected == 1 and '' or 's', count)
  end
  for i = 1, count do
    local g, like = gradients[i], ctx.inputs[i]
    if g ~= nil and not is_tensor(g) then
      fail('%s: backward: gradient %d: expected a tensor or nil, got %s', name, i, type(g))
    end
    if g ~= nil and like then
      Tensor.check(name, 'gradient ' .. i, g)
      if shape_text(g) ~= like.shape or g.dtype ~= like.dtype then
        fail('%s: backward: gradient %d: expected %s %s, got %s %s', name, i, like.shape, like.dtype, shape_text(g), g.dtype)
      end
      -- A leaf may keep the gradient as its .grad: it must not be the memory of a tensor that lives on.
      for k = 1, ctx.kept and 16 or 0, 2 do   -- each is followed by its version
        local kept = ctx.kept[k]
        if kept and kept._c.storage == g._c.storage then gradients[i] = g:clone() end
      end
    end
  end
  return unpack(gradients, 1, count)
end

-- Errors of the user's code keep their own position; the name of the function is put in front.
local function guard(name, part, ok, ...)
  if ok then return ... end
  local message = ...
  if type(message) == 'string' and not message:find(name .. ': ', 1, true) then
    message = ('%s (in %s of %s)'):format(message, part, name)
  end
  error(message, 0)
end

--- torch.Function{name = 'function', forward = function(ctx, ...), backward = function(ctx, ...)} -> a function of the same
-- arguments as forward without ctx.
return function(definition)
  local given = options.parse('Function', { name = 'function', forward = options.none, backward = options.none }, definition)
  local name = given.name
  for _, part in ipairs { 'forward', 'backward' } do native.callable('Function', part, given[part]) end
  local op = autograd.operation{
    name = name,
    bfloat16 = 'itself',     -- the user sees what was given
    forward = function(ctx, ...)
      local arguments, n = { ... }, select('#', ...)
      ctx.inputs = {}
      for i = 1, n do
        local x = arguments[i]
        if ctx.needs[i] then ctx.inputs[i] = { shape = shape_text(x), dtype = x.dtype } end
      end
      return check_outputs(name, arguments, n, guard(name, 'forward', pcall(given.forward, ctx, ...)))
    end,
    backward = function(ctx, ...)
      return check_gradients(name, ctx, guard(name, 'backward', pcall(given.backward, ctx, ...)))
    end,
  }
  return function(...) return op(...) end
end
