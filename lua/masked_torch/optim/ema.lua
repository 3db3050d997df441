local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local list = require 'masked_torch.optim.list'

local fail, check = native.fail, native.check

--- EMA(parameters, {decay = 0.999, warmup = false}): an exponential moving average of weights (Polyak, Juditsky, 1992).
-- ema:update() after each step of the optimiser: a += (1 - decay) (p - a). The averages begin as copies of the parameters. warmup:
-- the decay of update n is min(decay, (1 + n) / (10 + n)), so early averages follow quickly.
--
--     ema:with(function() return evaluate(net) end)     -- the averages stand in for the weights meanwhile
local EMA = class('EMA')

local function copy_of(t)
  local copy = Tensor.empty_like(t)
  check(t.K.mt_tensor_copy(copy._c, t._c))
  return copy
end

function EMA:__init(parameters, opts)
  opts = options.parse('EMA', { decay = 0.999, warmup = false }, opts)
  self.parameters = list.check('EMA', 'parameters', parameters)
  self.decay, self.warmup = list.number('EMA', 'decay', opts.decay, 0), opts.warmup
  if self.decay > 1 then fail('EMA: decay: expected a number from 0 to 1, got %s', tostring(opts.decay)) end
  self.updates, self.swapped = 0, false
  self.averages = {}
  for i, p in ipairs(self.parameters) do self.averages[i] = copy_of(p) end
end

local function check_not_swapped(self, what)
  if self.swapped then
    fail('EMA: %s: the averages stand in the parameters; call :restore() first', what)
  end
end

local function move(self)
  local decay = self.decay
  if self.warmup then decay = math.min(decay, (1 + self.updates) / (10 + self.updates)) end
  if #self.parameters > 0 then
    check(self.parameters[1].K.mt_optim_ema(#self.parameters, list.pointers(self.averages), list.pointers(self.parameters), decay))
    for _, a in ipairs(self.averages) do Tensor.bump(a) end
  end
end

--- ema:update(): moves the averages towards the parameters. In a graph (torch.cuda.graph) every launch counts as an update.
function EMA:update()
  check_not_swapped(self, 'update')
  local graph = native.capture
  local first = graph and graph:slots()
  move(self)
  if not graph then
    self.updates = self.updates + 1
    return
  end
  local averages = self.averages
  graph:renew_with(first, function()
    check_not_swapped(self, 'update')
    if self.averages ~= averages then
      fail('EMA: update: the averages are others than when the step was captured (load_state_dict); capture it again')
    end
    move(self)
    self.updates = self.updates + 1
  end)
end

local function exchange(self)
  if #self.parameters > 0 then
    check(self.parameters[1].K.mt_optim_swap(#self.parameters, list.pointers(self.averages), list.pointers(self.parameters)))
    for i, p in ipairs(self.parameters) do
      Tensor.bump(p)
      Tensor.bump(self.averages[i])
    end
  end
  self.swapped = not self.swapped
end

--- ema:swap(): puts the averages into the parameters, in place, and keeps the trained weights aside.
function EMA:swap()
  check_not_swapped(self, 'swap')
  exchange(self)
end

--- ema:restore(): puts the trained weights back after swap.
function EMA:restore()
  if not self.swapped then fail('EMA: restore: the parameters hold the trained weights; call :swap() first') end
  exchange(self)
end

local function finish(self, ok, ...)
  if self.swapped then self:restore() end
  if not ok then error((...), 0) end
  return ...
end

--- ema:with(fn, ...): the results of fn(...), run with the averages in the parameters; the trained weights come back in any case.
function EMA:with(fn, ...)
  native.callable('EMA', 'with', fn)
  self:swap()
  return finish(self, pcall(fn, ...))
end

--- ema:state_dict() -> {updates =, averages = array}. The tensors share memory with the averages: save them or clone them.
function EMA:state_dict()
  check_not_swapped(self, 'state_dict')
  local averages = {}
  for i, a in ipairs(self.averages) do averages[i] = a:detach() end
  return { updates = self.updates, averages = averages }
end

--- ema:load_state_dict(dict): copies the averages; on an error nothing has changed. The decay is this object's own.
function EMA:load_state_dict(dict)
  check_not_swapped(self, 'load_state_dict')
  if type(dict) ~= 'table' or type(dict.averages) ~= 'table' then
    fail('EMA: load_state_dict: expected what state_dict gives, got %s', type(dict))
  end
  local updates = native.integer('EMA: load_state_dict', 'updates', dict.updates, 0)
  if #dict.averages ~= #self.parameters then
    fail('EMA: load_state_dict: the state has %d averages, there are %d parameters', #dict.averages, #self.parameters)
  end
  local averages = {}
  for i, p in ipairs(self.parameters) do
    local given = Tensor.check('EMA: load_state_dict', ('averages[%d]'):format(i), dict.averages[i])
    if Tensor.shape_text(given) ~= Tensor.shape_text(p) then
      fail('EMA: load_state_dict: average %d: expected %s, got %s', i, Tensor.shape_text(p), Tensor.shape_text(given))
    end
    if given.device ~= p.device then given = given:detach():to{ device = p.device } end
    averages[i] = Tensor.empty_like(p)
    check(p.K.mt_tensor_copy(averages[i]._c, given._c))
  end
  self.averages, self.updates = averages, updates
end

return { EMA = EMA }
