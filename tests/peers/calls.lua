--- Makes the calls that tests/peers/draw_calls.py drew and compares with what PyTorch gave: luajit tests/peers/calls.lua FOLDER
-- [NUMBER]. With a number, that call alone. Prints what differs, the first few of each function; exits with 1 if anything does.
local root = arg[0]:match('^(.*)tests/peers/calls%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'tests/?.lua;' .. package.path
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local file = require 'masked_torch.io.file'
local allowed = require 'peers.calls_allowed'

local json, safetensors, F = torch.io.json, torch.io.safetensors, torch.nn.functional
local folder, only = arg[1], tonumber(arg[2])
local LIMIT = tonumber(os.getenv 'LIMIT' or 3)
local step_of = { float32 = 2 ^ -23, float64 = 2 ^ -44, bfloat16 = 2 ^ -7 }    -- float64: nothing more exact to compare with

-- ---- the call ----------------------------------------------------------------------------------------------------

local function value(v, used)
  if v == json.null then return nil end
  if type(v) ~= 'table' then return v end
  if v.tensor then return used[v.tensor] end
  if v.number then return tonumber((v.number:gsub('infinity', 'inf'))) end
  local copy = {}
  for i = 1, #v do copy[i] = value(v[i], used) end
  return copy
end

local function leaf_of(spec, base)
  local x = base:clone()
  for _, step in ipairs(spec.steps) do
    x = x[step[1]](x, unpack(value(step), 2))
  end
  x = x:detach()
  if spec.grad then x:requires_grad_() end
  return x
end

local function module_of(case, args, tensors)
  args.n = args.n + 1
  local opts = args[args.n] or {}
  opts.dtype = nil
  args[args.n] = next(opts) and opts or nil
  local net = torch.nn[case.name](unpack(args, 1, args.n)):to(case.dtype)
  local state = {}
  for _, name in ipairs(case.state) do state[name] = tensors(case.number .. '/state.' .. name) end
  net:load_state_dict(state)
  net:train(case.train)
  return net
end

-- A few steps of an optimiser: the parameters, the learning rates and the norms of the gradients.
local function optimise(case, options, leaves)
  local parameters, rates, norms = {}, {}, {}
  for i = 1, case.parameters do parameters[i] = leaves[i] end
  local optimizer, schedule = torch.optim[case.name](parameters, options), nil
  if case.schedule ~= json.null then
    local args = value(case.schedule_args[1])
    args[#args + 1] = next(case.schedule_args[2]) and setmetatable(case.schedule_args[2], nil) or nil
    schedule = torch.optim.lr_scheduler[case.schedule](optimizer, unpack(args))
  end
  for step = 1, case.steps do
    for i, p in ipairs(parameters) do p.grad = leaves[case.parameters * step + i]:clone() end
    if case.clip ~= json.null then
      norms[step] = torch.optim.clip_grad_norm_(parameters, case.clip, { norm_type = value(case.norm_type) })
    end
    optimizer:step()
    if schedule then schedule:step(case.schedule == 'ReduceLROnPlateau' and case.metrics[step] or nil) end
    rates[step] = optimizer.param_groups[1].lr
  end
  for i, p in ipairs(parameters) do parameters[i] = p:detach() end
  parameters[#parameters + 1] = torch.tensor(rates, { dtype = 'float64' })
  parameters[#parameters + 1] = torch.tensor(norms)
  return parameters
end

-- Results, leaves, module.
local function call(case, tensors)
  local leaves, used = {}, {}
  for i, spec in ipairs(case.tensors) do
    leaves[i] = leaf_of(spec, tensors(('%d/in.%d'):format(case.number, i)))
    used[i] = leaves[i]
    if case.in_place and i == 1 then used[1] = leaves[1]:clone() end
  end
  local args, options = { n = #case.args }, {}
  for i = 1, args.n do args[i] = value(case.args[i], used) end
  for name, v in pairs(case.options) do options[name] = value(v, used) end
  if next(options) then args.n, args[args.n + 1] = args.n + 1, options end
  local results, net
  if case.kind == 'optim' then return optimise(case, options, leaves), leaves end
  if case.kind == 'getitem' then
    results = { args[1][#args[2] == 1 and torch.is_tensor(args[2][1]) and args[2][1] or args[2]] }
  elseif case.kind == 'setitem' then
    args[1][#args[2] == 1 and torch.is_tensor(args[2][1]) and args[2][1] or args[2]] = args[3]
    results = { args[1] }
  elseif case.kind == 'module' then
    if next(options) then args.n = args.n - 1 end
    net = module_of(case, args, tensors)
    results = { net(unpack(used)) }
  elseif case.kind == 'method' then
    local x = args[1]
    results = { x[case.name](unpack(args, 1, args.n)) }
  else
    results = { (case.kind == 'torch' and torch or F)[case.name](unpack(args, 1, args.n)) }
  end
  local flat = {}
  for i = 1, table.maxn(results) do
    local r = results[i]
    if type(r) == 'table' and not torch.is_tensor(r) then
      for _, e in ipairs(r) do flat[#flat + 1] = e end
    elseif r ~= nil then
      flat[#flat + 1] = r
    end
  end
  return flat, leaves, net
end

-- ---- comparison --------------------------------------------------------------------------------------------------

local function flat(t)
  local n = t:numel()
  local values = ffi.new('double[?]', math.max(1, n))
  native.check(t.K.mt_tensor_read(values, t:detach()._c))
  return values, n
end

local function near(g, e, tol)
  return g == e or g ~= g and e ~= e or math.abs(g - e) <= tol and math.abs(e) < math.huge
end

-- nil, or what differs. `exact`: PyTorch's own result in float64.
local function compare(got, expected, exact, elementwise)
  if got.dtype ~= expected.dtype then return ('type %s, expected %s'):format(got.dtype, expected.dtype) end
  local shape = table.concat(got:size(), ',')
  local wanted = table.concat(expected:size(), ',')
  if shape ~= wanted then return ('shape (%s), expected (%s)'):format(shape, wanted) end
  local g, n = flat(got)
  local e = flat(expected)
  local x = exact and flat(exact:to(expected.dtype)) or e
  local step = step_of[expected.dtype]
  local largest = 1
  for i = 0, n - 1 do
    local size = math.abs(x[i])
    if size > largest and size < math.huge then largest = size end
  end
  for i = 0, n - 1 do
    local tol = 0
    if step then
      local off = math.abs(x[i] - e[i])
      if off ~= off or off == math.huge then off = 0 end
      tol = 8 * off + (elementwise and 4 * step * math.abs(x[i]) or 48 * step * largest)
    end
    if not near(g[i], e[i], tol) and not near(g[i], x[i], tol) then
      return ('element %d: %.9g, expected %.9g (exactly %.9g)'):format(i + 1, g[i], e[i], x[i])
    end
  end
end

local function strides_differ(y, strides)
  local own, size = y:stride(), y:size()
  for d = 1, #size do
    if size[d] > 1 and own[d] ~= strides[d] then
      return ('strides (%s), expected (%s)'):format(table.concat(own, ','), table.concat(strides, ','))
    end
  end
end

local function check_result(case, i, y, leaves, tensors)
  local entry, prefix = case.results[i], case.number .. '/'
  if y == nil then return ('result %d is missing'):format(i) end
  if entry.value ~= nil then
    local expected = value(entry.value)
    if type(expected) ~= 'table' and y ~= expected then return ('result %s, expected %s'):format(tostring(y), tostring(expected)) end
    return nil
  end
  if not torch.is_tensor(y) then
    y = torch.tensor(y, { dtype = entry.dtype })
  elseif y.requires_grad ~= entry.requires_grad then
    return ('result %d: requires_grad %s'):format(i, tostring(y.requires_grad))
  end
  local different = compare(y, tensors(prefix .. 'out.' .. i), tensors(prefix .. 'exact.' .. i), case.elementwise)
  if different then return ('result %d: %s'):format(i, different) end
  if case.view and entry.strides ~= json.null then
    local shares = false
    for _, x in ipairs(leaves) do shares = shares or x._c.storage == y._c.storage end
    if shares ~= entry.shares then return ('result %d: shares memory: %s'):format(i, tostring(shares)) end
    if entry.shares then
      local other = strides_differ(y, entry.strides)
      if other then return ('result %d: %s'):format(i, other) end
    end
  end
end

local function check_gradients(case, results, leaves, net, tensors)
  local prefix = case.number .. '/'
  local ok, message = pcall(results[case.differentiated].backward, results[case.differentiated], tensors(prefix .. 'gout'))
  if case.gradient_error then return ok and 'no error in backward: ' .. case.gradient_error or nil end
  if not ok then return 'error in backward: ' .. message end
  local parameters = net and {} or nil
  if net then for name, p in net:named_parameters() do parameters[name] = p end end
  for name in pairs(case.gradients) do
    local x = tonumber(name) and leaves[tonumber(name)] or parameters[name]
    local expected = tensors(prefix .. 'grad.' .. name)
    if not x.grad and expected:ne(0):any():item() then return ('no gradient of %s'):format(name) end
    local different = x.grad and compare(x.grad, expected, tensors(prefix .. 'exact_grad.' .. name), false)
    if different then return ('gradient of %s: %s'):format(name, different) end
  end
  for i, x in ipairs(leaves) do
    if x.grad and not case.gradients[tostring(i)] and x.grad:ne(0):any():item() then return ('gradient of %d, expected none'):format(i) end
  end
end

local function check(case, tensors)
  local ok, results, leaves, net = pcall(call, case, tensors)
  if not ok then
    local message = tostring(results)
    if case.error then return nil end
    return 'error: ' .. message:gsub('^.*calls%.lua:%d+: ', '')
  end
  if case.error then return ('no error, expected %s: %s'):format(case.error_kind, case.error) end
  for i = 1, #case.results do
    local different = check_result(case, i, results[i], leaves, tensors)
    if different then return different end
  end
  for _, name in ipairs(case.buffers or {}) do
    for own, b in net:named_buffers() do
      local different = own == name and compare(b, tensors(case.number .. '/buffer.' .. name), nil, false)
      if different then return ('buffer %s: %s'):format(name, different) end
    end
  end
  -- A fully indexed element is a number, out of the graph.
  if case.differentiated and torch.is_tensor(results[case.differentiated]) then
    return check_gradients(case, results, leaves, net, tensors)
  end
end

-- ---- all of them -------------------------------------------------------------------------------------------------

local calls, differences, forgiven, order, by_name = 0, 0, 0, {}, {}
for block = 0, tonumber(file.read('calls', folder .. '/blocks')) - 1 do
  local path = ('%s/calls_%d'):format(folder, block)
  local stored = (safetensors.load(path .. '.safetensors'))
  local function tensors(name) return stored[name] end
  for _, case in ipairs(json.decode(file.read('calls', path .. '.json'))) do
    if not only or case.number == only then
      calls = calls + 1
      local different = check(case, tensors)
      if different and allowed(case, different) then
        forgiven = forgiven + 1
      elseif different then
        differences = differences + 1
        local key = case.kind .. '.' .. case.name
        if not by_name[key] then
          by_name[key] = {}
          order[#order + 1] = key
        end
        table.insert(by_name[key], ('  %d %s\n    %s'):format(case.number, case.text, different))
      end
    end
  end
end
table.sort(order)
for _, key in ipairs(order) do
  print(('%s: %d'):format(key, #by_name[key]))
  for i = 1, math.min(LIMIT, #by_name[key]) do print(by_name[key][i]) end
end
print(('%d calls, %d differ, %d as documented'):format(calls, differences, forgiven))
os.exit(differences == 0 and 0 or 1)
