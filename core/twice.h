// twice: compiles the typed half of a kernel file for float32 and for float64.
//
//   #ifdef REAL                          the typed half: REAL is the type, FN(name) the name with its suffix
//   static void FN(row)(REAL *y, ...)    -> row_f32, row_f64
//   #else                                the plain half, read once
//   #include "common.h"
//   #define MT_SOURCE "softmax.c"        the file's own name
//   #include "twice.h"
//   ... MT_REAL_CALL(x->dtype, row, y, ...) ...
//   #endif
//
// No include guard: each file includes it once for itself.
#define REAL float
#define REAL_BITS 32
#define FN(name) name##_f32
#define MATH(name) name##f
#include MT_SOURCE
#undef REAL
#undef REAL_BITS
#undef FN
#undef MATH

#define REAL double
#define REAL_BITS 64
#define FN(name) name##_f64
#define MATH(name) name
#include MT_SOURCE
#undef REAL
#undef REAL_BITS
#undef FN
#undef MATH
