# Hearth. Targets a person types:
#
#   make            build/hearth
#   make demo       a coordinator and two workers on loopback answer a prompt
#   make test       what CI runs: units, golden vectors, fuzzers, clusters
#   make asan tsan  the unit tests under sanitizers
#   make lint       layers, format, banned functions
#   make install    PREFIX=/usr/local
#   make clean
#
# Variables: V=1 shows full command lines; CC; BUILD (default build);
# WERROR=1 turns warnings into errors (CI does); SAN=address|thread.
# `make deps` installs what is missing from Debian's packages, or says what to
# type; demo and test call it.

BUILD ?= build
PREFIX ?= /usr/local
CC ?= cc
ifeq ($(origin CC),default)
CC := gcc
endif
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-5s %s\n')

DIRS := base kernels model scheduler net worker coordinator cli
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
        -Wmissing-prototypes -Wvla $(if $(WERROR),-Werror)
CFLAGS ?= -O3 -g
STD := -std=c11 -D_GNU_SOURCE -I. -I$(BUILD)/gen -pthread -fno-math-errno
LIBS := -lnng -luv -lmbedtls -lmbedx509 -lmbedcrypto -lcrypto -lopenblas \
        -lpcre2-8 -ljansson -lhttp_parser -lqrencode -ledit -lm -lpthread
ifeq ($(SAN),address)
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all \
            -fno-omit-frame-pointer
else ifeq ($(SAN),thread)
SANFLAGS := -fsanitize=thread -fno-omit-frame-pointer
else ifeq ($(SAN),fuzzer)
SANFLAGS := -fsanitize=fuzzer-no-link,address,undefined \
            -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
# Instrumented SIMD takes minutes to compile: no fuzzer reaches the kernels, and
# SAN=address leaves the vector files plain unless SAN_SIMD=1 (make asan) asks.
ifeq ($(SAN),fuzzer)
$(BUILD)/obj/kernels/%.o: SANFLAGS :=
else ifeq ($(SAN)$(SAN_SIMD),address)
$(BUILD)/obj/kernels/%_avx2.o: SANFLAGS :=
$(BUILD)/obj/kernels/%_avx512.o: SANFLAGS :=
$(BUILD)/obj/kernels/%_avxvnni.o: SANFLAGS :=
endif
# Tile registers are not saved over calls, and sanitizers add calls.
$(BUILD)/obj/kernels/kernels_rows_amx.o: SANFLAGS :=
$(BUILD)/obj/kernels/kernels_rows_float_amx.o: SANFLAGS :=
ALLFLAGS = $(STD) $(WARN) $(CFLAGS) $(SANFLAGS)

ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)
ALL_SRC := $(sort $(foreach d,$(DIRS),$(wildcard $(d)/*.c)))
ifeq ($(ARCH),x86_64)
SRC := $(filter-out %_neon.c,$(ALL_SRC))
else ifeq ($(ARCH),aarch64)
SRC := $(filter-out %_avx2.c %_avxvnni.c %_avx512.c %_amx.c,$(ALL_SRC))
else
SRC := $(filter-out %_neon.c %_avx2.c %_avxvnni.c %_avx512.c %_amx.c, \
	$(ALL_SRC))
endif
OBJ := $(SRC:%.c=$(BUILD)/obj/%.o)
MAIN_OBJ := $(BUILD)/obj/cli/main.o
LIB_OBJ := $(filter-out $(MAIN_OBJ),$(OBJ))
LIB := $(BUILD)/libhearth.a

# Instruction sets are per file, chosen at run time.
%_avx2.o: ISAFLAGS := -mavx2 -mfma -mf16c
%_avxvnni.o: ISAFLAGS := -mavx2 -mfma -mf16c -mavxvnni
%_avx512.o: ISAFLAGS := -mavx512f -mavx512bw -mavx512vl -mavx512dq \
	-mavx512vnni -mavx512vbmi -mavx512bf16 -mavx2 -mfma -mf16c
%_amx.o: ISAFLAGS := -mavx512f -mavx512bw -mavx512vl -mavx512dq \
	-mavx512vnni -mavx512vbmi -mavx512bf16 -mavx2 -mfma -mf16c \
	-mamx-tile -mamx-int8 -mamx-bf16
%_neon.o: ISAFLAGS := -march=armv8.2-a+dotprod+fp16
%_i8mm_neon.o: ISAFLAGS := -march=armv8.2-a+dotprod+fp16+i8mm
# The reference is the definition: no contraction, no reassociation.
%_ref.o: ISAFLAGS := -ffp-contract=off

UNIT_SRC := $(sort $(wildcard tests/unit/*_test.c))
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
# Helpers shared by tests: everything in tests/unit that is no test.
UNIT_AUX := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
UNIT_AUX_OBJ := $(UNIT_AUX:%.c=$(BUILD)/obj/%.o)
# Kept: make would delete them after each test as intermediate files.
.SECONDARY: $(UNIT_AUX_OBJ)
FUZZ_SRC := $(sort $(wildcard tests/fuzz/*_fuzz.c))
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/bin/%)
TSAN_SRC := $(sort $(wildcard tests/tsan/*.c))
TSAN_BIN := $(TSAN_SRC:tests/tsan/%.c=$(BUILD)/bin/%)
TOOL_SRC := $(wildcard tests/tools/*.c)
TOOL_BIN := $(TOOL_SRC:tests/tools/%.c=$(BUILD)/tools/%)

.PHONY: all deps demo test unit lint asan tsan tsan-run fuzz fuzz-run \
        cli-test cluster-test test-clients arm-test install clean tools docs
all: $(BUILD)/hearth

$(BUILD)/hearth: $(MAIN_OBJ) $(LIB)
	$(say) LINK $@
	$(Q)$(CC) $(ALLFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(LIB): $(LIB_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(ALLFLAGS) $(ISAFLAGS) -MMD -MP -c -o $@ $<

# The console's page as a C array, with the hashes of its script and style.
CONSOLE := $(addprefix coordinator/console/page.,html css js)
CONSOLE_H := $(BUILD)/gen/coordinator/console_page.h
$(CONSOLE_H): $(CONSOLE) scripts/console-page
	@mkdir -p $(@D)
	$(say) PAGE $@
	$(Q)scripts/console-page coordinator/console >$@.part && mv $@.part $@
$(BUILD)/obj/coordinator/console.o: $(CONSOLE_H)

$(BUILD)/tests/%: tests/unit/%.c $(UNIT_AUX_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(say) TEST $@
	$(Q)$(CC) $(ALLFLAGS) $(LDFLAGS) -MMD -MP -o $@ $< $(UNIT_AUX_OBJ) \
		$(LIB) $(LIBS) -lcriterion

$(BUILD)/bin/%_fuzz: tests/fuzz/%_fuzz.c $(LIB)
	@mkdir -p $(@D)
	$(say) FUZZ $@
	$(Q)$(CC) $(ALLFLAGS) -fsanitize=fuzzer -MMD -MP -o $@ $< $(LIB) $(LIBS)

$(BUILD)/bin/%_tsan: tests/tsan/%_tsan.c $(LIB)
	@mkdir -p $(@D)
	$(say) TSAN $@
	$(Q)$(CC) $(ALLFLAGS) -MMD -MP -o $@ $< $(LIB) $(LIBS)

$(BUILD)/tools/%: tests/tools/%.c $(LIB)
	@mkdir -p $(@D)
	$(say) TOOL $@
	$(Q)$(CC) $(ALLFLAGS) $(LDFLAGS) -MMD -MP -o $@ $< $(LIB) $(LIBS)

tools: $(TOOL_BIN)

deps:
	$(Q)scripts/deps --test

# In two steps, since the build needs what deps installs.
demo:
	$(Q)scripts/deps --build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)HEARTH=$(BUILD)/hearth scripts/demo

# The manual page and the completion scripts come out of the program.
DOCS := $(addprefix $(BUILD)/doc/,hearth.1 hearth.bash _hearth hearth.fish)
docs: $(DOCS)
$(BUILD)/doc/hearth.1: HELP := help --man
$(BUILD)/doc/hearth.bash: HELP := completion bash
$(BUILD)/doc/_hearth: HELP := completion zsh
$(BUILD)/doc/hearth.fish: HELP := completion fish
$(DOCS): $(BUILD)/hearth
	@mkdir -p $(@D)
	$(say) DOC $@
	$(Q)$(BUILD)/hearth $(HELP) >$@.part && mv $@.part $@

lint:
	$(Q)scripts/lint

install: $(BUILD)/hearth $(DOCS)
	$(Q)BUILD=$(BUILD) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) scripts/install

unit: $(UNIT_BIN)
	$(Q)scripts/run-units $(UNIT_BIN)

# What CI runs. scripts/test-all says at the end what passed, failed and was
# skipped, and why.
test:
	$(Q)scripts/deps --test
	$(Q)BUILD=$(BUILD) scripts/test-all

# The unit tests with every memory error and undefined behaviour fatal.
asan:
	$(Q)$(MAKE) --no-print-directory SAN=address SAN_SIMD=1 \
		BUILD=$(BUILD)/asan CFLAGS="-O1 -g" unit

# Criterion and ThreadSanitizer do not go together: plain programs.
tsan:
	$(Q)$(MAKE) --no-print-directory SAN=thread BUILD=$(BUILD)/tsan \
		CFLAGS="-O1 -g" tsan-run

tsan-run: $(TSAN_BIN)
	$(Q)set -e; for t in $(TSAN_BIN); do echo "== $${t##*/}"; \
		TSAN_OPTIONS="halt_on_error=1 suppressions=tests/tsan/suppressions.txt" \
		timeout 600 $$t; done

# Every fuzzer from its corpus, the same runs each time; FUZZ_SECONDS=n explores.
FUZZ_SECONDS ?= 0
fuzz:
	$(Q)$(MAKE) --no-print-directory CC=clang SAN=fuzzer \
		BUILD=$(BUILD)/fuzz CFLAGS="-O1 -g" fuzz-run

fuzz-run: $(FUZZ_BIN)
	$(Q)scripts/run-fuzz $(BUILD) $(FUZZ_SECONDS) $(FUZZ_BIN)

# Verbs, outputs, exit codes.
cli-test: $(BUILD)/hearth $(TOOL_BIN)
	$(Q)BUILD=$(BUILD) scripts/run-cli-tests

# Processes, network namespaces, kill -9: needs root, says so where it lacks.
cluster-test: $(BUILD)/hearth $(TOOL_BIN)
	$(Q)BUILD=$(BUILD) scripts/run-cluster-tests

# Real clients (npm, pinned) and a browser; exit code 77: cannot be had here.
test-clients: $(BUILD)/hearth
	$(Q)BUILD=$(BUILD) scripts/run-client-tests $(CLIENTS)

arm-test:
	$(Q)BUILD=$(BUILD) scripts/arm-test

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
