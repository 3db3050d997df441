--- What vector_math_spec.lua and the process it starts per instruction set have in common: sweep() -> arguments; functions, by name
-- {largest error in units of the last place, function}.
local ffi = require 'ffi'
local torch = require 'masked_torch'
local F = torch.nn.functional

-- Bit patterns 32719 apart below NaN, both signs, the range around 0 once more and densely, and the special values.
local function sweep()
  local n, dense = 2 * 65300, 20000
  local specials = { 0, -0.0, 1, -1, 1 / 0, -1 / 0, 0 / 0, 88.7, 88.8, -103.9, -104.1, 2 ^ -149, -2 ^ -149, 2 ^ -126, 30, -114, 3.4e38,
    -3.4e38 }
  local x = torch.zeros(n + dense + #specials)
  local words = ffi.cast('uint32_t *', x._c.data)
  for i = 0, n / 2 - 1 do
    words[2 * i] = i * 32719
    words[2 * i + 1] = 0x80000000 + i * 32719
  end
  for i = 1, dense do x[n + i] = (i / dense - 0.5) * 40 end
  for i, v in ipairs(specials) do x[n + dense + i] = v end
  return x
end

local function gelu_tanh(x) return F.gelu(x, 'tanh') end
local function softplus_3(x) return F.softplus(x, 0.3) end
return { sweep = sweep, functions = {
  exp = { 1, function(x) return x:exp() end }, expm1 = { 1.1, function(x) return x:expm1() end },
  log = { 0.9, function(x) return x:log() end }, log1p = { 1.5, function(x) return x:log1p() end },
  log2 = { 1.4, function(x) return x:log2() end }, tanh = { 1.2, function(x) return x:tanh() end },
  sigmoid = { 2.5, function(x) return x:sigmoid() end }, silu = { 2.5, F.silu }, elu = { 1.1, F.elu },
  softplus = { 1.8, F.softplus }, ['softplus, beta 0.3'] = { 3, softplus_3 },
  gelu = { 6, F.gelu }, ['gelu, tanh'] = { 2.6, gelu_tanh },
} }
