# mayfly: `make run` boots a guest, `make check` runs the tests; both set up what they need. `make help` lists the rest.
# One file, no recursion; everything built goes to build/ (or $(B)), everything cached to ~/.cache/mayfly.

B ?= build
CC ?= gcc
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)')

VERSION := 0.1.0
# SAN=1: AddressSanitizer and UBSan; then the binary is dynamic, and its objects live apart.
ifeq ($(SAN),1)
B := build/san
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
endif
ifneq ($(NDEBUG),)
HARDEN += -DNDEBUG
endif

WERROR ?= -Werror
WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wsign-compare -Wwrite-strings -Wmissing-prototypes \
	-Wstrict-prototypes -Wimplicit-fallthrough -Wvla -Wformat=2 $(WERROR)
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=gnu17 $(CFLAGS) $(WARN) $(HARDEN) $(SAN_FLAGS) -fPIE -fno-strict-aliasing -ftrivial-auto-var-init=zero \
	-I. -D_GNU_SOURCE -DMF_VERSION='"$(VERSION)"' -pthread -MMD -MP
LIBS := -luring -ljansson
ifeq ($(SAN),1)
ALL_LDFLAGS := $(SAN_FLAGS) -pie -pthread
LIBS := -Wl,-Bstatic -luring -ljansson -Wl,-Bdynamic
else
ALL_LDFLAGS := -static-pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--gc-sections
ALL_CFLAGS += -ffunction-sections -fdata-sections
endif

SRCS := $(wildcard vmm/base/*.c vmm/core/*.c vmm/*.c virtio/*.c loader/*.c jailer/*.c)
OBJS := $(SRCS:%.c=$(B)/%.o)
BIN := $(B)/mayfly
# Everything but main(), for tests and fuzzers to link what they need from (an archive: only what is used is taken).
LIB := $(B)/libmayfly.a

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all
all: $(BIN)

$(B)/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BIN): $(OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@.debug $(OBJS) $(LIBS)
	$(Q)objcopy --strip-all $@.debug $@

$(LIB): $(filter-out $(B)/vmm/main.o,$(OBJS))
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $^

# Unit tests: tests/unit/test_X.c becomes build/tests/unit/test_X, linked with what it uses of mayfly, and cmocka.
UNIT_SRCS := $(wildcard tests/unit/test_*.c)
UNIT_BINS := $(UNIT_SRCS:%.c=$(B)/%)
$(B)/tests/unit/test_%: $(B)/tests/unit/test_%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(SAN_FLAGS) -pie -pthread -o $@ $< $(LIB) -Wl,-Bstatic -luring -ljansson -Wl,-Bdynamic -lcmocka
.SECONDARY: $(UNIT_SRCS:%.c=$(B)/%.o)

-include $(OBJS:.o=.d) $(UNIT_SRCS:%.c=$(B)/%.d)
