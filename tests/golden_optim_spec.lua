-- Optimisers against the reference vectors: five steps on given gradients.
local torch = require 'masked_torch'
local golden = require 'support.golden'

describe('golden optimisers', function()
  local count = 0
  for _, case in ipairs(golden.cases('ops')) do
    local class = case.layer:match('^optim%.(%w+)$')
    if class then
      count = count + 1
      it(case.name, function()
        local parameters, list = golden.fields(case, 'param.'), {}
        for _, name in ipairs(case.params) do
          parameters[name]:requires_grad_()
          list[#list + 1] = parameters[name]
        end
        local opt = torch.optim[class](list, case.args)
        for step = 1, 5 do
          for name, p in pairs(parameters) do p.grad = golden.tensor(case, ('in.g%d.%s'):format(step, name)) end
          opt:step()
          for name, p in pairs(parameters) do golden.check(case, ('state%d.%s'):format(step, name), p) end
        end
      end)
    end
  end
  it('are all there', function() assert.are.equal(6, count) end)
end)
