-- masked_torch's small modules and chains of modules against the reference vectors.
local torch = require 'masked_torch'
local golden = require 'support.golden'
local build = require 'support.golden_build'
local nn, F = torch.nn, torch.nn.functional

describe('golden modules', function()
  for _, case in ipairs(golden.cases('modules')) do
    it(case.name .. ' in the compatible mode', function()
      build.check(case, build.module(case.layer, case.args, true))
    end)
    -- Where eps is not given it is 1e-8 there and 0 here, which float64 shows.
    if not golden.compat(case) and case.dtype == 'F32' then
      it(case.name, function()
        build.check(case, build.module(case.layer, case.args))
      end)
    end
  end
end)

-- The arguments behind reprs.json, in its order.
local printed = {
  function() return nn.ApplyMask() end,
  function() return nn.UnMask() end,
  function() return nn.SpatialMean() end,
  function() return nn.MaskedSpatialMean() end,
  function() return nn.Unshuffle1d(2) end,
  function() return nn.Unshuffle2d(2) end,
  function() return nn.Unshuffle3d(3) end,
  function() return nn.MaskedUnshuffle1d(2) end,
  function() return nn.MaskedUnshuffle2d(4) end,
  function() return nn.MaskedUnshuffle3d(2) end,
  function() return nn.Masked(nn.ReLU()) end,
  function() return nn.MaskedConv1d(3, 4, 3) end,
  function() return nn.MaskedConv2d(3, 4, 3, { padding = 1, bias = false }) end,
  function() return nn.MaskedConv2d(4, 6, { 3, 5 }, { stride = 2, padding = { 1, 2 }, groups = 2 }) end,
  function() return nn.MaskedConv3d(3, 4, 3, { dilation = 2 }) end,
  function() return nn.PartialConv1d(3, 4, 2, { padding = 'same' }) end,
  function() return nn.PartialConv2d(3, 4, 3, { padding = 1, multichannel = true }) end,
  function() return nn.PartialConv3d(4, 4, 3, { groups = 4, eps = 1e-6 }) end,
  function() return nn.MaskedBatchNorm1d(5) end,
  function() return nn.MaskedBatchNorm2d(5, { momentum = 'cumulative', affine = false }) end,
  function() return nn.MaskedBatchNorm3d(5, { eps = 1e-3, track_running_stats = false }) end,
  function() return nn.MaskedSequential(nn.ApplyMask(), nn.MaskedConv1d(2, 3, 3, { padding = 1 }), nn.Masked(nn.ReLU())) end,
}

describe('golden printed forms', function()
  local entries = golden.json('reprs.json')
  assert(#entries == #printed)
  for i, entry in ipairs(entries) do
    it(entry.repr:gsub('%s+', ' '), function()
      local module = printed[i]()
      assert.equal(entry.class, getmetatable(module).__name)
      assert.equal(entry.repr, tostring(module))
      assert.equal(table.concat(entry.state_dict_keys, ' '), table.concat(module:state_names(), ' '))
    end)
  end
end)

-- What masked_torch refuses. `fails`: we refuse it too, with these texts in the message. `works`: a limitation of the
-- original (research names in its list of defects) that is gone.
local function x(...) return torch.ones(...) end

local uses = {
  ['MaskedConv2d: even kernel'] = {
    works = function() return nn.MaskedConv2d(2, 2, 4)(x(1, 2, 5, 5), x(1, 1, 5, 5)) end,
    run = function() return nn.MaskedConv2d(2, 2, 4, { compat = true }) end, fails = { 'odd kernel sizes' } },
  ['MaskedConv2d: even kernel on one axis'] = {
    works = function() return nn.MaskedConv2d(2, 2, { 3, 2 })(x(1, 2, 5, 5), x(1, 1, 5, 5)) end,
    run = function() return nn.MaskedConv2d(2, 2, { 3, 2 }, { compat = true }) end, fails = { 'odd kernel sizes' } },
  ['MaskedConv1d: padding given as a string'] = {
    works = function() return nn.MaskedConv1d(2, 2, 3, { padding = 'same' })(x(1, 2, 5), x(1, 1, 5)) end,
    run = function() return nn.MaskedConv1d(2, 2, 3, { padding = 'same', compat = true }) end, fails = { "padding" } },
  ['PartialConv2d: padding mode'] = {
    works = function() return nn.PartialConv2d(2, 2, 3, { padding = 1, padding_mode = 'reflect' })(x(1, 2, 5, 5)) end,
    run = function() return nn.PartialConv2d(2, 2, 3, { padding_mode = 'reflect', compat = true }) end,
    fails = { "Only padding_mode='zeros' is supported" } },
  ['Unshuffle1d: length not divisible'] = { fails = { '(1, 2, 5)', '2' },
    run = function() return nn.Unshuffle1d(2)(x(1, 2, 5)) end },
  ['Unshuffle3d: size not divisible'] = { fails = { '(1, 2, 4, 4, 5)', '2' },
    run = function() return nn.Unshuffle3d(2)(x(1, 2, 4, 4, 5)) end },
  ['Unshuffle2d: size not divisible'] = { fails = { '(1, 2, 4, 5)', '2' },
    run = function() return nn.Unshuffle2d(2)(x(1, 2, 4, 5)) end },
  ['MaskedSequential: sequential without a mask'] = {
    works = function() return nn.MaskedSequential(nn.ApplyMask())(x(1, 2, 4)) end,
    run = function() return nn.MaskedSequential(nn.ApplyMask(), { compat = true })(x(1, 2, 4)) end, fails = { 'mask is nil' } },
  ['MaskedSequential: sequential with a one-channel mask'] = {
    works = function() return nn.MaskedSequential(nn.ApplyMask())(x(1, 2, 4), x(1, 1, 4)) end,
    run = function() return nn.MaskedSequential(nn.ApplyMask(), { compat = true })(x(1, 2, 4), x(1, 1, 4)) end,
    fails = { 'mask.shape=(1, 1, 4), input.shape=(1, 2, 4)' } },
  ['MaskedSpatialMean: masked mean with a one-channel mask'] = {
    works = function() return nn.MaskedSpatialMean()(x(1, 2, 4), x(1, 1, 4)) end,
    run = function() return nn.MaskedSpatialMean{ compat = true }(x(1, 2, 4), x(1, 1, 4)) end,
    fails = { 'mask.shape=(1, 1, 4), input.shape=(1, 2, 4)' } },
  ['Masked: double masking'] = { fails = { 'double masking' }, run = function(args)
    return nn.Masked(args.module == 'Masked' and nn.Masked(nn.ReLU()) or nn[args.module](2, 2, 3))
  end },
  ['masked_batch_norm: eval without running statistics'] = { fails = { 'running_mean', 'running_var' }, run = function()
    return F.masked_batch_norm(x(2, 2, 4), x(2, 1, 4), { training = false })
  end },
  ['MaskedBatchNorm2d: wrong number of axes'] = { fails = { 'MaskedBatchNorm2d', 'got 3D input' },
    run = function() return nn.MaskedBatchNorm2d(2)(x(1, 2, 4)) end },
  ['MaskedBatchNorm2d: wrong number of mask axes'] = { fails = { 'mask' },
    run = function() return nn.MaskedBatchNorm2d(2)(x(1, 2, 4, 4), x(4)) end },
  ['MaskedBatchNorm1d: wrong number of axes'] = { fails = { 'MaskedBatchNorm1d', 'got 4D input' },
    run = function() return nn.MaskedBatchNorm1d(2)(x(1, 2, 4, 4)) end },
  ['MaskedConv2d: one-channel mask'] = { works = function()
    return nn.MaskedConv2d(2, 2, 3, { padding = 1 })(x(1, 2, 5, 5), x(1, 1, 5, 5))
  end },
  ['MaskedConv2d: padding below k//2 with a mask'] = { works = function()
    return nn.MaskedConv2d(2, 2, 3)(x(1, 2, 5, 5), x(1, 2, 5, 5))
  end },
  ['MaskedConv2d: dilation with a mask'] = { works = function()
    return nn.MaskedConv2d(2, 2, 3, { padding = 2, dilation = 2 })(x(1, 2, 5, 5), x(1, 2, 5, 5))
  end },
  ['PartialConv2d: per-sample mask in single-channel mode'] = { works = function()
    return nn.PartialConv2d(2, 2, 3, { padding = 1 })(x(2, 2, 5, 5), x(2, 1, 5, 5))
  end },
}

describe('golden refused uses', function()
  for _, entry in ipairs(golden.json('errors.json')) do
    local name = entry.layer .. ': ' .. entry.what
    local use = uses[name]
    if entry.layer ~= 'AutoregressiveLanguageModel' then
      it(name .. (use and use.works and ' works now' or ''), function()
        assert(use, 'no use for ' .. name)
        if use.works then assert.is_true(torch.is_tensor((use.works()))) end
        if use.run then assert.fails(function() use.run(entry.args) end, unpack(use.fails)) end
      end)
    end
  end
end)
