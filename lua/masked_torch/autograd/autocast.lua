--- autocast: products in bfloat16 around float32 weights.
--
-- Inside torch.autocast(device, fn), linear, convolution and matmul take their float32 operands as bfloat16 and give bfloat16; what
-- follows keeps that type where it works element by element (activations, norms, pooling, arithmetic between bfloat16 tensors), and
-- gives float32 where it sums: reductions, softmax, losses. What is kept for backward is kept in bfloat16, half the memory. The
-- parameters stay float32, get float32 gradients, and optimisers and checkpoints know nothing of it. bfloat16 has float32's range: no
-- loss scaling.
--
-- The copy of a weight is made once: it is kept for the outermost call of torch.autocast, and made anew when the weight changed in place.
--
-- @usage
-- local net = torch.nn.Linear(4, 2)
-- local loss = torch.autocast('cpu', function()
--   local y = net(torch.randn(3, 4))
--   print(y.dtype)      --> bfloat16
--   return torch.nn.functional.mse_loss(y, torch.zeros(3, 2))
-- end)
-- loss:backward()
-- print(loss.dtype, net.weight.grad.dtype)      --> float32	float32

local autograd = require 'masked_torch.autograd'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local narrow = Tensor.narrow       -- .autocast: nil, or { cpu = true, cuda = true }
local autocast = {}

local depth, cache = 0, {}

local function kind_of(op, device)
  local kind = type(device) == 'string' and device:match('^[^:]*')
  if kind ~= 'cpu' and kind ~= 'cuda' then fail("%s: device: expected 'cpu' or 'cuda', got %s", op, native.show(device)) end
  return kind
end

local function is_on(x)
  return narrow.autocast and narrow.autocast[x.device == 'cpu' and 'cpu' or 'cuda']
end

-- A weight's copy, from the cache where it is a leaf that still has the same values and, where one is wanted, a history. A graph that is
-- being captured (torch.cuda.graph) makes its own, at every launch.
local function lowered(x)
  if x.dtype ~= 'float32' then return x end
  if not (cache.enabled and x.requires_grad and x.grad_fn == nil) then return (x:to('bfloat16')) end
  local entry = cache[x]
  if not entry or entry.version ~= Tensor.version(x) or entry.handle ~= x._c or entry.capture ~= native.capture or
      autograd.is_grad_enabled() and not entry.copy.requires_grad then
    entry = { copy = x:to('bfloat16'), version = Tensor.version(x), handle = x._c, capture = native.capture }
    cache[x] = entry
  end
  return entry.copy
end

--- autocast.operands(a, b): what a product multiplies: both as bfloat16 where autocast is on for a's device and both are float32 or
-- bfloat16, else as they are.
function autocast.operands(a, b)
  if narrow.autocast and is_on(a) and Tensor.compatible(a, b) then return lowered(a), lowered(b) end
  return a, b
end

local defaults = { dtype = 'bfloat16', enabled = true, cache_enabled = true }

local function left(before, cache_enabled, ok, ...)
  narrow.autocast, cache.enabled = before, cache_enabled
  depth = depth - 1
  if depth == 0 then cache = {} end
  if not ok then error((...), 0) end
  return ...
end

--- torch.autocast(device, [{dtype = 'bfloat16', enabled = true, cache_enabled = true}], fn, ...): fn(...) with autocast for tensors on
-- `device` ('cpu' or 'cuda'); its results are returned, an error passes through. enabled = false switches it off inside an outer one.
function autocast.autocast(device, opts, fn, ...)
  local kind = kind_of('autocast', device)
  if not options.is_plain(opts) then return autocast.autocast(device, {}, opts, fn, ...) end
  opts = options.parse('autocast', defaults, opts)
  if opts.dtype ~= 'bfloat16' then fail("autocast: dtype: expected 'bfloat16', got %s", native.show(opts.dtype)) end
  native.callable('autocast', 'fn', fn)
  local before, cache_enabled, now = narrow.autocast, cache.enabled, {}
  for name, on in pairs(before or {}) do now[name] = on end
  now[kind] = opts.enabled or nil
  narrow.autocast, cache.enabled = next(now) and now or nil, opts.cache_enabled
  depth = depth + 1
  return left(before, cache_enabled, native.protected(fn, ...))
end

--- torch.is_autocast_enabled(device): true inside torch.autocast(device, ...).
function autocast.is_autocast_enabled(device)
  local kind = kind_of('is_autocast_enabled', device)
  return narrow.autocast ~= nil and narrow.autocast[kind] == true
end

return autocast
