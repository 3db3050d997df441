-- Copies between layouts and types: every way must give what element-by-element reading gives.
local torch = require 'masked_torch'

-- Distinct small whole numbers, in row-major order.
local function numbered(shape, dtype)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  local values = {}
  for i = 1, n do values[i] = (i * 37) % 251 end
  return torch.tensor(values, { dtype = dtype }):view(unpack(shape))
end

local function flat(x) return x:flatten():totable() end

describe('copies between layouts', function()
  for _, dtype in ipairs { 'float32', 'float64', 'int32', 'uint8', 'bfloat16' } do
    it('turn squares, strips and their rims: ' .. dtype, function()
      for _, rows in ipairs { 2, 3, 7, 8, 9, 63, 64, 65, 130 } do
        for _, columns in ipairs { 1, 2, 3, 4, 5, 8, 15, 16, 65 } do
          local x = numbered({ 2, rows, columns }, dtype)
          local got, from, expected = flat(x:transpose(2, 3):contiguous()), flat(x), {}
          for n = 0, 1 do
            for c = 0, columns - 1 do
              for r = 0, rows - 1 do expected[#expected + 1] = from[n * rows * columns + r * columns + c + 1] end
            end
          end
          assert.same(expected, got)
        end
      end
    end)
  end

  it('move short runs whole', function()
    for _, dtype in ipairs { 'float32', 'float64', 'uint8' } do
      for _, size in ipairs { { 5, 4, 3, 3 }, { 40, 33, 2, 3 }, { 2, 9, 70, 5 }, { 3, 1, 31, 9 }, { 3, 6, 2, 17 }, { 3, 300, 4, 2 } } do
        local a, b, c, k = unpack(size)
        local x, expected = numbered(size, dtype), {}
        local from = flat(x)
        for i = 0, a - 1 do
          for m = 0, c - 1 do
            for j = 0, b - 1 do
              for e = 0, k - 1 do expected[#expected + 1] = from[((i * b + j) * c + m) * k + e + 1] end
            end
          end
        end
        local turned = x:transpose(2, 3)
        assert.same(expected, flat(turned))
        local wide = torch.zeros(a, c, b, k + 2, { dtype = dtype })
        wide:narrow(4, 2, k):copy_(turned)
        assert.same(expected, flat(wide:narrow(4, 2, k)))
        assert.are.equal(x:double():sum():item(), wide:double():sum():item())
      end
    end
  end)

  it('keep gaps and other dims apart', function()
    local x = numbered({ 3, 20, 9, 11 }, 'float32')
    local y = x:channels_last()
    assert.same_bits(x, y)
    assert.same_bits(x, y:contiguous())
    local part = x:narrow(3, 2, 7):narrow(2, 3, 17)
    assert.same(flat(part), flat(part:channels_last()))
    local wide = torch.zeros(3, 20, 30, 11)
    wide:narrow(3, 5, 9):copy_(y)
    assert.same(flat(x), flat(wide:narrow(3, 5, 9)))
    assert.are.equal(x:sum():item(), wide:sum():item())
  end)

  it('do not depend on threads', function()
    local threads = torch.get_num_threads()
    finally(function() torch.set_num_threads(threads) end)
    local x = torch.randn(4, 30, 70, 20)
    torch.set_num_threads(1)
    local one = x:permute(1, 3, 4, 2):contiguous()
    torch.set_num_threads(3)
    assert.same_bits(one, x:permute(1, 3, 4, 2):contiguous())
  end)
end)

describe('copies between types', function()
  local special = { 0, -0.0, 0.5, -0.5, 1.9, -1.9, 127.5, 255, 256, -1, 300.7, 2 ^ 31 - 1, 2 ^ 31, -2 ^ 31, -2 ^ 31 - 1, 2 ^ 40,
    -2 ^ 40, 1e30, -1e30, 1 / 0, -1 / 0, 0 / 0 }
  for _, from in ipairs { 'float32', 'float64' } do
    for _, to in ipairs { 'float32', 'float64', 'int64', 'int32', 'uint8', 'bool', 'bfloat16' } do
      it(from .. ' to ' .. to .. ': an element does not depend on its neighbours', function()
        local values = {}
        for i = 1, 600 do values[i] = i / 3 - 100 end
        for i, v in ipairs(special) do values[260 + i] = v end
        local x = torch.tensor(values, { dtype = from })
        local all = x:to(to)
        for i = 255, 290 do assert.same_bits(x:narrow(1, i, 1):clone():to(to), all:narrow(1, i, 1):clone()) end
        local apart = torch.empty(600, 2, { dtype = from })
        apart:select(2, 1):copy_(x)
        assert.same_bits(all, apart:select(2, 1):to(to))
      end)
    end
  end

  it('of numbers out of range saturate in 64 bits', function()
    local x = torch.tensor({ 3e9, -3e9, 0 / 0, 1e30, -1e30, 5.9 })
    assert.same({ 2147483647, -2147483648, 0, 2147483647, -2147483648, 5 }, x:to('int32'):totable())
    assert.same({ 3000000000, -3000000000, 0, 2 ^ 63, -2 ^ 63, 5 }, x:to('int64'):totable())
  end)
end)
