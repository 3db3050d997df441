// cublas: large products at the precisions HIGH and MEDIUM, and of bfloat16, by cuBLASLt. The only door to it.
//
// cuBLASLt chooses its kernel, and with it the order of sums, by the sizes of the whole product: equal sizes give equal bits, but a row's
// last bits may change with the number of rows. So it is used where the user has asked for speed rather than float32's digits; at HIGHEST,
// and for float64, every product is one of tile.cuh's, whose elements depend on their own row and column alone.
#pragma once
#include "product.cuh"

// c = a b + bias, unless the product is not one for cuBLASLt: small, at another precision, of strides that it does not know, or refused by it
// (*done = false, nothing happened). Runs (p->run) are not kept apart.
int mt_cublas_run(bool *done, mt_device *device, const mt_product *p);
