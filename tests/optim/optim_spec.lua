-- Optimisers: formulas, groups, state, threads, misuse.
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local references = require 'optim.references'
local scratch = require 'support.scratch'
local optim, Tensor = torch.optim, torch.Tensor

local cases = {
  { 'SGD', { lr = 0.1 } },
  { 'SGD', { lr = 0.1, momentum = 0.9 } },
  { 'SGD', { lr = 0.1, momentum = 0.9, dampening = 0.3, weight_decay = 0.02, maximize = true } },
  { 'SGD', { lr = 0.1, momentum = 0.8, nesterov = true, weight_decay = 0.02 } },
  { 'Adam', { lr = 0.01 } },
  { 'Adam', { lr = 0.01, betas = { 0.5, 0.9 }, eps = 1e-3, weight_decay = 0.1, maximize = true } },
  { 'Adam', { lr = 0.01, amsgrad = true, betas = { 0.9, 0.5 } } },
  { 'AdamW', { lr = 0.01 } },
  { 'AdamW', { lr = 0.01, weight_decay = 0.3, amsgrad = true, betas = { 0.9, 0.5 }, maximize = true } },
  { 'RMSprop', { lr = 0.01 } },
  { 'RMSprop', { lr = 0.01, alpha = 0.8, centered = true, weight_decay = 0.1 } },
  { 'RMSprop', { lr = 0.01, momentum = 0.7, eps = 1e-3, maximize = true } },
  { 'RMSprop', { lr = 0.01, momentum = 0.7, centered = true } },
  { 'Adan', { lr = 0.01 } },
  { 'Adan', { lr = 0.01, weight_decay = 0.2, maximize = true } },
  { 'Adan', { lr = 0.01, weight_decay = 0.2, no_prox = true, betas = { 0.9, 0.8, 0.7 }, eps = 1e-4 } },
}

local function title(case)
  local parts = {}
  for key, value in pairs(case[2]) do
    parts[#parts + 1] = key .. '=' .. (type(value) == 'table' and table.concat(value, ' ') or tostring(value))
  end
  table.sort(parts)
  return case[1] .. ' ' .. table.concat(parts, ', ')
end

local function copy(opts)
  local result = {}
  for key, value in pairs(opts) do result[key] = value end
  return result
end

local shapes = { { 7 }, { 3, 5 }, { 2, 3, 2, 2 }, {}, { 0, 4 }, { 1 } }

-- Parameters of all shapes; layout 'strided': views into larger memory, transposed where they have two dims.
local function build(dtype, layout, extra)
  torch.manual_seed(5)
  local list = {}
  for i, shape in ipairs(extra or shapes) do
    local p = torch.randn(shape, { dtype = dtype })
    if layout == 'strided' and #shape > 0 then
      local wide = copy(shape)
      wide[#wide] = wide[#wide] * 2
      local strides = Tensor.row_major(wide)
      strides[#strides] = 2
      local view = Tensor.as_view('test', torch.zeros(wide, { dtype = dtype }), shape, strides, 0)
      native.check(view.K.mt_tensor_copy(view._c, p._c))
      p = view
    elseif layout == 'channels_last' and #shape > 2 then
      local t = Tensor.empty('test', shape, dtype, 'cpu', Tensor.channels_last(shape))
      native.check(t.K.mt_tensor_copy(t._c, p._c))
      p = t
    end
    list[i] = p:requires_grad_()
  end
  return list
end

local function set_gradients(list, step, skipped)
  torch.manual_seed(100 + step)
  for i, p in ipairs(list) do
    local g = torch.randn(p:size(), { dtype = p.dtype })
    p.grad = g
    if skipped and skipped(i, step) then p.grad = nil end
  end
end

local function flat(t)
  local function walk(v, out)
    if type(v) ~= 'table' then out[#out + 1] = v else for _, e in ipairs(v) do walk(e, out) end end
    return out
  end
  return walk(t:totable(), {})
end

local STEPS = 6
local function skipped(i, step) return i == 2 and step == 1 or i == 1 and step == 3 end

describe('an optimiser follows its formula:', function()
  for _, case in ipairs(cases) do
    for _, setting in ipairs{ { 'float64', nil, 1e-12 }, { 'float32', nil, 2e-5 }, { 'float64', 'strided', 1e-12 },
      { 'float32', 'channels_last', 2e-5 } } do
      local dtype, layout, tolerance = unpack(setting, 1, 3)
      it(('%s, %s %s'):format(title(case), dtype, layout or ''), function()
        local list = build(dtype, layout)
        local expected, walkers = {}, {}
        for i, p in ipairs(list) do
          expected[i], walkers[i] = flat(p), {}
          for k = 1, p:numel() do walkers[i][k] = references[case[1]](case[2]) end
        end
        local opt = optim[case[1]](list, copy(case[2]))
        for step = 1, STEPS do
          set_gradients(list, step, skipped)
          for i, p in ipairs(list) do
            local g = p.grad and flat(p.grad)
            for k = 1, g and #g or 0 do expected[i][k] = walkers[i][k](expected[i][k], g[k]) end
          end
          local loss, made = opt:step()
          assert.is_nil(loss)
          assert.is_true(made)
          for i, p in ipairs(list) do
            local got = flat(p)
            assert.are.equal(#expected[i], #got)
            for k, e in ipairs(expected[i]) do
              assert(math.abs(got[k] - e) <= tolerance * math.max(1, math.abs(e)),
                ('step %d, parameter %d[%d]: %.17g, expected %.17g'):format(step, i, k, got[k], e))
            end
          end
        end
      end)
    end
  end
end)

local function train(case, list, first, last, opt)
  opt = opt or optim[case[1]](list, copy(case[2]))
  for step = first, last do
    set_gradients(list, step, skipped)
    opt:step()
  end
  return opt
end

describe('the bits of an update', function()
  for _, case in ipairs(cases) do
    it('do not depend on threads or strides: ' .. title(case), function()
      local large = { { 70001 }, { 3, 5 }, { 40, 30, 3, 3 }, { 1 } }
      local before, results = torch.get_num_threads(), {}
      for threads = 1, 4 do
        torch.set_num_threads(threads)
        results[threads] = build('float32', nil, large)
        train(case, results[threads], 1, 3)
      end
      torch.set_num_threads(before)
      for _, layout in ipairs{ 'strided', 'channels_last' } do
        results[#results + 1] = build('float32', layout, large)
        train(case, results[#results], 1, 3)
      end
      for k = 2, #results do
        for i = 1, #large do assert.same_bits(results[1][i], results[k][i]) end
      end
    end)

    it('are the same after a file: ' .. title(case), function()
      local whole = build('float32')
      train(case, whole, 1, 6)
      local list = build('float32')
      local opt = train(case, list, 1, 3)
      local path = scratch.path('.safetensors')
      torch.save(path, opt:state_dict())
      local resumed = {}
      for i, p in ipairs(list) do resumed[i] = p:detach():clone():requires_grad_() end
      local other = optim[case[1]](resumed, { lr = 77, weight_decay = 0.5 })
      other:load_state_dict(torch.load(path))
      assert.are.equal(case[2].lr, other.lr)
      train(case, resumed, 4, 6, other)
      for i in ipairs(whole) do assert.same_bits(whole[i], resumed[i]) end
      scratch.clean()
    end)
  end
end)

describe('parameter groups', function()
  it('have their own options', function()
    local a, b, c = torch.ones(2):requires_grad_(), torch.ones(2):requires_grad_(), torch.ones(2):requires_grad_()
    local groups = { { params = { a } }, { params = b, lr = 0.5 } }
    local common = { lr = 0.1 }
    local opt = optim.SGD({ groups = groups }, common)
    opt:add_param_group{ params = { c }, weight_decay = 1 }
    for _, p in ipairs{ a, b, c } do p.grad = torch.ones(2) end
    opt:step()
    assert.near_tensor({ 0.9, 0.9 }, a, 1e-7)
    assert.near_tensor({ 0.5, 0.5 }, b, 1e-7)
    assert.near_tensor({ 0.8, 0.8 }, c, 1e-7)
    assert.are.same({ lr = 0.1 }, common)
    assert.is_nil(groups[1].lr)
    assert.are.equal(b, groups[2].params)
    assert.fails(function() return opt.lr end, 'SGD: lr', '3 parameter groups')
    assert.fails(function() opt.lr = 1 end, 'SGD: lr')
    opt.param_groups[2].lr = 0
    for _, p in ipairs{ a, b, c } do p.grad = torch.ones(2) end
    opt:step()
    assert.near_tensor({ 0.5, 0.5 }, b, 1e-7)
  end)
  it('share no tables with the caller', function()
    local betas, list = { 0.9, 0.99 }, { torch.ones(2) }
    local opt = optim.Adam(list, { betas = betas })
    opt.param_groups[1].betas[1] = 0.1
    list[1] = nil
    assert.are.same({ 0.9, 0.99 }, betas)
    assert.are.same({ 0.9, 0.999 }, optim.Adam({ torch.ones(1) }).param_groups[1].betas)
    assert.are.equal(1, #opt.param_groups[1].params)
  end)
  it('of one: opt.lr', function()
    local opt = optim.SGD({ torch.ones(2) }, { lr = 0.5 })
    assert.are.equal(0.5, opt.lr)
    opt.lr = 0.25
    assert.are.equal(0.25, opt.param_groups[1].lr)
    assert.fails(function() opt.lr = 'x' end, 'SGD: lr', 'string')
    assert.fails(function() opt.lr = -1 end, 'SGD: lr', '-1')
    assert.fails(function() opt.lr = 0 / 0 end, 'SGD: lr', 'nan')
  end)
  it('mix float32 and float64', function()
    local a, b = torch.ones(2), torch.ones(2, { dtype = 'float64' })
    a.grad, b.grad = torch.ones(2), torch.ones(2, { dtype = 'float64' })
    optim.Adam({ a, b }, { lr = 0.1 }):step()
    assert.near_tensor({ 0.9, 0.9 }, a, 1e-6)
    assert.near_tensor({ 0.9, 0.9 }, b, 1e-8)
  end)
end)

describe('a step', function()
  local p
  before_each(function() p = torch.ones(3):requires_grad_() end)

  it('runs the closure with gradients and returns its result', function()
    local opt = optim.SGD({ p }, { lr = 0.1 })
    local loss, made = torch.no_grad(function()
      return opt:step(function()
        opt:zero_grad()
        local l = (p * p):sum()
        l:backward()
        return l
      end)
    end)
    assert.are.equal(3, loss:item())
    assert.is_true(made)
    assert.near_tensor({ 0.8, 0.8, 0.8 }, p, 1e-7)
  end)
  it('counts up the version of what it changes', function()
    local opt, other = optim.SGD({ p }, { lr = 0.1 }), (p * p):sum()
    p.grad = torch.ones(3)
    opt:step()
    assert.fails(function() other:backward() end, 'changed in place')
  end)
  it('passes over parameters without gradient', function()
    local opt = optim.Adam({ p }, {})
    opt:step()
    assert.near_tensor({ 1, 1, 1 }, p)
    assert.is_nil(opt.state[1])
  end)
  it('refuses, leaves out or ignores gradients that are not finite', function()
    local q = torch.ones(2):requires_grad_()
    for _, bad in ipairs{ 0 / 0, 1 / 0, -1 / 0 } do
      local opt = optim.SGD({ p, q }, { lr = 0.1 })
      p.grad, q.grad = torch.ones(3), torch.tensor{ 1, bad }
      assert.fails(function() opt:step() end, 'SGD', 'parameter 2', '(2)', 'on_nonfinite')
      opt.on_nonfinite = 'skip'
      local _, made = opt:step()
      assert.is_false(made)
      assert.near_tensor({ 1, 1, 1 }, p)
      opt.on_nonfinite = 'ignore'
      opt:step()
      assert.near_tensor({ 0.9, 0.9, 0.9 }, p, 1e-7)
      assert.is_false(q:totable()[2] - q:totable()[2] == 0)
      torch.no_grad(function()
        p:fill_(1)
        q:fill_(1)
      end)
    end
  end)
  it('is whole although an interruption is pending', function()
    local w = torch.zeros(100000)
    w.grad = torch.ones(100000)
    local opt = optim.SGD({ w }, { lr = 1, on_nonfinite = 'ignore' })
    native.cpu.mt_cancel_set(1)
    local ok = pcall(opt.step, opt)
    native.cpu.mt_cancel_set(0)
    assert.is_true(ok)
    assert.are.equal(-100000, w:sum():item())
  end)
  it('changes nothing when memory runs out', function()
    local opt = optim.Adam({ p }, { lr = 0.1 })
    p.grad = torch.ones(3)
    for n = 1, 8 do
      native.cpu.mt_memory_fail_at(n, 1)
      local ok = pcall(opt.step, opt)
      native.cpu.mt_memory_fail_at(0, 0)
      if not ok then assert.near_tensor({ 1, 1, 1 }, p) end
    end
    torch.no_grad(function() p:fill_(1) end)
    optim.Adam({ p }, { lr = 0.1 }):step()
    assert.near_tensor({ 0.9, 0.9, 0.9 }, p, 1e-6)
  end)
  it('frees what it takes', function()
    local opt = optim.Adan({ p }, {})
    p.grad = torch.ones(3)
    opt:step()
    collectgarbage()
    collectgarbage()
    local live = native.cpu.mt_memory_live()
    for _ = 1, 50 do opt:step() end
    assert.are.equal(live, native.cpu.mt_memory_live())
  end)
end)

describe('an optimiser', function()
  it('learns', function()
    for _, case in ipairs{ { 'SGD', 0.1 }, { 'Adam', 0.05 }, { 'AdamW', 0.05 }, { 'RMSprop', 0.01 }, { 'Adan', 0.05 } } do
      torch.manual_seed(3)
      local net = torch.nn.Sequential{ torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1) }
      local x = torch.randn(64, 2)
      local y = x:select(2, 1):abs():unsqueeze(2)
      local opt, loss = optim[case[1]](net:parameters(), { lr = case[2] }), nil
      for _ = 1, 200 do
        opt:zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), y)
        loss:backward()
        opt:step()
      end
      assert(loss:item() < 0.02, case[1] .. ': loss ' .. loss:item())
    end
  end)
  it('prints as in PyTorch', function()
    assert.are.equal([[
SGD (
Parameter Group 0
    dampening: 0
    lr: 0.1
    maximize: false
    momentum: 0
    nesterov: false
    weight_decay: 0
)]], tostring(optim.SGD({ torch.ones(1) }, { lr = 0.1 })))
  end)
  it('restarts the momentum that is switched on later', function()
    local p = torch.zeros(1)
    local opt = optim.SGD({ p }, { lr = 1, dampening = 0.5 })
    p.grad = torch.ones(1)
    opt:step()
    opt.param_groups[1].momentum = 0.5
    opt:step()
    assert.are.equal(-2, p:item())
    opt:step()
    assert.are.equal(-3, p:item())
  end)
end)

describe('load_state_dict', function()
  local function trained(list, opts)
    local opt = optim.Adam(list or build('float32'), opts)
    set_gradients(opt.parameters, 1)
    opt:step()
    return opt
  end
  it('copies, converts types and keeps the groups', function()
    local from, to = trained(), optim.Adam(build('float64'))
    local group = to.param_groups[1]
    to:load_state_dict(from:state_dict())
    assert.are.equal(group, to.param_groups[1])
    assert.are.equal('float64', to.state[1].exp_avg.dtype)
    assert.are.equal(1, to.state[1].step)
    set_gradients(from.parameters, 2)
    local before = to.state[1].exp_avg:totable()
    from:step()
    assert.are.same(before, to.state[1].exp_avg:totable())
  end)
  it('refuses what does not fit and changes nothing', function()
    local state = trained(nil, { lr = 0.5 }):state_dict()
    local opt = optim.Adam(build('float32'), { lr = 0.25 })
    local function with(change)
      local s = { optimizer = state.optimizer, state = copy(state.state), param_groups = { copy(state.param_groups[1]) } }
      s.state[1] = copy(s.state[1])
      change(s)
      return s
    end
    for _, case in ipairs{
      { {}, 'expected what state_dict gives' },
      { optim.SGD(build('float32')):state_dict(), 'SGD' },
      { trained(build('float32', nil, { { 3 } })):state_dict(), '6', '1' },
      { with(function(s) s.param_groups[2] = s.param_groups[1] end), '2 parameter groups', '1' },
      { with(function(s) s.state[1].exp_avg = torch.ones(2) end), 'exp_avg', '(7)', '(2)' },
      { with(function(s) s.state[1].exp_avg = 3 end), 'exp_avg', 'number' },
      { with(function(s) s.state[1].exp_awg = torch.ones(7) end), 'exp_awg' },
      { with(function(s) s.state[1].step = 1.5 end), 'step', '1.5' },
      { with(function(s) s.state[9] = s.state[1] end), '9' },
      { with(function(s) s.param_groups[1].lr = 'x' end), 'lr' },
      { with(function(s) s.param_groups[1].momentum = 1 end), 'momentum' },
      { with(function(s) s.param_groups[1].betas = { 0.9 } end), 'betas' },
      { 3, 'number' },
    } do
      assert.fails(function() opt:load_state_dict(case[1]) end, 'Adam', 'load_state_dict', unpack(case, 2))
      assert.are.equal(0.25, opt.lr)
      assert.is_nil(next(opt.state))
    end
  end)
end)

describe('misuse of an optimiser is an error:', function()
  local one = function() return { torch.ones(2) } end
  local expanded = function() return torch.ones(1, 3):expand(4, 3) end
  local base = torch.ones(4)
  for _, case in ipairs{
    { 'no parameters', function() optim.SGD() end, 'SGD: params', 'nil' },
    { 'an empty array', function() optim.SGD({}) end, 'SGD: params', 'empty' },
    { 'the method itself', function() optim.SGD(torch.nn.Linear(1, 1).parameters) end, 'SGD', 'function', 'net:parameters()' },
    { 'a module', function() optim.SGD(torch.nn.Linear(1, 1)) end, 'SGD', 'module', 'net:parameters()' },
    { 'a number as parameter', function() optim.SGD({ 3 }) end, 'SGD: params[1]', 'number' },
    { 'names as keys', function() optim.SGD({ w = torch.ones(1) }) end, 'SGD: params', 'keys' },
    { 'whole numbers as parameter', function() optim.SGD({ torch.ones(2, { dtype = 'int64' }) }) end, 'SGD: params[1]', 'int64' },
    { 'a result as parameter', function() optim.SGD({ torch.ones(2):requires_grad_() * 2 }) end, 'SGD: params[1]', 'leaf', 'mul' },
    { 'a parameter twice', function() optim.SGD({ base, base }) end, 'SGD: params[2]', 'twice' },
    { 'shared memory', function() optim.SGD({ base, base:detach() }) end, 'SGD', 'parameters 1', '2', 'share memory' },
    { 'an unknown option', function() optim.SGD(one(), { momentun = 1 }) end, 'SGD', 'momentun', "did you mean 'momentum'" },
    { 'options of another type', function() optim.SGD(one(), 0.1) end, 'SGD: options', 'number' },
    { 'a negative rate', function() optim.SGD(one(), { lr = -1 }) end, 'SGD: lr', '-1' },
    { 'NaN as rate', function() optim.Adam(one(), { lr = 0 / 0 }) end, 'Adam: lr', 'nan' },
    { 'text as rate', function() optim.Adam(one(), { lr = '1' }) end, 'Adam: lr', 'string' },
    { 'a beta of 1', function() optim.Adam(one(), { betas = { 0.9, 1 } }) end, 'Adam: betas[2]', '1' },
    { 'one beta', function() optim.Adam(one(), { betas = { 0.9 } }) end, 'Adam: betas', '2 numbers' },
    { 'betas of Adam for Adan', function() optim.Adan(one(), { betas = { 0.9, 0.99 } }) end, 'Adan: betas', '3 numbers' },
    { 'a number as betas', function() optim.Adan(one(), { betas = 0.9 }) end, 'Adan: betas', 'number' },
    { 'a negative eps', function() optim.AdamW(one(), { eps = -1 }) end, 'AdamW: eps', '-1' },
    { 'nesterov without momentum', function() optim.SGD(one(), { nesterov = true }) end, 'SGD: nesterov', 'momentum' },
    { 'an unknown policy', function() optim.SGD(one(), { on_nonfinite = 'stop' }) end, 'SGD: on_nonfinite', 'stop' },
    { 'an empty list of groups', function() optim.SGD{ groups = {} } end, 'SGD: groups' },
    { 'a group without params', function() optim.SGD{ groups = { { lr = 1 } } } end, 'SGD: params', 'nil' },
    { 'an unknown option of a group', function() optim.SGD{ groups = { { params = one(), rate = 1 } } } end, 'SGD', 'rate' },
    { 'options beside groups', function() optim.SGD{ groups = { { params = one() } }, lr = 1 } end, 'SGD', 'lr' },
    { 'the base class', function() optim.Optimizer(one()) end, 'Optimizer' },
    { 'a closure that is none', function() optim.SGD(one()):step(3) end, 'SGD: closure', 'got 3' },
    { 'a gradient of another shape', function()
      local p = torch.ones(2)
      p.grad = torch.ones(3)
      optim.SGD({ p }):step()
    end, 'SGD', 'parameter 1', '(2)', '(3)' },
    { 'a gradient of another type', function()
      local p = torch.ones(2)
      p.grad = torch.ones(2, { dtype = 'float64' })
      optim.SGD({ p }):step()
    end, 'SGD', 'parameter 1', 'float64' },
    { 'a number as gradient', function()
      local p = torch.ones(2)
      p.grad = 3
      optim.SGD({ p }):step()
    end, 'SGD', 'parameter 1', 'number' },
    { 'a rate spoilt later', function()
      local opt = optim.SGD(one())
      opt.param_groups[1].lr = 'x'
      opt:step()
    end, 'SGD: lr', 'string' },
    { 'a released parameter', function()
      local p = torch.ones(2)
      local opt = optim.SGD({ p })
      p:release()
      opt:step()
    end, 'SGD: parameter 1', 'released' },
    { 'an expanded parameter', function()
      local p = expanded()
      local opt = optim.SGD({ p })
      p.grad = torch.ones(4, 3)
      opt:step()
    end, 'SGD', 'parameter 1' },
    { 'a gradient that is the parameter', function()
      local p = torch.ones(2)
      p.grad = p
      optim.SGD({ p }):step()
    end, 'SGD', 'shares memory' },
    { 'another type after the first step', function()
      local net = torch.nn.Linear(2, 1)
      local opt = optim.Adam(net:parameters())
      net(torch.ones(1, 2)):sum():backward()
      opt:step()
      net:double()
      opt:step()
    end, 'Adam', 'parameter 1', 'float64', 'float32' },
  } do
    it(case[1], function()
      assert.fails(case[2], unpack(case, 3))
    end)
  end
end)
