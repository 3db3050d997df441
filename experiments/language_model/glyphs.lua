--- glyphs: tokens as text that can be seen.

local glyphs = {}

local NEWLINE, TAB, SPACE, EMPTY = '↵', '→', '␣', '∅'

-- The length of the UTF-8 character at the start of a text, nil for anything else, overlong and surrogates included.
local function character(text, at)
  local a, b = text:byte(at, at + 1)
  if a < 0x80 then return 1 end
  local n = a >= 0xc2 and a <= 0xdf and 2 or a >= 0xe0 and a <= 0xef and 3 or a >= 0xf0 and a <= 0xf4 and 4
  if not n or not b then return nil end
  if (a == 0xe0 and b < 0xa0) or (a == 0xed and b > 0x9f) or (a == 0xf0 and b < 0x90) or (a == 0xf4 and b > 0x8f) then return nil end
  if #text:sub(at, at + n - 1):match('^[\194-\244]([\128-\191]*)') ~= n - 1 then return nil end
  return n
end

--- glyphs.of(bytes, {spaces = false}) -> UTF-8 text on one line, whether all of `bytes` was text. Newlines and tabs become arrows, other
-- control characters and bytes that are no UTF-8 become \xNN, a token of no bytes ∅; spaces: blanks as open boxes.
function glyphs.of(bytes, opts)
  if bytes == '' then return EMPTY, false end
  local out, clean, at = {}, true, 1
  while at <= #bytes do
    local n = character(bytes, at)
    local c = bytes:sub(at, at + (n or 1) - 1)
    local code = c:byte()
    if c == '\n' then
      c = NEWLINE
    elseif c == '\t' then
      c = TAB
    elseif c == ' ' then
      c = opts and opts.spaces and SPACE or c
    elseif not n or code < 32 or code == 127 or (code == 0xc2 and c:byte(2) < 0xa0) then
      c, clean = c:gsub('.', function(b) return ('\\x%02x'):format(b:byte()) end), false
    end
    out[#out + 1], at = c, at + (n or 1)
  end
  return table.concat(out), clean
end

--- glyphs.cut(text, most): a text of more than `most` characters as its beginning and its end around an ellipsis.
function glyphs.cut(text, most)
  local characters = {}
  for c in text:gmatch '[%z\1-\127\194-\244][\128-\191]*' do characters[#characters + 1] = c end
  if #characters <= most then return text end
  local left = math.ceil((most - 1) / 2)
  return table.concat(characters, '', 1, left) .. '…' .. table.concat(characters, '', #characters - (most - 1 - left) + 1)
end

return glyphs
