--- file_ids: the one place where the ids of files (from 0) and the ids of users and kernels (from 1) meet.
--
-- encoder.json, tokenizer.json and every other tool number tokens from 0. Here, as everywhere in this package, positions
-- begin at 1: GPT-2's "!" is token 1, its <|endoftext|> 50257. `index_base` is what a file's first id is.

local file_ids = { index_base = 0 }

local shift = 1 - file_ids.index_base

--- The user's id of a file's id.
function file_ids.from_file(id) return id + shift end

--- The file's id of a user's id.
function file_ids.to_file(id) return id - shift end

return file_ids
