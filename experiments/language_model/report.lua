--- report: what a run did, as one HTML file without network use: the curve, samples, and which tokens a prediction rests on.

local bit = require 'bit'
local file = require 'masked_torch.io.file'
local explain = require 'language_model.explain'

local report = {}

local function escape(text)
  return (text:gsub('[&<>"]', { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;' })
    :gsub('[^\n\t\32-\126]', function(c) return ('\\x%02x'):format(c:byte()) end))
end

local DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

local function base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 0, 3 do
      local digit = bit.band(bit.rshift(n, 18 - 6 * k), 63) + 1
      out[#out + 1] = (k < 2 or k == 2 and b or k == 3 and c) and DIGITS:sub(digit, digit) or '='
    end
  end
  return table.concat(out)
end

-- The picture inside the page, so that the page is one file.
local function embedded(picture)
  local f = io.open(picture.path, 'rb')
  if not f then return '' end
  local bytes = f:read '*a'
  f:close()
  return ('<h3>%s</h3><p>%s</p><img alt="%s" style="max-width:100%%" src="data:image/%s;base64,%s">'):format(escape(picture.title),
    escape(picture.path:match '[^/]*$'), escape(picture.title), picture.path:match '%.(%w+)$', base64(bytes))
end

local function coloured(tokenizer, tokens, values)
  local largest, parts = 0, {}
  for _, v in ipairs(values) do largest = math.max(largest, math.abs(v)) end
  for i, v in ipairs(values) do
    local share = largest > 0 and math.abs(v) / largest or 0
    local other = math.floor(255 - 200 * share + 0.5)
    parts[i] = ('<span title="%.3g" style="background:rgb(%d,%d,%d)">%s</span>'):format(v, v < 0 and 255 or other, other,
      v < 0 and other or 255, escape(tokenizer:decode{ tokens[i] }):gsub('\n', '&#8629;\n'))
  end
  return table.concat(parts)
end

-- The rows of curve.csv as tables of numbers.
local function curve_of(path)
  local f = io.open(path, 'r')
  if not f then return {} end
  local names, rows = {}, {}
  for name in (f:read '*l' or ''):gmatch '[^,]+' do names[#names + 1] = name end
  for line in f:lines() do
    local row, i = {}, 0
    for value in (line .. ','):gmatch '([^,]*),' do
      i = i + 1
      row[names[i]] = tonumber(value)
    end
    if row.step and row.valid then rows[#rows + 1] = row end
  end
  f:close()
  return rows
end

local function svg(rows)
  if #rows < 2 then return '<p>No curve yet.</p>' end
  local low, high = math.huge, -math.huge
  for _, row in ipairs(rows) do
    for _, key in ipairs{ 'train', 'valid' } do
      local v = row[key]
      if v then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  local out = { '<svg viewBox="0 0 640 320" width="640"><rect width="640" height="320" fill="none" stroke="#ccc"/>' }
  for i, key in ipairs{ 'train', 'valid' } do
    local points = {}
    for _, row in ipairs(rows) do
      if row[key] then
        points[#points + 1] = ('%.1f,%.1f'):format(50 + 580 * row.step / rows[#rows].step,
          300 - 280 * (row[key] - low) / math.max(high - low, 1e-9))
      end
    end
    local colour = i == 1 and '#888' or '#05c'
    out[#out + 1] = ('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/><text x="560" y="%d" fill="%s">%s</text>'):format(
      colour, table.concat(points, ' '), 20 * i, colour, key)
  end
  out[#out + 1] = ('<text x="4" y="24">%.2f</text><text x="4" y="304">%.2f</text></svg>'):format(high, low)
  return table.concat(out, '\n')
end

--- report.write(path, { model =, tokenizer =, config =, text =, curve = path, samples = { { title, text }, ... },
-- pictures = { { title =, path = }, ... } }): text: what the contributions are shown for, token by token for its last 16 prefixes;
-- pictures: GIF or PNG files, which become part of the page; one that does not exist is left out.
function report.write(path, o)
  local out = { '<!doctype html><meta charset="utf-8"><title>language model</title>',
    '<style>body{font:15px sans-serif;max-width:64em;margin:2em auto}pre{white-space:pre-wrap;background:#f6f6f6;padding:.6em}</style>',
    ('<h1>%s language model</h1>'):format(escape(o.config.model)), '<h2>Loss, nats per token</h2>', svg(curve_of(o.curve)),
    '<h2>What predictions rest on</h2><p>Gradient x input: blue speaks for the predicted token, red against it.</p>' }
  local tokens = o.tokenizer:encode_to_table(o.text)
  for length = math.max(1, #tokens - 15), #tokens do
    local prefix = {}
    for i = math.max(1, length - o.config.context + 1), length do prefix[#prefix + 1] = tokens[i] end
    local values, best, p = explain.contributions(o.model, prefix)
    out[#out + 1] = ('<pre>%s  &rarr; <b>%s</b> %.0f %%</pre>'):format(coloured(o.tokenizer, prefix, values),
      escape(o.tokenizer:decode{ best }):gsub('\n', '&#8629;'), 100 * p)
  end
  for _, picture in ipairs(o.pictures or {}) do out[#out + 1] = embedded(picture) end
  out[#out + 1] = '<h2>Samples</h2>'
  for _, sample in ipairs(o.samples) do
    out[#out + 1] = ('<h3>%s</h3><pre>%s</pre>'):format(escape(sample[1]), escape(sample[2]))
  end
  file.write('report', path, function(write) write(table.concat(out, '\n') .. '\n') end)
end

return report
