local here = require 'support.root'
package.path = here .. 'experiments/?.lua;' .. package.path
local torch = require 'masked_torch'
local Causal = require 'language_model.causal'
local Window = require 'language_model.window'
local activation_grid = require 'language_model.activation_grid'
local animation = require 'language_model.animation'
local explain = require 'language_model.explain'
local glyphs = require 'language_model.glyphs'
local report = require 'language_model.report'
local interpreter = require 'support.interpreter'
local scratch = require 'support.scratch'
local F = torch.nn.functional
local bytes = torch.data.tokenizer.bytes()

local make = {
  causal = function(vocabulary)
    torch.manual_seed(5)
    local net = Causal{ vocabulary = vocabulary or 256, width = 8, depth = 2, dilations = { 1, 2 }, context = 32 }
    for _, p in ipairs(net:parameters()) do p:detach():normal_(0, 0.5) end
    return net:eval()
  end,
  window = function(vocabulary)
    torch.manual_seed(5)
    local net = Window{ vocabulary = vocabulary or 256, depth = 3, scale = 4, width = 6, context = 64 }
    for _, p in ipairs(net:parameters()) do
      if p.requires_grad then p:detach():normal_(0, 0.5) end
    end
    return net:eval()
  end,
}

local function tokens_of(n, most)
  local list = {}
  for i = 1, n do list[i] = (i * 7 + i * i) % (most or 20) + 1 end
  return list
end

local function options(extra)
  local o = { steps = 4, context = 32, temperature = 1, generator = torch.Generator(3) }
  for key, value in pairs(extra or {}) do o[key] = value end
  return o
end

-- log p(target) when the embedding of each token i is scaled by scale(i); nothing of explain.lua is used.
local function log_p(net, tokens, target, scale)
  local x = net.embedding(torch.tensor({ tokens }, { dtype = 'int64' })):detach():clone()
  for i = 1, #tokens do x:select(2, i):mul_(scale(i)) end
  local logits
  if net.blocks then
    logits = net:run(x):select(2, #tokens)
  else
    local missing = -#tokens % net.unit
    if missing > 0 then x = torch.cat({ torch.ones(1, missing, x:size(3), { dtype = 'float64' }), x }, 2) end
    logits = net:run(x, torch.tensor({ #tokens }, { dtype = 'int64' }))
  end
  return -F.cross_entropy(logits, torch.tensor({ target }, { dtype = 'int64' })):item()
end

describe('an explanation', function()
  for name, build in pairs(make) do
    it(name .. ': contributions are the derivatives along each embedding, and add up to that along all', function()
      local net = build(20):double()
      local tokens, target, h = tokens_of(21), 11, 1e-5
      local values, got, p = explain.contributions(net, tokens, target)
      assert.equal(target, got)
      assert.near(math.exp(log_p(net, tokens, target, function() return 1 end)), p, 1e-9)
      local sum, largest = 0, 0
      for i = 1, #tokens do
        local function moved(d) return log_p(net, tokens, target, function(k) return k == i and 1 + d or 1 end) end
        assert.near((moved(h) - moved(-h)) / (2 * h), values[i], 1e-6)
        sum, largest = sum + values[i], math.max(largest, math.abs(values[i]))
      end
      assert.is_true(largest > 1e-3)
      assert.near((log_p(net, tokens, target, function() return 1 + h end) - log_p(net, tokens, target, function() return 1 - h end)) /
        (2 * h), sum, 1e-6)
      local step = explain.step(net, tokens, function() return target end)
      for i = 1, #tokens do assert.near(values[i], step.contributions[i], 1e-12) end     -- watched layers run one by one
    end)

    it(name .. ': probabilities are the model\'s; the target is among the ten', function()
      local net, tokens = build(20), tokens_of(13)
      local logits
      local step = explain.step(net, tokens, function(z)
        logits = z
        local worst = 1
        for i = 1, #z do if z[i] < z[worst] then worst = i end end
        return worst
      end)
      local y = net(torch.tensor({ tokens }, { dtype = 'int64' }))
      if y:dim() == 3 then y = y:select(2, 13) end
      assert.near_tensor(y, torch.tensor{ logits }, 1e-5)
      local p = F.softmax(y, 2):squeeze(1):totable()
      assert.equal(10, #step.best)
      assert.equal(step.target, step.best[10][1])
      for i, candidate in ipairs(step.best) do
        assert.near(p[candidate[1]], candidate[2], 1e-6)
        assert.is_true(i == 1 or candidate[2] <= step.best[i - 1][2])
      end
      assert.near(step.p, p[step.target], 1e-6)
    end)

    it(name .. ': leaves no hook behind, also after an error', function()
      local net = build(20)
      explain.step(net, tokens_of(9), function() return 1 end)
      assert.has_error(function() explain.step(net, tokens_of(200), function() error 'no' end) end)
      for _, stage in ipairs(net:stages()) do assert.is_nil(rawget(stage.module, '_hooks')) end
    end)
  end

  it('window: a cell covers the tokens it says, at every layer and every amount of padding', function()
    local net = make.window(20)
    -- Only the middle tap of the convolutions: what a token changes stays in its own cell.
    for _, p in ipairs(net:parameters()) do
      if p:dim() == 3 then
        p:detach():select(3, 1):zero_()
        p:detach():select(3, 3):zero_()
      end
    end
    for n = 17, 24 do
      local tokens = tokens_of(n)
      local before = explain.step(net, tokens, function() return 1 end)
      assert.equal(3, #before.layers)
      for k, layer in ipairs(before.layers) do
        assert.equal(2 ^ k, layer.stride)
        assert.equal(math.ceil(n / layer.stride), #layer.cells)
        assert.equal(#layer.cells, layer.cell_of[n])
        assert.equal(1, layer.cell_of[1])
      end
      for _, i in ipairs{ 1, 2, 7, n - 1, n } do
        local other = tokens_of(n)
        other[i] = other[i] % 20 + 1
        local after = explain.step(net, other, function() return 1 end)
        for k, layer in ipairs(before.layers) do
          for cell = 1, #layer.cells do
            local same = layer.cells[cell] == after.layers[k].cells[cell]
            if cell ~= layer.cell_of[i] then assert.is_true(same, ('n %d token %d layer %d cell %d'):format(n, i, k, cell)) end
          end
        end
        assert.is_true(before.layers[1].cells[before.layers[1].cell_of[i]] ~= after.layers[1].cells[before.layers[1].cell_of[i]])
      end
    end
  end)

  it('window: cells are means over channels of what the layers put out', function()
    local net, tokens = make.window(20), tokens_of(16)
    local step = explain.step(net, tokens, function() return 1 end)
    local x = net.embedding(torch.tensor({ tokens }, { dtype = 'int64' })):transpose(2, 3) + net.pe:narrow(2, 64 - 15, 16):unsqueeze(1)
    local mask = torch.mask.lengths(torch.tensor({ 16 }, { dtype = 'int64' }), 16, { align = 'right' })
    local outputs = {}
    for i, layer in ipairs(net.sequential) do
      x, mask = layer(x, mask)
      outputs[i] = x
    end
    for k, i in ipairs{ 4, 8, 11 } do
      assert.near_tensor(outputs[i]:detach():abs():mean(2):squeeze(1), torch.tensor(step.layers[k].cells), 1e-6)
      assert.near(outputs[i]:detach():mean():item(), step.layers[k].mean, 1e-6)
      assert.near(outputs[i]:detach():var{ unbiased = false }:item() ^ 0.5, step.layers[k].std, 1e-5)
    end
    assert.is_true(outputs[11]:detach():min():item() < 0 and outputs[8]:detach():min():item() == 0)
    -- The published sum, weighted by the true strides.
    local first = 0
    for _, layer in ipairs(step.layers) do first = first + layer.cells[1] / (2 * layer.std) / layer.stride end
    assert.near(first / (1 / 2 + 1 / 4 + 1 / 8), step.activation[1], 1e-9)
  end)

  it('causal: one cell per token, of the gated values', function()
    local net, tokens = make.causal(20), tokens_of(11)
    local step = explain.step(net, tokens, function() return 1 end)
    local block = net.blocks[1]
    local y = block.conv(block:prepare(net.embedding(torch.tensor({ tokens }, { dtype = 'int64' })), nil))
    local gated = y:narrow(2, 1, 8) * y:narrow(2, 9, 8):sigmoid()
    assert.near_tensor(gated:detach():abs():mean(2):squeeze(1), torch.tensor(step.layers[1].cells), 1e-6)
    assert.equal(2, #step.layers)
    for i = 1, 11 do assert.equal(i, step.layers[2].cell_of[i]) end
  end)

  it('follows sampling, or a given text, within the context', function()
    local net = make.causal(20)
    local steps, all = explain.run(net, tokens_of(30), options{ steps = 6 })
    assert.equal(36, #all)
    for i, step in ipairs(steps) do
      assert.equal(all[30 + i], step.target)
      assert.equal(math.min(32, 29 + i), #step.tokens)
      assert.equal(29 + i - #step.tokens, step.start)
      assert.equal(all[29 + i], step.tokens[#step.tokens])
    end
    assert.same(all, select(2, explain.run(net, tokens_of(30), options{ steps = 6 })))
    steps, all = explain.run(net, tokens_of(9), options{ steps = 20, given = true })
    assert.same(tokens_of(9), all)
    assert.equal(8, #steps)
    assert.equal(1, #steps[1].tokens)
    assert.equal(all[9], steps[8].target)
    assert.has_error(function() explain.run(net, {}, options()) end, 'language_model: --text is empty: there is nothing to explain')
    assert.has_error(function() explain.run(net, { 3 }, options{ given = true }) end,
      'language_model: --text is one token, which leaves none to predict')
  end)
end)

describe('tokens on a picture', function()
  it('can be seen', function()
    for text, expected in pairs{ ['a\n\tb c'] = 'a↵→b c', ['\0\27\127'] = '\\x00\\x1b\\x7f', ['é\195'] = 'é\\xc3', ['日本'] = '日本',
      ['\237\160\128'] = '\\xed\\xa0\\x80', ['\192\128'] = '\\xc0\\x80', ['\194\133'] = '\\xc2\\x85',
      ['\240\159\152\128'] = '\240\159\152\128' } do
      assert.equal(expected, (glyphs.of(text)))
    end
    assert.equal('∅', (glyphs.of ''))
    assert.equal('a␣b', (glyphs.of('a b', { spaces = true })))
    assert.is_false(select(2, glyphs.of '\255'))
    assert.is_true(select(2, glyphs.of 'é\n'))
    assert.equal('ab…h', glyphs.cut('abcdefgh', 4))
    assert.equal('äöü', glyphs.cut('äöü', 3))
    assert.equal('ä…', glyphs.cut('äöü', 2))
  end)

  it('never overlap, never leave the width, break at words and after newlines', function()
    local function measure(text) return 10 * #(text:gsub('[\128-\191]', '')) end
    local texts = { 'a', ' ', '\n', ' word', 'antidisestablishmentarianism', '=', ('='):rep(70), '\255', 'é', '\n\n', '  ', '' }
    local state = 1
    for _ = 1, 50 do
      local list = {}
      for i = 1, 120 do
        state = state * 16807 % 2147483647
        list[i] = texts[state % #texts + 1]
      end
      local boxes, lines = animation.layout(list, measure, 300)
      assert.equal(120, #boxes)
      assert.equal(lines, boxes[120].line)
      for i, box in ipairs(boxes) do
        assert.is_true(box.width > 0 and box.x >= 0 and box.x + box.width <= 300)
        local before = boxes[i - 1]
        if before then
          assert.is_true(box.line > before.line and box.x == 0 or box.line == before.line and box.x == before.x + before.width)
          if list[i - 1]:find '\n' then assert.equal(before.line + 1, box.line) end
        end
      end
    end
    local letters = {}
    for c in ('one two three four'):gmatch '.' do letters[#letters + 1] = c end
    local boxes = animation.layout(letters, measure, 120)         -- "one two " | "three four" is 10 wide
    for i, box in ipairs(boxes) do assert.equal(i <= 8 and 1 or 2, i == 8 and 1 or box.line) end
  end)

  it('lie in strips with the last one at the right, as wide as their cells', function()
    local layer = { std = 1, cells = { 0, 1, 2 }, cell_of = { 1, 2, 2, 3, 3 } }
    local image, map = animation.strip(layer, 7), torch.plot.colormap 'viridis'
    local function color(i) return 0xff000000 + map[i][1] * 65536 + map[i][2] * 256 + map[i][3] end
    for column, expected in ipairs{ 0xffececec, 0xffececec, color(1), color(129), color(129), color(256), color(256) } do
      assert.equal(expected, image.pixels[column - 1])
    end
  end)
end)

-- The inverse of what report.lua does.
local function decode_base64(text)
  local digits, out = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', {}
  for group in text:gmatch '....' do
    local n = 0
    for c in group:gmatch '.' do n = n * 64 + (c == '=' and 0 or digits:find(c, 1, true) - 1) end
    out[#out + 1] = string.char(math.floor(n / 65536), math.floor(n / 256) % 256, n % 256):sub(1, 3 - select(2, group:gsub('=', '')))
  end
  return table.concat(out)
end

local function close_to(pixel, c) return math.abs(pixel[1] - c[1]) + math.abs(pixel[2] - c[2]) + math.abs(pixel[3] - c[3]) <= 12 end

describe('the files of visualise', function()
  teardown(scratch.clean)
  local FOR, AGAINST, RED = { 92, 158, 242 }, { 245, 120, 107 }, { 214, 26, 26 }

  for name, build in pairs(make) do
    it(name .. ': the animation has a frame per step; the strongest token has the full colour, the target a frame', function()
      local net, text = build(), 'Ah, so\nlong a text'
      local steps, all = explain.run(net, bytes:encode_to_table(text), options())
      local path, o = scratch.path '.gif', { text = all, tokenizer = bytes, caption = 'a caption', delay = 0.5 }
      animation.save(path, steps, o)
      local frames, delays, loop = torch.io.gif.load(path, { channels = 3 })
      assert.equal(4, #frames)
      assert.same({ 0.5, 0.5, 0.5, 1 }, delays)
      assert.equal(0, loop)
      local drawn = animation.frames(steps, o)
      local canvas, list = torch.plot.canvas(1, 1), {}
      canvas:font 'DejaVu Sans Mono'
      for i, token in ipairs(all) do list[i] = bytes:decode{ token } end
      local boxes = animation.layout(list, function(t) return canvas:width(t, 17) end, 551)
      for i, step in ipairs(steps) do
        assert.same({ 3, frames[1]:size(2), 1200 }, frames[i]:size())
        local difference = (frames[i]:to{ dtype = 'float32' } - drawn[i]:to{ dtype = 'float32' }):abs()
        assert.is_true(difference:mean():item() < 1.5)
        local function pixel(x, y) return { frames[i][{ 1, y, x }], frames[i][{ 2, y, x }], frames[i][{ 3, y, x }] } end
        local strongest = 1
        for k, v in ipairs(step.contributions) do
          if math.abs(v) > math.abs(step.contributions[strongest]) then strongest = k end
        end
        local box, target = boxes[step.start + strongest], boxes[#step.tokens + step.start + 1]
        local x, y = math.floor(26 + box.x + 3), 88 + (box.line - 1) * 29 + 3
        if box.text:find '^[%w ]' then
          assert.is_true(close_to(pixel(x, y), step.contributions[strongest] > 0 and FOR or AGAINST),
            ('step %d: token %d at %d, %d is %s'):format(i, strongest, x, y, table.concat(pixel(x, y), ' ')))
        end
        assert.is_true(close_to(pixel(math.floor(26 + target.x + 5), 88 + (target.line - 1) * 29 + 1), RED))
      end
    end)

    it(name .. ': the grid and its table', function()
      local steps, all = explain.run(build(), bytes:encode_to_table 'to be, or not', options{ steps = 18 })
      local path, o = scratch.path '.png', { text = all, tokenizer = bytes, caption = 'a caption' }
      activation_grid.save(path, steps, o)
      local t = torch.io.png.load(path, { dtype = 'uint8' })
      assert.equal(1440, t:size(3))
      -- The right end of every strip is the last cell's colour.
      local n, map = #steps[1].layers, torch.plot.colormap 'viridis'
      local width = math.floor((1440 - 48 - 208 - (n - 1) * 14) / n)
      for row = 1, 16 do
        for k, layer in ipairs(steps[row + 2].layers) do
          local x, y = 24 + 208 + (k - 1) * (width + 14) + width - 1, 92 + (row - 1) * 56 + 10
          local expected = map[math.min(256, math.floor(layer.cells[#layer.cells] / (2 * layer.std) * 256) + 1)]
          assert.same(expected, { t[{ 1, y, x }], t[{ 2, y, x }], t[{ 3, y, x }] })
        end
      end
      local csv = scratch.path '.csv'
      activation_grid.save_table(csv, steps)
      local lines = {}
      for line in io.lines(csv) do lines[#lines + 1] = line end
      assert.equal(1 + 18 * n, #lines)
      local last = steps[18].layers[n]
      local values = {}
      for v in lines[#lines]:gmatch '[^,]+' do values[#values + 1] = tonumber(v) or v end
      assert.same({ 18, 30, steps[18].target, last.name, last.stride }, { values[1], values[2], values[3], values[5], values[6] })
      assert.near(last.kurtosis, values[10], 1e-6 * math.abs(last.kurtosis))
    end)
  end

  it('become part of the report when they exist', function()
    local t = torch.tensor({ { { 1, 2, 3 }, { 4, 5, 250 } } }, { dtype = 'uint8' })
    local picture, path = scratch.path '.gif', scratch.path '.html'
    torch.io.gif.save(picture, { t })
    report.write(path, { model = make.window(), tokenizer = bytes, config = { model = 'window', context = 16 }, text = 'To be',
      curve = 'none', samples = {}, pictures = { { title = 'moving <', path = picture }, { title = 'gone', path = '/nowhere.png' } } })
    local html = scratch.content(path)
    assert.equal(scratch.content(picture), decode_base64(html:match 'data:image/gif;base64,([%w+/=]*)'))
    assert.matches('moving &lt;', html, 1, true)
    assert.is_nil(html:find('gone', 1, true))
  end)

  for name in pairs(make) do
    it(name .. ': all of them from the command line', function()
      local folder = scratch.folder() .. '/run_' .. name
      local text = scratch.file(('To be, or not to be, that is the question.\n'):rep(60))
      local function run(arguments)
        local p = assert(io.popen(('%s %sexperiments/language_model.lua %s --out %s 2>&1'):format(interpreter, here, arguments, folder)))
        local out = p:read '*a'
        p:close()
        return out
      end
      run(('train --quick --quiet --steps 2 --threads 1 --model %s --data %s'):format(name, text))
      local out = run 'visualise --threads 1 --tokens 4 --explain 3 --delay 0.2 --prompt "To be,"'
      for _, file in ipairs{ 'contributions.gif', 'activations.png', 'activations.csv', 'report.html' } do
        assert.matches(folder .. '/' .. file .. '\n', out, 1, true)
      end
      local frames, delays = torch.io.gif.load(folder .. '/contributions.gif')
      assert.equal(3, #frames)
      assert.same({ 0.2, 0.2, 0.4 }, delays)
      assert.matches('data:image/png;base64,', scratch.content(folder .. '/report.html'), 1, true)
      assert.matches('expected a whole number from 0 to 1000', run 'visualise --explain 1.5', 1, true)
      run 'visualise --threads 1 --tokens 4 --text "be, or not" --explain 30'
      assert.equal(9, #torch.io.gif.load(folder .. '/contributions.gif'))
      for file in require('lfs').dir(folder) do os.remove(folder .. '/' .. file) end
      require('lfs').rmdir(folder)
    end)
  end
end)
