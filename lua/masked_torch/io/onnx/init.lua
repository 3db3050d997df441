--- onnx: networks as ONNX files, for onnxruntime and everything else that reads them (onnx.ai).
--
--     torch.io.onnx.export(net:eval(), 'net.onnx', {
--       inputs = { x, mask },
--       input_names = { 'x', 'mask' }, output_names = { 'y', 'y_mask' },
--       dynamic_axes = { x = { [1] = 'batch', [3] = 'height', [4] = 'width' }, mask = { [1] = 'batch', [3] = 'height', [4] = 'width' } },
--     })
--
-- The module's forward runs once with stand-ins for tensors (onnx/trace.lua); every operation emits nodes of the standard ONNX
-- operators. Weights keep their names in state_dict.

local masks = require 'masked_torch.mask'
local Module = require('masked_torch.nn.module').Module
local native = require 'masked_torch.native'
local options = require 'masked_torch.options'
local file = require 'masked_torch.io.file'
local proto = require 'masked_torch.io.onnx.proto'
local size = require 'masked_torch.io.onnx.size'
local Tensor = require 'masked_torch.tensor'

local fail = native.fail
local OP = 'onnx.export'
local none = options.none

-- The version of the file format that goes with an opset.
local ir_versions = { [13] = 7, [14] = 7, [15] = 8, [16] = 8, [17] = 8, [18] = 8, [19] = 9, [20] = 9, [21] = 10, [22] = 10 }
local LIMIT = 2 ^ 31 - 1

local defaults = { inputs = none, input_names = none, output_names = none, dynamic_axes = options.any{}, opset = 18, training = false,
  name = 'masked_torch', doc = none }

-- ---- arguments ---------------------------------------------------------------------------------------------------------------

local function check_names(argument, list, count)
  if list == nil then return nil end
  if type(list) ~= 'table' then fail('%s: %s: expected a table of names, got %s', OP, argument, native.show(list)) end
  local seen = {}
  for i, name in ipairs(list) do
    if type(name) ~= 'string' or name == '' then fail('%s: %s: expected names, got %s', OP, argument, native.show(name)) end
    if seen[name] then fail("%s: %s: the name '%s' is given twice", OP, argument, name) end
    seen[name] = i
  end
  if count and #list ~= count then fail('%s: %s: %d names for %d tensors', OP, argument, #list, count) end
  return list
end

local default_inputs = { 'x', 'mask' }

-- Inputs as { name =, shape =, dtype =, axes = { [dim] = name } }.
local function inputs_of(opts)
  local given = opts.inputs
  if type(given) ~= 'table' or Tensor.is_tensor(given) or masks.is_mask(given) then
    fail('%s: inputs: expected a table of example tensors (and masks), got %s', OP,
      given == nil and 'nil' or Tensor.is_tensor(given) and 'a tensor; write { x }' or native.show(given))
  end
  local list = {}
  if #given == 0 then fail('%s: inputs: expected at least one example tensor', OP) end
  for i, value in ipairs(given) do
    local entry
    if masks.is_mask(value) then
      entry = { shape = value:size(), dtype = value.kind == 'tensor' and value.origin.dtype or 'bool' }
    else
      Tensor.check(OP, ('inputs[%d]'):format(i), value)
      entry = { shape = value:size(), dtype = value.dtype }
    end
    entry.name = opts.input_names and opts.input_names[i] or #given <= 2 and default_inputs[i] or 'input_' .. i
    entry.axes = {}
    list[i] = entry
  end
  check_names('input_names', opts.input_names, #list)
  return list
end

local function apply_dynamic_axes(list, axes)
  if type(axes) ~= 'table' then fail('%s: dynamic_axes: expected a table, got %s', OP, native.show(axes)) end
  local by_name = {}
  for i, entry in ipairs(list) do by_name[entry.name], by_name[i] = entry, entry end
  for key, dims in pairs(axes) do
    local entry = by_name[key]
    if not entry then
      local names = {}
      for i, e in ipairs(list) do names[i] = e.name end
      fail("%s: dynamic_axes: no input %s (inputs: %s)", OP, native.show(key), table.concat(names, ', '))
    end
    if type(dims) ~= 'table' then fail('%s: dynamic_axes: %s: expected { [dim] = name }, got %s', OP, entry.name, native.show(dims)) end
    for k, v in pairs(dims) do
      local dim, name = k, v
      if type(v) == 'number' then dim, name = v, nil end
      dim = native.dim(OP .. ': dynamic_axes: ' .. entry.name, dim, #entry.shape) + 1
      if name ~= nil and (type(name) ~= 'string' or not name:find('^[%a_][%w_]*$')) then
        fail('%s: dynamic_axes: %s: expected a name (letters, digits, _), got %s', OP, entry.name, native.show(name))
      end
      entry.axes[dim] = name or ('%s_%d'):format(entry.name, dim)
    end
  end
end

-- ---- the graph -----------------------------------------------------------------------------------------------------------------

-- Values for the inputs; equal names of axes are one size.
local function values_of(graph, list)
  local known, values = {}, {}
  for i, entry in ipairs(list) do
    local shape = {}
    local value = graph:value(graph:unique(entry.name), entry.dtype, shape)
    for d, n in ipairs(entry.shape) do
      local name = entry.axes[d]
      shape[d] = n
      if name then
        local first = known[name]
        if first and first.n ~= n then
          fail("%s: dynamic_axes: '%s' is %d in %s and %d in %s", OP, name, first.n, first.input, n, entry.name)
        end
        known[name] = first or { n = n, input = entry.name }
        shape[d] = size.input(name, n, { value = value, axis = d })
      end
    end
    values[i] = value
  end
  return values
end

local function dims_of(shape)
  local dims = {}
  for d, s in ipairs(shape) do dims[d] = size.is(s) and size.text(s) or s end
  return dims
end

-- What leads to the outputs; the rest is left out.
local function prune(graph, outputs)
  local needed = {}
  for _, v in ipairs(outputs) do needed[v.name] = true end
  local nodes, initializers = {}, {}
  for i = #graph.nodes, 1, -1 do
    local n = graph.nodes[i]
    if needed[n.outputs[1]] then
      for _, name in ipairs(n.inputs) do needed[name] = true end
      table.insert(nodes, 1, n)
    end
  end
  for _, entry in ipairs(graph.initializers) do
    if needed[entry.name] then initializers[#initializers + 1] = entry end
  end
  return nodes, initializers
end

-- The results of the network as Values; the names of the outputs are given to them by Identity nodes.
local function outputs_of(graph, results, opts)
  local list = {}
  for i = 1, table.maxn(results) do
    local value = results[i]
    if masks.is_mask(value) then value = value:tensor() end
    if value ~= nil then
      if not graph.is_value(value) and not Tensor.is_tensor(value) then
        fail('%s: the network returned %s as result %d; expected tensors', OP, native.show(value), i)
      end
      list[#list + 1] = graph:tensor(value)
    end
  end
  if #list == 0 then fail('%s: the network returned nothing', OP) end
  check_names('output_names', opts.output_names, #list)
  local outputs = {}
  for i, value in ipairs(list) do
    local wanted = opts.output_names and opts.output_names[i] or i == 1 and 'y' or i == 2 and 'y_mask' or 'output_' .. i
    if graph.used[wanted] and opts.output_names then fail("%s: output_names: the name '%s' is taken", OP, wanted) end
    local name = graph:unique(wanted)
    graph.nodes[#graph.nodes + 1] = { op = 'Identity', name = name, inputs = { value.name }, outputs = { name }, attributes = {} }
    outputs[i] = graph:value(name, value.dtype, value.shape)
  end
  return outputs
end

local function value_infos(values)
  local list = {}
  for i, v in ipairs(values) do list[i] = { name = v.name, dtype = v.dtype, dims = dims_of(v.shape) } end
  return list
end

-- Batch norm counts its batches in training; an export changes nothing.
local function keep_counters(net)
  local kept = {}
  for name, buffer in net:named_buffers() do
    if name:find('num_batches_tracked$') then kept[buffer] = buffer:item() end
  end
  return function()
    for buffer, count in pairs(kept) do native.check(buffer.K.mt_tensor_fill(buffer._c, count)) end
  end
end

--- torch.io.onnx.export(net, path, options): writes `net` as an ONNX file. Options:
--   inputs        example tensors or masks, in the order of forward's arguments: { x, mask }; only their shapes and types count
--   dynamic_axes  { name or number of an input = { [dim] = name of the size, ... } or { dim, ... } }: sizes that may differ when the
--                 file runs; dims from 1; the same name is the same size. All others are fixed.
--   input_names, output_names   defaults 'x', 'mask' and 'y', 'y_mask'
--   opset         13 to 22, 18
--   training      false: as in evaluation mode, whatever the mode of the network; true: batch norm takes the batch's statistics
--                 (running ones do not change), dropout is an error
--   name, doc     of the graph
-- Masks are inputs and outputs like any other: bool or floating, (N or 1, C or 1, *S); as outputs of x's type, of one channel
-- where the layers keep them so. Indexes count from 1 in the file too.
-- Returns { inputs, outputs = lists of { name, dtype, shape }, nodes = count, bytes, notes }: notes are comparisons of dynamic sizes
-- in the network's code that were decided by the example; the file holds where they hold (they stand in its metadata as well).
-- Errors: an operation or layer without an ONNX form, named with its place in the network; a lazy layer before its first input;
-- a file above 2 GiB. The file is whole or absent. The network is unchanged.
local function export(net, path, opts)
  if not Module.is_module(net) then fail('%s: net: expected a module, got %s', OP, native.show(net)) end
  file.check_path(OP, path)
  opts = options.parse(OP, defaults, opts)
  if not ir_versions[opts.opset] then
    fail('%s: opset: expected a whole number from 13 to 22, got %s', OP, native.show(opts.opset))
  end
  local inputs = inputs_of(opts)
  apply_dynamic_axes(inputs, opts.dynamic_axes)
  net:parameters()      -- an error for lazy layers

  local run, values = size.begin(), nil
  local modes, restore = {}, keep_counters(net)
  for _, module in net:named_modules() do modes[module] = module.training end
  net:train(opts.training)
  local ok, graph, results = pcall(require 'masked_torch.io.onnx.trace', net, opts.opset, function(g)
    values = values_of(g, inputs)
    return values
  end)
  for module, flag in pairs(modes) do rawset(module, 'training', flag) end
  restore()
  if not ok then
    local position, text = native.split_position(tostring(graph))
    error(position .. (text:find(OP, 1, true) and '' or OP .. ': ') .. text, 0)
  end

  local outputs = outputs_of(graph, results, opts)
  local nodes, initializers = prune(graph, outputs)
  for _, entry in ipairs(initializers) do
    if entry.tensor.device ~= 'cpu' then entry.tensor = entry.tensor:detach():to{ device = 'cpu' } end
  end
  local metadata = { { 'masked_torch', native.version }, { 'training', tostring(opts.training) } }
  if #run.notes > 0 then metadata[#metadata + 1] = { 'assumes', table.concat(run.notes, '; ') } end
  local model = proto.model{ ir_version = ir_versions[opts.opset], opset = opts.opset, producer = 'masked_torch', version = native.version,
    metadata = metadata, doc = opts.doc, graph = { name = opts.name, doc = tostring(net), nodes = nodes, initializers = initializers,
      inputs = value_infos(values), outputs = value_infos(outputs), values = {} } }
  if model.length > LIMIT then
    fail('%s: %s: the file would have %.0f bytes; an ONNX file without external data has at most 2 GiB', OP, path, model.length)
  end
  file.write(OP, path, function(write) proto.write(write, model) end)

  local function described(list)
    local result = {}
    for i, v in ipairs(list) do result[i] = { name = v.name, dtype = v.dtype, shape = dims_of(v.shape) } end
    return result
  end
  return { inputs = described(values), outputs = described(outputs), nodes = #nodes, bytes = model.length, notes = run.notes }
end

return { export = export }
