-- masked_torch's language model: the family lm of the reference vectors. compat = true: the original's batch norm leaks padding.
local here = require 'support.root'
package.path = here .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local golden = require 'support.golden'
local Window = require 'language_model.window'
local F, Tensor = torch.nn.functional, torch.Tensor

local function build(case, compat)
  local a = case.args
  local net = Window{ vocabulary = a.num_embeddings, depth = a.depth, scale = a.scale, base = a.base, activation = a.activation,
    downscale_factor = a.downscale_factor, context = a.sequence_dim, width = a.embedding_dim, compat = compat }
  if case.dtype == 'F64' then net:double() end
  net:load_state_dict(golden.fields(case, 'param.'))
  return net:to(golden.device)
end

-- The files count tokens and classes from 0.
local function batch(case, k)
  return golden.tensor(case, 'in.tokens' .. k) + 1, golden.tensor(case, 'in.lengths' .. k), golden.tensor(case, 'in.target' .. k) + 1
end

local function check_state(case, net, step)
  local checked = 0
  local state = net:state_dict()
  for field in pairs(case.tensors) do
    local name = field:match('^state' .. step .. '%.(.*)')
    if name then
      golden.check(case, field, state[name])
      checked = checked + 1
    end
  end
  assert.equal(18, checked)
end

describe('the golden language model', function()
  local cases = golden.cases('lm')
  assert(#cases > 0)
  for _, case in ipairs(cases) do
    it(case.name, function()
      local net = build(case, true)
      assert.equal(case['repr'], (tostring(net):gsub(', compat=True', '')))
      assert.same(case.state_dict_keys, net:state_names())
      local o = case.optimizer
      local optimizer = torch.optim.Adam(net:parameters(), { lr = o.lr, weight_decay = o.weight_decay, betas = o.betas, eps = o.eps })
      local losses = {}
      for step = 1, o.steps do
        local tokens, lengths, target = batch(case, step)
        optimizer:zero_grad()
        local logits = net(tokens, lengths)
        local loss = F.cross_entropy(logits, target)
        loss:backward()
        losses[step] = loss:item()
        if step == 1 then
          golden.check(case, 'out.logits1', logits)
          golden.check(case, 'out.loss1', loss)
          for _, name in ipairs(case.grads) do
            for key, p in net:named_parameters() do
              if key == name then golden.check(case, 'grad.' .. name, p.grad) end
            end
          end
        end
        optimizer:step()
        if step == 1 or step == 5 then check_state(case, net, step) end
      end
      golden.check(case, 'out.losses', torch.tensor(losses, { dtype = net.pe.dtype }))
      assert.is_nil(net.embedding.weight.grad)
      assert.is_true(torch.equal(net.embedding.weight, golden.tensor(case, 'param.embedding.weight')))
      net:eval()
      local tokens, lengths = batch(case, 1)
      golden.check(case, 'out.logits_eval', net(tokens, lengths))
      local more = torch.cat({ torch.ones(tokens:size(1), case.extra_pad, { dtype = 'int64', device = tokens.device }), tokens }, 2)
      golden.check(case, 'out.logits_eval_morepad', net(more, lengths))
    end)

    it(case.name .. ': by default padding changes no bit', function()
      local net = build(case, false):eval()
      local tokens, lengths = batch(case, 1)
      local more = torch.cat({ torch.ones(tokens:size(1), 16, { dtype = 'int64', device = tokens.device }), tokens }, 2)
      local a, b = net(tokens, lengths), net(more, lengths)
      assert.is_true(torch.equal(a, b))
      assert.is_true(Tensor.is_tensor(a))
    end)
  end
end)
