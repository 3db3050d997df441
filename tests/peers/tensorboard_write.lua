--- Writes an event file for tensorboard_check.py: luajit tests/peers/tensorboard_write.lua FOLDER. Prints what is in it, as JSON.
local here = arg[0]:match('^(.*)tests/peers/') or './'
package.path = here .. 'lua/?.lua;' .. here .. 'lua/?/init.lua;' .. package.path
local torch = require 'masked_torch'
local json = require 'masked_torch.io.json'

torch.manual_seed(7)
local board = torch.train.tensorboard.writer(arg[1])
local expected = { scalars = {}, text = 'some *markdown*, äöü', image = { height = 5, width = 7 } }
for step = 1, 300 do
  local value = math.sin(step) * 10 ^ (step % 20 - 10)
  board:scalar('train/loss', value, step * 1000)
  expected.scalars[step] = value
end
local values = torch.randn(1000, { dtype = 'float64' })
board:histogram('weights', values, 3)
expected.histogram = { min = values:min():item(), max = values:max():item(), num = 1000, sum = values:sum():item(),
  sum_squares = (values * values):sum():item() }
local picture = torch.range(0, 104):reshape(3, 5, 7):to{ dtype = 'uint8' }
board:image('picture', picture, 4)
expected.image.pixels = picture:reshape(105):totable()
board:text('note', expected.text, 5)
board:close()
print(json.encode(expected))
