--- root: the folder of the checkout, with a slash at its end.
local root = debug.getinfo(1, 'S').source:match('^@(.*)tests/support/root%.lua$')
return root == '' and './' or root
