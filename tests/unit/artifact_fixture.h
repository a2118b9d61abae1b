/*
 * What the tests of artifacts share: directories, "out" for what arrives and "home" for what must not change, and archives.
 * Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_ARTIFACT_FIXTURE_H
#define MF_TESTS_UNIT_ARTIFACT_FIXTURE_H

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/tar_fixture.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact.h"

static char dir[64], out[80], home[80];
static struct tar tar;
static struct err err;

static inline const char *in(const char *base, const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", base, name);
	return p;
}

static inline void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline bool has(const char *path, const char *text)
{
	char found[256];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(found, 1, sizeof(found), f) : 0;

	if (f)
		fclose(f);
	return f && n == strlen(text) && memcmp(found, text, n) == 0;
}

static inline bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* How many names a directory has. */
static inline unsigned count(const char *path)
{
	char command[PATH_MAX + 32];
	unsigned n = 0;
	FILE *f;

	snprintf(command, sizeof(command), "ls -A '%s' | wc -l", path);
	f = popen(command, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

static inline int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/mayfly-test-artifact-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(out, sizeof(out), "%s/out", dir);
	snprintf(home, sizeof(home), "%s/home", dir);
	assert_int_equal(mkdir(home, 0755), 0);
	put(in(home, ".bashrc"), "mine");
	tar.len = 0;
	signal(SIGPIPE, SIG_IGN); /* as mayfly has it */
	return 0;
}

static inline int teardown(void **state)
{
	char command[256];

	(void)state;
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", dir, dir);
	return system(command);
}

/* What was started is given len bytes of tar, and ends. Whether it has arrived; sets err. */
static inline bool finish(struct artifact *a, size_t len)
{
	(void)fcntl(a->socket, F_SETFL, 0);
	for (size_t at = 0; at < len;) {
		ssize_t n = write(a->socket, tar.data + at, len - at);

		if (n < 0)
			break; /* it has been refused already */
		at += (size_t)n;
	}
	err = (struct err){ 0 };
	if (artifact_finish(a, &err) == 0)
		return true;
	assert_true(err.code < 0);
	assert_non_null(strstr(err.text, a->config->guest));
	return false;
}

static inline bool arrives_from(const struct config_artifact *config)
{
	struct artifact a = { 0 };

	if (artifact_start(&a, config, &err) < 0)
		fail_msg("%s", err.text);
	return finish(&a, tar.len);
}

#endif
