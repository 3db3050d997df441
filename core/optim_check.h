// optim_check: lists of tensors, and what the updates of optim.h need to know, for both libraries. Internal.
#pragma once
#include "loop.h"

// Entry i of the lists is one loop over operands tensors. names[k] stands in messages; writes has bit k set where list k is
// written to. An absent list (NULL) is replaced by list 0 and must not be touched by the row.
typedef struct mt_optim_list {
  const char *op;
  int64_t count;
  int32_t operands, writes;
  mt_tensor *const *tensors[MT_LOOP_OPERANDS];
  const char *names[MT_LOOP_OPERANDS];
  bool row_major;  // walk every tensor in row-major order, not in the order of memory: for sums whose order must not depend on strides
} mt_optim_list;

// Checks all tensors.
int mt_optim_check(const mt_optim_list *list);

// What a row needs to know, without padding: equal numbers are equal bytes. Each parameter has its own where they depend on its
// step.
enum { SGD_PLAIN = 0, SGD_MOMENTUM = 1, SGD_FIRST = 2, SGD_NESTEROV = 4 };
typedef struct {
  double lr, momentum, rest, decay, sign;
  int64_t mode;
} sgd_numbers;
typedef struct {
  double beta1, beta2, rest1, rest2, size, root, eps, decay, shrink, sign;
  int64_t amsgrad;
} adam_numbers;
typedef struct {
  double lr, alpha, rest, eps, decay, momentum, sign;
  int64_t centered, moves;
} rmsprop_numbers;
typedef struct {
  double beta1, beta2, beta3, rest1, rest2, rest3, size1, size2, root, eps, shrink, factor, sign, after;
} adan_numbers;
typedef struct {
  double rest;
} ema_numbers;
typedef struct {
  char unused;
} swap_numbers;
typedef struct {
  double factor;
} scale_numbers;
typedef struct {
  double limit;
} clamp_numbers;

enum {
  MT_OPTIM_SGD, MT_OPTIM_ADAM, MT_OPTIM_RMSPROP, MT_OPTIM_ADAN, MT_OPTIM_EMA, MT_OPTIM_SWAP, MT_OPTIM_SCALE, MT_OPTIM_CLAMP,
  MT_OPTIM_KINDS
};

// Checks the list and updates every tensor, with the numbers at (char *)numbers + i * size. Each library has its own.
int mt_optim_rows(const mt_optim_list *list, int32_t kind, const void *numbers, int64_t size);
int mt_optim_check_norm(double p);
int mt_optim_check_clip_norm(const mt_tensor *norm, double limit);
