--- Optimisers on a device: the CPU's bits, step after step; norms and looks at gradients.
local torch = require 'masked_torch'
local optim = torch.optim
local devices = require 'support.device'

local device = devices.name

local cases = {
  { 'SGD', { lr = 0.1 } },
  { 'SGD', { lr = 0.1, momentum = 0.9, dampening = 0.3, weight_decay = 0.02, maximize = true } },
  { 'SGD', { lr = 0.1, momentum = 0.8, nesterov = true } },
  { 'Adam', { lr = 0.01, weight_decay = 0.1 } },
  { 'AdamW', { lr = 0.01, amsgrad = true } },
  { 'RMSprop', { lr = 0.01, alpha = 0.8, centered = true, momentum = 0.5 } },
  { 'Adan', { lr = 0.01, weight_decay = 0.2 } },
}
-- More than a launch takes; one of several pieces; none.
local shapes = { { 7 }, { 3, 5 }, {}, { 0, 4 }, { 9001 } }
for i = 1, 62 do shapes[#shapes + 1] = { i % 3 + 1 } end

local function same(a, b) assert.is_true(torch.equal(a:detach():cpu(), b:detach())) end

-- strided: every second element of larger memory.
local function build(where, strided)
  torch.manual_seed(3)
  local list = {}
  for i, shape in ipairs(shapes) do
    local dtype = i % 4 == 0 and 'float64' or 'float32'
    local p = torch.randn(shape, { dtype = dtype }):to{ device = where }
    if strided and i % 2 == 1 and #shape > 0 then
      local wide = torch.zeros(shape[1] * 2, { dtype = dtype, device = where })
      local view = wide[{ { 1, -1, 2 } }]
      view:copy_(p:reshape(shape[1]))
      p = view
    end
    list[i] = p:requires_grad_()
  end
  return list
end

devices.describe('optimisers', function()
  for _, case in ipairs(cases) do
    it(case[1] .. ' has the CPU\'s bits', function()
      local here, there = build('cpu'), build(device)
      local a, b = optim[case[1]](here, case[2]), optim[case[1]](there, case[2])
      for step = 1, 3 do
        torch.manual_seed(step)
        for i = 1, #here do
          if i ~= 3 or step > 1 then    -- one of them starts a step later
            here[i].grad = torch.randn(here[i]:size(), { dtype = here[i].dtype })
            there[i].grad = here[i].grad:to{ device = device }
          end
        end
        a:step()
        b:step()
      end
      for i = 1, #here do same(there[i], here[i]) end
    end)
  end

  it('norms, clipping and looks', function()
    for _, p in ipairs { 1, 2, 3, math.huge } do
      local here, there = build('cpu'), build(device)
      for i = 1, #here do
        here[i].grad = here[i]:detach() * 3
        there[i].grad = there[i]:detach() * 3
      end
      local a = optim.clip_grad_norm_(here, 1.5, { norm_type = p })
      local b = optim.clip_grad_norm_(there, 1.5, { norm_type = p })
      if type(a) ~= 'number' then a, b = a:item(), b:item() end
      assert.is_true(math.abs(a - b) <= 1e-12 * a)
      for i = 1, #here do
        if here[i]:numel() > 0 then
          assert.is_true((there[i].grad:cpu() - here[i].grad):abs():max():item() <= 1e-6)
        end
      end
    end
  end)
end)
