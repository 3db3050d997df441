--- onednn: oneDNN by itself (its direct convolutions; version 3 has no Winograd for AVX-512) as a contender of gemm and conv rows,
-- where `scripts/install_peers onednn` has been run. It computes in our process, in the layout that it likes best; bringing
-- tensors there is not counted.

local ffi = require 'ffi'
local torch = require 'masked_torch'

ffi.cdef [[
typedef struct bench_onednn {
  int32_t pass, dims, threads;
  int64_t N, C, O, groups, kernel, stride, padding;
  int64_t in[3], out[3];
} bench_onednn;
typedef struct bench_primitive bench_primitive;
const char *bench_onednn_conv(bench_primitive **out, const bench_onednn *c, const float *x, const float *w, const float *b,
                              const float *dy);
void bench_onednn_run(bench_primitive *p, int32_t count);
void bench_onednn_output(bench_primitive *p, float *out);
void bench_onednn_free(bench_primitive *p);
void bench_onednn_gemm(float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k, int32_t threads);
const char *bench_onednn_version(void);
]]

local onednn = {}
local library

--- onednn.load(path) -> version, or nil where the library was not built.
function onednn.load(path)
  local found, result = pcall(ffi.load, path)
  if not found then return nil end
  library = result
  return ffi.string(library.bench_onednn_version())
end

local PASS = { forward = 0, input = 1, weight = 2 }

local function floats(t) return ffi.cast('float *', t._c.data) end

local function convolution(row, inputs, threads)
  local c = ffi.new('bench_onednn', { pass = PASS[row.pass], dims = #row.size, threads = threads, N = row.N,
    C = row.C, O = row.O, groups = row.groups, kernel = row.kernel, stride = row.stride, padding = row.padding })
  local shape = row.pass == 'weight' and inputs.w:size() or { row.N, row.pass == 'input' and row.C or row.O }
  for d, n in ipairs(row.size) do
    c['in'][d - 1], c.out[d - 1] = n, math.floor((n + 2 * row.padding - row.kernel) / row.stride) + 1
    if row.pass ~= 'weight' then shape[d + 2] = tonumber(row.pass == 'input' and n or c.out[d - 1]) end
  end
  local x, w, b, dy = inputs.x:contiguous(), inputs.w:contiguous(), inputs.b, inputs.dy:contiguous()
  local out = ffi.new('bench_primitive *[1]')
  local message = library.bench_onednn_conv(out, c, floats(x), floats(w), floats(b), floats(dy))
  if message ~= nil then error('bench: oneDNN: ' .. ffi.string(message), 0) end
  local p = ffi.gc(out[0], library.bench_onednn_free)
  return function() library.bench_onednn_run(p, 1) end, function()
    local y = torch.empty(shape)
    library.bench_onednn_run(p, 1)
    library.bench_onednn_output(p, floats(y))
    return { out = y }
  end
end

--- onednn.contenders(row, inputs, threads) -> array of {name =, run = function, outputs = function}
function onednn.contenders(row, inputs, threads)
  local list = {}
  if not library then return list end
  if row.kind == 'gemm' then
    local y = torch.empty(row.M, row.N)
    local function run()
      library.bench_onednn_gemm(floats(y), floats(inputs.a), floats(inputs.b), row.M, row.N, row.K, threads)
    end
    list[1] = { name = 'onednn', run = run, outputs = function()
      run()
      return { y = y }
    end }
  elseif row.kind == 'conv' then
    local run, outputs = convolution(row, inputs, threads)
    list[1] = { name = 'onednn', run = run, outputs = outputs }
  end
  return list
end

return onednn
