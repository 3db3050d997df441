--- cuda/graph: work that a device repeats without Lua (torch.cuda.graph, torch.cuda.CUDAGraph).
--
-- A training step of a small network is a few hundred kernels of some microseconds each; Lua takes longer to queue them than the
-- device to run them. A graph is captured once, then queued as a whole.
--
--     local x, target = torch.zeros(64, 1, 28, 28, { device = 'cuda' }), torch.ones(64, { dtype = 'int64', device = 'cuda' })
--     local step = torch.cuda.graph(function()
--       optimizer:zero_grad()
--       local loss = F.cross_entropy(net(x), target)
--       loss:backward()
--       optimizer:step()
--       return loss
--     end)
--     for batch in loader do
--       x:copy_(batch.image)
--       target:copy_(batch.label)
--       local loss = step()       -- the same tensor at every call
--     end
--
-- What a launch repeats is the device's work with the same tensors at the same addresses. Lua runs at the capture only: numbers that it
-- computes there (sizes, a factor) stay as they were. Two things are renewed for every launch: what the optimiser computes from its
-- step and its learning rate, and the random numbers, which go on from where the default generator stands. So N calls give the bits
-- of N ordinary steps.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local native_cuda = require 'masked_torch.native.cuda'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'

local check, fail = native.check, native.fail

local Graph = class('CUDAGraph')

--- cuda.CUDAGraph([{device = 'cuda'}]): an empty graph.
function Graph:__init(opts)
  opts = options.parse('CUDAGraph', { device = 'cuda' }, opts)
  self.device = Tensor.check_device('CUDAGraph', opts.device)
  local number = native_cuda.number(self.device)
  if not number then fail("CUDAGraph: device: expected 'cuda' or 'cuda:0', got %s", native.show(opts.device)) end
  self.number, self.K, self.renewals, self.draws = number, native_cuda.open(), {}, 0
end

-- Where the default generator stands, as kernels take it.
local function place_of(generator)
  local stream_size = 2 ^ 32
  return generator.seed, generator.stream * stream_size + generator.offset
end

local function finish(self, generator, offset, ok, ...)
  native.capture = nil
  self.draws = (generator.offset - offset) % 2 ^ 32
  generator.offset = offset
  local message = ...
  if ok then ok, message = pcall(check, self.K.mt_graph_end(self._c)) end
  if not ok then
    self:reset()
    error(message, 0)
  end
  self.captured = true
  return ...
end

--- graph:capture(fn, ...): runs fn(...) while what it queues on the device is kept, not done. Returns its results: tensors that hold
-- values from the first replay on. Not possible inside: reading a value (item, totable, cpu, boolean indexing) and tensors made from
-- Lua's numbers; the error names what was tried. What fn does on the CPU is done once, here.
function Graph:capture(fn, ...)
  native.callable('CUDAGraph: capture', 'fn', fn)
  if self._c then fail('CUDAGraph: capture: the graph holds a capture already; reset() it or make another') end
  if native.capture then fail('CUDAGraph: capture: one capture cannot stand in another') end
  -- What nobody holds is collected now, so that less of it is kept with the graph.
  collectgarbage()
  collectgarbage()
  local generator = require('masked_torch').default_generator
  local out, seed, call = ffi.new('mt_graph *[1]'), place_of(generator)
  check(self.K.mt_graph_begin(out, self.number, seed, call))
  self._c, self.fn = ffi.gc(out[0], self.K.mt_graph_free), fn
  native.capture = self
  local offset = generator.offset
  return finish(self, generator, offset, pcall(fn, ...))
end

--- graph:renew_with(first, renew): for optimisers. The calls of the library since slot number `first` (graph:slots() before them) are
-- made again by renew(), before every launch, to compute the numbers that they took from the host.
function Graph:renew_with(first, renew)
  self.renewals[#self.renewals + 1] = { first = first, last = self:slots(), renew = renew }
end

function Graph:slots() return tonumber(self.K.mt_graph_slots(self._c)) end

--- graph:replay(): queues all of it once. Lua does not wait.
function Graph:replay()
  if not self.captured then fail('CUDAGraph: replay: nothing was captured') end
  if native.capture then fail('CUDAGraph: replay: not inside a capture') end
  local K = self.K
  for _, r in ipairs(self.renewals) do
    check(K.mt_graph_renew(self._c, r.first, r.last))
    local ok, message = pcall(r.renew)
    local status = K.mt_graph_renewed(self._c)
    if not ok then error(message, 0) end
    check(status)
  end
  local generator = require('masked_torch').default_generator
  check(K.mt_graph_launch(self._c, place_of(generator)))
  generator.offset = (generator.offset + self.draws) % 2 ^ 32
end

--- graph:memory(): the bytes that it keeps on the device.
function Graph:memory() return self._c and self.K.mt_graph_memory(self._c) or 0 end

--- graph:reset(): forgets the capture and gives its memory back, except what tensors still hold.
function Graph:reset()
  if self._c then self.K.mt_graph_free(ffi.gc(self._c, nil)) end
  self._c, self.fn, self.captured, self.renewals, self.draws = nil, nil, nil, {}, 0
end

--- cuda.graph(fn, {warmup = 1, device = 'cuda'}) -> step: step() does what fn() does. The first `warmup` calls run fn as it is: the
-- optimiser makes its state, lazy layers find their sizes, kernels are loaded. The next one captures fn and launches the graph, all
-- later ones launch it; they return the results of the capture, whose tensors every call writes anew. Every call counts as one step,
-- the first ones too. fn takes no arguments: its inputs are tensors made before, which copy_ fills. step.graph is the CUDAGraph.
local function graph(fn, opts)
  native.callable('graph', 'fn', fn)
  opts = options.parse('graph', { warmup = 1, device = 'cuda' }, opts)
  local left = native.integer('graph', 'warmup', opts.warmup, 0)
  local captured, results, count = Graph{ device = opts.device }, nil, 0
  local function keep(...)
    results, count = { ... }, select('#', ...)
  end
  return setmetatable({ graph = captured }, { __call = function(_, ...)
    if select('#', ...) > 0 then fail('graph: the step takes no arguments; write the inputs with copy_') end
    if left > 0 then
      left = left - 1
      return fn()
    end
    if not results then keep(captured:capture(fn)) end
    captured:replay()
    return unpack(results, 1, count)
  end })
end

return { CUDAGraph = Graph, graph = graph }
