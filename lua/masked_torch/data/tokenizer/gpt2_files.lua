--- gpt2_files: where GPT-2's encoder.json and vocab.bpe lie, and fetching them when that is asked for.

local fetch = require 'masked_torch.data.fetch'
local native = require 'masked_torch.native'

local gpt2_files = {}

local SOURCE = 'https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/'
local FILES = {
  { name = 'encoder.json', bytes = 1042301, sha256 = '196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783' },
  { name = 'vocab.bpe', bytes = 456318, sha256 = '1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5' },
}

--- The folder that holds both files: the given one, or gpt2 in the folder of fetched files (data/fetch.lua). o.fetch: get what is
-- missing from o.source.
function gpt2_files.folder(op, folder, o)
  folder = folder or fetch.folder(op) .. '/gpt2'
  for _, entry in ipairs(FILES) do
    local path = folder .. '/' .. entry.name
    if not fetch.exists(path) then
      if not o.fetch then
        native.fail("%s: %s is missing: place it there (published as %s), or allow fetching with {fetch = true}", op, path,
          SOURCE .. entry.name)
      end
      fetch.get(op, path, { url = (o.source or SOURCE) .. entry.name, bytes = entry.bytes, sha256 = entry.sha256 })
    end
  end
  return folder
end

return gpt2_files
