# Masked Torch for LuaJIT. `make help` lists the targets; config=debug|release|sanitize|coverage picks the build.
config ?= release
BUILD := build/$(config)
VERSION := $(shell cat VERSION)
CC ?= gcc
LUAJIT ?= luajit

CFLAGS_release := -O3 -g
CFLAGS_debug := -O1 -g -DMT_DEBUG
CFLAGS_sanitize := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
CFLAGS_coverage := -O0 -g --coverage -DMT_DEBUG
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unknown-pragmas
# -ffp-contract=off: results must not depend on where the compiler sees a multiply beside an add.
override CFLAGS += -std=c11 -D_GNU_SOURCE $(WARNINGS) $(if $(werror),-Werror) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
  -DMT_VERSION='"$(VERSION)"' $(CFLAGS_$(config))
# nodelete: the pool's threads outlive dlclose. defs, Bsymbolic: nothing is resolved from another library by accident.
override LDFLAGS += -shared -Wl,-z,nodelete -Wl,-z,defs -Wl,-Bsymbolic $(filter -fsanitize% --coverage,$(CFLAGS_$(config)))
LDLIBS := -lopenblas -lpthread -lm

SOURCES := $(wildcard core/*.c)
OBJECTS := $(SOURCES:core/%.c=$(BUILD)/core/%.o)
LIBRARY := $(BUILD)/libmasked_torch_cpu.so

.PHONY: all
all: $(LIBRARY)

$(LIBRARY): $(OBJECTS)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/core/%.o: core/%.c VERSION Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJECTS:.o=.d)

.PHONY: test
test: all
	MASKED_TORCH_CONFIG=$(config) $(LUAJIT) tests/run.lua $(if $(OP),tests/op/$(OP)_spec.lua) $(ARGS)

.PHONY: clean
clean:
	rm -rf build
