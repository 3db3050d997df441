-- Run at build time and by autopkgtest: a forward and a backward pass through the library, and the first promise.
local torch = require 'masked_torch'
local nn, F = torch.nn, torch.nn.functional
local net = nn.Sequential{ nn.MaskConv2d(3, 8, 3, { padding = 1 }), nn.MaskedBatchNorm2d(8), nn.ReLU(), nn.MaskedSpatialMean(),
  nn.Linear(8, 4) }
local x = torch.randn(2, 3, 8, 8)
F.cross_entropy(net(x, torch.mask.boxes({ { 8, 6 }, { 5, 8 } }, { 8, 8 })), torch.tensor({ 1, 4 }, { dtype = 'int64' })):backward()
assert(net[1].weight.grad:isfinite():all():item())
net:eval()
local small, large = net(x, torch.ones(2, 1, 8, 8)), net(F.pad(x, { 0, 5, 0, 3 }), torch.mask.boxes({ { 8, 8 }, { 8, 8 } }, { 11, 13 }))
assert(torch.equal(small, large))
print(('masked_torch %s: %s'):format(torch.__version, require('ffi').string(require('masked_torch.native').cpu.mt_isa())))
