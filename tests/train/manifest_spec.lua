local torch = require 'masked_torch'
local json = require 'masked_torch.io.json'
local scratch = require 'support.scratch'

describe('manifest', function()
  it('tells what ran where, as JSON', function()
    torch.manual_seed(21)
    local path = scratch.path('.json')
    local manifest = torch.train.manifest(path, { options = { rate = 0.1, list = { 1, 'b' }, best = 0 / 0, odd = print }, seed = 5 })
    local read = json.decode(scratch.content(path), error)
    assert.are.equal(torch.__version, read.version)
    assert.are.equal(5, read.seed)
    assert.are.equal(0.1, read.options.rate)
    assert.are.equal('nan', read.options.best)
    assert.are.equal('b', read.options.list[2])
    assert.is_truthy(read.date:find('^%d+%-%d%d%-%d%dT'))
    assert.are.equal(torch.get_num_threads(), read.machine.threads)
    assert.is_truthy(read.machine.cores >= 1)
    for _, key in ipairs{ 'host', 'cpu', 'isa', 'blas', 'kernel', 'luajit', 'system' } do assert.is_string(read.machine[key]) end
    assert.are.equal(manifest.machine.isa, read.machine.isa)
    assert.are.equal(21, torch.train.manifest{}.seed)
    assert.fails(function() torch.train.manifest('/sys/kernel/a.json') end, 'manifest', '/sys/kernel/a.json')
    assert.fails(function() torch.train.manifest(path, 3) end, 'manifest: fields')
  end)
end)
