--- bpe: a byte-level byte-pair encoding (core/bpe.h says how it works), its vocabulary, and its training.

local ffi = require 'ffi'
local class = require 'masked_torch.class'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local Tensor = require 'masked_torch.tensor'
local file = require 'masked_torch.io.file'
local json = require 'masked_torch.io.json'
local Tokenizer = require 'masked_torch.data.tokenizer.base'

local C, check, fail = native.cpu, native.check, native.fail
local BPE = class('BPETokenizer', Tokenizer)

local out_id, out_length = ffi.new('int32_t[1]'), ffi.new('int64_t[1]')

--- BPE(tokens, pairs, merges, special): tokens is an array of byte strings (place = id), pairs an int32_t array of the ids that
-- the merges join, special an array of ids. refuse(format, ...) raises the error of a bad vocabulary.
function BPE:__init(tokens, pairs, merges, special, refuse)
  local n = #tokens
  local offset, at = ffi.new('int64_t[?]', n + 1), 0
  for id = 1, n do
    at = at + #tokens[id]
    offset[id] = at
  end
  local ids = ffi.new('int32_t[?]', math.max(1, #special))
  for k, id in ipairs(special) do ids[k - 1] = id end
  local out = ffi.new('mt_bpe *[1]')
  local bytes = table.concat(tokens)
  local status = C.mt_bpe_new(out, n, bytes, offset, merges, pairs, #special, ids)
  if status ~= 0 then
    local message = ffi.string(C.mt_last_error())
    if refuse and status == C.MT_ERROR_ARGUMENT then refuse('%s', (message:gsub('^bpe: ', ''))) end
    check(status)
  end
  self._bpe = ffi.gc(out[0], C.mt_bpe_release)
  self._bytes, self._offset, self.pairs, self.merges = bytes, offset, pairs, merges
  self.vocab_size, self.special_list, self.special = n, {}, {}
  for k, id in ipairs(special) do
    self.special_list[k] = tokens[id]
    self.special[tokens[id]] = id
  end
end

function BPE:_encode(bytes, length, o, op)
  local flags = self:special_flags(op, o.special)
  local out = ffi.new('mt_bpe_list *[1]')
  check(C.mt_bpe_list_new(out), op)
  local list = ffi.gc(out[0], C.mt_bpe_list_release)
  check(C.mt_bpe_encode(list, self._bpe, ffi.cast('const char *', bytes), length, flags), op)
  local ids = Tensor.empty(op, { tonumber(C.mt_bpe_list_count(list)) }, o.dtype)
  check(C.mt_bpe_list_read(ids._c, list), op)
  ffi.gc(list, nil)
  C.mt_bpe_list_release(list)
  return ids
end

function BPE:_decode(ids, skip_special)
  local skip = skip_special and 1 or 0
  check(C.mt_bpe_decode_length(out_length, self._bpe, ids._c, skip))
  local length = tonumber(out_length[0])
  local text = ffi.new('char[?]', math.max(1, length))
  check(C.mt_bpe_decode(text, length, self._bpe, ids._c, skip))
  return ffi.string(text, length)
end

--- The bytes of an id.
function BPE:token(id)
  self:check_id('token', id)
  return self._bytes:sub(tonumber(self._offset[id - 1]) + 1, tonumber(self._offset[id]))
end

--- The id of the token with exactly these bytes, special tokens included; nil when there is none.
function BPE:id(bytes)
  Tokenizer.check_text('id', 'bytes', bytes)
  check(C.mt_bpe_find(out_id, self._bpe, bytes, #bytes))
  return out_id[0] > 0 and out_id[0] or nil
end

--- The k-th merge, the first applied first: the ids of left and right.
function BPE:merge(k)
  native.integer('merge', 'k', k, 1, self.merges)
  return self.pairs[2 * k - 2], self.pairs[2 * k - 1]
end

--- The text of a tokenizer.json.
function BPE:serialize()
  return require('masked_torch.data.tokenizer.hugging_face').text(self)
end

--- save(path): a tokenizer.json; {format = 'gpt2'}: path is a folder that gets encoder.json and vocab.bpe.
function BPE:save(path, opts)
  local o = options.parse('save', { format = 'tokenizer.json' }, opts)
  options.choice('save', 'format', o.format, { 'tokenizer.json', 'gpt2' })
  if o.format == 'gpt2' then
    require('masked_torch.data.tokenizer.gpt2').save(self, path)
  else
    Tokenizer.save(self, path)
  end
end

-- ---- training ----------------------------------------------------------------------------------------------------

local COUNT_BYTES, MERGE_STEPS = 4 * 2 ^ 20, 64     -- between two reports of progress
local bytes_in_order                                 -- of ids 1 to 256

local function check_special(special)
  local seen = {}
  if type(special) ~= 'table' then fail('train_bpe: special: expected a list of texts, got %s', type(special)) end
  for k, text in ipairs(special) do
    if type(text) ~= 'string' or #text < 2 or json.invalid_utf8(text) or text:find('%c') then
      fail('train_bpe: special: entry %d: expected a text of two or more characters, got %s', k,
        type(text) == 'string' and ('%q'):format(text) or type(text))
    elseif seen[text] then
      fail('train_bpe: special: %q appears twice', text)
    end
    seen[text] = true
  end
  return special
end

-- The next special token in the text: first byte, last byte; past the end where there is none.
local function next_special(text, from, special)
  local first, last = #text + 1, #text
  for _, s in ipairs(special) do
    local a, b = text:find(s, from, true)
    if a and (a < first or (a == first and b > last)) then first, last = a, b end
  end
  return first, last
end

-- Counts the pieces of one text; special tokens belong to no piece.
local function count(trainer, text, special, report)
  local position, from = ffi.new('int64_t[1]'), 1
  while from <= #text do
    local first, last = next_special(text, from, special)
    local length = first - from
    position[0] = 0
    while position[0] < length do
      check(C.mt_bpe_trainer_count(trainer, ffi.cast('const char *', text) + (from - 1), length, position, COUNT_BYTES))
      report(from - 1 + tonumber(position[0]))
      if C.mt_cancel_pending() ~= 0 then
        C.mt_cancel_set(0)
        fail('train_bpe: interrupted')
      end
    end
    from = last + 1
  end
end

local function alphabet()
  if not bytes_in_order then
    local printable, rest = {}, {}
    for byte = 0, 255 do
      local to = (byte >= 33 and byte <= 126 or byte >= 161 and byte ~= 173) and printable or rest
      to[#to + 1] = string.char(byte)
    end
    for _, byte in ipairs(rest) do printable[#printable + 1] = byte end
    bytes_in_order = printable
  end
  return bytes_in_order
end
BPE.alphabet = alphabet

--- train_bpe(corpus, vocab_size, opts): a byte-pair encoding of the corpus: a text, or a table of file names. The vocabulary is
-- the 256 bytes, then the merges, the most frequent pair first (ties: the smaller ids), then the special tokens; it is smaller
-- than vocab_size when no pair is left that appears min_frequency times. The same corpus always gives the same tokenizer.
-- opts: min_frequency (2); special (none): texts that are tokens by themselves and belong to no word; progress: a function
-- called with 'count' or 'merge', how much is done and of how much (bytes, tokens); when it returns false, training stops
-- with an error. Ctrl-C stops it too, where torch handles it.
function BPE.train(corpus, vocab_size, opts)
  local o = options.parse('train_bpe', { min_frequency = 2, special = options.any({}), progress = options.none }, opts)
  local special = check_special(o.special)
  native.integer('train_bpe', 'vocab_size', vocab_size, 256 + #special, 2 ^ 24)
  native.integer('train_bpe', 'min_frequency', o.min_frequency, 1)
  if o.progress ~= nil then native.callable('train_bpe', 'progress', o.progress) end
  local function report(phase, done, total)
    if o.progress and o.progress(phase, done, total) == false then fail('train_bpe: stopped by progress') end
  end
  local out = ffi.new('mt_bpe_trainer *[1]')
  check(C.mt_bpe_trainer_new(out))
  local trainer = ffi.gc(out[0], C.mt_bpe_trainer_release)

  if type(corpus) == 'string' then
    count(trainer, corpus, special, function(done) report('count', done, #corpus) end)
  elseif type(corpus) == 'table' and #corpus > 0 then
    for k, path in ipairs(corpus) do
      if type(path) ~= 'string' then fail('train_bpe: corpus: entry %d: expected a file name, got %s', k, type(path)) end
      local text = file.read('train_bpe', path)
      count(trainer, text, special, function(done) report('count', k - 1 + done / #text, #corpus) end)
    end
  else
    fail('train_bpe: corpus: expected a text or a table of file names, got %s', type(corpus) == 'table' and '{}' or type(corpus))
  end
  if C.mt_bpe_trainer_pieces(trainer) == 0 then fail('train_bpe: corpus: it is empty') end

  local given, finished = ffi.new('int32_t[1]'), ffi.new('int32_t[1]')
  local limit = vocab_size - #special
  repeat
    check(C.mt_bpe_trainer_merge(trainer, limit, o.min_frequency, MERGE_STEPS, given, finished))
    report('merge', given[0], limit)
  until finished[0] == 1

  local merges = C.mt_bpe_trainer_merges(trainer)
  local pairs_ = ffi.new('int32_t[?]', math.max(1, 2 * merges))
  check(C.mt_bpe_trainer_read(pairs_, trainer))
  ffi.gc(trainer, nil)
  C.mt_bpe_trainer_release(trainer)

  local tokens, known, special_ids = {}, {}, {}
  local function add(bytes)
    if not known[bytes] then
      tokens[#tokens + 1] = bytes
      known[bytes] = #tokens
    end
    return known[bytes]
  end
  for _, byte in ipairs(alphabet()) do add(byte) end
  for k = 0, merges - 1 do add(tokens[pairs_[2 * k]] .. tokens[pairs_[2 * k + 1]]) end
  for k, text in ipairs(special) do
    if known[text] then fail('train_bpe: special: %q became a token of the corpus', text) end
    special_ids[k] = add(text)
  end
  return BPE(tokens, pairs_, merges, special_ids)
end

return BPE
