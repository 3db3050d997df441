// taps_plan: how a sum over taps is cut into work. Internal to the taps_*.c files.
//
// The grid is cut into bands: boxes of samples and positions, by shape alone. A task lists the active pixels of its band and
// copies the part of the image that their windows cover into a halo, with zeros where the image ends or does not count; then
// every tap of every pixel is read there. Where all windows lie inside an image without holes, they are read in place.
#pragma once
#include "taps.h"

enum {
  MT_BAND_PIXELS = 896,         // most pixels of a band
  MT_BAND_BYTES = 256 << 10,    // its halo, unless a single pixel needs more
  MT_BAND_TASKS = 32,           // bands are made smaller until there are as many,
  MT_BAND_LEAST = 112,          // but not below this
  MT_LITTLE = 500000,           // multiplications that are not worth a second thread
};

// A tap that some pixel needs: its number among the caller's; elements from the first pixel of a window.
typedef struct {
  int64_t index, at;
} mt_used_tap;

// Always three axes: missing ones come first, of size 1.
typedef struct mt_taps_plan {
  const mt_taps *taps;
  const mt_tile *tile;
  int64_t size[3], grid[3], mul[3], x_step[3], y_step[3];
  mt_taps_map valid, active, scale, gate;
  int64_t low[3], high[3];       // least and largest offset of a used tap
  int64_t count, k;              // used taps; terms of one sum
  mt_used_tap *tap;
  bool in_place;
  int64_t x_channel;             // elements between the channels of a pixel of the image
  bool away;                     // what is cleared is not read soon
  int64_t width;                 // neighbouring channels of a pixel that a task reads
  // samples and the three axes
  int64_t band[4], bands[4], band_count;
  int64_t slots[4], stride[4];   // pixels of a halo; elements between neighbours there or, in place, in the image
  int64_t column;                // elements between the windows of neighbouring pixels
  int64_t plane;                 // elements between planes: one per channel and remainder of the column by mul; 0: no planes
  int64_t halo_bytes, bytes;     // of a halo; with what follows it
  char *halos;                   // one per thread
  int32_t *taken;                // which of them some task has
} mt_taps_plan;

// Neighbouring active pixels of a row.
typedef struct {
  int64_t n, at;                 // elements from the start of halo or image to the first one's window
  void *y;                       // its outputs, of group 0
  int64_t scale, gate;           // where it lies in these maps
} mt_span;

// What a task works on.
typedef struct {
  int64_t from[4], to[4];        // box of the grid
  int64_t first, last;           // the columns between which the active pixels lie
  int64_t spans;
  mt_span span[MT_BAND_PIXELS];
} mt_band;

// width: neighbouring channels that a task reads of a pixel; planes: the halo holds them apart.
int mt_taps_plan_begin(mt_taps_plan *p, const mt_taps *t, int64_t width, bool planes);
// Halos, each followed by `extra` bytes for the task that has it.
int mt_taps_plan_halos(mt_taps_plan *p, int64_t extra);
void mt_taps_plan_end(mt_taps_plan *p);
// The end of the block of terms that begins at term k0. Terms are summed in blocks: several whole taps, or a part of one.
int64_t mt_taps_block_end(const mt_taps_plan *p, int64_t k0);
// A halo that no other task has, or NULL where none is needed.
void *mt_taps_halo_take(const mt_taps_plan *p);
void mt_taps_halo_return(const mt_taps_plan *p, const void *halo);

// Lists the active pixels of a band, and clears the outputs of the others if `clear`, unless the taps leave them. halo: marked for the
// next call, or NULL.
void mt_taps_list(const mt_taps_plan *p, mt_band *b, int64_t index, void *halo, bool clear);
// Copies what a listed band reads, channels [channel, channel + width), unless that is nothing or read in place.
void mt_taps_fill_f32(const mt_taps_plan *p, const mt_band *b, void *halo, int64_t channel);
void mt_taps_fill_f64(const mt_taps_plan *p, const mt_band *b, void *halo, int64_t channel);

// The listed pixels one by one: their windows (elements from `from`), outputs and factors. Returns how many.
int64_t mt_taps_pixels_f32(const mt_taps_plan *p, const mt_band *b, const float *from, const void **a, void **y, float *scale, float *gate);
int64_t mt_taps_pixels_f64(const mt_taps_plan *p, const mt_band *b, const double *from, const void **a, void **y, double *scale, double *gate);

// row[i][l] = from[l * step + i] for i < n, l < lanes.
void mt_taps_transpose_f32(float *const *row, const float *from, int64_t step, int64_t n, int64_t lanes);
void mt_taps_transpose_f64(double *const *row, const double *from, int64_t step, int64_t n, int64_t lanes);

// mt_taps_sum for few outputs per group.
bool mt_taps_has_few_outputs(const mt_taps *t);
int mt_taps_sum_planes(const mt_taps *t);
// mt_taps_sum for few pixels, where the weights of an output are neighbours.
bool mt_taps_has_few_pixels(const mt_taps *t);
int mt_taps_sum_few_pixels(const mt_taps *t);
// mt_taps_sum where every group has one channel and one output.
int mt_taps_sum_depthwise(const mt_taps *t);
// mt_taps_sum for few channels and as many outputs per group, straight from the rows of the image. By numbers alone, and all in all.
bool mt_taps_suits_rows(const mt_taps *t);
bool mt_taps_is_rows(const mt_taps *t);
int mt_taps_sum_rows(const mt_taps *t);
