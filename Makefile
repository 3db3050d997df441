# Masked Torch for LuaJIT. `make help` lists the targets.
config ?= release
VERSION := $(shell cat VERSION)
BUILD := build/$(config)
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
NVCC ?= $(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
LUAJIT ?= luajit
PREFIX ?= /usr/local
DESTDIR ?=

# ---- flags ---------------------------------------------------------------------------------------------------------

CFLAGS_release := -O3 -g
CFLAGS_debug := -O1 -g -DMT_DEBUG
CFLAGS_sanitize := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
# atomic: counters of several threads would otherwise go astray, which gcovr takes for broken files.
CFLAGS_coverage := -O0 -g --coverage -fprofile-update=atomic -DMT_DEBUG
ifeq ($(CFLAGS_$(config)),)
$(error config=$(config) is unknown: release, debug, sanitize or coverage)
endif
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unknown-pragmas
# -ffp-contract=off: results must not depend on where the compiler sees a multiply beside an add. -fno-trapping-math: nobody reads
# the exception flags, and loops with comparisons vectorise; results, NaN and Inf included, are the same.
override CFLAGS += -std=c11 -D_GNU_SOURCE $(WARNINGS) $(if $(werror),-Werror) -fPIC -fvisibility=hidden -ffp-contract=off \
  -fno-math-errno -fno-trapping-math -DMT_VERSION='"$(VERSION)"' $(CFLAGS_$(config))
# nodelete: the pool's threads outlive dlclose. defs, Bsymbolic: nothing is resolved from another library by accident.
override LDFLAGS += -shared -Wl,-z,nodelete -Wl,-z,defs -Wl,-Bsymbolic $(filter -fsanitize% --coverage,$(CFLAGS_$(config)))
LDLIBS := -lopenblas -lpthread -lm

# The targets that install, build and test in one go build on all cores, whatever -j says.
JOBS := --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

# ---- build -----------------------------------------------------------------------------------------------------------

# The micro-kernels, the loops of norms, the lines of logits and the rows of functions are built once per instruction set; the library
# picks one at run time (core/isa.c).
BUILT_PER_ISA := tile norm_rows norm_channels norm_lines_wide logits activation_rows elementwise_unary_rows
TILES := portable $(if $(filter x86_64,$(shell $(CC) -dumpmachine | cut -d- -f1)),avx2 avx512)
TILE_FLAGS_avx2 := -mavx2 -mfma
TILE_FLAGS_avx512 := -mavx2 -mfma -mavx512f -mavx512vl
SOURCES := $(filter-out $(BUILT_PER_ISA:%=core/%.c),$(wildcard core/*.c))
OBJECTS := $(SOURCES:core/%.c=$(BUILD)/core/%.o) $(foreach stem,$(BUILT_PER_ISA),$(TILES:%=$(BUILD)/core/$(stem)_%.o))
LIBRARY := $(BUILD)/libmasked_torch_cpu.so
.PHONY: all
all: $(LIBRARY) $(if $(filter sanitize,$(config)),$(BUILD)/bin/luajit)  ## build the library for this machine (werror=1: warnings are errors)

$(LIBRARY): $(OBJECTS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/core/%.o: core/%.c VERSION Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# Arguments: the stem, the instruction set.
define per_isa
$(BUILD)/core/$(1)_$(2).o: core/$(1).c VERSION Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) $$(TILE_FLAGS_$(2)) -DTILE_NAME=$(2) -MMD -MP -c -o $$@ $$<
endef
$(foreach stem,$(BUILT_PER_ISA),$(foreach isa,$(TILES),$(eval $(call per_isa,$(stem),$(isa)))))

# Vectors by value: all of it is inlined, no calling convention is concerned.
$(BUILD)/core/norm_channels_%.o: CFLAGS += -Wno-psabi

# Where a bound is a constant, the path on which it holds would be computed apart from the other: both for every element of a vector.
$(BUILD)/core/activation_rows_%.o $(BUILD)/core/elementwise_unary_rows_%.o: CFLAGS += $(if $(findstring clang,$(CC)),,-fno-thread-jumps)

# vdpbf16ps; called where the processor has it (core/tile_bf16.h).
$(BUILD)/core/tile_bf16.o: CFLAGS += $(if $(filter avx512,$(TILES)),$(TILE_FLAGS_avx512) -mavx512bf16)

-include $(OBJECTS:.o=.d)

# ---- CUDA ------------------------------------------------------------------------------------------------------------
# Three kinds of objects: the kernels (cuda/*.cu), and the C files that hold no kernel (checks, shapes, tensors' handles), compiled
# again for this library. It links neither the CPU library nor libcuda, which comes with the driver.

# CUDA_ARCHS=90 builds for one GPU, quickly. By default: what the toolkit knows of these, and PTX of the last for later ones.
CUDA_ARCHS ?= $(filter $(patsubst sm_%,%,$(if $(NVCC),$(shell $(NVCC) --list-gpu-code))),80 90 100 120)
NVCC_FLAGS = -std=c++17 -O3 -lineinfo --fmad=false --threads 0 -Wno-deprecated-gpu-targets -diag-suppress 186 \
  $(foreach arch,$(CUDA_ARCHS),-gencode arch=compute_$(arch),code=sm_$(arch)) \
  $(foreach arch,$(lastword $(CUDA_ARCHS)),-gencode arch=compute_$(arch),code=compute_$(arch)) \
  -Xcompiler -fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wno-unknown-pragmas -DMT_CUDA_LIBRARY -Icore $(if $(werror),-Werror all-warnings)
CUDA_SOURCES := $(wildcard cuda/*.cu)
CUDA_SHARED := status optim tensor tensor_view loop_plan reduce_plan $(patsubst core/%.c,%,$(wildcard core/*_check.c))
CUDA_OBJECTS := $(CUDA_SOURCES:cuda/%.cu=$(BUILD)/cuda/%.o)
CUDA_SHARED_OBJECTS := $(CUDA_SHARED:%=$(BUILD)/cuda/core/%.o)
CUDA_LIBRARY := $(BUILD)/libmasked_torch_cuda.so
CONTRACT := core/kernels.h $(shell sed -n 's/^\#include "\(.*\)"/core\/\1/p' core/kernels.h)

.PHONY: cuda
cuda: $(CUDA_LIBRARY)  ## build the library for NVIDIA GPUs (CUDA_ARCHS="80 90"; NVCC=)

$(CUDA_LIBRARY): $(CUDA_OBJECTS) $(CUDA_SHARED_OBJECTS) $(BUILD)/cuda/exports.map
	$(NVCC) -shared -cudart static -o $@ $(filter %.o,$^) -lcublasLt -lpthread \
	  -Xlinker -z,nodelete,-z,defs,-Bsymbolic,--as-needed,--exclude-libs,ALL,--version-script=$(BUILD)/cuda/exports.map,-rpath,$(NVCC_FOLDER)../lib64

# NVCC= may be more than one word: NVCC="ccache nvcc".
NVCC_FOLDER = $(dir $(shell command -v $(lastword $(NVCC))))

# Other architectures: everything anew.
$(BUILD)/cuda/archs: FORCE
	@mkdir -p $(@D)
	@echo "$(CUDA_ARCHS)" | cmp -s - $@ || echo "$(CUDA_ARCHS)" > $@
.PHONY: FORCE
FORCE:

$(CUDA_OBJECTS): $(BUILD)/cuda/%.o: cuda/%.cu $(BUILD)/cuda/archs VERSION Makefile
	@test -n "$(NVCC)" || { echo "cuda: nvcc not found; install the CUDA toolkit, or say where: make cuda NVCC=" >&2; exit 1; }
	@mkdir -p $(@D)
	$(CUDA_CACHE) $(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
CUDA_CACHE ?= $(if $(filter ccache,$(notdir $(NVCC))),,$(if $(shell command -v ccache 2>/dev/null),ccache))

$(CUDA_SHARED_OBJECTS): $(BUILD)/cuda/core/%.o: core/%.c VERSION Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -DMT_CUDA_LIBRARY -MMD -MP -c -o $@ $<

# Exactly the contract's names, whatever the toolkit's static libraries and the C++ library bring along.
$(BUILD)/cuda/exports.map: $(CONTRACT) cuda/device.h Makefile
	@mkdir -p $(@D)
	@{ echo '{ global:'; sed 's,//.*,,' $(CONTRACT) cuda/device.h | grep -oE '\bmt_[a-z0-9_]+\(' | sort -u | tr '(' ';'; \
	  echo 'local: *; };'; } > $@

-include $(CUDA_OBJECTS:.o=.d) $(CUDA_SHARED_OBJECTS:.o=.d)

# The ladder of product kernels, a program of its own: cuda/lab/README.md. wgmma is in sm_90a alone.
LAB := $(BUILD)/cuda_lab
LAB_SOURCES := $(wildcard cuda/lab/*.cu)
LAB_OBJECTS := $(LAB_SOURCES:cuda/lab/%.cu=$(BUILD)/cuda/lab/%.o)
LAB_FLAGS = -std=c++17 -O3 -lineinfo --fmad=false --threads 0 -Wno-deprecated-gpu-targets -diag-suppress 177 \
  $(foreach arch,$(patsubst 90,90a,$(CUDA_ARCHS)),-gencode arch=compute_$(arch),code=sm_$(arch)) -Xcompiler -Wall,-Wno-unknown-pragmas \
  $(if $(werror),-Werror all-warnings)

.PHONY: cuda-lab
cuda-lab: $(LAB)  ## build the ladder of product kernels, build/release/cuda_lab: checks them and times them beside cuBLASLt, on a GPU

$(LAB): $(LAB_OBJECTS)
	$(NVCC) -cudart static -o $@ $^ -lcublasLt -lpthread -Xlinker -rpath,$(NVCC_FOLDER)../lib64

$(LAB_OBJECTS): $(BUILD)/cuda/lab/%.o: cuda/lab/%.cu $(BUILD)/cuda/archs Makefile
	@test -n "$(NVCC)" || { echo "cuda-lab: nvcc not found; install the CUDA toolkit, or say where: make cuda-lab NVCC=" >&2; exit 1; }
	@mkdir -p $(@D)
	$(CUDA_CACHE) $(NVCC) $(LAB_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

-include $(LAB_OBJECTS:.o=.d)

# The same files for the processor: tests/cuda_simulator/README.md.
SIMULATOR := $(BUILD)/simulator
SIMULATOR_LIBRARY := $(SIMULATOR)/libmasked_torch_cuda.so
SIMULATOR_OBJECTS := $(CUDA_SOURCES:cuda/%.cu=$(SIMULATOR)/%.o) $(SIMULATOR)/simulator.o
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
SIMULATOR_FLAGS := -std=c++17 -O1 -g -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -Wall -Wextra -Wno-unknown-pragmas \
  $(if $(werror),-Werror) -DMT_SIMULATOR -DMT_CUDA_LIBRARY -Itests/cuda_simulator -Icore

.PHONY: cuda-simulator
cuda-simulator: $(SIMULATOR_LIBRARY) $(SIMULATOR)/bad_kernels $(SIMULATOR)/cuda_lab  ## build the CUDA kernels for the processor, to test them without a GPU

$(SIMULATOR_LIBRARY): $(SIMULATOR_OBJECTS) $(CUDA_SHARED_OBJECTS) $(BUILD)/cuda/exports.map
	$(CXX) $(LDFLAGS) -Wl,--version-script=$(BUILD)/cuda/exports.map -o $@ $(filter %.o,$^) -lpthread -lm

$(SIMULATOR)/bad_kernels: tests/cuda_simulator/bad_kernels.cc $(SIMULATOR)/simulator.o tests/cuda_simulator/cuda_runtime.h
	$(CXX) $(SIMULATOR_FLAGS) -o $@ $(filter-out %.h,$^) -lpthread

$(SIMULATOR)/simulator.o: tests/cuda_simulator/simulator.cc VERSION Makefile
	@mkdir -p $(@D)
	$(CXX) $(SIMULATOR_FLAGS) -MMD -MP -c -o $@ $<

$(CUDA_SOURCES:cuda/%.cu=$(SIMULATOR)/%.o): $(SIMULATOR)/%.o: cuda/%.cu VERSION Makefile
	@mkdir -p $(@D)
	$(CXX) -x c++ $(SIMULATOR_FLAGS) -MMD -MP -c -o $@ $<

SIMULATED_LAB := $(patsubst cuda/lab/%.cu,$(SIMULATOR)/lab/%.o,$(filter-out cuda/lab/cublas.cu,$(LAB_SOURCES)))
$(SIMULATOR)/cuda_lab: $(SIMULATED_LAB) $(SIMULATOR)/simulator.o
	$(CXX) -o $@ $^ -lpthread

$(SIMULATED_LAB): $(SIMULATOR)/lab/%.o: cuda/lab/%.cu Makefile
	@mkdir -p $(@D)
	$(CXX) -x c++ $(SIMULATOR_FLAGS) -O2 -Wno-psabi -MMD -MP -c -o $@ $<

-include $(SIMULATOR_OBJECTS:.o=.d) $(SIMULATED_LAB:.o=.d)

# ---- use ---------------------------------------------------------------------------------------------------------------

.PHONY: run
run:  ## install what is missing, build, draw the activation figure
	@sh scripts/install_dependencies run
	@$(MAKE) $(JOBS) -s all
	$(LUAJIT) experiments/visualize_activations.lua $(ARGS)

.PHONY: repl
repl: all  ## the prompt, with this checkout (ARGS=: its options)
	@MASKED_TORCH_CONFIG=$(config) $(LUAJIT) bin/masked-torch $(ARGS)

# config=sanitize: LuaJIT itself is not instrumented, so the runtimes are loaded before it, by a `luajit` that comes first in the
# path and goes by that name. Other programs that the tests start must not get them (curl hangs): tests/run.lua takes LD_PRELOAD
# out again.
RUN_sanitize := PATH="$(abspath $(BUILD)/bin):$$PATH"

$(BUILD)/bin/luajit: Makefile
	@mkdir -p $(@D)
	@printf '#!/bin/bash\nexport LD_PRELOAD="%s %s"\n%s\nexport UBSAN_OPTIONS=print_stacktrace=1\nexec -a luajit "%s" "$$@"\n' \
	  "$$($(CC) -print-file-name=libasan.so)" "$$($(CC) -print-file-name=libubsan.so)" \
	  'export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16' "$$(command -v $(LUAJIT))" > $@
	@chmod +x $@

RUN_TESTS := MASKED_TORCH_CONFIG=$(config) $(RUN_$(config))
TESTS := $(if $(OP),tests/op/$(OP)_spec.lua,$(FILE))

.PHONY: test
test:  ## install what is missing, build, run the tests (OP=softmax: one operation; FILE=tests/x_spec.lua; ARGS=: options of busted)
	@sh scripts/install_dependencies test
	@$(MAKE) $(JOBS) -s all $(SIMULATED:%=cuda-simulator)
	$(RUN_TESTS) $(LUAJIT) tests/run.lua $(ARGS) $(TESTS)
	$(SIMULATED:%=@$(MAKE) --no-print-directory -s test-cuda-simulated)
# All tests of a release or debug build include the kernels of the GPU, in the simulator.
SIMULATED := $(if $(TESTS)$(ARGS)$(filter-out release debug,$(config)),,yes)

.PHONY: test-cuda-build
test-cuda-build:  ## where nvcc is found: build the CUDA library for one GPU, check what it exports and what it says without one
ifeq ($(NVCC),)
	@echo "test-cuda-build: nvcc not found: skipped"
else
	@$(MAKE) $(JOBS) -s all
	@$(MAKE) $(JOBS) -s cuda CUDA_ARCHS="$$(cat $(BUILD)/cuda/archs 2>/dev/null || echo 90)"
	$(RUN_TESTS) $(LUAJIT) tests/run.lua $(ARGS) tests/cuda/library_spec.lua
endif

# The promises and the golden vectors run on the device too; with OP= the op table alone.
CUDA_TESTS = tests/cuda $(if $(OP),,tests/promises_spec.lua tests/autocast_spec.lua $(wildcard tests/op/bfloat16*_spec.lua) tests/bench/ours_spec.lua $(wildcard tests/golden_*_spec.lua))

.PHONY: test-cuda
test-cuda: all cuda  ## the op table on a GPU, against the CPU (OP=softmax: one operation); fails without one
	OP=$(OP) MASKED_TORCH_TEST_DEVICE=cuda $(RUN_TESTS) $(LUAJIT) tests/run.lua $(ARGS) $(CUDA_TESTS)

.PHONY: test-cuda-simulated
test-cuda-simulated: all cuda-simulator  ## the same with the kernels executed by the processor: no GPU needed, and no proof that one agrees
	OP=$(OP) MASKED_TORCH_CUDA=simulator MASKED_TORCH_CACHE=0 MASKED_TORCH_TEST_DEVICE=cuda $(RUN_TESTS) $(LUAJIT) tests/run.lua $(ARGS) $(CUDA_TESTS)

.PHONY: test-jit
test-jit: all  ## the tests without the JIT compiler, and with one that compiles everything at once
	$(RUN_TESTS) $(LUAJIT) -joff tests/run.lua $(ARGS) $(TESTS)
	$(RUN_TESTS) $(LUAJIT) -Ohotloop=1,hotexit=1 tests/run.lua $(ARGS) $(TESTS)

# Valgrind sees what AddressSanitizer cannot: accesses by Lua code through FFI. Debian's LuaJIT needs no suppressions; its
# string functions read past ends within an allocated word, which -joff and its own allocator keep invisible.
.PHONY: test-valgrind
test-valgrind: all  ## the tests that touch FFI and memory, under valgrind
	$(RUN_TESTS) MASKED_TORCH_CACHE=0 valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
	  --errors-for-leak-kinds=definite \
	  $(LUAJIT) tests/run.lua $(ARGS) $(or $(TESTS),--tags=memory)

# Random cases, computed by the original and by us. Peers are for checks: nothing else needs them.
PEERS ?= build/peers
MASKED_TORCH_PYTHON ?= $(PEERS)/masked_torch
export PEERS MASKED_TORCH_PYTHON
SEED ?= 1
COUNT ?= 100
.PHONY: test-peers
test-peers: all  ## compare with masked_torch on PyTorch, on random cases (scripts/install_peers first; MASKED_TORCH_PYTHON=, SEED=, COUNT=)
	@test -e $(PEERS)/environment || { echo "test-peers: PyTorch is missing: scripts/install_peers" >&2; exit 1; }
	@test -e "$(MASKED_TORCH_PYTHON)/masked_torch/nn.py" || { echo "test-peers: masked_torch is missing:" \
	  "MASKED_TORCH_PYTHON=<checkout of ivanstepanovftw/masked_torch from GitHub>" >&2; exit 1; }
	. $(PEERS)/environment; MASKED_TORCH_PYTHON="$(MASKED_TORCH_PYTHON)" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
	  python3 tests/peers/draw_cases.py --seed $(SEED) --count $(COUNT) $(PEERS)/cases
	GOLDEN=$(PEERS)/cases $(RUN_TESTS) $(LUAJIT) tests/run.lua $(ARGS) $(PARITY:%=tests/golden_%_spec.lua)
	@$(MAKE) --no-print-directory -s test-calls test-weights test-onnx
PARITY := conv bn modules ops figure

# Values, gradients, types, shapes, strides and errors of what has PyTorch's names.
CALLS ?= $(shell expr 30 '*' $(COUNT))
.PHONY: test-calls
test-calls: all  ## random calls of every function and layer, compared with PyTorch's (part of test-peers; CALLS=, SEED=, ONLY=a family of tests/peers/calls.py)
	@set -e; . $(PEERS)/environment; rm -rf $(PEERS)/calls; mkdir -p $(PEERS)/calls; \
	PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 python3 tests/peers/draw_calls.py --seed $(SEED) --count $(CALLS) $(ONLY:%=--only %) \
	  $(PEERS)/calls; \
	$(RUN_TESTS) $(LUAJIT) tests/peers/calls.lua $(PEERS)/calls

.PHONY: test-weights
test-weights: all  ## weights to PyTorch and masked_torch and back, as safetensors (part of test-peers)
	@set -e; . $(PEERS)/environment; rm -rf $(PEERS)/weights; mkdir -p $(PEERS)/weights; \
	export MASKED_TORCH_PYTHON="$(MASKED_TORCH_PYTHON)" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1; \
	python3 tests/peers/weights.py write $(PEERS)/weights; \
	$(RUN_TESTS) $(LUAJIT) tests/peers/weights.lua $(PEERS)/weights; \
	python3 tests/peers/weights.py check $(PEERS)/weights

# Every layer and network of tests/io/onnx_cases.lua as a file, at the lowest, the default and the highest opset.
OPSETS ?= 18 13 22
.PHONY: test-onnx
test-onnx: all  ## exported networks in onnxruntime (part of test-peers; scripts/install_peers onnx first; OPSETS=18)
	@set -e; . $(PEERS)/environment; python3 -c 'import onnx, onnxruntime, safetensors' || \
	  { echo "test-onnx: onnx or onnxruntime is missing: scripts/install_peers torch onnx" >&2; exit 1; }; \
	for opset in $(OPSETS); do \
	  rm -rf $(PEERS)/onnx; mkdir -p $(PEERS)/onnx; \
	  $(RUN_TESTS) $(LUAJIT) tests/peers/onnx_write.lua $(PEERS)/onnx $$opset; \
	  python3 tests/peers/onnx_check.py $(PEERS)/onnx; \
	done

# QUICK=1: a few rows; ROWS=pattern, THREADS=1,2: only these; DEVICE=cuda: on a GPU; SAVE=name: the output to bench/results/<date>-name.txt.
BENCH_OPTIONS = $(if $(QUICK),--quick) $(if $(ROWS),--rows "$(ROWS)") $(if $(THREADS),--threads $(THREADS)) $(if $(DEVICE),--device $(DEVICE)) \
  $(if $(or $(SAVE),$(QUICK)$(ROWS)$(THREADS)$(DEVICE)),$(if $(SAVE),--save $(SAVE)),--save all) $(ARGS)
PEAK := $(BUILD)/bench/libpeak.so
$(PEAK): bench/peak.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -O2 $(WARNINGS) -fPIC -shared -ffp-contract=fast -fvisibility=hidden -o $@ $< -lpthread

ONEDNN := $(if $(wildcard $(PEERS)/venv/include/dnnl.h),$(BUILD)/bench/libonednn.so)
$(BUILD)/bench/libonednn.so: bench/onednn.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -O2 $(WARNINGS) -fPIC -shared -fopenmp -fvisibility=hidden -I$(PEERS)/venv/include -o $@ $< \
	  -L$(PEERS)/venv/lib -l:libdnnl.so.3 -Wl,-rpath,$(abspath $(PEERS)/venv/lib)

.PHONY: bench
bench: all $(PEAK) $(ONEDNN)  ## measure against PyTorch and masked_torch (scripts/install_peers first; QUICK=1, ROWS=pattern, THREADS=1,2, SAVE=name)
	$(LUAJIT) bench/run.lua $(BENCH_OPTIONS)

.PHONY: bench-cuda
bench-cuda:  ## build, test, sanitise and time the CUDA library on a GPU, beside PyTorch; text in bench/results (PARTS="test time")
	bench/cuda.sh $(or $(PARTS),all)

.PHONY: bench-soak
bench-soak: all  ## 20,000 small training steps of three networks: memory must not grow (STEPS=)
	$(LUAJIT) bench/soak.lua $(STEPS)

.PHONY: bench-startup
bench-startup: all  ## start-up time: library and one forward; the default figure from end to end
	$(LUAJIT) bench/startup.lua

# ---- developers ----------------------------------------------------------------------------------------------------

LUA_FILES := $(shell find lua experiments tests bench -name '*.lua' 2>/dev/null)

.PHONY: lint
lint:  ## luacheck, -Werror build, file lengths, versions, exported symbols
	luacheck -q lua experiments tests bench debian bin/masked-torch scripts/make_reference scripts/public_names.lua
	@$(MAKE) --no-print-directory -s werror=1 all
	@sh scripts/check_tree $(LIBRARY)

.PHONY: symbols
symbols: all  ## what the library exports
	@nm -D --defined-only $(LIBRARY) | awk '{ print $$3 }'

.PHONY: coverage
coverage:  ## line coverage of the C core by the tests
	@find build/coverage -name '*.gcda' -delete 2>/dev/null || true
	@$(MAKE) --no-print-directory config=coverage test
	gcovr --root . --filter core/ build/coverage

.PHONY: doc
doc: all  ## the manual and the reference of every public name as HTML, build/doc/index.html (needs ldoc)
	@command -v ldoc >/dev/null || { echo "doc: ldoc is missing: sh scripts/install_dependencies developer" >&2; exit 1; }
	$(LUAJIT) scripts/make_reference $(abspath build/doc)

LUADIR ?= $(PREFIX)/share/lua/5.1
NATIVEDIR ?= $(PREFIX)/lib/masked_torch
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man/man1
COMMANDS := $(wildcard bin/masked-torch)
LIBRARIES = $(LIBRARY) $(wildcard $(BUILD)/libmasked_torch_cuda.so)

.PHONY: install
install: all  ## copy to PREFIX (/usr/local), below DESTDIR
	install -d "$(DESTDIR)$(NATIVEDIR)" "$(DESTDIR)$(LUADIR)"
	install -m 644 $(LIBRARIES) "$(DESTDIR)$(NATIVEDIR)/"
	install -m 644 $(CONTRACT) core/masked_torch.h cuda/device.h VERSION "$(DESTDIR)$(NATIVEDIR)/"
	cd lua && for folder in $$(find masked_torch -type d); do \
	  install -d "$(DESTDIR)$(LUADIR)/$$folder" && install -m 644 $$folder/*.lua "$(DESTDIR)$(LUADIR)/$$folder/" || exit 1; done
	$(if $(COMMANDS),install -D -t "$(DESTDIR)$(BINDIR)" $(COMMANDS))
	$(if $(COMMANDS),install -D -m 644 -t "$(DESTDIR)$(MANDIR)" $(COMMANDS:bin/%=docs/%.1))

.PHONY: uninstall
uninstall:  ## remove what install copied
	rm -rf "$(DESTDIR)$(NATIVEDIR)" "$(DESTDIR)$(LUADIR)/masked_torch"
	$(if $(COMMANDS),rm -f $(COMMANDS:bin/%="$(DESTDIR)$(BINDIR)/%") $(COMMANDS:bin/%="$(DESTDIR)$(MANDIR)/%.1"))

# The state of the last commit, with its date: the same bytes for everybody.
DIST := masked-torch-$(VERSION)
DIST_FOLDER ?= build
.PHONY: dist
dist:  ## build/masked-torch-VERSION.tar.gz from the last commit
	@mkdir -p "$(DIST_FOLDER)"
	git archive --format=tar --prefix=$(DIST)/ HEAD | gzip -9n > "$(DIST_FOLDER)/$(DIST).tar.gz"
	@cd "$(DIST_FOLDER)" && sha256sum $(DIST).tar.gz

.PHONY: deb
deb: dist  ## a Debian package of the last commit in build/deb (needs debhelper; lintian where it is installed)
	sh scripts/make_deb build/$(DIST).tar.gz build/deb

.PHONY: clean
clean:  ## remove build/ and out/
	rm -rf build out

.PHONY: help
help:  ## this list
	@echo "make [target] [config=release|debug|sanitize|coverage]"
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-19s %s\n", $$1, $$2 }'
