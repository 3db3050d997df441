// The contract: every kernel of the laboratory, declared once.
//
// This page is the table of contents. The prototypes of an operation stand in the header of its stem
// (softmax -> softmax.h, implemented by core/softmax.c and cuda/softmax.cu under the same names).
// gcc, nvcc and LuaJIT's ffi.cdef read the same text, so these headers hold prototypes, structs, enums and
// `//` comments only, no macros; lines that begin with '#' are dropped by the Lua loader, except that it
// follows #include "...".
//
// What holds for every kernel:
//   * Returns a status: MT_OK or an error code; the message is then in mt_last_error(). No kernel exits,
//     aborts, throws, prints or calls back.
//   * Takes tensors by pointer and checks dtype, shape and NULL itself. Outputs are allocated by the
//     caller and come first; they are overwritten unless the paragraph says "accumulates".
//   * Inputs may have any strides. Outputs may have any strides without overlap; they must not overlap an
//     input unless the paragraph says "in place".
//   * A gradient is `d` + the name of the forward value (dx, dw); a kernel's _backward stands below it.
//   * float32 and float64 unless the paragraph lists other types; bfloat16 is refused by name wherever it is not listed. Masks: see mask.h.
//   * dims are 0-based here; positions stored in index tensors are 1-based, as the user wrote them.
//   * The result does not depend on the number of threads, nor on the strides of the inputs.
#pragma once
#include "tensor.h"
#include "runtime.h"
#include "checksum.h"
#include "guard.h"
#include "random.h"
#include "elementwise.h"
#include "activation.h"
#include "reduce.h"
#include "matmul.h"
#include "index.h"
#include "sort.h"
#include "softmax.h"
#include "loss.h"
#include "embedding.h"
#include "bpe.h"
#include "dropout.h"
#include "linear.h"
#include "conv.h"
#include "mask.h"
#include "masked_conv.h"
#include "pool.h"
#include "shuffle.h"
#include "upsample.h"
#include "norm.h"
#include "optim.h"
#include "mapped.h"
#include "sampler.h"
#include "loader.h"
