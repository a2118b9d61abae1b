/* The facts of a host that does not exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/fake_root.h"
#include "vmm/base/util.h"
#include "vmm/bench/bench_host.h"

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities/"

static struct bench_host host;
static char states[1024];

static void add_state(void *ctx, const char *name, const char *text)
{
	size_t len = strlen(states);

	(void)ctx;
	snprintf(states + len, sizeof(states) - len, "%s=%s;", name, text);
}

static void test_nothing(void **state)
{
	(void)state;
	bench_host_read(&host, root);
	assert_string_equal(host.cpu, "");
	assert_string_equal(host.kvm, "");
	assert_string_equal(host.thp, "");
	assert_false(host.nested);
	assert_true(*host.kernel && host.hz > 0 && host.cpus > 0); /* of this one: by system calls */
	bench_host_mitigations(root, add_state, NULL);
	assert_string_equal(states, "");
}

static void test_host(void **state)
{
	(void)state;
	put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast \x1b[31m 9\nflags\t\t: fpu hypervisor\n");
	put("/sys/module/kvm_amd/parameters/npt", "1\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	put(VULNERABILITIES "mds", "Not affected\n");
	put(VULNERABILITIES "l1tf", "Mitigation: PTE\n");
	bench_host_read(&host, root);
	assert_string_equal(host.cpu, "Fast ?[31m 9"); /* goes to a terminal */
	assert_true(host.nested);
	assert_string_equal(host.kvm, "amd");
	assert_string_equal(host.thp, "madvise");
	bench_host_mitigations(root, add_state, NULL);
	assert_string_equal(states, "l1tf=Mitigation: PTE;mds=Not affected;");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing), cmocka_unit_test(test_host) };

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
