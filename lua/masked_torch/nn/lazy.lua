--- lazy: layers that learn the size of their input from it. One mechanism for every class with input channels or features.
--
--     local net = nn.Sequential{ nn.LazyMaskedConv2d(16, 3, { padding = 1 }), nn.LazyMaskedBatchNorm2d(), nn.ReLU() }
--     net(x, mask)                                            -- from here on a MaskedConv2d and a MaskedBatchNorm2d
--     torch.optim.Adam(net:parameters())
--
-- LazyName takes the arguments of Name without the size. Its first forward, or load_state_dict, makes it a Name: memory is
-- allocated and initial weights are drawn then, in the order in which the layers are reached. So a network whose layers were
-- written down in that order gets the weights that the explicit one draws from the same seed:
--
--     torch.manual_seed(1)  explicit = build(nn.Conv2d)       lazy = build(nn.LazyConv2d)  torch.manual_seed(1)  lazy(x)
--
-- (Dropout in training mode draws from the same stream; run the first input in evaluation mode.) The type and the device are
-- those given to the constructor, else of net:to{...}, else the input's, or the state's. Until then a layer has no parameters:
-- parameters(), num_parameters() and state_dict() of a network with such a layer are errors that name it.

local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local lazy = {}

-- What a constructor gets in place of the size.
local unknown = setmetatable({}, { __tostring = function() return 'an unknown size' end })

--- lazy.size(op, argument, value, low): the checked size, or nil when it is not known yet. For constructors of layers.
function lazy.size(op, argument, value, low)
  if value == unknown then return nil end
  return native.integer(op, argument, value, low)
end

--- lazy.is_unknown(value): is it what a constructor gets for a size that is not known yet?
function lazy.is_unknown(value) return value == unknown end

local function name_of(self) return getmetatable(self).__name end

--- lazy.pending(module): the names of the parameters and buffers that it will have; nil when it has them, or will have none.
function lazy.pending(module)
  if not rawget(module, '_lazy') then return nil end
  local names = module:lazy_names()
  return #names > 0 and names or nil
end

--- lazy.refuse(op, path, module): an error when the module has no parameters yet.
function lazy.refuse(op, path, module)
  if not lazy.pending(module) then return end
  fail('%s: %s%s has no parameters yet; call the network once, or load a state, before', op,
    path == '' and '' or ("'%s' "):format(path), name_of(module))
end

--- lazy.to(module, dtype, device), lazy.freeze(module, flag): what its parameters will be.
function lazy.to(module, dtype, device)
  local later = rawget(module, '_lazy')
  if later then later.dtype, later.device = dtype or later.dtype, device or later.device end
end

function lazy.freeze(module, flag)
  local later = rawget(module, '_lazy')
  if later then later.requires_grad = flag end
end

--- lazy.after(module, fn): fn(module) now, or as soon as its parameters are there.
function lazy.after(module, fn)
  local later = rawget(module, '_lazy')
  if later then
    later.actions[#later.actions + 1] = fn
  else
    fn(module)
  end
end

-- From here on `self` is a Class, or, after an error, what it was.
local function materialise(self, Class, size, like)
  local later = rawget(self, '_lazy')
  local dtype, device = later.dtype or like.dtype, later.device or like.device
  if not Tensor.real[dtype] then
    fail('%s: input: expected float32 or float64, got %s %s', name_of(self), Tensor.shape_text(like), dtype)
  end
  local field, before = Class.lazy_size.field, { self.dtype, self.device }
  self[field], self.dtype, self.device = size, dtype, device
  local ok, message = pcall(self.materialise, self)
  if not ok then
    rawset(self, field, nil)
    for _, name in ipairs(self:lazy_names()) do self[name] = nil end
    self.dtype, self.device = before[1], before[2]
    error(message, 0)
  end
  rawset(self, '_lazy', nil)
  setmetatable(self, Class)
  self:to{ dtype = dtype, device = device }       -- what it had already
  if later.requires_grad ~= nil then self:requires_grad_(later.requires_grad) end
  for _, action in ipairs(later.actions) do action(self) end
end

--- lazy.derive(Class) -> LazyClass. Class has
--   lazy_size = { position =, field =,          the constructor's argument that is not known, and the field that holds it
--     input = function(self, x, unshuffle),     the size from an input (checked here) and, for a convolution, that factor, and
--     state = { name = function(self, t) } }    from a tensor of the state, nil where that does not fit
--   lazy_names(self)                            names of the parameters and buffers it will have
--   materialise(self)                           allocates and draws them, with self.dtype and self.device
-- and a constructor that calls materialise only when lazy.size gave it a size.
function lazy.derive(Class)
  local spec = Class.lazy_size
  local Lazy = class('Lazy' .. Class.__name, Class)
  local most = debug.getinfo(Class.__init, 'u').nparams - 2

  function Lazy:__init(...)
    local arguments, n = { ... }, select('#', ...)
    if n > most then fail('%s: one argument too many: expected at most %d', Lazy.__name, most) end
    local opts = arguments[n]
    for i = n, spec.position, -1 do arguments[i + 1] = arguments[i] end
    arguments[spec.position] = unknown
    Class.__init(self, unpack(arguments, 1, n + 1))
    local given = type(opts) == 'table' and not Tensor.is_tensor(opts) and opts or {}
    rawset(self, '_lazy', { actions = {}, dtype = given.dtype, device = given.device })
  end

  -- unshuffle: a convolution's, the factor by which it unshuffles x (nn/fusion.lua).
  function Lazy:forward(x, mask, activation, negative_slope, unshuffle)
    Tensor.check(Lazy.__name, 'input', x)
    materialise(self, Class, spec.input(self, x, unshuffle), x)
    return Class.forward(self, x, mask, activation, negative_slope, unshuffle)
  end

  --- Called by load_state_dict.
  function Lazy:before_load(state, prefix)
    for name, size_of in pairs(spec.state) do
      local t = state[prefix .. name]
      local size = Tensor.is_tensor(t) and size_of(self, t)
      if size then
        materialise(self, Class, size, { dtype = Tensor.floating[t.dtype] and t.dtype or 'float32', device = 'cpu' })
        return
      end
    end
  end
  return Lazy
end

--- lazy.with_forms(classes) -> classes, with LazyName beside every Name.
function lazy.with_forms(classes)
  local forms = {}
  for name, Class in pairs(classes) do forms['Lazy' .. name] = lazy.derive(Class) end
  for name, Class in pairs(forms) do classes[name] = Class end
  return classes
end

return lazy
