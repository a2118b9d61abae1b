/* The I/O APIC: registers, entries to MSIs, edges on masked pins. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/state_fixture.h"
#include "vmm/base/err.h"
#include "vmm/core/loop.h"
#include "vmm/platform/ioapic.h"

#define PINS 6

static struct {
	struct ioapic *a;
	struct watch *watch;
	int fd;
	_Atomic unsigned sent;
	uint32_t address, data;
	int result;
} t;

/* The loop: one watch, fired by hand. */
int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	(void)loop;
	t.watch = watch;
	t.fd = eventfd;
	return 0;
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	(void)loop;
	return fn(arg);
}

/* A turn of the loop. Returns whether there was a signal. */
static bool turn(void)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, 0) != 1)
		return false;
	assert_int_equal(read(t.fd, &count, sizeof(count)), sizeof(count));
	t.watch->fire(t.watch);
	return true;
}

static int send_msi(void *ctx, uint32_t address, uint32_t data)
{
	assert_ptr_equal(ctx, &t);
	t.address = address;
	t.data = data;
	t.sent++;
	return t.result;
}

static void wr(uint64_t offset, uint32_t value)
{
	ioapic_access(t.a, offset, true, (uint8_t *)&value, 4);
}

static uint32_t rd(uint64_t offset)
{
	uint32_t value = 0xffffffff;

	ioapic_access(t.a, offset, false, (uint8_t *)&value, 4);
	return value;
}

static uint32_t reg_read(unsigned index)
{
	wr(0, index);
	return rd(0x10);
}

static void reg_write(unsigned index, uint32_t value)
{
	wr(0, index);
	wr(0x10, value);
}

static void set_entry(unsigned pin, uint64_t entry)
{
	reg_write(0x11 + 2 * pin, (uint32_t)(entry >> 32));
	reg_write(0x10 + 2 * pin, (uint32_t)entry);
}

static int setup(void **state)
{
	struct err e;

	(void)state;
	memset(&t, 0, sizeof(t));
	return ioapic_new(&t.a, PINS, send_msi, &t, &e) || ioapic_attach_loop(t.a, NULL);
}

static int teardown(void **state)
{
	(void)state;
	ioapic_free(t.a);
	return 0;
}

static void test_reset_values(void **state)
{
	(void)state;
	assert_int_equal(t.fd, ioapic_event_fd(t.a));
	assert_int_equal(reg_read(0), 0);
	assert_int_equal(reg_read(1), 0x00050011);
	assert_int_equal(reg_read(2), 0);
	for (unsigned i = 0; i < PINS; i++) {
		assert_int_equal(reg_read(0x10 + 2 * i), 0x10000);
		assert_int_equal(reg_read(0x11 + 2 * i), 0);
	}
	for (unsigned i = 0; i < 256; i++) {
		if (i >= 3 && (i < 0x10 || i >= 0x10 + 2 * PINS))
			assert_int_equal(reg_read(i), 0);
	}
	ioapic_free(NULL);
}

static void test_only_writable_bits_are_written(void **state)
{
	(void)state;
	set_entry(3, ~0ULL);
	assert_int_equal(reg_read(0x16), 0x0001afff); /* not delivery status, remote IRR, reserved */
	assert_int_equal(reg_read(0x17), 0xff000000);
	set_entry(3, 0);
	assert_int_equal(reg_read(0x16), 0);
	assert_int_equal(reg_read(0x17), 0);
	reg_write(0, 0xffffffff);
	assert_int_equal(reg_read(0), 0x0f000000);
	assert_int_equal(reg_read(2), 0x0f000000);
	reg_write(1, 0);
	assert_int_equal(reg_read(1), 0x00050011);
	wr(0, 0xffffff01);
	assert_int_equal(rd(0), 1);
}

static void test_entry_becomes_msi(void **state)
{
	static const struct {
		uint64_t entry;
		uint32_t address, data;
	} v[] = {
		{ 0x0000000000000031, 0xfee00000, 0x0031 }, { 0x0300000000000031, 0xfee03000, 0x0031 },
		{ 0xff00000000000931, 0xfeeff004, 0x0131 }, /* logical, lowest priority */
		{ 0x0100000000000430, 0xfee01000, 0x0430 }, /* NMI */
		{ 0x010000000000a041, 0xfee01000, 0xc041 }, /* active low, level */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		set_entry(2, v[i].entry);
		ioapic_raise(t.a, 2);
		assert_int_equal(t.sent, i + 1);
		assert_int_equal(t.address, v[i].address);
		assert_int_equal(t.data, v[i].data);
	}
	assert_false(turn());
}

static void test_edge_on_masked_pin_waits(void **state)
{
	(void)state;
	set_entry(1, 0x0200000000010055);
	ioapic_raise(t.a, 1);
	ioapic_raise(t.a, 1);
	assert_int_equal(t.sent, 0);
	assert_int_equal(reg_read(0x12), 0x10055);
	assert_int_equal(reg_read(0x13), 0x02000000);
	/* Programming it, still masked, delivers nothing and forgets nothing. */
	set_entry(1, 0x0300000000010066);
	set_entry(0, 0x0000000000000077);
	assert_false(turn());
	set_entry(1, 0x0300000000000066);
	assert_int_equal(t.sent, 0); /* not on the vCPU's thread */
	assert_int_equal(reg_read(0x12), 0x66);
	assert_true(turn());
	assert_int_equal(t.sent, 1);
	assert_int_equal(t.address, 0xfee03000);
	assert_int_equal(t.data, 0x66);
	/* Once. */
	set_entry(1, 0x0300000000010066);
	set_entry(1, 0x0300000000000066);
	assert_false(turn());
	assert_int_equal(t.sent, 1);
}

static void test_masked_again_before_the_loop_came(void **state)
{
	(void)state;
	ioapic_raise(t.a, 5);
	set_entry(5, 0x20);
	set_entry(5, 0x10020);
	assert_true(turn());
	assert_int_equal(t.sent, 0);
	set_entry(5, 0x20);
	assert_true(turn());
	assert_int_equal(t.sent, 1);
}

static void test_refused_msi_is_survived(void **state)
{
	(void)state;
	t.result = -EINVAL;
	set_entry(0, 0x20);
	ioapic_raise(t.a, 0);
	ioapic_raise(t.a, 0);
	assert_int_equal(t.sent, 2);
}

static void test_bad_accesses(void **state)
{
	static const unsigned lens[] = { 1, 2, 4, 8 };
	uint8_t data[8];

	(void)state;
	set_entry(0, 0x0100000000000020);
	for (uint64_t offset = 0; offset < IOAPIC_LEN; offset++) {
		for (unsigned i = 0; i < 4 && offset + lens[i] <= IOAPIC_LEN; i++) {
			if (lens[i] == 4 && (offset == 0 || offset == 0x10))
				continue;
			wr(0, 0x10);
			memset(data, 0xff, sizeof(data));
			ioapic_access(t.a, offset, true, data, lens[i]);
			ioapic_access(t.a, offset, false, data, lens[i]);
			for (unsigned j = 0; j < 8; j++)
				assert_int_equal(data[j], j < lens[i] ? 0 : 0xff);
			assert_int_equal(rd(0x10), 0x20);
		}
	}
}

/* Edges against mask and unmask: after the last unmask and turn, the last edge has been delivered. */
static void *toggle(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 20000; i++) {
		reg_write(0x10, 0x10020);
		reg_write(0x10, 0x20);
	}
	return NULL;
}

static void test_no_edge_is_lost_in_a_race(void **state)
{
	pthread_t thread;

	(void)state;
	set_entry(0, 0x20);
	assert_int_equal(pthread_create(&thread, NULL, toggle, NULL), 0);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned before = t.sent;

		ioapic_raise(t.a, 0);
		while (t.sent == before)
			turn();
	}
	pthread_join(thread, NULL);
	assert_int_equal(t.sent, 20000);
}

/* A thread that may not send has the loop do it: at once, or when the pin is unmasked. */
static void test_asked(void **state)
{
	(void)state;
	set_entry(0, 0x20);
	ioapic_ask(t.a, 0);
	assert_int_equal(t.sent, 0);
	assert_true(turn());
	assert_int_equal(t.sent, 1);
	set_entry(0, 0x10020);
	ioapic_ask(t.a, 0);
	assert_true(turn());
	assert_int_equal(t.sent, 1);
	set_entry(0, 0x20);
	assert_true(turn());
	assert_int_equal(t.sent, 2);
}

/* A new I/O APIC has the entries, the register index and the interrupts that wait: each is sent once, when it may be. */
static void test_save_and_restore(void **state)
{
	struct err e;

	set_entry(1, 0x0200000000000931ULL);
	set_entry(2, 0x10041);
	set_entry(3, 0x10051);
	ioapic_raise(t.a, 2); /* masked: waits */
	ioapic_raise(t.a, 3);
	reg_write(0x10 + 2 * 3, 0x51); /* unmasked: the loop has not turned */
	reg_write(0, 0x05000000);
	wr(0, 0x12);
	ioapic_save(t.a, state_begin_save());
	state_end_save();
	teardown(state);
	setup(state);
	if (ioapic_restore(t.a, state_of_payload(), &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(rd(0), 0x12);
	assert_int_equal(reg_read(0), 0x05000000);
	assert_int_equal(reg_read(0x12), 0x931);
	assert_int_equal(reg_read(0x13), 0x02000000);
	assert_int_equal(reg_read(0x10), 0x10000);
	turn();
	assert_int_equal(t.sent, 0); /* the local APICs are not there yet */
	ioapic_resume(t.a);
	assert_true(turn());
	assert_int_equal(t.sent, 1);
	assert_int_equal(t.data, 0x51);
	reg_write(0x10 + 2 * 2, 0x41);
	assert_true(turn());
	assert_int_equal(t.sent, 2);
	assert_int_equal(t.data, 0x41);
	ioapic_resume(t.a);
	turn();
	assert_int_equal(t.sent, 2);
}

/* While it is quiet, edges wait at their pins, and are in the state; each is sent once afterwards. */
static void test_quiet(void **state)
{
	struct err e;

	set_entry(1, 0x31);
	set_entry(2, 0x10041);
	ioapic_quiet(t.a);
	ioapic_raise(t.a, 1);
	ioapic_raise(t.a, 1);
	ioapic_raise(t.a, 2);
	reg_write(0x10 + 2 * 2, 0x41);
	turn();
	assert_int_equal(t.sent, 0);
	ioapic_save(t.a, state_begin_save());
	state_end_save();
	ioapic_resume(t.a);
	turn();
	assert_int_equal(t.sent, 2);
	ioapic_raise(t.a, 1);
	assert_int_equal(t.sent, 3);
	teardown(state);
	setup(state);
	if (ioapic_restore(t.a, state_of_payload(), &e) < 0)
		fail_msg("%s", e.text);
	ioapic_raise(t.a, 1); /* by a device that is restored later */
	assert_int_equal(t.sent, 0);
	ioapic_resume(t.a);
	turn();
	assert_int_equal(t.sent, 2);
}

static void test_hostile_state(void **state)
{
	static const struct {
		unsigned at;
		uint64_t value;
		unsigned bytes;
		const char *names;
	} changes[] = {
		{ 1, 0x10000000, 4, "ID" },
		{ 5, PINS + 1, 1, "pins" },
		{ 5, 0, 1, "pins" },
		{ 6, 1ULL << 14, 8, "entry" }, /* remote IRR */
		{ 6 + 8 * (PINS - 1), 1ULL << 33, 8, "entry" },
	};

	(void)state;
	ioapic_save(t.a, state_begin_save());
	state_end_save();
	assert_int_equal(payload_len, 6 + 8 * PINS);
	for (unsigned i = 0; i < 5; i++) {
		uint8_t good[6 + 8 * PINS];
		struct err e = { 0 };

		memcpy(good, payload, sizeof(good));
		payload_put(changes[i].at, changes[i].value, changes[i].bytes);
		assert_int_equal(ioapic_restore(t.a, state_of_payload(), &e), -EINVAL);
		if (!strstr(e.text, changes[i].names))
			fail_msg("'%s' does not name '%s'", e.text, changes[i].names);
		memcpy(payload, good, sizeof(good));
	}
	while (payload_len-- > 0)
		assert_int_equal(ioapic_restore(t.a, state_of_payload(), &(struct err){ 0 }), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reset_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_writable_bits_are_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_entry_becomes_msi, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge_on_masked_pin_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masked_again_before_the_loop_came, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_msi_is_survived, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_accesses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_and_restore, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_edge_is_lost_in_a_race, setup, teardown),
	};

	alarm(60); /* a lost edge shows as a test that does not end */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
