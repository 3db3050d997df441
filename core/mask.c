// mask: see mask.h.
#ifdef REAL

MT_ROW_2(FN(apply_row), REAL, REAL, REAL, b == 0 ? 0 : a * b)
MT_ROW_2(FN(select_row), REAL, REAL, REAL, b == 0 ? 0 : a)
MT_ROW_2(FN(unapply_row), REAL, REAL, REAL, a / (b + (REAL) * (const double *)context))

#else
#include "common.h"
#include "row.h"
#define MT_SOURCE "mask.c"
#include "twice.h"

// ---- application ------------------------------------------------------------------------------------------------

static int run(const char *op, mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, mt_loop_row row, const void *context) {
  MT_TRY(mt_check_tensor(op, "mask", mask));
  bool fits = mask->ndim == x->ndim && mask->dtype == x->dtype;
  for (int32_t d = 0; d < x->ndim && fits; d++) {
    fits = mask->shape[d] == x->shape[d] || (d < 2 && mask->shape[d] == 1);
  }
  if (!fits) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: %s does not fit the input %s: expected (N or 1, C or 1, *S)", op,
                   MT_SHAPE(mask), MT_SHAPE(x));
  }
  MT_TRY(mt_check_like(op, "output", y, x));
  MT_TRY(mt_check_output(op, "output", y));
  MT_TRY(mt_check_overlap(op, y, x, true));
  MT_TRY(mt_check_overlap(op, y, mask, false));
  return mt_loop_run(3, (const mt_tensor *const[]){y, x, mask}, row, context);
}

int mt_mask_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_check_real("apply_mask", "input", x));
  return run("apply_mask", y, x, mask, MT_REAL_FN(x->dtype, apply_row), NULL);
}

int mt_mask_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_check_real("select_valid", "input", x));
  return run("select_valid", y, x, mask, MT_REAL_FN(x->dtype, select_row), NULL);
}

int mt_mask_unapply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double eps) {
  MT_TRY(mt_check_real("unmask", "input", x));
  return run("unmask", y, x, mask, MT_REAL_FN(x->dtype, unapply_row), &eps);
}

// ---- construction -----------------------------------------------------------------------------------------------

// Sizes or lengths (int64) as an array in row-major order, each within 0..limit[d % dims].
static int read_sizes(const char *op, const char *argument, int64_t *out, const mt_tensor *t, int32_t dims,
                      const int64_t *limit) {
  for (int64_t i = 0; i < t->numel; i++) {
    int64_t n = i / dims, d = i % dims;
    int64_t value = ((const int64_t *)t->data)[n * t->stride[0] + (t->ndim > 1 ? d * t->stride[1] : 0)];
    if (value < 0 || value > limit[d]) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: %s: %lld of sample %lld is outside 0..%lld", op, argument, (long long)value,
                     (long long)n + 1, (long long)limit[d]);
    }
    out[i] = value;
  }
  return MT_OK;
}

// Fills mask (N, 1, *S) from boxes [from, to) per sample and axis.
static int fill_boxes(mt_tensor *mask, const int64_t *from, const int64_t *to, int32_t dims) {
  mt_tensor *flat;
  MT_TRY(mt_tensor_new(&flat, MT_BOOL, mask->ndim, mask->shape, NULL));
  int64_t size[3] = {1, 1, 1}, first[3] = {0, 0, 0}, last[3] = {1, 1, 1};
  for (int32_t d = 0; d < dims; d++) {
    size[3 - dims + d] = mask->shape[2 + d];
  }
  uint8_t *value = flat->data;
  for (int64_t n = 0; n < mask->shape[0]; n++) {
    for (int32_t d = 0; d < dims; d++) {
      first[3 - dims + d] = from[n * dims + d];
      last[3 - dims + d] = to[n * dims + d];
    }
    for (int64_t a = 0; a < size[0]; a++) {
      for (int64_t b = 0; b < size[1]; b++) {
        bool row = a >= first[0] && a < last[0] && b >= first[1] && b < last[1];
        for (int64_t c = 0; c < size[2]; c++) {
          *value++ = row && c >= first[2] && c < last[2];
        }
      }
    }
  }
  int status = mt_tensor_copy(mask, flat);
  mt_tensor_release(flat);
  return status;
}

static int check_construction(const char *op, const mt_tensor *mask, const char *argument, const mt_tensor *sizes,
                              int32_t dims) {
  MT_TRY(mt_check_ndim(op, "mask", mask, dims + 2));
  MT_TRY(mt_check_output(op, "mask", mask));
  MT_TRY(mt_check_dtype(op, argument, sizes, MT_INT64));
  if (mask->shape[1] != 1 || sizes->shape[0] != mask->shape[0]) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: mask: expected (%lld, 1, *S), got %s", op, (long long)sizes->shape[0],
                   MT_SHAPE(mask));
  }
  return MT_OK;
}

int mt_mask_lengths(mt_tensor *mask, const mt_tensor *lengths, int32_t align_right) {
  MT_TRY(mt_check_ndim("mask.lengths", "lengths", lengths, 1));
  MT_TRY(check_construction("mask.lengths", mask, "lengths", lengths, 1));
  int64_t L = mask->shape[2], N = mask->shape[0];
  MT_SCRATCH(int64_t, box, 2 * N);
  if (box == NULL) {
    return MT_ERROR_MEMORY;
  }
  int status = read_sizes("mask.lengths", "lengths", box + N, lengths, 1, &L);
  for (int64_t n = 0; n < N && status == MT_OK; n++) {
    box[n] = align_right ? L - box[N + n] : 0;
    box[N + n] = align_right ? L : box[N + n];
  }
  status = status == MT_OK ? fill_boxes(mask, box, box + N, 1) : status;
  mt_free(box);
  return status;
}

int mt_mask_boxes(mt_tensor *mask, const mt_tensor *sizes) {
  MT_TRY(mt_check_ndim("mask.boxes", "boxes", sizes, 2));
  int64_t dims = sizes->shape[1];
  if (dims < 1 || dims > 3) {
    return mt_fail(MT_ERROR_ARGUMENT, "mask.boxes: boxes: expected 1 to 3 sizes per sample, got %s", MT_SHAPE(sizes));
  }
  MT_TRY(check_construction("mask.boxes", mask, "boxes", sizes, (int32_t)dims));
  int64_t count = sizes->numel;
  MT_SCRATCH(int64_t, box, 2 * count);
  if (box == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(box, 0, sizeof(int64_t) * (size_t)count);
  int status = read_sizes("mask.boxes", "boxes", box + count, sizes, (int32_t)dims, mask->shape + 2);
  status = status == MT_OK ? fill_boxes(mask, box, box + count, (int32_t)dims) : status;
  mt_free(box);
  return status;
}

#endif
