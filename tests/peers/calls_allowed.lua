--- What may differ from PyTorch: documented decisions, and places where PyTorch has a limit of its own. allowed(case, difference)
-- -> true where it is one of these.

-- function (a pattern) -> pattern of the difference.
local documented = {
  -- Sums, softmax and losses give float32 for bfloat16 (docs/performance_guide.md).
  { '', 'type float32, expected bfloat16' },
  -- any and all are bool for every type; arithmetic on bool counts in int64.
  { '^method%.a[nl][yl]$', 'type bool, expected uint8' },
  { '^method%.[amdsf]', 'type int64, expected bool' },
  -- Products are for floating point.
  { '^method%.', 'error: %S+: expected two tensors of floating point' },
  { '^module%.', "a module has 'float32' or 'float64' parameters" },
  -- Activations are for floating point; PyTorch's relu takes integers too.
  { '^functional%.relu_?$', 'expected float32 or float64, got .* int64' },
  -- A dim of a tensor without dims is an error wherever the tensor is looked at anew.
  { '^method%.', 'dim: the tensor has no dims' },
  -- A NaN gradient of PyTorch's: of extremes among NaN, of logsumexp over -Inf, of target log(target) at 0.
  { '^method%.a?m[axi][xn]$', 'gradient of 1: .* expected nan' },
  { '^method%.logsumexp$', 'gradient of 1: .* expected nan' },
  { 'kl_div$', 'gradient of 2: .* expected nan' },
  -- Softmax of a line of -Inf is 0.
  { 'softmax$', 'element %d+: 0, expected nan' },
  { 'softmax$', 'gradient of 1' },
  { 'prod$', 'gradient of 1: .* expected nan' },
  { 'l1_loss$', 'gradient of 1: .*: nan, expected 0' },
  { 'cross_entropy', 'no gradient flows into it' },
  -- Types are not converted where tensors are joined.
  { '^torch%.', 'convert one with :to' },
  { '^functional%.conv_transpose', 'the output would have size' },
  { '^functional%.conv_transpose', 'expected less than the stride' },
  -- The far tail of the normal distribution is exact.
  { 'gelu$', 'element %d+: %-%S+e%-%d+, expected %-?0' },
  -- A quotient that is rounded is a constant.
  { 'method%.div_?$', 'requires_grad false' },
  -- An operation in place keeps the type.
  { '_$', 'cannot be written to' },
  { 'group_norm$', 'Expected more than 1 value' },
  { 'sign_$', 'got .* bool' },
  -- The gradient at a bound: PyTorch's is 0 there.
  { 'clamp_?$', 'gradient of 1: .* expected 0 ' },
  -- Where uint8 overflows in PyTorch's formula, and at the origin.
  { 'atan2$', 'gradient of %d' },
  -- Positions of expanded integers: PyTorch's median reads outside.
  { 'median$', 'result 1' },
  { 'median$', 'no element to choose from' },
  { 'sign_?$', 'nan, expected 0' },
  { '^method%.[fdr]', 'division of integers by zero' },
  { 'remainder$', 'gradient of 2: .* expected nan' },
  { '[vs][at][rd]$', 'gradient of 1: element %d+: nan, expected 0' },
  { 'unfold$', 'size: expected a whole number of at least 1' },
  { 'softmax$', 'expected float32 or float64, got %(0%)' },
  -- beta = 0: x is not looked at.
  { 'addmm$', 'must match the existing size' },
  -- One size for all is taken for weights of a vector there.
  { '^functional%.linear$', 'weight: expected %(out' },
}

-- What PyTorch refuses and this library can do.
local extensions = { 'not implemented for', 'does not support bool', 'not supported', 'must be contiguous', 'needs to be contiguous',
  'smaller than kernel size', 'expand%(%) missing', 'Can not infer total number of classes' }

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
