/* The text that tells init in the guest about drives, names and networks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/text.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/init_text.h"

static struct config c;

static int setup(void **state)
{
	(void)state;
	config_init(&c);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	config_done(&c);
	return 0;
}

static void set(const char *key, const char *text)
{
	struct err e;

	if (config_set(&c, key, text, &e) < 0)
		fail_msg("%s: %s", text, e.text);
}

static void assert_completed(const char *text, size_t len, const char *want, size_t want_len)
{
	struct init_text_defaults d = { 0 };
	char buf[200] = "";

	assert_int_equal(init_text_defaults_init(&d, &c.command), 0);
	memcpy(buf, text, len);
	assert_int_equal(init_text_complete(buf, len, want_len, &d), want_len);
	assert_memory_equal(buf, want, want_len);
	memcpy(buf, text, len);
	if (want_len > len)
		assert_int_equal(init_text_complete(buf, len, want_len - 1, &d), -E2BIG);
	init_text_defaults_done(&d);
}

#define COMPLETED(text, want) assert_completed(text, sizeof(text), want, sizeof(want))

/* A further command is in the place of the first one: what it says itself counts for init, and the rest is as there. */
static void test_defaults(void **state)
{
	(void)state;
	COMPLETED("ash", "ash");
	set("env", "A=1");
	set("env", "B=2");
	COMPLETED("ash\0eA=3\0w/tmp", "eA=1\0eB=2\0ash\0eA=3\0w/tmp");
	set("workdir", "/srv");
	set("user", "web");
	COMPLETED("ash", "eA=1\0eB=2\0ash\0w/srv\0uweb");
	COMPLETED("uroot\0asa", "eA=1\0eB=2\0uroot\0asa\0w/srv\0uweb");
	/* A copy of files is no command. */
	COMPLETED("i/tmp/a\0k", "i/tmp/a\0k");
	COMPLETED("", "");
}

static void test_defaults_of_no_text(void **state)
{
	struct init_text_defaults d = { 0 };
	char text[] = { 'a', 'x' };

	(void)state;
	assert_int_equal(init_text_defaults_init(&d, &c.command), 0);
	assert_int_equal(init_text_complete(text, sizeof(text), 100, &d), -EPROTO);
	assert_int_equal(init_text_complete(text, 0, 100, &d), 0);
	init_text_defaults_done(&d);
}

/* Whether init finds these entries, in this order, and no others with their letters. */
static void assert_has(const char *letters, const char *const *entries, unsigned num)
{
	size_t len = 0, at = 0;
	char *text = init_text_boot(&c, &len);
	const char *s;
	unsigned i = 0;

	assert_non_null(text);
	while ((s = text_next(text, len, &at))) {
		if (!strchr(letters, s[0]))
			continue;
		assert_true(i < num);
		assert_string_equal(s, entries[i++]);
	}
	assert_int_equal(i, num);
	free(text);
}

#define ASSERT_HAS(letters, ...)                                                                                       \
	do {                                                                                                           \
		static const char *const entries[] = { __VA_ARGS__ };                                                  \
		assert_has(letters, entries, sizeof(entries) / sizeof(entries[0]));                                    \
	} while (0)

#define LOCAL_HOSTS                                                                                                    \
	"k127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"                     \
	"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

static void test_nothing_given(void **state)
{
	static const char expected[] = "hmayfly\0" LOCAL_HOSTS "127.0.1.1\tmayfly\n";
	size_t len = 0;
	char *text = init_text_boot(&c, &len);

	(void)state;
	assert_int_equal(len, sizeof(expected));
	assert_memory_equal(text, expected, len);
	free(text);
}

static void test_drives(void **state)
{
	(void)state;
	set("drives", "/root.img");
	set("drives", "/b");
	c.drive[1].mount = strdup("/b");
	set("drives", "/c:ro");
	c.drive[2].mount = strdup("/c");
	set("drives", "/d:overlay");
	ASSERT_HAS("rvVwl", "r/dev/vda", "w/dev/vdb:/b", "v/dev/vdc:/c", "l/dev/vdd");
	c.drive[2].mount_read_only = true;
	ASSERT_HAS("v");
	ASSERT_HAS("V", "V/dev/vdc:/c");
}

/* An image that is copied has its layer below its file system; other volumes have theirs in the guest. */
static void test_volumes(void **state)
{
	char file[] = "/tmp/mayfly-text-XXXXXX", image[] = "/tmp/mayfly-text-XXXXXX", spec[64];
	MF_CLOSE int file_fd = mkstemp(file);
	MF_CLOSE int image_fd = mkstemp(image);

	(void)state;
	assert_true(file_fd >= 0);
	assert_int_equal(pwrite(image_fd, "\x53\xef", 2, 0x438), 2);
	snprintf(spec, sizeof(spec), "%s:/x", file);
	set("volumes", spec);
	snprintf(spec, sizeof(spec), "%s:/y:ro", file);
	set("volumes", spec);
	snprintf(spec, sizeof(spec), "%s:/z", image);
	set("volumes", spec);
	set("volumes", "/own/deep");
	set("volumes", "/etc:/live");
	set("volumes", "/tmp:/fixed:ro");
	ASSERT_HAS("pP", "p0:/live", "P1:/fixed");
	ASSERT_HAS("fFvVwlb", "f/dev/vda:/x", "F/dev/vdb:/y", "w/dev/vdc:/z", "l/dev/vdc", "b:/own/deep");
	assert_int_equal(unlink(file) | unlink(image), 0);
}

/* The disk is the last drive. The layer of the root is there, that of another image in a file beside it. */
static void test_disk(void **state)
{
	char image[] = "/tmp/mayfly-text-XXXXXX", spec[64];
	MF_CLOSE int fd = mkstemp(image);
	struct err e;

	(void)state;
	assert_int_equal(pwrite(fd, "\x53\xef", 2, 0x438), 2);
	set("rootfs", image);
	snprintf(spec, sizeof(spec), "%s:/z", image);
	set("volumes", spec);
	set("disk", "1G");
	set("kernel", "/k");
	set("command", "true");
	assert_int_equal(config_check(&c, &e), 0);
	ASSERT_HAS("rDvVwl", "r/dev/vda", "w/dev/vdb:/z", "l/dev/vdb", "D/dev/vdc", "l/dev/vdc");
	assert_true(c.drive[0].read_only);
	assert_non_null(c.drive[1].overlay_dir);
	assert_non_null(c.drive[2].overlay_dir);
	assert_int_equal(unlink(image), 0);
}

/* A guest with an initrd of its own, or whose first drive is mounted elsewhere, has no root drive. */
static void test_root(void **state)
{
	(void)state;
	set("drives", "/a");
	set("initrd", "/i");
	ASSERT_HAS("r");
	teardown(state);
	setup(state);
	set("drives", "/a");
	c.drive[0].mount = strdup("/a");
	ASSERT_HAS("rw", "w/dev/vda:/a");
}

static void test_net(void **state)
{
	(void)state;
	set("nets", "tap=a");
	set("nets", "tap=b,ip=10.0.0.2/24");
	ASSERT_HAS("ngdE", "E10.0.0.2/24");
	teardown(state);
	setup(state);
	set("nets", "tap=a,ip=10.0.0.2/24,gw=10.0.0.1,dns=10.0.0.3");
	ASSERT_HAS("ngdNGE", "n10.0.0.2/24", "g10.0.0.1", "dnameserver 10.0.0.3\n");
	teardown(state);
	setup(state);
	set("nets", "tap=a,ip6=fd00:12::ab/64,gw6=fd00:12::1,dns=fd00:12::3");
	ASSERT_HAS("ngdNG", "Nfd0000120000000000000000000000ab/64", "Gfd000012000000000000000000000001",
		   "dnameserver fd00:12::3\n");
}

/* --dns wins over the interface's; without any, the root's own file stays. */
static void test_resolver(void **state)
{
	(void)state;
	set("nets", "tap=a,dns=10.0.0.3");
	set("dns_search", "a.example");
	set("dns_search", "b.example");
	ASSERT_HAS("d", "dnameserver 10.0.0.3\nsearch a.example b.example\n");
	set("dns", "192.0.2.1");
	set("dns", "fd00::53");
	ASSERT_HAS("d", "dnameserver 192.0.2.1\nnameserver fd00::53\nsearch a.example b.example\n");
	teardown(state);
	setup(state);
	set("dns", "192.0.2.1");
	set("dns_search", ".");
	ASSERT_HAS("d", "dnameserver 192.0.2.1\n");
}

/* The guest's own name is that of its address; one with dots has its first part as another. */
static void test_hosts(void **state)
{
	(void)state;
	set("nets", "tap=a,ip=10.0.0.2/24,gw=10.0.0.1");
	set("add_host", "db:192.0.2.9");
	set("add_host", "six=[fd00::9]");
	set("add_host", "seven:fd00::7");
	set("add_host", "host.docker.internal:host-gateway");
	ASSERT_HAS("k", LOCAL_HOSTS "10.0.0.2\tmayfly\n192.0.2.9\tdb\nfd00::9\tsix\nfd00::7\tseven\n"
				    "10.0.0.1\thost.docker.internal\n");
	teardown(state);
	setup(state);
	c.name = strdup("web.example.org");
	ASSERT_HAS("hk", "hweb.example.org", LOCAL_HOSTS "127.0.1.1\tweb.example.org web\n");
}

static void test_names_and_artifacts(void **state)
{
	(void)state;
	set("name", "box");
	set("artifacts", "/out=/tmp");
	set("artifacts", "/a:b=/tmp");
	ASSERT_HAS("ho", "hbox", "o/out", "o/a:b");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nothing_given),
		T(test_drives),
		T(test_volumes),
		T(test_disk),
		T(test_root),
		T(test_net),
		T(test_resolver),
		T(test_hosts),
		T(test_names_and_artifacts),
		T(test_defaults),
		T(test_defaults_of_no_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
