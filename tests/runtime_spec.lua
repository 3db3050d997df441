-- Memory, threads, interruption and errors of the C core.
local ffi = require 'ffi'
local torch = require 'masked_torch'
local native = require 'masked_torch.native'

local C, Tensor = native.cpu, torch.Tensor

local function live()
  collectgarbage()
  collectgarbage()
  return C.mt_memory_live(), C.mt_memory_blocks()
end

local function resident_mb()
  for line in io.lines('/proc/self/status') do
    local kb = line:match('^VmRSS:%s+(%d+)')
    if kb then return tonumber(kb) / 1024 end
  end
end

describe('memory #memory', function()
  it('is returned to the byte', function()
    local bytes, blocks = live()
    do
      local x = torch.ones(100, 100)
      local y = (x * 2 + x):sum()
      local z = x:narrow(1, 2, 5):select(2, 3)
      assert.are.equal(30000, y:item())
      assert.are.equal(5, z:numel())
    end
    local bytes_after, blocks_after = live()
    assert.are.equal(bytes, bytes_after)
    assert.are.equal(blocks, blocks_after)
  end)

  it('lives as long as its last view, in any order of release', function()
    local x = torch.range(1, 12):reshape(3, 4)
    local row = x:select(1, 2)
    x:release()
    assert.are.same({ 5, 6, 7, 8 }, row:totable())
    assert.fails(function() return x:sum() end, 'sum', 'released')
    assert.fails(function() return x + 1 end, 'released')
    assert.are.equal('tensor(released)', tostring(x))
    x:release()   -- twice is harmless
  end)

  it('keeps a loop of dropped temporaries small', function()
    local function drop(count, look)
      for i = 1, count do
        local _ = torch.zeros(1024, 256)
        if i % 100 == 0 and look then look() end
      end
    end
    collectgarbage()
    drop(2000)      -- when the collector runs next follows from what lived at its last run: that of earlier specs is over now
    -- It waits for as much new memory as Lua's own heap is worth.
    local limit = 300 + collectgarbage('count') / 1024
    local before, highest, most = resident_mb(), 0, 0
    drop(10000, function()
      highest, most = math.max(highest, resident_mb()), math.max(most, tonumber(C.mt_memory_live()) / 2 ^ 20)
    end)
    assert.is_true(most < limit, ('%.0f MB live'):format(most))
    -- AddressSanitizer holds freed blocks back.
    if os.getenv 'MASKED_TORCH_CONFIG' ~= 'sanitize' then
      assert.is_true(highest <= limit + before, ('resident %.0f MB, %.0f before'):format(highest, before))
    end
  end)

  it('survives the failure of any allocation: an error, nothing lost, nothing changed', function()
    local net = torch.nn.Sequential{ torch.nn.MaskedConv2d(2, 3, 3, { padding = 1 }), torch.nn.MaskedBatchNorm2d(3),
      torch.nn.ReLU(), torch.nn.MaskedSpatialMean(), torch.nn.Linear(3, 2) }
    local x, mask = torch.randn(2, 2, 5, 6), torch.mask.boxes({ { 5, 3 }, { 2, 6 } }, { 5, 6 })
    local weight = net[1].weight:clone()
    local function step()
      local y = net(x, mask)
      local loss = torch.nn.functional.cross_entropy(y, torch.tensor({ 1, 2 }, { dtype = 'int64' }))
      loss:backward()
      net:zero_grad()
    end
    step()
    for _, persistent in ipairs { 0, 1 } do
      local bytes = live()
      local failures, n = 0, 1
      while true do
        C.mt_memory_fail_at(n, persistent)
        local ok, message = pcall(step)
        C.mt_memory_fail_at(0, 0)
        if not ok then
          failures = failures + 1
          assert.is_truthy(tostring(message):find('out of memory', 1, true), tostring(message))
        end
        net:zero_grad()
        if ok and (persistent == 1 or n > 400) then break end
        n = n + (n < 40 and 1 or 7)
        if n > 3000 then break end
      end
      local left = live()   -- a slot of the stack may have held a tensor the first time
      assert.is_true(left <= bytes, ('%d bytes, %d before'):format(left, bytes))
      if persistent == 1 then assert.is_true(failures > 20) end
    end
    assert.same_bits(weight, net[1].weight:detach())
    step()
  end)

  it('refuses sizes that wrap, and sizes beyond the machine', function()
    assert.fails(function() return torch.zeros(2 ^ 31, 2 ^ 31, 4) end, 'zeros', '64 bits')
    assert.fails(function() return torch.zeros(0, 2 ^ 52, 2 ^ 52) end, 'zeros', '64 bits')
    assert.fails(function() return torch.zeros(2 ^ 40) end, 'out of memory')
    assert.are.equal(0, torch.zeros(0, 5):numel())
  end)

  it('is kept for the next tensor of its size, and given back on request', function()
    local cpu = torch.cpu
    cpu.empty_cache()
    assert.are.equal(0, C.mt_memory_cached())
    local allocated = cpu.memory_allocated()
    local x = torch.empty(1000, 1000)
    assert.are.equal(4e6, cpu.memory_allocated() - allocated - ffi.sizeof 'mt_tensor' - ffi.sizeof 'mt_storage')
    assert.is_true(cpu.max_memory_allocated() >= cpu.memory_allocated())
    local address = tostring(x:data_ptr())
    x:release()
    local keeps = C.mt_memory_cached() > 0   -- debug and sanitizer builds want every block fresh
    assert.is_true(not keeps or C.mt_memory_cached() >= 4e6 and C.mt_memory_cached() < 5e6)
    assert.are.equal(cpu.memory_reserved(), cpu.memory_allocated() + C.mt_memory_cached())
    local y = torch.empty(500, 2000)
    if keeps then assert.are.equal(address, tostring(y:data_ptr())) end
    y:release()
    cpu.empty_cache()
    assert.are.equal(0, C.mt_memory_cached())
  end)

  it('cuts large sizes from larger kept blocks, and joins neighbours for larger ones', function()
    local cpu = torch.cpu
    cpu.empty_cache()
    local whole = torch.empty(16, 1024, 1024)
    local from = ffi.cast('char *', whole._c.data)
    local function inside(t)
      local at = ffi.cast('char *', t._c.data)
      return at >= from and at + 4 * t:numel() <= from + 72 * 2 ^ 20
    end
    whole:release()
    if C.mt_memory_cached() == 0 then return end   -- debug and sanitizer builds want every block fresh
    local parts = {}
    for i, mb in ipairs { 9, 5, 16, 1, 8, 7 } do
      parts[i] = torch.full({ mb * 2 ^ 18 }, i)
      assert.is_true(inside(parts[i]))
    end
    for i = 1, #parts do assert.are.same({ i, i }, { parts[i]:min():item(), parts[i]:max():item() }) end
    local rest = C.mt_memory_cached()
    assert.is_true(rest < 28 * 2 ^ 20)
    for _, i in ipairs { 3, 1, 6, 4, 2, 5 } do parts[i]:release() end
    local again = torch.zeros(60, 512, 512)
    assert.is_true(inside(again))
    again:release()
    cpu.empty_cache()
    assert.are.equal(0, C.mt_memory_cached())
  end)

  it('gives kept memory back to the system', function()
    torch.cpu.empty_cache()
    local before = resident_mb()
    do
      local list = {}
      for i = 1, 20 do list[i] = torch.zeros(1024, 1024) end
      local resident = resident_mb()
      for i = 1, 20 do list[i]:release() end
      -- Debug and sanitizer builds keep nothing, and malloc may have had the pages before.
      if C.mt_memory_cached() > 0 then assert.is_true(C.mt_memory_cached() > 80e6 and resident > before + 60) end
    end
    torch.cpu.empty_cache()
    assert.is_true(resident_mb() < before + 30)
  end)

  it('has intact guard zones (debug builds)', function()
    local damaged = ffi.new('int32_t[1]')
    native.check(C.mt_memory_check(damaged))
    assert.are.equal(0, damaged[0])
  end)
end)

describe('threads', function()
  it('can be any number from 1 to 256', function()
    local before = torch.get_num_threads()
    for _, n in ipairs { 1, 3, 2 } do
      torch.set_num_threads(n)
      assert.are.equal(n, torch.get_num_threads())
      assert.are.equal(3e5, torch.ones(300000):sum():item())
    end
    torch.set_num_threads(before)
    assert.fails(function() torch.set_num_threads(0) end, 'set_num_threads', '1', '256')
    assert.fails(function() torch.set_num_threads(1.5) end, 'set_num_threads')
  end)

  it('survive a fork', function()
    torch.set_num_threads(2)
    torch.ones(300000):sum()
    pcall(ffi.cdef, 'int fork(void); int waitpid(int, int *, int); void _exit(int);')
    local pid = ffi.C.fork()
    if pid == 0 then
      local ok = pcall(function() return torch.ones(300000):sum():item() == 3e5 or error('wrong') end)
      ffi.C._exit(ok and 0 or 1)
    end
    local status = ffi.new('int[1]')
    ffi.C.waitpid(pid, status, 0)
    assert.are.equal(0, status[0])
  end)
end)

describe('interruption', function()
  it('stops a running kernel with an error and leaves the process usable', function()
    C.mt_cancel_set(1)
    assert.fails(function() return torch.ones(10) + 1 end, 'interrupted')
    assert.are.equal(0, C.mt_cancel_pending())
    assert.are.equal(20, (torch.ones(10) + 1):sum():item())
  end)
end)

describe('numbers that reach Lua', function()
  it('are numbers, whatever bits memory holds', function()
    local x = torch.zeros(4096, { dtype = 'float64' })
    local words = ffi.cast('uint64_t *', x._c.data)
    local state = 12345
    for i = 0, 4095 do
      state = (state * 16807) % 2147483647
      words[i] = ffi.cast('uint64_t', 0xFFF0) * 2 ^ 48 + ffi.cast('uint64_t', state * 65536) + i * 2 ^ 44
    end
    for _, value in ipairs(x:totable()) do assert.are.equal('number', type(value)) end
    for i = 1, 4096, 97 do assert.are.equal('number', type(x[i])) end
    assert.are.equal('number', type(x:sum():item()))
    assert.is_string(tostring(x))
  end)
end)

describe('a tensor', function()
  it('keeps every dtype through copies and refuses unknown ones', function()
    for _, dtype in ipairs { 'float32', 'float64', 'int64', 'int32', 'uint8', 'bool' } do
      local x = torch.tensor({ { 1, 0, 1 }, { 0, 1, 1 } }, { dtype = dtype })
      assert.are.equal(dtype, x.dtype)
      assert.same_bits(x, x:clone())
      assert.same_bits(x:t():contiguous(), x:t():clone():contiguous())
    end
    assert.fails(function() return torch.zeros(2, { dtype = 'float16' }) end, 'zeros', 'float16')
  end)

  it('converts like C, and saturates where C is undefined', function()
    local x = torch.tensor({ -1.9, 2.7, 1e30, -1e30, 0 / 0 }, { dtype = 'float64' })
    assert.are.same({ -1, 2, 2147483647, -2147483648, 0 }, x:to { dtype = 'int32' }:totable())
    assert.are.same({ true, true, true, true, true }, x:to { dtype = 'bool' }:totable())
  end)

  it('is dense exactly when no two indexes share an element', function()
    local x = torch.zeros(3, 4)
    assert.are.equal(1, C.mt_tensor_is_dense(x:t()._c))
    assert.are.equal(1, C.mt_tensor_is_dense(Tensor.as_view('test', x, { 2, 2 }, { 4, 2 }, 0)._c))
    assert.are.equal(0, C.mt_tensor_is_dense(torch.zeros(1, 4):expand(3, 4)._c))
    assert.fails(function() torch.zeros(1, 4):expand(3, 4):fill_(1) end, 'fill', 'share memory')
  end)
end)
