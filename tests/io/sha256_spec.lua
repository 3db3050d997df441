local sha256 = require 'masked_torch.io.sha256'

describe('sha256', function()
  it("gives the standard's examples", function()
    assert.equal('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', sha256(''))
    assert.equal('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', sha256('abc'))
    assert.equal('248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
      sha256('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq'))
    assert.equal('cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0', sha256(('a'):rep(1e6)))
  end)

  -- Against sha256sum, at every length around the borders of blocks.
  it('agrees with sha256sum', function()
    local scratch = require 'support.scratch'
    local contents, paths = {}, {}
    for n = 50, 135 do
      contents[n] = ('\200\0\127'):rep(50):sub(1, n)
      paths[#paths + 1] = scratch.file(contents[n])
    end
    local pipe = assert(io.popen('sha256sum ' .. table.concat(paths, ' ')))
    local n = 50
    for line in pipe:lines() do
      assert.equal(line:match('^%x+'), sha256(contents[n]))
      n = n + 1
    end
    pipe:close()
    scratch.clean()
    assert.equal(136, n)
  end)
end)
