/* The configuration: setters, drives and the checks between parts. JSON is in test_config_json.c. */
#include "tests/unit/config_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/util.h"

/* The setter refuses text, says so and changes nothing. */
static void refuses(const char *key, const char *text, const char *message)
{
	struct config before = conf;

	if (config_set(&conf, key, text, &err) != -EINVAL)
		fail_msg("'%s' was accepted", text);
	assert_string_equal(err.text, message);
	assert_int_equal(err.code, -EINVAL);
	assert_memory_equal(&before, &conf, sizeof(conf));
}

static void accepts(const char *key, const char *text)
{
	if (config_set(&conf, key, text, &err) != 0)
		fail_msg("'%s': %s", text, err.text);
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(conf.cpus, 1);
	assert_int_equal(conf.mem, 128 * MIB);
	assert_int_equal(conf.log_level, LOG_LEVEL_WARN);
	assert_int_equal(conf.entry, CONFIG_ENTRY_AUTO);
	assert_null(conf.kernel);
	assert_int_equal(conf.num_drives, 0);
}

static void test_cpus(void **state)
{
	static const char *const bad[] = { "0",		 "33", "-1", "",   "1x", "99999999999999999999",
					   "4294967297", " 1", "+1", "01", "1.0" };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++)
		refuses("cpus", bad[i], "must be 1 to 32");
	accepts("cpus", "1");
	accepts("cpus", "32");
	assert_int_equal(conf.cpus, 32);
}

static void test_mem(void **state)
{
	static const char *const out_of_range[] = { "0",      "1K",    "15",	    "9223372036854775808",
						    "16383K", "1025G", "16777216T", "99999999999999999999" };
	static const char *const no_size[] = { "-1", "", "128MM", "M", "128 M", "lots", "1.5G" };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(out_of_range); i++)
		refuses("mem", out_of_range[i], "must be 16M to 1T (a number alone is bytes)");
	for (size_t i = 0; i < MF_ARRAY_SIZE(no_size); i++)
		refuses("mem", no_size[i], "must be a size such as 128M or 2G");
	refuses("mem", "128", "must be 16M to 1T; a number alone is bytes: did you mean 128M?");
	accepts("mem", "16M");
	assert_int_equal(conf.mem, 16 * MIB);
	accepts("mem", "16777217"); /* rounded up to a page */
	assert_int_equal(conf.mem, 16 * MIB + 4096);
	accepts("mem", "1T");
	assert_true(conf.mem == 1024 * GIB);
}

static void test_words(void **state)
{
	(void)state;
	accepts("entry", "pvh");
	assert_int_equal(conf.entry, CONFIG_ENTRY_PVH);
	refuses("entry", "PVH", "must be auto, linux64 or pvh");
	refuses("entry", "", "must be auto, linux64 or pvh");
	assert_int_equal(conf.io_engine, LOOP_ENGINE_AUTO);
	accepts("io_engine", "sync");
	assert_int_equal(conf.io_engine, LOOP_ENGINE_SYNC);
	accepts("io_engine", "ring");
	assert_int_equal(conf.io_engine, LOOP_ENGINE_RING);
	refuses("io_engine", "", "must be auto, ring or sync");
	refuses("io_engine", "Sync", "must be auto, ring or sync");
	accepts("log_level", "debug");
	assert_int_equal(conf.log_level, LOG_LEVEL_DEBUG);
	refuses("log_level", "loud", "must be error, warn, info or debug");
	accepts("time", "true");
	assert_true(conf.time);
	refuses("time", "yes", "must be true or false");
	accepts("time", "false");
	assert_false(conf.time);
}

static void test_texts(void **state)
{
	char text[CONFIG_PATH_MAX + 2];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[CONFIG_PATH_MAX + 1] = '\0';
	refuses("kernel", text, "is longer than 4095 bytes");
	refuses("kernel", "", "must not be empty");
	refuses("log_file", "", "must not be empty");
	text[CONFIG_PATH_MAX] = '\0';
	accepts("kernel", text);
	accepts("kernel", "again");
	assert_string_equal(conf.kernel, "again");
	text[CONFIG_CMDLINE_MAX + 1] = '\0';
	refuses("append", text, "is longer than 2047 bytes");
	refuses("cmdline", text, "is longer than 2047 bytes");
	text[CONFIG_CMDLINE_MAX] = '\0';
	accepts("append", text);
	accepts("append", "");
}

static const struct config_drive *added(const char *spec)
{
	accepts("drives", spec);
	return &conf.drive[conf.num_drives - 1];
}

static void test_drives(void **state)
{
	const struct config_drive *d;

	(void)state;
	d = added("a.img");
	assert_string_equal(d->path, "a.img");
	assert_null(d->serial);
	assert_false(d->read_only);
	d = added("/b:ro:id=B_-9:serial=se ri=al");
	assert_string_equal(d->path, "/b");
	assert_string_equal(d->id, "B_-9");
	assert_string_equal(d->serial, "se ri=al");
	assert_true(d->read_only);
	d = added("c:d:ro:e:rw"); /* "e" ends the options */
	assert_string_equal(d->path, "c:d:ro:e");
	assert_false(d->read_only);
	assert_string_equal(added("c:")->path, "c:");
	assert_string_equal(added("ro")->path, "ro");
	assert_string_equal(added("id=x")->path, "id=x");
	assert_string_equal(added("f:read-only")->path, "f:read-only");
	assert_int_equal(d->cache, CONFIG_CACHE_WRITEBACK);
	assert_int_equal(added("g:cache=unsafe:id=g")->cache, CONFIG_CACHE_UNSAFE);
	assert_int_equal(added("h:cache=writeback")->cache, CONFIG_CACHE_WRITEBACK);
	assert_false(d->direct);
	assert_true(added("h:direct")->direct);
	assert_true(added("i:overlay")->overlay);
	d = added("j:overlay-dir=/var/tmp:overlay=1G");
	assert_true(d->overlay);
	assert_int_equal(d->overlay_size, GIB);
	assert_string_equal(d->overlay_dir, "/var/tmp");
	d = added("k:bandwidth=10M+1G/100:ops=500/1000");
	assert_int_equal(d->bandwidth.size, 10 * MIB);
	assert_int_equal(d->bandwidth.one_time_burst, GIB);
	assert_int_equal(d->bandwidth.refill_ms, 100);
	assert_int_equal(d->ops.size, 500);
	assert_int_equal(d->ops.one_time_burst, 0);
	assert_int_equal(d->ops.refill_ms, 1000);
	assert_int_equal(conf.num_drives, 13);
	accepts("kernel", "k");
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.drive[0].id, "drive0");
	assert_string_equal(conf.drive[2].id, "drive2");
}

static void test_bad_drives(void **state)
{
	static const char *const limits[] = { "a:bandwidth=",	   "a:bandwidth=1M",	 "a:bandwidth=0/1",
					      "a:bandwidth=1/0",   "a:bandwidth=1+/1",	 "a:bandwidth=/1",
					      "a:bandwidth=1M/1M", "a:bandwidth=1/1+1",	 "a:bandwidth=-1/1",
					      "a:bandwidth=1/1/1", "a:bandwidth=1+1+1/1" };
	char id[CONFIG_ID_MAX + 5] = "a:id=";
	static const char *const specs[][2] = {
		{ "", "path: must not be empty" },
		{ ":ro", "path: must not be empty" },
		{ "a:ro:rw", "'ro' conflicts with an earlier option" },
		{ "a:id=x:id=y", "'id=x' conflicts with an earlier option" },
		{ "a:id=", "'id=': must be 1 to 63 letters, digits, '_' or '-'" },
		{ "a:id=x/y", "'id=x/y': must be 1 to 63 letters, digits, '_' or '-'" },
		{ "a:serial=", "'serial=': must be 1 to 20 printable ASCII characters" },
		{ "a:serial=123456789012345678901",
		  "'serial=123456789012345678901': must be 1 to 20 printable ASCII characters" },
		{ "a:serial=\xc3\xa9", "'serial=\xc3\xa9': must be 1 to 20 printable ASCII characters" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(specs); i++) {
		assert_int_equal(config_set(&conf, "drives", specs[i][0], &err), -EINVAL);
		assert_string_equal(err.text, specs[i][1]);
	}
	assert_int_equal(config_set(&conf, "drives", "a:cache=none", &err), -EINVAL);
	assert_string_equal(err.text, "'cache=none': must be writeback or unsafe");
	assert_int_equal(config_set(&conf, "drives", "a:cache=unsafe:cache=unsafe", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "drives", "a:overlay=1G:ro", &err), -EINVAL);
	assert_string_equal(err.text,
			    "read-only and overlay exclude each other: with an overlay the image is only read");
	assert_int_equal(config_set(&conf, "drives", "a:overlay=1G:overlay", &err), -EINVAL);
	assert_int_equal(config_set(&conf, "drives", "a:overlay=4095", &err), -ERANGE);
	assert_int_equal(config_set(&conf, "drives", "a:overlay=much", &err), -EINVAL);
	assert_string_equal(err.text,
			    "'overlay=much': must be a size such as 512M or 2G, 4K at least, or true or false");
	assert_int_equal(config_set(&conf, "drives", "a:overlay-dir=/tmp", &err), -EINVAL);
	assert_string_equal(err.text, "has a directory for an overlay, but no overlay");
	assert_int_equal(config_set(&conf, "drives", "a:ops=10M/1", &err), -EINVAL);
	assert_string_equal(err.text,
			    "'ops=10M/1': must be SIZE/MILLISECONDS or SIZE+BURST/MILLISECONDS, such as 5000/1000");
	for (size_t i = 0; i < MF_ARRAY_SIZE(limits); i++)
		assert_int_equal(config_set(&conf, "drives", limits[i], &err), -EINVAL);
	assert_int_equal(config_set(&conf, "drives", "a:direct:overlay", &err), -EINVAL);
	assert_string_equal(err.text, "direct and overlay exclude each other: the page cache is what shares the image");
	memset(id + 5, 'x', CONFIG_ID_MAX);
	id[5 + CONFIG_ID_MAX - 1] = '\0';
	assert_int_equal(conf.num_drives, 0);
	/* What a refused drive has left behind does not show in the next. */
	assert_null(added(id)->serial);
	assert_false(conf.drive[0].read_only);
}

/* An id that was not given is that of the drive's place, which the root takes first. */
static void test_root_and_ids(void **state)
{
	(void)state;
	accepts("kernel", "k");
	added("a");
	added("b:id=mine");
	accepts("rootfs", "/etc");
	accepts("rootfs", "/dev/null"); /* the last one counts */
	assert_int_equal(config_check(&conf, &err), 0);
	assert_int_equal(conf.num_drives, 3);
	assert_string_equal(conf.drive[0].id, "root");
	assert_string_equal(conf.drive[0].path, "/dev/null");
	assert_true(conf.drive[0].overlay && !conf.drive[0].directory);
	assert_string_equal(conf.drive[1].id, "drive1");
	assert_string_equal(conf.drive[1].path, "a");
	assert_string_equal(conf.drive[2].id, "mine");
}

/* Whether a drive is a directory is asked once: what is packed later is what it was then. */
static void test_directories(void **state)
{
	char dir[] = "/tmp/test_config_XXXXXX", spec[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(spec, sizeof(spec), "%s:ro", dir);
	assert_true(added(spec)->directory);
	assert_int_equal(config_set(&conf, "drives", dir, &err), -EISDIR);
	assert_false(added("/dev/null:ro")->directory);
	snprintf(spec, sizeof(spec), "%s:/mnt:copy", dir);
	accepts("volumes", spec);
	assert_true(conf.drive[2].directory && conf.drive[2].read_only);
	accepts("kernel", "k");
	accepts("rootfs", dir);
	accepts("command", "true"); /* whose init mounts the volume */
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_true(conf.drive[0].directory && conf.drive[0].read_only && !conf.drive[0].overlay);
	assert_true(conf.drive[1].directory);
	assert_string_equal(conf.drive[0].path, dir);
}

static void test_vsock(void **state)
{
	char path[VSOCK_PATH_MAX + 2];

	(void)state;
	assert_int_equal(config_num_devices(&conf), 0);
	assert_int_equal(config_set(&conf, "vsock", "/v", &err), 0);
	assert_string_equal(conf.vsock.path, "/v");
	assert_int_equal(conf.vsock.cid, 3);
	assert_int_equal(config_num_devices(&conf), 1);
	assert_int_equal(config_set(&conf, "vsock", "a,b,cid=77", &err), 0);
	assert_string_equal(conf.vsock.path, "a,b");
	assert_int_equal(conf.vsock.cid, 77);
	assert_int_equal(config_set(&conf, "vsock", "c", &err), 0);
	assert_int_equal(conf.vsock.cid, 3);
	refuses("vsock", "", "path: must not be empty");
	refuses("vsock", ",cid=5", "path: must not be empty");
	refuses("vsock", "a,cid=", "cid: must be 3 to 4294967294");
	refuses("vsock", "a,cid=2", "cid: must be 3 to 4294967294");
	refuses("vsock", "a,cid=4294967295", "cid: must be 3 to 4294967294");
	refuses("vsock", "a,cid=-1", "cid: must be 3 to 4294967294");
	memset(path, 'p', sizeof(path));
	path[VSOCK_PATH_MAX + 1] = '\0';
	refuses("vsock", path,
		"path: is longer than 96 bytes (a Unix socket's name has 107 at most, and _PORT goes behind it)");
	path[VSOCK_PATH_MAX] = '\0';
	assert_int_equal(config_set(&conf, "vsock", path, &err), 0);
}

static void test_vsock_without_path(void **state)
{
	(void)state;
	assert_int_equal(config_set(&conf, "kernel", "/k", &err), 0);
	conf.vsock.cid = 9;
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_string_equal(err.text, "vsock has a cid, but no path");
}

static void test_too_many_drives(void **state)
{
	static const char json[] = "{\"drives\": [{\"path\": \"x\"}]}";

	(void)state;
	for (unsigned i = 0; i < CONFIG_DRIVES_MAX; i++)
		added("x");
	refuses("drives", "x", "there can be at most 16 drives");
	assert_int_equal(config_read_text(&conf, json, strlen(json), "f", &err), -EINVAL);
	assert_string_equal(err.text, "config 'f': key 'drives[0]': there can be at most 16 drives");
}

static void test_check(void **state)
{
	(void)state;
	accepts("kernel", "k");
	assert_int_equal(config_check(&conf, &err), 0);
	added("a:id=drive1");
	added("b");
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_string_equal(err.text, "drives 'a' and 'b' have the same id 'drive1'");
	config_done(&conf);
	config_init(&conf);
	accepts("kernel", "k");
	accepts("append", "a");
	accepts("cmdline", "c");
	assert_int_equal(config_check(&conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "append and cmdline are both set"));
}

static void make_file(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void test_default_kernel(void **state)
{
	char path[4096] = "", share[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 32);

	(void)state;
	assert_true(len > 0);
	strcpy(strrchr(path, '/'), "/vmlinux");
	unlink(path); /* of a run that failed */

	setenv("MAYFLY_KERNEL", "/etc/hostname", 1);
	assert_int_equal(config_check(&conf, &err), -EINVAL); /* Linux, and no root for it */
	assert_non_null(strstr(err.text, "-r DIR"));
	assert_int_equal(config_set_live_root(&conf, "/", &err), 0);
	assert_int_equal(config_set(&conf, "command", "true", &err), 0);
	assert_int_equal(config_check(&conf, &err), 0);
	config_done(&conf);
	config_init(&conf);
	assert_int_equal(config_set(&conf, "initrd", "i", &err), 0);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.kernel, "/etc/hostname");
	assert_int_equal(config_set(&conf, "kernel", "mine", &err), 0);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.kernel, "mine");

	teardown(NULL);
	setup(NULL);
	assert_int_equal(config_set(&conf, "initrd", "i", &err), 0);
	setenv("MAYFLY_KERNEL", "/nowhere", 1);
	assert_int_equal(config_check(&conf, &err), -ENOENT);
	assert_string_equal(err.text, "kernel '/nowhere' from $MAYFLY_KERNEL: No such file or directory");

	setenv("MAYFLY_KERNEL", "", 1);
	if (access("/usr/share/mayfly/vmlinux", R_OK) < 0) {
		assert_int_equal(config_check(&conf, &err), -ENOENT);
		assert_non_null(strstr(err.text, "$MAYFLY_KERNEL"));
		assert_non_null(strstr(err.text, path));
		assert_non_null(strstr(err.text, "'/usr/share/mayfly/vmlinux'"));
		assert_non_null(strstr(err.text, "-k FILE"));
	}
	/* PREFIX/share/mayfly, when the program is in PREFIX/bin: here that is the directory above. */
	strcpy(share, path);
	strcpy(strrchr(share, '/'), "");
	strcpy(strrchr(share, '/'), "/share");
	mkdir(share, 0700);
	mkdir(strcat(share, "/mayfly"), 0700);
	make_file(strcat(share, "/vmlinux"));
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.kernel, share);
	teardown(NULL);
	setup(NULL);
	assert_int_equal(config_set(&conf, "initrd", "i", &err), 0);
	/* What is beside the program comes first. */
	make_file(path);
	assert_int_equal(config_check(&conf, &err), 0);
	assert_string_equal(conf.kernel, path);
	unlink(path);
	unlink(share);
	strcpy(strrchr(share, '/'), "");
	rmdir(share);
	strcpy(strrchr(share, '/'), "");
	rmdir(share);
}

/* Asks for a kernel by text, in the configuration or else in the environment. */
static int check_kernel(const char *text, bool from_env)
{
	teardown(NULL);
	setup(NULL);
	accepts("initrd", "i");
	setenv("MAYFLY_KERNEL", from_env ? text : "", 1);
	if (!from_env && *text)
		accepts("kernel", text);
	return config_check(&conf, &err);
}

static void test_kernel_names(void **state)
{
	static const char *const names[] = { "minimal", "microvm" };
	char own[3800] = "", path[4096];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

	(void)state;
	assert_true(len > 0);
	*strrchr(own, '/') = '\0';
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/vmlinux-%s", own, names[i]);
		unlink(path);
		for (int from_env = 0; from_env < 2; from_env++) {
			assert_int_equal(check_kernel(names[i], from_env), -ENOENT);
			assert_non_null(strstr(err.text, path));
			assert_non_null(strstr(err.text, "make kernel"));
		}
		make_file(path);
		for (int from_env = 0; from_env < 2; from_env++) {
			assert_int_equal(check_kernel(names[i], from_env), 0);
			assert_string_equal(conf.kernel, path);
			assert_int_equal(config_check(&conf, &err), 0); /* it is a file now */
			assert_string_equal(conf.kernel, path);
		}
		/* The project's kernels are Linux, which needs a root. */
		teardown(NULL);
		setup(NULL);
		accepts("kernel", names[i]);
		assert_int_equal(config_check(&conf, &err), -EINVAL);
		assert_non_null(strstr(err.text, "-r DIR"));
	}
	assert_int_equal(check_kernel("./minimal", false), 0);
	assert_string_equal(conf.kernel, "./minimal");
	assert_int_equal(check_kernel("minimal2", false), 0);
	assert_string_equal(conf.kernel, "minimal2");
	/* microvm is the default, after vmlinux, of each place; minimal never is. */
	assert_int_equal(check_kernel("", false), 0);
	assert_string_equal(conf.kernel, path);
	snprintf(path, sizeof(path), "%s/vmlinux", own);
	make_file(path);
	assert_int_equal(check_kernel("", false), 0);
	assert_string_equal(conf.kernel, path);
	unlink(path);
	strcat(path, "-microvm");
	unlink(path);
	if (access("/usr/share/mayfly/vmlinux", R_OK) < 0 && access("/usr/share/mayfly/vmlinux-microvm", R_OK) < 0)
		assert_int_equal(check_kernel("", false), -ENOENT);
	snprintf(path, sizeof(path), "%s/vmlinux-minimal", own);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mem, setup, teardown),
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_drives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_and_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vsock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vsock_without_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_drives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check, setup, teardown),
		cmocka_unit_test_setup_teardown(test_default_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
