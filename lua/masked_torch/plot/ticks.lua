--- ticks: where an axis is marked, and how the marks are written.

local ticks = {}

local SUPERSCRIPT = { ['-'] = '⁻', ['0'] = '⁰', ['1'] = '¹', ['2'] = '²', ['3'] = '³', ['4'] = '⁴', ['5'] = '⁵', ['6'] = '⁶',
  ['7'] = '⁷', ['8'] = '⁸', ['9'] = '⁹' }

local function power(k)
  return '10' .. tostring(k):gsub('.', SUPERSCRIPT)
end

-- A number with that many decimals; a proper minus sign.
local function plain(value, decimals)
  local text = ('%%.%df'):format(decimals):format(value)
  if tonumber(text) == 0 then text = text:gsub('^-', '') end
  return (text:gsub('^-', '−'))
end

-- The power of ten of a positive number, without the rounding error of log10 at 1000.
local function exponent(v)
  return tonumber(('%.0e'):format(v):match('e(.*)$'))
end

--- ticks.linear(low, high, n): about n round positions in [low, high] and their labels.
function ticks.linear(low, high, n)
  local raw = (high - low) / math.max(1, n)
  local k = math.floor(math.log10(raw) + 1e-9)
  local unit = raw / 10 ^ k
  local factor = unit <= 1.5 and 1 or unit <= 3 and 2 or unit <= 7 and 5 or 10
  if factor == 10 then factor, k = 1, k + 1 end
  local largest = math.max(math.abs(low), math.abs(high))
  local shift = (largest >= 1e5 or largest < 1e-3) and exponent(largest) or 0
  local positions, labels = {}, {}
  local first = math.ceil(low / (factor * 10 ^ k) - 1e-9)
  local last = math.floor(high / (factor * 10 ^ k) + 1e-9)
  for i = first, last do
    local value = i * factor * 10 ^ k
    positions[#positions + 1] = value
    local text = plain(value / 10 ^ shift, math.max(0, math.min(15, shift - k)))
    if shift ~= 0 and i ~= 0 then text = text .. '·' .. power(shift) end
    labels[#labels + 1] = text
  end
  return positions, labels
end

--- ticks.log(low, high, n): powers of ten in [low, high]; with fewer than two of them also 2 and 5 times those.
function ticks.log(low, high, n)
  local first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
  local step = math.max(1, math.ceil((last - first + 1) / math.max(1, n)))
  local function collect(factors)
    local positions, labels = {}, {}
    for k = #factors > 1 and first - 1 or first, last, step do
      for _, factor in ipairs(factors) do
        local value = factor * 10 ^ k
        if value >= low * (1 - 1e-9) and value <= high * (1 + 1e-9) then
          positions[#positions + 1] = value
          if k >= -3 and k <= 4 then
            labels[#labels + 1] = plain(value, math.max(0, -k))
          else
            labels[#labels + 1] = (factor == 1 and '' or factor .. '·') .. power(k)
          end
        end
      end
    end
    return positions, labels
  end
  local positions, labels = collect{ 1 }
  if #positions < 2 then positions, labels = collect{ 1, 2, 5 } end
  return positions, labels
end

return ticks
