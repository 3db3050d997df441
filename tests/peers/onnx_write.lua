--- Writes the networks of tests/io/onnx_cases.lua as ONNX files, with inputs and our outputs, for tests/peers/onnx_check.py:
-- luajit tests/peers/onnx_write.lua FOLDER [OPSET [PATTERN]]
local root = arg[0]:match('^(.*)tests/peers/onnx_write%.lua$') or './'
package.path = root .. 'lua/?.lua;' .. root .. 'lua/?/init.lua;' .. root .. 'tests/?.lua;' .. package.path
local torch = require 'masked_torch'
local cases = require 'io.onnx_cases'

local folder, opset, pattern = arg[1], tonumber(arg[2] or 18), arg[3] or '.'
local list = {}
for i, case in ipairs(cases) do
  if case.name:find(pattern) then
    local net = cases.make(case)
    local example = cases.inputs(case, case.shapes[1])
    local file = ('%s/%04d'):format(folder, i)
    torch.io.onnx.export(net, file .. '.onnx', { inputs = example, dynamic_axes = cases.axes(case, example),
      input_names = case.input_names, training = case.training, opset = opset })
    local tensors = {}
    for k, shape in ipairs(case.shapes) do
      local inputs = cases.inputs(case, shape)
      for n, t in ipairs(inputs) do tensors[('%d.in.%d'):format(k, n)] = t end
      local outputs = { torch.no_grad(net, unpack(inputs)) }
      for n = 1, table.maxn(outputs) do
        tensors[('%d.out.%d'):format(k, n)] = (torch.is_tensor(outputs[n]) and outputs[n] or outputs[n]:tensor()):contiguous()
      end
    end
    torch.io.safetensors.save(file .. '.safetensors', tensors)
    list[#list + 1] = { name = case.name, file = ('%04d'):format(i), shapes = #case.shapes }
  end
end
require('masked_torch.io.file').write('onnx_write', folder .. '/cases.json', function(write) write(torch.io.json.encode(list)) end)
print(('wrote %d networks, opset %d'):format(#list, opset))
