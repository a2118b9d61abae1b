/* What a restored guest's init is sent when it asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/guest/init_conn.h"
#include "vmm/guest/restored.h"

static struct config config;
static struct restored restored;
static struct init_conn conn;
static int guest;
static char payload[512];
static const struct init_msg hello = { .type = INIT_MSG_HELLO, .value = INIT_VERSION, .flags = INIT_AGAIN };

static int setup(void **state)
{
	static char word[] = "true", *args[] = { word }, file[] = "state";
	int pair[2];

	(void)state;
	config = (struct config){ .command = { .args = { args, 1 }, .tty = CONFIG_TTY_OFF }, .restore_state = file };
	restored = (struct restored){ 0 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(init_conn_init(&conn, pair[0]), 0);
	guest = pair[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	restored_done(&restored);
	init_conn_done(&conn);
	close(guest);
	return 0;
}

static void prepare(void)
{
	struct err e;

	assert_int_equal(restored_init(&restored, &config, &e), 0);
}

/* False: there is no message. */
static bool hear(struct init_msg *msg)
{
	if (recv(guest, msg, sizeof(*msg), MSG_DONTWAIT) != sizeof(*msg))
		return false;
	assert_true(msg->len < sizeof(payload));
	assert_int_equal(recv(guest, payload, msg->len, MSG_DONTWAIT), msg->len);
	return true;
}

static void test_boot(void **state)
{
	struct init_msg msg;

	(void)state;
	config.restore_state = NULL;
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_false(hear(&msg));
}

/* The time is that of the answer, and the guest can ask for one answer only. */
static void test_once(void **state)
{
	struct init_restored now;
	struct timespec before;
	struct init_msg msg;

	(void)state;
	prepare();
	(void)clock_gettime(CLOCK_REALTIME, &before);
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_int_equal(msg.value, 0);
	assert_int_equal(msg.len, sizeof(now) + 1);
	assert_int_equal(payload[sizeof(now)], '\0');
	memcpy(&now, payload, sizeof(now));
	assert_true(now.realtime_ns >= (uint64_t)before.tv_sec * 1000000000U + (uint64_t)before.tv_nsec);
	assert_true(now.realtime_ns < (uint64_t)(before.tv_sec + 3600) * 1000000000U);
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_false(hear(&msg));
}

static void test_random(void **state)
{
	struct init_restored first;
	struct init_msg msg;

	(void)state;
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	memcpy(&first, payload, sizeof(first));
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	assert_memory_not_equal(payload + offsetof(struct init_restored, random), first.random, sizeof(first.random));
}

static void test_command_and_name(void **state)
{
	static char name[] = "clone";
	struct init_msg msg;

	(void)state;
	config.name = name;
	config.restore_command = true;
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_int_equal(msg.value, 1);
	assert_string_equal(payload + sizeof(struct init_restored), "clone");
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_int_equal(msg.number, 0);
	assert_int_equal(msg.len, sizeof("atrue"));
	assert_memory_equal(payload, "atrue", sizeof("atrue"));
}

/* The guest of a pool's member: its command comes later, behind the time, other random numbers, and the name. */
static void test_held(void **state)
{
	static const uint8_t random[INIT_RANDOM_BYTES] = { 1, 2, 3 };
	static const struct init_msg at_first = { .type = INIT_MSG_HELLO, .value = INIT_VERSION };
	static char name[] = "clone";
	struct init_restored now;
	struct init_msg msg;

	(void)state;
	config.pool_runs = true;
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_int_equal(msg.value, 1);
	assert_string_equal(payload + sizeof(now), "");
	assert_false(hear(&msg));
	config.name = name;
	assert_int_equal(restored_claim(&restored, &config, random, &conn), 0);
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	memcpy(&now, payload, sizeof(now));
	assert_true(now.realtime_ns > 0);
	assert_memory_equal(now.random, random, sizeof(random));
	assert_string_equal(payload + sizeof(now), "clone");
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_int_equal(msg.number, 0);
	assert_memory_equal(payload, "atrue", sizeof("atrue"));
	/* A snapshot of the time before its init's first hello takes none. */
	restored_done(&restored);
	prepare();
	assert_false(restored_tell(&restored, &at_first, &conn));
}

/* A template gets all of its lists, and its name with them. */
static void test_template(void **state)
{
	static char name[] = "clone";
	struct init_msg msg;

	(void)state;
	config.name = name;
	config.template.used = true;
	config.num_drives = 1;
	config.drive[0].mount = name;
	config.num_nets = 1;
	config.net[0].mac[5] = 0xab;
	prepare();
	assert_true(restored_tell(&restored, &hello, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_int_equal(msg.value, 0);
	assert_int_equal(msg.len, sizeof(struct init_restored) + 1);
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_BOOT);
	assert_non_null(memmem(payload, msg.len, "c/dev/vda", sizeof("c/dev/vda")));
	assert_non_null(memmem(payload, msg.len, "x0000000000ab", sizeof("x0000000000ab")));
	assert_non_null(memmem(payload, msg.len, "hclone", sizeof("hclone")));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_memory_equal(payload, "atrue", sizeof("atrue"));
	assert_false(hear(&msg));
}

/* A snapshot of the time before init: it runs the command of the boot, so another one is an error. The older one does not say. */
static void test_before_init(void **state)
{
	const struct init_msg first = { .type = INIT_MSG_HELLO, .value = 2 };
	const struct init_msg old = { .type = INIT_MSG_HELLO, .value = 1 };
	struct init_msg msg;

	(void)state;
	prepare();
	assert_true(restored_tell(&restored, &first, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_int_equal(msg.value, 0);
	config.restore_command = true;
	prepare();
	assert_false(restored_tell(&restored, &first, &conn));
	assert_false(hear(&msg));
	restored_done(&restored);
	prepare();
	assert_true(restored_tell(&restored, &old, &conn));
	assert_true(hear(&msg));
	assert_int_equal(msg.value, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_boot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_command_and_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template, setup, teardown),
		cmocka_unit_test_setup_teardown(test_before_init, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
