--- Function: torch.Function, written by users; see autograd/init.lua.
return {}
