// logits: the loops over a line of logits, its classes side by side; one build per instruction set (logits.c). Internal to loss.c.
//
// Every element takes the same operations in any width of vectors, and sums have a fixed order: avx512 and avx2 give the same bits.
// The portable build multiplies and adds where they have one fused operation.
#pragma once
#include "common.h"

typedef struct logits {
  // The largest value, NaN where there is one.
  float (*largest_f32)(const float *x, int64_t n);
  double (*largest_f64)(const double *x, int64_t n);
  // e = exp(x - shift), shift the largest x; returns the sum. e may be NULL, or x. Meanwhile the n values at `next` are fetched, if any.
  double (*exponentials_f32)(float *e, const float *x, float shift, int64_t n, const float *next);
  double (*exponentials_f64)(double *e, const double *x, double shift, int64_t n, const double *next);
  // g = exp(x - shift) factor, the same exponentials; g may be x.
  void (*shares_f32)(float *g, const float *x, float shift, float factor, int64_t n);
  void (*shares_f64)(double *g, const double *x, double shift, double factor, int64_t n);
  // g *= factor
  void (*scale_f32)(float *g, float factor, int64_t n);
  void (*scale_f64)(double *g, double factor, int64_t n);
} logits;

extern const logits logits_avx512, logits_avx2, logits_portable;
