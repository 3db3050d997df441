// five: compiles the typed half of a kernel file for float32, float64, int64, int32 and uint8. See twice.h, which does so for
// the first two; here the type is NUMBER, and NUMBER_IS_REAL tells the two groups apart.
// One source for signed and unsigned types: `x < 0` is never true for uint8.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtype-limits"

#define NUMBER float
#define NUMBER_IS_REAL 1
#define FN(name) name##_f32
#define MATH(name) name##f
#include MT_SOURCE
#undef NUMBER
#undef FN
#undef MATH

#define NUMBER double
#define FN(name) name##_f64
#define MATH(name) name
#include MT_SOURCE
#undef NUMBER
#undef NUMBER_IS_REAL
#undef FN
#undef MATH

#define NUMBER int64_t
#define NUMBER_IS_REAL 0
#define FN(name) name##_i64
#include MT_SOURCE
#undef NUMBER
#undef FN

#define NUMBER int32_t
#define FN(name) name##_i32
#include MT_SOURCE
#undef NUMBER
#undef FN

#define NUMBER uint8_t
#define FN(name) name##_u8
#include MT_SOURCE
#undef NUMBER
#undef NUMBER_IS_REAL
#undef FN

#pragma GCC diagnostic pop

// The copy for a dtype; bool is a byte, bfloat16 is computed with as float32.
#define MT_FIVE_FN(dtype, function)                                                                                    \
  ((dtype) == MT_FLOAT32 || (dtype) == MT_BFLOAT16 ? function##_f32                                                    \
   : (dtype) == MT_FLOAT64 ? function##_f64                                                                            \
   : (dtype) == MT_INT64   ? function##_i64                                                                            \
   : (dtype) == MT_INT32   ? function##_i32                                                                            \
                           : function##_u8)
