--- describe: a network, layer by layer, for one input.
--
--     print(net:describe(x, mask))
--     local report = net:describe(x, mask)      report.rows, report.parameters, report.macs, report.effective, report.bytes ...
--
-- A row per layer, in the order of the calls:
--   input, output    shapes; mask: the shape of the mask that goes on ('' for none), valid: the mean of its values
--   field            receptive field in elements of the input, per spatial axis (inspect/field.lua)
--   parameters       the layer's own
--   MACs, effective  multiply-accumulates for the whole batch, all of them and those that valid elements need (train/count.lua)
--   memory           bytes of the output

local class = require 'masked_torch.class'
local columns = require 'masked_torch.columns'
local count = require('masked_torch.train.count').count
local field = require 'masked_torch.inspect.field'
local options = require 'masked_torch.options'
local walk = require 'masked_torch.inspect.walk'
local Mask = require 'masked_torch.mask'
local Tensor = require 'masked_torch.tensor'

local Report = class('Description')

function Report:__init() self.rows, self.parameters, self.macs, self.effective, self.bytes = {}, 0, 0, 0, 0 end

local function shape_of(value)
  return Tensor.is_tensor(value) and value:size() or nil
end

local function bytes_of(t) return Tensor.is_tensor(t) and t:numel() * Tensor.dtype_size[t.dtype] or 0 end

local function mask_row(mask, y)
  if mask == nil then return nil end
  local ok, m = pcall(Mask.of, 'describe', mask, y)
  if not ok then return nil end
  return { shape = m:size(), coverage = m:coverage() }
end

--- net:describe(x, [mask], [{rules = {ClassName = function(module, inputs, outputs) return macs, effective end}}]): runs the network twice,
-- in evaluation mode and without gradients, and leaves it as it was. Returns a report: rows with name, class, input, output, mask,
-- coverage, field, parameters, macs, effective, bytes, calls; totals parameters, macs, effective, bytes (all outputs), parameter_bytes.
-- print(report) is the table.
local function describe(net, x, mask, opts)
  walk.check('describe', net)
  Tensor.check('describe', 'x', x)
  opts = options.parse('describe', { rules = options.any(nil) }, opts)
  local counted = {}
  local counts = count(net, x, mask, { rules = opts.rules })
  for _, row in ipairs(counts.rows) do counted[row.name] = row end
  local report, row_of = Report(), {}
  field.follow(x, function(fields)
    walk.run(net, x, mask, function(name, module, inputs, outputs)
      local y = outputs[1]
      -- Functions that are no registered operations lose the trace; a layer passes on what it got.
      if Tensor.is_tensor(y) and not fields[y] and Tensor.is_tensor(inputs[1]) then fields[y] = fields[inputs[1]] end
      local row = row_of[module]
      if row then
        row.calls = row.calls + 1
      else
        local own = counted[name]
        local parameters = 0
        for _, list in ipairs(module._parameters.names) do
          local p = module._parameters.values[list]
          if p ~= nil then parameters = parameters + p:numel() end
        end
        row = { name = name, class = walk.class(module), parameters = parameters, macs = own and own.macs or 0,
          effective = own and own.effective or 0, counted = own ~= nil, calls = 1, bytes = 0 }
        row_of[module] = row
        report.rows[#report.rows + 1] = row
        report.macs, report.effective = report.macs + row.macs, report.effective + row.effective
      end
      local m = Tensor.is_tensor(y) and mask_row(outputs[2], y)
      row.input, row.output = shape_of(inputs[1]), shape_of(y)
      row.mask, row.coverage = m and m.shape or nil, m and m.coverage or nil
      row.field = Tensor.is_tensor(y) and fields[y] or nil
      row.bytes = row.bytes + bytes_of(y)
      report.bytes = report.bytes + bytes_of(y)
    end)
  end)
  report.parameters, report.parameter_bytes = net:num_parameters(), 0
  for _, p in ipairs(net:parameters()) do report.parameter_bytes = report.parameter_bytes + bytes_of(p) end
  return report
end

-- ---- printing --------------------------------------------------------------------------------------------------

local function tuple(shape) return shape and '(' .. table.concat(shape, ', ') .. ')' or '' end

local function grouped(n)
  local text = ('%.0f'):format(n)
  repeat
    local done
    text, done = text:gsub('^(%d+)(%d%d%d)', '%1,%2')
  until done == 0
  return text
end

local function size_text(bytes)
  for _, unit in ipairs{ { 2 ^ 30, 'GB' }, { 2 ^ 20, 'MB' }, { 2 ^ 10, 'KB' } } do
    if bytes >= unit[1] then return ('%.1f %s'):format(bytes / unit[1], unit[2]) end
  end
  return ('%d B'):format(bytes)
end

local function percent(part) return ('%.0f %%'):format(100 * part) end

function Report:__tostring()
  local lines = { { 'layer', 'class', 'input', 'output', 'mask', 'valid', 'field', 'parameters', 'MACs', 'effective', 'memory' } }
  for _, row in ipairs(self.rows) do
    lines[#lines + 1] = { row.name, row.class .. (row.calls > 1 and ' x' .. row.calls or ''), tuple(row.input), tuple(row.output),
      tuple(row.mask), row.coverage and percent(row.coverage) or '', field.text(row.field), grouped(row.parameters),
      row.counted and grouped(row.macs) or '', row.counted and grouped(row.effective) or '', size_text(row.bytes) }
  end
  lines[#lines + 1] = { 'total', '', '', '', '', '', '', grouped(self.parameters), grouped(self.macs), grouped(self.effective),
    size_text(self.bytes) }
  local out = { columns(lines, 5) }
  local share = self.macs > 0 and (', %s of the MACs are effective'):format(percent(self.effective / self.macs)) or ''
  out[#out + 1] = ('parameters take %s%s'):format(size_text(self.parameter_bytes), share)
  return table.concat(out, '\n')
end

return describe
