/* CPU templates: only the bits of the mask change, in the one entry that has all three numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/config_cpu.h"
#include "vmm/vm/cpu_change.h"

static union {
	struct kvm_cpuid2 cpuid;
	char room[sizeof(struct kvm_cpuid2) + 3 * sizeof(struct kvm_cpuid_entry2)];
} u;

static int change(struct config_cpuid_change one)
{
	struct kvm_cpuid_entry2 *entries = u.cpuid.entries;
	const struct config_cpu c = { .cpuid = &one, .num_cpuid = 1 };
	struct err e;

	memset(&u, 0, sizeof(u));
	u.cpuid.nent = 3;
	for (unsigned i = 0; i < 3; i++)
		entries[i] = (struct kvm_cpuid_entry2){ .function = i ? 4 : 1,
							.index = i,
							.flags = i ? 1 : 0,
							.eax = 0xf0f0,
							.ebx = 0xf0f1,
							.ecx = 0xf0f2,
							.edx = 0xf0f3 };
	return cpu_change_cpuid(&u.cpuid, &c, &e);
}

static void test_registers(void **state)
{
	const struct kvm_cpuid_entry2 *entries = u.cpuid.entries;
	struct config_cpuid_change c = { .leaf = 4, .subleaf = 2, .flags = 1, .mask = 0xff, .value = 0xff0a };

	(void)state;
	for (unsigned reg = 0; reg < 4; reg++) {
		c.reg = (enum config_register)reg;
		assert_int_equal(change(c), 0);
		assert_int_equal(entries[2].eax, reg == 0 ? 0xf00a : 0xf0f0);
		assert_int_equal(entries[2].ebx, reg == 1 ? 0xf00a : 0xf0f1);
		assert_int_equal(entries[2].ecx, reg == 2 ? 0xf00a : 0xf0f2);
		assert_int_equal(entries[2].edx, reg == 3 ? 0xf00a : 0xf0f3);
		assert_int_equal(entries[0].eax, 0xf0f0);
		assert_int_equal(entries[1].eax, 0xf0f0);
	}
}

static void test_no_entry(void **state)
{
	(void)state;
	assert_int_equal(change((struct config_cpuid_change){ .leaf = 1, .mask = 1 }), 0);
	assert_int_equal(change((struct config_cpuid_change){ .leaf = 1, .subleaf = 1, .mask = 1 }), -ENOTSUP);
	assert_int_equal(change((struct config_cpuid_change){ .leaf = 1, .flags = 1, .mask = 1 }), -ENOTSUP);
	assert_int_equal(change((struct config_cpuid_change){ .leaf = 2, .mask = 1 }), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_registers), cmocka_unit_test(test_no_entry) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
