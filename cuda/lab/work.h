// work: layers as problems for the rungs, with data on the device, and the check against a sum in double precision.
#pragma once
#include <vector>

#include "lab.cuh"

extern const char *const lab_kind_names[LAB_KINDS];

// An image of batch x height x width pixels and a square kernel, or one along the width where height is 1; `active` per cent of the pixels,
// chosen by a hash. A product is one row of pixels and kernel 1.
struct lab_shape {
  const char *name;
  int batch, height, width, channels, n, kernel, active;
};

struct lab_work {
  lab_shape shape;
  int how;
  lab_problem listed, dense;             // dense: every row of the image, its border too
  std::vector<float> a, b, bias;         // as the device has them
  std::vector<int> rows;                 // empty: all
  void *device[5];
  lab_work(const lab_shape &shape, int how, bool whole, cudaStream_t stream);
  ~lab_work();
  lab_work(const lab_work &) = delete;
  const lab_problem &of(const lab_rung &rung) const { return rung.dense ? dense : listed; }
  double flops() const;                  // of the active pixels
  // Runs a rung and compares: exactly where the data are whole numbers, else within what the kind of sum allows; all results, or so many.
  // Says what is wrong. false: wrong; *able false: the rung does not take this.
  bool check(const lab_rung &rung, bool whole, int64_t most, bool *able, double *worst, cudaStream_t stream);
};

// Ends the program where a call of the runtime fails.
void lab_must(cudaError_t error, const char *what);

// The same sums of matrices by cuBLASLt (cublas.cu): c (m, n) = a (m, k) b'(n, k).
struct lab_peer {
  int m, n, k, how;
  void *a, *b, *c, *plan;
  lab_peer(int m, int n, int k, int how, cudaStream_t stream);
  ~lab_peer();
  lab_peer(const lab_peer &) = delete;
  bool run(cudaStream_t stream);
};
