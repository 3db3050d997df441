--- The stems that cuda/ does not have yet; tests/cuda/op_table_spec.lua passes over cases that need them. The list only shrinks.
return {
}
