--- pending: numbers that lie on a device and are read later, many at once, so that a training loop does not wait for each.

local class = require 'masked_torch.class'
local Tensor = require 'masked_torch.tensor'

local Pending = class('Pending')

--- Pending(room, use): a queue. use(note, number) is called for each, in the order in which they came, when `room` of them have come
-- together or at flush().
function Pending:__init(room, use)
  self.room, self.use = room, use
  self:clear()
end

--- Forgets what is queued.
function Pending:clear() self.notes, self.numbers, self.places, self.count = {}, {}, {}, 0 end

--- pending:holds(value): whether value has to wait: a tensor on a device, or anything that comes after one.
function Pending:holds(value) return self.count > 0 or Tensor.is_tensor(value) and value.device ~= 'cpu' end

--- pending:add(note, value): a number or a tensor of one element, whose value now is what counts.
function Pending:add(note, value)
  local i = self.count + 1
  if Tensor.is_tensor(value) and value.device ~= 'cpu' then
    if value:numel() ~= 1 then value:item() end       -- says what is wrong
    local store = self.store
    if not store or store.device ~= value.device then
      self:flush()
      i = 1
      store = Tensor.empty('pending', { self.room }, 'float64', value.device)
      self.store = store
    end
    local place = store:narrow(1, i, 1)
    place:copy_(value:detach():reshape(1))
    self.places[i] = true
  else
    self.numbers[i] = Tensor.is_tensor(value) and value:item() or value
  end
  self.notes[i], self.count = note, i
  if i == self.room then self:flush() end
end

--- Waits for the device where there is something to read, once, and hands all of it out.
function Pending:flush()
  local notes, numbers, places, count = self.notes, self.numbers, self.places, self.count
  if count == 0 then return end
  local read = next(places) and self.store:totable()
  self:clear()
  for i = 1, count do self.use(notes[i], places[i] and read[i] or numbers[i]) end
end

return Pending
