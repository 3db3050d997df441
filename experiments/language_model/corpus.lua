--- corpus: the text of a run as tokens: 90 % for training, the next 5 % for validation.

local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local data = torch.data

-- What is used where no text is installed: enough to see a model train.
local BUILTIN = [[
The net is cast where holes have been, and what it holds is what is seen.
A grain of sand, a drop of rain; the mask is laid, and lifted again.
Who counts the stones along the shore? Count those that are, and count no more.
The tide that hides them does not say how many it has washed away.
A window open to the night lets in a little of the light;
a word half heard, a letter torn, and still the whole of it is borne.
]]

local corpus = {}

local function exists(path)
  local f = io.open(path, 'rb')
  if f then f:close() end
  return f ~= nil
end

--- corpus.text{data =, dataset =, fetch =, binary =} -> text, its name.
function corpus.text(o)
  if o.data then
    local text = data.text.read(o.data)
    local zero = not o.binary and text:find '%z'
    if zero then
      native.fail('language_model: %s is not a text: byte %d is 0; --binary trains on the bytes of any file', o.data, zero)
    end
    return text, o.data
  end
  if o.dataset == 'tiny_shakespeare' then return data.text.tiny_shakespeare{ fetch = o.fetch }, o.dataset end
  local found, text = pcall(data.text.kjv)
  if found then return text, 'kjv' end
  io.stderr:write('language_model: the King James Bible is not installed (scripts/install_dependencies run, or apt install ',
    'bible-kjv-text); using a few built-in lines, repeated\n')
  return BUILTIN:rep(60), 'builtin'
end

--- corpus.load(options, [tokenizer]) -> { train =, valid = Tokens, tokenizer =, name =, checksum = of the text }. Without a
-- tokenizer, options.tokenizer says which; a text that is too short for one window is an error.
function corpus.load(o, tokenizer)
  local text, name = corpus.text(o)
  if not tokenizer then
    if o.tokenizer:find('^bpe:') or o.tokenizer == 'bytes' or o.tokenizer == 'gpt2' or exists(o.tokenizer) then
      tokenizer = data.tokenizer.from(o.tokenizer, { corpus = text, fetch = o.fetch })
    else
      tokenizer = data.tokenizer.from(o.tokenizer)
    end
  end
  local tokens = tokenizer.vocab_size == 256 and o.tokenizer == 'bytes' and data.Tokens.of_string(text) or
    data.Tokens(tokenizer:encode(text, { dtype = 'int32' }))
  data.text.check_context(tokens, o.context, name)
  local train, valid = tokens:split{ 0.9, 0.05 }
  data.text.check_context(train, o.context, name .. ' (its first 90 %)')
  data.text.check_context(valid, o.model == 'window' and o.context or 1, name .. ' (the 5 % for validation)')
  local checksum = ('%d bytes, crc32c %08x'):format(#text, tonumber(native.cpu.mt_checksum_crc32c(0, text, #text, 1)))
  return { train = train, valid = valid, tokenizer = tokenizer, name = name, checksum = checksum }
end

return corpus
