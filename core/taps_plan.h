// taps_plan: how a sum over taps is cut into work. Internal to the taps_*.c files.
//
// The grid is cut into bands: boxes of samples and positions, by shape alone. A task lists the active pixels of its band and
// copies the part of the image that their windows cover into a halo, with zeros where the image ends or does not count; then
// every tap of every pixel is read there. Where all windows lie inside an image without holes, they are read in place.
#pragma once
#include "taps.h"
#include "tile.h"

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
  int64_t width;                 // neighbouring channels of a pixel that a task reads
  // samples and the three axes
  int64_t band[4], bands[4], band_count;
  int64_t slots[4], stride[4];   // pixels of a halo; elements between neighbours there or, in place, in the image
  int64_t halo_bytes;
  char *halos;                   // one per thread
  int32_t *taken;                // which of them some task has
} mt_taps_plan;

// What a task works on.
typedef struct {
  int64_t from[4], to[4];        // box of the grid
  int64_t count;                 // active pixels
  int64_t first, last;           // the columns between which they lie
  int64_t at[MT_BAND_PIXELS];    // elements from the start of halo or image to a pixel's window
  void *y[MT_BAND_PIXELS];       // its outputs, of group 0
} mt_band;

// A group has its channels side by side; a depthwise sum reads those of all groups at once.
int mt_taps_plan_begin(mt_taps_plan *p, const mt_taps *t, int64_t width);
void mt_taps_plan_end(mt_taps_plan *p);
// A halo that no other task has. NULL in place.
void *mt_taps_halo_take(const mt_taps_plan *p);
void mt_taps_halo_return(const mt_taps_plan *p, const void *halo);

// Lists the active pixels of a band with their factors, and clears the outputs of the others if `clear`. halo may be NULL.
void mt_taps_list_f32(const mt_taps_plan *p, mt_band *b, int64_t index, void *halo, bool clear, float *scale, float *gate);
void mt_taps_list_f64(const mt_taps_plan *p, mt_band *b, int64_t index, void *halo, bool clear, double *scale, double *gate);
// Copies what a listed band reads, channels [channel, channel + width).
void mt_taps_fill_f32(const mt_taps_plan *p, const mt_band *b, void *halo, int64_t channel);
void mt_taps_fill_f64(const mt_taps_plan *p, const mt_band *b, void *halo, int64_t channel);

// mt_taps_sum where every group has one channel and one output.
int mt_taps_sum_depthwise(const mt_taps *t);
