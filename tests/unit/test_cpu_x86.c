/* CPUID, MSRs and registers that vCPUs start with; the test is KVM's ioctl(2). */
#include <asm/processor-flags.h>
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "loader/boot_x86.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/state.h"
#include "vmm/vm/cpu_x86.h"

#define KVM_FD 100
#define VCPU_FD 101
#define CPUS_MAX 32U
#define ONES 0xffffffffU

static struct {
	struct kvm_cpuid_entry2 host[CPU_CPUID_MAX];
	unsigned num;
	/* What the vCPU was given. */
	struct kvm_cpuid_entry2 guest[CPU_CPUID_MAX];
	unsigned guest_num;
	struct kvm_msr_entry msr[8];
	unsigned num_msrs, msrs_taken;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	unsigned long order[8], fails; /* requests as they came; the one that fails */
	unsigned calls;
} kvm;

static struct err err;
static struct cpu_template *template;

static int fetch_cpuid(struct kvm_cpuid2 *c)
{
	if (c->nent < kvm.num) {
		errno = E2BIG;
		return -1;
	}
	c->nent = kvm.num;
	memcpy(c->entries, kvm.host, kvm.num * sizeof(kvm.host[0]));
	return 0;
}

static int take_msrs(const struct kvm_msrs *msrs)
{
	assert_true(msrs->nmsrs <= MF_ARRAY_SIZE(kvm.msr));
	kvm.num_msrs = msrs->nmsrs;
	memcpy(kvm.msr, msrs->entries, msrs->nmsrs * sizeof(kvm.msr[0]));
	return (int)MF_MIN(kvm.msrs_taken, kvm.num_msrs);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	assert_int_equal(fd, request == KVM_GET_SUPPORTED_CPUID ? KVM_FD : VCPU_FD);
	assert_true(kvm.calls < MF_ARRAY_SIZE(kvm.order));
	kvm.order[kvm.calls++] = request;
	if (request == kvm.fails) {
		errno = EIO;
		return -1;
	}
	switch (request) {
	case KVM_GET_SUPPORTED_CPUID:
		return fetch_cpuid(arg);
	case KVM_SET_CPUID2:
		kvm.guest_num = ((struct kvm_cpuid2 *)arg)->nent;
		memcpy(kvm.guest, ((struct kvm_cpuid2 *)arg)->entries, kvm.guest_num * sizeof(kvm.guest[0]));
		return 0;
	case KVM_SET_MSRS:
		return take_msrs(arg);
	case KVM_GET_SREGS:
		*(struct kvm_sregs *)arg = kvm.sregs;
		return 0;
	case KVM_SET_SREGS:
		kvm.sregs = *(struct kvm_sregs *)arg;
		return 0;
	case KVM_SET_REGS:
		kvm.regs = *(struct kvm_regs *)arg;
		return 0;
	default:
		fail();
		return -1;
	}
}

static void host(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	kvm.host[kvm.num++] = (struct kvm_cpuid_entry2){
		.function = function, .index = index, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx
	};
}

static int setup(void **state)
{
	(void)state;
	memset(&kvm, 0, sizeof(kvm));
	kvm.msrs_taken = MF_ARRAY_SIZE(kvm.msr);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cpu_template_free(template);
	template = NULL;
	return 0;
}

static void make(unsigned cpus)
{
	const struct kvm k = { .fd = KVM_FD };

	teardown(NULL);
	kvm.calls = 0;
	assert_int_equal(cpu_template_new(&template, &k, cpus, &err), 0);
}

/* As vCPU id sees it. */
static void set_up_cpu(unsigned id)
{
	kvm.calls = 0;
	assert_int_equal(cpu_setup(template, VCPU_FD, id, &err), 0);
}

static const struct kvm_cpuid_entry2 *guest(uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < kvm.guest_num; i++) {
		if (kvm.guest[i].function == function && kvm.guest[i].index == index)
			return &kvm.guest[i];
	}
	return NULL;
}

/* The bits that number so many CPUs. */
static unsigned id_bits(unsigned cpus)
{
	return cpus == 1 ? 0 : 32 - (unsigned)__builtin_clz(cpus - 1);
}

static void test_features(void **state)
{
	(void)state;
	host(0, 0, 0x1f, 1, 2, 3);
	host(1, 0, 0x306c3, 0x11223344, 0, 0);
	host(7, 0, 1, 2, 3, 4);
	host(0xd, 0, 0x207, 0x340, 0x340, 0); /* XCR0's bits, and what they take, are the host's */
	host(0xd, 1, 0xf, 0, 0, 0);
	host(0xa, 0, 0x07300804, 5, 6, 0x603);
	make(1);
	set_up_cpu(0);
	/* The hypervisor and the TSC-deadline timer, and no hyper-threads. */
	assert_int_equal(guest(1, 0)->eax, 0x306c3);
	assert_int_equal(guest(1, 0)->ebx, 0x00013344);
	assert_int_equal(guest(1, 0)->ecx, 1U << 31 | 1U << 24);
	assert_int_equal(guest(1, 0)->edx, 0);
	assert_memory_equal(guest(7, 0), &kvm.host[2], sizeof(kvm.host[2]));
	assert_memory_equal(guest(0xd, 0), &kvm.host[3], sizeof(kvm.host[3]));
	assert_memory_equal(guest(0xd, 1), &kvm.host[4], sizeof(kvm.host[4]));
	/* No PMU. */
	assert_int_equal(guest(0xa, 0)->eax | guest(0xa, 0)->ebx | guest(0xa, 0)->ecx | guest(0xa, 0)->edx, 0);
	/* What the host has besides stays. */
	setup(state);
	host(1, 0, 0, 0, 0x00112233, ONES);
	make(1);
	set_up_cpu(0);
	assert_int_equal(guest(1, 0)->ecx, (0x00112233 & ~(1U << 5)) | 1U << 31 | 1U << 24);
	assert_int_equal(guest(1, 0)->edx, ONES & ~(1U << 28));
}

/* A guest with a nested guest could not be saved. */
static void test_no_nesting(void **state)
{
	(void)state;
	host(1, 0, 0, 0, ONES, 0);
	host(0x80000001, 0, 0, 0, ONES, ONES);
	host(0x8000000a, 0, 1, 2, 3, 4);
	make(1);
	set_up_cpu(0);
	assert_int_equal(guest(1, 0)->ecx, ONES & ~(1U << 5));		/* VMX */
	assert_int_equal(guest(0x80000001, 0)->ecx, ONES & ~(1U << 2)); /* SVM */
	assert_int_equal(guest(0x80000001, 0)->edx, ONES);
	assert_int_equal(guest(0x8000000a, 0)->eax | guest(0x8000000a, 0)->ebx | guest(0x8000000a, 0)->edx, 0);
}

/* What a snapshot has that was made with an entry that differs; and the result of its restore here. */
static int check(const struct kvm_cpuid_entry2 *changed)
{
	static uint8_t room[16384];
	struct kvm_cpuid_entry2 host_now[CPU_CPUID_MAX];
	struct state_out out;
	struct state_in in;
	int64_t len;

	memcpy(host_now, kvm.host, sizeof(host_now));
	for (unsigned i = 0; changed && i < kvm.num; i++)
		if (kvm.host[i].function == changed->function && kvm.host[i].index == changed->index)
			kvm.host[i] = *changed;
	make(1);
	state_out_init(&out, room, sizeof(room));
	cpu_template_save(template, &out);
	len = state_out_finish(&out);
	assert_true(len > 0);
	memcpy(kvm.host, host_now, sizeof(host_now));
	make(1);
	assert_int_equal(state_in_init(&in, room, (size_t)len, &err), 0);
	return cpu_template_restore(template, &in, &err);
}

static void test_other_hosts(void **state)
{
	static const struct kvm_cpuid_entry2 same[] = {
		{ .function = 1, .ecx = 1U << 27 | 1U << 31 }, /* OSXSAVE is the guest's own */
		{ .function = 1, .edx = 1U << 28 },	       /* so many vCPUs */
		{ .function = 7, .ecx = 1U << 4 },	       /* OSPKE */
		{ .function = 7, .ebx = 1 },		       /* fewer */
		{ .function = 0x80000008, .eax = 39 },
		{ .function = 0x40000001, .eax = 0x80 },
		{ .function = 0xa, .eax = ONES }, /* no features */
	};
	static const struct kvm_cpuid_entry2 others[] = {
		{ .function = 0, .ebx = 2, .ecx = 2, .edx = 3 }, /* another vendor */
		{ .function = 1, .ecx = 1 },
		{ .function = 1, .edx = 2 },
		{ .function = 7, .ebx = 1U << 31 },
		{ .function = 7, .edx = 8 },
		{ .function = 0x80000001, .ecx = 2 },
		{ .function = 0x80000001, .edx = 2 },
		{ .function = 0x80000008, .eax = 46 }, /* more address bits */
		{ .function = 0x40000001, .eax = 0x100 },
	};

	(void)state;
	host(0, 0, 0x1f, 1, 2, 3);
	host(1, 0, 0x306c3, 0, 0, 1);
	host(7, 0, 1, 0x7fffffff, 0, 4);
	host(0xa, 0, 1, 2, 3, 4);
	host(0x40000001, 0, 0x80, 0, 0, 0);
	host(0x80000001, 0, 0, 0, 1, 1);
	host(0x80000008, 0, 40, 0, 0, 0);
	assert_int_equal(check(NULL), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(same); i++)
		assert_int_equal(check(&same[i]), 0);
	/* The guest keeps what it has seen, with its own APIC id. */
	assert_int_equal(check(&same[3]), 0);
	set_up_cpu(3);
	assert_int_equal(guest(7, 0)->ebx, 1);
	assert_int_equal(guest(1, 0)->ebx >> 24, 3);
	for (size_t i = 0; i < MF_ARRAY_SIZE(others); i++)
		assert_int_equal(check(&others[i]), -ENOTSUP);
}

/* One package of cores without hyper-threads, in the leaves of Intel and AMD, whatever the host's are. */
static void test_topology(void **state)
{
	for (unsigned cpus = 1; cpus <= CPUS_MAX; cpus++) {
		const unsigned bits = id_bits(cpus);

		setup(state);
		host(0, 0, 0x1f, 0, 0, 0);
		host(1, 0, 0, ONES, 0, 0);
		host(0xb, 0, 7, 7, 7, 7);
		host(0xb, 1, 7, 7, 7, 7);
		host(0x1f, 0, 7, 7, 7, 7);
		host(0x80000008, 0, 0x3030, 0, 0xffff, 0);
		make(cpus);
		for (unsigned id = 0; id < cpus; id += MF_MAX(cpus - 1, 1U)) {
			set_up_cpu(id);
			assert_int_equal(guest(1, 0)->ebx, id << 24 | (1U << bits) << 16 | 0xffff);
			assert_int_equal(guest(1, 0)->edx, cpus > 1 ? 1U << 28 : 0);
			assert_null(guest(0x1f, 0));
			assert_int_equal(kvm.guest_num, 6);
			assert_int_equal(guest(0xb, 0)->eax, 0);
			assert_int_equal(guest(0xb, 0)->ebx, 1);
			assert_int_equal(guest(0xb, 0)->ecx, 1 << 8);
			assert_int_equal(guest(0xb, 1)->eax, bits);
			assert_int_equal(guest(0xb, 1)->ebx, cpus);
			assert_int_equal(guest(0xb, 1)->ecx, 2 << 8 | 1);
			assert_int_equal(guest(0xb, 2)->eax | guest(0xb, 2)->ebx, 0);
			assert_int_equal(guest(0xb, 2)->ecx, 2);
			for (uint32_t level = 0; level < 3; level++) {
				assert_int_equal(guest(0xb, level)->edx, id);
				assert_int_equal(guest(0xb, level)->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
			}
			assert_int_equal(guest(0x80000008, 0)->ecx, 0xf00 | bits << 12 | (cpus - 1));
			assert_int_equal(guest(0x80000008, 0)->eax, 0x3030);
		}
	}
}

/* A host without leaf 0xb does not get it; one that does not say how many cores it has does not, if there is one. */
static void test_older_hosts(void **state)
{
	(void)state;
	host(0, 0, 0xa, 0, 0, 0);
	host(0x80000008, 0, 0x3030, 0, 0, 0);
	make(1);
	set_up_cpu(0);
	assert_null(guest(0xb, 0));
	assert_int_equal(guest(0x80000008, 0)->ecx, 0);
	make(2);
	set_up_cpu(0);
	assert_int_equal(guest(0x80000008, 0)->ecx, 0x1001);
	/* The table is full: nothing beyond its end. */
	setup(state);
	host(0, 0, 0x1f, 0, 0, 0);
	while (kvm.num < CPU_CPUID_MAX - 2)
		host(0x40, kvm.num, 0, 0, 0, 0);
	make(4);
	set_up_cpu(0);
	assert_int_equal(kvm.guest_num, CPU_CPUID_MAX - 2);
	kvm.num--;
	make(4);
	set_up_cpu(0);
	assert_int_equal(kvm.guest_num, CPU_CPUID_MAX);
}

/* L1 and L2 are a core's own, L3 is shared by all; a leaf that ends the list stays empty. */
static void test_caches(void **state)
{
	static const uint32_t leaves[] = { 4, 0x8000001d };

	for (size_t i = 0; i < MF_ARRAY_SIZE(leaves); i++) {
		const bool intel = leaves[i] == 4;

		setup(state);
		for (uint32_t level = 1; level <= 3; level++)
			host(leaves[i], level, 0xffffc101 | level << 5, 5, 6, 7);
		host(leaves[i], 4, 0, 0, 0, 0);
		make(6);
		set_up_cpu(0);
		for (uint32_t level = 1; level <= 3; level++) {
			uint32_t sharing = level == 3 ? 7 : 0, cores = intel ? 7U << 26 : 0;

			assert_int_equal(guest(leaves[i], level)->eax, cores | sharing << 14 | 0x101 | level << 5);
			assert_int_equal(guest(leaves[i], level)->ebx, 5);
		}
		assert_int_equal(guest(leaves[i], 4)->eax, 0);
	}
}

/* Of AMD: APIC id, core, node. */
static void test_amd_ids(void **state)
{
	(void)state;
	host(0x8000001e, 0, 7, 0x107, 0x107, 0);
	make(4);
	for (unsigned id = 0; id < 4; id++) {
		set_up_cpu(id);
		assert_int_equal(guest(0x8000001e, 0)->eax, id);
		assert_int_equal(guest(0x8000001e, 0)->ebx, id);
		assert_int_equal(guest(0x8000001e, 0)->ecx, 0);
	}
}

static void test_msrs(void **state)
{
	(void)state;
	host(1, 0, 0, 0, 0, 0);
	make(1);
	set_up_cpu(0);
	/* Some exist only once CPUID says so. */
	assert_int_equal(kvm.order[0], KVM_SET_CPUID2);
	assert_int_equal(kvm.order[1], KVM_SET_MSRS);
	assert_int_equal(kvm.num_msrs, 2);
	assert_int_equal(kvm.msr[0].index, 0x1a0); /* fast strings */
	assert_int_equal(kvm.msr[0].data, 1);
	assert_int_equal(kvm.msr[1].index, 0x2ff); /* MTRRs on, memory is write-back */
	assert_int_equal(kvm.msr[1].data, 0x806);
	for (kvm.msrs_taken = 0; kvm.msrs_taken < 2; kvm.msrs_taken++) {
		const char *name = kvm.msrs_taken ? "0x2ff" : "0x1a0";

		kvm.calls = 0;
		assert_int_equal(cpu_setup(template, VCPU_FD, 0, &err), -EINVAL);
		assert_non_null(strstr(err.text, name));
	}
}

static void test_failures(void **state)
{
	static const unsigned long setups[] = { KVM_SET_CPUID2, KVM_SET_MSRS };
	static const unsigned long regs[] = { KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_REGS };
	const struct kvm k = { .fd = KVM_FD };
	const struct boot_regs boot = { .rip = 1 };

	(void)state;
	make(1);
	for (size_t i = 0; i < MF_ARRAY_SIZE(setups); i++) {
		kvm.calls = 0;
		kvm.fails = setups[i];
		assert_int_equal(cpu_setup(template, VCPU_FD, 0, &err), -EIO);
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(regs); i++) {
		kvm.calls = 0;
		kvm.fails = regs[i];
		assert_int_equal(cpu_set_boot_regs(VCPU_FD, &boot, &err), -EIO);
	}
	cpu_template_free(template);
	template = NULL;
	kvm.calls = 0;
	kvm.fails = KVM_GET_SUPPORTED_CPUID;
	assert_int_equal(cpu_template_new(&template, &k, 1, &err), -EIO);
	assert_null(template);
}

/* A segment as boot_x86.h has them. */
static void expect_segment(const struct kvm_segment *s, uint16_t selector, uint8_t type, bool is_64bit)
{
	assert_int_equal(s->base, 0);
	assert_int_equal(s->limit, ONES);
	assert_int_equal(s->selector, selector);
	assert_int_equal(s->type, type);
	assert_true(s->present && s->s && s->g && !s->dpl && !s->unusable);
	assert_int_equal(s->l, is_64bit);
	assert_int_equal(s->db, !is_64bit);
}

static void set_regs(bool long_mode)
{
	const struct boot_regs boot = { .long_mode = long_mode,
					.rip = 0x1000001,
					.rsp = 0x2002,
					.rsi = 0x3003,
					.rbx = 0x4004,
					.cr3 = 0x5000,
					.gdt_gpa = 0x6006,
					.gdt_limit = 31,
					.cs = 0x10,
					.ds = 0x18 };
	const struct kvm_segment *const data[] = { &kvm.sregs.ds, &kvm.sregs.es, &kvm.sregs.fs, &kvm.sregs.gs,
						   &kvm.sregs.ss };

	memset(&kvm.sregs, 0xaa, sizeof(kvm.sregs));
	kvm.sregs.efer = 0;
	kvm.calls = 0;
	assert_int_equal(cpu_set_boot_regs(VCPU_FD, &boot, &err), 0);
	assert_int_equal(kvm.regs.rip, 0x1000001);
	assert_int_equal(kvm.regs.rsp, 0x2002);
	assert_int_equal(kvm.regs.rsi, 0x3003);
	assert_int_equal(kvm.regs.rbx, 0x4004);
	assert_int_equal(kvm.regs.rflags, 2);
	expect_segment(&kvm.sregs.cs, 0x10, 0xb, long_mode);
	for (size_t i = 0; i < MF_ARRAY_SIZE(data); i++)
		expect_segment(data[i], 0x18, 3, false);
	assert_int_equal(kvm.sregs.tr.limit, 0x67);
	assert_int_equal(kvm.sregs.tr.type, 0xb);
	assert_true(kvm.sregs.tr.present && !kvm.sregs.tr.s);
	assert_int_equal(kvm.sregs.gdt.base, 0x6006);
	assert_int_equal(kvm.sregs.gdt.limit, 31);
	assert_int_equal(kvm.sregs.idt.limit, 0);
	/* As KVM made it. */
	assert_int_equal(kvm.sregs.apic_base, 0xaaaaaaaaaaaaaaaaULL);
}

static void test_registers(void **state)
{
	(void)state;
	set_regs(true);
	assert_int_equal(kvm.sregs.cr0, X86_CR0_PE | X86_CR0_ET | X86_CR0_PG);
	assert_int_equal(kvm.sregs.cr3, 0x5000);
	assert_int_equal(kvm.sregs.cr4, X86_CR4_PAE);
	assert_int_equal(kvm.sregs.efer, 1 << 8 | 1 << 10);
	set_regs(false);
	assert_int_equal(kvm.sregs.cr0, X86_CR0_PE | X86_CR0_ET);
	assert_int_equal(kvm.sregs.efer, 0);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_features),    ONE(test_no_nesting), ONE(test_other_hosts), ONE(test_topology),
		ONE(test_older_hosts), ONE(test_caches),     ONE(test_amd_ids),	    ONE(test_msrs),
		ONE(test_failures),    ONE(test_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
