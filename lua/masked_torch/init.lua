--- masked_torch: tensors, automatic differentiation and convolutions over incomplete data.
--
-- The table holds the tensor functions; sub-tables hold the rest: nn, optim, data, io, plot, train, mask, autograd.
-- They are loaded when they are first used.
--
-- @usage
-- local torch = require 'masked_torch'
-- local nn, F = torch.nn, torch.nn.functional
-- local y, mask = nn.MaskedConv2d(3, 8, 3)(torch.randn(1, 3, 8, 8), torch.mask.boxes({ { 6, 8 } }, { 8, 8 }))
-- print(mask)      --> mask (1, 1, 6, 6): tensor, 83.3 % covered, valid per sample 30

local native = require 'masked_torch.native'
local Tensor = require 'masked_torch.tensor'
local autograd = require 'masked_torch.autograd'
local install = require 'masked_torch.autograd.install'
local namespace = require 'masked_torch.namespace'

local torch = { __version = native.version, Tensor = Tensor, autograd = autograd }

torch.is_tensor = Tensor.is_tensor
torch.no_grad = autograd.no_grad
torch.enable_grad = autograd.enable_grad
torch.set_grad_enabled = autograd.set_grad_enabled
torch.is_grad_enabled = autograd.is_grad_enabled

install(torch)

-- torch.float32 is the string 'float32'. (bool is taken by the conversion x:bool().)
for dtype in pairs(Tensor.dtype_code) do torch[dtype] = rawget(torch, dtype) or dtype end

--- torch.set_num_threads(n), torch.get_num_threads(): the size of the pool. Results do not depend on it.
function torch.set_num_threads(n)
  native.check(native.cpu.mt_threads_set(native.integer('set_num_threads', 'n', n, 1, 256)))
end
function torch.get_num_threads() return native.cpu.mt_threads_get() end

return namespace('torch', { save = 'io', load = 'io', gradcheck = 'autograd.gradcheck', profile = 'train.profile',
    autocast = 'autograd.autocast', is_autocast_enabled = 'autograd.autocast' },
  { 'nn', 'optim', 'cpu', 'cuda', 'data', 'io', 'plot', 'train', 'mask', 'repl', 'inspect', Function = 'autograd.function' }, torch)
