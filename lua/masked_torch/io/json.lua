--- json: a strict reader and a writer (RFC 8259).
--
-- Reading: the text must be one value; duplicate names, invalid UTF-8, lone surrogates and nesting deeper than the limit are
-- errors that name the byte. Objects and arrays are plain tables whose metatable is json.object or json.array; null is
-- json.null. Numbers become doubles. Writing sorts names, so equal values give equal text.

local byte, sub, match = string.byte, string.sub, string.match

local json = {}

--- json.object, json.array: the metatables of what is read; an empty table is written as {} or [] by them.
json.object = { __name = 'object' }
json.array = { __name = 'array' }
--- json.null: the value null.
json.null = setmetatable({}, { __tostring = function() return 'null' end })

-- ---- UTF-8 -----------------------------------------------------------------------------------------------------

--- The position of the first byte that is not valid UTF-8 (RFC 3629: no overlong forms, no surrogates), or nil.
function json.invalid_utf8(s)
  local i = s:find('[\128-\255]')
  while i do
    local c, c2 = s:byte(i, i + 1)
    local tail
    if c >= 0xc2 and c <= 0xdf then
      tail = s:match('^[\128-\191]()', i + 1)
    elseif c >= 0xe0 and c <= 0xef then
      tail = s:match('^[\128-\191][\128-\191]()', i + 1)
      if tail and (c == 0xe0 and c2 < 0xa0 or c == 0xed and c2 > 0x9f) then tail = nil end
    elseif c >= 0xf0 and c <= 0xf4 then
      tail = s:match('^[\128-\191][\128-\191][\128-\191]()', i + 1)
      if tail and (c == 0xf0 and c2 < 0x90 or c == 0xf4 and c2 > 0x8f) then tail = nil end
    end
    if not tail then return i end
    i = s:find('[\128-\255]', tail)
  end
  return nil
end

local function encode_utf8(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xc0 + math.floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return string.char(0xe0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end
  return string.char(0xf0 + math.floor(code / 262144), 0x80 + math.floor(code / 4096) % 64,
    0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

-- ---- reading ---------------------------------------------------------------------------------------------------

local COMMA, CLOSE = (','):byte(), (']'):byte()
local DIGIT = {}
for d = 0, 9 do DIGIT[tostring(d)] = true end

local escapes = { ['"'] = '"', ['\\'] = '\\', ['/'] = '/', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }

--- json.decode(text, fail, max_depth): the value. fail(position, message) is called for a mistake (1-based position) and must
-- not return.
function json.decode(text, fail, max_depth)
  max_depth = max_depth or 32
  local bad = json.invalid_utf8(text)
  if bad then fail(bad, 'invalid UTF-8') end

  -- Most positions need no pattern: headers of 16 MiB are read in a second.
  local function skip(i)
    local c = byte(text, i)
    if c and c > 32 then return i end
    return match(text, '^[ \t\r\n]*()', i)
  end

  local function parse_string(i)
    local parts, from = {}, i + 1
    while true do
      local stop = text:find('["\\%c]', from)
      if not stop then fail(i, 'the string does not end') end
      parts[#parts + 1] = text:sub(from, stop - 1)
      local c = text:sub(stop, stop)
      if c == '"' then return table.concat(parts), stop + 1 end
      if c == '\127' then
        parts[#parts + 1] = c
        from = stop + 1
      elseif c ~= '\\' then
        fail(stop, 'a control character in a string')
      else
        local e = text:sub(stop + 1, stop + 1)
        if escapes[e] then
          parts[#parts + 1] = escapes[e]
          from = stop + 2
        else
          local hex = text:match('^u(%x%x%x%x)', stop + 1)
          if not hex then fail(stop, 'an unknown escape in a string') end
          local code = tonumber(hex, 16)
          from = stop + 6
          if code >= 0xd800 and code <= 0xdfff then
            local low = tonumber(text:match('^\\u(%x%x%x%x)', from) or '0', 16)
            if code > 0xdbff or low < 0xdc00 or low > 0xdfff then fail(stop, 'half of a surrogate pair') end
            code = 0x10000 + (code - 0xd800) * 1024 + (low - 0xdc00)
            from = from + 6
          end
          parts[#parts + 1] = encode_utf8(code)
        end
      end
    end
  end

  local function parse_number(i)
    local rest = match(text, '^-?[1-9]%d*()', i) or match(text, '^-?0()', i)
    if not rest then fail(i, 'a value was expected') end
    local c = byte(text, rest)
    if c == COMMA or c == CLOSE then return tonumber(sub(text, i, rest - 1)), rest end
    rest = text:match('^%.%d+()', rest) or rest
    rest = text:match('^[eE][+-]?%d+()', rest) or rest
    if text:find('^[%w%.+-]', rest) then fail(i, 'a malformed number') end
    return tonumber(text:sub(i, rest - 1)), rest
  end

  local parse_value

  local function parse_object(i, depth)
    local object = setmetatable({}, json.object)
    local seen = {}
    i = skip(i + 1)
    if text:sub(i, i) == '}' then return object, i + 1 end
    while true do
      if text:sub(i, i) ~= '"' then fail(i, 'a name in quotes was expected') end
      local name, after = parse_string(i)
      if seen[name] then fail(i, ('the name %q appears twice'):format(name)) end
      seen[name] = true
      i = skip(after)
      if text:sub(i, i) ~= ':' then fail(i, "':' was expected") end
      object[name], i = parse_value(skip(i + 1), depth)
      i = skip(i)
      local c = text:sub(i, i)
      if c == '}' then return object, i + 1 end
      if c ~= ',' then fail(i, "',' or '}' was expected") end
      i = skip(i + 1)
    end
  end

  local function parse_array(i, depth)
    local array, n = setmetatable({}, json.array), 0
    i = skip(i + 1)
    if text:sub(i, i) == ']' then return array, i + 1 end
    while true do
      n = n + 1
      array[n], i = parse_value(i, depth)
      i = skip(i)
      local c = byte(text, i)
      if c == CLOSE then return array, i + 1 end
      if c ~= COMMA then fail(i, "',' or ']' was expected") end
      i = skip(i + 1)
    end
  end

  local words = { t = { 'true', true }, f = { 'false', false }, n = { 'null', json.null } }

  function parse_value(i, depth)
    local c = sub(text, i, i)
    if DIGIT[c] then return parse_number(i) end
    if c == '{' or c == '[' then
      if depth >= max_depth then fail(i, ('nested more than %d deep'):format(max_depth)) end
      if c == '{' then return parse_object(i, depth + 1) end
      return parse_array(i, depth + 1)
    elseif c == '"' then
      return parse_string(i)
    elseif words[c] then
      local word = words[c]
      if text:sub(i, i + #word[1] - 1) ~= word[1] then fail(i, 'a value was expected') end
      return word[2], i + #word[1]
    end
    return parse_number(i)
  end

  local value, i = parse_value(skip(1), 0)
  i = skip(i)
  if i <= #text then fail(i, 'text after the value') end
  return value
end

-- ---- writing ---------------------------------------------------------------------------------------------------

local short = { ['"'] = '\\"', ['\\'] = '\\\\', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t' }

local function quote(s)
  return '"' .. s:gsub('[%c"\\]', function(c) return short[c] or ('\\u%04x'):format(c:byte()) end) .. '"'
end
--- json.quote(s): a string as JSON text.
json.quote = quote

--- A number that reads back to the same double. NaN and infinities have no JSON form: the caller's error.
function json.number(value)
  if value ~= value or value == math.huge or value == -math.huge then error('json.number: not finite', 2) end
  if value % 1 == 0 and math.abs(value) < 2 ^ 53 and not (value == 0 and 1 / value < 0) then return ('%d'):format(value) end
  return ('%.17g'):format(value)
end

--- json.encode(value): tables with 1..n keys or the metatable json.array are arrays, others objects with string names.
function json.encode(value)
  local out = {}
  local function put(v)
    local kind = type(v)
    if v == json.null then
      out[#out + 1] = 'null'
    elseif kind == 'string' then
      out[#out + 1] = quote(v)
    elseif kind == 'number' then
      out[#out + 1] = json.number(v)
    elseif kind == 'boolean' then
      out[#out + 1] = tostring(v)
    elseif kind ~= 'table' then
      error('json.encode: cannot write a ' .. kind, 0)
    elseif getmetatable(v) == json.array or (getmetatable(v) ~= json.object and #v > 0) then
      out[#out + 1] = '['
      for i = 1, #v do
        if i > 1 then out[#out + 1] = ',' end
        put(v[i])
      end
      out[#out + 1] = ']'
    else
      local names = {}
      for name in pairs(v) do names[#names + 1] = name end
      table.sort(names)
      out[#out + 1] = '{'
      for i, name in ipairs(names) do
        if i > 1 then out[#out + 1] = ',' end
        out[#out + 1] = quote(name)
        out[#out + 1] = ':'
        put(v[name])
      end
      out[#out + 1] = '}'
    end
  end
  put(value)
  return table.concat(out)
end

return json
