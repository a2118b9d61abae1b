/* The key of a template: what makes it another one, and what does not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/template/shape.h"

static char kernel[] = "/tmp/mayfly-test-shape-XXXXXX";
static char root[] = "/some/root.ext4", other[] = "/other/root.ext4", word[] = "true", words[] = "a b";
static char *args[] = { word, words };
static struct config config;
static char name[IMAGE_KEY_TEXT_MAX];

static void key(char ret[IMAGE_KEY_TEXT_MAX])
{
	struct shape s = { 0 };
	struct err e;

	assert_int_equal(shape_of(&s, &config, &e), 0);
	snprintf(ret, IMAGE_KEY_TEXT_MAX, "%s", s.name);
	shape_done(&s);
}

static int setup(void **state)
{
	int fd;

	(void)state;
	strcpy(kernel + strlen(kernel) - 6, "XXXXXX");
	fd = mkstemp(kernel);
	assert_true(fd >= 0);
	/* Its contents cannot matter: nobody could read so many. */
	assert_int_equal(ftruncate(fd, 1LL << 40), 0);
	close(fd);
	config = (struct config){ .kernel = kernel, .cpus = 1, .mem = CONFIG_MEM_DEFAULT, .num_drives = 1 };
	config.command.args = (struct config_list){ args, 1 };
	config.drive[0] = (struct config_drive){ .path = root, .id = word, .overlay = true };
	config.num_nets = 1;
	config.net[0] = (struct config_net){ .kind = CONFIG_NET_TAP, .id = word, .tap = word };
	key(name);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(kernel);
	return 0;
}

static void assert_same(void)
{
	char now[IMAGE_KEY_TEXT_MAX];

	key(now);
	assert_string_equal(now, name);
}

static void assert_other(void)
{
	char now[IMAGE_KEY_TEXT_MAX];

	key(now);
	assert_string_not_equal(now, name);
}

/* What init's lists bring. */
static void test_same(void **state)
{
	struct config_net *net = &config.net[0];

	(void)state;
	assert_same();
	config.command.args.num = 2;
	config.command.env = (struct config_list){ args, 1 };
	config.name = word;
	config.drive[0].path = other;
	config.drive[0].id = words;
	config.drive[0].overlay_size = 1 << 20;
	config.drive[0].mount = word;
	net->tap = words;
	net->has_mac = true;
	net->mac[5] = 1;
	net->ip = word;
	config.timeout_ms = 5;
	config.scratch = 1 << 20;
	config.vsock = (struct config_vsock){ .path = word, .cid = 9 };
	assert_same();
}

#define CHANGED(member, value)                                                                                         \
	do {                                                                                                           \
		typeof(config.member) old = config.member;                                                             \
		config.member = (value);                                                                               \
		assert_other();                                                                                        \
		config.member = old;                                                                                   \
		assert_same();                                                                                         \
	} while (0)

/* What the guest's kernel asks for when it boots. */
static void test_settings(void **state)
{
	(void)state;
	CHANGED(cpus, 2);
	CHANGED(mem, 2 * CONFIG_MEM_DEFAULT);
	CHANGED(append, word);
	CHANGED(cmdline, word);
	CHANGED(entry, CONFIG_ENTRY_PVH);
	CHANGED(num_drives, 2);
	CHANGED(num_drives, 0);
	CHANGED(drive[0].read_only, true);
	CHANGED(drive[0].overlay, false); /* flushes are worth something now */
	CHANGED(num_nets, 0);
	CHANGED(net[0].mtu, 9000);
	CHANGED(net[0].kind, CONFIG_NET_USER);
	CHANGED(initrd, kernel);
}

/* A word is not a part of its neighbour. */
static void test_texts(void **state)
{
	static char one[] = "x\ncmdline y", two[] = "x", three[] = "y";
	char first[IMAGE_KEY_TEXT_MAX], second[IMAGE_KEY_TEXT_MAX];

	(void)state;
	config.append = one;
	key(first);
	config.append = two;
	config.cmdline = three;
	key(second);
	assert_string_not_equal(first, second);
}

static void test_kernel(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

	(void)state;
	assert_int_equal(utimensat(AT_FDCWD, kernel, times, 0), 0);
	assert_other();
	/* One that takes its place, with its size and its time. */
	key(name);
	assert_int_equal(unlink(kernel), 0);
	strcpy(kernel + strlen(kernel) - 6, "XXXXXX");
	setup(NULL);
	assert_int_equal(utimensat(AT_FDCWD, kernel, times, 0), 0);
	assert_other();
}

static void test_missing(void **state)
{
	struct shape s = { 0 };
	struct err e;

	(void)state;
	assert_int_equal(unlink(kernel), 0);
	assert_int_equal(shape_of(&s, &config, &e), -ENOENT);
	shape_done(&s);
}

static void test_unfit(void **state)
{
	(void)state;
	assert_null(shape_unfit(&config));
	config.console = true;
	assert_non_null(shape_unfit(&config));
	config.console = false;
	config.net[0].kind = CONFIG_NET_FD;
	assert_non_null(shape_unfit(&config));
	config.net[0].kind = CONFIG_NET_USER;
	config.command.args.num = 0;
	assert_non_null(shape_unfit(&config));
	config.command.args.num = 1;
	assert_null(shape_unfit(&config));
	config.drive[0].path = kernel;
	assert_null(shape_unfit(&config));
	assert_int_equal(truncate(kernel, 511), 0);
	assert_non_null(shape_unfit(&config));
}

/* The files of a template are known by what stat(2) says. */
static void test_file_text(void **state)
{
	struct stat a = { .st_ino = 1, .st_size = 4096 }, b = { .st_ino = 2, .st_size = 8192 };
	struct shape s = { 0 };
	size_t len, len2;
	char *text, *text2;
	struct err e;

	(void)state;
	assert_int_equal(shape_of(&s, &config, &e), 0);
	text = shape_file_text(&s, &a, &b, &len);
	b.st_ctim.tv_nsec = 1;
	text2 = shape_file_text(&s, &a, &b, &len2);
	assert_memory_equal(text, s.text, s.len);
	assert_true(len > s.len);
	assert_string_not_equal(text, text2);
	free(text);
	free(text2);
	shape_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unfit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_text, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
