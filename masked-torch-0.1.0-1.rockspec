rockspec_format = '1.1'
package = 'masked-torch'
version = '0.1.0-1'
source = {
  url = 'git+https://github.com/masked-torch/masked-torch-luajit.git',
  tag = 'v0.1.0',
}
description = {
  summary = 'Convolutions over incomplete data, scripted in LuaJIT',
  detailed = 'Tensors, automatic differentiation and mask-aware layers on a C11 core with OpenBLAS.',
  license = 'Apache-2.0',
}
dependencies = { 'lua == 5.1' }
-- bin/masked-torch begins with `env luajit`; a wrapper would run it with the tree's Lua.
deploy = { wrap_bin_scripts = false }
build = {
  type = 'make',
  build_target = 'all',
  install_target = 'install',
  build_variables = { CFLAGS = '$(CFLAGS)', LUAJIT = '$(LUA)' },
  install_variables = { LUADIR = '$(LUADIR)', NATIVEDIR = '$(LUADIR)/masked_torch/native', BINDIR = '$(BINDIR)', MANDIR = '$(PREFIX)/doc' },
}
