--- visualize_activations: what convolutions make of an image with holes, layer by layer.
--
--     luajit experiments/visualize_activations.lua [options]          --help lists them
--
-- Several networks with the same weights see the same image: a plain convolution (conv) gets the image with its holes set to
-- 0, the others get the mask too. Each layer halves the image (unshuffle, --factor) and doubles the channels (--base). The
-- figure has a row of activations per network and a row of masks per way of handling them; the text gives four moments of
-- every layer.

local here = arg[0]:match('^(.*/)') or './'
package.path = here .. '../lua/?.lua;' .. here .. '../lua/?/init.lua;' .. package.path

local torch = require 'masked_torch'
local has_argparse, argparse = pcall(require, 'argparse')
if not has_argparse then
  io.stderr:write('visualize_activations needs lua-argparse (apt install lua-argparse, or luarocks install argparse)\n')
  os.exit(1)
end
local nn = torch.nn

-- ---- options ---------------------------------------------------------------------------------------------------

local operators = {
  conv = { 'Conv2d' }, mconv = { 'MaskedConv2d' }, pconv = { 'PartialConv2d', multichannel = true },
  half = { 'HalfConv2d', multichannel = true, rule = 'grow' }, mask = { 'MaskConv2d', multichannel = true },
  sparse = { 'SparseConv2d' },
  submanifold = { 'SubmanifoldConv2d', padding = false }, normalized = { 'NormalizedConv2d' }, gated = { 'GatedConv2d' },
}
local operator_names = { 'conv', 'mconv', 'pconv', 'half', 'mask', 'sparse', 'submanifold', 'normalized', 'gated' }
local reductions = { 'mean', 'first', 'std', 'skewness', 'kurtosis' }

local parser = argparse('visualize_activations', 'What convolutions make of an image with holes, layer by layer.')
parser:option('--depth', 'Layers.', '8'):convert(tonumber)
parser:option('--size', 'Height and width of the noise image, a multiple of factor^depth.', '256'):convert(tonumber)
parser:option('--factor', 'How much smaller each layer makes the image.', '2'):convert(tonumber)
parser:option('--base', 'How many times more channels each layer has than the one before.', '2'):convert(tonumber)
parser:option('--width', 'The first layer has width x factor^2 channels.', '1'):convert(tonumber)
parser:option('--activation', 'A nonlinearity after each convolution (ReLU, Tanh, ...).'):args('?')
parser:option('--bias', 'Biases: from the default initialisation, or "normal" for N(0, 1).'):args('?')
parser:option('--mask', 'clockwise, half, quarter, channels, grid, random:P (a share P of holes), or a file (PNG, JPEG, npy).',
  'clockwise')
parser:option('--image', 'A picture instead of noise: PNG or JPEG (standardised and cropped), or npy (taken as it is).')
parser:option('--reduce', 'What a picture shows of its channels.', 'mean'):choices(reductions)
parser:option('--operators', 'Rows, separated by commas: ' .. table.concat(operator_names, ', ') .. '.', 'conv,mconv,pconv,half')
parser:option('--scale', 'Colours for each picture, or one range for all (shows decay).', 'own'):choices{ 'own', 'shared' }
parser:option('--weights', 'A safetensors file with the weights of the convolutions (1.weight, 3.weight, ...).')
parser:option('--seed', 'Of the image and the weights.', '1337'):convert(tonumber)
parser:option('--threads', 'Threads (default: one per core).'):convert(tonumber)
parser:option('--device', 'cpu or cuda.', 'cpu')
parser:option('--out', 'The figure: .png, .svg or .pdf.', 'out/visualize_activations.png')
parser:option('--save', 'A safetensors file for the image, the mask and every activation, mask and picture.')
local options = parser:parse()

local depth = options.depth
if depth < 1 or depth > 16 or depth % 1 ~= 0 then parser:error('--depth: expected a whole number from 1 to 16') end
local function whole(name, low, high)
  local value = options[name]
  if value < low or value > high or value % 1 ~= 0 then
    parser:error(('--%s: expected a whole number from %d to %d'):format(name, low, high))
  end
  return value
end
-- What a value of an option makes go wrong is reported with the option, without a traceback.
local function from_option(name, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  parser:error(('--%s: %s'):format(name, (tostring(result):gsub('^[^\n]-:%d+: ', ''):gsub('^%-%-device: ', ''))))
end
local factor, base, width_factor = whole('factor', 1, 16), whole('base', 1, 16), whole('width', 1, 1024)
local unit = factor ^ depth
local activation = options.activation and (options.activation[1] or 'ReLU')
if activation and nn.class_files[activation] ~= 'activation' then parser:error(('--activation: unknown %q'):format(activation)) end
local bias = options.bias and (options.bias[1] or 'default')
if bias and bias ~= 'default' and bias ~= 'normal' then parser:error('--bias: expected nothing or "normal"') end
local format = options.out:match('%.(%a+)$')
if format ~= 'png' and format ~= 'svg' and format ~= 'pdf' then
  parser:error('--out: the name must end in .png, .svg or .pdf')
end
whole('size', 1, 16384)
local rows = {}
for name in options.operators:gmatch('[^,]+') do
  if not operators[name] then
    parser:error(('--operators: unknown %q (known: %s)'):format(name, table.concat(operator_names, ', ')))
  end
  rows[#rows + 1] = name
end
if #rows == 0 then parser:error('--operators: expected at least one of ' .. table.concat(operator_names, ', ')) end
if options.threads then from_option('threads', torch.set_num_threads, options.threads) end
from_option('seed', torch.manual_seed, options.seed)
local device = from_option('device', torch.train.device, options.device)

-- ---- image and mask --------------------------------------------------------------------------------------------

-- A file as (1, C, H, W): arrays as they are, pictures in 0..1 and without their transparency.
local function load_array(path)
  if path:find('%.npy$') then
    local t = torch.io.npy.load(path):float()
    while t:dim() < 4 do t = t:unsqueeze(1) end
    return t
  end
  local t = torch.io.image.load(path):unsqueeze(1)
  if t:size(2) % 2 == 0 then t = t:narrow(2, 1, t:size(2) - 1) end
  return t:contiguous()
end

local function load_image(path)
  local t = load_array(path)
  if path:find('%.npy$') then return t end
  local h, w = t:size(3) - t:size(3) % unit, t:size(4) - t:size(4) % unit
  if h > 0 and w > 0 then t = t:narrow(3, 1, h):narrow(4, 1, w):contiguous() end
  return (t - t:mean()) / t:std()
end

local image = options.image and from_option('image', load_image, options.image) or torch.randn(1, 3, options.size, options.size)
local _, channels, height, width = image:sizes()
if height % unit ~= 0 or width % unit ~= 0 or height * width == 0 then
  parser:error(('the image is %d x %d; with --depth %d both sides must be multiples of %d'):format(height, width, depth, unit))
end

local function grid(step) return function(_, h, w) return (h - 1) % step == 0 and (w - 1) % step == 0 end end
local two, three = grid(2), grid(3)
local function bottom(h) return h > height / 2 end
local function right(w) return w > width / 2 end

-- Is there a hole in channel c at row h and column w?
local holes = {
  -- One channel is cut in the top right quarter, two in the bottom right, all in the bottom left; then two grids of points.
  clockwise = function(c, h, w)
    local cut = bottom(h) and (right(w) and 2 or 3) or (right(w) and 1 or 0)
    return c <= cut or two(c, h, w) or three(c, h, w)
  end,
  half = function(_, h) return bottom(h) end,
  quarter = function(_, h, w) return bottom(h) and right(w) end,
  channels = function(c, h, w) return c <= channels * 2 / 3 and bottom(h) and right(w) end,
  grid = grid(4),
}

local function make_mask(kind)
  local text = kind:match('^random:(.*)$')
  if text then
    local share = tonumber(text)
    if not (share and share >= 0 and share <= 1) then parser:error('--mask: random:P needs a share P from 0 to 1') end
    return torch.rand(1, 1, height, width):ge(share):float():expand(1, channels, height, width):contiguous()
  end
  if not holes[kind] then
    if not kind:find('[./]') then
      parser:error(('--mask: unknown %q (known: clockwise, half, quarter, channels, grid, random:P, or a file)'):format(kind))
    end
    local t = from_option('mask', load_array, kind)
    if t:size(3) ~= height or t:size(4) ~= width or t:size(2) ~= 1 and t:size(2) ~= channels then
      parser:error(('--mask: %s is (%s), the image (%s)'):format(kind, table.concat(t:size(), ', '),
        table.concat(image:size(), ', ')))
    end
    return t:expand(1, channels, height, width):contiguous()
  end
  local values = {}
  for c = 1, channels do
    values[c] = {}
    for h = 1, height do
      local row = {}
      for w = 1, width do row[w] = holes[kind](c, h, w) and 0 or 1 end
      values[c][h] = row
    end
  end
  return torch.tensor{ values }
end

local mask = make_mask(options.mask):to(device)
local input = image:to(device):apply_mask(mask)

-- ---- networks --------------------------------------------------------------------------------------------------

local function build(name)
  local class, masked = operators[name][1], name ~= 'conv'
  local layers, inputs = {}, channels
  for i = 0, depth - 1 do
    local outputs = width_factor * base ^ i * factor ^ 2
    local opts = { padding = 1, bias = bias ~= nil, multichannel = operators[name].multichannel, rule = operators[name].rule }
    if operators[name].padding == false then opts.padding = nil end
    layers[#layers + 1] = masked and nn.MaskedUnshuffle2d(factor) or nn.Unshuffle2d(factor)
    layers[#layers + 1] = nn[class](factor ^ 2 * inputs, outputs, 3, opts)
    if activation then layers[#layers + 1] = masked and nn.Masked(nn[activation]()) or nn[activation]() end
    inputs = outputs
  end
  return masked and nn.MaskedSequential(layers) or nn.Sequential(layers)
end

local networks = { conv = build('conv') }
if bias == 'normal' then
  for name, p in networks.conv:named_parameters() do
    if name:find('bias$') then nn.init.normal_(p) end
  end
end
if options.weights then
  from_option('weights', function() networks.conv:load_state_dict((torch.io.safetensors.load(options.weights))) end)
end
for _, name in ipairs(rows) do
  if not networks[name] then
    networks[name] = build(name)
    -- A gated convolution has weights of its own besides.
    networks[name]:load_state_dict(networks.conv:state_dict(), { strict = name ~= 'gated' })
  end
  networks[name]:to(device):eval()
end

-- ---- activations -----------------------------------------------------------------------------------------------

-- Runs net(...) and returns what the modules chosen by wanted(name, module) gave: a list of { name =, y =, mask = }. The hooks
-- are removed whatever happens.
local function forward_with_activations(net, wanted, ...)
  local records, removers = {}, {}
  for name, module in net:named_modules() do
    if wanted(name, module) then
      removers[#removers + 1] = module:register_forward_hook(function(_, _, outputs)
        records[#records + 1] = { name = name, y = outputs[1], mask = outputs[2] and outputs[2]:tensor() }
      end)
    end
  end
  local ok, message = pcall(torch.no_grad, net, ...)
  for _, remove in ipairs(removers) do remove() end
  if not ok then error(message, 0) end
  return records
end

local function is_shown(name, module)
  local class = getmetatable(module).__name
  if not activation then return class:find('Conv2d$') ~= nil end
  return class == 'Masked' or class == activation and not name:find('module$')
end

local recorded = {}
for _, name in ipairs(rows) do
  local records = forward_with_activations(networks[name], is_shown, input, name ~= 'conv' and mask or nil)
  table.insert(records, 1, { name = 'input', y = input, mask = mask })
  recorded[name] = records
end

-- ---- statistics ------------------------------------------------------------------------------------------------

-- Moments of all elements, or of those where the mask is not 0. eps as in masked_torch; without it they are standardised.
local function moments(y, valid, eps)
  local x = y:double()
  local w = valid and valid:ne(0):double():expand(x:size()) or torch.ones_like(x)
  local n = w:sum():item()
  local mean = (x * w):sum():item() / n
  local d = (x - mean) * w
  local d2 = d * d
  local std = math.sqrt(d2:sum():item() / n)
  return { n = n, mean = mean, std = std, skewness = (d2 * d):sum():item() / n / (std ^ 3 + eps),
    kurtosis = (d2 * d2):sum():item() / n / (std ^ 4 + eps) }
end

local function report(m)
  return ('mean %.6g, std %.6g, skewness %.6g, kurtosis %.6g'):format(m.mean, m.std, m.skewness, m.kurtosis)
end

for _, name in ipairs(rows) do print(name .. ': ' .. tostring(networks[name])) end
for _, name in ipairs(rows) do print(name .. ' keys: ' .. table.concat(networks[name]:state_names(), ' ')) end
for _, name in ipairs(rows) do
  local names = {}
  for i, record in ipairs(recorded[name]) do names[i] = record.name end
  print(name .. ' recorded: ' .. table.concat(names, ' '))
end
print('\nname, depth: all positions, as masked_torch prints them | valid elements only, standardised')
for _, name in ipairs(rows) do
  for i, record in ipairs(recorded[name]) do
    local valid = moments(record.y, record.mask, 0)
    print(('%s, depth_%d: %s | %d valid, %s'):format(name, i - 1, report(moments(record.y, nil, 1e-8)), valid.n, report(valid)))
  end
end

-- ---- pictures --------------------------------------------------------------------------------------------------

-- (1, C, H, W) -> (H, W)
local function picture(y)
  if options.reduce == 'first' then return y:select(2, 1):squeeze(1) end
  local mean = y:mean(2, { keepdim = true })
  if options.reduce == 'mean' then return mean:reshape(y:size(3), y:size(4)) end
  local d = y - mean
  local std = (d * d):mean(2, { keepdim = true }):sqrt()
  if options.reduce == 'skewness' then
    std = (d * d * d):mean(2, { keepdim = true }) / (std ^ 3 + 1e-8)
  elseif options.reduce == 'kurtosis' then
    std = (d * d * d * d):mean(2, { keepdim = true }) / (std ^ 4 + 1e-8)
  end
  return std:reshape(y:size(3), y:size(4))
end

local largest = 0
for _, name in ipairs(rows) do
  for i, record in ipairs(recorded[name]) do
    record.panel = picture(record.mask and record.y:apply_mask(record.mask) or record.y)
    local m = moments(record.panel, nil, 0)
    record.center, record.spread = m.mean, m.std
    if i > 1 then largest = math.max(largest, m.std) end
  end
end

-- The colours of a picture: mean - std .. mean + std, or 0 .. 2 std behind a nonlinearity; 'shared': one range for all.
local function colors(record)
  local center, spread = record.center, record.spread
  if options.scale == 'shared' then center, spread = 0, largest end
  if spread ~= spread or spread == 0 then spread = 1 end
  if activation then return { cmap = 'viridis', vmin = 0, vmax = 2 * spread } end
  return { cmap = 'coolwarm', vmin = center - spread, vmax = center + spread }
end

-- One row of masks for all networks that have the same ones.
local mask_rows = {}
for _, name in ipairs(rows) do
  if recorded[name][2].mask then
    local same
    for _, row in ipairs(mask_rows) do
      local equal = true
      for i, record in ipairs(row.records) do
        local other = recorded[name][i].mask
        equal = equal and torch.equal(record.mask:mean(2), other:mean(2))
      end
      if equal then same = row end
    end
    if same then
      same.name = same.name .. ', ' .. name
    else
      mask_rows[#mask_rows + 1] = { name = name, records = recorded[name] }
    end
  end
end

local figure = torch.plot.figure{ width = 12 / 9 * (depth + 1), height = 8 / 5 * (#rows + #mask_rows), dpi = 120 }
local cells = figure:grid(#rows + #mask_rows, depth + 1)
for r, name in ipairs(rows) do
  for i, record in ipairs(recorded[name]) do
    local opts = colors(record)
    opts.title = i == 1 and 'input' or ('%s[%d] %s'):format(name, i - 1, activation and 'activation' or 'output')
    cells[r][i]:image(record.panel, opts)
  end
end
for r, row in ipairs(mask_rows) do
  for i, record in ipairs(row.records) do
    local title = i == 1 and 'mask' or ('%s[%d] mask'):format(row.name, i - 1)
    local coverage = record.mask:mean(2):squeeze(1)
    cells[#rows + r][i]:image(coverage, { cmap = 'gray', vmin = 0, vmax = 1, title = title })
  end
end
torch.io.file.make_folders('visualize_activations', options.out)
figure:save(options.out)
print('wrote ' .. options.out)

if options.save then
  local tensors = { ['in.x'] = image, ['in.mask'] = mask }
  for _, name in ipairs(rows) do
    for i, record in ipairs(recorded[name]) do
      for _, what in ipairs{ 'y', 'mask', 'panel' } do tensors[('%s.%s%d'):format(name, what, i - 1)] = record[what] end
    end
  end
  torch.io.safetensors.save(options.save, tensors)
  print('wrote ' .. options.save)
end
