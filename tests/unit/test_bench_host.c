/* The facts of a host that does not exist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/util.h"
#include "vmm/bench/bench_host.h"

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities/"

static char root[] = "/tmp/mayfly-bench-host-XXXXXX";
static struct bench_host host;
static char states[1024];

static void put(const char *path, const char *text)
{
	char whole[256];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (char *slash = whole + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(whole, 0700);
		*slash = '/';
	}
	file = fopen(whole, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
	(void)state;
	return nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

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
