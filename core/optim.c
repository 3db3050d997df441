// optim: see optim.h. This page holds no loop over elements and is compiled for both libraries; the updates stand in optim_rows.h,
// the norms of gradients in optim_norm.c.
#include "optim_check.h"

static double sign_of(int32_t maximize) { return maximize ? -1 : 1; }

static int check_steps(const char *op, int64_t count, const double *step) {
  for (int64_t i = 0; i < count; i++) {
    if (!step || !(step[i] >= 1)) {
      return mt_fail(MT_ERROR_ARGUMENT, "%s: step %lld: expected a count of at least 1, got %g", op, (long long)i + 1,
                     step ? step[i] : 0);
    }
  }
  return MT_OK;
}

int mt_optim_sgd(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *buffers,
                 const double *step, double lr, double momentum, double dampening, double weight_decay, int32_t nesterov,
                 int32_t maximize) {
  const mt_optim_list list = {.op = "SGD", .count = count, .operands = 3, .writes = buffers ? 5 : 1,
    .tensors = {parameters, gradients, buffers}, .names = {"parameter", "gradient", "momentum_buffer"}};
  if (momentum != 0 && !buffers) {
    return mt_fail(MT_ERROR_ARGUMENT, "SGD: momentum %g needs momentum buffers", momentum);
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(sgd_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    int32_t mode = SGD_PLAIN;
    if (momentum != 0) {
      mode = SGD_MOMENTUM | (step[i] == 1 ? SGD_FIRST : 0) | (nesterov ? SGD_NESTEROV : 0);
    }
    numbers[i] = (sgd_numbers){lr, momentum, 1 - dampening, weight_decay, sign_of(maximize), mode};
  }
  const int status = mt_optim_rows(&list, MT_OPTIM_SGD, numbers, sizeof(sgd_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_adam(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_sqs, mt_tensor *const *max_exp_avg_sqs, const double *step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int32_t decoupled, int32_t maximize) {
  const mt_optim_list list = {.op = decoupled ? "AdamW" : "Adam", .count = count, .operands = 5,
    .writes = max_exp_avg_sqs ? 29 : 13, .tensors = {parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs},
    .names = {"parameter", "gradient", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}};
  if (count > 0 && (!exp_avgs || !exp_avg_sqs)) {
    return mt_fail(MT_ERROR_ARGUMENT, "%s: exp_avg, exp_avg_sq: expected lists of tensors", list.op);
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(adam_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    numbers[i] = (adam_numbers){.beta1 = beta1, .beta2 = beta2, .rest1 = 1 - beta1, .rest2 = 1 - beta2,
      .size = lr / (1 - pow(beta1, step[i])), .root = 1 / sqrt(1 - pow(beta2, step[i])), .eps = eps,
      .decay = decoupled ? 0 : weight_decay, .shrink = decoupled ? 1 - lr * weight_decay : 1, .sign = sign_of(maximize),
      .amsgrad = max_exp_avg_sqs != NULL};
  }
  const int status = mt_optim_rows(&list, MT_OPTIM_ADAM, numbers, sizeof(adam_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_rmsprop(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *square_avgs,
                     mt_tensor *const *grad_avgs, mt_tensor *const *buffers, double lr, double alpha, double eps,
                     double weight_decay, double momentum, int32_t maximize) {
  const mt_optim_list list = {.op = "RMSprop", .count = count, .operands = 5,
    .writes = 5 | (grad_avgs ? 8 : 0) | (buffers ? 16 : 0), .tensors = {parameters, gradients, square_avgs, grad_avgs, buffers},
    .names = {"parameter", "gradient", "square_avg", "grad_avg", "momentum_buffer"}};
  if (count > 0 && !square_avgs) {
    return mt_fail(MT_ERROR_ARGUMENT, "RMSprop: square_avg: expected a list of tensors");
  }
  const rmsprop_numbers numbers = {lr, alpha, 1 - alpha, eps, weight_decay, momentum, sign_of(maximize), grad_avgs != NULL,
    buffers != NULL};
  return mt_optim_rows(&list, MT_OPTIM_RMSPROP, &numbers, 0);
}

int mt_optim_adan(int64_t count, mt_tensor *const *parameters, mt_tensor *const *gradients, mt_tensor *const *exp_avgs,
                  mt_tensor *const *exp_avg_diffs, mt_tensor *const *exp_avg_sqs, mt_tensor *const *neg_pre_grads,
                  const double *step, double lr, double beta1, double beta2, double beta3, double eps, double weight_decay,
                  int32_t no_prox, int32_t maximize) {
  const mt_optim_list list = {.op = "Adan", .count = count, .operands = 6, .writes = 61,
    .tensors = {parameters, gradients, exp_avgs, exp_avg_diffs, exp_avg_sqs, neg_pre_grads},
    .names = {"parameter", "gradient", "exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"}};
  if (count > 0 && (!exp_avgs || !exp_avg_diffs || !exp_avg_sqs || !neg_pre_grads)) {
    return mt_fail(MT_ERROR_ARGUMENT, "Adan: exp_avg, exp_avg_diff, exp_avg_sq, neg_pre_grad: expected lists of tensors");
  }
  MT_TRY(check_steps(list.op, count, step));
  MT_SCRATCH(adan_numbers, numbers, count);
  if (!numbers) {
    return MT_ERROR_MEMORY;
  }
  for (int64_t i = 0; i < count; i++) {
    numbers[i] = (adan_numbers){.beta1 = beta1, .beta2 = beta2, .beta3 = beta3, .rest1 = 1 - beta1, .rest2 = 1 - beta2,
      .rest3 = 1 - beta3, .size1 = lr / (1 - pow(beta1, step[i])), .size2 = lr * beta2 / (1 - pow(beta2, step[i])),
      .root = 1 / sqrt(1 - pow(beta3, step[i])), .eps = eps, .shrink = no_prox ? 1 - lr * weight_decay : 1,
      .factor = no_prox ? 1 : 1 / (1 + lr * weight_decay), .sign = sign_of(maximize),
      .after = step[i] > 1};  // a factor: a choice would not vectorise
  }
  const int status = mt_optim_rows(&list, MT_OPTIM_ADAN, numbers, sizeof(adan_numbers));
  mt_free(numbers);
  return status;
}

int mt_optim_ema(int64_t count, mt_tensor *const *averages, mt_tensor *const *parameters, double decay) {
  const mt_optim_list list = {.op = "EMA", .count = count, .operands = 2, .writes = 1, .tensors = {averages, parameters},
    .names = {"average", "parameter"}};
  if (count > 0 && !parameters) {
    return mt_fail(MT_ERROR_ARGUMENT, "EMA: expected a list of parameters");
  }
  const ema_numbers numbers = {1 - decay};
  return mt_optim_rows(&list, MT_OPTIM_EMA, &numbers, 0);
}

int mt_optim_swap(int64_t count, mt_tensor *const *a, mt_tensor *const *b) {
  const mt_optim_list list = {.op = "EMA", .count = count, .operands = 2, .writes = 3, .tensors = {a, b},
    .names = {"average", "parameter"}};
  if (count > 0 && !b) {
    return mt_fail(MT_ERROR_ARGUMENT, "EMA: expected a list of parameters");
  }
  const swap_numbers numbers = {0};
  return mt_optim_rows(&list, MT_OPTIM_SWAP, &numbers, 0);
}

// ---- lists of gradients ---------------------------------------------------------------------------------------------------

int mt_optim_scale(int64_t count, mt_tensor *const *gradients, double factor) {
  const mt_optim_list list = {.op = "clip_grad_norm_", .count = count, .operands = 1, .writes = 1, .tensors = {gradients},
    .names = {"gradient"}};
  const scale_numbers numbers = {factor};
  return mt_optim_rows(&list, MT_OPTIM_SCALE, &numbers, 0);
}

int mt_optim_clamp(int64_t count, mt_tensor *const *gradients, double limit) {
  const mt_optim_list list = {.op = "clip_grad_value_", .count = count, .operands = 1, .writes = 1, .tensors = {gradients},
    .names = {"gradient"}};
  if (!(limit >= 0)) {
    return mt_fail(MT_ERROR_ARGUMENT, "clip_grad_value_: clip_value: expected a number of at least 0, got %g", limit);
  }
  const clamp_numbers numbers = {limit};
  return mt_optim_rows(&list, MT_OPTIM_CLAMP, &numbers, 0);
}

int mt_optim_shared(int64_t *a, int64_t *b, int64_t count, mt_tensor *const *tensors) {
  const mt_optim_list list = {.op = "optim", .count = count, .operands = 1, .tensors = {tensors}, .names = {"parameter"}};
  MT_TRY(mt_optim_check(&list));
  *a = *b = 0;
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = i + 1; j < count; j++) {
      if (tensors[i]->storage == tensors[j]->storage && mt_check_overlap("optim", tensors[i], tensors[j], false) != MT_OK) {
        *a = i + 1;
        *b = j + 1;
        return MT_OK;
      }
    }
  }
  return MT_OK;
}
