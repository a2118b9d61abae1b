/* The tables of objects that load and create snapshots: what is read, what is refused, and that nothing leaks then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "vmm/api/objects.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define PATHS "\"snapshot_path\":\"s\",\"mem_file_path\":\"m\""

static int read_load(struct api_snapshot_load *l, const char *text, struct err *e)
{
	*l = (struct api_snapshot_load){ 0 };
	return api_read_text(&api_snapshot_load, l, text, strlen(text), e);
}

static void test_load(void **state)
{
	struct api_snapshot_load l;
	const struct api_drive_override *drive;
	const struct api_net_override *net;
	struct err e;

	(void)state;
	assert_int_equal(read_load(&l,
				   "{" PATHS ",\"mem_backend\":null,\"resume_vm\":true,\"huge_pages\":\"Transparent\","
				   "\"network_overrides\":[{\"iface_id\":\"1\",\"host_dev_name\":\"t\",\"x\":2}],"
				   "\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"p\"},"
				   "{\"drive_id\":\"b\",\"path_on_host\":\"q\"}],\"vsock_override\":{\"uds_path\":\"v\"}}",
				   &e),
			 0);
	assert_string_equal(l.snapshot_path, "s");
	assert_string_equal(l.mem_file_path, "m");
	assert_false(api_has(&api_snapshot_load, &l, "mem_backend"));
	assert_true(l.resume_vm);
	assert_false(l.clock_realtime);
	assert_int_equal(l.huge_pages, API_LOAD_AS_BEFORE + 1 + API_HUGE_TRANSPARENT);
	net = l.network_overrides.item;
	assert_int_equal(l.network_overrides.num, 1);
	assert_string_equal(net[0].host_dev_name, "t");
	drive = l.drive_overrides.item;
	assert_int_equal(l.drive_overrides.num, 2);
	assert_string_equal(drive[1].drive_id, "b");
	assert_string_equal(drive[1].path_on_host, "q");
	assert_string_equal(l.vsock_override.uds_path, "v");
	api_done(&api_snapshot_load, &l);
	assert_null(l.drive_overrides.item);
	assert_int_equal(read_load(&l, "{" PATHS ",\"network_overrides\":[],\"vsock_override\":null}", &e), 0);
	assert_int_equal(l.network_overrides.num, 0);
	api_done(&api_snapshot_load, &l);
}

static void test_load_refused(void **state)
{
	static const char *const wrong[] = {
		"null",
		"[]",
		"{}",
		"{\"mem_file_path\":\"m\"}",
		"{" PATHS ",\"snapshot_path\":\"s\"}",
		"{" PATHS ",\"x\":1}",
		"{" PATHS ",\"resume_vm\":null}",
		"{" PATHS ",\"resume_vm\":1}",
		"{" PATHS ",\"track_dirty_pages\":null}",
		"{" PATHS ",\"huge_pages\":null}",
		"{" PATHS ",\"huge_pages\":\"1G\"}",
		"{" PATHS ",\"network_overrides\":null}",
		"{" PATHS ",\"network_overrides\":{}}",
		"{" PATHS ",\"network_overrides\":[1]}",
		"{" PATHS ",\"drive_overrides\":[{\"drive_id\":\"a\",\"path_on_host\":\"p\"},{\"drive_id\":\"b\"}]}",
		"{" PATHS ",\"vsock_override\":{}}",
		"{" PATHS ",\"mem_backend\":{\"backend_path\":\"m\"}}",
		"{" PATHS ",\"mem_backend\":{\"backend_path\":\"m\",\"backend_type\":\"file\"}}",
		"{" PATHS ",\"mem_backend\":{\"backend_path\":\"m\",\"backend_type\":\"File\",\"x\":1}}",
	};
	struct api_snapshot_load l;
	struct err e;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(wrong); i++) {
		if (read_load(&l, wrong[i], &e) == 0)
			fail_msg("accepted: %s", wrong[i]);
		api_done(&api_snapshot_load, &l);
	}
}

static void test_create(void **state)
{
	static const struct {
		const char *text;
		int type; /* -1: it is refused */
	} vectors[] = {
		{ "{" PATHS "}", API_SNAPSHOT_FULL },
		{ "{" PATHS ",\"snapshot_type\":\"Full\"}", API_SNAPSHOT_FULL },
		{ "{" PATHS ",\"snapshot_type\":\"Diff\"}", API_SNAPSHOT_DIFF },
		{ "{" PATHS ",\"snapshot_type\":null}", -1 },
		{ "{" PATHS ",\"snapshot_type\":\"diff\"}", -1 },
		{ "{" PATHS ",\"version\":\"1\"}", -1 },
		{ "{\"snapshot_path\":\"s\"}", -1 },
		{ "{\"snapshot_path\":null,\"mem_file_path\":\"m\"}", -1 },
		{ "{\"snapshot_path\":1,\"mem_file_path\":\"m\"}", -1 },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(vectors); i++) {
		struct api_snapshot_create c = { 0 };
		struct err e;
		int r = api_read_text(&api_snapshot_create, &c, vectors[i].text, strlen(vectors[i].text), &e);

		if ((r < 0) != (vectors[i].type < 0) || (r == 0 && (int)c.snapshot_type != vectors[i].type))
			fail_msg("%s: %d, type %u", vectors[i].text, r, c.snapshot_type);
		api_done(&api_snapshot_create, &c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_load_refused),
		cmocka_unit_test(test_create),
	};

	return cmocka_run_group_tests_name("objects", tests, NULL, NULL);
}
