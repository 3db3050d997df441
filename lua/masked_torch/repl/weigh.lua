--- weigh(value, [enough]): the bytes of tensor memory that a value keeps alive: its own, those of the tables it consists of, and
-- what the graph behind a tensor has saved. Stops counting beyond `enough`; what consists of very many tables counts as endless.

local Tensor = require 'masked_torch.tensor'

local MOST = 20000

return function(value, enough)
  enough = enough or math.huge
  local seen, storages, bytes, count = {}, {}, 0, 0
  local stack = { value }
  while #stack > 0 and bytes <= enough do
    local item = table.remove(stack)
    if type(item) == 'table' and not seen[item] then
      seen[item] = true
      count = count + 1
      if count > MOST then return math.huge end
      local c = Tensor.is_tensor(item) and rawget(item, '_c')
      if c and c.dtype >= 0 then
        local storage = tostring(c.storage)
        if not storages[storage] then
          storages[storage] = true
          bytes = bytes + tonumber(c.storage.bytes)
        end
      end
      for key, part in next, item do
        if type(part) == 'table' then stack[#stack + 1] = part end
        if type(key) == 'table' then stack[#stack + 1] = key end
      end
    end
  end
  return bytes
end
