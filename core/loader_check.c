// loader_check: see loader_check.h.
#include "loader_check.h"

// On the CPU in both libraries: the rows are looked at before anything is queued.
static int check_line(const char *argument, const mt_tensor *t, int64_t n) {
  char text[MT_TEXT];
  MT_TRY(mt_check_alive("loader", argument, t));
  if (t->dtype != MT_INT64 || t->ndim != 1 || t->shape[0] != n || t->storage->device >= 0 || !mt_tensor_is_contiguous(t)) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: %s: expected contiguous %s int64 on the CPU, got %s", argument,
                   mt_sizes_text(text, 1, &n), MT_SHAPE(t));
  }
  return MT_OK;
}

int mt_loader_check_gather(const mt_gather *g) {
  if (g == NULL) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: gather: expected a value, got nil");
  }
  MT_TRY(mt_check_output("loader", "output", g->out));
  MT_TRY(mt_check_tensor("loader", "source", g->source));
  if (g->out->ndim < 1 || !mt_tensor_is_contiguous(g->out) || !mt_tensor_is_contiguous(g->source)) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: expected contiguous tensors, the output with rows; got %s from %s",
                   MT_SHAPE(g->out), MT_SHAPE(g->source));
  }
  MT_TRY(mt_check_overlap("loader", g->out, g->source, false));
  if (g->type != g->source->dtype && !(g->type == MT_UINT16 && g->source->dtype == MT_UINT8 && g->source->numel % 2 == 0)) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: type %d does not fit the source %s", g->type, MT_SHAPE(g->source));
  }
  const bool same = g->type == g->out->dtype && g->add == 0;
  const bool integers = g->type == MT_UINT16 || g->type == MT_UINT8 || g->type == MT_INT32 || g->type == MT_INT64;
  if (!same && !(integers && g->out->dtype == MT_INT64)) {
    return mt_fail(MT_ERROR_ARGUMENT, "loader: the output %s cannot hold elements of %s plus %lld", MT_SHAPE(g->out),
                   MT_SHAPE(g->source), (long long)g->add);
  }
  const int64_t n = g->out->shape[0], row = n > 0 ? g->out->numel / n : 0;
  const int64_t held = g->type == MT_UINT16 ? g->source->numel / 2 : g->source->numel;
  MT_TRY(check_line("first", g->first, n));
  if (g->length) {
    MT_TRY(check_line("length", g->length, n));
  }
  const int64_t *first = g->first->data, *length = g->length ? g->length->data : NULL;
  for (int64_t r = 0; r < n; r++) {
    const int64_t l = length ? length[r] : row;
    if (l < 0 || l > row || first[r] < 1 || first[r] > held + 1 || l > held + 1 - first[r]) {
      return mt_fail(MT_ERROR_ARGUMENT, "loader: row %lld: %lld elements from number %lld on; the source has %lld, a row %lld",
                     (long long)r + 1, (long long)l, (long long)first[r], (long long)held, (long long)row);
    }
  }
  return MT_OK;
}
