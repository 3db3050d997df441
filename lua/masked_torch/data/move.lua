--- move: batches from one device to another.

local is_mask = require('masked_torch.mask').is_mask
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local move = {}

local function moved(value, device, done)
  if Tensor.is_tensor(value) or is_mask(value) then return value:to{ device = device } end
  if type(value) ~= 'table' or getmetatable(value) then return value end
  if not done[value] then
    local copy = {}
    done[value] = copy
    for key, item in pairs(value) do copy[key] = moved(item, device, done) end
  end
  return done[value]
end

--- data.to(batch, 'cuda') or data.to(batch, {device = 'cuda'}): the batch with every tensor and mask in it, also in tables inside, on
-- that device; what is there already is not copied, and the given tables are not changed.
function move.to(batch, opts)
  if type(opts) == 'string' then opts = { device = opts } end
  opts = options.parse('data.to', { device = options.none }, opts)
  if opts.device == nil then native.fail("data.to: device: expected 'cpu', 'cuda' or 'cuda:<n>', got nil") end
  return moved(batch, Tensor.check_device('data.to', opts.device), {})
end

return move
