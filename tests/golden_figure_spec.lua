-- experiments/visualize_activations.lua on the reference figures: the script as a user runs it, its files and its text.
local torch = require 'masked_torch'
local golden = require 'support.golden'
local scratch = require 'support.scratch'

local script = golden.root .. '../../experiments/visualize_activations.lua'
local luajit = require 'support.interpreter'

-- Runs the script; returns what it printed. Fails with that text when the script fails.
local function run(arguments)
  local out = scratch.path('.txt')
  local status = os.execute(("'%s' '%s' %s > '%s' 2>&1"):format(luajit, script, arguments, out))
  local text = scratch.content(out)
  if status ~= 0 and status ~= true then error(text, 0) end
  return text
end

local function numbers(text)
  local m = {}
  for name, value in text:gmatch('(%a+) ([^%s,]+)') do m[name] = tonumber(value) or 0 / 0 end
  return m
end

-- Within 1e-4 of the value; a mean may also be off by rounding of the size of single values.
local function agree(expected, got, what)
  for _, name in ipairs{ 'mean', 'std', 'skewness', 'kurtosis' } do
    local e, g = expected[name], got[name]
    assert(g, what .. ': no ' .. name)
    if e == nil then
      assert(g ~= g, ('%s: %s: %g, expected NaN'):format(what, name, g))
    else
      local slack = name == 'mean' and 1e-6 * expected.std or 0
      assert(math.abs(e - g) <= 1e-4 * math.abs(e) + slack, ('%s: %s: got %.9g, expected %.9g'):format(what, name, g, e))
    end
  end
end

describe('the activation figure', function()
  teardown(scratch.clean)
  local rows = golden.json('figure_stats.json').cases

  for _, case in ipairs(golden.cases('figure')) do
    it('reproduces ' .. case.name, function()
      local image, mask, weights = scratch.path('.npy'), scratch.path('.npy'), scratch.path('.safetensors')
      local saved, figure = scratch.path('.safetensors'), scratch.path('.png')
      torch.io.npy.save(image, golden.tensor(case, 'in.x'))
      torch.io.npy.save(mask, golden.tensor(case, 'in.mask'))
      torch.io.safetensors.save(weights, golden.fields(case, 'param.'))
      local files = "--image '%s' --mask '%s' --weights '%s' --save '%s' --out '%s'"
      local flags = (case.args.activation and ' --activation' or '') .. (case.args.bias and ' --bias' or '')
      local a = case.args
      flags = ('%s --factor %d --base %d --width %d'):format(flags, a.downscale_factor, a.base, a.scale)
      local text = run(('--depth %d --operators conv,mconv,pconv' .. flags .. ' ' .. files):format(a.depth, image, mask,
        weights, saved, figure))
      local got = torch.io.safetensors.load(saved)
      local checked = 0
      for field in pairs(case.tensors) do
        local name = field:match('^out%.(.*)$')
        if name then
          local t = got[name]
          if name:find('panel') then t = t:reshape(golden.tensor(case, field):size()) end
          golden.check(case, field, t)
          checked = checked + 1
        end
      end
      assert.equal(#case.outputs, checked)
      local lines = {}
      for net, depth, rest in text:gmatch('\n(%a+), depth_(%d+): ([^\n]*)') do lines[net .. depth] = rest end
      for _, row in ipairs(rows[case.name].rows) do
        local what = row.net .. ', depth ' .. row.depth
        local all, valid = assert(lines[row.net .. row.depth], what .. ' is missing'):match('^(.*)|(.*)$')
        agree(row.printed, numbers(all), what)
        assert.equal(row.valid.count, tonumber(valid:match('(%d+) valid')))
        agree(row.valid, numbers((valid:gsub('^.-valid,', ''))), what .. ' valid')
      end
      assert.is_not_nil(text:find('wrote ' .. figure, 1, true))
      assert.equal(3, torch.io.png.load(figure):size(1))
    end)
  end

  if golden.is_committed then
    it('cuts its own mask as masked_torch does', function()
      local saved, figure = scratch.path('.safetensors'), scratch.path('.png')
      run(("--depth 5 --size 32 --operators mconv --save '%s' --out '%s'"):format(saved, figure))
      local case = golden.cases('figure')[1]
      assert.same_bits(golden.tensor(case, 'in.mask'):cpu(), torch.io.safetensors.load(saved)['in.mask'])
    end)
  end

  it('takes every option', function()
    local picture = scratch.path('.png')
    torch.io.png.save(picture, torch.rand(3, 17, 9))
    local cut = scratch.path('.png')
    torch.io.png.save(cut, torch.rand(4, 16, 16))
    for _, options in ipairs{ '--factor 4 --size 64 --base 1 --width 3', '--mask half --reduce first',
      '--mask quarter --reduce std --scale shared',
      '--mask channels --reduce skewness --activation Tanh --bias normal', '--mask grid --reduce kurtosis --activation --bias',
      '--mask random:0.5 --operators conv,half,mask,sparse,submanifold,normalized,gated --threads 2 --seed 7 --device cpu',
      "--mask half --image '" .. picture .. "'", "--mask '" .. cut .. "'" } do
      local figure = scratch.path('.png')
      local text = run(("--depth 3 --size 16 %s --out '%s'"):format(options, figure))
      assert.is_not_nil(text:find('wrote ' .. figure, 1, true), options)
      assert.equal(3, torch.io.png.load(figure):size(1))
    end
    for options, message in pairs{ ['--operators conv,foo'] = '--operators: unknown "foo"',
      ['--depth 3 --size 12'] = 'multiples of 8', ['--factor 3 --depth 2 --size 12'] = 'multiples of 9',
      ['--factor 0'] = '--factor', ['--base 1.5'] = '--base', ['--width x'] = '--width',
      ["--size 8 --depth 3 --mask '" .. cut .. "'"] = '(1, 3, 16, 16), the image (1, 3, 8, 8)', ['--depth 0'] = '--depth',
      ['--mask missing.png'] = 'missing.png: No such file', ['--foo'] = '--foo',
      ['--out x.gif'] = '--out', ['--activation Relu'] = '--activation: unknown "Relu"', ['--mask random:2'] = '--mask',
      ['--size 2.5'] = '--size: expected a whole number', ['--size 0'] = '--size: expected',
      ['--mask nope'] = '--mask: unknown "nope"', ['--mask random:x'] = '--mask: random:P', ["--operators ''"] = '--operators: expected',
      ['--weights missing'] = '--weights: safetensors.load: missing: No such file', ['--threads 0'] = '--threads: ',
      ['--seed 0.5'] = '--seed: ', ['--device gpu'] = "--device: expected 'cpu'",
      ['--activation Conv2d'] = '--activation: unknown', ['--size x'] = '--size' } do
      local ok, text = pcall(run, options)
      assert.is_false(ok)
      assert.is_not_nil(text:find(message, 1, true), text)
      assert.is_nil(text:find('traceback', 1, true), text)
    end
  end)
end)
