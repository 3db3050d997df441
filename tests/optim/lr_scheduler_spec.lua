-- Learning rate schedules. The numbers written out are PyTorch's.
local torch = require 'masked_torch'
local scratch = require 'support.scratch'
local optim, schedules = torch.optim, torch.optim.lr_scheduler

local function optimiser(opts)
  local groups = { { params = torch.zeros(1) }, { params = torch.zeros(1), lr = 0.3 } }
  return optim.SGD({ groups = groups }, opts or { lr = 0.1, momentum = 0.9 })
end

local function near(expected, got, what)
  assert(math.abs(expected - got) <= 1e-12 * math.max(1, math.abs(expected)), ('%s: got %.17g, expected %.17g'):format(what, got, expected))
end

local function cosine(low, high, t, period) return low + 0.5 * (high - low) * (1 + math.cos(t / period * math.pi)) end

local closed = {
  { 'StepLR', function(o) return schedules.StepLR(o, 3, { gamma = 0.5 }) end,
    function(base, t) return base / 2 ^ ((t - t % 3) / 3) end },
  { 'StepLR by default', function(o) return schedules.StepLR(o, 4) end,
    function(base, t) return base * 10 ^ -math.floor(t / 4) end },
  { 'MultiStepLR', function(o) return schedules.MultiStepLR(o, { 5, 2, 9, 5 }, { gamma = 0.5 }) end,
    function(base, t) return base * (t < 2 and 1 or t < 5 and 0.5 or t < 9 and 0.125 or 0.0625) end },
  { 'ExponentialLR', function(o) return schedules.ExponentialLR(o, 0.9) end,
    function(base, t)
      for _ = 1, t do base = base * 0.9 end
      return base
    end },
  { 'LambdaLR', function(o) return schedules.LambdaLR(o, function(t) return 1 / (t + 1) end) end,
    function(base, t) return base / (t + 1) end },
  { 'LambdaLR, one for each group', function(o)
    return schedules.LambdaLR(o, { function(t) return 1 / (t + 1) end, function() return 2 end })
  end, function(base, t, i) return i == 1 and base / (t + 1) or 2 * base end },
  { 'CosineAnnealingLR', function(o) return schedules.CosineAnnealingLR(o, 7, { eta_min = 0.01 }) end,
    function(base, t) return cosine(0.01, base, t, 7) end },
  { 'CosineAnnealingWarmRestarts', function(o) return schedules.CosineAnnealingWarmRestarts(o, 4) end,
    function(base, t) return cosine(0, base, t % 4, 4) end },
  { 'CosineAnnealingWarmRestarts, longer each time', function(o)
    return schedules.CosineAnnealingWarmRestarts(o, 2, { T_mult = 3, eta_min = 0.01 })
  end, function(base, t)
    if t < 2 then return cosine(0.01, base, t, 2) elseif t < 8 then return cosine(0.01, base, t - 2, 6) end
    return cosine(0.01, base, t - 8, 18)
  end },
  { 'LinearWarmup', function(o) return schedules.LinearWarmup(o, 4) end,
    function(base, t) return base * math.min(1, (t + 1) / 5) end },
  { 'LinearWarmup of 0 steps', function(o) return schedules.LinearWarmup(o, 0) end, function(base) return base end },
  { 'LinearWarmup from a factor, as LinearLR', function(o) return schedules.LinearWarmup(o, 5, { start_factor = 1 / 3 }) end,
    function(base, t) return base * (1 / 3 + 2 / 3 * math.min(t, 5) / 5) end },
  { 'LinearWarmup, then a cosine', function(o)
    return schedules.LinearWarmup(schedules.CosineAnnealingLR(o, 15, { eta_min = 0.02 }), 5, { start_factor = 0 })
  end, function(base, t) return t < 5 and base * t / 5 or cosine(0.02, base, t - 5, 15) end },
}

describe('a schedule follows its formula:', function()
  for _, case in ipairs(closed) do
    it(case[1], function()
      local opt = optimiser()
      local schedule = case[2](opt)
      for t = 0, 20 do
        local a, b = schedule:get_lr()
        near(case[3](0.1, t, 1), a, 't = ' .. t)
        near(case[3](0.3, t, 2), b, 't = ' .. t)
        assert.are.equal(a, opt.param_groups[1].lr)
        assert.are.equal(b, opt.param_groups[2].lr)
        schedule:step()
      end
    end)

    it(case[1] .. ', resumed from a file', function()
      local opt = optimiser()
      local schedule = case[2](opt)
      for _ = 1, 6 do schedule:step() end
      local path = scratch.path('.safetensors')
      torch.save(path, { schedule = schedule:state_dict(), opt = opt:state_dict() })
      local saved = torch.load(path)
      for order = 1, 2 do   -- the optimiser's state before and after the schedule is made
        local other = optimiser{ lr = 7 }
        if order == 1 then other:load_state_dict(saved.opt) end
        local resumed = case[2](other)
        if order == 2 then other:load_state_dict(saved.opt) end
        resumed:load_state_dict(saved.schedule)
        for _ = 1, 5 do
          assert.are.same({ schedule:get_lr() }, { resumed:get_lr() })
          schedule:step()
          resumed:step()
        end
        schedule:load_state_dict(saved.schedule)
      end
      scratch.clean()
    end)
  end
end)

local function run(schedule, steps, metrics)
  local rows = {}
  for t = 1, steps do
    rows[t] = { schedule:get_lr() }
    rows[t][3] = schedule.optimizer.param_groups[1].momentum
    if t < steps then schedule:step(metrics and metrics[t]) end
  end
  return rows
end

local function column(rows, k)
  local values = {}
  for i, row in ipairs(rows) do values[i] = row[k] end
  return values
end

local function all_near(expected, got)
  assert.are.equal(#expected, #got)
  for i, e in ipairs(expected) do assert(math.abs(e - got[i]) <= 1e-11, ('step %d: got %.14g, expected %.14g'):format(i - 1, got[i], e)) end
end

describe('OneCycleLR', function()
  it('rises and falls', function()
    local rows = run(schedules.OneCycleLR(optimiser(), 1, { total_steps = 12 }), 12)
    all_near({ 0.04, 0.34978965422, 0.879285159122, 0.994415435451, 0.933012969841, 0.81174565395, 0.647378997695, 0.462637102667,
      0.283060998209, 0.133477530189, 0.0345669874254, 4e-06 }, column(rows, 1))
    all_near({ 0.95, 0.917730244352, 0.862574462591, 0.850558458689, 0.856698729811, 0.868825509907, 0.885262241279, 0.903736504679,
      0.921694186956, 0.936652593591, 0.946543687432, 0.95 }, column(rows, 3))
  end)
  it('in straight lines, a top for each group', function()
    local rows = run(schedules.OneCycleLR(optimiser(), { 1, 2 }, { epochs = 4, steps_per_epoch = 5, pct_start = 0.4,
      anneal_strategy = 'linear', div_factor = 10, final_div_factor = 100 }), 20)
    for t = 0, 19 do
      local up, down = t / 7, (t - 7) / 12
      near(t <= 7 and 0.1 + 0.9 * up or 1 + (0.001 - 1) * down, rows[t + 1][1], 't = ' .. t)
      near(t <= 7 and 0.2 + 1.8 * up or 2 + (0.002 - 2) * down, rows[t + 1][2], 't = ' .. t)
      near(t <= 7 and 0.95 - 0.1 * up or 0.85 + 0.1 * down, rows[t + 1][3], 't = ' .. t)
    end
  end)
  it('in three phases', function()
    local rows = run(schedules.OneCycleLR(optimiser(), 1, { total_steps = 20, three_phase = true, cycle_momentum = false }), 20)
    for t = 0, 19 do
      local expected = cosine(0.04 / 1e4, 0.04, t - 10, 9)
      if t <= 5 then expected = cosine(1, 0.04, t, 5) elseif t <= 10 then expected = cosine(0.04, 1, t - 5, 5) end
      near(expected, rows[t + 1][1], 't = ' .. t)
      assert.are.equal(0.9, rows[t + 1][3])
    end
  end)
  it('moves the first beta of Adam', function()
    local opt = optim.Adam({ torch.zeros(1) })
    local schedule = schedules.OneCycleLR(opt, 1, { total_steps = 12 })
    near(0.95, opt.param_groups[1].betas[1], 'beta')
    for _ = 1, 11 do schedule:step() end
    near(0.95, opt.param_groups[1].betas[1], 'beta')
    near(0.04 / 1e4, opt.lr, 'lr')
  end)
  it('ends: one step more stays, two are an error', function()
    local opt = optim.Adam({ torch.zeros(1) })
    local schedule = schedules.OneCycleLR(opt, 1, { total_steps = 5, anneal_strategy = 'linear' })
    for _ = 1, 5 do schedule:step() end
    near(0.04 / 1e4, opt.lr, 'lr')
    assert.fails(function() schedule:step() end, 'OneCycleLR', '6', '5')
  end)
  it('resumes', function()
    local schedule = schedules.OneCycleLR(optimiser(), 1, { total_steps = 12 })
    for _ = 1, 5 do schedule:step() end
    local other = schedules.OneCycleLR(optimiser(), 1, { total_steps = 12 })
    other:load_state_dict(schedule:state_dict())
    assert.are.same(run(schedule, 5), run(other, 5))
  end)
end)

describe('ReduceLROnPlateau', function()
  local metrics = { 1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.95, 0.95, 0.95, 0.95, 0.79995, 1, 1, 1, 1, 1, 1 }
  it('waits, reduces, cools down, stops at the least rate', function()
    local rows = run(schedules.ReduceLROnPlateau(optimiser(), { factor = 0.5, patience = 2, cooldown = 1, min_lr = { 0.02, 0.1 } }),
      25, metrics)
    all_near({ 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.025, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02,
      0.02, 0.02, 0.02, 0.02 }, column(rows, 1))
    all_near({ 0.3, 0.3, 0.3, 0.3, 0.3, 0.15, 0.15, 0.15, 0.15, 0.15, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1,
      0.1, 0.1 }, column(rows, 2))
  end)
  it('of a metric that should grow, with an absolute threshold', function()
    local rows = run(schedules.ReduceLROnPlateau(optimiser(), { mode = 'max', factor = 0.5, patience = 1, threshold = 0.05,
      threshold_mode = 'abs' }), 25, metrics)
    all_near({ 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125, 0.00625, 0.00625, 0.003125, 0.003125, 0.0015625, 0.0015625,
      0.00078125, 0.00078125, 0.000390625, 0.000390625, 0.0001953125, 0.0001953125, 9.765625e-05, 9.765625e-05, 4.8828125e-05,
      4.8828125e-05 }, column(rows, 1))
  end)
  it('of falling and of rising metrics is the same with the sign turned', function()
    local turned = {}
    for i, m in ipairs(metrics) do turned[i] = -m end
    local opts = { factor = 0.5, patience = 2, threshold = 0.01, threshold_mode = 'abs' }
    local falling = run(schedules.ReduceLROnPlateau(optimiser(), opts), 25, metrics)
    opts.mode = 'max'
    assert.are.same(falling, run(schedules.ReduceLROnPlateau(optimiser(), opts), 25, turned))
  end)
  it('takes a tensor; NaN is never better', function()
    local opt = optim.SGD({ torch.zeros(1) }, { lr = 1 })
    local schedule = schedules.ReduceLROnPlateau(opt, { patience = 0 })
    schedule:step(torch.tensor(3))
    assert.are.equal(3, schedule.best)
    schedule:step(0 / 0)
    assert.are.equal(3, schedule.best)
    near(0.1, opt.lr, 'lr')
  end)
  it('resumes from a file', function()
    local function new() return schedules.ReduceLROnPlateau(optimiser(), { factor = 0.5, patience = 2, cooldown = 2 }) end
    for _, at in ipairs{ 0, 5, 12 } do
      local one, other, rest = new(), new(), {}
      for t = 1, at do one:step(metrics[t]) end
      for t = at + 1, #metrics do rest[#rest + 1] = metrics[t] end
      local path = scratch.path('.safetensors')
      torch.save(path, one:state_dict())
      other:load_state_dict(torch.load(path))
      assert.are.same(run(one, #rest, rest), run(other, #rest, rest))
    end
    scratch.clean()
  end)
end)

describe('a schedule', function()
  it('takes a group that is added later from where it is', function()
    local opt = optim.SGD({ torch.zeros(1) }, { lr = 1 })
    local schedule = schedules.ExponentialLR(opt, 0.5)
    opt:add_param_group{ params = torch.zeros(1), lr = 8 }
    schedule:step()
    assert.are.same({ 0.5, 4 }, { schedule:get_lr() })
  end)
end)

describe('misuse of a schedule is an error:', function()
  local opt = optimiser()
  for _, case in ipairs{
    { 'no optimiser', function() schedules.StepLR(nil, 3) end, 'StepLR: optimizer', 'nil' },
    { 'a table as optimiser', function() schedules.CosineAnnealingLR({}, 3) end, 'CosineAnnealingLR: optimizer', 'table' },
    { 'a step size of 0', function() schedules.StepLR(opt, 0) end, 'StepLR: step_size', '0' },
    { 'a step size that is not whole', function() schedules.StepLR(opt, 1.5) end, 'StepLR: step_size', '1.5' },
    { 'an unknown option', function() schedules.StepLR(opt, 1, { gama = 1 }) end, 'StepLR', "did you mean 'gamma'" },
    { 'a negative gamma', function() schedules.ExponentialLR(opt, -1) end, 'ExponentialLR: gamma', '-1' },
    { 'no gamma', function() schedules.ExponentialLR(opt) end, 'ExponentialLR: gamma', 'nil' },
    { 'milestones that are no array', function() schedules.MultiStepLR(opt, 3) end, 'MultiStepLR: milestones', 'number' },
    { 'a milestone that is text', function() schedules.MultiStepLR(opt, { 'x' }) end, 'MultiStepLR: milestones', 'x' },
    { 'a number as function', function() schedules.LambdaLR(opt, 3) end, 'LambdaLR: fn', 'expected a function, got 3' },
    { 'too few functions', function() schedules.LambdaLR(opt, { print }) end, 'LambdaLR: fn', '2', '1' },
    { 'a function without result', function() schedules.LambdaLR(opt, function() end) end, 'LambdaLR', 'nil' },
    { 'no T_max', function() schedules.CosineAnnealingLR(opt) end, 'CosineAnnealingLR: T_max', 'nil' },
    { 'no length', function() schedules.OneCycleLR(opt, 1) end, 'OneCycleLR', 'total_steps' },
    { 'no max_lr', function() schedules.OneCycleLR(opt, nil, { total_steps = 3 }) end, 'OneCycleLR: max_lr', 'nil' },
    { 'too few tops', function() schedules.OneCycleLR(opt, { 1 }, { total_steps = 3 }) end, 'OneCycleLR: max_lr', '2', '1' },
    { 'an unknown strategy', function() schedules.OneCycleLR(opt, 1, { total_steps = 3, anneal_strategy = 'sin' }) end,
      'OneCycleLR', 'sin' },
    { 'a fraction above 1', function() schedules.OneCycleLR(opt, 1, { total_steps = 3, pct_start = 2 }) end, 'OneCycleLR: pct_start', '2' },
    { 'a cycle of the momentum that is not there', function()
      local other = optim.SGD({ torch.zeros(1) })
      other.param_groups[1].momentum = nil
      schedules.OneCycleLR(other, 1, { total_steps = 3 })
    end, 'OneCycleLR: cycle_momentum' },
    { 'a factor of 1', function() schedules.ReduceLROnPlateau(opt, { factor = 1 }) end, 'ReduceLROnPlateau: factor', '1' },
    { 'no metric', function() schedules.ReduceLROnPlateau(opt):step() end, 'ReduceLROnPlateau: metric', 'nil' },
    { 'an unknown mode', function() schedules.ReduceLROnPlateau(opt, { mode = 'less' }) end, 'ReduceLROnPlateau: mode', 'less' },
    { 'warm-up before a cycle', function()
      schedules.LinearWarmup(schedules.OneCycleLR(optimiser(), 1, { total_steps = 3 }), 2)
    end, 'LinearWarmup', 'OneCycleLR' },
    { 'warm-up of a plateau', function() schedules.LinearWarmup(schedules.ReduceLROnPlateau(opt), 2) end, 'LinearWarmup: optimizer' },
    { 'a state of another schedule', function()
      schedules.StepLR(opt, 3):load_state_dict(schedules.ExponentialLR(opt, 1):state_dict())
    end, 'StepLR: load_state_dict', 'ExponentialLR' },
    { 'a state of another optimiser', function()
      schedules.StepLR(opt, 3):load_state_dict{ schedule = 'StepLR', last_step = 1, base_lrs = { 1 } }
    end, 'StepLR: load_state_dict', 'base_lrs', '2' },
    { 'a state that is none', function() schedules.StepLR(opt, 3):load_state_dict(nil) end, 'StepLR: load_state_dict', 'nil' },
    { 'a step that is no count', function()
      schedules.StepLR(opt, 3):load_state_dict{ schedule = 'StepLR', last_step = -1, base_lrs = { 1, 1 } }
    end, 'StepLR: load_state_dict: last_step', '-1' },
  } do
    it(case[1], function()
      assert.fails(case[2], unpack(case, 3))
    end)
  end
end)
