local json = require 'masked_torch.io.json'

local function decode(text, depth)
  return json.decode(text, function(at, message) error(('%d: %s'):format(at, message), 0) end, depth)
end

describe('json', function()
  it('reads what RFC 8259 allows', function()
    local v = decode(' {"a" : [1, -0, 2.5e-3, true, false, null, "\\u00e9\\ud83d\\ude00\\n\\/"], "" : {}, "b":[]} ')
    assert.equal(1, v.a[1])
    assert.equal(-math.huge, 1 / v.a[2])
    assert.equal(2.5e-3, v.a[3])
    assert.is_true(v.a[4])
    assert.is_false(v.a[5])
    assert.equal(json.null, v.a[6])
    assert.equal('é😀\n/', v.a[7])
    assert.equal(json.object, getmetatable(v['']))
    assert.equal(json.array, getmetatable(v.b))
  end)

  for text, message in pairs{
    [''] = 'a value was expected', ['{'] = 'a name in quotes', ['{"a":1'] = "',' or '}'", ['[1,]'] = 'a value was expected',
    ['{"a":1,"a":2}'] = '8: the name "a" appears twice', ['{"a":1,}'] = 'a name in quotes', ['[1 2]'] = "',' or ']'",
    ['01'] = 'malformed number', ['1.'] = 'malformed number', ['.5'] = 'a value was expected', ['+1'] = 'a value was expected',
    ['NaN'] = 'a value was expected', ['tru'] = 'a value was expected', ['1x'] = 'malformed number', ['"a'] = 'does not end',
    ['"\n"'] = 'control character', ['"\\x"'] = 'unknown escape', ['"\\ud800"'] = 'surrogate', ['"\\udc00"'] = 'surrogate',
    ['"\\ud800\\u0041"'] = 'surrogate', ['"\255"'] = 'invalid UTF-8', ['"\192\128"'] = 'invalid UTF-8',
    ['"\237\160\128"'] = 'invalid UTF-8', ['"\244\144\128\128"'] = 'invalid UTF-8', ['"\226\130'] = 'invalid UTF-8',
    ['1 1'] = 'text after the value', ['{1:2}'] = 'a name in quotes', ['{"a" 1}'] = "':' was expected",
    ['0x10'] = 'malformed number',
    ['1e'] = 'malformed number', ['-'] = 'a value was expected',
  } do
    it(('refuses %q'):format(text), function()
      assert.fails(function() decode(text) end, message)
    end)
  end

  it('limits nesting', function()
    assert.fails(function() decode(('['):rep(2e6)) end, 'nested more than 32 deep')
    assert.fails(function() decode('[[[1]]]', 2) end, '3: nested more than 2 deep')
    assert.equal(1, decode('[[1]]', 2)[1][1])
  end)

  it('writes what it reads', function()
    for _, text in ipairs{ '{"a":[1,2.5,"x\\n\\u0001\\""],"b":{"c":true}}', '[0.10000000000000001,-0,1e+22]', '"é"' } do
      assert.equal(text, json.encode(decode(text)))
    end
  end)
end)
