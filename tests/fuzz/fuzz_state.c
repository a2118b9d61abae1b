/*
 * libFuzzer entry of a snapshot's `state`, without its devices (fuzz_device_state.c). The input is a state; the first byte says
 * how many vCPUs and which KVM the host has. It is read as it is, and again with the frame of each section made valid, as
 * an attacker does it. A section that is refused has a reason; one that is taken reaches KVM whole and within bounds.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"
#include "vmm/snapshot/chain_parts.h"
#include "vmm/snapshot/diff.h"
#include "vmm/snapshot/fork.h"
#include "vmm/snapshot/memory.h"
#include "vmm/vm/cpu_fields.h"
#include "vmm/vm/cpu_state.h"
#include "vmm/vm/cpu_x86.h"
#include "vmm/vm/vm_state.h"

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)
#define INPUT_MAX (256U << 10)

/* The host, and what reads all that it is given. */
static struct {
	unsigned xsave_size;
	bool sregs2, tsc_control;
	volatile uint8_t seen;
} host;

static uint8_t buf[INPUT_MAX + 4096];

static int take(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		host.seen ^= ((const uint8_t *)p)[i];
	return 0;
}

/* A CPU with all features, of the vendor of the seeds. */
static int get_cpuid(struct kvm_cpuid2 *c)
{
	static const struct kvm_cpuid_entry2 vendor = { .ebx = 0x68747541, .edx = 0x69746e65, .ecx = 0x444d4163 };
	static const uint32_t functions[] = { 1, 7, 0xd, 0x40000001, 0x80000001, 0x80000007, 0x80000008, 0x80000021 };

	c->entries[0] = vendor;
	c->nent = 1;
	for (size_t i = 0; i < MF_ARRAY_SIZE(functions); i++)
		c->entries[c->nent++] = (struct kvm_cpuid_entry2){ functions[i], 0, 0, ~0U, ~0U, ~0U, ~0U, { 0 } };
	return 0;
}

static int list_msrs(struct kvm_msr_list *list)
{
	static const uint32_t some[] = { 0x10, 0x174, 0x6e0, 0xc0000080 };

	CHECK(list->nmsrs >= MF_ARRAY_SIZE(some));
	list->nmsrs = MF_ARRAY_SIZE(some);
	memcpy(list->indices, some, sizeof(some));
	return 0;
}

static int set_msrs(const struct kvm_msrs *m)
{
	CHECK(m->nmsrs <= CPU_MSRS_MAX);
	take(m->entries, m->nmsrs * sizeof(m->entries[0]));
	for (unsigned i = 0; i < m->nmsrs; i++)
		if (m->entries[i].index & 1)
			return (int)i; /* this KVM has no odd ones */
	return (int)m->nmsrs;
}

static int extension(unsigned long cap)
{
	return cap == KVM_CAP_XSAVE2 ? (int)host.xsave_size :
	       cap == KVM_CAP_SREGS2 ? host.sregs2 :
				       cap == KVM_CAP_TSC_CONTROL && host.tsc_control;
}

int ioctl(int fd, unsigned long request, ...);

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return extension((unsigned long)(uintptr_t)arg);
	case KVM_GET_SUPPORTED_CPUID:
		return get_cpuid(arg);
	case KVM_GET_MSR_INDEX_LIST:
		return list_msrs(arg);
	case KVM_SET_MSRS:
		return set_msrs(arg);
	case KVM_GET_TSC_KHZ:
		return 2596120;
	case KVM_SET_XSAVE:
		return take(arg, host.xsave_size ? host.xsave_size : sizeof(struct kvm_xsave));
	case KVM_SET_XCRS:
		CHECK(((struct kvm_xcrs *)arg)->nr_xcrs <= KVM_MAX_XCRS);
		return take(arg, sizeof(struct kvm_xcrs));
	case KVM_SET_CLOCK:
		CHECK(((struct kvm_clock_data *)arg)->clock <= INT64_MAX);
		return take(arg, sizeof(struct kvm_clock_data));
	case KVM_SET_SREGS:
	case KVM_SET_SREGS2:
	case KVM_SET_REGS:
	case KVM_SET_MP_STATE:
	case KVM_SET_DEBUGREGS:
	case KVM_SET_LAPIC:
	case KVM_SET_VCPU_EVENTS:
		return take(arg, _IOC_SIZE(request));
	case KVM_SET_TSC_KHZ:
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
}

static void check_memory(struct state_in *in, struct memory_map *map)
{
	uint64_t end = 0;
	struct err e;

	if (memory_get(map, in, &e) < 0) {
		CHECK(e.text[0]);
		*map = (struct memory_map){ 0 };
		return;
	}
	for (unsigned i = 0; i < map->num_runs; i++) {
		CHECK(map->run[i].len && map->run[i].offset >= end && map->run[i].len <= map->size);
		CHECK(map->run[i].offset <= map->size - map->run[i].len);
		end = map->run[i].offset + map->run[i].len;
	}
}

static void check_diff(struct state_in *in, const struct memory_map *map)
{
	static struct diff diff;
	uint64_t end = 0;
	struct err e;

	if (diff_get(&diff, map, in, &e) < 0) {
		CHECK(e.text[0]);
		return;
	}
	CHECK(memchr(diff.path, '\0', sizeof(diff.path)) && diff.num_runs <= DIFF_RUNS_MAX);
	for (unsigned i = 0; i < diff.num_runs; i++) {
		CHECK(diff.run[i].len && diff.run[i].offset >= end && diff.run[i].len <= map->size);
		CHECK(diff.run[i].offset <= map->size - diff.run[i].len);
		end = diff.run[i].offset + diff.run[i].len;
	}
}

static void check_layer(struct state_in *in, unsigned number)
{
	struct chain_layer l = { .fd = -1 };
	uint64_t end = 0;
	struct err e;

	if (fork_get_layer(&l, in, number, &e) < 0)
		CHECK(e.text[0] && !l.run);
	for (unsigned i = 0; i < l.num_runs; i++) {
		CHECK(l.run[i].len && l.run[i].offset >= end && l.run[i].len <= l.map.size);
		CHECK(l.run[i].offset <= l.map.size - l.run[i].len);
		end = l.run[i].offset + l.run[i].len;
	}
	chain_close_layer(&l);
}

static void check_cpuid(const struct kvm *kvm, struct state_in *in)
{
	struct cpu_template *t;
	struct err e;

	CHECK(cpu_template_new(&t, kvm, 1, &e) == 0);
	if (cpu_template_restore(t, in, &e) < 0)
		CHECK(e.text[0]);
	cpu_template_free(t);
}

/* One that the check takes is set, or KVM itself has refused it. */
static void check_vcpu(struct kvm *kvm, unsigned id, struct state_in *in)
{
	struct state_in again = *in;
	struct err e;

	if (cpu_state_check(kvm, id, in, &e) < 0)
		CHECK(e.text[0]);
	if (cpu_state_restore(kvm, 0, id, &again, &e) < 0)
		CHECK(e.text[0]);
}

static void check_sections(struct state_in in, unsigned cpus)
{
	struct kvm kvm = { .fd = 0, .vm_fd = 0 };
	struct memory_map map = { 0 };
	struct config c;
	struct state_raw raw;
	struct state_in at = in;
	struct err e;

	config_init(&c);
	c.cpus = cpus;
	c.mem = 64 * MIB;
	if (vm_check_own(&c, &at, &e) < 0)
		CHECK(e.text[0]);
	config_done(&c);
	for (at = in; state_next(&in, &raw); at = in) {
		uint32_t instance;

		memcpy(&instance, raw.data + 4, sizeof(instance));
		if (raw.tag == MEMORY_TAG)
			check_memory(&at, &map);
		else if (raw.tag == DIFF_TAG)
			check_diff(&at, &map);
		else if (raw.tag == FORK_TAG)
			check_layer(&at, instance);
		else if (raw.tag == CPU_CPUID_TAG)
			check_cpuid(&kvm, &at);
		else if (raw.tag == CPU_STATE_TAG)
			check_vcpu(&kvm, instance, &at);
		else if (raw.tag == CPU_CLOCK_TAG && cpu_clock_restore(&kvm, instance & 1, &at, &e) < 0)
			CHECK(e.text[0]);
	}
}

static void read_state(const uint8_t *data, size_t size, unsigned cpus)
{
	uint8_t *own = malloc(size ? size : 1); /* of its own, so that a byte too far is noticed */
	struct state_in in;
	struct err e;

	memcpy(own, data, size);
	if (state_in_init(&in, own, size, &e) == 0)
		check_sections(in, cpus);
	else
		CHECK(e.text[0]);
	free(own);
}

/* The same sections, each with a frame that is valid. */
static size_t repair(const uint8_t *data, size_t size)
{
	struct state_out out;
	int64_t len;

	state_out_init(&out, buf, sizeof(buf));
	for (size_t at = 8; size >= STATE_HEADER_LEN && at <= size - STATE_HEADER_LEN;) {
		uint32_t tag, instance, length;
		uint16_t version;

		memcpy(&tag, data + at, 4);
		memcpy(&instance, data + at + 4, 4);
		memcpy(&version, data + at + 8, 2);
		memcpy(&length, data + at + 12, 4);
		at += STATE_HEADER_LEN;
		length = (uint32_t)MF_MIN(length, size - at);
		if (tag == STATE_TAG('E', 'N', 'D', ' '))
			break;
		state_begin(&out, tag, instance, version);
		state_put_bytes(&out, data + at, length);
		state_end(&out);
		at += mf_align_up(length, 8);
	}
	len = state_out_finish(&out);
	return len < 0 ? 0 : (size_t)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned sizes[] = { 0, 4096, 8192, CPU_XSAVE_MAX };
	unsigned how = size ? data[0] : 0;

	if (!size || size > INPUT_MAX)
		return 0;
	host.xsave_size = sizes[how & 3];
	host.sregs2 = how & 4;
	host.tsc_control = how & 8;
	read_state(data + 1, size - 1, 1 + how / 64);
	read_state(buf, repair(data + 1, size - 1), 1 + how / 64);
	return 0;
}
