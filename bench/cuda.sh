#!/bin/sh
# Everything that only a GPU can show, in one go, as text under bench/results/: the build, the tests, compute-sanitizer on the op
# table's small cases, the times beside PyTorch, and the ladder of product kernels (cuda/lab).
#
#   bench/cuda.sh [build|test|sanitize|time|lab|all]...      (make bench-cuda is `all`)
#
# Needs nvcc, a driver and a GPU, and fails without one of them: nothing is passed over. The times are those of
# `make bench DEVICE=cuda` (ROWS= chooses); PyTorch and masked_torch need scripts/install_peers. ARCHS=90 builds for one GPU alone.
set -u
cd "$(dirname "$0")/.."
: "${LUAJIT:=luajit}"
fail() {
  echo "bench-cuda: $*" >&2
  exit 1
}
parts=""
for part in "${@:-all}"; do
  case $part in
    build | test | sanitize | time | lab) parts="$parts $part" ;;
    all) parts="build test sanitize time lab" ;;
    *) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 2 ;;
  esac
done
[ -n "${NVCC:-}" ] || NVCC=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || fail "nvcc not found; install the CUDA toolkit or set NVCC="
command -v nvidia-smi >/dev/null || fail "nvidia-smi not found: there is no NVIDIA driver here"
nvidia-smi -L >/dev/null 2>&1 || fail "no GPU: $(nvidia-smi -L 2>&1 | head -1)"

archs=${ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. ')}
result() { echo "bench/results/$(date -u +%Y-%m-%d)-cuda-$1.txt"; }
head_of() {
  echo "commit $(git rev-parse --short HEAD 2>/dev/null || cat VERSION)$(git diff --quiet HEAD 2>/dev/null || echo ', with changes'), $(date -u +'%Y-%m-%d %H:%M UTC')"
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,power.limit --format=csv
  $NVCC --version | tail -2
  "$LUAJIT" -v
  uname -srm
}
failed=""
# run PART COMMAND...: with its output to the screen and to the result's file.
run() {
  part=$1
  shift
  file=$(result "$part")
  echo "== $part: $*  -> $file"
  { head_of; echo "\$ $*"; } >"$file" 2>&1
  { "$@" 2>&1; echo "exit status $?"; } | tee -a "$file"
  tail -n 1 "$file" | grep -q '^exit status 0$' || failed="$failed $part"
}
has() { case " $parts " in *" $1 "*) true ;; *) false ;; esac; }

if has build; then
  run build make cuda CUDA_ARCHS="$archs" NVCC="$NVCC" werror=1
fi
make -s all cuda CUDA_ARCHS="$archs" NVCC="$NVCC" || fail "the library does not build"
"$LUAJIT" -e "package.path = 'lua/?.lua;lua/?/init.lua;' .. package.path
  local ok, why = require('masked_torch').cuda.is_available()
  if not ok then io.stderr:write(why, '\n') os.exit(1) end" || fail "the library does not see the GPU"

if has test; then
  run test make test-cuda CUDA_ARCHS="$archs" NVCC="$NVCC"
fi
if has sanitize; then
  sanitizer=$(command -v compute-sanitizer || ls "$(dirname "${NVCC##* }")/compute-sanitizer" 2>/dev/null) || fail "compute-sanitizer not found"
  for tool in memcheck racecheck; do
    run "$tool" env MASKED_TORCH_CACHE=0 MASKED_TORCH_TEST_DEVICE=cuda "$sanitizer" --tool $tool --error-exitcode 9 \
      "$LUAJIT" tests/run.lua tests/cuda/op_table_spec.lua
  done
fi
if has time; then
  run time make -s bench DEVICE=cuda LUAJIT="$LUAJIT" ${ROWS:+ROWS="$ROWS"}
fi
if has lab; then
  make -s cuda-lab CUDA_ARCHS="$archs" NVCC="$NVCC" || fail "cuda/lab does not build"
  run lab build/release/cuda_lab all ${ROWS:+--rows "$ROWS"}
fi
[ -z "$failed" ] || fail "failed:$failed"
