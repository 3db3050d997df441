-- docs/repl.md is what the prompt shows. After a change that is meant: TRANSCRIPT=update make test FILE=tests/repl/transcript_spec.lua
local ffi = require 'ffi'
local lfs = require 'lfs'
local scratch = require 'support.scratch'
local transcript = require 'support.transcript'

local root = require 'support.root'
if root == '' then root = './' end
if root:sub(1, 1) ~= '/' then root = lfs.currentdir() .. '/' .. root end

describe('docs/repl.md', function()
  after_each(function() scratch.clean() end)

  it('shows what the prompt shows', function()
    if not pcall(ffi.load, 'libedit.so.2') then return pending 'the page is about the prompt with libedit' end
    local path = root .. 'docs/repl.md'
    local text = scratch.content(path)
    local blocks = transcript.blocks(text)
    assert.is_true(#blocks >= 7)
    local shown = transcript.play(root, blocks, scratch.folder())
    if os.getenv 'TRANSCRIPT' == 'update' then
      local file = assert(io.open(path, 'w'))
      file:write(transcript.rewrite(text, blocks, shown))
      file:close()
    end
    for b, block in ipairs(blocks) do
      if os.getenv 'TRANSCRIPT' ~= 'update' then
        assert.are.equal(transcript.plain(table.concat(block.lines, '\n')), transcript.plain(shown[b]))
      end
    end
  end)
end)
