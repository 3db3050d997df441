--- The interpreter that runs the tests: the first word of the command line, which stands before its options. Under
-- config=sanitize the one that the path names: the Makefile's, which loads the sanitizers.
if os.getenv 'MASKED_TORCH_CONFIG' == 'sanitize' then return 'luajit' end
local first = 0
while arg and arg[first - 1] do first = first - 1 end
return first < 0 and arg[first] or 'luajit'
