// mask: see core/mask.h; the formulas are in core/mask_rows.h, what a mask holds in mask_scan.cu.
#include "row.cuh"

extern "C" {
#include "../core/mask_check.h"
}

#define MT_SOURCE "mask_rows.h"
#include "../core/twice.h"

// ---- application ------------------------------------------------------------------------------------------------------

static int apply(const char *op, mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, bool single, mt_row_function row_f32,
                 mt_row_function row_f64, const void *context, size_t bytes) {
  const mt_tensor *const t[] = {y, x, mask};
  MT_TRY(mt_check_together(op, y, 3, t));
  return mt_loop_launch(3, t, single ? row_f32 : row_f64, context, bytes);
}

extern "C" int mt_mask_apply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_use("apply_mask", y, x, mask));
  return apply("apply_mask", y, x, mask, x->dtype == MT_FLOAT32, mask_apply_row_f32, mask_apply_row_f64, NULL, 0);
}

extern "C" int mt_mask_select(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask) {
  MT_TRY(mt_mask_check_use("select_valid", y, x, mask));
  return apply("select_valid", y, x, mask, x->dtype == MT_FLOAT32, mask_select_row_f32, mask_select_row_f64, NULL, 0);
}

extern "C" int mt_mask_unapply(mt_tensor *y, const mt_tensor *x, const mt_tensor *mask, double eps) {
  MT_TRY(mt_mask_check_use("unmask", y, x, mask));
  return apply("unmask", y, x, mask, x->dtype == MT_FLOAT32, mask_unapply_row_f32, mask_unapply_row_f64, &eps, sizeof eps);
}

// ---- construction -----------------------------------------------------------------------------------------------------

typedef struct {
  uint8_t *mask;                // row-major (N, 1, *S)
  int64_t numel, size[3];
  const int64_t *sizes;
  int64_t step_n, step_d;       // of sizes
  int32_t dims, align_right;
} boxes_plan;

// Sizes outside the canvas are raised at the next synchronisation: nobody waits for them.
static __global__ void check_boxes(const boxes_plan p, int64_t count, mt_fault *fault, int32_t site) {
  MT_EACH(i, count) {
    const int d = (int)(i % p.dims);
    const int64_t size = p.sizes[i / p.dims * p.step_n + d * p.step_d], limit = p.size[3 - p.dims + d];
    if (size < 0 || size > limit) {
      mt_record(fault, site, size, i / p.dims, limit, MT_FAULT_SIZE);
    }
  }
}

static __global__ void fill_boxes(const boxes_plan p) {
  MT_EACH(i, p.numel) {
    int64_t at[3], rest = i;
    for (int d = 2; d >= 0; d--) {
      at[d] = rest % p.size[d];
      rest /= p.size[d];
    }
    const int64_t *box = p.sizes + rest * p.step_n;
    bool inside = true;
    for (int d = 0; d < p.dims; d++) {
      const int64_t size = box[d * p.step_d];
      const int a = 3 - p.dims + d;
      inside = inside && (p.align_right ? at[a] >= p.size[a] - size : at[a] < size);
    }
    p.mask[i] = inside;
  }
}

static int construct(const char *op, const char *site, mt_tensor *mask, const mt_tensor *sizes, int32_t dims, int32_t align_right) {
  mt_device *device;
  MT_TRY(mt_check_together(op, mask, 1, &sizes));
  mt_tensor *flat = NULL;
  const bool direct = mask->dtype == MT_BOOL && mt_tensor_is_contiguous(mask);
  MT_TRY(mt_enter(&device, mask));
  if (!direct) {
    MT_TRY(mt_tensor_new(&flat, MT_BOOL, mask->ndim, mask->shape, NULL));
  }
  boxes_plan p = {(uint8_t *)(direct ? mask : flat)->data, mask->numel, {1, 1, 1}, (const int64_t *)sizes->data, sizes->stride[0],
                  sizes->ndim > 1 ? sizes->stride[1] : 0, dims, align_right};
  for (int32_t d = 0; d < dims; d++) {
    p.size[3 - dims + d] = mask->shape[2 + d];
  }
  const auto launch = [&]() {
    if (sizes->numel > 0) {
      MT_LAUNCH(device, check_boxes, mt_grid(device, sizes->numel), MT_BLOCK, 0, p, sizes->numel, device->fault, mt_fault_site(site));
    }
    if (p.numel == 0) {
      return (int)MT_OK;
    }
    MT_LAUNCH(device, fill_boxes, mt_grid(device, p.numel), MT_BLOCK, 0, p);
    return (int)MT_OK;
  };
  int status = launch();
  status = status || direct ? status : mt_tensor_copy(mask, flat);
  mt_tensor_release(flat);
  return status;
}

extern "C" int mt_mask_lengths(mt_tensor *mask, const mt_tensor *lengths, int32_t align_right) {
  MT_TRY(mt_mask_check_lengths(mask, lengths));
  return construct("mask.lengths", "mask.lengths: lengths", mask, lengths, 1, align_right);
}

extern "C" int mt_mask_boxes(mt_tensor *mask, const mt_tensor *sizes) {
  MT_TRY(mt_mask_check_boxes(mask, sizes));
  return construct("mask.boxes", "mask.boxes: sizes", mask, sizes, (int32_t)sizes->shape[1], 0);
}
