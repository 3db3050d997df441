--- The interpreter that runs the tests: the first word of the command line, which stands before its options.
local first = 0
while arg and arg[first - 1] do first = first - 1 end
return first < 0 and arg[first] or 'luajit'
