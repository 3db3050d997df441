// norm_gate: the activation behind a normalisation, once for each type (twice.h): activate.h, and its gradient from y in double, before
// it is rounded. Internal.
// Read in the typed half of a file, hence no include guard.
#include "activate.h"

// Is y above 0 when it has been rounded? What is halfway to the smallest float32 rounds to 0.
#define NORM_OPEN (REAL_BITS == 32 ? 0x1p-150 : 0.0)

// dy f'(y), as a REAL. a is a REAL too.
MT_INLINE double FN(gated)(double dy, double y, int32_t activation, double a) {
  if (activation == MT_ACTIVATION_IDENTITY) {
    return dy;
  }
  return y > NORM_OPEN ? dy : activation == MT_ACTIVATION_RELU ? 0 : (double)(REAL)(dy * a);
}
