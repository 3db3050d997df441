// mask: see mask.h.
#include "mask_check.h"
#include "row.h"

#define MT_SOURCE "mask_rows.h"
#include "twice.h"

// ---- application ------------------------------------------------------------------------------------------------

int mt_mask_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_use("apply_mask", y, x, mask));
  return mt_loop_run(3, (const mt_tensor *const[]){y, x, mask}, MT_REAL_FN(x->dtype, mask_apply_row), NULL);
}

int mt_mask_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_use("select_valid", y, x, mask));
  return mt_loop_run(3, (const mt_tensor *const[]){y, x, mask}, MT_REAL_FN(x->dtype, mask_select_row), NULL);
}

int mt_mask_unapply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double eps) {
  MT_TRY(mt_mask_check_use("unmask", y, x, mask));
  return mt_loop_run(3, (const mt_tensor *const[]){y, x, mask}, MT_REAL_FN(x->dtype, mask_unapply_row), &eps);
}

// ---- construction -----------------------------------------------------------------------------------------------

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

int mt_mask_lengths(mt_tensor *mask, const mt_tensor *lengths, int32_t align_right) {
  MT_TRY(mt_mask_check_lengths(mask, lengths));
  int64_t L = mask->shape[2], N = mask->shape[0];
  MT_SCRATCH(int64_t, box, 2 * N);
  if (box == NULL) {
    return MT_ERROR_MEMORY;
  }
  int status = mt_tensor_read_bytes(box + N, N * (int64_t)sizeof(int64_t), lengths);
  status = status == MT_OK ? mt_mask_check_values("mask.lengths", "lengths", box + N, N, 1, &L) : status;
  for (int64_t n = 0; n < N && status == MT_OK; n++) {
    box[n] = align_right ? L - box[N + n] : 0;
    box[N + n] = align_right ? L : box[N + n];
  }
  status = status == MT_OK ? fill_boxes(mask, box, box + N, 1) : status;
  mt_free(box);
  return status;
}

int mt_mask_boxes(mt_tensor *mask, const mt_tensor *sizes) {
  MT_TRY(mt_mask_check_boxes(mask, sizes));
  const int64_t dims = sizes->shape[1];
  int64_t count = sizes->numel;
  MT_SCRATCH(int64_t, box, 2 * count);
  if (box == NULL) {
    return MT_ERROR_MEMORY;
  }
  memset(box, 0, sizeof(int64_t) * (size_t)count);
  int status = mt_tensor_read_bytes(box + count, count * (int64_t)sizeof(int64_t), sizes);
  status = status == MT_OK ? mt_mask_check_values("mask.boxes", "boxes", box + count, count, (int32_t)dims, mask->shape + 2) : status;
  status = status == MT_OK ? fill_boxes(mask, box, box + count, (int32_t)dims) : status;
  mt_free(box);
  return status;
}
