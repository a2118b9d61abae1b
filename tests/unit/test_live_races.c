/* Live directories: names that change while the server walks, and very many of them. */
#include "tests/unit/live_fixture.h"

#define SWAPS 100 /* walks, while names are swapped */

/* In the background, until it is killed: a directory and a symlink to base take turns under one name. */
static pid_t swap_for_ever(void)
{
	char real[PATH_MAX + 16], other[PATH_MAX + 16];
	const pid_t parent = getpid();
	pid_t pid = fork();

	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(real, sizeof(real), "%s/swapped", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	while (getppid() == parent)
		if (renameat2(AT_FDCWD, real, AT_FDCWD, other, RENAME_EXCHANGE) < 0)
			break;
	_exit(1);
}

/* While the server walks, a directory becomes a symlink that leads out, and back. */
static void test_swapped_for_a_symlink(void **state)
{
	static const char *const targets[] = { base, "..", "/", "/proc/self/root" };
	char path[PATH_MAX + 32];
	unsigned opened = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s/swapped", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/swapped/secret", dir);
	assert_int_equal(symlink(secret, path), 0);
	snprintf(path, sizeof(path), "%s/swapped/mine", dir);
	assert_int_equal(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), 0);
	start(false);
	attach(0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(targets); i++) {
		pid_t pid;

		assert_int_equal(make_link("other", targets[i]), 0);
		pid = swap_for_ever();
		assert_true(pid > 0);
		for (unsigned n = 0; n < SWAPS; n++) {
			if (walk(0, 1, "swapped") != 0)
				continue;
			if (walk(1, 2, "secret") == 0)
				assert_false(reads_secret(2));
			if (walk(1, 3, "mine") == 0)
				opened += open_it(3, O_RDONLY) == 0;
			assert_int_not_equal(walk(1, 4, "etc"), 0);
			for (uint32_t fid = 1; fid <= 4; fid++)
				clunk(fid);
		}
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		snprintf(path, sizeof(path), "%s/other", dir);
		if (unlink(path) < 0) { /* it is under the other name */
			char real[PATH_MAX + 32];

			snprintf(real, sizeof(real), "%s/swapped", dir);
			assert_int_equal(unlink(real), 0);
			assert_int_equal(rename(path, real), 0);
		}
	}
	assert_true(opened > 0); /* the race was one */
}

/* A directory of many files, LIVE_FILES of them: each is listed once. */
static void test_many_files(void **state)
{
	const char *text = getenv("LIVE_FILES");
	const unsigned num = text ? (unsigned)atoi(text) : 2000;
	unsigned char *seen = calloc(num, 1);
	uint64_t offset = 0;
	unsigned found = 0;
	char path[PATH_MAX + 32];

	(void)state;
	assert_non_null(seen);
	for (unsigned i = 0; i < num; i++) {
		snprintf(path, sizeof(path), "%s/file-%u", dir, i);
		assert_int_equal(close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), 0);
	}
	start(false);
	attach(0);
	assert_int_equal(open_it(0, O_RDONLY | O_DIRECTORY), 0);
	for (;;) {
		begin(TREADDIR);
		put(0, 4);
		put(offset, 8);
		put(MSIZE - 24, 4);
		assert_int_equal(ask(), 0);
		if (len <= 4)
			break;
		for (size_t at = 4; at + 24 <= len;) {
			uint16_t bytes;
			unsigned i;
			char name[32];

			memcpy(&offset, message + at + 13, sizeof(offset));
			memcpy(&bytes, message + at + 22, sizeof(bytes));
			snprintf(name, sizeof(name), "%.*s", (int)bytes, (const char *)message + at + 24);
			at += 24U + bytes;
			if (sscanf(name, "file-%u", &i) != 1)
				continue;
			assert_true(i < num);
			assert_int_equal(seen[i]++, 0);
			found++;
		}
	}
	assert_int_equal(found, num);
	free(seen);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_swapped_for_a_symlink),
		TEST(test_many_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
