--- random: numbers from Philox4x32-10, the same for any number of threads and any memory format.
--
-- A generator is (seed, stream, offset): every call takes the next offset, and the numbers of a call depend on nothing else. So
-- a state is three numbers, and restoring it repeats everything that followed.

local ffi = require 'ffi'
local autograd = require 'masked_torch.autograd'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local sizes = require 'masked_torch.tensor.sizes'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local torch, method = {}, {}

-- ---- generators ----------------------------------------------------------------------------------------------

local Generator = class('Generator')

--- torch.Generator([seed = 0], [stream = 0]): a stream of its own. Generators of one seed and different streams (workers, say)
-- are independent. seed: a whole number from 0 to 2^53; stream: from 0 to 2^20.
function Generator:__init(seed, stream)
  self.stream = native.integer('Generator', 'stream', stream == nil and 0 or stream, 0, 2 ^ 20)
  self:manual_seed(seed == nil and 0 or seed)
end

-- A graph that is being captured (torch.cuda.graph) counts the calls of the default generator; its launches go on from where that
-- stands.
local function check_not_captured(op, generator)
  if native.capture and generator == torch.default_generator then
    fail('%s: not in a function inside torch.cuda.graph: its launches would not repeat it', op)
  end
end

--- generator:manual_seed(seed): starts anew. Returns the generator.
function Generator:manual_seed(seed)
  check_not_captured('manual_seed', self)
  self.seed = native.integer('manual_seed', 'seed', seed, 0, 2 ^ 53)
  self.offset = 0
  return self
end

--- generator:initial_seed()
function Generator:initial_seed() return self.seed end

--- generator:get_state() -> {seed =, stream =, offset =}: plain numbers, for checkpoints.
function Generator:get_state()
  return { seed = self.seed, stream = self.stream, offset = self.offset }
end

--- generator:set_state(state): continues where get_state was called. Returns the generator.
function Generator:set_state(state)
  check_not_captured('set_state', self)
  state = options.parse('set_state', { seed = 0, stream = 0, offset = 0 }, state)
  self.seed = native.integer('set_state', 'seed', state.seed, 0, 2 ^ 53)
  self.stream = native.integer('set_state', 'stream', state.stream, 0, 2 ^ 20)
  self.offset = native.integer('set_state', 'offset', state.offset, 0, 2 ^ 32 - 1)
  return self
end

local default = Generator()
local call = ffi.new('mt_random')

--- generator:next_call(first): the state of one call as the kernels take it, valid until the next; counts the offset up.
-- first: the number of the first element, for a slice of a larger tensor (0).
function Generator:next_call(first)
  if native.capture and self ~= default then
    fail('generator: in a function inside torch.cuda.graph only the default generator draws')
  end
  call.seed, call.call, call.first = self.seed, self.stream * 2 ^ 32 + self.offset, first or 0
  self.offset = (self.offset + 1) % 2 ^ 32
  return call
end

torch.Generator = Generator
--- torch.default_generator: what every function draws from that is given no other.
torch.default_generator = default

--- torch.manual_seed(seed): starts the default generator anew (it starts with seed 0). Returns it.
function torch.manual_seed(seed) return (default:manual_seed(seed)) end

--- torch.seed(): a seed from the system's entropy for the default generator. Returns it.
function torch.seed()
  local file = io.open('/dev/urandom', 'rb')
  local bytes = file and file:read(6) or ffi.string(ffi.new('double[1]', os.time() + os.clock()), 6)
  if file then file:close() end
  local seed = 0
  for i = 1, 6 do seed = seed * 256 + bytes:byte(i) end
  default:manual_seed(seed)
  return seed
end

--- torch.initial_seed()
function torch.initial_seed() return default.seed end
--- torch.get_rng_state(), torch.set_rng_state(state): those of the default generator.
function torch.get_rng_state() return (default:get_state()) end
function torch.set_rng_state(state) default:set_state(state) end

local function generator_of(op, opts)
  local generator = opts.generator
  if generator == nil then return default end
  if getmetatable(generator) ~= Generator then
    fail('%s: generator: expected a torch.Generator, got %s', op, type(generator))
  end
  return generator
end

Tensor.generator_of = generator_of

-- ---- new tensors ---------------------------------------------------------------------------------------------

local EXTRA = { generator = options.any(nil) }

local function uniform(op, t, opts, low, high)
  check(t.K.mt_random_uniform(t._c, generator_of(op, opts):next_call(), low, high))
  return t
end

local function normal(op, t, opts, mean, std)
  check(t.K.mt_random_normal(t._c, generator_of(op, opts):next_call(), mean, std))
  return t
end

--- torch.rand(sizes..., [options]): uniform in [0, 1). Options: dtype, device, requires_grad, generator.
function torch.rand(...)
  local shape, opts = sizes.parse('rand', EXTRA, ...)
  local t = uniform('rand', Tensor.empty('rand', shape, opts.dtype, opts.device), opts, 0, 1)
  return sizes.finish(t, opts)
end

--- torch.randn(sizes..., [options]): standard normal.
function torch.randn(...)
  local shape, opts = sizes.parse('randn', EXTRA, ...)
  local t = normal('randn', Tensor.empty('randn', shape, opts.dtype, opts.device), opts, 0, 1)
  return sizes.finish(t, opts)
end

local function like(op, x, opts)
  Tensor.check(op, 'input', x)
  opts = sizes.options(op, opts, { dtype = x.dtype, device = x.device, generator = EXTRA.generator })
  return Tensor.empty_like(x, opts.dtype), opts
end

--- torch.rand_like(x, [options]), torch.randn_like(x, [options]): x's shape, dtype, device and memory format.
function torch.rand_like(x, opts)
  local t
  t, opts = like('rand_like', x, opts)
  return sizes.finish(uniform('rand_like', t, opts, 0, 1), opts)
end

function torch.randn_like(x, opts)
  local t
  t, opts = like('randn_like', x, opts)
  return sizes.finish(normal('randn_like', t, opts, 0, 1), opts)
end

local INTEGER_EXTRA = { generator = options.any(nil), dtype = 'int64' }

--- torch.randint(low, high, sizes..., [options]): whole numbers from low to high, both included (ranges are inclusive here; other
-- libraries leave high out). int64 by default.
function torch.randint(low, high, ...)
  native.integer('randint', 'low', low)
  native.integer('randint', 'high', high)
  local shape, opts = sizes.parse('randint', INTEGER_EXTRA, ...)
  local t = Tensor.empty('randint', shape, 'int64', opts.device)
  check(t.K.mt_random_integers(t._c, generator_of('randint', opts):next_call(), low, high))
  return sizes.finish(t:to(opts.dtype), opts)
end

--- torch.randperm(n, [options]): the numbers 1..n in random order; int64 by default.
function torch.randperm(n, opts)
  native.integer('randperm', 'n', n, 0)
  opts = sizes.options('randperm', opts, INTEGER_EXTRA)
  local t = Tensor.empty('randperm', { n }, 'int64', opts.device)
  check(t.K.mt_random_permutation(t._c, generator_of('randperm', opts):next_call()))
  return sizes.finish(t:to(opts.dtype), opts)
end

local GENERATOR_ONLY = { generator = options.any(nil) }

--- torch.bernoulli(p, [options]): 1 with probability p for each element of the tensor p, else 0; of p's dtype.
function torch.bernoulli(p, opts)
  Tensor.check('bernoulli', 'p', p)
  opts = options.parse('bernoulli', GENERATOR_ONLY, opts)
  if not Tensor.floating[p.dtype] then fail('bernoulli: p: expected float32 or float64, got %s', p.dtype) end
  p = p:detach()
  local t = uniform('bernoulli', Tensor.empty_like(p), opts, 0, 1)
  return (t:lt(p):to(p.dtype))
end

-- ---- in place ------------------------------------------------------------------------------------------------

-- The old values are gone, so is their gradient: zero_ says so to the tape.
local function overwrite(op, x)
  Tensor.check(op, 'input', x)
  autograd.check_in_place(op, x)
  if x.grad_fn then x:zero_() end
  Tensor.bump(x)
end

local function moments(op, first, second, default_first, default_second, opts)
  if type(first) == 'table' then first, opts = nil, first end
  if type(second) == 'table' then second, opts = nil, second end
  return native.number(op, 'first parameter', first == nil and default_first or first),
    native.number(op, 'second parameter', second == nil and default_second or second), options.parse(op, GENERATOR_ONLY, opts)
end

--- x:uniform_([low = 0], [high = 1], [{generator =}]): uniform in [low, high). Returns x.
function method.uniform_(x, low, high, opts)
  low, high, opts = moments('uniform_', low, high, 0, 1, opts)
  overwrite('uniform_', x)
  return (uniform('uniform_', x, opts, low, high))
end

--- x:normal_([mean = 0], [std = 1], [{generator =}]). Returns x.
function method.normal_(x, mean, std, opts)
  mean, std, opts = moments('normal_', mean, std, 0, 1, opts)
  overwrite('normal_', x)
  return (normal('normal_', x, opts, mean, std))
end

--- x:bernoulli_([p = 0.5], [{generator =}]): 1 with probability p, else 0; any dtype. Returns x.
function method.bernoulli_(x, p, opts)
  if type(p) == 'table' then p, opts = nil, p end
  p = native.number('bernoulli_', 'p', p == nil and 0.5 or p)
  opts = options.parse('bernoulli_', GENERATOR_ONLY, opts)
  overwrite('bernoulli_', x)
  local coins = Tensor.empty('bernoulli_', x:size(), 'bool', x.device)
  check(x.K.mt_random_bernoulli(coins._c, generator_of('bernoulli_', opts):next_call(), p))
  check(x.K.mt_tensor_copy(x._c, coins._c))
  return x
end

return { torch = torch, method = method }
