--- What may differ from PyTorch: documented decisions, and places where PyTorch has a limit of its own. allowed(case, difference)
-- -> true where it is one of these.

-- function (a pattern) -> pattern of the difference.
local documented = {
  -- Sums, softmax and losses give float32 for bfloat16 (docs/performance_guide.md).
  { '', 'type float32, expected bfloat16' },
  -- any and all are bool for every type; arithmetic on bool counts in int64.
  { '^method%.a[nl][yl]$', 'type bool, expected uint8' },
  { '^method%.[amdsf]', 'type int64, expected bool' },
  -- Products and activations are for floating point, parameters float32 or float64.
  { '^method%.', 'error: %S+: expected two tensors of floating point' },
  { '^functional%.', 'expected float32.* or %S+, got .* int64' },
  { 'sign_$', 'got .* bool' },
  { '^module%.', "a module has 'float32' or 'float64' parameters" },
  -- An operation in place keeps the type; types are not converted where tensors are joined.
  { '_$', 'cannot be written to' },
  { '^torch%.', 'convert one with :to' },
  -- A dim of a tensor without dims is an error wherever the tensor is looked at anew.
  { '^method%.', 'dim: the tensor has no dims' },
  -- Softmax of a line of -Inf is 0; a window without any pixel gives 0; all labels ignored: gradient 0.
  { 'softmax$', 'element %d+: %-?[0i]n?f?, expected nan' },
  { 'softmax$', 'gradient of 1' },
  { 'max_pool', '0, expected %-inf' },
  { 'cross_entropy$', 'gradient of 1: .* 0, expected nan' },
  { 'cross_entropy$', 'inf, expected nan' },
  -- Constants here: labels that are probabilities, quotients that are rounded, what beta = 0 leaves unread, tensors of shape (0) in cat.
  { 'cross_entropy', 'no gradient flows into it' },
  { 'method%.div_?$', 'requires_grad false' },
  { 'addmm$', 'requires_grad false' },
  { 'addmm$', 'must match the existing size' },
  { 'cat$', 'requires_grad false' },
  -- Sizes that are refused here.
  { '[tT]ranspose%dd$', 'the output would have size' },
  { '[tT]ranspose%dd$', 'expected less than the stride' },
  { '^functional%.linear$', 'weight: expected %(out' },
  { 'unfold$', 'size: expected a whole number of at least 1' },
  { 'median$', 'no element to choose from' },
  { '^method%.[fdr]', 'division of integers by zero' },
  { 'take_along_dim$', 'is outside 1%.%.' },
  -- Sizes that PyTorch refuses, or takes otherwise.
  { 'group_norm$', 'Expected more than 1 value' },
  { 'GroupNorm$', 'Expected more than 1 value' },
  { 'max_pool', 'half of kernel size' },
  { 'allclose$', 'The size of tensor' },
  { 'norm$', 'cannot compute the' },
  { 'chunk$', 'is missing' },
  { '^module%.InstanceNorm', '^buffer num_batches_tracked' },
  -- The far tail of the normal distribution is exact; sign(NaN) is NaN, (-Inf)^0.5 is what C says.
  { 'gelu$', 'element %d+: %-%S+e%-%d+, expected %-?0' },
  { 'gelu$', 'element %d+: %-%S+e%-1%d, expected' },
  { 'sign_?$', 'nan, expected 0' },
  { 'pow_?$', 'inf, expected nan' },
  -- A quotient is rounded from its exact value, as in Python: 1 / 0.1 gives 9.
  { '^method%.div_?$', 'result 1: element %d+: %-?%d+, expected %-?%d+ ' },
  -- Gradients at bounds and infinities, at the origin, where uint8 overflows in PyTorch's formula, and where nothing is left to divide by.
  { 'clamp_?$', 'gradient of 1: .* expected 0 ' },
  { 'atan2_?$', 'gradient of %d' },
  { 'remainder_?$', 'gradient of 2' },
  { '^method%.a?m[axi][xn]$', 'gradient of 1: .* expected nan' },
  { '^method%.logsumexp$', 'gradient of 1: .* expected nan' },
  { 'kl_div$', 'gradient of 2: .* expected nan' },
  { '^method%.var$', 'gradient of 1: element %d+: nan, expected %-?0' },
  { '^method%.std$', 'gradient of 1: element %d+: nan, expected %-?0' },
}

-- What PyTorch refuses and this library can do.
local extensions = { 'not implemented for', 'does not support bool', 'not supported', 'must be contiguous', 'needs to be contiguous',
  'smaller than kernel size', 'expand%(%) missing', 'Can not infer total number of classes',
  '_foreach_norm cannot', 'Integers to negative integer powers' }

return function(case, difference)
  local name = case.kind .. '.' .. case.name
  for _, entry in ipairs(documented) do
    if name:find(entry[1]) and difference:find(entry[2]) then return true end
  end
  if difference:find('^no error') then
    for _, text in ipairs(extensions) do
      if difference:find(text) then return true end
    end
  end
  return false
end
