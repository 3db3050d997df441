--- inspect: looking into networks (torch.inspect).
--
--     net:describe(x, mask)                         shapes, masks, receptive fields, parameters, work and memory per layer
--     torch.inspect.activations(net, x, mask)       moments of the valid elements of every layer's output
--     torch.inspect.padding_invariant(net)          does padding change anything?            -> ok, report
--     torch.inspect.hole_agnostic(net)              does what lies under the mask?           -> ok, report
--     torch.inspect.batch_invariant(net)            do batch mates?                          -> ok, report
--     torch.inspect.equals_dense_when_full(net)     is a full mask the same as none?         -> ok, report
--     torch.inspect.gradcheck(net)                  are the gradients right?                 -> ok, report

local properties = require 'masked_torch.inspect.properties'

return {
  describe = require 'masked_torch.inspect.describe',
  activations = require 'masked_torch.inspect.activations',
  padding_invariant = properties.padding_invariant,
  hole_agnostic = properties.hole_agnostic,
  batch_invariant = properties.batch_invariant,
  equals_dense_when_full = properties.equals_dense_when_full,
  gradcheck = properties.gradcheck,
}
