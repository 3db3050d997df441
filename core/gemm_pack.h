// gemm_pack: matrices laid out for the micro-kernels of tile.h. Internal.
#pragma once
#include "common.h"
#include "tile.h"

// to[r * MT_TILE_STEP + k] = from[r * row + k * col] for kn terms of `rows` rows: what chain takes as a.
void mt_gemm_pack_rows_f32(float *to, const float *from, int64_t row, int64_t col, int64_t rows, int64_t kn);
void mt_gemm_pack_rows_f64(double *to, const double *from, int64_t row, int64_t col, int64_t rows, int64_t kn);
// to[k * lanes + l] = from[k * row + l * col] for kn terms and `used` lanes, 0 in the further lanes: a panel, or what outer
// takes as a.
void mt_gemm_pack_panel_f32(float *to, const float *from, int64_t row, int64_t col, int64_t kn, int64_t used, int64_t lanes);
void mt_gemm_pack_panel_f64(double *to, const double *from, int64_t row, int64_t col, int64_t kn, int64_t used, int64_t lanes);
// Lanes that are neighbours (col 1), cut into strips of `strip` lanes, each a panel of its own, one after the other:
// to[l / strip * strip * kn + k * strip + l % strip] = from[k * row + l].
void mt_gemm_pack_strips_f32(float *to, const float *from, int64_t row, int64_t kn, int64_t lanes, int64_t strip);
void mt_gemm_pack_strips_f64(double *to, const double *from, int64_t row, int64_t kn, int64_t lanes, int64_t strip);
