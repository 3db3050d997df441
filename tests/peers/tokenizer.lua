-- The side of tests/peers/tokenizer.py that runs here: luajit tests/peers/tokenizer.lua GPT2_FOLDER CORPUS SIZE TEXTS OUT
-- TEXTS: one text a line in hexadecimal. OUT: GPT-2's ids of each, from 0, then the keys of a trained tokenizer's merges.
local root = arg[0]:match('^(.*)tests/peers/tokenizer%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. package.path
local tokenizer = require('masked_torch').data.tokenizer

local folder, corpus, size, texts, out = unpack(arg)
local gpt2 = tokenizer.gpt2(folder)
local file = assert(io.open(out, 'w'))
for line in io.lines(texts) do
  local text = line:gsub('..', function(hex) return string.char(tonumber(hex, 16)) end)
  local special, hex = text:match('^(.)(.*)$')
  local ids = gpt2:encode_to_table(hex, { special = special == 's' and 'all' or 'none' })
  if gpt2:decode(ids) ~= hex then error('round trip of ' .. line) end
  for k, id in ipairs(ids) do ids[k] = id - 1 end
  file:write(table.concat(ids, ' '), '\n')
end
local trained = tokenizer.train_bpe({ corpus }, tonumber(size))
trained:save(out .. '.json')
file:close()
