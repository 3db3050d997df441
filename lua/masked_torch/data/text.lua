--- text: where texts come from.
--
--     local tokens = data.text.bytes('book.txt', {context = 128})       a file, memory-mapped: token = byte + 1
--     local bible = data.text.load('kjv')                               a string; also 'tiny_shakespeare', or a file name
--     local train, valid = data.Tokens.of_string(bible):split{0.9, 0.05}
--
-- Nothing goes to the network unless asked to ({fetch = true}), and what was fetched counts only when its checksum is right.

local fetch = require 'masked_torch.data.fetch'
local file = require 'masked_torch.io.file'
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local tokens = require 'masked_torch.data.tokens'

local fail = native.fail

local text = {}

-- A whole text in memory: what a tokenizer takes.
local LIMIT = 2 ^ 30

--- text.read(path): the file as a string. A missing or empty file, a folder, or more than 1 GiB is an error (larger ones: text.bytes).
function text.read(path)
  local content = file.read('text.read', path, LIMIT)
  if content == '' then fail('text.read: %s: the file is empty', path) end
  return content
end

--- text.check_context(tokens, context, [name = 'dataset']): fails when there are fewer tokens than one sample needs: context tokens
-- and the one to predict. Returns the tokens.
function text.check_context(source, context, name)
  native.integer('text', 'context', context, 1)
  local n = tokens.wrap('text', source):length()
  if n < context + 1 then fail('text: %s has %d tokens, context needs %d', name or 'dataset', n, context + 1) end
  return source
end

--- text.bytes(path, [{context = nil}]): the file's bytes as Tokens, token = byte + 1 (256 of them), memory-mapped: the file may be
-- larger than memory. With context, a file too short for one sample is an error.
function text.bytes(path, opts)
  opts = options.parse('text.bytes', { context = options.none }, opts)
  local t = tokens.Tokens.open(path)
  if opts.context ~= nil then text.check_context(t, opts.context, path) end
  return t
end

-- ---- King James Bible --------------------------------------------------------------------------------------------------

local VERSES = 31102

--- text.kjv([{references = false}]): the King James Bible, a verse per line, from Debian's packages bible-kjv and bible-kjv-text
-- (public domain, 4.1 MB of ASCII). references: keep "Ge1:1 " in front of each.
function text.kjv(opts)
  opts = options.parse('text.kjv', { references = false }, opts)
  local pipe = io.popen('bible -f gen1:1-rev22:21 2>/dev/null', 'r')
  local content = pipe and pipe:read('*a') or ''
  if pipe then pipe:close() end
  local _, lines = content:gsub('\n', '\n')
  if content == '' then
    fail("text.kjv: the command 'bible' gave no text; on Debian and Ubuntu: apt install bible-kjv bible-kjv-text")
  elseif lines ~= VERSES then
    fail("text.kjv: the command 'bible' printed %d lines, %d verses were expected", lines, VERSES)
  end
  if opts.references then return content end
  return (('\n' .. content):gsub('\n%d?%a+%d+:%d+ ', '\n'):sub(2))
end

-- ---- files of the network --------------------------------------------------------------------------------------------------

--- text.cache_folder(): where fetched files lie: $MASKED_TORCH_DATA, or $XDG_CACHE_HOME/masked_torch, or ~/.cache/masked_torch.
function text.cache_folder() return (fetch.folder 'text') end

local SHAKESPEARE = {
  name = 'tiny_shakespeare.txt',
  url = 'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt',
  sha256 = '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed',
  bytes = 1115394,
}

--- text.tiny_shakespeare([{fetch = false, folder = text.cache_folder()}]): 1.1 MB of Shakespeare (A. Karpathy's char-rnn), from the
-- file tiny_shakespeare.txt of the folder. When it is not there it is fetched with curl if `fetch` says so; otherwise the error
-- names the file to place and where to get it. Its SHA-256 is checked every time.
function text.tiny_shakespeare(opts)
  local op = 'text.tiny_shakespeare'
  opts = options.parse(op, { fetch = false, folder = options.none }, opts)
  if opts.folder ~= nil then file.check_path(op, opts.folder) end
  local path = (opts.folder or text.cache_folder()) .. '/' .. SHAKESPEARE.name
  if fetch.exists(path) then return (fetch.verified(op, path, SHAKESPEARE)) end
  if opts.fetch then return (fetch.get(op, path, SHAKESPEARE)) end
  fail('%s: %s is missing; ask for it with {fetch = true}, or place there the file %s', op, path, SHAKESPEARE.url)
end

--- text.load(name, [options]): 'kjv', 'tiny_shakespeare' (their options), or the text of a file.
function text.load(name, opts)
  if name == 'kjv' then return (text.kjv(opts)) end
  if name == 'tiny_shakespeare' then return (text.tiny_shakespeare(opts)) end
  options.parse('text.load', {}, opts)
  return (text.read(name))
end

return text
