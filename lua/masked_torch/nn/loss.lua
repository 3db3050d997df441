--- nn.loss: losses as modules: loss(input, target [, mask]) -> tensor. The formulas stand in autograd/op/loss.lua.
-- The mask is the third argument, or the option of the same name of the functions.

local class = require 'masked_torch.class'
local F = require 'masked_torch.nn.functional'
local options = require 'masked_torch.options'
local Module = require('masked_torch.nn.module').Module

local classes = {}

-- `defaults` holds the options of the function; those that are tensors (constants) become buffers, kept by name.
local function loss(name, fn, defaults, buffers)
  local Loss = class(name, Module)
  function Loss:__init(opts)
    Module.__init(self)
    opts = options.parse(name, defaults, opts)
    options.choice(name, 'reduction', opts.reduction,
      name == 'KLDivLoss' and { 'mean', 'sum', 'none', 'batchmean' } or { 'mean', 'sum', 'none' })
    self.settings = {}
    for key, value in pairs(opts) do
      if not (buffers and buffers[key]) then self.settings[key] = value end
    end
    for key in pairs(buffers or {}) do self:register_buffer(key, opts[key]) end
  end
  function Loss:forward(input, target, mask)
    local opts = { mask = mask }
    for key, value in pairs(self.settings) do opts[key] = value end
    for key in pairs(buffers or {}) do opts[key] = self[key] end
    local y, hits = F[fn](input, target, opts)
    return y, hits
  end
  classes[name] = Loss
end

local none = options.none

--- CrossEntropyLoss{weight, ignore_index, reduction = 'mean', label_smoothing = 0, metric = false, inplace = false}: F.cross_entropy.
loss('CrossEntropyLoss', 'cross_entropy', { weight = none, ignore_index = none, reduction = 'mean', label_smoothing = 0, metric = false,
  inplace = false }, { weight = true })
--- NLLLoss{weight, ignore_index, reduction = 'mean'}: F.nll_loss.
loss('NLLLoss', 'nll_loss', { weight = none, ignore_index = none, reduction = 'mean' }, { weight = true })
--- MSELoss{reduction = 'mean'}: F.mse_loss.
loss('MSELoss', 'mse_loss', { reduction = 'mean' })
--- L1Loss{reduction = 'mean'}: F.l1_loss.
loss('L1Loss', 'l1_loss', { reduction = 'mean' })
--- SmoothL1Loss{beta = 1, reduction = 'mean'}: F.smooth_l1_loss.
loss('SmoothL1Loss', 'smooth_l1_loss', { beta = 1, reduction = 'mean' })
--- HuberLoss{delta = 1, reduction = 'mean'}: F.huber_loss.
loss('HuberLoss', 'huber_loss', { delta = 1, reduction = 'mean' })
--- BCEWithLogitsLoss{pos_weight, reduction = 'mean'}: F.binary_cross_entropy_with_logits.
loss('BCEWithLogitsLoss', 'binary_cross_entropy_with_logits', { pos_weight = none, reduction = 'mean' }, { pos_weight = true })
--- KLDivLoss{log_target = false, reduction = 'mean'}: F.kl_div.
loss('KLDivLoss', 'kl_div', { log_target = false, reduction = 'mean' })

return classes
