--- properties: what a network promises about masks, tried on it.
--
-- Each check runs the network twice on what should give the same and compares every layer: the network's own output decides, and the
-- report names the first layer that differs. All take (net, [x], [options]) and return ok and a report: report.ok, report.layer (its
-- name), report.class, report.difference (the largest, in the output), report.advice; print(report) says it in words. Without x, one
-- is drawn that fits the first layers. Options of all:
--   tolerance = 0       differences up to it are none: 0 asks for the same bits
--   gradients = true    compares the gradients of all parameters too, in training mode (dropout switched off)
--   size, samples, seed    of the input that is drawn: 32 per axis (16 in 3-D), 3 samples, seed 1
-- The network is left as it was: modes, running statistics, gradients, the random stream.

local autograd = require 'masked_torch.autograd'
local class = require 'masked_torch.class'
local input = require 'masked_torch.inspect.input'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local walk = require 'masked_torch.inspect.walk'
local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'

local fail, is_tensor = native.fail, Tensor.is_tensor

local properties = {}

local Report = class('PropertyReport')
function Report:__init(property) self.property, self.ok, self.difference, self.layers = property, true, 0, 0 end

function Report:__tostring()
  if self.ok then return ('%s: holds (%s)'):format(self.property, self.details) end
  local lines = { ('%s: broken%s'):format(self.property, self.layer and (' at %s (%s)'):format(self.layer == '' and 'the network' or
    'layer ' .. self.layer, self.class) or '') }
  lines[#lines + 1] = '  ' .. self.details
  if self.advice then lines[#lines + 1] = '  ' .. self.advice end
  return table.concat(lines, '\n')
end

-- ---- comparing -------------------------------------------------------------------------------------------------

-- The part of b that has a's sizes; nil when b is smaller somewhere.
local function cropped(b, a)
  local shape, where, smaller = a:size(), {}, false
  if b:dim() ~= a:dim() then return nil end
  for d, size in ipairs(shape) do
    if b:size(d) < size then return nil end
    smaller = smaller or b:size(d) > size
    where[d] = { 1, size }
  end
  return smaller and b[where]:contiguous() or b
end

-- The largest |a - b| over elements whose mask is not 0; infinite where only one is a number.
local function difference(a, b, valid)
  if a:numel() == 0 then return 0 end
  if not valid and Tensor.same_bits(a:contiguous(), b:contiguous()) then return 0 end
  if not Tensor.floating[a.dtype] then a, b = a:to{ dtype = 'float64' }, b:to{ dtype = 'float64' } end
  if valid then
    local keep = valid:ne(0):to{ device = a.device }:expand(a:size())
    a, b = a:masked_select(keep), b:masked_select(keep)
    if a:numel() == 0 or Tensor.same_bits(a, b) then return 0 end
  end
  local equal = a:eq(b):logical_or(a:isnan():logical_and(b:isnan()))
  local d = (a - b):abs():masked_fill(equal, 0)
  if d:isnan():any():item() then return math.huge end
  return d:max():item()
end

-- What a layer gave, in a form that the next run cannot change.
local function record(net, x, mask)
  local list = {}
  local function note(name, module, inputs, outputs)
    local y, m = outputs[1], outputs[2]
    if is_tensor(y) then
      list[#list + 1] = { name = name, module = module, y = y:detach():clone(), mask = walk.dense(m, y), had_mask = inputs[2] ~= nil,
        has_mask = m ~= nil }
    end
  end
  local y, m = walk.run(net, x, mask, note)
  note('', net, { x, mask }, { y, m })
  return list
end

local function masked_version(name)
  local nn = require 'masked_torch.nn'
  return nn.class_files['Masked' .. name] and 'Masked' .. name
end

-- Whether the network's own outputs, the last of two recordings, agree; if not, names the first layer that differs. Layers in
-- between may hold anything where no mask tells what counts, as an embedding's rows do. compare(a, b) -> difference, what.
local function first_difference(report, first, second, compare, tolerance)
  report.layers = #first - 1
  if #first == #second then
    local d = compare(first[#first], second[#second])
    if d <= tolerance then return nil end
    report.difference = d
  end
  for i, a in ipairs(first) do
    local b = second[i]
    if not b or b.module ~= a.module then
      report.ok, report.layer, report.class, report.details = false, a.name, walk.class(a.module), 'other layers ran the second time'
      return a
    end
    local d, what = compare(a, b)
    if not (d <= tolerance) and (i == #first or walk.class(a.module) ~= 'Embedding') then
      report.ok, report.layer, report.class, report.what = false, a.name, walk.class(a.module), what
      report.details = ('%s differs by %s'):format(what or 'its output', d == math.huge and 'NaN or infinity' or ('%.3g'):format(d))
      return a
    end
  end
end

-- ---- gradients -------------------------------------------------------------------------------------------------

-- The gradients of all parameters of fn(net) in training mode; everything is put back afterwards. seed_gradient(y) -> dy.
local function gradients_of(net, x, mask, seed_gradient)
  local restore, kept = walk.modes(net), {}
  for _, buffer in ipairs(net:buffers()) do kept[#kept + 1] = { buffer, buffer:detach():clone() } end
  local before = {}
  for _, p in ipairs(net:parameters()) do before[p] = p.grad or false end
  net:train()
  for _, module in net:named_modules() do
    if walk.class(module):find '^Dropout' then rawset(module, 'training', false) end
  end
  local ok, result = pcall(autograd.enable_grad, function()
    net:zero_grad()
    local y = net(x, mask)
    if not is_tensor(y) or not y.requires_grad then return {} end
    y:backward(seed_gradient(y))
    local grads = {}
    for name, p in net:named_parameters() do grads[#grads + 1] = { name = name, g = p.grad and p.grad:detach():clone() } end
    return grads
  end)
  restore()
  for _, p in ipairs(net:parameters()) do p.grad = before[p] or nil end
  for _, entry in ipairs(kept) do
    autograd.no_grad(function() entry[1]:detach():copy_(entry[2]) end)
  end
  if not ok then error(result, 0) end
  return result
end

local function compare_gradients(report, first, second, tolerance)
  for i, a in ipairs(first) do
    local b = second[i]
    local d
    if (a.g == nil) ~= (b.g == nil) then d = math.huge else d = a.g and difference(a.g, b.g) or 0 end
    if not (d <= tolerance) then
      report.ok, report.layer, report.class, report.difference = false, a.name, 'gradient', d
      report.details = ('the gradient of %s differs by %s'):format(a.name, d == math.huge and 'NaN or infinity' or ('%.3g'):format(d))
      report.advice = 'The outputs agree, but a gradient passes into positions that the mask leaves out (MaskedConv and PartialConv ' ..
        "pass it, as masked_torch's do): put nn.ApplyMask before the layer that comes next, or give it { premask = 'select' }."
      return
    end
  end
end

local function noise_like(y, seed)
  local torch = require 'masked_torch'
  return torch.randn(y:size(), { generator = torch.Generator(seed), dtype = y.dtype, device = y.device })
end

-- ---- the checks ------------------------------------------------------------------------------------------------

local defaults = { tolerance = 0, gradients = true, size = options.none, samples = 3, seed = 1 }

local function begin(op, net, x, opts)
  walk.check(op, net)
  if x ~= nil and not is_tensor(x) and opts == nil then x, opts = nil, x end
  opts = options.parse(op, defaults, opts)
  native.integer(op, 'samples', opts.samples, 1)
  if not (opts.tolerance >= 0) then fail('%s: tolerance: expected a number of at least 0, got %s', op, opts.tolerance) end
  local known, list = pcall(net.parameters, net)       -- a lazy layer has none before its first input
  local first = known and list[1] or nil
  local given = input.draw(op, net, { x = x, N = opts.samples, size = opts.size, seed = opts.seed, dtype = first and first.dtype })
  if first and first.device ~= 'cpu' then given.x = given.x:to{ device = first.device } end
  return given, opts, Report(op)
end

local function spatial_check(op, given)
  if given.dims == 0 then fail('%s: x: %s has no spatial axes that could be masked', op, Tensor.shape_text(given.x)) end
end

-- The mask of samples of those sizes, where x lives.
local function mask_for(x, boxes, canvas)
  local m = input.mask(boxes, canvas)
  return x.device == 'cpu' and m or m:tensor 'bool':to{ device = x.device }
end

-- An error in the second run is an answer too.
local function attempt(report, advice, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  local message = tostring(result)
  if message:find 'interrupted' then error(result, 0) end
  report.ok, report.details, report.advice, report.difference = false, 'it cannot be run: ' .. message, advice, math.huge
end

local function finish(report, text)
  if report.ok then
    report.details = ('%d layer%s compared%s'):format(report.layers, report.layers == 1 and '' or 's', text or '')
  end
  return report.ok, report
end

-- Whether the network gives what it gave in the recording `first`; where not, the report says what differs. trial:
--   again()        the second recording; cannot: the advice where that ends in an error
--   compare(a, b)  of two layers: difference, what
--   explain(at)    the advice for the layer that differs; at: its entry of the first recording
--   gradients()    of both runs, to be compared if all this agrees; or nil
local function agrees(report, opts, first, trial)
  local second = attempt(report, trial.cannot, trial.again)
  if not second then return false end
  local at = first_difference(report, first, second, trial.compare, opts.tolerance)
  if at then
    report.advice = trial.explain(at)
    return false
  end
  if trial.gradients and opts.gradients then
    local a, b = trial.gradients()
    compare_gradients(report, a, b, opts.tolerance)
  end
  return report.ok
end

-- ---- padding -----------------------------------------------------------------------------------------------------

-- p on a canvas, q the same on a larger one.
local function compare_canvases(p, q)
  local y = cropped(q.y, p.y)
  if not y then return math.huge, 'the shape of its output' end
  if p.mask and q.mask and p.mask:dim() <= 2 then      -- of a mean: how much of the canvas was valid
    local d = difference(p.mask:ne(0), q.mask:ne(0))
    if d > 0 then return d, 'its mask' end
  elseif p.mask and q.mask then
    local m = cropped(q.mask, p.mask)
    if not m then return math.huge, 'the shape of its mask' end
    local d = difference(p.mask, m)
    if d > 0 then return d, 'its mask' end
    -- Beyond the small canvas nothing may be valid.
    local rest = q.mask:sum():item() - m:sum():item()
    if rest > 0 then return rest, 'its mask' end
  end
  return difference(p.y, y, p.mask)
end

-- An upstream gradient for y: noise where `last`, the network's output on the small canvas, is valid, and 0 beyond it.
local function noise_on_canvas(y, last, seed)
  local g = noise_like(last.y, seed)
  if last.mask then g = g * last.mask:ne(0):to{ dtype = g.dtype, device = g.device } end
  if Tensor.shape_text(y) == Tensor.shape_text(last.y) then return g end
  local full, where = require('masked_torch').zeros(y:size(), { dtype = y.dtype, device = y.device }), {}
  for d, size in ipairs(last.y:size()) do where[d] = { 1, size } end
  full[where] = g
  return full
end

--- torch.inspect.padding_invariant(net, [x], [options]): samples of different sizes in a canvas, then the same samples in a larger
-- one: the output's valid elements must agree, its mask must, and so must the gradients. x: the samples, (N, C, *S) or (N, L).
function properties.padding_invariant(net, x, opts)
  local op = 'padding_invariant'
  local given, report
  given, opts, report = begin(op, net, x, opts)
  spatial_check(op, given)
  local small, large = input.sizes(given.x, given.dims), {}
  for d, size in ipairs(small) do large[d] = size + 16 * d end
  local boxes = input.boxes(given.x, given.dims)
  local fill = given.rows and 1 or 0
  local a_x, b_x = input.canvas(given.x, boxes, small, fill), input.canvas(given.x, boxes, large, fill)
  local a_m, b_m = mask_for(given.x, boxes, small), mask_for(given.x, boxes, large)
  local a = record(net, a_x, a_m)
  local function gradients(canvas_x, canvas_m)
    return gradients_of(net, canvas_x, canvas_m, function(y) return noise_on_canvas(y, a[#a], opts.seed) end)
  end
  agrees(report, opts, a, { compare = compare_canvases,
    again = function() return record(net, b_x, b_m) end,
    cannot = 'A layer has the size of its input built in (a Linear over flattened positions?); end the spatial axes with ' ..
      'MaskedSpatialMean.',
    explain = function(at)
      local name = report.class
      if report.what == 'its mask' then
        return "The mask grows into the padding. Masks of padding must be kept: { rule = 'keep' } for convolutions, " ..
          "{ mask_rule = 'keep' } for pooling and resampling."
      elseif not at.had_mask then
        return 'No mask reaches this layer: a layer before it drops the mask, or the network does not pass it on.'
      elseif masked_version(name) then
        return ('%s counts padding; use nn.%s.'):format(name, masked_version(name))
      elseif not at.has_mask then
        return 'It takes the mask away although its output has spatial axes; return it: return y, mask.'
      end
      return 'Its result depends on positions where the mask is 0: clear them first (nn.ApplyMask), or use the mask.'
    end,
    gradients = function() return gradients(a_x, a_m), gradients(b_x, b_m) end })
  return finish(report, opts.gradients and ', and all gradients' or '')
end

-- ---- holes, batch mates, full masks ------------------------------------------------------------------------------

--- torch.inspect.hole_agnostic(net, [x], [options]): zeros under the mask, then NaN, infinity and large numbers there: valid elements and
-- gradients must agree. The holes are padding and scattered positions.
function properties.hole_agnostic(net, x, opts)
  local op = 'hole_agnostic'
  local given, report
  given, opts, report = begin(op, net, x, opts)
  spatial_check(op, given)
  local torch = require 'masked_torch'
  local sizes = input.sizes(given.x, given.dims)
  local shape = { given.x:size(1), 1, unpack(sizes) }
  local generator = torch.Generator(opts.seed + 1)
  local m = torch.rand(shape, { generator = generator }):gt(0.3):to{ dtype = 'float32' } *
    input.mask(input.boxes(given.x, given.dims), sizes):tensor 'float32'
  m = m:to{ device = given.x.device }
  local function filled(value)
    local hole = m:eq(0)
    if given.rows then return given.x:masked_fill(hole:reshape(given.x:size()), value) end
    return given.x:masked_fill(hole, value)
  end
  local fills = given.rows and { 1, 2 } or { 0, 0 / 0, 1 / 0, 1e30 }
  local a_x = filled(fills[1])
  local a = record(net, a_x, m)
  local function gradients(canvas)
    return gradients_of(net, canvas, m, function(y)
      local g, last = noise_like(y, opts.seed), a[#a]
      return last.mask and g * last.mask:ne(0):to{ dtype = g.dtype, device = g.device } or g
    end)
  end
  local first = opts.gradients and gradients(a_x)
  for i = 2, #fills do
    local b_x = filled(fills[i])
    local same = agrees(report, opts, a, {
      again = function() return record(net, b_x, m) end,
      cannot = 'Values under the mask reach a check of its values.',
      compare = function(p, q)
        if p.mask and q.mask and difference(p.mask, q.mask) > 0 then return difference(p.mask, q.mask), 'its mask' end
        -- What only copies positions may still hold what it was given there; the network's own output may not, unless masked.
        return difference(p.y, q.y, p.mask)
      end,
      explain = function(at)
        report.details = report.details .. (' with %s under the mask'):format(given.rows and 'other rows' or tostring(fills[i]))
        if not at.had_mask then
          return 'No mask reaches this layer: pass it on, or begin with nn.ApplyMask, which clears the holes.'
        elseif not at.has_mask then
          return 'It takes the mask away before the holes were cleared; use nn.ApplyMask before it, or return y, mask.'
        end
        return ('It reads what lies under the mask; clear it first (nn.ApplyMask)%s.'):format(masked_version(report.class) and
          ' or use nn.' .. masked_version(report.class) or '')
      end,
      gradients = function() return first, gradients(b_x) end })
    if not same then break end
  end
  return finish(report, opts.gradients and ', and all gradients' or '')
end

--- torch.inspect.batch_invariant(net, [x], [options]): every sample in the batch, then alone (in evaluation mode): its output must be the
-- same. Samples have different sizes where the input has spatial axes.
function properties.batch_invariant(net, x, opts)
  local op = 'batch_invariant'
  local given, report
  given, opts, report = begin(op, net, x, opts)
  local together, mask = given.x, nil
  if given.dims > 0 then
    local sizes, boxes = input.sizes(given.x, given.dims), input.boxes(given.x, given.dims)
    together, mask = input.canvas(given.x, boxes, sizes, given.rows and 1 or 0), mask_for(together, boxes, sizes)
  end
  local N = together:size(1)
  if N < 2 then fail('%s: x: one sample has no batch mates; give two or more', op) end
  local a = record(net, together, mask)
  local dense = mask and (is_tensor(mask) and mask or mask:tensor 'float32')
  for n = 1, N do
    local function alone(t) return t and (t:size(1) == N and t:narrow(1, n, 1):contiguous() or t) end
    local same = agrees(report, opts, a, {
      again = function() return record(net, alone(together), alone(dense)) end,
      cannot = 'A single sample must be a batch of its own: nothing may depend on the size of the batch.',
      compare = function(p, q)
        if p.y:dim() == 0 or p.y:size(1) ~= N then return math.huge, 'the first dim of its output is not the batch: it' end
        return difference(alone(p.y), q.y, alone(p.mask))
      end,
      explain = function()
        report.details = ('%s for sample %d of %d'):format(report.details, n, N)
        return 'It mixes samples, or its order of sums depends on the batch. Statistics over the batch belong to training mode alone ' ..
          '(track_running_stats = true).'
      end })
    if not same then break end
  end
  return finish(report, (', %d samples'):format(N))
end

--- torch.inspect.equals_dense_when_full(net, [x], [options]): no mask, then a mask of ones (one channel, all channels): outputs and
-- gradients must be the same.
function properties.equals_dense_when_full(net, x, opts)
  local op = 'equals_dense_when_full'
  local given, report
  given, opts, report = begin(op, net, x, opts)
  spatial_check(op, given)
  local a = record(net, given.x, nil)
  local function gradients(m)
    return gradients_of(net, given.x, m, function(y) return noise_like(y, opts.seed) end)
  end
  local first = opts.gradients and gradients(nil)
  local shapes = { { given.x:size(1), 1, unpack(input.sizes(given.x, given.dims)) } }
  if not given.rows and given.x:size(2) > 1 then shapes[2] = given.x:size() end
  for _, shape in ipairs(shapes) do
    local m = require('masked_torch').ones(shape, { device = given.x.device })
    local same = agrees(report, opts, a, {
      again = function() return record(net, given.x, m) end,
      cannot = 'The network does not take this mask.',
      compare = function(p, q) return difference(p.y, q.y) end,
      explain = function()
        report.details = ('%s under a full mask of shape %s'):format(report.details, Tensor.shape_text(m))
        return 'With everything valid it should be the plain layer. compat = true and eps > 0 are the usual reasons; ' ..
          'border = true counts the padding around the image as invalid, which is meant.'
      end,
      gradients = function() return first, gradients(m) end })
    if not same then break end
  end
  return finish(report, opts.gradients and ', and all gradients' or '')
end

-- ---- gradients against finite differences ----------------------------------------------------------------------

--- torch.inspect.gradcheck(net, [x], [{mask = nil, tolerance = 1e-6, eps = 1e-5, size = 5, samples = 2, seed = 1}]): the
-- gradients of the input and of every parameter against finite differences, in float64 and evaluation mode. The network's own type
-- comes back. Something near a kink, as 0 for ReLU, is tried again with smaller steps. torch.gradcheck does it for functions.
function properties.gradcheck(net, x, opts)
  local op = 'gradcheck'
  walk.check(op, net)
  if x ~= nil and not is_tensor(x) and opts == nil then x, opts = nil, x end
  opts = options.parse(op, { mask = options.none, tolerance = 1e-6, eps = 1e-5, size = 5, samples = 2, seed = 1 }, opts)
  local report = Report(op)
  local given = input.draw(op, net, { x = x, N = opts.samples, size = opts.size, seed = opts.seed })
  if opts.mask ~= nil and not is_tensor(opts.mask) and not Mask.is_mask(opts.mask) then
    fail('%s: mask: expected a mask or a tensor, got %s', op, native.show(opts.mask))
  end
  local gradcheck = require('masked_torch.autograd.gradcheck').gradcheck
  local restore, types = walk.modes(net), {}
  for _, p in ipairs(net:parameters()) do
    types[#types + 1] = { p, p.dtype, p:detach():clone(), p.grad }
    p.grad = nil        -- net:to would convert it too
  end
  for _, b in ipairs(net:buffers()) do types[#types + 1] = { b, b.dtype, b:detach():clone() } end
  local ok, problem = pcall(function()
    net:to{ dtype = 'float64' }:eval()
    local value = given.rows and given.x or given.x:to{ dtype = 'float64' }:requires_grad_()
    local worst = 0
    local function try(name, inputs, fn)
      local good, result
      for step = 0, 2 do
        good, result = gradcheck(fn, inputs, { eps = opts.eps / 8 ^ step, tolerance = opts.tolerance })
        if good then break end
      end
      if not good then
        report.ok, report.layer, report.class = false, name, name == 'x' and 'the input' or 'parameter'
        report.details, report.difference = result, tonumber(result:match 'relative error (%S+)') or math.huge
        report.advice = 'The backward of this layer does not fit its forward; torch.gradcheck on the layer alone narrows it down.'
        return false
      end
      worst = math.max(worst, result)
      return true
    end
    if not given.rows and not try('x', { value }, function(v) return (net(v, opts.mask)) end) then return end
    for name, p in net:named_parameters() do
      report.layers = report.layers + 1
      if not try(name, { p }, function() return (net(value, opts.mask)) end) then return end
    end
    report.difference = worst
  end)
  for _, entry in ipairs(types) do
    local t, dtype, value, grad = unpack(entry, 1, 4)
    if Tensor.floating[dtype] and t.dtype ~= dtype then
      local back = value:clone()
      t._c, t.K, t.dtype = back._c, back.K, back.dtype
    else
      autograd.no_grad(function() t:detach():copy_(value) end)
    end
    t.grad = grad
  end
  restore()
  if not ok then error(problem, 0) end
  if report.ok then
    report.details = ('%d parameters, largest relative error %.2g'):format(report.layers, report.difference)
  end
  return report.ok, report
end

return properties
