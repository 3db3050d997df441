local torch = require 'masked_torch'

local function shows(expected, t) assert.are.equal(expected, tostring(t)) end

describe('tostring(tensor)', function()
  it('aligns one format for all elements', function()
    shows('tensor([[ 1.0000,  2.5000],\n        [-3.0000,     nan]])', torch.tensor{ { 1, 2.5 }, { -3, 0 / 0 } })
    shows('tensor([1., 0., 3.])', torch.tensor{ 1, 0, 3 })
    shows('tensor([-inf,  inf,   2.])', torch.tensor{ -1 / 0, 1 / 0, 2 })
    shows('tensor([1.0000e-05, 1.0000e+00])', torch.tensor{ 0.00001, 1 })
    shows('tensor([1.0000e+00, 1.0000e+06])', torch.tensor{ 1, 1e6 })
    shows('tensor([0., 0.])', torch.zeros(2))
    shows('tensor(3.5000)', torch.tensor(3.5))
    shows('tensor([  1, -20, 300])', torch.tensor({ 1, -20, 300 }, { dtype = 'int64' }))
    shows('tensor([ true, false])', torch.tensor{ true, false })
    shows('tensor([[[1., 1.]],\n\n        [[1., 1.]]])', torch.ones(2, 1, 2))
    shows('tensor([[1., 3.],\n        [2., 4.]])', torch.tensor{ { 1, 2 }, { 3, 4 } }:t())
  end)

  it('prints whole numbers beyond 2^53 exactly', function()
    local x = torch.tensor({ 2 ^ 53, 1 }, { dtype = 'int64' })
    x:add_(x)
    x:add_(torch.tensor({ 1, 0 }, { dtype = 'int64' }))
    shows('tensor([18014398509481985,                 2])', x)
    shows('tensor([                2, 18014398509481985])', x:flip(1))
  end)

  it('tells what is not the default', function()
    shows('tensor([1., 2.], dtype=float64)', torch.tensor({ 1, 2 }, { dtype = 'float64' }))
    shows('tensor([1, 2], dtype=uint8)', torch.tensor({ 1, 2 }, { dtype = 'uint8' }))
    shows('tensor([1.], requires_grad=true)', torch.ones(1, { requires_grad = true }))
    shows('tensor([1.], dtype=float64, grad_fn=<relu_backward>)',
      torch.ones(1, { dtype = 'float64', requires_grad = true }):relu())
    shows('tensor([])', torch.zeros(0))
    shows('tensor([], size=(2, 0), dtype=float64)', torch.zeros(2, 0, { dtype = 'float64' }))
    local x = torch.ones(2)
    x:release()
    shows('tensor(released)', x)
  end)

  it('breaks lines at the width', function()
    local lines = {}
    for line in tostring(torch.ones(60, { dtype = 'float64', requires_grad = true })):gmatch('[^\n]+') do
      assert.is_true(#line <= 80)
      lines[#lines + 1] = line
    end
    assert.are.equal('        1., 1., 1., 1., 1., 1.], dtype=float64, requires_grad=true)', lines[#lines])
  end)

  it('prints the edges of large tensors', function()
    shows('tensor([1.0000e+00, 2.0000e+00, 3.0000e+00,  ..., 9.9900e+02, 1.0000e+03,\n        1.0010e+03])', torch.range(1, 1001))
    local x = torch.zeros(8, 200)
    shows('tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n' .. ('        [0., 0., 0.,  ..., 0., 0., 0.],\n'):rep(2) ..
      '        ...,\n' .. ('        [0., 0., 0.,  ..., 0., 0., 0.],\n'):rep(2) .. '        [0., 0., 0.,  ..., 0., 0., 0.]])', x)
    assert.is_nil(tostring(torch.zeros(1000)):find('...', 1, true))
    -- No copy of a large tensor is made: 160 MB expanded from one element print at once.
    assert.is_true(#tostring(torch.ones(1):expand(2000, 20000)) < 1000)
  end)

  it('follows torch.set_print_options', function()
    local before = torch.set_print_options{ precision = 1, threshold = 5, edge_items = 1, line_width = 40 }
    shows('tensor([0.3, 0.7])', torch.tensor{ 0.26, 0.74 })
    shows('tensor([1.,  ..., 6.])', torch.range(1, 6))
    torch.set_print_options{ sci_mode = true }
    shows('tensor([2.6e-01])', torch.tensor{ 0.26 })
    torch.set_print_options(before)
    shows('tensor([0.2600, 0.7400])', torch.tensor{ 0.26, 0.74 })
    assert.fails(function() torch.set_print_options{ precison = 1 } end, "did you mean 'precision'?")
    assert.fails(function() torch.set_print_options{ precision = 2.5 } end, 'precision')
    assert.fails(function() torch.set_print_options{ edge_items = 0 } end, 'edge_items')
    assert.fails(function() torch.set_print_options{ sci_mode = 1 } end, 'sci_mode')
    shows('tensor([0.2600])', torch.tensor{ 0.26 })
  end)
end)
