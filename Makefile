# mayfly: `make run` boots a guest, `make check` runs the tests; both set up what they need. `make help` lists the rest.
# One file, no recursion. Results go to $(B); those that take long are cached in ~/.cache/mayfly.

B ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
V ?= 0
VERSION := 0.1.0

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)')

# SAN=1: AddressSanitizer and UBSan. The binary is dynamic then, and everything lives in a directory of its own.
ifeq ($(SAN),1)
B := build/san
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -DMF_SANITIZED
HARDEN :=
else
SAN_FLAGS :=
# The last two keep checks that the compiler could remove because the standard leaves a case undefined. They cost no byte.
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
	-fno-delete-null-pointer-checks -fno-strict-overflow
endif
ifneq ($(NDEBUG),)
HARDEN += -DNDEBUG
endif
# gcc 12 needs this flag alone; clang 14 needs a second one, which later versions no longer know.
ifeq ($(findstring clang,$(CC)),)
HARDEN += -ftrivial-auto-var-init=zero
endif

WERROR ?= -Werror
WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wsign-compare -Wwrite-strings -Wmissing-prototypes \
	-Wstrict-prototypes -Wimplicit-fallthrough -Wvla -Wformat=2 $(WERROR)
CFLAGS ?= -O2 -g
# Without the map, the build ID would depend on the directory.
ALL_CFLAGS := -std=gnu17 -ffile-prefix-map=$(CURDIR)=. $(CFLAGS) $(WARN) $(HARDEN) $(SAN_FLAGS) -fPIE -fno-strict-aliasing \
	-ffunction-sections -fdata-sections -I. -D_GNU_SOURCE -DMF_VERSION='"$(VERSION)"' -pthread -MMD -MP
LIBS_STATIC := -luring -ljansson
ifeq ($(SAN),1)
ALL_LDFLAGS := -pie
LIBS := -Wl,-Bstatic $(LIBS_STATIC) -Wl,-Bdynamic
else
ALL_LDFLAGS := -static-pie -Wl,-z,pack-relative-relocs
LIBS := $(LIBS_STATIC)
endif
ALL_LDFLAGS += -pthread -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--gc-sections
ifneq ($(SAN),1)
# Nothing unwinds the stack: no exceptions, no cancelled threads. Debuggers find the tables of our code in $(BIN).debug.
ALL_CFLAGS += -fno-asynchronous-unwind-tables
ALL_LDFLAGS += -Wl,-T,configs/no-unwind.ld -Wl,--no-eh-frame-hdr -Wl,-T,configs/startup.ld
endif

SRCS := $(filter-out vmm/filters/%,$(wildcard vmm/*.c vmm/*/*.c)) $(wildcard virtio/*.c loader/*.c jailer/*.c)
# What init sends archives by, `mayfly cp` does, too.
SRCS += loader/init/tar.c loader/init/text.c loader/init/fd.c
OBJS := $(SRCS:%.c=$(B)/%.o) $(B)/loader/init_blob.o
BIN := $(B)/mayfly
# Everything but main(), as an archive: a test links only the objects that it uses.
LIB := $(B)/libmayfly.a

UNIT_SRCS := $(wildcard tests/unit/test_*.c)
UNIT_BINS := $(UNIT_SRCS:%.c=$(B)/%)
FUZZ_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BINS := $(FUZZ_SRCS:tests/fuzz/%.c=$(B)/fuzz/%)
GUEST_SRCS := $(wildcard tests/guest/*.S)
GUESTS := $(GUEST_SRCS:%.S=$(B)/%.elf) $(B)/tests/guest/vsock $(B)/tests/guest/kernel $(B)/tests/guest/look $(B)/tests/guest/datagram
PROBE := $(B)/kvm-runs-kernels

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all deps kernel rootfs debian lab run check check-unit check-boot check-slow check-large check-hostile check-cycles check-mutants check-clients check-engines fresh-trixie \
	unit-bins fuzz-bins guests install uninstall deb dist wheel clean help

all: $(BIN) ## build the monitor (the default)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 24
	@echo '  Options: V=1 (show commands), CC=clang, SAN=1 (ASan and UBSan), NDEBUG=1, B=DIR (build directory)'

# Packages. A stamp per group of packages; tests/deps asks dpkg, installs the missing ones, and reports them.
$(B)/.deps-%: tests/deps
	@mkdir -p $(@D)
	$(Q)tests/deps $*
	@touch $@

deps: ## install the packages that are needed from Debian
	$(Q)tests/deps

# Rooms that neither run a guest nor move its data are made small.
SMALL := api bench cli cmd config doctor image jail oci records
$(foreach room,$(SMALL),$(patsubst %.c,$(B)/%.o,$(wildcard vmm/$(room)/*.c))): ALL_CFLAGS += -Os
# The monitor.
$(B)/%.o: %.c | $(B)/.deps-build
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The guest's init, embedded in the monitor: static, small, and built the same way whatever the rest is built with. musl
# has no kernel headers, so those of the system come last.
INIT := $(B)/loader/init/init
INIT_SRCS := $(wildcard loader/init/*.c)
INIT_HERE := $(B)/tests/init/init
INIT_HDRS := $(wildcard loader/init/*.h)
INIT_FLAGS := -std=gnu17 -Oz $(WARN) -fno-pie -fno-stack-protector -ffunction-sections \
	-fno-asynchronous-unwind-tables -fdata-sections -I. -D_GNU_SOURCE -idirafter /usr/include \
	-idirafter /usr/include/x86_64-linux-gnu
# The last two avoid an empty page between its code and its data.
INIT_LDFLAGS := -static -no-pie -s -Wl,--gc-sections,--build-id=none,-z,norelro,-z,noseparate-code \
	-Wl,-z,max-page-size=4096,-z,common-page-size=512

$(INIT): $(INIT_SRCS) $(INIT_HDRS) | $(B)/.deps-build
	$(call say,INIT,$@)
	@mkdir -p $(@D)
	$(Q)musl-gcc $(INIT_FLAGS) $(INIT_LDFLAGS) -o $@ $(INIT_SRCS)
	$(Q)objcopy --remove-section=.comment --remove-section=.eh_frame $@

$(B)/loader/init_blob.o: loader/init_blob.S $(INIT)
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -c -DINIT_FILE='"$(INIT)"' -o $@ $<

# The same with Unix sockets for vsock, for tests without a guest.
$(INIT_HERE): $(INIT_SRCS) $(INIT_HDRS) tests/init/link.c | $(B)/.deps-build
	$(call say,INIT,$@)
	@mkdir -p $(@D)
	$(Q)musl-gcc $(INIT_FLAGS) $(INIT_LDFLAGS) -o $@ $(filter-out %/link.c,$(INIT_SRCS)) tests/init/link.c
# The seccomp filters are compiled when mayfly is: see vmm/filters/rules.h.
FILTERS := $(B)/vmm/filters/filters.inc
FILTER_COMPILER := $(B)/vmm/filters/compile
$(FILTER_COMPILER): vmm/filters/compile.c vmm/filters/generate.c $(wildcard vmm/filters/*.h) vmm/base/util.h | $(B)/.deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -M% -fPIE $(SAN_FLAGS),$(ALL_CFLAGS)) -o $@ $(filter %.c,$^) -lseccomp
$(FILTERS): $(FILTER_COMPILER)
	$(call say,FILTERS,$@)
	$(Q)$< > $@
$(B)/vmm/process/confine.o: $(FILTERS)
$(B)/vmm/process/confine.o: ALL_CFLAGS += -DFILTERS_FILE='"$(FILTERS)"'
$(B)/fuzz/obj/vmm/process/confine.o: $(FILTERS)
$(B)/fuzz/obj/vmm/process/confine.o: FUZZ_FLAGS += -DFILTERS_FILE='"$(FILTERS)"'
# Its texts are files.
$(B)/vmm/cli/embedded.o $(B)/fuzz/obj/vmm/cli/embedded.o: $(wildcard configs/manual/* configs/completion/*)

$(BIN): $(OBJS) configs/no-unwind.ld configs/startup.ld
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Wl,-Map=$@.map -o $@.debug $(OBJS) $(LIBS)
	$(Q)objcopy --strip-all $@.debug $@

$(LIB): $(filter-out $(B)/vmm/main.o,$(OBJS))
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $^

# init's files for unit tests, by the tests' compiler; tests/init covers main() and vsock.
INIT_LIB := $(B)/libinit.a
INIT_OBJS := $(patsubst %.c,$(B)/%.o,$(filter-out %/init.c %/link.c,$(INIT_SRCS)))
$(INIT_OBJS): ALL_CFLAGS += -Wno-unused-result
$(INIT_LIB): $(INIT_OBJS)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $^

# The monitor with threads that try forbidden operations, for the tests of their filters.
PROBED := $(B)/mayfly-probe
$(B)/probe/confine.o: vmm/process/confine.c $(FILTERS)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -DFILTERS_FILE='"$(FILTERS)"' -DMF_PROBE -c -o $@ $<
$(B)/probe/probe.o: tests/probe/probe.c | $(B)/.deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<
$(PROBED): $(filter-out $(B)/vmm/process/confine.o,$(OBJS)) $(B)/probe/confine.o $(B)/probe/probe.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Wl,--wrap=timeline_count_instructions,--wrap=io_uring_enable_rings,--wrap=timers_run -o $@ $^ $(LIBS)

# The guest.
KERNEL_INPUTS := $(wildcard configs/kernel/*)
kernel: | $(B)/.deps-kernel ## build both guest kernels, microvm and minimal (once: cached)
	@mkdir -p $(B)
	$(Q)configs/kernel/build $(B) microvm minimal
# The default one alone.
$(B)/vmlinux: $(KERNEL_INPUTS) | $(B)/.deps-kernel
	@mkdir -p $(@D)
	$(Q)configs/kernel/build $(B) microvm

rootfs: $(B)/rootfs.ext4 ## build the root file system and the initramfs
$(B)/rootfs.ext4 $(B)/initramfs.cpio &: $(wildcard configs/rootfs/*) | $(B)/.deps-rootfs
	@mkdir -p $(B)
	$(Q)configs/rootfs/build $(B)

# Programs for our guests, for tests with real workloads.
$(B)/tools.ext4: tests/tools/build | $(B)/.deps-tools
	@mkdir -p $(@D)
	$(Q)tests/tools/build $@

# A disk image with Debian's own kernels, for the tests of other kernels.
debian: $(B)/debian ## install Debian into a disk image, for tests (once: cached)
$(B)/debian: tests/debian/build | $(B)/.deps-debian
	@mkdir -p $(@D)
	$(Q)tests/debian/build $@

# Installing. mayfly finds the kernel that is in share/mayfly beside its bin.
PREFIX ?= /usr/local
DESTDIR ?=
BASH_DIR ?= $(PREFIX)/share/bash-completion/completions
ZSH_DIR ?= $(PREFIX)/share/zsh/site-functions
FISH_DIR ?= $(PREFIX)/share/fish/vendor_completions.d
MAN_DIR := $(PREFIX)/share/man
DOC_DIR := $(PREFIX)/share/doc/mayfly
KERNELS := vmlinux vmlinux-microvm vmlinux-minimal
DOCS := README.md LICENSE $(wildcard docs/*.md)
ENGINES := $(wildcard configs/engines/*/*)
DRIVERS := $(filter %/mayfly-gitlab %/mayfly-github-runner,$(ENGINES))
INSTALLED := $(PREFIX)/bin/mayfly $(MAN_DIR)/man1/mayfly.1 $(MAN_DIR)/man5/mayfly.5 $(MAN_DIR)/man1/mayfly-jailer.1 \
	$(BASH_DIR)/mayfly $(ZSH_DIR)/_mayfly $(FISH_DIR)/mayfly.fish $(DOCS:%=$(DOC_DIR)/%) $(PREFIX)/lib/mayfly/jailer \
	$(ENGINES:configs/%=$(DOC_DIR)/%) $(addprefix $(PREFIX)/lib/mayfly/,$(notdir $(DRIVERS)))
put = $(Q)install -D -m $(1) $(2) '$(DESTDIR)$(3)'

PAGES := $(B)/mayfly.1 $(B)/mayfly.5 $(B)/mayfly.jailer
$(PAGES): $(B)/mayfly.%: $(BIN)
	$(call say,MANUAL,$@)
	$(Q)$(BIN) manual $* > $@

install: $(BIN) $(PAGES) ## install to PREFIX (/usr/local), with the guest kernels that are built
	$(call put,755,$(BIN),$(word 1,$(INSTALLED)))
	$(call put,644,$(B)/mayfly.1,$(word 2,$(INSTALLED)))
	$(call put,644,$(B)/mayfly.5,$(word 3,$(INSTALLED)))
	$(call put,644,$(B)/mayfly.jailer,$(word 4,$(INSTALLED)))
	$(call put,644,configs/completion/mayfly.bash,$(word 5,$(INSTALLED)))
	$(call put,644,configs/completion/mayfly.zsh,$(word 6,$(INSTALLED)))
	$(call put,644,configs/completion/mayfly.fish,$(word 7,$(INSTALLED)))
	$(Q)install -d '$(DESTDIR)$(DOC_DIR)/docs'
	$(Q)for doc in $(DOCS); do install -m 644 $$doc '$(DESTDIR)$(DOC_DIR)/'$$doc; done
	$(Q)install -d '$(DESTDIR)$(PREFIX)/lib/mayfly'
	$(Q)ln -sf ../../bin/mayfly '$(DESTDIR)$(PREFIX)/lib/mayfly/jailer'
	$(Q)install -m 755 $(DRIVERS) '$(DESTDIR)$(PREFIX)/lib/mayfly'
	$(Q)for file in $(ENGINES); do install -D -m 644 $$file '$(DESTDIR)$(DOC_DIR)/'$${file#configs/}; done
	$(Q)for kernel in $(wildcard $(B)/vmlinux-microvm $(B)/vmlinux-minimal); do \
		install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/mayfly' $$kernel; done
	$(if $(wildcard $(B)/vmlinux-microvm),$(Q)ln -sf vmlinux-microvm '$(DESTDIR)$(PREFIX)/share/mayfly/vmlinux')

uninstall: ## remove what was installed to PREFIX
	$(Q)rm -f $(INSTALLED:%='$(DESTDIR)%') $(KERNELS:%='$(DESTDIR)$(PREFIX)/share/mayfly/%')
	$(Q)for dir in $(sort $(dir $(ENGINES:configs/%=%))) engines; do \
		rmdir '$(DESTDIR)$(DOC_DIR)/'$$dir 2> /dev/null || true; done
	$(Q)rmdir '$(DESTDIR)$(DOC_DIR)/docs' '$(DESTDIR)$(DOC_DIR)' \
		'$(DESTDIR)$(PREFIX)/share/mayfly' '$(DESTDIR)$(PREFIX)/lib/mayfly' 2> /dev/null || true

dist: $(BIN) kernel ## make a tar of all that is installed, and its checksum, in the build directory
	$(Q)configs/dist $(B) $(B)
wheel: ## make a wheel of the Python package, in the build directory
	@mkdir -p $(B)
	$(Q)python3 configs/python/wheel $(VERSION) $(B)
deb: $(BIN) kernel ## make a Debian package, in the build directory
	$(Q)configs/debian/build $(B) $(B)

# Where KVM cannot run kernels.
lab: | $(B)/.deps-lab ## set up the lab: an emulated machine with a real KVM (once: cached)
	$(Q)exec tests/lab/setup > /dev/null
$(PROBE): tests/lab/kvm-runs-kernels.c vmm/doctor/kvm_native.c vmm/doctor/kvm_native.h vmm/base/err.c | $(B)/.deps-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -M% -fPIE $(SAN_FLAGS),$(ALL_CFLAGS)) -static -o $@ $(filter %.c,$^)

# Only where it is needed: the lab's packages and its template.
$(B)/.kvm: $(PROBE) $(wildcard tests/lab/*)
	$(Q)$(PROBE) > $@.log || exec $(MAKE) --no-print-directory lab
	@touch $@

run: $(BIN) $(B)/vmlinux $(B)/rootfs.ext4 $(B)/.kvm ## boot a guest: a shell on a terminal, else its uname
	$(Q)tests/run-guest

# Tests.
$(B)/tests/unit/test_generate: UNIT_LIBS := -lseccomp
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(LIB) $(INIT_LIB) | $(B)/.deps-tests
	$(call say,LD,$@)
	$(Q)$(CC) $(SAN_FLAGS) -pie -pthread -o $@ $< $(LIB) $(INIT_LIB) -Wl,-Bstatic $(LIBS_STATIC) -Wl,-Bdynamic -lcmocka $(UNIT_LIBS)
$(UNIT_SRCS:%.c=$(B)/%.o): | $(B)/.deps-tests
unit-bins: $(UNIT_BINS)

# All code, instrumented, as an archive: a fuzzer with its own loop links that loop instead of ours.
FUZZ_FLAGS := -std=gnu17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -I. -D_GNU_SOURCE \
	-DMF_VERSION='"$(VERSION)"' -pthread -MMD -MP
FUZZ_OBJS := $(patsubst %.c,$(B)/fuzz/obj/%.o,$(filter-out vmm/main.c,$(SRCS)))
$(B)/fuzz/obj/%.o: %.c | $(B)/.deps-tests
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<
$(B)/fuzz/libmayfly.a: $(FUZZ_OBJS) $(B)/loader/init_blob.o
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(B)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(B)/fuzz/libmayfly.a
	$(call say,FUZZ,$@)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $< $(B)/fuzz/libmayfly.a -Wl,-Bstatic $(LIBS_STATIC) \
		-Wl,-Bdynamic
fuzz-bins: $(FUZZ_BINS)

$(B)/tests/guest/%.elf: tests/guest/%.S $(wildcard tests/guest/*.inc)
	$(call say,GUEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -nostdlib -static -no-pie -Itests/guest -Wl,-N,--no-warn-rwx-segments,--build-id=none \
		-Wl,-Ttext=0x100000,-e,start $(GUEST_FLAGS) -o $@ $<
$(B)/tests/guest/%32.elf: GUEST_FLAGS := -m32 -Wl,-Ttext-segment=0x400000
$(B)/tests/guest/pvh32.elf: tests/guest/pvh.S
# Programs for Linux guests, of which vsock is for the host's side of their tests, too; and one for jails.
$(B)/tests/guest/vsock $(B)/tests/guest/kernel $(B)/tests/guest/look $(B)/tests/guest/datagram: $(B)/tests/guest/%: tests/guest/%.c | $(B)/.deps-build
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -M% -fPIE $(SAN_FLAGS),$(ALL_CFLAGS)) -static -o $@ $<
guests: $(GUESTS)

# What the tiers of tests/run need.
NEEDS_style := $(BIN)
NEEDS_unit := unit-bins
NEEDS_fuzz := fuzz-bins
NEEDS_cli := $(BIN) $(INIT_HERE) guests
NEEDS_boot := $(BIN) $(PROBED) $(INIT_HERE) guests $(B)/vmlinux $(B)/rootfs.ext4 $(B)/tools.ext4 $(B)/debian $(B)/.kvm
NEEDS_hostile := $(BIN) guests $(B)/.kvm
NEEDS_slow := $(NEEDS_boot) kernel
NEEDS_baseline := $(BIN) $(B)/vmlinux $(B)/.deps-lab $(B)/.deps-perf

needs = $(sort $(foreach tier,$(1),$(NEEDS_$(tier))))
TIERS ?= style builds unit fuzz cli boot hostile baseline
UNIT_TIERS := style unit fuzz cli

check: $(call needs,$(TIERS)) | $(B)/.deps-tests ## run all tests, or those of TIERS="unit cli"
	$(Q)tests/run $(TIERS)

check-unit: $(call needs,$(UNIT_TIERS)) | $(B)/.deps-tests ## tests that need neither KVM nor root
	$(Q)tests/run $(UNIT_TIERS)

check-boot: $(call needs,boot) | $(B)/.deps-tests ## tests that boot guests
	$(Q)tests/run boot

check-slow: $(call needs,slow) | $(B)/.deps-tests ## boots that take minutes in the lab; not part of check
	$(Q)tests/run slow

check-large: $(call needs,boot) $(B)/tests/unit/test_live_races | $(B)/.deps-tests ## a layer of 2 GiB; live directories with LIVE_FILES=20000, a file of 5 GiB, LIVE_VMS=100; not part of check
	$(Q)LIVE_FILES=$(or $(LIVE_FILES),20000) $(B)/tests/unit/test_live_races
	$(Q)MAYFLY='$(abspath $(BIN))' bats --tap --timing --filter-tags large tests/boot/image.bats
	$(Q)tests/with-kvm --cpus 1 --mem 8192 --timeout 7200 -- env LIVE_VMS=$(or $(LIVE_VMS),100) \
		bats --tap --timing --filter-tags large tests/boot/live.bats

# A minimal Debian 13 with newer compilers and libraries, for the part that needs no guest, and one boot.
fresh-trixie: | $(B)/.deps-fresh ## try Debian 13, from nothing; needs root
	$(Q)tests/fresh trixie

check-hostile: $(BIN) guests $(B)/.kvm | $(B)/.deps-tests ## a hostile guest: all cases, then SECONDS=60 at random
	$(Q)HOSTILE_SECONDS=$(or $(SECONDS),60) tests/run hostile_all

# One cycle, or one clone, takes seconds in the lab.
check-cycles: $(call needs,boot) | $(B)/.deps-tests ## CYCLES=1000 snapshots and restores under load, CLONES=100; not part of check
	$(Q)tests/with-kvm --cpus 1 --mem 8192 --timeout 86400 -- env CYCLES=$(or $(CYCLES),1000) CLONES=$(or $(CLONES),100) \
		bats --tap --timing --filter 'cycles:|random numbers' tests/boot/cycles.bats tests/boot/restore.bats

check-claims: $(BIN) guests $(B)/.kvm | $(B)/.deps-tests ## ROUNDS=10000 claims of pools, and what is killed meanwhile; not part of check
	$(Q)ROUNDS=$(or $(ROUNDS),10000) MAYFLY='$(abspath $(BIN))' bats --tap --timing --show-output-of-passing-tests \
		--filter 'claims in a row' tests/boot/pool.bats

check-mutants: ## small faults in changes since BASE=HEAD~1 that no unit test notices; not part of check
	$(Q)tests/mutants --base $(or $(BASE),HEAD~1)

check-clients: $(BIN) guests kernel $(B)/rootfs.ext4 $(B)/.kvm ## clients of Firecracker in Python, Rust and Go against mayfly, and the validation of OCI runtimes; needs root, Go, Cargo, npm and their registries
	$(Q)tests/clients/runtime-spec
	$(Q)tests/clients/python
	$(Q)tests/clients/rust
	$(Q)tests/clients/run $(TEST)

check-engines: $(call needs,boot) | $(B)/.deps-tests $(B)/.deps-engines ## Slurm, systemd, CI services and others start mayfly; needs root
	$(Q)tests/run engines

clean: ## remove what was built (the cache in ~/.cache/mayfly stays)
	rm -rf build

-include $(OBJS:.o=.d) $(UNIT_SRCS:%.c=$(B)/%.d) $(FUZZ_OBJS:.o=.d) $(FUZZ_BINS:%=%.d)
