// The ladder: checks every rung, then times those that are right. README.md.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "work.h"
#ifdef MT_SIMULATOR
#include "hopper.h"
#endif

// ---- checks ----------------------------------------------------------------------------------------------------------------------

// Partial tiles, partial chunks of channels, one result, lists, taps that reach over the ends; and so many tiles that blocks go on to a
// second, with the ring of stages in every position.
static const lab_shape small[] = {
  {"1 x 1, 8 terms", 1, 1, 1, 8, 1, 1, 100},
  {"130 x 70, 72 terms", 1, 1, 130, 72, 70, 1, 100},
  {"65 x 257, 136 terms", 1, 1, 65, 136, 257, 1, 100},
  {"listed: 60 % of 290 x 33, 72 terms", 1, 1, 290, 72, 33, 1, 60},
  {"listed: none of 9 x 5", 1, 1, 9, 8, 5, 1, 0},
  {"1-d: 3 x 50, 40 > 96, 3 taps", 3, 1, 50, 40, 96, 3, 100},
  {"2-d: 2 x 9 x 11, 24 > 130, half active", 2, 9, 11, 24, 130, 3, 50},
  {"2-d: 1 x 12 x 13, 64 > 64", 1, 12, 13, 64, 64, 3, 100},
  {"260 x 140, 328 terms", 1, 1, 260, 328, 140, 1, 100},
};
#ifndef MT_SIMULATOR
static const lab_shape large[] = {  // many tiles for every block
  {"9000 x 2050, 520 terms", 1, 1, 9000, 520, 2050, 1, 100},
  {"2-d: 16 x 40 x 41, 96 > 200, half active", 16, 40, 41, 96, 200, 3, 50},
};
#endif

static bool passed[16][LAB_KINDS];

static int check(const char *row_pattern, const char *rung_pattern, cudaStream_t stream) {
  std::vector<lab_shape> shapes(std::begin(small), std::end(small));
  int failures = 0;
#ifndef MT_SIMULATOR
  shapes.insert(shapes.end(), std::begin(large), std::end(large));
  (void)row_pattern;  // chooses what is timed; all is checked
#else
  shapes.erase(std::remove_if(shapes.begin(), shapes.end(), [=](const lab_shape &s) { return !strstr(s.name, row_pattern); }), shapes.end());
#endif
  for (int r = 0; r < lab_rung_count; r++) {
    std::fill(passed[r], passed[r] + LAB_KINDS, true);
  }
  double worst[16][LAB_KINDS] = {};
  int ran[16][LAB_KINDS] = {};
  for (const lab_shape &shape : shapes) {
    for (int how = 0; how < LAB_KINDS; how++) {
      for (int whole = 1; whole >= 0; whole--) {
        lab_work work(shape, how, whole, stream);
        for (int r = 0; r < lab_rung_count; r++) {
          bool able;
          if (!strstr(lab_rungs[r].name, rung_pattern) || (shape.active == 0 && lab_rungs[r].dense)) {
            continue;
          }
          if (work.of(lab_rungs[r]).m == 0) {
            continue;  // an empty launch is an error; the library does not make one either
          }
          passed[r][how] = work.check(lab_rungs[r], whole, 1 << 17, &able, &worst[r][how], stream) && passed[r][how];
          ran[r][how] += able;
        }
      }
    }
  }
  printf("Check: %zu shapes, whole numbers exactly, others by their largest error, relative to the sum of absolute products\n%-18s", shapes.size(), "");
  for (int how = 0; how < LAB_KINDS; how++) {
    printf("%18s", lab_kind_names[how]);
  }
  for (int r = 0; r < lab_rung_count; r++) {
    printf("\n%-18s", lab_rungs[r].name);
    for (int how = 0; how < LAB_KINDS; how++) {
      char text[32];
      snprintf(text, sizeof text, "%s %.1e", passed[r][how] ? "ok" : "FAIL", worst[r][how]);
      printf("%18s", ran[r][how] ? text : "-");
      failures += !passed[r][how];
      passed[r][how] = passed[r][how] && ran[r][how];
    }
  }
  printf("\n");
  return failures;
}

#ifndef MT_SIMULATOR

// ---- times ---------------------------------------------------------------------------------------------------------------------------

// The library's layers, named as in bench/rows.lua.
static const lab_shape timed[] = {
  {"product 8192x8192x8192", 1, 1, 8192, 8192, 8192, 1, 100},
  {"head 1024x512>50257", 1, 1, 1024, 512, 50257, 1, 100},
  {"head 4096x1024>50257", 1, 1, 4096, 1024, 50257, 1, 100},
  {"lm1 1024x32 128>128 k3", 1024, 1, 32, 128, 128, 3, 100},
  {"lm2 1024x16 256>256 k3", 1024, 1, 16, 256, 256, 3, 100},
  {"lm3 1024x8 512>512 k3", 1024, 1, 8, 512, 512, 3, 100},
  {"r56 32x56x56 64>64", 32, 56, 56, 64, 64, 3, 100},
  {"r28 32x28x28 128>128", 32, 28, 28, 128, 128, 3, 100},
  {"r14 32x14x14 256>256", 32, 14, 14, 256, 256, 3, 100},
  {"large56 256x56x56 64>64", 256, 56, 56, 64, 64, 3, 100},
  {"large28 256x28x28 256>256", 256, 28, 28, 256, 256, 3, 100},
  {"large28, 50 % active", 256, 28, 28, 256, 256, 3, 50},
  {"large28, 25 % active", 256, 28, 28, 256, 256, 3, 25},
};
static const double TARGET_MS = 20;

struct contender {
  const char *name;
  const lab_rung *rung;  // NULL: cuBLASLt
  bool right;
  int repeats;
  cudaGraphExec_t graph;  // the repeats
  std::vector<double> ms;
};

static double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x.size() % 2 ? x[x.size() / 2] : (x[x.size() / 2 - 1] + x[x.size() / 2]) / 2;
}

struct stopwatch {
  cudaEvent_t from, to;
  cudaStream_t stream;
  stopwatch(cudaStream_t stream_) : stream(stream_) {
    lab_must(cudaEventCreate(&from), "event");
    lab_must(cudaEventCreate(&to), "event");
  }
  ~stopwatch() {
    cudaEventDestroy(from);
    cudaEventDestroy(to);
  }
  template <typename F> double ms(F run) {
    float ms;
    lab_must(cudaEventRecord(from, stream), "event");
    run();
    lab_must(cudaEventRecord(to, stream), "event");
    lab_must(cudaEventSynchronize(to), "the timed kernels");
    lab_must(cudaEventElapsedTime(&ms, from, to), "event");
    return ms;
  }
};

// So many launches as a graph: between small kernels the host would be what is measured.
template <typename F> static cudaGraphExec_t repeated(int repeats, cudaStream_t stream, F run) {
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  lab_must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capture");
  for (int i = 0; i < repeats; i++) {
    run();
  }
  lab_must(cudaStreamEndCapture(stream, &graph), "capture");
  lab_must(cudaGraphInstantiate(&ready, graph, 0), "graph");
  lab_must(cudaGraphDestroy(graph), "graph");
  return ready;
}

// TFLOP/s of cuBLASLt on large square matrices: what this GPU gives here and now.
static double peak(int how, cudaStream_t stream) {
  const int size = 8192;
  lab_peer peer(size, size, size, how, stream);
  stopwatch watch(stream);
  std::vector<double> ms;
  for (int i = 0; i < 8; i++) {
    const double x = watch.ms([&] {
      for (int j = 0; j < 5; j++) {
        if (!peer.run(stream)) lab_must(cudaErrorNotSupported, "cuBLASLt");
      }
    });
    if (i > 0) ms.push_back(x / 5);
  }
  return 2.0 * size * size * size / median(ms) / 1e9;
}

static int time_shape(const lab_shape &shape, int how, double most, int rounds, const char *rung_pattern, cudaStream_t stream) {
  lab_work work(shape, how, false, stream);
  lab_peer peer(work.listed.m, work.listed.n, work.listed.channels * work.listed.taps, how, stream);
  stopwatch watch(stream);
  std::vector<contender> all;
  int failures = 0;
  const auto run = [&](const contender &c) {
    if (c.rung == NULL) {
      peer.run(stream);
    } else {
      lab_must(c.rung->start(work.of(*c.rung), how, stream), c.name);
    }
  };
  if (peer.run(stream)) {
    all.push_back(contender{"cuBLASLt, gathered", NULL, true, 1, NULL, {}});
  }
  for (int r = 0; r < lab_rung_count; r++) {
    bool able = true;
    double worst = 0;
    if (!strstr(lab_rungs[r].name, rung_pattern) || (lab_rungs[r].dense && shape.active < 100)) {
      continue;
    }
    const bool right = passed[r][how] && work.check(lab_rungs[r], false, 2000, &able, &worst, stream);
    if (able && (passed[r][how] || !right)) {
      all.push_back(contender{lab_rungs[r].name, &lab_rungs[r], right, 1, NULL, {}});
      failures += !right;
    }
  }
  for (contender &c : all) {
    if (c.right) {
      watch.ms([&] { run(c); });
      c.repeats = std::max(1, std::min(200, (int)(TARGET_MS / watch.ms([&] { run(c); }))));
      c.graph = repeated(c.repeats, stream, [&] { run(c); });
    }
  }
  for (int i = 0; i < rounds; i++) {  // in turns: what the clock does meets all alike
    for (contender &c : all) {
      if (c.right && (i < 3 || c.ms[0] < 100)) {
        c.ms.push_back(watch.ms([&] { lab_must(cudaGraphLaunch(c.graph, stream), c.name); }) / c.repeats);
      }
    }
  }
  const double theirs = !all.empty() && all[0].rung == NULL ? median(all[0].ms) : 0;
  printf("\n%s, %s: %.3f GFLOP\n  %-20s %10s %18s %9s %8s %11s\n", shape.name, lab_kind_names[how], work.flops() / 1e9, "", "median ms",
         "from..to", "TFLOP/s", "of peak", "x cuBLASLt");
  for (const contender &c : all) {
    if (!c.right) {
      printf("  %-20s %10s\n", c.name, "FAIL");
      continue;
    }
    const double ms = median(c.ms), rate = work.flops() / ms / 1e9;
    char spread[32], ratio[16] = "";
    snprintf(spread, sizeof spread, "%.4f..%.4f", *std::min_element(c.ms.begin(), c.ms.end()), *std::max_element(c.ms.begin(), c.ms.end()));
    if (theirs > 0) {
      snprintf(ratio, sizeof ratio, "%.2f", theirs / ms);
    }
    printf("  %-20s %10.4f %18s %9.1f %7.1f%% %11s\n", c.name, ms, spread, rate, 100 * rate / most, ratio);
    cudaGraphExecDestroy(c.graph);
  }
  fflush(stdout);
  return failures;
}

static int time_all(const char *row_pattern, const char *rung_pattern, int rounds, cudaStream_t stream) {
  int failures = 0;
  double most[LAB_KINDS];
  printf("\nPeak: cuBLASLt, 8192 x 8192 x 8192\n");
  for (int how = 0; how < LAB_KINDS; how++) {
    most[how] = peak(how, stream);
    printf("  %-10s %8.1f TFLOP/s\n", lab_kind_names[how], most[how]);
  }
  for (const lab_shape &shape : timed) {
    for (int how = 0; how < LAB_KINDS && strstr(shape.name, row_pattern); how++) {
      failures += time_shape(shape, how, most[how], rounds, rung_pattern, stream);
    }
  }
  printf("\nPeak again\n");
  for (int how = 0; how < LAB_KINDS; how++) {
    const double now = peak(how, stream);
    printf("  %-10s %8.1f TFLOP/s (%+.1f %%)\n", lab_kind_names[how], now, 100 * (now / most[how] - 1));
  }
  return failures;
}

#endif

// ---- the program ---------------------------------------------------------------------------------------------------------------------------

static int usage(void) {
  fprintf(stderr, "usage: cuda_lab [check|time|all] [--rows TEXT] [--rungs TEXT] [--rounds 9]\n"
                  "Checks every rung; `all` (the default) and `time` then time those that are right. TEXT: a part of the name.\n");
  return 2;
}

int main(int argc, char **argv) {
  const char *rows = "", *rungs = "", *what = "all";
  int rounds = 9, count = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--rows") && i + 1 < argc) {
      rows = argv[++i];
    } else if (!strcmp(argv[i], "--rungs") && i + 1 < argc) {
      rungs = argv[++i];
    } else if (!strcmp(argv[i], "--rounds") && i + 1 < argc) {
      rounds = atoi(argv[++i]);
#ifdef MT_SIMULATOR
    } else if (!strcmp(argv[i], "--async") && i + 1 < argc) {
      hopper.late_copies = !strcmp(argv[++i], "late-copies");
    } else if (!strcmp(argv[i], "--mistake") && i + 1 < argc) {
      hopper.mistake = argv[++i];
#endif
    } else if (!strcmp(argv[i], "check") || !strcmp(argv[i], "time") || !strcmp(argv[i], "all")) {
      what = argv[i];
    } else {
      return usage();
    }
  }
  if (rounds < 3) {
    return usage();
  }
  cudaDeviceProp device;
  cudaStream_t stream;
  lab_must(cudaGetDeviceCount(&count), "no GPU");
  lab_must(cudaGetDeviceProperties(&device, 0), "device");
  lab_must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  printf("%s, sm_%d%d, %d multiprocessors, %.1f MB L2\n", device.name, device.major, device.minor, device.multiProcessorCount, device.l2CacheSize / 1e6);
  int failures = check(rows, rungs, stream);
#ifndef MT_SIMULATOR
  if (strcmp(what, "check")) {
    failures += time_all(rows, rungs, rounds, stream);
  }
#else
  (void)what;
#endif
  return failures > 0;
}
