// mask_scan: what a mask holds, see mask.h.
#ifdef NUMBER

// Elements of one row other than 0, equal to 1, and outside 0..1.
MT_INLINE void FN(tally_steps)(mask_tally *t, const char *m, int64_t step, int64_t n) {
  int64_t nonzero = 0, ones = 0, bad = 0;
  for (int64_t i = 0; i < n; i++) {
    const NUMBER v = *(const NUMBER *)(m + i * step);
    nonzero += v != 0;
    ones += v == 1;
    bad += !(v >= 0 && v <= 1);
  }
  t->nonzero += nonzero;
  t->ones += ones;
  t->bad += bad;
}

MT_CLONES static void FN(tally_row)(char *const *p, const int64_t *step, int64_t n, const void *context) {
  mask_tally *t = *(mask_tally *const *)context;
  if (step[0] == sizeof(NUMBER)) {
    FN(tally_steps)(t, p[0], sizeof(NUMBER), n);
  } else {
    FN(tally_steps)(t, p[0], step[0], n);
  }
}

MT_INLINE void FN(kind_planes)(uint8_t *kind, const char *row, int64_t n, int64_t step, int64_t channels, int64_t step_c) {
  for (int64_t i = 0; i < n; i++) {
    const NUMBER first = *(const NUMBER *)(row + i * step);
    kind[i] = (uint8_t)(!(first >= 0 && first <= 1) ? KIND_BAD : first == 0 ? MT_MASK_ZERO : first == 1 ? MT_MASK_ONE : MT_MASK_EQUAL);
  }
  for (int64_t c = 1; c < channels; c++) {
    const char *m = row + c * step_c;
    for (int64_t i = 0; i < n; i++) {
      const NUMBER first = *(const NUMBER *)(row + i * step), v = *(const NUMBER *)(m + i * step);
      const uint8_t now = (uint8_t)(!((v >= 0) & (v <= 1)) ? KIND_BAD : v != first ? MT_MASK_MIXED : 0);
      kind[i] = now > kind[i] ? now : kind[i];
    }
  }
}

// flag[e] of all elements but the last of a block: does the next one differ, is this one out of range?
MT_CLONES static void FN(flag_steps)(uint8_t *restrict flag, const NUMBER *restrict m, int64_t n) {
  for (int64_t e = 0; e + 1 < n; e++) {
    flag[e] = (uint8_t)((m[e] != m[e + 1] ? DIFFERS : 0) | (!((m[e] >= 0) & (m[e] <= 1)) ? BAD : 0));
  }
  flag[n - 1] = !(m[n - 1] >= 0 && m[n - 1] <= 1) ? BAD : 0;
}

// Pixels of a few channels, a multiple of 4, without gaps: all elements in one go, four flags of a pixel at a time.
static void FN(kind_pixels)(uint8_t *kind, const NUMBER *m, int64_t n, int64_t channels) {
  uint8_t flag[FLAGS];
  uint32_t last;
  memcpy(&last, (const uint8_t[4]){DIFFERS | BAD, DIFFERS | BAD, DIFFERS | BAD, BAD}, 4);  // what follows is another pixel
  for (int64_t some; n > 0; n -= some, kind += some, m += some * channels) {
    some = MT_MIN(n, FLAGS / channels);
    FN(flag_steps)(flag, m, some * channels);
    for (int64_t i = 0; i < some; i++) {
      const uint8_t *own = flag + i * channels;
      uint32_t any = 0, word;
      for (int64_t c = 0; c < channels; c += 4) {
        memcpy(&word, own + c, 4);
        any |= c + 4 == channels ? word & last : word;
      }
      const NUMBER first = m[i * channels];
      kind[i] = (uint8_t)(any == 0                  ? first == 0 ? MT_MASK_ZERO : first == 1 ? MT_MASK_ONE : MT_MASK_EQUAL
                          : any & 0x01010101u * BAD ? KIND_BAD
                                                    : MT_MASK_MIXED);
    }
  }
}

// The kinds of one row of positions. Each channel is compared with the first, so the order of the loops does not matter.
MT_CLONES static void FN(kind_row)(uint8_t *kind, const char *row, int64_t n, int64_t step, int64_t channels, int64_t step_c) {
  if (step_c == sizeof(NUMBER) && step == channels * step_c && channels % 4 == 0 && channels > 0 && channels <= FLAGS / 64) {
    FN(kind_pixels)(kind, (const NUMBER *)row, n, channels);
  } else if (channels > 1 && step_c == sizeof(NUMBER)) {
    for (int64_t i = 0; i < n; i++) {
      const NUMBER *m = (const NUMBER *)(row + i * step), first = m[0];
      int differ = 0, bad = !(first >= 0 && first <= 1);
      for (int64_t c = 1; c < channels; c++) {
        differ |= m[c] != first;
        bad |= !((m[c] >= 0) & (m[c] <= 1));
      }
      kind[i] = (uint8_t)(bad ? KIND_BAD : differ ? MT_MASK_MIXED : first == 0 ? MT_MASK_ZERO : first == 1 ? MT_MASK_ONE : MT_MASK_EQUAL);
    }
  } else if (step == sizeof(NUMBER)) {
    FN(kind_planes)(kind, row, n, sizeof(NUMBER), channels, step_c);
  } else {
    FN(kind_planes)(kind, row, n, step, channels, step_c);
  }
}

static double FN(at)(const char *m) { return (double)*(const NUMBER *)m; }

#else
#include "loop.h"
#include "mask_check.h"
#include "row.h"

enum { KIND_BAD = MT_MASK_KINDS, DIFFERS = 1, BAD = 2, FLAGS = 2048, SAMPLES = 8, TOGETHER = 1 << 18 };
typedef struct {
  int64_t nonzero, ones, bad;
} mask_tally;

#define MT_SOURCE "mask_scan.c"
#include "five.h"

// Reads a mask element by element, in row-major order of a sample.
typedef struct {
  const mt_tensor *mask;
  double (*at)(const char *);
  int64_t size;
} mask_walk;

static double element(const mask_walk *k, int64_t sample, int64_t index) {
  const mt_tensor *m = k->mask;
  int64_t offset = sample * m->stride[0];
  for (int32_t d = m->ndim - 1; d > 0; d--) {
    offset += index % m->shape[d] * m->stride[d];
    index /= m->shape[d];
  }
  return k->at((const char *)m->data + offset * k->size);
}

static mask_walk walk(const mt_tensor *mask) {
  return (mask_walk){mask, MT_FIVE_FN(mask->dtype, at), mt_dtype_size(mask->dtype)};
}

// The error of the first value outside 0..1.
static int fail_value(const mt_tensor *mask) {
  mask_walk k = walk(mask);
  int64_t per_sample = mask->numel / mask->shape[0];
  for (int64_t i = 0; i < mask->numel; i++) {
    double v = element(&k, i / per_sample, i % per_sample);
    if (!(v >= 0 && v <= 1)) {
      return mt_mask_refuse_value(mask, v, i / per_sample);
    }
  }
  return mt_fail(MT_ERROR_INTERNAL, "mask: values changed while they were read");
}

// ---- summary ----------------------------------------------------------------------------------------------------

enum { TALLY_GRAIN = 65536 };

typedef struct {
  const mt_loop *loop;
  mt_loop_row row;
  mask_tally *partial;
} tally_task;

static void tally_range(void *context, int64_t begin, int64_t end) {
  const tally_task *task = context;
  mask_tally *to = &task->partial[begin / TALLY_GRAIN];
  *to = (mask_tally){0};
  mt_loop_range(task->loop, begin, end, task->row, &to);
}

int mt_mask_summary(mt_tensor *valid, mt_tensor *sum, int32_t *all_ones, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_summary(valid, sum, mask));
  int64_t N = mask->shape[0], per_sample = N > 0 ? mask->numel / N : 0;
  mt_tensor sample = *mask;
  sample.shape[0] = 1;
  sample.numel = per_sample;
  int64_t chunks = (per_sample + TALLY_GRAIN - 1) / TALLY_GRAIN;
  MT_SCRATCH(mask_tally, partial, MT_MAX(1, chunks));
  if (partial == NULL) {
    return MT_ERROR_MEMORY;
  }
  mask_walk k = walk(mask);
  int status = MT_OK;
  *all_ones = 1;
  for (int64_t n = 0; n < N && status == MT_OK; n++) {
    mt_loop loop;
    sample.data = (char *)mask->data + n * mask->stride[0] * k.size;
    status = mt_loop_plan(&loop, 1, (const mt_tensor *const[]){&sample});
    tally_task task = {&loop, MT_FIVE_FN(mask->dtype, tally_row), partial};
    status = status == MT_OK ? mt_parallel(per_sample, TALLY_GRAIN, tally_range, &task) : status;
    mask_tally total = {0};
    for (int64_t i = 0; i < chunks && status == MT_OK; i++) {
      total.nonzero += partial[i].nonzero;
      total.ones += partial[i].ones;
      total.bad += partial[i].bad;
    }
    if (status == MT_OK && total.bad > 0) {
      status = fail_value(mask);
    }
    *all_ones &= total.ones == per_sample;
    ((double *)valid->data)[n * valid->stride[0]] = (double)total.nonzero;
    if (sum != NULL && status == MT_OK) {
      double s = (double)total.ones;  // exact in any order
      for (int64_t i = 0; i < per_sample && total.nonzero != total.ones; i++) {
        s = (i == 0 ? 0 : s) + element(&k, n, i);
      }
      ((double *)sum->data)[n * sum->stride[0]] = s;
    }
  }
  mt_free(partial);
  return status;
}

// ---- kinds ------------------------------------------------------------------------------------------------------

typedef void (*kind_row)(uint8_t *kind, const char *row, int64_t n, int64_t step, int64_t channels, int64_t step_c);

typedef struct {
  const mt_tensor *mask;
  kind_row row;
  uint8_t *kinds;
  int64_t size[3], step[3], step_n, step_c;  // bytes
} kind_task;

static void kind_range(void *context, int64_t begin, int64_t end) {
  const kind_task *task = context;
  const int64_t *size = task->size;
  for (int64_t r = begin; r < end; r++) {
    int64_t b = r % size[1], a = r / size[1] % size[0], n = r / size[1] / size[0];
    task->row(task->kinds + r * size[2],
              (const char *)task->mask->data + n * task->step_n + a * task->step[0] + b * task->step[1], size[2],
              task->step[2], task->mask->shape[1], task->step_c);
  }
}

MT_CLONES static void count_kinds(int64_t *counts, uint8_t *valid, const uint8_t *kinds, int64_t n) {
  int64_t zeros = 0, ones = 0, equal = 0, mixed = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint8_t kind = kinds[i];
    valid[i] = kind != MT_MASK_ZERO;
    zeros += kind == MT_MASK_ZERO;
    ones += kind == MT_MASK_ONE;
    equal += kind == MT_MASK_EQUAL;
    mixed += kind == MT_MASK_MIXED;
  }
  counts[MT_MASK_ZERO] = zeros;
  counts[MT_MASK_ONE] = ones;
  counts[MT_MASK_EQUAL] = equal;
  counts[MT_MASK_MIXED] = mixed;
}

int mt_mask_kinds(mt_tensor *valid, mt_tensor *kinds, int64_t *counts, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_kinds(valid, kinds, mask));
  int64_t size = mt_dtype_size(mask->dtype), channels = mask->shape[1], positions = valid->numel;
  kind_task task = {mask, MT_FIVE_FN(mask->dtype, kind_row), kinds->data, {1, 1, 1}, {0, 0, 0}, 0, 0};
  task.step_n = mask->stride[0] * size;
  task.step_c = mask->stride[1] * size;
  for (int32_t d = 2, a = 5 - mask->ndim; d < mask->ndim; d++, a++) {
    task.size[a] = mask->shape[d];
    task.step[a] = mask->stride[d] * size;
  }
  // Rows that follow each other are one, since short ones are slow; but enough must be left for all threads.
  for (int a = 1; a >= 0; a--) {
    if (task.size[a] > 1 && (task.step[a] != task.size[2] * task.step[2] || (mask->shape[0] < SAMPLES && mask->numel > TOGETHER))) {
      break;
    }
    task.size[2] *= task.size[a];
    task.size[a] = 1;
  }
  if (channels == 0) {
    memset(kinds->data, 0, (size_t)positions);
  } else if (positions > 0) {
    int64_t rows = positions / task.size[2];
    MT_TRY(mt_parallel(rows, MT_MAX(1, 32768 / (task.size[2] * channels)), kind_range, &task));
  }
  int64_t unwanted[MT_MASK_KINDS];
  counts = counts ? counts : unwanted;
  count_kinds(counts, valid->data, kinds->data, positions);
  return counts[0] + counts[1] + counts[2] + counts[3] == positions ? MT_OK : fail_value(mask);
}

#endif
