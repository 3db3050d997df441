--- What the op table's small cases do not reach on a device: several channels per thread, long rows, many channels. The memory format
-- changes no bit, and the CPU's float64 result is the measure.
local torch = require 'masked_torch'
local F = torch.nn.functional
local devices = require 'support.device'

local device = devices.name

-- Outputs of fn(x, mask, parameters ...) and the gradients of x and of the parameters, for one format, dtype and place.
local function run(fn, x, mask, parameters, dtype, where, last)
  x = x:to { dtype = dtype, device = where }
  if last then x = x:contiguous 'channels_last' end
  x = x:detach():requires_grad_()
  local others = {}
  for i, p in ipairs(parameters) do others[i] = p:to { dtype = dtype, device = where }:detach():requires_grad_() end
  local y = fn(x, mask and mask:to { dtype = dtype, device = where }, unpack(others))
  torch.manual_seed(9)
  local gradient = torch.randn(y:size(), { dtype = 'float64' }):to { dtype = dtype, device = where }
  if last and #y:size() > 2 then gradient = gradient:contiguous 'channels_last' end
  y:backward(gradient)
  local results = { y:detach(), x.grad }
  for _, p in ipairs(others) do results[#results + 1] = p.grad end
  return results
end

local function soft(m) return m:gt(0.3):double() * m end

local function row_weights(C) return { torch.rand(C) + 0.5, torch.randn(C) } end

local shapes = { { 2, 8, 5, 6 }, { 3, 36, 4, 7 }, { 1, 16, 2, 300 }, { 2, 12, 3, 2, 5 }, { 2, 8, 700 } }
local windowed = { 'max_pool', 'avg_pool' }

local function cases()
  local list = {}
  for _, shape in ipairs(shapes) do
    local dims = #shape - 2
    local one = { shape[1], 1, unpack(shape, 3) }
    local function add(name, fn, mask, parameters) list[#list + 1] = { name, shape, fn, mask, parameters or {} } end
    for _, masked in ipairs { 'no mask', 'one channel', 'every channel' } do
      torch.manual_seed(#list + 1)
      local mask
      if masked ~= 'no mask' then mask = soft(torch.rand(masked == 'one channel' and one or shape)) end
      local C = shape[2]
      add('batch norm, ' .. masked, function(x, m, w, b)
        return (F.batch_norm(x, nil, nil, w, b, { training = true, mask = m }))
      end, mask, row_weights(C))
      add('group norm, ' .. masked, function(x, m, w, b) return (F.group_norm(x, 4, w, b, { mask = m })) end, mask, row_weights(C))
      for _, name in ipairs(windowed) do
        add(('%s, %s'):format(name, masked), function(x, m)
          return (F[name .. dims .. 'd'](x, 2, { stride = 1, mask = m, mask_rule = 'grow' }))
        end, mask)
      end
      add('linear upsampling, ' .. masked, function(x, m)
        return (F.interpolate(x, { scale_factor = 1.5, mode = 'linear', mask = m, mask_rule = 'grow' }))
      end, mask)
      if masked ~= 'no mask' then
        add('masked mean, ' .. masked, function(x, m) return (F.masked_mean(x, m)) end, mask)
      end
    end
  end
  return list
end

devices.describe('layouts', function()
  for _, case in ipairs(cases()) do
    local name, shape, fn, mask, parameters = unpack(case)
    it(('%s, (%s)'):format(name, table.concat(shape, ', ')), function()
      torch.manual_seed(1)
      local x = torch.randn(shape)
      mask = mask and mask:float()
      for _, dtype in ipairs { 'float32', 'float64' } do
        local want = run(fn, x, mask, parameters, 'float64', 'cpu')
        local got, last = run(fn, x, mask, parameters, dtype, device), run(fn, x, mask, parameters, dtype, device, true)
        for i = 1, #want do
          assert.is_true(torch.equal(got[i], last[i]), ('%s: result %d depends on the memory format'):format(dtype, i))
          local error = (got[i]:cpu():double() - want[i]):abs():max():item()
          local limit = (dtype == 'float64' and 1e-11 or 5e-6) * math.max(1, want[i]:abs():max():item())
          assert.is_true(error <= limit, ('%s: result %d: error %g'):format(dtype, i, error))
        end
      end
    end)
  end
end)
