--- rewrite: what happens to a chunk between the prompt and the compiler. Line numbers stay as they are.
--
--     rewrite.locals(text)     top-level `local x = 1` becomes `x = 1`: a variable of the session, which outlives the chunk
--     rewrite.polls(text)      every loop begins with a look at the Ctrl-C flag, because compiled code runs no debug hooks
--     rewrite.last(text)       a chunk in two: what stands before its last statement, and that, where it is an expression
--
-- With functions that keep a local of the same chunk which is declared twice, the first differs from plain Lua: there is one
-- variable. Inside blocks and functions nothing changes, and files that the session runs keep their locals.

local lexer = require 'masked_torch.repl.lexer'

local rewrite = {}

-- text with pieces replaced: edits is an array of {first, last, replacement}, in order; last < first inserts.
local function apply(text, edits)
  if #edits == 0 then return text end
  local out, at = {}, 1
  for _, edit in ipairs(edits) do
    out[#out + 1] = text:sub(at, edit[1] - 1)
    out[#out + 1] = edit[3]
    at = edit[2] + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

local function code(text)
  local tokens = {}
  for _, token in ipairs(lexer.tokens(text)) do
    if token.kind ~= 'comment' then tokens[#tokens + 1] = token end
  end
  lexer.depths(tokens)
  return tokens
end

--- rewrite.locals(text, [keep]): text, and an array of the names that were declared. keep(names) may return false to leave a
-- declaration as it is.
function rewrite.locals(text, keep)
  local tokens, edits, declared = code(text), {}, {}
  for i, token in ipairs(tokens) do
    if token.text == 'local' and token.kind == 'keyword' and token.block == 0 and token.bracket == 0 then
      local names, at = {}, i + 1
      if tokens[at] and tokens[at].text == 'function' then
        names[1] = tokens[at + 1] and tokens[at + 1].text
      else
        while tokens[at] and tokens[at].kind == 'name' do
          names[#names + 1] = tokens[at].text
          if not (tokens[at + 1] and tokens[at + 1].text == ',') then break end
          at = at + 2
        end
      end
      if #names > 0 and not (keep and keep(names) == false) then
        edits[#edits + 1] = { token.first, token.last, '     ' }
        local following = tokens[at + 1]
        if tokens[i + 1].text ~= 'function' and not (following and following.text == '=') then
          local last = tokens[at].last
          edits[#edits + 1] = { last + 1, last, ' = nil' }
        end
        for _, name in ipairs(names) do declared[#declared + 1] = name end
      end
    end
  end
  return apply(text, edits), declared
end

--- rewrite.polls(text, call): `call` inserted at the beginning of every loop's body.
function rewrite.polls(text, call)
  local edits = {}
  -- `do` belongs to the last `for` or `while` whose `do` has not come yet, otherwise it is a plain block.
  local waiting = {}
  for _, token in ipairs(code(text)) do
    if token.kind == 'keyword' then
      if token.text == 'for' or token.text == 'while' then
        waiting[token.block] = true
      elseif token.text == 'repeat' or token.text == 'do' and waiting[token.block] then
        if token.text == 'do' then waiting[token.block] = nil end
        edits[#edits + 1] = { token.last + 1, token.last, ' ' .. call .. ' ' }
      end
    end
  end
  return apply(text, edits)
end

--- rewrite.at_end(text, call): `call` behind the last statement of a file, before a `return`.
function rewrite.at_end(text, call)
  for _, token in ipairs(code(text)) do
    if token.text == 'return' and token.kind == 'keyword' and token.block == 0 and token.bracket == 0 then
      return apply(text, { { token.first, token.first - 1, call .. ' ' } })
    end
  end
  return text .. '\n' .. call
end

--- rewrite.last(text, compiles): the text before its last statement, and that statement, when it is an expression; otherwise nil.
-- compiles(text) -> boolean.
function rewrite.last(text, compiles)
  local tokens = code(text)
  for i = #tokens, 2, -1 do
    local token, previous = tokens[i], tokens[i - 1]
    if token.block == 0 and token.bracket == 0 and token.kind ~= 'keyword' and
      (previous.text == ';' or token.line > previous.line) then
      local before, rest = text:sub(1, token.first - 1), text:sub(token.first)
      if compiles('return ' .. rest) and compiles(before) then return before, rest end
    end
  end
end

--- rewrite.ends_in_comment(text)
function rewrite.ends_in_comment(text)
  local tokens = lexer.tokens(text)
  return #tokens > 0 and tokens[#tokens].kind == 'comment'
end

--- rewrite.silenced(text): the text without a `;` at its end, and whether there was one.
function rewrite.silenced(text)
  local tokens = code(text)
  local last = tokens[#tokens]
  if last and last.text == ';' and last.kind == 'operator' and last.bracket == 0 then
    return text:sub(1, last.first - 1) .. ' ' .. text:sub(last.last + 1), true
  end
  return text, false
end

return rewrite
