/* Names of images: which transport, which path, which digest, and what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/image/reference.h"

static void is(const char *word, const char *text, enum reference_kind kind)
{
	struct image_reference r;
	struct err e;

	assert_int_equal(image_reference_parse(word, &r, &e), 0);
	assert_string_equal(r.text, text);
	assert_int_equal(r.kind, kind);
	image_reference_done(&r);
}

static void test_names(void **state)
{
	(void)state;
	is("alpine:3.20", "docker://alpine:3.20", REFERENCE_REGISTRY);
	is("localhost:5000/a/b:c", "docker://localhost:5000/a/b:c", REFERENCE_REGISTRY);
	is("docker://alpine", "docker://alpine", REFERENCE_REGISTRY);
	is("docker-daemon:alpine:latest", "docker-daemon:alpine:latest", REFERENCE_DAEMON);
	is("containers-storage:[overlay@/a+/b]x", "containers-storage:[overlay@/a+/b]x", REFERENCE_STORAGE);
	/* No transport: a name with a tag. */
	is("dir:x", "docker://dir:x", REFERENCE_REGISTRY);
}

static void test_paths(void **state)
{
	char dir[] = "/tmp/mayfly-reference-XXXXXX", expected[64];
	struct image_reference r;
	struct err e;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	snprintf(expected, sizeof(expected), "oci:%s:tag", dir);
	is("oci:.:tag", expected, REFERENCE_FILES);
	snprintf(expected, sizeof(expected), "oci-archive:%s", dir);
	assert_int_equal(image_reference_parse("oci-archive:.", &r, &e), 0);
	assert_string_equal(r.text, expected);
	assert_string_equal(r.path, dir);
	image_reference_done(&r);
	assert_int_equal(image_reference_parse("oci:missing:tag", &r, &e), -ENOENT);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(dir), 0);
	assert_true(image_reference_is_path("./a") && image_reference_is_path("/a") && image_reference_is_path(".."));
	assert_false(image_reference_is_path("a/b"));
}

static void test_refused(void **state)
{
	static const char *const bad[] = { "",	     "-rm",  "docker://", "docker://-x", "oci:",
					   "oci:-x", "a\nb", "\x1b[m",	  "a\xff" };
	char longer[REFERENCE_MAX + 2];
	struct image_reference r;
	struct err e;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad); i++)
		if (image_reference_parse(bad[i], &r, &e) == 0)
			fail_msg("accepted: '%s'", bad[i]);
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(image_reference_parse(longer, &r, &e), -EINVAL);
}

static void at(const char *word, const char *expected)
{
	struct image_reference r;
	struct err e;
	char *text;

	assert_int_equal(image_reference_parse(word, &r, &e), 0);
	text = image_reference_at(&r, "sha256:12");
	assert_string_equal(text, expected);
	free(text);
	image_reference_done(&r);
}

static void test_digests(void **state)
{
	(void)state;
	at("alpine", "docker://alpine@sha256:12");
	at("alpine:3.20", "docker://alpine@sha256:12");
	at("host:5000/a", "docker://host:5000/a@sha256:12");
	at("host:5000/a:b", "docker://host:5000/a@sha256:12");
	at("host:5000/a:b@sha256:34", "docker://host:5000/a@sha256:12");
	at("docker-daemon:a:b", "docker-daemon:a:b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
