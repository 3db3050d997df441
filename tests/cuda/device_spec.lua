--- Tensors on a device: transfer, types and layouts, memory, events, what goes wrong. MASKED_TORCH_TEST_DEVICE names the device
-- (make test-cuda, make test-cuda-simulated).
local torch = require 'masked_torch'
local native = require 'masked_torch.native'
local devices = require 'support.device'
local Tensor = torch.Tensor

if not devices.name then
  devices.describe 'tensors'
  return
end

local cuda = torch.cuda
local DTYPES = { 'float32', 'float64', 'int64', 'int32', 'uint8', 'bool', 'bfloat16' }

local function library()
  cuda.synchronize()
  return torch.zeros(1, { device = 'cuda' }).K
end

local function layouts(x)
  local wide = torch.zeros(x:size(1), x:size(2), 2 * x:size(3), { dtype = x.dtype, device = x.device })
  local spread = Tensor.as_view('test', wide, x:size(), { wide:stride(1), wide:stride(2), 2 }, 0)
  spread:copy_(x)
  return { plain = x, transposed = x:permute(3, 1, 2):contiguous():permute(2, 3, 1), spread = spread,
    expanded = x:select(1, 1):unsqueeze(1):expand(x:size()) }
end

describe('a device', function()
  it('has a name, a capability and properties', function()
    assert.is_true(cuda.is_available())
    assert.is_true(cuda.device_count() >= 1)
    local p = cuda.get_device_properties()
    assert.are.equal(cuda.get_device_name(), p.name)
    local major, minor = cuda.get_device_capability('cuda:0')
    assert.are.same({ p.major, p.minor }, { major, minor })
    assert.is_true(p.total_memory >= p.free_memory and p.multi_processor_count >= 1)
    assert.are.equal(os.getenv 'MASKED_TORCH_CUDA' == 'simulator', p.simulated)
  end)

  it('is named by its number; cuda is the current one', function()
    assert.are.equal('cuda:0', torch.zeros(1, { device = 'cuda' }).device)
    assert.are.equal('cuda:0', torch.zeros(1):cuda().device)
    assert.are.equal('cpu', torch.zeros(1):cuda():cpu().device)
    assert.fails(function() return torch.zeros(1, { device = 'cuda:63' }) end, 'zeros', 'cuda:63', 'does not exist')
    assert.fails(function() return torch.zeros(1, { device = 'cuda:x' }) end, 'zeros', 'cuda:x')
    assert.fails(function() cuda.synchronize(77) end, 'synchronize', '77')
    if cuda.device_count() > 1 then
      cuda.set_device(1)
      assert.are.equal(1, cuda.current_device())
      assert.are.equal('cuda:1', torch.zeros(1):cuda().device)
      assert.are.equal('cuda:0', torch.zeros(1, { device = 'cuda:0' }).device)
      cuda.set_device('cuda:0')
    end
  end)
end)

describe('a copy', function()
  it('keeps every bit, from every layout to every layout, both ways', function()
    local x = torch.randn(3, 5, 7)
    for name, there in pairs(layouts(x:cuda())) do
      local expected = layouts(x)[name]
      assert.same_bits(expected:contiguous(), there:cpu():contiguous())
      for to_name, to in pairs(layouts(torch.zeros(3, 5, 7))) do
        if to_name ~= 'expanded' then
          to:copy_(there)
          assert.same_bits(expected:contiguous(), to:contiguous())
        end
      end
      for to_name, to in pairs(layouts(torch.zeros(3, 5, 7, { device = 'cuda' }))) do
        if to_name ~= 'expanded' then
          to:copy_(expected)
          assert.same_bits(expected:contiguous(), to:cpu():contiguous())
          to:fill_(0)
          to:copy_(there)
          assert.same_bits(expected:contiguous(), to:cpu():contiguous())
        end
      end
    end
  end)

  it('converts as the CPU does, on the device and on the way', function()
    local values = torch.tensor({ 0, -0.0, 1, -1, 2.7, -2.7, 255, 256, 3e9, -3e9, 1e19, -1e19, 1e300, 0 / 0, 1 / 0, -1 / 0 },
      { dtype = 'float64' })
    for _, from in ipairs(DTYPES) do
      local x = values:to(from)
      for _, to in ipairs(DTYPES) do
        assert.same_bits(x:to(to), x:cuda():to(to):cpu())
        assert.same_bits(x:to(to), x:to{ device = 'cuda', dtype = to }:cpu())
        assert.same_bits(x:to(to), x:cuda():to{ device = 'cpu', dtype = to })
      end
    end
  end)

  it('of much memory goes in pieces, pinned or not', function()
    local x = torch.randn(3 * 2 ^ 20 + 17)
    local there = x:cuda()
    assert.same_bits(x, there:cpu())
    local pinned = cuda.pinned({ x:numel() })
    assert.are.equal('cpu', pinned.device)
    pinned:copy_(there)
    assert.same_bits(x, pinned)
    local view = Tensor.as_view('test', pinned, { 10 }, { 1 }, 5)
    pinned:release()
    assert.same_bits(x[{ { 6, 15 } }]:contiguous(), view:contiguous())
    assert.same_bits(x[{ { 6, 15 } }]:contiguous(), view:cuda():cpu())
  end)

  it('carries gradients back', function()
    local x = torch.randn(2, 3):requires_grad_()
    local y = (x:cuda() * 2):cpu()
    y:backward(torch.ones(2, 3))
    assert.same_bits(torch.full({ 2, 3 }, 2), x.grad)
    assert.are.equal('cpu', x.grad.device)
  end)

  it('goes from one device to another', function()
    if cuda.device_count() < 2 then pending('one device') end
    local x = torch.randn(3, 4, 5)
    for name, there in pairs(layouts(x:cuda())) do
      local other = there:to('cuda:1')
      assert.are.equal('cuda:1', other.device)
      assert.same_bits(layouts(x)[name]:contiguous(), other:cpu():contiguous())
      assert.same_bits(layouts(x)[name]:contiguous():int(), there:to{ device = 'cuda:1', dtype = 'int32' }:cpu():contiguous())
    end
    assert.fails(function() return x:cuda() + x:to('cuda:1') end, 'cuda:1')
  end)

  it('moves modules, their buffers and gradients', function()
    local net = torch.nn.Sequential{ torch.nn.Linear(3, 2), torch.nn.ReLU() }
    local weight = net[1].weight:detach():clone()
    net:cuda()
    assert.are.equal('cuda:0', net[1].weight.device)
    assert.same_bits(weight, net[1].weight:cpu():detach())
    net:cpu()
    assert.same_bits(weight, net[1].weight:detach())
  end)
end)

describe('elements', function()
  it('are read and written one by one', function()
    for _, dtype in ipairs(DTYPES) do
      local x = torch.zeros(3, 4, { dtype = dtype, device = 'cuda' }):transpose(1, 2)
      x:set(2, 3, dtype == 'bool' and true or 7)
      assert.are.equal(dtype == 'bool' and true or 7, x:get(2, 3))
      assert.are.equal(dtype == 'bool' and true or 7, x[2][3])
      assert.fails(function() return x:get(5, 1) end, '5', '1..4')
    end
    assert.are.same({ { 1, 2 }, { 3, 4 } }, torch.tensor({ { 1, 2 }, { 3, 4 } }, { device = 'cuda' }):totable())
    assert.truthy(tostring(torch.zeros(2, { device = 'cuda' })):find('device=cuda:0', 1, true))
  end)

  it('are the same numbers from the same seed', function()
    for _, dtype in ipairs { 'float32', 'float64' } do
      for _, name in ipairs { 'rand', 'randn' } do
        torch.manual_seed(7)
        local here = torch[name](33, 7, { dtype = dtype })
        torch.manual_seed(7)
        assert.same_bits(here, torch[name](33, 7, { dtype = dtype, device = 'cuda' }):cpu())
      end
    end
    torch.manual_seed(7)
    local here = { torch.randint(1, 1000, { 99 }), torch.randperm(99) }
    torch.manual_seed(7)
    assert.same_bits(here[1], torch.randint(1, 1000, { 99 }, { device = 'cuda' }):cpu())
    assert.same_bits(here[2], torch.randperm(99, { device = 'cuda' }):cpu())
  end)
end)

describe('device memory', function()
  it('is counted, kept and given back', function()
    collectgarbage()
    collectgarbage()
    cuda.empty_cache()
    local before = cuda.memory_stats()
    assert.are.equal(0, before.cached)
    local x = torch.zeros(1000, 1000, { device = 'cuda' })
    assert.are.equal(4e6, cuda.memory_allocated() - before.allocated)
    assert.is_true(cuda.max_memory_allocated() >= cuda.memory_allocated())
    assert.are.equal(before.blocks + 1, cuda.memory_stats().blocks)
    local view = x:select(1, 3)
    x:release()
    assert.are.equal(4e6, cuda.memory_allocated() - before.allocated)
    view:release()
    assert.are.equal(before.allocated, cuda.memory_allocated())
    assert.are.equal(cuda.memory_reserved(), cuda.memory_allocated() + cuda.memory_stats().cached)
    cuda.empty_cache()
    assert.are.equal(before.allocated, cuda.memory_reserved())
    cuda.reset_peak_memory_stats()
    assert.are.equal(cuda.memory_allocated(), cuda.max_memory_allocated())
  end)

  it('runs out with an error that tells the sizes; a collection makes room', function()
    assert.fails(function() return torch.zeros(2 ^ 45, { device = 'cuda' }) end, 'zeros', 'out of memory on cuda:0',
      'tensors hold')
    local K = library()
    K.mt_memory_fail_at(1, 0)
    local ok, x = pcall(torch.zeros, 10, { device = 'cuda' })   -- the second attempt succeeds
    K.mt_memory_fail_at(0, 0)
    assert(ok, x)
    for n = 1, 4 do
      K.mt_memory_fail_at(n, 1)
      local done, message = pcall(function() return (torch.ones(5, { device = 'cuda' }) * 2):sum():item() end)
      K.mt_memory_fail_at(0, 0)
      assert(done or tostring(message):find('out of memory', 1, true), message)
    end
    assert.are.equal(10, (torch.ones(5, { device = 'cuda' }) * 2):sum():item())
  end)
end)

describe('a mistake', function()
  it('names what is where', function()
    local here, there = torch.ones(2), torch.ones(2, { device = 'cuda' })
    assert.fails(function() return here + there end, 'cuda:0')
    assert.fails(function() return there + here end, 'cpu')
    assert.fails(function() native.check(here.K.mt_tensor_fill(there._c, 0)) end, 'CUDA device', ':to{device')
    assert.fails(function() native.check(there.K.mt_tensor_fill(here._c, 0)) end, 'the CPU', ':to{device')
    assert.fails(function() native.check(there.K.mt_tensor_copy(here._c, here._c)) end, 'both tensors are on the CPU')
  end)

  it('raises the message of the library that failed', function()
    local there = torch.ones(2, { device = 'cuda' })
    assert.fails(function() native.check(native.cpu.mt_tensor_fill(nil, 0)) end, 'fill', 'nil')
    assert.fails(function() native.check(there.K.mt_reduce_sum(there._c, there._c, 64)) end, 'sum', 'outside 1..1')
    assert.fails(function() native.check(native.cpu.mt_tensor_fill(nil, 0)) end, 'fill', 'nil')
  end)
end)

describe('an event', function()
  it('measures time between two points and is waited for', function()
    local first, second = cuda.Event{ enable_timing = true }, cuda.Event{ enable_timing = true }
    first:record()
    local _ = torch.randn(100, 100, { device = 'cuda' }):square()
    second:record()
    second:wait('cuda:0')
    second:synchronize()
    assert.is_true(second:query())
    assert.is_true(first:elapsed_time(second) >= 0)
    assert.fails(function() return cuda.Event():elapsed_time(second) end, 'enable_timing')
  end)
end)

describe('sums on a device', function()
  it('do not change by a bit when zeros are added at the end of rows, as rows or as samples', function()
    for _, case in ipairs { { 3, 5, 7, 9, 4, 30 }, { 2, 70, 66, 33, 70, 40 }, { 70, 2, 1, 5, 3, 6 }, { 1, 3, 2, 4099, 2, 9000 } } do
      local N, C, H, W, H2, W2 = unpack(case)
      local x = torch.randn(N, C, H, W)
      local wide = torch.zeros(N + 2, C, H + H2, W + W2)
      wide[{ { 1, N }, { 1, C }, { 1, H }, { 1, W } }] = x
      for _, format in ipairs { { 1, 2, 3, 4 }, { 1, 3, 4, 2 } } do   -- row-major, channels-last
        local back = format[2] == 2 and { 1, 2, 3, 4 } or { 1, 4, 2, 3 }
        local function there(t) return t:permute(unpack(format)):contiguous():permute(unpack(back)):cuda() end
        for _, dims in ipairs { { 1, 3, 4 }, { 3, 4 }, { 4 } } do
          local plain, padded = there(x):sum(dims), there(wide):sum(dims)
          local kept = padded:dim() == 1 and padded or padded[{ { 1, N }, { 1, C } }]
          if kept:dim() == 3 then kept = kept[{ { 1, N }, { 1, C }, { 1, H } }] end
          assert.same_bits(plain:cpu(), kept:contiguous():cpu())
        end
      end
    end
  end)

  it('of many elements agree with the CPU', function()
    for _, shape in ipairs { { 300000 }, { 40, 3, 900 }, { 3, 40, 70, 5 }, { 5000, 33 } } do
      local x = torch.randn(shape)
      for d = 1, #shape do
        local e, g = x:double():sum(d), x:cuda():sum(d):cpu():double()
        assert.is_true((e - g):abs():max():item() <= 1e-6 * math.sqrt(shape[d]) * 4)
      end
      assert.is_true(math.abs(x:double():sum():item() - x:double():cuda():sum():item()) <= 1e-9)
      assert.are.equal(x:argmax():item(), x:cuda():argmax():item())
    end
  end)
end)
