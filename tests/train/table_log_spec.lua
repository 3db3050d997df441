local torch = require 'masked_torch'
local scratch = require 'support.scratch'

local train = torch.train

describe('csv', function()
  it('writes a header and rows that read back to the same numbers', function()
    local path = scratch.path('.csv')
    local log = train.csv(path)
    log:write{ loss = 1 / 3, step = 1, epoch = 0 }
    log:write{ step = 2, epoch = 0, loss = 0 / 0 }
    log:write{ step = 3, loss = 0.1 }
    assert.are.equal('epoch,step,loss\n0,1,0.33333333333333331\n0,2,nan\n,3,0.1\n', scratch.content(path))
    assert.fails(function() log:write{ step = 4, los = 1 } end, 'csv', 'unknown column "los"', 'epoch, step, loss')
    assert.fails(function() log:write{ step = {} } end, 'csv', 'row')
    log:close()
    log = train.csv(path, { columns = { 'step', 'note' } })
    log:write{ step = 1, note = 'a "b", c' }
    log:close()
    assert.are.equal('step,note\n1,"a ""b"", c"\n', scratch.content(path))
  end)

  it('goes on after a kill as if nothing had happened', function()
    local path = scratch.file('step,loss\n1,0.5\n2,0.25\n3,0.125\n4,0.06', '.csv')
    local log = train.csv(path, { resume = 2 })
    log:write{ step = 3, loss = 1 }
    log:close()
    assert.are.equal('step,loss\n1,0.5\n2,0.25\n3,1\n', scratch.content(path))
    assert.fails(function() train.csv(scratch.file('a,b\n1,2\n'), { resume = 1 }) end, 'csv', 'no column "step"')
    local fresh = scratch.path('.csv')
    log = train.csv(fresh, { resume = 5 })
    log:write{ step = 6, loss = 2 }
    log:close()
    assert.are.equal('step,loss\n6,2\n', scratch.content(fresh))
  end)

  it('says why a row cannot be written', function()
    local log = train.csv('/dev/full')
    assert.fails(function() log:write{ step = 1 } end, 'csv', '/dev/full', 'No space left on device')
    assert.fails(function() train.csv('/sys/kernel/a.csv') end, 'csv: /sys/kernel/a.csv: Permission denied')
  end)
end)

describe('jsonl', function()
  it('writes one object per line and resumes', function()
    local path = scratch.path('.jsonl')
    local log = train.jsonl(path)
    log:write{ step = 1, loss = 0.5, note = 'a\n"b"' }
    log:write{ step = 2, loss = 1 / 0, flag = true }
    log:close()
    assert.are.equal('{"loss":0.5,"note":"a\\n\\"b\\"","step":1}\n{"flag":true,"loss":"inf","step":2}\n', scratch.content(path))
    log = train.jsonl(path, { resume = 1 })
    log:write{ step = 2, other = 1 }
    log:close()
    assert.are.equal('{"loss":0.5,"note":"a\\n\\"b\\"","step":1}\n{"other":1,"step":2}\n', scratch.content(path))
    assert.fails(function() train.jsonl(scratch.file('{"a":}\n'), { resume = 1 }) end, 'jsonl', 'line 1')
  end)
end)
