-- The op table of dropout: the draws are taken from the generator's words by hand.
local ffi = require 'ffi'
local native = require 'masked_torch.native'
local torch = require 'masked_torch'
local F = torch.nn.functional

-- keep(i): does draw i (from 0) of seed `seed` keep its elements?
local function keeper(seed, p)
  local out = ffi.new('uint32_t[4]')
  return function(i)
    native.cpu.mt_random_philox(out, ffi.new('uint32_t[4]', math.floor(i / 4), 0, 0, 0), ffi.new('uint32_t[2]', seed, 0))
    return out[i % 4] < (1 - p) * 2 ^ 32
  end
end

local function reference(seed, p, share)
  local keep = keeper(seed, p)
  return function(x)
    local n = -1
    local function walk(v)
      if type(v) ~= 'table' then
        n = n + 1
        return keep(math.floor(n / share)) and v / (1 - p) or 0
      end
      local y = {}
      for i, w in ipairs(v) do y[i] = walk(w) end
      return y
    end
    return walk(x)
  end
end

local function options(p, seed) return { p = p, generator = torch.Generator(seed) } end

local function under_mask(seed, p, share)
  local drop = reference(seed, p, share)
  return function(x, m)
    local y = drop(x)
    for n, sample in ipairs(y) do
      for c, row in ipairs(sample) do
        for i = 1, #row do row[i] = m[n][#m[n] == 1 and 1 or c][i] ~= 0 and row[i] or 0 end
      end
    end
    return y
  end
end

local function with_mask(opts, m)
  opts.mask = m
  return opts
end

return {
  { op = 'dropout', name = 'under a mask of one channel', inputs = function(random)
    return { random:normal{ 3, 5, 7 }, random:binary{ 3, 1, 7 } }
  end, fn = function(x, m) return F.dropout(x, with_mask(options(0.3, 17), m)) end, reference = under_mask(17, 0.3, 1) },
  { op = 'dropout', name = 'channels under a mask of every element', inputs = function(random)
    return { random:normal{ 4, 5, 3 }, random:binary{ 4, 5, 3 } }
  end, fn = function(x, m) return F.dropout1d(x, with_mask(options(0.5, 18), m)) end, reference = under_mask(18, 0.5, 3) },
  { op = 'dropout', name = 'elements', inputs = function(random) return { random:normal({ 3, 5, 7 }) } end,
    fn = function(x) return F.dropout(x, options(0.3, 17)) end, reference = reference(17, 0.3, 1) },
  { op = 'dropout', name = 'everything', inputs = function(random) return { random:normal({ 1, 5 }) } end,
    fn = function(x) return F.dropout(x, options(1, 17)) end, reference = reference(17, 1, 1) },
  { op = 'dropout', name = 'channels 1-D', inputs = function(random) return { random:normal({ 4, 5, 3 }) } end,
    fn = function(x) return F.dropout1d(x, options(0.5, 3)) end, reference = reference(3, 0.5, 3) },
  { op = 'dropout', name = 'channels 2-D', inputs = function(random) return { random:normal({ 3, 4, 2, 5 }) } end,
    fn = function(x) return F.dropout2d(x, options(0.2, 4)) end, reference = reference(4, 0.2, 10) },
  { op = 'dropout', name = 'channels 3-D', inputs = function(random) return { random:normal({ 1, 6, 2, 1, 3 }) } end,
    fn = function(x) return F.dropout3d(x, options(0.5, 5)) end, reference = reference(5, 0.5, 6) },
}
