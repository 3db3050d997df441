--- child: the process of the peer. Requests go through a pipe, answers come back through a named one, a line of JSON each.

local json = require 'masked_torch.io.json'

local child = {}
local Child = {}
Child.__index = Child

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- child.start(command, folder) -> child. folder: where the named pipe may stand.
function child.start(command, folder)
  local pipe = folder .. '/answers'
  assert(os.execute('mkfifo ' .. quoted(pipe)) == 0, 'bench: mkfifo failed')
  local requests = assert(io.popen(command .. ' >' .. quoted(pipe), 'w'))
  return setmetatable({ requests = requests, answers = assert(io.open(pipe, 'r')) }, Child)
end

--- child:ask{...} -> the answer, or an error with the peer's own text.
function Child:ask(request)
  self.requests:write(json.encode(request), '\n')
  self.requests:flush()
  local line = self.answers:read('*l')
  if not line then error('bench: the peer ended; its messages stand above', 0) end
  local answer = json.decode(line, function(position, message)
    error(('bench: answer of the peer, byte %d: %s'):format(position, message), 0)
  end)
  if answer.error then error('bench: peer: ' .. answer.error, 0) end
  return answer
end

function Child:stop()
  self.requests:close()
  self.answers:close()
end

return child
