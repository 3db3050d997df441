// loss: cross-entropy and negative log-likelihood over classes; see core/loss.h. A line of logits is read from memory once where it
// fits into shared memory (50000 classes in float32): its maximum, the sum of its exponentials and its gradient come from there.
#include "exact.cuh"
#include "row.cuh"

extern "C" {
#include "../core/loss_check.h"
#include "../core/vector_math.h"
}

MT_DEVICE float quick_exp(float x) { return mt_quick_exp_f32(x); }
MT_DEVICE double quick_exp(double x) { return mt_quick_exp_f64(x); }

typedef struct loss_work {
  mt_lines x, gradient, target, mask, y;  // y: forward without reduction; dy of backward
  const void *x_data, *target_data, *mask_data, *weight, *dy_data;
  void *gradient_data, *y_data;
  int64_t weight_step, ignore_index;
  double smoothing;
  int32_t labels, narrow, ignore, logits, mean, none, cached, site;
  double *terms, *weights, *state;
  const double *total;                    // of the weights, where the mean's gradient needs it
  unsigned long long *hits;
  mt_fault *fault;
} loss_work;

typedef struct place {
  double m, w;                // mask, weight of the label
  int64_t label;              // from 0
  const void *probabilities;  // or NULL
  bool counts;
} place;

// What target and mask say about position o.
template <typename T> MT_DEVICE place place_at(const loss_work &w, int64_t o, bool reports) {
  place p = {1, 1, 0, NULL, false};
  if (w.mask_data) {
    p.m = (double)((const T *)w.mask_data)[mt_line_at(w.mask, o)];
  }
  if (p.m == 0) {
    return p;
  }
  const int64_t at = mt_line_at(w.target, o);
  if (!w.labels) {
    p.probabilities = (const T *)w.target_data + at;
    p.counts = true;
    return p;
  }
  const int64_t label = w.narrow ? ((const int32_t *)w.target_data)[at] : ((const int64_t *)w.target_data)[at];
  if (w.ignore && label == w.ignore_index) {
    return p;
  }
  if (label < 1 || label > w.x.length) {
    if (reports) {
      mt_record(w.fault, w.site, label, o, w.x.length);
    }
    return p;
  }
  p.label = label - 1;
  p.w = w.weight ? (double)((const T *)w.weight)[p.label * w.weight_step] : 1;
  p.counts = true;
  return p;
}

// q[c], the weight of -log p[c] in the term.
template <typename T> MT_DEVICE double share_of(const loss_work &w, const place &p, int64_t c) {
  const T *probabilities = (const T *)p.probabilities;
  const double weight = w.weight ? (double)((const T *)w.weight)[c * w.weight_step] : 1;
  const double one = probabilities ? (double)probabilities[c * w.target.stride] : c == p.label;
  return weight * ((1 - w.smoothing) * one + w.smoothing / (double)w.x.length);
}

// factor d(term)/dx into g. line: the logits, or where `stored` exp(x - largest); own: the label's logit.
template <typename T, typename Team>
MT_DEVICE void gradient_of_line(const Team &team, const loss_work &w, const place &p, T *g, const T *line, int64_t step, T largest,
                                double sum, double factor, T own, bool stored) {
  const int64_t sg = w.gradient.stride;
  if (p.probabilities == NULL && w.smoothing == 0) {
    const double share = p.w * factor, exact = ((double)quick_exp((T)(own - largest)) / sum - 1) * share;
    const T scale = (T)(share / sum);
    team.each([&](int64_t c) {
      const T e = stored ? line[c * step] : quick_exp((T)(line[c * step] - largest));
      g[c * sg] = c == p.label ? (T)exact : e * scale;
    });
    return;
  }
  const double all = team.sum([&](int64_t c) { return share_of<T>(w, p, c); });
  team.each([&](int64_t c) {
    const double e = (double)(stored ? line[c * step] : quick_exp((T)(line[c * step] - largest)));
    g[c * sg] = (T)(factor * (all * e / sum - share_of<T>(w, p, c)));
  });
}

// ---- forward ------------------------------------------------------------------------------------------------------------

// The weights alone, for the mean's gradient.
template <typename T> static __global__ void loss_weigh(const loss_work w) {
  MT_EACH(o, w.x.outputs) {
    const place p = place_at<T>(w, o, true);
    w.weights[o] = p.counts ? p.m * p.w : 0;
  }
}

// One block. y, total: of the terms and weights; y may be NULL.
template <typename T> static __global__ void loss_finish(T *y, double *total, const double *terms, const double *weights, int64_t n,
                                                         int32_t mean) {
  const double weight = mt_exact_sum(weights, n, 1);
  const double sum = y ? mt_exact_sum(terms, n, 1) : 0;
  if (threadIdx.x == 0) {
    *total = weight;
    if (y) {
      *y = (T)(mean ? sum / weight : sum);
    }
  }
}

template <typename T, typename Team> static __global__ void loss_forward(const loss_work w) {
  MT_DYNAMIC_SHARED(T, tile);
  const Team team(w.x.length);
  for (int64_t o = Team::line(); o < w.x.outputs; o += Team::lines()) {
    const bool first = Team::rank() == 0;
    const place p = place_at<T>(w, o, first);
    T *g = w.gradient_data ? (T *)w.gradient_data + mt_line_at(w.gradient, o) : NULL;
    const T *x = (const T *)w.x_data + mt_line_at(w.x, o);
    double term = 0;
    bool hit = false;
    if (!p.counts) {
      if (g) {
        team.each([&](int64_t c) { g[c * w.gradient.stride] = 0; });
      }
    } else if (!w.logits) {
      term = p.w == 0 ? 0 : -p.m * p.w * (double)x[p.label * w.x.stride];
    } else {
      const bool plain = p.probabilities == NULL && w.smoothing == 0;
      const T *line = w.cached ? tile : x;
      const int64_t step = w.cached ? 1 : w.x.stride;
      const T largest = w.cached ? team.largest(-(T)INFINITY, [&](int64_t c) { return tile[c] = x[c * w.x.stride]; })
                                 : team.largest(-(T)INFINITY, [&](int64_t c) { return x[c * w.x.stride]; });
      const T own = w.labels ? line[p.label * step] : (T)0;
      if (w.hits && (largest == largest ? own == largest : own != own)) {  // argmax: the first of the largest, or the first NaN
        bool earlier = false;
        team.each([&](int64_t c) {
          const T v = line[c * step];
          earlier = earlier || (c < p.label && (largest == largest ? v == largest : v != v));
        });
        hit = !Team::any(earlier);
      }
      const double factor = g ? p.m * (w.mean ? 1 / *w.total : 1) : 0;
      const bool flat = factor == 0 || (plain && p.w == 0);
      const bool stores = w.cached && plain && !flat;
      Team::wait();  // own has been read, and the line may be the gradient
      const double sum = team.sum([&](int64_t c) {
        const T e = quick_exp((T)(line[c * step] - largest));
        if (stores) {
          tile[c] = e;
        }
        return e;
      });
      const double lse = (double)largest + log(sum);
      if (plain) {
        term = p.w == 0 ? 0 : p.w * (lse - (double)own);
      } else {
        term = team.sum([&](int64_t c) {
          const double q = share_of<T>(w, p, c);
          return q == 0 ? 0 : q * (lse - (double)line[c * step]);
        });
      }
      term *= p.m;
      if (w.state && first) {
        w.state[2 * o] = (double)largest;
        w.state[2 * o + 1] = sum;
      }
      if (g && flat) {
        team.each([&](int64_t c) { g[c * w.gradient.stride] = 0; });
      } else if (g) {
        gradient_of_line<T, Team>(team, w, p, g, line, step, largest, sum, factor, own, stores);
      }
    }
    if (first) {
      w.terms[o] = term;
      w.weights[o] = p.counts ? p.m * p.w : 0;
      if (w.none) {
        ((T *)w.y_data)[mt_line_at(w.y, o)] = (T)term;
      }
      if (hit) {
        atomicAdd(w.hits, 1ull);
      }
    }
  }
}

static loss_work work_of(mt_device *device, const mt_loss_plan *p, const mt_loss_classes *options) {
  loss_work w;
  memset(&w, 0, sizeof w);
  w.x = mt_lines_of(&p->x);
  w.gradient = mt_lines_of(&p->gradient);
  w.target = mt_lines_of(&p->target);
  w.mask = mt_lines_of(&p->mask);
  w.y = mt_lines_of(&p->dy);
  w.x_data = p->x_data;
  w.target_data = p->target_data;
  w.mask_data = p->mask_data;
  w.weight = p->weight;
  w.dy_data = p->dy_data;
  w.gradient_data = p->gradient_data;
  w.weight_step = p->weight_step;
  w.ignore_index = options->ignore_index;
  w.smoothing = options->label_smoothing;
  w.labels = p->labels;
  w.narrow = p->narrow;
  w.ignore = options->ignore;
  w.logits = options->logits;
  w.mean = options->reduction == MT_LOSS_MEAN;
  w.none = options->reduction == MT_LOSS_NONE;
  w.site = mt_fault_site(options->logits ? "cross_entropy: target" : "nll_loss: target");
  w.fault = device->fault;
  return w;
}

template <typename T> static int forward(mt_device *device, mt_tensor *y, double *total, loss_work w) {
  const int64_t n = w.x.outputs;
  const size_t line = (size_t)w.x.length * sizeof(T);
  T *none = NULL, *reduced = w.none ? none : (T *)y->data;
  if (w.gradient_data && w.mean) {
    MT_LAUNCH(device, loss_weigh<T>, mt_grid(device, n), MT_BLOCK, 0, w);
    MT_LAUNCH(device, loss_finish<T>, 1, MT_SLOTS, 0, none, total, (const double *)NULL, (const double *)w.weights, n, 1);
  }
  w.cached = w.logits && w.x.length > MT_SLOTS && (int64_t)line + 16384 <= device->shared_limit;
  if (w.cached && line > 32768) {
    MT_CUDA(cudaFuncSetAttribute(loss_forward<T, mt_block_team>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)line));
  }
  MT_LINES_LAUNCH(device, loss_forward, T, n, w.x.length, w.cached ? line : 0, w);
  MT_LAUNCH(device, loss_finish<T>, 1, MT_SLOTS, 0, reduced, total, (const double *)w.terms, (const double *)w.weights, n, w.mean);
  return MT_OK;
}

extern "C" int mt_loss_classes_forward(mt_tensor *y, mt_tensor *hits, mt_tensor *state, mt_tensor *gradient, mt_tensor *total,
                                       const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask,
                                       const mt_loss_classes *options) {
  mt_device *device;
  mt_loss_plan plan;
  mt_scratch numbers;
  const mt_tensor *const others[] = {y, hits, state, gradient, total, target, weight, mask};
  MT_TRY(mt_loss_check_classes_forward(&plan, y, hits, state, gradient, total, x, target, weight, mask, options));
  MT_TRY(mt_check_together(mt_loss_classes_name(options), x, 8, others));
  MT_TRY(mt_enter(&device, x));
  MT_TRY(numbers.take(device, 2 * MT_MAX(plan.x.outputs, 1), sizeof(double)));
  loss_work w = work_of(device, &plan, options);
  w.terms = (double *)numbers.data;
  w.weights = w.terms + plan.x.outputs;
  w.state = state ? (double *)state->data : NULL;
  w.total = (const double *)total->data;
  if (hits) {
    w.hits = (unsigned long long *)hits->data;
    MT_CUDA(cudaMemsetAsync(hits->data, 0, sizeof(int64_t), device->stream));
  }
  if (w.none) {
    mt_reduction lines;
    const mt_tensor wide = mt_loss_with_classes(y, x);
    MT_TRY(mt_reduction_plan("cross_entropy", &lines, NULL, &wide, 1 << (x->ndim > 1), false));
    w.y = mt_lines_of(&lines);
    w.y_data = y->data;
  }
  return MT_REAL_TEMPLATE(x->dtype, forward, device, y, (double *)total->data, w);
}

// ---- backward -----------------------------------------------------------------------------------------------------------

template <typename T, typename Team> static __global__ void loss_backward(const loss_work w) {
  const Team team(w.x.length);
  const double all = w.mean ? 1 / *w.total : 1;
  for (int64_t o = Team::line(); o < w.x.outputs; o += Team::lines()) {
    const place p = place_at<T>(w, o, Team::rank() == 0);
    const bool plain = p.probabilities == NULL && w.smoothing == 0;
    const double factor = p.m * all * (double)((const T *)w.dy_data)[w.none ? mt_line_at(w.y, o) : 0];
    T *g = (T *)w.gradient_data + mt_line_at(w.gradient, o);
    const T *x = (const T *)w.x_data + mt_line_at(w.x, o);
    if (!p.counts || factor == 0 || (plain && p.w == 0)) {
      team.each([&](int64_t c) { g[c * w.gradient.stride] = 0; });
    } else if (w.logits) {
      const T own = w.labels ? x[p.label * w.x.stride] : (T)0;
      Team::wait();  // it may be overwritten now
      gradient_of_line<T, Team>(team, w, p, g, x, w.x.stride, (T)w.state[2 * o], w.state[2 * o + 1], factor, own, false);
    } else {
      team.each([&](int64_t c) { g[c * w.gradient.stride] = c == p.label ? (T)(-p.w * factor) : (T)0; });
    }
  }
}

template <typename T> static int backward(mt_device *device, const loss_work w) {
  MT_LINES_LAUNCH(device, loss_backward, T, w.x.outputs, w.x.length, 0, w);
  return MT_OK;
}

extern "C" int mt_loss_classes_backward(mt_tensor *dx, const mt_tensor *dy, const mt_tensor *state, const mt_tensor *total,
                                        const mt_tensor *x, const mt_tensor *target, const mt_tensor *weight, const mt_tensor *mask,
                                        const mt_loss_classes *options) {
  mt_device *device;
  mt_loss_plan plan;
  const mt_tensor *const others[] = {dx, dy, state, total, target, weight, mask};
  MT_TRY(mt_loss_check_classes_backward(&plan, dx, dy, state, total, x, target, weight, mask, options));
  MT_TRY(mt_check_together(mt_loss_classes_name(options), x, 7, others));
  if (x->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_enter(&device, x));
  loss_work w = work_of(device, &plan, options);
  w.state = state ? (double *)state->data : NULL;
  w.total = (const double *)total->data;
  return MT_REAL_TEMPLATE(x->dtype, backward, device, w);
}

// A dy of 1 costs one look at it, by every thread.
template <typename T> static __global__ void loss_scale(const mt_walk walk, const T *one) {
  if (one != NULL && *one == 1) {
    return;
  }
  MT_EACH(i, walk.numel) {
    char *p[2];
    mt_walk_at(p, walk, i);
    T *g = (T *)p[0];
    *g = *g == 0 ? 0 : *g * *(const T *)p[1];
  }
}

extern "C" int mt_loss_classes_scale(mt_tensor *gradient, const mt_tensor *dy) {
  mt_device *device;
  mt_tensor wide;
  mt_walk walk;
  MT_TRY(mt_loss_check_classes_scale(&wide, gradient, dy));
  const mt_tensor *const t[] = {gradient, &wide};
  MT_TRY(mt_check_together("cross_entropy", gradient, 2, t));
  if (gradient->numel == 0) {
    return MT_OK;
  }
  MT_TRY(mt_walk_plan(&walk, 2, t));
  MT_TRY(mt_enter(&device, gradient));
  const void *one = dy->ndim == 0 ? dy->data : NULL;
  if (gradient->dtype == MT_FLOAT32) {
    MT_LAUNCH(device, loss_scale<float>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, (const float *)one);
  } else {
    MT_LAUNCH(device, loss_scale<double>, mt_grid(device, walk.numel), MT_BLOCK, 0, walk, (const double *)one);
  }
  return MT_OK;
}
