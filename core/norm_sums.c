// norm_sums: see norm_sums.h. The rows themselves are in norm_rows.c.
#include "norm_sums.h"

#include "tile.h"
#include "wide.h"

// A run of dims that is walked in row-major order: sizes, and steps in bytes per operand; steps in cells for the target.
typedef struct walk {
  int32_t ndim;
  int64_t count, shape[MT_MAX_DIMS], step[NORM_OPERANDS][MT_MAX_DIMS], cell[MT_MAX_DIMS];
} walk;

typedef struct plan {
  norm_row row;
  int32_t operands;
  char *base[NORM_OPERANDS];
  walk outer, rows;                                // kept dims but the lane dim; summed dims but the last
  int64_t group;                                   // rows under one index of the first summed dim
  int64_t n, step[NORM_OPERANDS];                  // the row
  int64_t lanes, lane[NORM_OPERANDS], lane_cell;   // neighbouring cells
  int64_t block, blocks;                           // lanes per block, blocks along the lane dim
  bool by_group;                                   // what `partial` holds
  double a;
  double *sums, *partial;
} plan;

static void walk_add(walk *w, int32_t operands, const mt_tensor *const *t, int32_t d, int64_t cell) {
  const int32_t k = w->ndim++;
  w->shape[k] = t[0]->shape[d];
  w->count *= t[0]->shape[d];
  w->cell[k] = cell;
  for (int32_t i = 0; i < operands; i++) {
    w->step[i][k] = t[i]->shape[d] == 1 ? 0 : t[i]->stride[d] * mt_dtype_size(t[i]->dtype);
  }
}

static int64_t walk_to(const walk *w, int32_t operands, char **p, int64_t index) {
  int64_t cell = 0;
  for (int32_t k = w->ndim - 1; k >= 0; k--) {
    const int64_t i = index % w->shape[k];
    index /= w->shape[k];
    cell += i * w->cell[k];
    for (int32_t o = 0; o < operands; o++) {
      p[o] += i * w->step[o][k];
    }
  }
  return cell;
}

static void plan_make(plan *s, int32_t operands, const mt_tensor *const *t, const bool *kept) {
  const mt_tensor *x = t[0];
  int64_t cell[MT_MAX_DIMS], cells = 1;
  int32_t lane = -1, inner = -1;
  for (int32_t d = x->ndim - 1; d >= 0; d--) {
    cell[d] = cells;
    if (kept[d]) {
      cells *= x->shape[d];
      if (x->shape[d] > 1 && (lane < 0 || x->stride[d] < x->stride[lane])) {
        lane = d;
      }
    } else if (inner < 0) {
      inner = d;
    }
  }
  s->operands = operands;
  s->outer.count = s->rows.count = 1;
  s->n = inner < 0 ? 1 : x->shape[inner];
  s->lanes = lane < 0 ? 1 : x->shape[lane];
  s->lane_cell = lane < 0 ? 0 : cell[lane];
  for (int32_t k = 0; k < operands; k++) {
    s->base[k] = t[k]->data;
    const int64_t size = mt_dtype_size(t[k]->dtype);
    s->step[k] = inner < 0 || t[k]->shape[inner] == 1 ? 0 : t[k]->stride[inner] * size;
    s->lane[k] = lane < 0 || t[k]->shape[lane] == 1 ? 0 : t[k]->stride[lane] * size;
  }
  for (int32_t d = 0; d < x->ndim; d++) {
    if (kept[d] && d != lane) {
      walk_add(&s->outer, operands, t, d, cell[d]);
    } else if (!kept[d] && d != inner) {
      walk_add(&s->rows, operands, t, d, 0);
    }
  }
  s->group = s->rows.ndim > 0 ? s->rows.count / s->rows.shape[0] : 1;
  // Far-apart cells: few streams at a time; neighbours in memory: whole cache lines.
  s->block = MT_MIN(s->lanes, lane >= 0 && x->stride[lane] == 1 ? NORM_LANES : 8);
  s->blocks = (s->lanes + s->block - 1) / s->block;
}

// The first elements of a block of cells; returns its number of lanes.
static int64_t seek(const plan *s, int64_t block, char **p, int64_t *cell) {
  const int64_t first = block % s->blocks * s->block;
  memcpy(p, s->base, sizeof(s->base));
  *cell = walk_to(&s->outer, s->operands, p, block / s->blocks) + first * s->lane_cell;
  for (int32_t k = 0; k < s->operands; k++) {
    p[k] += first * s->lane[k];
  }
  return MT_MIN(s->block, s->lanes - first);
}

static void row_sum(const plan *s, double *sum, char *const *p, int64_t row, int64_t lanes) {
  char *q[NORM_OPERANDS];
  memcpy(q, p, sizeof(q));
  walk_to(&s->rows, s->operands, q, row);
  for (int32_t w = 0; w < NORM_WIDTH; w++) {
    memset(sum + w * NORM_LANES, 0, sizeof(double) * (size_t)lanes);
  }
  s->row(sum, q, s->step, s->lane, s->n, lanes, s->a);
}

static void store(const plan *s, const double *total, int64_t cell, int64_t lanes) {
  for (int64_t l = 0; l < lanes; l++) {
    for (int32_t w = 0; w < NORM_WIDTH; w++) {
      s->sums[(cell + l * s->lane_cell) * NORM_WIDTH + w] = total[w * NORM_LANES + l];
    }
  }
}

static void add_sums(double *total, const double *sum, int64_t lanes) {
  for (int32_t w = 0; w < NORM_WIDTH; w++) {
    for (int64_t l = 0; l < lanes; l++) {
      total[w * NORM_LANES + l] += sum[w * NORM_LANES + l];
    }
  }
}

// Whole blocks of cells, all their rows.
static void run_blocks(void *context, int64_t begin, int64_t end) {
  const plan *s = context;
  for (int64_t b = begin; b < end; b++) {
    double total[NORM_WIDTH * NORM_LANES] = {0}, group[NORM_WIDTH * NORM_LANES], sum[NORM_WIDTH * NORM_LANES];
    char *p[NORM_OPERANDS];
    int64_t cell, lanes = seek(s, b, p, &cell);
    for (int64_t r = 0; r < s->rows.count; r++) {
      if (r % s->group == 0) {
        row_sum(s, group, p, r, lanes);
      } else {
        row_sum(s, sum, p, r, lanes);
        add_sums(group, sum, lanes);
      }
      if ((r + 1) % s->group == 0) {
        add_sums(total, group, lanes);
      }
    }
    store(s, total, cell, lanes);
  }
}

// Few cells: the sums of groups, or where those are few of rows, are stored, and added up afterwards in the same order. A row is
// read for all blocks before the next one, as it lies in memory.
static void run_parts(void *context, int64_t begin, int64_t end) {
  const plan *s = context;
  const int64_t blocks = s->outer.count * s->blocks, rows = s->by_group ? s->group : 1;
  for (int64_t r = begin * rows; r < end * rows; r++) {
    double *part = s->partial + r / rows * blocks * NORM_WIDTH * NORM_LANES, sum[NORM_WIDTH * NORM_LANES];
    for (int64_t b = 0; b < blocks; b++, part += NORM_WIDTH * NORM_LANES) {
      char *p[NORM_OPERANDS];
      int64_t cell, lanes = seek(s, b, p, &cell);
      if (r % rows == 0) {
        row_sum(s, part, p, r, lanes);
      } else {
        row_sum(s, sum, p, r, lanes);
        add_sums(part, sum, lanes);
      }
    }
  }
}

static void add_partial(const plan *s) {
  const int64_t blocks = s->outer.count * s->blocks, step = blocks * NORM_WIDTH * NORM_LANES;
  const int64_t groups = s->rows.count / s->group, parts = s->by_group ? 1 : s->group;
  for (int64_t b = 0; b < blocks; b++) {
    double total[NORM_WIDTH * NORM_LANES] = {0};
    char *p[NORM_OPERANDS];
    int64_t cell, lanes = seek(s, b, p, &cell);
    for (int64_t g = 0; g < groups; g++) {
      double *sum = s->partial + g * parts * step + b * NORM_WIDTH * NORM_LANES;
      for (int64_t k = 1; k < parts; k++) {
        add_sums(sum, sum + k * step, lanes);
      }
      add_sums(total, sum, lanes);
    }
    store(s, total, cell, lanes);
  }
}

enum { GRAIN = 16384, ENOUGH_BLOCKS = 16 };

// The rows know no bfloat16: the sums of float32 copies. What matters has ways of its own (norm_pixel_sums.c, norm_lines.c).
static int sums_of_copies(double *sums, norm_row row, int32_t operands, const mt_tensor *const *t, const bool *kept, double a, bool alone) {
  mt_wide wide = {0};
  const mt_tensor *copy[NORM_OPERANDS];
  for (int32_t k = 0; k < operands; k++) {
    copy[k] = mt_wide_input(&wide, t[k]);
  }
  return mt_wide_end(&wide, wide.status ? wide.status : norm_sums(sums, row, operands, copy, kept, a, alone));
}

int norm_sums(double *sums, norm_row row, int32_t operands, const mt_tensor *const *t, const bool *kept, double a, bool alone) {
  plan s = {.row = row, .sums = sums, .a = a};
  if (t[0]->numel == 0) {
    int64_t cells = 1;
    for (int32_t d = 0; d < t[0]->ndim; d++) {
      cells *= kept[d] ? t[0]->shape[d] : 1;
    }
    memset(sums, 0, sizeof(double) * NORM_WIDTH * (size_t)cells);
    return MT_OK;
  }
  for (int32_t k = 0; k < operands; k++) {
    if (t[k]->dtype == MT_BFLOAT16) {
      return sums_of_copies(sums, row, operands, t, kept, a, alone);
    }
  }
  plan_make(&s, operands, t, kept);
  const int64_t blocks = s.outer.count * s.blocks, work = s.n * s.block;
  if (alone || blocks >= ENOUGH_BLOCKS || s.rows.count == 1 || t[0]->numel <= GRAIN) {
    return mt_parallel(blocks, MT_MAX(1, GRAIN / (work * s.rows.count)), run_blocks, &s);
  }
  s.by_group = s.rows.count / s.group >= ENOUGH_BLOCKS;
  const int64_t rows = s.by_group ? s.group : 1, parts = s.rows.count / rows;
  s.partial = mt_alloc_array(parts * blocks, (int64_t)sizeof(double) * NORM_WIDTH * NORM_LANES);
  if (s.partial == NULL) {
    return MT_ERROR_MEMORY;
  }
  const int status = mt_parallel(parts, MT_MAX(1, GRAIN / (work * rows * blocks)), run_parts, &s);
  if (status == MT_OK) {
    add_partial(&s);
  }
  mt_free(s.partial);
  return status;
}

// Rows of float32 for bfloat16, too.
#define TYPE MT_TILE_TYPE(mt_computed(dtype))
#define PICK(name) (mt_tile_get()->norm->name[masked][TYPE])
norm_row norm_row_moments(int32_t dtype, bool masked) { return PICK(moments); }
norm_row norm_row_power(int32_t dtype, bool masked) { return PICK(power); }
norm_row norm_row_squares(int32_t dtype, bool masked) { return PICK(squares); }
norm_row norm_row_gradients(int32_t dtype, bool masked, int32_t activation) {
  return activation == MT_ACTIVATION_RELU         ? PICK(relu_gradients)
         : activation == MT_ACTIVATION_LEAKY_RELU ? PICK(leaky_gradients)
                                                  : PICK(gradients);
}
norm_row norm_row_weight_gradients(int32_t dtype, bool masked) { return PICK(weight_gradients); }
norm_row norm_row_compat_moments(int32_t dtype) { return mt_tile_get()->norm->compat_moments[TYPE]; }
norm_row norm_row_compat_squares(int32_t dtype) { return mt_tile_get()->norm->compat_squares[TYPE]; }
norm_row norm_row_compat_skew(int32_t dtype) { return mt_tile_get()->norm->compat_skew[TYPE]; }
