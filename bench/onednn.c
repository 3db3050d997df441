// onednn: oneDNN's convolutions without a framework, for the rows of kind conv. Tensors are in the layout that oneDNN asks for, and what
// bringing them there costs is not counted: the strongest peer there is.
//
//   bench_onednn_conv(&p, c, x, w, b, dy)   x, w, b, dy row-major; an error message, or NULL
//   bench_onednn_run(p, count)              runs the pass `count` times
//   bench_onednn_output(p, out)             the result, row-major
//   bench_onednn_gemm(c, a, b, m, n, k, threads)   c = a b, row-major
#include <dnnl.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FORWARD = 0, INPUT = 1, WEIGHT = 2 };

typedef struct bench_onednn {
  int32_t pass, dims, threads;
  int64_t N, C, O, groups, kernel, stride, padding;
  int64_t in[3], out[3];
} bench_onednn;

typedef struct bench_primitive {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_t primitive;
  dnnl_memory_t memory[4];
  dnnl_exec_arg_t argument[4];
  int arguments;
  dnnl_memory_t result;
  dnnl_memory_desc_t plain;  // of the result
} bench_primitive;

#define EXPORT __attribute__((visibility("default")))
EXPORT const char *bench_onednn_conv(bench_primitive **out, const bench_onednn *c, const float *x, const float *w, const float *b,
                                     const float *dy);
EXPORT void bench_onednn_run(bench_primitive *p, int32_t count);
EXPORT void bench_onednn_output(bench_primitive *p, float *out);
EXPORT void bench_onednn_free(bench_primitive *p);
EXPORT void bench_onednn_gemm(float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k, int32_t threads);
EXPORT const char *bench_onednn_version(void);

#define TRY(call)                 \
  do {                            \
    if ((call) != dnnl_success) { \
      return #call;               \
    }                             \
  } while (0)

static const char *describe(dnnl_memory_desc_t *desc, int n, const dnnl_dims_t sizes, dnnl_format_tag_t tag) {
  TRY(dnnl_memory_desc_create_with_tag(desc, n, sizes, dnnl_f32, tag));
  return NULL;
}

static dnnl_format_tag_t row_major(int n) {
  static const dnnl_format_tag_t tags[] = {dnnl_format_tag_undef, dnnl_a, dnnl_ab, dnnl_abc, dnnl_abcd, dnnl_abcde, dnnl_abcdef};
  return tags[n];
}

// Memory of p in the layout `wanted`, filled from a row-major array (NULL: left empty).
static const char *bring(bench_primitive *p, int number, int argument, const_dnnl_memory_desc_t wanted, const float *data, int n,
                         const dnnl_dims_t sizes) {
  TRY(dnnl_memory_create(&p->memory[number], wanted, p->engine, DNNL_MEMORY_ALLOCATE));
  p->argument[p->arguments++] = (dnnl_exec_arg_t){argument, p->memory[number]};
  if (data == NULL) {
    return NULL;
  }
  dnnl_memory_desc_t plain;
  dnnl_memory_t from;
  dnnl_primitive_desc_t pd;
  dnnl_primitive_t reorder;
  const char *error = describe(&plain, n, sizes, row_major(n));
  if (error) {
    return error;
  }
  TRY(dnnl_memory_create(&from, plain, p->engine, (void *)(uintptr_t)data));
  TRY(dnnl_reorder_primitive_desc_create(&pd, plain, p->engine, wanted, p->engine, NULL));
  TRY(dnnl_primitive_create(&reorder, pd));
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->memory[number]}};
  TRY(dnnl_primitive_execute(reorder, p->stream, 2, arguments));
  TRY(dnnl_stream_wait(p->stream));
  dnnl_primitive_destroy(reorder);
  dnnl_primitive_desc_destroy(pd);
  dnnl_memory_destroy(from);
  dnnl_memory_desc_destroy(plain);
  return NULL;
}

static const char *create(bench_primitive *p, const bench_onednn *c, const float *x, const float *w, const float *b, const float *dy) {
  int n = c->dims + 2, nw = n + (c->groups > 1), g = c->groups > 1;
  dnnl_dims_t xs = {c->N, c->C}, ys = {c->N, c->O}, ws = {0}, bs = {c->O}, stride = {0}, dilation = {0}, padding = {0};
  if (g) {
    ws[0] = c->groups;
  }
  ws[g] = c->O / c->groups;
  ws[g + 1] = c->C / c->groups;
  for (int d = 0; d < c->dims; d++) {
    xs[d + 2] = c->in[d], ys[d + 2] = c->out[d], ws[g + 2 + d] = c->kernel;
    stride[d] = c->stride, padding[d] = c->padding;
  }
  omp_set_num_threads(c->threads);
  TRY(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
  TRY(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags));
  dnnl_memory_desc_t xd, yd, wd, bd;
  const char *error;
  if ((error = describe(&xd, n, xs, dnnl_format_tag_any)) || (error = describe(&yd, n, ys, dnnl_format_tag_any)) ||
      (error = describe(&wd, nw, ws, dnnl_format_tag_any)) || (error = describe(&bd, 1, bs, dnnl_a))) {
    return error;
  }
  dnnl_alg_kind_t kind = dnnl_convolution_direct;
  dnnl_primitive_desc_t hint = NULL, pd = NULL;
  dnnl_status_t status = dnnl_convolution_forward_primitive_desc_create(
      &hint, p->engine, c->pass == FORWARD ? dnnl_forward_inference : dnnl_forward_training, kind, xd, wd, bd, yd, stride, dilation,
      padding, padding, NULL);
  if (status == dnnl_success && c->pass == INPUT) {
    status = dnnl_convolution_backward_data_primitive_desc_create(&pd, p->engine, kind, xd, wd, yd, stride, dilation, padding, padding,
                                                                  hint, NULL);
  } else if (status == dnnl_success && c->pass == WEIGHT) {
    status = dnnl_convolution_backward_weights_primitive_desc_create(&pd, p->engine, kind, xd, wd, NULL, yd, stride, dilation, padding,
                                                                     padding, hint, NULL);
  } else {
    pd = hint;
  }
  if (status != dnnl_success) {
    return status == dnnl_unimplemented ? "not implemented" : "the primitive cannot be created";
  }
  TRY(dnnl_primitive_create(&p->primitive, pd));
#define QUERY(what) dnnl_primitive_desc_query_md(pd, what, 0)
  if (c->pass == FORWARD) {
    error = bring(p, 0, DNNL_ARG_SRC, QUERY(dnnl_query_src_md), x, n, xs);
    error = error ? error : bring(p, 1, DNNL_ARG_WEIGHTS, QUERY(dnnl_query_weights_md), w, nw, ws);
    error = error ? error : bring(p, 2, DNNL_ARG_DST, QUERY(dnnl_query_dst_md), NULL, n, ys);
    error = error ? error : bring(p, 3, DNNL_ARG_BIAS, bd, b, 1, bs);
    error = error ? error : describe(&p->plain, n, ys, row_major(n));
  } else if (c->pass == INPUT) {
    error = bring(p, 0, DNNL_ARG_DIFF_DST, QUERY(dnnl_query_diff_dst_md), dy, n, ys);
    error = error ? error : bring(p, 1, DNNL_ARG_WEIGHTS, QUERY(dnnl_query_weights_md), w, nw, ws);
    error = error ? error : bring(p, 2, DNNL_ARG_DIFF_SRC, QUERY(dnnl_query_diff_src_md), NULL, n, xs);
    error = error ? error : describe(&p->plain, n, xs, row_major(n));
  } else {
    error = bring(p, 0, DNNL_ARG_DIFF_DST, QUERY(dnnl_query_diff_dst_md), dy, n, ys);
    error = error ? error : bring(p, 1, DNNL_ARG_SRC, QUERY(dnnl_query_src_md), x, n, xs);
    error = error ? error : bring(p, 2, DNNL_ARG_DIFF_WEIGHTS, QUERY(dnnl_query_diff_weights_md), NULL, nw, ws);
    error = error ? error : describe(&p->plain, nw, ws, row_major(nw));
  }
  p->result = p->memory[2];
  return error;
}

const char *bench_onednn_conv(bench_primitive **out, const bench_onednn *c, const float *x, const float *w, const float *b,
                              const float *dy) {
  bench_primitive *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return "out of memory";
  }
  const char *error = create(p, c, x, w, b, dy);
  if (error) {
    bench_onednn_free(p);
    return error;
  }
  *out = p;
  return NULL;
}

void bench_onednn_run(bench_primitive *p, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    dnnl_primitive_execute(p->primitive, p->stream, p->arguments, p->argument);
    dnnl_stream_wait(p->stream);
  }
}

void bench_onednn_output(bench_primitive *p, float *out) {
  dnnl_memory_t to;
  const_dnnl_memory_desc_t from;
  dnnl_primitive_desc_t pd;
  dnnl_primitive_t reorder;
  if (dnnl_memory_get_memory_desc(p->result, &from) != dnnl_success ||
      dnnl_memory_create(&to, p->plain, p->engine, out) != dnnl_success ||
      dnnl_reorder_primitive_desc_create(&pd, from, p->engine, p->plain, p->engine, NULL) != dnnl_success ||
      dnnl_primitive_create(&reorder, pd) != dnnl_success) {
    return;
  }
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, p->result}, {DNNL_ARG_TO, to}};
  dnnl_primitive_execute(reorder, p->stream, 2, arguments);
  dnnl_stream_wait(p->stream);
  dnnl_primitive_destroy(reorder);
  dnnl_primitive_desc_destroy(pd);
  dnnl_memory_destroy(to);
}

// The descriptions of a row are small and stay; the memory goes.
void bench_onednn_free(bench_primitive *p) {
  for (int i = 0; i < 4; i++) {
    if (p->memory[i]) {
      dnnl_memory_destroy(p->memory[i]);
    }
  }
  if (p->primitive) {
    dnnl_primitive_destroy(p->primitive);
  }
  free(p);
}

void bench_onednn_gemm(float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k, int32_t threads) {
  omp_set_num_threads(threads);
  dnnl_sgemm('N', 'N', m, n, k, 1, a, k, b, n, 0, c, n);
}

const char *bench_onednn_version(void) {
  static char text[32];
  const dnnl_version_t *v = dnnl_version();
  text[0] = (char)('0' + v->major);
  text[1] = '.';
  int minor = v->minor, at = 2;
  if (minor >= 10) {
    text[at++] = (char)('0' + minor / 10);
  }
  text[at++] = (char)('0' + minor % 10);
  text[at] = 0;
  return text;
}
