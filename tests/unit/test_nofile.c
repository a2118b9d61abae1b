/* Descriptors: what a configuration needs, and what is left for the guest's connections. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/vm/nofile.h"

static struct rlimit before;

static int keep_limit(void **state)
{
	(void)state;
	return getrlimit(RLIMIT_NOFILE, &before);
}

static int restore_limit(void **state)
{
	(void)state;
	return setrlimit(RLIMIT_NOFILE, &before);
}

static void set_limit(rlim_t soft)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ soft, before.rlim_max }), 0);
}

static struct config large(void)
{
	static char path[] = "/v", word[] = "true", *args[] = { word };
	struct config c = {
		.cpus = CONFIG_CPUS_MAX,
		.num_drives = CONFIG_DRIVES_MAX,
		.num_nets = CONFIG_NETS_MAX,
		.vsock.path = path,
		.command.args = { args, 1 },
		.num_artifacts = CONFIG_ARTIFACTS_MAX,
	};

	for (unsigned i = 0; i < c.num_drives; i++)
		c.drive[i].overlay = true;
	for (unsigned i = 0; i < c.num_nets; i++)
		c.net[i].kind = CONFIG_NET_USER;
	return c;
}

static void test_all_counts(void **state)
{
	struct config c = { .cpus = 1 };
	unsigned n = nofile_needed(&c), all = n;

	(void)state;
	c = large();
	all += CONFIG_CPUS_MAX - 1 + 3 * CONFIG_DRIVES_MAX + 4 * CONFIG_NETS_MAX + CONFIG_ARTIFACTS_MAX;
	assert_true(nofile_needed(&c) > all);
	assert_true(nofile_needed(&c) < all + 40);
	n = nofile_needed(&c);
	c.drive[0].overlay = false;
	assert_int_equal(nofile_needed(&c), n - 1);
}

static void test_room_for_all_connections(void **state)
{
	struct config c = large();
	struct rlimit limit;
	unsigned conns = 0;
	struct err e;

	(void)state;
	if (before.rlim_max < 4096)
		skip(); /* a hard limit that is not ours to raise */
	set_limit(64);
	assert_int_equal(nofile_raise(&c, &conns, &e), 0);
	assert_int_equal(conns, VSOCK_CONNS_MAX);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur >= nofile_needed(&c) + VSOCK_CONNS_MAX - 8);
	assert_int_equal(limit.rlim_max, before.rlim_max);
}

static void test_small_limits(void **state)
{
	static char path[] = "/c";
	struct config c = large();
	unsigned needed = nofile_needed(&c), conns = 7, least;
	char number[16];
	struct err e;

	(void)state;
	snprintf(number, sizeof(number), "%u", needed);
	/* The hard limit goes down only: from the largest to the smallest. Connections and the rest never are too many. */
	for (unsigned more = 900; more > 0; more -= 100) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ needed + more, needed + more }), 0);
		c.control = more > 400 ? path : NULL;
		assert_int_equal(nofile_raise(&c, &conns, &e), 0);
		assert_true(conns >= 4);
		assert_true(conns <= more + 4);
		if (c.control) /* of `mayfly exec`: 63 clients with 4 each */
			assert_true(conns <= more - 63 * 4 + 4);
	}
	/* The least: clients of `mayfly exec` wait, the guest has its minimum. */
	c.control = path;
	least = nofile_needed(&c);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ least, least }), 0);
	assert_int_equal(nofile_raise(&c, &conns, &e), 0);
	assert_int_equal(conns, 4);
	c.control = NULL;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ needed, needed }), 0);
	assert_int_equal(nofile_raise(&c, &conns, &e), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ needed - 1, needed - 1 }), 0);
	conns = 7;
	assert_int_equal(nofile_raise(&c, &conns, &e), -EMFILE);
	assert_int_equal(conns, 7);
	assert_non_null(strstr(e.text, number));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_counts, keep_limit, restore_limit),
		cmocka_unit_test_setup_teardown(test_room_for_all_connections, keep_limit, restore_limit),
		cmocka_unit_test(test_small_limits), /* last: the limit stays */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
