// masked_conv: see core/masked_conv.h. Masks and ratios are in masked_conv_window.cu; here are the rules, the finishing pass and the
// gradient of alpha.
#include "activate.cuh"
#include "masked_conv_window.cuh"
#include "row.cuh"

// ---- mask rules and ratios ----------------------------------------------------------------------------------------------

static int mask_of_windows(mt_device *device, mt_windows *c, const mt_tensor *out, const mt_tensor *w, int32_t rule) {
  static const int32_t finish[MT_RULES] = {MT_FINISH_KEEP,     MT_FINISH_GROW,       MT_FINISH_SMALLEST,
                                           MT_FINISH_COVERAGE, MT_FINISH_CONFIDENCE, MT_FINISH_CONFIDENCE};
  c->finish = finish[rule];
  if (rule == MT_RULE_KEEP || rule == MT_RULE_CENTRE) {
    mt_window_centre(c);
  }
  if (c->finish == MT_FINISH_CONFIDENCE) {
    return mt_window_launch_weigh(device, c, out, w, false);
  }
  return mt_window_launch_count(device, c, out, rule == MT_RULE_KEEP    ? (int)MT_MERGE_LARGEST
                                                : rule == MT_RULE_ERODE ? (int)MT_MERGE_SMALLEST
                                                                        : (int)MT_MERGE_SUM);
}

static int open(mt_device **device, mt_windows *c, mt_tensor *out, const mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds,
                const mt_tensor *w, const mt_conv *g, const mt_window *v) {
  memset(c, 0, sizeof *c);
  MT_TRY(mt_check_tensor("masked_conv", "output", out));
  const mt_tensor *const t[] = {q, mask, kinds, w};
  MT_TRY(mt_check_together("masked_conv", out, 4, t));
  MT_TRY(mt_enter(device, out));
  return mt_window_open(c, "masked_conv", out, mask, kinds, w, g, v);
}

extern "C" int mt_masked_conv_mask(mt_tensor *out, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w,
                                   const mt_conv *g, const mt_window *v, int32_t rule) {
  mt_device *device;
  mt_windows c;
  MT_TRY(mt_masked_conv_check_rule(rule, w));
  const bool weighted = rule == MT_RULE_CONFIDENCE || rule == MT_RULE_CENTRE;
  int status = open(&device, &c, out, NULL, mask, kinds, weighted ? w : NULL, g, v);
  status = status == MT_OK ? mask_of_windows(device, &c, out, w, rule) : status;
  mt_window_close(&c);
  return status;
}

extern "C" int mt_masked_conv_ratio(mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds, const mt_tensor *w, const mt_conv *g,
                                    const mt_window *v, int32_t norm) {
  mt_device *device;
  mt_windows c;
  MT_TRY(mt_masked_conv_check_norm(norm, w));
  const bool weighted = norm != MT_NORM_COUNT;
  int status = open(&device, &c, q, NULL, mask, kinds, weighted ? w : NULL, g, v);
  c.finish = norm == MT_NORM_L2 ? MT_FINISH_ROOT : MT_FINISH_RATIO;
  c.multiplicity = weighted ? 1 : c.multiplicity;
  if (status == MT_OK) {
    status = weighted ? mt_window_launch_weigh(device, &c, q, w, norm == MT_NORM_L2) : mt_window_launch_count(device, &c, q, MT_MERGE_SUM);
  }
  mt_window_close(&c);
  return status;
}

extern "C" int mt_masked_conv_confidence(mt_tensor *out, mt_tensor *q, const mt_tensor *mask, const mt_tensor *kinds,
                                         const mt_tensor *w, const mt_conv *g, const mt_window *v) {
  mt_device *device;
  mt_windows c;
  MT_TRY(mt_masked_conv_check_confidence(out, q, w));
  int status = open(&device, &c, out, q, mask, kinds, w, g, v);
  c.finish = MT_FINISH_CONFIDENCE;
  c.multiplicity = 1;
  c.ratio = q;
  status = status == MT_OK ? mt_window_launch_weigh(device, &c, out, w, false) : status;
  mt_window_close(&c);
  return status;
}

// ---- powers -------------------------------------------------------------------------------------------------------------

template <typename T> static __global__ void power(const mt_walk walk, const mt_context context) {
  const double alpha = context.words[0];
  MT_EACH(i, walk.numel) {
    char *p[2];
    mt_walk_at(p, walk, i);
    const T q = *(const T *)p[1];
    *(T *)p[0] = q == 0 || q == 1 ? q : (T)(alpha == 1 ? (double)q : alpha == 0.5 ? sqrt((double)q) : pow((double)q, alpha));
  }
}

extern "C" int mt_masked_conv_power(mt_tensor *r, const mt_tensor *q, double alpha) {
  const mt_tensor *const t[] = {r, q};
  MT_TRY(mt_masked_conv_check_power(r, q));
  return mt_loop_launch(2, t, q->dtype == MT_FLOAT32 ? power<float> : power<double>, &alpha, sizeof alpha);
}

// ---- the finishing pass -------------------------------------------------------------------------------------------------

typedef struct {
  int32_t r, b, m;     // which factors there are
  int32_t activation;  // behind them
  double a;
} factors;

// y, raw, r, b, m; what is absent is not read.
template <typename T> static __global__ void finish(const mt_walk walk, const factors has) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    T v = *(const T *)p[1];
    if (has.r) {
      const T r = *(const T *)p[2];
      v = r == 0 ? 0 : v * r;
    }
    if (has.b) {
      v += *(const T *)p[3];
    }
    if (has.m) {
      const T m = *(const T *)p[4];
      v = m == 0 ? 0 : v * m;
    }
    *(T *)p[0] = mt_activate<T>(v, has.activation, has.a);
  }
}

// draw, dy, r, (b), m
template <typename T> static __global__ void finish_backward(const mt_walk walk, const factors has) {
  MT_EACH(i, walk.numel) {
    char *p[5];
    mt_walk_at(p, walk, i);
    T v = *(const T *)p[1];
    const T r = has.r ? *(const T *)p[2] : 1, m = has.m ? *(const T *)p[4] : 1;
    *(T *)p[0] = m == 0 || r == 0 ? 0 : v * m * r;
  }
}

typedef void (*finish_function)(mt_walk, factors);

static int run_finish(mt_tensor *y, const mt_tensor *x, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m, int32_t activation,
                      double a, finish_function f) {
  mt_device *device;
  mt_walk walk;
  mt_tensor bias;
  memset(&bias, 0, sizeof bias);
  if (b) {  // (1, O, 1, ...)
    bias = *b;
    bias.ndim = y->ndim;
    for (int32_t d = 0; d < y->ndim; d++) {
      bias.shape[d] = 1;
      bias.stride[d] = 1;
    }
    bias.shape[1] = b->shape[0];
    bias.stride[1] = b->stride[0];
  }
  const mt_tensor *const given[] = {x, r, b, m}, *const t[] = {y, x, r ? r : x, b ? &bias : x, m ? m : x};
  const factors has = {r != NULL, b != NULL, m != NULL, activation, a};
  MT_TRY(mt_check_together("masked_conv", y, 4, given));
  MT_TRY(mt_walk_plan(&walk, 5, t));
  if (walk.numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, y));
  MT_LAUNCH(device, f, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, has);
  return MT_OK;
}

extern "C" int mt_masked_conv_finish(mt_tensor *y, const mt_tensor *raw, const mt_tensor *r, const mt_tensor *b, const mt_tensor *m,
                                     int32_t activation, double a) {
  MT_TRY(mt_masked_conv_check_finish(y, raw, r, b, m, activation, a));
  return run_finish(y, raw, r, b, m, activation, a, y->dtype == MT_FLOAT32 ? finish<float> : finish<double>);
}

extern "C" int mt_masked_conv_finish_backward(mt_tensor *draw, const mt_tensor *dy, const mt_tensor *r, const mt_tensor *m) {
  MT_TRY(mt_masked_conv_check_finish(draw, dy, r, NULL, m, MT_ACTIVATION_IDENTITY, 0));
  return run_finish(draw, dy, r, NULL, m, MT_ACTIVATION_IDENTITY, 0, draw->dtype == MT_FLOAT32 ? finish_backward<float> : finish_backward<double>);
}

// ---- the gradient of alpha ------------------------------------------------------------------------------------------------
// A thread adds up one row of one channel of one sample in order, then its rows in order; the sums of samples and channels meet in a
// tree. Positions that do not count are passed over, so padding changes no bit.

// A tensor (1 or N, 1 or O, *S') with three axes; data NULL: ones.
typedef struct {
  const void *data;
  int64_t n, c, step[3];
} operand;

typedef struct {
  operand dy, raw, r, q, m;
  int64_t samples, channels, rows, size[3];
  double *sums;   // (samples, rows, channels)
} alpha_plan;

static operand operand_of(const mt_tensor *t) {
  operand o;
  memset(&o, 0, sizeof o);
  if (t) {
    o.data = t->data;
    o.n = t->shape[0] == 1 ? 0 : t->stride[0];
    o.c = t->shape[1] == 1 ? 0 : t->stride[1];
    for (int32_t d = 2, a = 5 - t->ndim; d < t->ndim; d++, a++) {
      o.step[a] = t->stride[d];
    }
  }
  return o;
}

template <typename T> MT_DEVICE double operand_at(const operand &o, int64_t offset) { return o.data ? (double)((const T *)o.data)[offset] : 1; }
MT_DEVICE int64_t operand_row(const operand &o, int64_t n, int64_t c, int64_t a, int64_t b) {
  return n * o.n + c * o.c + a * o.step[0] + b * o.step[1];
}

template <typename T> static __global__ void alpha_rows(const alpha_plan p) {
  MT_EACH(i, p.samples * p.rows * p.channels) {
    const int64_t c = i % p.channels, row = i / p.channels % p.rows, n = i / p.channels / p.rows, a = row / p.size[1], b = row % p.size[1];
    const int64_t dy = operand_row(p.dy, n, c, a, b), raw = operand_row(p.raw, n, c, a, b), r = operand_row(p.r, n, c, a, b);
    const int64_t q = operand_row(p.q, n, c, a, b), m = operand_row(p.m, n, c, a, b);
    double sum = 0;
    for (int64_t x = 0; x < p.size[2]; x++) {
      const double gate = operand_at<T>(p.m, m + x * p.m.step[2]), base = operand_at<T>(p.q, q + x * p.q.step[2]);
      if (gate != 0 && base != 0) {
        sum += operand_at<T>(p.dy, dy + x * p.dy.step[2]) * gate * operand_at<T>(p.raw, raw + x * p.raw.step[2]) *
               operand_at<T>(p.r, r + x * p.r.step[2]) * log(base);
      }
    }
    p.sums[i] = sum;
  }
}

template <typename T> static __global__ void alpha_sum(const alpha_plan p, T *dalpha) {
  double all = 0;
  for (int64_t i = threadIdx.x; i < p.samples * p.channels; i += blockDim.x) {
    const int64_t n = i / p.channels, c = i % p.channels;
    double sum = 0;
    for (int64_t row = 0; row < p.rows; row++) {
      sum += p.sums[(n * p.rows + row) * p.channels + c];
    }
    all += sum;
  }
  all = mt_block_sum(all);
  if (threadIdx.x == 0) {
    *dalpha = (T)all;
  }
}

extern "C" int mt_masked_conv_alpha_backward(mt_tensor *dalpha, const mt_tensor *dy, const mt_tensor *raw, const mt_tensor *r,
                                             const mt_tensor *q, const mt_tensor *m) {
  mt_device *device;
  mt_scratch sums;
  alpha_plan p;
  MT_TRY(mt_masked_conv_check_alpha(dalpha, dy, raw, r, q, m));
  const mt_tensor *const t[] = {dy, raw, r, q, m};
  MT_TRY(mt_check_together("masked_conv", dalpha, 5, t));
  if (dy->numel == 0) {
    return mt_tensor_fill(dalpha, 0);
  }
  MT_TRY(mt_enter(&device, dalpha));
  memset(&p, 0, sizeof p);
  p.dy = operand_of(dy);
  p.raw = operand_of(raw);
  p.r = operand_of(r);
  p.q = operand_of(q);
  p.m = operand_of(m);
  p.samples = dy->shape[0];
  p.channels = dy->shape[1];
  for (int d = 0; d < 3; d++) {
    const int32_t axis = dy->ndim - 3 + d;
    p.size[d] = axis < 2 ? 1 : dy->shape[axis];
  }
  p.rows = p.size[0] * p.size[1];
  const int64_t count = p.samples * p.channels * p.rows;
  MT_TRY(sums.take(device, count, sizeof(double)));
  p.sums = (double *)sums.data;
  if (dy->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, alpha_rows<float>, mt_grid(device, count), MT_BLOCK, 0, p);
    MT_LAUNCH(device, alpha_sum<float>, 1, 1024, 0, p, (float *)dalpha->data);
  } else {
    MT_LAUNCH(device, alpha_rows<double>, mt_grid(device, count), MT_BLOCK, 0, p);
    MT_LAUNCH(device, alpha_sum<double>, 1, 1024, 0, p, (double *)dalpha->data);
  }
  return MT_OK;
}
