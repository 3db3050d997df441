-- Norms with weights along channels in both memory formats: norm_pixels_spec.lua. Run by it as well, in a process of its own:
-- luajit norm_formats.lua TESTS/. Prints the instruction set in use, how many results differed between the formats and a checksum of
-- all bits.

local tests = arg and arg[0] and arg[0]:find('norm_formats%.lua$') and arg[1]
if tests then package.path = tests .. '../lua/?.lua;' .. tests .. '../lua/?/init.lua;' .. tests .. '?.lua;' .. package.path end

local native = require 'masked_torch.native'
local both = require 'support.norm_both'
local Tensor = require('masked_torch').Tensor

local names = { 'batch_norm', 'batch_norm in evaluation', 'group_norm', 'instance_norm' }
-- Samples one by one and row by row, rows longer than what is looked at in one go, pixels that are no whole vectors, more channels than
-- the pass by pixels takes.
local shapes = { { 2, 24, 5, 7 }, { 17, 21, 3, 9 }, { 3, 130, 6 }, { 2, 12, 2, 3, 300 }, { 1, 1030, 2, 3 } }

-- What differs, as text, and a checksum of what one norm gives.
local function compare(name, kind, activation, shape, dtype, sum)
  local wrong, results = {}, {}
  for _, format in ipairs { 'row by row', 'channels last' } do
    results[#results + 1] = both.results(both.norms[name], shape, both.masks[kind], dtype, format, activation)
  end
  for _, key in ipairs { 'y', 'dx', 'dw', 'db', 'mean', 'var' } do
    local a, b = results[1][key], results[2][key]
    if a then
      a, b = a:detach():contiguous(), b:detach():contiguous()
      if not Tensor.same_bits(a, b) then
        wrong[#wrong + 1] = ('%s of %s, (%s), %s, mask %s'):format(key, name, table.concat(shape, ', '), dtype, kind)
      end
      sum = native.cpu.mt_checksum_crc32c(sum, b._c.data, b:numel() * (dtype == 'float32' and 4 or 8), 0)
    end
  end
  return wrong, sum
end

local function all(activation, dtype, sum)
  local wrong = {}
  for _, name in ipairs(names) do
    for _, kind in ipairs { 'none', 'binary', 'soft, one for all samples', 'soft, per channel' } do
      for _, shape in ipairs(shapes) do
        local now
        now, sum = compare(name, kind, activation, shape, dtype, sum)
        for _, text in ipairs(now) do wrong[#wrong + 1] = text end
      end
    end
  end
  return wrong, sum
end

if tests then
  local wrong, sum = 0, 0
  local now
  for _, activation in ipairs { false, both.activations.relu[1], both.activations.leaky_relu[1] } do
    now, sum = all(activation or nil, 'float32', sum)
    wrong = wrong + #now
  end
  -- Dense rows (norm_lines.c).
  for _, activation in ipairs { false, both.activations.relu[1], both.activations.leaky_relu[1] } do
    for _, name in ipairs { 'layer_norm', 'rms_norm' } do
      for _, shape in ipairs { { 3, 33, 24 }, { 9, 40, 128 }, { 2, 17, 272 } } do
        now, sum = compare(name, 'none', activation or nil, shape, 'float32', sum)
        wrong = wrong + #now
      end
    end
  end
  -- A result that goes past the caches.
  now, sum = compare('batch_norm', 'binary', both.activations.relu[1], { 17, 32, 72, 56 }, 'float32', sum)
  print(('isa %s wrong %d sum %d'):format(require('ffi').string(native.cpu.mt_isa()), wrong + #now, sum))
end

return { all = all, compare = compare }
