// masked_conv_weigh: windows whose taps and channels weigh |w| or w^2, see masked_conv_window.h.
//
// What the tap at a pixel adds to S follows from the pixel's kind: nothing where all channels are 0; the tap's weights summed over
// the channels, times the common value, where all are equal; else the sum over the channels of weight times value. Taps are added
// in order. Rounding is monotone, so S never exceeds K, and a window that is full has S = K to the bit. A window full of ones or
// of zeros has a result known beforehand; only the others are computed.
#ifdef NUMBER

// to[c * LANES + lane] = channel c of the lane's pixel
static void FN(gather)(double *to, const char *const *pixel, int64_t channels, int64_t step) {
  for (int64_t c = 0; c < channels; c++) {
    for (int lane = 0; lane < LANES; lane++) {
      to[c * LANES + lane] = (double)*(const NUMBER *)(pixel[lane] + c * step);
    }
  }
}

static double FN(value)(const char *p) { return (double)*(const NUMBER *)p; }

#else
#include "masked_conv_repeat.h"
#include "row.h"

// Filters, pixels and channels that are summed at a time, windows at a time.
enum { FILTERS = 64, LANES = 4, CHANNELS = 64, WINDOWS = 32, SPAN = MT_REPEAT_SPAN };

typedef struct {
  const mt_windows *c;
  bool unseen;                   // some filter has weight 0 in every window
  int64_t padded;                // filters of a mask group, rounded up to whole vectors
  double *merged;                // (groups, taps, padded)
  double *each;                  // (groups, taps, channels, padded)
  double *whole;                 // (groups, padded): K of a window inside the image
  int32_t results;               // 1, or 2: a mask and its ratio
  struct {
    int32_t finish;
    double *full, *empty;        // (groups, padded): the results of windows of ones and of zeros
    char *data;
    int64_t n, c, step[3];       // bytes
  } result[2];
} weights;

#define MT_SOURCE "masked_conv_weigh.c"
#include "five.h"

// ---- the sums of mixed pixels -----------------------------------------------------------------------------------------

typedef double vector __attribute__((vector_size(64), aligned(8), may_alias));
enum { WIDTH = 8 };

#define FOUR(each) each(0) each(1) each(2) each(3)
#define LOAD(l) \
  vector s##l = *(const vector *)(sums + l * ld), t##l = two ? *(const vector *)(sums + l * ld + WIDTH) : s##l;
#define STEP(l)       \
  s##l += u * v[l]; \
  if (two) {        \
    t##l += w2 * v[l]; \
  }
#define STORE(l)                        \
  *(vector *)(sums + l * ld) = s##l;    \
  if (two) {                            \
    *(vector *)(sums + l * ld + WIDTH) = t##l; \
  }

// sums[lane * ld + f] += values[c][lane] * w[c][f], channel by channel; one or two vectors of filters, `groups` times LANES pixels.
// So few weights stay in the nearest cache for all the pixels. Products of float32 values are exact in double, so contraction, where
// the machine has it, changes bits for float64 alone, and rounding stays monotone.
#define CONTRACTED __attribute__((optimize("fp-contract=fast")))

CONTRACTED MT_INLINE void mixed_vectors(double *sums, int64_t ld, const double *values, const double *w, int64_t channels,
                                        int64_t groups, int64_t padded, const bool two) {
  for (int64_t g = 0; g < groups; g++, sums += LANES * ld, values += LANES * CHANNELS) {
    FOUR(LOAD)
    for (int64_t c = 0; c < channels; c++) {
      const double *v = values + c * LANES;
      const vector u = *(const vector *)(w + c * padded), w2 = two ? *(const vector *)(w + c * padded + WIDTH) : u;
      FOUR(STEP)
    }
    FOUR(STORE)
  }
}

MT_CLONES_512 CONTRACTED static void mixed_sums(double *sums, int64_t ld, const double *values, const double *w, int64_t channels,
                                                int64_t groups, int64_t padded, int64_t filters) {
  for (; filters > WIDTH; filters -= 2 * WIDTH, sums += 2 * WIDTH, w += 2 * WIDTH) {
    mixed_vectors(sums, ld, values, w, channels, groups, padded, true);
  }
  if (filters > 0) {
    mixed_vectors(sums, ld, values, w, channels, groups, padded, false);
  }
}

#undef CONTRACTED
#undef FOUR
#undef LOAD
#undef STEP
#undef STORE

MT_CLONES static void add_scaled(double *S, const double *w, double v, int64_t n) {
  for (int64_t f = 0; f < n; f++) {
    S[f] += w[f] * v;
  }
}

MT_CLONES static void add(double *S, const double *w, int64_t n) {
  for (int64_t f = 0; f < n; f++) {
    S[f] += w[f];
  }
}

static bool has_zero(const double *K, int64_t n) {
  bool found = false;
  for (int64_t f = 0; f < n; f++) {
    found |= K[f] == 0;
  }
  return found;
}

// ---- windows ----------------------------------------------------------------------------------------------------------

// One row of windows of one group.
typedef struct {
  const weights *k;
  int64_t n, g, o[2];
  const char *mask;      // the sample's and group's first channel
  const uint8_t *kinds;  // the sample's
  char *to[2];           // the results of the row
  mt_repeats *repeats;   // or NULL
} window_row;

// The pixel under a tap of a window, or -1.
static int64_t pixel_at(const mt_windows *c, const int64_t *o, int64_t x, const int64_t *tap, int64_t at[3]) {
  const int64_t p[3] = {o[0], o[1], x};
  for (int32_t d = 0; d < 3; d++) {
    at[d] = p[d] * c->stride[d] + tap[d] * c->dilation[d] - c->pad[d];
    if (at[d] < 0 || at[d] >= c->in[d]) {
      return -1;
    }
  }
  return (at[0] * c->in[1] + at[1]) * c->in[2] + at[2];
}

// A window whose tap lies inside along the last axis, or -1.
static int64_t first_inside(const mt_windows *c, int64_t tap) {
  int64_t lo, hi;
  mt_window_inside(c, 2, tap, &lo, &hi);
  return lo < hi ? lo : -1;
}

static const char *pixel_address(const window_row *r, const int64_t at[3]) {
  const int64_t *step = r->k->c->step;
  return r->mask + at[0] * step[0] + at[1] * step[1] + at[2] * step[2];
}

// The unweighted coverage of one window: what a filter of zeros gets.
static double coverage(const window_row *r, int64_t x) {
  const mt_windows *c = r->k->c;
  double (*value)(const char *) = MT_FIVE_FN(c->dtype, value);
  double S = 0, K = 0;
  int64_t t[3], at[3];
  for (t[0] = c->from[0]; t[0] < c->to[0]; t[0]++) {
    for (t[1] = c->from[1]; t[1] < c->to[1]; t[1]++) {
      for (t[2] = c->from[2]; t[2] < c->to[2]; t[2]++) {
        const bool inside = pixel_at(c, r->o, x, t, at) >= 0;
        double sum = 0;
        for (int64_t i = 0; i < c->channels && inside; i++) {
          sum += value(pixel_address(r, at) + i * c->step_c);
        }
        S += sum;
        K += inside || c->border ? (double)c->channels : 0;
      }
    }
  }
  return K == 0 ? 0 : S / K;
}

// sums[i * n + f]: what tap t weighs at n filters from `first` on, at `count` mixed pixels.
static void sum_mixed(const window_row *r, double *sums, const char **pixel, int64_t count, int64_t t, int64_t first, int64_t n) {
  const weights *k = r->k;
  const mt_windows *c = k->c;
  const int64_t groups = (count + LANES - 1) / LANES;
  double values[WINDOWS * CHANNELS];
  memset(sums, 0, sizeof(double) * (size_t)(groups * LANES * n));
  for (int64_t i = count; i < groups * LANES; i++) {  // what fills the last group
    pixel[i] = pixel[0];
  }
  for (int64_t from = 0; from < c->channels && count > 0; from += CHANNELS) {
    const int64_t channels = MT_MIN(CHANNELS, c->channels - from);
    const double *w = k->each + (t * c->channels + from) * k->padded + first;
    for (int64_t g = 0; g < groups; g++) {
      MT_FIVE_FN(c->dtype, gather)(values + g * LANES * CHANNELS, pixel + g * LANES, channels, c->step_c);
    }
    for (int64_t i = 0; i < groups * LANES; i++) {
      pixel[i] += channels * c->step_c;
    }
    mixed_sums(sums, n, values, w, channels, groups, k->padded, n);
  }
}

// Adds tap t of the windows, whose mixed pixels these are.
static void add_mixed(const window_row *r, double *S, const char **pixel, const int64_t *window, int64_t count, int64_t windows,
                      int64_t t, int64_t first, int64_t n) {
  double sums[WINDOWS * FILTERS];
  if (count == windows && r->k->c->taps == 1) {  // the only tap
    sum_mixed(r, S, pixel, count, t, first, n);
    return;
  }
  sum_mixed(r, sums, pixel, count, t, first, n);
  for (int64_t i = 0; i < count; i++) {
    add(S + window[i] * n, sums + i * n, n);
  }
}

// Stores the results of windows, n numbers apart.
MT_CLONES static void store_windows(char *to, int64_t step, int64_t filter_step, const int64_t *x, const double *values, int64_t n,
                                    int64_t count, int64_t filters, bool single) {
  for (int64_t i = 0; i < count; i++) {
    char *p = to + x[i] * step;
    for (int64_t f = 0; f < filters; f++) {
      if (single) {
        *(float *)(p + f * filter_step) = (float)values[i * n + f];
      } else {
        *(double *)(p + f * filter_step) = values[i * n + f];
      }
    }
  }
}

// The windows x[0..count) of the row, whose sums are not known beforehand. known[i]: K is that of a window inside the image.
static void sum_windows(const window_row *r, const int64_t *x, const bool *known, int64_t count) {
  const weights *k = r->k;
  const mt_windows *c = k->c;
  double S[WINDOWS * FILTERS], K[WINDOWS * FILTERS], s[WINDOWS * FILTERS];
  for (int64_t first = 0; first < c->filters; first += FILTERS) {
    // Rows of S and K are n numbers apart.
    const int64_t filters = MT_MIN(FILTERS, c->filters - first), n = (filters + WIDTH - 1) / WIDTH * WIDTH;
    const double *whole = k->whole + r->g * k->padded + first;
    memset(S, 0, sizeof(double) * (size_t)(count * n));
    for (int64_t i = 0; i < count; i++) {
      memcpy(K + i * n, whole, sizeof(double) * (size_t)n);
      if (!known[i]) {
        memset(K + i * n, 0, sizeof(double) * (size_t)n);
      }
    }
    int64_t tap[3], t = r->g * c->taps, at[3];
    for (tap[0] = c->from[0]; tap[0] < c->to[0]; tap[0]++) {
      for (tap[1] = c->from[1]; tap[1] < c->to[1]; tap[1]++) {
        for (tap[2] = c->from[2]; tap[2] < c->to[2]; tap[2]++, t++) {
          const double *merged = k->merged + t * k->padded + first;
          const char *mixed[WINDOWS + LANES];
          int64_t window[WINDOWS + LANES], waiting = 0;
          const int64_t row = pixel_at(c, r->o, first_inside(c, tap[2]), tap, at), left = at[2];
          for (int64_t i = 0; i < count && row >= 0; i++) {
            at[2] = x[i] * c->stride[2] + tap[2] * c->dilation[2] - c->pad[2];
            if (at[2] < 0 || at[2] >= c->in[2]) {
              continue;
            }
            const uint8_t kind = r->kinds[row + at[2] - left];
            if (!known[i]) {
              add(K + i * n, merged, filters);
            }
            if (kind == MT_MASK_ONE) {
              add(S + i * n, merged, filters);
            } else if (kind == MT_MASK_EQUAL || (kind == MT_MASK_MIXED && c->channels == 1)) {
              add_scaled(S + i * n, merged, MT_FIVE_FN(c->dtype, value)(pixel_address(r, at)), filters);
            } else if (kind == MT_MASK_MIXED) {
              window[waiting] = i;
              mixed[waiting++] = pixel_address(r, at);
            }
          }
          add_mixed(r, S, mixed, window, waiting, count, t, first, n);
        }
      }
    }
    for (int32_t j = 0; j < k->results; j++) {
      const bool last = j + 1 == k->results;
      double *result = last ? S : memcpy(s, S, sizeof(double) * (size_t)(count * n));
      mt_window_finish(c, k->result[j].finish, result, K, count * n);
      if (k->result[j].finish == MT_FINISH_CONFIDENCE && !c->strict) {
        for (int64_t i = 0; i < count; i++) {
          if ((!known[i] || k->unseen) && has_zero(K + i * n, filters)) {
            const double plain = coverage(r, x[i]);
            for (int64_t f = 0; f < filters; f++) {
              result[i * n + f] = K[i * n + f] == 0 ? plain : result[i * n + f];
            }
          }
        }
      }
      const int64_t step = k->result[j].c;
      store_windows(r->to[j] + first * step, k->result[j].step[2], step, x, result, n, count, filters,
                    c->out_dtype == MT_FLOAT32);
    }
  }
}

// all[i]: every tap of window x + i that counts lies on ones; any[i]: some tap is not 0. Outside the image a tap that counts is 0.
MT_CLONES static void look_row(uint8_t *any, uint8_t *all, const uint8_t *kinds, int64_t n, int64_t step) {
  for (int64_t i = 0; i < n && step == 1; i++) {
    any[i] |= kinds[i];
    all[i] &= kinds[i] == MT_MASK_ONE;
  }
  for (int64_t i = 0; i < n && step != 1; i++) {
    any[i] |= kinds[i * step];
    all[i] &= kinds[i * step] == MT_MASK_ONE;
  }
}

// inside[i]: every tap of window x + i lies inside the image
static void look(const window_row *r, int64_t x, int64_t n, uint8_t *any, uint8_t *all, uint8_t *inside) {
  const mt_windows *c = r->k->c;
  memset(any, 0, (size_t)n);
  memset(all, 1, (size_t)n);
  memset(inside, 1, (size_t)n);
  for (int64_t a = c->from[0]; a < c->to[0]; a++) {
    const int64_t ia = r->o[0] * c->stride[0] + a * c->dilation[0] - c->pad[0];
    for (int64_t b = c->from[1]; b < c->to[1]; b++) {
      const int64_t ib = r->o[1] * c->stride[1] + b * c->dilation[1] - c->pad[1];
      const bool row = ia >= 0 && ia < c->in[0] && ib >= 0 && ib < c->in[1];
      for (int64_t e = c->from[2]; e < c->to[2]; e++) {
        int64_t lo, hi;
        mt_window_inside(c, 2, e, &lo, &hi);
        lo = row ? MT_MIN(MT_MAX(lo, x), x + n) : x + n;
        hi = MT_MAX(lo, MT_MIN(hi, x + n));
        memset(inside, 0, (size_t)(lo - x));
        memset(inside + (hi - x), 0, (size_t)(x + n - hi));
        if (hi > lo) {
          const int64_t from = (ia * c->in[1] + ib) * c->in[2] + lo * c->stride[2] + e * c->dilation[2] - c->pad[2];
          look_row(any + (lo - x), all + (lo - x), r->kinds + from, hi - lo, c->stride[2]);
        }
      }
    }
  }
}

// A result that is known beforehand; `ready` is where it was written before.
static void write_known(const window_row *r, int32_t which, int64_t x, const double *values, const char **ready) {
  const weights *k = r->k;
  const mt_windows *c = k->c;
  char *to = r->to[which] + x * k->result[which].step[2];
  if (*ready != NULL && k->result[which].c == c->out_size) {
    memcpy(to, *ready, (size_t)(c->filters * c->out_size));
  } else {
    mt_window_store(c, to, k->result[which].c, values, c->filters);
    *ready = to;
  }
}

// Windows whose results another one has, or will have when the waiting ones are summed.
typedef struct {
  int64_t count, x[SPAN];
  char *result[SPAN][2];
} copies;

static void copy_results(const window_row *r, const copies *list) {
  const weights *k = r->k;
  const mt_windows *c = k->c;
  for (int32_t j = 0; j < k->results; j++) {
    const int64_t step = k->result[j].c, size = c->out_size;
    for (int64_t i = 0; i < list->count; i++) {
      char *to = r->to[j] + list->x[i] * k->result[j].step[2];
      const char *from = list->result[i][j];
      if (step == size && c->filters * size == 16) {
        memcpy(to, from, 16);
      } else if (step == size) {
        memcpy(to, from, (size_t)(c->filters * size));
      } else {
        for (int64_t f = 0; f < c->filters; f++) memcpy(to + f * step, from + f * step, (size_t)size);
      }
    }
  }
}

// The keys of the windows [x, x + n) of a row whose only tap lies inside the image; false where there are no such rows.
static bool find_keys(const window_row *r, int64_t x, int64_t n, uint64_t *key, const char **pixel, bool *exact) {
  const mt_windows *c = r->k->c;
  int64_t at[3], lo, hi;
  mt_window_inside(c, 2, c->from[2], &lo, &hi);
  lo = MT_MAX(lo, x);
  hi = MT_MIN(hi, x + n);
  if (r->repeats == NULL || r->repeats->off || hi <= lo || pixel_at(c, r->o, lo, c->from, at) < 0) {
    return false;
  }
  const int64_t step = c->stride[2] * c->step[2];
  *pixel = pixel_address(r, at) - (lo - x) * step;
  *exact = mt_repeat_keys(c, key + (lo - x), *pixel + (lo - x) * step, hi - lo, step);
  return true;
}

static void weigh_row(const window_row *r) {
  const weights *k = r->k;
  const mt_windows *c = k->c;
  const char *ready[2][2] = {{NULL, NULL}, {NULL, NULL}}, *pixel = NULL;
  char *last[2] = {NULL, NULL};
  uint8_t any[SPAN], all[SPAN], inside[SPAN];
  uint64_t key[SPAN];
  int64_t list[WINDOWS], waiting = 0;
  bool known[WINDOWS], ratio = false, exact = false;
  copies repeated;
  for (int32_t i = 0; i < k->results; i++) {
    ratio = ratio || k->result[i].finish != MT_FINISH_CONFIDENCE;
  }
  for (int64_t first = 0; first < c->out[2]; first += SPAN) {
    const int64_t n = MT_MIN(SPAN, c->out[2] - first);
    look(r, first, n, any, all, inside);
    const bool keys = find_keys(r, first, n, key, &pixel, &exact);
    int64_t before = repeated.count = 0;  // before: the last one that was looked up, plus 1; its results come to `last`
    for (int64_t i = 0; i < n; i++) {
      const bool fixed = c->border || inside[i];
      // Without a border, what lies outside is in neither sum: nothing valid is 0 for every K.
      const bool is_full = all[i] && inside[i], is_empty = !any[i] && (fixed || !ratio || c->eps == 0);
      if (is_full || is_empty) {
        for (int32_t j = 0; j < k->results; j++) {
          const double *values = (is_empty ? k->result[j].empty : k->result[j].full) + r->g * k->padded;
          write_known(r, j, first + i, values, &ready[j][is_empty]);
        }
        continue;
      }
      if (keys && inside[i] && !r->repeats->off) {
        char *const own[2] = {r->to[0] + (first + i) * k->result[0].step[2],
                              k->results > 1 ? r->to[1] + (first + i) * k->result[1].step[2] : NULL};
        const bool run = exact && i > 0 && before == i && key[i - 1] == key[i];
        char *const *same = run ? last : mt_repeat_find(r->repeats, c, key[i], exact, pixel + i * c->stride[2] * c->step[2], own);
        before = i + 1;
        memmove(last, same ? same : own, sizeof last);
        if (same != NULL) {
          repeated.x[repeated.count] = first + i;
          memcpy(repeated.result[repeated.count++], same, sizeof repeated.result[0]);
          continue;
        }
      }
      known[waiting] = fixed;
      list[waiting++] = first + i;
      if (waiting == WINDOWS) {
        sum_windows(r, list, known, waiting);
        waiting = 0;
      }
    }
    if (repeated.count > 0) {
      sum_windows(r, list, known, waiting);
      waiting = 0;
      copy_results(r, &repeated);
    }
  }
  sum_windows(r, list, known, waiting);
}

static void weigh_rows(void *context, int64_t begin, int64_t end) {
  const weights *k = context;
  const mt_windows *c = k->c;
  mt_repeats repeats;
  const bool repeat = c->taps == 1 && c->groups == 1 && c->channels > 1 && k->each != NULL;
  if (repeat) {
    memset(&repeats, 0, sizeof repeats);
  }
  for (int64_t i = begin; i < end; i++) {
    const int64_t ob = i % c->out[1], oa = i / c->out[1] % c->out[0], n = i / c->out[1] / c->out[0];
    for (int64_t g = 0; g < c->groups; g++) {
      window_row r = {k, n, g, {oa, ob}, c->mask + n * c->step_n + g * c->channels * c->step_c, c->kinds + n * c->pixels,
                      {NULL, NULL}, repeat ? &repeats : NULL};
      for (int32_t j = 0; j < k->results; j++) {
        r.to[j] = k->result[j].data + n * k->result[j].n + g * c->filters * k->result[j].c + oa * k->result[j].step[0] +
                  ob * k->result[j].step[1];
      }
      weigh_row(&r);
    }
  }
}

// The results of windows of ones and of zeros.
static void prepare(weights *k) {
  const mt_windows *c = k->c;
  for (int64_t g = 0; g < c->groups; g++) {
    double *whole = k->whole + g * k->padded;
    memset(whole, 0, sizeof(double) * (size_t)k->padded);
    for (int64_t t = 0; t < c->taps; t++) {
      add(whole, k->merged + (g * c->taps + t) * k->padded, c->filters);
    }
    k->unseen = k->unseen || has_zero(whole, c->filters);
    for (int32_t j = 0; j < k->results; j++) {
      double *full = k->result[j].full + g * k->padded, *empty = k->result[j].empty + g * k->padded;
      memset(empty, 0, sizeof(double) * (size_t)k->padded);
      memcpy(full, whole, sizeof(double) * (size_t)k->padded);
      mt_window_finish(c, k->result[j].finish, full, whole, c->filters);
      mt_window_finish(c, k->result[j].finish, empty, whole, c->filters);
      for (int64_t f = 0; f < c->filters && k->result[j].finish == MT_FINISH_CONFIDENCE; f++) {
        full[f] = whole[f] != 0 ? full[f] : c->strict ? 0 : 1;
        empty[f] = whole[f] != 0 ? empty[f] : 0;
      }
    }
  }
}

int mt_window_weigh(mt_windows *c, const mt_tensor *w, bool squares) {
  weights k = {.c = c, .results = c->ratio == NULL ? 1 : 2};
  k.result[0].finish = c->finish;
  k.result[0].data = c->result;
  k.result[0].n = c->out_n;
  k.result[0].c = c->out_c;
  memcpy(k.result[0].step, c->out_step, sizeof c->out_step);
  if (c->ratio != NULL) {
    const mt_tensor *q = c->ratio;
    k.result[1].finish = MT_FINISH_RATIO;
    k.result[1].data = q->data;
    k.result[1].n = q->stride[0] * c->out_size;
    k.result[1].c = q->stride[1] * c->out_size;
    for (int32_t d = 2; d < q->ndim; d++) {
      k.result[1].step[d + 3 - q->ndim] = q->stride[d] * c->out_size;
    }
  }
  k.padded = (c->filters + WIDTH - 1) / WIDTH * WIDTH;
  bool mixed = false;
  for (int64_t p = 0; p < c->N * c->pixels && c->channels > 1 && !mixed; p++) {
    mixed = c->kinds[p] == MT_MASK_MIXED;
  }
  const int64_t results = c->groups * k.padded;
  k.merged = mt_alloc_array(MT_MAX(1, results * c->taps), sizeof(double));
  k.each = mixed ? mt_alloc_array(MT_MAX(1, results * c->taps * c->channels), sizeof(double)) : NULL;
  k.whole = mt_alloc_array(MT_MAX(1, (1 + 2 * k.results) * results), sizeof(double));
  int status = k.merged == NULL || k.whole == NULL || (mixed && k.each == NULL) ? MT_ERROR_MEMORY : MT_OK;
  if (status == MT_OK) {
    for (int32_t j = 0; j < k.results; j++) {
      k.result[j].full = k.whole + (1 + 2 * j) * results;
      k.result[j].empty = k.result[j].full + results;
    }
    for (int64_t i = 0; mixed && i < c->groups * c->taps * c->channels; i++) {  // what fills the last vector
      memset(k.each + i * k.padded + c->filters, 0, sizeof(double) * (size_t)(k.padded - c->filters));
    }
    status = mt_window_norms(c, w, squares, k.padded, k.merged, k.each);
  }
  if (status == MT_OK) {
    prepare(&k);
    status = mt_parallel(c->N * c->out[0] * c->out[1], MT_MAX(1, 16384 / MT_MAX(1, c->out[2] * w->shape[0])), weigh_rows, &k);
  }
  mt_free(k.merged);
  mt_free(k.each);
  mt_free(k.whole);
  return status;
}

#endif
